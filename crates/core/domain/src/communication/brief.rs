//! The state of an incident in a few lines: once for those who work on it, once for those who answer for it.

use std::fmt::Write as _;

use sealwarden_runbook::{PlanSet, Runbook, Step, show_duration};
use sealwarden_wire::event::v1::IncidentStage;

use super::due::Situation;
use super::runs::RunFacts;
use crate::approval::is_line_breaking;
use crate::incident::{stage_name, time_text};
use crate::log_control::kind_name;
use crate::obligation::{self, Facts, Standing};

/// The longest single line of a brief, characters: signals quote what strangers wrote.
const MAX_LINE: usize = 600;
/// The most lines of one list.
const MAX_LISTED: usize = 12;

/// A title and a plain text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    /// One line.
    pub title: String,
    /// Lines that end in `\n`.
    pub text: String,
}

/// A foreign text as a part of one line: nothing that breaks lines, moves a cursor or turns the direction of writing around.
pub fn one_line(text: &str) -> String {
    let odd = |c: char| {
        is_line_breaking(c) || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    let words = text.split(|c: char| odd(c) || c == ' ');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let line = words.join(" ");
    if line.chars().count() <= MAX_LINE {
        return line;
    }
    let cut: String = line.chars().take(MAX_LINE).collect();
    format!("{cut}…")
}

/// A list with a heading; what is over the bound is counted.
fn list(text: &mut String, heading: &str, lines: &[String], nothing: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{heading}:");
    for line in lines.iter().take(MAX_LISTED) {
        let _ = writeln!(text, "- {}", one_line(line));
    }
    if lines.is_empty() {
        let _ = writeln!(text, "- {nothing}");
    }
    if lines.len() > MAX_LISTED {
        let _ = writeln!(text, "- and {} more", lines.len() - MAX_LISTED);
    }
}

/// `[critical] key-compromise of origin …`
pub(super) fn title(situation: &Situation<'_>) -> String {
    let incident = situation.incident;
    let opened = incident.opened.as_ref();
    let subject = opened.map_or("", |o| o.title.as_str());
    let title = match &incident.classified {
        Some(c) => format!("[{}] {}: {subject}", c.severity, c.class),
        None => format!("[not classified] {subject}"),
    };
    one_line(&title)
}

/// For those who work on it: what is seen, touched, done and needed, and the commands that show more.
pub fn engineers(situation: &Situation<'_>) -> Brief {
    let incident = situation.incident;
    let mut text = standing(situation);
    list(&mut text, "Impact", &impact(situation), "not known yet");
    list(
        &mut text,
        "Affected",
        &affected(situation),
        "no log is named",
    );
    list(
        &mut text,
        "Mitigation",
        &mitigation(situation),
        "nothing yet",
    );
    list(
        &mut text,
        "Next steps",
        &next_steps(situation),
        "none is known",
    );
    list(
        &mut text,
        "Approvals needed",
        &approvals(situation),
        "none now",
    );
    let duties = duties(situation);
    if !duties.is_empty() {
        list(&mut text, "Duties to notify", &duties, "");
    }
    let id = situation.id;
    let _ = writeln!(text, "More: sealwarden incident show {id}");
    for run in incident.runs.iter().take(MAX_LISTED) {
        let _ = writeln!(text, "      sealwarden run show {}", one_line(&run.run));
    }
    if situation.communication.acknowledged.is_empty() && incident.is_open() {
        let _ = writeln!(text, "Take it: sealwarden incident ack {id}");
    }
    Brief {
        title: title(situation),
        text,
    }
}

/// For those who answer for it: plain words, deadlines, whom to ask.
pub fn executives(situation: &Situation<'_>) -> Brief {
    let incident = situation.incident;
    let class = incident.classified.as_ref();
    let title_of_class = class.and_then(|c| situation.plan.plan().class(&c.class));
    let what = title_of_class.map_or("Not classified yet", |c| c.title.as_str());
    let severity = class.map_or("not known yet", |c| c.severity.as_str());
    let mut text = String::new();
    let _ = writeln!(text, "What happened: {}", one_line(what));
    let _ = writeln!(
        text,
        "How bad: {severity}. It began: {} UTC or later.",
        time_text(situation.earliest_ms)
    );
    let _ = writeln!(text, "Where it stands: {}", in_plain_words(situation));
    let _ = writeln!(
        text,
        "What it means for customers: {}",
        for_customers(situation)
    );
    if let Some(c) = class {
        let contain = situation.earliest_ms.saturating_add(c.target_contain_ms);
        let recover = situation.earliest_ms.saturating_add(c.target_recover_ms);
        let _ = writeln!(
            text,
            "Our targets: contained by {}, recovered by {}.",
            time_text(contain),
            time_text(recover)
        );
    }
    let _ = writeln!(text, "Who takes care: {}", owner(situation));
    let waiting = approvals(situation);
    list(
        &mut text,
        "Decisions that wait for people",
        &waiting,
        "none now",
    );
    let duties = duties(situation);
    list(
        &mut text,
        "Whom we have to tell, by when",
        &duties,
        "nobody, as far as is known",
    );
    let _ = writeln!(text, "Incident: {}", situation.id);
    Brief {
        title: title(situation),
        text,
    }
}

fn standing(situation: &Situation<'_>) -> String {
    let incident = situation.incident;
    let stage = incident.stage().map_or("unknown", stage_name);
    let mut text = format!(
        "Incident {}: {stage}; opened {}, first seen {}.\n",
        situation.id,
        time_text(incident.opened_at_ms),
        time_text(situation.earliest_ms),
    );
    match &incident.classified {
        Some(c) => {
            let _ = writeln!(
                text,
                "Classified by {}: {}",
                one_line(&c.by),
                one_line(&c.reason)
            );
        }
        None => text.push_str("Nobody has classified it: sealwarden incident classify\n"),
    }
    let _ = writeln!(text, "Owner: {}", owner(situation));
    text
}

fn owner(situation: &Situation<'_>) -> String {
    if let Some(word) = situation.communication.acknowledged.last() {
        return format!("{}, since {}", one_line(&word.by), time_text(word.at_ms));
    }
    match situation.plan.plan().communication() {
        Some(communication) => format!("{}; nobody has acknowledged it yet", communication.owner),
        None => "nobody has acknowledged it yet".to_owned(),
    }
}

fn impact(situation: &Situation<'_>) -> Vec<String> {
    let incident = situation.incident;
    let mut lines: Vec<String> = Vec::new();
    let mut signals: Vec<_> = incident.signals.values().collect();
    signals.sort_by_key(|signal| signal.at_ms);
    for signal in signals {
        let joined = &signal.joined;
        let proof = if joined.proven {
            "proven"
        } else {
            "not proven"
        };
        lines.push(format!("{} ({}, {proof})", joined.seen, joined.detector));
    }
    let since = incident
        .classified
        .as_ref()
        .map_or(0, |c| c.compromised_since_ms);
    if since != 0 {
        lines.insert(
            0,
            format!("seals since {} may be affected", time_text(since)),
        );
    }
    lines
}

fn affected(situation: &Situation<'_>) -> Vec<String> {
    let Some(opened) = &situation.incident.opened else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    if !opened.log.is_empty() {
        lines.push(format!("log {}, origin {}", opened.log, opened.origin));
    }
    if !opened.key.is_empty() {
        lines.push(format!("key {}", opened.key));
    }
    let origin = situation.log.and_then(|log| log.origin(&opened.origin));
    if let Some(origin) = origin {
        lines.push(format!(
            "sealing node {}, key provider {}",
            origin.node, origin.provider
        ));
    }
    if lines.is_empty() {
        lines.push(opened.subject.clone());
    }
    lines
}

fn mitigation(situation: &Situation<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let holds = situation.log.into_iter().flat_map(|log| &log.holds);
    for hold in holds.filter(|hold| hold.incident == situation.id) {
        let until = time_text(hold.expires_at_ms);
        lines.push(format!(
            "signing with {} is held until {until}; documents wait in the queue",
            hold.origin
        ));
    }
    let directives = situation
        .log
        .into_iter()
        .flat_map(|log| log.directives.values());
    for state in directives.filter(|state| state.directive.incident == situation.id) {
        let kind = kind_name(state.directive.kind());
        let word = match (state.isolated_at_ms, state.fenced_at_ms) {
            (Some(at), _) => format!("proven isolated at {}", time_text(at)),
            (None, Some(at)) => format!("proven fenced at {}", time_text(at)),
            (None, None) if state.acks.is_empty() => "ordered, nobody has acknowledged".to_owned(),
            (None, None) => format!("acknowledged by {}", names(state.acks.keys())),
        };
        lines.push(format!("{kind}: {word}"));
    }
    let bundles = situation.incident.evidence.len();
    if bundles > 0 {
        lines.push(format!("evidence is sealed in {bundles} bundles"));
    }
    lines
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The runbook that answers the incident: that of its run, or of its class while it has none.
fn runbook<'p>(
    plan: &'p PlanSet,
    run: Option<&RunFacts>,
    situation: &Situation<'_>,
) -> Option<&'p Runbook> {
    match run {
        Some(run) => plan.runbook(&run.runbook),
        None => plan.runbook_for(&situation.incident.classified.as_ref()?.class),
    }
}

