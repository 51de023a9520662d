//! The text that a person signs.
//!
//! ```text
//! sealwarden approval v1
//! installation: acme
//! environment: production
//! incident: inc-1
//! run: run-1
//! step: isolate
//! iteration: 0
//! runbook: key-compromise sha256:<64 hex>
//! inputs: sha256:<64 hex>
//! roster: sha256:<64 hex>
//! decision: approve
//! approver: ada
//! nonce: <32 hex>
//! expires: 2026-01-02T03:04:05Z
//! ```
//!
//! **Invariant:** a statement has exactly one text: `Statement::parse(text)?.to_string() == text` for every text that parses.

use std::fmt;

use jiff::Timestamp;

/// The first line of every statement.
const HEADER: &str = "sealwarden approval v1";

/// The longest text that is read as a statement, in bytes.
pub const MAX_STATEMENT_BYTES: usize = 4096;

/// The longest id or name in a statement, in bytes.
const MAX_WORD_BYTES: usize = 256;

/// Where an installation stands: production and drill can never be mistaken for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Environment {
    /// The real thing.
    Production,
    /// A sandbox of a drill.
    Drill,
}

impl Environment {
    /// The word in statements and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Drill => "drill",
        }
    }

    /// Reads the word; `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "production" => Some(Self::Production),
            "drill" => Some(Self::Drill),
            _ => None,
        }
    }

    /// The SSHSIG namespace in which approvals of this environment are signed.
    pub fn namespace(self) -> Namespace {
        match self {
            Self::Production => Namespace::Approval,
            Self::Drill => Namespace::ApprovalDrill,
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The SSHSIG namespace of a signature: what kind of thing was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespace {
    /// Approvals in production.
    Approval,
    /// Approvals in drills.
    ApprovalDrill,
    /// Templates of notices, signed beforehand.
    Notice,
}

impl Namespace {
    /// The namespace as `ssh-keygen -Y sign -n` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approval => "sealwarden-approval",
            Self::ApprovalDrill => "sealwarden-approval-drill",
            Self::Notice => "sealwarden-notice",
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a person decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// The step may run.
    Approve,
    /// The step must not run, until the same person approves it.
    Deny,
    /// The person did what a manual step asks for.
    Confirm,
    /// A step of which nobody knew whether it happened did not: it may be tried again.
    Retry,
    /// The run may go on without the step.
    Skip,
    /// Break-glass: the step may run without its quorum.
    Override,
    /// The person has looked at an override.
    Review,
}

impl Decision {
    /// The word in statements and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Deny => "deny",
            Self::Confirm => "confirm",
            Self::Retry => "retry",
            Self::Skip => "skip",
            Self::Override => "override",
            Self::Review => "review",
        }
    }

    /// Whether it counts for or against the step's own quorum. The others are words of their own.
    pub fn is_about_the_quorum(self) -> bool {
        match self {
            Self::Approve | Self::Deny | Self::Confirm => true,
            Self::Retry | Self::Skip | Self::Override | Self::Review => false,
        }
    }

    /// Reads the word; `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "approve" => Some(Self::Approve),
            "deny" => Some(Self::Deny),
            "confirm" => Some(Self::Confirm),
            "retry" => Some(Self::Retry),
            "skip" => Some(Self::Skip),
            "override" => Some(Self::Override),
            "review" => Some(Self::Review),
            _ => None,
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Everything that a signed decision binds. `Display` gives the text to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The installation's name.
    pub installation: String,
    /// Production or drill.
    pub environment: Environment,
    /// The incident's id.
    pub incident: String,
    /// The run's id.
    pub run: String,
    /// The step's id.
    pub step: String,
    /// The step's iteration, from 0.
    pub iteration: u32,
    /// The runbook's name.
    pub runbook: String,
    /// SHA-256 (64 hex digits) of the runbook's file.
    pub runbook_digest: String,
    /// SHA-256 (64 hex digits) of the step's resolved inputs.
    pub inputs_digest: String,
    /// SHA-256 (64 hex digits) of the roster's file.
    pub roster_digest: String,
    /// What was decided.
    pub decision: Decision,
    /// The person's id on the roster.
    pub approver: String,
    /// 32 hex digits, never used twice.
    pub nonce: String,
    /// When the decision stops to count if its step has not started: Unix time in seconds.
    pub expires_s: i64,
}

