//! Anchors and exports, judged by OpenSSL where it can: our timestamps by `openssl ts`, OpenSSL's by us, `CAdES` by
//! `openssl cms`, COSE signatures by `openssl dgst`.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails, and says where"
)]

mod anchors {
    mod bindings;
    mod exports;
    mod files;
    mod http;
    mod support;
    mod timestamps;
}
