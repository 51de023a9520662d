//! Who is told what of an incident, on channels that answer as badly as real ones do.

use sealwarden_tests::sink::{Manners, Sink, secret};
use sealwarden_tests::wait::within;
use sealwarden_tests::{Installation, eventually};
use serde_json::Value;
use std::time::Duration;

/// An installation whose plan's channels lead to sinks.
pub(super) struct Told {
    pub(super) here: Installation,
    pub(super) room: Sink,
    pager: Sink,
    mail: Sink,
}

impl Told {
    pub(super) fn prepared() -> Self {
        let told = Self {
            here: Installation::new(),
            room: Sink::web(),
            pager: Sink::web(),
            mail: Sink::mail(),
        };
        assert!(told.here.up().terminate().success()); // writes the trial plan
        let home = told.here.home();
        let room = secret(home, "room-url", &told.room.url("/room"));
        let key = secret(home, "routing-key", "a-routing-key");
        let settings = format!(
            "detection:
  telling: {{attempts: 4, first_pause_ms: 50, last_pause_ms: 200, gap_ms: 50}}
  channels:
    incident-room: {{kind: slack, url_file: {}, timeout_ms: 300}}
    pager: {{kind: pagerduty, url: '{}', routing_key_file: {}, timeout_ms: 300}}
    leadership: {{kind: mail, host: 127.0.0.1, port: {}, tls: none, from: 'Sealwarden <s@example.com>', to: [ceo@example.com], timeout_ms: 1000}}
",
            room.display(),
            told.pager.url("/v2/enqueue"),
            key.display(),
            told.mail.port(),
        );
        std::fs::write(told.here.data().join("settings.yaml"), settings).expect("the settings");
        told
    }

    /// Reports something and classifies it; the incident.
    pub(super) fn incident(&self, class: &str, seen: &str) -> String {
        let signal = self
            .here
            .call(&["signal", "--class", class, "--seen", seen])
            .good();
        let id = signal["incident"].as_str().expect("an incident").to_owned();
        let classify = [
            "incident",
            "classify",
            &id,
            "--class",
            class,
            "--reason",
            "looked at",
        ];
        self.here.call(&classify).good();
        id
    }

    /// How a notice's delivery stands, once it is settled.
    pub(super) fn settled(&self, id: &str, audience: &str, channel: &str) -> Value {
        within(Duration::from_secs(30), "the delivery is settled", || {
            let told = self.here.call(&["incident", "notices", id]).good();
            let notices = told["notices"].as_array()?.clone();
            let notice = notices.into_iter().find(|n| n["for"] == audience)?;
            let deliveries = notice["deliveries"].as_array()?.clone();
            let found = deliveries.into_iter().find(|d| d["channel"] == channel)?;
            let open = matches!(found["standing"].as_str(), Some("waiting" | "sending"));
            (!open).then_some(found)
        })
    }
}

