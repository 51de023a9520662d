//! The sealing service.
