//! Addresses and secrets of channels, as an operator sets them.

use std::path::{Path, PathBuf};

use sealwarden_anchors::outside::{is_callable, is_local, is_loopback_host};
use serde::{Deserialize, Serialize};

/// A channel's address. `kind` must be the one that the plan says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ChannelSettings {
    /// A webhook that takes `{"text": …}`.
    Slack(Slack),
    /// `PagerDuty` Events v2.
    Pagerduty(PagerDuty),
    /// Mail.
    Mail(Mail),
    /// Static pages.
    StatusPage(StatusPage),
}

/// A Slack-compatible webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// File with the address, which is the secret; only its owner may read it. Read for each message.
    pub url_file: PathBuf,
    /// How long a message may take, milliseconds, 100 to 60000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// PEM file with the authorities above the server's certificate; the system's if absent.
    pub tls_roots: Option<PathBuf>,
}

/// `PagerDuty`, or what speaks its Events API v2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagerDuty {
    /// Where events are posted.
    #[serde(default = "default_pagerduty_url")]
    pub url: String,
    /// File with the integration's routing key; only its owner may read it. Read for each message.
    pub routing_key_file: PathBuf,
    /// How long a message may take, milliseconds, 100 to 60000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// PEM file with the authorities above the server's certificate; the system's if absent.
    pub tls_roots: Option<PathBuf>,
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// TLS from the first byte, as on port 465.
    #[default]
    Implicit,
    /// STARTTLS, refused if the server does not offer it.
    Starttls,
    /// None: for a server on this machine only.
    None,
}

/// A mail server and who writes to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// Host name of the server.
    pub host: String,
    /// Its port.
    #[serde(default = "default_mail_port")]
    pub port: u16,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: MailTls,
    /// Who writes, such as `Sealwarden <incidents@example.com>`.
    pub from: String,
    /// Who reads. Notices to single persons and tenants go to their own addresses instead.
    #[serde(default)]
    pub to: Vec<String>,
    /// Who logs in; nobody if absent.
    pub user: Option<String>,
    /// File with the password; only its owner may read it. Read for each message.
    pub password_file: Option<PathBuf>,
    /// How long a message may take, milliseconds, 100 to 60000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// PEM file with the authorities above the server's certificate; the system's if absent.
    pub tls_roots: Option<PathBuf>,
}

/// A folder of static pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusPage {
    /// The folder that a web server serves. It is made if it is not there; files of other names in it stay.
    pub folder: PathBuf,
    /// What stands above the pages.
    #[serde(default = "default_page_title")]
    pub title: String,
    /// Where the folder is served, `https://status.example.com/`: the feed names it.
    pub url: String,
}

fn default_timeout_ms() -> u64 {
    10_000
}

fn default_pagerduty_url() -> String {
    "https://events.pagerduty.com/v2/enqueue".to_owned()
}

fn default_mail_port() -> u16 {
    465
}

fn default_page_title() -> String {
    "Sealing service status".to_owned()
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}; {remedy}")]
pub struct WrongSetting {
    /// The field, below the channel.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What to write.
    pub remedy: &'static str,
}

impl ChannelSettings {
    /// The word for what it is, as in the plan.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Slack(_) => "slack",
            Self::Pagerduty(_) => "pagerduty",
            Self::Mail(_) => "mail",
            Self::StatusPage(_) => "status-page",
        }
    }

    /// Checks every limit.
    pub fn validate(&self) -> Result<(), WrongSetting> {
        match self {
            Self::Slack(it) => time(it.timeout_ms),
            Self::Pagerduty(it) => {
                time(it.timeout_ms)?;
                if is_callable(&it.url) {
                    return Ok(());
                }
                let remedy = "write https://host/path, or http:// for this machine only; no user, password or fragment";
                wrong("url", format!("{:?}", it.url), remedy)
            }
            Self::Mail(it) => it.validate(),
            Self::StatusPage(it) => {
                let plain = is_callable(&it.url) || it.url.starts_with("http://");
                if plain && !it.url.contains(['<', '>', '"', '&', ' ']) {
                    return Ok(());
                }
                let remedy =
                    "write where the folder is served, such as https://status.example.com/";
                wrong("url", format!("{:?}", it.url), remedy)
            }
        }
    }

    /// Makes the paths in it absolute.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let (secret, roots) = match self {
            Self::Slack(it) => (Some(&mut it.url_file), &mut it.tls_roots),
            Self::Pagerduty(it) => (Some(&mut it.routing_key_file), &mut it.tls_roots),
            Self::Mail(it) => (it.password_file.as_mut(), &mut it.tls_roots),
            Self::StatusPage(it) => {
                it.folder = folder.join(&it.folder);
                return;
            }
        };
        for path in secret.into_iter().chain(roots) {
            *path = folder.join(&*path);
        }
    }

    /// Whether all that is sent on it stays on this machine. The error says why that cannot be told.
    pub async fn is_local(&self) -> Result<bool, String> {
        match self {
            Self::Slack(it) => crate::slack::is_local(it).await,
            Self::Pagerduty(it) => Ok(is_local(&it.url)),
            Self::Mail(it) => Ok(is_loopback_host(&it.host)),
            Self::StatusPage(_) => Ok(true),
        }
    }
}

