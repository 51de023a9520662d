//! What has to be told now, and when to look again.

use std::collections::BTreeSet;

use sealwarden_runbook::{
    Audience, Channel, ChannelKind, IncidentSeverity, Person, PlanSet, Role, Roster,
};
use sealwarden_wire::event::v1::{IncidentStage, NoticePrepared, PageAction};

use super::beforehand;
use super::brief::{self, millis, one_line};
use super::runs::RunFacts;
use super::state::{Communication, awaited};
use crate::approval::RevokedKeys;
use crate::incident::{Incident, stage_name, time_text};
use crate::log_control::LogControl;

/// How long an incident may be open without a class until people are told so: proven ones are classified at once.
const UNCLASSIFIED_MS: i64 = 10_000;
/// Of an incident that was over for so long when this was first asked, nothing is told: an old log read for the first time calls nobody.
const STALE_MS: i64 = 3_600_000;

/// Everything that decides what is told.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The installation's name.
    pub installation: &'a str,
    /// The incident's id.
    pub id: &'a str,
    /// The incident.
    pub incident: &'a Incident,
    /// The earliest thing that its signals saw, Unix milliseconds.
    pub earliest_ms: i64,
    /// The log that it is about.
    pub log: Option<&'a LogControl>,
    /// Its runs.
    pub runs: &'a [&'a RunFacts],
    /// What was told already.
    pub communication: &'a Communication,
    /// The plan.
    pub plan: &'a PlanSet,
    /// The people: the roster in force.
    pub roster: &'a Roster,
    /// Keys of people that were revoked.
    pub revoked: &'a RevokedKeys,
    /// Names of channels that have an address here.
    pub reachable: &'a BTreeSet<String>,
    /// Now, Unix milliseconds.
    pub now_ms: i64,
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Due {
    /// Texts to record. What came due together for an audience is one text.
    pub notices: Vec<NoticePrepared>,
    /// When to look again, Unix milliseconds, if nothing happens before.
    pub next_ms: Option<i64>,
}

/// Something to tell, with a sentence of its own.
struct Cause {
    key: String,
    says: String,
    page: PageAction,
    /// What engineers can type; empty where nothing has to be done.
    command: String,
    /// Whether executives hear of it, too.
    executives: bool,
    /// The person who is asked, where it is one.
    person: Option<Contact>,
}

struct Contact {
    id: String,
    mail: String,
}

impl Cause {
    fn new(key: String, says: String) -> Self {
        Self {
            key,
            says,
            page: PageAction::None,
            command: String::new(),
            executives: false,
            person: None,
        }
    }

    fn paging(mut self, page: PageAction) -> Self {
        self.page = page;
        self
    }

    fn with_command(mut self, command: String) -> Self {
        self.command = command;
        self
    }

    fn for_executives(mut self) -> Self {
        self.executives = true;
        self
    }
}

/// Keeps the earliest time.
fn sooner(next: &mut Option<i64>, at_ms: i64) {
    *next = Some(next.map_or(at_ms, |known| known.min(at_ms)));
}

/// What has to be told now. Pure: the same situation gives the same texts.
pub fn due(situation: &Situation<'_>) -> Due {
    let mut due = Due::default();
    if situation.plan.plan().communication().is_none() {
        return due;
    }
    if situation.incident.opened.is_none() || is_stale(situation) {
        return due;
    }
    let mut causes = Vec::new();
    let (public, failed) = beforehand::due(situation);
    life(situation, &mut causes, &mut due.next_ms);
    duties(situation, &mut causes);
    waiting(situation, &mut causes, &mut due.next_ms);
    outside(situation, &public, &failed, &mut causes);
    if situation.incident.is_open() {
        ownership(situation, &mut causes, &mut due.next_ms);
        cadence(situation, &mut causes, &mut due.next_ms);
    }
    let covered = &situation.communication.covered;
    for audience in [Audience::Engineers, Audience::Executives] {
        let told = |cause: &&Cause| {
            let hears = audience == Audience::Engineers || cause.executives;
            hears && !covered.contains(&key_for(audience, &cause.key))
        };
        let new: Vec<&Cause> = causes.iter().filter(told).collect();
        let (personal, shared): (Vec<&Cause>, Vec<&Cause>) =
            new.into_iter().partition(|cause| cause.person.is_some());
        if !shared.is_empty() {
            due.notices.push(notice(situation, audience, &shared));
        }
        for cause in personal {
            due.notices.push(notice(situation, audience, &[cause]));
        }
    }
    due.notices.extend(public);
    for notice in &mut due.notices {
        notice.channels = channels(situation, notice);
    }
    due
}

