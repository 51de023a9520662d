//! `drill bad-release`: a release of somebody's verifiers breaks verification.
//!
//! The fault is one that ships: the configuration of release 2.0 lets a trust bundle be two seconds old where two days were meant (`2s` for `2d`). The program is the same and
//! passes any test that runs with a bundle fresh from the installation; a moment later it calls good seals suspect.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sealwarden_wire::event::v1::VerdictsCompared;
use sealwarden_wire::run::v1::Run;
use sealwarden_wire::verify::v1::{CompareVerdictsRequest, GetTrustRequest};
use serde_json::{Value, json};

use super::documents::{self, Document};
use super::fleet::{ARCHIVE, Fleet, Release, VERIFIER};
use super::sandbox::Sandbox;
use super::score::{self, Findings, Score, Since};
use super::watch::Watch;
use super::{Narrator, act};
use crate::cli::Drill;
use crate::client::Client;
use crate::commands::archive::Archiving;
use crate::commands::verify::{beside, digest_of};
use crate::failure::Failure;

const GOOD: Release = Release {
    name: "1.0",
    max_age: "7d",
};
const BAD: Release = Release {
    name: "2.0",
    max_age: "2s",
};
const MENDED: Release = Release {
    name: "2.1",
    max_age: "2d",
};

/// What the verifiers said of all documents at one time.
struct Asked {
    when: &'static str,
    releases: Vec<String>,
    valid: usize,
    /// Wrong documents that were refused.
    refused: usize,
    documents: usize,
}

/// What the drill does while the runbook runs.
struct Story<'a> {
    narrator: Narrator,
    fleet: &'a Fleet,
    /// Whether a release that the pipeline tried to let out was held back.
    held_back: Option<bool>,
    put_forward: bool,
    /// The releases that ran while the mended one was only in the first place.
    mixed: Vec<&'static str>,
}

/// The story.
pub(super) async fn play(
    narrator: Narrator,
    args: &Drill,
    sandbox: &Sandbox,
    fleet: &Fleet,
) -> Result<Score, Failure> {
    let client = sandbox.client("operator")?;
    narrator.chapter("Sealing, archiving, and a release that works");
    let documents = store(args, sandbox, &client).await?;
    let mut verification = client.verification().await?;
    let bundle = verification.get_trust(GetTrustRequest {}).await?;
    let bundle = bundle.into_inner().bundle;
    fleet.settle(&sandbox.folder, &bundle).await?;
    fleet.release(GOOD).await?;
    let agreed = compare(&client).await?;
    let mut asked = vec![ask(fleet, &documents, "before").await?];
    narrator.say(&format!(
        "  {} files archived; release {} of somebody's verifiers runs in {} places and says what is known of all {} that were put to it",
        documents.len(),
        GOOD.name,
        fleet.running().await.len(),
        agreed.compared
    ));

    narrator.chapter("The release");
    aged(&client, sandbox).await?;
    let released_ms = jiff::Timestamp::now().as_millisecond();
    fleet.release(BAD).await?;
    let during = ask(fleet, &documents, "after the release").await?;
    narrator.say(&format!(
        "  release {} is everywhere: its configuration has --max-age {} where {} was meant; {} of {} good documents are still called valid",
        BAD.name, BAD.max_age, MENDED.max_age, during.valid, during.documents
    ));
    asked.push(during);
    narrator.say("  nobody is told; sealing and our own verification go on");

    narrator.chapter("The response (time since the release)");
    let mut story = Story {
        narrator,
        fleet,
        held_back: None,
        put_forward: false,
        mixed: Vec::new(),
    };
    let mut watch = Watch::new(narrator, released_ms);
    let incident = act::respond(
        narrator,
        sandbox,
        &mut watch,
        "roll-back",
        async |run: &Run| story.act(run).await,
    )
    .await?;

    narrator.chapter("Afterwards");
    asked.push(ask(fleet, &documents, "at the end").await?);
    let running = fleet.running().await;
    let did = fleet.story().await;
    for words in &did {
        narrator.say(&format!("  the deployment system: {words}"));
    }
    let problems = problems(agreed.different, &asked, &story, &running);
    let since = Since {
        at_ms: released_ms,
        words: "the release; how long a bad one can go unseen is the verifier's `every_s`",
    };
    score::collect(sandbox, &incident, since, findings(&asked, &did, problems)).await
}

