//! Postmortems and action items, folded.

use std::collections::BTreeMap;
use std::fmt;

use sealwarden_wire::event::v1::{
    ActionItemAdded, ActionItemChecked, ActionItemDone, ActionItemDropped, ActionItemMoved,
    PostmortemApproved, PostmortemRecorded, event::Kind,
};

/// For whom a postmortem is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Audience {
    /// Everybody who answers for the installation.
    Internal,
    /// Customers and the public: it goes out only with a signature.
    Public,
}

impl Audience {
    /// The word in files and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Public => "public",
        }
    }

    /// Reads the word; `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "internal" => Some(Self::Internal),
            "public" => Some(Self::Public),
            _ => None,
        }
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was learned of one incident.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Learning {
    /// The newest postmortem for each audience.
    pub postmortems: BTreeMap<Audience, Postmortem>,
    /// Action items in the order in which they were added.
    pub items: Vec<Item>,
}

/// A recorded postmortem.
#[derive(Clone, Debug, PartialEq)]
pub struct Postmortem {
    /// What was recorded.
    pub recorded: PostmortemRecorded,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// The signature under which it may go out.
    pub approved: Option<Approval>,
}

/// A signature under a public postmortem.
#[derive(Clone, Debug, PartialEq)]
pub struct Approval {
    /// What was signed by whom.
    pub approved: PostmortemApproved,
    /// When, Unix milliseconds.
    pub at_ms: i64,
}

/// How an action item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Somebody has to do it.
    Open,
    /// Somebody had to have done it by now.
    Overdue,
    /// Its doer says so; nobody else has looked.
    Done,
    /// Somebody else looked.
    Checked,
    /// It will not be done.
    Dropped,
}

impl Standing {
    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Overdue => "overdue",
            Self::Done => "done",
            Self::Checked => "checked",
            Self::Dropped => "dropped",
        }
    }
}

/// An action item.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// As it was added; owner and date as they were moved.
    pub added: ActionItemAdded,
    /// When it was added, Unix milliseconds.
    pub added_at_ms: i64,
    /// Who says that it is done.
    pub done_by: Option<String>,
    /// Whether somebody else looked and agrees.
    pub is_checked: bool,
    /// Whether it will not be done.
    pub is_dropped: bool,
    /// When it was done, checked or dropped, Unix milliseconds; 0 while it is open.
    pub ended_at_ms: i64,
    /// What was said last, and by whom.
    pub remark: String,
    /// Who said it.
    pub by: String,
}

impl Item {
    /// How it stands at a time, Unix milliseconds.
    pub fn standing(&self, now_ms: i64) -> Standing {
        match (self.is_dropped, self.is_checked, &self.done_by) {
            (true, ..) => Standing::Dropped,
            (_, true, _) => Standing::Checked,
            (.., Some(_)) => Standing::Done,
            (.., None) if self.added.due_at_ms < now_ms => Standing::Overdue,
            (.., None) => Standing::Open,
        }
    }

    /// Whether a release waits for it.
    pub fn stops_releases(&self, now_ms: i64) -> bool {
        self.added.gates_releases && self.standing(now_ms) == Standing::Overdue
    }

    fn say(&mut self, remark: &str, by: &str) {
        remark.clone_into(&mut self.remark);
        by.clone_into(&mut self.by);
    }
}

impl Learning {
    /// The action item of this name.
    pub fn item(&self, name: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.added.item == name)
    }

    fn item_mut(&mut self, name: &str) -> Result<&mut Item, String> {
        self.items
            .iter_mut()
            .find(|item| item.added.item == name)
            .ok_or_else(|| format!("there is no action item {name}"))
    }

    /// Folds one event of this kind; the error says what does not fit.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the incident's fold sends only these here"
    )]
    pub(crate) fn apply(&mut self, kind: &Kind, at_ms: i64) -> Result<(), String> {
        match kind {
            Kind::PostmortemRecorded(e) => self.recorded(e, at_ms),
            Kind::PostmortemApproved(e) => self.approved(e, at_ms)?,
            Kind::ActionItemAdded(e) => self.added(e, at_ms)?,
            Kind::ActionItemMoved(e) => self.moved(e)?,
            Kind::ActionItemDone(e) => self.done(e, at_ms)?,
            Kind::ActionItemChecked(e) => self.checked(e, at_ms)?,
            Kind::ActionItemDropped(e) => self.dropped(e, at_ms)?,
            _ => return Err("it says nothing of what was learned".to_owned()),
        }
        Ok(())
    }

    fn recorded(&mut self, e: &PostmortemRecorded, at_ms: i64) {
        // An audience of a newer version is not known to this one.
        if let Some(audience) = Audience::parse(&e.audience) {
            let postmortem = Postmortem {
                recorded: e.clone(),
                at_ms,
                approved: None,
            };
            self.postmortems.insert(audience, postmortem);
        }
    }

    fn approved(&mut self, e: &PostmortemApproved, at_ms: i64) -> Result<(), String> {
        let public = self.postmortems.get_mut(&Audience::Public);
        let of_text = public.filter(|it| it.recorded.sha256 == e.sha256);
        let postmortem =
            of_text.ok_or_else(|| format!("no public postmortem has the digest {:?}", e.sha256))?;
        postmortem.approved = Some(Approval {
            approved: e.clone(),
            at_ms,
        });
        Ok(())
    }

    fn added(&mut self, e: &ActionItemAdded, at_ms: i64) -> Result<(), String> {
        if self.item(&e.item).is_some() {
            return Err(format!("action item {} is added twice", e.item));
        }
        self.items.push(Item {
            added: e.clone(),
            added_at_ms: at_ms,
            done_by: None,
            is_checked: false,
            is_dropped: false,
            ended_at_ms: 0,
            remark: String::new(),
            by: e.by.clone(),
        });
        Ok(())
    }

    fn moved(&mut self, e: &ActionItemMoved) -> Result<(), String> {
        let item = self.item_mut(&e.item)?;
        e.owner.clone_into(&mut item.added.owner);
        item.added.due_at_ms = e.due_at_ms;
        item.say(&e.reason, &e.by);
        Ok(())
    }

    fn done(&mut self, e: &ActionItemDone, at_ms: i64) -> Result<(), String> {
        let item = self.item_mut(&e.item)?;
        item.done_by = Some(e.by.clone());
        item.ended_at_ms = at_ms;
        item.say(&e.reference, &e.by);
        Ok(())
    }

    fn checked(&mut self, e: &ActionItemChecked, at_ms: i64) -> Result<(), String> {
        let item = self.item_mut(&e.item)?;
        item.is_checked = e.done;
        item.ended_at_ms = if e.done { at_ms } else { 0 };
        if !e.done {
            item.done_by = None;
        }
        item.say(&e.found, &e.by);
        Ok(())
    }

    fn dropped(&mut self, e: &ActionItemDropped, at_ms: i64) -> Result<(), String> {
        let item = self.item_mut(&e.item)?;
        item.is_dropped = true;
        item.ended_at_ms = at_ms;
        item.say(&e.reason, &e.by);
        Ok(())
    }
}
