//! Heads on disk: `<dir>/<number>.txt` and `<number>.seal`, numbered in the order in which they were kept, each written once.
//!
//! A crash leaves a seal without its text or a `.partial` file: neither counts, and the number is not used again. Only the newest pair is ever needed, since a chain
//! hash covers all before it. Older pairs tell since when something was so: of those a thousand are kept, and before them every thousandth.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use ring::digest::{SHA256, digest};
use sealwarden_seal::note::Vkey;
use sealwarden_seal::seal::Seal;

use super::text::Heads;
use crate::evidence::folder::{private_dirs, write_new};
use crate::evidence::verify::{Damage, check_seal, damage};

/// The longest text, in bytes: more than half a million streams.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// How many of the newest pairs are kept: most of a day's. Of older ones each with a number that this divides.
const KEPT: u64 = 1_000;
/// How many damaged pairs are passed over in search of one that holds.
const MAX_DAMAGED: usize = 16;

/// Heads whose seal holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// What they say.
    pub(crate) heads: Heads,
    /// The same as text.
    pub(crate) text: String,
    /// The text's seal in the evidence log.
    pub(crate) seal: String,
    /// The seal's place there.
    pub(crate) index: u64,
}

/// What a folder holds.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// The newest heads that hold.
    pub(super) newest: Option<Kept>,
    /// The number of the next ones.
    pub(super) next: u64,
    /// What is wrong with newer ones.
    pub(super) damaged: Vec<Damage>,
}

/// SHA-256 of a text: what is sealed.
pub(crate) fn digest_of(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

impl Kept {
    /// Checks a text against its seal. `name` without ending is that of both files.
    pub(crate) fn check(
        name: &str,
        text: String,
        seal: String,
        evidence_log: &Vkey,
    ) -> Result<Self, Damage> {
        let heads = Heads::parse(&text)
            .map_err(|error| damage(&format!("{name}.txt"), "the heads of an event log", error))?;
        let file = format!("{name}.seal");
        // A seal that holds for another text is whole itself: then the text was changed.
        if let Ok(sealed) = Seal::parse(seal.as_bytes()).map(|it| it.record.digest)
            && sealed != digest_of(&text)
            && check_seal(&file, seal.as_bytes(), &sealed, evidence_log).is_ok()
        {
            let (expected, found) = (hex::encode(sealed), hex::encode(digest_of(&text)));
            let expected = format!("a text with SHA-256 {expected}, as it was sealed");
            return Err(damage(&format!("{name}.txt"), expected, found));
        }
        let (index, _) = check_seal(&file, seal.as_bytes(), &digest_of(&text), evidence_log)?;
        Ok(Self {
            heads,
            text,
            seal,
            index,
        })
    }

    /// Reads a pair of files. Blocks its thread.
    pub(crate) fn read(dir: &Path, name: &str, evidence_log: &Vkey) -> Result<Self, Damage> {
        let text = |ending: &str| {
            let file = format!("{name}.{ending}");
            read(&dir.join(&file)).map_err(|error| damage(&file, "a readable file", error))
        };
        Self::check(name, text("txt")?, text("seal")?, evidence_log)
    }
}

/// Looks through a folder, which need not exist. Blocks its thread.
pub(super) fn look(dir: &Path, evidence_log: &Vkey) -> io::Result<Shelf> {
    let (mut whole, mut highest) = (Vec::new(), 0);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        entries => Some(entries?),
    };
    for entry in entries.into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some((number, ending)) = name.split_once('.') else {
            continue;
        };
        let Ok(number) = number.parse::<u64>() else {
            continue;
        };
        highest = number.max(highest);
        if ending == "txt" {
            whole.push(number);
        }
    }
    let mut shelf = Shelf {
        next: highest.saturating_add(1),
        ..Shelf::default()
    };
    whole.sort_unstable();
    for number in whole.into_iter().rev().take(MAX_DAMAGED) {
        match Kept::read(dir, &name_of(number), evidence_log) {
            Ok(kept) => {
                shelf.newest = Some(kept);
                break;
            }
            Err(damage) => shelf.damaged.push(damage),
        }
    }
    Ok(shelf)
}

/// Writes a pair under a number that was never used, the text last: it is what counts. Blocks its thread.
pub(super) fn write(dir: &Path, number: u64, kept: &Kept) -> io::Result<()> {
    private_dirs(dir)?;
    let name = name_of(number);
    for (ending, text) in [("seal", &kept.seal), ("txt", &kept.text)] {
        let partial = dir.join(format!("{name}.{ending}.partial"));
        write_new(&partial, text.as_bytes())?;
        fs::rename(&partial, dir.join(format!("{name}.{ending}")))?;
    }
    fs::File::open(dir)?.sync_all()?;
    thin(dir, number)
}

/// Removes what is not kept any more, the text first: it is what counts. Not synced: what comes back is removed next time.
fn thin(dir: &Path, newest: u64) -> io::Result<()> {
    let mut old = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name
            .split_once('.')
            .and_then(|(number, _)| number.parse().ok());
        let goes =
            |number: &u64| number.saturating_add(KEPT) <= newest && !number.is_multiple_of(KEPT);
        if number.is_some_and(|number: u64| goes(&number)) {
            old.push(name);
        }
    }
    old.sort_by_key(|name| !is_text(name));
    old.iter()
        .try_for_each(|name| fs::remove_file(dir.join(name)))
}

fn is_text(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|it| it == "txt")
}

pub(super) fn name_of(number: u64) -> String {
    format!("{number:010}")
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_pairs_are_thinned_and_the_newest_stay() {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=2_500 {
            for ending in ["txt", "seal"] {
                fs::write(
                    dir.path().join(format!("{}.{ending}", name_of(number))),
                    "x",
                )
                .unwrap();
            }
        }
        fs::write(dir.path().join("notes"), "somebody's").unwrap();
        thin(dir.path(), 2_500).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| is_text(name))
            .collect();
        left.sort();
        assert_eq!(left.len(), 1_001);
        assert_eq!(left[0], "0000001000.txt");
        assert_eq!(left[1], "0000001501.txt");
        assert_eq!(left[1_000], "0000002500.txt");
        assert!(dir.path().join("notes").exists());
        thin(dir.path(), 2_500).unwrap();
    }
}
