//! Several executors share the runs of an installation: each effect happens once, whoever is killed, suspended or cut off meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sealwarden_eventlog::test_server::TestServer;
use sealwarden_tests::calls::{begin_another, chain, prepared};
use sealwarden_tests::history::History;
use sealwarden_tests::proxy::Proxy;
use sealwarden_tests::target::Target;
use sealwarden_tests::{Installation, Process, wait};
use sealwarden_wire::event::v1::Commit;
use sealwarden_wire::event::v1::event::Kind;
use serde_json::Value;

const ROLE: &str = "runbook-executor";
const FIRST: &str = "runbook-executor-1";
const SECOND: &str = "runbook-executor-2";
/// How long what somebody held may lie until another takes it over: a lease of five seconds, a second between two looks, and a busy machine.
const TAKEOVER: Duration = Duration::from_secs(15);
/// How long runs may take.
const RUNS: Duration = Duration::from_mins(4);

/// Two executors on one nats-server, and a system outside that counts what they do.
struct Shared {
    target: Target,
    here: Installation,
    server: TestServer,
    steps: usize,
    runs: Vec<String>,
}

impl Shared {
    fn with_steps(steps: usize) -> Self {
        let target = Target::start();
        let server = TestServer::start().expect("a nats-server");
        let here = prepared(
            Installation::over_nats(&server.url()),
            &target,
            &chain(steps),
        );
        Self {
            target,
            here,
            server,
            steps,
            runs: Vec::new(),
        }
    }

    fn executor(&self, node: &str) -> Process {
        self.here.serve_as(ROLE, node, None)
    }

    async fn begin(&mut self, count: usize) {
        let history = self.history().await;
        for _ in 0..count {
            self.runs
                .push(begin_another(&history, self.runs.len()).await);
        }
    }

    async fn history(&self) -> History {
        History::nats(&self.server.url(), &self.here.name()).await
    }

    fn done(&self) -> usize {
        self.target.book().effects.len()
    }

    /// Waits until so many more effects have happened.
    fn goes_on(&self, count: usize) {
        let goal = (self.done() + count).min(self.runs.len() * self.steps);
        wait::eventually("effects happen", || (self.done() >= goal).then_some(()));
    }

    /// Waits until every run is complete.
    fn ends(&self) {
        wait::within(RUNS, "all runs complete", || {
            let answer = self.here.call(&["run", "list"]);
            let list = (answer.code == 0).then(|| answer.json())?;
            let runs = list["runs"].as_array()?;
            let stuck = runs.iter().find(|run| run["state"] == "stuck");
            assert!(stuck.is_none(), "{stuck:#?}");
            let complete = runs.iter().filter(|run| run["state"] == "completed");
            (complete.count() == self.runs.len()).then_some(())
        });
        self.each_effect_happened_once_and_in_order();
    }

    fn each_effect_happened_once_and_in_order(&self) {
        let mut by_incident: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (_, body) in self.target.book().effects {
            let body: Value = serde_json::from_str(&body).expect("a body");
            let word = |name: &str| body[name].as_str().expect("a word").to_owned();
            by_incident
                .entry(word("incident"))
                .or_default()
                .push(word("step"));
        }
        assert_eq!(by_incident.len(), self.runs.len());
        let expected: Vec<String> = (1..=self.steps).map(|n| format!("s{n:02}")).collect();
        for (incident, steps) in by_incident {
            assert_eq!(steps, expected, "{incident}");
        }
    }

    async fn commits(&self) -> Vec<Commit> {
        let history = self.history().await;
        let mut commits = Vec::new();
        for run in &self.runs {
            commits.extend(history.commits(&format!("run/{run}")).await);
        }
        commits
    }

    /// How many starts of steps each executor recorded.
    async fn starts(&self) -> BTreeMap<String, usize> {
        let mut starts = BTreeMap::new();
        for commit in self.commits().await {
            let by = author(&commit);
            let started = commit
                .events
                .iter()
                .filter(|event| matches!(event.kind, Some(Kind::StepStarted(_))));
            *starts.entry(by).or_default() += started.count();
        }
        starts
    }

    /// Waits until the newest run has begun; who holds its newest attempt.
    async fn holder(&self) -> String {
        let run = self.runs.last().expect("a run");
        let deadline = Instant::now() + wait::PATIENCE;
        loop {
            let commits = self.history().await.commits(&format!("run/{run}")).await;
            if let Some(holder) = Self::holder_in(&commits) {
                return holder;
            }
            assert!(Instant::now() < deadline, "{run} does not begin");
        }
    }

