//! Seal certificates: what is held, and recording what was imported, bound and revoked.
//!
//! What a caller sends is checked here whole, whatever the caller checked before: it goes into the trust bundle.

use std::sync::Arc;

use sealwarden_anchors::binding;
use sealwarden_anchors::chain::{Chain, fingerprint};
use sealwarden_domain::certificates::{Certificates, Held, stale};
use sealwarden_domain::installation::Installation;
use sealwarden_domain::log_control::Origin;
use sealwarden_domain::{Rejection, RejectionCode};
use sealwarden_engine::Meta;
use sealwarden_pki::{CallerRole, caller_of, require};
use sealwarden_wire::control::v1::seal_certificates_server::SealCertificates;
use sealwarden_wire::control::v1::{
    BindSealCertificateRequest, CertifiedOrigin, ImportSealCertificateRequest,
    ListSealCertificatesRequest, ListSealCertificatesResponse, RevokeSealCertificateRequest,
    SealBinding, SealCertificate,
};
use sealwarden_wire::event::v1::{
    Event, SealCertificateBound, SealCertificateImported, SealCertificateRevoked,
};
use tonic::{Request, Response, Status};

use super::control::state_of;
use super::status::{of_error, of_rejection};
use crate::executor::Executor;
use crate::trust::{TrustFacts, certificates};

pub(crate) struct CertificatesService(pub(crate) Arc<Executor>);

impl CertificatesService {
    /// Records what was asked for, publishes what follows from it, and answers how the certificate stands.
    async fn record<D>(
        &self,
        meta: Meta,
        certificate: &str,
        decide: D,
    ) -> Result<Response<SealCertificate>, Status>
    where
        D: Fn(&Certificates) -> Result<Vec<Event>, Rejection>,
    {
        let node = &self.0.node;
        let mut stream = node
            .stream::<TrustFacts>("trust", &node.installation)
            .await
            .map_err(|error| of_error(&error))?;
        let executed = stream
            .execute(meta, |facts| decide(&facts.certificates))
            .await
            .map_err(|error| of_error(&error))?;
        node.board.reached(executed.position).await;
        // What could not be published now is published as soon as it can be; it is recorded.
        if let Err(error) = self.0.trust.publish_certificates().await {
            tracing::warn!(%error, "the trust bundle does not say it yet");
        }
        let answer = node.board.read(|installation| {
            let held = installation.trust.certificates.find(certificate)?;
            Some(of_held(installation, held, node.clock.now().wall_ms))
        });
        answer
            .map(Response::new)
            .ok_or_else(|| Status::internal("what was recorded is not there"))
    }

    /// Checks what a certificate's key signed about a log, and records it.
    pub(crate) async fn record_binding(
        &self,
        request: BindSealCertificateRequest,
        by: &str,
        meta: Meta,
    ) -> Result<Response<SealCertificate>, Status> {
        let signed = request.binding;
        let bound = binding::verify(&signed)
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let certificate = fingerprint(&bound.certificate_der);
        let origin = bound.binding.origin;
        let now_ms = self.0.node.clock.now().wall_ms;
        let keys = self.0.node.board.read(|installation| {
            let (_, log) = installation.log_of(&origin)?;
            log.origin(&origin).map(certificates::vkeys)
        });
        let keys = keys.ok_or_else(|| {
            of_rejection(&Rejection::new(
                RejectionCode::NotFound,
                format!(
                    "there is no log {origin:?}; `sealwarden keys certificate show` lists them"
                ),
            ))
        })?;
        let event = SealCertificateBound {
            certificate: certificate.clone(),
            origin,
            vkeys: bound
                .binding
                .vkeys
                .iter()
                .map(ToString::to_string)
                .collect(),
            from_ms: bound.binding.from_s.saturating_mul(1000),
            until_ms: bound.binding.until_s.saturating_mul(1000),
            binding: signed,
            by: by.to_owned(),
        };
        self.record(meta, &certificate, |held| {
            held.bind(event.clone(), &keys, now_ms)
        })
        .await
    }
}