#[test]
fn what_is_classified_is_told_to_everybody_whom_the_plan_names() {
    let told = Told::prepared();
    let up = told.here.up();
    let id = told.incident("key-compromise", "a <!channel> login & more");
    for (audience, channel) in [
        ("engineers", "incident-room"),
        ("engineers", "pager"),
        ("executives", "leadership"),
    ] {
        let delivery = told.settled(&id, audience, channel);
        assert_eq!(delivery["standing"], "delivered", "{delivery}");
    }
    let room = told.room.arrived();
    let text = room[0].json()["text"].as_str().expect("a text").to_owned();
    for part in [
        "Impact:",
        "a &lt;!channel&gt; login &amp; more",
        "Next steps:",
        "Approvals needed:",
        &format!("incident ack {id}"),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let page = told.pager.arrived()[0].json();
    assert_eq!(page["event_action"], "trigger");
    assert_eq!(page["dedup_key"], id.as_str());
    assert_eq!(page["payload"]["severity"], "critical");
    let mail = told.mail.arrived();
    assert!(
        mail[0].whereto.contains("ceo@example.com"),
        "{}",
        mail[0].whereto
    );

    // The same text that was sent can be read, and a person's word is sent, too.
    let brief = told
        .here
        .call(&["incident", "brief", &id, "--for", "executives"])
        .good();
    assert!(
        brief["text"]
            .as_str()
            .expect("a text")
            .contains("What it means for customers")
    );
    told.here
        .call(&["incident", "ack", &id, "--note", "on my way"])
        .good();
    told.here
        .call(&[
            "incident",
            "tell",
            &id,
            "the key is in the safe",
            "--for",
            "engineers",
        ])
        .good();
    eventually("the word arrives", || {
        let room = told.room.arrived();
        room.iter()
            .any(|m| m.text.contains("the key is in the safe"))
            .then_some(())
    });
    eventually("the pager hears that somebody is awake", || {
        let pages = told.pager.arrived();
        pages
            .iter()
            .any(|p| p.json()["event_action"] == "acknowledge")
            .then_some(())
    });
    // What was told is told once, also after a restart.
    let before = (told.room.arrived().len(), told.pager.arrived().len());
    assert!(up.terminate().success());
    let _up = told.here.up();
    told.here.call(&["incident", "brief", &id]).good();
    let again = told.incident("data-integrity", "another");
    told.settled(&again, "engineers", "incident-room");
    let keys: Vec<String> = told
        .room
        .arrived()
        .into_iter()
        .skip(before.0)
        .map(|m| m.key)
        .collect();
    assert!(keys.iter().all(|key| key.contains(&again)), "{keys:?}");
}

#[test]
fn channels_that_fail_are_tried_so_often_and_hold_up_nothing() {
    let told = Told::prepared();
    let _up = told.here.up();
    told.room.behave(Manners::Hang);
    told.pager.behave(Manners::Refuse);
    told.mail.behave(Manners::Busy);
    let id = told.incident("key-compromise", "an odd login");
    let refused = told.settled(&id, "engineers", "pager");
    assert_eq!(
        (refused["standing"].as_str(), refused["attempts"].as_u64()),
        (Some("refused"), Some(1)),
        "{refused}"
    );
    let hanging = told.settled(&id, "engineers", "incident-room");
    assert_eq!(
        (hanging["standing"].as_str(), hanging["attempts"].as_u64()),
        (Some("given up"), Some(4)),
        "{hanging}"
    );
    let busy = told.settled(&id, "executives", "leadership");
    assert_eq!(
        (busy["standing"].as_str(), busy["attempts"].as_u64()),
        (Some("given up"), Some(4)),
        "{busy}"
    );
    assert!(
        busy["reason"].as_str().expect("a reason").contains("451"),
        "{busy}"
    );
    // It took each of them: four times the same key, and the run went on meanwhile.
    let keys: Vec<String> = told.room.arrived().into_iter().map(|m| m.key).collect();
    let same = keys.iter().filter(|key| **key == keys[0]).count();
    assert_eq!(same, 4, "{keys:?}");
    let shown = told.here.call(&["incident", "show", &id]).good();
    assert_eq!(
        shown["runs"].as_array().expect("runs").len(),
        1,
        "{shown:#}"
    );
    told.here
        .call(&["incident", "notices", &id, "--number", "1"])
        .must_end_with(1);
}

#[test]
fn an_answer_that_breaks_off_is_no_yes_and_the_repetition_has_the_same_key() {
    let told = Told::prepared();
    let _up = told.here.up();
    told.room.behave(Manners::Cut);
    told.mail.behave(Manners::Cut);
    let id = told.incident("key-compromise", "an odd login");
    eventually("the first one arrives", || {
        (!told.room.arrived().is_empty() && !told.mail.arrived().is_empty()).then_some(())
    });
    told.room.behave(Manners::Well);
    told.mail.behave(Manners::Well);
    for (audience, channel, sink) in [
        ("engineers", "incident-room", &told.room),
        ("executives", "leadership", &told.mail),
    ] {
        let delivery = told.settled(&id, audience, channel);
        assert_eq!(delivery["standing"], "delivered", "{delivery}");
        let keys: Vec<String> = sink.arrived().into_iter().map(|m| m.key).collect();
        assert!(keys.len() >= 2 && keys[1] == keys[0], "{channel}: {keys:?}");
    }
}

#[test]
fn a_delivery_whose_process_died_is_made_again_under_its_key() {
    let told = Told::prepared();
    told.room.behave(Manners::Hang);
    let up = told.here.up();
    let id = told.incident("key-compromise", "an odd login");
    eventually("it is being sent", || {
        (!told.room.arrived().is_empty()).then_some(())
    });
    up.kill();
    told.room.behave(Manners::Well);
    let _up = told.here.up();
    let delivery = told.settled(&id, "engineers", "incident-room");
    assert_eq!(delivery["standing"], "delivered", "{delivery}");
    let keys: Vec<String> = told.room.arrived().into_iter().map(|m| m.key).collect();
    assert!(
        keys.len() >= 2 && keys.iter().all(|key| *key == keys[0]),
        "{keys:?}"
    );
}

#[test]
fn settings_that_do_not_fit_the_plan_are_named() {
    let told = Told::prepared();
    let path = told.here.data().join("settings.yaml");
    let good = std::fs::read_to_string(&path).expect("the settings");
    for (from, to, words) in [
        (
            "incident-room:",
            "incident-rom:",
            "detection.channels.incident-rom",
        ),
        (
            "kind: mail, host: 127.0.0.1",
            "kind: slack, url_file: x } # ",
            "is a slack, and the plan says that it is a mail",
        ),
        ("tls: none", "tls: none, pasword: x", "pasword"),
        ("attempts: 4", "attempts: 99", "telling.attempts is 99"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good, "{from}");
        std::fs::write(&path, bad).expect("the settings");
        let arguments = told.here.arguments(&["up"]);
        let answer = sealwarden_tests::sealwarden(told.here.home(), &arguments);
        assert_ne!(answer.code, 0, "{words}");
        assert!(answer.to_string().contains(words), "{words}: {answer}");
    }
}
