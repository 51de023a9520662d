//! Notices to people outside: signed beforehand, approved on the spot, or not sent.

use std::collections::BTreeMap;

use super::*;
use crate::approval::fixture::key_of;
use crate::approval::{Decision, Environment, Namespace, RefusalCode, Statement, sha256_hex, sign};
use sealwarden_wire::event::v1::ApproverKeyRevoked;
use ssh_key::HashAlg;

const LEGAL: &str = "leila.haddad";
const WORDS: &str = "samuel.reyes";
const TEMPLATE: &str = "notices/key-compromise.md";

/// The shipped plan with keys for everybody, and this template, signed by these people with the text that stands in the plan or another one.
fn plan(text: &str, signers: &[(&str, &str, Namespace)]) -> PlanSet {
    let shipped = PlanSet::load(&SHIPPED).unwrap();
    let people = shipped.roster().people().iter();
    let keys: BTreeMap<String, Vec<String>> = people
        .map(|person| {
            let key = key_of(&person.id).public_key().to_openssh().unwrap();
            (person.id.clone(), vec![key])
        })
        .collect();
    let roster = shipped.roster().with_trial_keys(&keys).unwrap().to_yaml();
    let signatures: String = signers
        .iter()
        .map(|(person, signed, namespace)| sign(signed, &key_of(person), *namespace).unwrap())
        .collect();
    let mut files: Vec<(&str, &str)> = SHIPPED
        .into_iter()
        .filter(|(name, _)| *name != "roster.yaml" && *name != TEMPLATE)
        .collect();
    files.push(("roster.yaml", &roster));
    files.push((TEMPLATE, text));
    files.push(("notices/key-compromise.md.sig", &signatures));
    PlanSet::load(&files).unwrap()
}

fn template() -> &'static str {
    let found = SHIPPED.iter().find(|(name, _)| *name == TEMPLATE);
    found.unwrap().1
}

fn world(plan: PlanSet) -> World {
    let mut world = World::opened("a checkpoint that nobody intended");
    world.plan = plan;
    world.reachable.insert("status".to_owned());
    world.classify(OPENED + 10);
    world
}

fn both(text: &str) -> Vec<(&'static str, &str, Namespace)> {
    vec![
        (LEGAL, text, Namespace::Notice),
        (WORDS, text, Namespace::Notice),
    ]
}

fn public(told: &[NoticePrepared]) -> Option<&NoticePrepared> {
    told.iter().find(|notice| notice.audience == "public")
}

#[test]
fn what_both_signed_beforehand_goes_out_once() {
    let mut world = world(plan(template(), &both(template())));
    let told = world.record(OPENED + 20);
    let notice = public(&told).unwrap();
    assert_eq!(notice.channels, ["status"], "and nowhere else");
    assert_eq!(notice.signed_beforehand, [LEGAL, WORDS]);
    assert!(notice.awaits.is_empty());
    for part in [
        "Reference: I-1",
        "On 2026-11-23T08:00:00Z",
        "before 2026-11-23T07:59:00Z",
    ] {
        assert!(notice.text.contains(part), "{part}: {}", notice.text);
    }
    let (sendings, _) = pending(&world.communication, OPENED + 20);
    assert!(
        sendings.iter().any(|s| s.channel == "status"),
        "{sendings:?}"
    );
    assert!(
        world.record(OPENED + 30).is_empty(),
        "nothing is told twice"
    );
}

#[test]
fn below_the_threshold_and_for_other_classes_nothing_is_made() {
    let text = template().replace("severity: high", "severity: critical");
    let mut world = world(plan(&text, &both(&text)));
    world.happen(
        OPENED + 15,
        Kind::IncidentClassified(IncidentClassified {
            class: "key-compromise".to_owned(),
            severity: "high".to_owned(),
            by: "person ada".to_owned(),
            compromised_since_ms: OPENED - MINUTE,
            ..IncidentClassified::default()
        }),
    );
    assert!(public(&world.record(OPENED + 20)).is_none());
    let text = template().replace("classes: [key-compromise]", "classes: [vendor-failure]");
    let mut other = self::world(plan(&text, &both(&text)));
    assert!(public(&other.record(OPENED + 20)).is_none());
}

