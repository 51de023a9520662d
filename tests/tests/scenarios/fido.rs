//! FIDO keys: a touch counts, no touch does not, and what cannot be taken back is ordered past its quorum with touches only.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use sealwarden_domain::approval::{Decision, Namespace, Statement};
use sealwarden_tests::authenticator::{FidoKey, TOUCHED};
use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::{Installation, Process, people};
use sealwarden_wire::run::v1::runs_client::RunsClient;
use sealwarden_wire::run::v1::{ApproveRequest, ApproveResponse, PrepareRequest};
use tonic::transport::Channel;

const ORIGIN: &str = "seal.example.com/main/1";
const MARA: &str = "mara.lindqvist"; // security-lead, break-glass
const TOMAS: &str = "tomas.okafor"; // security-lead, break-glass
const INES: &str = "ines.duarte"; // on-call-sre
const LEILA: &str = "leila.haddad"; // legal-counsel, compliance-owner

/// An installation whose break-glass people have FIDO keys, and a run that answers a theft.
struct Response {
    here: Installation,
    run: String,
    runs: RunsClient<Channel>,
    _up: Process,
}

impl Response {
    async fn with(mara: &FidoKey, tomas: &FidoKey) -> Self {
        let here = Installation::new();
        let up = here.up();
        let text = people::roster_text(&here);
        // The trial keys stay as they would stand in a real roster: nobody waives their touch.
        let text: String = text
            .split_inclusive("  - id: ")
            .map(|person| {
                let key = match person.split('\n').next() {
                    Some(MARA) => mara,
                    Some(TOMAS) => tomas,
                    Some(_) | None => return person.to_owned(),
                };
                let with = format!(
                    "    keys:\n      - {{key: \"{}\", touch: required}}\n",
                    key.line()
                );
                let with = person.replace("    keys:\n", &with);
                with.replace("{key: \"ssh", "\"ssh")
                    .replace("\", touch: waived}", "\"")
            })
            .collect();
        people::change_roster(&here, &text, &[TOMAS, INES]);
        here.seal(&here.file("file", b"x"));
        let thief = Thief::steals_from(&here, "sealing-1").await;
        thief::shows_to_the_witness(&here, &thief.forges(ORIGIN, 9).await, 0).await;
        let run = people::run_of_the_incident(&here);
        people::reaches(&here, &run, "isolate", "awaiting-approval");
        let runs = RunsClient::new(here.connect("runbook-executor", "operator").await);
        Self {
            here,
            run,
            runs,
            _up: up,
        }
    }

    async fn statement(&mut self, step: &str, person: &str, decision: Decision) -> Statement {
        let named = if decision == Decision::Override {
            decision.as_str().to_owned()
        } else {
            String::new()
        };
        let request = PrepareRequest {
            run: self.run.clone(),
            step: step.to_owned(),
            decision: named,
        };
        let prepared = self.runs.prepare(request).await.expect("it can be decided");
        let mut statement = people::statement(&prepared.into_inner(), person);
        statement.decision = decision;
        statement
    }

    async fn send(&mut self, statement: &Statement, signature: String) -> ApproveResponse {
        let request = ApproveRequest {
            statement: statement.to_string(),
            signature,
            note: "decided on the phone".to_owned(),
        };
        let answer = self.runs.approve(request).await.expect("an answer");
        answer.into_inner()
    }

