use sealwarden_wire::event::v1::{
    ActionItemAdded, ActionItemChecked, ActionItemDone, ActionItemDropped, ActionItemMoved,
    Envelope, IncidentOpened, IncidentStage, IncidentStageReached, event::Kind,
};

use super::*;
use crate::approval::fixture::{key_of, roster};
use crate::approval::{Environment, Namespace, sign};
use crate::fold::{Fold as _, RejectionCode, event};
use crate::incident::Incident;

const DAY: i64 = 86_400_000;
/// Monday 2026-11-23, 08:00 UTC.
const NOW: i64 = 1_795_420_800_000;

fn at(ms: i64) -> Envelope {
    Envelope {
        stream: "incident/inc-1".to_owned(),
        recorded_at_ms: ms,
        ..Envelope::default()
    }
}

fn opened() -> Incident {
    let mut incident = Incident::default();
    let opened = IncidentOpened {
        incident: "inc-1".to_owned(),
        ..IncidentOpened::default()
    };
    incident
        .apply(&at(NOW), &event(Kind::IncidentOpened(opened)))
        .unwrap();
    incident
}

fn closed() -> Incident {
    let mut incident = opened();
    let stage = IncidentStageReached {
        stage: IncidentStage::Closed.into(),
        reason: String::new(),
    };
    incident
        .apply(&at(NOW + 1), &event(Kind::IncidentStageReached(stage)))
        .unwrap();
    incident
}

fn tell(incident: &mut Incident, command: Command) -> Result<usize, RejectionCode> {
    let events = decide(incident, &roster(), command).map_err(|refused| refused.code)?;
    for event in &events {
        incident.apply(&at(NOW + 2), event).unwrap();
    }
    Ok(events.len())
}

fn record(audience: Audience, text: &str, by: &str) -> Command {
    raw(
        &format!(
            "---\nincident: inc-1\naudience: {audience}\n---\n\n## Summary\n\n{text}\n\n## Timeline\n\n-\n\n## What changes\n\n-\n"
        ),
        by,
    )
}

fn raw(text: &str, by: &str) -> Command {
    Command::Record {
        text: text.to_owned(),
        by: by.to_owned(),
    }
}

fn item(title: &str, owner: &str) -> Command {
    Command::Add(ActionItemAdded {
        title: title.to_owned(),
        owner: owner.to_owned(),
        due_at_ms: NOW + DAY,
        verification: "the canary is red without it".to_owned(),
        gates_releases: true,
        by: "person ada".to_owned(),
        item: String::new(),
    })
}

fn done(item: &str, by: &str) -> Command {
    Command::Done(ActionItemDone {
        item: item.to_owned(),
        reference: "change 4711".to_owned(),
        by: by.to_owned(),
    })
}

fn checked(item: &str, done: bool, by: &str) -> Command {
    Command::Check(ActionItemChecked {
        item: item.to_owned(),
        done,
        found: "looked at it".to_owned(),
        by: by.to_owned(),
    })
}

fn publish(incident: &Incident, signer: &str, named: &str, namespace: Namespace) -> Command {
    let environment = Environment::Production;
    let public = &incident.learning.postmortems[&Audience::Public].recorded;
    let statement = publication_statement("acme", environment, "inc-1", public, named);
    Command::Approve {
        installation: "acme".to_owned(),
        environment,
        signature: sign(&statement, &key_of(signer), namespace).unwrap(),
        statement,
    }
}

#[test]
fn versions_count_for_each_audience_and_the_same_text_is_one() {
    let mut incident = closed();
    assert_eq!(
        tell(&mut incident, record(Audience::Internal, "one", "person a")),
        Ok(1)
    );
    assert_eq!(
        tell(&mut incident, record(Audience::Internal, "one", "person b")),
        Ok(0)
    );
    assert_eq!(
        tell(&mut incident, record(Audience::Internal, "two", "person a")),
        Ok(1)
    );
    assert_eq!(
        tell(&mut incident, record(Audience::Public, "two", "person a")),
        Ok(1)
    );
    let versions = |audience| incident.learning.postmortems[&audience].recorded.version;
    assert_eq!(
        (versions(Audience::Internal), versions(Audience::Public)),
        (2, 1)
    );
    let long = "x".repeat(MAX_POSTMORTEM_BYTES + 1);
    for bad in ["", " \n", &long, "no front matter"] {
        let refused = tell(&mut incident, raw(bad, "person a"));
        assert_eq!(refused, Err(RejectionCode::Invalid));
    }
    for bad in [&long, "TO COMPLETE: what happened?"] {
        let refused = tell(&mut incident, record(Audience::Public, bad, "person a"));
        assert_eq!(refused, Err(RejectionCode::Invalid));
    }
    assert_eq!(
        tell(&mut opened(), record(Audience::Public, "one", "person a")),
        Err(RejectionCode::NotNow)
    );
    assert_eq!(
        tell(
            &mut Incident::default(),
            record(Audience::Public, "one", "person a")
        ),
        Err(RejectionCode::NotFound)
    );
}

