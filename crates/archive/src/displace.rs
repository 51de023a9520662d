//! Making room for what is restored: a folder, link or pipe that stands where a document should be is moved aside, and never removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where it is moved to, in the store's folder.
const ASIDE: &str = "displaced";

/// Moves away what keeps a file from being written at `key`: no regular file at its place, one of more than `at_most` bytes, which nobody copies to keep it, or no folder
/// on the way to it. Answers where it lies now.
pub(crate) fn clear(
    root: &Path,
    key: &str,
    at_most: u64,
    at_ms: i64,
) -> io::Result<Option<PathBuf>> {
    let mut path = root.to_owned();
    let mut parts = key.split('/').peekable();
    while let Some(part) = parts.next() {
        path.push(part);
        let last = parts.peek().is_none();
        // On the way a link to a folder is as good as a folder; at the end nothing but a file is a document.
        let metadata = if last {
            fs::symlink_metadata(&path)
        } else {
            fs::metadata(&path)
        };
        let in_the_way = match metadata {
            Ok(metadata) if last => !metadata.is_file() || metadata.len() > at_most,
            Ok(metadata) => !metadata.is_dir(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => fs::symlink_metadata(&path).is_ok(),
            Err(e) => return Err(e),
        };
        if in_the_way {
            return aside(root, key, &path, at_ms).map(Some);
        }
    }
    Ok(None)
}

fn aside(root: &Path, key: &str, path: &Path, at_ms: i64) -> io::Result<PathBuf> {
    let folder = root.join(ASIDE);
    fs::create_dir_all(&folder)?;
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    let target = folder.join(format!("@{:013}-{}", at_ms.max(0), hex::encode(digest)));
    fs::rename(path, &target)?;
    let parent = path.parent().unwrap_or(root);
    for changed in [folder.as_path(), parent, root] {
        fs::File::open(changed)?.sync_all()?;
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_is_in_the_way_is_moved_and_nothing_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("documents/a/b")).unwrap();
        fs::write(root.join("documents/a/b/kept"), "x").unwrap();
        fs::write(root.join("documents/file"), "y").unwrap();
        symlink("nowhere", root.join("documents/link")).unwrap();
        let cleared = |key: &str, at_ms| clear(root, key, 100, at_ms).unwrap();
        assert_eq!(cleared("documents/file", 1), None);
        assert_eq!(cleared("documents/new/c", 1), None);
        let folder = cleared("documents/a/b", 1).unwrap();
        assert_eq!(fs::read(folder.join("kept")).unwrap(), b"x");
        let file = cleared("documents/file/below", 2).unwrap();
        assert_eq!(fs::read(file).unwrap(), b"y");
        let link = cleared("documents/link", 3).unwrap();
        assert!(fs::symlink_metadata(link).unwrap().is_symlink());
        assert!(fs::symlink_metadata(root.join("documents/link")).is_err());
        assert_eq!(cleared("documents/a/b", 4), None);
        fs::write(root.join("documents/large"), [0; 101]).unwrap();
        let large = cleared("documents/large", 5).unwrap();
        assert_eq!(fs::metadata(large).unwrap().len(), 101);
    }
}
