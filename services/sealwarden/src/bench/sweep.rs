//! `sweep.ratio`: the look of an archive's revalidation at documents and their seals, against bare SHA-256 of the same files.
//!
//! What a revalidation does for each object is done here, by the same functions: document and seal are read from the folder, measured, compared with the inventory and judged
//! under a trust bundle. Not what it does for a group: its cursor and the comparison of checkpoints with intents.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use ring::digest::{Context, SHA256, digest};
use sealwarden_archive::{Entry, Examiner, Inventory, Meter, ObjectName, Place, S3Settings, Store};
use sealwarden_seal::trust::VerifiedBundle;

use super::Setting;
use super::figures::{Figure, Measured, number};
use super::verify::{ORIGIN, Sample, index_of};

/// Documents: 66 MB in all, so that they stay in memory and the disk is not what is measured.
const DOCUMENTS: u64 = 192;
/// Their lengths, one after another, in KiB.
const LENGTHS: [u64; 4] = [64, 64, 256, 1024];
/// Objects that a revalidation looks at together.
const GROUP: usize = 32;
/// Bytes that bare hashing reads at once: as many as the archive does.
const PIECE: usize = 256 * 1024;

pub(super) fn measure(setting: &Setting) -> anyhow::Result<Measured> {
    setting.stage("writing documents and seals");
    let archive = Archive::write(&setting.folder.join("archive"))?;
    setting.stage("sweeping, and bare hashing in turn");
    let (mut swept, mut bare, mut passes) = (Duration::ZERO, Duration::ZERO, 0_u64);
    // In turn, so that whatever else the machine does meets both.
    while swept < setting.span {
        let begun = Instant::now();
        archive.sweep()?;
        swept += begun.elapsed();
        let begun = Instant::now();
        archive.hash()?;
        bare += begun.elapsed();
        passes += 1;
    }
    let mut measured = Measured {
        figures: vec![Figure {
            name: "sweep.ratio",
            value: bare.as_secs_f64() / swept.as_secs_f64(),
            unit: "of bare SHA-256",
            limit: 1.0,
            limit_is: "SHA-256 of the same files, read in the same pieces, in turn with the sweep",
        }],
        baselines: Vec::new(),
        settings: Vec::new(),
    };
    let mb = |took: Duration| number(archive.bytes * passes) / 1e6 / took.as_secs_f64();
    measured.setting("durability", "none: nothing is written");
    measured.setting("cores used", "1");
    measured.setting(
        "rates",
        format!("sweep {:.0} MB/s, bare {:.0} MB/s", mb(swept), mb(bare)),
    );
    measured.setting(
        "documents",
        format!(
            "{DOCUMENTS} of 64 KiB to 1 MiB ({:.0} MB) with seals of a tree of 16 million, all in the page cache; {passes} passes",
            number(archive.bytes) / 1e6
        ),
    );
    Ok(measured)
}

struct Archive {
    store: Store,
    inventory: Inventory,
    entries: Vec<Entry>,
    bundle: VerifiedBundle,
    paths: Vec<PathBuf>,
    bytes: u64,
}

fn document(number: u64) -> Vec<u8> {
    let turn = usize::try_from(number).unwrap_or_default() % LENGTHS.len();
    let kib = LENGTHS.get(turn).copied().unwrap_or_default();
    (0..kib * 128)
        .flat_map(|word| (word ^ number << 32).to_be_bytes())
        .collect()
}

impl Archive {
    fn write(folder: &Path) -> anyhow::Result<Self> {
        let place = folder.to_str().context("the folder's name is not UTF-8")?;
        let store = Place::parse(place)?.open(&S3Settings::default())?;
        let sample = Sample::of(|number| {
            let bytes = if number < DOCUMENTS {
                document(number)
            } else {
                Vec::new()
            };
            let mut sha256 = [0; 32];
            sha256.copy_from_slice(digest(&SHA256, &bytes).as_ref());
            sha256
        })?;
        let (mut entries, mut paths, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (number, (seal, sha256)) in (0..DOCUMENTS).zip(&sample.seals) {
            let name = ObjectName::new(format!("{number:04}"))?;
            let document = document(number);
            let path = folder.join(name.document());
            fs::create_dir_all(path.parent().context("a document lies in a folder")?)?;
            fs::write(&path, &document)?;
            fs::write(folder.join(name.seal()), seal)?;
            let size = u64::try_from(document.len())?;
            entries.push(Entry {
                name,
                size,
                sha256: *sha256,
                origin: ORIGIN.to_owned(),
                index: index_of(number),
                stored_at_ms: 0,
            });
            paths.push(path);
            bytes += size;
        }
        let mut inventory = Inventory::default();
        inventory.extend(entries.iter().cloned());
        Ok(Self {
            store,
            inventory,
            entries,
            bundle: sample.bundle,
            paths,
            bytes,
        })
    }

    fn sweep(&self) -> anyhow::Result<()> {
        let meter = Meter::new(None);
        let now_ms = Timestamp::now().as_millisecond();
        for group in self.entries.chunks(GROUP) {
            let mut examiner = Examiner::new(&self.bundle, &self.inventory, now_ms);
            for (entry, found) in self.store.observe_files(group.to_vec(), &meter)? {
                let examined = examiner.examine(&entry, &found);
                // A sweep that finds damage here measures something else.
                ensure!(examined.damage.is_empty(), "{:?}", examined.damage);
            }
        }
        Ok(())
    }

    fn hash(&self) -> anyhow::Result<()> {
        let mut buffer = vec![0; PIECE];
        for path in &self.paths {
            let mut file = File::open(path)?;
            let mut context = Context::new(&SHA256);
            loop {
                let count = file.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                context.update(buffer.get(..count).unwrap_or_default());
            }
            black_box(context.finish());
        }
        Ok(())
    }
}
