//! Connecting, and making or checking the JetStream stream of an installation.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, PersistenceMode, Republish, RetentionPolicy, StorageType,
};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event};
use futures_util::TryStreamExt;
use tokio::sync::watch;

use super::address::Addresses;
use super::subject::Subjects;
use crate::config::{Auth, Credentials, Environment, OpenError};

/// Key of the environment in the stream's metadata.
const ENVIRONMENT: &str = "sealwarden-environment";
/// Key of the version of subjects and headers in the stream's metadata.
const FORMAT: &str = "sealwarden-format";
/// The version this module writes and reads.
const FORMAT_VERSION: &str = "1";
/// The server recognises a repeated commit id for this long.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);
/// What a message may have on the server, in bytes: a payload of ours and its headers.
const NEEDED_MESSAGE_BYTES: usize = 1 << 20;
/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause between two tries to connect again.
const RECONNECT_DELAY_MAX: Duration = Duration::from_millis(500);

/// Connects. Later losses of the connection are healed for ever, and `wake` is touched after each,
/// since announcements were missed meanwhile.
pub(super) async fn connect(
    url: &str,
    mut credentials: Credentials,
    wake: Arc<watch::Sender<u64>>,
) -> Result<Client, OpenError> {
    let addresses = Addresses::parse(url)?;
    let url = &addresses.shown;
    if matches!(credentials.auth, Auth::None) {
        credentials.auth = addresses.auth();
    }
    let options = options(credentials).await?.event_callback(move |event| {
        let wake = Arc::clone(&wake);
        async move {
            tracing::info!(%event, "NATS connection");
            if event == Event::Connected {
                wake.send_modify(|count| *count += 1);
            }
        }
    });
    let client =
        options
            .connect(addresses.servers)
            .await
            .map_err(|error| OpenError::Unavailable {
                reason: format!("NATS at {url}: {error}"),
            })?;
    let info = client.server_info();
    if !client.is_server_compatible(2, 12, 0) {
        return Err(OpenError::Invalid {
            reason: format!(
                "NATS at {url} is version {}: version 2.12 or later is needed",
                info.version
            ),
        });
    }
    if info.max_payload < NEEDED_MESSAGE_BYTES {
        return Err(OpenError::Invalid {
            reason: format!(
                "NATS at {url} allows messages of {} bytes: set max_payload to {NEEDED_MESSAGE_BYTES}",
                info.max_payload
            ),
        });
    }
    Ok(client)
}

async fn options(credentials: Credentials) -> Result<ConnectOptions, OpenError> {
    let mut options =
        match credentials.auth {
            Auth::None => ConnectOptions::new(),
            Auth::CredentialsFile(path) => ConnectOptions::with_credentials_file(&path)
                .await
                .map_err(|error| OpenError::Invalid {
                    reason: format!("credentials file {}: {error}", path.display()),
                })?,
            Auth::User { user, password } => ConnectOptions::with_user_and_password(user, password),
            Auth::NkeySeed(seed) => ConnectOptions::with_nkey(seed),
        };
    if let Some(tls) = credentials.tls {
        options = options.require_tls(true).add_root_certificates(tls.ca);
        if let Some((certificate, key)) = tls.client {
            options = options.add_client_certificate(certificate, key);
        }
    }
    Ok(options
        .name("sealwarden event log")
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(super::ANSWER_TIMEOUT))
        .reconnect_delay_callback(|attempts| {
            let doubled = 1_u64.checked_shl(u32::try_from(attempts.min(16)).unwrap_or(16));
            Duration::from_millis(doubled.unwrap_or(u64::MAX)).min(RECONNECT_DELAY_MAX)
        }))
}

/// Makes the stream where it is missing, checks it where it is there, and answers what it is.
pub(super) async fn stream(
    context: &Context,
    subjects: &Subjects,
    environment: Environment,
) -> Result<Info, OpenError> {
    if environment == Environment::Drill {
        refuse_production(context).await?;
    }
    let name = subjects.stream_name();
    let info = match context.get_stream(&name).await {
        Ok(stream) => stream.cached_info().clone(),
        Err(error) if is_missing(&error.kind()) => {
            let wanted = wanted(subjects, environment);
            // Two processes may make it at once: whoever is second meets the first one's.
            let created = context.create_stream(wanted).await;
            if let Err(error) = &created {
                tracing::info!(%error, stream = name, "the stream was not created");
            }
            let stream = context.get_stream(&name).await.map_err(|lookup| {
                let cause = created
                    .err()
                    .map_or_else(|| lookup.to_string(), |e| e.to_string());
                OpenError::Unavailable {
                    reason: format!("stream {name}: {cause}"),
                }
            })?;
            stream.cached_info().clone()
        }
        Err(error) => {
            return Err(OpenError::Unavailable {
                reason: format!("stream {name}: {error}"),
            });
        }
    };
    check(&info.config, subjects, environment)?;
    Ok(info)
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(
        kind,
        GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND
    )
}