#[test]
fn what_one_signed_waits_and_people_are_told_so() {
    for signers in [
        vec![],
        vec![(LEGAL, template(), Namespace::Notice)],
        // Two of one role are not both roles.
        vec![
            (LEGAL, template(), Namespace::Notice),
            ("pavel.novak", template(), Namespace::Notice),
        ],
    ] {
        let mut world = world(plan(template(), &signers));
        let told = world.record(OPENED + 20);
        let notice = public(&told).unwrap();
        assert_eq!(notice.awaits, ["legal-counsel", "communications-lead"]);
        assert!(told[0].text.contains("waits for signatures of legal-counsel and communications-lead. sealwarden notice list I-1"), "{}", told[0].text);
        let (sendings, _) = pending(&world.communication, OPENED + 20);
        assert!(
            sendings.iter().all(|s| s.channel != "status"),
            "{sendings:?}"
        );
        assert!(world.record(OPENED + 30).is_empty(), "and told so once");
    }
}

#[test]
fn a_template_that_was_changed_or_signed_wrongly_makes_no_notice() {
    let changed = template().replace("We have stopped using it.", "Send your keys to us.");
    assert_ne!(changed, template());
    let stranger = (LEGAL, template(), Namespace::Notice);
    for (text, signers, why) in [
        (
            changed.as_str(),
            both(template()),
            "was changed after leila.haddad signed it",
        ),
        (
            template(),
            vec![("nobody.known", template(), Namespace::Notice)],
            "is nobody's on the roster",
        ),
        (
            template(),
            vec![stranger, (WORDS, template(), Namespace::Approval)],
            "in the namespace \"sealwarden-approval\"",
        ),
    ] {
        let mut world = world(plan(text, &signers));
        let told = world.record(OPENED + 20);
        assert!(public(&told).is_none(), "{why}");
        assert!(
            told[0]
                .text
                .contains("key-compromise to people outside is NOT made"),
            "{}",
            told[0].text
        );
        assert!(told[0].text.contains(why), "{why}: {}", told[0].text);
        assert!(world.record(OPENED + 30).is_empty());
    }
    let mut world = world(plan(template(), &both(template())));
    world.revoked.add(&ApproverKeyRevoked {
        key_fingerprint: key_of(WORDS).fingerprint(HashAlg::Sha256).to_string(),
        ..ApproverKeyRevoked::default()
    });
    let told = world.record(OPENED + 20);
    assert!(public(&told).is_none(), "a stolen key signs nothing");
    assert!(told[0].text.contains("was revoked"), "{}", told[0].text);
}

/// A notice that a person wrote: number and text of a statement over it.
fn written(world: &mut World) -> u32 {
    let notice = NoticePrepared {
        audience: "public".to_owned(),
        title: "Seals are late".to_owned(),
        text: "We hold.\n".to_owned(),
        covers: vec!["public: told 1".to_owned()],
        channels: vec!["status".to_owned()],
        awaits: APPROVERS.map(str::to_owned).to_vec(),
        by: "person aiko.tanaka".to_owned(),
        ..NoticePrepared::default()
    };
    world
        .tell(Command::Prepare(Box::new(notice)), OPENED)
        .unwrap();
    u32::try_from(world.communication.notices.len()).unwrap()
}

