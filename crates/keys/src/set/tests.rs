mod audits;
mod keys;
mod outages;

use std::{path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;

use super::*;
use crate::{
    Guard, HealthState, SoftwareConfig, SoftwareProvider,
    faults::{FaultSwitch, FaultyProvider},
    set::breaker::BreakerConfig,
};

fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

fn sealing(name: &str) -> CreateKey {
    CreateKey::ed25519(&id(name), Purpose::Sealing)
}

fn in_member(name: &str, member: &str) -> CreateKey {
    CreateKey {
        provider: Some(member.to_owned()),
        ..sealing(name)
    }
}

async fn software(root: &Path, name: &str) -> Arc<dyn KeyProvider> {
    let config = SoftwareConfig {
        dir: root.join(name),
        guard: Guard::File(root.join(format!("{name}.guard"))),
    };
    Arc::new(SoftwareProvider::open(config).await.unwrap())
}

fn member(name: &str, provider: Arc<dyn KeyProvider>) -> MemberConfig {
    opened_by(name, Arc::new(Opened(provider)))
}

fn opened_by(name: &str, opener: Arc<dyn Opener>) -> MemberConfig {
    MemberConfig {
        name: name.to_owned(),
        opener,
        deadline: Duration::from_millis(300),
        probe_every: Duration::from_hours(1),
        in_flight: 4,
        breaker: BreakerConfig {
            failures: 2,
            slow_ms: 250,
            pause_ms: 20,
            longest_pause_ms: 40,
            good_probes: 2,
            ..BreakerConfig::default()
        },
    }
}

/// Two faulty members and the provider of all other keys, in three folders.
struct World {
    root: TempDir,
    faults: [FaultSwitch; 2],
    members: Vec<MemberConfig>,
}

impl World {
    async fn new() -> Self {
        let root = TempDir::new().unwrap();
        let (first, first_fault) = FaultyProvider::new(software(root.path(), "first").await);
        let (second, second_fault) = FaultyProvider::new(software(root.path(), "second").await);
        Self {
            members: vec![
                member("first", Arc::new(first)),
                member("second", Arc::new(second)),
            ],
            faults: [first_fault, second_fault],
            root,
        }
    }

    async fn config(&self) -> SetConfig {
        SetConfig {
            members: self.members.clone(),
            others: software(self.root.path(), "keys").await,
            dir: self.root.path().join("set"),
            earlier: None,
        }
    }

    async fn open(&self) -> FailoverSet {
        FailoverSet::open(self.config().await).await.unwrap()
    }

    async fn refusal(&self) -> KeyError {
        match FailoverSet::open(self.config().await).await {
            Ok(_) => panic!("the set opened"),
            Err(error) => error,
        }
    }
}

/// Waits until a member's breaker is in `state`.
async fn reaches(set: &FailoverSet, member: &str, state: &str) {
    for _ in 0..2_000 {
        if set.health(member).unwrap().state.as_str() == state {
            return;
        }
        // bounded poll: the breaker tells nobody when it changes
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{member} is not {state}: {:?}", set.health(member));
}
