//! What outside sources send: Alertmanager's webhook (version 4) and CloudEvents 1.0, read strictly where it matters and bounded everywhere.
//!
//! Sources: <https://prometheus.io/docs/alerting/latest/configuration/#webhook_config>, <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md>.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How many alerts one payload may hold, and labels one alert.
const MAX_ALERTS: usize = 10_000;
const MAX_LABELS: usize = 64;
/// The longest text that is kept, in characters, and the longest label.
const MAX_TEXT: usize = 1_000;
const MAX_LABEL: usize = 200;

/// The types of CloudEvents that are more than a report.
const RELEASE: &str = "dev.sealwarden.release.v1";
const MEASURE: &str = "dev.sealwarden.measure.v1";
const CANARY: &str = "dev.sealwarden.canary.v1";

/// What is wrong with a payload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPayload {
    /// No JSON, or not of this form.
    #[error("the body is not a {what}: {reason}")]
    Form { what: &'static str, reason: String },
    /// Another version.
    #[error("{what} is {found:?}; {expected:?} is understood")]
    Version {
        what: &'static str,
        found: String,
        expected: &'static str,
    },
    /// Too much.
    #[error("there are {found} {what}; at most {limit} are read")]
    TooMany {
        what: &'static str,
        found: usize,
        limit: usize,
    },
    /// A field is missing or empty.
    #[error("{0} is missing or empty")]
    Missing(&'static str),
}

/// An alert that fires or is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    /// What the source knows it by: the same twice is one.
    pub(crate) key: String,
    pub(crate) resolved: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) seen: String,
    /// When it began, Unix milliseconds; 0: not known.
    pub(crate) started_ms: i64,
}

/// What a payload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Alerts(Vec<Alert>),
    Release {
        id: String,
        component: String,
        version: String,
        note: String,
    },
    Measure {
        id: String,
        name: String,
        value: i64,
    },
    Canary {
        id: String,
        log: String,
        good: bool,
        took_ms: u64,
        reason: String,
    },
}

#[derive(Deserialize)]
struct Webhook {
    version: String,
    alerts: Vec<WebhookAlert>,
}

#[derive(Deserialize)]
struct WebhookAlert {
    status: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(rename = "startsAt", default)]
    starts_at: String,
    fingerprint: String,
}

/// Text without control characters, and not too long.
fn plain(text: &str, limit: usize) -> String {
    let spaced = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let kept: String = spaced.take(limit).collect();
    kept.trim().to_owned()
}

fn labels(given: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let given = given.into_iter().take(MAX_LABELS);
    given
        .map(|(name, value)| (plain(&name, MAX_LABEL), plain(&value, MAX_LABEL)))
        .collect()
}

fn time_ms(text: &str) -> i64 {
    let parsed = text.parse::<jiff::Timestamp>();
    parsed.map_or(0, |at| at.as_millisecond().max(0))
}

/// Reads a payload of Alertmanager's webhook.
pub(crate) fn alertmanager(body: &[u8]) -> Result<Told, BadPayload> {
    let read: Result<Webhook, _> = serde_json::from_slice(body);
    let webhook = read.map_err(|e| BadPayload::Form {
        what: "webhook of Alertmanager",
        reason: e.to_string(),
    })?;
    if webhook.version != "4" {
        return Err(BadPayload::Version {
            what: "version",
            found: plain(&webhook.version, MAX_LABEL),
            expected: "4",
        });
    }
    if webhook.alerts.len() > MAX_ALERTS {
        return Err(BadPayload::TooMany {
            what: "alerts",
            found: webhook.alerts.len(),
            limit: MAX_ALERTS,
        });
    }
    webhook
        .alerts
        .into_iter()
        .map(alert)
        .collect::<Result<_, _>>()
        .map(Told::Alerts)
}

fn alert(it: WebhookAlert) -> Result<Alert, BadPayload> {
    let resolved = match it.status.as_str() {
        "firing" => false,
        "resolved" => true,
        other => {
            return Err(BadPayload::Version {
                what: "status of an alert",
                found: plain(other, MAX_LABEL),
                expected: "firing or resolved",
            });
        }
    };
    let fingerprint = plain(&it.fingerprint, MAX_LABEL);
    if fingerprint.is_empty() {
        return Err(BadPayload::Missing("fingerprint of an alert"));
    }
    let name = it.labels.get("alertname").cloned().unwrap_or_default();
    let said = ["summary", "description", "message"];
    let said = said.iter().find_map(|key| it.annotations.get(*key));
    let seen = match said {
        Some(said) if !said.trim().is_empty() => format!("{name}: {said}"),
        Some(_) | None => name,
    };
    Ok(Alert {
        // An alert that is resolved and fires again is another one.
        key: format!("{fingerprint} {}", plain(&it.starts_at, MAX_LABEL)),
        resolved,
        seen: plain(&seen, MAX_TEXT),
        started_ms: time_ms(&it.starts_at),
        labels: labels(it.labels),
    })
}

