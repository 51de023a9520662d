//! What a check of the plan has to say: where, what is wrong, and what to do about it.

use std::fmt;

/// A place in a file of the plan. Lines and columns count from 1; 0 means that the place is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The plan is not used while this stands.
    Error,
    /// The plan works, and would work better without this.
    Warning,
}

impl Severity {
    /// The word shown to people and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One thing that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file's name inside the plan's folder.
    pub file: String,
    /// Where in the file.
    pub place: Place,
    /// The step concerned, if one is.
    pub step: Option<String>,
    /// Error or warning.
    pub severity: Severity,
    /// A stable name of the kind of finding, such as `unknown-need`.
    pub code: &'static str,
    /// What is wrong, with the value that is.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    /// An error at a place of a file.
    pub fn error(file: &str, place: Place, code: &'static str, message: String) -> Self {
        Self {
            file: file.to_owned(),
            place,
            step: None,
            severity: Severity::Error,
            code,
            message,
            remedy: String::new(),
        }
    }

    /// A warning at a place of a file.
    pub fn warning(file: &str, place: Place, code: &'static str, message: String) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(file, place, code, message)
        }
    }

    /// The same finding, about a step.
    #[must_use]
    pub fn in_step(mut self, step: &str) -> Self {
        self.step = Some(step.to_owned());
        self
    }

    /// The same finding, with what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    /// Whether the plan must not be used while this stands.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// `key-compromise.yaml:12:5: error[unknown-need] step rotate: … (do this)`.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.place.line > 0 {
            write!(f, ":{}:{}", self.place.line, self.place.column)?;
        }
        write!(f, ": {}[{}]", self.severity.as_str(), self.code)?;
        if let Some(step) = &self.step {
            write!(f, " step {step}")?;
        }
        write!(f, ": {}", self.message)?;
        if !self.remedy.is_empty() {
            write!(f, " ({})", self.remedy)?;
        }
        Ok(())
    }
}

/// Sorts findings by file and place, so that the same plan always reads the same.
pub(crate) fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        (&a.file, a.place, a.severity, a.code, &a.message)
            .cmp(&(&b.file, b.place, b.severity, b.code, &b.message))
    });
}
