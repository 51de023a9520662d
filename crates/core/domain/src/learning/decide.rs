//! Commands about postmortems and action items.

use sealwarden_runbook::Roster;
use sealwarden_seal::merkle::Hash;
use sealwarden_wire::event::v1::{
    ActionItemAdded, ActionItemChecked, ActionItemDone, ActionItemDropped, ActionItemMoved, Event,
    PostmortemApproved, PostmortemRecorded, event::Kind,
};

use super::complete::check_complete;
use super::publication::{APPROVER_ROLE, publication_statement};
use super::state::{Audience, Item, Learning, Postmortem};
use super::{MAX_ITEMS, MAX_POSTMORTEM_BYTES};
use crate::approval::{Environment, Signature};
use crate::fold::{Rejection, RejectionCode, event};
use crate::incident::{Incident, time_text};

/// The longest title, reason or reference, in bytes.
const MAX_WORDS: usize = 2048;

/// A command about what was learned. `by` is `person NAME` throughout.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Records a postmortem. The same text as the newest one is recorded once.
    Record {
        /// Markdown with front matter, which says for whom it is.
        text: String,
        /// Who wrote it.
        by: String,
    },
    /// Somebody signed that the newest public postmortem may go out.
    Approve {
        /// The installation's name.
        installation: String,
        /// Where it stands.
        environment: Environment,
        /// What was signed.
        statement: String,
        /// Armored SSHSIG.
        signature: String,
    },
    /// A new action item; its name is filled in here. The same title is added once.
    Add(ActionItemAdded),
    /// Another owner or date; what is empty or 0 stays.
    Move(ActionItemMoved),
    /// It is done.
    Done(ActionItemDone),
    /// Somebody else looked.
    Check(ActionItemChecked),
    /// It will not be done.
    Drop(ActionItemDropped),
}

/// Decides a command. No events means that it is already so.
pub fn decide(
    incident: &Incident,
    roster: &Roster,
    command: Command,
) -> Result<Vec<Event>, Rejection> {
    let Some(opened) = &incident.opened else {
        return Err(refuse(RejectionCode::NotFound, "there is no such incident"));
    };
    let learning = &incident.learning;
    match command {
        Command::Record { text, by } => {
            if incident.is_open() {
                return Err(refuse(
                    RejectionCode::NotNow,
                    "the incident is still open: a postmortem is recorded when it is closed, and can be drafted before",
                ));
            }
            record(learning, &opened.incident, text, by)
        }
        Command::Approve {
            installation,
            environment,
            statement,
            signature,
        } => {
            let public = learning
                .postmortems
                .get(&Audience::Public)
                .ok_or_else(|| refuse(RejectionCode::NotNow, "no public postmortem is recorded"))?;
            let expected = |approver: &str| {
                publication_statement(
                    &installation,
                    environment,
                    &opened.incident,
                    &public.recorded,
                    approver,
                )
            };
            let namespace = environment.namespace().as_str();
            approve(public, roster, &expected, namespace, &statement, &signature)
        }
        Command::Add(item) => add(learning, roster, item),
        Command::Move(moved) => move_to(learning, roster, moved),
        Command::Done(done) => {
            let item = unfinished(learning, &done.item)?;
            words("reference", &done.reference)?;
            if item.done_by.is_some() {
                return Ok(Vec::new());
            }
            Ok(vec![event(Kind::ActionItemDone(done))])
        }
        Command::Check(checked) => check(learning, checked),
        Command::Drop(dropped) => {
            words("reason", &dropped.reason)?;
            let item = known(learning, &dropped.item)?;
            if item.is_dropped {
                return Ok(Vec::new());
            }
            unfinished(learning, &dropped.item)?;
            Ok(vec![event(Kind::ActionItemDropped(dropped))])
        }
    }
}

fn refuse(code: RejectionCode, reason: impl Into<String>) -> Rejection {
    Rejection::new(code, reason.into())
}

