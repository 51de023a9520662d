//! Talking to services: which address, which certificate.

use std::path::PathBuf;
use std::time::Duration;

use sealwarden_engine::Role;
use sealwarden_pki::{Identity, IdentityFiles};
use sealwarden_telemetry::TraceContext;
use sealwarden_wire::archive::v1::archives_client::ArchivesClient;
use sealwarden_wire::control::v1::control_client::ControlClient;
use sealwarden_wire::control::v1::seal_certificates_client::SealCertificatesClient;
use sealwarden_wire::incident::v1::incidents_client::IncidentsClient;
use sealwarden_wire::incident::v1::learning_client::LearningClient;
use sealwarden_wire::run::v1::evidence_custody_client::EvidenceCustodyClient;
use sealwarden_wire::run::v1::runs_client::RunsClient;
use sealwarden_wire::seal::v1::erasure_client::ErasureClient;
use sealwarden_wire::seal::v1::sealing_client::SealingClient;
use sealwarden_wire::verify::v1::vendors_client::VendorsClient;
use sealwarden_wire::verify::v1::verification_client::VerificationClient;
use sealwarden_wire::verify::v1::verifiers_client::VerifiersClient;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::host::endpoints::Endpoints;

/// A channel that carries the trace of this command into the services.
pub(crate) type Traced = InterceptedService<Channel, TraceContext>;

/// The longest a call may take: sealing waits for witnesses, everything else is quick.
const CALL: Duration = Duration::from_mins(1);

/// The longest that storing one document, or looking through all records, may take.
const LONG: Duration = Duration::from_hours(6);

/// The longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(8);

/// The longest that connecting may take where another node of the role can be asked next.
const ONE_OF_SEVERAL: Duration = Duration::from_secs(3);

/// Largest answer that is accepted, bytes.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Addresses and identity of this call.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    data: PathBuf,
    server: Option<String>,
    identity: Identity,
}

impl Client {
    /// From the command line's flags.
    pub(crate) fn new(cli: &Cli) -> Result<Self, Failure> {
        let files = match (&cli.client_cert, &cli.client_key, &cli.ca) {
            (Some(cert), Some(key), Some(ca)) => IdentityFiles {
                cert: cert.clone(),
                key: key.clone(),
                ca: ca.clone(),
            },
            _ => IdentityFiles::in_dir(&cli.data.join("certificates"), &cli.caller),
        };
        if !files.cert.exists() {
            return Err(Failure::usage(format!(
                "no certificate at {}; is --data right ({})? start an installation with `sealwarden up`, or issue one with `sealwarden certificate issue {} --role operator`",
                files.cert.display(),
                cli.data.display(),
                cli.caller
            )));
        }
        let identity = files.load().map_err(|e| Failure::usage(e.to_string()))?;
        Ok(Self {
            data: cli.data.clone(),
            server: cli.server.clone(),
            identity,
        })
    }

    /// With an identity that is at hand.
    pub(crate) fn with_identity(data: PathBuf, identity: Identity) -> Self {
        Self {
            data,
            server: None,
            identity,
        }
    }

    async fn channel(&self, role: Role) -> Result<Traced, Failure> {
        let channel = self.channel_within(role, CALL).await?;
        Ok(InterceptedService::new(channel, TraceContext))
    }

    /// A connection to the sealing service for the client library, which keeps no trace.
    pub(crate) async fn sealing_channel(&self) -> Result<Channel, Failure> {
        self.channel_within(Role::Sealing, CALL).await
    }

