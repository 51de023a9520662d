use super::*;
use crate::trust::{FrozenAt, Seen, TrustError, accept};
use ring::digest::{SHA256, digest};
use ssh_key::public::{Ed25519PublicKey, KeyData, SkEd25519};
use ssh_key::{Algorithm, PublicKey, Signature, SshSig};

const BOTH: [u8; 2] = [ROOT_A, ROOT_B];

/// Made with `ssh-keygen -Y sign -n sealwarden-trust` (OpenSSH 9) over [`OPENSSH_MESSAGE`].
const OPENSSH_MESSAGE: &[u8] = b"Sealwarden test payload\n";
const OPENSSH_ED25519: &str = "-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg9ITRBDrxBWCXr1omwZiMlV/Dvs
akhh1HP+SdCdX3dxIAAAAQc2VhbHdhcmRlbi10cnVzdAAAAAAAAAAGc2hhNTEyAAAAUwAA
AAtzc2gtZWQyNTUxOQAAAECBEcaGq+EuS4ZNtNssqYLS2raU58LTAcrFGQVIyxvjT+Hsi5
Wpzx0ZzIrX6nmI3S/LEpE1EDWfq0Hczbjf8wYH
-----END SSH SIGNATURE-----
";
const OPENSSH_P256: &str = "-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAAGgAAAATZWNkc2Etc2hhMi1uaXN0cDI1NgAAAAhuaXN0cDI1NgAAAE
EEPHRKAn0IHDeoinijDuijNRgu1N0QbwTwmhPOhR56LJIZJalEV/GqvfiAfBIS3Q12Xgoa
zLN2QmONHSY3N4ZTAwAAABBzZWFsd2FyZGVuLXRydXN0AAAAAAAAAAZzaGE1MTIAAABkAA
AAE2VjZHNhLXNoYTItbmlzdHAyNTYAAABJAAAAIQCb6i+K3rES+1OAH5BlBS9wxTjtdrjx
ikaG0xi0AdX37wAAACBXD1WLIt/nIyfjcA6gx1sl6WoIyMeQTnGQqfS83j44vg==
-----END SSH SIGNATURE-----
";

fn next(payload: &Payload) -> Payload {
    let text = payload.to_json().unwrap();
    let previous = Some(Hash::of(text.as_bytes()));
    Payload {
        version: payload.version + 1,
        previous,
        ..payload.clone()
    }
}

fn seen(payload: &Payload) -> Seen {
    accept(None, &opened(payload)).unwrap()
}

#[test]
fn signatures_of_openssh_verify_and_no_bit_of_them_may_change() {
    for armored in [OPENSSH_ED25519, OPENSSH_P256] {
        let verify =
            |text: &str| crate::trust::verify_sshsig(text, "sealwarden-trust", OPENSSH_MESSAGE);
        verify(armored).unwrap();
        assert!(
            crate::trust::verify_sshsig(armored, "sealwarden-approval", OPENSSH_MESSAGE).is_err()
        );
        assert!(crate::trust::verify_sshsig(armored, "sealwarden-trust", b"other").is_err());
        for (bit, flipped) in flips(armored.as_bytes()) {
            if let Ok(text) = String::from_utf8(flipped) {
                assert!(verify(&text).is_err(), "bit {bit}");
            }
        }
    }
}

fn sk_signature(flags: u8, message: &[u8]) -> (String, String) {
    let key = SkEd25519::new(Ed25519PublicKey(public(50)), "ssh:");
    let data = SshSig::signed_data("sealwarden-trust", HashAlg::Sha512, message).unwrap();
    let trailer = [flags, 0, 0, 0, 9];
    let mut signed = digest(&SHA256, b"ssh:").as_ref().to_vec();
    signed.extend_from_slice(&trailer);
    signed.extend_from_slice(digest(&SHA256, &data).as_ref());
    let mut blob = sign(50, &signed).to_vec();
    blob.extend_from_slice(&trailer);
    let signature = Signature::new(Algorithm::SkEd25519, blob).unwrap();
    let key = KeyData::SkEd25519(key);
    let line = PublicKey::new(key.clone(), "").to_openssh().unwrap();
    let sig = SshSig::new(key, "sealwarden-trust", HashAlg::Sha512, signature).unwrap();
    (line, sig.to_pem(LineEnding::LF).unwrap())
}

#[test]
fn a_security_key_must_have_been_touched() {
    let payload = Payload {
        roots: Roots {
            threshold: 1,
            keys: vec![sk_signature(1, b"").0],
        },
        ..payload()
    };
    let open = |flags: u8| {
        let mut bundle = TrustBundle::new(&payload).unwrap();
        let (_, armored) = sk_signature(flags, bundle.payload_text().as_bytes());
        bundle.add_signature(&armored).unwrap();
        bundle.open(None)
    };
    assert!(open(1).is_ok());
    assert!(open(5).is_ok());
    let error = open(0).unwrap_err().to_string();
    assert!(error.contains("touched"), "{error}");
}

