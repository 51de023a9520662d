//! One run's stream holds something that is no event, or none that fits: that run is set aside and shown, everything else goes on.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use sealwarden_eventlog::test_server::TestServer;
use sealwarden_tests::calls::{begin_another, chain, prepared};
use sealwarden_tests::history::History;
use sealwarden_tests::target::Target;
use sealwarden_tests::{Installation, people, wait};
use sealwarden_wire::event::v1::event::Kind;
use sealwarden_wire::event::v1::{StepEnded, StepOutcome};
use serde_json::Value;

/// Steps of a run.
const STEPS: usize = 8;

/// Publishes bytes that no event log wrote, as anybody can who may use the server.
fn publish(server: &str, subject: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server).expect("the nats-server");
    let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("INFO");
    let head = format!(
        "CONNECT {{\"verbose\":false}}\r\nPUB {subject} {}\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).expect("a command");
    stream.write_all(bytes).expect("the bytes");
    stream.write_all(b"\r\nPING\r\n").expect("a command");
    let mut pong = [0; 6];
    reader.read_exact(&mut pong).expect("PONG");
    assert_eq!(&pong, b"PONG\r\n");
}

/// The end of a step that never began.
fn nonsense() -> Kind {
    Kind::StepEnded(StepEnded {
        step: "s08".to_owned(),
        attempt: 7,
        outcome: StepOutcome::Done.into(),
        ..StepEnded::default()
    })
}

fn completes(here: &Installation, run: &str) {
    wait::eventually("the other run completes", || {
        let answer = here.call(&["run", "show", run]);
        (answer.code == 0 && answer.json()["state"] == "completed").then_some(())
    });
}

/// The run is shown as set aside, with what stands where; exit codes say so.
fn is_set_aside(here: &Installation, run: &str) {
    let stream = format!("run/{run}");
    let list = wait::eventually("the run is listed as set aside", || {
        let answer = here.call(&["run", "list"]);
        let of_run = |runs: &Value| {
            let runs = runs["runs"].as_array()?;
            runs.iter().find(|it| it["run"] == run).cloned()
        };
        (answer.code == 1).then(|| of_run(&answer.json()))?
    });
    assert_eq!(list["state"], "set-aside", "{list:#}");
    let reason = list["reason"].as_str().expect("a reason");
    assert!(reason.chars().any(|c| c.is_ascii_digit()), "{reason}");
    here.call(&["run", "show", run]).must_end_with(1);
    let aside = wait::eventually("status tells of it", || {
        let answer = here.call(&["status"]);
        let all = (answer.code == 1).then(|| answer.json())?;
        let found = all["set_aside"].as_array()?;
        found
            .iter()
            .find(|it| it["stream"] == stream.as_str())
            .cloned()
    });
    let reason = aside["reason"].as_str().expect("a reason");
    assert!(!reason.is_empty(), "{aside}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_one_runs_stream_on_nats_stops_that_run_alone() {
    let target = Target::start();
    let server = TestServer::start().expect("a nats-server");
    let here = prepared(
        Installation::over_nats(&server.url()),
        &target,
        &chain(STEPS),
    );
    let executor = here.serve("runbook-executor");
    let _detection = here.serve("detection");
    let history = History::nats(&server.url(), &here.name()).await;
    let (raw, wrong) = (
        begin_another(&history, 1).await,
        begin_another(&history, 2).await,
    );
    for run in [&raw, &wrong] {
        people::reaches(&here, run, "s01", "done");
    }
    let address = server.url().replacen("nats://", "", 1);
    publish(
        &address,
        &format!("{}.run.{raw}", here.name()),
        b"\xff\x00garbage",
    );
    history
        .writes(
            &format!("run/{wrong}"),
            "runbook-executor-1",
            vec![nonsense()],
        )
        .await;
    let good = begin_another(&history, 3).await;
    completes(&here, &good);
    for run in [&raw, &wrong] {
        is_set_aside(&here, run);
        assert!(executor.log().contains(run.as_str()), "{}", executor.log());
    }
    assert!(executor.log().contains("set aside"), "{}", executor.log());
    // A process that reads it all from the beginning takes it the same way.
    assert!(executor.terminate().success());
    let again = here.serve("runbook-executor");
    let late = begin_another(&history, 4).await;
    completes(&here, &late);
    is_set_aside(&here, &raw);
    assert!(again.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_one_runs_stream_of_the_embedded_log_stops_that_run_alone() {
    let target = Target::start();
    let here = prepared(Installation::new(), &target, &chain(STEPS));
    let history = History::embedded(&here.data()).await;
    let bad = begin_another(&history, 1).await;
    drop(history);
    let up = here.up();
    completes(&here, &bad);
    assert!(up.terminate().success());
    let history = History::embedded(&here.data()).await;
    let bad = begin_another(&history, 2).await;
    history
        .spoils(&format!("run/{bad}"), b"\xff\x00garbage")
        .await;
    let good = begin_another(&history, 3).await;
    drop(history);
    let up = here.up();
    completes(&here, &good);
    let aside = wait::eventually("status tells of it", || {
        let answer = here.call(&["status"]);
        let all = (answer.code == 1).then(|| answer.json())?;
        Some(all["set_aside"].clone())
    });
    assert!(aside.to_string().contains(&bad), "{aside}");
    assert!(up.log().contains("set aside"), "{}", up.log());
    assert!(up.terminate().success());
}
