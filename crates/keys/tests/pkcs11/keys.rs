//! Keys in the token: made, used, disabled, destroyed.

use sealwarden_keys::{
    Algorithm, Attestation, CreateKey, DisableOutcome, KeyError, KeyProvider as _, KeyState,
    Purpose, TokenProblem,
};

use crate::support::{SoftHsm, TOKEN, id, sign, uses};

fn reason(outcome: DisableOutcome) -> String {
    match outcome {
        DisableOutcome::LocalOnly { reason } => reason,
        DisableOutcome::Disabled => panic!("a software token cannot promise that"),
    }
}

#[tokio::test]
async fn a_key_made_in_the_token_signs_and_signs_again_after_a_restart() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let key = provider
        .create(&CreateKey::ed25519(&id("main-1"), Purpose::Sealing))
        .await
        .unwrap();
    assert_eq!(
        (key.provider.as_str(), key.state),
        ("pkcs11", KeyState::Active)
    );
    sign(&provider, &key, b"first").await;
    sign(&provider, &key, &vec![7; 64 * 1024]).await;
    drop(provider);

    let provider = hsm.open().await;
    assert_eq!(provider.info(&id("main-1")).await.unwrap(), key);
    assert_eq!(provider.list().await.unwrap(), vec![key.clone()]);
    sign(&provider, &key, b"second").await;
    assert_eq!(uses(&provider).await, 3, "one line a use");
    let again = provider
        .create(&CreateKey::ed25519(&id("main-1"), Purpose::Sealing))
        .await;
    assert_eq!(again, Err(KeyError::AlreadyExists { id: id("main-1") }));
    let capabilities = provider.capabilities();
    assert!(
        !capabilities.can_disable && !capabilities.attests_origin,
        "SoftHSM2 is no hardware and attests nothing"
    );
    let record = std::fs::read_to_string(hsm.path("keys/main-1.key.json")).unwrap();
    let Attestation::Document { format, bytes } = &key.attestation else {
        panic!("what the token says of the key is not kept: {key:?}")
    };
    assert_eq!(format, "pkcs11-module-claims-v1");
    let claims: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    for (claim, said) in [
        ("local", true),
        ("always_sensitive", true),
        ("never_extractable", true),
        ("extractable", false),
    ] {
        assert_eq!(claims[claim], said, "{claims}");
    }
    assert_eq!(claims["token_model"], "SoftHSM v2");
    assert!(record.contains("sealwarden sealing main-1"), "{record}");
}

#[tokio::test]
async fn installations_that_share_a_token_have_keys_of_their_own() {
    let hsm = SoftHsm::new();
    let mut other = hsm.config();
    other.dir = hsm.path("other");
    let mine = hsm.open().await;
    let theirs = sealwarden_keys::Pkcs11Provider::open(other).await.unwrap();
    let mine_key = mine
        .create(&CreateKey::ed25519(&id("main-1"), Purpose::Sealing))
        .await
        .unwrap();
    let their_key = theirs
        .create(&CreateKey::ed25519(&id("main-1"), Purpose::Sealing))
        .await
        .unwrap();
    assert_ne!(mine_key.public_key, their_key.public_key);
    sign(&mine, &mine_key, b"m").await;
    sign(&theirs, &their_key, b"m").await;
}

#[tokio::test]
async fn a_sealing_key_is_refused_for_any_other_purpose_and_too_long_messages_are_too() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    for purpose in [Purpose::Signing, Purpose::Node, Purpose::Witness] {
        let refused = provider.sign(&id("k"), purpose, b"m").await;
        assert!(
            matches!(refused, Err(KeyError::WrongPurpose { .. })),
            "{refused:?}"
        );
    }
    let post_quantum = CreateKey {
        algorithm: Algorithm::MlDsa44,
        ..CreateKey::ed25519(&id("pq"), Purpose::Sealing)
    };
    let refused = provider.create(&post_quantum).await;
    assert!(
        matches!(refused, Err(KeyError::Unsupported { .. })),
        "{refused:?}"
    );
    assert_eq!(provider.list().await.unwrap().len(), 1);
    let long = provider
        .sign(&id("k"), Purpose::Sealing, &vec![0; 64 * 1024 + 1])
        .await;
    assert!(matches!(long, Err(KeyError::Refused { .. })), "{long:?}");
    let missing = provider.sign(&id("other"), Purpose::Sealing, b"m").await;
    assert_eq!(missing, Err(KeyError::NotFound { id: id("other") }));
    assert_eq!(uses(&provider).await, 0, "refused uses leave no line");
}

