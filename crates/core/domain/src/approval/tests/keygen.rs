//! The real `ssh-keygen` agrees with us, both ways.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use sealwarden_runbook::Roster;

use super::checks::Scene;
use crate::approval::fixture::{roster, roster_text, signed, statement};
use crate::approval::{Namespace, Signature, allowed_signers, sha256_hex};

/// Runs a bash script with these variables.
fn bash(script: &str, variables: &[(&str, &str)]) -> Output {
    Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

/// Whether `ssh-keygen -Y verify` accepts a signature as a person's.
pub(super) fn keygen_accepts(
    allowed: &str,
    text: &str,
    signature: &str,
    person: &str,
    namespace: Namespace,
) -> bool {
    let script = "printf %s \"$TEXT\" | ssh-keygen -Y verify -f <(printf %s \"$ALLOWED\") -I \"$PERSON\" -n \"$NAMESPACE\" \
                  -s <(printf %s \"$SIGNATURE\")";
    let variables = [
        ("TEXT", text),
        ("ALLOWED", allowed),
        ("PERSON", person),
        ("NAMESPACE", namespace.as_str()),
        ("SIGNATURE", signature),
    ];
    bash(script, &variables).status.success()
}

#[test]
fn ssh_keygen_verifies_an_approval_and_nothing_else() {
    let (text, signature) = signed(&statement("ada", &sha256_hex(b"inputs"), 1));
    let keygen_accepts = |text: &str, signature: &str, person: &str, namespace: Namespace| {
        let allowed = allowed_signers(&roster(), namespace);
        keygen_accepts(&allowed, text, signature, person, namespace)
    };
    assert!(keygen_accepts(
        &text,
        &signature,
        "ada",
        Namespace::Approval
    ));
    assert!(!keygen_accepts(
        &text,
        &signature,
        "grace",
        Namespace::Approval
    ));
    assert!(!keygen_accepts(
        &text,
        &signature,
        "ada",
        Namespace::ApprovalDrill
    ));
    assert!(!keygen_accepts(
        &text.replace("run-1", "run-2"),
        &signature,
        "ada",
        Namespace::Approval
    ));
}

/// A new key pair of `kind` made by ssh-keygen: public line, and its signature over `text`.
fn made_by_keygen(kind: &str, text_for: impl Fn(&str) -> String) -> (String, String, String) {
    // Two steps, because the text names the roster's digest and the roster names the key.
    let script = "d=$(mktemp -d); trap 'rm -r $d' EXIT; ssh-keygen -q -t \"$KIND\" -N '' -C '' -f $d/k; cat $d/k.pub; cat $d/k";
    let made = bash(script, &[("KIND", kind)]);
    let out = String::from_utf8(made.stdout).unwrap();
    let (line, private) = out.split_once('\n').unwrap();
    let text = text_for(line);
    let script = "d=$(mktemp -d); trap 'rm -r $d' EXIT; umask 077; printf %s \"$PRIVATE\" >$d/k; \
                  printf %s \"$TEXT\" | ssh-keygen -q -Y sign -f $d/k -n sealwarden-approval";
    let signed = bash(script, &[("PRIVATE", private), ("TEXT", &text)]);
    assert!(
        signed.status.success(),
        "{}",
        String::from_utf8_lossy(&signed.stderr)
    );
    (
        line.to_owned(),
        text,
        String::from_utf8(signed.stdout).unwrap(),
    )
}

#[test]
fn approvals_signed_by_ssh_keygen_count() {
    for kind in ["ed25519", "ecdsa"] {
        let roster_with = |line: &str| {
            let text = roster_text(&BTreeMap::from([("ada", line.to_owned())]));
            Roster::parse("roster.yaml", &text).unwrap()
        };
        let (line, text, signature) = made_by_keygen(kind, |line| {
            let mut statement = statement("ada", &sha256_hex(b"inputs"), 1);
            statement.roster_digest = roster_with(line).digest_hex();
            statement.to_string()
        });
        let mut scene = Scene::new();
        scene.roster = roster_with(&line);
        let accepted = scene.check(&(text, signature)).unwrap();
        assert_eq!(accepted.person, "ada", "{kind}");
    }
}

#[test]
fn other_kinds_of_keys_are_refused() {
    let (_, _, signature) = made_by_keygen("rsa", |_| "text".to_owned());
    let error = Signature::parse(&signature).unwrap_err().to_string();
    assert!(error.contains("rsa"), "{error}");
}
