//! Verifiers that others run: what they say of archived documents is compared, and a release that breaks them is an incident.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use sealwarden_tests::wait::eventually;
use sealwarden_tests::{Installation, Process, sealwarden};
use serde_json::Value;

/// Settings with one archive, and a verifier at an address.
fn settings(here: &Installation, url: Option<&str>) {
    std::fs::create_dir_all(here.data()).expect("the data folder");
    let archives = "verification:\n  archives:\n    - {name: main, url: ../archive, backup: ../backup, every_h: 0}\n";
    let verifiers = url.map(|url| {
        format!(
            "  verifiers:\n    - {{name: fleet, url: \"{url}\", archive: main, every_s: 0, timeout_ms: 2000}}\n"
        )
    });
    let text = archives.to_owned() + &verifiers.unwrap_or_default();
    std::fs::write(here.data().join("settings.yaml"), text).expect("the settings");
}

/// A verifier at a release, as another machine would run it.
fn verifier(home: &Path, trust: &Path, listen: &str, release: &str, more: &[&str]) -> Process {
    let own = home.join(format!("verifier-{release}"));
    let (trust, own) = (trust.to_string_lossy(), own.to_string_lossy());
    let mut words = vec![
        "verifier",
        "serve",
        "--trust",
        &trust,
        "--listen",
        listen,
        "--release",
        release,
    ];
    words.extend(["--data", &own]);
    words.extend(more);
    Process::start(home, &format!("verifier-{release}"), &words)
}

fn address(process: &Process) -> String {
    let line = process.ready_line();
    let mut words = line.split_whitespace();
    let url = words.find_map(|word| word.strip_prefix("verifier=http://"));
    url.unwrap_or_else(|| panic!("no address in {line}"))
        .to_owned()
}

fn archived(here: &Installation, names: &[&str]) -> Vec<PathBuf> {
    let files: Vec<PathBuf> = names
        .iter()
        .map(|name| here.file(name, name.as_bytes()))
        .collect();
    let mut words = vec!["seal".to_owned(), "--archive".to_owned(), "main".to_owned()];
    words.extend(files.iter().map(|it| it.to_string_lossy().into_owned()));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    eventually("documents are sealed and archived", || {
        (here.call(&words).code == 0).then_some(())
    });
    files
}

