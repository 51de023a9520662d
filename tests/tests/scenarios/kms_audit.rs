//! What a key server's audit does not show: rotated, thinned out, switched off, and shipped here incompletely.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sealwarden_tests::{Bao, Installation, eventually};
use serde_json::Value;

/// An installation that asks often, so that a test need not wait.
fn installation() -> Installation {
    let here = Installation::new();
    let settings = "sealing:\n  audit_gap_poll_ms: 100\n  audit_grace_ms: 1500\n";
    std::fs::create_dir_all(here.data()).expect("the data folder");
    std::fs::write(here.data().join("settings.yaml"), settings).expect("settings");
    here
}

/// The one open incident, once it has so many signals.
fn incident(here: &Installation, signals: usize) -> Value {
    eventually("an incident with its signals is open", || {
        let id = here.suspicions().into_iter().next()?;
        let shown = here.call(&["incident", "show", &id]).good();
        let all = shown["signals"].as_array()?;
        (all.len() >= signals).then_some(shown)
    })
}

fn seal(here: &Installation, name: &str) {
    here.seal_eventually(&here.file(name, name.as_bytes()));
}

/// Whether a line of the audit shows a signature of the log's key.
fn is_use(line: &str) -> bool {
    let line: Value = serde_json::from_str(line).unwrap_or_default();
    line["type"] == "response" && line["request"]["path"] == "transit/sign/sealing-main-1"
}

fn must_stop_nothing(shown: &Value, signal: &Value) {
    assert_eq!(signal["proven"], false, "{signal:#}");
    assert_eq!(shown["stage"], "detected", "a person decides: {shown:#}");
    let expected = signal["expected"].as_str().unwrap_or_default();
    assert!(expected.contains("a person decides"), "{signal:#}");
}

#[test]
fn a_rotated_audit_is_read_on_and_one_with_lines_removed_names_their_uses() {
    let here = installation();
    let bao = Bao::start(&here);
    let up = bao.up(&here, &[]).unwrap_or_else(|log| panic!("{log}"));
    seal(&here, "first");
    bao.rotate();
    for name in ["second", "third", "fourth"] {
        seal(&here, name);
    }
    let text = std::fs::read_to_string(bao.audit()).expect("the new audit file");
    let mut uses = text.lines().filter(|line| is_use(line));
    let removed = uses.next().expect("a use in the new file");
    assert!(uses.next().is_some(), "uses follow it");
    let kept: String = text
        .split_inclusive('\n')
        .filter(|line| line.trim_end() != removed)
        .collect();
    std::fs::write(bao.audit(), kept).expect("the audit is rewritten");

    let shown = incident(&here, 1);
    let signals = shown["signals"].as_array().expect("signals");
    assert_eq!(signals.len(), 1, "the rotation is none: {shown:#}");
    assert_eq!(signals[0]["detector"], "silent-audit", "{shown:#}");
    let seen = signals[0]["seen"].as_str().expect("what was seen");
    assert!(seen.contains("are missing now (1)"), "{seen}");
    assert!(seen.contains("key main-1 signed SHA-256"), "{seen}");
    assert!(
        seen.contains("the checkpoint of seal.example.com/main/1 at size"),
        "{seen}"
    );
    must_stop_nothing(&shown, &signals[0]);

    seal(&here, "fifth");
    assert!(up.terminate().success());
    let _up = bao.up(&here, &[]).unwrap_or_else(|log| panic!("{log}"));
    seal(&here, "sixth");
    // The next thing that is told is the stranger's use: nothing was told twice, and the audit is read on.
    bao.run(&["write", "transit/sign/sealing-main-1", "input=Zm9yZ2Vk"]);
    let shown = incident(&here, 2);
    let detectors: Vec<_> = shown["signals"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|signal| signal["detector"].as_str().unwrap_or_default())
        .collect();
    let mut sorted = detectors.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["silent-audit", "unexplained-key-use"], "{shown:#}");
}

