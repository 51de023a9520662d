//! How a provider is doing, as those who choose between providers see it.

/// Whether calls go to a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// They do.
    Closed,
    /// They do not: each is refused at once, without the provider being asked.
    Open {
        /// Since when, in Unix milliseconds.
        since_ms: i64,
        /// Why, for a person.
        reason: String,
    },
    /// Health probes go to it, and calls not yet.
    HalfOpen {
        /// Since when it has been out altogether, in Unix milliseconds.
        since_ms: i64,
        /// Why it went out, for a person.
        reason: String,
    },
}

impl HealthState {
    /// Whether calls go to the provider.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// The word used in reports.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half-open",
        }
    }
}

/// The health of one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether calls go to it.
    pub state: HealthState,
    /// How long the last calls took that it answered, in milliseconds, the newest last; few.
    pub latencies_ms: Vec<u64>,
    /// Calls under way.
    pub in_flight: usize,
    /// What calls came to since the process started.
    pub counts: HealthCounts,
    /// When it last answered, in Unix milliseconds.
    pub last_good_at_ms: Option<i64>,
    /// The last failure, for a person.
    pub last_failure: Option<String>,
}

/// What calls of a provider came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthCounts {
    /// Answered in good time, also with a refusal that is the caller's fault.
    pub good: u64,
    /// Answered, but later than a healthy provider does.
    pub slow: u64,
    /// Failed.
    pub failed: u64,
    /// Not answered by their deadline.
    pub timed_out: u64,
    /// Refused without asking the provider, because too many were under way.
    pub busy: u64,
    /// Refused without asking the provider, because it was out.
    pub refused: u64,
    /// How often it went out.
    pub opened: u64,
}

impl Health {
    /// The health of a provider that nobody watches.
    pub fn unwatched() -> Self {
        Self {
            state: HealthState::Closed,
            latencies_ms: Vec::new(),
            in_flight: 0,
            counts: HealthCounts::default(),
            last_good_at_ms: None,
            last_failure: None,
        }
    }
}
