//! The installation's seal certificates: who a log's keys belong to. Part of the stream `trust/<installation>`.
//!
//! What X.509 and CMS say was checked by whoever recorded it; here stands what follows from it. **Invariants:** a binding names exactly the keys that
//! its log had when it was recorded; no certificate is bound after it was revoked; a revocation moves only to earlier.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_seal::trust::{MAX_CERTIFICATES, RevocationReason};
use sealwarden_wire::event::v1::{
    Envelope, Event, SealCertificateBound, SealCertificateImported, SealCertificateRevoked,
    event::Kind,
};

use crate::fold::event;
use crate::{IllegalEvent, Rejection, RejectionCode};

/// An installation holds no more of them, revoked ones included.
pub const MAX_HELD: usize = 64;
/// A revocation may be dated so far after the present, milliseconds: clocks differ.
const MAX_AHEAD_MS: i64 = 300_000;

/// A certificate and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// How it came.
    pub imported: SealCertificateImported,
    /// Its latest binding of each origin, with the event's position.
    pub bound: BTreeMap<String, (u64, SealCertificateBound)>,
    /// Its revocation.
    pub revoked: Option<SealCertificateRevoked>,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Certificates {
    held: Vec<Held>,
    changes: u64,
}

impl Certificates {
    /// Takes in one event, and answers whether it was one of certificates.
    pub fn apply(&mut self, envelope: &Envelope, kind: &Kind) -> Result<bool, IllegalEvent> {
        let illegal = |reason: String| Err(IllegalEvent::new(envelope, reason));
        let unknown = |id: &str| format!("{id} was never imported");
        if let Kind::SealCertificateImported(e) = kind {
            if self.find(&e.certificate).is_some() {
                return illegal(format!("{} is imported twice", e.certificate));
            }
            self.held.push(Held {
                imported: e.clone(),
                bound: BTreeMap::new(),
                revoked: None,
            });
        } else if let Kind::SealCertificateBound(e) = kind {
            let Some(held) = self.find_mut(&e.certificate) else {
                return illegal(unknown(&e.certificate));
            };
            held.bound
                .insert(e.origin.clone(), (envelope.position, e.clone()));
        } else if let Kind::SealCertificateRevoked(e) = kind {
            let Some(held) = self.find_mut(&e.certificate) else {
                return illegal(unknown(&e.certificate));
            };
            if held.revoked.as_ref().is_none_or(|it| e.at_ms < it.at_ms) {
                held.revoked = Some(e.clone());
            }
        } else {
            return Ok(false);
        }
        self.changes += 1;
        Ok(true)
    }

    /// All, in the order of their import.
    pub fn all(&self) -> &[Held] {
        &self.held
    }

    /// Counts up with each event.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The certificate of this name.
    pub fn find(&self, certificate: &str) -> Option<&Held> {
        self.held
            .iter()
            .find(|it| it.imported.certificate == certificate)
    }

    fn find_mut(&mut self, certificate: &str) -> Option<&mut Held> {
        self.held
            .iter_mut()
            .find(|it| it.imported.certificate == certificate)
    }

    /// Those that were ever bound to an origin, with the binding: what the trust bundle says of it.
    pub fn of_origin(&self, origin: &str) -> impl Iterator<Item = (&Held, &SealCertificateBound)> {
        self.held
            .iter()
            .filter_map(move |held| Some((held, &held.bound.get(origin)?.1)))
    }

    /// The certificate that stands for an origin now: of those that are not revoked the one that was bound last.
    pub fn current(&self, origin: &str) -> Option<(&Held, &SealCertificateBound)> {
        let good = self.held.iter().filter(|it| it.revoked.is_none());
        good.filter_map(|held| Some((held, held.bound.get(origin)?)))
            .max_by_key(|(_, (position, _))| *position)
            .map(|(held, (_, bound))| (held, bound))
    }

    /// Records a certificate; one that is known changes nothing.
    pub fn import(&self, e: SealCertificateImported) -> Result<Vec<Event>, Rejection> {
        if self.find(&e.certificate).is_some() {
            return Ok(Vec::new());
        }
        if self.held.len() >= MAX_HELD {
            return Err(Rejection::new(
                RejectionCode::Refused,
                format!("the installation holds {MAX_HELD} seal certificates; no more are allowed"),
            ));
        }
        Ok(vec![event(Kind::SealCertificateImported(e))])
    }

