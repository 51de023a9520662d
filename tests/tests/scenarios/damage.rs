//! Damage: every flipped bit is noticed, and nothing of another log passes for ours.

use std::path::{Path, PathBuf};

use sealwarden_seal::merkle::Hash;
use sealwarden_seal::trust::{TrustBundle, VerifiedBundle};
use sealwarden_seal::verdict;
use sealwarden_tests::binary::Answer;
use sealwarden_tests::{Installation, sealwarden};

const DOCUMENT: &[u8] = b"The quick brown fox signs here.\n";

/// A sealed document with everything that is needed offline.
struct Sealed {
    here: Installation,
    file: PathBuf,
    seal: Vec<u8>,
    trust: Vec<u8>,
}

impl Sealed {
    fn new() -> Self {
        let here = Installation::new();
        let up = here.up();
        // Neighbours, so that the proof has lines.
        for name in ["a", "b", "c", "d"] {
            here.seal(&here.file(name, name.as_bytes()));
        }
        let file = here.file("document", DOCUMENT);
        let seal = std::fs::read(here.seal(&file)).expect("the seal");
        here.seal(&here.file("e", b"e"));
        let trust = std::fs::read(here.trust("trust.json")).expect("the trust bundle");
        up.terminate();
        Self {
            here,
            file,
            seal,
            trust,
        }
    }
}

/// `verify` offline in a fresh home, where no bundle was ever seen.
fn verify(file: &Path, seal: &[u8], trust: &[u8]) -> Answer {
    let home = tempfile::tempdir().expect("a temporary folder");
    let put = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path.into_os_string()
    };
    let arguments = [
        "verify".into(),
        file.as_os_str().to_owned(),
        "--seal".into(),
        put("seal", seal),
        "--trust".into(),
        put("trust", trust),
        "--json".into(),
    ];
    sealwarden(home.path(), &arguments)
}

fn flipped(bytes: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    *bytes.get_mut(at).expect("a byte") ^= 1 << bit;
    bytes
}

/// The middle byte of each line, its line end excepted.
fn middles_of_lines(bytes: &[u8]) -> Vec<usize> {
    let mut middles = Vec::new();
    let mut start = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        if !line.is_empty() {
            middles.push(start + line.len() / 2);
        }
        start += line.len() + 1;
    }
    middles
}

#[test]
fn one_flipped_bit_anywhere_is_noticed() {
    let sealed = Sealed::new();
    let whole = verify(&sealed.file, &sealed.seal, &sealed.trust).good();
    assert_eq!(whole["verdict"], "valid", "{whole}");

    for bit in [0, 3, 7] {
        let changed = sealed.here.file("changed", &flipped(DOCUMENT, 11, bit));
        let answer = verify(&changed, &sealed.seal, &sealed.trust).ends_with(1);
        assert_eq!(answer.json()["verdict"], "document-mismatch", "{answer}");
    }
    for at in middles_of_lines(&sealed.seal) {
        let answer =
            verify(&sealed.file, &flipped(&sealed.seal, at, 0), &sealed.trust).ends_with(1);
        let document = answer.json();
        assert!(
            document["reason"]
                .as_str()
                .is_some_and(|reason| !reason.is_empty()),
            "{answer}"
        );
    }
    for at in middles_of_lines(&sealed.trust) {
        let answer = verify(&sealed.file, &sealed.seal, &flipped(&sealed.trust, at, 0));
        assert!(
            [1, 2, 4].contains(&answer.code),
            "bit 0 of byte {at} of the bundle: {answer}"
        );
        assert_ne!(answer.json()["verdict"], "valid", "{answer}");
    }
    every_bit_of_the_seal(&sealed);
    every_byte_of_the_bundle(&sealed);
}

fn bundle(bytes: &[u8]) -> Option<VerifiedBundle> {
    TrustBundle::parse(bytes)
        .and_then(|bundle| bundle.open(None))
        .ok()
}

/// The same in process, where there is time for every bit.
fn every_bit_of_the_seal(sealed: &Sealed) {
    let bundle = bundle(&sealed.trust).expect("the whole bundle");
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let digest = Hash::of(DOCUMENT).0;
    let judge = |seal: &[u8]| verdict::verify(seal, Some(digest), &bundle, now_ms);
    assert!(judge(&sealed.seal).verdict.is_valid());
    for at in 0..sealed.seal.len() {
        for bit in 0..8 {
            let answer = judge(&flipped(&sealed.seal, at, bit));
            assert!(
                !answer.verdict.is_valid(),
                "bit {bit} of byte {at} of the seal goes unnoticed"
            );
        }
    }
}

fn every_byte_of_the_bundle(sealed: &Sealed) {
    for at in 0..sealed.trust.len() {
        let bit = u8::try_from(at % 8).expect("less than 8");
        let opened = bundle(&flipped(&sealed.trust, at, bit));
        assert!(
            opened.is_none(),
            "bit {bit} of byte {at} of the trust bundle goes unnoticed"
        );
    }
}

#[test]
fn a_seal_of_another_log_is_not_ours_and_what_is_no_seal_is_malformed() {
    let ours = Sealed::new();
    let theirs = Sealed::new();
    let answer = verify(&ours.file, &theirs.seal, &ours.trust).ends_with(1);
    // The same origin under another key: the name alone proves nothing.
    assert_eq!(answer.json()["verdict"], "bad-signature", "{answer}");

    let every_byte: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let huge = vec![b'a'; 10 << 20];
    let twice = [ours.seal.as_slice(), ours.seal.as_slice()].concat();
    let half = ours.seal.split_at(ours.seal.len() / 2).0;
    for seal in [b"".as_slice(), &every_byte, &huge, &twice, half, DOCUMENT] {
        let answer = verify(&ours.file, seal, &ours.trust).ends_with(1);
        assert_eq!(answer.json()["verdict"], "malformed", "{answer}");
    }
    for trust in [b"".as_slice(), &every_byte, DOCUMENT, &ours.seal] {
        let answer = verify(&ours.file, &ours.seal, trust);
        assert!([2, 4].contains(&answer.code), "{answer}");
    }
}

#[test]
fn a_log_that_the_bundle_does_not_name_is_unknown() {
    let ours = Sealed::new();
    let text = String::from_utf8(ours.seal.clone()).expect("a seal is text");
    let renamed = text.replace("seal.example.com/main/1", "seal.example.org/main/1");
    let answer = verify(&ours.file, renamed.as_bytes(), &ours.trust).ends_with(1);
    assert_eq!(answer.json()["verdict"], "unknown-log", "{answer}");
}
