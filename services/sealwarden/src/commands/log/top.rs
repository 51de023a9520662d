//! What lies above several mirrored logs: the list by which any web server offers them, and the trust bundle for the next time.

use std::path::{Path, PathBuf};

use sealwarden_seallog::check::{Damage, DamageKind};

use super::mirror::{BUNDLE, list_of};
use super::published::LOG_LIST;
use crate::commands::trust;
use crate::trust_seen;

/// Largest list of logs, bytes.
const MAX_LIST: u64 = 1 << 20;

/// Audits the files above the logs in `dir`, where there are such files. `found` are the logs' folders.
pub(super) fn audit(dir: &Path, found: &[PathBuf]) -> Vec<Damage> {
    // A log's own folder has nothing above it.
    if found.iter().any(|it| it == dir) {
        return Vec::new();
    }
    let list = dir.join(LOG_LIST).exists().then(|| list(dir, found));
    let bundle = dir.join(BUNDLE).exists().then(|| bundle(dir));
    list.into_iter().chain(bundle).flatten().collect()
}

fn damage(
    file: &str,
    kind: DamageKind,
    (offset, length): (u64, u64),
    expected: &str,
    found: String,
) -> Damage {
    Damage {
        path: PathBuf::from(file),
        kind,
        offset,
        length,
        expected: expected.to_owned(),
        found,
    }
}

fn unreadable(file: &str, found: String) -> Damage {
    damage(
        file,
        DamageKind::Unreadable,
        (0, 0),
        "a readable file",
        found,
    )
}

fn list(dir: &Path, found: &[PathBuf]) -> Option<Damage> {
    let bytes = match trust::read_limited(&dir.join(LOG_LIST), MAX_LIST) {
        Ok(bytes) => bytes,
        Err(failure) => return Some(unreadable(LOG_LIST, failure.message())),
    };
    let expected = list_of(dir, found);
    if bytes == expected.as_bytes() {
        return None;
    }
    let wide = |number| u64::try_from(number).unwrap_or(u64::MAX);
    let same = bytes.iter().zip(expected.as_bytes());
    let offset = wide(same.take_while(|(a, b)| a == b).count());
    let range = (offset, wide(bytes.len()).saturating_sub(offset));
    Some(damage(
        LOG_LIST,
        DamageKind::Contradiction,
        range,
        "the folders of the logs below, a line each",
        "another list; mirror the logs again to have it written anew".to_owned(),
    ))
}

fn bundle(dir: &Path) -> Option<Damage> {
    let bytes = match trust::read_limited(&dir.join(BUNDLE), trust::MAX_BUNDLE) {
        Ok(bytes) => bytes,
        Err(failure) => return Some(unreadable(BUNDLE, failure.message())),
    };
    let failure = trust_seen::open_without_memory(&bytes).err()?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    Some(damage(
        BUNDLE,
        DamageKind::Changed,
        (0, length),
        "a trust bundle whose signatures hold",
        failure.message(),
    ))
}