/// The channels that take a notice: those of its audience that have an address here. Pagers take only what wakes somebody or lets them sleep; a person's own address
/// wants a mail server.
fn channels(situation: &Situation<'_>, notice: &NoticePrepared) -> Vec<String> {
    let Some(communication) = situation.plan.plan().communication() else {
        return Vec::new();
    };
    let audience = match notice.audience.as_str() {
        "executives" => Audience::Executives,
        "public" => Audience::Public,
        _ => Audience::Engineers,
    };
    let pages = notice.page() != PageAction::None;
    let personal = !notice.mail.is_empty();
    let mut mailed = false;
    let takes = |channel: &&Channel| {
        let reads = channel.audiences.contains(&audience);
        match channel.kind {
            ChannelKind::PagerDuty => reads && pages,
            // One letter is enough, whichever server sends it.
            ChannelKind::Mail if personal => !std::mem::replace(&mut mailed, true),
            ChannelKind::Slack | ChannelKind::Mail | ChannelKind::StatusPage => reads,
        }
    };
    let reachable = communication.channels.values();
    let reachable = reachable.filter(|channel| situation.reachable.contains(&channel.name));
    let channels = reachable.filter(takes);
    channels.map(|channel| channel.name.clone()).collect()
}

fn key_for(audience: Audience, key: &str) -> String {
    format!("{}: {key}", audience.as_str())
}

fn is_stale(situation: &Situation<'_>) -> bool {
    let closed = situation.incident.reached_at(IncidentStage::Closed);
    situation.communication.notices.is_empty()
        && closed.is_some_and(|at| at.saturating_add(STALE_MS) < situation.now_ms)
}

/// One text for all that came due together.
fn notice(situation: &Situation<'_>, audience: Audience, causes: &[&Cause]) -> NoticePrepared {
    let brief = match audience {
        Audience::Executives => brief::executives(situation),
        Audience::Engineers | Audience::Public => brief::engineers(situation),
    };
    let mut text = String::new();
    for cause in causes {
        text.push_str(&one_line(&cause.says));
        if audience == Audience::Engineers && !cause.command.is_empty() {
            text.push(' ');
            text.push_str(&cause.command);
        }
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&brief.text);
    // Resolving ends all that came before it; triggering wakes somebody.
    let page = [
        PageAction::Resolve,
        PageAction::Trigger,
        PageAction::Acknowledge,
    ]
    .into_iter()
    .find(|page| causes.iter().any(|cause| cause.page == *page))
    .unwrap_or(PageAction::None);
    let person = causes.iter().find_map(|cause| cause.person.as_ref());
    NoticePrepared {
        audience: match person {
            Some(_) => "person".to_owned(),
            None => audience.as_str().to_owned(),
        },
        title: brief.title,
        text,
        covers: causes
            .iter()
            .map(|cause| key_for(audience, &cause.key))
            .collect(),
        page: page.into(),
        addressee: person.map(|p| p.id.clone()).unwrap_or_default(),
        mail: person.map(|p| p.mail.clone()).unwrap_or_default(),
        language: "en".to_owned(),
        ..NoticePrepared::default()
    }
}

/// Notices to people outside that wait for signatures, or cannot be made.
fn outside(
    situation: &Situation<'_>,
    public: &[NoticePrepared],
    failed: &[beforehand::Failed],
    causes: &mut Vec<Cause>,
) {
    let id = situation.id;
    let told = situation.communication.notices.iter();
    let waiting = told
        .filter(|notice| !notice.is_free() && !notice.is_denied())
        .map(|notice| &notice.prepared);
    let new = public.iter().filter(|notice| !awaited(notice).is_empty());
    for notice in waiting.chain(new) {
        let says = format!(
            "A notice to people outside, \"{}\", waits for signatures of {}.",
            notice.title,
            awaited(notice).join(" and ")
        );
        let key = format!("waits {}", notice.covers.join(", "));
        let cause = Cause::new(key, says).for_executives();
        causes.push(cause.with_command(format!("sealwarden notice list {id}")));
    }
    for it in failed {
        let says = format!(
            "The notice {} to people outside is NOT made: {}.",
            it.name, it.reason
        );
        let key = format!("template {} {} fails", it.name, it.digest);
        let by_hand = format!("sealwarden notice publish {id} --title … --text …");
        let cause = Cause::new(key, says).for_executives();
        causes.push(cause.with_command(by_hand));
    }
}

