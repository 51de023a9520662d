use super::support::{
    Desk, NOW_MS, ORIGIN, note_of, person, roots, seal, seal_certificate, signer, vkey,
};
use coset::cbor::value::Value;
use coset::{CborSerializable as _, CoseSign1, TaggedCborSerializable as _};
use sealwarden_anchors::cades::{self, CadesError};
use sealwarden_anchors::receipt::{self, ReceiptError};
use sealwarden_anchors::seal_certificate::{self as certificate, SealCertificateError};
use sealwarden_anchors::signed::SignedError;
use sealwarden_anchors::signer::{Signer, SignerError};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::{MemoryTree, leaf_hash, verify_inclusion};

#[test]
fn openssl_accepts_the_cades_signature() {
    let (issued, seal) = (seal_certificate(), seal(5, 11));
    let signature = cades::sign(&seal.note, &signer(&issued), &[], NOW_MS).unwrap();
    let said = cades::verify(&signature, &seal.note, &[]).unwrap();
    assert_eq!(said.vkeys, [vkey(ORIGIN, 1), vkey(ORIGIN, 2)]);
    assert!(
        said.subject.contains("O=Example Seals AG"),
        "{}",
        said.subject
    );
    let desk = Desk::new();
    desk.put("text", seal.note.text());
    desk.put("a.p7s", &signature);
    desk.put("root.pem", &issued.root);
    let verify = format!(
        "cms -verify -binary -inform DER -in a.p7s -content text -CAfile root.pem -attime {} -cades -out out",
        NOW_MS / 1000
    );
    let told = desk.must(&verify);
    assert!(told.contains("erification successful"), "{told}");
    let printed = desk.must("cms -cmsout -print -noout -inform DER -in a.p7s");
    assert!(
        printed.contains("id-smime-aa-signingCertificateV2"),
        "{printed}"
    );
    desk.put("text", seal.note.text().replace("11", "12"));
    assert!(!desk.openssl(&verify).0);
}

#[test]
fn no_changed_bit_leaves_a_cades_signature_good() {
    let (issued, seal) = (seal_certificate(), seal(5, 11));
    let signature = cades::sign(&seal.note, &signer(&issued), &[], NOW_MS).unwrap();
    let good = cades::verify(&signature, &seal.note, &[]).unwrap();
    for place in 0..signature.len() {
        let mut changed = signature.clone();
        changed[place] ^= 1;
        if let Ok(found) = cades::verify(&changed, &seal.note, &[]) {
            assert_eq!(found, good, "byte {place}");
        }
    }
}

#[test]
fn the_certificate_signs_only_for_its_log_and_its_time() {
    let (issued, seal) = (seal_certificate(), seal(5, 11));
    let signer = signer(&issued);
    let mut tree = MemoryTree::new();
    tree.push_entry(b"entry");
    let refused = |origin: &str, seed| {
        cades::sign(&note_of(origin, seed, &tree), &signer, &[], NOW_MS).unwrap_err()
    };
    let other_log = refused("seal.example.com/other/1", 1);
    assert!(matches!(
        other_log,
        CadesError::Certificate(SealCertificateError::Origin { .. })
    ));
    let other_key = refused(ORIGIN, 3);
    assert!(matches!(
        other_key,
        CadesError::Certificate(SealCertificateError::Signature(_))
    ));
    let year = 365 * 24 * 3_600_000;
    for time in [NOW_MS - year, NOW_MS + year] {
        let error = cades::sign(&seal.note, &signer, &[], time).unwrap_err();
        assert!(matches!(
            error,
            CadesError::Certificate(SealCertificateError::Expired { .. })
        ));
        let error = receipt::make(&seal, &signer, &[], time).unwrap_err();
        assert!(matches!(
            error,
            ReceiptError::Certificate(SealCertificateError::Expired { .. })
        ));
    }
    // A certificate of a time-stamping authority names no log.
    let tsa = super::support::issued("Drill TSA");
    let error = cades::sign(&seal.note, &super::support::signer(&tsa), &[], NOW_MS).unwrap_err();
    assert!(matches!(
        error,
        CadesError::Certificate(SealCertificateError::NoKeys(_))
    ));
}

#[test]
fn a_signature_over_something_else_is_no_timestamp_and_no_seal() {
    let (issued, seal) = (seal_certificate(), seal(5, 11));
    let signature = cades::sign(&seal.note, &signer(&issued), &[], NOW_MS).unwrap();
    let other = super::support::seal(0, 2);
    let error = cades::verify(&signature, &other.note, &[]).unwrap_err();
    let digest = matches!(
        error,
        CadesError::Signed(SignedError::Attribute {
            attribute: "messageDigest",
            ..
        })
    );
    assert!(digest, "{error}");
    let token = super::support::stamped(&super::support::issued("TSA"), b"x", NOW_MS);
    assert!(cades::verify(&token, &seal.note, &[]).is_err());
    drop(roots(&issued));
}

