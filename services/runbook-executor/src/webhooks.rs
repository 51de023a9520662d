//! Calls to systems outside the installation: a deployment system, a flag server.
//!
//! A call carries a token and a key of its own, and ends in one of three ways: a complete answer says that it was done, something says that it definitely was not, or
//! nobody knows. What the target's answers mean is decided here and nowhere else.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, StatusCode};
use sealwarden_anchors::outside::{
    http_client, is_callable, is_local, plain_client, read_answer, reasons,
};
use sealwarden_domain::approval::is_line_breaking;
use sealwarden_domain::run::Failure;
use sealwarden_keys::private_files::{read_private, read_public};
use sealwarden_runbook::ErrorKind;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::config::ConfigError;

/// Targets that the settings may name.
pub(crate) const MAX_WEBHOOKS: usize = 100;
/// Largest token file, bytes.
const MAX_TOKEN_BYTES: u64 = 4 * 1024;
/// Largest file of authorities, bytes.
const MAX_ROOTS_BYTES: u64 = 1024 * 1024;
/// How much of an answer is kept, bytes.
const KEPT_BYTES: usize = 1024;
/// The header that names the call. Targets that know it do a call with the same value once (draft-ietf-httpapi-idempotency-key-header).
const KEY_HEADER: &str = "idempotency-key";

/// A system that steps may call. Unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where calls are posted: `https`, or `http` on this machine.
    pub url: String,
    /// File with the token that is sent as `Authorization: Bearer …`; only its owner may read it. It is read for each call.
    pub token_file: PathBuf,
    /// Where the same key, asked for with GET, is answered by 200 if its call was done and by 404 if it was not.
    pub observe_url: Option<String>,
    /// How long a call may take, milliseconds. Without `idempotent` a 404 of `observe_url` counts only if it still stands this long after it was first seen: a call of a
    /// process that died may still be on its way.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// The longest answer, bytes. A longer one proves nothing.
    #[serde(default = "default_max_answer_bytes")]
    pub max_answer_bytes: u64,
    /// Whether the target takes a repeated call with the same key for the same call.
    #[serde(default)]
    pub idempotent: bool,
    /// Whether what it does cannot be taken back: only `call-webhook-destructive` calls it then.
    #[serde(default)]
    pub destructive: bool,
    /// PEM file with the authorities above the server's certificate; the system's if absent.
    pub tls_roots: Option<PathBuf>,
}

fn default_timeout_ms() -> u64 {
    10_000
}

fn default_max_answer_bytes() -> u64 {
    64 * 1024
}

impl Webhook {
    /// Checks every limit.
    pub(crate) fn validate(&self, name: &str) -> Result<(), ConfigError> {
        let wrong = |field: &str, value: String, remedy: &'static str| {
            Err(ConfigError {
                name: format!("webhooks.{name}{field}"),
                value,
                remedy,
            })
        };
        if !sealwarden_runbook::is_name(name) {
            return wrong(
                "",
                format!("a target named {name:?}"),
                "use lower-case letters, digits and '-'",
            );
        }
        for (field, url) in [
            (".url", Some(&self.url)),
            (".observe_url", self.observe_url.as_ref()),
        ] {
            if let Some(url) = url
                && !is_callable(url)
            {
                return wrong(
                    field,
                    format!("{url:?}"),
                    "write https://host/path, or http:// for this machine only; no user, password or fragment",
                );
            }
        }
        if !(100..=300_000).contains(&self.timeout_ms) {
            return wrong(
                ".timeout_ms",
                self.timeout_ms.to_string(),
                "use 100 to 300000",
            );
        }
        if !(1..=1_048_576).contains(&self.max_answer_bytes) {
            let value = self.max_answer_bytes.to_string();
            return wrong(".max_answer_bytes", value, "use 1 to 1048576");
        }
        Ok(())
    }

    /// Whether every address of it is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let mut urls = std::iter::once(&self.url).chain(&self.observe_url);
        urls.all(|url| is_local(url))
    }
}

/// One call, which may be made more than once under its key.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The target's name.
    pub(crate) target: &'a str,
    /// Its settings.
    pub(crate) webhook: &'a Webhook,
    /// What names the call: `<installation>/<run>/<step>/<iteration>`.
    pub(crate) key: String,
    /// What is posted.
    pub(crate) body: &'a str,
}

/// What a call, or a look for it, came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done.
    Done(Said),
    /// It definitely was not.
    NotDone(Failure),
    /// Nobody knows.
    Unclear(String),
}

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// HTTP status.
    pub(crate) status: u16,
    /// The beginning of the answer, on one line.
    pub(crate) text: String,
}

/// What came back.
struct Received {
    status: StatusCode,
    /// The whole answer's beginning, or why there is no whole answer.
    text: Result<String, String>,
}

/// Why nothing came back.
enum Silence {
    /// Nothing was sent.
    NotSent(String),
    /// Something may have been.
    Lost(String),
}

