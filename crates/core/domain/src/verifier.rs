//! Verifiers that others run: whether they still say what is known of archived documents.
//!
//! **Invariant:** a comparison that nobody asked for is recorded only if it says something else than the one before it.

use std::collections::BTreeSet;

use sealwarden_wire::event::v1::{Envelope, Event, VerdictsCompared, event::Kind};

use crate::fold::{Fold, IllegalEvent, event};

/// Who compares when it is time.
pub const SCHEDULE: &str = "schedule";

/// Folded state of `verifier/<name>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verifier {
    /// The last comparison.
    pub last: Option<VerdictsCompared>,
    /// Those in which it agreed, the last one last; of the same releases only the last, and at most [`REMEMBERED`].
    pub agreed: Vec<VerdictsCompared>,
}

/// How many sets of releases that agreed are remembered.
pub const REMEMBERED: usize = 32;

/// Whether it said of every document what is known of it.
pub fn agrees(compared: &VerdictsCompared) -> bool {
    compared.problem.is_empty() && compared.different == 0 && compared.compared > 0
}

/// What one comparison says, without counts and times.
fn said(compared: &VerdictsCompared) -> (bool, bool, BTreeSet<(&str, bool)>) {
    let releases = compared.releases.iter();
    let releases = releases.map(|it| (it.release.as_str(), it.different > 0));
    let silent = !compared.problem.is_empty();
    (silent, compared.different > 0, releases.collect())
}

fn releases(compared: &VerdictsCompared) -> BTreeSet<&str> {
    let releases = compared.releases.iter();
    releases.map(|it| it.release.as_str()).collect()
}

/// A comparison beside what agreed last: with releases that do not differ now. A release that agreed at first and differs since is nothing to go back to.
pub fn beside_history(state: &Verifier, mut compared: VerdictsCompared) -> VerdictsCompared {
    let differing = |name: &str| {
        let mut releases = compared.releases.iter();
        releases.any(|it| it.different > 0 && it.release == name)
    };
    let sound = |it: &&VerdictsCompared| !releases(it).into_iter().any(differing);
    let agreed = state.agreed.iter().rev().find(sound).cloned();
    if let Some(agreed) = agreed {
        compared.agreed_at_ms = agreed.at_ms;
        compared.agreed_releases = agreed.releases.into_iter().map(|it| it.release).collect();
    }
    compared
}

/// Records a comparison, with what was known before it. No events means that it says nothing new.
pub fn decide(state: &Verifier, compared: VerdictsCompared) -> Vec<Event> {
    let is_known = state
        .last
        .as_ref()
        .is_some_and(|last| said(last) == said(&compared));
    if compared.by == SCHEDULE && is_known {
        return Vec::new();
    }
    vec![event(Kind::VerdictsCompared(beside_history(
        state, compared,
    )))]
}

impl Fold for Verifier {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        match &event.kind {
            Some(Kind::VerdictsCompared(e))
                if envelope.stream == format!("verifier/{}", e.verifier) =>
            {
                if agrees(e) {
                    self.agreed.retain(|it| releases(it) != releases(e));
                    if self.agreed.len() >= REMEMBERED {
                        self.agreed.remove(0);
                    }
                    self.agreed.push(e.clone());
                }
                self.last = Some(e.clone());
                Ok(())
            }
            None => Ok(()), // a kind that a newer version writes
            Some(_) => Err(IllegalEvent::new(
                envelope,
                format!("an event of another stream in {}", envelope.stream),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use sealwarden_wire::event::v1::ReleaseCompared;

    use super::*;

    fn compared(by: &str, release: &str, different: u64) -> VerdictsCompared {
        VerdictsCompared {
            verifier: "fleet".to_owned(),
            by: by.to_owned(),
            compared: 9,
            different,
            releases: vec![ReleaseCompared {
                release: release.to_owned(),
                compared: 9,
                different,
                ..ReleaseCompared::default()
            }],
            at_ms: 5,
            ..VerdictsCompared::default()
        }
    }

    fn folded(events: &[VerdictsCompared]) -> Verifier {
        let envelope = Envelope {
            stream: "verifier/fleet".to_owned(),
            ..Envelope::default()
        };
        let mut state = Verifier::default();
        for one in events {
            state
                .apply(&envelope, &event(Kind::VerdictsCompared(one.clone())))
                .unwrap();
        }
        state
    }

    #[test]
    fn only_news_and_what_somebody_asked_for_is_recorded() {
        let state = folded(&[compared(SCHEDULE, "1", 0)]);
        assert!(decide(&state, compared(SCHEDULE, "1", 0)).is_empty());
        assert_eq!(decide(&state, compared("person ada", "1", 0)).len(), 1);
        assert_eq!(decide(&state, compared(SCHEDULE, "2", 0)).len(), 1);
        assert_eq!(decide(&state, compared(SCHEDULE, "1", 1)).len(), 1);
        let state = folded(&[compared(SCHEDULE, "1", 1)]);
        assert!(decide(&state, compared(SCHEDULE, "1", 7)).is_empty());
    }

    #[test]
    fn what_agreed_last_stands_beside_what_does_not() {
        let state = folded(&[compared(SCHEDULE, "1", 0), compared(SCHEDULE, "2", 3)]);
        let events = decide(&state, compared("person ada", "2", 3));
        let Some(Kind::VerdictsCompared(told)) = &events[0].kind else {
            panic!("{events:?}");
        };
        assert_eq!(
            (told.agreed_releases.as_slice(), told.agreed_at_ms),
            (["1".to_owned()].as_slice(), 5)
        );
        let nothing = VerdictsCompared {
            compared: 0,
            ..compared(SCHEDULE, "1", 0)
        };
        assert!(!agrees(&nothing));
    }

    #[test]
    fn a_release_that_agreed_at_first_is_nothing_to_go_back_to() {
        let state = folded(&[compared(SCHEDULE, "1", 0), compared(SCHEDULE, "2", 0)]);
        let told = beside_history(&state, compared(SCHEDULE, "2", 4));
        assert_eq!(told.agreed_releases, ["1"]);
        let told = beside_history(&state, compared(SCHEDULE, "3", 4));
        assert_eq!(told.agreed_releases, ["2"]);
        let many: Vec<_> = (0..100)
            .map(|n| compared(SCHEDULE, &n.to_string(), 0))
            .collect();
        assert_eq!(folded(&many).agreed.len(), REMEMBERED);
    }

    #[test]
    fn a_stream_holds_its_own_events() {
        let envelope = Envelope {
            stream: "verifier/other".to_owned(),
            ..Envelope::default()
        };
        let foreign = event(Kind::VerdictsCompared(compared(SCHEDULE, "1", 0)));
        assert!(Verifier::default().apply(&envelope, &foreign).is_err());
    }
}