#[test]
fn a_key_goes_with_its_certificate() {
    let (one, two) = (seal_certificate(), seal_certificate());
    let error = Signer::from_pem(one.certificate.as_bytes(), two.key.as_bytes()).unwrap_err();
    assert!(matches!(error, SignerError::Mismatch(_)));
    let error = Signer::from_pem(b"", one.key.as_bytes()).unwrap_err();
    assert_eq!(error, SignerError::Chain(0));
    let error = Signer::from_pem(one.certificate.as_bytes(), b"x").unwrap_err();
    assert!(matches!(error, SignerError::Key(_)));
    let shown = format!("{one:?} {:?}", signer(&one));
    assert!(!shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn a_real_authority_gets_a_request_with_the_keys() {
    let (key, request) = certificate::request(&person(), &[vkey(ORIGIN, 1)]).unwrap();
    assert!(key.contains("PRIVATE KEY"));
    let desk = Desk::new();
    desk.put("a.csr", request);
    let said = desk.must("req -in a.csr -noout -text -verify");
    assert!(
        said.contains("URI:sealwarden-log:seal.example.com%2Fmain%2F1%2B"),
        "{said}"
    );
    assert!(said.contains("NTRDE-HRB123456"), "{said}");
}

/// Reads the receipt with a CBOR library alone, builds COSE's `Sig_structure` by hand, and lets OpenSSL verify.
#[test]
fn openssl_accepts_the_receipts_signature() {
    for (index, size) in [(5, 11), (0, 1), (10, 11)] {
        let (issued, seal) = (seal_certificate(), seal(index, size));
        let receipt = receipt::make(&seal, &signer(&issued), &[], NOW_MS).unwrap();
        let checkpoint = Checkpoint::parse(seal.note.text()).unwrap();
        let root = checkpoint.root;
        let said = receipt::verify(&receipt.cose, &receipt.entry, &checkpoint).unwrap();
        assert_eq!((said.index, said.size), (index, size));
        let Value::Tag(18, inside) = Value::from_slice(&receipt.cose).unwrap() else {
            panic!("no COSE_Sign1")
        };
        let parts = inside.into_array().unwrap();
        let [
            Value::Bytes(protected),
            Value::Map(unprotected),
            Value::Null,
            Value::Bytes(signature),
        ] = parts.as_slice()
        else {
            panic!("{parts:?}")
        };
        let headers = Value::from_slice(protected).unwrap().into_map().unwrap();
        assert!(
            headers.contains(&(Value::from(1), Value::from(-7))),
            "alg ES256"
        );
        assert!(
            headers.contains(&(Value::from(395), Value::from(1))),
            "RFC9162_SHA256"
        );
        assert_eq!(unprotected.len(), 1);
        assert_eq!(unprotected[0].0, Value::from(396));
        let to_be_signed = Value::Array(vec![
            Value::from("Signature1"),
            Value::Bytes(protected.clone()),
            Value::Bytes(vec![]),
            Value::Bytes(root.as_bytes().to_vec()),
        ]);
        let desk = Desk::new();
        desk.put("message", to_be_signed.to_vec().unwrap());
        desk.put("signature", der_signature(signature));
        desk.put("cert.pem", &issued.certificate);
        std::fs::write(
            desk.path().join("key.pem"),
            desk.must("x509 -in cert.pem -pubkey -noout"),
        )
        .unwrap();
        desk.must("dgst -sha256 -verify key.pem -signature signature message");
        let leaf = leaf_hash(&receipt.entry);
        verify_inclusion(&leaf, index, size, &seal.proof, &root).unwrap();
    }
}

/// r ‖ s as the SEQUENCE that OpenSSL reads.
fn der_signature(fixed: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| {
        let start = bytes
            .iter()
            .position(|it| *it != 0)
            .unwrap_or(bytes.len() - 1);
        let mut value = bytes[start..].to_vec();
        if value[0] & 0x80 != 0 {
            value.insert(0, 0);
        }
        let mut out = vec![2, u8::try_from(value.len()).unwrap()];
        out.extend(value);
        out
    };
    let (r, s) = fixed.split_at(32);
    let inside = [number(r), number(s)].concat();
    let mut out = vec![0x30, u8::try_from(inside.len()).unwrap()];
    out.extend(inside);
    out
}

#[test]
fn changed_receipts_are_refused() {
    let (issued, seal) = (seal_certificate(), seal(5, 11));
    let signer = signer(&issued);
    let made = receipt::make(&seal, &signer, &[], NOW_MS).unwrap();
    let checkpoint = Checkpoint::parse(seal.note.text()).unwrap();
    for place in 0..made.cose.len() {
        let mut changed = made.cose.clone();
        changed[place] ^= 1;
        assert!(
            receipt::verify(&changed, &made.entry, &checkpoint).is_err(),
            "byte {place}"
        );
        assert!(receipt::verify(&made.cose[..place], &made.entry, &checkpoint).is_err());
    }
    assert!(matches!(
        receipt::verify(&made.cose, b"other", &checkpoint),
        Err(ReceiptError::Proof(_))
    ));
    let mut attached = CoseSign1::from_tagged_slice(&made.cose).unwrap();
    attached.payload = Some(checkpoint.root.as_bytes().to_vec());
    let attached = attached.to_tagged_vec().unwrap();
    assert!(matches!(
        receipt::verify(&attached, &made.entry, &checkpoint),
        Err(ReceiptError::Malformed(_))
    ));
    // A seal whose proof does not hold gets no receipt.
    let mut wrong = seal.clone();
    wrong.index = 4;
    assert!(matches!(
        receipt::make(&wrong, &signer, &[], NOW_MS),
        Err(ReceiptError::Proof(_))
    ));
}
