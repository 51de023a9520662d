//! Who changes a roster, what counts for nothing, and what a node believes of a line.

use std::collections::BTreeMap;
use std::sync::Arc;

use sealwarden_runbook::{PlanSet, Roster};
use sealwarden_wire::event::v1::{
    Envelope, PersonAway, RosterDecided, RosterProposed, RosterSignature, event::Kind,
};

use super::{
    MAX_ABSENCE_MS, RosterAnchor, RosterLine, Vote, absence_text, absent, adopt, change_text,
    propose, sign,
};
use crate::approval::fixture::{self, NOW_MS, PLAN, RUNBOOK, key_of, revocation, roster_text};
use crate::approval::{Environment, Namespace};
use crate::fold::{Fold as _, Rejection, RejectionCode, event};

/// The line as the event log has it, and how far it goes.
#[derive(Clone, Default)]
struct World {
    line: RosterLine,
    kinds: Vec<Kind>,
}

fn first() -> String {
    roster_text(&BTreeMap::new())
}

/// The first roster with grace as security-lead, too.
fn promoted() -> String {
    first().replace(
        "{id: grace, name: grace, roles: [on-call-sre]",
        "{id: grace, name: grace, roles: [on-call-sre, security-lead]",
    )
}

fn plan(roster: &str) -> PlanSet {
    let files = [
        ("plan.yaml", PLAN),
        ("roster.yaml", roster),
        ("leak.yaml", RUNBOOK),
    ];
    PlanSet::load_for_run(&files).unwrap()
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        let roster = fixture::roster();
        let events = adopt(&world.line, Environment::Production, (&roster, &first())).unwrap();
        world.take(events);
        world
    }

    fn take(&mut self, kinds: Vec<Kind>) {
        for kind in kinds {
            let envelope = Envelope {
                stream: "trust/acme".to_owned(),
                ..Envelope::default()
            };
            self.kinds.push(kind.clone());
            self.line.apply(&envelope, &event(kind)).unwrap();
        }
    }

    fn propose(&mut self, text: &str, by: &str) -> RosterProposed {
        let said = (text, "the rota changes", by);
        let events = propose(&self.line, &plan(&first()), said, NOW_MS).unwrap();
        self.take(events);
        let last = self.line.proposals().last().unwrap();
        last.proposed.clone()
    }

    fn sign(&mut self, decided: RosterDecided) -> Result<(), Rejection> {
        let events = sign(&self.line, decided, NOW_MS + 1000)?;
        self.take(events);
        Ok(())
    }

    fn number(&self) -> u64 {
        self.line.in_force().unwrap().number
    }
}

fn decided(proposed: &RosterProposed, vote: Vote, by: &str) -> RosterDecided {
    let text = change_text(("acme", Environment::Production), proposed, vote, by);
    signed(proposed, vote, by, &text, Namespace::Approval)
}

fn signed(
    proposed: &RosterProposed,
    vote: Vote,
    by: &str,
    text: &str,
    namespace: Namespace,
) -> RosterDecided {
    RosterDecided {
        number: proposed.number,
        digest: proposed.digest.clone(),
        expires_ms: proposed.expires_ms,
        decision: vote.as_str().to_owned(),
        signed: Some(RosterSignature {
            person: by.to_owned(),
            key_fingerprint: String::new(),
            signature: crate::approval::sign(text, &key_of(by), namespace).unwrap(),
        }),
    }
}

#[test]
fn two_people_of_different_roles_change_the_roster_and_one_is_senior() {
    let mut world = World::new();
    let proposed = world.propose(&promoted(), "operator");
    assert_eq!(proposed.number, 1);
    world
        .sign(decided(&proposed, Vote::Approve, "ada"))
        .unwrap();
    world
        .sign(decided(&proposed, Vote::Approve, "ada"))
        .unwrap();
    assert_eq!(world.number(), 0, "one person, twice, is one person");
    // Two seniors of one role are not two roles; legal counsel is another.
    let missing = world.line.proposals().next().unwrap().missing(&world.line);
    assert_eq!(missing.unwrap(), "1 more person, of another role");
    world
        .sign(decided(&proposed, Vote::Approve, "leila"))
        .unwrap();
    let now = world.line.in_force().unwrap();
    assert_eq!((now.number, now.text.as_str()), (1, promoted().as_str()));
    assert!(world.line.proposals().next().is_none());
    assert_eq!(world.line.passed_over(), None);
    // Folded again it is the same line.
    let mut again = World::default();
    again.take(world.kinds.clone());
    assert_eq!(again.line, world.line);
}

