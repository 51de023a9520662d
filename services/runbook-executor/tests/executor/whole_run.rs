//! A run from the classified incident to its closing, and who may do what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sealwarden_domain::approval::{Environment, sign};
use sealwarden_pki::CallerRole;
use sealwarden_seal::record::Record;
use sealwarden_seal::trust::{LogState, Payload, Quorum, TrustBundle};
use sealwarden_wire::control::v1::StatusRequest;
use sealwarden_wire::control::v1::control_client::ControlClient;
use sealwarden_wire::event::v1::IncidentStage;
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::run::v1::ShowRequest;
use sealwarden_wire::run::v1::runs_client::RunsClient;

use super::approvers::{approve, approve_all, called_by, prepare, show, statement, submit};
use super::nodes::{Nodes, SEALS};
use super::world::{INCIDENT, ORIGIN, RUN, World, soon, ssh_key};

/// Everything that must be true of a run that ended, however often it was interrupted.
pub(crate) async fn assert_completed_once(world: &World) {
    let run = world.run().await;
    assert_eq!(
        run.ended().map(|end| end.reason.as_str()),
        Some("all 12 steps are done")
    );
    let directives: Vec<(String, i32)> = world
        .events("log/main")
        .await
        .into_iter()
        .filter_map(|kind| match kind {
            Kind::DirectiveIssued(issued) => issued.directive.map(|d| (d.step, d.kind)),
            _ => None,
        })
        .collect();
    let steps: BTreeSet<&str> = directives.iter().map(|(step, _)| step.as_str()).collect();
    assert_eq!(directives.len(), 5, "{directives:?}");
    assert_eq!(
        steps,
        BTreeSet::from(["isolate", "read-only", "rotate", "reseal", "resume"])
    );

    let trust = world.events("trust/acme").await;
    let versions: Vec<u64> = trust
        .iter()
        .filter_map(|kind| match kind {
            Kind::TrustPublished(published) => Some(published.version),
            _ => None,
        })
        .collect();
    assert_eq!(versions, [1, 2], "the first bundle and the run's own");
    assert_eq!(trust.len(), 3, "and one suspension");

    let bundles: Vec<_> = std::fs::read_dir(world.evidence_dir().join(INCIDENT))
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(bundles.len(), 2, "{bundles:?}");
    let incident = world.board.read(|i| i.incidents[INCIDENT].clone());
    assert_eq!(incident.evidence.len(), 2);
    assert_eq!(incident.runs.len(), 1);
    for stage in [
        IncidentStage::Contained,
        IncidentStage::Recovering,
        IncidentStage::Revalidated,
        IncidentStage::Closed,
    ] {
        assert!(incident.reached_at(stage).is_some(), "{stage:?}");
    }
    assert_two_bundles_are_sealed(world);
    assert_no_step_began_unapproved(world).await;
}

/// The evidence log holds the event log's heads, too.
fn assert_two_bundles_are_sealed(world: &World) {
    let log = sealwarden_seallog::LogReader::open(&world.dir.path().join("executor/evidence-log"))
        .unwrap();
    let bundles = log
        .view()
        .unwrap()
        .iter()
        .map(|leaf| Record::decode(&leaf.unwrap().1.record).unwrap())
        .filter(|record| record.policy == "evidence")
        .count();
    assert_eq!(bundles, 2);
}

