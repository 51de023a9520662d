//! A runbook: steps in a directed graph without cycles.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::action::{Action, ValueType};
use crate::condition::Condition;
use crate::digest::{hex, sha256};
use crate::directive::DirectiveKind;
use crate::evidence::EvidenceField;
use crate::finding::{Finding, Place};
use crate::graph::Graph;
use crate::quorum::Quorum;
use crate::read_runbook;
use crate::retry::Retry;
use crate::template::Template;
use crate::undo::undone_step;

/// The approvals that a step waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Who must approve.
    pub quorum: Quorum,
    /// How long the step waits for them before somebody is told.
    pub within: Duration,
    /// Where it stands.
    pub place: Place,
}

/// A node of a runbook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its id, unique in the runbook.
    pub id: String,
    /// What it is for, in a line.
    pub title: String,
    /// What it performs.
    pub action: Action,
    /// The steps that must be done before, in the file's order.
    pub needs: Vec<String>,
    /// The condition on which it is performed, evaluated once when all that it needs is done; without one it always is.
    pub when: Option<Condition>,
    /// The action's inputs. A manual step's instructions are its input `instructions`.
    pub inputs: BTreeMap<String, Template>,
    /// What people hand in before a manual step counts as done.
    pub evidence: Vec<EvidenceField>,
    /// The approvals it waits for, if any.
    pub approval: Option<Approval>,
    /// How often it is tried.
    pub retry: Retry,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// How it is taken back when the run is aborted with `--undo`; its id is [`crate::undo_id`] of this step's.
    pub undo: Option<Box<Self>>,
    /// Where it stands.
    pub place: Place,
}

impl Step {
    /// The directive that the step sends to nodes, if it sends one.
    pub fn directive(&self) -> Option<DirectiveKind> {
        let mode = self.inputs.get("mode").and_then(Template::as_literal);
        self.action.spec().directive(mode)
    }

    /// The evidence that it asks for under this name.
    pub fn evidence(&self, name: &str) -> Option<&EvidenceField> {
        self.evidence.iter().find(|field| field.name == name)
    }

    /// The type of an output that is always there once the step is done.
    pub fn output(&self, name: &str) -> Option<ValueType> {
        let own = self.action.spec().output(name).map(|field| field.kind);
        let required = || self.evidence(name).filter(|field| field.required);
        own.or_else(|| required().map(EvidenceField::value_type))
    }

    /// What people are asked to do, if this is a manual step; references are resolved by [`Step::resolve`].
    pub fn instructions(&self) -> Option<&Template> {
        if self.action.spec().manual {
            self.inputs.get("instructions")
        } else {
            None
        }
    }
}

/// A runbook that can be executed: every reference, need and snapshot in it was checked.
#[derive(Clone, Debug)]
pub struct Runbook {
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) class: String,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) source: String,
    pub(crate) digest: [u8; 32],
    pub(crate) graph: Graph,
    pub(crate) class_place: Place,
    pub(crate) warnings: Vec<Finding>,
}