impl Call<'_> {
    /// Posts it.
    pub(crate) async fn post(&self) -> Outcome {
        let json = serde_json::from_str::<serde::de::IgnoredAny>(self.body).is_ok();
        let kind = if json {
            "application/json"
        } else {
            "text/plain; charset=utf-8"
        };
        let body = self.body.to_owned();
        let received = self
            .send(&self.webhook.url, |client, url| {
                client.post(url).header(CONTENT_TYPE, kind).body(body)
            })
            .await;
        match received {
            Err(Silence::NotSent(reason)) => {
                Outcome::NotDone(Failure::new(ErrorKind::Unavailable, self.words(&reason)))
            }
            Err(Silence::Lost(reason)) => Outcome::Unclear(self.words(&reason)),
            Ok(received) => self.meaning_of_post(received),
        }
    }

    fn meaning_of_post(&self, received: Received) -> Outcome {
        let status = received.status;
        if status.is_success() {
            return self.done(status, received.text);
        }
        let text = received.text.unwrap_or_else(|reason| format!("({reason})"));
        let words = self.words(&format!("answered {status}: {text}"));
        // These four say "not now": of a call that came before as well as of this one.
        let later = matches!(
            status,
            StatusCode::REQUEST_TIMEOUT
                | StatusCode::CONFLICT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        );
        if status.is_client_error() && !later {
            Outcome::NotDone(Failure::new(ErrorKind::Refused, words))
        } else {
            Outcome::Unclear(words)
        }
    }

    /// Asks `url` whether it was done.
    pub(crate) async fn look(&self, url: &str) -> Outcome {
        let received = match self.send(url, |client, url| client.get(url)).await {
            Err(Silence::NotSent(reason) | Silence::Lost(reason)) => {
                return Outcome::Unclear(self.words(&reason));
            }
            Ok(received) => received,
        };
        match received.status {
            StatusCode::OK => self.done(received.status, received.text),
            StatusCode::NOT_FOUND => {
                let words = self.words("answers that it knows no call with this key");
                Outcome::NotDone(Failure::new(ErrorKind::Interrupted, words))
            }
            status => {
                let text = received.text.unwrap_or_else(|reason| format!("({reason})"));
                Outcome::Unclear(self.words(&format!(
                    "answered {status} when asked for this key: {text}"
                )))
            }
        }
    }

    fn done(&self, status: StatusCode, text: Result<String, String>) -> Outcome {
        match text {
            Ok(text) => Outcome::Done(Said {
                status: status.as_u16(),
                text,
            }),
            // Gateways answer 200 before the system behind them has answered, and cut the connection when that fails.
            Err(reason) => {
                Outcome::Unclear(self.words(&format!("answered {status}, but {reason}")))
            }
        }
    }

    fn words(&self, what: &str) -> String {
        format!("webhook {} (key {}): {what}", self.target, self.key)
    }

    async fn send(
        &self,
        url: &str,
        request: impl FnOnce(&Client, &str) -> RequestBuilder,
    ) -> Result<Received, Silence> {
        let authorization = self.authorization().await.map_err(Silence::NotSent)?;
        let key = HeaderValue::from_str(&self.key)
            .map_err(|error| Silence::NotSent(format!("the key cannot be sent: {error}")))?;
        let client = self.client(url).await.map_err(Silence::NotSent)?;
        let answer = request(&client, url)
            .timeout(Duration::from_millis(self.webhook.timeout_ms))
            .header(AUTHORIZATION, authorization)
            .header(KEY_HEADER, key)
            .send()
            .await
            .map_err(|error| {
                // The client is new: it has no older connection on which something could have been sent.
                let unconnected = error.is_connect();
                let reason = reasons(&error.without_url());
                if unconnected {
                    Silence::NotSent(reason)
                } else {
                    Silence::Lost(reason)
                }
            })?;
        let status = answer.status();
        let text = read_answer(answer, self.webhook.max_answer_bytes, KEPT_BYTES)
            .await
            .map(|kept| one_line(&kept));
        Ok(Received { status, text })
    }

    async fn authorization(&self) -> Result<HeaderValue, String> {
        let path = self.webhook.token_file.clone();
        let token = tokio::task::spawn_blocking(move || read_private(&path, MAX_TOKEN_BYTES))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| format!("its token cannot be read: {error}"))?;
        let token = Zeroizing::new(token);
        let bad = || {
            let path = self.webhook.token_file.display();
            format!("{path} holds no token: write it on one line, in visible ASCII characters")
        };
        let token = token.trim_ascii();
        if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
            return Err(bad());
        }
        let mut line = Zeroizing::new(b"Bearer ".to_vec());
        line.extend_from_slice(token);
        let mut value = HeaderValue::from_bytes(&line).map_err(|_| bad())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// A client for one request: what is true of its connection is true of the request.
    async fn client(&self, url: &str) -> Result<Client, String> {
        if url.starts_with("http:") {
            return plain_client().map_err(|error| error.to_string());
        }
        let (url, roots) = (url.to_owned(), self.webhook.tls_roots.clone());
        let deadline = Duration::from_millis(self.webhook.timeout_ms);
        tokio::task::spawn_blocking(move || {
            let roots = roots
                .map(|path| read_public(&path, MAX_ROOTS_BYTES))
                .transpose()
                .map_err(|error| format!("its authorities cannot be read: {error}"))?;
            http_client(&url, deadline, roots.as_deref()).map_err(|error| error.to_string())
        })
        .await
        .map_err(|error| error.to_string())?
    }
}

