//! What the graph of a runbook can prove: no cycle, every need known, every reference answered, a snapshot before
//! whatever cannot be taken back.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use petgraph::Direction;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::action::{Action, ActionSpec, Effect, ValueType};
use crate::condition::Fact;
use crate::fields::Reader;
use crate::finding::{Finding, Place};
use crate::read_runbook::Draft;
use crate::suggest;
use crate::template::{Reference, Template};

/// The graph of a runbook; node `n` is the `n`th step.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    /// From each needed step to the one that needs it.
    pub(crate) edges: DiGraph<String, ()>,
    /// Topological; incomplete where there is a cycle.
    pub(crate) order: Vec<usize>,
    /// All steps before each step.
    pub(crate) ancestors: Vec<BTreeSet<usize>>,
}

/// Whether an action must have approvals: nodes demand them for directives, what cannot be taken back needs
/// them by itself, and a manual step's approvals are what completes it.
pub(crate) fn needs_approval(spec: &ActionSpec) -> bool {
    !spec.directives.is_empty() || spec.manual || spec.effect == Effect::Destructive
}

/// Builds the graph and reports all that is wrong with it.
pub(crate) fn check(reader: &mut Reader, drafts: &[Draft]) -> Graph {
    let edges = build(reader, drafts);
    let order = topological(&edges);
    if order.len() < drafts.len() {
        report_cycles(reader, drafts, &edges);
    }
    let starts = drafts.iter().any(|draft| draft.needs.is_empty());
    if let (false, Some(first)) = (starts, drafts.first()) {
        let message = "no step can start: every one needs another".to_owned();
        reader.error(
            first.place,
            "no-start",
            message,
            "remove the needs of the first step",
        );
    }
    let ancestors = (0..drafts.len())
        .map(|index| ancestors_of(&edges, index))
        .collect();
    let graph = Graph {
        edges,
        order,
        ancestors,
    };
    for (index, draft) in drafts.iter().enumerate() {
        let mut before = graph.ancestors.get(index).cloned().unwrap_or_default();
        before.remove(&index); // there, if it stands in a cycle
        let mut sure = draft.when.as_ref().map(|(when, _)| when.requires_done());
        let sure = sure.get_or_insert_default();
        reader.enter_step(Some(&draft.id));
        check_condition(reader, drafts, &before, draft);
        check_references(reader, drafts, &before, draft);
        check_certain(reader, drafts, sure, draft);
        check_snapshot(reader, drafts, &before, draft);
        // A run can be aborted as soon as the step is done, and not before.
        if let Some(undo) = &draft.undo {
            before.insert(index);
            sure.insert(&draft.id);
            reader.enter_step(Some(&undo.id));
            check_references(reader, drafts, &before, undo);
            check_certain(reader, drafts, sure, undo);
            check_snapshot(reader, drafts, &before, undo);
        }
    }
    reader.enter_step(None);
    graph
}

/// What could be better: steps that may still run when the incident is closed, and incidents that never are.
pub(crate) fn warnings(file: &str, drafts: &[Draft], graph: &Graph) -> Vec<Finding> {
    let close = drafts
        .iter()
        .position(|draft| draft.action == Some(Action::CloseIncident));
    let Some((close, ancestors)) = close.and_then(|at| Some((at, graph.ancestors.get(at)?))) else {
        let message = "no step closes the incident".to_owned();
        return vec![
            Finding::warning(file, Place::default(), "never-closes", message)
                .remedy("end with the action `close-incident`"),
        ];
    };
    drafts
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != close && !ancestors.contains(index))
        .map(|(_, draft)| {
            let message = "it may still run when the incident is closed".to_owned();
            Finding::warning(file, draft.place, "after-close", message)
                .in_step(&draft.id)
                .remedy("let the step that closes the incident need it")
        })
        .collect()
}

fn build(reader: &mut Reader, drafts: &[Draft]) -> DiGraph<String, ()> {
    let mut edges = DiGraph::new();
    let mut nodes: BTreeMap<&str, NodeIndex> = BTreeMap::new();
    for draft in drafts {
        nodes.insert(&draft.id, edges.add_node(draft.id.clone()));
    }
    for draft in drafts {
        reader.enter_step(Some(&draft.id));
        for (need, place) in &draft.needs {
            if let (Some(from), Some(to)) = (nodes.get(need.as_str()), nodes.get(draft.id.as_str()))
            {
                edges.add_edge(*from, *to, ());
            } else {
                let others = drafts
                    .iter()
                    .map(|d| d.id.as_str())
                    .filter(|id| *id != draft.id);
                let remedy = suggest::remedy("steps", need, others.collect::<Vec<_>>());
                let message = format!(
                    "it needs `{}`, and there is no such step",
                    need.escape_debug()
                );
                reader.error(*place, "unknown-need", message, remedy);
            }
        }
    }
    reader.enter_step(None);
    edges
}

