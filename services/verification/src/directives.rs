//! Freezing origins by directive, and thawing them by one.
//!
//! The task folds the log streams by itself, leaving out their intents, so that it knows the head to acknowledge on without reading a long stream again. Who may order
//! a freeze is judged by this node's own plan and roster; neither the executor nor the event log is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::approval::{
    DirectiveExpectation, Environment, Order, verify_directive, verify_snapshot,
};
use sealwarden_domain::incident::Incident;
use sealwarden_domain::log_control::{
    self, Command, DirectiveState, KeyChanges, LogControl, acknowledgement_text, directive_input,
    refusal_text,
};
use sealwarden_domain::{Fold as _, RejectionCode};
use sealwarden_engine::{ExecuteError, Node, Stream, StreamName, decode};
use sealwarden_eventlog::{
    self as eventlog, Delivery, Filter, Head, ReadError, Recorded, Subscription,
};
use sealwarden_runbook::DirectiveKind;
use sealwarden_seal::trust::TrustBundle;
use sealwarden_seal::witness::OriginState;
use sealwarden_wire::event::v1::{Directive, DirectiveKind as WireKind};
use tokio::time::Instant;

use crate::config::Config;
use crate::witness::Witness;

/// How long to wait before an unanswered directive is tried again: at first, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(5);

/// A log without its intents.
#[derive(Clone)]
struct Known {
    state: LogControl,
    head: Head,
    /// Why the stream does not fold, if it does not: nothing in it is obeyed any more, and the witness cosigns nothing of it either.
    broken: Option<String>,
}

/// The task's memory; all of it can be lost.
struct Obeying {
    config: Config,
    node: Arc<Node>,
    witness: Arc<Witness>,
    logs: BTreeMap<String, Known>,
    live: bool,
    /// Directives that this process cannot answer; the next one tries again.
    given_up: BTreeSet<(String, u64)>,
    retry: Option<(Instant, Duration)>,
}

