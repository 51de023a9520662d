//! Other people's implementations of the formats judge ours: signed notes, checkpoints, tiles, proofs, cosignatures, SSHSIG.
//!
//! The Rust ones (`signed_note` and `tlog_tiles` by Cloudflare, `ct-merkle`) always run. The Go ones (`golang.org/x/mod/sumdb`, `filippo.io/torchwood`)
//! run where Go is installed.
#![expect(
    clippy::expect_used,
    reason = "a scenario that cannot go on fails, and says where"
)]

mod interop {
    mod formats;
    mod go;
    mod published;
}
