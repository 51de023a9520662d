//! The audit file rotated, cut, rewritten, replaced and switched off.

use std::{path::PathBuf, time::Duration};

use sealwarden_keys::{
    AuditGap, AuditGapKind, KeyError, KeyId, KeyProvider, TransitProvider,
    transit::{AuditSource, TransitConfig},
};
use serde_json::{Value, json};

use crate::{
    audit::{messages, reading, sha256},
    support::{World, sealing_key, sign},
};

async fn gaps(provider: &TransitProvider) -> Vec<AuditGap> {
    provider.audit_gaps(Duration::ZERO).await.unwrap()
}

/// All uses after `cursor`, and the last cursor.
async fn uses(provider: &TransitProvider, cursor: u64) -> (Vec<Option<[u8; 32]>>, u64) {
    let lines = provider.audit_after(cursor, 1000).await.unwrap();
    let cursors: Vec<u64> = lines.iter().map(|line| line.cursor).collect();
    assert!(cursors.is_sorted() && cursors.first().is_none_or(|first| *first > cursor));
    (messages(&lines), cursors.last().copied().unwrap_or(cursor))
}

fn shown(texts: &[&str]) -> Vec<Option<[u8; 32]>> {
    let digests = texts.iter().map(|text| Some(sha256(text.as_bytes())));
    digests.collect()
}

/// A provider that signed `texts` and has read them in the audit.
async fn begun(world: &World, texts: &[&str]) -> (TransitProvider, KeyId, u64) {
    let provider = world.provider();
    let key = sealing_key(&provider).await;
    for text in texts {
        sign(&provider, &key, text.as_bytes()).await.unwrap();
    }
    let (seen, cursor) = uses(&provider, 0).await;
    assert_eq!(seen, shown(texts));
    assert_eq!(gaps(&provider).await, []);
    (provider, key, cursor)
}

#[tokio::test]
async fn a_renamed_file_is_read_to_its_end_and_then_the_new_one() {
    let world = World::new().await;
    let (provider, key, cursor) = begun(&world, &["one"]).await;
    let renamed = world.bao.dir.path().join("audit.log.1");
    std::fs::rename(world.bao.audit(), &renamed).unwrap();
    sign(&provider, &key, b"two").await.unwrap();
    let (seen, cursor) = uses(&provider, cursor).await;
    assert_eq!(
        seen,
        shown(&["two"]),
        "the server still writes to the renamed file"
    );
    sign(&provider, &key, b"three").await.unwrap();
    world.bao.reopen().await;
    sign(&provider, &key, b"four").await.unwrap();
    // As a packer does once the server has a new file.
    std::fs::remove_file(&renamed).unwrap();
    let (seen, cursor) = uses(&provider, cursor).await;
    assert_eq!(seen, shown(&["three", "four"]));
    assert_eq!(gaps(&provider).await, []);
    for number in 2..5 {
        world.bao.rotate(&format!("audit.log.{number}")).await;
        sign(&provider, &key, format!("{number}").as_bytes())
            .await
            .unwrap();
    }
    let (seen, _) = uses(&provider, cursor).await;
    assert_eq!(seen, shown(&["2", "3", "4"]));
    assert_eq!(gaps(&provider).await, [], "rotation is no gap");
}

#[tokio::test]
async fn rotations_while_nobody_read_are_followed_and_a_lost_file_is_told() {
    let world = World::new().await;
    let (provider, _, cursor) = begun(&world, &["one"]).await;
    drop(provider);
    let key = "sealing-main-1";
    for number in 1..4 {
        assert_eq!(world.rogue(key, b"rogue").await, 200);
        world.bao.rotate(&format!("audit.log.{number}")).await;
    }
    assert_eq!(world.rogue(key, b"rogue").await, 200);
    let provider = world.provider();
    let (seen, cursor) = uses(&provider, cursor).await;
    assert_eq!(seen.len(), 4, "each file's use is seen");
    assert_eq!(gaps(&provider).await, []);
    drop(provider);

    world.bao.rotate("audit.log.4").await;
    assert_eq!(world.rogue(key, b"rogue").await, 200);
    std::fs::remove_file(world.bao.dir.path().join("audit.log.4")).unwrap();
    let provider = world.provider();
    let (seen, _) = uses(&provider, cursor).await;
    assert_eq!(seen.len(), 1);
    let told = gaps(&provider).await;
    let kinds: Vec<_> = told.iter().map(|gap| gap.kind).collect();
    assert_eq!(kinds, [AuditGapKind::Lost], "{told:#?}");
    drop(provider);
    assert_eq!(
        gaps(&world.provider()).await,
        told,
        "a restart tells the same gap"
    );
}

#[tokio::test]
async fn a_file_that_is_copied_and_cut_is_said_to_be_cut_and_read_on() {
    let world = World::new().await;
    let (provider, key, cursor) = begun(&world, &["one", "two"]).await;
    std::fs::copy(world.bao.audit(), world.bao.dir.path().join("audit.log.1")).unwrap();
    std::fs::write(world.bao.audit(), b"").unwrap();
    assert_eq!(
        gaps(&provider).await,
        [],
        "what it is shows with its next line"
    );
    sign(&provider, &key, b"three").await.unwrap();
    let (seen, cursor) = uses(&provider, cursor).await;
    assert_eq!(seen, shown(&["three"]));
    let told = gaps(&provider).await;
    let [
        AuditGap {
            kind,
            count,
            evidence,
            ..
        },
    ] = &told[..]
    else {
        panic!("{told:#?}");
    };
    assert_eq!((*kind, *count), (AuditGapKind::Truncated, 0));
    assert!(evidence.contains("the last line read"), "{evidence}");
    sign(&provider, &key, b"six").await.unwrap();
    assert_eq!(uses(&provider, cursor).await.0, shown(&["six"]));
}

