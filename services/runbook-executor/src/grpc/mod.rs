//! What people and other services ask.

mod absence;
mod certificates;
mod control;
mod custody;
mod evidence;
mod roster;
mod runs;
mod status;

pub(crate) use certificates::CertificatesService;

use std::sync::Arc;

use sealwarden_wire::control::v1::control_server::ControlServer;
use sealwarden_wire::control::v1::seal_certificates_server::SealCertificatesServer;
use sealwarden_wire::run::v1::evidence_custody_server::EvidenceCustodyServer;
use sealwarden_wire::run::v1::runs_server::RunsServer;
use tonic::service::Routes;

use crate::executor::Executor;

/// The services of this role.
pub(crate) fn routes(executor: &Arc<Executor>) -> Routes {
    let runs = runs::RunsService(Arc::clone(executor));
    let control = control::ControlService(Arc::clone(executor));
    let certificates = CertificatesService(Arc::clone(executor));
    Routes::new(RunsServer::new(runs).max_decoding_message_size(runs::MAX_REQUEST_BYTES))
        .add_service(ControlServer::new(control))
        .add_service(SealCertificatesServer::new(certificates))
        .add_service(EvidenceCustodyServer::new(custody::CustodyService(
            Arc::clone(executor),
        )))
}