impl Runbook {
    /// Reads a runbook and checks all that can be checked without plan and roster. `file` is its name in the
    /// plan's folder, `<runbook>.yaml`. Gives every error found, in the order of the file.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Finding>> {
        read_runbook::read(file, text)
    }

    /// The file it was read from.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Its name, which is the file's name without `.yaml`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its version, from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The class of incidents that it answers.
    pub fn class(&self) -> &str {
        &self.class
    }

    /// What it is, in a line.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// What it is, at length; may be empty.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The file's text: with it a run can be resumed and checked years later.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// SHA-256 of the file's bytes. A run is pinned to it.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The digest in hexadecimal.
    pub fn digest_hex(&self) -> String {
        hex(&self.digest)
    }

    /// The steps in the file's order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The step of this id.
    pub fn step(&self, id: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == id)
    }

    /// The step of this id, or the undo.
    pub fn work(&self, id: &str) -> Option<&Step> {
        match undone_step(id) {
            Some(step) => self.step(step)?.undo.as_deref(),
            None => self.step(id),
        }
    }

    /// Everything that can be performed: the steps in the file's order, each followed by its undo.
    pub fn all_work(&self) -> impl Iterator<Item = &Step> {
        let steps = self.steps.iter();
        steps.flat_map(|step| std::iter::once(step).chain(step.undo.as_deref()))
    }

    /// The undos in the order in which they run: what relies on others is taken back before them.
    pub fn undo_order(&self) -> Vec<&Step> {
        let steps = self.order().into_iter().rev();
        steps.filter_map(|step| step.undo.as_deref()).collect()
    }

    /// All steps that need this one, directly or not.
    pub fn descendants(&self, id: &str) -> BTreeSet<&str> {
        let behind = |step: &&Step| self.ancestors(&step.id).contains(id);
        let steps = self.steps.iter().filter(behind);
        steps.map(|step| step.id.as_str()).collect()
    }

    /// The graph: an edge runs from each needed step to the one that needs it; weights are step ids.
    pub fn graph(&self) -> &DiGraph<String, ()> {
        &self.graph.edges
    }

    /// The steps so that each stands after all that it needs. Where several could come next, the file's order
    /// decides, so the order is always the same.
    pub fn order(&self) -> Vec<&Step> {
        self.graph
            .order
            .iter()
            .filter_map(|index| self.steps.get(*index))
            .collect()
    }

    /// The steps in waves: those of one wave can run at the same time once the waves before are done.
    pub fn waves(&self) -> Vec<Vec<&Step>> {
        let mut depth: BTreeMap<&str, usize> = BTreeMap::new();
        let mut waves: Vec<Vec<&Step>> = Vec::new();
        for step in self.order() {
            let wave = step
                .needs
                .iter()
                .filter_map(|need| depth.get(need.as_str()))
                .map(|depth| depth + 1)
                .max()
                .unwrap_or(0);
            depth.insert(&step.id, wave);
            if waves.len() <= wave {
                waves.resize_with(wave + 1, Vec::new);
            }
            if let Some(row) = waves.get_mut(wave) {
                row.push(step);
            }
        }
        waves
    }

    /// The steps that can start when these are done: not done themselves, and all that they need is.
    pub fn ready(&self, done: &BTreeSet<String>) -> Vec<&Step> {
        self.steps
            .iter()
            .filter(|step| !done.contains(&step.id) && step.needs.iter().all(|n| done.contains(n)))
            .collect()
    }

    /// All steps that must be done before this one.
    pub fn ancestors(&self, id: &str) -> BTreeSet<&str> {
        let Some(index) = self.index(id) else {
            return BTreeSet::new();
        };
        let ancestors = self.graph.ancestors.get(index);
        ancestors
            .into_iter()
            .flatten()
            .filter_map(|index| self.steps.get(*index))
            .map(|step| step.id.as_str())
            .collect()
    }

    /// The steps that need this one directly.
    pub fn dependents(&self, id: &str) -> BTreeSet<&str> {
        let Some(index) = self.index(id) else {
            return BTreeSet::new();
        };
        self.graph
            .edges
            .neighbors_directed(NodeIndex::new(index), Direction::Outgoing)
            .filter_map(|node| self.steps.get(node.index()))
            .map(|step| step.id.as_str())
            .collect()
    }

    /// The evidence snapshots that are complete whenever this step starts. Every need of a step must be done
    /// before it starts (an AND join), so these are exactly the snapshots among its ancestors: whichever way
    /// through the graph is walked, the step waits for them. One with a condition may turn out not to be needed, so it is none of them.
    pub fn snapshots_before(&self, id: &str) -> Vec<&Step> {
        let ancestors = self.ancestors(id);
        self.steps
            .iter()
            .filter(|step| step.action == Action::SnapshotEvidence && step.when.is_none())
            .filter(|step| ancestors.contains(step.id.as_str()))
            .collect()
    }

    /// The steps that never start before an evidence snapshot of their run is complete.
    pub fn after_snapshot(&self) -> Vec<&Step> {
        self.steps
            .iter()
            .filter(|step| !self.snapshots_before(&step.id).is_empty())
            .collect()
    }

    /// What could be better and forbids nothing.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }

    fn index(&self, id: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.id == id)
    }
}

/// The digest of a runbook's text.
pub(crate) fn source_digest(text: &str) -> [u8; 32] {
    sha256(text.as_bytes())
}