#[test]
fn an_audit_device_that_is_switched_off_is_a_signal_and_sealing_goes_on_when_it_is_back() {
    let here = installation();
    let bao = Bao::start(&here);
    let up = bao.up(&here, &[]).unwrap_or_else(|log| panic!("{log}"));
    seal(&here, "first");
    bao.switch_audit_off();
    let shown = incident(&here, 1);
    let signal = &shown["signals"][0];
    assert_eq!(signal["detector"], "silent-audit", "{shown:#}");
    let seen = signal["seen"].as_str().expect("what was seen");
    assert!(seen.contains("it has no such audit"), "{seen}");
    must_stop_nothing(&shown, signal);
    let file = here.file("second", b"second");
    let refused = here.call(&["seal", &file.to_string_lossy(), "--wait", "sealed"]);
    assert_ne!(refused.code, 0, "no key is used unseen: {refused}");

    bao.switch_audit_on();
    here.seal_eventually(&file);
    assert!(up.terminate().success());
    let _up = bao.up(&here, &[]).unwrap_or_else(|log| panic!("{log}"));
    seal(&here, "third");
    let again = incident(&here, 1);
    assert_eq!(again["signals"], shown["signals"], "told once");
}

/// Passes the audit on to another file, as a shipper of logs does, without uses while told so.
struct Shipper {
    hide: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    hidden: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Shipper {
    fn start(from: &Path, to: &Path) -> Self {
        let [hide, stop, hidden] = [(); 3].map(|()| Arc::new(AtomicBool::new(false)));
        let mut source = std::fs::File::open(from).expect("the audit");
        let mut target = std::fs::File::create(to).expect("the shipped audit");
        let (hiding, stopping, was_hidden) =
            (Arc::clone(&hide), Arc::clone(&stop), Arc::clone(&hidden));
        let thread = std::thread::spawn(move || {
            let mut position = 0;
            while !stopping.load(Ordering::SeqCst) {
                source.seek(SeekFrom::Start(position)).expect("a position");
                let mut text = String::new();
                source.read_to_string(&mut text).expect("the audit");
                let whole = text.rfind('\n').map_or(0, |end| end + 1);
                for line in text[..whole].split_inclusive('\n') {
                    if hiding.load(Ordering::SeqCst) && is_use(line.trim_end()) {
                        was_hidden.store(true, Ordering::SeqCst);
                    } else {
                        target.write_all(line.as_bytes()).expect("a line");
                    }
                }
                position += u64::try_from(whole).expect("a length");
                // bounded poll: a file tells nobody that it has grown; the test ends this thread.
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        });
        Self {
            hide,
            stop,
            hidden,
            thread: Some(thread),
        }
    }
}

impl Drop for Shipper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

#[test]
fn a_checkpoint_whose_use_the_audit_does_not_show_is_named() {
    let here = installation();
    let bao = Bao::start(&here);
    let shipped = here.home().join("shipped.log");
    let shipper = Shipper::start(&bao.audit(), &shipped);
    let _up = bao
        .up_reading(&here, &shipped, &[])
        .unwrap_or_else(|log| panic!("{log}"));
    seal(&here, "first");
    shipper.hide.store(true, Ordering::SeqCst);
    seal(&here, "second");
    eventually("a use was left out", || {
        shipper.hidden.load(Ordering::SeqCst).then_some(())
    });
    shipper.hide.store(false, Ordering::SeqCst);
    let shown = incident(&here, 1);
    let signal = &shown["signals"][0];
    assert_eq!(signal["detector"], "key-use-not-shown", "{shown:#}");
    let seen = signal["seen"].as_str().expect("what was seen");
    assert!(
        seen.contains("the checkpoint of seal.example.com/main/1 at size 2"),
        "{seen}"
    );
    must_stop_nothing(&shown, signal);
    seal(&here, "third");
}
