//! What the scenarios stand on: the real binary as processes of its own, and hands to play people, clients, thieves and nodes with.
//!
//! Everything a test learns it learns from outside: exit codes, JSON answers, files, gRPC, the event log.
//!
//! **Invariant:** a process that a test started ends with the test; it is killed by its own id.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a scenario that cannot go on fails, and says where"
)]

pub mod alertmanager;
pub mod authenticator;
pub mod bao;
pub mod binary;
pub mod calls;
pub mod disk;
pub mod faulty;
pub mod flips;
pub mod history;
pub mod http;
pub mod installation;
pub mod load;
pub mod openssl_tsa;
pub mod people;
pub mod plans;
pub mod process;
pub mod proxy;
pub mod s3;
pub mod sink;
pub mod target;
pub mod thief;
pub mod wait;

pub use alertmanager::Alertmanager;
pub use bao::Bao;
pub use binary::{Answer, sealwarden};
pub use disk::Disk;
pub use faulty::{Fault, FaultyServer};
pub use installation::Installation;
pub use openssl_tsa::OpensslTsa;
pub use process::Process;
pub use wait::eventually;
