//! One seed: a run, executors, people and the weather.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use sealwarden_domain::approval::{Decision, Environment, Namespace, Statement};
use sealwarden_domain::fold::event;
use sealwarden_domain::run::{
    Command, Given, GivenFile, RunState, Said, decide, prepare, prepare_for,
};
use sealwarden_domain::{At, Fold as _};
use sealwarden_engine::{ExecuteError, Meta, Stream, decode};
use sealwarden_eventlog::{EventLog, Head};
use sealwarden_wire::event::v1::event::Kind;

use super::executor::{Around, Executor, quietly, stream_name, toggle};
use super::judge::Judge;
use super::outside::Outside;
use super::people::{PEOPLE, STRANGER, signature};
use super::runbooks::{RUN, Shape, VALIDITY_MS};
use super::seed::Chance;
use super::story::Story;
use super::weather::{Connection, Weather};

/// 2026-11-02T10:00:00Z.
const START_MS: i64 = 1_793_613_600_000;

/// How many moves chaos lasts.
const MOVES: usize = 70;

pub(crate) struct World {
    pub(crate) chance: Chance,
    weather: Arc<Weather>,
    /// True time.
    pub(crate) now_ms: i64,
    store_ms: Arc<AtomicI64>,
    store_skew_ms: i64,
    pub(crate) executors: Vec<Executor>,
    pub(crate) outside: Outside,
    pub(crate) judge: Judge,
    /// Where people's words come in: a process of its own, as far behind as it happens to be.
    desk: Stream<RunState>,
    desk_cut: Arc<AtomicBool>,
    /// The log folded as it stands, past all weather.
    pub(crate) truth: RunState,
    head: Head,
    /// The fold of the first commit: reading a runbook is what costs.
    first: (RunState, Head),
    /// What was signed before, to be sent again.
    drawer: Vec<(String, String)>,
    nonce: u64,
    pub(crate) calm: bool,
    pub(crate) trace: Story,
}

impl World {
    pub(crate) async fn new(seed: u64, told: bool) -> Result<Self, String> {
        let mut chance = Chance::new(seed);
        let shape = Shape::of(&mut chance);
        let store_ms = Arc::new(AtomicI64::new(START_MS));
        let weather = Weather::new(chance.fork(), Arc::clone(&store_ms));
        let desk_cut = Arc::new(AtomicBool::new(false));
        let names: &[&str] = if chance.percent(50) {
            &["one"]
        } else {
            &["one", "two"]
        };
        let log: Arc<dyn EventLog> = Arc::new(weather.log.clone());
        let mut desk = Stream::resume(log, stream_name(), RunState::default(), Head::EMPTY);
        let at = At {
            wall_ms: START_MS,
            boot_ms: 0,
        };
        let started = Command::Start(Box::new(shape.started.clone()));
        desk.execute(Meta::node("one"), |state| {
            let events = decide(state, started.clone(), at)?;
            Ok(events.into_iter().map(event).collect())
        })
        .await
        .map_err(|error| format!("{error}\n{}", shape.started.runbook_text))?;
        let runbook_text = shape.started.runbook_text.clone();
        let mut world = Self {
            chance,
            weather,
            now_ms: START_MS,
            store_ms,
            store_skew_ms: 0,
            executors: names.iter().copied().map(Executor::new).collect(),
            outside: Outside::default(),
            trace: Story::new(told),
            judge: Judge::new(shape),
            desk,
            desk_cut,
            truth: RunState::default(),
            head: Head::EMPTY,
            first: (RunState::default(), Head::EMPTY),
            drawer: Vec::new(),
            nonce: 0,
            calm: false,
        };
        world.trace.add(|| runbook_text);
        world.look().await?;
        world.reopen_desk().await?;
        Ok(world)
    }

    async fn reopen_desk(&mut self) -> Result<(), String> {
        let (state, head) = self.first.clone();
        let log = Connection::new(&self.weather, &self.desk_cut);
        self.desk = Stream::resume(log, stream_name(), state, head);
        quietly(self.desk.refresh().await)
    }

