//! Seals every file of a folder in bulk and writes `FILE.seal` beside each.
//!
//! ```sh
//! sealwarden up &
//! cargo run -p sealwarden-client --example seal_folder -- ./sealwarden-data ./documents
//! ```

use anyhow::Context as _;
use sealwarden_client::{Chunk, Client, MAX_CHUNK_DIGESTS, Stage, Work};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let usage = "usage: seal_folder DATA FOLDER";
    let data = arguments.next().context(usage)?;
    let folder = arguments.next().context(usage)?;
    let client = Client::of_installation(&data, "operator").await?;
    let files = files(&folder)?;
    let mut of_chunk = HashMap::new();
    let (chunks, source) = tokio::sync::mpsc::channel(files.len() / MAX_CHUNK_DIGESTS + 1);
    for (number, files) in (0..).zip(files.chunks(MAX_CHUNK_DIGESTS)) {
        let digests = files
            .iter()
            .map(|file| digest(file))
            .collect::<Result<_, _>>()?;
        of_chunk.insert(number, files.to_vec());
        chunks
            .send(Chunk {
                number,
                digests,
                ..Chunk::default()
            })
            .await?;
    }
    drop(chunks);
    // A seal without its witnesses is not `valid` yet.
    let work = Work {
        wait: Stage::Witnessed,
        ..Work::new("default")
    };
    let mut written = Ok(());
    client
        .seal_bulk(&work, source, |chunk, sealed, _| {
            let mut files = of_chunk
                .remove(&chunk.number)
                .unwrap_or_default()
                .into_iter();
            sealed.for_each_seal(|_, text| {
                if let (Some(file), Ok(())) = (files.next(), &written) {
                    let mut seal = file.into_os_string();
                    seal.push(".seal");
                    written = fs::write(seal, text);
                }
            });
        })
        .await?;
    written.context("writing a seal")
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_file() && path.extension().is_none_or(|end| end != "seal") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn digest(path: &Path) -> anyhow::Result<[u8; 32]> {
    let mut file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(context.finish().as_ref().try_into()?);
        }
        context.update(&buffer[..count]);
    }
}
