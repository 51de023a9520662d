//! Bindings are renewed when a log gets another key and the certificate's key lies here.
//!
//! What a person decided stays as it was: which certificate stands for the log, and until when its binding holds. Only the keys are named anew, because the log's writer
//! has other ones (a planned rotation, another provider of the failover set). A new origin, which follows a compromise, is bound by a person.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sealwarden_anchors::binding::{self, Binding};
use sealwarden_domain::certificates::stale;
use sealwarden_domain::installation::Installation;
use sealwarden_seal::note::Vkey;
use sealwarden_wire::control::v1::BindSealCertificateRequest;

use super::{HeldCertificate, fingerprint_of};
use crate::executor::Executor;
use crate::grpc::CertificatesService;
use crate::trust::certificates::vkeys;

/// How often bindings are looked at, if nothing else happens.
const LOOK: Duration = Duration::from_mins(1);

/// A binding that still holds and does not name the keys that its log has now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Due {
    origin: String,
    certificate: String,
    vkeys: Vec<String>,
    until_ms: i64,
    why: String,
}

/// Renews bindings until shutdown.
pub(crate) async fn keep_bound(executor: Arc<Executor>) -> anyhow::Result<()> {
    let node = &executor.node;
    let folder = executor.config.seal_certificates.clone();
    let Some(folder) = folder.filter(|_| executor.config.renew_bindings) else {
        node.shutdown.cancelled().await;
        return Ok(());
    };
    let mut changes = node.board.changes();
    let mut said = None;
    loop {
        changes.mark_unchanged();
        let now_ms = node.clock.now().wall_ms;
        let due = node.board.read(|installation| due(installation, now_ms));
        for due in due {
            match renew(&executor, &folder, &due).await {
                Ok(()) => tracing::info!(
                    origin = due.origin,
                    why = due.why,
                    "the binding to the seal certificate is renewed"
                ),
                Err(error) => {
                    let error = format!("{error:#}");
                    if said.as_ref() != Some(&error) {
                        tracing::warn!(
                            origin = due.origin,
                            why = due.why,
                            error,
                            "the binding to the seal certificate is stale: run `sealwarden keys certificate bind`"
                        );
                        said = Some(error);
                    }
                }
            }
        }
        tokio::select! {
            () = node.shutdown.cancelled() => return Ok(()),
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn due(installation: &Installation, now_ms: i64) -> Vec<Due> {
    let current = installation.logs.values().filter_map(|log| log.current());
    current
        .filter(|origin| origin.isolation.is_none())
        .filter_map(|origin| {
            let certificates = &installation.trust.certificates;
            let (held, bound) = certificates.current(&origin.origin)?;
            // An end is a person's decision, and so is what follows it.
            if now_ms > bound.until_ms || now_ms > held.imported.not_after_ms {
                return None;
            }
            let vkeys = vkeys(origin);
            let why = stale(bound, &vkeys, now_ms)?;
            Some(Due {
                origin: origin.origin.clone(),
                certificate: held.imported.certificate.clone(),
                vkeys,
                until_ms: bound.until_ms,
                why,
            })
        })
        .collect()
}

async fn renew(executor: &Arc<Executor>, folder: &Path, due: &Due) -> anyhow::Result<()> {
    let now_ms = executor.node.clock.now().wall_ms;
    let (folder, wanted) = (folder.to_path_buf(), due.clone());
    let signed = tokio::task::spawn_blocking(move || {
        sign(HeldCertificate::current(&folder)?, &wanted, now_ms)
    });
    let (held, signed) = signed.await??;
    let service = CertificatesService(Arc::clone(executor));
    let by = executor.node.name.clone();
    let request = BindSealCertificateRequest {
        binding: signed.clone().into(),
    };
    service
        .record_binding(request, &by, executor.node.meta())
        .await
        .map_err(|status| anyhow::anyhow!(status.message().to_owned()))?;
    let origin = due.origin.clone();
    tokio::task::spawn_blocking(move || held.keep_binding(&origin, &signed)).await??;
    Ok(())
}

/// The renewed binding, signed.
fn sign(
    held: Option<HeldCertificate>,
    due: &Due,
    now_ms: i64,
) -> anyhow::Result<(HeldCertificate, Vec<u8>)> {
    let held = held.context("no seal certificate's key lies here")?;
    ensure!(
        held.is(&due.certificate),
        "the key that lies here is of certificate {}, and {} stands for the log",
        held.name,
        due.certificate
    );
    let signer = held.signer()?;
    ensure!(
        fingerprint_of(&signer) == due.certificate,
        "{} holds another certificate than its name says",
        held.dir().display()
    );
    let vkeys: Vec<Vkey> = due
        .vkeys
        .iter()
        .map(|it| it.parse())
        .collect::<Result<_, _>>()?;
    let (from_s, until_s) = (now_ms.div_euclid(1000), due.until_ms.div_euclid(1000));
    let renewed = Binding::new(&due.origin, vkeys, from_s, until_s)?;
    let signed = binding::sign(&renewed, &signer, now_ms)?;
    Ok((held, signed))
}
