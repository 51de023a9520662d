//! The life of a key on the server, and its record here.

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    NAME, TransitProvider,
    error::TransitError,
    http::Answer,
    records::{Record, lower},
    shape::{Described, PURPOSES, ours, server_name},
};
use crate::{
    algorithm::Algorithm,
    blocking::blocking,
    error::KeyError,
    id::KeyId,
    provider::{CreateKey, DisableOutcome, KeyInfo, KeyState, Purpose, is_destroyed},
};

/// A key as the server and the record agree on it.
pub(super) struct Found {
    pub(super) info: KeyInfo,
    /// Why a copy may exist outside.
    pub(super) may_be_copied: Option<&'static str>,
}

/// A key on the server, under the purpose in its name.
type OnServer = Option<(Purpose, Described)>;

impl TransitProvider {
    /// See [`crate::KeyProvider::info`].
    pub(super) async fn described(&self, id: &KeyId) -> Result<Found, KeyError> {
        let record = self.recorded(id).await?;
        let described = match &record {
            Some(record) if record.state == KeyState::Destroyed => {
                return Ok(Found {
                    info: record.info(NAME),
                    may_be_copied: None,
                });
            }
            Some(record) => self
                .read(record.purpose, id)
                .await
                .map_err(|error| error.into_key_error(id))?
                .map(|described| (record.purpose, described)),
            None => self.search(id).await?,
        };
        let found = judge(id, record.as_ref(), described.as_ref())?;
        if record.is_none() {
            self.record(Record::of(&found.info)).await?;
        }
        Ok(found)
    }

    /// See [`crate::KeyProvider::create`]. Two machines that create the same key at once both get the one that the server made.
    pub(super) async fn make(&self, key: &CreateKey) -> Result<KeyInfo, KeyError> {
        key.fits(NAME, &[Algorithm::Ed25519])?;
        let (id, purpose) = (&key.id, key.purpose);
        if id.as_str().ends_with(['-', '.']) {
            return Err(KeyError::Refused {
                id: id.clone(),
                reason: "names in the transit engine end with a letter or digit: choose another"
                    .to_owned(),
            });
        }
        if self.recorded(id).await?.is_some() || self.search(id).await?.is_some() {
            return Err(KeyError::AlreadyExists { id: id.clone() });
        }
        let body = json!({"type": "ed25519", "exportable": false, "allow_plaintext_backup": false});
        self.done(Method::POST, self.key_path(purpose, id, ""), Some(&body))
            .await
            .map_err(|error| error.into_key_error(id))?;
        self.described(id).await.map(|found| found.info)
    }

    /// See [`crate::KeyProvider::list`].
    pub(super) async fn all(&self) -> Result<Vec<KeyInfo>, KeyError> {
        let path = format!("{}/keys?list=true", self.mount);
        let names = self.names(path).await.map_err(TransitError::without_key)?;
        let mut ids: Vec<KeyId> = names
            .iter()
            .filter_map(|name| ours(name))
            .map(|(_, id)| id)
            .collect();
        let records = self.records.clone();
        ids.extend(blocking(move || records.ids()).await?);
        ids.sort();
        ids.dedup();
        let mut infos = Vec::with_capacity(ids.len());
        for id in &ids {
            infos.push(self.described(id).await?.info);
        }
        Ok(infos)
    }

    /// See [`crate::KeyProvider::disable`]. It also stops a key that somebody has rotated.
    pub(super) async fn soft_delete(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        let (record, described) = self.look(id).await?;
        let judged = judge(id, record.as_ref(), described.as_ref());
        // Refused here first: that needs nobody's permission.
        let lowered = record.or_else(|| judged.as_ref().ok().map(|found| Record::of(&found.info)));
        if let Some(record) = lowered {
            self.lower_to(record, KeyState::Disabled).await?;
        }
        self.forget(id);
        let Some((purpose, _)) = described else {
            return judged.map(|_| DisableOutcome::Disabled);
        };
        let stopped = self
            .done(
                Method::DELETE,
                self.key_path(purpose, id, "/soft-delete"),
                None,
            )
            .await;
        match stopped {
            Ok(_) => {}
            Err(TransitError::Answer {
                status: 404 | 405,
                reason,
                ..
            }) => {
                return Ok(DisableOutcome::LocalOnly {
                    reason: format!(
                        "the server has no soft deletion ({reason}); other tokens go on using the key until its policies or the key itself are removed"
                    ),
                });
            }
            Err(error) => return Err(error.into_key_error(id)),
        }
        let after = self.read(purpose, id).await;
        let after = after.map_err(|error| error.into_key_error(id))?;
        if !after.as_ref().is_some_and(Described::is_soft_deleted) {
            return Err(KeyError::Unavailable {
                reason: format!("the OpenBao server still uses key {id} after its soft deletion"),
            });
        }
        Ok(match judged {
            Ok(found) => outcome(found.may_be_copied),
            Err(error) => DisableOutcome::LocalOnly {
                reason: format!("the server refuses it, but: {error}"),
            },
        })
    }

