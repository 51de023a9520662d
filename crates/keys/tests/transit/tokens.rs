//! Tokens that end, are replaced, renewed, or not enough.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use sealwarden_keys::{
    CreateKey, KeyError, KeyProvider, Purpose, TransitProvider,
    transit::{Credentials, TransitConfig},
};
use serde_json::{Value, json};

use crate::{
    server::write_secret,
    support::{PATIENT, World, id, sealing_key, sign},
};

const LOOKUP: &str = "auth/token/lookup-self";
/// Life of a renewable token before its first renewal, seconds.
const LEASE_S: i64 = 3;

/// Waits until the server says so.
async fn soon(what: &str, said: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !said().await {
        assert!(start.elapsed() < PATIENT, "not so: {what}");
        // bounded poll: the server announces neither a token's end nor its renewal.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the server no longer takes the token.
async fn ended(world: &World, token: &str) {
    soon("the token ends", async || {
        let (status, _) = world
            .bao
            .request(token, "", "GET", LOOKUP, Value::Null)
            .await;
        status != 200
    })
    .await;
}

/// The accessors of all tokens that the server knows.
async fn accessors(world: &World) -> BTreeSet<String> {
    let answer = world
        .bao
        .admin("LIST", "auth/token/accessors", Value::Null)
        .await;
    let keys = answer["data"]["keys"].as_array().unwrap();
    let names = keys
        .iter()
        .filter_map(|key| key.as_str().map(str::to_owned));
    names.collect()
}

#[tokio::test]
async fn an_expired_token_is_told_and_a_fresh_one_in_its_file_is_taken() {
    let world = World::new().await;
    let create = json!({"policies": ["seals"], "ttl": "2s", "renewable": false});
    let token = world.bao.token(create.clone()).await;
    write_secret(&world.token_path(), &token);
    let provider = world.provider();
    let key = sealing_key(&provider).await;
    ended(&world, &token).await;
    let expired = sign(&provider, &key, b"x").await;
    let Err(KeyError::Unavailable { reason }) = &expired else {
        panic!("{expired:?}");
    };
    assert!(
        reason.contains("expired") && !reason.contains(&token),
        "{reason}"
    );
    let lasting = world.bao.token(json!({"policies": ["seals"]})).await;
    write_secret(&world.token_path(), &format!("{lasting}\n"));
    sign(&provider, &key, b"x").await.unwrap();
    let revoke = json!({"token": lasting});
    world.bao.admin("POST", "auth/token/revoke", revoke).await;
    let revoked = sign(&provider, &key, b"x").await;
    assert!(
        matches!(revoked, Err(KeyError::Unavailable { .. })),
        "{revoked:?}"
    );
}

#[tokio::test]
async fn a_renewable_token_outlives_its_lease_while_nobody_asks() {
    let world = World::new().await;
    let create = json!({"policies": ["seals"], "ttl": LEASE_S, "renewable": true});
    let token = world.bao.token(create).await;
    write_secret(&world.token_path(), &token);
    let provider = world.provider();
    let key = sealing_key(&provider).await;
    // Renewed when its first lease would be over: without the provider's own renewals it would have ended before.
    soon("the token is renewed past its lease", async || {
        let (_, answer) = world
            .bao
            .request(&token, "", "GET", LOOKUP, Value::Null)
            .await;
        let seconds = |name: &str| answer["data"][name].as_i64();
        let (created, renewed) = (seconds("creation_time"), seconds("last_renewal_time"));
        created
            .zip(renewed)
            .is_some_and(|(created, renewed)| renewed >= created + LEASE_S)
    })
    .await;
    sign(&provider, &key, b"x").await.unwrap();
    let (status, _) = world
        .bao
        .request(&token, "", "GET", "auth/token/lookup-self", Value::Null)
        .await;
    assert_eq!(status, 200, "another token was taken");
}

#[tokio::test]
async fn a_token_without_the_right_is_refused_and_not_called_expired() {
    let world = World::new().await;
    let key = sealing_key(&world.provider()).await;
    let policy = "path \"transit/keys/*\" { capabilities = [\"read\"] }";
    let bao = &world.bao;
    bao.admin("POST", "sys/policies/acl/looks", json!({"policy": policy}))
        .await;
    let reader = bao
        .token_file("reader", json!({"policies": ["looks"]}))
        .await;
    let config = TransitConfig {
        credentials: Credentials::TokenFile(reader),
        audit: None,
        ..world.config.clone()
    };
    let provider = TransitProvider::open(&config).unwrap();
    provider.info(&key).await.unwrap();
    for refused in [
        sign(&provider, &key, b"x").await.map(|_| ()),
        provider
            .create(&CreateKey::ed25519(&id("new"), Purpose::Node))
            .await
            .map(|_| ()),
        provider.disable(&key).await.map(|_| ()),
    ] {
        let Err(KeyError::Refused { reason, .. }) = &refused else {
            panic!("{refused:?}");
        };
        assert!(reason.contains("policies do not allow"), "{reason}");
    }
    // What the server did not do is done here all the same: this folder's provider uses the key no more.
    assert!(sign(&world.provider(), &key, b"x").await.is_err());
}

#[tokio::test]
async fn an_approle_logs_in_and_again_when_its_token_ends() {
    let world = World::new().await;
    let bao = &world.bao;
    bao.admin("POST", "sys/auth/approle", json!({"type": "approle"}))
        .await;
    let role = json!({"token_policies": ["seals"], "token_ttl": "2s", "token_max_ttl": "2s"});
    bao.admin("POST", "auth/approle/role/node", role).await;
    let role_id = bao
        .admin("GET", "auth/approle/role/node/role-id", Value::Null)
        .await;
    let secret = bao
        .admin("POST", "auth/approle/role/node/secret-id", Value::Null)
        .await;
    let secret_id = secret["data"]["secret_id"].as_str().unwrap();
    let secret_id_file = bao.dir.path().join("secret-id");
    write_secret(&secret_id_file, secret_id);
    let config = TransitConfig {
        credentials: Credentials::AppRole {
            mount: "approle".to_owned(),
            role_id: role_id["data"]["role_id"].as_str().unwrap().to_owned(),
            secret_id_file: secret_id_file.clone(),
        },
        ..world.config.clone()
    };
    let before = accessors(&world).await;
    let provider = TransitProvider::open(&config).unwrap();
    let key = sealing_key(&provider).await;
    let logged_in = accessors(&world).await;
    assert!(
        logged_in.difference(&before).count() > 0,
        "no token was made"
    );
    soon("the tokens of the first login end", async || {
        let left = accessors(&world).await;
        logged_in
            .difference(&before)
            .all(|first| !left.contains(first))
    })
    .await;
    sign(&provider, &key, b"x").await.unwrap();
    let accessor = secret["data"]["secret_id_accessor"].as_str().unwrap();
    bao.admin(
        "POST",
        "auth/approle/role/node/secret-id-accessor/destroy",
        json!({"secret_id_accessor": accessor}),
    )
    .await;
    let fresh = TransitProvider::open(&config).unwrap();
    let refused = sign(&fresh, &key, b"x").await;
    let Err(KeyError::Unavailable { reason }) = &refused else {
        panic!("{refused:?}");
    };
    assert!(
        reason.contains("does not log in") && !reason.contains(secret_id),
        "{reason}"
    );
}

#[tokio::test]
async fn a_token_file_open_to_others_is_refused_with_the_remedy() {
    let world = World::new().await;
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(world.token_path(), mode).unwrap();
    let refused = world.provider().info(&id("main-1")).await;
    let Err(KeyError::Unsafe { reason }) = &refused else {
        panic!("{refused:?}");
    };
    assert!(reason.contains("chmod 600"), "{reason}");
}