#[test]
fn who_asks_who_gains_and_juniors_do_not_suffice() {
    let mut world = World::new();
    let proposed = world.propose(&promoted(), "ada");
    for (by, says) in [
        ("ada", "asked for"),
        ("grace", "gains by"),
        ("mallory", "not mallory's"),
    ] {
        let refused = world
            .sign(decided(&proposed, Vote::Approve, by))
            .unwrap_err();
        assert_eq!(refused.code, RejectionCode::Refused);
        assert!(refused.reason.contains(says), "{refused}");
    }
    world
        .sign(decided(&proposed, Vote::Approve, "pete"))
        .unwrap();
    world
        .sign(decided(&proposed, Vote::Approve, "leila"))
        .unwrap();
    assert_eq!(world.number(), 0, "two juniors are no quorum");
    world
        .sign(decided(&proposed, Vote::Approve, "bea"))
        .unwrap();
    assert_eq!(world.number(), 1);
}

#[test]
fn what_was_signed_for_something_else_counts_for_nothing() {
    let mut world = World::new();
    let proposed = world.propose(&promoted(), "operator");
    let place = ("acme", Environment::Production);
    let good = change_text(place, &proposed, Vote::Approve, "ada");
    let cases = [
        signed(
            &proposed,
            Vote::Approve,
            "ada",
            &good,
            Namespace::ApprovalDrill,
        ),
        signed(
            &proposed,
            Vote::Approve,
            "ada",
            &good.replace("number: 1", "number: 2"),
            Namespace::Approval,
        ),
        signed(
            &proposed,
            Vote::Approve,
            "ada",
            &good.replace("acme", "other"),
            Namespace::Approval,
        ),
        // A denial is no approval.
        RosterDecided {
            decision: "approve".into(),
            ..decided(&proposed, Vote::Deny, "ada")
        },
    ];
    for case in cases {
        assert_eq!(world.sign(case).unwrap_err().code, RejectionCode::Refused);
    }
    let unknown = RosterDecided {
        number: 2,
        ..decided(&proposed, Vote::Approve, "ada")
    };
    assert_eq!(
        world.sign(unknown).unwrap_err().code,
        RejectionCode::NotFound
    );
    let late = sign(
        &world.line,
        decided(&proposed, Vote::Approve, "ada"),
        proposed.expires_ms,
    );
    assert!(late.unwrap_err().reason.contains("lapsed"));
    assert_eq!(world.number(), 0);
}

#[test]
fn signatures_are_not_replayed_and_a_denial_ends_a_proposal() {
    let mut world = World::new();
    let proposed = world.propose(&promoted(), "operator");
    let (ada, leila) = (
        decided(&proposed, Vote::Approve, "ada"),
        decided(&proposed, Vote::Approve, "leila"),
    );
    world.sign(ada.clone()).unwrap();
    world.sign(decided(&proposed, Vote::Deny, "pete")).unwrap();
    assert!(
        world
            .sign(leila.clone())
            .unwrap_err()
            .reason
            .contains("denied")
    );
    // Proposed again, one millisecond later, it must be signed again.
    let said = (promoted(), "the rota changes", "operator");
    let events = propose(
        &world.line,
        &plan(&first()),
        (&said.0, said.1, said.2),
        NOW_MS + 1,
    )
    .unwrap();
    world.take(events);
    let again = world.line.proposals().last().unwrap().proposed.clone();
    let old = RosterDecided {
        expires_ms: again.expires_ms,
        ..leila
    };
    assert_eq!(world.sign(old).unwrap_err().code, RejectionCode::Refused);
    for by in ["ada", "leila"] {
        world.sign(decided(&again, Vote::Approve, by)).unwrap();
    }
    assert_eq!(world.number(), 1);
    // There and back: what was signed for the first way is worth nothing for the second.
    let changed = world.kinds.last().cloned().unwrap();
    let back = world.propose(&first(), "operator");
    for by in ["ada", "leila"] {
        world.sign(decided(&back, Vote::Approve, by)).unwrap();
    }
    assert_eq!(world.number(), 2);
    world.take(vec![changed]);
    assert_eq!(world.number(), 2);
}