    /// See [`crate::KeyProvider::restore`]: on the server and here.
    pub(super) async fn take_back(&self, id: &KeyId) -> Result<KeyInfo, KeyError> {
        let record = self.recorded(id).await?;
        let found = self.described(id).await?;
        if found.info.state == KeyState::Destroyed {
            return Err(is_destroyed(id));
        }
        let path = self.key_path(found.info.purpose, id, "/soft-delete-restore");
        match self.done(Method::POST, path, None).await {
            // Without soft deletion the server was never told to stop.
            Ok(_)
            | Err(TransitError::Answer {
                status: 404 | 405, ..
            }) => {}
            Err(error) => return Err(error.into_key_error(id)),
        }
        let mut record = record.unwrap_or_else(|| Record::of(&found.info));
        record.state = KeyState::Active;
        self.record(record).await?;
        self.described(id).await.map(|found| found.info)
    }

    /// See [`crate::KeyProvider::destroy`].
    pub(super) async fn delete(&self, id: &KeyId) -> Result<DisableOutcome, KeyError> {
        let (record, described) = self.look(id).await?;
        if let (Some(record), None) = (&record, &described) {
            // Deleted already, by us before a crash or by somebody else: gone all the same.
            self.lower_to(record.clone(), KeyState::Destroyed).await?;
            self.forget(id);
            return Ok(DisableOutcome::Disabled);
        }
        let found = judge(id, record.as_ref(), described.as_ref())?;
        let record = record.unwrap_or_else(|| Record::of(&found.info));
        self.lower_to(record.clone(), KeyState::Disabled).await?;
        self.forget(id);
        let purpose = found.info.purpose;
        let failed = |error: TransitError| error.into_key_error(id);
        self.done(
            Method::POST,
            self.key_path(purpose, id, "/config"),
            Some(&json!({"deletion_allowed": true})),
        )
        .await
        .map_err(failed)?;
        self.done(Method::DELETE, self.key_path(purpose, id, ""), None)
            .await
            .map_err(failed)?;
        if self.read(purpose, id).await.map_err(failed)?.is_some() {
            return Err(KeyError::Unavailable {
                reason: format!("the OpenBao server still has key {id} after its deletion"),
            });
        }
        self.lower_to(record, KeyState::Destroyed).await?;
        Ok(outcome(found.may_be_copied))
    }

    pub(super) async fn recorded(&self, id: &KeyId) -> Result<Option<Record>, KeyError> {
        let (records, id) = (self.records.clone(), id.clone());
        blocking(move || records.get(&id)).await
    }

    async fn record(&self, record: Record) -> Result<(), KeyError> {
        let records = self.records.clone();
        blocking(move || records.put(&record)).await
    }

    async fn lower_to(&self, mut record: Record, state: KeyState) -> Result<(), KeyError> {
        record.state = lower(record.state, state);
        self.record(record).await
    }

    /// Both sides of a key as they are, at least one of which there is.
    async fn look(&self, id: &KeyId) -> Result<(Option<Record>, OnServer), KeyError> {
        let record = self.recorded(id).await?;
        let described = match &record {
            Some(record) => self
                .read(record.purpose, id)
                .await
                .map_err(|error| error.into_key_error(id))?
                .map(|described| (record.purpose, described)),
            None => self.search(id).await?,
        };
        if record.is_none() && described.is_none() {
            return Err(KeyError::NotFound { id: id.clone() });
        }
        Ok((record, described))
    }

