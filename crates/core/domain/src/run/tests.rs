//! What runs promise: transitions, resuming from every prefix, and properties under random orders.

mod approvals;
mod conditions;
mod evidence;
mod illegal;
mod random;
mod retries;
mod steps;
mod takeover;
mod undo;
mod verbs;
mod views;
mod world;
