//! No sealing key is ever used without an intent that was durable before: whatever signers do, whatever the event log answers, whatever is restarted in between.

use super::pair::{HSM, SPARE, opened, set_of};
use super::rig::{ORIGIN, Rig, World, called_by, soon};
use async_trait::async_trait;
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use prost::Message as _;
use ring::digest::{SHA256, digest};
use sealwarden_domain::log_control::Origin;
use sealwarden_engine::{StreamName, decode};
use sealwarden_eventlog::{
    AppendError, EventLog, Filter, Head, Memory, NewCommit, ReadError, Recorded, Subscription,
};
use sealwarden_keys::faults::FaultSwitch;
use sealwarden_keys::{
    AuditLine, BreakerConfig, Capabilities, CreateKey, DisableOutcome, KeyError, KeyId, KeyInfo,
    KeyProvider, Purpose, Signature,
};
use sealwarden_pki::CallerRole;
use sealwarden_seal::note::Vkey;
use sealwarden_seal::seal::Seal;
use sealwarden_wire::event::v1::{Commit, IntentRecorded, event::Kind};
use sealwarden_wire::seal::v1::SealRequest;
use sealwarden_wire::seal::v1::sealing_server::Sealing as _;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a provider may take for a call, and how long a step of a test waits for what may never come.
const DEADLINE: Duration = Duration::from_millis(150);
const A_WHILE: Duration = Duration::from_millis(700);

/// What a key provider does when it is asked to sign.
#[derive(Clone, Copy, Debug)]
enum Whim {
    Signs,
    Fails,
    /// It uses the key, and says that it could not.
    LosesTheAnswer,
    Hangs,
    /// It signs something else.
    Lies,
    /// It signs after nobody waits any more.
    IsLate,
    Panics,
}

/// What the event log answers when an intent is to be recorded.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Stored,
    Conflict,
    StoredUnknown,
    Lost,
    Unavailable,
}

/// How often a seal is asked for when all is well again.
const TRIES: usize = 20;

/// One document, and what goes wrong with it.
#[derive(Clone, Debug)]
struct Step {
    whims: Vec<Whim>,
    answers: Vec<Answer>,
    /// The process dies after it.
    dies: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use Answer::{Conflict, Lost, Stored, StoredUnknown, Unavailable};
    use Whim::{Fails, Hangs, IsLate, Lies, LosesTheAnswer, Panics, Signs};
    let whim = prop::sample::select(vec![
        Signs,
        Fails,
        LosesTheAnswer,
        Hangs,
        Lies,
        IsLate,
        Panics,
    ]);
    let answer = prop::sample::select(vec![Stored, Conflict, StoredUnknown, Lost, Unavailable]);
    let step = (
        prop::collection::vec(whim, 0..4),
        prop::collection::vec(answer, 0..4),
        any::<bool>(),
    );
    let step = step.prop_map(|(whims, answers, dies)| Step {
        whims,
        answers,
        dies,
    });
    prop::collection::vec(step, 1..5)
}

/// The event log and the keys' whims: they outlive the process.
struct Fate {
    log: Memory,
    answers: Mutex<VecDeque<Answer>>,
    whims: Mutex<VecDeque<Whim>>,
    /// Uses of a sealing key: whether an intent for exactly these bytes was durable when it was asked for.
    uses: Mutex<Vec<bool>>,
}

impl Fate {
    /// What was ever intended, by what is stored, past all faults.
    async fn intents(&self) -> Vec<IntentRecorded> {
        let name = StreamName::new("log", "main").unwrap();
        let mut intents = Vec::new();
        let mut after = 0;
        loop {
            let page = self.log.read(&name, after, 512).await.unwrap();
            let Some(last) = page.last() else {
                return intents;
            };
            after = last.position;
            let events = page.iter().flat_map(|it| decode(it).unwrap().events);
            intents.extend(events.filter_map(|event| match event.kind {
                Some(Kind::IntentRecorded(intent)) => Some(intent),
                _ => None,
            }));
        }
    }

    async fn note_use(&self, message: &[u8]) {
        let wanted = digest(&SHA256, message);
        let intents = self.intents().await;
        let intended = intents
            .iter()
            .any(|it| it.message_sha256 == wanted.as_ref());
        self.uses.lock().unwrap().push(intended);
    }
}

