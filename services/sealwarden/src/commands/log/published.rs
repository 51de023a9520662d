//! What of a log's or a mirror's folder is public, and the anchors that lie beside or in it.
//!
//! Beyond C2SP's `checkpoint` and `tile/…`: `log.json`, `mirror.json`, `trust.json`, `anchors.txt` (the names of the files of anchors, a line
//! each) and `anchors/<size in 20 digits>` in the format of `FILE.seal.anchors`. A server of several logs lists their paths in `logs.txt`. All of them are plain
//! files in a mirror, so that any web server can serve it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sealwarden_seallog::mirror::is_public;

/// Anchors in a mirror, and beside the logs of a node.
pub(super) const ANCHORS: &str = "anchors";
/// The list of a log's files of anchors.
pub(super) const ANCHOR_LIST: &str = "anchors.txt";
/// The list of a server's logs.
pub(super) const LOG_LIST: &str = "logs.txt";

/// The size that a file of anchors is named after, if it is named so.
pub(super) fn size_of(name: &str) -> Option<u64> {
    let right = name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit());
    right.then(|| name.parse().ok()).flatten()
}

/// The file behind a public path; `None` for what is not public. The list of anchors is made anew: see [`anchors`].
pub(super) fn file(dir: &Path, path: &str) -> Option<PathBuf> {
    match path.split_once('/') {
        Some((ANCHORS, name)) => {
            size_of(name)?;
            Some(folder(dir)?.join(name))
        }
        _ => is_public(path).then(|| dir.join(path)),
    }
}

/// The list of a log's anchors as it is served; `None` where there are none.
pub(super) fn anchors(dir: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(folder) = folder(dir) else {
        return Ok(None);
    };
    let lines: Vec<String> = names(&folder)?
        .into_iter()
        .map(|name| name + "\n")
        .collect();
    Ok(Some(lines.concat().into_bytes()))
}

/// The files of anchors in a folder, those of the smallest trees first; none where there is no folder.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_file() && size_of(&name).is_some() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The anchors that a mirror keeps in itself, or a node of a log (`anchors/<log>/<epoch>` beside `log/<log>/<epoch>`).
pub(super) fn folder(dir: &Path) -> Option<PathBuf> {
    let within = dir.join(ANCHORS);
    if within.is_dir() {
        return Some(within);
    }
    let (epoch, log) = (dir.file_name()?, dir.parent()?.file_name()?);
    let node = dir.parent()?.parent()?.parent()?;
    let beside = node.join(ANCHORS).join(log).join(epoch);
    beside.is_dir().then_some(beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_public_has_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert!(file(dir, "checkpoint").is_some());
        assert!(file(dir, "tile/0/000.p/3").is_some());
        fs::create_dir_all(dir.join(ANCHORS)).unwrap();
        let good = "00000000000000000007";
        assert!(file(dir, &format!("anchors/{good}")).is_some());
        for bad in [
            "private/0000000000.records",
            "anchors/../log.json",
            "anchors/7",
            "anchors/",
            "lock",
            "anchors/x/y",
        ] {
            assert_eq!(file(dir, bad), None, "{bad}");
        }
        for name in [good, "00000000000000000002", "tmp", "12"] {
            fs::write(dir.join(ANCHORS).join(name), "").unwrap();
        }
        let list = String::from_utf8(anchors(dir).unwrap().unwrap()).unwrap();
        assert_eq!(list, "00000000000000000002\n00000000000000000007\n");
    }
}
