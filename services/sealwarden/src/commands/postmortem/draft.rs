//! The draft of a postmortem: what the event log knows, and questions for what it cannot know.

use std::fmt::Write as _;

use sealwarden_domain::incident::time_text;
use sealwarden_domain::learning::{Audience, QUESTION};
use sealwarden_wire::incident::v1 as wire;
use sealwarden_wire::run::v1::{Run, Step};

use super::Known;
use crate::commands::report::{Affected, case};
use crate::output::span;

/// Entries of the timeline in the draft; the others are in `incident show`.
const MAX_ENTRIES: usize = 200;

/// The draft, as Markdown with front matter.
pub(super) fn text(known: &Known, audience: Audience) -> String {
    let mut out = front_matter(known, audience);
    match audience {
        Audience::Internal => internal(&mut out, known),
        Audience::Public => public(&mut out, known),
    }
    out
}

/// One line of a section.
fn say(out: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}

fn section(out: &mut String, title: &str) {
    let _ = writeln!(out, "\n## {title}\n");
}

fn ask(out: &mut String, question: &str) {
    let gap = if out.ends_with("\n\n") { "" } else { "\n" };
    let _ = writeln!(out, "{gap}{QUESTION} {question}");
}

fn front_matter(known: &Known, audience: Audience) -> String {
    let i = &known.incident;
    let lines = [
        "---".to_owned(),
        format!("incident: {}", i.incident),
        format!("audience: {audience}"),
        format!("class: {}", word(&i.class)),
        format!("severity: {}", word(&i.severity)),
        format!("environment: {}", known.learned.environment),
        format!("opened: {}", time_text(i.opened_at_ms)),
        format!("stage: {}", i.stage),
        format!("drafted: {}", time_text(known.learned.now_ms)),
        "---".to_owned(),
        String::new(),
    ];
    lines.join("\n")
}

fn word(text: &str) -> &str {
    if text.is_empty() { "not decided" } else { text }
}

fn internal(out: &mut String, known: &Known) {
    let i = &known.incident;
    let _ = writeln!(out, "\n# Postmortem of {}: {}", i.incident, cell(&i.title));
    say(
        out,
        "\nFacts below are from the event log, in UTC. Lines that begin with the words \"to complete\" in capitals are for people. Nobody is blamed here: we ask \
         what made it possible, not who.",
    );
    section(out, "Summary");
    say(out, &summary(i));
    ask(
        out,
        "for somebody who was not there, in a few sentences: what happened, who was affected, how it ended.",
    );
    impact(out, known);
    detection(out, i);
    timeline(out, i);
    factors(out, known);
    helped(out, known);
    hindered(out, known);
    changes(out, &known.learned);
    evidence(out, known);
}

fn summary(i: &wire::Incident) -> String {
    let mut text = format!(
        "An incident of class {} and severity {} about {}. It is {}.",
        word(&i.class),
        word(&i.severity),
        cell(&i.subject),
        i.stage
    );
    for target in &i.targets {
        let _ = match target.actual_ms {
            -1 => write!(
                text,
                " It was not {} when this was drafted.",
                past(&target.name)
            ),
            ms => write!(
                text,
                " {} {} after the first bad event.",
                capital(past(&target.name)),
                span(ms)
            ),
        };
    }
    text
}

