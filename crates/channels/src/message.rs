//! What is sent, and how that ends.

/// What a pager is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Nothing: it is not a pager's matter.
    None,
    /// Wake somebody.
    Trigger,
    /// Somebody is awake.
    Acknowledge,
    /// It is over.
    Resolve,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The same for each repetition.
    pub key: String,
    /// What a pager takes for the same matter: the incident.
    pub matter: String,
    /// One line.
    pub title: String,
    /// Plain text.
    pub text: String,
    /// `critical`, `high`, `medium`, `low`; empty where nobody has said.
    pub severity: String,
    /// Who tells: the installation.
    pub source: String,
    /// For pagers.
    pub page: Page,
    /// A mail address in place of the channel's own.
    pub to: Option<String>,
}

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The other side said that it has it; what it said.
    Delivered(String),
    /// It said that it will not take it.
    Refused(String),
    /// Nothing was sent.
    NotSent(String),
    /// Nobody knows.
    Unknown(String),
}

/// A foreign text as one line of bounded length.
pub(crate) fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let odd = |c: char| c.is_control() || matches!(c, ' ' | '\u{2028}' | '\u{2029}');
    let words: Vec<&str> = text.split(odd).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(300).collect()
}
