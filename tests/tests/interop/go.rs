//! The Go implementations: `tests/interop/go`.

use std::path::PathBuf;
use std::process::{Command, Output};

use super::published::{Published, SEALS};

fn go(arguments: &[&str]) -> Option<Output> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("interop/go");
    Command::new("go")
        .args(arguments)
        .current_dir(folder)
        .output()
        .ok()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn seals_tiles_and_cosignatures_hold_in_go() {
    let Some(version) = go(&["version"]) else {
        println!(
            "LEFT OUT: there is no go in PATH; the Rust implementations have judged the same things"
        );
        return;
    };
    let downloaded = go(&["mod", "download"]).expect("go runs");
    if !downloaded.status.success() {
        println!(
            "LEFT OUT: the Go modules cannot be fetched: {}",
            said(&downloaded)
        );
        return;
    }
    println!("with {}", String::from_utf8_lossy(&version.stdout).trim());
    let published = Published::start().await;
    let binary = published.here.home().join("interop");
    let built = go(&["build", "-o", binary.to_str().expect("a path"), "."]).expect("go runs");
    assert!(built.status.success(), "{}", said(&built));

    let policy = format!(
        "log {}\nwitness w {}\ngroup all all w\nquorum all\n",
        published.log, published.witness
    );
    let policy = published.here.file("policy", policy.as_bytes());
    let mut command = Command::new(&binary);
    command.arg(&policy).arg(&published.url);
    for (index, seal) in &published.seals {
        command.arg(published.here.file(&format!("{index}.seal"), seal));
    }
    let output = command.output().expect("the check runs");
    assert!(output.status.success(), "{}", said(&output));
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("one line of JSON");
    assert_eq!(answer["size"], SEALS);
    assert_eq!(answer["seals"], SEALS);
    assert_eq!(answer["origin"], "seal.example.com/main/1");

    damaged(&published, &binary, &policy);
}

/// It would not be a check if it let anything pass.
fn damaged(published: &Published, binary: &PathBuf, policy: &PathBuf) {
    let (_, seal) = published.seals.first().expect("a seal");
    let text = String::from_utf8(seal.clone())
        .expect("a seal is text")
        .replace("index 0\n", "index 1\n");
    let file = published.here.file("damaged.seal", text.as_bytes());
    let output = Command::new(binary)
        .arg(policy)
        .arg(&published.url)
        .arg(file)
        .output()
        .expect("the check runs");
    assert!(!output.status.success(), "a seal with another index passes");
}