fn past(target: &str) -> &str {
    match target {
        "detect" => "detected",
        "contain" => "contained",
        "recover" => "closed",
        other => other,
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

fn impact(out: &mut String, known: &Known) {
    section(out, "Impact in numbers");
    let i = &known.incident;
    say(out, "| what | number |\n|---|---|");
    let affected = Affected::of(&known.runs);
    let rows = [
        ("seals of the affected origin", affected.total),
        (
            "of them covered by intents from before, and to be sealed again",
            affected.covered,
        ),
        (
            "of them not covered: their tenants were to be told",
            affected.reported,
        ),
        ("sealed again", affected.resealed),
        ("verified after recovery", affected.verified),
        ("that did not verify after recovery", affected.failed),
    ];
    for (what, number) in rows {
        if let Some(number) = number {
            let _ = writeln!(out, "| {what} | {number} |");
        }
    }
    let _ = writeln!(out, "| signals | {} |", i.signals.len());
    let approvals = steps(known).flat_map(|step| &step.approvals);
    let _ = writeln!(
        out,
        "| signed decisions of people that counted | {} |",
        approvals.filter(|it| it.refused.is_empty()).count()
    );
    say(out, "\n| time | actual | target | |\n|---|---|---|---|");
    for target in &i.targets {
        let word = match target.actual_ms {
            -1 => "not reached",
            ms if ms <= target.target_ms => "met",
            _ => "MISSED",
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {word} |",
            target.name,
            span(target.actual_ms),
            span(target.target_ms)
        );
    }
    ask(
        out,
        "what users noticed: documents that waited, calls that were refused, contracts that were touched.",
    );
}

fn detection(out: &mut String, i: &wire::Incident) {
    section(out, "How it was noticed");
    for signal in &i.signals {
        let proven = if signal.proven {
            "proves itself"
        } else {
            "not proven"
        };
        let reporter = if signal.reporter.is_empty() {
            &signal.detector
        } else {
            &signal.reporter
        };
        let _ = writeln!(
            out,
            "- {} by {reporter} ({proven}): {}; expected: {}",
            signal.signal,
            cell(&signal.seen),
            cell(&signal.expected)
        );
    }
    ask(
        out,
        "could it have been noticed earlier, and by what? What did not see it that should have?",
    );
}

fn timeline(out: &mut String, i: &wire::Incident) {
    section(out, "Timeline (UTC)");
    say(
        out,
        "| when | since the first bad event | who | what |\n|---|---|---|---|",
    );
    for entry in i.timeline.iter().take(MAX_ENTRIES) {
        let since = entry.at_ms.saturating_sub(i.earliest_at_ms);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            time_text(entry.at_ms),
            span(since.max(0)),
            cell(&entry.actor),
            cell(&entry.text)
        );
    }
    let more = i.timeline.len().saturating_sub(MAX_ENTRIES);
    if more > 0 {
        let _ = writeln!(
            out,
            "\n{more} further entries: `sealwarden incident show {}`",
            i.incident
        );
    }
}

fn factors(out: &mut String, known: &Known) {
    section(out, "Contributing factors");
    say(out, "A tree: below each line, what made it possible.\n");
    let i = &known.incident;
    let _ = writeln!(out, "- {}", cell(&i.title));
    let first = i.signals.first().map_or("", |signal| signal.seen.as_str());
    let _ = writeln!(out, "  - What was seen: {}", cell(first));
    let _ = writeln!(
        out,
        "    - {QUESTION} what made this possible? Ask again below the answer, until the answer is something that we can change."
    );
    let late: Vec<_> = i
        .targets
        .iter()
        .filter(|t| t.actual_ms < 0 || t.actual_ms > t.target_ms)
        .collect();
    for target in late {
        let _ = writeln!(
            out,
            "  - The target to {} was missed: {} instead of {}",
            target.name,
            span(target.actual_ms),
            span(target.target_ms)
        );
        let _ = writeln!(out, "    - {QUESTION} what took the time?");
    }
    for step in steps(known).filter(|step| step.attempts > 1) {
        let _ = writeln!(
            out,
            "  - Step {} took {} attempts: {}",
            step.step,
            step.attempts,
            cell(&step.error)
        );
        let _ = writeln!(out, "    - {QUESTION} why did the first one not do?");
    }
}

fn helped(out: &mut String, known: &Known) {
    section(out, "What helped");
    let met = known
        .incident
        .targets
        .iter()
        .filter(|t| (0..=t.target_ms).contains(&t.actual_ms));
    for target in met {
        let _ = writeln!(
            out,
            "- The target to {} was met: {} of {}.",
            target.name,
            span(target.actual_ms),
            span(target.target_ms)
        );
    }
    if known.incident.signals.iter().any(|signal| signal.proven) {
        say(
            out,
            "- The signal proved itself, so signing was held without waiting for a person.",
        );
    }
    ask(out, "what else helped, and must not get lost?");
}

fn hindered(out: &mut String, known: &Known) {
    section(out, "What got in the way");
    for step in steps(known) {
        for refused in step.approvals.iter().filter(|it| !it.refused.is_empty()) {
            let _ = writeln!(
                out,
                "- A decision about step {} did not count: {}.",
                step.step,
                cell(&refused.refused)
            );
        }
        if !step.remark.is_empty() {
            let _ = writeln!(out, "- Step {}: {}.", step.step, cell(&step.remark));
        }
    }
    for run in known.runs.iter().filter(|run| run.state != "completed") {
        let _ = writeln!(
            out,
            "- Run {} is {}: {}",
            run.run,
            run.state,
            cell(&run.reason)
        );
    }
    if let Some(ms) = case(known).acknowledge_ms {
        let _ = writeln!(
            out,
            "- From the opening until a person did something: {}.",
            span(ms)
        );
    }
    ask(
        out,
        "what cost time, what was unclear, what was missing at 3 a.m.?",
    );
}

fn changes(out: &mut String, learned: &wire::Learned) {
    section(out, "What changes");
    if learned.items.is_empty() {
        say(
            out,
            &format!(
                "{QUESTION} add action items with `sealwarden items add {}`, and name them here; or say why nothing has to change.",
                learned.incident
            ),
        );
        return;
    }
    say(
        out,
        "| item | what | owner | by | how somebody else sees it | |\n|---|---|---|---|---|---|",
    );
    for item in &learned.items {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} |",
            item.item,
            cell(&item.title),
            cell(&item.owner),
            day(item.due_at_ms),
            cell(&item.verification),
            item.standing
        );
    }
}

