//! A server that is sealed, gone, slow or not the one meant.

use std::time::{Duration, Instant};

use sealwarden_keys::{
    KeyError, KeyProvider, Signature, TransitProvider,
    transit::{AuditSource, Credentials, TransitConfig, TransitError},
};

use crate::{
    server::{Bao, free_port, write_tls},
    support::{Proxy, World, id, sealing_key, sign},
};

fn unavailable(answer: &Result<Signature, KeyError>) -> &str {
    match answer {
        Err(KeyError::Unavailable { reason }) => reason,
        other => panic!("{other:?} instead of unavailable"),
    }
}

#[tokio::test]
async fn a_server_sealed_in_mid_use_says_so_and_signs_again_once_unsealed() {
    let world = World::new().await;
    let provider = world.provider();
    let key = sealing_key(&provider).await;
    sign(&provider, &key, b"before").await.unwrap();
    assert_eq!(provider.health().await, Ok(()));
    world.bao.seal().await;
    let sealed = sign(&provider, &key, b"sealed").await;
    assert!(unavailable(&sealed).contains("is sealed"), "{sealed:?}");
    let health = provider.health().await;
    assert!(
        matches!(health, Err(TransitError::Sealed { .. })),
        "{health:?}"
    );
    world.bao.unseal().await;
    sign(&provider, &key, b"after").await.unwrap();
}

#[tokio::test]
async fn a_killed_server_cannot_be_reached_and_comes_back_with_its_keys() {
    let mut world = World::on(Bao::on_disk().await).await;
    let provider = world.provider();
    let key = sealing_key(&provider).await;
    let signature = sign(&provider, &key, b"checkpoint").await.unwrap();
    world.bao.kill();
    let killed = sign(&provider, &key, b"checkpoint").await;
    assert!(
        unavailable(&killed).contains("cannot be reached"),
        "{killed:?}"
    );
    let health = provider.health().await;
    assert!(
        matches!(health, Err(TransitError::Unreachable { .. })),
        "{health:?}"
    );
    world.bao.restart().await;
    let sealed = sign(&provider, &key, b"checkpoint").await;
    assert!(unavailable(&sealed).contains("is sealed"), "{sealed:?}");
    world.bao.unseal().await;
    assert_eq!(sign(&provider, &key, b"checkpoint").await, Ok(signature));
}

#[tokio::test]
async fn a_stalled_server_costs_a_deadline_and_no_more() {
    let world = World::new().await;
    let proxy = Proxy::before(world.bao.port).await;
    let key = sealing_key(&world.provider()).await;
    let deadline = Duration::from_secs(2);
    let config = TransitConfig {
        url: format!("https://127.0.0.1:{}", proxy.port),
        deadline,
        ..world.config.clone()
    };
    let provider = TransitProvider::open(&config).unwrap();
    sign(&provider, &key, b"before").await.unwrap();
    proxy.stall(true);
    let start = Instant::now();
    let slow = sign(&provider, &key, b"slow").await;
    assert_eq!(
        slow,
        Err(KeyError::Timeout {
            id: key.clone(),
            deadline_ms: 2000
        })
    );
    assert!(start.elapsed() < deadline * 4, "{:?}", start.elapsed());
    let health = provider.health().await;
    assert!(
        matches!(health, Err(TransitError::Timeout { .. })),
        "{health:?}"
    );
    proxy.stall(false);
    sign(&provider, &key, b"after").await.unwrap();
}

#[tokio::test]
async fn a_server_of_another_authority_gets_no_token() {
    let world = World::new().await;
    let other = tempfile::tempdir().unwrap();
    write_tls(other.path());
    let config = TransitConfig {
        ca_file: other.path().join("ca.pem"),
        ..world.config.clone()
    };
    let provider = TransitProvider::open(&config).unwrap();
    let health = provider.health().await;
    assert!(
        matches!(health, Err(TransitError::Tls { .. })),
        "{health:?}"
    );
    let refused = provider.info(&id("main-1")).await.unwrap_err().to_string();
    assert!(refused.contains("TLS"), "{refused}");
    let audit = std::fs::read_to_string(world.bao.audit()).unwrap();
    assert!(!audit.contains("transit/keys/sealing-main-1"));
}

#[tokio::test]
async fn settings_that_cannot_be_meant_are_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    write_tls(dir.path());
    let good = TransitConfig {
        url: format!("https://127.0.0.1:{}", free_port()),
        ca_file: dir.path().join("ca.pem"),
        credentials: Credentials::TokenFile(dir.path().join("token")),
        credentials_namespace: String::new(),
        namespace: String::new(),
        mount: "transit".to_owned(),
        state_dir: dir.path().join("state"),
        audit: None,
        deadline: Duration::from_secs(1),
    };
    let audited = Some(AuditSource {
        file: dir.path().join("audit.log"),
        device: "file".to_owned(),
    });
    drop(TransitProvider::open(&good).unwrap());
    let bad = [
        TransitConfig {
            url: good.url.replace("https", "http"),
            ..good.clone()
        },
        TransitConfig {
            url: format!("{}/v1", good.url),
            ..good.clone()
        },
        TransitConfig {
            mount: "a/../sys".to_owned(),
            ..good.clone()
        },
        TransitConfig {
            mount: String::new(),
            ..good.clone()
        },
        TransitConfig {
            namespace: "a b".to_owned(),
            ..good.clone()
        },
        TransitConfig {
            ca_file: dir.path().join("tls.key"),
            ..good.clone()
        },
        TransitConfig {
            ca_file: dir.path().join("none"),
            ..good.clone()
        },
        TransitConfig {
            credentials_namespace: "team".to_owned(),
            audit: audited,
            ..good
        },
    ];
    for config in bad {
        let refused = TransitProvider::open(&config).map(|_| ());
        assert!(
            matches!(refused, Err(KeyError::Unsafe { .. })),
            "{config:?}: {refused:?}"
        );
    }
}
