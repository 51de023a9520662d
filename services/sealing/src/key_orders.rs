//! Carrying out orders about single keys: revoking, destroying and restoring one. Everything here may be done twice.

use crate::enforce::{Enforced, Obstacle, disable, input};
use crate::service::Service;
use crate::signing::in_its_place;
use sealwarden_domain::log_control::{KeyChanges, Origin, Signer, SignerLife, SignerState};
use sealwarden_keys::{DisableOutcome, KeyError, KeyId, KeyState};
use sealwarden_wire::event::v1::{
    ActivationReason, Directive, KeyLife, KeyLifeChanged, SignersActivated,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a provider may take to erase or restore a key.
const CHANGE: Duration = Duration::from_secs(10);
/// How long a provider may take to say how a key is.
const LOOK: Duration = Duration::from_secs(2);

/// The key that an order is about.
struct Named {
    origin: Origin,
    signer: Signer,
    key: KeyId,
}

impl Named {
    async fn read(service: &Service, directive: &Directive) -> Result<Self, Obstacle> {
        let (name, key) = (input(directive, "origin")?, input(directive, "key")?);
        let refused = |reason: String| Obstacle::Refused(reason);
        let origin = {
            let mut control = service.control.lock().await;
            control.refresh().await?;
            control.state().origin(name).cloned()
        };
        let origin = origin.ok_or_else(|| refused(format!("origin {name} was never opened")))?;
        if origin.node != service.node.name {
            let reason = format!("node {} has the keys of {name}", origin.node);
            return Err(refused(reason));
        }
        let signer = origin.signer(key).cloned();
        let signer = signer.ok_or_else(|| refused(format!("key {key} is no signer of {name}")))?;
        let key = KeyId::new(key).map_err(|error| refused(error.to_string()))?;
        Ok(Self {
            origin,
            signer,
            key,
        })
    }

    /// What the acknowledgement says and records.
    fn enforced<'a>(
        &self,
        service: &Service,
        directive: &Directive,
        (life, outcome): (KeyLife, String),
        signers: Option<SignersActivated>,
    ) -> Enforced<'a> {
        let mut results = BTreeMap::from([
            ("origin".to_owned(), self.origin.origin.clone()),
            ("key".to_owned(), self.signer.key_id.clone()),
            ("provider".to_owned(), outcome.clone()),
        ]);
        if life != KeyLife::Destroyed {
            results.insert("signers".to_owned(), self.signers(signers.as_ref()));
        }
        let changed = KeyLifeChanged {
            origin: self.origin.origin.clone(),
            key_id: self.signer.key_id.clone(),
            provider: self.signer.provider.clone(),
            life: life.into(),
            by: service.node.name.clone(),
            epoch: directive.epoch,
            outcome,
        };
        Enforced {
            results,
            keys: KeyChanges {
                lives: vec![changed],
                signers,
            },
            ..Enforced::default()
        }
    }

    /// The keys that sign from here on, in words.
    fn signers(&self, change: Option<&SignersActivated>) -> String {
        let ids: Vec<String> = if let Some(change) = change {
            [change.active.as_slice(), &change.overlapping].concat()
        } else {
            let others = self.origin.signing();
            let others = others.filter(|it| it.key_id != self.signer.key_id);
            others.map(|it| it.key_id.clone()).collect()
        };
        if ids.is_empty() {
            "none: its provider makes another key, which signs as soon as a trust bundle lists it"
                .to_owned()
        } else {
            ids.join(", ")
        }
    }
}

/// Takes one key out of service. A provider that is away keeps nobody from that: this node uses the key no more from its acknowledgement on, and
/// tells the provider when it is back ([`catch_up`]).
pub(crate) async fn revoke<'a>(
    service: &'a Service,
    directive: &Directive,
) -> Result<Enforced<'a>, Obstacle> {
    let released = service.release.lock().await;
    let named = Named::read(service, directive).await?;
    let outcome = match disable(service, &named.key).await {
        Ok(words) => words,
        Err(error) => format!(
            "not told yet ({error:#}): this node uses the key no more, and tells its provider when it answers"
        ),
    };
    let signers = named.signer.signs().then(|| {
        let why = format!("directive {} revokes key {}", directive.epoch, named.key);
        let none = std::collections::BTreeSet::new();
        in_its_place(service, &named.origin, &named.signer, &none, why)
    });
    let signers = signers.flatten().map(|change| SignersActivated {
        reason: ActivationReason::Ordered.into(),
        ..change
    });
    let mut enforced = named.enforced(service, directive, (KeyLife::Revoked, outcome), signers);
    enforced.released = Some(released);
    Ok(enforced)
}