fn next_steps(situation: &Situation<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for run in situation.runs.iter().filter(|run| !run.ended) {
        let steps = runbook(situation.plan, Some(run), situation).map_or(&[][..], Runbook::steps);
        for (step, reason) in &run.stuck {
            lines.push(format!("{} needs a person: {reason}", named(steps, step)));
        }
        lines.extend(
            run.running
                .iter()
                .map(|step| format!("{} is under way", named(steps, step))),
        );
        lines.extend(
            run.waiting
                .keys()
                .map(|step| format!("{} waits", named(steps, step))),
        );
    }
    if lines.is_empty() && situation.runs.is_empty() && situation.incident.is_open() {
        let steps = runbook(situation.plan, None, situation).map_or(&[][..], Runbook::steps);
        lines.extend(
            steps
                .iter()
                .map(|step| format!("{}: {}", step.id, step.title)),
        );
    }
    lines
}

fn named(steps: &[Step], id: &str) -> String {
    match steps.iter().find(|step| step.id == id) {
        Some(step) => format!("{id} ({})", step.title),
        None => id.to_owned(),
    }
}

fn approvals(situation: &Situation<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for run in situation.runs.iter().filter(|run| !run.ended) {
        let Some(runbook) = runbook(situation.plan, Some(run), situation) else {
            continue;
        };
        for (id, waiting) in &run.waiting {
            let Some(approval) = runbook
                .steps()
                .iter()
                .find(|s| s.id == *id)
                .and_then(|s| s.approval.as_ref())
            else {
                continue;
            };
            let by = time_text(waiting.since_ms.saturating_add(millis(approval.within)));
            let given = if waiting.decided.is_empty() {
                "nobody has decided".to_owned()
            } else {
                format!("decided by {}", names(waiting.decided.iter()))
            };
            lines.push(format!(
                "step {id} needs {}, by {by}; {given}",
                approval.quorum
            ));
        }
    }
    if situation.runs.is_empty() && situation.incident.is_open() {
        let steps = runbook(situation.plan, None, situation).map_or(&[][..], Runbook::steps);
        for step in steps {
            if let Some(approval) = &step.approval {
                let within = show_duration(approval.within);
                lines.push(format!(
                    "step {} will need {} within {within}",
                    step.id, approval.quorum
                ));
            }
        }
    }
    lines
}