/// The audit's text without the lines of the use numbered `which`.
async fn without_use(world: &World, provider: &TransitProvider, which: usize) -> String {
    let lines = provider.audit_after(0, 1000).await.unwrap();
    let all = std::fs::read_to_string(world.bao.audit()).unwrap();
    let kept = all
        .split_inclusive('\n')
        .filter(|line| line.trim_end() != lines[which].line);
    kept.collect()
}

#[tokio::test]
async fn lines_removed_from_the_file_name_their_uses_in_place_and_by_another_file() {
    for replaced in [false, true] {
        let world = World::new().await;
        let (provider, key, cursor) = begun(&world, &["one", "two", "three"]).await;
        let text = without_use(&world, &provider, 1).await;
        if replaced {
            let other = world.bao.dir.path().join("sed-temporary");
            std::fs::write(&other, text).unwrap();
            std::fs::rename(other, world.bao.audit()).unwrap();
        } else {
            std::fs::write(world.bao.audit(), text).unwrap();
        }
        let (seen, cursor) = uses(&provider, cursor).await;
        assert!(seen.len() <= 1, "old lines are not copied again: {seen:?}");
        let told = gaps(&provider).await;
        let [
            AuditGap {
                kind,
                uses: removed,
                count: 1,
                ..
            },
        ] = &told[..]
        else {
            panic!("{told:#?}");
        };
        let expected = if replaced {
            AuditGapKind::Replaced
        } else {
            AuditGapKind::Rewritten
        };
        assert_eq!(*kind, expected);
        assert_eq!(
            (&removed[0].key, removed[0].message_sha256),
            (&key, sha256(b"two"))
        );

        sign(&provider, &key, b"four").await.unwrap();
        let after = uses(&provider, cursor).await.0;
        let kinds: Vec<_> = gaps(&provider).await.iter().map(|gap| gap.kind).collect();
        if replaced {
            // The server goes on in the file that has no name any more.
            assert_eq!(after, []);
            assert_eq!(kinds, [AuditGapKind::Replaced, AuditGapKind::Silent]);
        } else {
            assert_eq!(after, shown(&["four"]));
            assert_eq!(kinds, [AuditGapKind::Rewritten]);
        }
    }
}

#[tokio::test]
async fn a_file_rewritten_to_its_old_length_is_noticed() {
    let world = World::new().await;
    let (provider, _, cursor) = begun(&world, &["one"]).await;
    let text = std::fs::read_to_string(world.bao.audit()).unwrap();
    let last = text.lines().last().unwrap();
    let other = last.replace("\"response\"", "\"RESPONSE\"");
    assert_ne!(last, other);
    std::fs::write(world.bao.audit(), text.replace(last, &other)).unwrap();
    uses(&provider, cursor).await;
    let told = gaps(&provider).await;
    assert!(
        matches!(
            &told[..],
            [AuditGap {
                kind: AuditGapKind::Rewritten,
                ..
            }]
        ),
        "{told:#?}"
    );
}

#[tokio::test]
async fn a_device_that_is_switched_off_is_told_and_no_key_is_used_without_it() {
    let world = World::new().await;
    let file = world.bao.dir.path().join("extra.log");
    let device = json!({"type": "file", "options": {"file_path": file}});
    let path = "sys/audit/extra";
    world.bao.admin("PUT", path, device.clone()).await;
    let all = json!({"policy": "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\"] }"});
    world.bao.admin("POST", "sys/policies/acl/seals", all).await;
    let provider = on_device(&world, file, "extra");
    let key = sealing_key(&provider).await;
    sign(&provider, &key, b"one").await.unwrap();
    assert_eq!(gaps(&provider).await, []);

    world.bao.admin("DELETE", path, Value::Null).await;
    let refused = sign(&provider, &key, b"two").await;
    assert!(
        matches!(&refused, Err(KeyError::Unavailable { reason }) if reason.contains("unknown audit backend")),
        "{refused:?}"
    );
    let told = gaps(&provider).await;
    let [
        AuditGap {
            kind: AuditGapKind::Off,
            evidence,
            ..
        },
    ] = &told[..]
    else {
        panic!("{told:#?}");
    };
    assert!(evidence.contains("\"extra\""), "{evidence}");
    assert_eq!(gaps(&provider).await, told);

    world.bao.admin("PUT", path, device).await;
    sign(&provider, &key, b"three").await.unwrap();
    assert_eq!(gaps(&provider).await, []);
}

fn on_device(world: &World, file: PathBuf, device: &str) -> TransitProvider {
    let audit = Some(AuditSource {
        file,
        device: device.to_owned(),
    });
    let config = TransitConfig {
        audit,
        ..world.config.clone()
    };
    TransitProvider::open(&config).unwrap()
}

#[tokio::test]
async fn an_idle_audit_that_does_not_grow_is_silent_too() {
    let world = World::new().await;
    let copy = world.bao.dir.path().join("copy.log");
    std::fs::copy(world.bao.audit(), &copy).unwrap();
    let provider = reading(&world, copy);
    let told = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let told = gaps(&provider).await;
            if !told.is_empty() {
                return told;
            }
            // bounded poll: the provider asks the server at its own pace.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let told = told.await.unwrap();
    let [
        AuditGap {
            kind: AuditGapKind::Silent,
            count: 0,
            since_ms,
            ..
        },
    ] = &told[..]
    else {
        panic!("{told:#?}");
    };
    assert!(*since_ms > 0);
    assert_eq!(gaps(&provider).await, told, "it stays the same silence");
}