/// Reads a CloudEvent: structured, where the media type says so, else binary, with its attributes in `ce-` headers.
pub(crate) fn cloud_event(headers: &HeaderMap, body: &[u8]) -> Result<Told, BadPayload> {
    let form = |reason: String| BadPayload::Form {
        what: "CloudEvent",
        reason,
    };
    let kind = header(headers, "content-type").to_ascii_lowercase();
    if kind.starts_with("application/cloudevents-batch") {
        return Err(form(
            "batches are not read; send one event a request".to_owned(),
        ));
    }
    let json =
        |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).map_err(|e| form(e.to_string()));
    let (attributes, data) = if kind.starts_with("application/cloudevents") {
        let Value::Object(mut event) = json(body)? else {
            return Err(form("it is no JSON object".to_owned()));
        };
        let data = event.remove("data").unwrap_or(Value::Null);
        (event, data)
    } else {
        let names = ["specversion", "id", "source", "type", "subject", "time"];
        let given = names
            .into_iter()
            .map(|name| (name, header(headers, &format!("ce-{name}"))));
        let given = given.filter(|(_, value)| !value.is_empty());
        let attributes: Map<String, Value> = given
            .map(|(name, value)| (name.to_owned(), Value::String(value.to_owned())))
            .collect();
        let data = if body.is_empty() {
            Value::Null
        } else {
            json(body)?
        };
        (attributes, data)
    };
    told(&attributes, &data)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

fn text_of(map: &Map<String, Value>, name: &str, limit: usize) -> String {
    let value = map.get(name).and_then(Value::as_str);
    plain(value.unwrap_or_default(), limit)
}

fn told(attributes: &Map<String, Value>, data: &Value) -> Result<Told, BadPayload> {
    let attribute = |name: &'static str| {
        let value = text_of(attributes, name, MAX_LABEL);
        if value.is_empty() {
            Err(BadPayload::Missing(name))
        } else {
            Ok(value)
        }
    };
    let version = attribute("specversion")?;
    if version != "1.0" {
        return Err(BadPayload::Version {
            what: "specversion",
            found: version,
            expected: "1.0",
        });
    }
    let (id, source, kind) = (attribute("id")?, attribute("source")?, attribute("type")?);
    // An event is known by its source and id together.
    let id = format!("{source} {id}");
    let none = Map::new();
    let data = data.as_object().unwrap_or(&none);
    let needed = |name: &'static str| {
        let value = text_of(data, name, MAX_LABEL);
        if value.is_empty() {
            Err(BadPayload::Missing(name))
        } else {
            Ok(value)
        }
    };
    if kind == RELEASE {
        return Ok(Told::Release {
            id,
            component: needed("component")?,
            version: needed("version")?,
            note: text_of(data, "note", MAX_TEXT),
        });
    }
    if kind == MEASURE {
        let value = data.get("value").and_then(Value::as_i64);
        return Ok(Told::Measure {
            id,
            name: needed("name")?,
            value: value.ok_or(BadPayload::Missing("value (a whole number)"))?,
        });
    }
    if kind == CANARY {
        let good = data.get("good").and_then(Value::as_bool);
        let took_ms = data.get("took_ms").and_then(Value::as_u64);
        return Ok(Told::Canary {
            id,
            log: needed("log")?,
            good: good.ok_or(BadPayload::Missing("good (true or false)"))?,
            took_ms: took_ms.ok_or(BadPayload::Missing("took_ms (a whole number)"))?,
            reason: text_of(data, "reason", MAX_TEXT),
        });
    }
    let subject = text_of(attributes, "subject", MAX_LABEL);
    let said = ["summary", "seen", "message", "description"];
    let said = said.iter().map(|name| text_of(data, name, MAX_TEXT));
    let said = said.into_iter().find(|text| !text.is_empty());
    let seen = said.unwrap_or_else(|| format!("{kind} {subject}"));
    let mut given: Vec<(String, String)> = vec![
        ("type".to_owned(), kind),
        ("source".to_owned(), source),
        ("subject".to_owned(), subject),
    ];
    let texts = data.iter().filter_map(|(name, value)| {
        let value = value.as_str()?;
        (!matches!(name.as_str(), "type" | "source" | "subject"))
            .then(|| (name.clone(), value.to_owned()))
    });
    given.extend(texts);
    Ok(Told::Alerts(vec![Alert {
        key: id,
        resolved: text_of(data, "status", MAX_LABEL) == "resolved",
        labels: labels(given),
        seen: plain(&seen, MAX_TEXT),
        started_ms: time_ms(&text_of(attributes, "time", MAX_LABEL)),
    }]))
}