/// A question as any program puts it, by hand.
fn asked(address: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let length = body.len();
    write!(
        stream,
        "POST /verify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("a question");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .expect("an answer with a body");
    let status = head.lines().next().unwrap_or_default();
    (status.to_owned(), body.to_owned())
}

#[test]
fn a_release_that_breaks_verification_is_found_by_the_archive_and_opens_an_incident() {
    let here = Installation::new();
    settings(&here, None);
    let up = here.up();
    let files = archived(&here, &["a", "b", "c"]);
    let trust = here.trust("trust.json");
    assert!(up.terminate().success());
    let good = verifier(
        here.home(),
        &trust,
        "127.0.0.1:0",
        "1.0",
        &["--max-age", "7d"],
    );
    let address = address(&good);
    settings(&here, Some(&format!("http://{address}")));
    let _up = here.up();

    let compare = || here.call(&["verifier", "compare", "fleet"]);
    let first = eventually("the archive is open again", || {
        let answer = compare();
        (answer.code != 3).then_some(answer)
    });
    let first = first.good();
    assert_eq!(
        (&first["good"], first["different"].as_u64()),
        (&Value::Bool(true), Some(0)),
        "{first:#}"
    );
    // Three documents, and each seal with the digest of something else.
    assert_eq!(first["compared"], 6, "{first:#}");
    assert_eq!(first["releases"][0]["release"], "1.0", "{first:#}");
    assert!(here.suspicions().is_empty());

    assert!(good.terminate().success());
    let bad = verifier(here.home(), &trust, &address, "2.0", &["--max-age", "1s"]);
    let broken = eventually("the bundle is older than the release allows", || {
        let answer = compare();
        (answer.code == 1).then_some(answer)
    });
    let broken = broken.json();
    assert_eq!(
        (broken["different"].as_u64(), broken["compared"].as_u64()),
        (Some(3), Some(6)),
        "{broken:#}"
    );
    assert_eq!(broken["differences"][0]["said"], "suspect", "{broken:#}");
    assert_eq!(broken["agreed_releases"][0], "1.0", "{broken:#}");
    // Offline, with a bundle of any age, the document is what it was.
    let (file, trust) = (files[0].to_string_lossy(), trust.to_string_lossy());
    here.call(&["verify", &file, "--trust", &trust]).good();

    let incident = eventually("an incident is open", || here.suspicions().first().cloned());
    let shown = here.call(&["incident", "show", &incident]).good();
    assert_eq!(shown["class"], "release-regression", "{shown:#}");
    assert_eq!(shown["subject"], "verifier fleet", "{shown:#}");
    let run = eventually("its runbook runs", || {
        let shown = here.call(&["incident", "show", &incident]).good();
        shown["runs"][0].as_str().map(str::to_owned)
    });
    // Comparing again is part of the same incident.
    assert_eq!(compare().code, 1);
    assert_eq!(here.suspicions().len(), 1);
    let step = eventually("what its releases say is on record", || {
        let shown = here.call(&["run", "show", &run]).good();
        let steps = shown["steps"].as_array().cloned().unwrap_or_default();
        steps
            .into_iter()
            .find(|step| step["step"] == "compare" && step["state"] == "done")
    });
    assert_eq!(
        (&step["outputs"]["differing"], &step["outputs"]["agreed"]),
        (&"2.0".into(), &"1.0".into()),
        "{step:#}"
    );

    drop(bad);
    let silent = compare().ends_with(1).json();
    assert!(silent["problem"].is_string(), "{silent:#}");
    let list = here.call(&["verifier", "list"]).ends_with(1).json();
    assert_eq!(list["verifiers"][0]["last"]["compared"], 0, "{list:#}");
}

#[test]
fn a_verifier_answers_questions_and_refuses_what_is_none() {
    let here = Installation::new();
    let up = here.up();
    let file = here.file("a", b"a document");
    let seal = here.seal(&file);
    let trust = here.trust("trust.json");
    assert!(up.terminate().success());
    let process = verifier(here.home(), &trust, "127.0.0.1:0", "1.0", &[]);
    let address = address(&process);
    let seal = base64(&std::fs::read(seal).expect("a seal"));
    let digest = "0".repeat(64);
    let (status, body) = asked(&address, &format!("{{\"seal\": \"{seal}\"}}"));
    assert!(
        status.contains("200") && body.contains("\"valid\""),
        "{status} {body}"
    );
    let (status, body) = asked(
        &address,
        &format!("{{\"seal\": \"{seal}\", \"sha256\": \"{digest}\"}}"),
    );
    assert!(
        status.contains("200") && body.contains("document-mismatch"),
        "{status} {body}"
    );
    for (question, words) in [
        ("", "the question is not"),
        ("{}", "seal"),
        ("{\"seal\": \"?\"}", "no base64"),
        (
            "{\"seal\": \"\", \"sha256\": \"12\"}",
            "64 hexadecimal digits",
        ),
        ("{\"seal\": \"\", \"digest\": \"12\"}", "digest"),
    ] {
        let (status, body) = asked(&address, question);
        assert!(
            status.contains("400") && body.contains(words),
            "{question}: {status} {body}"
        );
    }
    let (status, body) = asked(&address, "{\"seal\": \"AAAA\"}");
    assert!(
        status.contains("200") && body.contains("malformed"),
        "{status} {body}"
    );
    assert!(process.terminate().success());
    let trust = trust.to_string_lossy();
    let refused = sealwarden(
        here.home(),
        &["verifier", "serve", "--trust", &trust, "--release", "a b"],
    );
    assert_eq!(refused.code, 2, "{refused}");
}

#[test]
fn settings_of_verifiers_are_checked_before_anything_starts() {
    let here = Installation::new();
    settings(&here, Some("http://verify.example.com"));
    let refused = Process::try_start(here.home(), "up", &here.arguments(&["up"]));
    let log = refused.expect_err("settings that cannot be used");
    assert!(
        log.contains("verification.verifiers[0]") && log.contains("https://"),
        "{log}"
    );
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
