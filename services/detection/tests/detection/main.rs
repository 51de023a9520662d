//! The detection service in process, on a memory event log.

#[cfg(test)]
mod incidents;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod support;