    /// A connection whose calls may take so long until they are answered: to the node of the role that started last, or where that does not answer to another one.
    async fn channel_within(&self, role: Role, call: Duration) -> Result<Channel, Failure> {
        let known = if let Some(url) = &self.server {
            vec![url.clone()]
        } else {
            let known = Endpoints::read(&self.data)?;
            let known = known.of(role.as_str()).into_iter();
            known.map(|endpoint| endpoint.grpc.clone()).collect()
        };
        let patience = if known.len() > 1 {
            ONE_OF_SEVERAL
        } else {
            CONNECT
        };
        let mut failure = Failure::unavailable(format!(
            "no {} service is known in {}; start it with `sealwarden up`, or name one with --server",
            role.as_str(),
            self.data.display()
        ));
        for url in known {
            match self.connect(role, &url, call, patience).await {
                Ok(channel) => return Ok(channel),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn connect(
        &self,
        role: Role,
        url: &str,
        call: Duration,
        patience: Duration,
    ) -> Result<Channel, Failure> {
        let gone = |e: &dyn std::fmt::Display| {
            Failure::unavailable(format!(
                "the {} service does not answer: {e}; is it running? start it with `sealwarden up`",
                role.as_str()
            ))
        };
        let endpoint = sealwarden_pki::endpoint(url, &self.identity).map_err(|e| gone(&e))?;
        // A suspended process still has its connections accepted by the kernel; only the TLS handshake shows that nobody is there.
        let endpoint = endpoint.timeout(call);
        tokio::time::timeout(patience, endpoint.connect())
            .await
            .map_err(|_| {
                gone(&format!(
                    "{url} did not answer within {} s",
                    patience.as_secs()
                ))
            })?
            .map_err(|e| gone(&told(&e)))
    }

    /// Sealing.
    pub(crate) async fn sealing(&self) -> Result<SealingClient<Traced>, Failure> {
        Ok(SealingClient::new(self.channel(Role::Sealing).await?)
            .max_decoding_message_size(MAX_ANSWER))
    }

    /// Erasing, by sealing: looking through a large log takes its time.
    pub(crate) async fn erasure(&self) -> Result<ErasureClient<Traced>, Failure> {
        let channel = self.channel_within(Role::Sealing, LONG).await?;
        let channel = InterceptedService::new(channel, TraceContext);
        Ok(ErasureClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    /// Verification.
    pub(crate) async fn verification(&self) -> Result<VerificationClient<Traced>, Failure> {
        Ok(
            VerificationClient::new(self.channel(Role::Verification).await?)
                .max_decoding_message_size(MAX_ANSWER),
        )
    }

    /// Archives, kept by verification.
    pub(crate) async fn archives(&self) -> Result<ArchivesClient<Traced>, Failure> {
        let channel = self.channel_within(Role::Verification, LONG).await?;
        let channel = InterceptedService::new(channel, TraceContext);
        Ok(ArchivesClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    /// Vendors, probed by verification.
    pub(crate) async fn vendors(&self) -> Result<VendorsClient<Traced>, Failure> {
        Ok(VendorsClient::new(self.channel(Role::Verification).await?)
            .max_decoding_message_size(MAX_ANSWER))
    }

    /// Verifiers that others run, watched by verification.
    pub(crate) async fn verifiers(&self) -> Result<VerifiersClient<Traced>, Failure> {
        let channel = self.channel_within(Role::Verification, LONG).await?;
        let channel = InterceptedService::new(channel, TraceContext);
        Ok(VerifiersClient::new(channel).max_decoding_message_size(MAX_ANSWER))
    }

    /// Incidents.
    pub(crate) async fn incidents(&self) -> Result<IncidentsClient<Traced>, Failure> {
        Ok(IncidentsClient::new(self.channel(Role::Detection).await?)
            .max_decoding_message_size(MAX_ANSWER))
    }

    /// Postmortems and action items.
    pub(crate) async fn learning(&self) -> Result<LearningClient<Traced>, Failure> {
        Ok(LearningClient::new(self.channel(Role::Detection).await?)
            .max_decoding_message_size(MAX_ANSWER))
    }

    /// Runs.
    pub(crate) async fn runs(&self) -> Result<RunsClient<Traced>, Failure> {
        Ok(RunsClient::new(self.channel(Role::RunbookExecutor).await?)
            .max_decoding_message_size(MAX_ANSWER))
    }

    /// Seal certificates, recorded by the control authority.
    pub(crate) async fn certificates(&self) -> Result<SealCertificatesClient<Traced>, Failure> {
        Ok(
            SealCertificatesClient::new(self.channel(Role::RunbookExecutor).await?)
                .max_decoding_message_size(MAX_ANSWER),
        )
    }

    /// Evidence, kept by the runbook executor.
    pub(crate) async fn evidence(&self) -> Result<EvidenceCustodyClient<Traced>, Failure> {
        Ok(
            EvidenceCustodyClient::new(self.channel(Role::RunbookExecutor).await?)
                .max_decoding_message_size(MAX_ANSWER),
        )
    }

    /// Control.
    pub(crate) async fn control(&self) -> Result<ControlClient<Traced>, Failure> {
        Ok(
            ControlClient::new(self.channel(Role::RunbookExecutor).await?)
                .max_decoding_message_size(MAX_ANSWER),
        )
    }
}

/// An error with its causes: what failed inside a connection says more than that it failed.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