fn words(name: &str, text: &str) -> Result<(), Rejection> {
    let bytes = text.len();
    if text.trim().is_empty() {
        let reason = format!("{name} is empty: an auditor will ask");
        return Err(refuse(RejectionCode::Invalid, reason));
    }
    if bytes > MAX_WORDS || text.chars().any(char::is_control) {
        let reason = format!(
            "{name} has {bytes} bytes or more than one line; say it in one line of at most {MAX_WORDS} bytes"
        );
        return Err(refuse(RejectionCode::Invalid, reason));
    }
    Ok(())
}

fn record(
    learning: &Learning,
    incident: &str,
    text: String,
    by: String,
) -> Result<Vec<Event>, Rejection> {
    if text.trim().is_empty() || text.len() > MAX_POSTMORTEM_BYTES {
        let reason = format!(
            "the postmortem has {} bytes; it must have 1 to {MAX_POSTMORTEM_BYTES}",
            text.len()
        );
        return Err(refuse(RejectionCode::Invalid, reason));
    }
    let audience = check_complete(&text, incident)
        .map_err(|problem| refuse(RejectionCode::Invalid, problem))?;
    let newest = learning.postmortems.get(&audience).map(|it| &it.recorded);
    if newest.is_some_and(|newest| newest.text == text) {
        return Ok(Vec::new());
    }
    let recorded = PostmortemRecorded {
        audience: audience.to_string(),
        version: newest.map_or(0, |newest| newest.version).saturating_add(1),
        sha256: Hash::of(text.as_bytes()).to_string(),
        text,
        by,
    };
    Ok(vec![event(Kind::PostmortemRecorded(recorded))])
}

fn approve(
    public: &Postmortem,
    roster: &Roster,
    expected: &dyn Fn(&str) -> String,
    namespace: &str,
    statement: &str,
    signature: &str,
) -> Result<Vec<Event>, Rejection> {
    let refused = |reason: String| refuse(RejectionCode::Refused, reason);
    let read = Signature::parse(signature).map_err(|e| refused(e.to_string()))?;
    let fingerprint = read.fingerprint();
    let (person, _) = roster
        .by_fingerprint(&fingerprint)
        .ok_or_else(|| refused(format!("key {fingerprint} belongs to nobody on the roster")))?;
    if !person
        .roles
        .iter()
        .any(|role| role.as_str() == APPROVER_ROLE)
    {
        return Err(refused(format!(
            "{} is not {APPROVER_ROLE}: only that role lets a postmortem go out",
            person.id
        )));
    }
    if read.namespace() != namespace {
        return Err(refused(format!(
            "it was signed in the namespace {:?}; this installation's is {namespace}",
            read.namespace()
        )));
    }
    if statement != expected(&person.id) {
        return Err(refused(format!(
            "the statement is not about version {} of the public postmortem (sha256 {}), approved by {}",
            public.recorded.version, public.recorded.sha256, person.id
        )));
    }
    read.verify(statement).map_err(|e| refused(e.to_string()))?;
    if public.recorded.by == format!("person {}", person.id) {
        return Err(refused(format!(
            "{} wrote it: somebody else has to let it go out",
            person.id
        )));
    }
    if public.approved.is_some() {
        return Ok(Vec::new());
    }
    Ok(vec![event(Kind::PostmortemApproved(PostmortemApproved {
        version: public.recorded.version,
        sha256: public.recorded.sha256.clone(),
        person: person.id.clone(),
        statement: statement.to_owned(),
        signature: signature.to_owned(),
    }))])
}

fn owner(roster: &Roster, owner: &str) -> Result<(), Rejection> {
    if roster.person(owner).is_some() {
        return Ok(());
    }
    let people: Vec<&str> = roster.people().iter().map(|it| it.id.as_str()).collect();
    let reason = format!(
        "nobody on the roster is {owner:?}; an owner is one of {}",
        people.join(", ")
    );
    Err(refuse(RejectionCode::Invalid, reason))
}