    /// Records a binding, where `vkeys` are the keys that the log has now. The same words again change nothing.
    pub fn bind(
        &self,
        e: SealCertificateBound,
        vkeys: &[String],
        now_ms: i64,
    ) -> Result<Vec<Event>, Rejection> {
        let held = self.usable(&e.certificate, now_ms)?;
        let known = held.bound.get(&e.origin).map(|(_, known)| known);
        if let Some(reason) = stale(&e, vkeys, now_ms) {
            let text = format!("{reason}; sign again with `sealwarden keys certificate bind`");
            return Err(Rejection::new(RejectionCode::NotNow, text));
        }
        let same = |it: &SealCertificateBound| {
            (&it.vkeys, it.from_ms, it.until_ms) == (&e.vkeys, e.from_ms, e.until_ms)
        };
        if known.is_some_and(same) {
            return Ok(Vec::new());
        }
        if known.is_none() && self.of_origin(&e.origin).count() >= MAX_CERTIFICATES {
            return Err(Rejection::new(
                RejectionCode::Refused,
                format!(
                    "{} has {MAX_CERTIFICATES} seal certificates; a trust bundle can name no more of one log",
                    e.origin
                ),
            ));
        }
        Ok(vec![event(Kind::SealCertificateBound(e))])
    }

    fn usable(&self, certificate: &str, now_ms: i64) -> Result<&Held, Rejection> {
        let held = self.known(certificate)?;
        if let Some(revoked) = &held.revoked {
            return Err(Rejection::new(
                RejectionCode::Refused,
                format!(
                    "the certificate of {} was revoked ({}); bind another one",
                    held.imported.subject, revoked.reason
                ),
            ));
        }
        if held.imported.not_after_ms < now_ms {
            return Err(Rejection::new(
                RejectionCode::Refused,
                format!(
                    "the certificate of {} has expired; bind another one",
                    held.imported.subject
                ),
            ));
        }
        Ok(held)
    }

    fn known(&self, certificate: &str) -> Result<&Held, Rejection> {
        self.find(certificate).ok_or_else(|| {
            Rejection::new(
                RejectionCode::NotFound,
                format!(
                    "no seal certificate {certificate:?} was imported; `sealwarden keys certificate show` lists them"
                ),
            )
        })
    }

    /// Records a revocation, which can only move to earlier.
    pub fn revoke(&self, e: SealCertificateRevoked, now_ms: i64) -> Result<Vec<Event>, Rejection> {
        let held = self.known(&e.certificate)?;
        if let Err(reason) = e.reason.parse::<RevocationReason>() {
            return Err(Rejection::new(RejectionCode::Invalid, reason));
        }
        if e.at_ms < 0 || e.at_ms > now_ms.saturating_add(MAX_AHEAD_MS) {
            return Err(Rejection::new(
                RejectionCode::Invalid,
                format!(
                    "a certificate cannot be revoked as of {} ms of Unix time, which is not between 1970 and the present",
                    e.at_ms
                ),
            ));
        }
        if held.revoked.as_ref().is_some_and(|it| it.at_ms <= e.at_ms) {
            return Ok(Vec::new());
        }
        Ok(vec![event(Kind::SealCertificateRevoked(e))])
    }
}

/// Why a binding does not say what is true of a log with these keys now; none while it does.
pub fn stale(bound: &SealCertificateBound, vkeys: &[String], now_ms: i64) -> Option<String> {
    let (named, has): (BTreeSet<&String>, BTreeSet<&String>) =
        (bound.vkeys.iter().collect(), vkeys.iter().collect());
    let missing = has.difference(&named).count();
    let gone = named.difference(&has).count();
    let origin = &bound.origin;
    if missing > 0 {
        return Some(format!(
            "the binding does not name {missing} of {origin}'s {} keys",
            has.len()
        ));
    }
    if gone > 0 {
        return Some(format!(
            "the binding names {gone} keys that {origin} does not have"
        ));
    }
    if now_ms > bound.until_ms {
        return Some(format!("the binding of {origin} has ended"));
    }
    None
}
