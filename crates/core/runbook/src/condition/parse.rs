//! A condition's grammar. Precedence and association are CEL's.

use super::lex::{Token, tokens};
use super::{BadCondition, Expr, Fact, Function, MAX_DEPTH, Operator, Term, Value};
use crate::names::is_name;
use crate::suggest;
use crate::template::{IncidentField, PlanField, Reference};

/// What CEL has and conditions have not, by name.
const UNSUPPORTED: [&str; 14] = [
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "matches",
    "duration",
    "double",
    "uint",
    "string",
    "bytes",
    "type",
    "dyn",
    "bool",
];

/// Binary operators from the loosest to the tightest.
const LEVELS: [&[(&str, Operator)]; 5] = [
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<", Operator::Less),
        ("<=", Operator::LessOrEqual),
        (">", Operator::More),
        (">=", Operator::MoreOrEqual),
    ],
    &[("+", Operator::Plus), ("-", Operator::Minus)],
    &[
        ("*", Operator::Times),
        ("/", Operator::Over),
        ("%", Operator::Modulo),
    ],
];

/// The level of `in`: that of the comparisons.
const IN_LEVEL: usize = 2;

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    depth: usize,
}

pub(super) fn parse(text: &str) -> Result<Expr, BadCondition> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
    };
    let expr = parser.whole()?;
    match parser.peek() {
        (Token::End, _) => Ok(expr),
        (token, at) => {
            let message = format!("the condition is complete before {}", token.show());
            Err(BadCondition::at(at, message, "join its parts by && or ||"))
        }
    }
}

impl Parser {
    fn peek(&self) -> (Token, usize) {
        let last = || self.tokens.last().cloned();
        let token = self.tokens.get(self.next).cloned().or_else(last);
        token.unwrap_or((Token::End, 0))
    }

    fn take(&mut self) -> (Token, usize) {
        let token = self.peek();
        self.next += 1;
        token
    }

    fn accept(&mut self, sign: &'static str) -> bool {
        let here = self.peek().0 == Token::Sign(sign);
        self.next += usize::from(here);
        here
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), BadCondition> {
        if self.accept(sign) {
            return Ok(());
        }
        let (token, at) = self.peek();
        let message = format!("`{sign}` is missing before {}", token.show());
        Err(BadCondition::at(at, message, format!("add `{sign}`")))
    }