/// Obeys until shutdown.
pub(crate) async fn obey(
    config: Config,
    node: Arc<Node>,
    witness: Arc<Witness>,
) -> anyhow::Result<()> {
    let shutdown = node.shutdown.clone();
    let mut obeying = Obeying {
        config,
        node,
        witness,
        logs: BTreeMap::new(),
        live: false,
        given_up: BTreeSet::new(),
        retry: None,
    };
    let Some(mut subscription) = obeying.subscribe().await? else {
        return Ok(());
    };
    loop {
        let retry_at = obeying.retry.map(|(at, _)| at);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            delivery = subscription.next() => obeying.delivered(delivery)?,
            () = sleep_until(retry_at) => {}
        }
        obeying.answer_all().await;
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Obeying {
    async fn subscribe(&self) -> anyhow::Result<Option<Subscription>> {
        let mut wait = RETRY_FIRST;
        loop {
            match self
                .node
                .log
                .subscribe(Filter::Category("log".to_owned()), 0)
                .await
            {
                Ok(subscription) => return Ok(Some(subscription)),
                Err(error @ ReadError::Corrupt { .. }) => return Err(error.into()),
                Err(error @ ReadError::Unavailable { .. }) => {
                    tracing::warn!(%error, "directives cannot be followed yet");
                }
            }
            tokio::select! {
                () = self.node.shutdown.cancelled() => return Ok(None),
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_LAST),
            }
        }
    }

    fn delivered(&mut self, delivery: Option<Result<Delivery, ReadError>>) -> anyhow::Result<()> {
        match delivery {
            Some(Ok(Delivery::Commit(recorded))) => self.take_in(&recorded),
            Some(Ok(Delivery::CaughtUp(_))) => self.live = true,
            Some(Ok(Delivery::Damaged(damage))) => anyhow::bail!("{}", damage.reason),
            Some(Err(error @ ReadError::Unavailable { .. })) => {
                tracing::warn!(%error, "following directives is interrupted");
            }
            Some(Err(error @ ReadError::Corrupt { .. })) => return Err(error.into()),
            None => anyhow::bail!("the event log was closed"),
        }
        Ok(())
    }

    fn take_in(&mut self, recorded: &Recorded) {
        let known = self
            .logs
            .entry(recorded.stream.id().to_owned())
            .or_insert_with(|| Known {
                // Whoever can write to the event log cannot answer in this node's name.
                state: LogControl::of_node(&self.node.name, self.node.vkey.clone()),
                head: Head::EMPTY,
                broken: None,
            });
        if known.broken.is_some() {
            return;
        }
        let folded = decode(recorded)
            .map_err(|error| error.to_string())
            .and_then(|commit| {
                let envelope = commit.envelope.unwrap_or_default();
                let mut events = commit.events.iter();
                events
                    .try_for_each(|e| known.state.apply(&envelope, e))
                    .map_err(|illegal| illegal.to_string())
            });
        if let Err(reason) = folded {
            tracing::error!(stream = %recorded.stream, %reason, "the stream is set aside; its directives are not obeyed");
            known.broken = Some(reason);
        }
        known.head = recorded.head();
        for origin in &mut known.state.origins {
            origin.intents.clear();
        }
    }

    async fn answer_all(&mut self) {
        if !self.live || self.retry.is_some_and(|(at, _)| at > Instant::now()) {
            return;
        }
        let logs: Vec<(String, Known)> = self
            .logs
            .iter()
            .filter(|(_, known)| {
                known.broken.is_none() && !open_orders(&known.state, &self.node.name).is_empty()
            })
            .map(|(name, known)| (name.clone(), known.clone()))
            .collect();
        for (name, known) in logs {
            for epoch in open_orders(&known.state, &self.node.name) {
                let order = (name.clone(), epoch);
                if self.given_up.contains(&order) {
                    continue;
                }
                match self.answer(&name, &known, epoch).await {
                    Ok(()) => {}
                    Err(Failed::Later(reason)) => {
                        tracing::warn!(log = %name, epoch, %reason, "the directive is tried again");
                        self.back_off();
                        return;
                    }
                    Err(Failed::Never(reason)) => {
                        tracing::error!(log = %name, epoch, %reason, "the directive cannot be answered");
                        self.given_up.insert(order);
                    }
                }
            }
        }
        self.retry = None;
    }

    fn back_off(&mut self) {
        let wait = self
            .retry
            .map_or(RETRY_FIRST, |(_, wait)| (wait * 2).min(RETRY_LAST));
        self.retry = Some((Instant::now() + wait, wait));
    }

    async fn answer(&self, name: &str, known: &Known, epoch: u64) -> Result<(), Failed> {
        let Some(state) = known.state.directives.get(&epoch) else {
            return Ok(());
        };
        // Everything recorded before the directive is known now, the incident's reporters among it.
        let known_to_board = self.node.board.reached(state.position);
        if tokio::time::timeout(self.config.refresh(), known_to_board)
            .await
            .is_err()
        {
            return Err(Failed::Later(
                "this node has not caught up with the event log".to_owned(),
            ));
        }
        let stream = StreamName::new("log", name).map_err(|e| Failed::Never(e.to_string()))?;
        let mut stream = Stream::resume(
            Arc::clone(&self.node.log),
            stream,
            known.state.clone(),
            known.head,
        );
        stream.refresh().await?;
        if stream
            .state()
            .directives
            .get(&epoch)
            .is_some_and(|d| d.answered_by(&self.node.name))
        {
            return Ok(());
        }
        match self.judge(name, stream.state(), state) {
            Ok(()) => self.enforce(&mut stream, &state.directive).await,
            Err(reason) => self.refuse(&mut stream, &state.directive, reason).await,
        }
    }

    fn judge(&self, name: &str, log: &LogControl, state: &DirectiveState) -> Result<(), String> {
        let incident = &state.directive.incident;
        let requesters = self.node.board.read(|installation| {
            let incident = installation.incidents.get(incident);
            incident.map(Incident::requesters).unwrap_or_default()
        });
        judge(&self.config, &self.node, name, log, state, &requesters)
    }

    async fn enforce(
        &self,
        stream: &mut Stream<LogControl>,
        directive: &Directive,
    ) -> Result<(), Failed> {
        let origin = directive_input(directive, "origin").unwrap_or_default();
        let reason = format!(
            "isolated by incident {}, directive {}",
            directive.incident, directive.epoch
        );
        let thaws = directive.kind() == WireKind::RestoreKey;
        let changed = if thaws {
            self.witness.thaw(origin).await
        } else {
            self.witness.freeze(origin, reason).await
        };
        let state = changed.map_err(|e| Failed::Never(e.to_string()))?;
        let did = if thaws { "thawed" } else { "frozen" };
        let text = acknowledgement(
            &self.node.installation,
            &self.node.name,
            directive,
            (did, origin),
            &state,
        );
        let note = self
            .node
            .sign_note(&text)
            .await
            .map_err(|e| Failed::Later(e.to_string()))?;
        tracing::warn!(%origin, size = state.size, epoch = directive.epoch, incident = %directive.incident, did, "a directive about the origin is obeyed");
        let acknowledge = Command::Acknowledge {
            epoch: directive.epoch,
            node: self.node.name.clone(),
            note: note.to_string(),
            opened: None,
            keys: KeyChanges::default(),
        };
        match self.write(stream, &directive.incident, acknowledge).await {
            Err(ExecuteError::Rejected(rejection)) if rejection.code != RejectionCode::NotNow => {
                self.refuse(stream, directive, rejection.to_string()).await
            }
            written => Ok(written?),
        }
    }

    async fn refuse(
        &self,
        stream: &mut Stream<LogControl>,
        directive: &Directive,
        reason: String,
    ) -> Result<(), Failed> {
        let epoch = directive.epoch;
        tracing::warn!(epoch, %reason, "a directive is refused");
        let node = self.node.name.clone();
        let text = refusal_text(&self.node.installation, &node, directive, &reason);
        let note = self
            .node
            .sign_note(&text)
            .await
            .map_err(|e| Failed::Later(e.to_string()))?;
        Ok(self
            .write(
                stream,
                "",
                Command::Refuse {
                    epoch,
                    node,
                    reason,
                    note: note.to_string(),
                },
            )
            .await?)
    }

    async fn write(
        &self,
        stream: &mut Stream<LogControl>,
        incident: &str,
        command: Command,
    ) -> Result<(), ExecuteError> {
        let at = self.node.clock.now();
        let meta = self.node.meta().correlated(incident);
        stream
            .execute(meta, |log| log_control::decide(log, command.clone(), at))
            .await
            .map(drop)
    }
}

