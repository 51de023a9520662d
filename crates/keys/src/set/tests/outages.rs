//! One provider slow, failing, hanging or absent: what its callers and those of the others notice.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Instant,
};

use super::*;
use crate::{HealthCounts, faults::Fault, sign_within};

/// A set with the key `one` in the first member and `two` in the second.
async fn with_keys(world: &World) -> FailoverSet {
    let set = world.open().await;
    set.create(&in_member("one", "first")).await.unwrap();
    set.create(&in_member("two", "second")).await.unwrap();
    set
}

async fn sign(set: &FailoverSet, key: &str) -> Result<Signature, KeyError> {
    set.sign(&id(key), Purpose::Sealing, b"m").await
}

#[tokio::test]
async fn a_failing_provider_goes_out_says_why_and_comes_back_by_probes_alone() {
    let world = World::new().await;
    let set = with_keys(&world).await;
    sign(&set, "one").await.unwrap();
    world.faults[0].set(Fault::Fail("the HSM is on fire".to_owned()));
    for _ in 0..2 {
        let failed = sign(&set, "one").await;
        assert!(
            matches!(failed, Err(KeyError::Unavailable { .. })),
            "{failed:?}"
        );
    }
    let refused = sign(&set, "one").await.unwrap_err();
    let KeyError::Out { provider, reason } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(provider, "first");
    assert!(reason.contains("on fire"), "{reason}");
    assert!(!set.health("first").unwrap().state.is_closed());
    sign(&set, "two").await.unwrap();
    assert_eq!(set.health("second").unwrap().state, HealthState::Closed);

    // Nobody calls: probes bring it back.
    world.faults[0].set(Fault::None);
    reaches(&set, "first", "closed").await;
    sign(&set, "one").await.unwrap();
    let health = set.health("first").unwrap();
    assert_eq!(
        (
            health.counts.failed,
            health.counts.refused,
            health.counts.opened
        ),
        (2, 1, 1)
    );
    assert!(health.last_failure.is_some() && health.last_good_at_ms.is_some());
    assert!(!health.latencies_ms.is_empty());
}

#[tokio::test]
async fn a_refusal_that_is_the_callers_fault_does_not_count_against_a_provider() {
    let world = World::new().await;
    let set = with_keys(&world).await;
    for _ in 0..5 {
        let wrong = set.sign(&id("one"), Purpose::Node, b"m").await;
        assert!(
            matches!(wrong, Err(KeyError::WrongPurpose { .. })),
            "{wrong:?}"
        );
    }
    assert_eq!(set.health("first").unwrap().state, HealthState::Closed);
}

#[tokio::test]
async fn a_hanging_provider_costs_its_callers_a_deadline_and_the_others_nothing() {
    let world = World::new().await;
    let set = Arc::new(with_keys(&world).await);
    world.faults[0].set(Fault::Hang);
    let begun = Instant::now();
    let stuck = tokio::spawn({
        let set = Arc::clone(&set);
        async move { sign(&set, "one").await }
    });
    for _ in 0..20 {
        sign(&set, "two").await.unwrap();
    }
    assert!(
        begun.elapsed() < Duration::from_millis(300),
        "{:?}",
        begun.elapsed()
    );
    let late = stuck.await.unwrap();
    assert!(
        matches!(
            late,
            Err(KeyError::Timeout {
                deadline_ms: 300,
                ..
            })
        ),
        "{late:?}"
    );
    // A caller with less patience is not waited for, and its call counts all the same.
    let soon = Duration::from_millis(10);
    let late = sign_within(set.as_ref(), &id("one"), Purpose::Sealing, b"m", soon).await;
    assert!(
        matches!(
            late,
            Err(KeyError::Timeout {
                deadline_ms: 10,
                ..
            })
        ),
        "{late:?}"
    );
    reaches(&set, "first", "open").await;
    assert_eq!(set.health("first").unwrap().counts.timed_out, 2);
    world.faults[0].set(Fault::None);
    reaches(&set, "first", "closed").await;
    sign(&set, "one").await.unwrap();
}