    /// Signs with a FIDO key, with these flags and count; `Err` is the code of a refusal.
    async fn signs(
        &mut self,
        (step, decision): (&str, Decision),
        (person, key): (&str, &FidoKey),
        (flags, counter): (u8, u32),
    ) -> Result<(), String> {
        let statement = self.statement(step, person, decision).await;
        let namespace = Namespace::Approval.as_str();
        let signature = key.sign(&statement.to_string(), namespace, flags, counter);
        let answer = self.send(&statement, signature).await;
        answer.accepted.then_some(()).ok_or(answer.code)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touch_counts_and_breaks_the_glass_and_ssh_keygen_verifies_it() {
    let (mara, tomas) = (FidoKey::ed25519(), FidoKey::p256());
    let mut response = Response::with(&mara, &tomas).await;
    let (approve, glass) = (
        ("isolate", Decision::Approve),
        ("rotate", Decision::Override),
    );

    let untouched = response.signs(approve, (MARA, &mara), (0, 6)).await;
    assert_eq!(untouched, Err("no-touch".to_owned()));
    response
        .signs(approve, (MARA, &mara), (TOUCHED, 7))
        .await
        .expect("it counts");
    people::approve(&response.here, &response.run, "isolate", INES).must_end_with(0);
    people::reaches(&response.here, &response.run, "isolate", "done");
    people::approve_what_waits(&response.here, &response.run, &["rotate"]);
    people::reaches(&response.here, &response.run, "rotate", "awaiting-approval");

    // A file of Tomas's that stands on the roster approves, and breaks no glass.
    let statement = response
        .statement("rotate", TOMAS, Decision::Override)
        .await;
    let signature = people::sign(&response.here, TOMAS, &statement.to_string());
    assert_eq!(response.send(&statement, signature).await.code, "no-touch");
    response
        .signs(glass, (TOMAS, &tomas), (TOUCHED, 1))
        .await
        .expect("it counts");
    // Mara's key has counted to 7 before: it counts, and everybody sees that there may be two of it.
    response
        .signs(glass, (MARA, &mara), (TOUCHED, 7))
        .await
        .expect("it counts");
    let step = people::reaches(&response.here, &response.run, "rotate", "done");
    let approvals = step["approvals"].as_array().expect("approvals");
    let of = |person: &str| {
        let counted = |a: &&serde_json::Value| a["person"] == person && a["refused"] == "";
        approvals.iter().find(counted).expect("an override")
    };
    assert_eq!(of(MARA)["presence"], "touched", "{step:#}");
    assert!(
        of(MARA)["warning"].to_string().contains("copied"),
        "{step:#}"
    );
    assert_eq!(
        (&of(TOMAS)["warning"], &of(TOMAS)["counter"]),
        (&"".into(), &1.into())
    );

    for person in [INES, LEILA] {
        let review = [
            "run",
            "review",
            &response.run,
            "rotate",
            "--as",
            person,
            "--yes",
            "--why",
            "looked at it",
        ];
        response.here.call(&review).must_end_with(0);
    }
    people::approve_until_the_end(&response.here, &response.run);
    let incident = people::run(&response.here, &response.run)["incident"].to_string();
    let bundle = response
        .here
        .data()
        .join("evidence")
        .join(incident.trim_matches('"'));
    let folder = bundle.join(format!("{}-final-snapshot/approvals", response.run));
    for (person, decision) in [(MARA, "approve"), (MARA, "override"), (TOMAS, "override")] {
        verifies(&folder, person, decision);
    }
}

/// Whether `ssh-keygen` finds a decision of the person in the bundle, and good.
fn verifies(folder: &Path, person: &str, decision: &str) {
    let files = fs::read_dir(folder).expect("the bundle's approvals");
    let of = |path: &Path| {
        let text = fs::read_to_string(path).expect("a file");
        text.contains(&format!("approver: {person}\n"))
            && text.contains(&format!("decision: {decision}\n"))
    };
    let file = files
        .map(|file| file.expect("a file").path())
        .find(|path| path.extension().is_some_and(|it| it == "txt") && of(path))
        .unwrap_or_else(|| panic!("no {decision} of {person} in {}", folder.display()));
    let signature = format!("{}.sig", file.display());
    let ends = Command::new("ssh-keygen")
        .args([
            "-Y",
            "verify",
            "-I",
            person,
            "-n",
            "sealwarden-approval",
            "-f",
        ])
        .arg(folder.join("allowed_signers"))
        .args(["-s", &signature])
        .stdin(fs::File::open(&file).expect("the statement"))
        .stdout(Stdio::null())
        .status()
        .expect("ssh-keygen runs");
    assert!(ends.success(), "{}", file.display());
}