/// Why a directive has no answer yet.
enum Failed {
    Later(String),
    Never(String),
}

impl From<ExecuteError> for Failed {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Unavailable(_) | ExecuteError::Unknown(_) => {
                Self::Later(error.to_string())
            }
            ExecuteError::Rejected(_)
            | ExecuteError::Illegal(_)
            | ExecuteError::Decode(_)
            | ExecuteError::Broken(_) => Self::Never(error.to_string()),
        }
    }
}

/// Epochs of isolations, and of orders to take one back, that the node has not answered, oldest first. Other kinds are not for a witness.
fn open_orders(log: &LogControl, node: &str) -> Vec<u64> {
    let unanswered = log.unanswered(node).filter(|d| judged(d.kind()).is_some());
    unanswered.map(|d| d.directive.epoch).collect()
}

/// The plan's kind of what a witness judges.
fn judged(kind: WireKind) -> Option<DirectiveKind> {
    match kind {
        WireKind::IsolateKey => Some(DirectiveKind::IsolateKey),
        WireKind::RestoreKey => Some(DirectiveKind::RestoreKey),
        WireKind::Unspecified
        | WireKind::ReadOnly
        | WireKind::RotateOrigin
        | WireKind::Reseal
        | WireKind::Open
        | WireKind::Queue
        | WireKind::QueueNoncritical
        | WireKind::RevokeKey
        | WireKind::DestroyKey => None,
    }
}

/// Whether the evidence was sealed before a frozen origin goes on: by what the incident's stream holds and the installation's signing key signed.
fn snapshot(node: &Node, directive: &Directive) -> Result<(), String> {
    let (bundle, evidence) = node.board.read(|installation| {
        let published = installation.trust.published.as_ref();
        let incident = installation.incidents.get(&directive.incident);
        (
            published.map(|it| it.bundle.clone()),
            incident.map(|it| it.evidence.clone()).unwrap_or_default(),
        )
    });
    let bundle = bundle.ok_or("no trust bundle names the installation's signing key yet")?;
    let opened = TrustBundle::parse(&bundle).and_then(|bundle| bundle.open(None));
    let opened = opened.map_err(|error| error.to_string())?;
    verify_snapshot(directive, &evidence, &opened.payload().signing_key)
}

/// Whether this node may obey, by its own plan and roster.
fn judge(
    config: &Config,
    node: &Node,
    name: &str,
    log: &LogControl,
    state: &DirectiveState,
    requesters: &[String],
) -> Result<(), String> {
    let seen: BTreeSet<Order> = log
        .directives
        .values()
        .filter(|d| d.directive.epoch != state.directive.epoch && d.acks.contains_key(&node.name))
        .map(|d| Order::from(&d.directive))
        .collect();
    let kind = judged(state.kind()).ok_or("a witness does not judge this kind of directive")?;
    let required = node.plan.plan().containment(kind);
    let required =
        required.ok_or_else(|| format!("this node's plan names no quorum for {kind}"))?;
    let validity = node.plan.plan().approval_validity().as_millis();
    let expected = DirectiveExpectation {
        installation: &node.installation,
        environment: match node.environment {
            eventlog::Environment::Production => Environment::Production,
            eventlog::Environment::Drill => Environment::Drill,
        },
        log: name,
        roster: &node.roster_of(&state.directive),
        required,
        max_validity_ms: i64::try_from(validity).unwrap_or(i64::MAX),
        now_ms: node.clock.now().wall_ms,
        max_skew_ms: config.clock_skew_ms,
        max_age_ms: config.directive_max_age_ms,
        seen: &seen,
        revoked: &node.board.read(|it| it.trust.revoked_keys.fingerprints()),
        requesters,
    };
    verify_directive(&state.directive, &expected).map_err(|refusal| refusal.to_string())?;
    if kind == DirectiveKind::RestoreKey {
        snapshot(node, &state.directive)?;
    }
    Ok(())
}

fn acknowledgement(
    installation: &str,
    node: &str,
    directive: &Directive,
    (did, origin): (&str, &str),
    state: &OriginState,
) -> String {
    let results = BTreeMap::from([(did.to_owned(), format!("{origin} at size {}", state.size))]);
    let head = (state.size, state.root.as_bytes());
    acknowledgement_text(installation, node, directive, head, &results)
}
