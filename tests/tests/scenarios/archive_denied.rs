//! A folder archive of which a part may not be read, or not be written: permissions are no damage of bytes, each is told with its remedy, and nothing ends.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sealwarden_tests::Installation;
use sealwarden_tests::wait::eventually;
use serde_json::Value;

fn allow(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("another mode");
}

/// Services that root's rights do not help, with some documents in an archive.
fn archived(documents: u8) -> Installation {
    let here = Installation::unprivileged();
    let settings = "verification:\n  archives:\n    - {name: main, url: ../archive, backup: ../backup, every_h: 0}\n";
    std::fs::write(here.data().join("settings.yaml"), settings).expect("the settings");
    for number in 0..documents {
        here.file(&format!("{number}.bin"), &[number; 5_000]);
    }
    here
}

fn store(here: &Installation, documents: std::ops::Range<u8>) -> sealwarden_tests::binary::Answer {
    let home = here.home().display().to_string();
    let names: Vec<String> = documents.map(|it| format!("{home}/{it}.bin")).collect();
    let names = names.iter().map(String::as_str);
    let words: Vec<&str> = ["seal", "--force", "--archive", "main"]
        .into_iter()
        .chain(names)
        .collect();
    here.call(&words)
}

fn damage(here: &Installation) -> Vec<(String, String)> {
    let report = here.call(&["archive", "report"]).good();
    let text = |it: &Value, field: &str| it[field].as_str().expect("a text").to_owned();
    let damage = report["damage"].as_array().expect("damage");
    damage
        .iter()
        .map(|it| (text(it, "object"), text(it, "class")))
        .collect()
}

#[test]
fn what_may_not_be_read_or_written_is_said_and_comes_right_with_its_permission() {
    let here = archived(4);
    let up = here.up();
    eventually("documents are archived", || {
        (store(&here, 0..3).code == 0).then_some(())
    });
    here.call(&["archive", "revalidate"]).good();
    let (archive, backup) = (here.home().join("archive"), here.home().join("backup"));

    // One document that may not be read: its own class, no word of changed bytes; and it is given back from the backup.
    let closed = archive.join("documents/1.bin");
    allow(&closed, 0o000);
    here.call(&["archive", "revalidate"]).must_end_with(1);
    let found = damage(&here);
    assert_eq!(found, [("1.bin".to_owned(), "unreadable".to_owned())]);
    assert_eq!(
        here.call(&["archive", "verify", "1.bin"]).json()["verdict"],
        "quarantined"
    );

    // No restore without a readable backup; the refusal names what cannot be read.
    let versions = backup.join("versions/1.bin");
    allow(&versions, 0o000);
    let refused = here.call(&["archive", "restore", "1.bin"]);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(
        refused.to_string().contains("ermission denied"),
        "{refused}"
    );
    allow(&versions, 0o755);
    let restored = here.call(&["archive", "restore", "1.bin"]).good();
    assert_eq!(restored["objects"][0]["outcome"], "restored", "{restored}");
    assert_eq!(
        here.call(&["archive", "verify", "1.bin"]).json()["verdict"],
        "valid"
    );

    // A folder that may not be written: the document is sealed, the archive says what is wrong, and asking again completes it.
    let documents = archive.join("documents");
    allow(&documents, 0o555);
    let refused = store(&here, 3..4);
    assert_ne!(refused.code, 0, "{refused}");
    assert!(
        refused.to_string().contains("ermission denied"),
        "{refused}"
    );
    assert!(here.home().join("3.bin.seal").exists(), "{refused}");
    allow(&documents, 0o755);
    eventually("it is archived", || {
        (store(&here, 3..4).code == 0).then_some(())
    });

    // The whole archive closed: that is a store that is away, and no damage of four documents.
    allow(&archive, 0o000);
    here.call(&["archive", "revalidate", "--no-wait"])
        .must_end_with(0);
    let said = eventually("the status says why it waits", || {
        let status = here.call(&["archive", "status", "main"]);
        status
            .to_string()
            .contains("ermission denied")
            .then_some(status)
    });
    allow(&archive, 0o755);
    eventually("it goes on by itself", || {
        let status = here.call(&["archive", "status", "main"]).json();
        let job = &status["archives"][0]["revalidation"];
        (job["state"] == "completed" && job["damaged"] == 0 && job["checked"] == 4).then_some(())
    });
    assert!(damage(&here).is_empty(), "{said}");
    up.terminate();
}
