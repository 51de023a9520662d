//! Isolation with nodes that are silent.

use std::sync::Arc;
use std::time::Instant;

use sealwarden_domain::fold::event;
use sealwarden_domain::run::Phase;
use sealwarden_engine::Meta;
use sealwarden_wire::event::v1::DirectiveRefused;
use sealwarden_wire::event::v1::event::Kind;

use super::approvers::{approve_all, approve_step};
use super::nodes::{Nodes, control};
use super::world::{INCIDENT, RUN, World, soon};

/// Until the run's step reports progress that names this.
async fn progress(world: &World, what: &str) -> Vec<String> {
    let mut changes = world.board.changes();
    soon(async {
        loop {
            changes.mark_unchanged();
            if let Some(step) = world
                .run()
                .await
                .step("isolate")
                .filter(|it| it.missing.iter().any(|it| it.contains(what)))
            {
                return step.missing.clone();
            }
            changes.changed().await.unwrap();
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_writer_is_waited_for_until_its_permit_ran_out_and_a_silent_witness_until_it_speaks()
 {
    let world = World::new();
    let nodes = Nodes::start(&world).await;
    let life = world.live(Arc::clone(&world.log)).await;
    world.compromise("ada").await;
    soon(world.board.wait_until(|i| {
        i.incidents
            .get(INCIDENT)
            .filter(|it| !it.evidence.is_empty())
            .map(drop)
    }))
    .await;
    ready(&world, "isolate").await;
    nodes.sealing.send_replace(false);
    nodes.witness.send_replace(false);
    // A fresh permit, right before the order.
    let mut stream = control(&world.log).await;
    super::nodes::request_permit(&mut stream, "second").await;
    let granted = soon(world.board.wait_until(|i| {
        i.logs["main"]
            .grants
            .get("sealing-1")
            .filter(|it| it.request_id == "second")
            .map(|_| Instant::now())
    }))
    .await;
    approve_step(&world, &life.routes, "isolate").await.unwrap();

    let missing = progress(&world, "its permit runs out in").await;
    assert!(
        missing[0].starts_with("sealing-1: no acknowledgement yet"),
        "{missing:?}"
    );
    let missing = progress(&world, "froze").await;
    assert!(
        granted.elapsed().as_millis() >= 520 - 50,
        "fenced {} ms after the grant",
        granted.elapsed().as_millis()
    );
    assert_eq!(
        missing,
        ["verification-1: has not said that the origin is frozen"]
    );
    let fenced = world
        .events("log/main")
        .await
        .into_iter()
        .find_map(|kind| match kind {
            Kind::Fenced(fenced) => Some(fenced),
            _ => None,
        });
    assert_eq!(fenced.unwrap().nodes[0].how, "permit ran out");
    assert!(
        world.board.read(|i| i.trust.suspensions.len()) == 1,
        "the key is suspended before the witness speaks"
    );

    nodes.witness.send_replace(true);
    soon(world.board.wait_until(|i| {
        i.logs["main"]
            .directives
            .values()
            .find_map(|it| it.isolated_at_ms)
    }))
    .await;
    let isolated = world
        .events("log/main")
        .await
        .into_iter()
        .find_map(|kind| match kind {
            Kind::Isolated(isolated) => Some(isolated),
            _ => None,
        });
    let isolated = isolated.unwrap();
    assert!(
        isolated.provider.starts_with("cannot: "),
        "{}",
        isolated.provider
    );
    assert_eq!(
        isolated.witness,
        "verification-1: drill.invalid/main/1 at size 0"
    );
    // Who was named did not change in between, so it was said once.
    let said = world
        .events(&format!("run/{RUN}"))
        .await
        .into_iter()
        .filter(|kind| matches!(kind, Kind::StepProgressed(p) if p.step == "isolate"))
        .count();
    assert_eq!(said, 2);

    nodes.sealing.send_replace(true);
    soon(approve_all(&world, &life.routes)).await;
    life.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_the_node_did_not_sign_is_named_and_counts_for_nothing() {
    let world = World::new();
    let nodes = Nodes::start(&world).await;
    let life = world.live(Arc::clone(&world.log)).await;
    world.compromise("ada").await;
    ready(&world, "isolate").await;
    nodes.witness.send_replace(false);
    approve_step(&world, &life.routes, "isolate").await.unwrap();
    progress(&world, "froze").await;
    let mut stream = control(&world.log).await;
    let (epoch, _) = stream.state().directives.last_key_value().unwrap();
    let forged = DirectiveRefused {
        epoch: *epoch,
        node: "verification-1".to_owned(),
        reason: "nobody asked me".to_owned(),
        note: "no signature".to_owned(),
    };
    let forged = event(Kind::DirectiveRefused(forged));
    stream
        .execute(Meta::node("somebody"), |_| Ok(vec![forged.clone()]))
        .await
        .unwrap();
    let missing = progress(&world, "does not count").await;
    assert!(
        missing[0].starts_with("a refusal in the name of verification-1 does not count"),
        "{missing:?}"
    );
    life.end().await;
}

/// Until the step can be approved.
async fn ready(world: &World, step: &str) {
    soon(async {
        while !world
            .run()
            .await
            .step(step)
            .is_some_and(|it| it.phase == Phase::Ready)
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn permit(world: &World, request: &str) {
    soon(world.board.wait_until(|i| {
        i.logs
            .get("main")?
            .grants
            .get("sealing-1")
            .filter(|it| it.request_id == request)
            .map(drop)
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_grantor_waits_a_full_lifetime() {
    let world = World::new();
    let nodes = Nodes::start(&world).await;
    nodes.sealing.send_replace(false);
    let life = world.live(Arc::clone(&world.log)).await;
    permit(&world, "first").await;
    life.end().await;
    world.compromise("ada").await;
    let life = world.live(Arc::clone(&world.log)).await;
    let started = Instant::now();
    ready(&world, "isolate").await;
    approve_step(&world, &life.routes, "isolate").await.unwrap();
    soon(world.board.wait_until(|i| {
        i.logs["main"]
            .directives
            .values()
            .find_map(|it| it.fenced_at_ms)
    }))
    .await;
    // The start of a life lies a little before what this test saw of it.
    assert!(
        started.elapsed().as_millis() >= 520 - 100,
        "fenced {} ms after the start",
        started.elapsed().as_millis()
    );
    life.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_outlasts_its_time_is_observed_and_gone_on_with() {
    let world = World::with_runbook(|text| {
        let (before, isolate) = text.split_once("action: isolate-key").unwrap();
        format!(
            "{before}action: isolate-key{}",
            isolate.replacen("timeout: 2m", "timeout: 200ms", 1)
        )
    });
    let nodes = Nodes::start(&world).await;
    nodes.witness.send_replace(false);
    let life = world.live(Arc::clone(&world.log)).await;
    world.compromise("ada").await;
    ready(&world, "isolate").await;
    approve_step(&world, &life.routes, "isolate").await.unwrap();
    soon(async {
        while !world.run().await.step("isolate").is_some_and(|it| {
            matches!(
                it.phase,
                Phase::Unknown {
                    needs_person: false,
                    ..
                }
            )
        }) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    nodes.witness.send_replace(true);
    soon(approve_all(&world, &life.routes)).await;
    let ended = world
        .events(&format!("run/{RUN}"))
        .await
        .into_iter()
        .find_map(|kind| match kind {
            Kind::StepEnded(ended) if ended.step == "isolate" => Some(ended),
            _ => None,
        });
    let ended = ended.unwrap();
    assert_eq!(
        (ended.attempt, ended.observed, ended.error.as_str()),
        (1, true, "")
    );
    life.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_the_node_did_not_sign_frees_nobody() {
    let world = World::new();
    let nodes = Nodes::start(&world).await;
    nodes.sealing.send_replace(false);
    let life = world.live(Arc::clone(&world.log)).await;
    world.compromise("ada").await;
    ready(&world, "read-only").await;
    approve_step(&world, &life.routes, "read-only")
        .await
        .unwrap();
    let directive = soon(world.board.wait_until(|i| {
        i.logs["main"]
            .directives
            .get(&1)
            .map(|it| it.directive.clone())
    }))
    .await;
    // Signed with the witness's key, in the sealing node's name.
    super::nodes::acknowledge(&mut control(&world.log).await, "sealing-1", 60, &directive).await;
    soon(async {
        loop {
            let run = world.run().await;
            let step = run.step("read-only").unwrap();
            assert_ne!(step.phase, Phase::Done);
            if step.missing.iter().any(|it| it.contains("does not count")) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    life.end().await;
}
