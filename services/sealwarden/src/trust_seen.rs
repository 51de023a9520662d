//! What this user's machine has seen of trust bundles, so that nobody can take it back in time.
//!
//! Kept as JSON by installation: in the data folder where there is one, else in the user's state folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sealwarden_seal::trust::{Roots, Seen, TrustBundle, TrustError, VerifiedBundle, accept};

use crate::failure::Failure;
use crate::host::installation::write_durably;
use crate::output;

/// Opens a bundle file's bytes: signatures, suspensions, and no step back behind what was seen before.
pub(crate) fn open(
    bytes: &[u8],
    data: &Path,
    anchors: Option<&Roots>,
) -> Result<VerifiedBundle, Failure> {
    let refused = |e: TrustError| Failure::refused(format!("the trust bundle is refused: {e}"));
    let bundle = TrustBundle::parse(bytes)
        .map_err(refused)?
        .open(anchors)
        .map_err(refused)?;
    let path = state_file(data);
    let mut all = read(&path)?;
    let payload = bundle.payload();
    let name = format!(
        "{} ({})",
        payload.installation,
        payload.environment.as_str()
    );
    let seen = accept(all.get(&name), &bundle).map_err(refused)?;
    if all.get(&name) != Some(&seen) {
        all.insert(name, seen);
        if let Err(error) = write(&path, &all) {
            output::complain(&format!(
                "warning: {error:#}; a later roll-back of the trust bundle will not be noticed"
            ));
        }
    }
    Ok(bundle)
}

/// Opens a bundle for a question about the past, where an older version is right: nothing is remembered or compared.
pub(crate) fn open_without_memory(bytes: &[u8]) -> Result<VerifiedBundle, Failure> {
    let refused = |e: TrustError| Failure::refused(format!("the trust bundle is refused: {e}"));
    TrustBundle::parse(bytes)
        .map_err(refused)?
        .open(None)
        .map_err(refused)
}

fn state_file(data: &Path) -> PathBuf {
    if data.join("installation.json").exists() {
        return data.join("trust-seen.json");
    }
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| {
            std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local").join("state"))
        });
    state
        .unwrap_or_else(std::env::temp_dir)
        .join("sealwarden")
        .join("trust-seen.json")
}

fn read(path: &Path) -> Result<BTreeMap<String, Seen>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| {
            Failure::refused(format!(
                "{} is damaged ({e}); it remembers which trust bundles were seen. Remove it only if you accept to trust the next bundle anew",
                path.display()
            ))
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(e) => Err(anyhow::Error::from(e).context(format!("reading {}", path.display())).into()),
    }
}

fn write(path: &Path, all: &BTreeMap<String, Seen>) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("creating {}", folder.display()))?;
    }
    write_durably(path, serde_json::to_string_pretty(all)?.as_bytes())
}
