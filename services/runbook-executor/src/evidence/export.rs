//! A copy of an incident's evidence in one file, for others.
//!
//! ```text
//! a tar archive, every header as plain as it can be (no owner, no times, mode 0600), regular files only, in this order:
//!   export.note             what was copied, for whom and what for: a text signed by the installation's signing key (C2SP signed note)
//!   <run>-<step>/…          each bundle, its files sorted by their paths
//!   <run>-<step>.given/…    what people handed in, each file under its SHA-256
//! ```
//!
//! The archive has one spelling: whoever has its files can write it again, byte for byte. So a changed byte is found wherever it is, in a header too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use ring::digest::{SHA256, digest};
use sealwarden_seal::note::{Note, Vkey};

use super::folder::{private_dirs, write_new};
use super::manifest::{Manifest, is_name, is_path};
use super::verify::{Damage, damage};
use super::{MANIFEST, NOTE, SEAL};

/// The signed text in an export.
pub const STATEMENT: &str = "export.note";
const HEADER: &str = "sealwarden evidence export v1";
/// Most files of an archive.
const MAX_FILES: usize = 100_000;
/// The longest statement, bytes.
const MAX_STATEMENT: u64 = 1 << 20;

/// What was copied, for whom and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The installation's name.
    pub installation: String,
    /// "production" or "drill".
    pub environment: String,
    /// The incident.
    pub incident: String,
    /// Who asked for it.
    pub person: String,
    /// What for.
    pub purpose: String,
    /// When, RFC 3339.
    pub exported: String,
    /// SHA-256 (hex) of each bundle's manifest, by the bundle's name.
    pub bundles: BTreeMap<String, String>,
    /// Files that people handed in: folder and SHA-256 (hex).
    pub given: BTreeSet<String>,
}

/// How the folders of what people handed in end.
pub(super) const GIVEN: &str = ".given";

/// Whether a folder is no bundle, but holds what people handed in.
pub fn is_given(folder: &str) -> bool {
    folder.ends_with(GIVEN)
}

fn digest_in(path: &str) -> Option<&str> {
    let (folder, digest) = path.split_once('/')?;
    let is_digest = digest.len() == 64 && digest.bytes().all(|it| it.is_ascii_hexdigit());
    (is_given(folder) && is_name(folder) && is_digest).then_some(digest)
}

impl fmt::Display for Statement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{HEADER}")?;
        for (name, value) in [
            ("installation", &self.installation),
            ("environment", &self.environment),
            ("incident", &self.incident),
            ("person", &self.person),
            ("purpose", &self.purpose),
            ("exported", &self.exported),
        ] {
            writeln!(out, "{name}: {value}")?;
        }
        for (name, digest) in &self.bundles {
            writeln!(out, "{digest}  {name}")?;
        }
        for path in &self.given {
            writeln!(out, "{}  {path}", digest_in(path).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl Statement {
    /// Reads exactly what `Display` writes; `None` for anything else.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        lines.next().filter(|line| *line == HEADER)?;
        let mut field = |name: &str| {
            let line = lines.next()?.strip_prefix(name)?;
            line.strip_prefix(": ").map(str::to_owned)
        };
        let mut statement = Self {
            installation: field("installation")?,
            environment: field("environment")?,
            incident: field("incident")?,
            person: field("person")?,
            purpose: field("purpose")?,
            exported: field("exported")?,
            bundles: BTreeMap::new(),
            given: BTreeSet::new(),
        };
        for line in lines {
            let (digest, name) = line.split_once("  ")?;
            if is_path(name) && digest_in(name).is_some() {
                statement.given.insert(name.to_owned());
            } else if is_path(name) && is_name(name) && !is_given(name) {
                statement.bundles.insert(name.to_owned(), digest.to_owned());
            } else {
                return None;
            }
        }
        (statement.to_string() == text).then_some(statement)
    }
}

/// Writes the archive. `dir` holds the bundles, or the unpacked export. Blocks its thread.
pub(crate) fn write(
    note: &str,
    dir: &Path,
    (bundles, given): (&BTreeMap<String, Manifest>, &BTreeSet<String>),
    out: impl Write,
) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    append(&mut archive, STATEMENT, note.as_bytes(), note.len())?;
    for (name, manifest) in bundles {
        let own = [MANIFEST, NOTE, SEAL].map(str::to_owned);
        let mut paths: Vec<&String> = manifest.files.keys().chain(&own).collect();
        paths.sort();
        for path in paths {
            append_file(&mut archive, dir, &format!("{name}/{path}"))?;
        }
    }
    for path in given {
        append_file(&mut archive, dir, path)?;
    }
    archive.into_inner()?.flush()
}

