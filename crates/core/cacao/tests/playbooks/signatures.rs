//! Signatures: the example of the specification verifies, made ones verify, and no change goes unseen.

use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use sealwarden_cacao::{
    BadSignature, Importing, Playbook, SigningKey, Statement, export, import, read_json, sign,
    signatures,
};
use serde_json::{Value, json};

use crate::support::{importing, linear, origin, schema, shipped};

/// The public key of the specification's example.
const KEY: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAptKZyFPStvmOlb0WihOBhlHUr6wFDHC+tW7hJAudfTQ5mHZQpB8PoMz07udZA+dG8dhUIPkmXlp1TgREeYTHdhxhuf0y/GhbpZv5JPYHx3watO+HWO2qYkjRMEcrWhPMdaVkS/Xe/liaMcow4jYoWaFm8VobeYsyVD2bWWdyl4joTEETm1Z47RnnfR15kVhVudVrDzEFmM4nXV/6dmIg184RJE4httwBFxR8qZCQCwTiJmsoyJxfUR0Gs4ePKc5sB0NTkmFZc5klQSitd67RJn2ldhbqE7EpDl4XlIt+UyLJm1guCBltia8Agke7dXuhpB7hQ6LJwY4EjzthkJ8IPwIDAQAB";

/// The signature of the specification's example.
const VALUE: &str = "gXyPW--uUKvGXRh_oDC7IYlx13hGmkiQw6XX3YX_V_i4Y39OPilf0q0qf46aO3IrvG-5_fgeQ3dIunmizYneaVJKjsXo-gkJczvGDehlTjS7MBUIGyD9DRd41DnaxWWwzU-T4sZCur664_3J0C-WRCDgZxiB_ItFpeSnPJ8rR8GRFO6M9YS-ejEGJl-sd_hfZUqjZOE_S_UWp_Fd9QYlP2cWDvGH8vFhx2ek9KovEob5Bh2LX_Gaf7t237B34wKeN4B8aqapyTh3Q8v_Z61bDTNLyi6ZA8zcrUOgCVLVMx_EFizx31WIDZrePsSpX4bfRurcvRyvNNVdWLaS96JYog";

/// The example of the specification (CACAO v2.0, signing with RS256). It has no workflow, so it is no playbook that
/// could be read: its signature is verified as it stands there.
fn example() -> Value {
    json!({
        "type": "playbook",
        "spec_version": "cacao-2.0",
        "id": "playbook--a0777575-5c4c-4710-9f01-15776103837f",
        "name": "Playbook 1",
        "created_by": "identity--5abe695c-7bd5-4c31-8824-2528696cdbf1",
        "created": "2022-05-18T11:31:31.319Z",
        "modified": "2022-05-18T11:31:31.319Z",
        "signatures": [{
            "type": "jss",
            "id": "jss--af892292-c4b4-47eb-9be6-4897ff4b9388",
            "created_by": "identity--5abe695c-7bd5-4c31-8824-2528696cdbf1",
            "created": "2023-01-10T17:39:31.319Z",
            "modified": "2023-01-10T17:39:31.319Z",
            "signee": "ACME Cyber Company",
            "valid_from": "2023-01-10T17:39:31.319Z",
            "valid_until": "2023-06-10T17:39:31.319Z",
            "related_to": "playbook--a0777575-5c4c-4710-9f01-15776103837f",
            "related_version": "2022-05-18T11:31:31.319Z",
            "hash_algorithm": "sha-256",
            "algorithm": "RS256",
            "public_key": KEY,
            "value": VALUE,
        }],
    })
}

fn then() -> Timestamp {
    "2023-02-01T00:00:00Z".parse().unwrap()
}

#[test]
fn the_example_of_the_specification_verifies() {
    let signed = read_json(&example().to_string()).unwrap();
    let checked = signatures(&signed, then());
    assert_eq!(checked.len(), 1);
    assert_eq!(
        (checked[0].signee.as_str(), checked[0].algorithm.as_str()),
        ("ACME Cyber Company", "RS256")
    );
    assert!(checked[0].outcome.is_ok(), "{:?}", checked[0].outcome);

    let late = signatures(&signed, "2026-01-01T00:00:00Z".parse().unwrap());
    assert!(matches!(
        late[0].outcome,
        Err(BadSignature::NotValid { .. })
    ));
    for change in ["name", "created", "created_by"] {
        let mut changed = example();
        changed[change] = Value::from(format!("{}x", changed[change].as_str().unwrap()));
        let text = changed.to_string();
        let outcome = signatures(&read_json(&text).unwrap(), then())
            .remove(0)
            .outcome;
        assert_eq!(outcome, Err(BadSignature::Wrong), "{change}");
    }
}

