//! Carrying a directive out. Everything here may be done twice: a crash can fall before the acknowledgement.

use crate::key_orders;
use crate::reseal::reseal;
use crate::service::Service;
use crate::tree::{begin, opened};
use crate::writer::record_size;
use anyhow::Context as _;
use sealwarden_domain::log_control::{KeyChanges, Origin, Signer, SignerLife, directive_input};
use sealwarden_keys::{DisableOutcome, KeyId};
use sealwarden_wire::event::v1::{Directive, DirectiveKind, KeyLife, KeyLifeChanged, OriginOpened};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::MutexGuard;

/// How long a provider may take to disable a key before it is asked again.
const DISABLE: Duration = Duration::from_secs(2);

/// A directive that holds on this node.
#[derive(Debug, Default)]
pub(crate) struct Enforced<'a> {
    /// Lines for the acknowledgement.
    pub(crate) results: BTreeMap<String, String>,
    /// The origin that a rotation opens.
    pub(crate) opened: Option<OriginOpened>,
    /// What became of keys.
    pub(crate) keys: KeyChanges,
    /// Keeps signatures from being released until a stop is acknowledged.
    pub(crate) released: Option<MutexGuard<'a, ()>>,
}

/// Why a directive does not hold.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// It cannot be carried out, now or later.
    Refused(String),
    /// Something is away; it is tried again.
    Later(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Obstacle {
    fn from(error: E) -> Self {
        Self::Later(error.into())
    }
}

/// Carries out a directive that was judged good.
pub(crate) async fn enforce<'a>(
    service: &'a Arc<Service>,
    directive: &Directive,
) -> Result<Enforced<'a>, Obstacle> {
    match directive.kind() {
        DirectiveKind::IsolateKey => isolate(service, directive).await,
        DirectiveKind::ReadOnly | DirectiveKind::Queue => Ok(Enforced {
            released: Some(service.release.lock().await),
            ..Enforced::default()
        }),
        DirectiveKind::Open | DirectiveKind::QueueNoncritical => Ok(Enforced::default()),
        DirectiveKind::RevokeKey => key_orders::revoke(service, directive).await,
        DirectiveKind::DestroyKey => key_orders::destroy(service, directive).await,
        DirectiveKind::RestoreKey => key_orders::restore(service, directive).await,
        DirectiveKind::RotateOrigin => rotate(service, directive).await,
        DirectiveKind::Reseal => {
            let results = reseal(service, directive).await?;
            Ok(Enforced {
                results,
                ..Enforced::default()
            })
        }
        DirectiveKind::Unspecified => Err(Obstacle::Refused("it orders nothing".to_owned())),
    }
}

pub(crate) fn input<'a>(directive: &'a Directive, name: &str) -> Result<&'a str, Obstacle> {
    directive_input(directive, name)
        .ok_or_else(|| Obstacle::Refused(format!("the directive does not say its {name}")))
}

/// Stops every use of the origin's keys by this node, then asks the providers to disable all of them: those in use, standby keys and retired ones.
async fn isolate<'a>(
    service: &'a Arc<Service>,
    directive: &Directive,
) -> Result<Enforced<'a>, Obstacle> {
    let origin = input(directive, "origin")?;
    let released = service.release.lock().await;
    service.permits.drop_all();
    let known = service.control.lock().await.state().origin(origin).cloned();
    let known =
        known.ok_or_else(|| Obstacle::Refused(format!("origin {origin} was never opened")))?;
    let mut results = BTreeMap::from([("origin".to_owned(), origin.to_owned())]);
    let mut keys = KeyChanges::default();
    if known.node == service.node.name {
        let (words, changed) = disable_all(service, &known, directive.epoch).await?;
        results.insert("provider".to_owned(), words);
        keys.lives = changed;
    }
    if let Some(tree) = service.tree(origin) {
        let view = tokio::task::spawn_blocking(move || tree.reader.view()).await??;
        if let Some(published) = view.published().filter(|_| known.node == service.node.name) {
            let end = &published.checkpoint;
            record_size(service, origin, end.size, end.root).await;
        }
        results.insert("size".to_owned(), view.size().to_string());
    }
    Ok(Enforced {
        results,
        keys,
        released: Some(released),
        ..Enforced::default()
    })
}