#[tokio::test]
async fn a_disabled_key_is_refused_here_and_by_the_token_itself() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    sign(&provider, &key, b"m").await;
    for _ in 0..2 {
        let said = reason(provider.disable(&id("k")).await.unwrap());
        for part in ["CKA_SIGN is off", "not hardware", "PIN"] {
            assert!(said.contains(part), "{part:?} is missing: {said}");
        }
    }
    let refused = provider.sign(&id("k"), Purpose::Sealing, b"m").await;
    assert!(
        matches!(refused, Err(KeyError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(uses(&provider).await, 1);

    // Somebody who sets our own record back still meets the token's refusal.
    let path = hsm.path("keys/k.key.json");
    let record = std::fs::read_to_string(&path).unwrap();
    assert!(record.contains(r#""state": "disabled""#), "{record}");
    std::fs::write(&path, record.replace("disabled", "active")).unwrap();
    let refused = provider.sign(&id("k"), Purpose::Sealing, b"m").await;
    assert_eq!(
        refused,
        Err(KeyError::Token(TokenProblem::KeyForbidden {
            token: TOKEN.to_owned(),
            label: "sealwarden sealing k".to_owned(),
        }))
    );

    provider.disable(&id("k")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(provider.restore(&id("k")).await.unwrap(), key);
    }
    sign(&hsm.open().await, &key, b"m").await;
    provider.destroy(&id("k")).await.unwrap();
    let refused = provider.restore(&id("k")).await;
    assert!(
        matches!(refused, Err(KeyError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_destroyed_key_is_gone_from_the_token_and_its_public_part_stays() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    for _ in 0..2 {
        let said = reason(provider.destroy(&id("k")).await.unwrap());
        assert!(said.contains("gone from the token"), "{said}");
        provider.disable(&id("k")).await.unwrap();
    }
    let info = provider.info(&id("k")).await.unwrap();
    assert_eq!(
        (info.state, info.public_key),
        (KeyState::Destroyed, key.public_key)
    );
    let path = hsm.path("keys/k.key.json");
    let record = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, record.replace("destroyed", "active")).unwrap();
    let missing = provider.sign(&id("k"), Purpose::Sealing, b"m").await;
    assert!(
        matches!(
            missing,
            Err(KeyError::Token(TokenProblem::KeyMissing { .. }))
        ),
        "{missing:?}"
    );
}

#[tokio::test]
async fn an_interrupted_creation_is_completed_with_the_key_that_the_token_made() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let made = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    // As it stands when the answer of the token was lost.
    let path = hsm.path("keys/k.key.json");
    let record = std::fs::read_to_string(&path).unwrap();
    let public_key = hex::encode(&made.public_key);
    let before = record
        .replace(r#""active""#, r#""creating""#)
        .replace(&public_key, &"0".repeat(64));
    std::fs::write(&path, before).unwrap();
    let unmade = provider.info(&id("k")).await;
    assert_eq!(unmade, Err(KeyError::NotFound { id: id("k") }));
    assert!(provider.list().await.unwrap().is_empty());
    let again = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    assert_eq!(again, made);
    sign(&provider, &made, b"m").await;
}

/// The public key of a key in the token.
struct InToken(Vec<u8>);

impl rcgen::PublicKeyData for InToken {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

/// A certificate of a vendor for this key.
fn certificate(public_key: &[u8]) -> Vec<u8> {
    let vendor = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let issuer = rcgen::Issuer::new(issuer, vendor);
    let made = rcgen::CertificateParams::new(Vec::new())
        .unwrap()
        .signed_by(&InToken(public_key.to_vec()), &issuer);
    made.unwrap().der().to_vec()
}

#[tokio::test]
async fn a_certificate_on_the_token_that_names_the_key_is_its_attestation() {
    let hsm = SoftHsm::new();
    let provider = hsm.open().await;
    let key = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    drop(provider);
    let record = std::fs::read(hsm.path("keys/k.key.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let cka_id = record["object"]["cka_id"].as_str().unwrap();

    // One with the key's id that is for another key vouches for nothing.
    hsm.put_certificate(cka_id, &certificate(&[7; 32]));
    let unvouched = hsm.open().await.info(&id("k")).await.unwrap();
    assert_eq!(unvouched.attestation, key.attestation);

    let der = certificate(key.public_key.as_ref());
    hsm.put_certificate(cka_id, &der);
    let vouched = Attestation::Document {
        format: "x509".to_owned(),
        bytes: der,
    };
    for _ in 0..2 {
        let provider = hsm.open().await;
        assert_eq!(provider.info(&id("k")).await.unwrap().attestation, vouched);
        sign(&provider, &key, b"m").await;
    }
}
