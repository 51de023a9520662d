//! Time from outside: stage `anchored` by time-stamping authorities, witnesses of another operator, and where a stolen log ends by their word.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sealwarden_seal::seal::Seal;
use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::{Installation, OpensslTsa, Process, eventually, people};
use serde_json::Value;

const ORIGIN: &str = "seal.example.com/main/1";

/// Our own small authority in a process of its own, and the address that it says.
fn tsa(home: &Path, name: &str, more: &[&str]) -> (Process, String, PathBuf) {
    let dir = home.join(name);
    let mut arguments = vec!["drill-tsa".to_owned(), "--dir".to_owned()];
    arguments.push(text(&dir));
    arguments.extend(more.iter().map(|it| (*it).to_owned()));
    let process = Process::start(home, name, &arguments);
    let line = process.ready_line().to_owned();
    let url = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("tsa="))
        .expect("its address");
    (process, url.to_owned(), dir.join("root.pem"))
}

fn text(path: &Path) -> String {
    path.to_str().expect("a path").to_owned()
}

/// Settings with these authorities (name, address, roots), asked every second.
fn anchored_by(here: &Installation, tsas: &[(&str, &str, &Path)]) {
    let mut settings =
        "sealing:\n  anchors:\n    interval_s: 1\n    timeout_ms: 500\n    tsas:\n".to_owned();
    for (name, url, roots) in tsas {
        let roots = roots.display();
        writeln!(
            settings,
            "      - {{ name: {name}, url: \"{url}\", roots: \"{roots}\" }}"
        )
        .expect("a text grows");
    }
    set(here, &settings);
}

fn set(here: &Installation, settings: &str) {
    std::fs::create_dir_all(here.data()).expect("the data folder");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(here.data(), closed).expect("a mode");
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
}

fn anchors_of(file: &Path) -> PathBuf {
    PathBuf::from(format!("{}.seal.anchors", file.display()))
}

fn seal_anchored(here: &Installation, file: &Path) -> Value {
    here.call(&[
        "seal",
        "--wait",
        "anchored",
        "--wait-seconds",
        "30",
        &text(file),
    ])
    .good()
}

#[test]
fn a_seal_is_anchored_and_verifies_offline_by_the_bundle_alone() {
    let here = Installation::new();
    let (_tsa, url, roots) = tsa(here.home(), "tsa", &[]);
    anchored_by(&here, &[("drill", &url, &roots)]);
    let _up = here.up();
    let file = here.file("first", b"first");
    let answer = seal_anchored(&here, &file);
    assert_eq!(answer["seals"][0]["stage"], "anchored", "{answer}");
    assert!(anchors_of(&file).exists());
    let trust = eventually("the bundle names the authority", || {
        let trust = here.trust("trust.json");
        let verdict = here
            .call(&["verify", &text(&file), "--trust", &text(&trust)])
            .good();
        (verdict["anchors"][0]["tsa"] == "CN=Drill TSA").then_some(trust)
    });
    let online = here.verify(&file).good();
    assert_eq!(online["anchors"][0]["tsa"], "CN=Drill TSA", "{online}");

    // A seal from before its checkpoint was anchored gets its anchors later, and keeps the first ones.
    let later = here.file("later", b"later");
    here.seal(&later);
    eventually("the later seal is anchored", || {
        let answer = here.call(&["anchor", "--upgrade", &text(&later)]);
        (answer.code == 0).then_some(())
    });
    let kept = std::fs::read(anchors_of(&later)).expect("its anchors");
    for n in 0..3 {
        seal_anchored(&here, &here.file(&format!("more {n}"), &[n]));
    }
    here.call(&["anchor", "--upgrade", &text(&later)]).good();
    let now = std::fs::read(anchors_of(&later)).expect("its anchors");
    assert_eq!(now, kept, "the earliest times stay");
    let verdict = here
        .call(&["verify", &text(&later), "--trust", &text(&trust)])
        .good();
    assert_eq!(verdict["verdict"], "valid", "{verdict}");
    assert_eq!(verdict["anchors"][0]["tsa"], "CN=Drill TSA", "{verdict}");
}

