//! The key under which a hold on a subject stands in the event log: whoever reads events cannot find out whom it is about, nor try names.

use anyhow::Context as _;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

const NAME: &str = "key";
const KEY_BYTES: usize = 32;
/// How many bytes of a commitment say which key made it.
const ID_BYTES: usize = 4;

/// The node's retention key.
pub(super) struct Secret {
    key: hmac::Key,
    id: [u8; ID_BYTES],
}

impl Secret {
    /// Reads the key in `dir`, or makes it. Blocks its thread.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                make(dir).with_context(|| format!("making {}", path.display()))?
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let bytes = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok();
        let bytes = bytes.with_context(|| {
            format!(
                "{} has not {KEY_BYTES} bytes: put it back from a copy, or remove it; then each hold on a subject covers its whole tenant",
                path.display()
            )
        })?;
        Ok(Self::of(&bytes))
    }

    fn of(bytes: &[u8; KEY_BYTES]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let id = hmac::sign(&key, b"sealwarden/retention-key/v1\n");
        let id = id.as_ref().first_chunk().copied().unwrap_or_default();
        Self { key, id }
    }

    /// What stands for a tenant's subject.
    pub(super) fn commitment(&self, tenant: &str, subject: &str) -> Vec<u8> {
        let text = format!("sealwarden/subject/v1\n{} {tenant}{subject}", tenant.len());
        let tag = hmac::sign(&self.key, text.as_bytes());
        [&self.id, tag.as_ref()].concat()
    }

    /// Whether a commitment may stand for this subject. One under a key that was lost may stand for each.
    pub(super) fn may_be(&self, commitment: &[u8], tenant: &str, subject: Option<&str>) -> bool {
        if !commitment.starts_with(&self.id) {
            return true;
        }
        subject.is_some_and(|subject| self.commitment(tenant, subject) == commitment)
    }
}

fn make(dir: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; KEY_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system's random source failed"))?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let temporary = dir.join("key.new");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(NAME))?;
    File::open(dir)?.sync_all()?;
    if let Some(parent) = dir.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_known_again_by_its_key_only_and_a_lost_key_covers_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let secret = Secret::open(&dir.path().join("retention")).unwrap();
        let ada = secret.commitment("acme", "ada");
        let again = Secret::open(&dir.path().join("retention")).unwrap();
        assert!(again.may_be(&ada, "acme", Some("ada")));
        assert!(!again.may_be(&ada, "acme", Some("bob")));
        assert!(!again.may_be(&ada, "acme", None));
        assert!(!again.may_be(&ada, "acm", Some("eada")));
        let other = Secret::of(&[7; KEY_BYTES]);
        assert_ne!(other.commitment("acme", "ada"), ada);
        assert!(other.may_be(&ada, "acme", Some("bob")), "fails closed");
        fs::write(dir.path().join("retention/key"), b"short").unwrap();
        assert!(Secret::open(&dir.path().join("retention")).is_err());
    }
}
