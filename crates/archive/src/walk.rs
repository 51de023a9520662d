//! What lies in a folder, all of it: an object store's listing follows links (a link to its own folder never ends) and passes over what it has no name for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures_util::stream;
use tokio::sync::mpsc;

use crate::error::StoreError;
use crate::store::{Listed, Listing};

/// Entries that wait to be taken.
const WAITING: usize = 1024;

/// Everything below `below` of a folder store that is no folder; a folder that cannot be listed is named. Nothing where there is no such folder.
pub(crate) fn below(root: PathBuf, below: String, place: String) -> Listing {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let mut left = vec![below];
        while let Some(key) = left.pop() {
            let end = folder(&root.join(&key), &key, &mut left, &sender);
            let told = match end {
                Ok(()) => continue,
                Err(Stop::NobodyListens) => return,
                Err(Stop::Failed(e)) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(Stop::Failed(e)) => Ok(Listed {
                    key,
                    size: 0,
                    closed: Some(e.to_string()),
                }),
                Err(Stop::Entry(e)) => Err(StoreError::Unlisted {
                    place: format!("{place}/{key}"),
                    reason: e.to_string(),
                }),
            };
            if sender.blocking_send(told).is_err() {
                return;
            }
        }
    });
    Box::pin(stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|listed| (listed, receiver))
    }))
}

enum Stop {
    /// Whoever asked has gone.
    NobodyListens,
    /// The folder cannot be opened.
    Failed(io::Error),
    /// Reading the folder broke off.
    Entry(io::Error),
}

fn folder(
    path: &Path,
    key: &str,
    left: &mut Vec<String>,
    sender: &mpsc::Sender<Result<Listed, StoreError>>,
) -> Result<(), Stop> {
    for entry in fs::read_dir(path).map_err(Stop::Failed)? {
        let entry = entry.map_err(Stop::Entry)?;
        let name = entry.file_name();
        let key = format!("{key}/{}", name.to_string_lossy());
        let kind = entry.file_type().map_err(Stop::Entry)?;
        // A folder whose name is no text cannot be named again: it is told as what it is, an object that nobody stored.
        if kind.is_dir() && name.to_str().is_some() {
            left.push(key);
            continue;
        }
        if is_upload(&key) {
            continue;
        }
        // It may be gone by now; then it has no size.
        let size = entry.metadata().map_or(0, |metadata| metadata.len());
        let listed = Listed {
            key,
            size,
            closed: None,
        };
        sender
            .blocking_send(Ok(listed))
            .map_err(|_| Stop::NobodyListens)?;
    }
    Ok(())
}

/// Whether it is a file that `object_store` writes before it renames it: `NAME#<number>`. No object can have such a name.
fn is_upload(key: &str) -> bool {
    key.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn links_are_named_and_not_followed_and_strange_names_do_not_end_the_walk() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("documents");
        fs::create_dir_all(root.join("a/b")).unwrap();
        for name in ["a/b/c", "line\nbreak", "#", "x#12", "März"] {
            fs::write(root.join(name), "1234").unwrap();
        }
        fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
        symlink(".", root.join("loop")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        let listed = below(dir.path().to_owned(), "documents".to_owned(), String::new());
        let keys: BTreeSet<String> = listed
            .map(|one| one.unwrap())
            .map(|one| one.key)
            .collect()
            .await;
        let expected = [
            "a/b/c",
            "line\nbreak",
            "#",
            "März",
            "\u{fffd}",
            "loop",
            "dangling",
        ];
        assert_eq!(
            keys,
            expected.map(|name| format!("documents/{name}")).into()
        );
        let nothing = below(dir.path().to_owned(), "nothing".to_owned(), String::new());
        assert_eq!(nothing.count().await, 0);
    }
}
