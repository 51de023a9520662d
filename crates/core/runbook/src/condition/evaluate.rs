//! What a condition says of the facts.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Expr, Fact, Function, Kind, Operator, Term, Value};
use crate::action::ValueType;
use crate::template::Reference;

/// The longest fact that is told, in characters; longer ones are cut.
const MAX_SEEN_CHARS: usize = 200;

/// What stands for a fact that is not there.
const NOTHING: &str = "(none)";

/// How an evaluation came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// Whether the condition holds, or why nobody can tell.
    pub holds: Result<bool, String>,
    /// The facts that it reads, each with its value, long ones cut.
    pub seen: BTreeMap<String, String>,
}

type Known<'k> = BTreeMap<&'k Fact, Option<(ValueType, String)>>;

pub(super) fn evaluate(expr: &Expr, known: &Known<'_>) -> Evaluated {
    let seen = known.iter().map(|(fact, value)| {
        let shown = value.as_ref().map_or(NOTHING, |(_, text)| text);
        (
            fact.to_string(),
            shown.chars().take(MAX_SEEN_CHARS).collect(),
        )
    });
    Evaluated {
        seen: seen.collect(),
        holds: truth(expr, known),
    }
}

fn truth(expr: &Expr, known: &Known<'_>) -> Result<bool, String> {
    match value(expr, known)? {
        Value::Bool(holds) => Ok(holds),
        other @ (Value::Int(_) | Value::Text(_) | Value::Time(_)) => {
            Err(format!("{} is no truth value", show(&other)))
        }
    }
}

fn value(expr: &Expr, known: &Known<'_>) -> Result<Value, String> {
    match &expr.term {
        Term::Literal(value) => Ok(value.clone()),
        Term::Fact(fact) => read(fact, known),
        Term::Has(fact) => Ok(Value::Bool(known.get(fact).is_some_and(Option::is_some))),
        Term::Not(inner) => truth(inner, known).map(|holds| Value::Bool(!holds)),
        Term::Negative(inner) => {
            arithmetic("-", i64::checked_sub, &Value::Int(0), &value(inner, known)?)
        }
        Term::Binary(Operator::And, left, right) => either(left, right, false, known),
        Term::Binary(Operator::Or, left, right) => either(left, right, true, known),
        Term::Binary(operator, left, right) => {
            apply(*operator, &value(left, known)?, &value(right, known)?)
        }
        Term::Choice(parts) => {
            let [first, yes, no] = parts.as_ref();
            value(if truth(first, known)? { yes } else { no }, known)
        }
        Term::In(item, list) => {
            let item = value(item, known)?;
            let mut found = false;
            for other in list {
                found |= value(other, known)? == item;
            }
            Ok(Value::Bool(found))
        }
        Term::Call(function, arguments) => {
            let arguments = arguments.iter().map(|argument| value(argument, known));
            call(*function, &arguments.collect::<Result<Vec<_>, _>>()?)
        }
    }
}

/// `&&` and `||`: whichever side decides alone decides, also where the other has no value.
fn either(left: &Expr, right: &Expr, decides: bool, known: &Known<'_>) -> Result<Value, String> {
    let left = truth(left, known);
    if left == Ok(decides) {
        return Ok(Value::Bool(decides));
    }
    let right = truth(right, known);
    if right == Ok(decides) {
        return Ok(Value::Bool(decides));
    }
    left.and(right).map(Value::Bool)
}

fn read(fact: &Fact, known: &Known<'_>) -> Result<Value, String> {
    let Some((kind, text)) = known.get(fact).and_then(Option::as_ref) else {
        return Err(match fact {
            Fact::Value(Reference::Step { step, .. }) => {
                format!("{fact} has no value, because step {step} is not done")
            }
            Fact::Value(Reference::Incident(_) | Reference::Plan(_)) | Fact::State(_) => {
                format!("{fact} has no value")
            }
        });
    };
    let kind = Kind::of(*kind);
    typed(kind, text).ok_or_else(|| format!("{fact} is {text:?}, which is no {}", kind.as_str()))
}