#[test]
fn a_bundle_reads_back_and_opens() {
    let bundle = signed_bundle(&payload(), &BOTH);
    let bytes = bundle.to_bytes().unwrap();
    let again = TrustBundle::parse(&bytes).unwrap();
    assert_eq!(again, bundle);
    let open = again.open(Some(&roots(2, &BOTH))).unwrap();
    assert_eq!(open.payload(), &payload());
    assert_eq!(
        open.payload_digest(),
        Hash::of(bundle.payload_text().as_bytes())
    );
    assert!(open.log(ORIGIN).is_some() && open.log("other/1").is_none());
    assert_eq!(bundle.namespace().unwrap(), "sealwarden-trust");
}

#[test]
fn every_flipped_bit_of_a_bundle_is_refused() {
    let mut bundle = signed_bundle(&payload(), &BOTH);
    let note = signed_suspension(&suspension("2026-05-02T00:00:00Z"), SIGNING);
    bundle.add_suspension(&note).unwrap();
    let bytes = bundle.to_bytes().unwrap();
    TrustBundle::parse(&bytes).unwrap().open(None).unwrap();
    for (bit, flipped) in flips(&bytes) {
        let opened = TrustBundle::parse(&flipped).and_then(|bundle| bundle.open(None));
        assert!(opened.is_err(), "bit {bit} of byte {}", bit / 8);
    }
}

