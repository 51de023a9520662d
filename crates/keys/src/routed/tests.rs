use std::{path::Path, sync::Arc};

use tempfile::TempDir;

use super::*;
use crate::{
    Guard, SoftwareConfig, SoftwareProvider,
    provider::{KeyState, Purpose},
};

fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

async fn software(root: &Path, name: &str) -> Arc<dyn KeyProvider> {
    let config = SoftwareConfig {
        dir: root.join(name),
        guard: Guard::File(root.join(format!("{name}.guard"))),
    };
    Arc::new(SoftwareProvider::open(config).await.unwrap())
}

/// Two software providers: the routing does not care what they are.
async fn routed(root: &TempDir) -> RoutedProvider {
    RoutedProvider::open(RoutedConfig {
        sealing: software(root.path(), "token").await,
        others: software(root.path(), "keys").await,
        audit_order: root.path().join("token/audit.order"),
    })
    .await
    .unwrap()
}

async fn audit(provider: &dyn KeyProvider, from: u64, page: usize) -> Vec<(String, u64)> {
    let (mut cursor, mut all) = (from, Vec::new());
    loop {
        let lines = provider.audit_after(cursor, page).await.unwrap();
        let Some(last) = lines.last() else { return all };
        assert!(last.cursor > cursor, "the cursor grows");
        cursor = last.cursor;
        all.extend(
            lines
                .into_iter()
                .map(|l| (l.entry.unwrap().key.to_string(), l.cursor)),
        );
    }
}

#[tokio::test]
async fn sealing_keys_are_made_in_one_provider_and_all_others_in_the_other() {
    let root = TempDir::new().unwrap();
    let both = routed(&root).await;
    both.create(&CreateKey::ed25519(&id("main-1"), Purpose::Sealing))
        .await
        .unwrap();
    both.create(&CreateKey::ed25519(&id("node"), Purpose::Node))
        .await
        .unwrap();
    let names = |keys: Vec<KeyInfo>| {
        keys.into_iter()
            .map(|k| k.id.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(both.list().await.unwrap()), ["main-1", "node"]);
    assert_eq!(names(both.sealing.list().await.unwrap()), ["main-1"]);
    assert_eq!(names(both.others.list().await.unwrap()), ["node"]);
    both.sign(&id("main-1"), Purpose::Sealing, b"m")
        .await
        .unwrap();
    both.sign(&id("node"), Purpose::Node, b"m").await.unwrap();
    for (key, wrong) in [("main-1", Purpose::Node), ("node", Purpose::Sealing)] {
        let refused = both.sign(&id(key), wrong, b"m").await;
        assert!(
            matches!(refused, Err(KeyError::WrongPurpose { .. })),
            "{refused:?}"
        );
    }
    let missing = both.sign(&id("other"), Purpose::Node, b"m").await;
    assert_eq!(missing, Err(KeyError::NotFound { id: id("other") }));
    both.disable(&id("main-1")).await.unwrap();
    assert_eq!(
        both.sealing.info(&id("main-1")).await.unwrap().state,
        KeyState::Disabled
    );
}

#[tokio::test]
async fn a_sealing_key_from_before_goes_on_and_is_not_taken_for_a_new_one() {
    let root = TempDir::new().unwrap();
    let before = software(root.path(), "keys").await;
    before
        .create(&CreateKey::ed25519(&id("main-1"), Purpose::Sealing))
        .await
        .unwrap();
    let both = routed(&root).await;
    both.sign(&id("main-1"), Purpose::Sealing, b"m")
        .await
        .unwrap();
    let again = both
        .create(&CreateKey::ed25519(&id("main-1"), Purpose::Sealing))
        .await;
    assert!(matches!(again, Err(KeyError::Refused { .. })), "{again:?}");
    both.create(&CreateKey::ed25519(&id("main-2"), Purpose::Sealing))
        .await
        .unwrap();
    assert_eq!(both.sealing.list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_merged_audit_has_one_order_that_survives_restarts_and_begins_where_the_old_one_was() {
    let root = TempDir::new().unwrap();
    let before = software(root.path(), "keys").await;
    before
        .create(&CreateKey::ed25519(&id("old"), Purpose::Sealing))
        .await
        .unwrap();
    for _ in 0..3 {
        before
            .sign(&id("old"), Purpose::Sealing, b"m")
            .await
            .unwrap();
    }
    let second = before.audit_after(0, 2).await.unwrap()[1].cursor;

    let both = routed(&root).await;
    both.create(&CreateKey::ed25519(&id("new"), Purpose::Sealing))
        .await
        .unwrap();
    let mut seen = audit(&both, second, 1).await;
    assert_eq!(seen.len(), 1, "the line that had not been copied");
    for key in ["new", "old", "new", "new", "old"] {
        both.sign(&id(key), Purpose::Sealing, b"m").await.unwrap();
        let cursor = seen.last().unwrap().1;
        let more = audit(&both, cursor, 2).await;
        assert_eq!(more.len(), 1);
        assert_eq!(more[0].0, key);
        seen.extend(more);
    }
    for page in [1, 2, 100] {
        assert_eq!(audit(&both, second, page).await, seen, "page {page}");
    }
    drop(both);
    let both = routed(&root).await;
    assert_eq!(audit(&both, second, 3).await, seen);
    both.sign(&id("old"), Purpose::Sealing, b"m").await.unwrap();
    both.sign(&id("new"), Purpose::Sealing, b"m").await.unwrap();
    assert_eq!(audit(&both, seen.last().unwrap().1, 1).await.len(), 2);
    assert!(
        both.audit_after(seen.last().unwrap().1, 0)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_torn_step_is_forgotten_and_a_shortened_order_is_corruption() {
    let root = TempDir::new().unwrap();
    let both = routed(&root).await;
    both.create(&CreateKey::ed25519(&id("k"), Purpose::Sealing))
        .await
        .unwrap();
    for _ in 0..2 {
        both.sign(&id("k"), Purpose::Sealing, b"m").await.unwrap();
    }
    let seen = audit(&both, 0, 10).await;
    let path = root.path().join("token/audit.order");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole, [1, 2, 3].as_slice()].concat()).unwrap();
    assert_eq!(audit(&both, 0, 10).await, seen);
    both.sign(&id("k"), Purpose::Sealing, b"m").await.unwrap();
    assert_eq!(audit(&both, 0, 10).await.len(), 3);
    std::fs::write(&path, &whole[..32]).unwrap();
    let result = both.audit_after(seen[1].1, 1).await;
    assert!(
        matches!(result, Err(KeyError::Corrupt { .. })),
        "{result:?}"
    );
}