async fn store(args: &Drill, sandbox: &Sandbox, client: &Client) -> Result<Vec<Document>, Failure> {
    let documents = documents::collect(args.dir.as_deref(), &sandbox.folder)?;
    documents::seal_all(client, &documents).await?;
    let archiving = Archiving::into(client, ARCHIVE).await?;
    for document in &documents {
        let seal = beside(&document.path);
        archiving
            .store_as(document.name.clone(), &document.path, &seal)
            .await?;
    }
    Ok(documents)
}

/// Waits until the trust bundle is as old as it was when the bad release's tests had passed long ago.
async fn aged(client: &Client, sandbox: &Sandbox) -> Result<(), Failure> {
    let bundle = documents::trust(client, sandbox.data()).await?;
    let issued_ms = bundle.payload().issued.as_millisecond();
    let limit = sealwarden_runbook::parse_duration(BAD.max_age).context("the release's age")?;
    let age = jiff::Timestamp::now().as_millisecond() - issued_ms;
    let age = std::time::Duration::from_millis(u64::try_from(age).unwrap_or(0));
    tokio::time::sleep((limit + std::time::Duration::from_secs(1)).saturating_sub(age)).await;
    Ok(())
}

/// As a person does it: `sealwarden verifier compare`.
async fn compare(client: &Client) -> Result<VerdictsCompared, Failure> {
    let request = CompareVerdictsRequest {
        verifier: VERIFIER.to_owned(),
    };
    let answer = client.verifiers().await?.compare_verdicts(request).await?;
    let compared = answer.into_inner().compared;
    compared.ok_or_else(|| Failure::unavailable("the service answered without a comparison"))
}

/// Puts each document, and something else with its seal, to the verifiers, as a customer would.
async fn ask(fleet: &Fleet, documents: &[Document], when: &'static str) -> Result<Asked, Failure> {
    let http = sealwarden_anchors::outside::plain_client().context("making a client")?;
    let mut asked = Asked {
        when,
        releases: Vec::new(),
        valid: 0,
        refused: 0,
        documents: documents.len(),
    };
    for document in documents {
        let seal = std::fs::read(beside(&document.path)).context("reading a seal")?;
        let digest = digest_of(&document.path)?;
        for (digest, whole) in [(digest, true), (digest.map(|byte| byte ^ 0xff), false)] {
            let question = json!({ "seal": STANDARD.encode(&seal), "sha256": hex::encode(digest) });
            let answer = http.post(fleet.url("/verify")).body(question.to_string());
            let answer = answer.send().await.context("asking a verifier")?;
            let bytes = answer.bytes().await.context("asking a verifier")?;
            let answer: Value = serde_json::from_slice(&bytes).context("asking a verifier")?;
            let release = answer["release"].as_str().unwrap_or_default();
            if !asked.releases.iter().any(|known| known == release) {
                asked.releases.push(release.to_owned());
            }
            let valid = answer["verdict"] == "valid";
            asked.valid += usize::from(whole && valid);
            asked.refused += usize::from(!whole && !valid);
        }
    }
    Ok(asked)
}

impl Story<'_> {
    /// What goes on outside the runbook: the pipeline wants to release again, and people mend the release.
    async fn act(&mut self, run: &Run) -> Result<(), Failure> {
        let is = |step: &str, state: &str| {
            let mut steps = run.steps.iter();
            steps.any(|it| it.step == step && it.state == state)
        };
        if self.held_back.is_none() && is("freeze", "done") && !is("thaw", "done") {
            let out = self.fleet.release(BAD).await?;
            self.held_back = Some(!out);
            self.narrator
                .say("  (the pipeline: wants to release again, and is held back)");
        }
        if !self.put_forward && is("mend", "awaiting-person") {
            self.put_forward = true;
            self.fleet.put_forward(MENDED).await;
            self.narrator.say(&format!(
                "  (people: found the unit, mended it, and put release {} forward)",
                MENDED.name
            ));
        }
        if self.mixed.is_empty()
            && is("replay-first", "done")
            && is("deploy-all", "awaiting-approval")
        {
            self.mixed = self.fleet.running().await;
        }
        Ok(())
    }
}

