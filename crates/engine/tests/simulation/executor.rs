//! An executor: the product's stream, decisions and effects, moved one step at a time instead of by tasks and timers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sealwarden_domain::At;
use sealwarden_domain::fold::event;
use sealwarden_domain::run::{
    AttemptId, Command, Effect, Next, Report, RunState, Viewer, after, decide, pending,
};
use sealwarden_engine::{ExecuteError, Meta, Stream};
use sealwarden_eventlog::{Head, StreamName};

use super::outside::{Outside, Work};
use super::runbooks::RUN;
use super::seed::Chance;
use super::story::Story;
use super::weather::{Connection, Weather};

/// How long a driver waits before it tries again what could not be done now.
const RETRY_MS: i64 = 1_000;

/// What an executor meets when it moves.
pub(crate) struct Around<'a> {
    /// True time: it flows, whatever clocks show.
    pub(crate) now_ms: i64,
    pub(crate) outside: &'a mut Outside,
    pub(crate) chance: &'a mut Chance,
    /// Nothing goes wrong.
    pub(crate) calm: bool,
    /// The fold of the run's first commit.
    pub(crate) first: &'a (RunState, Head),
    pub(crate) trace: &'a mut Story,
}

/// A process and its place.
pub(crate) struct Executor {
    pub(crate) name: &'static str,
    pub(crate) cut: Arc<AtomicBool>,
    /// How far its wall clock is from true time.
    pub(crate) skew_ms: i64,
    pub(crate) life: Option<Life>,
}

/// From a start to a crash.
pub(crate) struct Life {
    pub(crate) stream: Stream<RunState>,
    own: BTreeSet<AttemptId>,
    tasks: Vec<Task>,
    /// What must be on record before anything else is done.
    recording: Option<(AttemptId, Command)>,
    /// No observing before this, true time.
    patience_ms: i64,
    /// What was recorded last, for saying it once more.
    last: Option<Command>,
}

struct Task {
    id: AttemptId,
    work: Work,
    /// When it is given up, true time. `None` for observing, and for going on with what is under way.
    until_ms: Option<i64>,
    observes: bool,
    /// Its time is over: nothing comes of it any more.
    given_up: bool,
}

/// What a command came to.
enum Answer {
    Stored {
        events: usize,
    },
    Refused(String),
    /// The log is away.
    Away,
}

pub(crate) fn stream_name() -> StreamName {
    StreamName::new("run", RUN).unwrap()
}

/// Opens the run's stream over a connection; `None` while it cannot be read. `folded` is a fold that a process may keep: of the run's first commit, which is what costs.
async fn open(
    weather: &Arc<Weather>,
    cut: &Arc<AtomicBool>,
    (state, head): (RunState, Head),
) -> Result<Option<Stream<RunState>>, String> {
    let log = Connection::new(weather, cut);
    let mut stream = Stream::resume(log, stream_name(), state, head);
    match stream.refresh().await {
        Ok(()) => Ok(Some(stream)),
        Err(ExecuteError::Unavailable(_)) => Ok(None),
        Err(error) => Err(format!("the run's stream does not load: {error}")),
    }
}

