//! The detection service: detectors, signals and incidents.
//!
//! It follows the event log from its beginning. Detectors are pure functions over what the logs intended and one event; what they find becomes a signal, signals of one
//! subject join one open incident, and a proven signal holds signing at once and classifies its incident from the plan.
//!
//! - `detectors`: the built-in ones, each of which judges single events.
//! - `watching`: the plan's detectors; `explain`: why there is a signal; `backtest`: what others would have said.
//! - `expiring`: what only the clock tells: seal certificates that end soon.
//! - `state`: the fold; `pending`: what the state still lacks; `perform`: doing it; `follow`: the task around them.
//! - `communication`: telling people, each delivery recorded from its start to its end.
//! - `duties`, `learning`: duties to notify; postmortems and action items.
//! - `ownership`: whose an incident is.
//! - `outside`: Alertmanager and CloudEvents over HTTP.
//! - `report`, `grpc`, `view`, `timeline`, `words`: reports from outside, and incidents as people see them.
//!
//! **Invariant:** everything is derived from the log. A restart folds it again and finds nothing to do that was done.
//!
//! **Invariant:** however many findings a subject has, they make a bounded number of signals and one open incident.

mod archive_words;
mod backtest;
mod communication;
mod config;
mod detector_calls;
mod detectors;
mod duties;
mod evaluation;
mod expiring;
mod explain;
mod follow;
mod grpc;
mod ids;
mod learning;
mod outside;
mod ownership;
mod pending;
mod perform;
mod report;
mod start;
mod state;
mod timeline;
mod view;
mod watching;
mod words;

pub use config::{Config, ConfigError, Telling};
pub use evaluation::Evaluation;
pub use outside::{BadSource, OutsideSource};
pub use start::{Mounts, start};