#[async_trait]
impl EventLog for Fate {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Head,
        commit: NewCommit,
    ) -> Result<Recorded, AppendError> {
        let said = Commit::decode(commit.payload.clone()).unwrap();
        let is_intent = |event: &sealwarden_wire::event::v1::Event| {
            matches!(event.kind, Some(Kind::IntentRecorded(_)))
        };
        let answer = said
            .events
            .iter()
            .any(is_intent)
            .then(|| self.answers.lock().unwrap().pop_front());
        let reason = || "as the test wants it".to_owned();
        match answer.flatten().unwrap_or(Answer::Stored) {
            Answer::Stored => self.log.append(stream, expected, commit).await,
            Answer::Conflict => Err(AppendError::Conflict {
                head: self.log.head(stream).await.unwrap(),
            }),
            Answer::StoredUnknown => {
                self.log.append(stream, expected, commit).await?;
                Err(AppendError::Unknown { reason: reason() })
            }
            Answer::Lost => Err(AppendError::Unknown { reason: reason() }),
            Answer::Unavailable => Err(AppendError::Unavailable { reason: reason() }),
        }
    }

    async fn read(
        &self,
        stream: &StreamName,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Recorded>, ReadError> {
        self.log.read(stream, after, limit).await
    }

    async fn head(&self, stream: &StreamName) -> Result<Head, ReadError> {
        self.log.head(stream).await
    }

    async fn subscribe(&self, filter: Filter, after: u64) -> Result<Subscription, ReadError> {
        self.log.subscribe(filter, after).await
    }

    async fn last_position(&self) -> Result<u64, ReadError> {
        self.log.last_position().await
    }
}

/// A provider with whims. It looks for the intent before it does anything.
struct Whimsical {
    inner: Arc<dyn KeyProvider>,
    fate: Arc<Fate>,
}

#[async_trait]
impl KeyProvider for Whimsical {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn create(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        self.inner.create(key).await
    }

    async fn info(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.inner.info(id).await
    }

    async fn list(&self) -> Result<Vec<KeyInfo>, KeyError> {
        self.inner.list().await
    }

    async fn sign(
        &self,
        id: &KeyId,
        purpose: Purpose,
        message: &[u8],
    ) -> Result<Signature, KeyError> {
        if purpose != Purpose::Sealing {
            return self.inner.sign(id, purpose, message).await;
        }
        self.fate.note_use(message).await;
        let whim = self.fate.whims.lock().unwrap().pop_front();
        let unavailable = || KeyError::Unavailable {
            reason: "as the test wants it".to_owned(),
        };
        match whim.unwrap_or(Whim::Signs) {
            Whim::Signs => self.inner.sign(id, purpose, message).await,
            Whim::Fails => Err(unavailable()),
            Whim::LosesTheAnswer => {
                self.inner.sign(id, purpose, message).await?;
                Err(unavailable())
            }
            Whim::Hangs => std::future::pending().await,
            Whim::Lies => self.inner.sign(id, purpose, b"something else").await,
            Whim::IsLate => {
                // bounded poll: none; being late takes its time.
                tokio::time::sleep(DEADLINE * 2).await;
                self.fate.note_use(message).await;
                self.inner.sign(id, purpose, message).await
            }
            Whim::Panics => panic!("as the test wants it"),
        }
    }

    async fn disable(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.inner.disable(id).await
    }

    async fn destroy(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        self.inner.destroy(id).await
    }

    async fn restore(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        self.inner.restore(id).await
    }

    async fn audit_after(&self, cursor: u64, limit: usize) -> Result<Vec<AuditLine>, KeyError> {
        self.inner.audit_after(cursor, limit).await
    }
}

async fn start(world: &World, fate: &Arc<Fate>) -> Rig {
    let mut members: Vec<(&str, Arc<dyn KeyProvider>)> = Vec::new();
    for name in [HSM, SPARE] {
        let inner = opened(&world.dir.path().join(name)).await;
        let fate = Arc::clone(fate);
        members.push((name, Arc::new(Whimsical { inner, fate })));
    }
    // It never opens: each whim is to be felt.
    let breaker = BreakerConfig {
        failures: 1_000,
        ..BreakerConfig::default()
    };
    let keys = set_of(world.dir.path(), members, (DEADLINE, breaker)).await;
    let rig = Rig::start_on(world, Rig::config(), Arc::new(keys), FaultSwitch::default()).await;
    rig.until(|log| log.current()?.signer("main-1-b").map(drop))
        .await;
    rig
}