#[test]
fn a_revoked_key_counts_for_nothing_whenever_it_signed() {
    let mut world = World::new();
    let proposed = world.propose(&promoted(), "operator");
    world
        .sign(decided(&proposed, Vote::Approve, "ada"))
        .unwrap();
    world.take(vec![Kind::ApproverKeyRevoked(revocation(
        "ada", "bea", "stolen",
    ))]);
    world
        .sign(decided(&proposed, Vote::Approve, "leila"))
        .unwrap();
    assert_eq!(world.number(), 0);
    assert!(
        world
            .sign(decided(&proposed, Vote::Approve, "ada"))
            .unwrap_err()
            .reason
            .contains("revoked")
    );
    world
        .sign(decided(&proposed, Vote::Approve, "bea"))
        .unwrap();
    assert_eq!(world.number(), 1);
}

/// Somebody who can write to the event log, and has no keys.
#[test]
fn what_was_only_written_into_the_event_log_is_never_in_force() {
    let mut world = World::new();
    let proposed = world.propose(&promoted(), "operator");
    world
        .sign(decided(&proposed, Vote::Approve, "ada"))
        .unwrap();
    let before = world.line.in_force().cloned();
    world
        .sign(decided(&proposed, Vote::Approve, "leila"))
        .unwrap();
    let Some(Kind::RosterChanged(genuine)) = world.kinds.pop() else {
        panic!("the last event is the change")
    };
    let mut forged = vec![genuine.clone(); 7];
    forged[0].approvals.pop();
    forged[1].approvals[1] = forged[1].approvals[0].clone();
    forged[2].text = first().replace("pete", "paul");
    forged[3].reason.push('!');
    forged[4].proposed_by = "leila".to_owned();
    forged[5].accepted_at_ms = genuine.expires_ms;
    // Signed so by both, and of two lines.
    forged[6].reason = "a\nexpires: 1".to_owned();
    let doubtful = RosterProposed {
        reason: forged[6].reason.clone(),
        ..proposed
    };
    for (signature, by) in forged[6].approvals.iter_mut().zip(["ada", "leila"]) {
        let decided = decided(&doubtful, Vote::Approve, by);
        *signature = decided.signed.unwrap();
    }
    for forged in forged {
        let mut world = World {
            line: RosterLine::default(),
            kinds: Vec::new(),
        };
        world.take(World::new().kinds);
        world.take(vec![Kind::RosterChanged(forged)]);
        assert_eq!(world.line.in_force().cloned(), before);
        assert!(world.line.passed_over().is_some());
    }
    // A second first roster is none either; the genuine change needs nothing but itself.
    let mut world = World::new();
    let mut other = adopt(
        &RosterLine::default(),
        Environment::Production,
        (&fixture::roster(), &first()),
    )
    .unwrap();
    world.take(std::mem::take(&mut other));
    assert!(
        world
            .line
            .passed_over()
            .is_some_and(|it| it.contains("first roster"))
    );
    world.take(vec![Kind::RosterChanged(genuine)]);
    assert_eq!(world.number(), 1);
}