#[test]
fn other_spellings_and_unknown_fields_are_refused() {
    let bytes = signed_bundle(&payload(), &BOTH).to_bytes().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let bad = [
        text.replace("  \"payload\"", " \"payload\""),
        text.trim_end().to_owned(),
        text.replace("\"suspensions\": []", "\"suspensions\": [], \"more\": 1"),
        text.replace(
            "\"suspensions\": []",
            "\"suspensions\": [], \"suspensions\": []",
        ),
        text.replace(",\n  \"suspensions\": []", ""),
    ];
    for text in bad {
        assert!(matches!(
            TrustBundle::parse(text.as_bytes()),
            Err(TrustError::Malformed(_) | TrustError::NotCanonical(_))
        ));
    }
    let json = payload().to_json().unwrap();
    for (from, to) in [
        ("\"version\": 1,", "\"version\": 1, \"extra\": 2,"),
        ("\"version\": 1,", "\"version\": 1, \"version\": 1,"),
        ("\"count\": 2", "\"count\": 2, \"more\": 0"),
        ("\"local\": true", "\"local\": true, \"x\": 0"),
        ("\"threshold\": 2,", "\"threshold\": 2, \"x\": 0,"),
        ("\"state\": \"active\"", "\"state\": \"sleeping\""),
        ("sealwarden-trust/1", "sealwarden-trust/5"),
        ("2026-05-01T00:00:00Z", "yesterday"),
    ] {
        assert!(json.contains(from), "{from}");
        assert!(Payload::parse(&json.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn a_threshold_of_distinct_root_keys_must_sign() {
    let found = |bundle: &TrustBundle| bundle.open(None).map(|_| ()).unwrap_err();
    let one = signed_bundle(&payload(), &[ROOT_A]);
    assert!(matches!(
        found(&one),
        TrustError::Threshold {
            found: 1,
            threshold: 2,
            ..
        }
    ));
    // The same key twice, once over each hash, is one key.
    let mut twice = one.clone();
    let text = twice.payload_text().to_owned();
    let second = root_key(ROOT_A).sign("sealwarden-trust", HashAlg::Sha256, text.as_bytes());
    twice
        .add_signature(&second.unwrap().to_pem(LineEnding::LF).unwrap())
        .unwrap();
    assert!(matches!(
        found(&twice),
        TrustError::Threshold { found: 1, .. }
    ));
    let stranger = signed_bundle(&payload(), &[ROOT_A, 99]);
    assert!(matches!(
        found(&stranger),
        TrustError::Threshold { found: 1, .. }
    ));
    assert!(matches!(
        found(&signed_bundle(&payload(), &[])),
        TrustError::Threshold { .. }
    ));
    let anchored = signed_bundle(&payload(), &BOTH).open(Some(&roots(1, &[99])));
    assert!(matches!(
        anchored,
        Err(TrustError::Threshold {
            whose: "trusted",
            ..
        })
    ));
}

#[test]
fn a_bad_signature_rejects_even_beside_enough_good_ones() {
    let mut bundle = signed_bundle(&payload(), &BOTH);
    bundle
        .add_signature(&armored(99, "sealwarden-trust", "something else"))
        .unwrap();
    assert!(matches!(
        bundle.open(None),
        Err(TrustError::BadSignature { number: 3, .. })
    ));
    let mut bundle = signed_bundle(&payload(), &BOTH);
    let text = bundle.payload_text().to_owned();
    bundle
        .add_signature(&armored(99, "sealwarden-trust-drill", &text))
        .unwrap();
    assert!(matches!(
        bundle.open(None),
        Err(TrustError::BadSignature { number: 3, .. })
    ));
    assert!(bundle.add_signature("rubbish").is_err());
}

#[test]
fn drills_and_production_do_not_mix() {
    let mut drill = payload();
    drill.environment = Environment::Drill;
    assert!(drill.validate().is_err());
    let origin = "drill.invalid/main/1";
    drill.logs[0].origin = origin.into();
    drill.logs[0].vkeys = vec![Vkey::ed25519(origin, public(LOG)).unwrap()];
    drill.validate().unwrap();
    opened(&drill);
    let production = Payload {
        environment: Environment::Production,
        ..drill
    };
    assert!(production.validate().is_err());
}

#[test]
fn payload_rules_hold() {
    let broken: [fn(&mut Payload); 19] = [
        |it| it.format.push('x'),
        |it| it.installation.clear(),
        |it| it.version = 0,
        |it| it.version = 2,
        |it| it.previous = Some(Hash([0; 32])),
        |it| it.expires = it.issued,
        |it| it.clock_skew_s = 86_401,
        |it| it.roots.threshold = 0,
        |it| it.roots.threshold = 3,
        |it| it.roots.keys[1] = it.roots.keys[0].clone(),
        |it| it.roots.keys[1] = "ssh-ed25519 rubbish".into(),
        |it| it.signing_key = witness_vkey(LOCAL),
        |it| it.signing_key = log_vkey(),
        |it| it.logs.push(it.logs[0].clone()),
        |it| it.logs[0].vkeys.clear(),
        |it| it.logs[0].vkeys = vec![witness_vkey(LOCAL)],
        |it| it.logs[0].state = LogState::Frozen,
        |it| it.witnesses[1].vkey = Vkey::cosignature_v1("twin", public(LOCAL)).unwrap(),
        |it| it.quorum = Quorum::Count(3),
    ];
    for (number, change) in broken.into_iter().enumerate() {
        let mut payload = payload();
        change(&mut payload);
        assert!(payload.validate().is_err(), "rule {number}");
        assert!(payload.to_json().is_err());
    }
    let mut frozen = payload();
    frozen.logs[0].state = LogState::Frozen;
    frozen.logs[0].frozen_at = Some(FrozenAt {
        size: 3,
        root: Hash([1; 32]),
    });
    frozen.validate().unwrap();
    assert_eq!(Payload::parse(&frozen.to_json().unwrap()).unwrap(), frozen);
}

#[test]
fn suspensions_only_add_and_the_earliest_wins() {
    let since = |payload: &Payload, froms: &[&str]| {
        let mut bundle = signed_bundle(payload, &BOTH);
        for from in froms {
            bundle
                .add_suspension(&signed_suspension(&suspension(from), SIGNING))
                .unwrap();
        }
        bundle
            .open(None)
            .unwrap()
            .log(ORIGIN)
            .unwrap()
            .compromised_since
    };
    let (early, late) = ("2026-05-02T00:00:00Z", "2026-05-09T00:00:00Z");
    assert_eq!(since(&payload(), &[]), None);
    assert_eq!(since(&payload(), &[late, early]), Some(at(early)));
    let mut compromised = payload();
    compromised.logs[0].compromised_since = Some(at(early));
    assert_eq!(since(&compromised, &[late]), Some(at(early)));
    compromised.logs[0].compromised_since = Some(at(late));
    assert_eq!(since(&compromised, &[early]), Some(at(early)));
}

#[test]
fn one_bad_suspension_makes_the_bundle_invalid() {
    let good = suspension("2026-05-02T00:00:00Z");
    let open = |note: &Note| {
        let mut bundle = signed_bundle(&payload(), &BOTH);
        bundle
            .add_suspension(&signed_suspension(&good, SIGNING))
            .unwrap();
        bundle.add_suspension(note).unwrap();
        bundle.open(None)
    };
    let bad = |note: &Note| {
        assert!(matches!(
            open(note),
            Err(TrustError::BadSuspension { number: 2, .. })
        ));
    };
    bad(&signed_suspension(&good, 99));
    bad(&signed_suspension(
        &Suspension {
            installation: "other".into(),
            ..good.clone()
        },
        SIGNING,
    ));
    bad(&signed_suspension(
        &Suspension {
            environment: Environment::Drill,
            ..good.clone()
        },
        SIGNING,
    ));
    bad(&signed_suspension(
        &Suspension {
            origin: "other/1".into(),
            ..good.clone()
        },
        SIGNING,
    ));
    let mut two = signed_suspension(&good, SIGNING);
    two.attach("somebody", crate::note::KeyId([0; 4]), &[1])
        .unwrap();
    bad(&two);
    let text = good.to_text();
    for broken in [
        format!("{text}more: x\n"),
        text.replace("from: ", "until: "),
        text.replace("Z\n", "+00:00\n"),
    ] {
        assert!(Suspension::parse(&broken).is_err(), "{broken}");
    }
    assert_eq!(Suspension::parse(&text).unwrap(), good);
}

#[test]
fn versions_only_go_up_and_follow_each_other() {
    let one = payload();
    let two = next(&one);
    let three = next(&two);
    let accept = |seen: &Seen, payload: &Payload| accept(Some(seen), &opened(payload));
    assert_eq!(accept(&seen(&one), &one).unwrap(), seen(&one));
    assert_eq!(accept(&seen(&one), &two).unwrap().version, 2);
    assert_eq!(accept(&seen(&one), &three).unwrap().version, 3);
    assert_eq!(
        accept(&seen(&two), &one).unwrap_err(),
        TrustError::RolledBack { found: 1, seen: 2 }
    );
    let other = Payload {
        clock_skew_s: 1,
        ..one.clone()
    };
    assert_eq!(
        accept(&seen(&one), &other).unwrap_err(),
        TrustError::Forked { version: 1 }
    );
    assert_eq!(
        accept(&seen(&one), &next(&other)).unwrap_err(),
        TrustError::Forked { version: 2 }
    );
    let foreign = Payload {
        installation: "other".into(),
        ..two
    };
    assert!(matches!(
        accept(&seen(&one), &foreign),
        Err(TrustError::OtherInstallation { .. })
    ));
}

#[test]
fn other_roots_need_the_signatures_of_the_seen_ones() {
    let mut moved = next(&payload());
    moved.roots = roots(1, &[77]);
    let seen = seen(&payload());
    let accept = |signers: &[u8]| {
        accept(
            Some(&seen),
            &signed_bundle(&moved, signers).open(None).unwrap(),
        )
    };
    assert_eq!(accept(&[77]).unwrap_err(), TrustError::RootsChanged);
    assert_eq!(accept(&[77, ROOT_A]).unwrap_err(), TrustError::RootsChanged);
    let after = accept(&[77, ROOT_A, ROOT_B]).unwrap();
    assert_eq!(after.roots, moved.roots);
    assert_ne!(after.roots_digest().unwrap(), seen.roots_digest().unwrap());
    // A lower threshold over the same keys is a change of roots as well.
    let mut weaker = next(&payload());
    weaker.roots.threshold = 1;
    let weaker = signed_bundle(&weaker, &[ROOT_A]).open(None).unwrap();
    assert_eq!(
        crate::trust::accept(Some(&seen), &weaker).unwrap_err(),
        TrustError::RootsChanged
    );
}

#[test]
fn roots_are_the_same_whatever_their_order_and_comments() {
    let mut commented = roots(2, &[ROOT_B, ROOT_A]);
    commented.keys[0].push_str(" somebody@example.com");
    assert_eq!(
        commented.digest().unwrap(),
        roots(2, &BOTH).digest().unwrap()
    );
    assert_ne!(
        roots(1, &BOTH).digest().unwrap(),
        roots(2, &BOTH).digest().unwrap()
    );
}

#[test]
fn a_seen_suspension_cannot_be_stripped() {
    let mut bundle = signed_bundle(&payload(), &BOTH);
    let note = signed_suspension(&suspension("2026-05-02T00:00:00Z"), SIGNING);
    bundle.add_suspension(&note).unwrap();
    let seen = accept(None, &bundle.open(None).unwrap()).unwrap();
    let dropped = TrustError::SuspensionDropped {
        origin: ORIGIN.into(),
    };
    assert_eq!(
        accept(Some(&seen), &opened(&payload())).unwrap_err(),
        dropped
    );
    // Nor with a newer version that was written before the suspension.
    let mut two = next(&payload());
    assert_eq!(accept(Some(&seen), &opened(&two)).unwrap_err(), dropped);
    // The roots have the last word, later.
    two.issued = at("2026-05-21T00:00:00Z");
    assert!(accept(Some(&seen), &opened(&two)).is_ok());
    let stored = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<Seen>(&stored).unwrap(), seen);
}
