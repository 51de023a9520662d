//! Vendors whose services this installation uses: whether they answer, and which one stands in for which.
//!
//! **Invariants:** a probe that nobody asked for is recorded only if it says something else than the one before it; a vendor is set aside for one fallback at a time.

use sealwarden_wire::event::v1::{
    Envelope, Event, VendorProbed, VendorSetAside, VendorTakenBack, event::Kind,
};

use crate::fold::{Fold, IllegalEvent, Rejection, RejectionCode, event};

/// Folded state of `vendor/<name>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vendor {
    /// The last probe.
    pub last: Option<VendorProbed>,
    /// Which vendor stands in for it.
    pub aside: Option<VendorSetAside>,
    /// How it served again last.
    pub taken_back: Option<VendorTakenBack>,
}

/// A command about a vendor.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// It was probed; `scheduled` if nobody asked for it.
    Probe {
        /// What it came to.
        probed: VendorProbed,
        /// Whether it was time, and nobody asked.
        scheduled: bool,
    },
    /// Another one stands in for it.
    SetAside(VendorSetAside),
    /// It serves again.
    TakeBack(VendorTakenBack),
}

/// Decides a command. No events means that it is already so.
pub fn decide(state: &Vendor, command: Command) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::Probe { probed, scheduled } => {
            // A vendor that was well from the beginning is worth no event.
            let known = state.last.as_ref().is_none_or(|last| last.well);
            Ok(if scheduled && known == probed.well {
                Vec::new()
            } else {
                vec![event(Kind::VendorProbed(probed))]
            })
        }
        Command::SetAside(e) => match &state.aside {
            Some(aside) if aside.fallback == e.fallback => Ok(Vec::new()),
            Some(aside) => Err(Rejection::new(
                RejectionCode::Refused,
                format!(
                    "{} stands in for {} already; take {} back before {} does",
                    aside.fallback, e.vendor, e.vendor, e.fallback
                ),
            )),
            None => Ok(vec![event(Kind::VendorSetAside(e))]),
        },
        Command::TakeBack(e) => Ok(if state.aside.is_some() {
            vec![event(Kind::VendorTakenBack(e))]
        } else {
            Vec::new()
        }),
    }
}

impl Fold for Vendor {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        let own = |vendor: &str| envelope.stream == format!("vendor/{vendor}");
        match &event.kind {
            Some(Kind::VendorProbed(e)) if own(&e.vendor) => self.last = Some(e.clone()),
            Some(Kind::VendorSetAside(e)) if own(&e.vendor) => self.aside = Some(e.clone()),
            Some(Kind::VendorTakenBack(e)) if own(&e.vendor) => {
                self.aside = None;
                self.taken_back = Some(e.clone());
            }
            None => {} // a kind that a newer version writes
            Some(_) => {
                let reason = format!("an event of another stream in {}", envelope.stream);
                return Err(IllegalEvent::new(envelope, reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(well: bool, scheduled: bool) -> Command {
        Command::Probe {
            probed: VendorProbed {
                vendor: "stamps".to_owned(),
                well,
                ..VendorProbed::default()
            },
            scheduled,
        }
    }

    fn aside(fallback: &str) -> Command {
        Command::SetAside(VendorSetAside {
            vendor: "stamps".to_owned(),
            fallback: fallback.to_owned(),
            ..VendorSetAside::default()
        })
    }

    fn back() -> Command {
        Command::TakeBack(VendorTakenBack {
            vendor: "stamps".to_owned(),
            ..VendorTakenBack::default()
        })
    }

    /// Decides and folds; how many events there were.
    fn tell(state: &mut Vendor, command: Command) -> Result<usize, Rejection> {
        let envelope = Envelope {
            stream: "vendor/stamps".to_owned(),
            ..Envelope::default()
        };
        let events = decide(state, command)?;
        for one in &events {
            state.apply(&envelope, one).unwrap();
        }
        Ok(events.len())
    }

    #[test]
    fn only_news_and_what_somebody_asked_for_is_recorded() {
        let state = &mut Vendor::default();
        assert_eq!(tell(state, probe(true, true)), Ok(0));
        assert_eq!(tell(state, probe(true, false)), Ok(1));
        assert_eq!(tell(state, probe(false, true)), Ok(1));
        assert_eq!(tell(state, probe(false, true)), Ok(0));
        assert_eq!(tell(state, probe(true, true)), Ok(1));
    }

    #[test]
    fn one_stands_in_at_a_time_and_until_it_is_taken_back() {
        let state = &mut Vendor::default();
        assert_eq!(tell(state, back()), Ok(0));
        assert_eq!(tell(state, aside("other")), Ok(1));
        assert_eq!(tell(state, aside("other")), Ok(0));
        assert!(
            tell(state, aside("third"))
                .unwrap_err()
                .reason
                .contains("already")
        );
        assert_eq!(tell(state, back()), Ok(1));
        assert_eq!(tell(state, aside("third")), Ok(1));
    }

    #[test]
    fn a_stream_holds_its_own_events() {
        let envelope = Envelope {
            stream: "vendor/other".to_owned(),
            ..Envelope::default()
        };
        let foreign = decide(&Vendor::default(), aside("x")).unwrap();
        assert!(Vendor::default().apply(&envelope, &foreign[0]).is_err());
    }
}
