use super::support::{Desk, NOW_MS, issued, roots, seal, signer, stamped};
use sealwarden_anchors::authority::Authority;
use sealwarden_anchors::roots::{Roots, RootsError};
use sealwarden_anchors::signed::SignedError;
use sealwarden_anchors::timestamp::{self, Request, TimestampError};

const COVERED: &[u8] = b"what was stamped\n";

#[test]
fn our_timestamps_hold_for_us_and_for_openssl() {
    let tsa = issued("Drill TSA");
    let note = seal(5, 11).note.to_string();
    let response = stamped(&tsa, note.as_bytes(), NOW_MS);
    let found = timestamp::verify(&response, note.as_bytes(), &roots(&tsa)).unwrap();
    assert_eq!(found.time_ms, NOW_MS);
    assert_eq!(found.latest_ms(), NOW_MS + 1001);
    assert_eq!(found.tsa, "CN=Drill TSA");
    let desk = Desk::new();
    desk.put("note", &note);
    desk.put("a.tsr", &response);
    desk.put("root.pem", &tsa.root);
    let time = NOW_MS / 1000;
    let verify = format!("ts -verify -in a.tsr -CAfile root.pem -attime {time}");
    let said = desk.must(&format!("{verify} -data note"));
    assert!(said.contains("Verification: OK"), "{said}");
    desk.put("note", note.replace("main/1", "main/2"));
    assert!(!desk.openssl(&format!("{verify} -data note")).0);
}

#[test]
fn openssl_answers_our_request() {
    for (name, key) in [
        ("P-256", "ec -pkeyopt ec_paramgen_curve:P-256"),
        ("P-384", "ec -pkeyopt ec_paramgen_curve:P-384"),
        ("RSA", "rsa:2048"),
    ] {
        for digest in ["sha256", "sha384", "sha512"] {
            if name != "RSA" && digest != "sha256" {
                continue;
            }
            let desk = openssl_authority(key, "critical,timeStamping", digest);
            let request = Request::new(COVERED, None).unwrap();
            desk.put("q.tsq", request.to_der().unwrap());
            desk.must("ts -reply -config tsa.cnf -queryfile q.tsq -out a.tsr");
            let roots = Roots::from_pem(&desk.get("root.pem")).unwrap();
            let found = request.verify(&desk.get("a.tsr"), &roots);
            let found = found.unwrap_or_else(|error| panic!("{name} {digest}: {error}"));
            assert_eq!(found.policy, "1.2.3.4.1");
            assert_eq!(found.tsa, "CN=Their TSA");
            // 1 s, 500 ms, 100 µs rounded up, and what genTime may have lost.
            assert_eq!(found.accuracy_ms, 1502);
            // Another request's nonce: a replay.
            let other = Request::new(COVERED, None).unwrap();
            let replayed = other.verify(&desk.get("a.tsr"), &roots);
            assert_eq!(replayed, Err(TimestampError::Nonce));
        }
    }
}

#[test]
fn a_certificate_for_something_else_is_refused() {
    for (purpose, problem) in [
        ("timeStamping", "not critical"),
        ("critical,timeStamping,serverAuth", "timeStamping alone"),
    ] {
        let desk = openssl_authority("ec -pkeyopt ec_paramgen_curve:P-256", purpose, "sha256");
        let request = Request::new(COVERED, None).unwrap();
        desk.put("q.tsq", request.to_der().unwrap());
        let (made, _) = desk.openssl("ts -reply -config tsa.cnf -queryfile q.tsq -out a.tsr");
        if !made {
            continue; // OpenSSL itself may refuse to sign with it.
        }
        let roots = Roots::from_pem(&desk.get("root.pem")).unwrap();
        let error = request.verify(&desk.get("a.tsr"), &roots).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    }
    // A seal certificate's key stamps.
    let certificate = super::support::seal_certificate();
    let response = stamped(&certificate, COVERED, NOW_MS);
    let error = timestamp::verify(&response, COVERED, &roots(&certificate)).unwrap_err();
    assert!(matches!(error, TimestampError::Purpose { .. }), "{error}");
}

/// A folder with a root, an authority's certificate under it, and OpenSSL's settings.
fn openssl_authority(key: &str, purpose: &str, digest: &str) -> Desk {
    let desk = Desk::new();
    desk.put("tsa.cnf", settings(digest));
    desk.put("serial", "01\n");
    desk.put(
        "tsa.ext",
        format!(
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage={purpose}\n"
        ),
    );
    desk.must("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem -subj /CN=Root -days 3");
    desk.put(
        "req.cnf",
        "[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=Their TSA\n",
    );
    desk.must(&format!(
        "req -newkey {key} -nodes -keyout tsa.key -out tsa.csr -config req.cnf"
    ));
    desk.must("x509 -req -in tsa.csr -CA root.pem -CAkey root.key -set_serial 7 -days 2 -extfile tsa.ext -out tsa.pem");
    desk
}

