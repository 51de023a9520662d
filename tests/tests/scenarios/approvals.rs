//! Approvals: what counts, what does not, and that a refusal says why and is recorded.

use sealwarden_domain::approval::{self, Namespace, Statement};
use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::{Installation, Process, eventually, people};
use sealwarden_wire::run::v1::runs_client::RunsClient;
use sealwarden_wire::run::v1::{ApproveRequest, ApproveResponse, PrepareRequest, PrepareResponse};
use ssh_key::PrivateKey;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use tonic::transport::Channel;

const MARA: &str = "mara.lindqvist"; // security-lead
const TOMAS: &str = "tomas.okafor"; // security-lead
const INES: &str = "ines.duarte"; // on-call-sre
const JONAS: &str = "jonas.weber"; // on-call-sre
const SAMUEL: &str = "samuel.reyes"; // communications-lead, product-owner

/// An installation whose incident was proven by a checkpoint that a person found, with its run.
struct Response {
    here: Installation,
    run: String,
    runs: RunsClient<Channel>,
    _up: Process,
}

impl Response {
    /// `finder` raises the signal.
    async fn to_a_signal_of(finder: &str) -> Self {
        let here = Installation::new();
        let up = here.up();
        here.seal(&here.file("file", b"x"));
        let thief = Thief::steals_from(&here, "sealing-1").await;
        let forged = thief.forges("seal.example.com/main/1", 9).await;
        let found = here.file("found.note", forged.to_string().as_bytes());
        let path = found.to_str().expect("a path");
        let signal = [
            "signal",
            "--seen",
            "found on the web",
            "--checkpoint",
            path,
            "--as",
            finder,
        ];
        assert_eq!(here.call(&signal).good()["proven"], true);
        let run = people::run_of_the_incident(&here);
        people::reaches(&here, &run, "read-only", "awaiting-approval");
        people::reaches(&here, &run, "isolate", "awaiting-approval");
        let runs = RunsClient::new(here.connect("runbook-executor", "operator").await);
        Self {
            here,
            run,
            runs,
            _up: up,
        }
    }

    async fn prepared(&mut self, step: &str) -> PrepareResponse {
        let request = PrepareRequest {
            run: self.run.clone(),
            step: step.to_owned(),
            decision: String::new(),
        };
        self.runs
            .prepare(request)
            .await
            .expect("the step can be approved")
            .into_inner()
    }

    async fn statement(&mut self, step: &str, person: &str) -> Statement {
        people::statement(&self.prepared(step).await, person)
    }

