//! The surroundings of one role: its folder, keys, identity and enrolment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sealwarden_domain::roster::RosterAnchor;
use sealwarden_engine::{Board, Clock, Node, Role, enrolment_text};
use sealwarden_eventlog::EventLog;
use sealwarden_keys::{CreateKey, KeyError, KeyId, KeyInfo, KeyProvider, Purpose};
use sealwarden_pki::{Authority, CallerName, CallerRole, Identity, IdentityFiles};
use sealwarden_runbook::PlanSet;
use sealwarden_seal::note::{UnsignedNote, Vkey};
use sealwarden_wire::event::v1::{NodeEnrolled, ServiceAnnounced, event::Kind};
use tokio_util::sync::CancellationToken;

use super::installation::{Installation, private_dir};
use super::key_providers::KeySource;
use super::log_identity;
use super::node_facts::NodeFacts;
use super::purposes::Purposes;

/// How long certificates of services last; they are renewed at start when a third is left.
const NODE_VALIDITY: Duration = Duration::from_hours(90 * 24);

/// The executor that every installation has, and in whose folder the executors' keys lie.
const FIRST_EXECUTOR: &str = "runbook-executor-1";

/// What all roles of a process share.
pub(crate) struct Shared {
    /// The installation.
    pub(crate) installation: Installation,
    /// The event log.
    pub(crate) log: Arc<dyn EventLog>,
    /// Its live fold.
    pub(crate) board: Arc<Board>,
    /// The clocks.
    pub(crate) clock: Arc<dyn Clock>,
    /// The plan.
    pub(crate) plan: Arc<PlanSet>,
    /// A roster that is known to have been in force.
    pub(crate) known_roster: RosterAnchor,
    /// Where the plan's files lie.
    pub(crate) plan_dir: PathBuf,
    /// Ends the process.
    pub(crate) shutdown: CancellationToken,
    /// Where keys are kept.
    pub(crate) key_source: KeySource,
    /// Which keys the roles have.
    pub(crate) purposes: Purposes,
}

impl Shared {
    /// Builds a role's surroundings: folder, keys, certificate, enrolment in the event log.
    pub(crate) async fn node(
        &self,
        role: Role,
        name: &str,
        hosts: &[String],
    ) -> anyhow::Result<Arc<Node>> {
        let installation = &self.installation.settings.installation;
        let data = self.installation.data.join("nodes").join(name);
        private_dir(&data)?;
        let (keys, key) = if role == Role::RunbookExecutor {
            // They share the signing key, so they share the folder of keys.
            let folder = self.executors_keys()?;
            let keys = self.key_source.of_role(role, &folder).await?;
            let first = name == FIRST_EXECUTOR;
            let id = if first {
                "node".to_owned()
            } else {
                format!("node.{name}")
            };
            (keys, KeyId::new(id)?)
        } else {
            let keys = self.key_source.of_role(role, &data).await?;
            (keys, KeyId::new("node")?)
        };
        let info = key_or_new(keys.as_ref(), &key, Purpose::Node).await?;
        let vkey =
            Vkey::ed25519(name, info.ed25519()?).context("making the node's verifier key")?;
        let identity = self.identity(name, hosts).await?;
        let node = Arc::new(Node {
            name: name.to_owned(),
            role,
            installation: installation.clone(),
            environment: self.installation.environment(),
            base: self.installation.settings.base.clone(),
            log: Arc::clone(&self.log),
            board: Arc::clone(&self.board),
            clock: Arc::clone(&self.clock),
            keys,
            key,
            vkey,
            plan: Arc::clone(&self.plan),
            known_roster: self.known_roster.clone(),
            plan_dir: self.plan_dir.clone(),
            identity,
            data,
            shutdown: self.shutdown.clone(),
        });
        log_identity::check(&node).await?;
        self.enrol(&node).await?;
        log_identity::remember(&node).await?;
        Ok(node)
    }

    /// Where the executors' keys lie: the installation's signing key, and a node key for each.
    fn executors_keys(&self) -> anyhow::Result<PathBuf> {
        let folder = self.installation.data.join("nodes").join(FIRST_EXECUTOR);
        private_dir(&folder)?;
        Ok(folder)
    }

