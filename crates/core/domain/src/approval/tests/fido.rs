//! FIDO keys: what counts is a touch, and where a touch is asked for nothing else does.

use std::collections::BTreeMap;

use base64::Engine as _;
use sealwarden_runbook::{Roster, Touch};

use super::authenticator::{FidoKey, TOUCHED};
use super::checks::{Scene, changed, quorum};
use super::keygen::keygen_accepts;
use crate::approval::fixture::{key_of, roster_text};
use crate::approval::{
    Accepted, Authenticator, Decision, Namespace, Refusal, RefusalCode, allowed_signers, sign,
};

const APPROVAL: &str = Namespace::Approval.as_str();

fn keys() -> [FidoKey; 2] {
    [FidoKey::ed25519(), FidoKey::p256()]
}

/// A scene whose roster gives this person this key too, and the text of an approval of theirs.
fn scene(person: &'static str, key: &FidoKey, decision: Decision) -> (Scene, String) {
    let mut scene = Scene::new();
    let text = roster_text(&BTreeMap::from([(person, key.line())]));
    scene.roster = Roster::parse("roster.yaml", &text).unwrap();
    let digest = scene.roster.digest_hex();
    let statement = changed(|s| {
        s.roster_digest = digest;
        s.approver = person.to_owned();
        s.decision = decision;
    });
    (scene, statement.to_string())
}

fn judged(key: &FidoKey, flags: u8, counter: u32) -> Result<Accepted, Refusal> {
    let (scene, text) = scene("ada", key, Decision::Approve);
    let signature = key.sign(&text, APPROVAL, flags, counter);
    scene.check(&(text, signature))
}

#[test]
fn a_fido_key_counts_only_if_it_was_touched() {
    for key in keys() {
        let accepted = judged(&key, TOUCHED | 4, 7).unwrap();
        assert_eq!(accepted.person, "ada");
        let signed = Authenticator {
            flags: 5,
            counter: 7,
        };
        assert_eq!(accepted.authenticator, Some(signed));
        assert!(signed.is_touched() && signed.is_verified());
        // Verified by a PIN, and not touched: a program that knows the PIN can do that.
        for flags in [0, 4] {
            let refusal = judged(&key, flags, 7).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::NoTouch, "{refusal}");
        }
    }
}

#[test]
fn flags_and_count_are_signed() {
    for key in keys() {
        let (scene, text) = scene("ada", &key, Decision::Approve);
        let untouched = key.sign(&text, APPROVAL, 0, 9);
        let blob: String = untouched
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        let engine = base64::engine::general_purpose::STANDARD;
        let mut bytes = engine.decode(blob).unwrap();
        let flags = bytes.len() - 5;
        bytes[flags] = TOUCHED;
        let forged = format!(
            "-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n",
            engine
                .encode(bytes)
                .as_bytes()
                .chunks(70)
                .map(String::from_utf8_lossy)
                .collect::<Vec<_>>()
                .join("\n")
        );
        let refusal = scene.check(&(text, forged)).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Altered, "{refusal}");
    }
}

/// The same pair of numbers made for another application is another key; and a signature that it made for the other one verifies for neither.
#[test]
fn a_signature_for_another_application_is_nobodys() {
    for mut key in keys() {
        let (scene, text) = scene("ada", &key, Decision::Approve);
        key.application = "ssh:elsewhere".to_owned();
        let other = key.sign(&text, APPROVAL, TOUCHED, 1);
        let refusal = scene.check(&(text, other)).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::UnknownKey, "{refusal}");
        // A website's key cannot even stand on the roster.
        key.application = "example.com".to_owned();
        let text = roster_text(&BTreeMap::from([("ada", key.line())]));
        let findings = Roster::parse("roster.yaml", &text).unwrap_err();
        assert!(findings[0].message.contains("example.com"), "{findings:?}");
    }
}

#[test]
fn where_a_touch_is_asked_for_software_does_not_count_unless_the_roster_says_so() {
    let key = FidoKey::ed25519();
    let (mut scene, text) = scene("bea", &key, Decision::Override);
    scene.quorum = Some(quorum(&[("break-glass", 2)]));
    scene.takes = Some(&[Decision::Override]);
    scene.touch = true;
    let touched = key.sign(&text, APPROVAL, TOUCHED, 1);
    assert_eq!(scene.check(&(text.clone(), touched)).unwrap().person, "bea");
    let untouched = key.sign(&text, APPROVAL, 0, 1);
    let refusal = scene.check(&(text.clone(), untouched)).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NoTouch);
    // Bea's other key lies in a file; the fixture's roster waives its touch, and without that it proves none.
    let software = sign(&text, &key_of("bea"), Namespace::Approval).unwrap();
    assert!(scene.check(&(text.clone(), software)).is_ok());
    let plain = roster_text(&BTreeMap::new()).replace(", touch: waived", "");
    scene.roster = Roster::parse("roster.yaml", &plain).unwrap();
    let text = text.lines().map(|line| {
        if line.starts_with("roster: ") {
            format!("roster: sha256:{}\n", scene.roster.digest_hex())
        } else {
            format!("{line}\n")
        }
    });
    let text: String = text.collect();
    let software = sign(&text, &key_of("bea"), Namespace::Approval).unwrap();
    let refusal = scene.check(&(text.clone(), software.clone())).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NoTouch, "{refusal}");
    assert!(refusal.reason.contains("ed25519-sk"), "{refusal}");
    scene.touch = false;
    assert!(scene.check(&(text, software)).is_ok());
}

#[test]
fn what_the_roster_says_of_a_touch_must_be_true_of_the_key() {
    let fido = FidoKey::ed25519().line();
    let file = key_of("ada").public_key().to_openssh().unwrap();
    let roster = |line: &str, word: &str| {
        let text = format!(
            "people:\n  - {{id: ada, name: ada, roles: [], contact: none, keys: [{{key: \"{line}\", touch: {word}}}]}}"
        );
        Roster::parse("roster.yaml", &text)
    };
    for (line, word, touch) in [
        (&fido, "required", Touch::Proven),
        (&file, "waived", Touch::Waived),
    ] {
        let read = roster(line, word).unwrap();
        assert_eq!(read.people()[0].keys[0].touch, touch);
        let again = Roster::parse("roster.yaml", &read.to_yaml()).unwrap();
        assert_eq!(again, read);
    }
    assert_ne!(
        roster(&file, "waived").unwrap().digest(),
        Roster::parse(
            "roster.yaml",
            &roster(&file, "waived")
                .unwrap()
                .to_yaml()
                .replace(", touch: waived", "")
        )
        .unwrap()
        .digest()
    );
    for (line, word) in [(&file, "required"), (&fido, "waived"), (&file, "maybe")] {
        let findings = roster(line, word).unwrap_err();
        assert_eq!(findings[0].code, "bad-touch", "{findings:?}");
    }
}

#[test]
fn ssh_keygen_verifies_what_fido_keys_signed() {
    for key in keys() {
        let (scene, text) = scene("ada", &key, Decision::Approve);
        let signature = key.sign(&text, APPROVAL, TOUCHED, 3);
        let allowed = allowed_signers(&scene.roster, Namespace::Approval);
        assert!(keygen_accepts(
            &allowed,
            &text,
            &signature,
            "ada",
            Namespace::Approval
        ));
        assert!(!keygen_accepts(
            &allowed,
            &text,
            &signature,
            "bea",
            Namespace::Approval
        ));
    }
}
