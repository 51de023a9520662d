//! From creation to destruction.

use sealwarden_keys::{
    Algorithm, Attestation, CreateKey, DisableOutcome, KeyError, KeyProvider, KeyState, Purpose,
    TransitProvider, transit::TransitConfig,
};
use serde_json::{Value, json};

use crate::support::{World, id, sealing_key, sign};

#[tokio::test]
async fn a_key_is_made_described_and_used_for_its_purpose_only() {
    let world = World::new().await;
    let provider = world.provider();
    let key = id("main-1");
    assert_eq!(
        provider.info(&key).await,
        Err(KeyError::NotFound { id: key.clone() })
    );
    assert_eq!(provider.list().await.unwrap(), []);
    let made = provider
        .create(&CreateKey::ed25519(&key, Purpose::Sealing))
        .await
        .unwrap();
    assert_eq!(
        (made.state, made.purpose),
        (KeyState::Active, Purpose::Sealing)
    );
    assert_eq!(provider.info(&key).await.unwrap(), made);
    let Attestation::Document { format, bytes } = &made.attestation else {
        panic!("the server's description is not kept: {made:?}")
    };
    assert_eq!(format, "transit-key-metadata-v1");
    let said: Value = serde_json::from_slice(bytes).unwrap();
    for field in ["exportable", "allow_plaintext_backup", "imported_key"] {
        assert_eq!(said[field], false, "{said}");
    }
    assert!(said["keys"]["1"]["public_key"].is_string(), "{said}");
    assert_eq!(world.elsewhere("other").info(&key).await.unwrap(), made);
    for purpose in [Purpose::Sealing, Purpose::Node] {
        let again = provider.create(&CreateKey::ed25519(&key, purpose)).await;
        assert_eq!(again, Err(KeyError::AlreadyExists { id: key.clone() }));
    }
    let node = provider
        .create(&CreateKey::ed25519(&id("a.b"), Purpose::Node))
        .await
        .unwrap();
    assert_eq!(provider.list().await.unwrap(), [node, made]);

    let signature = sign(&provider, &key, b"checkpoint").await.unwrap();
    assert_eq!(
        sign(&world.elsewhere("other"), &key, b"checkpoint").await,
        Ok(signature)
    );
    let wrong = provider.sign(&key, Purpose::Node, b"x").await;
    assert!(
        matches!(wrong, Err(KeyError::WrongPurpose { .. })),
        "{wrong:?}"
    );
    let missing = sign(&provider, &id("none"), b"x").await;
    assert!(
        matches!(missing, Err(KeyError::NotFound { .. })),
        "{missing:?}"
    );
    let post_quantum = CreateKey {
        algorithm: Algorithm::MlDsa44,
        ..CreateKey::ed25519(&id("pq"), Purpose::Sealing)
    };
    let refused = provider.create(&post_quantum).await;
    assert!(
        matches!(refused, Err(KeyError::Unsupported { .. })),
        "{refused:?}"
    );
    let unnamed = provider
        .create(&CreateKey::ed25519(&id("ends-"), Purpose::Node))
        .await;
    assert!(
        matches!(unnamed, Err(KeyError::Refused { .. })),
        "{unnamed:?}"
    );
}

