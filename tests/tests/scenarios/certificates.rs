//! The seal certificate's life: requested, certified by OpenSSL as the authority, bound, renewed, revoked; and the exports that OpenSSL verifies.

use std::path::{Path, PathBuf};
use std::process::Command;

use sealwarden_tests::{Answer, Installation, eventually};
use serde_json::Value;

const ORIGIN: &str = "seal.example.com/main/1";

/// A certificate authority made of OpenSSL, in a folder of its own.
struct Ca<'a> {
    dir: &'a Path,
}

impl<'a> Ca<'a> {
    fn new(dir: &'a Path) -> Self {
        let ca = Self { dir };
        ca.must("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem -subj /CN=Root -days 3650");
        ca.must("req -newkey rsa:2048 -nodes -keyout between.key -out between.csr -subj /O=Trust_Service/CN=Issuing_CA");
        std::fs::write(
            dir.join("ca.ext"),
            "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n",
        )
        .expect("extensions");
        ca.must("x509 -req -in between.csr -CA root.pem -CAkey root.key -CAcreateserial -days 1000 -extfile ca.ext -out between.pem");
        ca
    }

    fn openssl(&self, arguments: &str) -> (bool, String) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(self.dir)
            .output()
            .expect("openssl is installed");
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    }

    fn must(&self, arguments: &str) -> String {
        let (good, said) = self.openssl(arguments);
        assert!(good, "openssl {arguments}: {said}");
        said
    }

    /// Certifies a request, with these extensions and dates.
    fn certify(&self, request: &Path, name: &str, extensions: &str, dates: &str) -> PathBuf {
        // (Without any extension OpenSSL would make a certificate of version 1.)
        let extensions = format!("subjectKeyIdentifier=hash\n{extensions}\n");
        std::fs::write(self.dir.join("leaf.ext"), extensions).expect("extensions");
        let out = self.dir.join(name);
        self.must(&format!(
            "x509 -req -in {} -CA between.pem -CAkey between.key -CAcreateserial {dates} -extfile leaf.ext -out {}",
            request.display(),
            out.display()
        ));
        out
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

fn request(here: &Installation, more: &[&str]) -> Answer {
    let mut words = vec![
        "keys",
        "certificate",
        "request",
        "--organization",
        "Example Seals AG",
        "--identifier",
        "NTRDE-HRB123456",
        "--country",
        "DE",
    ];
    words.extend(more);
    here.call(&words)
}

fn import(here: &Installation, certificate: &Path, chain: &Path) -> Answer {
    here.call(&[
        "keys",
        "certificate",
        "import",
        text(certificate),
        "--chain",
        text(chain),
    ])
}

fn refused(answer: Answer, word: &str) {
    let answer = answer.ends_with(4).json();
    let error = answer["error"].as_str().expect("an error");
    assert!(error.contains(word), "{word:?} is not in: {error}");
}

fn show(here: &Installation) -> Value {
    here.call(&["keys", "certificate", "show"]).good()
}

#[test]
fn from_the_request_to_the_revocation() {
    let here = Installation::new();
    let _up = here.up();
    let ca = Ca::new(here.home());
    let file = here.file("contract.txt", b"a contract\n");
    here.seal(&file);
    let export = |kind: &str, out: &str, content: &str| {
        let (out, content) = (here.home().join(out), here.home().join(content));
        here.call(&[
            "export",
            text(&file),
            kind,
            "--out",
            text(&out),
            "--content",
            text(&content),
        ])
    };
    // Nothing is held yet.
    let answer = export("--cades", "x.p7s", "x.text").ends_with(2).json();
    assert!(
        answer["error"]
            .to_string()
            .contains("keys certificate request"),
        "{answer}"
    );
    let csr = here.home().join("seal.csr");
    request(&here, &["--out", text(&csr)]).good();
    refused(request(&here, &[]), "under way");
    let key = here.data().join("seal-certificate/pending/key.pem");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&key.metadata().expect("the key").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let said = ca.must("req -in seal.csr -noout -text -verify");
    assert!(
        said.contains("NTRDE-HRB123456") && said.contains("Example Seals AG"),
        "{said}"
    );

    bad_certificates(&here, &ca, &csr);
    let between = here.home().join("between.pem");
    let good = ca.certify(
        &csr,
        "seal.pem",
        "keyUsage=critical,nonRepudiation",
        "-days 30",
    );
    let answer = import(&here, &good, &between).good();
    assert!(
        answer["certificate"]["subject"]
            .to_string()
            .contains("organizationIdentifier=NTRDE-HRB123456"),
        "{answer}"
    );
    assert!(!key.exists(), "the request is done");
    // It is held, and bound to nothing: no export yet.
    refused(export("--cades", "x.p7s", "x.text"), "bound to no log");
    assert!(
        show(&here)["origins"][0]["problem"]
            .to_string()
            .contains("keys certificate bind")
    );
    let answer = here.call(&["keys", "certificate", "bind"]).good();
    assert_eq!(answer["bound"][0]["origin"], ORIGIN, "{answer}");
    let listed = here.call(&["keys", "list"]).good();
    let sealing = listed["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .find(|it| it["origin"] == ORIGIN)
        .expect("the log's key")
        .clone();
    assert_eq!(sealing["certificate"]["names_this_key"], true, "{sealing}");
    assert_eq!(sealing["attestation"], "none");
    assert_eq!(
        here.status()["seal_certificates"][0]["problem"],
        Value::Null
    );

    // Binding and exports, by OpenSSL with the authority's root alone.
    let binding = here
        .data()
        .join("seal-certificate")
        .join(
            &answer["bound"][0]["certificate"]
                .as_str()
                .expect("its name")[..16],
        )
        .join("bindings/seal.example.com%2Fmain%2F1.p7s");
    ca.must(&format!(
        "cms -verify -inform DER -in {} -CAfile root.pem -binary -out binding.text",
        binding.display()
    ));
    let told = std::fs::read_to_string(here.home().join("binding.text")).expect("the binding");
    assert!(
        told.contains(sealing["vkey"].as_str().expect("a key")),
        "{told}"
    );
    export("--cades", "c.p7s", "c.text").good();
    ca.must("cms -verify -cades -binary -inform DER -in c.p7s -content c.text -CAfile root.pem -out out");
    export("--cose", "c.cose", "c.entry").good();

    revoked(&here, &ca, &file);
}

/// What must not become the seal certificate, each for its reason.
fn bad_certificates(here: &Installation, ca: &Ca<'_>, csr: &Path) {
    let between = here.home().join("between.pem");
    let days = "-days 30";
    // For another key; expired; not yet valid; for other purposes; an authority's; another kind of key; a broken chain; no certificate.
    ca.must("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -out other.csr -subj /O=Example");
    let other = ca.certify(&here.home().join("other.csr"), "other.pem", "", days);
    refused(
        import(here, &other, &between),
        "does not belong to the certificate",
    );
    let expired = ca.certify(csr, "expired.pem", "", "-days -1");
    refused(import(here, &expired, &between), "is valid from");
    let tls = ca.certify(csr, "tls.pem", "extendedKeyUsage=serverAuth", days);
    refused(import(here, &tls, &between), "other purposes");
    let usage = ca.certify(csr, "usage.pem", "keyUsage=keyAgreement", days);
    refused(import(here, &usage, &between), "does not allow signatures");
    let authority = ca.certify(csr, "authority.pem", "basicConstraints=CA:TRUE", days);
    refused(import(here, &authority, &between), "certificate authority");
    ca.must("req -newkey rsa:2048 -nodes -keyout rsa.key -out rsa.csr -subj /O=Example");
    let rsa = ca.certify(&here.home().join("rsa.csr"), "rsa.pem", "", days);
    refused(import(here, &rsa, &between), "P-256");
    let good = ca.certify(csr, "good.pem", "", days);
    refused(
        import(here, &good, &here.home().join("root.pem")),
        "chain does not hold",
    );
    refused(import(here, csr, &between), "the certificate");
    assert_eq!(show(here)["certificates"], serde_json::json!([]));
}

/// A second certificate takes the first one's place; then both are revoked.
fn revoked(here: &Installation, ca: &Ca<'_>, file: &Path) {
    let first = show(here)["certificates"][0]["certificate"]
        .as_str()
        .expect("its name")
        .to_owned();
    let csr = here.home().join("second.csr");
    request(here, &["--out", text(&csr)]).good();
    let second = ca.certify(&csr, "second.pem", "", "-days 60");
    import(here, &second, &here.home().join("between.pem")).good();
    here.call(&["keys", "certificate", "bind"]).good();
    assert_eq!(
        show(here)["origins"][0]["certificate"]
            .as_str()
            .map(str::len),
        Some(64)
    );
    assert_ne!(show(here)["origins"][0]["certificate"], first.as_str());
    let revoke = |name: &str, reason: &str, more: &[&str]| {
        let mut words = vec![
            "keys",
            "certificate",
            "revoke",
            name,
            "--reason",
            reason,
            "--yes",
        ];
        words.extend(more);
        here.call(&words)
    };
    revoke(&first, "superseded", &["--at", "2036-01-01T00:00:00Z"]).must_end_with(2);
    revoke(&first, "because", &[]).must_end_with(2);
    revoke("ffff", "superseded", &[]).must_end_with(2);
    // One that another replaced says nothing against the log.
    revoke(&first[..20], "superseded", &[]).good();
    let trust = here.trust("trust.json");
    let verify = |trust: &Path| here.call(&["verify", text(file), "--trust", text(trust)]);
    assert_eq!(verify(&trust).good()["verdict"], "valid");
    let said = std::fs::read_to_string(&trust).expect("the bundle");
    assert!(
        said.contains("sealwarden-trust/3") && said.contains("superseded"),
        "{said}"
    );
    // The other one's key was stolen before the seal was made: nobody independent dates it before that.
    // (The empty name fits both.)
    revoke("", "key-compromise", &[]).must_end_with(2);
    let words = [
        "keys",
        "certificate",
        "revoke",
        "--reason",
        "key-compromise",
        "--at",
        "2026-01-01T00:00:00Z",
        "--yes",
    ];
    let answer = here.call(&words).good();
    assert!(answer["trust_version"].as_u64() > Some(1), "{answer}");
    let trust = here.trust("later.json");
    let offline = verify(&trust).ends_with(1).json();
    assert_eq!(offline["verdict"], "suspect");
    let reason = offline["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("was revoked at 2026-01-01T00:00:00Z (key-compromise)"),
        "{reason}"
    );
    eventually("the service says so, too", || {
        let answer = here.verify(file);
        (answer.code == 1 && answer.json()["verdict"] == "suspect").then_some(())
    });
    // A revoked one signs and is bound no more.
    refused(here.call(&["keys", "certificate", "bind"]), "was revoked");
    let problem = here.status()["seal_certificates"][0]["problem"].to_string();
    assert!(
        problem.contains("no seal certificate that is not revoked"),
        "{problem}"
    );
}

#[test]
fn a_certificate_for_trying_out_says_what_it_does_not_give_and_goes_stale_when_the_keys_change() {
    let here = Installation::new();
    let settings = "runbook-executor:\n  renew_bindings: false\n";
    std::fs::create_dir_all(here.data()).expect("the data folder");
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
    let _up = here.up();
    let file = here.file("a.txt", b"a");
    here.seal(&file);
    here.call(&[
        "keys",
        "certificate",
        "self-signed",
        "--organization",
        "x",
        "--identifier",
        "HRB1",
    ])
    .must_end_with(2);
    let answer = here
        .call(&[
            "keys",
            "certificate",
            "self-signed",
            "--organization",
            "Example",
        ])
        .good();
    assert_eq!(answer["certificate"]["trial"], true);
    assert!(
        answer["notes"].to_string().contains("no authority checked"),
        "{answer}"
    );
    here.call(&["keys", "certificate", "bind", "--days", "10"])
        .good();
    let before = show(&here);
    here.call(&[
        "keys",
        "certificate",
        "bind",
        "--origin",
        "seal.example.com/none/1",
    ])
    .must_end_with(2);
    assert_eq!(before["origins"][0]["problem"], Value::Null, "{before}");
    // A planned rotation gives the log another key, which the binding does not name.
    here.call(&["keys", "rotate", "--why", "a test"]).good();
    let stale = eventually("the binding is stale", || {
        let now = show(&here);
        (now["origins"][0]["problem"] != Value::Null).then_some(now)
    });
    assert!(
        stale["origins"][0]["problem"]
            .to_string()
            .contains("does not name 1 of"),
        "{stale}"
    );
    assert!(
        here.status()["seal_certificates"][0]["problem"]
            .to_string()
            .contains("keys certificate bind")
    );
    here.call(&["keys", "certificate", "bind"]).good();
    assert_eq!(show(&here)["origins"][0]["problem"], Value::Null);
    let out = here.home().join("a.p7s");
    here.call(&["export", text(&file), "--cades", "--out", text(&out)])
        .good();
    // A key that others can read is not used.
    let name = show(&here)["certificates"][0]["certificate"]
        .as_str()
        .expect("its name")[..16]
        .to_owned();
    let key = here
        .data()
        .join("seal-certificate")
        .join(name)
        .join("key.pem");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&key, open).expect("a mode");
    here.call(&["export", text(&file), "--cades", "--out", text(&out)])
        .must_end_with(2);
}
