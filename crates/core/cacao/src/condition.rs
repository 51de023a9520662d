//! Conditions: comparisons in the manner of STIX patterning over a playbook's variables.
//!
//! The specification names the STIX patterning grammar, whose comparisons stand in brackets. Published playbooks
//! write none (`__x__:value != '5'`), some write `==`, and some leave out the quotes: all of these are read. What
//! compares observations over time (`FOLLOWEDBY`, `WITHIN`, `REPEATS`) is refused.

use std::fmt;

use crate::names::{is_variable, is_variable_byte};

/// The longest condition, in bytes.
pub const MAX_CONDITION_BYTES: usize = 4_096;

/// The deepest nesting of parentheses.
const MAX_NESTING: usize = 16;

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`, also written `==`.
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// One of a list.
    In,
    /// SQL's patterns with `%` and `_`.
    Like,
    /// A regular expression.
    Matches,
    /// An address range inside another.
    IsSubset,
    /// An address range around another.
    IsSuperset,
}

impl Comparison {
    const ALL: [(&'static str, Self); 12] = [
        ("==", Self::Equal),
        ("=", Self::Equal),
        ("!=", Self::NotEqual),
        ("<=", Self::LessOrEqual),
        ("<", Self::Less),
        (">=", Self::GreaterOrEqual),
        (">", Self::Greater),
        ("IN", Self::In),
        ("LIKE", Self::Like),
        ("MATCHES", Self::Matches),
        ("ISSUBSET", Self::IsSubset),
        ("ISSUPERSET", Self::IsSuperset),
    ];

    /// As the STIX grammar writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "IN",
            Self::Like => "LIKE",
            Self::Matches => "MATCHES",
            Self::IsSubset => "ISSUBSET",
            Self::IsSuperset => "ISSUPERSET",
        }
    }
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The value of a variable, by its name with the underscores.
    Variable(String),
    /// A text, a number, a truth value or a time, as text.
    Literal(String),
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All of them.
    All(Vec<Self>),
    /// At least one of them.
    Any(Vec<Self>),
    /// Not this one.
    Not(Box<Self>),
    /// A comparison. Only `IN` has several right sides.
    Compare {
        /// The left side.
        left: Operand,
        /// How they are compared.
        comparison: Comparison,
        /// The right side.
        right: Vec<Operand>,
    },
}

/// A text that is no condition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the condition is not understood at character {at}: {reason}")]
pub struct BadCondition {
    /// Which character, from 1.
    pub at: usize,
    /// Why not.
    pub reason: String,
}

impl Condition {
    /// Reads a condition, with or without the brackets of STIX.
    pub fn parse(text: &str) -> Result<Self, BadCondition> {
        let tokens = tokens(text)?;
        let mut parser = Parser {
            tokens,
            next: 0,
            end: text.chars().count() + 1,
        };
        let condition = parser.any(0)?;
        match parser.peek() {
            None => Ok(condition),
            Some(_) => Err(parser.bad("this stands after the end of the condition")),
        }
    }

    /// The names of the variables in it, in order.
    pub fn variables(&self) -> Vec<&str> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::variables).collect(),
            Self::Not(inner) => inner.variables(),
            Self::Compare { left, right, .. } => std::iter::once(left)
                .chain(right)
                .filter_map(|operand| match operand {
                    Operand::Variable(name) => Some(name.as_str()),
                    Operand::Literal(_) => None,
                })
                .collect(),
        }
    }
}

/// The form that [`Condition::parse`] reads as the same condition, without brackets.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str| {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    write!(f, " {word} ")?;
                }
                match part {
                    Self::All(_) | Self::Any(_) => write!(f, "({part})")?,
                    Self::Not(_) | Self::Compare { .. } => write!(f, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All(parts) => joined(f, parts, "AND"),
            Self::Any(parts) => joined(f, parts, "OR"),
            Self::Not(inner) => write!(f, "NOT ({inner})"),
            Self::Compare {
                left,
                comparison,
                right,
            } => {
                write!(f, "{left} {} ", comparison.as_str())?;
                match right.as_slice() {
                    [only] if *comparison != Comparison::In => write!(f, "{only}"),
                    list => {
                        let list: Vec<String> = list.iter().map(ToString::to_string).collect();
                        write!(f, "({})", list.join(", "))
                    }
                }
            }
        }
    }
}

/// `__x__:value`, or a text in single quotes.
impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "{name}:value"),
            Self::Literal(text) => {
                write!(f, "'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Sign(&'static str),
    Open(char),
    Close(char),
    Comma,
}

/// The tokens, each with the character at which it begins, from 1.
fn tokens(text: &str) -> Result<Vec<(Token, usize)>, BadCondition> {
    if text.len() > MAX_CONDITION_BYTES {
        let reason = format!(
            "it has {} bytes; at most {MAX_CONDITION_BYTES} are read",
            text.len()
        );
        return Err(BadCondition { at: 1, reason });
    }
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(c) = chars.get(at).copied() {
        let begin = at + 1;
        at += 1;
        let token = match c {
            c if c.is_whitespace() => continue,
            '(' | '[' => Token::Open(c),
            ')' | ']' => Token::Close(c),
            ',' => Token::Comma,
            '=' | '!' | '<' | '>' => {
                let double = chars.get(at) == Some(&'=');
                let sign = if double {
                    format!("{c}=")
                } else {
                    c.to_string()
                };
                let known = Comparison::ALL.iter().find(|(word, _)| *word == sign);
                let Some((word, _)) = known else {
                    let reason = "`!` stands alone; write `!=`".to_owned();
                    return Err(BadCondition { at: begin, reason });
                };
                at += usize::from(double);
                Token::Sign(word)
            }
            '\'' | '"' => Token::Quoted(quoted(&chars, &mut at, c, begin)?),
            _ => {
                let mut word = String::from(c);
                while let Some(c) = chars.get(at).filter(|c| !ends_word(**c)) {
                    word.push(*c);
                    at += 1;
                }
                // h'…', b'…' and t'…' are STIX literals: hexadecimal, base64 and times.
                if matches!(word.as_str(), "h" | "b" | "t") && chars.get(at) == Some(&'\'') {
                    at += 1;
                    Token::Quoted(quoted(&chars, &mut at, '\'', begin)?)
                } else {
                    Token::Word(word)
                }
            }
        };
        tokens.push((token, begin));
    }
    Ok(tokens)
}

fn ends_word(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '(' | ')' | '[' | ']' | ',' | '=' | '!' | '<' | '>' | '\'' | '"'
        )
}

/// The rest of a quoted text; `\` takes the next character as it is.
fn quoted(
    chars: &[char],
    at: &mut usize,
    quote: char,
    begin: usize,
) -> Result<String, BadCondition> {
    let mut text = String::new();
    while let Some(c) = chars.get(*at).copied() {
        *at += 1;
        match c {
            '\\' => {
                text.extend(chars.get(*at));
                *at += 1;
            }
            c if c == quote => return Ok(text),
            c => text.push(c),
        }
    }
    let reason = format!("the text that begins here has no closing {quote}");
    Err(BadCondition { at: begin, reason })
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(token, _)| token)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let found =
            matches!(self.peek(), Some(Token::Word(text)) if text.eq_ignore_ascii_case(word));
        self.next += usize::from(found);
        found
    }

    fn bad(&self, reason: impl Into<String>) -> BadCondition {
        let at = self.tokens.get(self.next).map_or(self.end, |(_, at)| *at);
        BadCondition {
            at,
            reason: reason.into(),
        }
    }

    fn any(&mut self, depth: usize) -> Result<Condition, BadCondition> {
        let mut parts = vec![self.all(depth)?];
        while self.takes_word("OR") {
            parts.push(self.all(depth)?);
        }
        Ok(single(parts, Condition::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Condition, BadCondition> {
        let mut parts = vec![self.not(depth)?];
        while self.takes_word("AND") {
            parts.push(self.not(depth)?);
        }
        Ok(single(parts, Condition::All))
    }

    fn not(&mut self, depth: usize) -> Result<Condition, BadCondition> {
        if depth > MAX_NESTING {
            return Err(self.bad(format!("it nests deeper than {MAX_NESTING}")));
        }
        if self.takes_word("NOT") {
            return Ok(Condition::Not(Box::new(self.not(depth + 1)?)));
        }
        let Some(Token::Open(open)) = self.peek().cloned() else {
            return self.compare();
        };
        self.next += 1;
        let inner = self.any(depth + 1)?;
        let close = if open == '(' { ')' } else { ']' };
        if self.peek() != Some(&Token::Close(close)) {
            return Err(self.bad(format!("`{close}` is missing")));
        }
        self.next += 1;
        Ok(inner)
    }

    fn compare(&mut self) -> Result<Condition, BadCondition> {
        let left = self.operand()?;
        // STIX writes the negation of a comparison before its operator: `a NOT IN (…)`.
        let negated = self.takes_word("NOT");
        let found = match self.peek() {
            Some(Token::Sign(sign)) => Some((*sign).to_owned()),
            Some(Token::Word(word)) => Some(word.to_ascii_uppercase()),
            Some(Token::Quoted(_) | Token::Open(_) | Token::Close(_) | Token::Comma) | None => None,
        };
        let known = Comparison::ALL
            .iter()
            .find(|(word, _)| found.as_deref() == Some(*word));
        let Some((_, comparison)) = known else {
            return Err(self.bad("a comparison is missing: =, !=, <, <=, >, >=, IN, LIKE, MATCHES, ISSUBSET or ISSUPERSET"));
        };
        self.next += 1;
        let right = if *comparison == Comparison::In {
            self.list()?
        } else {
            vec![self.operand()?]
        };
        let compare = Condition::Compare {
            left,
            comparison: *comparison,
            right,
        };
        Ok(if negated {
            Condition::Not(Box::new(compare))
        } else {
            compare
        })
    }

    fn list(&mut self) -> Result<Vec<Operand>, BadCondition> {
        if self.peek() != Some(&Token::Open('(')) {
            return Err(self.bad("`IN` takes a list in parentheses"));
        }
        self.next += 1;
        let mut items = vec![self.operand()?];
        while self.peek() == Some(&Token::Comma) {
            self.next += 1;
            items.push(self.operand()?);
        }
        if self.peek() != Some(&Token::Close(')')) {
            return Err(self.bad("`)` is missing after the list"));
        }
        self.next += 1;
        Ok(items)
    }

    fn operand(&mut self) -> Result<Operand, BadCondition> {
        let Some(token) = self.peek().cloned() else {
            return Err(self.bad("a value is missing"));
        };
        let operand = match token {
            Token::Quoted(text) => Operand::Literal(text),
            Token::Word(word) => self.word(&word)?,
            Token::Sign(_) | Token::Open(_) | Token::Close(_) | Token::Comma => {
                return Err(self.bad("a value is missing"));
            }
        };
        self.take();
        Ok(operand)
    }

    fn word(&self, word: &str) -> Result<Operand, BadCondition> {
        if let Some(name) = word.strip_suffix(":value").filter(|name| is_variable(name)) {
            return Ok(Operand::Variable(name.to_owned()));
        }
        if is_variable(word) {
            return Err(self.bad(format!("write `{word}:value` for the value of a variable")));
        }
        if ["FOLLOWEDBY", "WITHIN", "REPEATS", "START", "STOP"].contains(&word) {
            return Err(self.bad(format!(
                "`{word}` compares observations over time, and a playbook has none"
            )));
        }
        let plain = |b: u8| {
            is_variable_byte(b) || matches!(b, b'.' | b'+' | b'@' | b'/' | b'%') || b >= 0x80
        };
        if word.contains("__:value") || !word.bytes().all(plain) {
            return Err(self.bad(format!(
                "`{}` is neither a variable nor a value; put texts in single quotes",
                word.escape_debug()
            )));
        }
        Ok(Operand::Literal(word.to_owned()))
    }
}

fn single(mut parts: Vec<Condition>, join: impl Fn(Vec<Condition>) -> Condition) -> Condition {
    match (parts.pop(), parts.is_empty()) {
        (Some(only), true) => only,
        (Some(last), false) => {
            parts.push(last);
            join(parts)
        }
        (None, _) => join(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_and_their_relatives_are_read() {
        let plain = Condition::parse("__x__:value != '5'").unwrap();
        assert_eq!(plain, Condition::parse("[__x__:value != '5']").unwrap());
        assert_eq!(plain.to_string(), "__x__:value != '5'");
        assert_eq!(plain.variables(), ["__x__"]);
        for (text, shown) in [
            ("__a__:value == testing", "__a__:value = 'testing'"),
            ("__a__:value>5", "__a__:value > '5'"),
            (
                "[__a__:value = 'x'] AND [__b__:value IN ('1','2')]",
                "__a__:value = 'x' AND __b__:value IN ('1', '2')",
            ),
            (
                "NOT (__a__:value = 1 OR __b__:value < 2)",
                "NOT (__a__:value = '1' OR __b__:value < '2')",
            ),
            ("__a__:value NOT LIKE 'x%'", "NOT (__a__:value LIKE 'x%')"),
            ("__a__:value = 'it\\'s' ", "__a__:value = 'it\\'s'"),
            (
                "__ip__:value ISSUBSET '10.0.0.0/8'",
                "__ip__:value ISSUBSET '10.0.0.0/8'",
            ),
        ] {
            let read = Condition::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(read.to_string(), shown);
            assert_eq!(Condition::parse(shown).unwrap(), read);
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_its_place() {
        for (text, at) in [
            ("", 1),
            ("__x__:value", 12),
            ("__x__ = 5", 1),
            ("__x__:value = 'a", 15),
            ("__x__:value ! 5", 13),
            ("(__x__:value = 5", 17),
            ("__x__:value = 5 extra", 17),
            ("__ip__:value/__subnet__:value = 1", 1),
            ("__x__:value IN 5", 16),
            ("[__x__:value = 5] FOLLOWEDBY [__y__:value = 6]", 19),
        ] {
            let bad = Condition::parse(text).unwrap_err();
            assert_eq!(bad.at, at, "{text}: {bad}");
        }
        assert!(Condition::parse(&"(".repeat(4_000)).is_err());
        assert!(Condition::parse(&"NOT ".repeat(1_000)).is_err());
        assert!(Condition::parse(&"x".repeat(5_000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_the_same_again_or_refused(text in "[_xy:value=!<>'\\\\ ()ANDORIN,0-9\\[\\]]{0,60}") {
            if let Ok(condition) = Condition::parse(&text) {
                proptest::prop_assert_eq!(Condition::parse(&condition.to_string()).unwrap(), condition);
            }
        }
    }
}