impl Mail {
    fn validate(&self) -> Result<(), WrongSetting> {
        time(self.timeout_ms)?;
        if self.host.is_empty() || self.host.contains(['/', ' ', '@']) {
            let remedy = "write a host name such as smtp.example.com";
            return wrong("host", format!("{:?}", self.host), remedy);
        }
        if self.tls == MailTls::None && !is_loopback_host(&self.host) {
            let remedy = "without TLS only a server on this machine is used; write tls: implicit or tls: starttls";
            return wrong("tls", format!("none for {}", self.host), remedy);
        }
        if self.user.is_some() != self.password_file.is_some() {
            let remedy = "write both, or neither";
            return wrong(
                "user",
                "without password_file, or the other way around".to_owned(),
                remedy,
            );
        }
        for (field, text) in [("from", &self.from)]
            .into_iter()
            .chain(self.to.iter().map(|to| ("to", to)))
        {
            if crate::mail::mailbox(text).is_err() {
                let remedy =
                    "write an address such as security@example.com or Name <security@example.com>";
                return wrong(field, format!("{text:?}"), remedy);
            }
        }
        Ok(())
    }
}

fn time(timeout_ms: u64) -> Result<(), WrongSetting> {
    if (100..=60_000).contains(&timeout_ms) {
        return Ok(());
    }
    wrong("timeout_ms", timeout_ms.to_string(), "use 100 to 60000")
}

fn wrong(field: &'static str, value: String, remedy: &'static str) -> Result<(), WrongSetting> {
    Err(WrongSetting {
        field,
        value,
        remedy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &serde_json::Value) -> Result<(), String> {
        let settings: ChannelSettings =
            serde_json::from_value(json.clone()).map_err(|e| e.to_string())?;
        settings.validate().map_err(|e| e.to_string())
    }

    #[test]
    fn good_settings_are_taken_and_bad_ones_named() {
        let mail = serde_json::json!({"kind": "mail", "host": "smtp.example.com", "from": "Sealwarden <s@example.com>", "to": ["a@example.com"]});
        for good in [
            serde_json::json!({"kind": "slack", "url_file": "f"}),
            serde_json::json!({"kind": "pagerduty", "routing_key_file": "f"}),
            mail.clone(),
            serde_json::json!({"kind": "mail", "host": "127.0.0.1", "port": 25, "tls": "none", "from": "s@example.com"}),
            serde_json::json!({"kind": "status-page", "folder": "f", "url": "https://status.example.com/"}),
        ] {
            assert_eq!(read(&good), Ok(()), "{good}");
        }
        let with = |field: &str, value: serde_json::Value| {
            let mut mail = mail.clone();
            mail[field] = value;
            read(&mail).unwrap_err()
        };
        assert!(with("tls", "none".into()).contains("tls is none for smtp.example.com"));
        assert!(with("from", "not an address".into()).contains("from is"));
        assert!(
            with(
                "to",
                serde_json::json!(["a@example.com\r\nBcc: b@example.com"])
            )
            .contains("to is")
        );
        assert!(with("user", "u".into()).contains("user is"));
        assert!(with("timeout_ms", 1.into()).contains("timeout_ms is 1"));
        assert!(with("pasword", 1.into()).contains("pasword"));
        let plain = serde_json::json!({"kind": "pagerduty", "routing_key_file": "f", "url": "http://events.example.com/"});
        assert!(read(&plain).unwrap_err().contains("url is"));
        let slack = serde_json::json!({"kind": "slack", "url": "https://hooks.example.com/secret"});
        assert!(read(&slack).is_err(), "the secret has a file of its own");
    }
}