/// Opening, class, stages.
fn life(situation: &Situation<'_>, causes: &mut Vec<Cause>, next: &mut Option<i64>) {
    let incident = situation.incident;
    if let Some(c) = &incident.classified {
        let key = format!("classified {} {}", c.class, c.severity);
        let says = format!(
            "It is classified as {} ({}), by {}.",
            c.class, c.severity, c.by
        );
        let cause = Cause::new(key, says).paging(PageAction::Trigger);
        causes.push(cause.for_executives());
    } else {
        let at_ms = incident.opened_at_ms.saturating_add(UNCLASSIFIED_MS);
        if at_ms <= situation.now_ms {
            let says = "An incident is open, and a person has to classify it.".to_owned();
            causes.push(Cause::new("opened".to_owned(), says).paging(PageAction::Trigger));
        } else {
            sooner(next, at_ms);
        }
    }
    for (stage, at_ms, reason) in &incident.stages {
        let tells = matches!(
            stage,
            IncidentStage::Contained
                | IncidentStage::Recovering
                | IncidentStage::Revalidated
                | IncidentStage::Closed
        );
        if !tells {
            continue;
        }
        let name = stage_name(*stage);
        let says = format!("It is {name} since {}: {reason}", time_text(*at_ms));
        let mut cause = Cause::new(format!("stage {name}"), says).for_executives();
        if *stage == IncidentStage::Closed {
            cause = cause.paging(PageAction::Resolve);
        }
        causes.push(cause);
    }
    for (index, word) in situation.communication.acknowledged.iter().enumerate() {
        let says = format!("{} takes care of it. {}", word.by, word.note);
        let key = format!("acknowledged {index}");
        causes.push(Cause::new(key, says).paging(PageAction::Acknowledge));
    }
}

/// What was recorded of duties to notify.
fn duties(situation: &Situation<'_>, causes: &mut Vec<Cause>) {
    for (regime, state) in &situation.incident.obligations.regimes {
        for (duty, (due_at_ms, percent)) in &state.warned {
            let key = format!("duty {regime}/{duty} {due_at_ms} {percent}");
            let when = if *percent == 100 {
                "is due at once".to_owned()
            } else {
                format!(
                    "is due at {}: {percent} % of the time has gone by",
                    time_text(*due_at_ms)
                )
            };
            causes.push(Cause::new(key, format!("The duty {regime}/{duty} {when}.")));
        }
        for (duty, due_at_ms) in &state.missed {
            let key = format!("duty {regime}/{duty} {due_at_ms} missed");
            let says = format!(
                "The duty {regime}/{duty} was due at {} and nobody recorded that it was met.",
                time_text(*due_at_ms)
            );
            causes.push(Cause::new(key, says).for_executives());
        }
    }
}

/// Steps that wait for approvals, and whose turn it is when nobody answers.
fn waiting(situation: &Situation<'_>, causes: &mut Vec<Cause>, next: &mut Option<i64>) {
    for run in situation.runs.iter().filter(|run| !run.ended) {
        let Some(runbook) = situation.plan.runbook(&run.runbook) else {
            continue;
        };
        for (id, waits) in &run.waiting {
            let step = runbook.steps().iter().find(|step| step.id == *id);
            let Some(approval) = step.and_then(|step| step.approval.as_ref()) else {
                continue;
            };
            let key = format!("approval {} {id}", run.run);
            let says = format!(
                "Step {id} of run {} waits for {}: sealwarden approve {} {id}",
                run.run, approval.quorum, run.run
            );
            causes.push(Cause::new(key.clone(), says));
            // Whoever said that they take care has that long again.
            let words = situation.communication.acknowledged.iter();
            let since_ms = words.map(|word| word.at_ms).fold(waits.since_ms, i64::max);
            let roles: Vec<&Role> = approval.quorum.roles().keys().collect();
            let people = people(situation.roster, &roles);
            let asked: Vec<&Person> = people
                .into_iter()
                .filter(|p| !waits.decided.contains(&p.id) && !run.requesters.contains(&p.id))
                .collect();
            let says = format!(
                "step {id} of run {} waits for an approval since {}",
                run.run,
                time_text(waits.since_ms)
            );
            escalate(
                situation,
                &format!("escalation {key} {since_ms}"),
                &says,
                since_ms,
                millis(approval.within),
                &asked,
                causes,
                next,
            );
        }
    }
}

