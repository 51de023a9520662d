//! Checks the workflow as a graph: references, ends, cycles, steps that nothing reaches.

use std::collections::BTreeSet;

use crate::check::Check;
use crate::condition::Condition;
use crate::finding::{Finding, below, shown};
use crate::names::id_type;
use crate::playbook::{Head, StepKind, WorkflowStep};

/// The pointer of a step.
pub(crate) fn pointer(id: &str) -> String {
    below("/workflow", id)
}

pub(crate) fn check(check: &mut Check, head: &Head) {
    entries(check, head);
    let mut whole = true;
    for (id, step) in &head.workflow {
        whole &= references(check, head, id, step);
        ways(check, id, step);
        definitions(check, head, id, step);
        variables(check, head, id, step);
    }
    // A cycle is looked for only where each way leads somewhere, so that one mistake gives one finding.
    if whole {
        cycles(check, head);
        unreached(check, head);
    }
}

fn entries(check: &mut Check, head: &Head) {
    let start = &head.workflow_start;
    if !head.workflow.contains_key(start) {
        let message = format!("the workflow has no step `{}`", shown(start));
        check.error(
            "/workflow_start",
            "unknown-step",
            message,
            "name a start step of the workflow",
        );
    } else if id_type(start) != Some("start") {
        let message = format!("`{start}` is no start step");
        let remedy = "name a start step; the workflow is begun with this one";
        check.push(Finding::error("/workflow_start", "not-a-start", message, remedy).as_warning());
    }
    if let Some(exception) = &head.workflow_exception
        && !head.workflow.contains_key(exception)
    {
        let message = format!("the workflow has no step `{}`", shown(exception));
        check.error(
            "/workflow_exception",
            "unknown-step",
            message,
            "name a step of the workflow",
        );
    }
    if let (Some(from), Some(until)) = (&head.valid_from, &head.valid_until)
        && time(from) >= time(until)
    {
        let message = format!("it is valid until {until} and from {from}");
        check.error(
            "/valid_until",
            "never-valid",
            message,
            "let it end after it begins",
        );
    }
    if time(&head.modified) < time(&head.created) {
        let message = format!(
            "it was modified at {} and created at {}",
            head.modified, head.created
        );
        check.error(
            "/modified",
            "modified-before-created",
            message,
            "correct the times",
        );
    }
}

fn time(text: &str) -> Option<jiff::Timestamp> {
    text.parse().ok()
}

/// Whether each step that this one leads to is there.
fn references(check: &mut Check, head: &Head, id: &str, step: &WorkflowStep) -> bool {
    let mut whole = true;
    for (property, to) in step.leads_to() {
        let place = format!("{}/{property}", pointer(id));
        if !head.workflow.contains_key(to) {
            let message = format!("the workflow has no step `{}`", shown(to));
            check.error(
                &place,
                "unknown-step",
                message,
                "name a step of the workflow, or add it",
            );
            whole = false;
        } else if id_type(to) == Some("start") {
            let message = format!("`{to}` is a start step: nothing leads to it");
            check.error(&place, "leads-to-start", message, "name another step");
            whole = false;
        }
    }
    whole
}

/// How a step goes on: an end never, a start in one way, all others to somewhere.
fn ways(check: &mut Check, id: &str, step: &WorkflowStep) {
    let place = pointer(id);
    let outcome = step.on_success.is_some() || step.on_failure.is_some();
    if step.on_completion.is_some() && outcome {
        let message = "`on_completion` stands beside `on_success` or `on_failure`";
        check.error(
            &place,
            "two-ways",
            message,
            "keep `on_completion` alone, or the two others",
        );
    }
    match &step.kind {
        StepKind::End => {
            if step.on_completion.is_some() || outcome {
                check.error(
                    &place,
                    "end-goes-on",
                    "an end step leads nowhere",
                    "remove its on_… properties",
                );
            }
        }
        StepKind::Start => {
            if outcome {
                let message = "a start step has neither `on_success` nor `on_failure`";
                check.error(&place, "two-ways", message, "use `on_completion`");
            } else if step.on_completion.is_none() {
                missing_next(check, &place);
            }
        }
        StepKind::Action { .. } | StepKind::PlaybookAction { .. } => {
            if step.next().is_none() {
                missing_next(check, &place);
            }
        }
        StepKind::Parallel { next_steps } => {
            let distinct: BTreeSet<&String> = next_steps.iter().collect();
            if distinct.len() < next_steps.len() {
                let message = "a step stands twice in `next_steps`: it would run twice at once";
                check.error(
                    &format!("{place}/next_steps"),
                    "duplicate-branch",
                    message,
                    "write it once",
                );
            }
        }
        StepKind::SwitchCondition { cases, .. } => {
            if cases.is_empty() {
                check.error(
                    &format!("{place}/cases"),
                    "no-cases",
                    "there are no cases",
                    "add one",
                );
            }
        }
        StepKind::IfCondition { .. } | StepKind::WhileCondition { .. } => {}
    }
}

