//! Compiles the protobuf files without `protoc`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

const FILES: &[&str] = &[
    "sealwarden/archive/v1/archive.proto",
    "sealwarden/control/v1/certificate.proto",
    "sealwarden/control/v1/control.proto",
    "sealwarden/event/v1/archive.proto",
    "sealwarden/event/v1/certificate.proto",
    "sealwarden/event/v1/communication.proto",
    "sealwarden/event/v1/custody.proto",
    "sealwarden/event/v1/detect.proto",
    "sealwarden/event/v1/event.proto",
    "sealwarden/event/v1/executor.proto",
    "sealwarden/event/v1/incident.proto",
    "sealwarden/event/v1/learning.proto",
    "sealwarden/event/v1/log.proto",
    "sealwarden/event/v1/retention.proto",
    "sealwarden/event/v1/roster.proto",
    "sealwarden/event/v1/run.proto",
    "sealwarden/event/v1/signer.proto",
    "sealwarden/event/v1/vendor.proto",
    "sealwarden/event/v1/verifier.proto",
    "sealwarden/incident/v1/incident.proto",
    "sealwarden/incident/v1/learning.proto",
    "sealwarden/run/v1/evidence.proto",
    "sealwarden/run/v1/run.proto",
    "sealwarden/seal/v1/erasure.proto",
    "sealwarden/seal/v1/seal.proto",
    "sealwarden/verify/v1/vendors.proto",
    "sealwarden/verify/v1/verifiers.proto",
    "sealwarden/verify/v1/verify.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let set = protox::compile(FILES, [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptor.bin"), set.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .compile_fds(set)?;
    Ok(())
}
