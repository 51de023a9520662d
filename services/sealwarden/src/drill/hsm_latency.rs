//! `drill hsm-latency`: the provider of the sealing keys becomes slow, and then answers no more.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::Context as _;
use sealwarden_keys::faults::Fault;
use sealwarden_wire::run::v1::{Run, Step};
use sealwarden_wire::seal::v1::{
    FailBackRequest, Priority, Stage, StatusRequest, WatchTicketRequest,
};
use serde_json::{Value, json};
use tonic::Code;

use super::documents::{self, Document};
use super::sandbox::{Sandbox, Scene};
use super::score::{self, Findings, Score, Since};
use super::watch::Watch;
use super::{Narrator, act};
use crate::cli::Drill;
use crate::client::Client;
use crate::commands::verify::beside;
use crate::failure::Failure;
use crate::host::installation::write_public;

/// The provider that misbehaves.
const PROVIDER: &str = "hsm";

/// Two providers, of which the first is preferred. Its limits are tight, so that the drill takes seconds: what would last minutes is the same.
pub(crate) const SCENE: Scene = Scene {
    settings: Cow::Borrowed(
        "sealing:\n  slow_key_ms: 500\nkeys:\n  providers:\n    - {name: hsm, kind: software, dir: hsm, deadline_ms: 2000, probe_every_ms: 200, breaker: {slow_ms: 500, slow_window_ms: 1500, slow_calls: 3, pause_ms: 100, longest_pause_ms: 500, good_probes: 2}}\n    - {name: software, kind: software}\n",
    ),
    misbehaves: Some(PROVIDER),
};

/// How late every answer of the provider is.
const LATE: Duration = Duration::from_millis(900);
/// Pause before a person asks again whether the provider is well.
const AGAIN: Duration = Duration::from_millis(200);
/// The fewest documents that show all of it.
const FEWEST: usize = 6;

/// When a document was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before anything was wrong.
    Before,
    /// While the provider was slow, and beyond the failover.
    Slow,
    /// Critical, while what is not critical was diverted.
    Critical,
    /// Not critical, while that was diverted: it has a ticket.
    Diverted,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Before, Self::Slow, Self::Critical, Self::Diverted];

    fn words(self) -> &'static str {
        match self {
            Self::Before => "before the latency",
            Self::Slow => "while the provider was slow",
            Self::Critical => "diverted, critical",
            Self::Diverted => "diverted, not critical",
        }
    }
}

/// A document, when it was sealed and how.
struct Sealed {
    document: Document,
    phase: Phase,
    /// The ticket that it was given first, if it had to wait.
    ticket: Option<String>,
    /// How long its caller waited for seal or ticket, milliseconds.
    took_ms: u128,
}

/// What the drill does while the runbook runs.
struct Story<'a> {
    narrator: Narrator,
    sandbox: &'a Sandbox,
    client: Client,
    /// Not sealed yet.
    left: Vec<Document>,
    sealed: Vec<Sealed>,
    diverted: bool,
    repaired: bool,
}

/// The story.
pub(crate) async fn play(
    narrator: Narrator,
    args: &Drill,
    sandbox: &Sandbox,
) -> Result<Score, Failure> {
    let mut story = Story {
        narrator,
        sandbox,
        client: sandbox.client("operator")?,
        left: documents::collect(args.dir.as_deref(), &sandbox.folder)?,
        sealed: Vec::new(),
        diverted: false,
        repaired: false,
    };
    if story.left.len() < FEWEST {
        return Err(Failure::usage(format!(
            "{} documents are too few for this drill; name a folder with at least {FEWEST}: --dir DIR",
            story.left.len()
        )));
    }
    narrator.chapter("Sealing");
    let third = story.left.len() / 3;
    story.stand_by().await?;
    story.seal(third, Phase::Before).await?;
    narrator.say(&format!(
        "  {third} files sealed by the {PROVIDER} provider; the software provider has a key on standby that the trust bundle lists"
    ));

    narrator.chapter("The latency");
    let slow_ms = jiff::Timestamp::now().as_millisecond();
    sandbox.fault.set(Fault::Delay(LATE));
    narrator.say(&format!(
        "  from now on every answer of the {PROVIDER} provider is {} ms late",
        LATE.as_millis()
    ));
    let failover_ms = story.until_failover(third).await?;
    sandbox.fault.set(Fault::Hang);
    narrator.say(&format!(
        "  its breaker opened and the software provider's key signs, {} ms after the first late answer; now the {PROVIDER} provider answers nothing at all",
        failover_ms - slow_ms
    ));

    narrator.chapter("The response (time since the first late answer)");
    let mut watch = Watch::new(narrator, slow_ms);
    let respond = act::respond(
        narrator,
        sandbox,
        &mut watch,
        "divert",
        async |run: &Run| story.act(run).await,
    );
    let incident = respond.await?;
    // Whatever happened: nothing of this process may wait for ever.
    sandbox.fault.set(Fault::None);

    narrator.chapter("Afterwards");
    story.collect().await?;
    let signs = story.on_duty();
    story.verify().await?;
    let since = Since {
        at_ms: slow_ms,
        words: "the first late answer",
    };
    let findings = findings(&story.sealed, failover_ms - slow_ms, &signs);
    score::collect(sandbox, &incident, since, findings).await
}

