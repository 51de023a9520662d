//! `up` and `serve`: run until SIGTERM or SIGINT.

use anyhow::Context as _;
use sealwarden_engine::Role;
use sealwarden_eventlog::Environment;
use sealwarden_keys::KeyError;
use sealwarden_telemetry::TelemetryConfig;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::Answer;
use crate::cli::{Cli, Hosting, RoleName, Serve, Token, Transit, Up};
use crate::failure::{Ending, Failure};
use crate::host::installation::NewInstallation;
use crate::host::key_providers::{Kind, ProviderSettings};
use crate::host::start::{Options, Started, start, trial_people};
use crate::output;

pub(crate) async fn up(cli: &Cli, args: &Up) -> Answer {
    let roles = Role::ALL
        .map(|role| (role, format!("{}-1", role.as_str())))
        .to_vec();
    host(cli, &args.hosting, roles, "sealwarden").await
}

pub(crate) async fn serve(cli: &Cli, args: &Serve) -> Answer {
    let role = match args.role {
        RoleName::Sealing => Role::Sealing,
        RoleName::Verification => Role::Verification,
        RoleName::Detection => Role::Detection,
        RoleName::RunbookExecutor => Role::RunbookExecutor,
    };
    let elsewhere = args.hosting.token.module.is_some() || args.hosting.transit.url.is_some();
    if role != Role::Sealing && elsewhere {
        return Err(Failure::usage(format!(
            "only sealing keys are kept in a token or with a server, and a {} service has none: leave the --pkcs11 and --transit flags out",
            role.as_str()
        )));
    }
    if args.hosting.nats.is_none() {
        return Err(Failure::usage(
            "a single service talks to the others over NATS: name the server with --nats nats://HOST:PORT, or run all services with `sealwarden up`",
        ));
    }
    let name = args
        .node
        .clone()
        .unwrap_or_else(|| format!("{}-1", role.as_str()));
    host(cli, &args.hosting, vec![(role, name)], role.as_str()).await
}

async fn host(cli: &Cli, hosting: &Hosting, roles: Vec<(Role, String)>, service: &str) -> Answer {
    let telemetry = TelemetryConfig {
        service: service.to_owned(),
        json_logs: hosting.log_json,
        log_filter: std::env::var("SEALWARDEN_LOG").unwrap_or_else(|_| "info".to_owned()),
    };
    let guard =
        sealwarden_telemetry::init(&telemetry).map_err(|e| Failure::usage(e.to_string()))?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(stop);
    let started = tokio::select! {
        started = Box::pin(start(options(cli, hosting, roles.clone()))) => started.map_err(|e| unavailable(&e))?,
        () = &mut stop => return Ok(Ending::Good),
    };
    ready(cli, &started, &roles);
    started.run_until(stop).await?;
    guard.shutdown();
    Ok(Ending::Good)
}

fn options(cli: &Cli, hosting: &Hosting, roles: Vec<(Role, String)>) -> Options {
    Options {
        data: cli.data.clone(),
        new: NewInstallation {
            name: hosting.installation.clone(),
            environment: Environment::Production,
            base: hosting.base.clone(),
        },
        nats: hosting.nats.clone(),
        settings: hosting.settings.clone(),
        plan: hosting.plan.clone(),
        listen: hosting.listen,
        listen_http: hosting.listen_http,
        hosts: hosting.host.clone(),
        passphrase_file: hosting.passphrase_file.clone(),
        fault: None,
        sealing_keys: token(&hosting.token).or_else(|| transit(&hosting.transit)),
        roles,
    }
}

/// The token named on the command line, which lets all three flags be there or none.
fn token(flags: &Token) -> Option<ProviderSettings> {
    flags.module.as_ref()?;
    Some(ProviderSettings {
        module: flags.module.clone(),
        token: flags.label.clone(),
        pin_file: flags.pin_file.clone(),
        ..ProviderSettings::new("pkcs11", Kind::Pkcs11)
    })
}

/// The server named on the command line.
fn transit(flags: &Transit) -> Option<ProviderSettings> {
    flags.url.as_ref()?;
    let audit_device = flags.audit.is_some().then(|| flags.audit_device.clone());
    Some(ProviderSettings {
        url: flags.url.clone(),
        ca_file: flags.ca.clone(),
        token_file: flags.token_file.clone(),
        role_id: flags.role_id.clone(),
        secret_id_file: flags.secret_id_file.clone(),
        namespace: flags.namespace.clone(),
        credentials_namespace: flags.credentials_namespace.clone(),
        mount: Some(flags.mount.clone()),
        audit_file: flags.audit.clone(),
        audit_device,
        ..ProviderSettings::new("transit", Kind::Transit)
    })
}

/// One line that scripts can wait for; what a new user must know goes to standard error.
fn ready(cli: &Cli, started: &Started, roles: &[(Role, String)]) {
    let names: Vec<&str> = roles.iter().map(|(role, _)| role.as_str()).collect();
    let endpoint = &started.endpoint;
    let settings = &started.installation.settings;
    if cli.json {
        let line = json!({
            "ready": names, "grpc": endpoint.grpc, "http": endpoint.http, "installation": settings.installation, "data": started.installation.data,
        });
        output::line(&line.to_string());
    } else {
        output::line(&format!(
            "ready {} grpc={} http={} installation={} data={}",
            names.join(","),
            endpoint.grpc,
            endpoint.http,
            settings.installation,
            started.installation.data.display()
        ));
    }
    let tells = roles.iter().any(|(role, _)| *role == Role::RunbookExecutor);
    let people = trial_people(&started.installation.data);
    if tells && !people.is_empty() {
        output::complain(&format!(
            "note: the approvers' keys ({}) are trial keys in {}/people, and the trust root lies beside them: good for trying, no protection. A real plan names people's own keys (--plan DIR).",
            people.join(", "),
            started.installation.data.display()
        ));
    }
}

/// What keeps services from starting is mostly something that is not there (yet). A wrong PIN and the like are no reason to try again: whoever starts it
/// again and again would lock the token.
fn unavailable(error: &anyhow::Error) -> Failure {
    let text = format!("{error:#}");
    let of_keys = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<KeyError>();
        error.is_some_and(KeyError::needs_a_person)
    };
    if error.chain().any(of_keys) {
        Failure::usage(text)
    } else {
        Failure::unavailable(text)
    }
}
