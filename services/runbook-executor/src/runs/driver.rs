//! Drives one run: effects that derive from its state become tasks, what tasks answer becomes commands.
//!
//! An attempt that this life did not begin is observed first. Done: its step ends. Begun and not complete: this life goes on with it, as every action looks before it
//! acts. Definitely not done: the attempt ends and the decider tries again; only where no try is left and its time is not over, it is taken up as it stands, because a
//! crash between an attempt's start and its effect must not fail a run. Cannot tell: a person is asked.

mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::fold::event;
use sealwarden_domain::run::{
    AttemptId, Command, Effect, End, Next, Report, RunState, Viewer, after, decide, pending,
};
use sealwarden_engine::{ExecuteError, Stream};
use sealwarden_eventlog::Subscription;
use sealwarden_telemetry::with_parent;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio::time::Instant;
use tracing::Instrument as _;

use self::inputs::Input;
use super::work::{self, Work};
use super::{RETRY, trace_of};
use crate::actions::{Attempt, Said, Trouble};
use crate::executor::Executor;
use crate::revoking::catch_up;

/// Reports of progress that may wait to be recorded.
const MAX_SAID: usize = 64;

struct Driver {
    executor: Arc<Executor>,
    run: String,
    stream: Stream<RunState>,
    subscription: Option<Subscription>,
    /// Attempts that this life began or took over, and whose end it has not recorded.
    own: BTreeSet<AttemptId>,
    tasks: JoinSet<Work>,
    working: BTreeMap<Id, (AttemptId, AbortHandle)>,
    said: (mpsc::Sender<Said>, mpsc::Receiver<Said>),
    /// What people were asked, so that it is reported once.
    asked: BTreeSet<(String, u32)>,
    /// Starts that were refused, so that they are reported once.
    refused: BTreeSet<(String, String)>,
    /// No observing before this.
    patience: Option<Instant>,
    /// The lease under which `own` was begun or taken over.
    generation: u64,
    /// News of leases.
    leases: watch::Receiver<u64>,
}

/// Drives a run until it ends or the process does. An error sets the run aside.
pub(super) async fn drive(
    executor: Arc<Executor>,
    run: String,
) -> (String, Result<(), ExecuteError>) {
    let parent = trace_of(&executor.node, "run", &run).await;
    let span = with_parent(parent.as_deref(), tracing::info_span!("run", run));
    let ended = driving(executor, run.clone()).instrument(span).await;
    (run, ended)
}

