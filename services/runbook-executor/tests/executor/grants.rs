//! Permits: one holder, one grant a request, none after an isolation.

use std::collections::BTreeMap;
use std::sync::Arc;

use sealwarden_domain::fold::event;
use sealwarden_wire::event::v1::{PermitRequested, event::Kind};

use super::approvers::approve_step;
use super::nodes::{Nodes, control, request_permit};
use super::world::{ORIGIN, World, soon};

async fn grants(world: &World) -> BTreeMap<String, Vec<String>> {
    let mut grants: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for kind in world.events("log/main").await {
        if let Kind::PermitGranted(granted) = kind {
            grants
                .entry(granted.node)
                .or_default()
                .push(granted.request_id);
        }
    }
    grants
}

async fn granted(world: &World, request: &str) {
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
async fn each_request_of_the_writer_is_granted_once_and_nobody_elses_ever() {
    let world = World::new();
    let _nodes = Nodes::start(&world).await;
    let life = world.live(Arc::clone(&world.log)).await;
    granted(&world, "first").await;
    // Forged: no honest decider writes it.
    let forged = PermitRequested {
        node: "verification-1".to_owned(),
        request_id: "forged".to_owned(),
        origin: ORIGIN.to_owned(),
    };
    world
        .append("log/main", vec![event(Kind::PermitRequested(forged))])
        .await;
    let mut stream = control(&world.log).await;
    for request in ["a", "b", "c"] {
        request_permit(&mut stream, request).await;
        granted(&world, request).await;
        stream.refresh().await.unwrap();
    }
    life.end().await;
    let life = world.live(Arc::clone(&world.log)).await;
    request_permit(&mut stream, "after a restart").await;
    granted(&world, "after a restart").await;
    let expected = ["first", "a", "b", "c", "after a restart"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(
        grants(&world).await,
        BTreeMap::from([("sealing-1".to_owned(), expected)])
    );
    life.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_permit_is_granted_once_the_isolation_is_ordered() {
    let world = World::new();
    let _nodes = Nodes::start(&world).await;
    let life = world.live(Arc::clone(&world.log)).await;
    granted(&world, "first").await;
    world.compromise("ada").await;
    soon(async {
        while world
            .run()
            .await
            .step("isolate")
            .is_none_or(|it| it.inputs.is_none())
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    approve_step(&world, &life.routes, "isolate").await.unwrap();
    soon(world.board.wait_until(|i| {
        i.logs["main"]
            .directives
            .values()
            .find_map(|it| it.isolated_at_ms)
    }))
    .await;
    let mut stream = control(&world.log).await;
    request_permit(&mut stream, "too late").await;
    // The next thing that the grantor certainly looked at after the request.
    approve_step(&world, &life.routes, "read-only")
        .await
        .unwrap();
    soon(async {
        while world
            .run()
            .await
            .step("read-only")
            .is_none_or(|it| it.outputs.is_empty())
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(grants(&world).await["sealing-1"], ["first"]);
    life.end().await;
}
