//! Scenarios, crash tests and interop through the real binary.