fn keys() -> [SigningKey; 3] {
    let random = SystemRandom::new();
    let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let p256 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    [
        SigningKey::from_pkcs8(ed25519.as_ref(), &random).unwrap(),
        SigningKey::from_pkcs8(p256.as_ref(), &random).unwrap(),
        SigningKey::from_ed25519_seed(&[7; 32]).unwrap(),
    ]
}

fn statement(n: u8) -> Statement {
    Statement {
        id: format!("jss--0000000{n}-1000-4000-a000-000100010001"),
        signee: "Mara Lindqvist".to_owned(),
        at: then(),
        valid_until: None,
    }
}

#[test]
fn signatures_of_each_key_verify_and_stand_beside_each_other() {
    let mut playbook = export(&shipped().remove(0), &origin()).unwrap();
    for (n, key) in (1..).zip(keys()) {
        playbook = sign(&playbook, &key, &statement(n), &SystemRandom::new()).unwrap();
        let checked = signatures(playbook.value(), then());
        assert!(
            checked.iter().all(|checked| checked.outcome.is_ok()),
            "{checked:?}"
        );
        assert_eq!(
            checked.last().unwrap().outcome.as_ref().unwrap(),
            &key.public_key()
        );
    }
    assert!(schema().is_valid(playbook.value()));
    let read = Playbook::parse(&serde_json::to_string_pretty(playbook.value()).unwrap()).unwrap();
    assert_eq!(
        signatures(read.value(), then())
            .iter()
            .filter(|c| c.outcome.is_ok())
            .count(),
        3
    );
    let back = import(
        &read,
        &Importing {
            now: then(),
            ..Importing::default()
        },
    )
    .unwrap();
    assert_eq!(
        back.runbook.digest(),
        shipped().remove(0).digest(),
        "signing changes nothing of the runbook"
    );
}

/// A change to a playbook, and whether its signature then speaks against it.
type Change = (fn(&mut Value), bool);

#[test]
fn a_changed_playbook_or_signature_is_told_and_not_imported() {
    let unsigned =
        Playbook::parse(&linear(&[("A", json!([{"type": "manual", "command": "a"}]))]).to_string())
            .unwrap();
    let [key, ..] = keys();
    let signed = sign(&unsigned, &key, &statement(1), &SystemRandom::new()).unwrap();
    let cases: [Change; 6] = [
        (|p| p["name"] = "B".into(), true),
        (|p| p["signatures"][0]["signee"] = "B".into(), true),
        (|p| p["modified"] = "2024-01-01T00:00:00.000Z".into(), true),
        (|p| p["signatures"][0]["value"] = "AAAA".into(), true),
        (|p| p["signatures"][0]["public_key"] = "AAAA".into(), true),
        (
            |p| p["signatures"][0]["algorithm"] = "XMSS-SHA2_10_256".into(),
            false,
        ),
    ];
    for (change, against) in cases {
        let mut changed = signed.value().clone();
        change(&mut changed);
        let read = Playbook::parse(&changed.to_string()).unwrap();
        let bad = signatures(read.value(), then())
            .remove(0)
            .outcome
            .unwrap_err();
        assert_eq!(bad.is_against(), against, "{bad}");
        match import(&read, &importing()) {
            Err(findings) => assert!(
                against && findings[0].code == "bad-signature",
                "{findings:?}"
            ),
            Ok(imported) => assert!(
                !against
                    && imported
                        .warnings
                        .iter()
                        .any(|w| w.code == "unchecked-signature")
            ),
        }
    }
    assert!(import(&signed, &importing()).is_ok());
}

#[test]
fn the_canonical_form_is_that_of_rfc_8785() {
    let value: Value = serde_json::from_str(r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false],"\u20ac":1,"\r":2,"\ud83d\ude00":3,"\ufb33":4}"#).unwrap();
    let canonical = serde_json_canonicalizer::to_string(&value).unwrap();
    assert_eq!(
        canonical,
        "{\"\\r\":2,\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\",\"€\":1,\"😀\":3,\"\u{fb33}\":4}"
    );
}
