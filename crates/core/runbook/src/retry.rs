//! `retry`: how often a step is tried, with which pauses, and after which errors.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::action::ActionSpec;
use crate::error_kind::ErrorKind;
use crate::fields::{Reader, Shape};
use crate::names::show_duration;
use crate::suggest;
use crate::yaml::Node;

/// The pause before a second attempt where the runbook does not say.
const BACKOFF: Duration = Duration::from_secs(1);
/// The attempts at what can be repeated without harm, where the runbook does not say.
const ATTEMPTS: u32 = 3;

pub(crate) const RETRY: Shape = Shape {
    what: "a retry",
    known: &["attempts", "backoff", "jitter", "on"],
    unsupported: &[],
};

/// How often a step is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts altogether, the first included.
    pub attempts: u32,
    /// The pause before the second attempt; each further one doubles it.
    pub backoff: Duration,
    /// Each pause is up to so much longer; how much follows from the run and the attempt, so that runs of one outage do not come back together.
    pub jitter: Duration,
    /// The errors after which it is tried again; `None`: all. After another one it has failed, however many attempts are left.
    pub on: Option<BTreeSet<ErrorKind>>,
}

impl Retry {
    /// What holds where a runbook says nothing.
    pub(crate) fn of(spec: &ActionSpec) -> Self {
        let repeats = spec.idempotent && !spec.manual;
        Self {
            attempts: if repeats { ATTEMPTS } else { 1 },
            backoff: BACKOFF,
            jitter: Duration::ZERO,
            on: None,
        }
    }

    /// Whether a step is tried again after this error. One of which no kind is known counts only where every kind does.
    pub fn tries_again_after(&self, error: Option<ErrorKind>) -> bool {
        let named = |on: &BTreeSet<ErrorKind>| error.is_some_and(|error| on.contains(&error));
        self.on.as_ref().is_none_or(named)
    }
}

/// `5 attempts, after unavailable or timeout; 2s and longer between them`.
impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attempts == 1 {
            return f.write_str("1 attempt");
        }
        write!(f, "{} attempts", self.attempts)?;
        if let Some(on) = &self.on {
            let on: Vec<&str> = on.iter().map(|kind| kind.as_str()).collect();
            write!(f, ", after {}", on.join(" or "))?;
        }
        write!(
            f,
            "; {} and longer between them",
            show_duration(self.backoff)
        )
    }
}

/// Reads a step's `retry`.
pub(crate) fn read(reader: &mut Reader, node: &Node, spec: Option<&ActionSpec>) -> Option<Retry> {
    let fields = reader.fields(node, &RETRY)?;
    if spec.is_some_and(|spec| spec.manual) {
        let message = "what people do is not retried".to_owned();
        reader.error(fields.place, "bad-input", message, "remove `retry`");
        return None;
    }
    let attempts = reader.required(&fields, "attempts");
    let attempts = attempts.and_then(|node| reader.count(node, "attempts", 1, 20));
    let backoff = match fields.get("backoff") {
        Some(node) => reader.duration(node, "backoff", Duration::ZERO),
        None => Some(BACKOFF),
    };
    let jitter = match fields.get("jitter") {
        Some(node) => reader.duration(node, "jitter", Duration::ZERO),
        None => Some(Duration::ZERO),
    };
    let on = match fields.get("on") {
        Some(node) => Some(read_errors(reader, node, spec)?),
        None => None,
    };
    Some(Retry {
        attempts: attempts?,
        backoff: backoff?,
        jitter: jitter?,
        on,
    })
}

/// The errors that `on` names: such as the action can end with.
fn read_errors(
    reader: &mut Reader,
    node: &Node,
    spec: Option<&ActionSpec>,
) -> Option<BTreeSet<ErrorKind>> {
    let declared = spec.map_or(ErrorKind::ALL.as_slice(), |spec| spec.action.errors());
    let words: Vec<&str> = declared.iter().map(|kind| kind.as_str()).collect();
    let items = reader.list(node, "`on`")?;
    if items.is_empty() {
        let message = "`on` names no error, so nothing would be tried again".to_owned();
        let remedy = format!("name some of {}, or write `attempts: 1`", words.join(", "));
        reader.error(node.place, "empty", message, remedy);
        return None;
    }
    let mut on = BTreeSet::new();
    let mut good = true;
    for item in items {
        let Some(word) = reader.text(item, "on") else {
            good = false;
            continue;
        };
        let problem = match (ErrorKind::parse(&word), spec) {
            (None, _) => Some(format!("there is no error `{}`", word.escape_debug())),
            (Some(kind), Some(spec)) if !declared.contains(&kind) => {
                Some(format!("`{}` never ends with `{kind}`", spec.name))
            }
            (Some(kind), _) => {
                let new = on.insert(kind);
                (!new).then(|| format!("`{kind}` is named twice"))
            }
        };
        if let Some(message) = problem {
            let remedy = suggest::remedy("errors that it can end with", &word, words.clone());
            reader.error(item.place, "unknown-error", message, remedy);
            good = false;
        }
    }
    good.then_some(on)
}
