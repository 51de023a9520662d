//! COSE receipts (RFC 9942) of a sealed leaf.
//!
//! A receipt is a tagged `COSE_Sign1` whose detached payload is the tree's root (32 bytes), with
//! - protected headers: `alg` (1) = ES256, `x5chain` (33) = the seal certificate, `vds` (395) = 1 (`RFC9162_SHA256`);
//! - unprotected header: `vdp` (396) = {-1: [ bstr .cbor [size, index, [hashes, the leaf's sibling first]] ]}.
//!
//! The tree is RFC 9162's: leaf = SHA-256(0x00 ‖ entry), node = SHA-256(0x01 ‖ left ‖ right). **Who signs what**: the log's Ed25519 key
//! signs the checkpoint note and nothing else, so it cannot sign a receipt. The receipt's own signature is the *seal certificate's*
//! key, over COSE's `Sig_structure` with the root of a checkpoint that a log key named in the certificate, or in a binding of it, signed. A
//! verifier holds the entry (33 bytes, from the seal), recomputes the root, and checks the signature.
//! RFC 9942 wants a path of at least one hash; in a tree of one leaf there is none, and the array is empty.

use coset::cbor::value::Value;
use coset::{CborSerializable as _, CoseSign1, CoseSign1Builder, HeaderBuilder, Label};
use coset::{TaggedCborSerializable as _, iana};
use der::Decode as _;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::{Hash, MAX_PROOF_HASHES, ProofError, leaf_hash, verify_inclusion};
use sealwarden_seal::note::Vkey;
use sealwarden_seal::record::{RecordError, entry};
use sealwarden_seal::seal::Seal;
use x509_cert::Certificate;

use crate::profile;
use crate::seal_certificate::{SealCertificate, SealCertificateError};
use crate::signer::{Signer, SignerError};

/// No receipt is longer, in bytes.
pub const MAX_RECEIPT_BYTES: usize = 64 * 1024;

const X5CHAIN: i64 = 33;
const VDS: i64 = 395;
const VDP: i64 = 396;
const RFC9162_SHA256: i64 = 1;
const INCLUSION: i64 = -1;

/// No receipt was made, or it does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The certificate does not stand for this log.
    #[error(transparent)]
    Certificate(#[from] SealCertificateError),
    /// The signature cannot be made.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The seal's record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The leaf is not in the tree.
    #[error("the leaf is not proven to be in the tree: {0}")]
    Proof(#[from] ProofError),
    /// Not the structure.
    #[error("the receipt is malformed: {0}; it was damaged, or is another kind of file")]
    Malformed(String),
    /// A header that is not what it must be.
    #[error("the receipt's header {0} is missing or not what a receipt of this log has")]
    Header(&'static str),
    /// The signature fails.
    #[error("the receipt's signature does not verify; it was changed or forged")]
    Signature,
}

/// A receipt and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The receipt, CBOR.
    pub cose: Vec<u8>,
    /// The entry whose inclusion it proves.
    pub entry: Vec<u8>,
}

/// Makes the receipt of a seal at `now_ms`, Unix milliseconds. `bound` are the keys that the certificate's bindings name.
pub fn make(
    seal: &Seal,
    signer: &Signer,
    bound: &[Vkey],
    now_ms: i64,
) -> Result<Receipt, ReceiptError> {
    let certificate = SealCertificate::read(signer.leaf()?)?;
    certificate.check_valid_at(now_ms)?;
    let checkpoint = certificate.check_covers(&seal.note, bound)?;
    let entry = entry(&seal.nonce, &seal.record.encode()?).to_vec();
    let leaf = leaf_hash(&entry);
    verify_inclusion(
        &leaf,
        seal.index,
        checkpoint.size,
        &seal.proof,
        &checkpoint.root,
    )?;
    let malformed = |error: coset::CoseError| ReceiptError::Malformed(error.to_string());
    let hashes = seal.proof.iter().map(|it| Value::Bytes(it.0.to_vec()));
    let proof = Value::Array(vec![
        Value::from(checkpoint.size),
        Value::from(seal.index),
        Value::Array(hashes.collect()),
    ])
    .to_vec()
    .map_err(malformed)?;
    let proofs = Value::Map(vec![(
        Value::from(INCLUSION),
        Value::Array(vec![Value::Bytes(proof)]),
    )]);
    let protected = HeaderBuilder::new()
        .algorithm(iana::Algorithm::ES256)
        .value(X5CHAIN, Value::Bytes(signer.certificate_der().to_vec()))
        .value(VDS, Value::from(RFC9162_SHA256))
        .build();
    let cose = CoseSign1Builder::new()
        .protected(protected)
        .unprotected(HeaderBuilder::new().value(VDP, proofs).build())
        .try_create_detached_signature(checkpoint.root.as_bytes(), b"", |message| {
            signer.sign_fixed(message)
        })?
        .build()
        .to_tagged_vec()
        .map_err(malformed)?;
    // Nothing leaves that does not verify.
    verify(&cose, &entry, &checkpoint)?;
    Ok(Receipt { cose, entry })
}

/// What a receipt proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// The tree's size.
    pub size: u64,
    /// The leaf's index.
    pub index: u64,
    /// What the signer's certificate says; who certified it is not checked.
    pub certificate: SealCertificate,
}