    fn holder_in(commits: &[Commit]) -> Option<String> {
        let holds = |commit: &&Commit| {
            let mut kinds = commit.events.iter().filter_map(|event| event.kind.as_ref());
            kinds.any(|kind| matches!(kind, Kind::StepStarted(_) | Kind::StepTaken(_)))
        };
        commits.iter().rfind(holds).map(author)
    }

    /// Waits until `by` takes something over, after `since_ms`.
    async fn is_taken_over(&self, by: &str, since_ms: i64) {
        let deadline = Instant::now() + TAKEOVER;
        loop {
            let taken = self.takeovers(by).await;
            if taken.into_iter().any(|at_ms| at_ms >= since_ms) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{by} took nothing over in {TAKEOVER:?}"
            );
        }
    }

    /// When `by` took something over, Unix milliseconds.
    async fn takeovers(&self, by: &str) -> Vec<i64> {
        let commits = self.commits().await;
        let taken = commits.iter().filter(|commit| {
            let mut kinds = commit.events.iter().filter_map(|event| event.kind.as_ref());
            author(commit) == by && kinds.any(|kind| matches!(kind, Kind::StepTaken(_)))
        });
        taken
            .filter_map(|commit| Some(commit.envelope.as_ref()?.recorded_at_ms))
            .collect()
    }
}

fn author(commit: &Commit) -> String {
    let envelope = commit.envelope.as_ref().expect("an envelope");
    let actor = envelope.actor.as_ref().expect("an actor");
    actor.name.clone()
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_executors_share_runs_and_each_effect_happens_once() {
    let mut shared = Shared::with_steps(40);
    let (first, second) = (shared.executor(FIRST), shared.executor(SECOND));
    let begun = Instant::now();
    shared.begin(10).await;
    shared.ends();
    while begun.elapsed() < Duration::from_mins(1) {
        shared.begin(10).await;
        shared.ends();
    }
    let starts = shared.starts().await;
    for node in [FIRST, SECOND] {
        let count = starts.get(node).copied().unwrap_or_default();
        assert!(count > 0, "{node} did nothing: {starts:?}");
    }
    assert!(first.terminate().success() && second.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_executor_held_is_taken_over_within_seconds() {
    let mut shared = Shared::with_steps(30);
    let mut executors: BTreeMap<String, Process> = [FIRST, SECOND]
        .map(|node| (node.to_owned(), shared.executor(node)))
        .into();
    for _ in 0..4 {
        shared.begin(2).await;
        shared.goes_on(4);
        let victim = shared.holder().await;
        let killed_ms = now_ms();
        executors.remove(&victim).expect("an executor").kill();
        let (other, _) = executors.first_key_value().expect("the other");
        shared.is_taken_over(other, killed_ms).await;
        let again = shared.executor(&victim);
        executors.insert(victim, again);
    }
    shared.ends();
    for (_, executor) in executors {
        assert!(executor.terminate().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_was_suspended_never_acts_on_what_was_taken() {
    let mut shared = Shared::with_steps(30);
    let executors: BTreeMap<String, Process> = [FIRST, SECOND]
        .map(|node| (node.to_owned(), shared.executor(node)))
        .into();
    for _ in 0..8 {
        shared.begin(2).await;
        shared.goes_on(4);
        let victim = shared.holder().await;
        let since_ms = now_ms();
        // Wherever it stands: between a decision and a call, in the middle of one, before its report.
        executors[&victim].suspend();
        let other = executors.keys().find(|name| **name != victim);
        shared
            .is_taken_over(other.expect("the other"), since_ms)
            .await;
        // Sometimes before it is looked at whether the effect happened, sometimes long after that.
        wait::a_while(0..400);
        executors[&victim].resume();
        shared.goes_on(2);
    }
    shared.ends();
    for (_, executor) in executors {
        assert!(executor.terminate().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_lost_the_event_log_stops_and_the_other_goes_on() {
    let mut shared = Shared::with_steps(40);
    let address = shared.server.url().replacen("nats://", "", 1);
    let proxy = Proxy::to(&address);
    let through = format!("nats://{}", proxy.address());
    let first = shared.here.serve_as(ROLE, FIRST, Some(&through));
    let second = shared.executor(SECOND);
    for _ in 0..3 {
        shared.begin(4).await;
        shared.goes_on(4);
        let held_by_first = shared.holder().await == FIRST;
        let since_ms = now_ms();
        proxy.cut();
        if held_by_first {
            shared.is_taken_over(SECOND, since_ms).await;
        }
        shared.goes_on(20);
        proxy.mend();
    }
    shared.ends();
    assert!(first.terminate().success() && second.terminate().success());
}
