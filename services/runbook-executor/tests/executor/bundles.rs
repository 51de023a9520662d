//! Evidence bundles: every byte counts, and other people's tools agree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use sealwarden_keys::{KeyId, KeyProvider as _, Purpose};
use sealwarden_runbook_executor::evidence::{Manifest, evidence_log_vkey, verify_bundle};
use sealwarden_seal::note::{Note, UnsignedNote, Vkey};
use sealwarden_seal::record::{DigestAlgorithm, Record};
use sealwarden_seallog::{Leaf, SealLog};
use serde_json::Value;

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
    assert_eq!(report.manifest.step, "final-snapshot");
    assert_eq!(report.index + 1, report.size, "it was the newest leaf");
    let run = world
        .log
        .head(&"run/R-0badcafe-1".parse().unwrap())
        .await
        .unwrap();
    assert!(report.commits > 50, "{}", report.commits);
    assert!(
        report
            .heads
            .is_some_and(|at| (1..=run.position).contains(&at))
    );
    for expected in [
        "events/run-R-0badcafe-1.jsonl",
        "events/log-main.jsonl",
        "heads/heads.txt",
        "heads/heads.seal",
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
    even_a_signed_change_of_events_breaks_a_chain_and_is_named(&world, &bundle).await;
}

/// With the signing key stolen, manifest and seal can be made anew; the chains and the sealed heads still do not fit.
async fn even_a_signed_change_of_events_breaks_a_chain_and_is_named(world: &World, bundle: &Path) {
    let signing = world.signing_vkey().await;
    let log = evidence_log_vkey(BASE, &signing).unwrap();
    let events = bundle.join("events/log-main.jsonl");
    let whole = fs::read_to_string(&events).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let positions: Vec<u64> = lines
        .iter()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["position"]
                .as_u64()
                .unwrap()
        })
        .collect();
    let left_out: String = [lines[0], lines[2]].join("\n");
    let retold = whole.replacen("\"actor\":\"", "\"actor\":\"not-", 1);
    let cut_off = lines[0].to_owned();
    for (text, expected) in [
        (
            left_out,
            format!(
                "the commit at position {} of log/main to follow",
                positions[2]
            ),
        ),
        (
            retold,
            format!(
                "\"actor\" of the commit at position {} of log/main",
                positions[0]
            ),
        ),
        (cut_off, "log/main to have the commit".to_owned()),
    ] {
        fs::write(&events, text).unwrap();
        sign_again(world, bundle, &log).await;
        let damage = verify_bundle(bundle, &signing, &log).unwrap_err();
        assert_eq!(damage.file, "events/log-main.jsonl");
        assert!(damage.expected.contains(&expected), "{damage}");
    }
    fs::write(&events, whole).unwrap();
    sign_again(world, bundle, &log).await;
    assert!(verify_bundle(bundle, &signing, &log).is_ok());
}

async fn sign_again(world: &World, bundle: &Path, log_vkey: &Vkey) {
    let sha256 = |bytes: &[u8]| ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut manifest =
        Manifest::parse(&fs::read_to_string(bundle.join("manifest.txt")).unwrap()).unwrap();
    for (path, digest) in &mut manifest.files {
        *digest = hex::encode(sha256(&fs::read(bundle.join(path)).unwrap()));
    }
    let text = manifest.to_string();
    fs::write(bundle.join("manifest.txt"), &text).unwrap();
    let note = signed(world, &world.signing_vkey().await, &text).await;
    fs::write(bundle.join("manifest.note"), note.to_string()).unwrap();

    let record = Record {
        tenant: "sealwarden".to_owned(),
        policy: "evidence".to_owned(),
        digest_algorithm: DigestAlgorithm::Sha256,
        digest: sha256(text.as_bytes()).as_ref().try_into().unwrap(),
        claimed_at_ms: 0,
        subject: None,
        original: None,
        request_id: None,
    };
    let mut log = SealLog::open(&world.dir.path().join("executor/evidence-log")).unwrap();
    let leaf = Leaf {
        nonce: [1; 16],
        record: record.encode().unwrap(),
    };
    let staged = log.stage(vec![leaf]).unwrap();
    let checkpoint = signed(world, log_vkey, &staged.checkpoint_text).await;
    log.publish(&staged, &checkpoint).unwrap();
    let seal = log.view().unwrap().seal_of(staged.old_size).unwrap();
    fs::write(bundle.join("manifest.seal"), seal.to_text()).unwrap();
}

async fn signed(world: &World, vkey: &Vkey, text: &str) -> Note {
    let note = UnsignedNote::new(text).unwrap();
    let key = KeyId::new("signing").unwrap();
    let signature = world
        .executor_keys()
        .await
        .sign(&key, Purpose::Signing, note.text().as_bytes())
        .await
        .unwrap();
    note.attach(vkey.name(), vkey.key_id(), signature.as_bytes())
        .unwrap()
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
