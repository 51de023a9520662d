//! Everybody who can say something, and their keys.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

use sealwarden_domain::approval::{Namespace, sign};
use ssh_key::PrivateKey;
use ssh_key::private::Ed25519Keypair;

/// Everybody on the roster, with their roles.
pub(crate) const PEOPLE: [(&str, &[&str]); 10] = [
    ("ada", &["security-lead"]),
    ("grace", &["on-call-sre"]),
    ("linus", &["on-call-sre", "security-lead"]),
    ("leila", &["legal-counsel"]),
    ("nora", &["legal-counsel"]),
    ("pete", &["product-owner"]),
    ("paul", &["product-owner"]),
    (
        REQUESTER,
        &[
            "security-lead",
            "on-call-sre",
            "legal-counsel",
            "product-owner",
        ],
    ),
    ("bea", &["break-glass"]),
    ("max", &["break-glass", "security-lead"]),
];

/// Whoever asked for the run.
pub(crate) const REQUESTER: &str = "rita";

/// Not on the roster.
pub(crate) const STRANGER: &str = "mallory";

static KEYS: LazyLock<BTreeMap<&str, PrivateKey>> = LazyLock::new(|| {
    let names = PEOPLE.iter().map(|(name, _)| *name).chain([STRANGER]);
    names.map(|name| (name, key_of(name))).collect()
});

/// `roster.yaml`.
pub(crate) static ROSTER: LazyLock<String> = LazyLock::new(|| {
    let mut text = String::from("people:\n");
    for (id, roles) in PEOPLE {
        let key = KEYS[id].public_key().to_openssh().unwrap();
        writeln!(
            text,
            "  - {{id: {id}, name: {id}, roles: [{}], contact: none, keys: [{{key: \"{}\"{}}}]}}",
            roles.join(", "),
            key.trim(),
            if roles.contains(&"break-glass") {
                ", touch: waived"
            } else {
                ""
            }
        )
        .unwrap();
    }
    text
});

/// Everybody's key follows from the name.
pub(crate) fn key_of(person: &str) -> PrivateKey {
    let mut seed = [0x5a; 32];
    for (byte, letter) in seed.iter_mut().zip(person.bytes()) {
        *byte = letter;
    }
    PrivateKey::from(Ed25519Keypair::from_seed(&seed))
}

pub(crate) fn signature(text: &str, person: &str, namespace: Namespace) -> String {
    sign(text, &KEYS[person], namespace).unwrap()
}

/// How many people of each role.
pub(crate) type Roles = BTreeMap<String, u32>;

/// Whether these people meet a quorum, each counted for one role only. Said without the product's own arithmetic: places are filled one after another, trying everybody.
pub(crate) fn meet(quorum: &Roles, people: &BTreeSet<String>) -> bool {
    let places: Vec<&str> = quorum
        .iter()
        .flat_map(|(role, count)| (0..*count).map(move |_| role.as_str()))
        .collect();
    fill(&places, &mut people.clone())
}

fn fill(places: &[&str], free: &mut BTreeSet<String>) -> bool {
    let Some((role, rest)) = places.split_first() else {
        return true;
    };
    let able: Vec<String> = free.iter().filter(|it| has(it, role)).cloned().collect();
    able.into_iter().any(|person| {
        free.remove(&person);
        let filled = fill(rest, free);
        free.insert(person);
        filled
    })
}

pub(crate) fn has(person: &str, role: &str) -> bool {
    let known = PEOPLE.iter().find(|(id, _)| *id == person);
    known.is_some_and(|(_, roles)| roles.contains(&role))
}