#[tonic::async_trait]
impl SealCertificates for CertificatesService {
    async fn list(
        &self,
        request: Request<ListSealCertificatesRequest>,
    ) -> Result<Response<ListSealCertificatesResponse>, Status> {
        let readers = [CallerRole::Operator, CallerRole::Node];
        require(&caller_of(&request)?, &readers)?;
        let node = &self.0.node;
        let now_ms = node.clock.now().wall_ms;
        let answer = node.board.read(|installation| {
            let held = installation.trust.certificates.all().iter();
            let logs = installation.logs.values();
            ListSealCertificatesResponse {
                certificates: held.map(|it| of_held(installation, it, now_ms)).collect(),
                origins: logs
                    .flat_map(|log| log.origins.iter().map(move |origin| (log, origin)))
                    .map(|(log, origin)| CertifiedOrigin {
                        state: state_of(log, origin).to_owned(),
                        ..of_origin(installation, origin, now_ms)
                    })
                    .collect(),
            }
        });
        Ok(Response::new(answer))
    }

    async fn import(
        &self,
        request: Request<ImportSealCertificateRequest>,
    ) -> Result<Response<SealCertificate>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        let request = request.into_inner();
        let now_ms = self.0.node.clock.now().wall_ms;
        let chain = Chain::read(&request.chain, now_ms)
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        let imported = SealCertificateImported {
            certificate: chain.fingerprint.clone(),
            chain: chain.pem,
            subject: chain.certificate.subject,
            issuer: chain.issuer,
            not_before_ms: chain.certificate.not_before_ms,
            not_after_ms: chain.certificate.not_after_ms,
            trial: request.trial,
            by: caller.name.to_string(),
        };
        let meta = Meta::person(caller.name.as_str());
        self.record(meta, &chain.fingerprint, |held| {
            held.import(imported.clone())
        })
        .await
    }

    async fn bind(
        &self,
        request: Request<BindSealCertificateRequest>,
    ) -> Result<Response<SealCertificate>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        let by = caller.name.as_str();
        let request = request.into_inner();
        self.record_binding(request, by, Meta::person(by)).await
    }

    async fn revoke(
        &self,
        request: Request<RevokeSealCertificateRequest>,
    ) -> Result<Response<SealCertificate>, Status> {
        let caller = caller_of(&request)?;
        require(&caller, &[CallerRole::Operator])?;
        let request = request.into_inner();
        let now_ms = self.0.node.clock.now().wall_ms;
        let event = SealCertificateRevoked {
            certificate: request.certificate.clone(),
            at_ms: request.at_ms,
            reason: request.reason,
            by: caller.name.to_string(),
        };
        let meta = Meta::person(caller.name.as_str());
        self.record(meta, &request.certificate, |held| {
            held.revoke(event.clone(), now_ms)
        })
        .await
    }
}

fn of_origin(installation: &Installation, origin: &Origin, now_ms: i64) -> CertifiedOrigin {
    let current = installation.trust.certificates.current(&origin.origin);
    CertifiedOrigin {
        origin: origin.origin.clone(),
        state: String::new(),
        vkeys: certificates::vkeys(origin),
        certificate: current.map_or_else(String::new, |(it, _)| it.imported.certificate.clone()),
        problem: certificates::problem(installation, origin, now_ms),
    }
}

fn of_held(installation: &Installation, held: &Held, now_ms: i64) -> SealCertificate {
    let keys_of = |origin: &str| {
        let (_, log) = installation.log_of(origin)?;
        log.origin(origin).map(certificates::vkeys)
    };
    let bindings = held.bound.values().map(|(_, bound)| {
        let keys = keys_of(&bound.origin).unwrap_or_default();
        SealBinding {
            origin: bound.origin.clone(),
            vkeys: bound.vkeys.clone(),
            from_ms: bound.from_ms,
            until_ms: bound.until_ms,
            binding: bound.binding.clone(),
            stale: stale(bound, &keys, now_ms).unwrap_or_default(),
        }
    });
    let revoked = held.revoked.as_ref();
    SealCertificate {
        certificate: held.imported.certificate.clone(),
        subject: held.imported.subject.clone(),
        issuer: held.imported.issuer.clone(),
        not_before_ms: held.imported.not_before_ms,
        not_after_ms: held.imported.not_after_ms,
        trial: held.imported.trial,
        revoked_at_ms: revoked.map_or(0, |it| it.at_ms),
        revocation_reason: revoked.map_or_else(String::new, |it| it.reason.clone()),
        bindings: bindings.collect(),
        trust_version: installation
            .trust
            .published
            .as_ref()
            .map_or(0, |it| it.version),
    }
}
