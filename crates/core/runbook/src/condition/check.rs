//! A condition's types.

use super::{BadCondition, Expr, Fact, Function, Kind, Kinds, OVER_STATES, Operator, Term, Value};
use crate::action::ValueType;
use crate::suggest;

/// Checks that the whole is a truth value, and every part of it what it is used as.
pub(super) fn check(expr: &Expr, kinds: Kinds<'_>) -> Result<(), BadCondition> {
    wants(expr, Kind::Bool, "a condition", kinds)
}

fn wants(expr: &Expr, wanted: Kind, what: &str, kinds: Kinds<'_>) -> Result<(), BadCondition> {
    let kind = kind_of(expr, kinds)?;
    if kind == wanted {
        return Ok(());
    }
    let (got, wanted) = (kind.as_str(), wanted.as_str());
    let message = format!("{what} takes a {wanted}, and here is a {got}");
    let remedy = match (kind, wanted) {
        (Kind::Text, "whole number") => "turn the text into a number with int(…)".to_owned(),
        (Kind::Text, "time") => "turn the text into a time with timestamp(\"…\")".to_owned(),
        (_, "truth value") => "compare it with something".to_owned(),
        (_, _) => format!("write a {wanted}"),
    };
    Err(BadCondition::at(expr.at, message, remedy))
}

fn kind_of(expr: &Expr, kinds: Kinds<'_>) -> Result<Kind, BadCondition> {
    let known = |fact: &Fact| match fact {
        Fact::State(_) => kinds(fact).map(|_| Kind::Text),
        Fact::Value(_) => kinds(fact).map(Kind::of),
    };
    let unknown = |(message, remedy): (String, String)| BadCondition::at(expr.at, message, remedy);
    match &expr.term {
        Term::Literal(Value::Bool(_)) => Ok(Kind::Bool),
        Term::Literal(Value::Int(_)) => Ok(Kind::Int),
        Term::Literal(Value::Text(_)) => Ok(Kind::Text),
        Term::Literal(Value::Time(_)) => Ok(Kind::Time),
        Term::Fact(fact) => known(fact).map_err(unknown),
        Term::Has(fact) => known(fact).map(|_| Kind::Bool).map_err(unknown),
        Term::Not(inner) => wants(inner, Kind::Bool, "`!`", kinds).map(|()| Kind::Bool),
        Term::Negative(inner) => wants(inner, Kind::Int, "`-`", kinds).map(|()| Kind::Int),
        Term::Binary(operator, left, right) => binary(*operator, left, right, kinds),
        Term::Choice(parts) => {
            let [first, yes, no] = parts.as_ref();
            wants(first, Kind::Bool, "`?`", kinds)?;
            let kind = kind_of(yes, kinds)?;
            wants(no, kind, "the other side of `:`", kinds)?;
            Ok(kind)
        }
        Term::In(item, list) => {
            let kind = kind_of(item, kinds)?;
            for other in list {
                wants(other, kind, "the list after `in`", kinds)?;
                states(item, other)?;
            }
            Ok(Kind::Bool)
        }
        Term::Call(function, arguments) => call(*function, arguments, expr.at, kinds),
    }
}

fn binary(
    operator: Operator,
    left: &Expr,
    right: &Expr,
    kinds: Kinds<'_>,
) -> Result<Kind, BadCondition> {
    let sign = format!("`{}`", operator.as_str());
    let both = |kind: Kind| {
        wants(left, kind, &sign, kinds)?;
        wants(right, kind, &sign, kinds)
    };
    match operator {
        Operator::Or | Operator::And => both(Kind::Bool).map(|()| Kind::Bool),
        Operator::Equal | Operator::NotEqual => {
            let kind = kind_of(left, kinds)?;
            wants(right, kind, &sign, kinds)?;
            states(left, right)?;
            states(right, left)?;
            Ok(Kind::Bool)
        }
        Operator::Less | Operator::LessOrEqual | Operator::More | Operator::MoreOrEqual => {
            let kind = kind_of(left, kinds)?;
            if kind == Kind::Bool {
                let message = format!("{sign} does not order truth values");
                return Err(BadCondition::at(
                    left.at,
                    message,
                    "compare numbers, texts or times",
                ));
            }
            wants(right, kind, &sign, kinds).map(|()| Kind::Bool)
        }
        Operator::Plus => {
            let kind = kind_of(left, kinds)?;
            if kind == Kind::Text {
                return wants(right, kind, &sign, kinds).map(|()| kind);
            }
            both(Kind::Int).map(|()| Kind::Int)
        }
        Operator::Minus | Operator::Times | Operator::Over | Operator::Modulo => {
            both(Kind::Int).map(|()| Kind::Int)
        }
    }
}

/// A state that is compared with a word that no state is would silently never be equal.
fn states(state: &Expr, word: &Expr) -> Result<(), BadCondition> {
    let (Term::Fact(Fact::State(_)), Term::Literal(Value::Text(text))) = (&state.term, &word.term)
    else {
        return Ok(());
    };
    if OVER_STATES.contains(&text.as_str()) {
        return Ok(());
    }
    let message = format!(
        "no step that is over has the state \"{}\"",
        text.escape_debug()
    );
    let remedy = suggest::remedy("states", text, OVER_STATES);
    Err(BadCondition::at(word.at, message, remedy))
}

fn call(
    function: Function,
    arguments: &[Expr],
    at: usize,
    kinds: Kinds<'_>,
) -> Result<Kind, BadCondition> {
    let (name, takes, gives): (&str, &[Kind], Kind) = match function {
        Function::Size => ("size", &[Kind::Text], Kind::Int),
        Function::Int => ("int", &[Kind::Text], Kind::Int),
        Function::Timestamp => ("timestamp", &[Kind::Text], Kind::Time),
        Function::StartsWith => ("startsWith", &[Kind::Text, Kind::Text], Kind::Bool),
        Function::EndsWith => ("endsWith", &[Kind::Text, Kind::Text], Kind::Bool),
        Function::Contains => ("contains", &[Kind::Text, Kind::Text], Kind::Bool),
    };
    if arguments.len() != takes.len() {
        let message = format!("`{name}` has {} values here", arguments.len());
        let remedy = format!("it takes {}, a method's own text among them", takes.len());
        return Err(BadCondition::at(at, message, remedy));
    }
    for (argument, kind) in arguments.iter().zip(takes) {
        wants(argument, *kind, &format!("`{name}`"), kinds)?;
    }
    if let (
        Function::Timestamp,
        [
            Expr {
                term: Term::Literal(Value::Text(text)),
                at,
            },
        ],
    ) = (function, arguments)
        && !ValueType::Time.accepts(text)
    {
        let message = format!("\"{}\" is no time", text.escape_debug());
        return Err(BadCondition::at(
            *at,
            message,
            "write one such as 2026-11-02T10:00:00Z",
        ));
    }
    Ok(gives)
}
