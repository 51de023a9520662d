use sealwarden_domain::fold::event;
use sealwarden_engine::{Meta, encode};
use sealwarden_eventlog::CommitId;
use sealwarden_wire::event::v1::{ServiceAnnounced, event::Kind};
use serde_json::Value;

use super::*;

const FILE: &str = "events/node-a.jsonl";

/// A stream of one category, whose n-th commit announces the n-th text.
fn stream(name: &str, texts: &[&str], first: u64) -> Vec<Recorded> {
    let stream = name.parse().unwrap();
    let mut before = Head::EMPTY;
    let mut commits = Vec::new();
    for (text, position) in texts.iter().zip((first..).step_by(2)) {
        let id = CommitId::from_bytes([position.try_into().unwrap(); 16]);
        let announced = ServiceAnnounced {
            node: (*text).to_owned(),
            ..ServiceAnnounced::default()
        };
        let events = [event(Kind::ServiceAnnounced(announced))];
        let payload = encode(id, &stream, &Meta::node("a"), &events);
        let commit = Recorded {
            hash: Recorded::chain_hash(&before.hash, &stream, id, &payload),
            stream: stream.clone(),
            position,
            commit_id: id,
            recorded_at_ms: 5,
            prev_hash: before.hash,
            payload,
        };
        before = commit.head();
        commits.push(commit);
    }
    commits
}

fn lines(commits: &[Recorded]) -> Vec<Value> {
    commits.iter().map(line::of).collect()
}

fn check(lines: &[Value]) -> Result<Chains, Damage> {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("events")).unwrap();
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(dir.path().join(FILE), text.join("\n")).unwrap();
    let mut chains = Chains::default();
    chains.file(dir.path(), FILE).map(|()| chains)
}

fn heads(position: u64, streams: &[(&str, Head)]) -> Heads {
    Heads {
        installation: "acme".to_owned(),
        environment: "drill".to_owned(),
        time: String::new(),
        position,
        streams: streams
            .iter()
            .map(|(name, head)| ((*name).to_owned(), *head))
            .collect(),
    }
}

#[test]
fn chains_hold_and_every_change_names_stream_and_position() {
    let mut commits = stream("node/a", &["one", "two", "three"], 1);
    commits.extend(stream("node/b", &["four"], 2));
    let whole = lines(&commits);
    assert_eq!(check(&whole).unwrap().commits(), 4);

    let broken = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut changed = whole.clone();
        change(&mut changed);
        check(&changed).unwrap_err().to_string()
    };
    let other = lines(&stream("node/a", &["one", "2wo", "three"], 1));
    for (change, named) in [
        (
            broken(&|it| it[1]["payload"] = other[1]["payload"].clone()),
            "position 3 of node/a",
        ),
        (
            broken(&|it| it[1] = other[1].clone()),
            "position 5 of node/a",
        ),
        (broken(&|it| drop(it.remove(0))), "position 3 of node/a"),
        (broken(&|it| it.swap(0, 1)), "position 3 of node/a"),
        (
            broken(&|it| it[0]["position"] = 4.into()),
            "position 3 of node/a to stand after position 4",
        ),
        (
            broken(&|it| it[3]["stream"] = "node/c".into()),
            "position 2 of node/c",
        ),
        (
            broken(&|it| it[0]["commit_id"] = "00".repeat(16).into()),
            "position 1 of node/a",
        ),
        (
            broken(&|it| it[2]["actor"] = "b".into()),
            "\"actor\" of the commit at position 5 of node/a",
        ),
        (
            broken(&|it| it[2]["events"][0] = "nothing".into()),
            "\"events\" of the commit at position 5",
        ),
        (broken(&|it| it[2]["hash"] = "x".into()), "line 3"),
    ] {
        assert!(
            change.starts_with(FILE) && change.contains(named),
            "{named}: {change}"
        );
    }
}

#[test]
fn another_versions_lines_may_print_an_event_otherwise_but_not_another_event() {
    let mut shown = lines(&stream("node/a", &["one"], 1));
    shown[0]["software"] = "0.0.0".into();
    shown[0]["events"][0] =
        "Some(ServiceAnnounced(ServiceAnnounced { node: \"one\", new: 1 }))".into();
    assert!(check(&shown).is_ok());
    shown[0]["events"][0] = "Some(NodeEnrolled(NodeEnrolled { node: \"one\" }))".into();
    assert!(check(&shown).is_err());
}

#[test]
fn a_history_with_a_chain_of_its_own_does_not_pass_through_the_sealed_heads() {
    let commits = stream("node/a", &["one", "two", "three"], 1);
    let sealed = heads(
        4,
        &[
            ("node/a", commits[1].head()),
            ("run/R-1", commits[0].head()),
        ],
    );
    let told = |commits: &[Recorded], heads: &Heads| {
        let chains = check(&lines(commits)).unwrap();
        chains
            .pass_through(heads)
            .map_err(|damage| damage.to_string())
    };
    assert_eq!(told(&commits, &sealed), Ok(()));
    for (commits, found) in [
        (
            stream("node/a", &["one", "2wo", "three"], 1),
            "at position 3",
        ),
        (stream("node/a", &["one"], 1), "at position 1"),
        (stream("node/b", &["one"], 1), "found the commit"),
        (stream("node/a", &["one", "two"], 4), "at position 4"),
    ] {
        let damage = told(&commits, &sealed).unwrap_err();
        assert!(
            damage.contains(found) && damage.contains("up to position 4"),
            "{damage}"
        );
    }
    assert_eq!(
        told(&stream("node/b", &["one"], 5), &sealed),
        Ok(()),
        "newer than the heads"
    );
}
