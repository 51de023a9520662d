//! Keys of an OpenBao server, tried on a real one.

#[cfg(test)]
#[path = "transit/audit.rs"]
mod audit;
#[cfg(test)]
#[path = "transit/life.rs"]
mod life;
#[cfg(test)]
#[path = "transit/outages.rs"]
mod outages;
#[cfg(test)]
#[path = "transit/rotation.rs"]
mod rotation;
#[cfg(test)]
#[path = "transit/server.rs"]
mod server;
#[cfg(test)]
#[path = "transit/support.rs"]
mod support;
#[cfg(test)]
#[path = "transit/tokens.rs"]
mod tokens;