impl Executor {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            cut: Arc::new(AtomicBool::new(false)),
            skew_ms: 0,
            life: None,
        }
    }

    pub(crate) fn at(&self, now_ms: i64) -> At {
        At {
            wall_ms: now_ms + self.skew_ms,
            boot_ms: u64::try_from(now_ms).unwrap_or(0),
        }
    }

    /// It dies; what it worked on may still have happened.
    pub(crate) fn crash(&mut self, around: &mut Around<'_>) {
        let Some(life) = self.life.take() else { return };
        for task in life
            .tasks
            .iter()
            .filter(|task| !task.observes && !task.given_up)
        {
            around.outside.abandon(&task.work, around.chance);
        }
    }

    /// Time passed: what has none left may happen in the last moment, and never after.
    pub(crate) fn tick(&mut self, now_ms: i64, outside: &mut Outside, chance: &mut Chance) {
        let tasks = self.life.iter_mut().flat_map(|life| &mut life.tasks);
        let over = |task: &&mut Task| task.until_ms.is_some_and(|until_ms| until_ms <= now_ms);
        for task in tasks.filter(|task| !task.given_up).filter(over) {
            outside.abandon(&task.work, chance);
            task.given_up = true;
        }
    }

    /// Whether it waits for the end of some work.
    pub(crate) fn is_busy(&self) -> bool {
        let life = self.life.as_ref();
        life.is_some_and(|life| life.recording.is_some() || !life.tasks.is_empty())
    }

    /// Whether nothing is left to do before time or people move on.
    pub(crate) fn is_idle(&self, now_ms: i64) -> bool {
        self.life.as_ref().is_some_and(|life| {
            let due = pending(
                life.stream.state(),
                &life.own,
                Viewer::alone(self.name),
                self.at(now_ms),
            );
            let waits = |effect: &Effect| matches!(effect, Effect::AskPerson { .. });
            life.recording.is_none() && life.tasks.is_empty() && due.iter().all(waits)
        })
    }

    /// One round of its driver's loop.
    pub(crate) async fn turn(
        &mut self,
        weather: &Arc<Weather>,
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        let at = self.at(around.now_ms);
        if self.life.is_none() {
            let folded = if around.chance.percent(10) {
                (RunState::default(), Head::EMPTY)
            } else {
                around.first.clone()
            };
            let Some(stream) = open(weather, &self.cut, folded).await? else {
                return Ok(());
            };
            around.trace.add(|| format!("{} starts", self.name));
            self.life = Some(Life::new(stream));
        }
        let (Some(life), name) = (&mut self.life, self.name) else {
            return Ok(());
        };
        life.overdue(name, at, around).await?;
        if life.recording.is_some() && !life.record(name, at, around).await? {
            return Ok(());
        }
        if around.calm || around.chance.percent(60) {
            quietly(life.stream.refresh().await)?;
        }
        life.drop_what_others_took(around);
        for effect in pending(life.stream.state(), &life.own, Viewer::alone(name), at) {
            if life.recording.is_some() {
                break;
            }
            life.act(name, effect, at, around).await?;
        }
        Ok(())
    }

    /// Something that it waits for ends.
    pub(crate) async fn work(&mut self, around: &mut Around<'_>) -> Result<(), String> {
        let at = self.at(around.now_ms);
        let name = self.name;
        let Some(life) = self.life.as_mut().filter(|life| life.recording.is_none()) else {
            return Ok(());
        };
        if life.tasks.is_empty() {
            return Ok(());
        }
        let index = around.chance.below(life.tasks.len());
        let task = &life.tasks[index];
        let report = if task.given_up {
            Some(Report::Overdue)
        } else if task.observes {
            around
                .outside
                .observe(&task.work, around.chance, around.calm)
        } else {
            around
                .outside
                .perform(&task.work, around.chance, around.calm)
        };
        match report {
            Some(report) => {
                let task = life.tasks.swap_remove(index);
                life.reported(name, task.id, report, at, around).await
            }
            None if task.observes => {
                life.tasks.swap_remove(index);
                life.patience_ms = around.now_ms + RETRY_MS;
                Ok(())
            }
            None => Ok(()), // it hangs
        }
    }

    /// Says once more what it said last, as a message that is delivered twice.
    pub(crate) async fn repeat(&mut self, around: &mut Around<'_>) -> Result<(), String> {
        let (at, name) = (self.at(around.now_ms), self.name);
        let Some(life) = &mut self.life else {
            return Ok(());
        };
        let Some(command) = life.last.clone() else {
            return Ok(());
        };
        around.trace.add(|| format!("{name} repeats {command:?}"));
        match life.decide(name, command.clone(), at).await? {
            Answer::Stored { events } if events > 0 && matches!(command, Command::EndStep(_)) => {
                Err(format!(
                    "an end that was recorded is recorded again: {command:?}"
                ))
            }
            Answer::Stored { .. } | Answer::Refused(_) | Answer::Away => Ok(()),
        }
    }
}

