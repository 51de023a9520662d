//! Exports as other people's tools read them: CAdES and timestamps by OpenSSL, receipts by a COSE library that is not ours. Changed ones fail there.

use std::path::{Path, PathBuf};
use std::process::Command;

use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::seal::Seal;
use sealwarden_tests::binary::repository;
use sealwarden_tests::{Installation, Process};
use serde_json::Value;

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// Success, and everything that was said.
fn tool(program: &Path, home: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(home)
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        said.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    (output.status.success(), said)
}

/// A Python with pycose: `$SEALWARDEN_PYCOSE`, else what `tests/tools/cose.sh` installs.
fn pycose() -> PathBuf {
    if let Some(path) = std::env::var_os("SEALWARDEN_PYCOSE") {
        return PathBuf::from(path);
    }
    let script = repository().join("tests/tools/cose.sh");
    let output = Command::new(&script).output().expect("the script runs");
    assert!(output.status.success(), "tests/tools/cose.sh: {output:?}");
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

/// An installation with a certificate, and one sealed file among others.
struct Desk {
    here: Installation,
    _up: Process,
    file: PathBuf,
    seal: Seal,
}

impl Desk {
    fn new() -> Self {
        let here = Installation::new();
        let up = here.up();
        let file = here.file("contract.txt", b"a contract\n");
        here.seal(&here.file("first", b"first"));
        here.seal(&file);
        for n in 0..5 {
            here.seal(&here.file(&format!("more {n}"), &[n]));
        }
        here.seal(&here.file("last", b"last"));
        // Handed out again under a later checkpoint, whose path is longer.
        std::fs::remove_file(here.home().join("contract.txt.seal")).expect("the seal was there");
        here.seal(&file);
        let seal = std::fs::read(here.home().join("contract.txt.seal")).expect("the seal");
        let seal = Seal::parse(&seal).expect("a seal");
        here.call(&[
            "keys",
            "certificate",
            "self-signed",
            "--organization",
            "Example",
        ])
        .good();
        here.call(&["keys", "certificate", "bind"]).good();
        Self {
            here,
            _up: up,
            file,
            seal,
        }
    }

    fn export(&self, kind: &str, more: &[&str]) {
        let (out, content) = (self.path("out"), self.path("content"));
        let mut words = vec![
            "export",
            text(&self.file),
            kind,
            "--out",
            text(&out),
            "--content",
            text(&content),
        ];
        words.extend(more);
        self.here.call(&words).good();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.here.home().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("a file")
    }

    fn openssl(&self, arguments: &str) -> (bool, String) {
        let words: Vec<_> = arguments.split(' ').collect();
        tool(Path::new("openssl"), self.here.home(), &words)
    }

    /// The root of the certificate that was made on the spot.
    fn root(&self) -> String {
        let shown = self.here.call(&["keys", "certificate", "show"]).good();
        let name = shown["certificates"][0]["certificate"]
            .as_str()
            .expect("its name");
        let folder = self.here.data().join("seal-certificate").join(&name[..16]);
        let chain = std::fs::read_to_string(folder.join("chain.pem")).expect("the chain");
        let (_, root) = chain.rsplit_once("-----BEGIN").expect("two certificates");
        format!("-----BEGIN{root}")
    }

    /// A verifier accepts what was exported, and neither that with a changed byte nor that beside other content.
    fn judged(&self, verify: impl Fn(&str, &str) -> (bool, String)) -> String {
        let (good, said) = verify("out", "content");
        assert!(good, "{said}");
        let (export, content) = (self.read("out"), self.read("content"));
        for place in (0..export.len()).step_by(7) {
            let mut changed = export.clone();
            changed[place] ^= 0x10;
            self.here.file("changed", &changed);
            let (good, again) = verify("changed", "content");
            // A few bytes say nothing (the nonce of a request, a field that no verifier reads): then the same must be proven.
            assert!(!good || again == said, "byte {place}: {again}");
        }
        let last = export.len() - 3;
        let mut changed = export.clone();
        changed[last] ^= 1;
        self.here.file("changed", &changed);
        assert!(!verify("changed", "content").0, "a changed end is refused");
        let mut changed = content;
        changed[3] ^= 1;
        self.here.file("changed", &changed);
        assert!(!verify("out", "changed").0, "other content is refused");
        assert!(!verify("content", "content").0, "it is no signature at all");
        said
    }
}

#[test]
fn openssl_verifies_the_cades_signature() {
    let desk = Desk::new();
    desk.here.file("root.pem", desk.root().as_bytes());
    desk.export("--cades", &[]);
    assert_eq!(desk.read("content"), desk.seal.note.text().as_bytes());
    desk.judged(|signature, content| {
        desk.openssl(&format!("cms -verify -cades -binary -inform DER -in {signature} -content {content} -CAfile root.pem -out /dev/null"))
    });
    // Another document gets no export of this seal.
    let other = desk.here.file("other", b"another");
    let (seal, out) = (desk.path("contract.txt.seal"), desk.path("x"));
    desk.here
        .call(&[
            "export",
            text(&other),
            "--seal",
            text(&seal),
            "--cades",
            "--out",
            text(&out),
        ])
        .must_end_with(4);
    assert!(!out.exists());
}

#[test]
fn openssl_verifies_the_timestamp() {
    let desk = Desk::new();
    let dir = desk.path("tsa");
    let arguments: Vec<_> = ["drill-tsa", "--dir", text(&dir)]
        .map(str::to_owned)
        .to_vec();
    let tsa = Process::start(desk.here.home(), "tsa", &arguments);
    let url = tsa
        .ready_line()
        .split_whitespace()
        .find_map(|word| word.strip_prefix("tsa="));
    let (url, root) = (url.expect("its address").to_owned(), dir.join("root.pem"));
    desk.here
        .call(&[
            "anchor",
            text(&desk.file),
            "--tsa",
            &url,
            "--tsa-root",
            text(&root),
        ])
        .good();
    desk.export("--tsr", &["--tsa-root", text(&root)]);
    assert_eq!(desk.read("content"), desk.seal.note.to_string().as_bytes());
    let said = desk.judged(|answer, content| {
        desk.openssl(&format!(
            "ts -verify -in {answer} -data {content} -CAfile {}",
            text(&root)
        ))
    });
    assert!(said.contains("Verification: OK"), "{said}");
}

#[test]
fn a_cose_library_verifies_the_receipt() {
    let desk = Desk::new();
    let (python, script) = (pycose(), repository().join("tests/tools/check_receipt.py"));
    desk.export("--cose", &[]);
    let said = desk
        .judged(|receipt, entry| tool(&python, desk.here.home(), &[text(&script), receipt, entry]));
    // What it proved from the wire is what the seal says.
    let proven: Value = serde_json::from_str(&said).expect("JSON");
    let checkpoint = Checkpoint::parse(desk.seal.note.text()).expect("a checkpoint");
    assert_eq!(proven["size"], checkpoint.size);
    assert_eq!(proven["index"], desk.seal.index);
    assert_eq!(proven["root"], checkpoint.root.to_string());
    // And the certificate inside is the one that its root stands for.
    desk.here.file("root.pem", desk.root().as_bytes());
    let certificate = proven["certificate"].as_str().expect("a certificate");
    desk.here.file("certificate.pem", certificate.as_bytes());
    let (good, said) = desk.openssl("verify -CAfile root.pem certificate.pem");
    assert!(good, "{said}");
}