/// Disables every key of the origin. One that cannot be reached keeps none of the others working: it is reported when all were asked.
async fn disable_all(
    service: &Service,
    origin: &Origin,
    epoch: u64,
) -> anyhow::Result<(String, Vec<KeyLifeChanged>)> {
    let (mut words, mut keys, mut failed) = (Vec::new(), Vec::new(), None);
    // What was revoked or destroyed before is disabled already, and stays so.
    let left = |it: &&Signer| it.life <= SignerLife::Isolated;
    for signer in origin.signers.iter().filter(left) {
        let outcome = match KeyId::new(signer.key_id.as_str()) {
            Ok(key) => disable(service, &key).await,
            Err(error) => Err(error.into()),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                failed.get_or_insert(error);
                continue;
            }
        };
        words.push(match origin.signers.as_slice() {
            [_] => outcome.clone(),
            _ => format!("{} ({}): {outcome}", signer.key_id, signer.provider),
        });
        keys.push(KeyLifeChanged {
            origin: origin.origin.clone(),
            key_id: signer.key_id.clone(),
            provider: signer.provider.clone(),
            life: KeyLife::Isolated.into(),
            by: service.node.name.clone(),
            epoch,
            outcome,
        });
    }
    match failed {
        Some(error) => Err(error),
        None => Ok((words.join("; "), keys)),
    }
}

/// What the provider did, in the words of the acknowledgement. Without its word nothing is acknowledged: the order stays open,
/// which stops signing by itself, and the provider is asked again.
pub(crate) async fn disable(service: &Service, key: &KeyId) -> anyhow::Result<String> {
    let answer = tokio::time::timeout(DISABLE, service.node.keys.disable(key)).await;
    let outcome = answer.with_context(|| format!("disabling key {key}: no answer in time"))?;
    Ok(
        match outcome.with_context(|| format!("disabling key {key}"))? {
            DisableOutcome::Disabled => "disabled".to_owned(),
            DisableOutcome::LocalOnly { reason } => format!("cannot disable every copy: {reason}"),
        },
    )
}

/// Makes a new key and a new tree; the acknowledgement opens the origin in the same commit.
async fn rotate<'a>(
    service: &'a Arc<Service>,
    directive: &Directive,
) -> Result<Enforced<'a>, Obstacle> {
    let predecessor = input(directive, "origin")?;
    let node = &service.node;
    let current = service.control.lock().await.state().current().cloned();
    let current = current.ok_or_else(|| Obstacle::Refused("the log has no origin".to_owned()))?;
    if current.origin != predecessor || current.node != node.name {
        let reason = format!(
            "origin {predecessor} is to be replaced, and {} written by {} is the current one",
            current.origin, current.node
        );
        return Err(Obstacle::Refused(reason));
    }
    let number = crate::tree::number_of(predecessor)?
        .checked_add(1)
        .context("the log has no next epoch")?;
    let origin = crate::tree::origin_name(node, &service.config, number);
    if service.tree(&origin).is_none() {
        service.add_tree(begin(node, &service.config, number).await?);
    }
    let tree = service.tree(&origin).context("the new tree is gone")?;
    let opened = opened(node, &tree, predecessor, directive.epoch).await?;
    let results = BTreeMap::from([
        ("origin".to_owned(), tree.origin.clone()),
        ("vkey".to_owned(), tree.vkey.to_string()),
        ("key".to_owned(), tree.key.to_string()),
    ]);
    Ok(Enforced {
        results,
        opened: Some(opened),
        ..Enforced::default()
    })
}