fn statement(world: &World, number: u32, person: &str, decision: Decision) -> Statement {
    let prepared = &world.communication.notice(number).unwrap().prepared;
    let (runbook, runbook_digest) = source_of("I-1", prepared);
    Statement {
        installation: "acme".to_owned(),
        environment: Environment::Production,
        incident: "I-1".to_owned(),
        run: RUN.to_owned(),
        step: step_of(number),
        iteration: 0,
        runbook,
        runbook_digest,
        inputs_digest: notice_digest("I-1", prepared),
        roster_digest: world.plan.roster().digest_hex(),
        decision,
        approver: person.to_owned(),
        nonce: sha256_hex(
            format!("{person} {decision:?} {}", world.communication.nonces.len()).as_bytes(),
        )[..32]
            .to_owned(),
        expires_s: (OPENED + 20 * MINUTE) / 1000,
    }
}

fn submit(world: &mut World, statement: &Statement, at_ms: i64) -> Result<(), RefusalCode> {
    let text = statement.to_string();
    let signature = sign(&text, &key_of(&statement.approver), Namespace::Approval).unwrap();
    let ballot = Ballot {
        installation: "acme",
        environment: Environment::Production,
        incident: "I-1",
        roster: world.plan.roster(),
        revoked: &world.revoked,
        max_validity_ms: 30 * MINUTE,
    };
    let events = decide_notice(&world.communication, &ballot, &text, &signature, at_ms)
        .map_err(|refusal| refusal.code)?;
    for event in &events {
        world.communication.apply(&at(at_ms), event).unwrap();
    }
    Ok(())
}

#[test]
fn what_a_person_wrote_goes_out_when_others_of_both_roles_signed_it() {
    let mut world = world(plan(template(), &both(template())));
    let number = written(&mut world);
    let free = |world: &World| world.communication.notice(number).unwrap().is_free();
    for (person, code) in [
        ("aiko.tanaka", RefusalCode::Requester),
        ("ines.duarte", RefusalCode::WrongRole),
    ] {
        let own = statement(&world, number, person, Decision::Approve);
        assert_eq!(submit(&mut world, &own, OPENED), Err(code), "{person}");
    }
    let first = statement(&world, number, LEGAL, Decision::Approve);
    submit(&mut world, &first, OPENED).unwrap();
    assert!(!free(&world));
    assert!(
        submit(&mut world, &first, OPENED).is_err(),
        "a nonce is good once"
    );
    // Another text under the same number is another digest.
    let mut other = statement(&world, number, WORDS, Decision::Approve);
    other.inputs_digest = sha256_hex(b"another text");
    assert_eq!(
        submit(&mut world, &other, OPENED),
        Err(RefusalCode::StaleInputs)
    );
    let denial = statement(&world, number, WORDS, Decision::Deny);
    submit(&mut world, &denial, OPENED).unwrap();
    assert!(!free(&world));
    let second = statement(&world, number, WORDS, Decision::Approve);
    submit(&mut world, &second, OPENED + 1).unwrap();
    assert!(free(&world));
    let since_ms = world.communication.notice(number).unwrap().freed_at_ms;
    assert_eq!(since_ms, Some(OPENED + 1), "since then it may be read");
    // Once it is on its way nobody decides any more.
    let (sendings, _) = pending(&world.communication, OPENED + 2);
    world.start(&sendings[0], OPENED + 2).unwrap();
    let late = statement(&world, number, "pavel.novak", Decision::Deny);
    assert_eq!(
        submit(&mut world, &late, OPENED + 3),
        Err(RefusalCode::StepClosed)
    );
}

#[test]
fn approvals_that_ran_out_before_the_others_came_do_not_count() {
    let mut world = world(plan(template(), &both(template())));
    let number = written(&mut world);
    let first = statement(&world, number, LEGAL, Decision::Approve);
    submit(&mut world, &first, OPENED).unwrap();
    let mut second = statement(&world, number, WORDS, Decision::Approve);
    second.expires_s += 600;
    submit(&mut world, &second, OPENED + 21 * MINUTE).unwrap();
    let notice = world.communication.notice(number).unwrap();
    assert!(!notice.is_free());
    assert!(missing(notice, OPENED + 21 * MINUTE).contains("legal-counsel"));
}
