//! The fold of `node/<id>`: what is on record about one node.

use sealwarden_domain::fold::event;
use sealwarden_domain::{Fold, IllegalEvent};
use sealwarden_wire::event::v1::{Envelope, Event, NodeEnrolled, ServiceAnnounced, event::Kind};

/// What is on record.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeFacts {
    /// Enrolled verifier key; empty before.
    pub(crate) vkey: String,
    /// Latest addresses.
    pub(crate) announced: Option<ServiceAnnounced>,
}

impl NodeFacts {
    /// Enrols, unless this key is enrolled already.
    pub(crate) fn enrol(&self, enrolled: &NodeEnrolled) -> Vec<Event> {
        if self.vkey == enrolled.vkey {
            Vec::new()
        } else {
            vec![event(Kind::NodeEnrolled(enrolled.clone()))]
        }
    }
}

impl Fold for NodeFacts {
    fn apply(&mut self, envelope: &Envelope, event: &Event) -> Result<(), IllegalEvent> {
        match &event.kind {
            Some(Kind::NodeEnrolled(e)) => e.vkey.clone_into(&mut self.vkey),
            Some(Kind::ServiceAnnounced(e)) => self.announced = Some(e.clone()),
            None => {} // written by a newer version: not known to this one
            Some(_) => {
                return Err(IllegalEvent::new(
                    envelope,
                    "an event of another stream in a node's stream",
                ));
            }
        }
        Ok(())
    }
}