pub(super) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What is open of the duties to notify, the most urgent first.
fn duties(situation: &Situation<'_>) -> Vec<String> {
    let (Some(regimes), Some(facts)) = (situation.plan.regimes(), Facts::of(situation.incident))
    else {
        return Vec::new();
    };
    let obligations = &situation.incident.obligations;
    let mut open: Vec<(i64, String)> = Vec::new();
    for view in obligation::views(obligations, &facts, regimes, situation.now_ms) {
        let name = format!("{}/{}", view.regime.name, view.duty.name);
        match view.standing {
            Standing::Running(due) => open.push((
                due.at_ms,
                format!(
                    "{name}: {} by {}",
                    view.duty.told.join(", "),
                    time_text(due.at_ms)
                ),
            )),
            Standing::Missed(due) => open.push((
                due.at_ms,
                format!(
                    "{name}: {} OVERDUE since {}",
                    view.duty.told.join(", "),
                    time_text(due.at_ms)
                ),
            )),
            Standing::RuledOut | Standing::Waiting | Standing::Met { .. } => {}
        }
    }
    open.sort();
    open.into_iter().map(|(_, line)| line).collect()
}

fn in_plain_words(situation: &Situation<'_>) -> String {
    match situation.incident.stage() {
        None | Some(IncidentStage::Unspecified | IncidentStage::Detected) => {
            "it was noticed, and is being looked at."
        }
        Some(IncidentStage::Classified) => "we know what it is, and are stopping it.",
        Some(IncidentStage::Contained) => "it is stopped. We are finding out what it touched.",
        Some(IncidentStage::Recovering) => "it is stopped, and we are repairing.",
        Some(IncidentStage::Revalidated) => "everything touched was verified again.",
        Some(IncidentStage::Closed) => "it is over.",
    }
    .to_owned()
}

fn for_customers(situation: &Situation<'_>) -> String {
    let held = situation.log.is_some_and(|log| {
        let mut holds = log.holds.iter();
        holds.any(|hold| hold.incident == situation.id && hold.expires_at_ms > situation.now_ms)
    });
    let opened = situation.incident.opened.as_ref();
    let isolated = opened
        .and_then(|o| situation.log?.origin(&o.origin)?.isolation)
        .is_some();
    let since = situation
        .incident
        .classified
        .as_ref()
        .map_or(0, |c| c.compromised_since_ms);
    let mut words = match (situation.incident.is_open(), isolated, held) {
        (false, ..) => "sealing is back to normal.".to_owned(),
        (true, true, _) => {
            "the key concerned seals nothing any more; verification goes on.".to_owned()
        }
        (true, false, true) => {
            "new documents are accepted and wait to be sealed; verification goes on.".to_owned()
        }
        (true, false, false) => "sealing and verification go on.".to_owned(),
    };
    if since != 0 {
        let _ = write!(
            words,
            " Seals made since {} may have to be renewed.",
            time_text(since)
        );
    }
    words
}