impl Story<'_> {
    /// Waits until another provider could sign, and verifiers would know its key.
    async fn stand_by(&self) -> Result<(), Failure> {
        let mut changes = self.sandbox.started.board.changes();
        loop {
            changes.mark_unchanged();
            let status = self
                .client
                .sealing()
                .await?
                .status(StatusRequest {})
                .await?;
            let keys = status.into_inner().keys;
            if keys.iter().any(|key| key.duty == "standby" && key.listed) {
                return Ok(());
            }
            changes.changed().await.context("the event log ended")?;
        }
    }

    /// Seals some of the documents that are left, one after another, as their phase says.
    async fn seal(&mut self, count: usize, phase: Phase) -> Result<(), Failure> {
        for _ in 0..count.min(self.left.len()) {
            let document = self.left.remove(0);
            let begun = std::time::Instant::now();
            let priority = if phase == Phase::Critical {
                Priority::Critical
            } else {
                Priority::Normal
            };
            let mut sealing = self.client.sealing().await?;
            let answer = documents::seal(&mut sealing, &document, priority, true).await?;
            let queued = answer.stage() == Stage::Queued;
            self.sealed.push(Sealed {
                document,
                phase,
                ticket: queued.then_some(answer.ticket),
                took_ms: begun.elapsed().as_millis(),
            });
        }
        Ok(())
    }

    /// Goes on sealing until another provider signs; answers when it was.
    async fn until_failover(&mut self, at_least: usize) -> Result<i64, Failure> {
        self.seal(at_least, Phase::Slow).await?;
        // A few documents may be too few for the breaker: the last one is sealed again.
        while self.on_duty() == PROVIDER {
            let again = self.sealed.last().map(|it| it.document.clone());
            self.left
                .insert(0, again.context("no document was sealed")?);
            self.sealed.pop();
            self.seal(1, Phase::Slow).await?;
        }
        Ok(jiff::Timestamp::now().as_millisecond())
    }

    /// The provider whose key signs.
    fn on_duty(&self) -> String {
        let found = self.sandbox.started.board.read(|installation| {
            let current = installation.logs.values().find_map(|log| log.current())?;
            current.signing().map(|it| it.provider.clone()).next()
        });
        found.unwrap_or_default()
    }

    /// What goes on outside the runbook: callers bring documents, and whoever runs the provider repairs it.
    async fn act(&mut self, run: &Run) -> Result<(), Failure> {
        if !self.diverted && in_state(run, "divert", "done") {
            self.diverted = true;
            let critical = self.left.len().div_ceil(2);
            self.seal(critical, Phase::Critical).await?;
            self.seal(usize::MAX, Phase::Diverted).await?;
            let waiting = self.sealed.iter().filter(|it| it.ticket.is_some()).count();
            self.narrator.say(&format!(
                "  (callers: {critical} critical files are sealed at once; {waiting} others are given tickets)"
            ));
        }
        if !self.repaired && in_state(run, "decide", "awaiting-person") {
            self.repaired = true;
            self.sandbox.fault.set(Fault::None);
            self.fail_back().await?;
            self.narrator.say(&format!(
                "  (people: the {PROVIDER} provider is repaired, and somebody failed back to it)"
            ));
        }
        Ok(())
    }

    /// As a person does it: `status` until the provider's breaker lets calls through again, then `keys failback`, which is refused until a probe is answered.
    async fn fail_back(&self) -> Result<(), Failure> {
        loop {
            let status = self
                .client
                .sealing()
                .await?
                .status(StatusRequest {})
                .await?;
            let providers = status.into_inner().providers;
            if !providers
                .iter()
                .any(|it| it.provider == PROVIDER && it.breaker == "closed")
            {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            let request = FailBackRequest {
                log: String::new(),
                provider: PROVIDER.to_owned(),
                why: "it was repaired (drill)".to_owned(),
            };
            match self.client.sealing().await?.fail_back(request).await {
                Ok(_) => return Ok(()),
                Err(status)
                    if matches!(status.code(), Code::FailedPrecondition | Code::Unavailable) =>
                {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(status) => return Err(status.into()),
            }
        }
    }

    /// Fetches the seals that tickets became.
    async fn collect(&self) -> Result<(), Failure> {
        for it in &self.sealed {
            let Some(ticket) = &it.ticket else { continue };
            let request = WatchTicketRequest {
                ticket: ticket.clone(),
                until: Stage::Witnessed.into(),
            };
            let mut sealing = self.client.sealing().await?;
            let mut answers = sealing.watch_ticket(request).await?.into_inner();
            let mut seal = None;
            while let Some(answer) = answers.message().await? {
                seal = answer.seal;
            }
            let seal = seal
                .ok_or_else(|| Failure::unavailable(format!("ticket {ticket} became no seal")))?;
            write_public(&beside(&it.document.path), &seal.seal)?;
        }
        Ok(())
    }

    /// Verifies all of them offline.
    async fn verify(&mut self) -> Result<(), Failure> {
        let bundle = documents::trust(&self.client, self.sandbox.data()).await?;
        for it in &mut self.sealed {
            (it.document.after, it.document.reason) = documents::verdict_of(&it.document, &bundle)?;
        }
        let valid = self.sealed.iter().filter(|it| it.document.after == "valid");
        self.narrator.say(&format!(
            "  every ticket became a seal; {} of {} files verify offline",
            valid.count(),
            self.sealed.len()
        ));
        Ok(())
    }
}

fn in_state(run: &Run, step: &str, state: &str) -> bool {
    run.steps
        .iter()
        .any(|it: &Step| it.step == step && it.state == state)
}

fn findings(sealed: &[Sealed], failover_ms: i64, signs: &str) -> Findings {
    let head = [
        "DOCUMENTS",
        "SEALED",
        "TICKETS",
        "LONGEST WAIT",
        "VALID NOW",
    ];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    let mut phases = Vec::new();
    for phase in Phase::ALL {
        let those = || sealed.iter().filter(move |it| it.phase == phase);
        let count = those().count();
        let tickets = those().filter(|it| it.ticket.is_some()).count();
        let valid = those().filter(|it| it.document.after == "valid").count();
        let longest_ms = those().map(|it| it.took_ms).max().unwrap_or(0);
        table.push(vec![
            phase.words().to_owned(),
            count.to_string(),
            tickets.to_string(),
            format!("{longest_ms} ms"),
            valid.to_string(),
        ]);
        phases.push(json!({
            "phase": phase.words(), "documents": count, "tickets": tickets, "longest_wait_ms": longest_ms, "valid": valid,
        }));
    }
    let verdicts: Vec<Value> = sealed
        .iter()
        .map(|it| {
            json!({
                "file": it.document.name, "phase": it.phase.words(), "ticket": it.ticket, "after": it.document.after, "reason": it.document.reason,
            })
        })
        .collect();
    Findings {
        title: "What callers had of it",
        table,
        facts: vec![
            ("failover_ms", json!(failover_ms)),
            ("signs_now", json!(signs)),
            ("phases", json!(phases)),
            ("verdicts", json!(verdicts)),
        ],
        problems: problems(sealed, signs),
    }
}

fn problems(sealed: &[Sealed], signs: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for it in sealed {
        let (name, words) = (&it.document.name, it.phase.words());
        if it.document.after != "valid" {
            problems.push(format!(
                "{name} ({words}) is {}: {}",
                it.document.after, it.document.reason
            ));
        }
        match (it.phase, &it.ticket) {
            (Phase::Diverted, None) => {
                problems.push(format!(
                    "{name} was sealed at once, although it was diverted"
                ));
            }
            (Phase::Before | Phase::Critical, Some(_)) => {
                problems.push(format!("{name} ({words}) had to wait in the queue"));
            }
            (Phase::Diverted | Phase::Slow, Some(_))
            | (Phase::Before | Phase::Slow | Phase::Critical, None) => {}
        }
    }
    if !sealed.iter().any(|it| it.phase == Phase::Diverted) {
        problems.push("nothing was ever diverted into the queue".to_owned());
    }
    if signs != PROVIDER {
        problems.push(format!(
            "somebody failed back, and the {signs} provider signs all the same"
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(phase: Phase, ticket: bool, after: &str) -> Sealed {
        Sealed {
            document: Document {
                name: "a".to_owned(),
                path: "a".into(),
                before: String::new(),
                first_seal_after: String::new(),
                after: after.to_owned(),
                reason: String::new(),
            },
            phase,
            ticket: ticket.then(|| "t".to_owned()),
            took_ms: 1,
        }
    }

    #[test]
    fn a_drill_in_which_nothing_was_diverted_or_something_was_lost_fails() {
        let good = || {
            vec![
                sealed(Phase::Before, false, "valid"),
                sealed(Phase::Slow, false, "valid"),
                sealed(Phase::Critical, false, "valid"),
                sealed(Phase::Diverted, true, "valid"),
            ]
        };
        assert_eq!(problems(&good(), PROVIDER), Vec::<String>::new());
        assert_eq!(problems(&good(), "software").len(), 1);
        assert_eq!(problems(&good()[..3], PROVIDER).len(), 1);
        let mut waited = good();
        waited[2].ticket = Some("t".to_owned());
        assert!(problems(&waited, PROVIDER)[0].contains("had to wait"));
        let mut lost = good();
        lost[3].document.after = "bad-proof".to_owned();
        assert!(problems(&lost, PROVIDER)[0].contains("bad-proof"));
    }
}
