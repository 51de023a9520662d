//! What people outside read: only what legal counsel and communications signed, whatever becomes of the channels.

use std::path::PathBuf;

use sealwarden_tests::eventually;
use sealwarden_tests::sink::{Manners, Sink, secret};
use serde_json::Value;

use super::communication::Told;

const LEGAL: &str = "leila.haddad";
const WORDS: &str = "samuel.reyes";
const TEMPLATE: &str = "plan/notices/key-compromise.md";

/// An installation with a status page and two more channels that everybody reads.
struct Outside {
    told: Told,
    customers: Sink,
    letters: Sink,
}

impl Outside {
    fn prepared() -> Self {
        let outside = Self {
            told: Told::prepared(),
            customers: Sink::web(),
            letters: Sink::mail(),
        };
        let (home, data) = (outside.told.here.home(), outside.told.here.data());
        let url = secret(home, "customers-url", &outside.customers.url("/customers"));
        let settings = data.join("settings.yaml");
        let text = std::fs::read_to_string(&settings).expect("the settings");
        let more = format!(
            "    status: {{kind: status-page, folder: ../public, url: 'https://status.example.com/', title: 'Acme <status>'}}
    customers: {{kind: slack, url_file: {}, timeout_ms: 300}}
    letters: {{kind: mail, host: 127.0.0.1, port: {}, tls: none, from: s@example.com, to: [all@example.com], timeout_ms: 1000}}
",
            url.display(),
            outside.letters.port()
        );
        std::fs::write(&settings, text + &more).expect("the settings");
        let plan = data.join("plan/plan.yaml");
        let text = std::fs::read_to_string(&plan).expect("the plan");
        let channels = "    customers: {kind: slack, for: [public]}\n    letters: {kind: mail, for: [public]}\n    status: {";
        let changed = text.replacen("    status: {", channels, 1);
        assert_ne!(changed, text);
        std::fs::write(&plan, changed).expect("the plan");
        outside
    }

    /// A file of the status page.
    fn page(&self, name: &str) -> PathBuf {
        self.told.here.home().join("public").join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.page(name)).expect("a page")
    }

    fn sign(&self, person: &str) -> sealwarden_tests::Answer {
        let words = [
            "plan",
            "sign-notice",
            "key-compromise",
            "--yes",
            "--as",
            person,
        ];
        self.told.here.call(&words)
    }

    /// What `plan check` says of the template: its ending, and the codes.
    fn checked(&self) -> (i32, Vec<String>) {
        let answer = self.told.here.call(&["plan", "check"]);
        let json = answer.json();
        let findings = json["findings"].as_array().expect("findings").iter();
        let ours = findings.filter(|f| f["file"] == "notices/key-compromise.md");
        let codes = ours.filter_map(|f| f["code"].as_str().map(str::to_owned));
        (answer.code, codes.collect())
    }

    fn public(&self, id: &str) -> Vec<Value> {
        let listed = self.told.here.call(&["notice", "list", id]).good();
        listed["incidents"][0]["notices"]
            .as_array()
            .expect("notices")
            .clone()
    }

    fn approve(&self, id: &str, number: &str, more: &[&str]) -> sealwarden_tests::Answer {
        let mut words = vec!["notice", "approve", id, number, "--yes", "--as"];
        words.extend(more);
        self.told.here.call(&words)
    }
}

#[test]
fn what_both_signed_beforehand_goes_out_by_itself_and_bad_channels_hold_up_nothing() {
    let outside = Outside::prepared();
    assert_eq!(outside.checked(), (0, vec!["notice-unsigned".to_owned()]));
    outside.sign("ines.duarte").must_end_with(4);
    outside.sign(LEGAL).good();
    assert_eq!(outside.checked().1, ["notice-unsigned"], "one is not both");
    assert_eq!(outside.sign(WORDS).good()["complete"], true);
    assert_eq!(
        outside.sign(WORDS).good()["complete"],
        true,
        "once is enough"
    );
    assert_eq!(outside.checked(), (0, vec![]));

    let told = &outside.told;
    let up = told.here.up();
    outside.customers.behave(Manners::Hang);
    outside.letters.behave(Manners::Busy);
    let id = told.incident("key-compromise", "an odd login");
    let page = told.settled(&id, "public", "status");
    assert_eq!(page["standing"], "delivered", "{page}");
    let shown = outside.read(&format!("incidents/{id}.html"));
    assert!(
        shown.contains("A sealing key is being replaced") && shown.contains(&id),
        "{shown}"
    );
    assert!(outside.read("index.html").contains("One incident is open."));
    let feed = outside.read("feed.xml");
    assert!(
        feed.contains("<id>https://status.example.com/</id>") && feed.contains("<entry"),
        "{feed}"
    );
    // The others fail, each by itself, and what has to be done went on meanwhile.
    for channel in ["customers", "letters"] {
        let delivery = told.settled(&id, "public", channel);
        assert_eq!(delivery["standing"], "given up", "{delivery}");
        assert_eq!(delivery["attempts"], 4, "{delivery}");
    }
    let keys: Vec<String> = outside
        .customers
        .arrived()
        .into_iter()
        .map(|m| m.key)
        .collect();
    assert!(
        keys.len() == 4 && keys.iter().all(|key| *key == keys[0]),
        "{keys:?}"
    );
    let incident = told.here.call(&["incident", "show", &id]).good();
    assert_eq!(
        incident["runs"].as_array().expect("runs").len(),
        1,
        "{incident:#}"
    );
    let number = outside.public(&id)[0]["number"].to_string();
    let one = told.here.call(&["notice", "show", &id, &number]).good();
    assert_eq!(one["signed_beforehand"], serde_json::json!([LEGAL, WORDS]));
    assert_eq!(one["standing"], "partly delivered");
    // Nobody can decide what is out, and nobody has to.
    outside.approve(&id, &number, &[LEGAL]).must_end_with(2);

    // A page that somebody changed or lost is written again, and nobody is told anything twice.
    let before = outside.customers.arrived().len();
    assert!(up.terminate().success());
    std::fs::remove_file(outside.page("index.html")).expect("the page");
    std::fs::write(outside.page("feed.xml"), "defaced").expect("the feed");
    let _up = told.here.up();
    eventually("the pages are as they were", || {
        (outside.page("index.html").exists() && outside.read("feed.xml") == feed).then_some(())
    });
    assert_eq!(outside.public(&id).len(), 1);
    assert_eq!(outside.customers.arrived().len(), before);
}