    async fn identity(&self, name: &str, hosts: &[String]) -> anyhow::Result<Identity> {
        let data = self.installation.data.clone();
        let installation = self.installation.settings.installation.clone();
        let (name, hosts) = (CallerName::new(name)?, hosts.to_vec());
        let issue = move || {
            let authority = Authority::open_or_create(&data.join("pki"), &installation)?;
            IdentityFiles::in_dir(&data.join("certificates"), name.as_str()).load_or_issue(
                &authority,
                &name,
                CallerRole::Node,
                &hosts,
                NODE_VALIDITY,
            )
        };
        tokio::task::spawn_blocking(issue)
            .await?
            .context("making the service's certificate")
    }

    /// The installation's signing key vouches for the node's key; both go into the event log once.
    async fn enrol(&self, node: &Node) -> anyhow::Result<()> {
        let installation = &self.installation.settings.installation;
        let executor = self.executors_keys()?;
        let signing: Arc<dyn KeyProvider> = if node.role == Role::RunbookExecutor {
            Arc::clone(&node.keys)
        } else {
            self.key_source.software(&executor).await?
        };
        let id = KeyId::new("signing")?;
        let info = key_or_new(signing.as_ref(), &id, Purpose::Signing).await?;
        self.purposes.add(FIRST_EXECUTOR, signing.as_ref()).await?;
        if node.role != Role::RunbookExecutor {
            self.purposes.add(&node.name, node.keys.as_ref()).await?;
        }
        let signer = Vkey::ed25519(&format!("{installation}.signing"), info.ed25519()?)?;
        let mut stream = node.stream::<NodeFacts>("node", &node.name).await?;
        if stream.state().vkey == node.vkey.to_string() {
            return Ok(());
        }
        let note = UnsignedNote::new(enrolment_text(
            installation,
            &node.name,
            node.role,
            &node.vkey,
        ))?;
        let signature = signing
            .sign(&id, Purpose::Signing, note.text().as_bytes())
            .await?;
        let note = note.attach(signer.name(), signer.key_id(), signature.as_bytes())?;
        let enrolled = NodeEnrolled {
            node: node.name.clone(),
            role: node.role.as_str().to_owned(),
            vkey: node.vkey.to_string(),
            enrolment: note.to_string(),
        };
        let decided = stream
            .execute(node.meta(), |facts| Ok(facts.enrol(&enrolled)))
            .await
            .context("recording the node's enrolment")?;
        node.board.reached(decided.position).await;
        Ok(())
    }
}

/// Tells the others where a role listens.
pub(crate) async fn announce(node: &Node, grpc_url: &str, http_url: &str) -> anyhow::Result<()> {
    let announced = ServiceAnnounced {
        node: node.name.clone(),
        role: node.role.as_str().to_owned(),
        grpc_url: grpc_url.to_owned(),
        http_url: http_url.to_owned(),
    };
    let mut stream = node.stream::<NodeFacts>("node", &node.name).await?;
    stream
        .execute(node.meta(), |facts| {
            let known = facts.announced.as_ref() == Some(&announced);
            let event = sealwarden_domain::fold::event(Kind::ServiceAnnounced(announced.clone()));
            Ok(if known { Vec::new() } else { vec![event] })
        })
        .await
        .context("announcing the service's address")?;
    Ok(())
}

/// The key, made if it is not there yet.
async fn key_or_new(
    keys: &dyn KeyProvider,
    id: &KeyId,
    purpose: Purpose,
) -> Result<KeyInfo, KeyError> {
    match keys.info(id).await {
        // A provider of sealing keys that is out cannot say that it lacks the key; making it asks only those that matter.
        Err(KeyError::NotFound { .. } | KeyError::Out { .. }) => {}
        answer => return answer,
    }
    match keys.create(&CreateKey::ed25519(id, purpose)).await {
        Err(KeyError::AlreadyExists { .. }) => keys.info(id).await, // another process was first
        answer => answer,
    }
}
