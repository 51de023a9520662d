//! One stream and the commands against it.

use std::sync::Arc;

use sealwarden_domain::{Rejection, RejectionCode};
use sealwarden_engine::{ExecuteError, Meta, Stream};
use sealwarden_eventlog::Head;
use sealwarden_eventlog::faults::{AppendFault, ReadFault};
use sealwarden_wire::event::v1::{Actor, actor};

use crate::support::{ILLEGAL, Seen, faulty, load, name, port, put, soon, stored, word};

fn meta() -> Meta {
    Meta::node("a")
}

/// Says a word once, whoever said it.
fn once(
    text: &str,
) -> impl FnMut(&Seen) -> Result<Vec<sealwarden_wire::event::v1::Event>, Rejection> {
    let text = text.to_owned();
    move |seen| {
        Ok(if seen.words.contains(&text) {
            Vec::new()
        } else {
            vec![word(&text)]
        })
    }
}

#[tokio::test]
async fn a_lost_race_is_decided_anew_on_what_the_winner_wrote() {
    let log = faulty();
    let (mut first, mut second) = (load(&log, "a").await, load(&log, "a").await);
    first.execute(meta(), once("x")).await.unwrap();
    let mut decided_on = Vec::new();
    let executed = second
        .execute(meta(), |seen| {
            decided_on.push(seen.words.len());
            Ok(vec![word(&format!("after {}", seen.words.len()))])
        })
        .await
        .unwrap();
    assert_eq!(decided_on, [0, 1]);
    assert_eq!(second.state().words, ["x", "after 1"]);
    assert_eq!(executed.position, second.head().position);
    assert_eq!(stored(&log, "a").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_say_everything_once() {
    let log = faulty();
    let writers = (0..4).map(|_| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let mut stream = load(&log, "a").await;
            for number in 0..50 {
                stream
                    .execute(meta(), once(&number.to_string()))
                    .await
                    .unwrap();
            }
            stream.state().words.len()
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        assert!(soon(writer).await.unwrap() >= 50);
    }
    let mut words = load(&log, "a").await.state().words.clone();
    words.sort();
    words.dedup();
    assert_eq!((words.len(), stored(&log, "a").await.len()), (50, 50));
}

#[tokio::test]
async fn no_answer_is_asked_again_until_there_is_one_commit() {
    let cases = [
        vec![AppendFault::Lost],
        vec![AppendFault::StoredUnknown],
        vec![AppendFault::Lost, AppendFault::StoredUnknown],
        vec![AppendFault::StoredUnknown, AppendFault::Lost],
    ];
    for faults in cases {
        let log = faulty();
        let mut stream = load(&log, "a").await;
        log.script_appends(faults.clone());
        let executed = soon(stream.execute(meta(), once("x"))).await.unwrap();
        assert_eq!(log.appends_left(), 0);
        let commits = stored(&log, "a").await;
        assert_eq!(commits.len(), 1, "{faults:?}");
        assert_eq!(executed.position, commits[0].position);
        assert_eq!(executed.recorded_at_ms, commits[0].recorded_at_ms);
        assert_eq!(stream.state().words, ["x"]);
    }
}

#[tokio::test]
async fn no_answer_and_then_a_conflict_means_that_another_was_first() {
    let log = faulty();
    let (mut stream, mut other) = (load(&log, "a").await, load(&log, "a").await);
    other.execute(meta(), once("y")).await.unwrap();
    log.script_appends([AppendFault::Lost]);
    soon(stream.execute(meta(), once("x"))).await.unwrap();
    assert_eq!(stream.state().words, ["y", "x"]);
    assert_eq!(stored(&log, "a").await.len(), 2);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_unknown_and_the_next_command_finds_out() {
    let log = faulty();
    let mut stream = load(&log, "a").await;
    log.script_appends([AppendFault::StoredUnknown, AppendFault::Unavailable]);
    let unknown = soon(stream.execute(meta(), once("x"))).await.unwrap_err();
    assert!(matches!(unknown, ExecuteError::Unknown(_)), "{unknown}");
    assert!(stream.state().words.is_empty());
    let executed = stream.execute(meta(), once("x")).await.unwrap();
    assert_eq!((executed.events.len(), executed.recorded_at_ms), (0, 0));
    assert_eq!(executed.position, stream.head().position);
    assert_eq!(
        (stream.state().words.len(), stored(&log, "a").await.len()),
        (1, 1)
    );
}

#[tokio::test]
async fn an_unavailable_log_stores_nothing_and_says_so() {
    let log = faulty();
    let mut stream = load(&log, "a").await;
    log.set_down(true);
    let error = stream.execute(meta(), once("x")).await.unwrap_err();
    assert!(matches!(error, ExecuteError::Unavailable(_)), "{error}");
    let loading = port(&log);
    let error = Stream::load(loading, name("a"), Seen::default())
        .await
        .err()
        .unwrap();
    assert!(matches!(error, ExecuteError::Unavailable(_)), "{error}");
    log.set_down(false);
    stream.execute(meta(), once("x")).await.unwrap();
    assert_eq!(stored(&log, "a").await.len(), 1);
}

#[tokio::test]
async fn a_refusal_rests_on_the_newest_state() {
    let log = faulty();
    let (mut stream, mut other) = (load(&log, "a").await, load(&log, "a").await);
    other.execute(meta(), once("open")).await.unwrap();
    let mut answer = |seen: &Seen| {
        if seen.words.contains(&"open".to_owned()) {
            Ok(vec![word("in")])
        } else {
            Err(Rejection::new(RejectionCode::NotNow, "closed"))
        }
    };
    stream.execute(meta(), &mut answer).await.unwrap();
    assert_eq!(stream.state().words, ["open", "in"]);

    other.execute(meta(), once("more")).await.unwrap();
    let refused = stream
        .execute(meta(), |seen| {
            Err(Rejection::new(
                RejectionCode::Refused,
                format!("{} words", seen.words.len()),
            ))
        })
        .await
        .unwrap_err();
    let ExecuteError::Rejected(rejection) = refused else {
        panic!("{refused}")
    };
    assert_eq!(rejection.reason, "3 words");
    assert_eq!(stored(&log, "a").await.len(), 3, "a refusal stores nothing");
}

#[tokio::test]
async fn a_short_page_is_not_the_end() {
    let log = faulty();
    let mut writer = load(&log, "a").await;
    for number in 0..5 {
        writer
            .execute(meta(), once(&number.to_string()))
            .await
            .unwrap();
    }
    log.script_reads([ReadFault::Cut(1), ReadFault::Cut(2)]);
    assert_eq!(load(&log, "a").await.state().words.len(), 5);
}

#[tokio::test]
async fn a_fold_is_given_position_time_id_and_actor_of_each_commit() {
    let log = faulty();
    let mut stream = load(&log, "a").await;
    load(&log, "b")
        .await
        .execute(meta(), once("elsewhere"))
        .await
        .unwrap();
    let said = meta().correlated("I-1").caused_by("S-1").command("c-1");
    let executed = stream.execute(said, once("x")).await.unwrap();
    let commit = stored(&log, "a").await.remove(0);
    for state in [stream.state(), load(&log, "a").await.state()] {
        let envelope = &state.envelopes[0];
        assert_eq!(envelope.position, executed.position);
        assert_eq!(envelope.position, 2, "positions are the installation's");
        assert_eq!(envelope.recorded_at_ms, commit.recorded_at_ms);
        assert_eq!(envelope.id, commit.commit_id.to_string());
        assert_eq!(envelope.stream, "node/a");
        let node = Actor {
            kind: actor::Kind::Node.into(),
            name: "a".to_owned(),
        };
        assert_eq!(envelope.actor, Some(node));
        assert_eq!(envelope.correlation, "I-1");
        assert_eq!(
            (envelope.causation.as_str(), envelope.command_id.as_str()),
            ("S-1", "c-1")
        );
    }
}

#[tokio::test]
async fn an_illegal_event_sets_the_stream_aside_for_good() {
    let log = faulty();
    let (mut stream, mut other) = (load(&log, "a").await, load(&log, "a").await);
    let two = |_: &Seen| Ok(vec![word("half"), word(ILLEGAL)]);
    assert!(matches!(
        other.execute(meta(), two).await,
        Err(ExecuteError::Illegal(_))
    ));
    for _ in 0..2 {
        let error = stream.refresh().await.unwrap_err();
        assert!(error.to_string().contains("an illegal word"), "{error}");
        assert!(matches!(
            stream.execute(meta(), once("x")).await,
            Err(ExecuteError::Illegal(_))
        ));
    }
    assert_eq!(stream.state().words, ["half"], "and is not folded twice");
    assert_eq!(stored(&log, "a").await.len(), 1);
}

#[tokio::test]
async fn foreign_bytes_stop_the_stream_and_name_it() {
    let log = faulty();
    let mut stream = load(&log, "a").await;
    put(&log, &name("a"), vec![0xff; 9]).await;
    let error = stream.execute(meta(), once("x")).await.unwrap_err();
    assert!(
        matches!(&error, ExecuteError::Decode(e) if e.stream == "node/a"),
        "{error}"
    );
}

#[tokio::test]
async fn a_commit_that_is_too_large_is_refused_for_good() {
    let log = faulty();
    let mut stream = load(&log, "a").await;
    let large = word(&"x".repeat(2 << 20));
    let error = stream
        .execute(meta(), |_| Ok(vec![large.clone()]))
        .await
        .unwrap_err();
    assert!(matches!(error, ExecuteError::Broken(_)), "{error}");
    stream.execute(meta(), once("x")).await.unwrap();
}

#[tokio::test]
async fn a_resumed_stream_goes_on_from_its_head_or_finds_that_it_is_another() {
    let log = faulty();
    let mut writer = load(&log, "a").await;
    writer.execute(meta(), once("x")).await.unwrap();
    let (head, state) = (writer.head(), writer.state().clone());
    writer.execute(meta(), once("y")).await.unwrap();

    let shared = port(&log);
    let mut resumed = Stream::resume(Arc::clone(&shared), name("a"), state, head);
    resumed.execute(meta(), once("z")).await.unwrap();
    assert_eq!(resumed.state().words, ["x", "y", "z"]);

    let wrong = Head {
        position: head.position,
        hash: [7; 32],
    };
    let mut rewritten = Stream::resume(shared, name("a"), Seen::default(), wrong);
    assert!(matches!(
        rewritten.refresh().await,
        Err(ExecuteError::Broken(_))
    ));
}