#[test]
fn a_proposal_that_cannot_be_used_or_signed_is_refused() {
    let mut world = World::new();
    let plan = plan(&first());
    let proposing = |line: &RosterLine, text: &str, by: &str| {
        propose(line, &plan, (text, "because", by), NOW_MS).unwrap_err()
    };
    let line = &world.line;
    assert!(
        proposing(line, &first(), "operator")
            .reason
            .contains("changes nothing")
    );
    assert!(
        proposing(line, "people: []", "operator")
            .reason
            .contains("names nobody")
    );
    let none = first().replace("security-lead", "gardener");
    assert!(
        proposing(line, &none, "operator")
            .reason
            .contains("quorum-unmet")
    );
    let weak = format!("changed_by: {{security-lead: 1}}\n{}", first());
    assert!(
        proposing(line, &weak, "operator")
            .reason
            .contains("two people")
    );
    let lines = propose(line, &plan, (&promoted(), "a\nb", "operator"), NOW_MS);
    assert_eq!(lines.unwrap_err().code, RejectionCode::Invalid);
    world.propose(&promoted(), "operator");
    let again = propose(&world.line, &plan, (&promoted(), "because", "pete"), NOW_MS);
    assert_eq!(again, Ok(Vec::new()), "the same text is one proposal");
}

#[test]
fn a_roster_names_the_quorum_of_its_next_change() {
    let mut world = World::new();
    let own = format!("changed_by: {{legal-counsel: 2}}\n{}", first());
    let proposed = world.propose(&own, "operator");
    for by in ["ada", "grace"] {
        world.sign(decided(&proposed, Vote::Approve, by)).unwrap();
    }
    assert_eq!(world.number(), 1);
    let proposed = world.propose(&promoted(), "operator");
    for by in ["ada", "grace", "leila"] {
        drop(world.sign(decided(&proposed, Vote::Approve, by)));
    }
    assert_eq!(world.number(), 1);
    world
        .sign(decided(&proposed, Vote::Approve, "nora"))
        .unwrap();
    assert_eq!(world.number(), 2);
}

#[test]
fn a_node_goes_by_a_line_that_passes_through_what_it_knows() {
    let mut world = World::new();
    let zero = world.line.in_force().unwrap().roster.clone();
    let before = world.line.clone();
    let proposed = world.propose(&promoted(), "operator");
    for by in ["ada", "leila"] {
        world.sign(decided(&proposed, Vote::Approve, by)).unwrap();
    }
    let one = world.line.in_force().unwrap().roster.clone();
    let anchor = RosterAnchor::new(0, Arc::clone(&zero));
    assert_eq!(anchor.judge(&RosterLine::default()).roster, zero);
    assert_eq!(anchor.judge(&world.line).roster, one);
    // What a node keeps of the line is the line, and mends a log that went back.
    let mut kept = World::default();
    kept.take(world.line.events());
    assert_eq!(kept.line.rosters(), world.line.rosters());
    assert_eq!(before.missing_of(&kept.line).len(), 1);
    assert_eq!(RosterLine::default().missing_of(&kept.line).len(), 2);
    assert!(world.line.missing_of(&kept.line).is_empty());
    // The event log went back.
    let newer = RosterAnchor::new(1, Arc::clone(&one));
    let judged = newer.judge(&before);
    assert_eq!((judged.number, &judged.roster), (1, &one));
    assert!(judged.finding.unwrap().contains("went back"));
    // Another history.
    let other = Roster::parse("roster.yaml", &first().replace("pete", "paul")).unwrap();
    let judged = RosterAnchor::new(0, Arc::new(other.clone())).judge(&world.line);
    assert_eq!(*judged.roster, other);
    assert!(judged.finding.unwrap().contains("another history"));
}

#[test]
fn of_an_earlier_roster_counts_what_still_holds() {
    let mut world = World::new();
    // Pete goes, and linus is no security-lead any more.
    let text: String = first()
        .split_inclusive('\n')
        .filter(|line| !line.contains("id: pete"))
        .collect();
    let text = text.replace(
        "roles: [on-call-sre, security-lead]",
        "roles: [on-call-sre]",
    );
    let proposed = world.propose(&text, "operator");
    for by in ["ada", "leila"] {
        world.sign(decided(&proposed, Vote::Approve, by)).unwrap();
    }
    let zero = world.line.at(0).unwrap().roster.clone();
    let anchor = RosterAnchor::new(0, Arc::clone(&zero));
    let then = anchor.named(&world.line, &zero.digest_hex());
    assert_eq!(then.digest(), zero.digest());
    let keys = |id: &str| then.person(id).unwrap().keys.len();
    assert_eq!([keys("ada"), keys("pete"), keys("linus")], [1, 0, 0]);
    let strange = anchor.named(&world.line, &"0".repeat(64));
    assert_eq!(
        strange.digest(),
        world.line.in_force().unwrap().roster.digest()
    );
}

