//! Hosting services: the data folder, the surroundings of each role, and the listeners.

pub(crate) mod endpoints;
pub(crate) mod installation;
pub(crate) mod key_providers;
pub(crate) mod listen;
pub(crate) mod log_identity;
pub(crate) mod node_facts;
pub(crate) mod plan;
mod purposes;
pub(crate) mod roles;
pub(crate) mod roster;
pub(crate) mod services;
pub(crate) mod settings;
pub(crate) mod start;
