//! `when`: the condition of a step, in a typed subset of CEL (the Common Expression Language, cel.dev).
//!
//! What is accepted means what it means in CEL: `&&` and `||` decide without their other side's error, division by zero and what does not fit into 64 bits are errors,
//! `size` counts code points. Names and types are checked when the runbook is read, so that a condition can only fail for a value that is not there, a text that is no
//! number, or arithmetic. What CEL has besides (macros, maps, floating point, regular expressions, durations) is refused by name.
//!
//! **Invariant:** reading and evaluating are bounded: [`MAX_CONDITION_BYTES`], [`MAX_TOKENS`] and [`MAX_DEPTH`] are checked before anything recurses.

mod check;
mod evaluate;
mod lex;
mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use crate::action::ValueType;
use crate::template::Reference;

pub use evaluate::Evaluated;

/// The longest condition, in bytes.
pub const MAX_CONDITION_BYTES: usize = 1_024;
/// The most words and signs of a condition.
pub(crate) const MAX_TOKENS: usize = 160;
/// How deep parentheses, lists, `!` and `? :` of a condition may nest.
pub(crate) const MAX_DEPTH: usize = 16;

/// How a step that is over can have ended: what `steps.<id>.state` is when a condition is evaluated.
pub const OVER_STATES: [&str; 3] = ["done", "skipped", "not-needed"];

/// Something that a condition can read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// What templates can refer to: `incident.…`, `plan.…`, `steps.<id>.outputs.<name>`.
    Value(Reference),
    /// `steps.<id>.state`: one of [`OVER_STATES`].
    State(String),
}

impl Fact {
    /// The step that it is about.
    pub fn step(&self) -> Option<&str> {
        match self {
            Self::Value(Reference::Step { step, .. }) | Self::State(step) => Some(step),
            Self::Value(Reference::Incident(_) | Reference::Plan(_)) => None,
        }
    }
}

/// As it is written in a condition.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let member = |name: &str| {
            if name.contains('-') {
                format!("[\"{name}\"]")
            } else {
                format!(".{name}")
            }
        };
        match self {
            Self::Value(Reference::Step { step, output }) => {
                write!(f, "steps{}.outputs{}", member(step), member(output))
            }
            Self::Value(reference @ (Reference::Incident(_) | Reference::Plan(_))) => {
                write!(f, "{reference}")
            }
            Self::State(step) => write!(f, "steps{}.state", member(step)),
        }
    }
}

/// The condition of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    text: String,
    expr: Expr,
    facts: BTreeSet<Fact>,
}

/// What is wrong with a condition, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({remedy})")]
pub struct BadCondition {
    /// The byte of the condition at which it stands.
    pub offset: usize,
    /// What.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl BadCondition {
    pub(crate) fn at(offset: usize, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            offset,
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// Says what a fact holds, or why there is no such fact: message and remedy.
pub(crate) type Kinds<'k> = &'k dyn Fn(&Fact) -> Result<ValueType, (String, String)>;

/// The type of a part of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int,
    Text,
    Time,
}

impl Kind {
    pub(crate) fn of(value: ValueType) -> Self {
        match value {
            ValueType::Text | ValueType::Mode => Self::Text,
            ValueType::Time => Self::Time,
            ValueType::Count => Self::Int,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "truth value",
            Self::Int => "whole number",
            Self::Text => "text",
            Self::Time => "time",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Int(i64),
    Text(String),
    Time(Timestamp),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    Plus,
    Minus,
    Times,
    Over,
    Modulo,
}

impl Operator {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::More => ">",
            Self::MoreOrEqual => ">=",
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Times => "*",
            Self::Over => "/",
            Self::Modulo => "%",
        }
    }
}

/// A function, or a method of a text; the receiver is its first argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Size,
    Int,
    Timestamp,
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Term {
    Literal(Value),
    Fact(Fact),
    Has(Fact),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Choice(Box<[Expr; 3]>),
    In(Box<Expr>, Vec<Expr>),
    Call(Function, Vec<Expr>),
}

/// A part of a condition and the byte at which it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expr {
    pub(crate) term: Term,
    pub(crate) at: usize,
}

impl Condition {
    /// Reads a condition; [`Self::check`] then tells whether its names and types are right.
    pub(crate) fn parse(text: &str) -> Result<Self, BadCondition> {
        let expr = parse::parse(text)?;
        let mut facts = BTreeSet::new();
        expr.collect(&mut facts);
        if facts.is_empty() {
            return Err(BadCondition::at(
                0,
                "the condition reads nothing, so it always says the same",
                "read incident.FIELD, plan.FIELD, steps.ID.state or steps.ID.outputs.NAME, or remove `when`",
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            expr,
            facts,
        })
    }

    /// Checks names and types. `kind` says what a fact holds, or why there is no such fact.
    pub(crate) fn check(&self, kind: Kinds<'_>) -> Result<(), BadCondition> {
        check::check(&self.expr, kind)
    }

    /// The text, as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Everything that it reads.
    pub fn facts(&self) -> &BTreeSet<Fact> {
        &self.facts
    }

    /// The steps that are surely done wherever the condition holds: `steps.<id>.state == "done"` stands in it, joined to the rest by `&&`.
    pub fn requires_done(&self) -> BTreeSet<&str> {
        let mut done = BTreeSet::new();
        self.expr.conjuncts(&mut done);
        done
    }

    /// Evaluates it. `lookup` gives the type and the value of a fact, `None` where there is no value.
    pub fn evaluate(&self, lookup: &dyn Fn(&Fact) -> Option<(ValueType, String)>) -> Evaluated {
        let known: BTreeMap<&Fact, Option<(ValueType, String)>> =
            self.facts.iter().map(|fact| (fact, lookup(fact))).collect();
        evaluate::evaluate(&self.expr, &known)
    }
}

fn collect_all(parts: &[Expr], facts: &mut BTreeSet<Fact>) {
    for part in parts {
        part.collect(facts);
    }
}

impl Expr {
    fn collect(&self, facts: &mut BTreeSet<Fact>) {
        match &self.term {
            Term::Literal(_) => {}
            Term::Fact(fact) | Term::Has(fact) => {
                facts.insert(fact.clone());
            }
            Term::Not(inner) | Term::Negative(inner) => inner.collect(facts),
            Term::Binary(_, left, right) => {
                left.collect(facts);
                right.collect(facts);
            }
            Term::Choice(parts) => collect_all(parts.as_slice(), facts),
            Term::In(item, list) => {
                item.collect(facts);
                collect_all(list, facts);
            }
            Term::Call(_, arguments) => collect_all(arguments, facts),
        }
    }

    fn conjuncts<'e>(&'e self, done: &mut BTreeSet<&'e str>) {
        let Term::Binary(operator, left, right) = &self.term else {
            return;
        };
        match (operator, &left.term, &right.term) {
            (Operator::And, _, _) => {
                left.conjuncts(done);
                right.conjuncts(done);
            }
            (Operator::Equal, Term::Fact(Fact::State(step)), Term::Literal(Value::Text(word)))
            | (Operator::Equal, Term::Literal(Value::Text(word)), Term::Fact(Fact::State(step)))
                if word == "done" =>
            {
                done.insert(step);
            }
            (_, _, _) => {}
        }
    }
}

#[cfg(test)]
mod tests;
