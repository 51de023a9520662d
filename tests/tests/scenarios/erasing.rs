//! Records that are erased through the binary: by request, under holds, by schedule, over a crash, and forged.

use std::path::{Path, PathBuf};

use sealwarden_eventlog::test_server::TestServer;
use sealwarden_tests::{Installation, eventually};
use serde_json::Value;

fn segment(here: &Installation) -> PathBuf {
    here.data()
        .join("nodes/sealing-1/log/main/1/private/0000000000.records")
}

/// Seals files of a tenant under a subject, and answers them.
fn seal(here: &Installation, tenant: &str, subject: &str, count: usize) -> Vec<PathBuf> {
    let files: Vec<_> = (0..count)
        .map(|number| {
            let name = format!("{tenant}-{}-{number}", subject.replace(' ', "-"));
            here.file(&name, name.as_bytes())
        })
        .collect();
    let mut call = vec!["seal", "--tenant", tenant, "--subject", subject];
    let names: Vec<_> = files.iter().map(|it| it.display().to_string()).collect();
    call.extend(names.iter().map(String::as_str));
    here.call(&call).good();
    files
}

fn is_in(path: &Path, text: &str) -> bool {
    let bytes = std::fs::read(path).expect("a file of the node");
    bytes.windows(text.len()).any(|it| it == text.as_bytes())
}

/// Every file of the node that holds a text.
fn files_with(dir: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if is_in(&path, text) {
                found.push(path);
            }
        }
    }
    found
}

fn place(seal: &Path) -> (String, u64) {
    let text = std::fs::read(format!("{}.seal", seal.display())).expect("a seal");
    let seal = sealwarden_seal::seal::Seal::parse(&text).expect("a seal that reads");
    let origin = seal.checkpoint().expect("a checkpoint").origin;
    (origin, seal.index)
}

#[test]
fn records_are_erased_by_request_and_everything_that_was_handed_out_still_verifies() {
    let here = Installation::new();
    let up = here.up();
    here.seal_eventually(&here.file("first", b"first"));
    let kept = seal(&here, "acme", "file of bob", 2);
    let gone = seal(&here, "acme", "file of ada", 3);
    let other = seal(&here, "other", "file of ada", 1);
    assert!(is_in(&segment(&here), "file of ada"));

    // Shown, and not done.
    let by_subject = [
        "erase",
        "--tenant",
        "acme",
        "--subject",
        "file of ada",
        "--reason",
        "request 4711",
    ];
    let plan = here.call(&by_subject).good();
    assert_eq!(
        (&plan["erased"], &plan["leaves"]),
        (&Value::Bool(false), &3.into()),
        "{plan}"
    );
    assert!(is_in(&segment(&here), "file of ada"));
    let told = [
        "erase",
        "--tenant",
        "acme",
        "--subject",
        "file of ada",
        "--reason",
        "wants File of Ada gone",
    ];
    let refused = here.call(&told).ends_with(2);
    assert!(refused.stdout.contains("kept for ever"), "{refused}");
    here.call(&["erase", "--tenant", "acme", "--reason", "all?"])
        .must_end_with(2);

    // Whoever only seals may not erase.
    here.issue("till", "sealer");
    let mut as_sealer = by_subject.to_vec();
    as_sealer.extend(["--as", "till", "--yes"]);
    here.call(&as_sealer).must_end_with(4);

    // Under a hold nothing is.
    let hold = [
        "erase",
        "hold",
        "--tenant",
        "acme",
        "--subject",
        "file of ada",
        "--reason",
        "case 12",
    ];
    let hold = here.call(&hold).good();
    assert_eq!(hold["hold"], "H-main-1", "{hold}");
    let mut really = by_subject.to_vec();
    really.push("--yes");
    let refused = here.call(&really).ends_with(4);
    assert!(refused.stdout.contains("H-main-1"), "{refused}");
    assert!(is_in(&segment(&here), "file of ada"));
    here.call(&["erase", "release", "H-main-1", "--reason", "case closed"])
        .good();

    let done = here.call(&really).good();
    assert_eq!(done["erasures"][0], "E-main-1", "{done}");
    assert!(
        !files_with(&here.data().join("nodes"), "file of ada").contains(&segment(&here)) || {
            // The other tenant's record has the same subject.
            is_in(&segment(&here), "file of ada")
        }
    );
    let again = here.call(&by_subject).good();
    assert_eq!(again["leaves"], 0, "{again}");
    for file in gone.iter().chain(&kept).chain(&other) {
        here.verify(file).must_end_with(0);
    }
    check(&here, 3);
    look_ups(&here, &gone[0], &kept[0]);
    let list = here.call(&["erase", "list"]).good();
    assert_eq!(list["erasures"][0]["by"], "person operator", "{list}");
    assert!(!list.to_string().contains("file of"), "{list}");
    // The last one of that subject goes with all of its tenant; then it stands in no file of the installation.
    here.call(&[
        "erase", "--tenant", "other", "--all", "--reason", "left us", "--yes",
    ])
    .good();
    assert_eq!(
        files_with(&here.data(), "file of ada"),
        Vec::<PathBuf>::new()
    );
    up.terminate();
    let stopped = here.call(&["log", "check"]).good();
    assert!(
        stopped["notes"].as_array().expect("notes").is_empty(),
        "{stopped}"
    );
}

