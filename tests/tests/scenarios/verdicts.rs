//! What `verify` says: both types of signature, many files, old bundles, forged and laundered seals, and with everything else down.

use std::path::Path;

use sealwarden_eventlog::test_server::TestServer;
use sealwarden_seal::record::Original;
use sealwarden_tests::thief::{self, Thief};
use sealwarden_tests::{Installation, eventually, sealwarden};
use serde_json::Value;

const ORIGIN: &str = "seal.example.com/main/1";

fn path(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// One document a line.
fn lines(answer: &sealwarden_tests::Answer) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str(line).expect("a JSON document a line");
    answer.stdout.lines().map(read).collect()
}

#[test]
fn with_post_quantum_keys_both_types_sign_and_a_stripped_one_is_bad() {
    let here = Installation::new();
    std::fs::create_dir_all(here.data()).expect("a data folder");
    std::fs::write(
        here.data().join("settings.yaml"),
        "sealing:\n  post_quantum: true\nverification:\n  post_quantum: true\n",
    )
    .expect("the settings");
    let up = here.up();
    let file = here.file("contract.txt", b"for thirty years\n");
    let seal = here.seal(&file);
    // The bundle that requires both types follows the key's event.
    let trust = eventually("a bundle that requires both types", || {
        let trust = here.trust("trust.json");
        let text = std::fs::read_to_string(&trust).expect("the bundle");
        // Of the log and of the witness.
        (text.matches("ml-dsa-44").count() == 2).then_some(trust)
    });
    let online = here.verify(&file).good();
    assert_eq!(
        online["signed"],
        serde_json::json!(["ed25519", "ml-dsa-44"])
    );
    let again = here.file("later.txt", b"a second checkpoint\n");
    here.seal(&again);
    assert!(up.terminate().success());

    let there = Installation::new();
    let offline = |seal: &Path| {
        let arguments = [
            "verify",
            path(&file),
            "--seal",
            path(seal),
            "--trust",
            path(&trust),
            "--json",
        ];
        sealwarden(there.home(), &arguments)
    };
    let answer = offline(&seal).good();
    assert_eq!(answer["signed"], online["signed"], "{answer}");
    let text = std::fs::read_to_string(&seal).expect("the seal");
    // An ML-DSA-44 line is fifty times as long as an Ed25519 one.
    let by = [
        ("— seal.example.com/", "bad-signature"),
        (".witness.", "unwitnessed"),
    ];
    let types = [("ml-dsa-44", true), ("ed25519", false)];
    for ((name, is_long), (signer, verdict)) in types
        .into_iter()
        .flat_map(|kind| by.map(|signer| (kind, signer)))
    {
        let mut own = false;
        let kept: String = text
            .split_inclusive('\n')
            .filter(|line| {
                let strip = line.starts_with("— ")
                    && line.contains(signer)
                    && (line.len() > 2_000) == is_long;
                own |= strip;
                !strip
            })
            .collect();
        assert!(own, "there was a {name} signature of {signer}");
        let stripped = there.file("stripped.seal", kept.as_bytes());
        let answer = offline(&stripped).ends_with(1).json();
        assert_eq!(answer["verdict"], verdict, "{answer}");
        let reason = answer["reason"].as_str().expect("a reason");
        assert!(
            verdict == "unwitnessed"
                || reason.contains(&format!("the {name} signature of its log")),
            "{reason}"
        );
    }
}

#[test]
fn a_witness_that_gets_a_post_quantum_key_later_signs_with_both_and_older_seals_stay_valid() {
    let here = Installation::new();
    let up = here.up();
    let old = here.file("old.txt", b"cosigned with one key\n");
    let seal = here.seal(&old);
    let lines = |seal: &Path| {
        let text = std::fs::read_to_string(seal).expect("the seal");
        text.lines().filter(|it| it.contains(".witness.")).count()
    };
    assert_eq!(lines(&seal), 1);
    assert!(up.terminate().success());
    let settings = here.data().join("settings.yaml");
    std::fs::write(settings, "verification:\n  post_quantum: true\n").expect("the settings");
    let up = here.up();
    let trust = eventually("a bundle that lists the witness's second key", || {
        let trust = here.trust("trust.json");
        let text = std::fs::read_to_string(&trust).expect("the bundle");
        text.contains("other_vkeys").then_some(trust)
    });
    let text = std::fs::read_to_string(&trust).expect("the bundle");
    assert!(!text.contains("ml-dsa-44"), "no type is required: {text}");
    let new = here.file("new.txt", b"cosigned with both\n");
    assert_eq!(lines(&here.seal(&new)), 2);
    for file in [&old, &new] {
        assert_eq!(here.verify(file).good()["verdict"], "valid");
    }
    assert!(up.terminate().success());
}