    /// What happened is held against the invariants.
    pub(crate) async fn look(&mut self) -> Result<(), String> {
        let name = stream_name();
        loop {
            let page = self.weather.log.read(&name, self.head.position, 100).await;
            let page = page.map_err(|error| error.to_string())?;
            if page.is_empty() {
                break;
            }
            for recorded in page {
                let commit = decode(&recorded).map_err(|error| error.to_string())?;
                let envelope = commit.envelope.unwrap_or_default();
                for event in &commit.events {
                    self.truth
                        .apply(&envelope, event)
                        .map_err(|error| error.to_string())?;
                }
                let kinds: Vec<Kind> = commit.events.into_iter().filter_map(|it| it.kind).collect();
                for kind in &kinds {
                    self.trace.add(|| {
                        let text = format!("{kind:?}");
                        let short = text.chars().take(200).collect::<String>();
                        format!("    {} {short}", recorded.position)
                    });
                }
                self.judge.take(&kinds, &mut self.outside)?;
                self.head = recorded.head();
                if self.first.1 == Head::EMPTY {
                    self.first = (self.truth.clone(), self.head);
                }
            }
        }
        if let Some(broken) = self.outside.broken.take() {
            return Err(broken);
        }
        for executor in &self.executors {
            let Some(life) = &executor.life else { continue };
            if life.stream.head() == self.head && *life.stream.state() != self.truth {
                return Err(format!(
                    "{} sees another state than the log's",
                    executor.name
                ));
            }
            for id in life.performs() {
                if !self.judge.has_started(&id.step, id.attempt) {
                    return Err(format!("{id:?} acts before its start is stored"));
                }
            }
        }
        Ok(())
    }

    /// The whole log, folded once more from its first commit, is what everybody sees.
    pub(crate) async fn refold(&self) -> Result<(), String> {
        let (state, head) = self.first.clone();
        let log: Arc<dyn EventLog> = Arc::new(self.weather.log.clone());
        let mut again = Stream::resume(log, stream_name(), state, head);
        again.refresh().await.map_err(|error| error.to_string())?;
        if *again.state() != self.truth {
            return Err("the log folds to another state than it did".to_owned());
        }
        Ok(())
    }

    pub(crate) async fn chaos(&mut self) -> Result<(), String> {
        for made in 0..MOVES {
            self.make_a_move().await?;
            self.look().await?;
            if made % 10 == 9 {
                self.refold().await?;
            }
        }
        Ok(())
    }

    async fn make_a_move(&mut self) -> Result<(), String> {
        let which = self.chance.below(self.executors.len());
        match self.chance.below(100) {
            0..30 => self.turn(which).await,
            30..50 => self.with(which, Deed::Work).await,
            50..54 => self.with(which, Deed::Crash).await,
            54..64 => {
                let ms = *self.chance.pick(&[50, 1_000, 4_000, 40_000]);
                self.pass(ms);
                Ok(())
            }
            64..66 => {
                toggle(&self.executors[which].cut);
                Ok(())
            }
            66..68 => {
                self.jump(which);
                Ok(())
            }
            68..72 => {
                self.weather.deliver().await;
                Ok(())
            }
            72..74 => self.with(which, Deed::Repeat).await,
            74..77 => self.operator().await,
            77 => self.hand_in().await,
            78..79 => self.reopen_desk().await,
            _ => self.person().await,
        }
    }

