//! Streams, commits and the board over logs that race, fail and lie.
#![cfg(test)]

mod board;
mod codec;
mod stream;
mod support;