fn due(due_at_ms: i64) -> Result<(), Rejection> {
    if due_at_ms > 0 && !time_text(due_at_ms).is_empty() {
        return Ok(());
    }
    Err(refuse(
        RejectionCode::Invalid,
        "an action item needs a date by which it is done",
    ))
}

fn add(
    learning: &Learning,
    roster: &Roster,
    mut item: ActionItemAdded,
) -> Result<Vec<Event>, Rejection> {
    words("title", &item.title)?;
    words("verification", &item.verification)?;
    owner(roster, &item.owner)?;
    due(item.due_at_ms)?;
    let same = |known: &&Item| known.added.title == item.title && !known.is_dropped;
    if learning.items.iter().find(same).is_some() {
        return Ok(Vec::new());
    }
    if learning.items.len() >= MAX_ITEMS {
        let reason = format!("the incident has {MAX_ITEMS} action items, which is the most");
        return Err(refuse(RejectionCode::Refused, reason));
    }
    item.item = format!("A{}", learning.items.len() + 1);
    Ok(vec![event(Kind::ActionItemAdded(item))])
}

fn move_to(
    learning: &Learning,
    roster: &Roster,
    mut moved: ActionItemMoved,
) -> Result<Vec<Event>, Rejection> {
    let item = unfinished(learning, &moved.item)?;
    words("reason", &moved.reason)?;
    if moved.owner.is_empty() {
        moved.owner.clone_from(&item.added.owner);
    }
    if moved.due_at_ms == 0 {
        moved.due_at_ms = item.added.due_at_ms;
    }
    owner(roster, &moved.owner)?;
    due(moved.due_at_ms)?;
    let (known_owner, known_due) = (&item.added.owner, item.added.due_at_ms);
    if (known_owner, known_due) == (&moved.owner, moved.due_at_ms) {
        return Ok(Vec::new());
    }
    Ok(vec![event(Kind::ActionItemMoved(moved))])
}

fn check(learning: &Learning, checked: ActionItemChecked) -> Result<Vec<Event>, Rejection> {
    words("found", &checked.found)?;
    let item = known(learning, &checked.item)?;
    if item.is_checked && checked.done {
        return Ok(Vec::new());
    }
    let Some(doer) = item.done_by.as_ref().filter(|_| !item.is_dropped) else {
        let reason = format!(
            "nobody said that {} is done; its owner does with `items done`",
            checked.item
        );
        return Err(refuse(RejectionCode::NotNow, reason));
    };
    if *doer == checked.by {
        let reason = format!(
            "{doer} did {} themselves: somebody else has to look",
            checked.item
        );
        return Err(refuse(RejectionCode::Refused, reason));
    }
    Ok(vec![event(Kind::ActionItemChecked(checked))])
}

fn known<'l>(learning: &'l Learning, name: &str) -> Result<&'l Item, Rejection> {
    learning.item(name).ok_or_else(|| {
        let names: Vec<&str> = learning
            .items
            .iter()
            .map(|it| it.added.item.as_str())
            .collect();
        let reason = if names.is_empty() {
            format!("the incident has no action items, so none named {name:?}")
        } else {
            format!(
                "the incident has no action item {name:?}; it has {}",
                names.join(", ")
            )
        };
        refuse(RejectionCode::NotFound, reason)
    })
}

/// An item that can still be done, moved or dropped.
fn unfinished<'l>(learning: &'l Learning, name: &str) -> Result<&'l Item, Rejection> {
    let item = known(learning, name)?;
    if item.is_checked || item.is_dropped {
        let word = if item.is_dropped {
            "dropped"
        } else {
            "checked"
        };
        let reason = format!("{name} is {word}: nothing changes any more; add a new item");
        return Err(refuse(RejectionCode::NotNow, reason));
    }
    Ok(item)
}
