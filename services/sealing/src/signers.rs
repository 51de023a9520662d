//! The keys of the current origin: one for each provider of the failover set, so that another provider can sign when the first one does not.

use crate::key_orders;
use crate::service::Service;
use anyhow::Context as _;
use sealwarden_domain::log_control::{Command, Origin, Signer, SignerLife, SignerState};
use sealwarden_keys::{
    Algorithm, Attestation, CreateKey, KeyError, KeyId, KeyInfo, KeyProvider, KeyState, Purpose,
};
use sealwarden_seal::note::Vkey;
use sealwarden_wire::event::v1::SignerAdded;
use std::time::Duration;

/// How long a provider may take to make a key.
const CREATE: Duration = Duration::from_secs(15);
/// Pause before a provider that could not make a key is asked again.
const AGAIN: Duration = Duration::from_secs(30);
/// How many names are tried for one key.
const NAMES: u32 = 64;

/// Keeps a key in every provider until shutdown.
pub(crate) async fn keep(service: &Service) -> anyhow::Result<()> {
    let shutdown = &service.node.shutdown;
    let mut changes = service.node.board.changes();
    loop {
        changes.mark_unchanged();
        let known = keys_of_current(service);
        let complete = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            complete = async { complete(service).await & key_orders::catch_up(service).await } => complete,
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(AGAIN), if !complete => {}
            changed = other_keys(service, &known, &mut changes), if complete => changed?,
        }
    }
}

/// The current origin and what orders have made of its keys.
type Keys = Option<(String, Vec<SignerLife>)>;

fn keys_of_current(service: &Service) -> Keys {
    service
        .on_board(|log| {
            let current = log.current()?;
            let lives = current.signers.iter().map(|it| it.life).collect();
            Some((current.origin.clone(), lives))
        })
        .flatten()
}

/// Waits until another origin is the current one, or its keys are not as they were.
async fn other_keys(
    service: &Service,
    known: &Keys,
    changes: &mut tokio::sync::watch::Receiver<u64>,
) -> anyhow::Result<()> {
    while keys_of_current(service) == *known {
        changes.changed().await?;
    }
    Ok(())
}

/// Makes the keys that the current origin lacks. Answers whether it lacks none any more.
pub(crate) async fn complete(service: &Service) -> bool {
    let mut complete = true;
    for provider in service.node.keys.sealing_providers() {
        if let Err(error) = in_provider(service, &provider).await {
            complete = false;
            let error = format!("{error:#}");
            tracing::warn!(
                provider,
                error,
                "a provider of the failover set has no key of the current origin yet; sealing cannot fail over to it"
            );
        }
    }
    complete
}

async fn in_provider(service: &Service, provider: &str) -> anyhow::Result<()> {
    let known = {
        let mut control = service.control.lock().await;
        control.refresh().await?;
        control.state().current().cloned()
    };
    let Some(origin) = known.filter(|it| it.node == service.node.name && it.isolation.is_none())
    else {
        return Ok(());
    };
    let serves = |it: &&Signer| {
        it.provider == provider
            && it.algorithm == Algorithm::Ed25519.as_str()
            && it.state != SignerState::Retired
            && it.life <= SignerLife::Isolated
    };
    if let Some(signer) = origin.signers.iter().find(serves) {
        return attest(service, &origin, signer).await;
    }
    let why = "a key in each provider of the failover set";
    let by = (service.node.name.as_str(), why);
    add(service, &origin, provider, by).await.map(drop)
}

/// Records what the provider says of the origin of a key that was recorded without it: the one that an origin is opened with.
async fn attest(service: &Service, origin: &Origin, signer: &Signer) -> anyhow::Result<()> {
    if signer.attestation != Attestation::None.format() {
        return Ok(());
    }
    let keys = service.node.keys.as_ref();
    let info = keys.info(&KeyId::new(signer.key_id.as_str())?).await?;
    if info.attestation == Attestation::None {
        return Ok(());
    }
    let added = added(keys, &origin.origin, &service.node.name, &info)?;
    service.execute(&Command::AddSigner(added)).await?;
    Ok(())
}