fn day(at_ms: i64) -> String {
    time_text(at_ms).chars().take(10).collect()
}

fn evidence(out: &mut String, known: &Known) {
    section(out, "Evidence");
    for bundle in &known.incident.evidence {
        let _ = writeln!(
            out,
            "- `{bundle}`: `sealwarden evidence verify` checks it without a server"
        );
    }
    for run in &known.runs {
        let _ = writeln!(
            out,
            "- run `{}` of runbook {} (sha256 {})",
            run.run, run.runbook, run.runbook_digest
        );
    }
}

fn public(out: &mut String, known: &Known) {
    let i = &known.incident;
    let _ = writeln!(out, "\n# What happened on {}", day(i.opened_at_ms));
    section(out, "Summary");
    ask(
        out,
        "what happened, in words that a customer understands; which seals are affected; what customers have to do.",
    );
    section(out, "What it meant");
    let affected = Affected::of(&known.runs);
    for (what, number) in [
        ("Seals made under the affected key", affected.total),
        ("Sealed again, and as good as before", affected.resealed),
        ("Not confirmed; their owners were told", affected.reported),
    ] {
        if let Some(number) = number {
            let _ = writeln!(out, "- {what}: {number}");
        }
    }
    ask(
        out,
        "check these numbers, and say what they mean for a customer.",
    );
    section(out, "Timeline (UTC)");
    let since = |ms: i64| time_text(i.earliest_at_ms.saturating_add(ms));
    let _ = writeln!(
        out,
        "- {}: the first bad event.",
        time_text(i.earliest_at_ms)
    );
    for target in i.targets.iter().filter(|target| target.actual_ms >= 0) {
        let _ = writeln!(
            out,
            "- {}: {}.",
            since(target.actual_ms),
            past(&target.name)
        );
    }
    section(out, "What changes");
    ask(out, "what we change so that it does not happen again.");
    say(
        out,
        "\nHow to check a seal yourself: take the newest trust bundle, then `sealwarden verify FILE --trust BUNDLE`.",
    );
}

fn steps(known: &Known) -> impl Iterator<Item = &Step> {
    known.runs.iter().flat_map(|run: &Run| &run.steps)
}

/// Text that stays in its cell and its line, and is not read as Markdown or HTML.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    if out.is_empty() { "-".to_owned() } else { out }
}
