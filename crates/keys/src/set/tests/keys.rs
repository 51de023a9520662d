//! Where keys are made and found, and that one key never has two roles.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::{Algorithm, provider::KeyState};

fn names(keys: &[KeyInfo]) -> Vec<(String, String)> {
    let named = |key: &KeyInfo| (key.id.to_string(), key.provider.clone());
    keys.iter().map(named).collect()
}

#[tokio::test]
async fn sealing_keys_are_made_where_it_is_said_and_all_others_in_their_own_provider() {
    let world = World::new().await;
    let set = world.open().await;
    assert_eq!(set.sealing_providers(), ["first", "second"]);
    set.create(&sealing("main-1")).await.unwrap();
    set.create(&in_member("main-2", "second")).await.unwrap();
    let node = CreateKey::ed25519(&id("node"), Purpose::Node);
    set.create(&node).await.unwrap();
    let expected = [
        ("main-1", "first"),
        ("main-2", "second"),
        ("node", "software"),
    ];
    let expected = expected.map(|(key, provider)| (key.to_owned(), provider.to_owned()));
    assert_eq!(names(&set.list().await.unwrap()), expected);

    for (key, purpose, wrong) in [
        ("main-1", Purpose::Sealing, Purpose::Node),
        ("main-2", Purpose::Sealing, Purpose::Signing),
        ("node", Purpose::Node, Purpose::Sealing),
    ] {
        set.sign(&id(key), purpose, b"m").await.unwrap();
        let refused = set.sign(&id(key), wrong, b"m").await;
        assert!(
            matches!(refused, Err(KeyError::WrongPurpose { .. })),
            "{refused:?}"
        );
    }
    let missing = set.sign(&id("other"), Purpose::Node, b"m").await;
    assert_eq!(missing, Err(KeyError::NotFound { id: id("other") }));
    let unknown = set.create(&in_member("main-3", "third")).await.unwrap_err();
    assert!(unknown.to_string().contains("first, second"), "{unknown}");
    set.disable(&id("main-2")).await.unwrap();
    assert_eq!(
        set.info(&id("main-2")).await.unwrap().state,
        KeyState::Disabled
    );
    assert_eq!(
        set.restore(&id("main-2")).await.unwrap().state,
        KeyState::Active
    );
    assert_eq!(
        set.info(&id("main-2")).await.unwrap().state,
        KeyState::Active
    );
    drop(set);
    assert_eq!(names(&world.open().await.list().await.unwrap()), expected);
}

#[tokio::test]
async fn a_post_quantum_key_goes_to_the_first_provider_that_can_make_it() {
    let world = World::new().await;
    let set = world.open().await;
    let key = CreateKey {
        algorithm: Algorithm::MlDsa44,
        ..sealing("main-1.pq")
    };
    let made = set.create(&key).await.unwrap();
    assert_eq!(
        (made.algorithm(), made.provider.as_str()),
        (Algorithm::MlDsa44, "first")
    );
    // By the name of the provider of all other keys, although that is not in the list.
    let key = CreateKey {
        algorithm: Algorithm::MlDsa44,
        ..in_member("main-2.pq", "software")
    };
    let made = set.create(&key).await.unwrap();
    assert_eq!(made.provider, "software");
    let signature = set.sign(&key.id, Purpose::Sealing, b"m").await.unwrap();
    assert_eq!(signature.algorithm(), Algorithm::MlDsa44);
}

#[tokio::test]
async fn a_name_is_taken_wherever_the_key_is() {
    let world = World::new().await;
    let before = software(world.root.path(), "keys").await;
    before.create(&sealing("old-1")).await.unwrap();
    let set = world.open().await;
    // A sealing key from before the list goes on, and is not taken for a new one.
    set.sign(&id("old-1"), Purpose::Sealing, b"m")
        .await
        .unwrap();
    let again = set.create(&sealing("old-1")).await;
    assert!(matches!(again, Err(KeyError::Refused { .. })), "{again:?}");
    set.create(&sealing("main-1")).await.unwrap();
    let same = set.create(&sealing("main-1")).await;
    assert_eq!(same, Err(KeyError::AlreadyExists { id: id("main-1") }));
    for other in [
        in_member("main-1", "second"),
        CreateKey::ed25519(&id("main-1"), Purpose::Signing),
    ] {
        let refused = set.create(&other).await;
        assert!(
            matches!(refused, Err(KeyError::Refused { .. })),
            "{refused:?}"
        );
    }
}

