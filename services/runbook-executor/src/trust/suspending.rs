//! Adding suspensions: of an origin, or of one key of it.

use jiff::Timestamp;
use sealwarden_domain::fold::event;
use sealwarden_domain::{Rejection, RejectionCode};
use sealwarden_engine::{ExecuteError, Meta, Stream};
use sealwarden_seal::note::Vkey;
use sealwarden_seal::trust::{RevokedKey, Suspension};
use sealwarden_wire::event::v1::{SuspensionAdded, event::Kind};

use super::authority::{Authority, PublishError, payload_of};
use super::facts::TrustFacts;
use super::payload::ended_before;
use crate::environment::of_trust;

impl Authority {
    /// Suspends an origin from a time on, once; gives the note. The bundle must list the origin, or verifiers would refuse the whole bundle.
    pub(crate) async fn suspend(
        &self,
        origin: &str,
        from_ms: i64,
        incident: &str,
    ) -> Result<SuspensionAdded, PublishError> {
        let mut stream = self.stream().await?;
        if let Some(done) = stream.state().suspended(origin, from_ms) {
            return Ok(done.clone());
        }
        let is_listed = |bundle: &[u8]| {
            let payload = payload_of(bundle);
            payload.is_some_and(|it| it.logs.iter().any(|log| log.origin == origin))
        };
        let reason = format!("lists {origin}, which is to be suspended");
        self.list(&mut stream, is_listed, &reason, incident).await?;
        let added = self.sign(origin, None, from_ms, incident).await?;
        self.add(&mut stream, added, |facts| {
            facts.suspended(origin, from_ms).cloned()
        })
        .await
    }

    /// Suspends one key of an origin (log, origin, key id) from a time on, once; gives the note. What the key signed counts up to the last published checkpoint that
    /// was intended before that time.
    pub(crate) async fn suspend_key(
        &self,
        place: (&str, &str, &str),
        from_ms: i64,
        incident: &str,
    ) -> Result<SuspensionAdded, PublishError> {
        let key = self.key(place, from_ms)?;
        let vkey = key.vkey.to_string();
        let (_, origin, id) = place;
        let mut stream = self.stream().await?;
        if let Some(done) = stream.state().key_suspended(&vkey, from_ms) {
            return Ok(done.clone());
        }
        let is_listed = |bundle: &[u8]| {
            let payload = payload_of(bundle);
            payload.is_some_and(|it| it.logs.iter().any(|log| log.vkeys.contains(&key.vkey)))
        };
        let reason = format!("lists key {id} of {origin}, which is to be suspended");
        self.list(&mut stream, is_listed, &reason, incident).await?;
        let added = self
            .sign(origin, Some(key.clone()), from_ms, incident)
            .await?;
        self.add(&mut stream, added, |facts| {
            facts.key_suspended(&vkey, from_ms).cloned()
        })
        .await
    }

    /// Whether the trust stream holds that suspension.
    pub(crate) async fn is_key_suspended(
        &self,
        place: (&str, &str, &str),
        from_ms: i64,
    ) -> Result<bool, ExecuteError> {
        let Ok(key) = self.key(place, from_ms) else {
            return Ok(false);
        };
        let facts = self.facts().await?;
        Ok(facts
            .key_suspended(&key.vkey.to_string(), from_ms)
            .is_some())
    }

    fn key(
        &self,
        (log, origin, key): (&str, &str, &str),
        from_ms: i64,
    ) -> Result<RevokedKey, PublishError> {
        let found = self.node.board.read(|installation| {
            let origin = installation.logs.get(log)?.origin(origin)?;
            let signer = origin.signer(key)?;
            Some((signer.vkey.clone(), ended_before(origin, from_ms)))
        });
        let unknown = || {
            let reason = format!("key {key} of {origin} is not known");
            ExecuteError::Rejected(Rejection::new(RejectionCode::NotFound, reason))
        };
        let (vkey, end) = found.ok_or_else(unknown)?;
        let vkey: Vkey = vkey.parse()?;
        Ok(RevokedKey { vkey, end })
    }

    async fn stream(&self) -> Result<Stream<TrustFacts>, ExecuteError> {
        self.node
            .stream::<TrustFacts>("trust", &self.node.installation)
            .await
    }

    /// Publishes a bundle that lists what is to be suspended, if the last one does not.
    async fn list(
        &self,
        stream: &mut Stream<TrustFacts>,
        is_listed: impl Fn(&[u8]) -> bool,
        reason: &str,
        incident: &str,
    ) -> Result<(), PublishError> {
        let published = stream.state().published.last();
        if published.is_some_and(|last| is_listed(&last.bundle)) {
            return Ok(());
        }
        self.publish(reason, incident).await?;
        stream.refresh().await?;
        Ok(())
    }

    async fn sign(
        &self,
        origin: &str,
        key: Option<RevokedKey>,
        from_ms: i64,
        incident: &str,
    ) -> Result<SuspensionAdded, PublishError> {
        let vkey = key.as_ref().map(|key| key.vkey.to_string());
        let suspension = Suspension {
            installation: self.node.installation.clone(),
            environment: of_trust(&self.node),
            origin: origin.to_owned(),
            key,
            from: Timestamp::from_millisecond(from_ms)?,
            incident: incident.to_owned(),
            issued: Timestamp::from_millisecond(self.node.clock.now().wall_ms)?,
        };
        let note = self.signer.sign(&suspension.to_text()).await?;
        Ok(SuspensionAdded {
            origin: origin.to_owned(),
            from_ms,
            incident: incident.to_owned(),
            note: note.to_string(),
            vkey: vkey.unwrap_or_default(),
        })
    }

    async fn add(
        &self,
        stream: &mut Stream<TrustFacts>,
        added: SuspensionAdded,
        known: impl Fn(&TrustFacts) -> Option<SuspensionAdded>,
    ) -> Result<SuspensionAdded, PublishError> {
        let meta: Meta = self.node.meta().correlated(added.incident.as_str());
        stream
            .execute(meta, |facts| {
                Ok(match known(facts) {
                    Some(_) => Vec::new(),
                    None => vec![event(Kind::SuspensionAdded(added.clone()))],
                })
            })
            .await?;
        Ok(known(stream.state()).unwrap_or(added))
    }
}