async fn driving(executor: Arc<Executor>, run: String) -> Result<(), ExecuteError> {
    loop {
        match executor.node.stream::<RunState>("run", &run).await {
            Ok(stream) => return Driver::new(executor, run, stream).run_to_end().await,
            Err(ExecuteError::Unavailable(reason) | ExecuteError::Unknown(reason)) => {
                tracing::warn!(run, reason, "the run cannot be read now");
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = executor.node.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

impl Driver {
    fn new(executor: Arc<Executor>, run: String, stream: Stream<RunState>) -> Self {
        let leases = executor.lease.changes();
        let generation = executor.lease.standing().unwrap_or_default();
        Self {
            executor,
            run,
            stream,
            subscription: None,
            own: BTreeSet::new(),
            tasks: JoinSet::new(),
            working: BTreeMap::new(),
            said: mpsc::channel(MAX_SAID),
            asked: BTreeSet::new(),
            refused: BTreeSet::new(),
            patience: None,
            generation,
            leases,
        }
    }

    async fn run_to_end(mut self) -> Result<(), ExecuteError> {
        while self.stream.state().is_open() {
            let now = self.executor.node.clock.now();
            self.patience = self.patience.filter(|until| *until > Instant::now());
            let mut began = false;
            self.drop_what_others_took();
            if self.may_act() {
                let others = self.executor.lease.others();
                let viewer = Viewer {
                    me: &self.executor.node.name,
                    is_shared: self.executor.lease.is_shared(),
                    others: &others,
                };
                for effect in pending(self.stream.state(), &self.own, viewer, now) {
                    began |= self.act(effect).await?;
                }
            }
            if began {
                continue; // there is something to execute now
            }
            match self.next(now).await {
                Input::Changed => self.refresh().await?,
                Input::Said(said) if !self.own.contains(&said.id) => {} // another answers for it
                Input::Said(said) => {
                    let command = Command::Progress {
                        step: said.id.step,
                        text: said.text,
                        missing: said.missing,
                    };
                    self.record(command).await?;
                }
                Input::Ended(id, work) => self.ended(id, work).await?,
                Input::Wake => {}
                Input::Shutdown => break,
            }
            if self.executor.node.shutdown.is_cancelled() {
                break;
            }
        }
        self.tasks.shutdown().await;
        Ok(())
    }

    /// Whether this process holds its lease. What it did under one that ran out is its own no more.
    fn may_act(&mut self) -> bool {
        let Some(generation) = self.executor.lease.standing() else {
            return false;
        };
        if generation != self.generation {
            self.generation = generation;
            self.own.clear();
            for (_, task) in std::mem::take(&mut self.working).into_values() {
                task.abort();
            }
        }
        true
    }

    /// Does what an effect asks for; says whether a step began.
    async fn act(&mut self, effect: Effect) -> Result<bool, ExecuteError> {
        match effect {
            Effect::Begin { step } => return self.begin(step).await,
            Effect::Execute {
                id, deadline_ms, ..
            } => {
                if !self.is_working(&id) {
                    let left = self.left(deadline_ms);
                    if left.is_zero() {
                        self.reported(id, Report::TooLate).await?;
                    } else {
                        self.perform(id, Some(left));
                    }
                }
            }
            Effect::Take { id } => return self.take(id).await,
            Effect::Observe { id, .. } => {
                if !self.is_working(&id)
                    && self.patience.is_none()
                    && let Some(attempt) = self.attempt(&id)
                {
                    let task = work::observe(Arc::clone(&self.executor), attempt, self.generation);
                    let handle = self.tasks.spawn(task.in_current_span());
                    self.working.insert(handle.id(), (id, handle));
                }
            }
            Effect::AskPerson {
                step,
                attempt,
                reason,
            } => {
                if self.asked.insert((step.clone(), attempt)) {
                    tracing::error!(
                        run = self.run,
                        step,
                        attempt,
                        reason,
                        "the run is stuck at this step and needs an operator"
                    );
                }
            }
        }
        Ok(false)
    }

    /// Records an attempt's start. Its effect begins only when that is stored.
    async fn begin(&mut self, step: String) -> Result<bool, ExecuteError> {
        if let Err(error) = catch_up(&self.executor.node, &mut self.stream).await {
            return self.pause(error).await.map(|()| false);
        }
        let command = Command::BeginStep { step: step.clone() };
        match self.decide(command).await {
            Ok(()) => Ok(true),
            Err(ExecuteError::Rejected(rejection)) => {
                if self
                    .refused
                    .insert((step.clone(), rejection.reason.clone()))
                {
                    tracing::warn!(run = self.run, step, %rejection, "a step does not start");
                }
                Ok(false)
            }
            Err(error) => self.pause(error).await.map(|()| false),
        }
    }

    /// Takes an attempt over that nobody works on any more. It is observed when that is stored.
    async fn take(&mut self, id: AttemptId) -> Result<bool, ExecuteError> {
        let (step, attempt) = (id.step.clone(), id.attempt);
        match self.decide(Command::TakeStep(id)).await {
            Ok(()) => Ok(true),
            Err(ExecuteError::Rejected(rejection)) => {
                tracing::debug!(run = self.run, step, attempt, %rejection, "another was first to take a step over");
                Ok(true) // the state is newer than it was
            }
            Err(error) => self.pause(error).await.map(|()| false),
        }
    }

    /// Ends the work on attempts that have passed to somebody else.
    fn drop_what_others_took(&mut self) {
        let state = self.stream.state();
        self.working.retain(|_, (id, task)| {
            let step = state.step(&id.step);
            let held = step.and_then(|step| step.attempt_id(&id.step)).as_ref() == Some(id);
            if !held {
                tracing::warn!(
                    run = self.run,
                    step = id.step,
                    attempt = id.attempt,
                    "the work on a step is given up: somebody else answers for it"
                );
                task.abort();
            }
            held
        });
    }

    fn is_working(&self, id: &AttemptId) -> bool {
        self.working.values().any(|(working, _)| working == id)
    }

    fn left(&self, deadline_ms: i64) -> Duration {
        let left = deadline_ms.saturating_sub(self.executor.node.clock.now().wall_ms);
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }

    fn perform(&mut self, id: AttemptId, left: Option<Duration>) {
        let Some(attempt) = self.attempt(&id) else {
            return;
        };
        let task = work::perform(
            Arc::clone(&self.executor),
            attempt,
            left,
            self.said.0.clone(),
            self.generation,
        );
        let handle = self.tasks.spawn(task.in_current_span());
        self.working.insert(handle.id(), (id, handle));
    }

    /// The attempt as the state has it; `None` if it is over.
    fn attempt(&self, id: &AttemptId) -> Option<Attempt> {
        let state = self.stream.state();
        let (pinned, step) = (state.pinned()?, state.step(&id.step)?);
        let attempt = step
            .phase
            .attempt()
            .filter(|attempt| attempt.number == id.attempt)?;
        Some(Attempt {
            run: pinned.started().run.clone(),
            incident: pinned.started().incident.clone(),
            action: pinned.action(&id.step)?,
            inputs: step.inputs.as_ref()?.0.clone(),
            key: attempt.idempotency_key.clone(),
            state: Arc::new(state.clone()),
            id: id.clone(),
        })
    }

    async fn ended(&mut self, id: AttemptId, work: Work) -> Result<(), ExecuteError> {
        let report = match work {
            Work::Performed(Ok(outputs)) => Report::Done(outputs),
            Work::Performed(Err(Trouble::NotDone(failure))) => Report::NotDone(failure),
            Work::Performed(Err(Trouble::Unknown(reason))) => Report::Unknown(reason),
            Work::Overdue => Report::Overdue,
            Work::Observed(Err(error)) => {
                tracing::warn!(run = self.run, step = id.step, %error, "an attempt cannot be observed now");
                self.patience = Some(Instant::now() + RETRY);
                return Ok(());
            }
            Work::Observed(Ok(observation)) => {
                tracing::info!(
                    run = self.run,
                    step = id.step,
                    attempt = id.attempt,
                    ?observation,
                    "an attempt was observed"
                );
                Report::Observed(observation)
            }
        };
        self.reported(id, report).await
    }

    async fn reported(&mut self, id: AttemptId, report: Report) -> Result<(), ExecuteError> {
        let begin_next = !self.executor.node.shutdown.is_cancelled();
        let now = self.executor.node.clock.now();
        match after(self.stream.state(), &self.own, &id, report, begin_next, now) {
            Next::End(end) => self.end(id, end).await,
            Next::Lose {
                reason,
                needs_person,
            } => self.lose(id, reason, needs_person).await,
            Next::Perform { deadline_ms } => {
                let left = deadline_ms.map(|deadline_ms| self.left(deadline_ms));
                self.perform(id, left);
                Ok(())
            }
        }
    }

    async fn end(&mut self, id: AttemptId, end: End) -> Result<(), ExecuteError> {
        match &end.result {
            Ok(_) => tracing::info!(
                run = self.run,
                step = id.step,
                observed = end.observed,
                "a step is done"
            ),
            Err(failure) => tracing::warn!(
                run = self.run,
                step = id.step,
                attempt = id.attempt,
                error = failure.kind.as_str(),
                reason = failure.reason,
                "an attempt was not done"
            ),
        }
        if let Some(refusal) = self.record(Command::EndStep(end.clone())).await?
            && let Some(instead) = end.refused(&refusal)
        {
            self.record(Command::EndStep(instead)).await?;
        }
        self.own.remove(&id);
        Ok(())
    }

    async fn lose(
        &mut self,
        id: AttemptId,
        reason: String,
        needs_person: bool,
    ) -> Result<(), ExecuteError> {
        tracing::warn!(
            run = self.run,
            step = id.step,
            attempt = id.attempt,
            reason,
            "nobody knows how an attempt ended"
        );
        // What failed at once would be taken up at once: not faster than this.
        self.patience = Some(Instant::now() + RETRY);
        let command = Command::LoseStep {
            step: id.step.clone(),
            attempt: id.attempt,
            claim: id.claim,
            reason,
            needs_person,
        };
        if self.record(command).await?.is_some() || needs_person {
            self.own.remove(&id);
        }
        Ok(())
    }

    /// Decides and appends; what this starts belongs to this life.
    async fn decide(&mut self, command: Command) -> Result<(), ExecuteError> {
        let executor = &self.executor;
        let incident = self
            .stream
            .state()
            .pinned()
            .map(|pinned| pinned.started().incident.clone());
        let meta = executor
            .node
            .meta()
            .correlated(incident.unwrap_or_default());
        let executed = self
            .stream
            .execute(meta, |state| {
                Ok(decide(state, command.clone(), executor.node.clock.now())?
                    .into_iter()
                    .map(event)
                    .collect())
            })
            .await?;
        for id in executed
            .events
            .iter()
            .filter_map(|event| event.kind.as_ref())
        {
            self.own.extend(AttemptId::begun_by(id).inspect(|id| {
                tracing::info!(
                    run = self.run,
                    step = id.step,
                    attempt = id.attempt,
                    claim = id.claim,
                    "{}",
                    if id.claim == 0 {
                        "a step starts"
                    } else {
                        "a step is taken over"
                    }
                );
            }));
        }
        Ok(())
    }

    /// Records until it is stored or refused; gives the refusal. While the event log is away nothing else is done: what happened must be on record first.
    async fn record(&mut self, command: Command) -> Result<Option<String>, ExecuteError> {
        loop {
            match self.decide(command.clone()).await {
                Ok(()) => return Ok(None),
                Err(ExecuteError::Rejected(rejection)) => {
                    tracing::debug!(run = self.run, %rejection, "a report is not recorded");
                    return Ok(Some(rejection.reason));
                }
                Err(error) => self.pause(error).await?,
            }
            if self.executor.node.shutdown.is_cancelled() {
                return Ok(None);
            }
        }
    }

    async fn refresh(&mut self) -> Result<(), ExecuteError> {
        match self.stream.refresh().await {
            Ok(()) => Ok(()),
            Err(error) => self.pause(error).await,
        }
    }

    /// Waits after an error that may pass, and looks at the stream anew; gives the others back.
    async fn pause(&mut self, error: ExecuteError) -> Result<(), ExecuteError> {
        match error {
            ExecuteError::Unavailable(reason) | ExecuteError::Unknown(reason) => {
                tracing::warn!(
                    run = self.run,
                    reason,
                    "the run's stream cannot be used now"
                );
                tokio::select! {
                    () = self.executor.node.shutdown.cancelled() => {}
                    () = tokio::time::sleep(RETRY) => {}
                }
                self.subscription = None;
                match self.stream.refresh().await {
                    Ok(()) | Err(ExecuteError::Unavailable(_) | ExecuteError::Unknown(_)) => Ok(()),
                    Err(error) => Err(error),
                }
            }
            error @ (ExecuteError::Rejected(_)
            | ExecuteError::Illegal(_)
            | ExecuteError::Decode(_)
            | ExecuteError::Broken(_)) => Err(error),
        }
    }
}