    pub(crate) fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        self.trace.add(|| format!("it is {}", self.now_ms));
        let store_ms = self.now_ms + self.store_skew_ms;
        self.store_ms.store(store_ms, Ordering::Relaxed);
        for executor in &mut self.executors {
            executor.tick(self.now_ms, &mut self.outside, &mut self.chance);
        }
    }

    /// A clock is set. Where two executors share a run their clocks stay within what a takeover waits for.
    fn jump(&mut self, which: usize) {
        if self.chance.percent(30) {
            self.store_skew_ms = self.chance.ms(-60_000, 60_000);
            self.pass(0);
            return;
        }
        let most_ms = if self.executors.len() == 1 {
            600_000
        } else {
            2_000
        };
        self.executors[which].skew_ms = self.chance.ms(-most_ms, most_ms);
        self.trace.add(|| {
            format!(
                "{}'s clock is {} ms off",
                self.executors[which].name, self.executors[which].skew_ms
            )
        });
    }

    pub(crate) async fn turn(&mut self, which: usize) -> Result<(), String> {
        self.with(which, Deed::Turn).await
    }

    pub(crate) async fn with(&mut self, which: usize, deed: Deed) -> Result<(), String> {
        let mut around = Around {
            now_ms: self.now_ms,
            outside: &mut self.outside,
            chance: &mut self.chance,
            calm: self.calm,
            first: &self.first,
            trace: &mut self.trace,
        };
        let executor = &mut self.executors[which];
        match deed {
            Deed::Turn => executor.turn(&self.weather, &mut around).await,
            Deed::Work => executor.work(&mut around).await,
            Deed::Repeat => executor.repeat(&mut around).await,
            Deed::Crash => {
                around.trace.add(|| format!("{} dies", executor.name));
                executor.crash(&mut around);
                Ok(())
            }
        }
    }

    /// The sky clears: what is on its way arrives, connections and clocks are mended.
    pub(crate) async fn clear(&mut self) -> Result<(), String> {
        self.trace.add(|| "the sky clears".to_owned());
        self.calm = true;
        self.weather.calm_down();
        while self.weather.deliver().await {}
        self.desk_cut.store(false, Ordering::Relaxed);
        for executor in &mut self.executors {
            executor.cut.store(false, Ordering::Relaxed);
            executor.skew_ms = 0;
        }
        self.store_skew_ms = 0;
        self.pass(0);
        self.look().await
    }

    fn desk_at(&self) -> At {
        self.executors[0].at(self.now_ms)
    }

    /// Tells the desk; a refusal is no finding.
    pub(crate) async fn tell(&mut self, command: Command) -> Result<(), String> {
        let at = self.desk_at();
        let told = self
            .desk
            .execute(Meta::person("desk"), |state| {
                let events = decide(state, command.clone(), at)?;
                Ok(events.into_iter().map(event).collect())
            })
            .await;
        match told {
            Ok(_) => Ok(()),
            Err(ExecuteError::Rejected(rejection)) => {
                self.trace.add(|| format!("the desk refuses: {rejection}"));
                Ok(())
            }
            Err(error) => quietly(Err(error)),
        }
    }

    async fn operator(&mut self) -> Result<(), String> {
        let said = Said {
            by: "olga".to_owned(),
            reason: "because".to_owned(),
        };
        let steps: Vec<String> = self.truth.steps().keys().cloned().collect();
        let command = match self.chance.below(20) {
            0..5 => Command::Pause(said),
            5..12 => Command::Resume(said),
            12 => {
                let undo = self.chance.percent(60);
                Command::Abort { said, undo }
            }
            _ => Command::Retry {
                step: self.chance.pick(&steps).clone(),
                said,
            },
        };
        self.trace.add(|| format!("{command:?}"));
        self.tell(command).await
    }

    /// Somebody hands something in, asked or not.
    async fn hand_in(&mut self) -> Result<(), String> {
        let steps: Vec<String> = self.truth.steps().keys().cloned().collect();
        let step = self.chance.pick(&steps).clone();
        let case = *self.chance.pick(&["one", "two", "three", "four"]);
        self.give(&step, case).await
    }

    /// Hands in everything that a manual step may ask for.
    pub(crate) async fn give(&mut self, step: &str, case: &str) -> Result<(), String> {
        let value = |value: &str| Given {
            value: value.to_owned(),
            file: None,
        };
        let letter = Given {
            value: "5a".repeat(32),
            file: Some(GivenFile {
                name: "letter.pdf".to_owned(),
                bytes: 3,
                stored: "evidence/inc-1/run-1.given/5a".to_owned(),
            }),
        };
        let mut given = BTreeMap::from([
            ("case".to_owned(), value(case)),
            ("letter".to_owned(), letter),
        ]);
        if self.chance.percent(30) {
            given.insert("seen".to_owned(), value("7"));
        }
        if self.chance.percent(20) {
            given.remove("letter");
        }
        self.trace.add(|| format!("{given:?} for {step}"));
        self.tell(Command::GiveEvidence {
            step: step.to_owned(),
            by: "olga".to_owned(),
            given,
        })
        .await
    }

    /// Somebody signs something, rightly or not, and sends it.
    async fn person(&mut self) -> Result<(), String> {
        if !self.drawer.is_empty() && self.chance.percent(12) {
            let (statement, signature) = self.chance.pick(&self.drawer).clone();
            return self.submit(statement, signature).await;
        }
        let steps: Vec<String> = self.truth.steps().keys().cloned().collect();
        let step = self.chance.pick(&steps).clone();
        let decision = match self.chance.below(40) {
            0..28 => Decision::Approve,
            28..31 => Decision::Deny,
            31..33 => Decision::Retry,
            33 => Decision::Skip,
            34..37 => Decision::Override,
            _ => Decision::Review,
        };
        let (person, _) = *self.chance.pick(&PEOPLE);
        let Some(mut statement) = self.statement(person, &step, decision) else {
            return Ok(());
        };
        let mut by = person;
        let mut namespace = statement.environment.namespace();
        let mut right = true;
        match self.chance.below(40) {
            0 => by = STRANGER,
            1 => (by, _) = *self.chance.pick(&PEOPLE),
            2 => {
                namespace = Environment::Drill.namespace();
                right = false;
            }
            3 => statement.run = "run-2".to_owned(),
            4 => statement.inputs_digest = "0".repeat(64),
            5 => statement.expires_s += 7_200,
            6 => statement.expires_s = self.now_ms / 1000 - 5,
            _ => {}
        }
        right &= by == person;
        let short = self.chance.percent(10);
        if short {
            statement.expires_s = self.now_ms / 1000 + 3;
        }
        self.sign(&statement, by, namespace, right).await
    }

    /// What a person would sign now; `None` where nobody can.
    pub(crate) fn statement(
        &mut self,
        person: &str,
        step: &str,
        decision: Decision,
    ) -> Option<Statement> {
        let at = self.desk_at();
        let prepared = if decision.is_about_the_quorum() {
            prepare(&self.truth, step, at)
        } else {
            prepare_for(&self.truth, step, Some(decision), at)
        };
        let prepared = prepared.ok()?;
        self.nonce += 1;
        Some(Statement {
            installation: prepared.installation,
            environment: Environment::parse(&prepared.environment)?,
            incident: prepared.incident,
            run: RUN.to_owned(),
            step: prepared.step,
            iteration: prepared.iteration,
            runbook: prepared.runbook,
            runbook_digest: prepared.runbook_digest,
            inputs_digest: prepared.inputs_digest,
            roster_digest: prepared.roster_digest,
            decision: if decision == Decision::Approve && prepared.manual {
                Decision::Confirm
            } else {
                decision
            },
            approver: person.to_owned(),
            nonce: format!("{:032x}", self.nonce),
            expires_s: (at.wall_ms + VALIDITY_MS) / 1000 - 1,
        })
    }

    pub(crate) async fn sign(
        &mut self,
        statement: &Statement,
        by: &str,
        namespace: Namespace,
        right: bool,
    ) -> Result<(), String> {
        let text = statement.to_string();
        let signature = signature(&text, by, namespace);
        self.trace.add(|| {
            format!(
                "{by} signs {} of {} as {}",
                statement.decision, statement.step, statement.approver
            )
        });
        if right {
            self.judge.genuine.insert(text.clone());
        }
        self.drawer.push((text.clone(), signature.clone()));
        self.submit(text, signature).await
    }

    async fn submit(&mut self, statement: String, signature: String) -> Result<(), String> {
        let note = String::new();
        self.tell(Command::SubmitApproval {
            statement,
            signature,
            note,
        })
        .await
    }

    /// How often each kind of thing was seen.
    pub(crate) fn seen(&self) -> &BTreeMap<&'static str, u64> {
        &self.judge.seen
    }

    /// Each executor dies and comes back from the log alone.
    pub(crate) async fn restart_all(&mut self) -> Result<(), String> {
        for which in 0..self.executors.len() {
            self.with(which, Deed::Crash).await?;
        }
        Ok(())
    }
}

/// What an executor does in one move.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    Turn,
    Work,
    Crash,
    Repeat,
}
