use std::{
    fs::{self, Permissions},
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use ring::signature::{ED25519, UnparsedPublicKey};
use tempfile::TempDir;

use super::*;
use crate::{
    faults::{Fault, FaultyProvider},
    provider::sign_within,
};

fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

fn config(root: &TempDir) -> SoftwareConfig {
    SoftwareConfig {
        dir: root.path().join("keys"),
        guard: Guard::File(root.path().join("guard")),
    }
}

async fn open(root: &TempDir) -> SoftwareProvider {
    SoftwareProvider::open(config(root)).await.unwrap()
}

async fn open_error(config: SoftwareConfig) -> KeyError {
    match SoftwareProvider::open(config).await {
        Ok(_) => panic!("the folder opened"),
        Err(error) => error,
    }
}

fn key_path(root: &TempDir, name: &str) -> PathBuf {
    root.path().join("keys").join(format!("{name}.key.json"))
}

fn audit_path(root: &TempDir) -> PathBuf {
    root.path().join("keys/audit.log")
}

fn sha256(message: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, message).as_ref().to_vec()
}

#[tokio::test]
async fn a_key_signs_after_a_restart_and_every_use_is_in_the_audit() {
    let root = TempDir::new().unwrap();
    let made = open(&root)
        .await
        .create(&CreateKey::ed25519(&id("main.1"), Purpose::Sealing))
        .await
        .unwrap();
    let provider = open(&root).await;
    assert_eq!(provider.info(&id("main.1")).await.unwrap(), made);
    assert_eq!(provider.list().await.unwrap(), vec![made.clone()]);
    for message in [b"first".as_slice(), b"second"] {
        let signature = provider
            .sign(&id("main.1"), Purpose::Sealing, message)
            .await
            .unwrap();
        UnparsedPublicKey::new(&ED25519, &made.public_key)
            .verify(message, signature.as_bytes())
            .unwrap();
    }
    let lines = provider.audit_after(0, 1).await.unwrap();
    assert_eq!(lines.len(), 1);
    let rest = provider.audit_after(lines[0].cursor, 10).await.unwrap();
    assert_eq!(rest.len(), 1);
    let entry = rest[0].entry.clone().unwrap();
    assert_eq!((entry.key, entry.purpose), (id("main.1"), Purpose::Sealing));
    assert_eq!(entry.message_sha256.to_vec(), sha256(b"second"));
    assert_eq!(
        rest[0].cursor,
        fs::metadata(audit_path(&root)).unwrap().len()
    );
}

#[tokio::test]
async fn a_name_is_never_used_twice() {
    let root = TempDir::new().unwrap();
    let provider = open(&root).await;
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Node))
        .await
        .unwrap();
    provider.destroy(&id("k")).await.unwrap();
    let again = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Node))
        .await;
    assert_eq!(again, Err(KeyError::AlreadyExists { id: id("k") }));
}

