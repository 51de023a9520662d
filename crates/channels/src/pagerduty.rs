//! `PagerDuty` Events API v2: trigger, acknowledge, resolve.
//!
//! The incident's id is the `dedup_key`: whatever is sent twice is one alert there.
//!
//! Format: developer.pagerduty.com, "Send an alert event" (`summary` at most 1024 characters, `severity` one of critical, error, warning, info).

use serde_json::json;

use crate::http;
use crate::message::{Message, Outcome, Page};
use crate::settings::PagerDuty;

/// The longest summary, characters, and the longest text beside it.
const MAX_SUMMARY: usize = 1024;
const MAX_DETAILS: usize = 30_000;

/// Sends it; what is no pager's matter is delivered by saying nothing.
pub(crate) async fn send(pager: &PagerDuty, message: &Message) -> Outcome {
    let key = match http::secret(&pager.routing_key_file).await {
        Ok(key) => key,
        Err(reason) => return Outcome::NotSent(reason),
    };
    match body(&key, message) {
        Some(body) => {
            let roots = pager.tls_roots.as_ref();
            http::post(&pager.url, &message.key, body, pager.timeout_ms, roots).await
        }
        None => Outcome::Delivered("it is no pager's matter".to_owned()),
    }
}

fn body(routing_key: &str, message: &Message) -> Option<String> {
    let action = match message.page {
        Page::None => return None,
        Page::Trigger => "trigger",
        Page::Acknowledge => "acknowledge",
        Page::Resolve => "resolve",
    };
    let mut event = json!({
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": message.matter,
        "client": "Sealwarden",
    });
    if message.page == Page::Trigger {
        let cut = |text: &str, most| text.chars().take(most).collect::<String>();
        let severity = match message.severity.as_str() {
            "critical" | "" => "critical",
            "high" => "error",
            "medium" => "warning",
            _ => "info",
        };
        if let Some(event) = event.as_object_mut() {
            event.insert(
                "payload".to_owned(),
                json!({
                    "summary": cut(&message.title, MAX_SUMMARY),
                    "source": message.source,
                    "severity": severity,
                    "custom_details": {"text": cut(&message.text, MAX_DETAILS), "key": message.key},
                }),
            );
        }
    }
    Some(event.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(page: Page, severity: &str) -> Message {
        Message {
            key: "k/1".to_owned(),
            matter: "I-1".to_owned(),
            title: "é".repeat(2000),
            text: "text".to_owned(),
            severity: severity.to_owned(),
            source: "acme".to_owned(),
            page,
            to: None,
        }
    }

    #[test]
    fn the_incident_is_one_alert_from_trigger_to_resolve() {
        assert_eq!(body("r", &message(Page::None, "high")), None);
        for (page, word) in [
            (Page::Trigger, "trigger"),
            (Page::Acknowledge, "acknowledge"),
            (Page::Resolve, "resolve"),
        ] {
            let text = body("r", &message(page, "high")).unwrap();
            let event: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(event["event_action"], word);
            assert_eq!(event["dedup_key"], "I-1");
            assert_eq!(event["routing_key"], "r");
            assert_eq!(event.get("payload").is_some(), page == Page::Trigger);
        }
    }

    #[test]
    fn severities_and_lengths_are_those_of_the_format() {
        for (ours, theirs) in [
            ("critical", "critical"),
            ("", "critical"),
            ("high", "error"),
            ("medium", "warning"),
            ("low", "info"),
        ] {
            let text = body("r", &message(Page::Trigger, ours)).unwrap();
            let event: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(event["payload"]["severity"], theirs);
            let summary = event["payload"]["summary"].as_str().unwrap();
            assert_eq!(summary.chars().count(), 1024);
        }
    }
}