/// A text that is not a statement: which line, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}; sign the text exactly as `sealwarden approve` shows it")]
pub struct StatementError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// The fields in their only order.
const FIELDS: [&str; 13] = [
    "installation",
    "environment",
    "incident",
    "run",
    "step",
    "iteration",
    "runbook",
    "inputs",
    "roster",
    "decision",
    "approver",
    "nonce",
    "expires",
];

impl Statement {
    /// Reads a statement. Anything that `Display` would not have written is refused, with the line that is wrong.
    pub fn parse(text: &str) -> Result<Self, StatementError> {
        let values = Values(split(text)?);
        let (runbook, runbook_digest) = values.runbook()?;
        Ok(Self {
            installation: values.word(0)?,
            environment: values.one_of(1, Environment::parse, "production or drill")?,
            incident: values.word(2)?,
            run: values.word(3)?,
            step: values.word(4)?,
            iteration: values.number(5)?,
            runbook,
            runbook_digest,
            inputs_digest: values.digest(7)?,
            roster_digest: values.digest(8)?,
            decision: values.one_of(
                9,
                Decision::parse,
                "approve, deny, confirm, retry, skip, override or review",
            )?,
            approver: values.word(10)?,
            nonce: values.nonce(11)?,
            expires_s: values.time(12)?,
        })
    }

    /// Checks that the text of this statement parses, that is, that each field's value can stand in its line.
    pub fn validate(&self) -> Result<(), StatementError> {
        Self::parse(&self.to_string()).map(|_| ())
    }

    /// When the decision stops to count, in milliseconds of Unix time.
    pub fn expires_ms(&self) -> i64 {
        self.expires_s.saturating_mul(1000)
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        writeln!(f, "installation: {}", self.installation)?;
        writeln!(f, "environment: {}", self.environment)?;
        writeln!(f, "incident: {}", self.incident)?;
        writeln!(f, "run: {}", self.run)?;
        writeln!(f, "step: {}", self.step)?;
        writeln!(f, "iteration: {}", self.iteration)?;
        writeln!(
            f,
            "runbook: {} sha256:{}",
            self.runbook, self.runbook_digest
        )?;
        writeln!(f, "inputs: sha256:{}", self.inputs_digest)?;
        writeln!(f, "roster: sha256:{}", self.roster_digest)?;
        writeln!(f, "decision: {}", self.decision)?;
        writeln!(f, "approver: {}", self.approver)?;
        writeln!(f, "nonce: {}", self.nonce)?;
        writeln!(f, "expires: {}", rfc3339(self.expires_s))
    }
}

/// A time in whole seconds as RFC 3339 in UTC; the number itself where it lies outside the calendar.
pub(crate) fn rfc3339(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(|_| unix_s.to_string(), |at| at.to_string())
}

/// A time in milliseconds, for sentences.
pub(crate) fn rfc3339_ms(unix_ms: i64) -> String {
    rfc3339(unix_ms.div_euclid(1000))
}

/// The values of the thirteen fields, or the line that is not as it must be.
fn split(text: &str) -> Result<Vec<&str>, StatementError> {
    if text.len() > MAX_STATEMENT_BYTES {
        return Err(wrong(
            1,
            format!(
                "the text has {} bytes; at most {MAX_STATEMENT_BYTES} are read",
                text.len()
            ),
        ));
    }
    let Some(body) = text.strip_suffix('\n') else {
        return Err(wrong(
            text.lines().count().max(1),
            "the last line does not end with a line feed".to_owned(),
        ));
    };
    let mut lines = body.split('\n');
    let header = lines.next().unwrap_or_default();
    check_line(1, header)?;
    if header != HEADER {
        return Err(wrong(1, format!("expected {HEADER:?}, found {header:?}")));
    }
    let mut values = Vec::with_capacity(FIELDS.len());
    for (index, field) in FIELDS.iter().enumerate() {
        let number = index + 2;
        let Some(line) = lines.next() else {
            return Err(wrong(number, format!("the field {field:?} is missing")));
        };
        check_line(number, line)?;
        values.push(value_of(number, index, field, line)?);
    }
    match lines.next() {
        Some(extra) => Err(wrong(
            FIELDS.len() + 2,
            format!("nothing may follow the last field, found {extra:?}"),
        )),
        None => Ok(values),
    }
}