/// A drill stays away from servers where production runs.
async fn refuse_production(context: &Context) -> Result<(), OpenError> {
    let production = Some(Environment::Production.as_str());
    let mut streams = context.streams();
    loop {
        let next = streams
            .try_next()
            .await
            .map_err(|error| OpenError::Unavailable {
                reason: format!("the server's streams cannot be listed before a drill: {error}"),
            })?;
        let Some(info) = next else { return Ok(()) };
        if info.config.metadata.get(ENVIRONMENT).map(String::as_str) == production {
            return Err(OpenError::WrongEnvironment {
                found: format!("the server holds the production log {}", info.config.name),
                wanted: Environment::Drill,
            });
        }
    }
}

fn wanted(subjects: &Subjects, environment: Environment) -> Config {
    let (source, destination) = subjects.stored();
    Config {
        name: subjects.stream_name(),
        description: Some("Sealwarden event log; grows for ever, never edited".to_owned()),
        subjects: vec![subjects.all()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: 1,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_bytes: -1,
        max_consumers: -1,
        discard: DiscardPolicy::New,
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        persist_mode: Some(PersistenceMode::Default),
        republish: Some(Republish {
            source,
            destination,
            headers_only: true,
        }),
        metadata: [
            (ENVIRONMENT.to_owned(), environment.as_str().to_owned()),
            (FORMAT.to_owned(), FORMAT_VERSION.to_owned()),
        ]
        .into(),
        ..Config::default()
    }
}

/// Refuses a stream that could lose, drop or change what it holds. `sync_interval` cannot be seen
/// from here: it is a setting of the server.
fn check(config: &Config, subjects: &Subjects, environment: Environment) -> Result<(), OpenError> {
    let name = &config.name;
    let metadata = |key| config.metadata.get(key).map_or("none", String::as_str);
    if metadata(ENVIRONMENT) != environment.as_str() {
        return Err(OpenError::WrongEnvironment {
            found: format!(
                "stream {name} is of environment `{}`",
                metadata(ENVIRONMENT)
            ),
            wanted: environment,
        });
    }
    let (source, destination) = subjects.stored();
    let announced = config.republish.as_ref().is_some_and(|republish| {
        republish.source == source && republish.destination == destination
    });
    let conditions = [
        (
            metadata(FORMAT) == FORMAT_VERSION,
            "sealwarden-format must be 1",
        ),
        (
            config.subjects == [subjects.all()],
            "its subjects must be <prefix>.*.* alone",
        ),
        (config.storage == StorageType::File, "storage must be file"),
        (
            config.retention == RetentionPolicy::Limits,
            "retention must be limits",
        ),
        (config.discard == DiscardPolicy::New, "discard must be new"),
        (
            config.max_messages < 0 && config.max_messages_per_subject < 0,
            "no message limits",
        ),
        (config.max_age.is_zero(), "max_age must be unset"),
        (
            config.deny_delete && config.deny_purge,
            "deny_delete and deny_purge must be set",
        ),
        (config.allow_direct, "allow_direct must be set"),
        (
            !config.allow_rollup && !config.allow_message_ttl,
            "no rollups and no message TTL",
        ),
        (
            !config.no_ack && !config.sealed,
            "it must acknowledge and accept messages",
        ),
        (
            config.persist_mode != Some(PersistenceMode::Async),
            "persist_mode must not be async",
        ),
        (
            config.duplicate_window >= DUPLICATE_WINDOW,
            "duplicate_window must be 10m or more",
        ),
        (config.subject_transform.is_none(), "no subject transform"),
        (
            announced,
            "it must republish what it stored, as at its creation",
        ),
    ];
    let wrong: Vec<_> = conditions
        .iter()
        .filter(|(holds, _)| !holds)
        .map(|(_, what)| *what)
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(OpenError::Invalid {
        reason: format!(
            "stream {name} would not keep an event log: {}",
            wrong.join("; ")
        ),
    })
}

/// The JetStream context of a client, with our time-outs.
pub(super) fn context(client: &Client) -> Context {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(super::ANSWER_TIMEOUT);
    context
}