fn missing_next(check: &mut Check, place: &str) {
    let message = "nothing says what follows: each way through the workflow ends at an end step";
    check.error(
        place,
        "missing-end",
        message,
        "add `on_completion` with the id of the next step or of an end step",
    );
}

fn definitions(check: &mut Check, head: &Head, id: &str, step: &WorkflowStep) {
    let StepKind::Action { agent, targets, .. } = &step.kind else {
        return;
    };
    if !head.agent_definitions.contains_key(agent) {
        let message = format!("`agent_definitions` has no `{}`", shown(agent));
        let place = format!("{}/agent", pointer(id));
        check.push(Finding::error(place, "unknown-agent", message, "define it").as_warning());
    }
    for (index, target) in targets.iter().enumerate() {
        if !head.target_definitions.contains_key(target) {
            let message = format!("`target_definitions` has no `{}`", shown(target));
            let place = format!("{}/targets/{index}", pointer(id));
            check.error(&place, "unknown-target", message, "define it, or remove it");
        }
    }
}

/// The variables that arguments and conditions name are declared for the step or the playbook.
fn variables(check: &mut Check, head: &Head, id: &str, step: &WorkflowStep) {
    let mut named: Vec<(String, String)> = Vec::new();
    match &step.kind {
        StepKind::Action {
            in_args, out_args, ..
        } => {
            for (list, names) in [("in_args", in_args), ("out_args", out_args)] {
                for (index, name) in names.iter().enumerate() {
                    named.push((format!("{list}/{index}"), name.clone()));
                }
            }
        }
        StepKind::IfCondition { condition, .. } | StepKind::WhileCondition { condition, .. } => {
            if let Ok(condition) = Condition::parse(condition) {
                let names = condition.variables().into_iter();
                named.extend(names.map(|name| ("condition".to_owned(), name.to_owned())));
            }
        }
        StepKind::SwitchCondition { switch, .. } => {
            let name = switch.strip_suffix(":value").unwrap_or(switch);
            named.push(("switch".to_owned(), name.to_owned()));
        }
        StepKind::Start
        | StepKind::End
        | StepKind::PlaybookAction { .. }
        | StepKind::Parallel { .. } => {}
    }
    for (property, name) in named {
        if !step.step_variables.contains_key(&name) && !head.playbook_variables.contains_key(&name)
        {
            let message = format!(
                "neither the step nor the playbook declares the variable `{}`",
                shown(&name)
            );
            let place = format!("{}/{property}", pointer(id));
            check.push(
                Finding::error(place, "undeclared-variable", message, "declare it").as_warning(),
            );
        }
    }
}

/// A depth-first walk without recursion: a step that is met again while it is still open closes a cycle.
fn cycles(check: &mut Check, head: &Head) {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for root in head.workflow.keys() {
        let mut open: Vec<(&str, Vec<(String, &str)>)> = Vec::new();
        let mut path: BTreeSet<&str> = BTreeSet::new();
        enter(head, root, &mut open, &mut path, &done);
        while let Some((id, ways)) = open.last_mut() {
            let id = *id;
            let Some((property, to)) = ways.pop() else {
                path.remove(id);
                done.insert(id);
                open.pop();
                continue;
            };
            if path.contains(to) {
                let names: Vec<&str> = open
                    .iter()
                    .map(|(id, _)| *id)
                    .skip_while(|id| *id != to)
                    .collect();
                let message = format!(
                    "the workflow runs in a circle: {} leads to {to}",
                    names.join(" leads to ")
                );
                let remedy =
                    "end each branch with an end step; a while-condition repeats by itself";
                check.error(
                    &format!("{}/{property}", pointer(id)),
                    "cycle",
                    message,
                    remedy,
                );
                continue;
            }
            enter(head, to, &mut open, &mut path, &done);
        }
    }
}

fn enter<'h>(
    head: &'h Head,
    id: &'h str,
    open: &mut Vec<(&'h str, Vec<(String, &'h str)>)>,
    path: &mut BTreeSet<&'h str>,
    done: &BTreeSet<&'h str>,
) {
    if !done.contains(id)
        && let Some(step) = head.workflow.get(id)
    {
        path.insert(id);
        open.push((id, step.leads_to()));
    }
}

fn unreached(check: &mut Check, head: &Head) {
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let mut queue: Vec<&str> = vec![&head.workflow_start];
    queue.extend(head.workflow_exception.as_deref());
    while let Some(id) = queue.pop() {
        if reached.insert(id)
            && let Some(step) = head.workflow.get(id)
        {
            queue.extend(step.leads_to().into_iter().map(|(_, to)| to));
        }
    }
    for id in head
        .workflow
        .keys()
        .filter(|id| !reached.contains(id.as_str()))
    {
        let message = "no way through the workflow leads to this step: it never runs";
        check.push(
            Finding::error(
                pointer(id),
                "never-runs",
                message,
                "let a step lead to it, or remove it",
            )
            .as_warning(),
        );
    }
}