/// A foreign text for an output or a message: one line, nothing that moves a cursor.
fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| is_line_breaking(c) || c == ' ');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(url: &str) -> Webhook {
        serde_json::from_value(serde_json::json!({"url": url, "token_file": "token"})).unwrap()
    }

    #[test]
    fn only_https_and_this_machine_are_called() {
        for good in [
            "https://deploy.example.com/hooks?x=1",
            "http://127.0.0.1:80/",
            "http://[::1]:8/x",
            "http://localhost/x",
        ] {
            assert_eq!(webhook(good).validate("flags"), Ok(()), "{good}");
        }
        for bad in [
            "http://deploy.example.com/",
            "http://127.0.0.1.example.com/",
            "ftp://127.0.0.1/",
            "https://user:word@host/",
            "https://host/#x",
            "deploy",
            "",
        ] {
            let error = webhook(bad).validate("flags").unwrap_err().to_string();
            assert!(
                error.starts_with("the setting webhooks.flags.url is"),
                "{error}"
            );
            let mut other = webhook("https://host/");
            other.observe_url = Some(bad.to_owned());
            let error = other.validate("flags").unwrap_err().to_string();
            assert!(error.contains("flags.observe_url"), "{error}");
        }
        assert!(webhook("http://127.0.0.1/").is_local() && !webhook("https://host/").is_local());
        let mut two = webhook("http://127.0.0.1/");
        two.observe_url = Some("https://host/".to_owned());
        assert!(!two.is_local());
    }

    #[test]
    fn limits_and_names_are_checked() {
        let with = |change: fn(&mut Webhook)| {
            let mut it = webhook("https://host/");
            change(&mut it);
            it.validate("flags").map_err(|error| error.to_string())
        };
        assert!(
            with(|it| it.timeout_ms = 99)
                .unwrap_err()
                .contains("use 100 to 300000")
        );
        assert!(with(|it| it.timeout_ms = 300_001).is_err());
        assert!(
            with(|it| it.max_answer_bytes = 0)
                .unwrap_err()
                .contains("use 1 to 1048576")
        );
        assert!(with(|it| it.max_answer_bytes = 1_048_577).is_err());
        assert!(webhook("https://host/").validate("Flags!").is_err());
        let unknown = serde_json::json!({"url": "https://h/", "token_file": "t", "token": "x"});
        assert!(serde_json::from_value::<Webhook>(unknown).is_err());
        let nothing_secret = serde_json::json!({"url": "https://h/"});
        assert!(serde_json::from_value::<Webhook>(nothing_secret).is_err());
    }

    #[test]
    fn each_status_means_one_thing() {
        let webhook = webhook("http://127.0.0.1/");
        let call = Call {
            target: "flags",
            webhook: &webhook,
            key: "i/r/s/0".to_owned(),
            body: "{}",
        };
        let meaning = |status: u16, text: Result<&str, &str>| {
            call.meaning_of_post(Received {
                status: StatusCode::from_u16(status).unwrap(),
                text: text.map(str::to_owned).map_err(str::to_owned),
            })
        };
        for status in [200, 201, 202, 204, 299] {
            assert!(
                matches!(meaning(status, Ok("")), Outcome::Done(said) if said.status == status)
            );
            assert!(matches!(
                meaning(status, Err("it broke off")),
                Outcome::Unclear(_)
            ));
        }
        for status in [400, 401, 403, 404, 410, 422, 451] {
            assert!(
                matches!(meaning(status, Ok("")), Outcome::NotDone(_)),
                "{status}"
            );
            assert!(
                matches!(meaning(status, Err("cut")), Outcome::NotDone(_)),
                "{status}"
            );
        }
        for status in [
            301, 302, 303, 307, 308, 408, 409, 425, 429, 500, 502, 503, 504, 599,
        ] {
            assert!(
                matches!(meaning(status, Ok("")), Outcome::Unclear(_)),
                "{status}"
            );
        }
    }

    #[test]
    fn foreign_text_becomes_one_line() {
        assert_eq!(
            one_line(b"a\r\n b\x1b[2J\xff\0c\xe2\x80\xa8d "),
            "a b [2J\u{fffd} c d"
        );
        assert_eq!(one_line(b""), "");
    }
}