#[tokio::test]
async fn calls_under_way_are_bounded_and_the_next_one_is_told_so() {
    let mut world = World::new().await;
    world.members[0].deadline = Duration::from_mins(1);
    let set = Arc::new(with_keys(&world).await);
    world.faults[0].set(Fault::Hang);
    let mut stuck = JoinSet::new();
    for _ in 0..4 {
        let set = Arc::clone(&set);
        stuck.spawn(async move { sign(&set, "one").await });
    }
    for _ in 0..2_000 {
        if set.health("first").unwrap().in_flight == 4 {
            break;
        }
        // bounded poll: a call that hangs tells nobody that it has begun
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let busy = sign(&set, "one").await;
    assert_eq!(
        busy,
        Err(KeyError::Busy {
            provider: "first".to_owned(),
            in_flight: 4
        })
    );
    sign(&set, "two").await.unwrap();
    world.faults[0].set(Fault::None);
    while let Some(signed) = stuck.join_next().await {
        signed.unwrap().unwrap();
    }
    sign(&set, "one").await.unwrap();
    let health = set.health("first").unwrap();
    assert_eq!((health.in_flight, health.counts.busy), (0, 1));
}

#[tokio::test]
async fn a_provider_that_is_slow_for_a_whole_window_goes_out() {
    let mut world = World::new().await;
    world.members[0].breaker = BreakerConfig {
        slow_ms: 20,
        slow_window_ms: 60,
        slow_calls: 3,
        pause_ms: 60_000,
        longest_pause_ms: 60_000,
        ..BreakerConfig::default()
    };
    let set = with_keys(&world).await;
    world.faults[0].set(Fault::Delay(Duration::from_millis(40)));
    let mut signed = 0;
    while sign(&set, "one").await.is_ok() {
        signed += 1;
        assert!(signed < 10, "it stays in");
    }
    let health = set.health("first").unwrap();
    let HealthState::Open { reason, .. } = &health.state else {
        panic!("{health:?}")
    };
    assert!(reason.contains("took more than 20 ms each"), "{reason}");
    let HealthCounts { slow, failed, .. } = health.counts;
    assert_eq!((slow, failed), (signed, 0));
}

#[tokio::test]
async fn keys_of_a_provider_that_is_away_are_still_known() {
    let world = World::new().await;
    let set = with_keys(&world).await;
    let known = set.info(&id("one")).await.unwrap();
    world.faults[0].set(Fault::Fail("gone".to_owned()));
    while !matches!(sign(&set, "one").await, Err(KeyError::Out { .. })) {}
    assert_eq!(set.info(&id("one")).await.unwrap(), known);
    assert_eq!(set.list().await.unwrap().len(), 2);
    // What ends a key is tried whatever the breaker says.
    set.disable(&id("one")).await.unwrap();
}

/// A provider that comes up when it is let.
struct Late {
    up: AtomicBool,
    provider: Arc<dyn KeyProvider>,
}

#[async_trait]
impl Opener for Late {
    async fn open(&self) -> Result<Arc<dyn KeyProvider>, KeyError> {
        if self.up.load(Ordering::SeqCst) {
            return Ok(Arc::clone(&self.provider));
        }
        Err(KeyError::Unavailable {
            reason: "no token".to_owned(),
        })
    }
}

#[tokio::test]
async fn a_provider_that_is_missing_at_the_start_joins_later_and_all_missing_is_an_error() {
    let mut world = World::new().await;
    let late = Arc::new(Late {
        up: AtomicBool::new(false),
        provider: software(world.root.path(), "late").await,
    });
    world.members[0] = opened_by("late", late.clone());
    let set = world.open().await;
    let health = set.health("late").unwrap();
    assert!(!health.state.is_closed(), "{health:?}");
    let refused = set.create(&sealing("one")).await;
    assert!(matches!(refused, Err(KeyError::Out { .. })), "{refused:?}");
    set.create(&in_member("two", "second")).await.unwrap();
    sign(&set, "two").await.unwrap();
    assert!(set.probe("late").await.is_err());

    late.up.store(true, Ordering::SeqCst);
    reaches(&set, "late", "closed").await;
    set.create(&sealing("one")).await.unwrap();
    sign(&set, "one").await.unwrap();
    assert_eq!(set.audit_after(0, 10).await.unwrap().len(), 2);
    drop(set);

    // Its key is known, so that nobody else's is taken for it.
    late.up.store(false, Ordering::SeqCst);
    let set = world.open().await;
    let refused = sign(&set, "one").await;
    assert!(matches!(refused, Err(KeyError::Out { .. })), "{refused:?}");
    drop(set);
    world.members.truncate(1);
    assert!(world.refusal().await.to_string().contains("no token"));
}

#[tokio::test]
async fn an_idle_standby_that_dies_is_known_to_have_before_it_is_needed() {
    let mut world = World::new().await;
    world.members[1].probe_every = Duration::from_millis(10);
    let set = with_keys(&world).await;
    world.faults[1].set(Fault::Fail("pulled out".to_owned()));
    reaches(&set, "second", "open").await;
    assert_eq!(set.health("second").unwrap().counts.failed, 0);
    assert_eq!(set.health("first").unwrap().state, HealthState::Closed);
}