fn check_line(number: usize, line: &str) -> Result<(), StatementError> {
    if let Some(bad) = line.chars().find(|c| !matches!(c, ' '..='~')) {
        return Err(wrong(
            number,
            format!("the character {bad:?} is not printable ASCII"),
        ));
    }
    if line.ends_with(' ') {
        return Err(wrong(number, "the line ends with a space".to_owned()));
    }
    Ok(())
}

fn value_of<'a>(
    number: usize,
    index: usize,
    field: &str,
    line: &'a str,
) -> Result<&'a str, StatementError> {
    let Some((name, value)) = line.split_once(": ") else {
        return Err(wrong(
            number,
            format!("expected \"{field}: …\", found {line:?}"),
        ));
    };
    if name == field {
        return Ok(value);
    }
    let problem = match FIELDS.iter().position(|known| *known == name) {
        None => format!("the field {name:?} is unknown; expected {field:?}"),
        Some(at) if at < index => format!("the field {name:?} stands twice; expected {field:?}"),
        Some(_) => format!("the field {field:?} is missing here; found {name:?}"),
    };
    Err(wrong(number, problem))
}

fn wrong(line: usize, problem: String) -> StatementError {
    StatementError { line, problem }
}

/// The values of the fields, in the order of `FIELDS`.
struct Values<'a>(Vec<&'a str>);

impl Values<'_> {
    fn text(&self, index: usize) -> &str {
        self.0.get(index).copied().unwrap_or_default()
    }

    fn error(&self, index: usize, problem: &str) -> StatementError {
        let field = FIELDS.get(index).copied().unwrap_or_default();
        wrong(
            index + 2,
            format!("{field} {:?} {problem}", self.text(index)),
        )
    }

    fn word(&self, index: usize) -> Result<String, StatementError> {
        let text = self.text(index);
        if is_word(text) {
            Ok(text.to_owned())
        } else {
            Err(self.error(index, "is not one word of 1 to 256 characters"))
        }
    }

    fn one_of<T>(
        &self,
        index: usize,
        parse: fn(&str) -> Option<T>,
        words: &str,
    ) -> Result<T, StatementError> {
        parse(self.text(index)).ok_or_else(|| self.error(index, &format!("is not {words}")))
    }

    fn number(&self, index: usize) -> Result<u32, StatementError> {
        let text = self.text(index);
        match text.parse::<u32>() {
            Ok(number) if number.to_string() == text => Ok(number),
            Ok(_) | Err(_) => Err(self.error(index, "is not a plain number below 4294967296")),
        }
    }

    fn runbook(&self) -> Result<(String, String), StatementError> {
        let problem = || self.error(6, "is not \"<name> sha256:<64 hex digits>\"");
        let (name, digest) = self.text(6).split_once(' ').ok_or_else(problem)?;
        let digest = digest
            .strip_prefix("sha256:")
            .filter(|hex| is_hex(hex, 64))
            .ok_or_else(problem)?;
        if !is_word(name) {
            return Err(problem());
        }
        Ok((name.to_owned(), digest.to_owned()))
    }

    fn digest(&self, index: usize) -> Result<String, StatementError> {
        self.text(index)
            .strip_prefix("sha256:")
            .filter(|hex| is_hex(hex, 64))
            .map(str::to_owned)
            .ok_or_else(|| self.error(index, "is not \"sha256:<64 hex digits>\""))
    }

    fn nonce(&self, index: usize) -> Result<String, StatementError> {
        let text = self.text(index);
        if is_hex(text, 32) {
            Ok(text.to_owned())
        } else {
            Err(self.error(index, "is not 32 lower-case hex digits"))
        }
    }

    fn time(&self, index: usize) -> Result<i64, StatementError> {
        let text = self.text(index);
        match text.parse::<Timestamp>() {
            Ok(at) if rfc3339(at.as_second()) == text => Ok(at.as_second()),
            Ok(_) | Err(_) => {
                Err(self.error(index, "is not a UTC time such as 2026-01-02T03:04:05Z"))
            }
        }
    }
}

fn is_word(text: &str) -> bool {
    (1..=MAX_WORD_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether `text` is exactly `digits` lower-case hex digits.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