#[test]
fn a_public_text_goes_out_under_a_lawyers_signature_over_this_very_text() {
    let mut incident = closed();
    tell(&mut incident, record(Audience::Public, "one", "person ada")).unwrap();
    let approval = Namespace::Approval;
    for (signer, named, namespace) in [
        ("ada", "ada", approval),
        ("stranger", "leila", approval),
        ("leila", "nora", approval),
        ("leila", "leila", Namespace::ApprovalDrill),
    ] {
        let command = publish(&incident, signer, named, namespace);
        assert_eq!(
            tell(&mut incident, command),
            Err(RejectionCode::Refused),
            "{signer} as {named} in {namespace}"
        );
    }
    let good = publish(&incident, "leila", "leila", approval);
    let Command::Approve {
        installation,
        environment,
        statement,
        signature,
    } = good.clone()
    else {
        panic!("it is an approval");
    };
    let tampered = Command::Approve {
        installation,
        environment,
        statement: statement.replace("version: 1", "version: 2"),
        signature,
    };
    assert_eq!(tell(&mut incident, tampered), Err(RejectionCode::Refused));
    assert_eq!(tell(&mut incident, good.clone()), Ok(1));
    assert_eq!(tell(&mut incident, good.clone()), Ok(0));

    // A new text needs a new signature, and nobody publishes their own.
    tell(
        &mut incident,
        record(Audience::Public, "two", "person leila"),
    )
    .unwrap();
    assert_eq!(
        incident.learning.postmortems[&Audience::Public].approved,
        None
    );
    assert_eq!(tell(&mut incident, good), Err(RejectionCode::Refused));
    let own = publish(&incident, "leila", "leila", approval);
    assert_eq!(tell(&mut incident, own), Err(RejectionCode::Refused));
    let other = publish(&incident, "nora", "nora", approval);
    assert_eq!(tell(&mut incident, other), Ok(1));
}

#[test]
fn somebody_else_looks_before_an_item_counts_as_done() {
    let mut incident = opened();
    assert_eq!(tell(&mut incident, item("watch the canary", "ada")), Ok(1));
    assert_eq!(tell(&mut incident, item("watch the canary", "ada")), Ok(0));
    let standing =
        |incident: &Incident, now| incident.learning.item("A1").map(|item| item.standing(now));
    assert_eq!(standing(&incident, NOW), Some(Standing::Open));
    assert_eq!(standing(&incident, NOW + 2 * DAY), Some(Standing::Overdue));
    assert!(
        incident
            .learning
            .item("A1")
            .unwrap()
            .stops_releases(NOW + 2 * DAY)
    );

    let early = tell(&mut incident, checked("A1", true, "person bea"));
    assert_eq!(early, Err(RejectionCode::NotNow));
    assert_eq!(tell(&mut incident, done("A1", "person ada")), Ok(1));
    assert_eq!(standing(&incident, NOW + 2 * DAY), Some(Standing::Done));
    let own = tell(&mut incident, checked("A1", true, "person ada"));
    assert_eq!(own, Err(RejectionCode::Refused));
    assert_eq!(
        tell(&mut incident, checked("A1", false, "person bea")),
        Ok(1)
    );
    assert_eq!(standing(&incident, NOW), Some(Standing::Open));
    tell(&mut incident, done("A1", "person ada")).unwrap();
    assert_eq!(
        tell(&mut incident, checked("A1", true, "person bea")),
        Ok(1)
    );
    assert_eq!(
        tell(&mut incident, checked("A1", true, "person bea")),
        Ok(0)
    );
    assert_eq!(standing(&incident, NOW + 2 * DAY), Some(Standing::Checked));
    assert_eq!(
        tell(&mut incident, done("A1", "person ada")),
        Err(RejectionCode::NotNow)
    );
}