/// Nobody said that they take care.
fn ownership(situation: &Situation<'_>, causes: &mut Vec<Cause>, next: &mut Option<i64>) {
    let Some(communication) = situation.plan.plan().communication() else {
        return;
    };
    if !situation.communication.acknowledged.is_empty() {
        return;
    }
    let Some(after) = communication.acknowledge.get(&severity(situation)) else {
        return;
    };
    let roles: Vec<&Role> = communication.contacts.iter().collect();
    let people = people(situation.roster, &roles);
    let since_ms = situation.incident.opened_at_ms;
    let says = format!(
        "nobody has acknowledged the incident since {}",
        time_text(since_ms)
    );
    escalate(
        situation,
        "escalation owner",
        &says,
        since_ms,
        millis(*after),
        &people,
        causes,
        next,
    );
}

/// The severity; the worst while nobody has said what it is.
fn severity(situation: &Situation<'_>) -> IncidentSeverity {
    let class = situation.incident.classified.as_ref();
    let known = class.and_then(|c| {
        IncidentSeverity::ALL
            .into_iter()
            .find(|s| s.as_str() == c.severity)
    });
    known.unwrap_or(IncidentSeverity::Critical)
}

/// The people of some roles, those of the first one first, each once.
fn people<'p>(roster: &'p Roster, roles: &[&Role]) -> Vec<&'p Person> {
    let mut found: Vec<&Person> = Vec::new();
    for role in roles {
        for person in roster.people() {
            if person.roles.contains(*role) && found.iter().all(|known| known.id != person.id) {
                found.push(person);
            }
        }
    }
    found
}

/// One person more after each time that went by. When all were asked, it is said once, and that is all that can be done from here.
#[expect(
    clippy::too_many_arguments,
    reason = "two callers with one rule; a struct for its arguments would only name them twice"
)]
fn escalate(
    situation: &Situation<'_>,
    key: &str,
    says: &str,
    since_ms: i64,
    after_ms: i64,
    people: &[&Person],
    causes: &mut Vec<Cause>,
    next: &mut Option<i64>,
) {
    let mut at_ms = since_ms;
    for (turn, person) in people.iter().enumerate() {
        at_ms = at_ms.saturating_add(after_ms);
        if at_ms > situation.now_ms {
            return sooner(next, at_ms);
        }
        let mail = person.contact.strip_prefix("mailto:").unwrap_or_default();
        let says = format!(
            "{} ({}) is asked, because {says}. {} of {} people were asked so far. Answer with: sealwarden incident ack {}",
            person.name,
            person.contact,
            turn + 1,
            people.len(),
            situation.id
        );
        let mut cause = Cause::new(format!("{key} {turn}"), says).paging(PageAction::Trigger);
        cause.person = Some(Contact {
            id: person.id.clone(),
            mail: mail.to_owned(),
        });
        causes.push(cause);
    }
    at_ms = at_ms.saturating_add(after_ms);
    if at_ms > situation.now_ms {
        return sooner(next, at_ms);
    }
    let says = format!("Everybody who could be asked was asked, and {says}.");
    causes.push(
        Cause::new(format!("{key} all"), says)
            .paging(PageAction::Trigger)
            .for_executives(),
    );
}

/// The owner is reminded to say where things stand.
fn cadence(situation: &Situation<'_>, causes: &mut Vec<Cause>, next: &mut Option<i64>) {
    let Some(communication) = situation.plan.plan().communication() else {
        return;
    };
    let Some(every) = communication.cadence.get(&severity(situation)) else {
        return;
    };
    let told = situation.communication.notices.iter().filter(|notice| {
        let reminder = |key: &String| key.contains(": reminder ");
        !notice.prepared.by.is_empty() || notice.prepared.covers.iter().any(reminder)
    });
    let last_ms = told
        .map(|notice| notice.at_ms)
        .fold(situation.incident.opened_at_ms, i64::max);
    let at_ms = last_ms.saturating_add(millis(*every));
    if at_ms > situation.now_ms {
        return sooner(next, at_ms);
    }
    let words = situation.communication.acknowledged.last();
    let owner = words.map_or_else(|| communication.owner.to_string(), |word| word.by.clone());
    let says = format!(
        "{owner}: nobody has said since {} where things stand. Tell the others: sealwarden incident tell {} 'TEXT'",
        time_text(last_ms),
        situation.id
    );
    causes.push(Cause::new(format!("reminder {last_ms}"), says));
}
