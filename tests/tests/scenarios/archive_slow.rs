//! An archive on an S3 server that fails, throttles, is late, and will not give single objects: none of it is taken for damage that it is not.

use sealwarden_tests::Installation;
use sealwarden_tests::s3::{Proxy, S3, Way};
use sealwarden_tests::wait::eventually;
use serde_json::Value;

const COUNT: u64 = 3;

/// Seals and stores documents `0.bin` and so on, through this way.
fn archived(server: &S3, way: &Proxy) -> Installation {
    let here = Installation::new();
    server.bucket("documents");
    server.bucket("backup");
    std::fs::create_dir_all(here.data()).expect("the data folder");
    let text = format!(
        "verification:\n  archives:\n    - {{name: main, url: 's3://documents/main', backup: 's3://backup/main', every_h: 0, \
         s3: {{endpoint: '{}', credentials_file: ../s3.conf}}}}\n",
        way.url()
    );
    std::fs::write(here.data().join("settings.yaml"), text).expect("the settings");
    S3::credentials(here.home());
    here
}

fn store(here: &Installation) {
    let mut words: Vec<String> = ["seal", "--archive", "main"].map(str::to_owned).to_vec();
    for n in 0..COUNT {
        let file = here.file(
            &format!("{n}.bin"),
            &vec![b'a'; 20_000 + usize::try_from(n).expect("small")],
        );
        words.push(file.to_string_lossy().into_owned());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    eventually("documents are sealed and archived", || {
        (here.call(&words).code == 0).then_some(())
    });
}

fn revalidation(here: &Installation) -> Value {
    here.call(&["archive", "status", "main"]).json()["archives"][0]["revalidation"].clone()
}

fn begins(here: &Installation) {
    here.call(&["archive", "revalidate", "--no-wait"])
        .must_end_with(0);
}

/// How the newest revalidation ended: checked, damaged.
fn ended(here: &Installation) -> (Option<u64>, Option<u64>) {
    let end = eventually("the revalidation ends", || {
        let now = revalidation(here);
        (!now["finished_at_ms"].is_null()).then_some(now)
    });
    (end["checked"].as_u64(), end["damaged"].as_u64())
}

#[test]
fn errors_throttling_and_slowness_are_waited_out_and_one_denied_object_is_unreadable() {
    let home = tempfile::tempdir().expect("a folder");
    let server = S3::start(home.path());
    let way = Proxy::to(server.address());
    let here = archived(&server, &way);
    let up = here.up();
    store(&here);

    // Errors are the server's trouble: the revalidation waits, says why, and goes on.
    way.set(Way::Broken);
    begins(&here);
    eventually("it waits and says why", || {
        revalidation(&here)["waiting"]
            .as_str()?
            .contains("InternalError")
            .then_some(())
    });
    way.set(Way::Throttled);
    assert_eq!(ended(&here), (Some(COUNT), Some(0)), "throttled");
    way.set(Way::Late(40));
    begins(&here);
    assert_eq!(ended(&here), (Some(COUNT), Some(0)), "late");

    // One object is denied, and the others are given: that one is unreadable, by the server's own words, and nothing else is said of it.
    way.set(Way::Denied("/2.bin "));
    begins(&here);
    assert_eq!(ended(&here), (Some(COUNT), Some(1)));
    let report = here.call(&["archive", "report"]).json();
    let damage = report.to_string();
    assert!(
        damage.contains("unreadable") && damage.contains("2.bin"),
        "{report:#}"
    );
    assert!(damage.contains("AccessDenied"), "{report:#}");
    assert!(!damage.contains("missing"), "{report:#}");

    // The server gives it again: it is restored from where it lies, verified, and released.
    way.set(Way::Open);
    here.call(&["archive", "restore", "2.bin"]).good();
    begins(&here);
    assert_eq!(ended(&here), (Some(COUNT), Some(0)));
    let verdict = here.call(&["archive", "verify", "2.bin"]).good();
    assert_eq!(verdict["verdict"], "valid", "{verdict}");
    up.terminate();
}