#[test]
fn an_item_moves_with_a_reason_and_is_dropped_with_one() {
    let mut incident = opened();
    tell(&mut incident, item("watch the canary", "ada")).unwrap();
    let moved = |owner: &str, due_at_ms, reason: &str| {
        Command::Move(ActionItemMoved {
            item: "A1".to_owned(),
            owner: owner.to_owned(),
            due_at_ms,
            reason: reason.to_owned(),
            by: "person ada".to_owned(),
        })
    };
    for bad in [
        moved("nobody", 0, "why"),
        moved("linus", 0, ""),
        moved("linus", -1, "why"),
    ] {
        assert_eq!(tell(&mut incident, bad), Err(RejectionCode::Invalid));
    }
    assert_eq!(tell(&mut incident, moved("linus", 0, "on leave")), Ok(1));
    assert_eq!(tell(&mut incident, moved("linus", 0, "on leave")), Ok(0));
    assert_eq!(
        tell(&mut incident, moved("", NOW + 9 * DAY, "parts are late")),
        Ok(1)
    );
    let known = &incident.learning.item("A1").unwrap().added;
    assert_eq!(
        (known.owner.as_str(), known.due_at_ms),
        ("linus", NOW + 9 * DAY)
    );

    let dropped = Command::Drop(ActionItemDropped {
        item: "A1".to_owned(),
        reason: "the vendor did it".to_owned(),
        by: "person ada".to_owned(),
    });
    assert_eq!(tell(&mut incident, dropped.clone()), Ok(1));
    assert_eq!(tell(&mut incident, dropped), Ok(0));
    assert_eq!(
        tell(&mut incident, moved("ada", 0, "again")),
        Err(RejectionCode::NotNow)
    );
    assert_eq!(
        tell(&mut incident, item("watch the canary", "ada")),
        Ok(1),
        "a dropped one may come again"
    );
    for bad in [
        item("", "ada"),
        item("two\nlines", "ada"),
        item("of nobody", "zoe"),
    ] {
        assert_eq!(tell(&mut incident, bad), Err(RejectionCode::Invalid));
    }
    assert_eq!(
        tell(&mut incident, done("A9", "person ada")),
        Err(RejectionCode::NotFound)
    );
}

#[test]
fn the_most_items_are_the_most() {
    let mut incident = opened();
    for number in 0..MAX_ITEMS {
        tell(&mut incident, item(&format!("number {number}"), "ada")).unwrap();
    }
    let refused = tell(&mut incident, item("one more", "ada"));
    assert_eq!(refused, Err(RejectionCode::Refused));
}

#[test]
fn means_count_those_that_got_there() {
    let case = |class: &str, opened_at_ms, contain_ms, recover_ms| Case {
        class: class.to_owned(),
        opened_at_ms,
        detect_ms: Some(10),
        contain_ms,
        recover_ms,
        targets: Share { of: 1, all: 2 },
        revalidated: Share { of: 3, all: 4 },
        ..Case::default()
    };
    let november_30 = 1_796_083_199_999;
    let rows = rows(&[
        case("key-compromise", NOW, Some(100), Some(1_000)),
        case("key-compromise", november_30, Some(301), None),
        case("key-compromise", november_30 + 1, None, None),
        case("", NOW, None, None),
    ]);
    let names: Vec<_> = rows
        .iter()
        .map(|r| (r.month.as_str(), r.class.as_str(), r.incidents, r.open))
        .collect();
    assert_eq!(
        names,
        [
            ("2026-11", "key-compromise", 2, 1),
            ("2026-11", "unclassified", 1, 1),
            ("2026-12", "key-compromise", 1, 1),
        ]
    );
    let first = &rows[0];
    assert_eq!(first.contain.mean_ms(), Some(200));
    assert_eq!(first.recover.mean_ms(), Some(1_000));
    assert_eq!(first.recover.count, 1);
    assert_eq!(first.acknowledge.mean_ms(), None);
    assert_eq!(first.targets, Share { of: 2, all: 4 });
    assert_eq!(first.revalidated.percent(), Some(75));
    assert_eq!(Share::default().percent(), None);
}