    async fn send(
        &mut self,
        statement: String,
        signature: String,
    ) -> Result<ApproveResponse, tonic::Status> {
        let request = ApproveRequest {
            statement,
            signature,
            note: String::new(),
        };
        self.runs
            .approve(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// Sends what `person` signed; it must be refused with this code.
    async fn refuses(&mut self, statement: &Statement, person: &str, code: &str) {
        let text = statement.to_string();
        let signature = people::sign(&self.here, person, &text);
        self.refuses_signed(text, signature, code).await;
    }

    async fn refuses_signed(&mut self, text: String, signature: String, code: &str) {
        let answer = self
            .send(text.clone(), signature)
            .await
            .expect("an answer, not an error");
        assert!(!answer.accepted, "{code} was accepted: {text}");
        assert_eq!(answer.code, code, "{}: {text}", answer.reason);
        assert!(!answer.reason.is_empty());
    }

    /// Codes of the refusals that the run has on record for a step.
    fn recorded(&self, step: &str) -> Vec<String> {
        let step = people::step(&people::run(&self.here, &self.run), step);
        let approvals = step["approvals"].as_array().cloned().unwrap_or_default();
        approvals
            .iter()
            .filter_map(|a| a["refused"].as_str())
            .filter(|r| !r.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asked_cannot_approve_and_one_person_counts_once() {
    let response = Response::to_a_signal_of(MARA).await;
    let (here, run) = (&response.here, response.run.as_str());
    let refused = people::approve(here, run, "read-only", MARA).ends_with(4);
    assert!(refused.to_string().contains("requester"), "{refused}");
    let refused = people::approve(here, run, "read-only", SAMUEL).ends_with(4);
    assert!(refused.to_string().contains("wrong-role"), "{refused}");

    let first = people::approve(here, run, "read-only", TOMAS).good();
    assert!(
        first["missing"]
            .as_str()
            .is_some_and(|m| m.contains("on-call-sre")),
        "{first}"
    );
    let again = people::approve(here, run, "read-only", TOMAS).ends_with(4);
    assert!(again.to_string().contains("already-decided"), "{again}");
    let step = people::step(&people::run(here, run), "read-only");
    assert_eq!(
        step["state"], "awaiting-approval",
        "one person, twice, is one person: {step:#}"
    );

    let early = people::approve(here, run, "rotate", TOMAS).ends_with(4);
    assert!(early.to_string().contains("inputs"), "{early}");

    people::approve(here, run, "read-only", INES).must_end_with(0);
    people::reaches(here, run, "read-only", "done");
    let codes = response.recorded("read-only").join(" ");
    for code in ["requester", "wrong-role", "already-decided"] {
        assert!(
            codes.contains(code),
            "the refusal {code} is not on record: {codes}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_counts_only_for_what_it_was_made_for() {
    let mut response = Response::to_a_signal_of(JONAS).await;
    let good = response.statement("isolate", MARA).await;
    let with = |change: fn(&mut Statement)| {
        let mut statement = good.clone();
        statement.nonce = people::nonce();
        change(&mut statement);
        statement
    };

    response
        .refuses(&with(|s| s.expires_s -= 3600), MARA, "expired")
        .await;
    response
        .refuses(
            &with(|s| s.expires_s += 30 * 24 * 3600),
            MARA,
            "validity-too-long",
        )
        .await;
    response
        .refuses(
            &with(|s| s.inputs_digest = "0".repeat(64)),
            MARA,
            "stale-inputs",
        )
        .await;
    response
        .refuses(
            &with(|s| s.runbook_digest = "0".repeat(64)),
            MARA,
            "wrong-runbook",
        )
        .await;
    response
        .refuses(
            &with(|s| s.roster_digest = "0".repeat(64)),
            MARA,
            "wrong-roster",
        )
        .await;
    response
        .refuses(
            &with(|s| s.installation = "elsewhere".to_owned()),
            MARA,
            "wrong-installation",
        )
        .await;
    response
        .refuses(
            &with(|s| s.incident = "I-00000000-9".to_owned()),
            MARA,
            "wrong-run",
        )
        .await;
    response
        .refuses(&with(|s| s.iteration = 7), MARA, "wrong-step")
        .await;
    response
        .refuses(
            &with(|s| s.decision = approval::Decision::Confirm),
            MARA,
            "wrong-decision",
        )
        .await;
    response.refuses(&with(|_| ()), INES, "wrong-key").await;

    edited_or_foreign_signatures(&mut response, &good).await;
    replays(&mut response, good).await;
}

async fn edited_or_foreign_signatures(response: &mut Response, good: &Statement) {
    let text = good.to_string();
    let signature = people::sign(&response.here, MARA, &text);
    let edited = text.replace("decision: approve", "decision: deny");
    response
        .refuses_signed(edited, signature.clone(), "altered")
        .await;
    let other_step = text.replace("step: isolate", "step: read-only");
    response
        .refuses_signed(other_step, signature, "altered")
        .await;

    let drill = approval::sign(
        &text,
        &people::key(&response.here, MARA),
        Namespace::ApprovalDrill,
    )
    .expect("a signature");
    response
        .refuses_signed(text.clone(), drill, "wrong-namespace")
        .await;
    let stranger = KeypairData::Ed25519(Ed25519Keypair::from_seed(&[9; 32]));
    let stranger = PrivateKey::new(stranger, "a stranger").expect("a key");
    let unknown = approval::sign(&text, &stranger, Namespace::Approval).expect("a signature");
    response
        .refuses_signed(text.clone(), unknown, "unknown-key")
        .await;
    response
        .refuses_signed(text, "not a signature".to_owned(), "malformed")
        .await;
    let nonsense = response.send("let me in".to_owned(), String::new()).await;
    assert!(nonsense.map_or(true, |answer| !answer.accepted));
}

/// The same signed text twice, and on a run that it does not name.
async fn replays(response: &mut Response, good: Statement) {
    let text = good.to_string();
    let signature = people::sign(&response.here, MARA, &text);
    let other_run = text.replace(&format!("run: {}", good.run), "run: R-00000000-1");
    let answer = response.send(other_run, signature.clone()).await;
    assert!(
        answer.map_or(true, |answer| !answer.accepted),
        "it counted for another run"
    );

    let first = response
        .send(text.clone(), signature.clone())
        .await
        .expect("an answer");
    assert!(first.accepted, "{}: {}", first.code, first.reason);
    response.refuses_signed(text, signature, "replayed").await;
    assert!(
        response.recorded("isolate").len() >= 12,
        "refusals are on record: {:?}",
        response.recorded("isolate")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn approvals_at_the_same_instant_all_count_and_one_persons_two_count_once() {
    let response = Response::to_a_signal_of(JONAS).await;
    let (here, run) = (&response.here, response.run.as_str());
    let at_once = |who: &[&'static str]| -> Vec<i32> {
        std::thread::scope(|scope| {
            let calls: Vec<_> = who
                .iter()
                .map(|person| scope.spawn(|| people::approve(here, run, "read-only", person).code))
                .collect();
            calls
                .into_iter()
                .map(|call| call.join().expect("the call ends"))
                .collect()
        })
    };
    let mut twice = at_once(&[TOMAS, TOMAS]);
    twice.sort_unstable();
    assert_eq!(twice, [0, 4], "one person at two keyboards");
    people::approve(here, run, "read-only", INES).must_end_with(0);
    let step = people::reaches(here, run, "read-only", "done");
    assert_eq!(step["attempts"], 1, "{step:#}");

    let both: Vec<i32> = std::thread::scope(|scope| {
        let calls = [MARA, INES]
            .map(|person| scope.spawn(move || people::approve(here, run, "isolate", person).code));
        calls
            .into_iter()
            .map(|call| call.join().expect("the call ends"))
            .collect()
    });
    assert_eq!(both, [0, 0], "two people at the same instant");
    let step = people::reaches(here, run, "isolate", "done");
    assert_eq!(step["attempts"], 1, "{step:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_step_waits_and_an_approval_of_one_run_is_nothing_on_another() {
    let mut first = Response::to_a_signal_of(JONAS).await;
    let denied = first.here.call(&[
        "approve",
        &first.run,
        "read-only",
        "--as",
        MARA,
        "--deny",
        "--yes",
    ]);
    denied.must_end_with(0);
    for person in [TOMAS, INES] {
        people::approve(&first.here, &first.run, "read-only", person).must_end_with(0);
    }
    let step = people::step(&people::run(&first.here, &first.run), "read-only");
    assert_eq!(
        step["state"], "denied",
        "a quorum does not overrule who denied: {step:#}"
    );
    people::approve(&first.here, &first.run, "read-only", MARA).must_end_with(0);
    people::reaches(&first.here, &first.run, "read-only", "done");

    // The whole response, then a second theft, of the new key's origin: a second incident with a run of its own.
    let text = first.statement("isolate", MARA).await.to_string();
    let signature = people::sign(&first.here, MARA, &text);
    let run = people::approve_until_the_end(&first.here, &first.run);
    assert_eq!(run["state"], "completed");
    let forged = thief::misuses_key(
        &first.here,
        "sealing-1",
        "main-2",
        "seal.example.com/main/2",
        99,
    )
    .await;
    let _status = thief::shows_to_the_witness(&first.here, &forged, 1).await;
    let second = eventually("a second run begins", || {
        let runs = first.here.call(&["run", "list", "--open"]).good();
        runs["runs"][0]["run"]
            .as_str()
            .map(str::to_owned)
            .filter(|run| *run != first.run)
    });
    people::reaches(&first.here, &second, "isolate", "awaiting-approval");

    // As it stands it belongs to the first run, which is over; edited, it is nobody's.
    let as_it_stands = first
        .send(text.clone(), signature.clone())
        .await
        .expect("an answer");
    assert!(!as_it_stands.accepted, "{as_it_stands:?}");
    let edited = text.replace(
        &format!("run: {}\n", first.run),
        &format!("run: {second}\n"),
    );
    assert_ne!(edited, text);
    first.refuses_signed(edited, signature, "altered").await;
    let isolate = people::step(&people::run(&first.here, &second), "isolate");
    assert_eq!(isolate["state"], "awaiting-approval", "{isolate:#}");
}

fn revokes(here: &Installation, key: &str, by: &str) -> sealwarden_tests::Answer {
    let why = "left on a train";
    here.call(&["roster", "revoke", key, "--why", why, "--as", by, "--yes"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_counts_no_more_in_a_run_under_way_and_after_a_crash() {
    let response = Response::to_a_signal_of(JONAS).await;
    let Response {
        here, run, _up: up, ..
    } = response;
    people::approve(&here, &run, "isolate", TOMAS).must_end_with(0);
    let refused = revokes(&here, TOMAS, SAMUEL).ends_with(4);
    assert!(refused.to_string().contains("security-lead"), "{refused}");
    revokes(&here, "nobody", MARA).must_end_with(2);
    let revoked = revokes(&here, TOMAS, MARA).good();
    assert_eq!(revoked["runs"], serde_json::json!([run]), "{revoked:#}");
    up.kill();
    let _up = here.up();

    people::approve(&here, &run, "isolate", INES).must_end_with(0);
    let step = people::step(&people::run(&here, &run), "isolate");
    assert_eq!(step["missing"], "security-lead: 1", "{step:#}");
    let told = step["approvals"][0]["refused"].to_string();
    assert!(told.contains("its key was revoked"), "{step:#}");
    let again = people::approve(&here, &run, "read-only", TOMAS).ends_with(4);
    assert!(again.to_string().contains("revoked-key"), "{again}");
    let shown = here.call(&["roster", "show"]).good();
    let people = shown["people"].as_array().expect("people");
    let tomas = people.iter().find(|it| it["person"] == TOMAS).expect("him");
    assert_eq!(tomas["keys"][0]["revoked_by"], MARA, "{tomas:#}");

    people::approve(&here, &run, "isolate", MARA).must_end_with(0);
    people::reaches(&here, &run, "isolate", "done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_goes_away_with_the_roster_counts_no_more_in_a_run_under_way() {
    let response = Response::to_a_signal_of(JONAS).await;
    let Response {
        here, run, _up: up, ..
    } = response;
    people::approve(&here, &run, "isolate", TOMAS).must_end_with(0);
    let text = people::roster_text(&here);
    let people = text.split_inclusive("  - id: ").map(|person| {
        let (rest, keys) = person.split_once("    keys:\n").unwrap_or((person, ""));
        match keys.split_once('\n') {
            Some((_, next)) if person.starts_with(TOMAS) => format!("{rest}    keys: []\n{next}"),
            Some(_) | None => person.to_owned(),
        }
    });
    let text: String = people.collect();
    people::change_roster(&here, &text, &[MARA, INES]);
    people::approve(&here, &run, "isolate", INES).must_end_with(0);
    let step = people::step(&people::run(&here, &run), "isolate");
    assert_eq!(step["missing"], "security-lead: 1", "{step:#}");
    // The run goes on, with those who stand on both rosters; the nodes judge so, too.
    people::approve(&here, &run, "isolate", MARA).must_end_with(0);
    people::reaches(&here, &run, "isolate", "done");
    drop(up);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_says_what_waits_for_whom_since_when_and_who_has_signed() {
    let response = Response::to_a_signal_of(JONAS).await;
    let (here, run) = (&response.here, response.run.as_str());
    people::approve(here, run, "isolate", TOMAS).must_end_with(0);
    let waiting = |arguments: &[&str]| -> Vec<serde_json::Value> {
        let mut call = vec!["approve"];
        call.extend(arguments);
        let answer = here.call(&call).good();
        answer["waiting"].as_array().cloned().expect("a list")
    };
    let named = |items: &[serde_json::Value]| -> Vec<String> {
        let steps = items.iter().filter_map(|it| it["step"].as_str());
        let mut steps: Vec<String> = steps.map(str::to_owned).collect();
        steps.sort();
        steps
    };
    let mine = waiting(&["--mine", "--as", INES]);
    assert_eq!(named(&mine), ["isolate", "read-only"], "{mine:#?}");
    let isolate = mine.iter().find(|it| it["step"] == "isolate").expect("it");
    assert_eq!(
        isolate["signed"],
        serde_json::json!(["tomas.okafor approves"])
    );
    assert_eq!(isolate["missing"], "on-call-sre: 1");
    let (since, due) = (isolate["since_ms"].as_i64(), isolate["due_ms"].as_i64());
    assert!(since > Some(0) && due > since, "{isolate:#}");
    // Mara's role is taken in one, and free in the other; whoever asked for the run can sign nothing.
    assert_eq!(named(&waiting(&["--mine", "--as", MARA])), ["read-only"]);
    assert!(waiting(&["--mine", "--as", JONAS]).is_empty());
    let all = waiting(&["--list", "--as", MARA]);
    assert_eq!(named(&all), ["isolate", "read-only"]);
    assert_eq!(
        (&all[0]["step"], &all[0]["for_me"]),
        (&"read-only".into(), &true.into())
    );
    assert_eq!(
        (&all[1]["step"], &all[1]["for_me"]),
        (&"isolate".into(), &false.into())
    );
}
