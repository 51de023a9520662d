//! The verification service in process: a memory event log, real HTTP, gRPC through the generated client.

#[cfg(test)]
mod archives;
#[cfg(test)]
mod bundle;
#[cfg(test)]
mod directives;
#[cfg(test)]
mod seals;
#[cfg(test)]
mod support;
#[cfg(test)]
mod witness;
