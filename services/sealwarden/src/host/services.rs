//! Which role is which crate: the only place that knows all four.

use std::sync::Arc;

use sealwarden_engine::{Node, Role};

use super::installation::Installation;
use super::settings::Settings;
use super::start::Parts;

/// Starts one role.
pub(crate) async fn start(
    role: Role,
    node: &Arc<Node>,
    installation: &Installation,
    settings: &Settings,
) -> anyhow::Result<Parts> {
    match role {
        Role::Sealing => {
            let m = sealwarden_sealing::start(settings.sealing.clone(), Arc::clone(node)).await?;
            Ok(Parts {
                grpc: m.grpc,
                http: m.http,
                tasks: m.tasks,
            })
        }
        Role::Verification => {
            let m = sealwarden_verification::start(settings.verification.clone(), Arc::clone(node))
                .await?;
            Ok(Parts {
                grpc: m.grpc,
                http: m.http,
                tasks: m.tasks,
            })
        }
        Role::Detection => {
            let m =
                sealwarden_detection::start(settings.detection.clone(), Arc::clone(node)).await?;
            Ok(Parts {
                grpc: m.grpc,
                http: m.http,
                tasks: m.tasks,
            })
        }
        Role::RunbookExecutor => {
            let executor = &settings.runbook_executor;
            let config = sealwarden_runbook_executor::Config {
                root_key: Some(
                    executor
                        .root_key
                        .clone()
                        .unwrap_or_else(|| installation.root_key()),
                ),
                evidence_dir: Some(
                    executor
                        .evidence_dir
                        .clone()
                        .unwrap_or_else(|| installation.data.join("evidence")),
                ),
                evidence_log_dir: Some(
                    executor
                        .evidence_log_dir
                        .clone()
                        .unwrap_or_else(|| installation.data.join("evidence-log")),
                ),
                seal_certificates: Some(
                    executor
                        .seal_certificates
                        .clone()
                        .unwrap_or_else(|| installation.data.join("seal-certificate")),
                ),
                ..settings.runbook_executor.clone()
            };
            let m = sealwarden_runbook_executor::start(config, Arc::clone(node)).await?;
            Ok(Parts {
                grpc: m.grpc,
                http: m.http,
                tasks: m.tasks,
            })
        }
    }
}