/// An error that passes is no finding.
pub(crate) fn quietly(result: Result<(), ExecuteError>) -> Result<(), String> {
    match result {
        Ok(()) | Err(ExecuteError::Unavailable(_) | ExecuteError::Unknown(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

impl Life {
    fn new(stream: Stream<RunState>) -> Self {
        Self {
            stream,
            own: BTreeSet::new(),
            tasks: Vec::new(),
            recording: None,
            patience_ms: 0,
            last: None,
        }
    }

    fn is_working(&self, id: &AttemptId) -> bool {
        self.tasks.iter().any(|task| task.id == *id)
    }

    /// Whether an effect is being brought about now.
    pub(crate) fn performs(&self) -> impl Iterator<Item = &AttemptId> {
        let performing = self.tasks.iter().filter(|task| !task.observes);
        performing.map(|task| &task.id)
    }

    async fn act(
        &mut self,
        name: &str,
        effect: Effect,
        at: At,
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        match effect {
            Effect::Begin { step } => {
                let command = Command::BeginStep { step };
                self.decide(name, command, at).await?;
            }
            Effect::Execute {
                id, deadline_ms, ..
            } => {
                if !self.is_working(&id) {
                    let left_ms = deadline_ms.saturating_sub(at.wall_ms).max(0);
                    if left_ms == 0 {
                        self.reported(name, id, Report::TooLate, at, around).await?;
                    } else {
                        self.perform(name, id, Some(left_ms), around);
                    }
                }
            }
            Effect::Take { id } => {
                self.decide(name, Command::TakeStep(id), at).await?;
            }
            Effect::Observe { id, .. } => {
                let patient = around.now_ms < self.patience_ms;
                if !self.is_working(&id) && !patient {
                    self.spawn(name, id, None, true, around);
                }
            }
            Effect::AskPerson { .. } => {}
        }
        Ok(())
    }

    fn perform(
        &mut self,
        name: &str,
        id: AttemptId,
        left_ms: Option<i64>,
        around: &mut Around<'_>,
    ) {
        let until_ms = left_ms.map(|left_ms| around.now_ms + left_ms);
        self.spawn(name, id, until_ms, false, around);
    }

    fn spawn(
        &mut self,
        name: &str,
        id: AttemptId,
        until_ms: Option<i64>,
        observes: bool,
        around: &mut Around<'_>,
    ) {
        let state = self.stream.state();
        let found = || {
            let attempt = state.step(&id.step)?.phase.attempt()?;
            let action = state.pinned()?.action(&id.step)?;
            (attempt.number == id.attempt).then(|| Work {
                step: id.step.clone(),
                key: attempt.idempotency_key.clone(),
                action,
            })
        };
        let Some(work) = found() else { return };
        let verb = if observes { "observes" } else { "performs" };
        around.trace.add(|| {
            format!(
                "{} {name} {verb} {} attempt {} until {until_ms:?}",
                around.now_ms, id.step, id.attempt
            )
        });
        if !observes {
            around.outside.begins(&work);
        }
        self.tasks.push(Task {
            id,
            work,
            until_ms,
            observes,
            given_up: false,
        });
    }

    /// Stops its work on what has passed to somebody else; that may still have happened.
    fn drop_what_others_took(&mut self, around: &mut Around<'_>) {
        let state = self.stream.state();
        let held = |task: &Task| {
            let step = state.step(&task.id.step);
            step.and_then(|step| step.attempt_id(&task.id.step)) == Some(task.id.clone())
        };
        for task in self.tasks.extract_if(.., |task| !held(task)) {
            if !task.observes && !task.given_up {
                around.outside.abandon(&task.work, around.chance);
            }
        }
    }

    /// Gives up what has no time left.
    async fn overdue(&mut self, name: &str, at: At, around: &mut Around<'_>) -> Result<(), String> {
        while self.recording.is_none()
            && let Some(index) = self.tasks.iter().position(|task| task.given_up)
        {
            let task = self.tasks.swap_remove(index);
            self.reported(name, task.id, Report::Overdue, at, around)
                .await?;
        }
        Ok(())
    }

    async fn reported(
        &mut self,
        name: &str,
        id: AttemptId,
        report: Report,
        at: At,
        around: &mut Around<'_>,
    ) -> Result<(), String> {
        around.trace.add(|| {
            format!(
                "{} {name} hears of {} attempt {}: {report:?}",
                around.now_ms, id.step, id.attempt
            )
        });
        let state = self.stream.state();
        match after(state, &self.own, &id, report, true, at) {
            Next::End(end) => {
                self.recording = Some((id, Command::EndStep(end)));
                self.record(name, at, around).await.map(drop)
            }
            Next::Lose {
                reason,
                needs_person,
            } => {
                self.patience_ms = around.now_ms + RETRY_MS;
                let (step, attempt) = (id.step.clone(), id.attempt);
                let command = Command::LoseStep {
                    step,
                    attempt,
                    claim: id.claim,
                    reason,
                    needs_person,
                };
                self.recording = Some((id, command));
                self.record(name, at, around).await.map(drop)
            }
            Next::Perform { deadline_ms } => {
                let left_ms = deadline_ms.map(|it| it.saturating_sub(at.wall_ms).max(0));
                self.perform(name, id, left_ms, around);
                Ok(())
            }
        }
    }

    /// Records what must be on record; says whether it is, or was refused.
    async fn record(
        &mut self,
        name: &str,
        at: At,
        around: &mut Around<'_>,
    ) -> Result<bool, String> {
        while let Some((id, command)) = self.recording.clone() {
            match self.decide(name, command.clone(), at).await? {
                Answer::Away => {
                    around.trace.add(|| format!("{name} cannot record"));
                    return Ok(false);
                }
                Answer::Stored { .. } => {
                    let kept =
                        matches!(&command, Command::LoseStep { needs_person, .. } if !needs_person);
                    if !kept {
                        self.own.remove(&id);
                    }
                    self.last = Some(command);
                    self.recording = None;
                }
                Answer::Refused(refusal) => {
                    around.trace.add(|| format!("{name} is refused: {refusal}"));
                    let instead = if let Command::EndStep(end) = &command {
                        end.refused(&refusal)
                    } else {
                        None
                    };
                    if instead.is_none() {
                        self.own.remove(&id);
                    }
                    self.recording = instead.map(|end| (id, Command::EndStep(end)));
                }
            }
        }
        Ok(true)
    }

    async fn decide(&mut self, name: &str, command: Command, at: At) -> Result<Answer, String> {
        let executed = self
            .stream
            .execute(Meta::node(name), |state| {
                let events = decide(state, command.clone(), at)?;
                Ok(events.into_iter().map(event).collect())
            })
            .await;
        match executed {
            Ok(executed) => {
                let events = executed.events.len();
                let kinds = executed.events.iter().filter_map(|it| it.kind.as_ref());
                self.own.extend(kinds.filter_map(AttemptId::begun_by));
                Ok(Answer::Stored { events })
            }
            Err(ExecuteError::Rejected(rejection)) => Ok(Answer::Refused(rejection.reason)),
            Err(ExecuteError::Unavailable(_) | ExecuteError::Unknown(_)) => {
                quietly(self.stream.refresh().await)?;
                Ok(Answer::Away)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Cuts a connection or mends it.
pub(crate) fn toggle(cut: &AtomicBool) {
    cut.fetch_xor(true, Ordering::Relaxed);
}