#[test]
fn openssl_anchors_seals_as_our_own_authority_does() {
    let here = Installation::new();
    let (_tsa, url, roots) = tsa(here.home(), "tsa", &[]);
    let other = OpensslTsa::start(&here.home().join("openssl"));
    anchored_by(
        &here,
        &[
            ("drill", &url, &roots),
            ("openssl", &other.url(), &other.root()),
        ],
    );
    let _up = here.up();
    // Two authorities that are asked one after the other may meet different checkpoints, of which a seal keeps the first one's anchors.
    let mut dated_by = BTreeSet::new();
    let mut number = 0;
    eventually("both authorities date seals, offline by the bundle", || {
        number += 1;
        let file = here.file(&format!("file {number}"), &[number]);
        seal_anchored(&here, &file);
        here.call(&["anchor", "--upgrade", &text(&file)]).good();
        let trust = here.trust("trust.json");
        let verdict = here
            .call(&["verify", &text(&file), "--trust", &text(&trust)])
            .good();
        let anchors = verdict["anchors"].as_array().cloned().unwrap_or_default();
        dated_by.extend(anchors.iter().map(|it| it["tsa"].to_string()));
        let both = ["\"CN=Drill TSA\"", "\"CN=OpenSSL\""];
        dated_by.iter().eq(both).then_some(())
    });
}

#[test]
fn a_seal_gets_anchors_of_later_checkpoints_and_keeps_the_earliest_time() {
    let here = Installation::new();
    let (_tsa, url, roots) = tsa(here.home(), "tsa", &[]);
    let late = OpensslTsa::start(&here.home().join("openssl"));
    anchored_by(&here, &[("drill", &url, &roots)]);
    let up = here.up();
    let file = here.file("first", b"first");
    seal_anchored(&here, &file);
    let first = std::fs::read_to_string(anchors_of(&file)).expect("its anchors");
    assert!(first.starts_with("sealwarden.anchors@v1\n"));
    seal_anchored(&here, &here.file("second", b"second"));
    assert!(up.terminate().success());

    // Another authority comes later: it never dates the first checkpoint.
    anchored_by(
        &here,
        &[("drill", &url, &roots), ("late", &late.url(), &late.root())],
    );
    let _up = here.up();
    let mut number = 0;
    let both = eventually("the later authority's anchor is added", || {
        number += 1;
        seal_anchored(&here, &here.file(&format!("more {number}"), &[number]));
        here.call(&["anchor", "--upgrade", &text(&file)]).good();
        let both = std::fs::read_to_string(anchors_of(&file)).expect("its anchors");
        both.starts_with("sealwarden.anchors@v2\n").then_some(both)
    });
    let own = first.split_once('\n').expect("lines").1;
    assert!(both.contains(own), "what was there stays");
    // More checkpoints are dated by both; nothing piles up.
    seal_anchored(&here, &here.file("later", b"later"));
    here.call(&["anchor", "--upgrade", &text(&file)]).good();
    let again = std::fs::read_to_string(anchors_of(&file)).expect("its anchors");
    assert_eq!(again, both);

    let trust = eventually("the bundle names both authorities", || {
        let trust = here.trust("trust.json");
        let tsas = payload(&trust)["tsas"].as_array().map_or(0, Vec::len);
        (tsas == 2).then_some(trust)
    });
    let offline = |file: &Path| here.call(&["verify", &text(file), "--trust", &text(&trust)]);
    let verdict = offline(&file).good();
    let anchors = verdict["anchors"].as_array().expect("anchors");
    let names: Vec<_> = anchors.iter().map(|it| it["tsa"].clone()).collect();
    assert_eq!(names, ["CN=Drill TSA", "CN=OpenSSL"], "{verdict}");
    assert_eq!(anchors[0]["later"], false, "{verdict}");
    assert_eq!(anchors[1]["later"], true, "{verdict}");
    let online = here.verify(&file).good();
    assert_eq!(online["anchors"], verdict["anchors"], "{online}");

    // An old file is read as before, a tampered proof is named, and so are another seal's anchors.
    std::fs::write(anchors_of(&file), &first).expect("the old file");
    assert_eq!(offline(&file).good()["anchors"][0]["later"], false);
    let place = both.find("\nconsistency ").expect("a proof") + 20;
    let mut bad = both.clone().into_bytes();
    bad[place] = if bad[place] == b'A' { b'B' } else { b'A' };
    std::fs::write(anchors_of(&file), &bad).expect("a tampered file");
    let refused = offline(&file).ends_with(2);
    assert!(
        refused
            .stderr
            .contains("is not proven to contain the first one")
    );
    std::fs::copy(anchors_of(&here.home().join("later")), anchors_of(&file)).expect("a copy");
    let foreign = offline(&file);
    assert!(foreign.stderr.contains("are of another checkpoint"));
    let verdict = foreign.good();
    assert_eq!(verdict["anchors"], serde_json::json!([]), "{verdict}");
}

