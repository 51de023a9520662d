//! The PKCS#11 provider on a real SoftHSM2 (Debian package `softhsm2`).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails, and says where"
)]

mod faults;
mod keys;
mod support;