/// The audit accepts exactly what events name, while the services run.
fn check(here: &Installation, erased: u64) {
    let audit = here.call(&["log", "check"]).good();
    let logs = audit["logs"].as_array().expect("logs");
    let main = logs
        .iter()
        .find(|log| log["origin"] == "seal.example.com/main/1");
    assert_eq!(main.expect("the log")["erased_leaves"], erased, "{audit}");
}

/// An erased seal is not one that never was.
fn look_ups(here: &Installation, gone: &Path, kept: &Path) {
    let (origin, index) = place(gone);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let found = runtime.block_on(async {
        let channel = here.connect("sealing", "operator").await;
        let mut sealing = sealwarden_wire::seal::v1::sealing_client::SealingClient::new(channel);
        let mut get = async |origin: &str, index| {
            let request = sealwarden_wire::seal::v1::GetSealRequest {
                origin: origin.to_owned(),
                index,
                follow: true,
            };
            sealing.get_seal(request).await
        };
        let (of, at) = place(kept);
        get(&of, at).await.expect("the one that was kept");
        let never = get(&of, 1_000_000).await.expect_err("no such leaf");
        assert_eq!(never.code(), tonic::Code::NotFound);
        get(&origin, index).await.expect_err("it is erased")
    });
    assert_eq!(found.code(), tonic::Code::FailedPrecondition);
    assert!(found.message().contains("was erased on 20"), "{found}");
    assert!(found.message().contains("by erasure E-main-1"), "{found}");
}

#[test]
fn an_erasure_that_is_killed_in_the_middle_is_finished_and_a_forged_one_is_found() {
    let here = Installation::new();
    let mut up = here.up();
    here.seal_eventually(&here.file("first", b"first"));
    for part in 0..10 {
        seal(&here, "acme", &format!("person {part}"), 60);
    }
    for part in 0..10 {
        let subject = format!("person {part}");
        let call = [
            "erase",
            "--tenant",
            "acme",
            "--subject",
            &subject,
            "--reason",
            "request",
            "--yes",
        ];
        let arguments = {
            let mut all = here.arguments(&call);
            all.push("--json".into());
            all
        };
        let mut child = sealwarden_tests::binary::command(here.home(), &arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the call starts");
        // bounded poll: the order stands in the event log some time after the call began; when it is killed differs from round to round
        eventually("the call is answered or on its way", || {
            let ended = child.try_wait().expect("the call's end").is_some();
            (ended || part % 2 == 0 || !is_in(&segment(&here), &subject)).then_some(())
        });
        up.kill();
        drop(child.wait());
        up = here.up();
        // What was ordered is gone before the node serves again; what was not is there, and is erased by asking again.
        let list = here.call(&["erase", "list"]).good();
        for erasure in list["erasures"].as_array().expect("erasures") {
            assert!(erasure["finished_at_ms"].is_i64(), "{list}");
        }
        here.call(&call).good();
        assert!(!is_in(&segment(&here), &subject), "{subject}");
        here.call(&["log", "check"]).good();
    }
    let list = here.call(&["erase", "list"]).good();
    let erased = list["erasures"].as_array().expect("erasures").iter();
    let leaves: u64 = erased.filter_map(|it| it["leaves"].as_u64()).sum();
    assert_eq!(leaves, 600);

    // Bytes that are zeroed without an event.
    let path = segment(&here);
    let mut bytes = std::fs::read(&path).expect("records");
    let mut ends = std::fs::read(path.with_extension("ends")).expect("ends");
    ends.truncate(8);
    let end = u64::from_be_bytes(ends.try_into().expect("one end"));
    bytes[..usize::try_from(end).expect("a small leaf")].fill(0);
    std::fs::write(&path, bytes).expect("forged");
    let forged = |audit: Value| {
        let damage = audit["first_damage"]["found"].as_str().unwrap_or_default();
        assert!(damage.contains("no event names this place"), "{audit}");
    };
    forged(here.call(&["log", "check"]).ends_with(1).json());
    up.terminate();
    forged(here.call(&["log", "check"]).ends_with(1).json());
    // The service does not go on as if somebody had ordered it.
    let arguments = here.arguments(&["up"]);
    let refused = sealwarden_tests::binary::sealwarden(here.home(), &arguments);
    assert_ne!(refused.code, 0);
    assert!(
        refused.stderr.contains("no event names it as erased"),
        "{refused}"
    );
}

#[test]
fn settings_hold_records_and_say_who_may_erase_them() {
    let here = Installation::new();
    std::fs::create_dir_all(here.data()).expect("a folder");
    let settings = here.data().join("settings.yaml");
    let up = here.up();
    here.seal_eventually(&here.file("first", b"first"));
    seal(&here, "short", "case one", 3);
    seal(&here, "held", "case two", 2);
    seal(&here, "kept", "case three", 2);
    up.terminate();
    let text = "sealing:\n  retention: { every_s: 1, officers: [dora], jurisdictions: { eu: { retention: 1 day }, de: { retention: 30 days, keep_at_least: 20 days } } }\n  tenants:\n    short: { jurisdiction: eu }\n    held: { jurisdiction: eu, legal_hold: case 77 }\n    kept: { jurisdiction: de }\n";
    std::fs::write(&settings, text).expect("settings");
    let up = here.up();
    here.issue("dora", "operator");
    let not_officer = ["erase", "--tenant", "short", "--all", "--reason", "x"];
    let refused = here.call(&not_officer).ends_with(4);
    assert!(refused.stdout.contains("officers"), "{refused}");
    let call = [
        "erase", "--tenant", "kept", "--all", "--reason", "x", "--yes", "--as", "dora",
    ];
    let refused = here.call(&call).ends_with(4);
    assert!(refused.stdout.contains("jurisdiction de"), "{refused}");
    let call = [
        "erase", "--tenant", "held", "--all", "--reason", "x", "--yes", "--as", "dora",
    ];
    let refused = here.call(&call).ends_with(4);
    assert!(refused.stdout.contains("case 77"), "{refused}");
    let holds = here.call(&["erase", "holds"]).good();
    assert!(holds.to_string().contains("case 77"), "{holds}");
    drop(up);

    std::fs::write(
        &settings,
        "sealing: { tenants: { a: { jurisdiction: mars } } }\n",
    )
    .expect("settings");
    let arguments = here.arguments(&["up"]);
    let refused = sealwarden_tests::binary::sealwarden(here.home(), &arguments);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("mars"), "{refused}");
}