/// Asks for one seal, and waits a while.
async fn try_to_seal(rig: &Rig, number: u8) -> Option<Seal> {
    let request = SealRequest {
        digest_algorithm: "sha-256".to_owned(),
        digest: vec![number; 32].into(),
        ..SealRequest::default()
    };
    let asked = rig.grpc.seal(called_by(CallerRole::Sealer, request));
    let answered = tokio::time::timeout(A_WHILE, asked).await.ok()?.ok()?;
    Some(Seal::parse(&answered.into_inner().seal).unwrap())
}

/// Goes through the steps; every seal that was acknowledged, and the origin at the end.
async fn live(world: &World, fate: &Arc<Fate>, steps: &[Step]) -> (Vec<Seal>, Origin) {
    let mut seals = Vec::new();
    let mut rig = start(world, fate).await;
    rig.publish_trust(1).await;
    for (number, step) in (0_u8..).zip(steps) {
        rig.ready_or_broken().await;
        fate.whims.lock().unwrap().extend(&step.whims);
        fate.answers.lock().unwrap().extend(&step.answers);
        seals.extend(try_to_seal(&rig, number).await);
        let is_broken = rig.service.broken.borrow().is_some();
        if step.dies || is_broken {
            rig.crash().await;
            rig = start(world, fate).await;
        }
    }
    // All is well again: whatever was staged becomes a checkpoint, and sealing goes on.
    fate.whims.lock().unwrap().clear();
    fate.answers.lock().unwrap().clear();
    let mut last = None;
    for _ in 0..TRIES {
        soon(rig.ready_or_broken()).await;
        // A use that began before may still end badly.
        if rig.service.broken.borrow().is_some() {
            rig.crash().await;
            rig = start(world, fate).await;
            continue;
        }
        last = try_to_seal(&rig, 200).await;
        if last.is_some() {
            break;
        }
    }
    seals.push(last.expect("sealing goes on"));
    let origin = rig.until(|log| log.origin(ORIGIN).cloned()).await;
    rig.stop().await;
    (seals, origin)
}

fn check(fate: &Fate, intents: &[IntentRecorded], seals: &[Seal], origin: &Origin) {
    let uses = fate.uses.lock().unwrap();
    assert!(
        uses.iter().all(|intended| *intended),
        "a key was used without an intent: {uses:?}"
    );
    for intent in intents {
        let same_size = intents.iter().filter(|it| it.size == intent.size);
        for other in same_size {
            assert_eq!(other.root, intent.root, "two roots of size {}", intent.size);
        }
    }
    let vkeys: Vec<Vkey> = origin
        .signers
        .iter()
        .map(|it| it.vkey.parse().unwrap())
        .collect();
    for seal in seals {
        let signed = seal.note.verify(&vkeys).unwrap();
        assert!(!signed.is_empty(), "nobody of ours signed {seal:?}");
        let wanted = digest(&SHA256, seal.note.text().as_bytes());
        let is_intended = |it: &IntentRecorded| it.message_sha256 == wanted.as_ref();
        assert!(intents.iter().any(is_intended), "no intent of {seal:?}");
    }
}

#[test]
fn no_key_is_used_without_an_intent_that_was_durable_before() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut runner = TestRunner::new(Cases {
        cases: 16,
        failure_persistence: None,
        max_shrink_iters: 24,
        ..Cases::default()
    });
    let outcome = runner.run(&steps(), |steps| {
        runtime.block_on(async {
            let time = AtomicI64::new(1_700_000_000_000);
            let fate = Arc::new(Fate {
                log: Memory::with_clock(move || time.fetch_add(1, Ordering::Relaxed)),
                answers: Mutex::default(),
                whims: Mutex::default(),
                uses: Mutex::default(),
            });
            let mut world = World::new();
            world.log = Arc::<Fate>::clone(&fate);
            let (seals, origin) = live(&world, &fate, &steps).await;
            check(&fate, &fate.intents().await, &seals, &origin);
        });
        Ok(())
    });
    outcome.unwrap();
}