/// Walks the run's stream: when a step starts, enough different people stand for it.
pub(crate) async fn assert_no_step_began_unapproved(world: &World) {
    let run = world.run().await;
    let pinned = run.pinned().unwrap();
    let mut approved: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for kind in world.events(&format!("run/{RUN}")).await {
        match kind {
            Kind::ApprovalRecorded(recorded) => {
                approved
                    .entry(recorded.step)
                    .or_default()
                    .insert(recorded.person);
            }
            Kind::StepStarted(started) => {
                let needed = pinned
                    .quorum(&started.step)
                    .map_or(0, sealwarden_runbook::Quorum::people);
                let have = approved.get(&started.step).map_or(0, BTreeSet::len);
                assert!(
                    have >= usize::try_from(needed).unwrap(),
                    "{} began with {have} of {needed}",
                    started.step
                );
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_answered_from_its_classification_to_its_closing() {
    let world = World::new();
    let _nodes = Nodes::start(&world).await;
    let life = world.live(Arc::clone(&world.log)).await;
    world.compromise("ada").await;
    soon(approve_all(&world, &life.routes)).await;
    assert_completed_once(&world).await;

    let run = world.run().await;
    let output = |step: &str, name: &str| run.step(step).unwrap().outputs[name].clone();
    assert_eq!(output("rotate", "origin"), "drill.invalid/main/2");
    assert_eq!(output("find-affected", "covered"), SEALS.to_string());
    assert_eq!(output("reverify", "verified"), SEALS.to_string());
    assert_eq!(output("reseal", "reported"), "7");
    assert_eq!(run.pinned().unwrap().started().requesters, ["ada"]);

    let bundle = world.board.read(|i| i.trust.published.clone().unwrap());
    let verified = TrustBundle::parse(&bundle.bundle)
        .unwrap()
        .open(None)
        .unwrap();
    let payload: &Payload = verified.payload();
    let old = payload
        .logs
        .iter()
        .find(|log| log.origin == ORIGIN)
        .unwrap();
    assert_eq!(
        (old.state, old.successor.as_deref()),
        (LogState::Frozen, Some("drill.invalid/main/2"))
    );
    assert_eq!(
        (payload.version, &payload.quorum, payload.clock_skew_s),
        (2, &Quorum::Count(1), 300)
    );
    assert_eq!(output("publish-trust", "digest"), bundle.digest);

    let request = called_by(CallerRole::Node, StatusRequest {});
    let status = ControlClient::new(life.routes.clone())
        .status(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            status.trust_version,
            status.open_incidents,
            status.open_runs
        ),
        (2, 0, 0)
    );
    assert_eq!(status.logs[0].origins[0].state, "isolated");
    assert_eq!(status.logs[0].mode, "open");
    life.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_needs_people_begins_without_them() {
    let world = World::new();
    let _nodes = Nodes::start(&world).await;
    let life = world.live(Arc::clone(&world.log)).await;
    world.compromise("mara.lindqvist").await;
    soon(world.board.wait_until(|i| {
        i.incidents
            .get(INCIDENT)
            .filter(|it| !it.evidence.is_empty())
            .map(drop)
    }))
    .await;
    let run = soon(async {
        loop {
            let run = show(&life.routes).await.unwrap();
            if run
                .steps
                .iter()
                .any(|it| it.step == "isolate" && it.state == "awaiting-approval")
            {
                return run;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(run.state, "waiting");

    let early = prepare(&life.routes, "rotate").await.unwrap_err();
    assert_eq!(early.code(), tonic::Code::FailedPrecondition, "{early}");
    let requester = approve(&world, &life.routes, "isolate", "mara.lindqvist")
        .await
        .unwrap();
    assert_eq!(
        (requester.accepted, requester.code.as_str()),
        (false, "requester")
    );
    let wrong_role = approve(&world, &life.routes, "isolate", "leila.haddad")
        .await
        .unwrap();
    assert_eq!(wrong_role.code, "wrong-role");

    let prepared = prepare(&life.routes, "isolate").await.unwrap();
    let text = statement(&prepared, "tomas.okafor").to_string();
    let signature = sign(&text, &ssh_key(200), Environment::Drill.namespace()).unwrap();
    assert_eq!(
        submit(&life.routes, text.clone(), signature)
            .await
            .unwrap()
            .code,
        "unknown-key"
    );
    let signature = sign(
        &text,
        &world.people["tomas.okafor"],
        Environment::Drill.namespace(),
    )
    .unwrap();
    let edited = text.replace("step: isolate", "step: read-only");
    assert_eq!(
        submit(&life.routes, edited, signature.clone())
            .await
            .unwrap()
            .code,
        "altered"
    );
    assert!(
        submit(&life.routes, text.clone(), signature.clone())
            .await
            .unwrap()
            .accepted
    );
    assert_eq!(
        submit(&life.routes, text, signature).await.unwrap().code,
        "replayed"
    );
    let garbage = submit(&life.routes, "approve everything".to_owned(), String::new())
        .await
        .unwrap();
    assert_eq!(garbage.code, "malformed");
    let long = submit(&life.routes, "x".repeat(5_000), String::new())
        .await
        .unwrap_err();
    assert_eq!(long.code(), tonic::Code::InvalidArgument);

    let started: Vec<String> = world
        .events(&format!("run/{RUN}"))
        .await
        .into_iter()
        .filter_map(|kind| match kind {
            Kind::StepStarted(started) => Some(started.step),
            _ => None,
        })
        .collect();
    assert_eq!(started, ["snapshot"]);
    assert_eq!(world.run().await.refused().len(), 5);
    life.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_other_roles_are_turned_away() {
    let world = World::new();
    let _nodes = Nodes::start(&world).await;
    let life = world.live(Arc::clone(&world.log)).await;
    let stranger = called_by(
        CallerRole::Sealer,
        ShowRequest {
            run: RUN.to_owned(),
        },
    );
    let denied = RunsClient::new(life.routes.clone())
        .show(stranger)
        .await
        .unwrap_err();
    assert_eq!(denied.code(), tonic::Code::PermissionDenied);
    let nobody = tonic::Request::new(ShowRequest {
        run: RUN.to_owned(),
    });
    assert_eq!(
        RunsClient::new(life.routes.clone())
            .show(nobody)
            .await
            .unwrap_err()
            .code(),
        tonic::Code::Unauthenticated
    );
    life.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_run_never_stops_the_others() {
    let world = World::new();
    let _nodes = Nodes::start(&world).await;
    let stray = sealwarden_wire::event::v1::RunStarted {
        run: "R-bad".to_owned(),
        ..Default::default()
    };
    world
        .append(
            "run/R-bad",
            vec![sealwarden_domain::fold::event(Kind::RunStarted(stray))],
        )
        .await;
    let life = world.live(Arc::clone(&world.log)).await;
    world.compromise("ada").await;
    soon(approve_all(&world, &life.routes)).await;
    assert!(world.run().await.ended().is_some());
    life.end().await;
}
