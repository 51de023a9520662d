//! The executor dies at every single append, on either side of it, and the run goes on.

use std::sync::Arc;

use sealwarden_eventlog::EventLog;

use super::approvers::approve_all;
use super::cutting::{Cutting, Side};
use super::nodes::Nodes;
use super::whole_run::assert_completed_once;
use super::world::{World, soon};

/// More lives than any run needs.
const MAX_LIVES: usize = 400;

/// Each life dies at its append `at`. What the world asks of it in the meantime is asked again in the next one.
async fn in_many_lives(at: i64, side: Side) -> usize {
    let world = World::new();
    let _nodes = Nodes::start(&world).await;
    world.compromise("ada").await;
    for lives in 1..MAX_LIVES {
        let log = Cutting::new(Arc::clone(&world.log), at, side);
        let seen: Arc<dyn EventLog> = log.clone();
        let life = world.live(seen).await;
        let ended = soon(async {
            tokio::select! {
                () = log.dead.cancelled() => false,
                () = approve_all(&world, &life.routes) => true,
            }
        })
        .await;
        life.die().await;
        if ended {
            assert_completed_once(&world).await;
            return lives;
        }
    }
    panic!("the run did not end in {MAX_LIVES} lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_ends_after_each_append_still_completes_the_run_and_no_effect_happens_twice() {
    let lives = in_many_lives(1, Side::After).await;
    assert!(
        lives > 60,
        "only {lives} lives: the executor did not die at every append"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_that_ends_before_its_second_append_still_completes_the_run_and_no_effect_happens_twice()
 {
    let lives = in_many_lives(2, Side::Before).await;
    assert!(
        lives > 30,
        "only {lives} lives: the executor did not die at every other append"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_end_and_a_new_start_go_on_where_the_run_was() {
    let world = World::new();
    let _nodes = Nodes::start(&world).await;
    world.compromise("ada").await;
    let life = world.live(Arc::clone(&world.log)).await;
    soon(world.board.wait_until(|i| {
        i.incidents
            .values()
            .next()
            .filter(|it| !it.evidence.is_empty())
            .map(drop)
    }))
    .await;
    life.end().await;
    let life = world.live(Arc::clone(&world.log)).await;
    soon(approve_all(&world, &life.routes)).await;
    assert_completed_once(&world).await;
    life.end().await;
}