const DAY_MS: i64 = 86_400_000;

fn away(person: &str, by: &str, (from_ms, until_ms, said_ms): (i64, i64, i64)) -> PersonAway {
    let mut away = PersonAway {
        person: person.to_owned(),
        from_ms,
        until_ms,
        said_ms,
        reason: "on leave".to_owned(),
        by: by.to_owned(),
        signature: String::new(),
    };
    let text = absence_text(("acme", Environment::Production), &away);
    away.signature = crate::approval::sign(&text, &key_of(by), Namespace::Approval).unwrap();
    away
}

#[test]
fn who_is_away_says_it_or_a_senior_and_it_ends() {
    let mut world = World::new();
    let day = (NOW_MS, NOW_MS + DAY_MS, NOW_MS);
    for (person, by) in [("grace", "grace"), ("pete", "bea")] {
        let events = absent(&world.line, away(person, by, day), NOW_MS).unwrap();
        world.take(events);
    }
    let at = |world: &World, at_ms| -> Vec<String> {
        let away = world.line.away_at(at_ms);
        away.map(|it| it.person.clone()).collect()
    };
    assert_eq!(at(&world, NOW_MS), ["grace", "pete"]);
    let present = world.line.present(NOW_MS).unwrap();
    assert!(present.person("grace").is_none() && present.person("ada").is_some());
    assert!(at(&world, NOW_MS - 1).is_empty() && at(&world, NOW_MS + DAY_MS).is_empty());
    // Back; what was said before is not said again.
    let back = away("grace", "grace", (NOW_MS + 1, NOW_MS + 1, NOW_MS + 1));
    let events = absent(&world.line, back.clone(), NOW_MS).unwrap();
    world.take(events);
    assert_eq!(at(&world, NOW_MS + 2), ["pete"]);
    assert_eq!(absent(&world.line, back, NOW_MS), Ok(Vec::new()));
    let old = away("grace", "grace", day);
    assert!(
        absent(&world.line, old.clone(), NOW_MS)
            .unwrap_err()
            .reason
            .contains("newer")
    );
    world.take(vec![Kind::PersonAway(old)]);
    assert_eq!(at(&world, NOW_MS + 2), ["pete"]);
}

#[test]
fn an_absence_that_was_not_signed_so_counts_for_nothing() {
    let mut world = World::new();
    let day = (NOW_MS, NOW_MS + DAY_MS, NOW_MS);
    let good = away("grace", "grace", day);
    let cases = [
        away("grace", "pete", day),
        away("mallory", "ada", day),
        away(
            "grace",
            "grace",
            (NOW_MS, NOW_MS + MAX_ABSENCE_MS + 1, NOW_MS),
        ),
        away("grace", "grace", (NOW_MS, NOW_MS - 1, NOW_MS)),
        PersonAway {
            until_ms: good.until_ms + 1,
            ..good.clone()
        },
        PersonAway {
            person: "ada".to_owned(),
            ..good.clone()
        },
        PersonAway {
            by: "ada".to_owned(),
            ..good.clone()
        },
    ];
    for case in cases {
        let refused = absent(&world.line, case.clone(), NOW_MS).unwrap_err();
        assert_eq!(refused.code, RejectionCode::Refused, "{refused}");
        world.take(vec![Kind::PersonAway(case)]);
    }
    assert_eq!(world.line.away().count(), 0);
    let early = absent(&world.line, good.clone(), NOW_MS - 10 * 60_000);
    assert_eq!(early.unwrap_err().code, RejectionCode::Invalid);
    world.take(vec![Kind::ApproverKeyRevoked(revocation(
        "grace", "bea", "stolen",
    ))]);
    let revoked = absent(&world.line, good, NOW_MS).unwrap_err();
    assert!(revoked.reason.contains("revoked"), "{revoked}");
}
