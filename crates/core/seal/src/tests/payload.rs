//! The fields of the payload's second format: required types, certificates, groups of witnesses, authorities of time.

use super::*;
use crate::trust::{
    FORMAT_2, FORMAT_3, Group, NO_QUORUM, QuorumTree, Revocation, RevocationReason,
    SealCertificate, SignatureType, Threshold, Tsa, pem_block,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

pub(super) fn pem(byte: u8, length: usize) -> String {
    let packed = crate::encoding::base64(&vec![byte; length]);
    let lines: Vec<_> = packed
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

pub(super) fn group(name: &str, threshold: Threshold, members: &[&str]) -> Group {
    Group {
        name: name.into(),
        threshold,
        members: members.iter().map(|it| (*it).to_owned()).collect(),
    }
}

pub(super) fn tree(name: &str, groups: Vec<Group>) -> Quorum {
    Quorum::Tree(QuorumTree {
        name: name.into(),
        groups,
    })
}

fn full() -> Payload {
    let mut payload = payload();
    payload.format = FORMAT_2.into();
    let log = &mut payload.logs[0];
    log.vkeys.push(ml_dsa_vkey(ORIGIN, 80));
    log.required = vec![SignatureType::MlDsa44];
    log.opened = Some(at("2026-04-01T00:00:00Z"));
    log.certificates = vec![
        SealCertificate {
            pem: pem(1, 300),
            binding: None,
            revoked: Some(Revocation {
                at: at("2026-05-10T00:00:00Z"),
                reason: RevocationReason::KeyCompromise,
            }),
        },
        SealCertificate {
            pem: pem(2, 48),
            binding: None,
            revoked: None,
        },
    ];
    payload.witnesses[1].other_vkeys = vec![ml_dsa_vkey("w3.pq", 81)];
    payload.witnesses[1].url = Some("https://witness.example/3".into());
    payload.quorum = tree(
        "main",
        vec![
            group("others", Threshold::Any, &["w3"]),
            group("main", Threshold::All, &["w2", "others"]),
        ],
    );
    payload.tsas = vec![Tsa {
        name: "TSA 1".into(),
        roots: pem(3, 100) + &pem(4, 100),
    }];
    payload
}

#[test]
fn the_new_fields_are_read_as_they_are_written_and_old_payloads_stay_as_they_were() {
    let text = full().to_json().unwrap();
    assert_eq!(Payload::parse(&text).unwrap(), full());
    assert!(text.contains("\"threshold\": \"any\"") && text.contains("\"ml-dsa-44\""));
    opened(&full());
    // A payload without them is the first format to the byte, so that what was signed before still verifies.
    let old = payload().in_lowest_format();
    assert_eq!(old, payload());
    let text = old.to_json().unwrap();
    for absent in [
        "required",
        "certificates",
        "tsas",
        "url",
        "opened",
        "groups",
    ] {
        assert!(!text.contains(absent), "{absent}");
    }
    assert!(text.contains("\"quorum\": {\n    \"count\": 2\n  }"));
    assert_eq!(full().in_lowest_format(), full());
}

#[test]
fn the_first_format_has_none_of_the_new_fields() {
    let changes: [fn(&mut Payload); 7] = [
        |it| it.logs[0].required = vec![SignatureType::Ed25519],
        |it| it.logs[0].certificates = full().logs[0].certificates.clone(),
        |it| it.logs[0].opened = Some(at("2026-04-01T00:00:00Z")),
        |it| it.witnesses[0].url = Some("https://w.example".into()),
        |it| it.witnesses[0].other_vkeys = vec![ml_dsa_vkey("w", 81)],
        |it| it.quorum = tree(NO_QUORUM, vec![]),
        |it| it.tsas = full().tsas,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut payload = payload();
        change(&mut payload);
        assert!(payload.validate().is_err(), "change {number}");
        payload.in_lowest_format().validate().unwrap();
    }
}

#[test]
fn what_a_certificate_signed_about_its_log_needs_the_third_format() {
    let bound = |binding: String| {
        let mut payload = full();
        payload.logs[0].certificates[1].binding = Some(binding);
        payload
    };
    let good = bound(pem_block("CMS", &vec![7; 20_000]));
    let error = good.validate().unwrap_err().to_string();
    assert!(error.contains("must be sealwarden-trust/3"), "{error}");
    let good = good.in_lowest_format();
    assert_eq!(good.format, FORMAT_3);
    let text = good.to_json().unwrap();
    let read = Payload::parse(&text).unwrap();
    assert_eq!(read, good);
    let certificate = &read.logs[0].certificates[1];
    assert_eq!(certificate.binding().unwrap(), vec![7; 20_000]);
    assert_eq!(certificate.certificate(), [2; 48]);
    assert_eq!(read.logs[0].certificates[0].binding(), None);
    for wrong in [
        String::new(),
        pem_block("CERTIFICATE", &[7; 40]),
        pem_block("CMS", &vec![7; 40_000]),
        pem_block("CMS", &[7; 40]) + &pem_block("CMS", &[8; 40]),
        pem_block("CMS", &[7; 40]).replace('\n', "\r\n"),
    ] {
        assert!(bound(wrong).in_lowest_format().validate().is_err());
    }
}

#[test]
fn each_rule_of_the_new_fields_holds() {
    let broken: [fn(&mut Payload); 24] = [
        |it| it.witnesses[0].required = vec![SignatureType::MlDsa44],
        |it| it.witnesses[0].required = vec![SignatureType::Ed25519; 2],
        |it| it.witnesses[0].required = vec![SignatureType::MlDsa44, SignatureType::Ed25519],
        |it| it.format = "sealwarden-trust/5".into(),
        |it| it.logs[0].required = vec![SignatureType::MlDsa44, SignatureType::Ed25519],
        |it| it.logs[0].required = vec![SignatureType::MlDsa44, SignatureType::MlDsa44],
        |it| drop(it.logs[0].vkeys.remove(1)),
        |it| it.logs[0].certificates[0].pem.push('\n'),
        |it| it.logs[0].certificates[0].pem.insert(40, '\n'),
        |it| it.logs[0].certificates[0].pem += &pem(9, 9),
        |it| it.logs[0].certificates[0].pem = pem(9, 17_000),
        |it| it.logs[0].certificates[0].pem = it.logs[0].certificates[1].pem.clone(),
        |it| it.logs[0].certificates[0].pem = String::new(),
        |it| it.witnesses[0].url = Some("ftp://w.example".into()),
        |it| it.witnesses[0].url = Some("https://w.example/ /".into()),
        |it| it.witnesses[0].other_vkeys = vec![log_vkey()],
        |it| it.witnesses[0].other_vkeys = vec![witness_vkey(OUTSIDE)],
        |it| it.tsas.push(it.tsas[0].clone()),
        |it| it.tsas[0].roots = String::new(),
        |it| it.tsas[0].name = String::new(),
        |it| it.quorum = tree("others", vec![]),
        |it| it.quorum = tree("g", vec![group("g", Threshold::Any, &["nobody"])]),
        |it| it.quorum = tree("w2", vec![group("w2", Threshold::Any, &["w3"])]),
        |it| it.quorum = Quorum::Count(3),
    ];
    for (number, change) in broken.into_iter().enumerate() {
        let mut payload = full();
        change(&mut payload);
        assert!(payload.validate().is_err(), "rule {number}");
    }
    let text = full().to_json().unwrap();
    for (from, to) in [
        ("\"threshold\": \"any\"", "\"threshold\": \"01\""),
        ("\"threshold\": \"any\"", "\"threshold\": \"Any\""),
        ("\"threshold\": \"any\"", "\"threshold\": 1"),
        (
            "\"name\": \"main\",\n    \"groups\"",
            "\"count\": 1,\n    \"name\": \"main\",\n    \"groups\"",
        ),
        ("\"reason\": \"key-compromise\"", "\"reason\": \"bad luck\""),
        ("\"required\"", "\"needed\""),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        assert!(Payload::parse(&text.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn groups_are_met_as_tlog_policy_says() {
    let quorum = tree(
        "X-and-Y",
        vec![
            group("X", Threshold::Members(2), &["X1", "X2", "X3"]),
            group("Y", Threshold::Any, &["Y1", "Y2"]),
            group("X-and-Y", Threshold::All, &["X", "Y"]),
        ],
    );
    let met = |names: &[&str]| quorum.is_met(&names.iter().copied().collect());
    assert!(met(&["X1", "X3", "Y2"]));
    for missing in [
        &["X1", "X2", "X3"][..],
        &["X1", "Y1", "Y2"],
        &["Y1"],
        &[],
        // Nobody becomes a group by its name.
        &["X-and-Y"],
        &["X", "Y"],
    ] {
        assert!(!met(missing), "{missing:?}");
    }
    assert!(tree(NO_QUORUM, vec![]).is_met(&BTreeSet::new()));
    assert!(!tree("w2", vec![]).is_met(&["w3"].into()));
    assert!(tree("w2", vec![]).is_met(&["w2"].into()));
    assert_eq!(
        quorum.to_string(),
        "all of (2 of X1, X2, X3), (any of Y1, Y2)"
    );
}

#[test]
fn groups_that_mean_two_things_or_cannot_be_met_are_refused() {
    let refused: [Quorum; 10] = [
        tree("g", vec![group("g", Threshold::Members(0), &["w2"])]),
        tree("g", vec![group("g", Threshold::Members(2), &["w2"])]),
        tree("g", vec![group("g", Threshold::Any, &[])]),
        tree("g", vec![group("g", Threshold::Members(2), &["w2", "w2"])]),
        tree("g", vec![group("none", Threshold::Any, &["w2"])]),
        tree("g", vec![group("g h", Threshold::Any, &["w2"])]),
        tree("g", vec![group("g", Threshold::Any, &["none"])]),
        tree("g", vec![group("g", Threshold::Any, &["g"])]),
        tree(
            "h",
            vec![
                group("g", Threshold::Any, &["w2", "w3"]),
                group("h", Threshold::All, &["g", "w2"]),
            ],
        ),
        tree(
            "g",
            vec![
                group("g", Threshold::Any, &["w2"]),
                group("g", Threshold::Any, &["w3"]),
            ],
        ),
    ];
    for quorum in refused {
        let mut payload = full();
        payload.quorum = quorum.clone();
        assert!(payload.validate().is_err(), "{quorum:?}");
    }
}

proptest! {
    /// More cosigners never undo a quorum, and a quorum that asks for somebody is not met by nobody.
    #[test]
    fn quorums_only_grow(thresholds in prop::collection::vec(1_u32..4, 3), mask in 0_u8..64, more in 0_u8..64) {
        let names = ["a", "b", "c", "d", "e", "f"];
        let pick = |mask: u8| -> BTreeSet<&str> {
            (0..6).filter(|bit| mask & (1 << bit) != 0).map(|bit| names[bit]).collect()
        };
        let quorum = tree("top", vec![
            group("one", Threshold::Members(thresholds[0]), &["a", "b", "c"]),
            group("two", Threshold::Members(thresholds[1].min(2)), &["d", "e"]),
            group("top", Threshold::Members(thresholds[2]), &["one", "two", "f"]),
        ]);
        if quorum.is_met(&pick(mask)) {
            prop_assert!(quorum.is_met(&pick(mask | more)));
        }
        prop_assert!(!quorum.is_met(&BTreeSet::new()));
    }
}
