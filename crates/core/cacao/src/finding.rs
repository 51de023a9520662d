//! What is wrong with a playbook: where (a JSON pointer), what, and what to do about it.

use std::fmt;

use sealwarden_runbook::Severity;

/// One thing that a check of a playbook found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The place in the playbook, a JSON pointer (RFC 6901) such as `/workflow/end--…/on_completion`; empty for the whole.
    pub pointer: String,
    /// Error: the playbook is refused. Warning: it works, and something in it is ignored or doubtful.
    pub severity: Severity,
    /// A stable name of the kind of finding, such as `unknown-step`.
    pub code: &'static str,
    /// What is wrong, with the value that is.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    /// An error at a place.
    pub fn error(
        pointer: impl Into<String>,
        code: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            pointer: pointer.into(),
            severity: Severity::Error,
            code,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// The same finding, as a warning.
    #[must_use]
    pub fn as_warning(self) -> Self {
        Self {
            severity: Severity::Warning,
            ..self
        }
    }

    /// Whether the playbook is refused for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `/workflow/end--…/on_completion: error[end-goes-on]: … (do this)`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.pointer.is_empty() {
            "the playbook"
        } else {
            &self.pointer
        };
        write!(
            f,
            "{place}: {}[{}]: {}",
            self.severity.as_str(),
            self.code,
            self.message
        )?;
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}

/// A pointer one level deeper. RFC 6901 writes `~` as `~0` and `/` as `~1`.
pub(crate) fn below(pointer: &str, key: impl fmt::Display) -> String {
    let key = key.to_string().replace('~', "~0").replace('/', "~1");
    format!("{pointer}/{key}")
}

/// A text from a playbook as it can be shown on one line of a terminal: escaped, and shortened where it is long.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut out: String = text.chars().take(LONGEST).collect::<String>();
    out = out.escape_debug().to_string();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}