/// Checks a receipt: `entry` is a leaf of the tree that `checkpoint` states, and the certificate inside signed its root. The size in a
/// receipt is not signed (several sizes can share a path), so it is compared with the checkpoint's.
pub fn verify(
    receipt: &[u8],
    entry: &[u8],
    checkpoint: &Checkpoint,
) -> Result<Inclusion, ReceiptError> {
    if receipt.len() > MAX_RECEIPT_BYTES {
        return Err(ReceiptError::Malformed(format!("{} bytes", receipt.len())));
    }
    let sign1 = CoseSign1::from_tagged_slice(receipt)
        .map_err(|error| ReceiptError::Malformed(error.to_string()))?;
    // One spelling of each receipt, so that what is not signed cannot be changed unseen either.
    if sign1.clone().to_tagged_vec().ok().as_deref() != Some(receipt) {
        let reason = "it is not in CBOR's shortest form";
        return Err(ReceiptError::Malformed(reason.to_owned()));
    }
    let protected = &sign1.protected.header;
    if protected.alg != Some(coset::Algorithm::Assigned(iana::Algorithm::ES256)) {
        return Err(ReceiptError::Header("alg"));
    }
    // What is critical and not known here may change the meaning of everything else.
    if !protected.crit.is_empty() {
        return Err(ReceiptError::Header("crit"));
    }
    if header(&protected.rest, VDS) != Some(&Value::from(RFC9162_SHA256)) {
        return Err(ReceiptError::Header("vds"));
    }
    if sign1.payload.is_some() {
        return Err(ReceiptError::Malformed(
            "its payload is not detached".to_owned(),
        ));
    }
    let Some(Value::Bytes(der)) = header(&protected.rest, X5CHAIN) else {
        return Err(ReceiptError::Header("x5chain"));
    };
    let certificate =
        Certificate::from_der(der).map_err(|error| ReceiptError::Malformed(error.to_string()))?;
    let (size, index, path) = inclusion(&sign1).ok_or(ReceiptError::Header("vdp"))?;
    if size != checkpoint.size {
        return Err(ReceiptError::Header("vdp"));
    }
    let root = &checkpoint.root;
    verify_inclusion(&leaf_hash(entry), index, size, &path, root)?;
    let key = profile::p_256_point(&certificate).ok_or(ReceiptError::Header("x5chain"))?;
    sign1.verify_detached_signature(root.as_bytes(), b"", |signature, message| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key)
            .verify(message, signature)
            .map_err(|_| ReceiptError::Signature)
    })?;
    Ok(Inclusion {
        size,
        index,
        certificate: SealCertificate::read(&certificate)?,
    })
}

fn header(rest: &[(Label, Value)], label: i64) -> Option<&Value> {
    let mut found = rest.iter().filter(|(key, _)| *key == Label::Int(label));
    let (_, value) = found.next()?;
    found.next().is_none().then_some(value)
}

/// Size, index and path of the single inclusion proof.
fn inclusion(sign1: &CoseSign1) -> Option<(u64, u64, Vec<Hash>)> {
    let proofs = header(&sign1.unprotected.rest, VDP)?.as_map()?;
    let [(kind, proofs)] = proofs.as_slice() else {
        return None;
    };
    let [Value::Bytes(proof)] = proofs.as_array()?.as_slice() else {
        return None;
    };
    let proof = Value::from_slice(proof).ok()?;
    let [size, index, path] = proof.as_array()?.as_slice() else {
        return None;
    };
    let number = |value: &Value| u64::try_from(value.as_integer()?).ok();
    let path = path.as_array()?;
    if *kind != Value::from(INCLUSION) || path.len() > MAX_PROOF_HASHES {
        return None;
    }
    let hash = |value: &Value| Some(Hash(value.as_bytes()?.as_slice().try_into().ok()?));
    Some((
        number(size)?,
        number(index)?,
        path.iter().map(hash).collect::<Option<_>>()?,
    ))
}
