//! What seal certificates say of the logs' keys, for `keys list` and `status`.

use std::time::Duration;

use sealwarden_anchors::chain::Chain;
use sealwarden_wire::control::v1::{
    CertifiedOrigin, ListSealCertificatesRequest, ListSealCertificatesResponse, SealCertificate,
};
use sealwarden_wire::seal::v1::KeyStatus;
use serde_json::{Value, json};

use super::certificate::short;
use crate::client::Client;
use crate::output::time;

/// How long the control authority may take to answer: it only adds to what the callers tell.
const PATIENCE: Duration = Duration::from_secs(3);
/// From so many days before a certificate's end on, its renewal is asked for.
const WARN_DAYS: i64 = 30;

/// The control authority's answer; none if it is away.
pub(in crate::commands) struct Certified(Option<ListSealCertificatesResponse>);

impl Certified {
    /// Asks.
    pub(in crate::commands) async fn ask(client: &Client) -> Self {
        let asking = async {
            let mut control = client.certificates().await.ok()?;
            let answer = control.list(ListSealCertificatesRequest {}).await.ok()?;
            Some(answer.into_inner())
        };
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        Self(answer.ok().flatten())
    }

    fn origin(&self, origin: &str) -> Option<(&CertifiedOrigin, &SealCertificate)> {
        let answer = self.0.as_ref()?;
        let origin = answer.origins.iter().find(|it| it.origin == origin)?;
        let mut all = answer.certificates.iter();
        let certificate = all.find(|it| it.certificate == origin.certificate)?;
        Some((origin, certificate))
    }

    /// The certificate that a key is bound to, and whether its binding names the key.
    fn of(&self, key: &KeyStatus) -> Option<(&SealCertificate, bool)> {
        let (_, certificate) = self.origin(&key.origin)?;
        let mut bindings = certificate.bindings.iter();
        let bound = bindings.find(|it| it.origin == key.origin)?;
        Some((certificate, bound.vkeys.contains(&key.vkey)))
    }

    /// For a key's row.
    pub(super) fn words(&self, key: &KeyStatus) -> String {
        if self.0.is_none() && !key.origin.is_empty() {
            return "unknown".to_owned();
        }
        match self.of(key) {
            None => "-".to_owned(),
            Some((_, false)) => "not bound".to_owned(),
            Some((it, true)) => {
                let left =
                    Chain::days_left(it.not_after_ms, jiff::Timestamp::now().as_millisecond());
                let soon = if left < WARN_DAYS {
                    format!(" ({left} days left)")
                } else {
                    String::new()
                };
                format!("until {}{soon}", time(it.not_after_ms))
            }
        }
    }

    /// For a key's object: null without a certificate.
    pub(super) fn of_key(&self, key: &KeyStatus) -> Value {
        self.of(key).map_or(Value::Null, |(it, names)| {
            json!({
                "certificate": it.certificate, "subject": it.subject, "not_after_ms": it.not_after_ms, "trial": it.trial, "names_this_key": names,
            })
        })
    }

    /// For `status`: one line for each log that is sealed into and has, or had, a certificate.
    pub(in crate::commands) fn lines(&self) -> Vec<String> {
        let Some(answer) = &self.0 else {
            return Vec::new();
        };
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let active = answer.origins.iter().filter(|it| it.state == "active");
        active
            .filter_map(|origin| {
                let problem = if origin.problem.is_empty() {
                    String::new()
                } else {
                    format!("; STALE: {}", origin.problem)
                };
                let Some((_, it)) = self.origin(&origin.origin) else {
                    let words = format!("seal certificate: {}", origin.problem);
                    return (!origin.problem.is_empty()).then_some(words);
                };
                let left = Chain::days_left(it.not_after_ms, now_ms);
                let soon = if left < WARN_DAYS {
                    format!("; {left} days are left: have a new one certified")
                } else {
                    String::new()
                };
                let trial = if it.trial {
                    " (for trying out only)"
                } else {
                    ""
                };
                Some(format!(
                    "seal certificate {} of {}{trial} until {}{soon}{problem}",
                    short(&it.certificate),
                    it.subject,
                    time(it.not_after_ms)
                ))
            })
            .collect()
    }

    /// For `status --json`: null while the control authority does not answer.
    pub(in crate::commands) fn as_json(&self) -> Value {
        let Some(answer) = &self.0 else {
            return Value::Null;
        };
        let origins = answer.origins.iter().map(|origin| {
            let certificate = self.origin(&origin.origin).map(|(_, it)| it);
            json!({
                "origin": origin.origin, "problem": Some(&origin.problem).filter(|it| !it.is_empty()),
                "certificate": certificate.map(|it| &it.certificate), "subject": certificate.map(|it| &it.subject),
                "not_after_ms": certificate.map(|it| it.not_after_ms), "trial": certificate.map(|it| it.trial),
            })
        });
        Value::Array(origins.collect())
    }
}