/// Copies a key file by hand into another provider's folder. Both folders have the same guard.
fn with_a_copied_key(world: &World, from: &str, to: &str) {
    let root = world.root.path().to_owned();
    for file in ["guard-check.json", "sealing.key.json"] {
        let to = root.join(to);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(root.join(from).join(file), to.join(file)).unwrap();
    }
}

#[tokio::test]
async fn one_key_in_two_roles_keeps_the_service_from_starting() {
    let mut world = World::new().await;
    let root = world.root.path().to_owned();
    let one = software(&root, "one").await;
    one.create(&sealing("sealing")).await.unwrap();
    std::fs::copy(root.join("one.guard"), root.join("two.guard")).unwrap();
    std::fs::create_dir_all(root.join("two")).unwrap();
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(root.join("two"), private).unwrap();
    std::fs::copy(root.join("one/audit.log"), root.join("two/audit.log")).unwrap();
    with_a_copied_key(&world, "one", "two");
    let two = software(&root, "two").await;
    world.members = vec![member("one", one), member("two", two)];
    let refused = world.refusal().await;
    assert!(
        refused
            .to_string()
            .contains("sealing key of this name is in the one provider"),
        "{refused}"
    );
}

/// A provider that gives one key under every name, as a broken or a dishonest one would.
struct OneKey(Arc<dyn KeyProvider>);

#[async_trait]
impl KeyProvider for OneKey {
    fn name(&self) -> &'static str {
        "one-key"
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    async fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        self.info(&key.id).await
    }

    async fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        let info = self.0.info(&super::id("signing")).await?;
        Ok(KeyInfo {
            id: id.clone(),
            purpose: Purpose::Sealing,
            ..info
        })
    }

    async fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        Ok(Vec::new())
    }

    async fn sign(&self, _: &KeyId, _: Purpose, m: &[u8]) -> Result<Signature, KeyError> {
        self.0.sign(&id("signing"), Purpose::Signing, m).await
    }

    async fn disable(&self, _: &KeyId) -> Result<DisableOutcome, KeyError> {
        Ok(DisableOutcome::Disabled)
    }

    async fn restore(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.info(id).await
    }

    async fn destroy(&self, _: &KeyId) -> Result<DisableOutcome, KeyError> {
        Ok(DisableOutcome::Disabled)
    }

    async fn audit_after(&self, _: u64, _: usize) -> Result<Vec<AuditLine>, KeyError> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn a_sealing_key_that_is_the_signing_key_is_refused_at_creation() {
    let mut world = World::new().await;
    let others = software(world.root.path(), "keys").await;
    let signing = CreateKey::ed25519(&id("signing"), Purpose::Signing);
    others.create(&signing).await.unwrap();
    world.members = vec![member("bad", Arc::new(OneKey(Arc::clone(&others))))];
    let set = world.open().await;
    let refused = set.create(&sealing("main-1")).await.unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("the same key as the signing key signing of the software provider"),
        "{text}"
    );
    let unknown = set.sign(&id("main-1"), Purpose::Sealing, b"m").await;
    assert!(unknown.is_err(), "a refused key does not sign: {unknown:?}");
}

#[tokio::test]
async fn names_and_breakers_that_make_no_set_are_refused() {
    let world = World::new().await;
    let spare = || world.members[0].clone();
    let named = |name: &str| MemberConfig {
        name: name.to_owned(),
        ..spare()
    };
    for (members, wanted) in [
        (vec![], "0 providers"),
        (vec![spare(), spare()], "two key providers are named first"),
        (vec![named("HSM one")], "\"HSM one\" is no name"),
        (vec![named("software")], "choose another one"),
        (
            vec![MemberConfig {
                breaker: BreakerConfig {
                    failures: 0,
                    ..BreakerConfig::default()
                },
                ..spare()
            }],
            "key provider first: failures 0",
        ),
    ] {
        let config = SetConfig {
            members,
            ..world.config().await
        };
        let error = match FailoverSet::open(config).await {
            Ok(_) => panic!("{wanted}: the set opened"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(wanted), "{error}");
    }
}

#[tokio::test]
async fn a_renamed_provider_keeps_its_keys() {
    let mut world = World::new().await;
    let set = world.open().await;
    set.create(&sealing("main-1")).await.unwrap();
    drop(set);
    world.members[0].name = "renamed".to_owned();
    let set = world.open().await;
    assert_eq!(set.info(&id("main-1")).await.unwrap().provider, "renamed");
    set.sign(&id("main-1"), Purpose::Sealing, b"m")
        .await
        .unwrap();
}
