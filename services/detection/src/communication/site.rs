//! What stands on status pages: every notice to everybody that may be sent, and whether its incident is over.
//!
//! Pages are written when a notice is delivered, when an incident whose notices stand there ends, and when the service starts: what somebody changed or lost there is as
//! it was.

use std::collections::{BTreeMap, BTreeSet};

use sealwarden_channels::page::{PublicIncident, PublicNotice};
use sealwarden_domain::communication::{Communication, Situation};
use sealwarden_domain::incident::time_text;
use sealwarden_runbook::Audience;

use crate::state::State;

/// What of an incident stands on the pages: how many notices, and whether it is open.
type Standing = (usize, bool);

/// What was seen of the incidents that stand there, and the channels whose pages say something older.
#[derive(Debug, Default)]
pub(super) struct Site {
    seen: BTreeMap<String, Standing>,
    pub(super) stale: BTreeSet<String>,
}

impl Site {
    /// Takes in how an incident stands; where that is new, the pages of these channels are stale.
    pub(super) fn take_in<'a>(
        &mut self,
        id: &str,
        standing: Standing,
        pages: impl Iterator<Item = &'a String>,
    ) {
        if standing.0 > 0 && self.seen.insert(id.to_owned(), standing) != Some(standing) {
            self.stale.extend(pages.cloned());
        }
    }
}

/// How an incident stands on the pages.
pub(super) fn standing(situation: &Situation<'_>) -> Standing {
    let shown = notices(situation.communication).count();
    (shown, situation.incident.is_open())
}

fn notices(told: &Communication) -> impl Iterator<Item = PublicNotice> + '_ {
    let public = |audience: &str| audience == Audience::Public.as_str();
    told.notices.iter().filter_map(move |notice| {
        let prepared = &notice.prepared;
        let at_ms = notice.freed_at_ms.filter(|_| notice.is_free())?;
        public(&prepared.audience).then(|| PublicNotice {
            number: prepared.number,
            title: prepared.title.clone(),
            text: prepared.text.clone(),
            at_ms,
            at: time_text(at_ms),
            language: prepared.language.clone(),
        })
    })
}

/// Everything that may be read.
pub(super) fn public(state: &State) -> Vec<PublicIncident> {
    let shown = state.communications.iter().filter_map(|(id, told)| {
        let notices: Vec<PublicNotice> = notices(told).collect();
        let over = state.incidents.get(id).is_none_or(|i| !i.is_open());
        (!notices.is_empty()).then(|| PublicIncident {
            id: id.clone(),
            over,
            notices,
        })
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_stale_when_what_stands_there_changed() {
        let pages = ["status".to_owned()];
        let mut site = Site::default();
        site.take_in("I-1", (0, true), pages.iter());
        assert!(site.stale.is_empty(), "nothing of it stands there");
        for (standing, stale) in [
            ((1, true), true),
            ((1, true), false),
            ((1, false), true),
            ((2, false), true),
        ] {
            site.take_in("I-1", standing, pages.iter());
            assert_eq!(!site.stale.is_empty(), stale, "{standing:?}");
            site.stale.clear();
        }
    }
}
