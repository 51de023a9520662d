//! Starting the service.

use std::sync::Arc;

use sealwarden_engine::Node;
use sealwarden_wire::archive::v1::archives_server::ArchivesServer;
use sealwarden_wire::verify::v1::vendors_server::VendorsServer;
use sealwarden_wire::verify::v1::verification_server::VerificationServer;
use sealwarden_wire::verify::v1::verifiers_server::VerifiersServer;
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::archive::{ArchivesService, Slots};
use crate::config::Config;
use crate::directives::obey;
use crate::grpc::VerificationService;
use crate::http::routes;
use crate::intents::Intents;
use crate::sightings::Sightings;
use crate::trust::Trust;
use crate::vendors::{self, VendorsService};
use crate::verifiers::{self, VerifiersService};
use crate::verify::Verifying;
use crate::witness::Witness;

/// What the service gives to its host.
pub struct Mounts {
    /// Its gRPC services.
    pub grpc: Routes,
    /// Its HTTP routes: `POST /witness/add-checkpoint` and `GET /witness/key`.
    pub http: axum::Router,
    /// Its tasks. They end at shutdown; an error ends the process.
    pub tasks: JoinSet<anyhow::Result<()>>,
}

/// Opens the witness's state and the kept trust bundle and starts to follow the event log, which need not be reachable yet.
pub async fn start(config: Config, node: Arc<Node>) -> anyhow::Result<Mounts> {
    config.validate()?;
    let intents = Arc::new(Intents::new(Arc::clone(&node), config.refresh()));
    let sightings = Sightings::open(Arc::clone(&node), config.max_sightings_per_origin).await?;
    let sightings = Arc::new(sightings);
    let trust = Arc::new(Trust::open(Arc::clone(&node)).await?);
    let witness = Witness::open(
        Arc::clone(&node),
        Arc::clone(&intents),
        Arc::clone(&sightings),
        config.guests()?,
        config.post_quantum,
    )
    .await?;
    let witness = Arc::new(witness);
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&sightings).tell());
    tasks.spawn(Arc::clone(&trust).follow());
    tasks.spawn(Arc::clone(&witness).watch_disk());
    tasks.spawn(obey(
        config.clone(),
        Arc::clone(&node),
        Arc::clone(&witness),
    ));
    let verifying = Arc::new(Verifying::new(Arc::clone(&node), trust, intents, sightings));
    let (measuring, own) = (Arc::clone(&verifying.measuring), Arc::clone(&node));
    tasks.spawn(async move {
        measuring.keep(&own, |_| {}).await;
        Ok(())
    });
    let slots = Slots::start(config.archives.clone(), &node, &verifying, &mut tasks);
    let slots = Arc::new(slots);
    let watched = verifiers::start(&config.verifiers, &node, &slots, &mut tasks);
    let probed = vendors::start(&config.vendors, &node, &mut tasks);
    let archives = ArchivesService::new(slots);
    let service = VerificationService::new(verifying, config.concurrency);
    let mut grpc = Routes::new(VerificationServer::new(service));
    grpc = grpc.add_service(ArchivesServer::new(archives));
    grpc = grpc.add_service(VerifiersServer::new(VerifiersService::new(watched)));
    grpc = grpc.add_service(VendorsServer::new(VendorsService::new(probed)));
    Ok(Mounts {
        grpc,
        http: routes(witness, config.concurrency),
        tasks,
    })
}
