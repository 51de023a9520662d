//! What JetStream promises beyond the suite: lost answers, restarted servers, forged messages,
//! environments kept apart.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use sealwarden_eventlog::test_server::TestServer;
use sealwarden_eventlog::{
    AppendError, Auth, Config, Credentials, Delivery, Environment, EventLog, Filter, Head,
    NewCommit, OpenError, ReadError, Recorded, open,
};
use tokio::time::{Instant, timeout};

use crate::adapters::{commit, grow, jetstream, stream};
use crate::proxy::Proxy;
use crate::subscriptions::{commits, next};

const PATIENCE: Duration = Duration::from_mins(1);

/// Repeats one append, as the contract wants it, until it is stored.
async fn insist(log: &dyn EventLog, name: &str, expected: Head, new: &NewCommit) -> Recorded {
    let until = Instant::now() + PATIENCE;
    loop {
        match log.append(&stream(name), expected, new.clone()).await {
            Ok(stored) => return stored,
            Err(AppendError::Unknown { .. } | AppendError::Unavailable { .. }) => {
                assert!(Instant::now() < until, "the log did not come back");
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_unknown_and_stored_once_when_repeated() {
    let server = TestServer::start().unwrap();
    let proxy = Proxy::before(&server.url()).await;
    let log = open(jetstream(&proxy.url())).await.unwrap();
    let name = stream("log/main");
    let first = log
        .append(&name, Head::EMPTY, commit(1, "a"))
        .await
        .unwrap();
    proxy.mute();
    let answer = log.append(&name, first.head(), commit(2, "b")).await;
    assert!(
        matches!(answer, Err(AppendError::Unknown { .. })),
        "{answer:?}"
    );

    // Meanwhile another writer sees it stored, and goes on.
    let other = open(jetstream(&server.url())).await.unwrap();
    let stored = other.read(&name, 0, 10).await.unwrap();
    assert_eq!(stored.len(), 2);
    other
        .append(&name, stored[1].head(), commit(3, "c"))
        .await
        .unwrap();

    proxy.reconnect();
    let again = insist(&*log, "log/main", first.head(), &commit(2, "b")).await;
    assert_eq!(again, stored[1]);
    assert_eq!(log.read(&name, 0, 10).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_without_a_server_is_unavailable_and_stores_nothing() {
    let mut server = TestServer::start().unwrap();
    let log = open(jetstream(&server.url())).await.unwrap();
    let head = grow(&*log, "log/main", 1).await;
    server.kill().unwrap();
    let until = Instant::now() + PATIENCE;
    // The very first may be under way when the connection breaks.
    while !matches!(
        log.append(&stream("log/main"), head, commit(1, "x")).await,
        Err(AppendError::Unavailable { .. })
    ) {
        assert!(Instant::now() < until);
    }
    assert!(matches!(
        log.read(&stream("log/main"), 0, 1).await,
        Err(ReadError::Unavailable { .. })
    ));
    server.restart().unwrap();
    let stored = insist(&*log, "log/main", head, &commit(1, "x")).await;
    assert_eq!(
        log.read(&stream("log/main"), head.position, 10)
            .await
            .unwrap(),
        [stored]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_the_middle_costs_no_commit_and_repeats_none() {
    let mut server = TestServer::start().unwrap();
    let log = open(jetstream(&server.url())).await.unwrap();
    let mut all = log.subscribe(Filter::All, 0).await.unwrap();
    let writer = {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let mut head = Head::EMPTY;
            for _ in 0..600 {
                head = insist(&*log, "log/main", head, &NewCommit::new("x"))
                    .await
                    .head();
            }
        })
    };
    let mut seen = commits(&mut all, 100).await;
    server.restart().unwrap();
    seen.extend(commits(&mut all, 200).await);
    server.restart().unwrap();
    seen.extend(commits(&mut all, 300).await);
    writer.await.unwrap();
    assert_eq!(seen, log.read(&stream("log/main"), 0, 1_000).await.unwrap());
    loop {
        match next(&mut all).await {
            Delivery::CaughtUp(position) if position == seen[599].position => break,
            Delivery::CaughtUp(_) => {}
            Delivery::Commit(commit) => panic!("{commit:?} came twice"),
            Delivery::Damaged(damage) => panic!("{damage:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_message_is_damage_and_not_a_commit() {
    let server = TestServer::start().unwrap();
    let log = open(jetstream(&server.url())).await.unwrap();
    let nats = async_nats::connect(server.url()).await.unwrap();
    let context = async_nats::jetstream::new(nats);
    let forge = async |id: &str, headers: HeaderMap| {
        let subject = format!("suite.log.{id}");
        context
            .publish_with_headers(subject, headers, "x".into())
            .await
            .unwrap()
            .await
            .unwrap();
    };
    let honest = |hash: [u8; 32]| {
        let mut headers = HeaderMap::new();
        headers.insert("Sealwarden-Commit", "01".repeat(16));
        headers.insert("Sealwarden-Prev", "00".repeat(32));
        headers.insert("Sealwarden-Hash", hex::encode(hash));
        headers
    };
    forge("bare", HeaderMap::new()).await;
    forge("hash", honest([7; 32])).await;
    // On other streams it goes on, and whoever follows all of them hears where.
    let other = stream("log/other");
    let stored = log.append(&other, Head::EMPTY, commit(2, "x")).await;
    let mut all = log.subscribe(Filter::All, 0).await.unwrap();
    let mut damaged = Vec::new();
    loop {
        match next(&mut all).await {
            Delivery::Damaged(damage) => damaged.push(damage.stream.to_string()),
            Delivery::Commit(commit) => assert_eq!(commit, stored.clone().unwrap()),
            Delivery::CaughtUp(_) => break,
        }
    }
    assert_eq!(damaged, ["log/bare", "log/hash"]);
    // Well formed in itself, but it claims another place than the one the server gave it.
    let name = stream("log/place");
    let mut misplaced = honest(Recorded::chain_hash(
        &[0; 32],
        &name,
        commit(1, "").id,
        b"x",
    ));
    misplaced.insert("Nats-Sequence", "99");
    forge("place", misplaced).await;
    for id in ["bare", "hash", "place"] {
        let name = stream(&format!("log/{id}"));
        let answer = log.read(&name, 0, 10).await;
        assert!(
            matches!(answer, Err(ReadError::Corrupt { .. })),
            "{id}: {answer:?}"
        );
        let mut subscription = log.subscribe(Filter::Stream(name), 0).await.unwrap();
        let delivery = timeout(PATIENCE, subscription.next()).await.unwrap();
        assert!(
            matches!(delivery, Some(Err(ReadError::Corrupt { .. }))),
            "{id}"
        );
        assert_eq!(subscription.next().await, None);
    }
}

fn config(server: &TestServer, prefix: &str, environment: Environment) -> Config {
    Config::JetStream {
        url: server.url(),
        credentials: None,
        prefix: prefix.to_owned(),
        environment,
    }
}

#[tokio::test]
async fn production_and_drill_are_kept_apart() {
    let server = TestServer::start().unwrap();
    assert!(
        open(config(&server, "exercise", Environment::Drill))
            .await
            .is_ok()
    );
    let wrong = open(config(&server, "exercise", Environment::Production))
        .await
        .err();
    assert!(
        matches!(wrong, Some(OpenError::WrongEnvironment { .. })),
        "{wrong:?}"
    );

    assert!(
        open(config(&server, "real", Environment::Production))
            .await
            .is_ok()
    );
    for prefix in ["real", "exercise", "another"] {
        let wrong = open(config(&server, prefix, Environment::Drill))
            .await
            .err();
        assert!(
            matches!(wrong, Some(OpenError::WrongEnvironment { .. })),
            "{wrong:?}"
        );
    }
}

#[tokio::test]
async fn installations_with_different_prefixes_do_not_see_each_other() {
    let server = TestServer::start().unwrap();
    let one = open(config(&server, "one", Environment::Production))
        .await
        .unwrap();
    let two = open(config(&server, "two", Environment::Production))
        .await
        .unwrap();
    grow(&*one, "log/main", 3).await;
    assert_eq!(two.last_position().await.unwrap(), 0);
    assert_eq!(two.head(&stream("log/main")).await.unwrap(), Head::EMPTY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_open_a_new_installation_at_once_share_it() {
    let server = TestServer::start().unwrap();
    let opening: Vec<_> = (0..6)
        .map(|_| tokio::spawn(open(jetstream(&server.url()))))
        .collect();
    let mut logs = Vec::new();
    for task in opening {
        logs.push(task.await.unwrap().unwrap());
    }
    let mut watcher = logs[5].subscribe(Filter::All, 0).await.unwrap();
    assert_eq!(next(&mut watcher).await, Delivery::CaughtUp(0));
    let head = grow(&*logs[0], "log/main", 1).await;
    assert_eq!(commits(&mut watcher, 1).await[0].head(), head);
}

#[tokio::test]
async fn a_stream_or_server_that_would_lose_commits_is_refused() {
    let server = TestServer::start().unwrap();
    let nats = async_nats::connect(server.url()).await.unwrap();
    let context = async_nats::jetstream::new(nats);
    let ageing = async_nats::jetstream::stream::Config {
        name: "SEALWARDEN_suite".to_owned(),
        subjects: vec!["suite.*.*".to_owned()],
        max_age: Duration::from_hours(1),
        metadata: [("sealwarden-environment".to_owned(), "production".to_owned())].into(),
        ..Default::default()
    };
    context.create_stream(ageing).await.unwrap();
    let refused = open(jetstream(&server.url())).await.err();
    assert!(
        matches!(&refused, Some(OpenError::Invalid { reason }) if reason.contains("max_age")),
        "{refused:?}"
    );

    let narrow = TestServer::start_with("max_payload: 65536").unwrap();
    let refused = open(jetstream(&narrow.url())).await.err();
    assert!(
        matches!(&refused, Some(OpenError::Invalid { reason }) if reason.contains("max_payload"))
    );
}

#[tokio::test]
async fn credentials_are_used_and_an_absent_server_is_unavailable() {
    let mut server =
        TestServer::start_with("authorization { users = [{ user: ann, password: secret }] }")
            .unwrap();
    let with = |password: &str| {
        let auth = Auth::User {
            user: "ann".to_owned(),
            password: password.to_owned(),
        };
        Config::JetStream {
            url: server.url(),
            credentials: Some(Credentials { auth, tls: None }),
            prefix: "suite".to_owned(),
            environment: Environment::Production,
        }
    };
    let (right, wrong) = (with("secret"), with("guess"));
    assert!(open(right.clone()).await.is_ok());
    assert!(matches!(
        open(wrong).await.err(),
        Some(OpenError::Unavailable { .. })
    ));
    server.kill().unwrap();
    assert!(matches!(
        open(right).await.err(),
        Some(OpenError::Unavailable { .. })
    ));
}
