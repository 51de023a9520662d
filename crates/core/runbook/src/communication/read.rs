//! Reads the section.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::plan::{Audience, Channel, ChannelKind, Communication};
use crate::fields::{Fields, Reader, Shape};
use crate::names::Role;
use crate::plan::IncidentSeverity;
use crate::suggest;
use crate::yaml::{Key, Node};

/// The most channels of a plan.
const MAX_CHANNELS: usize = 32;

pub(crate) const COMMUNICATION: Shape = Shape {
    what: "`communication`",
    known: &["owner", "channels", "cadence", "escalation"],
    unsupported: &[("tenants", "letters to single tenants")],
};
pub(crate) const CHANNEL: Shape = Shape {
    what: "a channel",
    known: &["kind", "for"],
    unsupported: &[
        ("url", "an address, which stands in settings.yaml"),
        ("token", "a secret, which stands in a file of its own"),
    ],
};
pub(crate) const ESCALATION: Shape = Shape {
    what: "`escalation`",
    known: &["acknowledge", "contacts"],
    unsupported: &[],
};
/// Reads the section.
pub(crate) fn read(reader: &mut Reader, node: &Node) -> Option<Communication> {
    let fields = reader.fields(node, &COMMUNICATION)?;
    let owner = reader.required(&fields, "owner").and_then(|node| {
        let text = reader.text(node, "owner")?;
        reader.role(&text, node.place)
    });
    let channels = read_channels(reader, &fields);
    let cadence = fields
        .get("cadence")
        .map(|node| read_times(reader, node, "`cadence`"));
    let escalation = fields
        .get("escalation")
        .map(|node| read_escalation(reader, node));
    let (acknowledge, contacts, contacts_place) = match escalation {
        Some(read) => read?,
        None => (BTreeMap::new(), Vec::new(), fields.place),
    };
    Some(Communication {
        owner: owner?,
        channels,
        cadence: cadence.unwrap_or_default(),
        acknowledge,
        contacts,
        owner_place: fields.place_of("owner"),
        contacts_place,
    })
}

fn read_channels(reader: &mut Reader, fields: &Fields<'_>) -> BTreeMap<String, Channel> {
    let node = reader.required(fields, "channels");
    let entries = node
        .and_then(|node| reader.entries(node, "`channels`"))
        .unwrap_or_default();
    if entries.len() > MAX_CHANNELS {
        let message = format!("the plan has {} channels", entries.len());
        let remedy = format!("at most {MAX_CHANNELS} are read");
        reader.error(fields.place_of("channels"), "too-many", message, remedy);
        return BTreeMap::new();
    }
    let mut channels = BTreeMap::new();
    for (key, node) in entries {
        let named = reader.check_name(&key.text, key.place, "a channel");
        if let Some(channel) = read_channel(reader, key, node).filter(|_| named) {
            channels.insert(channel.name.clone(), channel);
        }
    }
    channels
}

fn read_channel(reader: &mut Reader, key: &Key, node: &Node) -> Option<Channel> {
    let fields = reader.fields(node, &CHANNEL)?;
    let kind = reader.required(&fields, "kind").and_then(|node| {
        let text = reader.text(node, "kind")?;
        let known = ChannelKind::ALL.into_iter().find(|k| k.as_str() == text);
        if known.is_none() {
            let words = ChannelKind::ALL.map(ChannelKind::as_str);
            let message = format!("there is no kind of channel `{}`", text.escape_debug());
            let remedy = suggest::remedy("kinds", &text, words);
            reader.error(node.place, "unknown-channel-kind", message, remedy);
        }
        known
    });
    let audiences = reader
        .required(&fields, "for")
        .map(|node| read_audiences(reader, node, kind));
    Some(Channel {
        name: key.text.clone(),
        kind: kind?,
        audiences: audiences?,
        place: key.place,
    })
}

fn read_audiences(
    reader: &mut Reader,
    node: &Node,
    kind: Option<ChannelKind>,
) -> BTreeSet<Audience> {
    let mut audiences = BTreeSet::new();
    let items = reader.list(node, "`for`").unwrap_or_default();
    if items.is_empty() {
        let message = "nobody reads this channel".to_owned();
        reader.error(node.place, "empty", message, "for example for: [engineers]");
    }
    for item in items {
        let Some(text) = reader.text(item, "for") else {
            continue;
        };
        let Some(audience) = Audience::from_name(&text) else {
            let message = format!("there is no audience `{}`", text.escape_debug());
            let remedy = suggest::remedy("audiences", &text, Audience::ALL.map(Audience::as_str));
            reader.error(item.place, "unknown-audience", message, remedy);
            continue;
        };
        if let Some(kind) = kind.filter(|kind| !kind.audiences().contains(&audience)) {
            let message = format!("a {} is not for {}", kind.as_str(), audience.as_str());
            let words: Vec<_> = kind.audiences().iter().map(|a| a.as_str()).collect();
            let remedy = format!("it can tell {}", words.join(", "));
            reader.error(item.place, "wrong-audience", message, remedy);
            continue;
        }
        audiences.insert(audience);
    }
    audiences
}

/// A mapping from severities to durations.
fn read_times(
    reader: &mut Reader,
    node: &Node,
    what: &str,
) -> BTreeMap<IncidentSeverity, Duration> {
    let mut times = BTreeMap::new();
    for (key, value) in reader.entries(node, what).unwrap_or_default() {
        let severity = IncidentSeverity::ALL
            .into_iter()
            .find(|known| known.as_str() == key.text);
        let Some(severity) = severity else {
            let words = IncidentSeverity::ALL.map(IncidentSeverity::as_str);
            let message = format!("`{}` is no severity", key.text.escape_debug());
            let remedy = suggest::remedy("severities", &key.text, words);
            reader.error(key.place, "bad-severity", message, remedy);
            continue;
        };
        // Somebody who is asked more often than that turns it off.
        if let Some(time) = reader.duration(value, severity.as_str(), Duration::from_secs(1)) {
            times.insert(severity, time);
        }
    }
    times
}

type Escalation = (
    BTreeMap<IncidentSeverity, Duration>,
    Vec<Role>,
    crate::finding::Place,
);

fn read_escalation(reader: &mut Reader, node: &Node) -> Option<Escalation> {
    let fields = reader.fields(node, &ESCALATION)?;
    let times = reader
        .required(&fields, "acknowledge")
        .map(|node| read_times(reader, node, "`acknowledge`"));
    let mut contacts = Vec::new();
    if let Some(node) = reader.required(&fields, "contacts") {
        for item in reader.list(node, "`contacts`").unwrap_or_default() {
            let text = reader.text(item, "contacts");
            let role = text.and_then(|text| reader.role(&text, item.place));
            contacts.extend(role.filter(|role| !contacts.contains(role)));
        }
    }
    Some((times?, contacts, fields.place_of("contacts")))
}

/// Whether a text is a BCP 47 tag of letters, digits and `-`.
pub fn is_language(text: &str) -> bool {
    let subtag = |part: &str| {
        (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    let primary = text.split('-').next().unwrap_or_default();
    (2..=3).contains(&primary.len())
        && primary.bytes().all(|b| b.is_ascii_lowercase())
        && text.split('-').all(subtag)
}

/// The node as a language.
pub(super) fn read_language(reader: &mut Reader, node: &Node) -> Option<String> {
    let text = reader.text(node, "language")?;
    if is_language(&text) {
        return Some(text);
    }
    let message = format!("`{}` is no language", text.escape_debug());
    let remedy = "write a BCP 47 tag such as en, de or pt-BR";
    reader.error(node.place, "bad-language", message, remedy);
    None
}
