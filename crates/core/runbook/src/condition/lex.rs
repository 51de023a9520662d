//! A condition's words and signs.

use super::{BadCondition, MAX_CONDITION_BYTES, MAX_TOKENS};

/// Signs, the longer ones first.
const SIGNS: [&str; 22] = [
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", "(", ")",
    "[", "]", ".", ",",
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(String),
    Int(i64),
    Text(String),
    Sign(&'static str),
    End,
}

impl Token {
    /// As it is told in a finding.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Word(word) => format!("`{}`", word.escape_debug()),
            Self::Int(number) => format!("`{number}`"),
            Self::Text(text) => format!("the text \"{}\"", text.escape_debug()),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// Divides the text; the last one is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, BadCondition> {
    if text.len() > MAX_CONDITION_BYTES {
        let message = format!("the condition has {} bytes", text.len());
        let remedy =
            format!("at most {MAX_CONDITION_BYTES} are read; divide it over several steps");
        return Err(BadCondition::at(0, message, remedy));
    }
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let (token, after) = next(rest, first, at)?;
        if found.len() >= MAX_TOKENS {
            let message = format!("the condition has more than {MAX_TOKENS} words and signs");
            return Err(BadCondition::at(
                at,
                message,
                "divide it over several steps",
            ));
        }
        found.push((token, at));
        rest = after.trim_start();
    }
    found.push((Token::End, text.len()));
    Ok(found)
}

fn next(rest: &str, first: char, at: usize) -> Result<(Token, &str), BadCondition> {
    if first.is_ascii_alphabetic() || first == '_' {
        let (word, after) = split(rest, |c| c.is_ascii_alphanumeric() || c == '_');
        if after.starts_with(['"', '\'']) {
            let message = format!("texts with the prefix `{word}` are not supported");
            return Err(BadCondition::at(
                at,
                message,
                "write a plain text in quotes",
            ));
        }
        return Ok((Token::Word(word.to_owned()), after));
    }
    if first.is_ascii_digit() {
        return number(rest, at);
    }
    if first == '"' || first == '\'' {
        return quoted(rest, first, at);
    }
    if rest.starts_with("//") {
        let remedy = "explain in the step's title, or in a comment of the file";
        return Err(BadCondition::at(at, "comments are not supported", remedy));
    }
    for sign in SIGNS {
        if let Some(after) = rest.strip_prefix(sign) {
            return Ok((Token::Sign(sign), after));
        }
    }
    let message = format!("`{}` has no meaning here", first.escape_debug());
    let remedy = match first {
        '=' => "write `==` to compare",
        '&' => "write `&&` for and",
        '|' => "write `||` for or",
        '$' | '{' | '}' => "write names without ${…}: incident.log, steps.ID.outputs.NAME",
        _ => "remove it",
    };
    Err(BadCondition::at(at, message, remedy))
}

fn split(rest: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
    rest.split_at_checked(end).unwrap_or((rest, ""))
}

fn number(rest: &str, at: usize) -> Result<(Token, &str), BadCondition> {
    let (digits, after) = split(rest, |c| c.is_ascii_alphanumeric());
    let fraction = after.strip_prefix('.').is_some_and(|after| {
        let next = after.chars().next();
        next.is_some_and(|c| c.is_ascii_digit())
    });
    match digits.parse::<i64>() {
        Ok(number) if !fraction => Ok((Token::Int(number), after)),
        Ok(_) | Err(_) => {
            let message = format!("`{}` is no whole number of 64 bits", digits.escape_debug());
            Err(BadCondition::at(at, message, "write a number such as 3"))
        }
    }
}

fn quoted(rest: &str, quote: char, at: usize) -> Result<(Token, &str), BadCondition> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((index, c)) = chars.next() {
        if c == quote {
            let after = rest.get(index + 1..).unwrap_or_default();
            return Ok((Token::Text(text), after));
        }
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some((_, escaped @ ('\\' | '"' | '\''))) => text.push(escaped),
            Some((_, 'n')) => text.push('\n'),
            Some((_, 't')) => text.push('\t'),
            other => {
                let shown = other.map(|(_, c)| c).unwrap_or_default();
                let message = format!("`\\{}` is not supported in a text", shown.escape_debug());
                let remedy = "write the character itself, or one of \\\\ \\\" \\' \\n \\t";
                return Err(BadCondition::at(at + index, message, remedy));
            }
        }
    }
    let message = "the text has no end";
    Err(BadCondition::at(
        at,
        message,
        format!("close it with {quote}"),
    ))
}