fn append_file(archive: &mut tar::Builder<impl Write>, dir: &Path, path: &str) -> io::Result<()> {
    let file = File::open(dir.join(path))?;
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    append(archive, path, file, length)
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    path: &str,
    content: impl Read,
    length: usize,
) -> io::Result<()> {
    let length = u64::try_from(length).map_err(io::Error::other)?;
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(0o600);
    header.set_mtime(0);
    // Never more than the header says, whatever happens to the file meanwhile.
    archive.append_data(&mut header, path, content.take(length))
}

/// Unpacks an archive into an empty folder. Nothing but regular files with plain paths below it is written. Blocks its thread.
pub fn unpack(file: &Path, into: &Path) -> Result<(), Damage> {
    let whole = |error: &dyn fmt::Display| {
        damage("the archive", "a readable tar archive", error.to_string())
    };
    let opened = File::open(file).map_err(|error| whole(&error))?;
    let mut archive = tar::Archive::new(BufReader::new(opened));
    let mut count = 0;
    for entry in archive.entries().map_err(|error| whole(&error))? {
        let mut entry = entry.map_err(|error| whole(&error))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() || !is_path(&path) {
            let found = format!("{path:?}, of another kind or with another path");
            return Err(damage(
                "the archive",
                "regular files with plain paths",
                found,
            ));
        }
        count += 1;
        if count > MAX_FILES {
            let expected = format!("at most {MAX_FILES} files");
            return Err(damage("the archive", expected, "more"));
        }
        let mut bytes = Vec::new();
        entry
            .read_to_end(&mut bytes)
            .map_err(|error| whole(&error))?;
        let target = into.join(&path);
        let made = target.parent().map_or(Ok(()), private_dirs);
        made.and_then(|()| write_new(&target, &bytes))
            .map_err(|error| damage(&path, "a file that is there once", error))?;
    }
    Ok(())
}

/// The statement of an unpacked export, signed by the signing key and nobody else.
pub fn statement(dir: &Path, signing: &Vkey) -> Result<Statement, Damage> {
    let bad = |expected: String, found: String| damage(STATEMENT, expected, found);
    let bytes = read(&dir.join(STATEMENT))
        .map_err(|error| bad("a readable file".to_owned(), error.to_string()))?;
    let note =
        Note::parse(&bytes).map_err(|error| bad("a signed note".to_owned(), error.to_string()))?;
    let expected = format!("a signature of {} and nothing else", signing.name());
    let signatures = note
        .verify(std::slice::from_ref(signing))
        .map_err(|error| bad(expected.clone(), error.to_string()))?;
    if signatures.len() != note.signatures().len() {
        return Err(bad(
            expected,
            format!("{} signatures", note.signatures().len()),
        ));
    }
    Statement::parse(note.text())
        .ok_or_else(|| bad("what an export says".to_owned(), "another text".to_owned()))
}

/// Whether the archive is what these files give, byte for byte; `content` are the verified bundles' manifests, and what people handed in. Blocks its thread.
pub fn is_spelled_so(
    file: &Path,
    dir: &Path,
    content: (&BTreeMap<String, Manifest>, &BTreeSet<String>),
) -> Result<(), Damage> {
    let bad = |error: &dyn fmt::Display| {
        damage(
            "the archive",
            "the bytes that were exported",
            error.to_string(),
        )
    };
    let note = read(&dir.join(STATEMENT)).map_err(|error| bad(&error))?;
    let note = String::from_utf8(note).map_err(|error| bad(&error))?;
    let opened = File::open(file).map_err(|error| bad(&error))?;
    let mut same = Same {
        file: BufReader::new(opened),
        at: 0,
    };
    write(&note, dir, content, &mut same).map_err(|error| bad(&error))?;
    match same.file.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => Err(bad(&format!("more bytes than {}", same.at))),
        Err(error) => Err(bad(&error)),
    }
}

/// Compares what is written with a file.
struct Same {
    file: BufReader<File>,
    at: u64,
}

