//! An archive in the buckets of a real S3 server: damaged, found, quarantined, restored; and what is said when the server is not as it should be.

use std::collections::BTreeMap;

use sealwarden_tests::Installation;
use sealwarden_tests::s3::{Proxy, S3, Way};
use sealwarden_tests::wait::eventually;
use serde_json::Value;

fn settings(here: &Installation, archives: &[String]) {
    std::fs::create_dir_all(here.data()).expect("the data folder");
    let text = format!("verification:\n  archives:\n{}", archives.concat());
    std::fs::write(here.data().join("settings.yaml"), text).expect("the settings");
    S3::credentials(here.home());
}

/// An archive of the settings.
fn archive(name: &str, bucket: &str, endpoint: &str, more: &str) -> String {
    format!(
        "    - {{name: {name}, url: 's3://{bucket}/{name}', backup: 's3://backup/{name}', every_h: 0{more}, \
         s3: {{endpoint: '{endpoint}', credentials_file: ../s3.conf}}}}\n"
    )
}

fn content(n: usize, bytes: usize) -> Vec<u8> {
    let bytes = 0..bytes + n;
    bytes
        .map(|at| u8::try_from((at * 7 + n) % 251).expect("a byte"))
        .collect()
}

/// Seals and stores documents `00.bin` and so on.
fn store(here: &Installation, count: usize, bytes: usize) {
    let mut words: Vec<String> = ["seal", "--archive", "main"].map(str::to_owned).to_vec();
    for n in 0..count {
        let file = here.file(&format!("{n:02}.bin"), &content(n, bytes));
        words.push(file.to_string_lossy().into_owned());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    eventually("documents are sealed and archived", || {
        (here.call(&words).code == 0).then_some(())
    });
}

fn replace(here: &Installation, name: &str, content: &[u8]) {
    let file = here.file(name, content).to_string_lossy().into_owned();
    let words = ["seal", "--force", "--archive", "main", "--archive-replace"];
    here.call(&[&words[..], &[&file]].concat()).must_end_with(0);
}

fn revalidation(here: &Installation) -> Value {
    here.call(&["archive", "status", "main"]).json()["archives"][0]["revalidation"].clone()
}

#[test]
fn documents_on_s3_are_damaged_found_quarantined_and_restored_from_older_versions() {
    let here = Installation::new();
    let server = S3::start(here.home());
    server.bucket("documents");
    server.bucket("backup");
    settings(&here, &[archive("main", "documents", &server.url(), "")]);
    let up = here.up();
    store(&here, 7, 20_000);
    // Larger than what is written at once: it comes in parts.
    let large = content(0, 9 << 20);
    replace(&here, "06.bin", &large);
    assert_eq!(server.get("/documents/main/documents/06.bin"), large);
    // The newest version of it is another document.
    replace(&here, "00.bin", b"for a while another one");
    replace(&here, "00.bin", &content(0, 20_000));
    here.call(&["archive", "revalidate"]).must_end_with(0);

    let at = |name: &str| format!("/documents/main/documents/{name}");
    server.flip(&at("00.bin"), 700);
    let half = server.get(&at("01.bin"));
    server.put(&at("01.bin"), half.get(..1_000).expect("a half"));
    server.delete(&at("02.bin"));
    server.flip(&at("03.bin.seal"), 60);
    server.delete(&at("04.bin.seal"));
    server.put(&at("stray"), b"stray");
    here.call(&["archive", "revalidate"]).must_end_with(1);
    let report = here.call(&["archive", "report"]).good();
    let damage = report["damage"].as_array().expect("damage").iter();
    let text = |one: &Value, field: &str| one[field].as_str().expect("a text").to_owned();
    let classes: BTreeMap<String, String> = damage
        .map(|one| (text(one, "object"), text(one, "class")))
        .collect();
    let expected = [
        ("00.bin", "bytes-changed"),
        ("01.bin", "truncated"),
        ("02.bin", "missing"),
        ("03.bin", "seal-damaged"),
        ("04.bin", "seal-missing"),
        ("stray", "unexpected"),
    ];
    let expected = expected.map(|(name, class)| (name.to_owned(), class.to_owned()));
    assert_eq!(classes, BTreeMap::from(expected), "{report}");
    let quarantined = here.call(&["archive", "verify", "00.bin"]).ends_with(1);
    assert_eq!(quarantined.json()["verdict"], "quarantined");
    assert_eq!(server.keys("documents", "main/quarantine/").len(), 5);

    let restored = here.call(&["archive", "restore", "--all"]).good();
    let objects = restored["objects"].as_array().expect("objects");
    assert_eq!(objects.len(), 5, "{restored}");
    assert!(
        objects.iter().all(|o| o["outcome"] == "restored"),
        "{restored}"
    );
    let from = objects[0]["document_from"].as_str().expect("a version");
    let versions = server.keys("backup", "main/versions/00.bin/");
    let newest = versions.iter().filter(|key| !key.contains(".seal")).max();
    let newest = newest.expect("a version");
    assert!(!newest.ends_with(from), "{from} is older than {newest}");
    assert_eq!(server.get(&at("00.bin")), content(0, 20_000));
    assert_eq!(server.keys("documents", "main/quarantine/").len(), 0);
    let good = here.call(&["archive", "verify", "00.bin"]).good();
    assert_eq!(good["verdict"], "valid", "{good}");
    server.delete(&at("stray"));
    here.call(&["archive", "revalidate"]).must_end_with(0);
    up.terminate();
}

/// Waits until the revalidation says that it waits, for a reason with these words.
fn waits_for(here: &Installation, words: &str) {
    eventually(&format!("it waits: {words}"), || {
        let now = revalidation(here);
        now["waiting"].as_str()?.contains(words).then_some(())
    });
}

#[test]
fn a_server_that_goes_away_in_the_middle_is_no_damage_and_the_revalidation_goes_on() {
    let here = Installation::new();
    let server = S3::start(here.home());
    let way = Proxy::to(server.address());
    server.bucket("documents");
    server.bucket("backup");
    let slow = ", rate_limit_bytes_per_s: 200000, parallelism: 1";
    settings(&here, &[archive("main", "documents", &way.url(), slow)]);
    let up = here.up();
    store(&here, 40, 20_000);
    here.call(&["archive", "revalidate", "--no-wait"])
        .must_end_with(0);
    eventually("it has begun to read", || {
        (revalidation(&here)["checked"].as_u64()? >= 32).then_some(())
    });
    way.set(Way::Busy);
    waits_for(&here, "SlowDown");
    way.set(Way::NoBucket);
    waits_for(&here, "is not where archive main lies");
    let refused = here.call(&["archive", "restore", "00.bin"]).ends_with(3);
    assert!(refused.stdout.contains("not where"), "{refused}");
    way.set(Way::Closed);
    waits_for(&here, "cannot be reached");
    up.kill();
    let up = here.up();
    way.set(Way::Torn(9_000));
    // No object of a group comes whole: that is the server's fault, not all of theirs.
    eventually("it waits or is through", || {
        let now = revalidation(&here);
        (now["job"] == "main-1" && (now["waiting"].is_string() || now["state"] == "completed"))
            .then_some(())
    });
    way.set(Way::Open);
    let ended = eventually("it ends", || {
        let now = revalidation(&here);
        (now["state"] == "completed").then_some(now)
    });
    assert_eq!(
        (ended["checked"].as_u64(), ended["damaged"].as_u64()),
        (Some(40), Some(0)),
        "{ended}"
    );
    let status = here.call(&["archive", "status"]).good();
    assert_eq!(status["archives"][0]["quarantined"], 0, "{status}");
    let incidents = here.call(&["incident", "list"]).good();
    assert_eq!(
        incidents["incidents"].as_array().map(Vec::len),
        Some(0),
        "{incidents}"
    );
    up.terminate();
}

#[test]
fn what_is_wrong_with_a_store_is_said_by_name() {
    let here = Installation::new();
    let server = S3::start(here.home());
    server.bucket("backup");
    let strict = S3::that_knows_nobody(here.home());
    let archives = [
        archive("main", "documents", &server.url(), ""),
        archive("secret", "documents", &strict.url(), ""),
        archive("nowhere", "documents", "http://127.0.0.1:1", ""),
    ];
    settings(&here, &archives);
    let up = here.up();
    let problems = eventually("each says what is wrong", || {
        let status = here.call(&["archive", "status"]).ends_with(1).json();
        let archives = status["archives"].as_array()?.clone();
        let problems = archives.iter().map(|a| {
            let text = |field: &str| a[field].as_str().map(str::to_owned);
            Some((text("archive")?, text("problem")?))
        });
        let problems: BTreeMap<String, String> = problems.collect::<Option<_>>()?;
        problems
            .values()
            .all(|problem| !problem.contains("being opened"))
            .then_some(problems)
    });
    assert!(problems["main"].contains("NoSuchBucket"), "{problems:?}");
    assert!(
        problems["secret"].contains("InvalidAccessKeyId"),
        "{problems:?}"
    );
    assert!(
        problems["nowhere"].contains("cannot be reached"),
        "{problems:?}"
    );
    let file = here.file("a", b"a").to_string_lossy().into_owned();
    let refused = here.call(&["seal", "--archive", "secret", &file]);
    assert_eq!(refused.code, 3, "{refused}");
    assert!(refused.stdout.contains("InvalidAccessKeyId"), "{refused}");

    // As soon as the bucket is there, so is the archive.
    server.bucket("documents");
    store(&here, 1, 10);
    up.terminate();
}
