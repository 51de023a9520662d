//! The section as values.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::finding::Place;
use crate::names::Role;
use crate::plan::IncidentSeverity;

/// Who reads what a channel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// People who work on the incident.
    Engineers,
    /// People who answer for it: plain words, deadlines, no commands.
    Executives,
    /// Everybody. Only notices that people approved, or whose template they signed beforehand.
    Public,
}

impl Audience {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Engineers, Self::Executives, Self::Public];

    /// The word in plans and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engineers => "engineers",
            Self::Executives => "executives",
            Self::Public => "public",
        }
    }

    /// Reads the word; `None` for any other.
    pub fn from_name(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

/// What a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChannelKind {
    /// A webhook that takes `{"text": …}`, as Slack's incoming webhooks and their imitations do.
    Slack,
    /// `PagerDuty` Events API v2, or what speaks it.
    PagerDuty,
    /// Mail over SMTP.
    Mail,
    /// A folder of static pages.
    StatusPage,
}

impl ChannelKind {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Slack, Self::PagerDuty, Self::Mail, Self::StatusPage];

    /// The word in plans and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::PagerDuty => "pagerduty",
            Self::Mail => "mail",
            Self::StatusPage => "status-page",
        }
    }

    /// Whom a channel of this kind can tell.
    pub fn audiences(self) -> &'static [Audience] {
        match self {
            Self::Slack | Self::Mail => &Audience::ALL,
            Self::PagerDuty => &[Audience::Engineers],
            Self::StatusPage => &[Audience::Public],
        }
    }
}

/// A channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its name, under which the settings have its address.
    pub name: String,
    /// What it is.
    pub kind: ChannelKind,
    /// Who reads it.
    pub audiences: BTreeSet<Audience>,
    /// Where it stands in `plan.yaml`.
    pub place: Place,
}

/// The section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Communication {
    /// Whose incident it is until somebody else takes it.
    pub owner: Role,
    /// The channels, by name.
    pub channels: BTreeMap<String, Channel>,
    /// How often the owner is reminded to tell the others where things stand, by severity. None for a severity: never.
    pub cadence: BTreeMap<IncidentSeverity, Duration>,
    /// How long an incident may wait until somebody says `incident ack`, by severity; after each further such time the next person is asked.
    pub acknowledge: BTreeMap<IncidentSeverity, Duration>,
    /// Whose turn it is when nobody answers: the people of the first role in the roster's order, then those of the next.
    pub contacts: Vec<Role>,
    /// Where the owner stands in `plan.yaml`.
    pub owner_place: Place,
    /// Where the contacts stand.
    pub contacts_place: Place,
}

impl Communication {
    /// The names of the channels that an audience reads.
    pub fn channels_of(&self, audience: Audience) -> impl Iterator<Item = &Channel> {
        self.channels
            .values()
            .filter(move |channel| channel.audiences.contains(&audience))
    }
}
