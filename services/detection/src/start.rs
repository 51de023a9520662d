//! Starting the service.

use std::sync::Arc;

use sealwarden_engine::Node;
use sealwarden_wire::incident::v1::incidents_server::IncidentsServer;
use sealwarden_wire::incident::v1::learning_server::LearningServer;
use tokio::task::JoinSet;
use tonic::service::Routes;

use crate::communication::{Sinks, communicate};
use crate::config::Config;
use crate::follow::{Watch, follow};
use crate::grpc::IncidentsService;
use crate::learning::LearningService;
use crate::outside::{Intake, Sources, flush, routes};

/// What the service gives to its host.
pub struct Mounts {
    /// Its gRPC services.
    pub grpc: Routes,
    /// Its HTTP routes: for outside sources, if there are any.
    pub http: axum::Router,
    /// Its tasks. They end at shutdown; an error ends the process.
    pub tasks: JoinSet<anyhow::Result<()>>,
}

/// Starts following the log. Calls are answered from what was followed so far.
pub async fn start(config: Config, node: Arc<Node>) -> anyhow::Result<Mounts> {
    config.validate()?;
    let watch = Arc::new(Watch::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(follow(
        Arc::clone(&node),
        Arc::clone(&watch),
        config.certificate_warn_ms(),
    ));
    let sinks = Arc::new(Sinks::new(&config, &node).await?);
    tasks.spawn(communicate(
        Arc::clone(&node),
        Arc::clone(&watch),
        config.telling.clone(),
        Arc::clone(&sinks),
    ));
    let sources = Sources::open(&config.outside).await?;
    for (name, class) in sources.classes() {
        if node.plan.plan().class(class).is_none() {
            anyhow::bail!(
                "detection.outside.{name}.class is {class:?}, which the plan does not have"
            );
        }
    }
    let wait = config.report_wait();
    let intake = Intake::new(Arc::clone(&node), Arc::clone(&watch), sources, wait);
    let intake = Arc::new(intake);
    tasks.spawn(flush(Arc::clone(&intake)));
    let incidents = Arc::new(IncidentsService::new(config, node, watch, sinks));
    let learning = LearningService(Arc::clone(&incidents));
    Ok(Mounts {
        grpc: Routes::new(IncidentsServer::from_arc(incidents))
            .add_service(LearningServer::new(learning)),
        http: routes(intake),
        tasks,
    })
}