    /// Looks for a key under every purpose that the token may see.
    async fn search(&self, id: &KeyId) -> Result<OnServer, KeyError> {
        let mut found = None;
        let mut seen = false;
        let mut denied = None;
        for purpose in PURPOSES {
            match self.read(purpose, id).await {
                Ok(None) => seen = true,
                Ok(Some(described)) if found.is_none() => found = Some((purpose, described)),
                Ok(Some(_)) => {
                    return Err(corrupt(id, "the server has it under two purposes"));
                }
                Err(error @ TransitError::PermissionDenied { .. }) => denied = Some(error),
                Err(error) => return Err(error.into_key_error(id)),
            }
        }
        match denied {
            Some(error) if found.is_none() && !seen => Err(error.into_key_error(id)),
            Some(_) | None => Ok(found),
        }
    }

    async fn read(&self, purpose: Purpose, id: &KeyId) -> Result<Option<Described>, TransitError> {
        let path = self.key_path(purpose, id, "");
        let action = format!("GET {path}");
        match self.done(Method::GET, path, None).await {
            Ok(answer) => {
                let mut described: Described = answer.data(&action)?;
                described.as_given = answer.data::<Value>(&action)?;
                Ok(Some(described))
            }
            // An empty 404 means no such key; "unsupported path" that it could not even be named so.
            Err(TransitError::Answer {
                status: 404,
                reason,
                ..
            }) if reason.is_empty() || reason.contains("unsupported path") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn names(&self, path: String) -> Result<Vec<String>, TransitError> {
        #[derive(Deserialize)]
        struct Names {
            keys: Vec<String>,
        }
        let action = format!("GET {path}");
        match self.done(Method::GET, path, None).await {
            Ok(answer) => answer.data::<Names>(&action).map(|names| names.keys),
            Err(TransitError::Answer {
                status: 404,
                reason,
                ..
            }) if reason.is_empty() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// A call in the namespace of the mount that has to succeed.
    async fn done(
        &self,
        method: Method,
        path: String,
        body: Option<&Value>,
    ) -> Result<Answer, TransitError> {
        let action = format!("{method} {path}");
        let answer = self
            .session
            .call(method, &self.namespace, path, body)
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(self.session.http.refusal(action, &answer));
        }
        Ok(answer)
    }

    fn key_path(&self, purpose: Purpose, id: &KeyId, below: &str) -> String {
        format!("{}/keys/{}{below}", self.mount, server_name(purpose, id))
    }
}

/// Compares what the server says of a key with what was pinned here.
fn judge(
    id: &KeyId,
    record: Option<&Record>,
    described: Option<&(Purpose, Described)>,
) -> Result<Found, KeyError> {
    let Some((purpose, described)) = described else {
        return match record {
            Some(record) if record.state == KeyState::Destroyed => Ok(Found {
                info: record.info(NAME),
                may_be_copied: None,
            }),
            Some(_) => Err(corrupt(
                id,
                "the server has it no more, though it was there before: somebody has deleted it",
            )),
            None => Err(KeyError::NotFound { id: id.clone() }),
        };
    };
    let mut info = described
        .info(id, *purpose, NAME)
        .map_err(|reason| corrupt(id, &reason))?;
    if let Some(record) = record {
        if record.public_key != info.public_key {
            return Err(corrupt(
                id,
                "its public key is another one than before: somebody has replaced it",
            ));
        }
        info.state = lower(record.state, info.state);
        // What the server said first counts: what it says later is for the judgement below.
        info.attestation = record.attestation.clone().into();
    }
    Ok(Found {
        info,
        may_be_copied: described.may_be_copied(),
    })
}

fn outcome(may_be_copied: Option<&'static str>) -> DisableOutcome {
    may_be_copied.map_or(DisableOutcome::Disabled, |why| DisableOutcome::LocalOnly {
        reason: format!("the server refuses it, but {why}: a copy would go on working"),
    })
}

fn corrupt(id: &KeyId, reason: &str) -> KeyError {
    KeyError::Corrupt {
        what: format!("transit key {id}"),
        reason: reason.to_owned(),
    }
}
