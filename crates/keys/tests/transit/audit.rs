//! The server's own record of uses, against what this process knows.

use std::{fs::OpenOptions, io::Write, path::PathBuf, time::Duration};

use ring::digest::{SHA256, digest};
use sealwarden_keys::{
    AuditGap, AuditGapKind, AuditLine, KeyProvider, Purpose, TransitProvider,
    transit::{AuditSource, TransitConfig},
};
use serde_json::{Value, json};

use crate::{
    server::DEVICE,
    support::{World, sealing_key, sign},
};

pub(crate) fn sha256(message: &[u8]) -> [u8; 32] {
    digest(&SHA256, message).as_ref().try_into().unwrap()
}

/// The messages that the lines show, or none where a line is unclear.
pub(crate) fn messages(lines: &[AuditLine]) -> Vec<Option<[u8; 32]>> {
    let message = |line: &AuditLine| line.entry.as_ref().ok().map(|entry| entry.message_sha256);
    lines.iter().map(message).collect()
}

#[tokio::test]
async fn our_uses_are_explained_and_a_rogue_one_is_not() {
    let world = World::new().await;
    let provider = world.provider();
    let key = sealing_key(&provider).await;
    sign(&provider, &key, b"one").await.unwrap();
    assert_eq!(world.rogue("sealing-main-1", b"forged").await, 200);
    sign(&provider, &key, b"two").await.unwrap();

    // Also for a process that starts afterwards.
    for provider in [&provider, &world.provider()] {
        let lines = provider.audit_after(0, 10).await.unwrap();
        let shown = messages(&lines);
        assert_eq!(shown.len(), 3);
        assert_eq!(
            (shown[0], shown[2]),
            (Some(sha256(b"one")), Some(sha256(b"two")))
        );
        let rogue = lines[1].entry.as_ref().unwrap();
        assert_eq!((&rogue.key, rogue.purpose), (&key, Purpose::Sealing));
        assert_ne!(
            rogue.message_sha256,
            sha256(b"forged"),
            "the audit keeps it keyed"
        );
        assert!(
            lines[1].line.contains(&hex::encode(rogue.message_sha256)),
            "{}",
            lines[1].line
        );
        let rest = provider.audit_after(lines[0].cursor, 1).await.unwrap();
        assert_eq!(rest, [lines[1].clone()]);
        for _ in 0..2 {
            assert_eq!(provider.audit_after(lines[2].cursor, 10).await.unwrap(), []);
        }
    }
    assert_eq!(provider.audit_gaps(Duration::ZERO).await.unwrap(), []);
}

#[tokio::test]
async fn a_use_on_another_machine_is_explained_once_its_message_is_told() {
    let world = World::new().await;
    let provider = world.provider();
    let key = sealing_key(&provider).await;
    sign(&world.elsewhere("other"), &key, b"elsewhere")
        .await
        .unwrap();
    let before = provider.audit_after(0, 10).await.unwrap();
    assert_ne!(messages(&before), [Some(sha256(b"elsewhere"))]);
    provider.explain(&[b"elsewhere"]).await.unwrap();
    let after = provider.audit_after(0, 10).await.unwrap();
    assert_eq!(messages(&after), [Some(sha256(b"elsewhere"))]);
}

#[tokio::test]
async fn batches_certificate_requests_and_exports_are_not_missed() {
    let world = World::new().await;
    let provider = world.provider();
    let key = sealing_key(&provider).await;
    sign(&provider, &key, b"one").await.unwrap();
    let start = provider.audit_after(0, 10).await.unwrap()[0].cursor;
    let sign_path = "transit/sign/sealing-main-1";
    let bao = &world.bao;
    let known = json!({"input": "b25l"});
    for (path, body) in [
        (
            sign_path,
            json!({"batch_input": [known, {"input": "Zm9yZ2Vk"}]}),
        ),
        (sign_path, json!({"batch_input": [known, known]})),
        ("transit/keys/sealing-main-1/csr", Value::Null),
        (
            "transit/keys/sealing-main-1/config",
            json!({"exportable": true}),
        ),
    ] {
        bao.admin("POST", path, body).await;
    }
    bao.admin(
        "GET",
        "transit/export/signing-key/sealing-main-1",
        Value::Null,
    )
    .await;
    // What was refused is no use.
    bao.request("bad", "", "POST", sign_path, known).await;
    bao.request(&bao.root, "", "POST", sign_path, json!({"input": "%"}))
        .await;
    let shown = messages(&provider.audit_after(start, 10).await.unwrap());
    assert_eq!(shown.len(), 4, "{shown:?}");
    assert!(shown[0].is_some_and(|message| message != sha256(b"one")));
    assert_eq!(shown[1..], [None, None, None]);
}