/// Kahn's algorithm; the smallest index first, so the file's order decides between equals.
fn topological(edges: &DiGraph<String, ()>) -> Vec<usize> {
    let mut open: BTreeMap<NodeIndex, usize> = edges
        .node_indices()
        .map(|node| {
            (
                node,
                edges.neighbors_directed(node, Direction::Incoming).count(),
            )
        })
        .collect();
    let mut ready: BTreeSet<NodeIndex> = open
        .iter()
        .filter(|(_, needs)| **needs == 0)
        .map(|(node, _)| *node)
        .collect();
    let mut order = Vec::new();
    while let Some(node) = ready.pop_first() {
        order.push(node.index());
        for next in edges.neighbors(node) {
            if let Some(needs) = open.get_mut(&next) {
                *needs = needs.saturating_sub(1);
                if *needs == 0 {
                    ready.insert(next);
                }
            }
        }
    }
    order
}

fn ancestors_of(edges: &DiGraph<String, ()>, index: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut queue = vec![NodeIndex::new(index)];
    while let Some(node) = queue.pop() {
        for before in edges.neighbors_directed(node, Direction::Incoming) {
            if found.insert(before.index()) {
                queue.push(before);
            }
        }
    }
    found
}

fn report_cycles(reader: &mut Reader, drafts: &[Draft], edges: &DiGraph<String, ()>) {
    let mut components = tarjan_scc(edges);
    components.retain(|nodes| match nodes.as_slice() {
        [only] => edges.contains_edge(*only, *only),
        _ => true,
    });
    for component in &components {
        let Some(start) = component.iter().min() else {
            continue;
        };
        let Some(draft) = drafts.get(start.index()) else {
            continue;
        };
        let path = cycle_through(edges, *start);
        let place = path
            .get(1)
            .and_then(|next| draft.needs.iter().find(|(need, _)| need == next))
            .map_or(draft.place, |(_, place)| *place);
        reader.enter_step(Some(&draft.id));
        let message = format!("steps wait for each other: {}", path.join(" needs "));
        reader.error(place, "cycle", message, "remove one of these needs");
        reader.enter_step(None);
    }
}

/// The shortest way along needs from a step back to itself, both ends named.
fn cycle_through(edges: &DiGraph<String, ()>, start: NodeIndex) -> Vec<&str> {
    let mut came_from: BTreeMap<NodeIndex, NodeIndex> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        for need in edges.neighbors_directed(node, Direction::Incoming) {
            if need == start {
                let mut path = vec![start, node];
                let mut at = node;
                while let Some(previous) = came_from.get(&at) {
                    at = *previous;
                    path.push(at);
                }
                if node == start {
                    path.pop();
                    path.push(start);
                }
                path.reverse();
                return path
                    .iter()
                    .filter_map(|n| edges.node_weight(*n))
                    .map(String::as_str)
                    .collect();
            }
            if let Entry::Vacant(entry) = came_from.entry(need) {
                entry.insert(node);
                queue.push_back(need);
            }
        }
    }
    Vec::new()
}

fn check_references(
    reader: &mut Reader,
    drafts: &[Draft],
    before: &BTreeSet<usize>,
    draft: &Draft,
) {
    for (name, template, place) in &draft.inputs {
        for reference in template.references() {
            let Some(kind) = reference_kind(reader, drafts, before, reference, *place) else {
                continue;
            };
            let wanted = draft
                .action
                .and_then(|action| action.spec().input(name))
                .map(|f| f.kind);
            check_kind(reader, template, name, reference, (kind, wanted), *place);
        }
    }
}

/// A condition's names and types.
fn check_condition(reader: &mut Reader, drafts: &[Draft], before: &BTreeSet<usize>, draft: &Draft) {
    let Some((condition, place)) = &draft.when else {
        return;
    };
    let kind = |fact: &Fact| match fact {
        Fact::Value(reference) => resolve_reference(drafts, before, reference, &fact.to_string())
            .map_err(|(_, message, remedy)| (message, remedy)),
        Fact::State(step) => ancestor(drafts, before, step, &fact.to_string())
            .map(|_| ValueType::Text)
            .map_err(|(_, message, remedy)| (message, remedy)),
    };
    if let Err(bad) = condition.check(&kind)
        && !bad.message.is_empty()
    {
        let place = reader.inside(*place, condition.as_str(), bad.offset);
        let message = format!("`when`: {}", bad.message);
        reader.error(place, "bad-condition", message, bad.remedy);
    }
}

/// What an action takes must be there when it is performed. The outputs of a step with a condition are there only if it was needed, so whoever takes them is needed only
/// where that step is done. People can read that there are none.
fn check_certain(reader: &mut Reader, drafts: &[Draft], sure: &BTreeSet<&str>, draft: &Draft) {
    if draft.action.is_none_or(|action| action.spec().manual) {
        return;
    }
    for (name, template, place) in &draft.inputs {
        for reference in template.references() {
            let Reference::Step { step, .. } = reference else {
                continue;
            };
            let conditional = |draft: &&Draft| draft.id == *step && draft.when.is_some();
            if drafts.iter().any(|draft| conditional(&draft)) && !sure.contains(step.as_str()) {
                let message = format!(
                    "`{name}` takes `${{{reference}}}`, and `{step}` has a condition: it may turn out not to be needed"
                );
                let state = Fact::State(step.clone());
                let remedy = format!("add `when: {state} == \"done\"`, joined to the rest by &&");
                reader.error(*place, "uncertain-input", message, remedy);
            }
        }
    }
}