fn findings(asked: &[Asked], did: &[String], problems: Vec<String>) -> Findings {
    let head = ["", "RELEASES", "GOOD CALLED VALID", "WRONG REFUSED"];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    table.extend(asked.iter().map(|it| {
        vec![
            it.when.to_owned(),
            it.releases.join(", "),
            format!("{} of {}", it.valid, it.documents),
            format!("{} of {}", it.refused, it.documents),
        ]
    }));
    let told: Vec<Value> = asked
        .iter()
        .map(|it| {
            json!({
                "when": it.when, "releases": it.releases, "documents": it.documents, "valid": it.valid, "wrong_refused": it.refused,
            })
        })
        .collect();
    Findings {
        title: "What those who rely on the verifiers were told",
        table,
        facts: vec![("asked", json!(told)), ("deployments", json!(did))],
        problems,
    }
}

fn problems(
    differed_before: u64,
    asked: &[Asked],
    story: &Story<'_>,
    running: &[&'static str],
) -> Vec<String> {
    let mut problems = Vec::new();
    if differed_before > 0 {
        problems.push(format!(
            "release {} differed before anything happened",
            GOOD.name
        ));
    }
    for it in asked {
        let broken = it.when == "after the release";
        if broken && it.valid == it.documents {
            problems.push(format!("release {} broke nothing", BAD.name));
        }
        if !broken && it.valid != it.documents {
            problems.push(format!(
                "{}: {} of {} good documents are not called valid",
                it.when,
                it.documents - it.valid,
                it.documents
            ));
        }
        if it.refused != it.documents {
            problems.push(format!("{}: wrong documents were called valid", it.when));
        }
    }
    if story.held_back != Some(true) {
        problems.push("releases were frozen, and one went out all the same".to_owned());
    }
    let staged = story.mixed.contains(&GOOD.name) && story.mixed.contains(&MENDED.name);
    if !staged {
        problems.push("the mended release was not tried in one place first".to_owned());
    }
    if running.is_empty() || running.iter().any(|name| *name != MENDED.name) {
        problems.push(format!(
            "at the end {} runs and not {}",
            running.join(", "),
            MENDED.name
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(when: &'static str, valid: usize, refused: usize) -> Asked {
        Asked {
            when,
            releases: Vec::new(),
            valid,
            refused,
            documents: 4,
        }
    }

    #[tokio::test]
    async fn a_release_that_broke_nothing_or_went_everywhere_at_once_fails_the_drill() {
        sealwarden_pki::install_ring();
        let fleet = Fleet::open().await.unwrap();
        let story = |held_back, mixed: &[&'static str]| Story {
            narrator: Narrator { quiet: true },
            fleet: &fleet,
            held_back,
            put_forward: true,
            mixed: mixed.to_vec(),
        };
        let good = || story(Some(true), &[MENDED.name, GOOD.name]);
        let all = [
            asked("before", 4, 4),
            asked("after the release", 0, 4),
            asked("at the end", 4, 4),
        ];
        let end = [MENDED.name; 3];
        assert_eq!(problems(0, &all, &good(), &end), Vec::<String>::new());
        let harmless = [asked("after the release", 4, 4)];
        assert!(problems(0, &harmless, &good(), &end)[0].contains("broke nothing"));
        let blind = [asked("at the end", 4, 3)];
        assert!(problems(0, &blind, &good(), &end)[0].contains("called valid"));
        let at_once = story(Some(true), &[MENDED.name; 3]);
        assert!(problems(0, &all, &at_once, &end)[0].contains("one place first"));
        assert!(
            problems(
                0,
                &all,
                &story(Some(false), &[MENDED.name, GOOD.name]),
                &end
            )[0]
            .contains("went out")
        );
        assert!(problems(0, &all, &good(), &[BAD.name])[0].contains("2.0 runs"));
        fleet.stop().await;
    }
}