#[tokio::test]
async fn a_malformed_line_is_reported_and_a_torn_one_waited_for() {
    let world = World::new().await;
    let provider = world.provider();
    let key = sealing_key(&provider).await;
    sign(&provider, &key, b"one").await.unwrap();
    let start = provider.audit_after(0, 10).await.unwrap()[0].cursor;
    let mut file = OpenOptions::new()
        .append(true)
        .open(world.bao.audit())
        .unwrap();
    file.write_all(b"{\"time\":").unwrap();
    assert_eq!(provider.audit_after(start, 10).await.unwrap(), []);
    file.write_all(b"\n").unwrap();
    let lines = provider.audit_after(start, 10).await.unwrap();
    assert_eq!(messages(&lines), [None]);
    assert_eq!(lines[0].line, "{\"time\":");
    sign(&provider, &key, b"two").await.unwrap();
    let lines = provider.audit_after(lines[0].cursor, 10).await.unwrap();
    assert_eq!(messages(&lines), [Some(sha256(b"two"))]);
}

/// A provider that reads a file that the test writes, in place of the server's.
pub(crate) fn reading(world: &World, file: PathBuf) -> TransitProvider {
    let audit = Some(AuditSource {
        file,
        device: DEVICE.to_owned(),
    });
    TransitProvider::open(&TransitConfig {
        audit,
        ..world.config.clone()
    })
    .unwrap()
}

#[tokio::test]
async fn a_missing_use_and_a_silent_audit_are_told_apart() {
    let world = World::new().await;
    let copy = world.bao.dir.path().join("copy.log");
    std::fs::copy(world.bao.audit(), &copy).unwrap();
    let provider = reading(&world, copy.clone());
    let key = sealing_key(&provider).await;
    sign(&provider, &key, b"one").await.unwrap();
    sign(&provider, &key, b"two").await.unwrap();
    assert_eq!(
        provider.audit_gaps(Duration::from_hours(1)).await.unwrap(),
        []
    );

    // The file does not grow although the key was used.
    let silent = provider.audit_gaps(Duration::ZERO).await.unwrap();
    let [AuditGap { kind, count, .. }] = &silent[..] else {
        panic!("{silent:?}");
    };
    assert_eq!((*kind, *count), (AuditGapKind::Silent, 2));

    // It grows, and the lines of the first use are missing.
    let all = std::fs::read_to_string(world.bao.audit()).unwrap();
    let shown = provider_lines(&world).await;
    let kept: String = all
        .split_inclusive('\n')
        .filter(|line| line.trim_end() != shown[0].line)
        .collect();
    let old = std::fs::metadata(&copy).unwrap().len();
    let grown = kept.get(usize::try_from(old).unwrap()..).unwrap();
    OpenOptions::new()
        .append(true)
        .open(&copy)
        .unwrap()
        .write_all(grown.as_bytes())
        .unwrap();
    let missing = provider.audit_gaps(Duration::ZERO).await.unwrap();
    let [AuditGap { kind, uses, .. }] = &missing[..] else {
        panic!("{missing:?}");
    };
    assert_eq!(*kind, AuditGapKind::UseNotShown);
    let [used] = &uses[..] else {
        panic!("{uses:?}");
    };
    assert_eq!((&used.key, used.message_sha256), (&key, sha256(b"one")));

    // Told again, and not anew, also by the next process.
    let told = reading(&world, copy).audit_gaps(Duration::ZERO).await;
    assert_eq!(told.unwrap(), missing);
}

async fn provider_lines(world: &World) -> Vec<AuditLine> {
    world.provider().audit_after(0, 10).await.unwrap()
}