/// Makes a key for the origin in the provider and records it. It is used once a published trust bundle lists it.
pub(crate) async fn add(
    service: &Service,
    origin: &Origin,
    provider: &str,
    (by, why): (&str, &str),
) -> anyhow::Result<SignerAdded> {
    let number = crate::tree::number_of(&origin.origin)?;
    let stem = format!("{}-{number}", service.config.log);
    let known = |id: &KeyId| origin.signer(id.as_str()).is_some();
    let making = make(service.node.keys.as_ref(), &stem, provider, known);
    let made = tokio::time::timeout(CREATE, making).await;
    let info = made
        .with_context(|| {
            format!(
                "the {provider} provider made no key in {} s",
                CREATE.as_secs()
            )
        })?
        .with_context(|| format!("making a key in the {provider} provider"))?;
    let keys = service.node.keys.as_ref();
    let mut added = added(keys, &origin.origin, &service.node.name, &info)?;
    by.clone_into(&mut added.by);
    why.clone_into(&mut added.why);
    let executed = service.execute(&Command::AddSigner(added.clone())).await?;
    if !executed.events.is_empty() {
        tracing::info!(
            origin = origin.origin,
            key = added.key_id,
            provider,
            "a key may sign for the origin once a trust bundle lists it"
        );
    }
    service.node.board.reached(executed.position).await;
    Ok(added)
}

/// Makes a key in one provider under the first free name: `main-1` in the preferred one, `main-1-b` in the next. A key that an interrupted try made is found again.
pub(crate) async fn make(
    keys: &dyn KeyProvider,
    stem: &str,
    provider: &str,
    is_known: impl Fn(&KeyId) -> bool,
) -> anyhow::Result<KeyInfo> {
    let providers = keys.sealing_providers();
    let place = providers.iter().position(|it| it == provider).unwrap_or(0);
    for generation in 1..=NAMES {
        let id = KeyId::new(name(stem, place, generation))?;
        if is_known(&id) {
            continue;
        }
        let key = CreateKey {
            id: id.clone(),
            purpose: Purpose::Sealing,
            algorithm: Algorithm::Ed25519,
            provider: Some(provider.to_owned()),
        };
        match keys.create(&key).await {
            Ok(info) => return Ok(info),
            // Either way somebody has the name; whether it may be used, its description says.
            Err(KeyError::AlreadyExists { .. } | KeyError::Refused { .. }) => {
                let info = keys.info(&id).await?;
                if usable(&info, provider) {
                    return Ok(info);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("{NAMES} names beginning with {stem} are taken")
}

fn usable(info: &KeyInfo, provider: &str) -> bool {
    info.provider == provider
        && info.state == KeyState::Active
        && info.purpose == Purpose::Sealing
        && info.algorithm() == Algorithm::Ed25519
}

fn name(stem: &str, place: usize, generation: u32) -> String {
    let letter = u8::try_from(place)
        .ok()
        .and_then(|place| b'a'.checked_add(place))
        .map_or('z', char::from);
    match (place, generation) {
        (0, 1) => stem.to_owned(),
        (_, 1) => format!("{stem}-{letter}"),
        (_, _) => format!("{stem}-{letter}{generation}"),
    }
}

/// The event that makes a key known.
pub(crate) fn added(
    keys: &dyn KeyProvider,
    origin: &str,
    node: &str,
    info: &KeyInfo,
) -> anyhow::Result<SignerAdded> {
    let can = keys.capabilities_of(&info.provider);
    Ok(SignerAdded {
        origin: origin.to_owned(),
        vkey: Vkey::ed25519(origin, info.ed25519()?)?.to_string(),
        key_id: info.id.to_string(),
        provider: info.provider.clone(),
        algorithm: info.algorithm().to_string(),
        provider_can_disable: can.is_ok_and(|can| can.can_disable),
        attestation: info.attestation.format().to_owned(),
        node: node.to_owned(),
        by: String::new(),
        why: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_key_is_named_after_its_log_its_origin_and_its_provider() {
        assert_eq!(name("main-1", 0, 1), "main-1");
        assert_eq!(name("main-1", 0, 2), "main-1-a2");
        assert_eq!(name("main-1", 1, 1), "main-1-b");
        assert_eq!(name("main-1", 2, 3), "main-1-c3");
    }
}