    /// Goes one deeper, or refuses.
    fn deeper<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, BadCondition>,
    ) -> Result<T, BadCondition> {
        if self.depth >= MAX_DEPTH {
            let message = format!("the condition nests deeper than {MAX_DEPTH}");
            let remedy = "write it flatter, or divide it over several steps";
            return Err(BadCondition::at(self.peek().1, message, remedy));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// `a ? b : c`, or anything tighter.
    fn whole(&mut self) -> Result<Expr, BadCondition> {
        self.deeper(|parser| {
            let first = parser.binary(0)?;
            let at = first.at;
            if !parser.accept("?") {
                return Ok(first);
            }
            let yes = parser.deeper(|parser| parser.binary(0))?;
            parser.expect(":")?;
            let no = parser.whole()?;
            let term = Term::Choice(Box::new([first, yes, no]));
            Ok(Expr { term, at })
        })
    }

    fn binary(&mut self, level: usize) -> Result<Expr, BadCondition> {
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        loop {
            let (token, at) = self.peek();
            let operator = operators
                .iter()
                .find(|(sign, _)| token == Token::Sign(sign))
                .map(|(_, operator)| *operator);
            let term = if let Some(operator) = operator {
                self.take();
                let right = self.binary(level + 1)?;
                Term::Binary(operator, Box::new(left), Box::new(right))
            } else if level == IN_LEVEL && token == Token::Word("in".to_owned()) {
                self.take();
                Term::In(Box::new(left), self.list()?)
            } else {
                return Ok(left);
            };
            left = Expr { term, at };
        }
    }

    fn unary(&mut self) -> Result<Expr, BadCondition> {
        let (token, at) = self.peek();
        match token {
            Token::Sign("!") => {
                self.take();
                let inner = self.deeper(Self::unary)?;
                let term = Term::Not(Box::new(inner));
                Ok(Expr { term, at })
            }
            Token::Sign("-") => {
                self.take();
                let inner = self.deeper(Self::unary)?;
                let term = Term::Negative(Box::new(inner));
                Ok(Expr { term, at })
            }
            Token::Word(_) | Token::Int(_) | Token::Text(_) | Token::Sign(_) | Token::End => {
                self.methods()
            }
        }
    }

    /// A term with the methods that are called on it.
    fn methods(&mut self) -> Result<Expr, BadCondition> {
        let mut expr = self.term()?;
        while self.accept(".") {
            let (token, at) = self.take();
            let function = match &token {
                Token::Word(word) if word == "startsWith" => Function::StartsWith,
                Token::Word(word) if word == "endsWith" => Function::EndsWith,
                Token::Word(word) if word == "contains" => Function::Contains,
                Token::Word(word) if word == "size" => Function::Size,
                Token::Word(word) => return Err(no_function(word, at)),
                Token::Int(_) | Token::Text(_) | Token::Sign(_) | Token::End => {
                    let message = format!("no method can be {}", token.show());
                    let remedy = "methods are: startsWith, endsWith, contains, size";
                    return Err(BadCondition::at(at, message, remedy));
                }
            };
            let mut arguments = vec![expr];
            arguments.extend(self.arguments()?);
            let term = Term::Call(function, arguments);
            expr = Expr { term, at };
        }
        Ok(expr)
    }

    fn term(&mut self) -> Result<Expr, BadCondition> {
        let (token, at) = self.take();
        let literal = |value: Value| Term::Literal(value);
        let term = match token {
            Token::Int(number) => literal(Value::Int(number)),
            Token::Text(text) => literal(Value::Text(text)),
            Token::Sign("(") => {
                let inner = self.whole()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Word(word) => match word.as_str() {
                "true" => literal(Value::Bool(true)),
                "false" => literal(Value::Bool(false)),
                "has" => {
                    self.expect("(")?;
                    let (token, at) = self.take();
                    let Token::Word(root) = &token else {
                        return Err(not_a_fact(&token, at));
                    };
                    let fact = self.fact(root, at)?;
                    self.expect(")")?;
                    Term::Has(fact)
                }
                "size" => Term::Call(Function::Size, self.arguments()?),
                "int" => Term::Call(Function::Int, self.arguments()?),
                "timestamp" => Term::Call(Function::Timestamp, self.arguments()?),
                root => Term::Fact(self.fact(root, at)?),
            },
            token @ (Token::Sign(_) | Token::End) => {
                let message = format!("a value is missing before {}", token.show());
                let remedy = "write a number, a text in quotes, true, false or a name";
                return Err(BadCondition::at(at, message, remedy));
            }
        };
        Ok(Expr { term, at })
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, BadCondition> {
        self.expect("(")?;
        self.until(")")
    }

    fn list(&mut self) -> Result<Vec<Expr>, BadCondition> {
        self.expect("[")?;
        self.until("]")
    }

    fn until(&mut self, close: &'static str) -> Result<Vec<Expr>, BadCondition> {
        let mut items = Vec::new();
        if self.accept(close) {
            return Ok(items);
        }
        loop {
            items.push(self.whole()?);
            if self.accept(close) {
                return Ok(items);
            }
            self.expect(",")?;
        }
    }

    /// What follows `incident`, `plan` or `steps`.
    fn fact(&mut self, root: &str, at: usize) -> Result<Fact, BadCondition> {
        match root {
            "incident" => {
                let (name, at) = self.member()?;
                let mut known = IncidentField::ALL.into_iter();
                let field = known.find(|field| field.as_str() == name);
                let names = IncidentField::ALL.map(IncidentField::as_str);
                field
                    .map(|field| Fact::Value(Reference::Incident(field)))
                    .ok_or_else(|| unknown("incident", "incident's fields", &name, &names, at))
            }
            "plan" => {
                let (name, at) = self.member()?;
                let field = PlanField::ALL.into_iter().find(|it| it.as_str() == name);
                let names = PlanField::ALL.map(PlanField::as_str);
                field
                    .map(|field| Fact::Value(Reference::Plan(field)))
                    .ok_or_else(|| unknown("plan", "plan's fields", &name, &names, at))
            }
            "steps" => self.of_step(),
            word if self.peek().0 == Token::Sign("(") => Err(no_function(word, at)),
            word => {
                let remedy = suggest::remedy("names", word, ["incident", "plan", "steps"]);
                let message = format!("nothing is called `{}`", word.escape_debug());
                Err(BadCondition::at(at, message, remedy))
            }
        }
    }

    fn of_step(&mut self) -> Result<Fact, BadCondition> {
        let (step, at) = self.member()?;
        if self.peek().0 == Token::Sign("(") {
            return Err(no_function(&step, at));
        }
        if !is_name(&step) {
            let message = format!("`{}` is no step's name", step.escape_debug());
            let remedy =
                "names are small letters, digits and `-`; one with `-` is written steps[\"a-b\"]";
            return Err(BadCondition::at(at, message, remedy));
        }
        if self.peek().0 == Token::Sign("-") {
            let message = format!("`steps.{step}-…` subtracts");
            let remedy = format!("write a name with `-` in brackets: steps[\"{step}-…\"]");
            return Err(BadCondition::at(at, message, remedy));
        }
        let (what, at) = self.member()?;
        match what.as_str() {
            "state" => Ok(Fact::State(step)),
            "outputs" => {
                let (output, _) = self.member()?;
                Ok(Fact::Value(Reference::Step { step, output }))
            }
            _ => Err(unknown(
                "steps.ID",
                "parts of a step",
                &what,
                &["state", "outputs"],
                at,
            )),
        }
    }

    /// `.name` or `["name"]`.
    fn member(&mut self) -> Result<(String, usize), BadCondition> {
        let (sign, at) = self.take();
        let bracket = sign == Token::Sign("[");
        if !bracket && sign != Token::Sign(".") {
            let message = format!("a name is missing before {}", sign.show());
            let remedy =
                "write incident.FIELD, plan.FIELD, steps.ID.state or steps.ID.outputs.NAME";
            return Err(BadCondition::at(at, message, remedy));
        }
        let (token, at) = self.take();
        match token {
            Token::Word(name) if !bracket => Ok((name, at)),
            Token::Text(name) if bracket => {
                self.expect("]")?;
                Ok((name, at))
            }
            Token::Word(_) | Token::Int(_) | Token::Text(_) | Token::Sign(_) | Token::End => {
                Err(not_a_fact(&token, at))
            }
        }
    }
}

fn not_a_fact(token: &Token, at: usize) -> BadCondition {
    let message = format!("a name belongs here, and here is {}", token.show());
    BadCondition::at(at, message, "write steps.ID, or steps[\"ID\"] with quotes")
}

fn no_function(word: &str, at: usize) -> BadCondition {
    if UNSUPPORTED.contains(&word) {
        let message = format!("CEL's `{word}` is not supported in conditions");
        let remedy = "there are: has, size, int, timestamp, startsWith, endsWith, contains, in";
        return BadCondition::at(at, message, remedy);
    }
    let known = [
        "has",
        "size",
        "int",
        "timestamp",
        "startsWith",
        "endsWith",
        "contains",
    ];
    let remedy = suggest::remedy("functions", word, known);
    let message = format!("there is no function `{}`", word.escape_debug());
    BadCondition::at(at, message, remedy)
}

fn unknown(of: &str, what: &str, name: &str, names: &[&str], at: usize) -> BadCondition {
    let remedy = suggest::remedy(what, name, names.iter().copied());
    let message = format!("`{of}` has no `{}`", name.escape_debug());
    BadCondition::at(at, message, remedy)
}
