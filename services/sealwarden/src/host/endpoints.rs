//! `DATA/endpoints.json`: where the services of this folder listen, so that commands on the same machine need no addresses.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::installation::write_durably;

/// One role's addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Endpoint {
    /// `https://host:port`, mutual TLS.
    pub(crate) grpc: String,
    /// `http://host:port`: tiles and witness.
    pub(crate) http: String,
    /// Process that wrote it.
    pub(crate) pid: u32,
}

/// Addresses by role: those of the node that started last, and under `<role>/<node>` those of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Endpoints(pub(crate) BTreeMap<String, Endpoint>);

impl Endpoints {
    /// Reads the file; empty if there is none.
    pub(crate) fn read(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("endpoints.json");
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).with_context(|| {
                format!(
                    "{} is damaged; restart the services to write it anew",
                    path.display()
                )
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Where a role can be reached: the node that started last comes first.
    pub(crate) fn of(&self, role: &str) -> Vec<&Endpoint> {
        let nodes = self.0.iter().filter(|(name, _)| {
            let node = name.strip_prefix(role);
            node.is_some_and(|node| node.starts_with('/'))
        });
        let mut found: Vec<&Endpoint> = self.0.get(role).into_iter().collect();
        for (_, endpoint) in nodes {
            if !found.iter().any(|known| known.grpc == endpoint.grpc) {
                found.push(endpoint);
            }
        }
        found
    }

    /// Where a node listened last.
    pub(crate) fn of_node(&self, role: &str, node: &str) -> Option<&Endpoint> {
        let own = self.0.get(&format!("{role}/{node}"));
        own.or_else(|| self.0.get(role))
    }

    /// Adds or replaces entries of roles with their nodes' names; several processes may do so at once.
    pub(crate) fn add(
        data: &Path,
        roles: &[(&str, &str)],
        endpoint: &Endpoint,
    ) -> anyhow::Result<()> {
        let lock =
            fs::File::create(data.join("endpoints.lock")).context("locking endpoints.json")?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
            .context("locking endpoints.json")?;
        let mut all = Self::read(data).unwrap_or_default();
        for (role, node) in roles {
            all.0.insert((*role).to_owned(), endpoint.clone());
            all.0.insert(format!("{role}/{node}"), endpoint.clone());
        }
        write_durably(
            &data.join("endpoints.json"),
            serde_json::to_string_pretty(&all)?.as_bytes(),
        )
    }
}