#[tokio::test]
async fn a_disabled_key_signs_for_nobody_until_it_is_restored() {
    let world = World::new().await;
    let provider = world.provider();
    let key = sealing_key(&provider).await;
    let elsewhere = world.elsewhere("other");
    sign(&elsewhere, &key, b"before").await.unwrap();
    for _ in 0..2 {
        assert_eq!(provider.disable(&key).await, Ok(DisableOutcome::Disabled));
    }
    assert_eq!(provider.info(&key).await.unwrap().state, KeyState::Disabled);
    assert_eq!(
        elsewhere.info(&key).await.unwrap().state,
        KeyState::Disabled
    );
    assert_eq!(world.rogue("sealing-main-1", b"forged").await, 500);
    for provider in [&provider, &elsewhere] {
        let refused = sign(provider, &key, b"after").await;
        assert!(
            matches!(refused, Err(KeyError::Refused { .. })),
            "{refused:?}"
        );
    }

    // Whoever restores it on the server has not restored it here.
    let path = "transit/keys/sealing-main-1/soft-delete-restore";
    world.bao.admin("POST", path, Value::Null).await;
    let refused = sign(&world.provider(), &key, b"after").await;
    assert!(
        matches!(refused, Err(KeyError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(
        provider.restore(&key).await.unwrap().state,
        KeyState::Active
    );
    sign(&provider, &key, b"after").await.unwrap();
}

#[tokio::test]
async fn a_destroyed_key_is_gone_and_its_public_part_and_name_are_kept() {
    let world = World::new().await;
    let provider = world.provider();
    let key = sealing_key(&provider).await;
    let before = provider.info(&key).await.unwrap();
    provider.disable(&key).await.unwrap();
    for _ in 0..2 {
        assert_eq!(provider.destroy(&key).await, Ok(DisableOutcome::Disabled));
    }
    let (root, path) = (&world.bao.root, "transit/keys/sealing-main-1");
    assert_eq!(
        world
            .bao
            .request(root, "", "GET", path, Value::Null)
            .await
            .0,
        404
    );
    let again = world.provider();
    let after = again.info(&key).await.unwrap();
    assert_eq!(
        (&after.public_key, after.state),
        (&before.public_key, KeyState::Destroyed)
    );
    assert_eq!(again.list().await.unwrap(), [after]);
    let refused = sign(&again, &key, b"x").await;
    assert!(
        matches!(refused, Err(KeyError::Refused { .. })),
        "{refused:?}"
    );
    let reused = again
        .create(&CreateKey::ed25519(&key, Purpose::Sealing))
        .await;
    assert_eq!(reused, Err(KeyError::AlreadyExists { id: key.clone() }));
    assert!(again.restore(&key).await.is_err());
    assert_eq!(again.disable(&key).await, Ok(DisableOutcome::Disabled));
    let unknown = again.destroy(&id("none")).await;
    assert_eq!(unknown, Err(KeyError::NotFound { id: id("none") }));
}

#[tokio::test]
async fn a_key_that_somebody_changed_on_the_server_is_not_used() {
    let world = World::new().await;
    let (provider, bao) = (world.provider(), &world.bao);
    let made = |name: &'static str, body: Value| async move {
        bao.admin("POST", &format!("transit/keys/{name}"), body)
            .await;
    };
    made("sealing-ec", json!({"type": "ecdsa-p256"})).await;
    let other = provider.info(&id("ec")).await;
    assert!(matches!(other, Err(KeyError::Corrupt { .. })), "{other:?}");

    for key in ["rotated", "replaced", "copied", "deleted"] {
        provider
            .create(&CreateKey::ed25519(&id(key), Purpose::Sealing))
            .await
            .unwrap();
        sign(&provider, &id(key), b"before").await.unwrap();
    }
    bao.admin("POST", "transit/keys/sealing-rotated/rotate", Value::Null)
        .await;
    for key in ["replaced", "deleted"] {
        let path = format!("transit/keys/sealing-{key}");
        bao.admin(
            "POST",
            &format!("{path}/config"),
            json!({"deletion_allowed": true}),
        )
        .await;
        bao.admin("DELETE", &path, Value::Null).await;
    }
    made("sealing-replaced", json!({"type": "ed25519"})).await;
    for key in ["rotated", "replaced", "deleted"] {
        let changed = provider.info(&id(key)).await;
        assert!(
            matches!(changed, Err(KeyError::Corrupt { .. })),
            "{key}: {changed:?}"
        );
    }
    let replaced = sign(&provider, &id("replaced"), b"after").await;
    assert!(
        matches!(replaced, Err(KeyError::Corrupt { .. })),
        "{replaced:?}"
    );
    let deleted = sign(&provider, &id("deleted"), b"after").await;
    assert!(
        matches!(deleted, Err(KeyError::Refused { .. })),
        "{deleted:?}"
    );

    // A rotated key can still be stopped; what is said of it stays modest.
    let stopped = provider.disable(&id("rotated")).await.unwrap();
    assert!(
        matches!(stopped, DisableOutcome::LocalOnly { .. }),
        "{stopped:?}"
    );
    assert_eq!(world.rogue("sealing-rotated", b"forged").await, 500);

    bao.admin(
        "POST",
        "transit/keys/sealing-copied/config",
        json!({"exportable": true}),
    )
    .await;
    let copied = sign(&world.elsewhere("other"), &id("copied"), b"after").await;
    assert!(
        matches!(copied, Err(KeyError::Refused { .. })),
        "{copied:?}"
    );
    let stopped = provider.disable(&id("copied")).await.unwrap();
    assert!(
        matches!(stopped, DisableOutcome::LocalOnly { .. }),
        "{stopped:?}"
    );
}

#[tokio::test]
async fn a_mount_in_a_namespace_is_another_mount() {
    let world = World::new().await;
    let (root, bao) = (&world.bao.root, &world.bao);
    bao.admin("POST", "sys/namespaces/team", Value::Null).await;
    let mounted = bao
        .request(
            root,
            "team",
            "POST",
            "sys/mounts/keys/transit",
            json!({"type": "transit"}),
        )
        .await;
    assert_eq!(mounted.0, 204);
    let token = world.token_path().with_file_name("root-token");
    crate::server::write_secret(&token, root);
    let config = TransitConfig {
        namespace: "team".to_owned(),
        mount: "keys/transit".to_owned(),
        credentials: sealwarden_keys::transit::Credentials::TokenFile(token),
        state_dir: bao.dir.path().join("team"),
        ..world.config.clone()
    };
    let provider = TransitProvider::open(&config).unwrap();
    let key = sealing_key(&provider).await;
    sign(&provider, &key, b"in a namespace").await.unwrap();
    let lines = provider.audit_after(0, 10).await.unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(world.provider().list().await.unwrap(), []);
    assert_eq!(world.provider().audit_after(0, 10).await.unwrap(), []);
}
