//! What inputs and outputs of actions hold.

use super::DIVERT;

/// What an input or output holds. All travel as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// Any text.
    Text,
    /// A point in time, RFC 3339.
    Time,
    /// A whole number from 0.
    Count,
    /// Which seals are diverted: `queue` (all) or `queue-noncritical`. Always written out, so that the plan can be proven.
    Mode,
}

impl ValueType {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Time => "time",
            Self::Count => "count",
            Self::Mode => "mode",
        }
    }

    /// Whether `text` is a value of this type.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::Text => true,
            Self::Time => text.parse::<jiff::Timestamp>().is_ok(),
            Self::Count => text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u64>().is_ok(),
            Self::Mode => DIVERT.directives.iter().any(|kind| kind.as_str() == text),
        }
    }
}