fn settings(digest: &str) -> String {
    format!(
        "[tsa]\ndefault_tsa=t\n[t]\nserial=serial\ncrypto_device=builtin\nsigner_cert=tsa.pem\ncerts=root.pem\nsigner_key=tsa.key\n\
         signer_digest={digest}\ndefault_policy=1.2.3.4.1\ndigests=sha256\naccuracy=secs:1,millisecs:500,microsecs:100\n\
         ordering=yes\ntsa_name=yes\ness_cert_id_chain=no\ness_cert_id_alg=sha256\n"
    )
}

#[test]
fn other_bytes_and_other_roots_are_refused() {
    let tsa = issued("Drill TSA");
    let response = stamped(&tsa, COVERED, NOW_MS);
    let other = timestamp::verify(&response, b"other", &roots(&tsa)).unwrap_err();
    assert!(matches!(other, TimestampError::Imprint(_)), "{other}");
    let strangers = roots(&issued("Drill TSA"));
    let untrusted = timestamp::verify(&response, COVERED, &strangers).unwrap_err();
    assert!(matches!(untrusted, TimestampError::Untrusted { .. }));
    // A stamp from after the certificate's end does not count, even with the right key.
    let late = stamped(&tsa, COVERED, NOW_MS + 3 * 24 * 3_600_000);
    let expired = timestamp::verify(&late, COVERED, &roots(&tsa)).unwrap_err();
    assert!(matches!(expired, TimestampError::Untrusted { .. }));
}

#[test]
fn no_changed_byte_leaves_a_timestamp_good() {
    let tsa = issued("Drill TSA");
    let roots = roots(&tsa);
    let response = stamped(&tsa, COVERED, NOW_MS);
    let good = timestamp::verify(&response, COVERED, &roots).unwrap();
    for place in 0..response.len() {
        for bit in [1, 0x80] {
            let mut changed = response.clone();
            changed[place] ^= bit;
            // Status 1 (granted with modifications) and the outer digest list are not signed and say nothing.
            if let Ok(found) = timestamp::verify(&changed, COVERED, &roots) {
                assert_eq!(found, good, "byte {place}");
            }
        }
        assert!(timestamp::verify(&response[..place], COVERED, &roots).is_err());
    }
    let mut longer = response.clone();
    longer.push(0);
    assert!(timestamp::verify(&longer, COVERED, &roots).is_err());
    let huge = vec![0x30; timestamp::MAX_RESPONSE_BYTES + 1];
    let error = timestamp::verify(&huge, COVERED, &roots).unwrap_err();
    assert!(matches!(error, TimestampError::TooLong(_)));
}

#[test]
fn a_token_without_its_certificate_is_refused() {
    // OpenSSL asks without -cert.
    let (desk, tsa) = (Desk::new(), issued("Drill TSA"));
    desk.put("data", COVERED);
    desk.must("ts -query -data data -sha256 -out q.tsq");
    let authority = Authority::new(signer(&tsa));
    let response = authority.respond(&desk.get("q.tsq"), NOW_MS).unwrap();
    let error = timestamp::verify(&response, COVERED, &roots(&tsa)).unwrap_err();
    assert_eq!(error, TimestampError::Signed(SignedError::NoCertificate));
}

#[test]
fn our_authority_refuses_what_it_does_not_serve() {
    let tsa = issued("Drill TSA");
    let authority = Authority::new(signer(&tsa));
    let refusal = |request: &[u8]| {
        let response = authority.respond(request, NOW_MS).unwrap();
        match timestamp::verify(&response, COVERED, &roots(&tsa)) {
            Err(TimestampError::Refused {
                status: 2, failure, ..
            }) => failure,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal(b"nonsense"), [5]);
    let desk = Desk::new();
    desk.put("data", COVERED);
    for (arguments, bit) in [("-sha1", 0), ("-sha256 -tspolicy 1.2.3.4.1", 15)] {
        desk.must(&format!("ts -query -data data {arguments} -out q.tsq"));
        assert_eq!(refusal(&desk.get("q.tsq")), [bit]);
    }
    // OpenSSL reads the refusal too.
    desk.put("a.tsr", authority.respond(b"nonsense", NOW_MS).unwrap());
    let said = desk.must("ts -reply -in a.tsr -text");
    assert!(said.contains("Rejected"), "{said}");
}

#[test]
fn roots_are_certificates() {
    assert_eq!(Roots::from_pem(b"").unwrap_err(), RootsError::Count(0));
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let error = Roots::from_pem(damaged.as_bytes()).unwrap_err();
    assert!(matches!(error, RootsError::Certificate { place: 1, .. }));
}
