//! Slack's incoming webhooks, and whatever takes the same: `{"text": …}`.
//!
//! Slack knows no key: what was sent and not answered is sent again, and may stand there twice. Each message ends with its key, so that people see that it is the same.
//!
//! Format: docs.slack.dev, "Sending messages using incoming webhooks" and "Formatting message text" (escaping `&`, `<`, `>`; 40,000 characters at most).

use serde_json::json;

use crate::http;
use crate::message::{Message, Outcome};
use crate::settings::Slack;

/// The longest text, characters. Longer ones are cut by Slack itself at 40,000.
const MAX_TEXT: usize = 30_000;

/// Sends it.
pub(crate) async fn send(slack: &Slack, message: &Message) -> Outcome {
    let url = match http::secret(&slack.url_file).await {
        Ok(url) => url,
        Err(reason) => return Outcome::NotSent(reason),
    };
    if !sealwarden_anchors::outside::is_callable(&url) {
        let file = slack.url_file.display();
        return Outcome::NotSent(format!(
            "{file} holds no address: write https://host/path, or http:// for this machine only"
        ));
    }
    let body = body(message);
    http::post(
        &url,
        &message.key,
        body,
        slack.timeout_ms,
        slack.tls_roots.as_ref(),
    )
    .await
}

/// Whether the address in the file is on this machine.
pub(crate) async fn is_local(slack: &Slack) -> Result<bool, String> {
    let url = http::secret(&slack.url_file).await?;
    Ok(sealwarden_anchors::outside::is_local(&url))
}

fn body(message: &Message) -> String {
    let text: String = format!(
        "{}\n{}\n({})",
        message.title,
        message.text.trim_end(),
        message.key
    )
    .chars()
    .take(MAX_TEXT)
    .collect();
    json!({"text": escaped(&text), "mrkdwn": false}).to_string()
}

/// The three characters that Slack gives a meaning: links, mentions and channels all begin with `<`.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Page;

    #[test]
    fn nobody_is_mentioned_by_what_strangers_wrote() {
        let message = Message {
            key: "k/1".to_owned(),
            matter: "I-1".to_owned(),
            title: "<!channel> & *bold*".to_owned(),
            text: "<https://evil.example|harmless>\n".to_owned(),
            severity: "high".to_owned(),
            source: "acme".to_owned(),
            page: Page::None,
            to: None,
        };
        let body: serde_json::Value = serde_json::from_str(&body(&message)).unwrap();
        let text = "&lt;!channel&gt; &amp; *bold*\n&lt;https://evil.example|harmless&gt;\n(k/1)";
        assert_eq!(body["text"], text);
        assert_eq!(body["mrkdwn"], false);
    }
}