#[tokio::test]
async fn a_sealing_key_is_never_a_signing_key() {
    let root = TempDir::new().unwrap();
    let provider = open(&root).await;
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    let refused = provider.sign(&id("k"), Purpose::Signing, b"m").await;
    assert!(
        matches!(refused, Err(KeyError::WrongPurpose { .. })),
        "{refused:?}"
    );
    assert!(provider.audit_after(0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_key_disabled_by_one_process_is_refused_by_another() {
    let root = TempDir::new().unwrap();
    let (one, other) = (open(&root).await, open(&root).await);
    one.create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    other.sign(&id("k"), Purpose::Sealing, b"m").await.unwrap();
    for _ in 0..2 {
        let outcome = one.disable(&id("k")).await.unwrap();
        assert!(matches!(outcome, DisableOutcome::LocalOnly { .. }));
    }
    let refused = other.sign(&id("k"), Purpose::Sealing, b"m").await;
    assert!(
        matches!(refused, Err(KeyError::Refused { .. })),
        "{refused:?}"
    );
    let reopened = open(&root).await;
    assert_eq!(
        reopened.info(&id("k")).await.unwrap().state,
        KeyState::Disabled
    );
}

#[tokio::test]
async fn a_disabled_key_is_restored_and_a_destroyed_one_is_not() {
    let root = TempDir::new().unwrap();
    let (one, other) = (open(&root).await, open(&root).await);
    let made = one
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    one.disable(&id("k")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(other.restore(&id("k")).await.unwrap(), made);
    }
    one.sign(&id("k"), Purpose::Sealing, b"m").await.unwrap();
    one.destroy(&id("k")).await.unwrap();
    let refused = one.restore(&id("k")).await;
    assert!(
        matches!(refused, Err(KeyError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(
        one.info(&id("k")).await.unwrap().state,
        KeyState::Destroyed,
        "asking changed nothing"
    );
}

#[tokio::test]
async fn a_destroyed_key_keeps_its_public_part_only() {
    let root = TempDir::new().unwrap();
    let provider = open(&root).await;
    let made = provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Witness))
        .await
        .unwrap();
    provider.destroy(&id("k")).await.unwrap();
    provider.disable(&id("k")).await.unwrap();
    let info = provider.info(&id("k")).await.unwrap();
    assert_eq!(
        (info.state, info.public_key),
        (KeyState::Destroyed, made.public_key)
    );
    let refused = provider.sign(&id("k"), Purpose::Witness, b"m").await;
    assert!(
        matches!(refused, Err(KeyError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_missing_key_is_told_apart() {
    let root = TempDir::new().unwrap();
    let missing = open(&root).await.sign(&id("k"), Purpose::Node, b"m").await;
    assert_eq!(missing, Err(KeyError::NotFound { id: id("k") }));
}

#[tokio::test]
async fn any_flipped_bit_of_a_key_file_is_corruption() {
    let root = TempDir::new().unwrap();
    let provider = open(&root).await;
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    let path = key_path(&root, "k");
    let good = fs::read(&path).unwrap();
    for place in 0..good.len() {
        for mask in [0x01, 0x20] {
            let mut bad = good.clone();
            bad[place] ^= mask;
            fs::write(&path, &bad).unwrap();
            let result = provider.folder.load(&id("k")).err();
            assert!(
                matches!(result, Some(KeyError::Corrupt { .. })),
                "byte {place}: {result:?}"
            );
        }
    }
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    let cut = provider.sign(&id("k"), Purpose::Sealing, b"m").await;
    assert!(matches!(cut, Err(KeyError::Corrupt { .. })), "{cut:?}");
}

#[tokio::test]
async fn a_key_file_under_another_name_is_corruption() {
    let root = TempDir::new().unwrap();
    let provider = open(&root).await;
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    fs::copy(key_path(&root, "k"), key_path(&root, "other")).unwrap();
    let result = provider.info(&id("other")).await;
    assert!(
        matches!(result, Err(KeyError::Corrupt { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_wrong_guard_is_named() {
    let root = TempDir::new().unwrap();
    open(&root).await;
    fs::write(root.path().join("other"), format!("{}\n", "ab".repeat(32))).unwrap();
    fs::set_permissions(root.path().join("other"), Permissions::from_mode(0o600)).unwrap();
    for name in ["other", "missing"] {
        let guard = Guard::File(root.path().join(name));
        let error = open_error(SoftwareConfig {
            guard,
            ..config(&root)
        })
        .await;
        assert!(matches!(error, KeyError::WrongGuard { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(!root.path().join("missing").exists());
}

#[tokio::test]
async fn a_passphrase_opens_the_folder_and_another_does_not() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("passphrase");
    let guarded = SoftwareConfig {
        guard: Guard::PassphraseFile(path.clone()),
        ..config(&root)
    };
    assert!(matches!(
        open_error(guarded.clone()).await,
        KeyError::Unsafe { .. }
    ));
    fs::write(&path, "short\n").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(
        open_error(guarded.clone()).await,
        KeyError::Unsafe { .. }
    ));
    fs::write(&path, "correct horse battery\n").unwrap();
    let provider = SoftwareProvider::open(guarded.clone()).await.unwrap();
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Node))
        .await
        .unwrap();
    let provider = SoftwareProvider::open(guarded.clone()).await.unwrap();
    provider.sign(&id("k"), Purpose::Node, b"m").await.unwrap();
    fs::write(&path, "incorrect horse battery\n").unwrap();
    let error = open_error(guarded).await;
    assert!(matches!(error, KeyError::WrongGuard { .. }), "{error}");
}

#[tokio::test]
async fn files_open_to_others_are_refused_with_the_remedy() {
    let root = TempDir::new().unwrap();
    let provider = open(&root).await;
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Node))
        .await
        .unwrap();
    assert_eq!(
        fs::metadata(root.path().join("keys")).unwrap().mode() & 0o777,
        0o700
    );
    assert_eq!(
        fs::metadata(key_path(&root, "k")).unwrap().mode() & 0o777,
        0o600
    );
    fs::set_permissions(key_path(&root, "k"), Permissions::from_mode(0o644)).unwrap();
    let error = provider
        .sign(&id("k"), Purpose::Node, b"m")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    fs::set_permissions(root.path().join("guard"), Permissions::from_mode(0o604)).unwrap();
    let error = open_error(config(&root)).await;
    assert!(error.to_string().contains("chmod 600"), "{error}");
    fs::set_permissions(root.path().join("keys"), Permissions::from_mode(0o755)).unwrap();
    let error = open_error(config(&root)).await;
    assert!(error.to_string().contains("chmod 700"), "{error}");
}

#[tokio::test]
async fn a_torn_audit_line_waits_until_it_is_ended_and_is_then_reported() {
    let root = TempDir::new().unwrap();
    let provider = open(&root).await;
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Node))
        .await
        .unwrap();
    provider.sign(&id("k"), Purpose::Node, b"1").await.unwrap();
    let mut file = OpenAppend::open(&root);
    file.write_all(b"{\"at\":\"2026-").unwrap();
    assert_eq!(provider.audit_after(0, 10).await.unwrap().len(), 1);
    provider.sign(&id("k"), Purpose::Node, b"2").await.unwrap();
    let lines = provider.audit_after(0, 10).await.unwrap();
    let readable: Vec<bool> = lines.iter().map(|line| line.entry.is_ok()).collect();
    assert_eq!(readable, [true, false, true]);
    assert_eq!(lines[1].line, "{\"at\":\"2026-");
}

struct OpenAppend;

impl OpenAppend {
    fn open(root: &TempDir) -> fs::File {
        fs::OpenOptions::new()
            .append(true)
            .open(audit_path(root))
            .unwrap()
    }
}

#[tokio::test]
async fn an_over_long_audit_line_is_reported_and_passed() {
    let root = TempDir::new().unwrap();
    let provider = open(&root).await;
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Node))
        .await
        .unwrap();
    let mut long = vec![b'x'; 20_000];
    long.push(b'\n');
    OpenAppend::open(&root).write_all(&long).unwrap();
    provider.sign(&id("k"), Purpose::Node, b"m").await.unwrap();
    let lines = provider.audit_after(0, 10).await.unwrap();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].entry.is_err() && lines[0].cursor == 20_001);
    assert!(lines[1].entry.is_ok());
}

#[tokio::test]
async fn a_shortened_rewritten_or_missing_audit_is_corruption() {
    let root = TempDir::new().unwrap();
    let provider = open(&root).await;
    provider
        .create(&CreateKey::ed25519(&id("k"), Purpose::Node))
        .await
        .unwrap();
    provider.sign(&id("k"), Purpose::Node, b"m").await.unwrap();
    let cursor = provider.audit_after(0, 1).await.unwrap()[0].cursor;
    for bad in [cursor + 1, cursor - 2] {
        let result = provider.audit_after(bad, 1).await;
        assert!(
            matches!(result, Err(KeyError::Corrupt { .. })),
            "{result:?}"
        );
    }
    fs::remove_file(audit_path(&root)).unwrap();
    let result = provider.sign(&id("k"), Purpose::Node, b"m").await;
    assert!(
        matches!(result, Err(KeyError::Corrupt { .. })),
        "{result:?}"
    );
    assert!(matches!(
        open_error(config(&root)).await,
        KeyError::Corrupt { .. }
    ));
}

#[tokio::test]
async fn keys_without_their_guard_check_do_not_open() {
    let root = TempDir::new().unwrap();
    open(&root)
        .await
        .create(&CreateKey::ed25519(&id("k"), Purpose::Node))
        .await
        .unwrap();
    fs::remove_file(root.path().join("keys/guard-check.json")).unwrap();
    assert!(matches!(
        open_error(config(&root)).await,
        KeyError::Corrupt { .. }
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn providers_that_start_and_sign_at_once_agree() {
    let root = Arc::new(TempDir::new().unwrap());
    let tasks: Vec<_> = (0..8)
        .map(|number| {
            let root = Arc::clone(&root);
            tokio::spawn(async move {
                let provider = open(&root).await;
                let created = provider
                    .create(&CreateKey::ed25519(&id("shared"), Purpose::Node))
                    .await;
                let message = format!("message {number}");
                for _ in 0..5 {
                    provider
                        .sign(&id("shared"), Purpose::Node, message.as_bytes())
                        .await
                        .unwrap();
                }
                created.is_ok()
            })
        })
        .collect();
    let mut creators = 0;
    for task in tasks {
        creators += usize::from(task.await.unwrap());
    }
    assert_eq!(creators, 1);
    let lines = open(&root).await.audit_after(0, 100).await.unwrap();
    assert_eq!(lines.len(), 40);
    assert!(lines.iter().all(|line| line.entry.is_ok()));
}

#[tokio::test]
async fn a_provider_that_hangs_meets_the_deadline_and_others_are_told_apart() {
    let root = TempDir::new().unwrap();
    let inner = Arc::new(open(&root).await);
    inner
        .create(&CreateKey::ed25519(&id("k"), Purpose::Node))
        .await
        .unwrap();
    let (provider, switch) = FaultyProvider::new(inner);
    switch.set(Fault::Hang);
    let short = Duration::from_millis(20);
    let late = sign_within(&provider, &id("k"), Purpose::Node, b"m", short).await;
    assert_eq!(
        late,
        Err(KeyError::Timeout {
            id: id("k"),
            deadline_ms: 20
        })
    );
    assert!(provider.audit_after(0, 10).await.unwrap().is_empty());
    let long = Duration::from_secs(30);
    switch.set(Fault::Fail("no route".to_owned()));
    let failed = sign_within(&provider, &id("k"), Purpose::Node, b"m", long).await;
    assert!(
        matches!(failed, Err(KeyError::Unavailable { .. })),
        "{failed:?}"
    );
    assert!(provider.audit_after(0, 10).await.unwrap().is_empty());
    switch.set(Fault::LoseAnswer("cut".to_owned()));
    let lost = sign_within(&provider, &id("k"), Purpose::Node, b"m", long).await;
    assert!(
        matches!(lost, Err(KeyError::Unavailable { .. })),
        "{lost:?}"
    );
    assert_eq!(provider.audit_after(0, 10).await.unwrap().len(), 1);
    switch.set(Fault::None);
    sign_within(&provider, &id("k"), Purpose::Node, b"m", long)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_post_quantum_key_signs_after_a_restart_is_audited_and_cannot_pass_for_another() {
    let root = TempDir::new().unwrap();
    let key = CreateKey {
        algorithm: Algorithm::MlDsa44,
        ..CreateKey::ed25519(&id("main.pq"), Purpose::Sealing)
    };
    let made = open(&root).await.create(&key).await.unwrap();
    assert_eq!(made.algorithm(), Algorithm::MlDsa44);
    assert_eq!(made.public_key.as_bytes().len(), 1312);
    assert_eq!(made.attestation, crate::Attestation::None);
    let refused = made.ed25519().unwrap_err();
    assert!(
        matches!(refused, KeyError::WrongAlgorithm { .. }),
        "{refused}"
    );

    let provider = open(&root).await;
    assert_eq!(provider.info(&key.id).await.unwrap(), made);
    let sign = || provider.sign(&key.id, Purpose::Sealing, b"checkpoint");
    let signature = sign().await.unwrap();
    assert_eq!(signature.as_bytes().len(), 2420);
    assert_eq!(sign().await.unwrap(), signature, "signing is deterministic");
    let public = ml_dsa::VerifyingKey::<ml_dsa::MlDsa44>::decode(
        made.public_key.as_bytes().try_into().unwrap(),
    );
    let decoded = ml_dsa::Signature::try_from(signature.as_bytes()).unwrap();
    assert!(public.verify_with_context(b"checkpoint", b"", &decoded));
    assert!(!public.verify_with_context(b"another", b"", &decoded));
    let audit = provider.audit_after(0, 9).await.unwrap();
    assert_eq!(audit.len(), 2);
    let entry = audit[0].entry.clone().unwrap();
    assert_eq!(entry.message_sha256.to_vec(), sha256(b"checkpoint"));

    // The word alone does not make it a key of the other algorithm.
    let path = key_path(&root, "main.pq");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("ml-dsa-44", "ed25519")).unwrap();
    let changed = provider.sign(&key.id, Purpose::Sealing, b"m").await;
    assert!(
        matches!(changed, Err(KeyError::Corrupt { .. })),
        "{changed:?}"
    );
    assert_eq!(provider.audit_after(0, 9).await.unwrap().len(), 2);
}