/// What a reference will give, or a finding that says why it gives nothing.
fn reference_kind(
    reader: &mut Reader,
    drafts: &[Draft],
    before: &BTreeSet<usize>,
    reference: &Reference,
    place: Place,
) -> Option<ValueType> {
    let shown = format!("${{{reference}}}");
    match resolve_reference(drafts, before, reference, &shown) {
        Ok(kind) => Some(kind),
        Err((code, message, remedy)) => {
            if !message.is_empty() {
                reader.error(place, code, message, remedy);
            }
            None
        }
    }
}

/// Why a name gives nothing: the kind of finding, the message, the remedy.
type NoValue = (&'static str, String, String);

/// The type of what a reference gives. `shown` is how it stands in the file.
fn resolve_reference(
    drafts: &[Draft],
    before: &BTreeSet<usize>,
    reference: &Reference,
    shown: &str,
) -> Result<ValueType, NoValue> {
    let (step, output) = match reference {
        Reference::Incident(field) => return Ok(field.kind()),
        Reference::Plan(field) => return Ok(field.kind()),
        Reference::Step { step, output } => (step, output),
    };
    let source = ancestor(drafts, before, step, shown)?;
    let Some(spec) = source.action.map(Action::spec) else {
        // Its action was reported already.
        return Err(("unknown-action", String::new(), String::new()));
    };
    if let Some(field) = spec.output(output) {
        return Ok(field.kind);
    }
    if let Some(field) = source.evidence.iter().find(|field| field.name == *output) {
        let message = format!("`{shown}` may not be there: the evidence `{output}` is optional");
        let remedy = format!("let `{step}` require it");
        let kind = field.required.then(|| field.value_type());
        return kind.ok_or(("bad-reference", message, remedy));
    }
    let evidence = source.evidence.iter().map(|field| field.name.as_str());
    let names = spec.outputs.iter().map(|field| field.name).chain(evidence);
    let remedy = suggest::remedy("outputs", output, names.collect::<Vec<_>>());
    let message = format!("`{}` has no output `{output}`", spec.name);
    Err(("bad-reference", message, remedy))
}

/// The step of this id, if it is over whenever step `index` starts.
fn ancestor<'d>(
    drafts: &'d [Draft],
    before: &BTreeSet<usize>,
    step: &str,
    shown: &str,
) -> Result<&'d Draft, NoValue> {
    let found = drafts
        .iter()
        .enumerate()
        .find(|(_, draft)| draft.id == step);
    let Some((at, source)) = found else {
        let remedy = suggest::remedy("steps", step, drafts.iter().map(|d| d.id.as_str()));
        let message = format!("`{shown}` refers to no step of this runbook");
        return Err(("bad-reference", message, remedy));
    };
    if !before.contains(&at) {
        let message = format!(
            "`{shown}` is not known when this step starts: `{step}` need not be done by then"
        );
        return Err(("not-before", message, format!("add `{step}` to `needs`")));
    }
    Ok(source)
}

fn check_kind(
    reader: &mut Reader,
    template: &Template,
    name: &str,
    reference: &Reference,
    (kind, wanted): (ValueType, Option<ValueType>),
    place: Place,
) {
    let Some(wanted) = wanted else { return };
    // Every value can stand in a text; a text cannot stand for a time. Templates with more than the one
    // reference were reported when they were read.
    if wanted == ValueType::Text || template.as_reference().is_none() || kind == wanted {
        return;
    }
    let message = format!(
        "`{name}` takes a {}, and `${{{reference}}}` is a {}",
        wanted.as_str(),
        kind.as_str()
    );
    reader.error(
        place,
        "bad-input",
        message,
        format!("refer to a {}", wanted.as_str()),
    );
}

/// A snapshot with a condition may turn out not to be needed, so no path can rely on it.
fn is_certain_snapshot(draft: &Draft) -> bool {
    draft.action == Some(Action::SnapshotEvidence) && draft.when.is_none()
}

/// A step starts when all that it needs is done, so a snapshot among its ancestors is complete on every path that
/// leads to it, and no other snapshot has to be.
fn check_snapshot(reader: &mut Reader, drafts: &[Draft], before: &BTreeSet<usize>, draft: &Draft) {
    let Some(spec) = draft
        .action
        .map(Action::spec)
        .filter(|spec| spec.needs_snapshot)
    else {
        return;
    };
    let covered = before
        .iter()
        .any(|at| drafts.get(*at).is_some_and(is_certain_snapshot));
    if !covered {
        let message = format!(
            "`{}` can start before any evidence snapshot is complete",
            spec.name
        );
        let remedy = match drafts.iter().find(|draft| is_certain_snapshot(draft)) {
            Some(snapshot) => format!("let it need `{}`, or a step that does", snapshot.id),
            None => {
                "add a step with the action `snapshot-evidence` and without `when`, and let this one need it".to_owned()
            }
        };
        reader.error(draft.place, "no-snapshot", message, remedy);
    }
}