#[test]
fn many_files_that_are_sealed_in_bulk_wait_for_their_anchors_together() {
    let here = Installation::new();
    let (_tsa, url, roots) = tsa(here.home(), "tsa", &[]);
    anchored_by(&here, &[("drill", &url, &roots)]);
    let _up = here.up();
    here.seal_eventually(&here.file("first", b"first"));
    let files: Vec<_> = (0..70_u8)
        .map(|number| here.file(&format!("many-{number}"), &[number]))
        .collect();
    let names: Vec<_> = files.iter().map(|file| text(file)).collect();
    let mut call = vec!["seal", "--wait", "anchored", "--wait-seconds", "60"];
    call.extend(names.iter().map(String::as_str));
    let answer = here.call(&call).good();
    let told = answer["seals"].as_array().expect("seals");
    assert_eq!(told.len(), 70);
    assert!(told.iter().all(|it| it["stage"] == "anchored"), "{answer}");
    assert!(files.iter().all(|file| anchors_of(file).exists()));
    here.verify(&files[69]).must_end_with(0);
}

#[test]
fn authorities_that_are_away_hang_or_lie_anchor_nothing_and_stop_nothing() {
    let here = Installation::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port that never answers");
    let hangs = format!("http://{}/", silent.local_addr().expect("its address"));
    let (_liar, lies, roots) = tsa(here.home(), "liar", &["--offset-s", "-86400"]);
    let (_other, strange, _) = tsa(here.home(), "stranger", &[]);
    anchored_by(
        &here,
        &[
            ("away", "http://127.0.0.1:1/", &roots),
            ("hangs", &hangs, &roots),
            ("lies", &lies, &roots),
            ("strange", &strange, &roots),
        ],
    );
    let _up = here.up();
    let file = here.file("file", b"file");
    let answer = here.call(&[
        "seal",
        "--wait",
        "anchored",
        "--wait-seconds",
        "3",
        &text(&file),
    ]);
    assert_eq!(answer.code, 1, "it says what was not reached");
    assert_eq!(answer.json()["seals"][0]["stage"], "witnessed");
    assert!(!anchors_of(&file).exists());
    let failing = eventually("every failure is visible", || {
        let status = here.status();
        let all = status["sealing"]["anchors"].as_array()?.clone();
        let failing = |it: &Value| it["failing"].as_str().is_some_and(|why| !why.is_empty());
        (all.len() == 4 && all.iter().all(failing)).then_some(all)
    });
    let why = |name: &str| {
        let it = failing.iter().find(|it| it["name"] == name);
        it.and_then(|it| it["failing"].as_str())
            .expect("a reason")
            .to_owned()
    };
    assert!(why("lies").contains("this node's clock"), "{}", why("lies"));
    assert!(
        why("strange").contains("not one that you trust"),
        "{}",
        why("strange")
    );
    assert!(failing.iter().all(|it| it["size"] == 0), "{failing:#?}");
    // Sealing goes on.
    here.seal(&here.file("next", b"next"));
    let waits = here
        .call(&["anchor", "--upgrade", &text(&file)])
        .ends_with(1);
    let reason = waits.json()["upgraded"][0]["reason"].to_string();
    assert!(reason.contains("lies fails"), "{reason}");
}