#[test]
fn a_request_that_waits_is_withdrawn_and_never_sealed() {
    let server = TestServer::start().expect("a nats-server");
    let here = Installation::over_nats(&server.url());
    let executor = here.serve("runbook-executor");
    let _others = ["sealing", "verification", "detection"].map(|role| here.serve(role));
    here.seal_eventually(&here.file("first", b"first"));
    // Nobody grants permits: what comes waits under a ticket.
    executor.kill();
    let waits = |subject: &str, name: &str| {
        let file = here.file(name, name.as_bytes()).display().to_string();
        here.call(&["seal", "--tenant", "acme", "--subject", subject, &file]);
        Path::new(&format!("{file}.seal.ticket"))
            .exists()
            .then_some(file)
    };
    let mut before = 0;
    eventually("the last permit runs out", || {
        before += 1;
        waits("bob", &format!("before-{before}"))
    });
    let name = waits("ada", "waits").expect("a ticket");
    let erase = [
        "erase",
        "--tenant",
        "acme",
        "--subject",
        "ada",
        "--reason",
        "request 7",
    ];
    let plan = here.call(&erase).good();
    assert_eq!(
        (&plan["leaves"], &plan["waiting"]),
        (&Value::from(0), &Value::from(1)),
        "{plan}"
    );
    let done = here.call(&[&erase[..], &["--yes"]].concat()).good();
    assert_eq!(done["withdrawals"][0], "W-main-1", "{done}");
    let reach = done["not_reached"].to_string();
    for what in ["mirrors", "exported", "archives", "backups"] {
        assert!(reach.contains(what), "{what} is not named: {reach}");
    }
    let again = here.serve("runbook-executor");
    here.seal_eventually(&here.file("second", b"second"));
    let collect = here.call(&["seal", "--collect", &name]);
    assert_ne!(collect.code, 0, "{collect}");
    let told = format!("{}{}", collect.stdout, collect.stderr);
    assert!(
        told.contains("was withdrawn before it was sealed"),
        "{told}"
    );
    let left = here.call(&erase).good();
    assert_eq!(
        (&left["leaves"], &left["waiting"]),
        (&Value::from(0), &Value::from(0)),
        "it was never sealed: {left}"
    );
    drop(again);
}
