//! Which role is which crate: the only place that knows all four.

use std::sync::Arc;

use sealwarden_engine::{Node, Role};

use super::installation::Installation;
use super::start::Parts;

/// Starts one role.
pub(crate) async fn start(
    role: Role,
    node: &Arc<Node>,
    installation: &Installation,
) -> anyhow::Result<Parts> {
    match role {
        Role::Sealing => {
            let m =
                sealwarden_sealing::start(sealwarden_sealing::Config::default(), Arc::clone(node))
                    .await?;
            Ok(Parts {
                grpc: m.grpc,
                http: m.http,
                tasks: m.tasks,
            })
        }
        Role::Verification => {
            let m = sealwarden_verification::start(
                sealwarden_verification::Config::default(),
                Arc::clone(node),
            )
            .await?;
            Ok(Parts {
                grpc: m.grpc,
                http: m.http,
                tasks: m.tasks,
            })
        }
        Role::Detection => {
            let m = sealwarden_detection::start(
                sealwarden_detection::Config::default(),
                Arc::clone(node),
            )
            .await?;
            Ok(Parts {
                grpc: m.grpc,
                http: m.http,
                tasks: m.tasks,
            })
        }
        Role::RunbookExecutor => {
            let config = sealwarden_runbook_executor::Config {
                root_key: Some(installation.root_key()),
                evidence_dir: Some(installation.data.join("evidence")),
                evidence_log_dir: Some(installation.data.join("evidence-log")),
                ..sealwarden_runbook_executor::Config::default()
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
