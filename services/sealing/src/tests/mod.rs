//! Statements about the service, over a real log in a folder, real keys, and the event log in memory.

mod bulking;
mod containment;
mod erasing;
mod failover;
mod intents;
mod outside;
mod pair;
mod queueing;
mod rig;
mod sealing;
mod stopping;