/// What a trust bundle says.
fn payload(bundle: &Path) -> Value {
    let bundle: Value =
        serde_json::from_slice(&std::fs::read(bundle).expect("a bundle")).expect("JSON");
    match bundle["payload"].as_str() {
        Some(text) => serde_json::from_str(text).expect("JSON"),
        None => bundle["payload"].clone(),
    }
}

/// The vkeys of an installation's first log and witness.
fn keys(here: &Installation, name: &str) -> (String, String) {
    let payload = payload(&here.trust(name));
    let word = |value: &Value| value.as_str().expect("a key").to_owned();
    (
        word(&payload["logs"][0]["vkeys"][0]),
        word(&payload["witnesses"][0]["vkey"]),
    )
}

/// Another operator's logs have other names.
fn other_up(there: &Installation) -> Process {
    let arguments = there.arguments(&["up", "--base", "other.example.com"]);
    Process::start(there.home(), "up", &arguments)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_of_another_operator_is_asked_for_and_never_done_without() {
    let (here, there) = (
        Installation::new().named("here"),
        Installation::new().named("there"),
    );
    let up_here = here.up();
    let up_there = other_up(&there);
    let (log, _) = keys(&here, "trust.json");
    let (_, witness) = keys(&there, "trust.json");
    let url = there.address("verification", "http");
    assert!(up_here.terminate().success() && up_there.terminate().success());
    set(
        &there,
        &format!("verification:\n  witness_for: [\"{log}\"]\n"),
    );
    here.file(
        "witnesses.policy",
        format!("witness there {witness} {url}/witness\nquorum there\n").as_bytes(),
    );
    set(
        &here,
        &format!(
            "runbook-executor:\n  witness_policy: {}\n  witness_operators: {{ there: Other GmbH }}\n",
            here.home().join("witnesses.policy").display()
        ),
    );
    let _here = here.up();
    let witnessed = |file: &Path| {
        here.call(&["seal", "--renew", &text(file)]);
        let verdict = here.verify(file).json();
        let whose = verdict["witnesses"].to_string();
        (verdict["verdict"] == "valid" && whose.contains("Other GmbH")).then_some(())
    };
    // Away: the stage says so, and nothing is passed off as witnessed.
    let first = here.file("first", b"first");
    eventually("the outside witness is asked for", || {
        let answer = here.call(&["seal", "--force", &text(&first)]);
        let unwitnessed = here.verify(&first).json()["verdict"] == "unwitnessed";
        (answer.code == 1 && unwitnessed).then_some(())
    });
    let status = here.status()["sealing"]["witnesses"].to_string();
    assert!(
        status.contains("Other GmbH") && status.contains("error"),
        "{status}"
    );
    let there_again = other_up(&there);
    eventually("back, it cosigns what was sealed meanwhile", || {
        witnessed(&first)
    });

    // Away again: what it cosigned stays good, what comes is not.
    there_again.kill();
    let second = here.file("second", b"second");
    here.call(&["seal", &text(&second)]).must_end_with(1);
    assert_eq!(here.verify(&second).json()["verdict"], "unwitnessed");
    assert_eq!(here.verify(&first).json()["verdict"], "valid");
    let _there = other_up(&there);
    eventually("back, it goes on", || witnessed(&second));

    // It knows no intents of ours, but it sees a fork: same size, other root.
    let seal = Seal::parse(&std::fs::read(format!("{}.seal", text(&second))).expect("a seal"))
        .expect("a seal");
    let size = seal.checkpoint().expect("a checkpoint").size;
    let thief = Thief::steals_from(&here, "sealing-1").await;
    let fork = thief.forges(ORIGIN, size).await;
    let refused = thief::shows_to_the_witness(&there, &fork, size).await;
    assert_eq!(refused, 422, "a fork is refused");
    let kept = eventually("and kept as evidence", || {
        let folder = there.data().join("nodes/verification-1/refused");
        let count = std::fs::read_dir(folder).ok()?.count();
        (count > 0).then_some(count)
    });
    assert!(kept > 0);
}

/// Waits until this moment is over, Unix milliseconds.
fn passes(moment_ms: i64) {
    eventually("a moment passes", || {
        (jiff::Timestamp::now().as_millisecond() > moment_ms).then_some(())
    });
}

#[test]
fn a_stolen_log_ends_where_a_witness_of_another_operator_saw_it_last() {
    let (here, there) = (
        Installation::new().named("here"),
        Installation::new().named("there"),
    );
    let up_here = here.up();
    let up_there = other_up(&there);
    let (log, _) = keys(&here, "trust.json");
    let (_, witness) = keys(&there, "trust.json");
    let url = there.address("verification", "http");
    assert!(up_here.terminate().success() && up_there.terminate().success());
    set(
        &there,
        &format!("verification:\n  witness_for: [\"{log}\"]\n"),
    );
    // It is asked, and not required: it knows nothing of the origin that comes after the stolen one.
    let policy = format!("witness there {witness} {url}/witness\nquorum none\n");
    let policy = here.file("witnesses.policy", policy.as_bytes());
    set(
        &here,
        &format!(
            "sealing:\n  cosignatures_recorded_s: 1\nrunbook-executor:\n  clock_skew_s: 0\n  witness_policy: {}\n  witness_operators: {{ there: Other GmbH }}\n",
            policy.display()
        ),
    );
    let up = here.up();
    let outside = other_up(&there);
    // A cosignature's time is in whole seconds: one of the second in which the log was opened would seem older than the log, and date nothing.
    passes((jiff::Timestamp::now().as_second() + 1) * 1_000);
    // No time-stamping authority is configured: the cosignature's time is all that there is.
    let cosigned = |name: &str| {
        let file = here.file(name, name.as_bytes());
        here.seal_eventually(&file);
        let seconds = eventually("the outside witness cosigns it", || {
            here.call(&["seal", "--renew", &text(&file)]);
            let verdict = here.verify(&file).json();
            let witnesses = verdict["witnesses"].as_array()?.clone();
            let of_there = witnesses.iter().find(|it| it["operator"] == "Other GmbH")?;
            let time: jiff::Timestamp = of_there["time"].as_str()?.parse().ok()?;
            (verdict["verdict"] == "valid").then_some(time.as_second())
        });
        (file, seconds)
    };
    let (dated, seen_s) = cosigned("dated");
    passes((seen_s + 1) * 1_000);
    let since = jiff::Timestamp::now();
    passes((since.as_second() + 1) * 1_000);
    let (late, late_s) = cosigned("late");
    assert!(late_s * 1_000 > since.as_millisecond());
    outside.kill();
    let local_only = here.file("local only", b"local only");
    here.seal(&local_only);

    let origin = ["--origin", ORIGIN];
    let seen = ["--seen", "the key was copied"];
    let signal = ["signal", "--class", "key-compromise"];
    let signal = here.call(&[&signal[..], &origin, &seen].concat()).good();
    let incident = signal["incident"].as_str().expect("an incident").to_owned();
    let time = since.to_string();
    here.call(&[
        "incident",
        "classify",
        &incident,
        "--class",
        "key-compromise",
        "--compromised-since",
        &time,
        "--reason",
        "found in the logs of the KMS",
    ])
    .good();
    let run = people::run_of_the_incident(&here);
    people::approve_until_the_end(&here, &run);
    let trust = here.trust("after.json");
    let old = &payload(&trust)["logs"][0];
    assert_eq!(old["state"], "frozen", "{old:#}");
    assert_eq!(old["frozen_at"]["size"], 1, "{old:#}");
    let verdict = |file: &Path| {
        here.call(&["verify", &text(file), "--trust", &text(&trust)])
            .json()
    };
    let good = verdict(&dated);
    assert_eq!(good["verdict"], "valid-before-compromise", "{good}");
    let reason = good["reason"].to_string();
    assert!(
        reason.contains("outside witness there saw this"),
        "{reason}"
    );
    for file in [&late, &local_only] {
        let bad = verdict(file);
        assert_eq!(bad["verdict"], "suspect", "{bad}");
        assert_eq!(here.verify(file).json()["verdict"], "suspect");
    }
    let local = ["sealing-1", "verification-1"];
    assert!(!local.iter().any(|name| reason.contains(name)), "{reason}");
    assert!(up.terminate().success());
    knows_after_a_start_what_was_sealed_again(&here, &dated);
}

/// Where a record was sealed again is kept in an index, so that a start need not read all records; one that is damaged is made anew.
fn knows_after_a_start_what_was_sealed_again(here: &Installation, old: &Path) {
    let index = here.data().join("nodes/sealing-1/resealed/main/2");
    let good = std::fs::read_to_string(&index).expect("the index");
    assert!(
        good.starts_with("sealwarden.resealed@v1\ncovers "),
        "{good}"
    );
    assert!(good.contains(ORIGIN), "{good}");
    let seal = std::fs::read(format!("{}.seal", text(old))).expect("the old seal");
    for damaged in [false, true] {
        if damaged {
            std::fs::write(&index, good.replace("covers ", "covers 1")).expect("a damaged index");
        }
        std::fs::write(format!("{}.seal", text(old)), &seal).expect("the old seal");
        let up = here.up();
        eventually("the old seal is renewed as its successor", || {
            here.call(&["seal", "--renew", &text(old)]);
            let verdict = here.verify(old).json();
            let moved = verdict["origin"] == "seal.example.com/main/2";
            (moved && verdict["verdict"] == "valid").then_some(())
        });
        assert!(up.terminate().success());
    }
    let again = std::fs::read_to_string(&index).expect("the index");
    assert_eq!(again, good, "it is made anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_log_ends_where_an_authority_dated_it_last() {
    let here = Installation::new();
    let (authority, url, roots) = tsa(here.home(), "tsa", &[]);
    anchored_by(&here, &[("drill", &url, &roots)]);
    let settings = std::fs::read_to_string(here.data().join("settings.yaml")).expect("settings");
    set(
        &here,
        &(settings + "runbook-executor:\n  clock_skew_s: 0\n"),
    );
    let _up = here.up();
    let dated = here.file("dated", b"dated");
    seal_anchored(&here, &dated);
    authority.kill();
    let undated = here.file("undated", b"undated");
    here.seal(&undated);

    let stamped_ms = here.status()["sealing"]["anchors"][0]["time_ms"]
        .as_i64()
        .expect("a time");
    eventually("the latest moment that the stamp allows has passed", || {
        (jiff::Timestamp::now().as_millisecond() > stamped_ms).then_some(())
    });

    let thief = Thief::steals_from(&here, "sealing-1").await;
    thief::shows_to_the_witness(&here, &thief.forges(ORIGIN, 1_000).await, 1).await;
    let run = people::run_of_the_incident(&here);
    people::approve_until_the_end(&here, &run);
    let trust = here.trust("after.json");
    let old = &payload(&trust)["logs"][0];
    assert_eq!(old["origin"], ORIGIN, "{old:#}");
    assert_eq!(old["state"], "frozen", "{old:#}");
    assert_eq!(old["frozen_at"]["size"], 1, "{old:#}");
    // The event log's own word is enough to seal again.
    assert_eq!(old["resealable"], 2, "{old:#}");
    let verdict = |file: &Path| {
        here.call(&["verify", &text(file), "--trust", &text(&trust)])
            .json()["verdict"]
            .clone()
    };
    assert_eq!(verdict(&dated), "valid-before-compromise");
    assert_eq!(
        here.verify(&dated).json()["verdict"],
        "valid-before-compromise"
    );
    assert_eq!(verdict(&undated), "suspect");
    // Without its anchors nobody outside dates it.
    std::fs::remove_file(anchors_of(&dated)).expect("its anchors");
    assert_eq!(verdict(&dated), "suspect");
}
