//! CACAO playbooks in and out, from outside the crate.

#[cfg(test)]
mod export;
#[cfg(test)]
mod import;
#[cfg(test)]
mod signatures;
#[cfg(test)]
mod support;
