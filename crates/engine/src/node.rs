//! What a process role is given to work with.

use std::path::PathBuf;
use std::sync::Arc;

use sealwarden_domain::Fold;
use sealwarden_domain::approval::Statement;
use sealwarden_domain::roster::{Judged, RosterAnchor};
use sealwarden_eventlog::{Environment, EventLog, StreamName};
use sealwarden_keys::{KeyError, KeyId, KeyProvider, Purpose};
use sealwarden_pki::Identity;
use sealwarden_runbook::{PlanSet, Roster};
use sealwarden_seal::note::{Note, NoteError, UnsignedNote, Vkey};
use sealwarden_wire::event::v1::Directive;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::board::Board;
use crate::clock::Clock;
use crate::codec::Meta;
use crate::stream::{ExecuteError, Stream};

/// A process role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Seals documents.
    Sealing,
    /// Verifies seals and witnesses checkpoints.
    Verification,
    /// Detects and keeps incidents.
    Detection,
    /// Runs runbooks, grants permits.
    RunbookExecutor,
}

impl Role {
    /// All roles, in the order in which `up` starts them.
    pub const ALL: [Self; 4] = [
        Self::RunbookExecutor,
        Self::Verification,
        Self::Sealing,
        Self::Detection,
    ];

    /// The word in events and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sealing => "sealing",
            Self::Verification => "verification",
            Self::Detection => "detection",
            Self::RunbookExecutor => "runbook-executor",
        }
    }
}

/// Why a peer could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No node of that role ever announced itself.
    #[error(
        "no {0} service has announced its address in the event log yet; start it with `sealwarden serve {0}`"
    )]
    Unannounced(&'static str),
    /// The connection cannot be made.
    #[error("the {role} service at {url} cannot be reached: {reason}")]
    Unreachable {
        /// Role.
        role: &'static str,
        /// Address.
        url: String,
        /// Why.
        reason: String,
    },
}

/// Why a node could not sign a note.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The text.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// One process role's surroundings. Shared by all of its tasks.
pub struct Node {
    /// Name, unique in the installation, e.g. `sealing-1`.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// The installation's name.
    pub installation: String,
    /// The real world or a drill.
    pub environment: Environment,
    /// What origins begin with, e.g. `seal.example.com`.
    pub base: String,
    /// The event log.
    pub log: Arc<dyn EventLog>,
    /// The live fold of everything.
    pub board: Arc<Board>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The key provider.
    pub keys: Arc<dyn KeyProvider>,
    /// The node's own key (purpose `node`): signs acknowledgements.
    pub key: KeyId,
    /// Its verifier key; the name in it is the node's name.
    pub vkey: Vkey,
    /// The node's own copy of the plan: what it judges directives by, together with [`Self::roster`]. The roster in it is the one that the process started with.
    pub plan: Arc<PlanSet>,
    /// A roster that this node knows to have been in force, whatever the event log says.
    pub known_roster: RosterAnchor,
    /// Where the plan's files lie.
    pub plan_dir: PathBuf,
    /// Its identity for mutual TLS.
    pub identity: Identity,
    /// The role's own folder.
    pub data: PathBuf,
    /// Cancelled when the process should end.
    pub shutdown: CancellationToken,
}

impl Node {
    /// Loads a stream. The id must be made of `A-Z a-z 0-9 . _ -`; anything else is refused as [`ExecuteError::Broken`].
    pub async fn stream<S: Fold + Default>(
        &self,
        category: &str,
        id: &str,
    ) -> Result<Stream<S>, ExecuteError> {
        let name =
            StreamName::new(category, id).map_err(|e| ExecuteError::Broken(e.to_string()))?;
        Stream::load(Arc::clone(&self.log), name, S::default()).await
    }

    /// The roster in force, as far as this node believes the event log. Contacts are not signed: where the plan that the process started with has this roster, they are as they stand there.
    pub fn roster(&self) -> Arc<Roster> {
        let (in_force, own) = (self.judged_roster().roster, self.plan.roster());
        if own.digest() == in_force.digest() {
            Arc::new(own.clone())
        } else {
            in_force
        }
    }

    /// The same with its number, and what does not fit.
    pub fn judged_roster(&self) -> Judged {
        self.board
            .read(|it| self.known_roster.judge(&it.trust.rosters))
    }

    /// The roster by which the approvals of a directive are judged: the one that they name, as far as it still holds.
    pub fn roster_of(&self, directive: &Directive) -> Arc<Roster> {
        let mut approvals = directive.approvals.iter();
        let named = approvals.find_map(|it| Statement::parse(&it.statement).ok());
        let named = named.map(|it| it.roster_digest).unwrap_or_default();
        self.board
            .read(|it| self.known_roster.named(&it.trust.rosters, &named))
    }

    /// Who decides, for an envelope.
    pub fn meta(&self) -> Meta {
        Meta::node(&self.name)
    }

    /// Signs a text as a C2SP note with the node's own key.
    pub async fn sign_note(&self, text: &str) -> Result<Note, SignError> {
        let note = UnsignedNote::new(text)?;
        let signature = self
            .keys
            .sign(&self.key, Purpose::Node, note.text().as_bytes())
            .await?;
        Ok(note.attach(self.vkey.name(), self.vkey.key_id(), signature.as_bytes())?)
    }

    /// A channel to the newest announced node of a role, with mutual TLS. It connects when first used.
    pub fn channel(&self, role: Role) -> Result<Channel, PeerError> {
        let url = self
            .peers(role)
            .into_iter()
            .map(|(_, grpc, _)| grpc)
            .next_back()
            .ok_or(PeerError::Unannounced(role.as_str()))?;
        sealwarden_pki::connect_lazy(&url, &self.identity).map_err(|e| PeerError::Unreachable {
            role: role.as_str(),
            url,
            reason: e.to_string(),
        })
    }

    /// Announced nodes of a role: name, gRPC URL, HTTP URL.
    pub fn peers(&self, role: Role) -> Vec<(String, String, String)> {
        self.board.read(|installation| {
            installation
                .nodes
                .iter()
                .filter_map(|(name, node)| Some((name, node.announced.as_ref()?)))
                .filter(|(_, a)| a.role == role.as_str())
                .map(|(name, a)| (name.clone(), a.grpc_url.clone(), a.http_url.clone()))
                .collect()
        })
    }
}

/// The text that the installation's signing key signs (as a C2SP note) to enrol a node: whose acknowledgements its key makes.
pub fn enrolment_text(installation: &str, node: &str, role: Role, vkey: &Vkey) -> String {
    format!(
        "sealwarden enrolment v1\ninstallation: {installation}\nnode: {node}\nrole: {}\nvkey: {vkey}\n",
        role.as_str()
    )
}
