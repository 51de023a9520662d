use super::support::{Desk, NOW_MS, ORIGIN, person, seal, seal_certificate, signer, vkey};
use sealwarden_anchors::binding::{self, Binding, BindingError};
use sealwarden_anchors::cades::{self, CadesError};
use sealwarden_anchors::chain::{Chain, ChainError};
use sealwarden_anchors::receipt;
use sealwarden_anchors::seal_certificate::{self as certificate, SealCertificateError};
use sealwarden_anchors::signer::Signer;

const NOW_S: i64 = NOW_MS / 1000;
const DAY_S: i64 = 24 * 3600;

/// What `openssl ca` would do: a root, and under it a certificate for the request, with these extensions.
fn certified(desk: &Desk, extensions: &str, days: &str) {
    let (key, request) = certificate::request(&person(), &[]).unwrap();
    desk.put("seal.key", key);
    desk.put("seal.csr", request);
    desk.put("ext", extensions);
    desk.must("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -subj /CN=Test_CA -days 3650");
    desk.must(&format!(
        "x509 -req -in seal.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days {days} -extfile ext -out seal.pem"
    ));
}

fn chain_of(desk: &Desk) -> Vec<u8> {
    [desk.get("seal.pem"), desk.get("ca.pem")].concat()
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[test]
fn a_certificate_of_openssls_authority_binds_a_logs_keys_and_openssl_reads_it() {
    let desk = Desk::new();
    certified(&desk, "keyUsage=critical,nonRepudiation", "30");
    let chain = Chain::read(&chain_of(&desk), now_ms()).unwrap();
    assert!(
        chain.certificate.subject.contains("NTRDE-HRB123456"),
        "{chain:?}"
    );
    assert_eq!(chain.issuer, "CN=Test_CA");
    let signer = Signer::from_pem(chain.pem.as_bytes(), &desk.get("seal.key")).unwrap();
    let now_s = now_ms() / 1000;
    let keys = vec![vkey(ORIGIN, 2), vkey(ORIGIN, 1), vkey(ORIGIN, 2)];
    let made = Binding::new(ORIGIN, keys, now_s, now_s + DAY_S).unwrap();
    let signed = binding::sign(&made, &signer, now_ms()).unwrap();
    let bound = binding::verify(&signed).unwrap();
    assert_eq!(bound.binding, made);
    assert_eq!(bound.binding.vkeys.len(), 2);
    assert_eq!(bound.certificate_der, chain.leaf_der);
    desk.put("a.p7s", &signed);
    desk.must("cms -verify -inform DER -in a.p7s -CAfile ca.pem -binary -out text");
    assert_eq!(desk.get("text"), made.to_text().as_bytes());
    // What the binding names, the certificate may sign for; nothing else.
    let seal = seal(5, 11);
    let keys = &bound.binding.vkeys;
    cades::sign(&seal.note, &signer, keys, now_ms()).unwrap();
    receipt::make(&seal, &signer, keys, now_ms()).unwrap();
    let error = cades::sign(&seal.note, &signer, &[], now_ms()).unwrap_err();
    assert!(matches!(
        error,
        CadesError::Certificate(SealCertificateError::NoKeys(_))
    ));
    let other = [vkey(ORIGIN, 2)];
    let error = cades::sign(&seal.note, &signer, &other, now_ms()).unwrap_err();
    assert!(matches!(
        error,
        CadesError::Certificate(SealCertificateError::Signature(_))
    ));
}

#[test]
fn no_changed_bit_leaves_a_binding_good() {
    let issued = seal_certificate();
    let made = Binding::new(ORIGIN, vec![vkey(ORIGIN, 1)], NOW_S, NOW_S + DAY_S).unwrap();
    let signed = binding::sign(&made, &signer(&issued), NOW_MS).unwrap();
    for place in 0..signed.len() {
        let mut changed = signed.clone();
        changed[place] ^= 1;
        if let Ok(found) = binding::verify(&changed) {
            assert_eq!(found.binding, made, "byte {place}");
        }
        assert!(binding::verify(&signed[..place]).is_err(), "cut at {place}");
    }
}

#[test]
fn a_binding_has_one_spelling_and_names_keys_of_its_log_only() {
    let made = Binding::new(
        ORIGIN,
        vec![vkey(ORIGIN, 1), vkey(ORIGIN, 2)],
        NOW_S,
        NOW_S + DAY_S,
    )
    .unwrap();
    let text = made.to_text();
    assert_eq!(Binding::parse(text.as_bytes()).unwrap(), made);
    let (first, second) = (vkey(ORIGIN, 1).to_string(), vkey(ORIGIN, 2).to_string());
    let swapped = text
        .replace(&first, "x")
        .replace(&second, &first)
        .replace('x', &second);
    let foreign = text.replace(&first, &vkey("seal.example.com/other/1", 1).to_string());
    for wrong in [
        String::new(),
        text.replace('\n', "\r\n"),
        text.replace("@v1", "@v2"),
        text.replace("Z\n", ".000Z\n"),
        text.replace("Z\n", "+00:00\n"),
        format!("{text}{text}"),
        format!("{text}note hello\n"),
        text.replace(&format!("vkey {first}\n"), "")
            .replace(&format!("vkey {second}\n"), ""),
        text.replace(&second, &first),
        text.trim_end().to_owned(),
        swapped,
        foreign,
    ] {
        let error = Binding::parse(wrong.as_bytes()).unwrap_err();
        assert!(matches!(error, BindingError::Malformed(_)), "{wrong}");
    }
    assert!(Binding::parse(&[0xff]).is_err());
    assert!(Binding::new(ORIGIN, vec![vkey(ORIGIN, 1)], NOW_S, NOW_S).is_err());
    assert!(Binding::new(ORIGIN, vec![], NOW_S, NOW_S + 1).is_err());
}

#[test]
fn a_binding_lies_within_its_certificates_dates() {
    let signer = signer(&seal_certificate());
    let year = 366 * DAY_S;
    for (from, until) in [(NOW_S - year, NOW_S), (NOW_S, NOW_S + year)] {
        let made = Binding::new(ORIGIN, vec![vkey(ORIGIN, 1)], from, until).unwrap();
        let error = binding::sign(&made, &signer, NOW_MS).unwrap_err();
        assert!(matches!(error, BindingError::Dates { .. }), "{error}");
    }
    let made = Binding::new(ORIGIN, vec![vkey(ORIGIN, 1)], NOW_S, NOW_S + 1).unwrap();
    let error = binding::sign(&made, &signer, NOW_MS + year * 1000).unwrap_err();
    assert!(matches!(
        error,
        BindingError::Certificate(SealCertificateError::Expired { .. })
    ));
}

#[test]
fn what_cannot_be_a_seal_certificate_is_refused_with_the_reason() {
    let desk = Desk::new();
    let read = |desk: &Desk| Chain::read(&chain_of(desk), now_ms());
    certified(&desk, "keyUsage=keyEncipherment", "30");
    let error = read(&desk).unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::Certificate(SealCertificateError::Usage(_))
        ),
        "{error}"
    );
    certified(&desk, "extendedKeyUsage=serverAuth", "30");
    let error = read(&desk).unwrap_err();
    assert!(matches!(error, ChainError::Purpose { .. }), "{error}");
    certified(&desk, "basicConstraints=CA:TRUE", "30");
    let error = read(&desk).unwrap_err();
    assert!(matches!(error, ChainError::Authority(_)), "{error}");
    certified(&desk, "extendedKeyUsage=serverAuth,emailProtection", "30");
    read(&desk).unwrap();
    let late = now_ms() + 31 * DAY_S * 1000;
    let error = Chain::read(&chain_of(&desk), late).unwrap_err();
    assert!(
        matches!(
            error,
            ChainError::Certificate(SealCertificateError::Expired { .. })
        ),
        "{error}"
    );
    // Another authority of the same name; nothing at all; the wrong order.
    let leaf = desk.get("seal.pem");
    let top = desk.get("ca.pem");
    certified(&desk, "keyUsage=digitalSignature", "30");
    let stranger = [leaf.clone(), desk.get("ca.pem")].concat();
    let error = Chain::read(&stranger, now_ms()).unwrap_err();
    assert!(matches!(error, ChainError::Broken { .. }), "{error}");
    let error = Chain::read(&[top.clone(), leaf.clone()].concat(), now_ms()).unwrap_err();
    assert!(matches!(error, ChainError::Authority(_)), "{error}");
    assert_eq!(
        Chain::read(b"", now_ms()).unwrap_err(),
        ChainError::Count(0)
    );
    assert!(matches!(
        Chain::read(&leaf.repeat(9), now_ms()).unwrap_err(),
        ChainError::Count(9)
    ));
    // Keys that are not of P-256.
    for key in ["rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-384", "ed25519"] {
        desk.must(&format!(
            "req -x509 -newkey {key} -nodes -keyout k.key -out k.pem -subj /O=Example -days 30"
        ));
        let error = Chain::read(&desk.get("k.pem"), now_ms()).unwrap_err();
        assert!(matches!(error, ChainError::Key(_)), "{key}: {error}");
    }
}