#[test]
fn a_template_that_was_changed_after_it_was_signed_is_refused() {
    let outside = Outside::prepared();
    outside.sign(LEGAL).good();
    outside.sign(WORDS).good();
    let told = &outside.told;
    let path = told.here.data().join(TEMPLATE);
    let text = std::fs::read_to_string(&path).expect("the template");
    let changed = text.replace("We have stopped using it.", "Send us your keys.");
    assert_ne!(changed, text);
    std::fs::write(&path, changed).expect("the template");
    let (code, codes) = outside.checked();
    assert_eq!((code, codes[0].as_str()), (1, "notice-signature"));
    let refused = outside.sign(LEGAL).ends_with(4);
    assert!(
        refused
            .to_string()
            .contains("was changed after leila.haddad signed it"),
        "{refused}"
    );

    let _up = told.here.up();
    let id = told.incident("key-compromise", "an odd login");
    let room = told.settled(&id, "engineers", "incident-room");
    assert_eq!(room["standing"], "delivered", "{room}");
    let said = &told.room.arrived()[0].text;
    assert!(
        said.contains("key-compromise to people outside is NOT made")
            && said.contains("was changed after"),
        "{said}"
    );
    assert_eq!(outside.public(&id), Vec::<Value>::new());
    assert!(!outside.page("index.html").exists());
    assert!(outside.customers.arrived().is_empty() && outside.letters.arrived().is_empty());
}

#[test]
fn what_a_person_wrote_waits_for_two_signatures_over_its_text() {
    let outside = Outside::prepared();
    let told = &outside.told;
    let _up = told.here.up();
    let id = told.incident("data-integrity", "bytes differ");
    let publish = |title: &str| {
        let text = "We hold.\n\nNothing is lost. <script>x</script>";
        let words = [
            "notice",
            "publish",
            &id,
            "--title",
            title,
            "--text",
            text,
            "--as",
            "aiko.tanaka",
        ];
        told.here.call(&words)
    };
    publish("two\nlines").must_end_with(2);
    publish("Seals are <b>late</b>").good();
    let notice = outside.public(&id).remove(0);
    assert_eq!(notice["standing"], "waits for approval", "{notice}");
    let number = notice["number"].to_string();
    // Whoever wrote it cannot approve it; other roles count nothing.
    for (person, code) in [("aiko.tanaka", "requester"), ("ines.duarte", "wrong-role")] {
        let refused = outside.approve(&id, &number, &[person]).ends_with(4);
        assert!(refused.to_string().contains(code), "{refused}");
    }
    let first = outside.approve(&id, &number, &[LEGAL]).good();
    assert!(
        first["missing"]
            .as_str()
            .is_some_and(|m| m.contains("communications-lead")),
        "{first}"
    );
    assert!(
        !outside.page("index.html").exists(),
        "nothing goes out before"
    );
    assert_eq!(
        outside.approve(&id, &number, &[WORDS]).good()["missing"],
        ""
    );
    for channel in ["status", "customers", "letters"] {
        let delivery = told.settled(&id, "public", channel);
        assert_eq!(delivery["standing"], "delivered", "{delivery}");
    }
    let html = outside.read("index.html");
    assert!(
        html.contains("Seals are &lt;b&gt;late&lt;/b&gt;") && html.contains("Acme &lt;status&gt;"),
        "{html}"
    );
    let shown = outside.read(&format!("incidents/{id}.html"));
    assert!(
        shown.contains("Nothing is lost. &lt;script&gt;") && !shown.contains("<script"),
        "{shown}"
    );
    let sent = &outside.customers.arrived()[0].text;
    assert!(
        sent.contains("We hold.") && !sent.contains("aiko"),
        "people outside need no name: {sent}"
    );
    // What is out takes no decisions any more.
    let late = outside
        .approve(&id, &number, &["pavel.novak", "--deny"])
        .ends_with(4);
    assert!(late.to_string().contains("step-closed"), "{late}");
    outside.approve(&id, "99", &[LEGAL]).must_end_with(2);
}

#[test]
fn a_folder_that_cannot_be_written_is_written_as_soon_as_it_can() {
    let outside = Outside::prepared();
    outside.sign(LEGAL).good();
    outside.sign(WORDS).good();
    let told = &outside.told;
    let folder = told.here.home().join("public");
    std::fs::write(&folder, "in the way").expect("a file");
    let _up = told.here.up();
    let id = told.incident("key-compromise", "an odd login");
    let page = told.settled(&id, "public", "status");
    assert_eq!(page["standing"], "given up", "{page}");
    let reason = page["reason"].as_str().expect("a reason");
    assert!(reason.contains("public"), "it names the folder: {reason}");
    let sent = told.settled(&id, "public", "customers");
    assert_eq!(sent["standing"], "delivered", "the others go on: {sent}");
    std::fs::remove_file(&folder).expect("the file");
    eventually("the pages are there", || {
        outside.page("index.html").exists().then_some(())
    });
    assert!(
        outside
            .read("index.html")
            .contains("A sealing key is being replaced")
    );
}
