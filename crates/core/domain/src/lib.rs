//! The pure deciders: log control, incidents, runs, approvals.