#[test]
fn many_files_are_verified_in_order_here_and_offline_and_one_bad_one_is_told() {
    let here = Installation::new();
    let up = here.up();
    let files: Vec<_> = (0..5)
        .map(|number| here.file(&format!("file-{number}"), format!("{number}").as_bytes()))
        .collect();
    for file in &files {
        here.seal(file);
    }
    std::fs::write(&files[3], b"changed").expect("a changed file");
    let names: Vec<_> = files.iter().map(|file| path(file)).collect();
    let list = names.join("\n") + "\n";
    let list = here.file("list", list.as_bytes());
    let trust = here.trust("trust.json");
    let expected = ["valid", "valid", "valid", "document-mismatch", "valid"];
    let judged = |answer: sealwarden_tests::Answer| {
        let answer = answer.ends_with(1);
        let lines = lines(&answer);
        let verdicts: Vec<_> = lines.iter().map(|it| it["verdict"].clone()).collect();
        assert_eq!(verdicts, expected);
        for (line, file) in lines.iter().zip(&files) {
            assert_eq!(line["file"], path(file));
        }
    };
    judged(here.call(&["verify", "--from-list", path(&list)]));
    judged(here.call(&[
        "verify",
        "--from-list",
        path(&list),
        "--trust",
        path(&trust),
    ]));
    here.call(&["verify", path(&files[0]), path(&files[1])])
        .must_end_with(0);
    // What cannot be read is told in its place, and is no verdict.
    let missing = here.home().join("missing");
    let answer = here
        .call(&["verify", path(&files[0]), path(&missing), path(&files[1])])
        .ends_with(2);
    let told = lines(&answer);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(
        told[1]["error"]
            .as_str()
            .is_some_and(|it| it.contains("missing"))
    );
    here.call(&["verify"]).must_end_with(2);
    here.call(&["verify", path(&files[0]), path(&files[1]), "--seal", "x"])
        .must_end_with(2);

    // A bundle older than the caller allows makes a good seal suspect.
    let aged = |age: &str| {
        here.call(&[
            "verify",
            path(&files[0]),
            "--trust",
            path(&trust),
            "--max-age",
            age,
        ])
    };
    assert_eq!(aged("30d").good()["verdict"], "valid");
    let old = eventually("a bundle older than a second", || {
        let answer = aged("1s").json();
        (answer["verdict"] == "suspect").then_some(answer)
    });
    let reason = old["reason"].as_str().expect("a reason");
    assert!(reason.contains("longer ago than the 1 s"), "{reason}");
    aged("soon").must_end_with(2);
    assert!(up.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn back_dated_and_laundered_seals_of_a_thief_fail() {
    let here = Installation::new();
    let _up = here.up();
    here.seal(&here.file("first", b"first"));
    let trust = here.trust("trust.json");
    let thief = Thief::steals_from(&here, "sealing-1").await;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let year_ago_ms = now_ms - 365 * 86_400_000;
    let original = |origin: &str| {
        Some(Original {
            origin: origin.to_owned(),
            index: 0,
        })
    };
    let document = here.file("forged", b"I owe you nothing\n");
    for (number, (original, offline, words)) in [
        (None, "unwitnessed", "must; fetch the seal again"),
        (
            original("seal.example.com/main/0"),
            "suspect",
            "does not know that log",
        ),
        (
            original(ORIGIN),
            "suspect",
            "no log seals its own leaves again",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let record = thief::record(b"I owe you nothing\n", year_ago_ms, original);
        let seal = thief.forges_a_seal_of(ORIGIN, &record).await;
        let seal = here.file(&format!("forged-{number}.seal"), &seal);
        let answer = here
            .call(&[
                "verify",
                path(&document),
                "--seal",
                path(&seal),
                "--trust",
                path(&trust),
            ])
            .ends_with(1)
            .json();
        assert_eq!(answer["verdict"], offline, "{answer}");
        let reason = answer["reason"].as_str().expect("a reason");
        assert!(reason.contains(words), "{reason}");
        // Nobody but the record says a year ago.
        assert!(answer["sealed_at"].is_null(), "{answer}");
        let online = here
            .call(&["verify", path(&document), "--seal", path(&seal)])
            .ends_with(1)
            .json();
        assert_eq!(online["verdict"], "suspect", "{online}");
    }
}

#[test]
fn verification_goes_on_alone_and_without_the_event_log() {
    let mut server = TestServer::start().expect("a nats-server");
    let here = Installation::over_nats(&server.url());
    let executor = here.serve("runbook-executor");
    let sealing = here.serve("sealing");
    let verification = here.serve("verification");
    let detection = here.serve("detection");
    let file = here.file("file", b"x");
    here.seal_eventually(&file);
    let before = eventually("a valid verdict", || {
        let answer = here.verify(&file);
        (answer.code == 0).then(|| answer.good())
    });
    for service in [executor, sealing, detection] {
        service.kill();
    }
    let alone = here.verify(&file).good();
    assert_eq!(alone["verdict"], before["verdict"]);
    let list = here.file("list", format!("{0}\n{0}\n", path(&file)).as_bytes());
    here.call(&["verify", "--from-list", path(&list)])
        .must_end_with(0);

    server.kill().expect("the server ends");
    let without = here.verify(&file).good();
    assert_eq!(without["verdict"], "valid", "{without}");
    assert_eq!(without["trust_version"], before["trust_version"]);
    // What needs the event log to be told apart from a forgery says that it could not be asked.
    std::fs::write(&file, b"y").expect("a changed file");
    let changed = here.verify(&file).ends_with(1).json();
    assert_eq!(changed["verdict"], "document-mismatch", "{changed}");
    drop(verification);
}
