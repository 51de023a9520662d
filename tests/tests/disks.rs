//! Disks that fill up and whose power fails, under the real binary. These tests mount file systems, so they are no part of `cargo test --workspace`: `tests/run` starts them in
//! a mount namespace, where it may make one.
#![expect(
    clippy::expect_used,
    reason = "a scenario that cannot go on fails, and says where"
)]

mod disks {
    mod full;
    mod power;
}