/// The text as a value of a type.
fn typed(kind: Kind, text: &str) -> Option<Value> {
    match kind {
        Kind::Bool => text.parse().ok().map(Value::Bool),
        Kind::Int => text.parse().ok().map(Value::Int),
        Kind::Text => Some(Value::Text(text.to_owned())),
        Kind::Time => text.parse::<Timestamp>().ok().map(Value::Time),
    }
}

fn number(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::Bool(_) | Value::Text(_) | Value::Time(_) => {
            Err(format!("{} is no whole number", show(value)))
        }
    }
}

fn apply(operator: Operator, left: &Value, right: &Value) -> Result<Value, String> {
    let order = |wanted: fn(std::cmp::Ordering) -> bool| {
        let order = compare(left, right)?;
        Ok(Value::Bool(wanted(order)))
    };
    match operator {
        Operator::Equal => Ok(Value::Bool(left == right)),
        Operator::NotEqual => Ok(Value::Bool(left != right)),
        Operator::Less => order(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => order(std::cmp::Ordering::is_le),
        Operator::More => order(std::cmp::Ordering::is_gt),
        Operator::MoreOrEqual => order(std::cmp::Ordering::is_ge),
        Operator::Plus => match (left, right) {
            (Value::Text(left), Value::Text(right)) => Ok(Value::Text(format!("{left}{right}"))),
            (_, _) => arithmetic("+", i64::checked_add, left, right),
        },
        Operator::Minus => arithmetic("-", i64::checked_sub, left, right),
        Operator::Times => arithmetic("*", i64::checked_mul, left, right),
        Operator::Over | Operator::Modulo if *right == Value::Int(0) => {
            Err(format!("{} {} 0", show(left), operator.as_str()))
        }
        Operator::Over => arithmetic("/", i64::checked_div, left, right),
        Operator::Modulo => arithmetic("%", i64::checked_rem, left, right),
        Operator::And | Operator::Or => Err("both sides decide together".to_owned()),
    }
}

fn arithmetic(
    sign: &str,
    of: fn(i64, i64) -> Option<i64>,
    left: &Value,
    right: &Value,
) -> Result<Value, String> {
    let (left, right) = (number(left)?, number(right)?);
    let result = of(left, right).map(Value::Int);
    result.ok_or_else(|| format!("{left} {sign} {right} does not fit into 64 bits"))
}

fn compare(left: &Value, right: &Value) -> Result<std::cmp::Ordering, String> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Ok(left.cmp(right)),
        (Value::Text(left), Value::Text(right)) => Ok(left.cmp(right)),
        (Value::Time(left), Value::Time(right)) => Ok(left.cmp(right)),
        (_, _) => Err(format!("{} and {} have no order", show(left), show(right))),
    }
}

fn call(function: Function, arguments: &[Value]) -> Result<Value, String> {
    match (function, arguments) {
        (Function::Size, [Value::Text(text)]) => {
            let size = i64::try_from(text.chars().count());
            size.map(Value::Int).map_err(|error| error.to_string())
        }
        (Function::Int, [Value::Text(text)]) => {
            let number = typed(Kind::Int, text);
            number.ok_or_else(|| format!("int({text:?}): this is no whole number"))
        }
        (Function::Timestamp, [Value::Text(text)]) => {
            let time = typed(Kind::Time, text);
            time.ok_or_else(|| format!("timestamp({text:?}): this is no time"))
        }
        (Function::StartsWith, [Value::Text(text), Value::Text(part)]) => {
            Ok(Value::Bool(text.starts_with(part.as_str())))
        }
        (Function::EndsWith, [Value::Text(text), Value::Text(part)]) => {
            Ok(Value::Bool(text.ends_with(part.as_str())))
        }
        (Function::Contains, [Value::Text(text), Value::Text(part)]) => {
            Ok(Value::Bool(text.contains(part.as_str())))
        }
        (_, _) => Err("a function got values of another type".to_owned()),
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Text(value) => format!("{value:?}"),
        Value::Time(value) => value.to_string(),
    }
}