impl Write for Same {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut there = vec![0; bytes.len()];
        self.file.read_exact(&mut there)?;
        let same = bytes.iter().zip(&there).take_while(|(a, b)| a == b).count();
        let wide = |count| u64::try_from(count).unwrap_or(u64::MAX);
        if same < bytes.len() {
            let at = self.at.saturating_add(wide(same));
            return Err(io::Error::other(format!("another byte {at}")));
        }
        self.at = self.at.saturating_add(wide(bytes.len()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What people handed in, in an incident's folder or an unpacked export: by folder and SHA-256 the length of each file that has it. Blocks its thread.
pub fn given_in(dir: &Path) -> io::Result<BTreeMap<String, Result<u64, Damage>>> {
    let mut given = BTreeMap::new();
    for folder in folders(dir)?.into_iter().filter(|it| is_given(it)) {
        for entry in fs::read_dir(dir.join(&folder))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // What a crash left on its way.
            if name.starts_with('.') {
                continue;
            }
            let path = format!("{folder}/{name}");
            let bytes = fs::read(dir.join(&path))?;
            let found = hex::encode(digest(&SHA256, &bytes));
            let whole = if digest_in(&path) == Some(found.as_str()) {
                Ok(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            } else {
                Err(damage(&path, "a file with the SHA-256 of its name", found))
            };
            given.insert(path, whole);
        }
    }
    Ok(given)
}

/// The names of the folders in an unpacked export.
pub fn folders(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_STATEMENT)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        Statement {
            installation: "acme".to_owned(),
            environment: "production".to_owned(),
            incident: "I-1".to_owned(),
            person: "ada".to_owned(),
            purpose: "court order 12".to_owned(),
            exported: "2026-01-01T00:00:00Z".to_owned(),
            bundles: BTreeMap::from([("R-1-snapshot".to_owned(), "00".repeat(32))]),
            given: BTreeSet::from([format!("R-1-ask.given/{}", "11".repeat(32))]),
        }
    }

    #[test]
    fn a_statement_has_one_spelling() {
        let text = statement().to_string();
        assert_eq!(Statement::parse(&text), Some(statement()));
        for (from, to) in [
            ("v1", "v2"),
            ("ada\n", "ada\n\n"),
            ("R-1", "../R-1"),
            ("00  ", "00 "),
        ] {
            assert_eq!(
                Statement::parse(&text.replacen(from, to, 1)),
                None,
                "{from:?} {to:?}"
            );
        }
    }

    #[test]
    fn nothing_is_unpacked_outside_of_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, "good/file", &b"x"[..], 1).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        archive
            .append_link(&mut header, "good/link", "/etc/passwd")
            .unwrap();
        let file = dir.path().join("bad.tar");
        fs::write(&file, archive.into_inner().unwrap()).unwrap();
        let into = dir.path().join("into");
        let found = unpack(&file, &into).unwrap_err();
        assert!(found.to_string().contains("good/link"), "{found}");
        assert_eq!(folders(&into).unwrap(), ["good"]);
    }

    #[test]
    fn every_byte_of_an_archive_counts() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("R-1-snapshot");
        fs::create_dir(&bundle).unwrap();
        for name in [MANIFEST, NOTE, SEAL, "a"] {
            fs::write(bundle.join(name), name).unwrap();
        }
        fs::write(dir.path().join(STATEMENT), "note").unwrap();
        let manifest = Manifest {
            installation: "acme".into(),
            environment: "drill".into(),
            incident: "I-1".into(),
            run: "R-1".into(),
            step: "snapshot".into(),
            iteration: 0,
            collected: String::new(),
            collector: String::new(),
            files: BTreeMap::from([("a".into(), String::new())]),
        };
        let bundles = BTreeMap::from([("R-1-snapshot".to_owned(), manifest)]);
        let name = format!("R-1-ask.given/{}", hex::encode(digest(&SHA256, b"given")));
        fs::create_dir(dir.path().join("R-1-ask.given")).unwrap();
        fs::write(dir.path().join(&name), "given").unwrap();
        assert_eq!(given_in(dir.path()).unwrap().get(&name), Some(&Ok(5)));
        let content = (&bundles, &BTreeSet::from([name]));
        let mut bytes = Vec::new();
        write("note", dir.path(), content, &mut bytes).unwrap();
        let file = dir.path().join("export.tar");
        let check = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            is_spelled_so(&file, dir.path(), content)
        };
        check(&bytes).unwrap();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            check(&bad).unwrap_err();
        }
        check(&[bytes.as_slice(), b"x"].concat()).unwrap_err();
        check(bytes.get(..bytes.len() - 1).unwrap()).unwrap_err();
    }
}
