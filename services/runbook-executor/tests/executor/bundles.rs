//! Evidence bundles: every byte counts, and other people's tools agree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use sealwarden_runbook_executor::evidence::{evidence_log_vkey, verify_bundle};

use super::approvers::approve_all;
use super::nodes::Nodes;
use super::world::{BASE, INCIDENT, World, soon};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn any_change_of_a_bundle_is_found_and_named_and_ssh_keygen_verifies_its_approvals() {
    let world = World::new();
    let _nodes = Nodes::start(&world).await;
    let life = world.live(Arc::clone(&world.log)).await;
    world.compromise("ada").await;
    soon(approve_all(&world, &life.routes)).await;
    life.end().await;

    let bundle = world
        .evidence_dir()
        .join(INCIDENT)
        .join("R-0badcafe-1-final-snapshot");
    let signing = world.signing_vkey().await;
    let log = evidence_log_vkey(BASE, &signing).unwrap();
    let report = verify_bundle(&bundle, &signing, &log).unwrap();
    assert_eq!(
        (report.manifest.step.as_str(), report.index, report.size),
        ("final-snapshot", 1, 2)
    );
    for expected in [
        "events/run-R-0badcafe-1.jsonl",
        "events/log-main.jsonl",
        "trust/bundle.json",
        "plan/runbook.yaml",
        "approvals/allowed_signers",
        "collection.txt",
    ] {
        assert!(
            report.manifest.files.contains_key(expected),
            "{expected} is missing"
        );
    }
    assert!(
        report
            .manifest
            .files
            .keys()
            .any(|path| path.starts_with("acknowledgements/"))
    );

    let mut checked = 0;
    for path in files(&bundle) {
        let whole = fs::read(&path).unwrap();
        let name = path
            .strip_prefix(&bundle)
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        for at in [
            0,
            whole.len() / 3,
            whole.len() / 2,
            whole.len().saturating_sub(1),
        ] {
            let Some(byte) = whole.get(at) else { continue };
            let mut changed = whole.clone();
            changed[at] = byte ^ 1;
            fs::write(&path, &changed).unwrap();
            let damage = verify_bundle(&bundle, &signing, &log).unwrap_err();
            let own = ["manifest.txt", "manifest.note", "manifest.seal"].contains(&name.as_str());
            assert!(own || damage.file == name, "{name}: {damage}");
            checked += 1;
        }
        fs::remove_file(&path).unwrap();
        assert!(
            verify_bundle(&bundle, &signing, &log).is_err(),
            "{name} is gone"
        );
        fs::write(&path, &whole).unwrap();
    }
    assert!(checked > 100, "{checked}");
    fs::write(bundle.join("added"), "x").unwrap();
    assert_eq!(
        verify_bundle(&bundle, &signing, &log).unwrap_err().file,
        "added"
    );
    fs::remove_file(bundle.join("added")).unwrap();
    assert_eq!(verify_bundle(&bundle, &signing, &log).unwrap(), report);
    assert!(
        verify_bundle(&bundle, &log, &log).is_err(),
        "another key signs nothing here"
    );

    ssh_keygen_verifies_approvals(&bundle);
}

fn ssh_keygen_verifies_approvals(bundle: &Path) {
    let approvals = bundle.join("approvals");
    let statements: Vec<PathBuf> = files(&approvals)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|it| it == "txt"))
        .collect();
    assert!(statements.len() >= 14, "{}", statements.len());
    for statement in statements {
        let text = fs::read_to_string(&statement).unwrap();
        let person = text
            .lines()
            .find_map(|line| line.strip_prefix("approver: "))
            .unwrap()
            .to_owned();
        let mut signature = statement.clone().into_os_string();
        signature.push(".sig");
        let status = Command::new("ssh-keygen")
            .args([
                "-Y",
                "verify",
                "-n",
                "sealwarden-approval-drill",
                "-I",
                &person,
                "-f",
            ])
            .arg(approvals.join("allowed_signers"))
            .arg("-s")
            .arg(signature)
            .stdin(fs::File::open(&statement).unwrap())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{}", statement.display());
    }
}
