//! The runbook executor and the control authority.