/// Has the provider erase a key.
pub(crate) async fn destroy<'a>(
    service: &'a Service,
    directive: &Directive,
) -> Result<Enforced<'a>, Obstacle> {
    let named = Named::read(service, directive).await?;
    if named.signer.signs() {
        let reason = format!("key {} signs again meanwhile; revoke it first", named.key);
        return Err(Obstacle::Refused(reason));
    }
    let destroyed = tokio::time::timeout(CHANGE, service.node.keys.destroy(&named.key)).await;
    let outcome = match provider_said(&named, destroyed)? {
        DisableOutcome::Disabled => "destroyed: no copy of it can exist".to_owned(),
        DisableOutcome::LocalOnly { reason } => format!("destroyed here; {reason}"),
    };
    Ok(named.enforced(service, directive, (KeyLife::Destroyed, outcome), None))
}

/// Has the provider let an isolated key sign again, and lets it sign where no other key of its kind does.
pub(crate) async fn restore<'a>(
    service: &'a Service,
    directive: &Directive,
) -> Result<Enforced<'a>, Obstacle> {
    let named = Named::read(service, directive).await?;
    if named.signer.life != SignerLife::Isolated {
        let reason = format!(
            "key {} is {}, and only an isolated key is restored",
            named.key,
            named.signer.life.as_str()
        );
        return Err(Obstacle::Refused(reason));
    }
    let restored = tokio::time::timeout(CHANGE, service.node.keys.restore(&named.key)).await;
    let info = provider_said(&named, restored)?;
    let outcome = format!("{} again in the {} provider", info.state, info.provider);
    let change = activated(&named.origin, &named.signer, directive, &service.node.name);
    Ok(named.enforced(service, directive, (KeyLife::Restored, outcome), change))
}

/// The restored key signs beside those that sign already, unless one of them is of its algorithm.
fn activated(
    origin: &Origin,
    restored: &Signer,
    directive: &Directive,
    by: &str,
) -> Option<SignersActivated> {
    let mut signing = origin.signing();
    if restored.state == SignerState::Retired
        || signing.any(|it| it.algorithm == restored.algorithm)
    {
        return None;
    }
    let mut active = origin.signing_keys();
    active.push(restored.key_id.clone());
    Some(SignersActivated {
        origin: origin.origin.clone(),
        active,
        overlapping: Vec::new(),
        reason: ActivationReason::Ordered.into(),
        by: by.to_owned(),
        why: format!(
            "directive {} restores key {}",
            directive.epoch, restored.key_id
        ),
    })
}

/// A provider that is away must not stand before other orders: the order is refused with that reason, and given again.
fn provider_said<T>(
    named: &Named,
    answer: Result<Result<T, KeyError>, tokio::time::error::Elapsed>,
) -> Result<T, Obstacle> {
    let reason = match answer {
        Ok(Ok(said)) => return Ok(said),
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => format!("no answer in {} s", CHANGE.as_secs()),
    };
    Err(Obstacle::Refused(format!(
        "the {} provider did not do that to key {}: {reason}; order it again when it answers",
        named.signer.provider, named.key
    )))
}

/// Tells providers that were away of keys that were revoked meanwhile. Answers whether all know.
pub(crate) async fn catch_up(service: &Service) -> bool {
    let revoked: Vec<Signer> = {
        let control = service.control.lock().await;
        let origins = control.state().origins.iter();
        let ours = origins.filter(|it| it.node == service.node.name);
        ours.flat_map(|it| &it.signers)
            .filter(|it| it.life == SignerLife::Revoked)
            .cloned()
            .collect()
    };
    let mut complete = true;
    for signer in revoked {
        let Ok(key) = KeyId::new(signer.key_id.as_str()) else {
            continue;
        };
        let looked = tokio::time::timeout(LOOK, service.node.keys.info(&key)).await;
        if let Ok(Ok(info)) = &looked
            && info.state != KeyState::Active
        {
            continue;
        }
        match disable(service, &key).await {
            Ok(outcome) => {
                tracing::warn!(%key, outcome, "a revoked key is disabled at its provider");
            }
            Err(error) => {
                complete = false;
                let error = format!("{error:#}");
                tracing::warn!(%key, error, "a revoked key is not disabled at its provider yet");
            }
        }
    }
    complete
}
