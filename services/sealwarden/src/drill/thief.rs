//! The attacker: somebody with a copy of the key folder. Works with the stolen files and with what is public, never with the services' inside.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sealwarden_keys::{Guard, KeyId, KeyProvider as _, Purpose, SoftwareConfig, SoftwareProvider};
use sealwarden_seal::checkpoint::Checkpoint;
use sealwarden_seal::merkle::MemoryTree;
use sealwarden_seal::note::{Note, Vkey};
use sealwarden_seal::record::{DigestAlgorithm, Record, entry};
use sealwarden_seal::seal::format_seal;
use sealwarden_seal::tile::{TileKind, decode_bundle, tile_at};
use sealwarden_seal::witness::AddCheckpoint;

use crate::host::installation::{private_dir, random};

/// What a thief made.
pub(crate) struct Forgery {
    /// The forged document.
    pub(crate) document: PathBuf,
    /// A seal whose signature is genuine: made with the stolen key.
    pub(crate) seal: Vec<u8>,
    /// The witness's answer to the forged checkpoint.
    pub(crate) witness_answer: u16,
}

/// Copies the key folder, as malware or a stolen backup would.
pub(crate) fn steal(node_folder: &Path, loot: &Path) -> anyhow::Result<()> {
    private_dir(loot)?;
    copy(&node_folder.join("keys"), &loot.join("keys"))?;
    std::fs::copy(node_folder.join("guard"), loot.join("guard")).context("stealing the guard")?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    private_dir(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("stealing {}", from.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_file() {
            std::fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

/// Opens stolen (or borrowed) key files.
async fn keys(folder: &Path) -> anyhow::Result<SoftwareProvider> {
    let config = SoftwareConfig {
        dir: folder.join("keys"),
        guard: Guard::File(folder.join("guard")),
    };
    Ok(SoftwareProvider::open(config).await?)
}

/// Extends the public tree by a forged leaf, consistently, signs it with the stolen key, and asks the witness to cosign.
pub(crate) async fn forge(
    loot: &Path,
    key_id: &str,
    tiles: &str,
    witness: &str,
    sandbox: &Path,
) -> anyhow::Result<Forgery> {
    let http = sealwarden_anchors::outside::plain_client()?;
    let published = http
        .get(format!("{tiles}/checkpoint"))
        .send()
        .await?
        .error_for_status()?
        .bytes()
        .await?;
    let note = Note::parse(&published)?;
    let checkpoint = Checkpoint::parse(note.text())?;
    let mut tree = fetch_tree(&http, tiles, checkpoint.size).await?;
    let document = sandbox.join("forged-invoice.txt");
    std::fs::write(&document, "Pay 1,000,000 to the thief.\n")?;
    let record = Record {
        tenant: "drill".to_owned(),
        policy: "default".to_owned(),
        digest_algorithm: DigestAlgorithm::Sha256,
        digest: crate::commands::verify::digest_of(&document)
            .map_err(|e| anyhow::anyhow!(e.message()))?,
        claimed_at_ms: jiff::Timestamp::now().as_millisecond(),
        subject: None,
        original: None,
        request_id: None,
    }
    .encode()?;
    let nonce = random::<16>()?;
    tree.push_entry(&entry(&nonce, &record));
    let forged = Checkpoint {
        origin: checkpoint.origin.clone(),
        size: tree.size(),
        root: tree.root(),
    };
    let signed = sign(loot, key_id, &forged).await?;
    let index = checkpoint.size;
    let seal = format_seal(
        &nonce,
        &record,
        index,
        &tree.inclusion_proof(index, tree.size())?,
        &signed.to_string(),
    );
    let request = AddCheckpoint {
        old_size: checkpoint.size,
        proof: tree.consistency_proof(checkpoint.size, tree.size())?,
        note: signed,
    };
    let answer = http
        .post(witness)
        .body(request.to_text())
        .send()
        .await
        .context("asking the witness")?;
    Ok(Forgery {
        document,
        seal: seal.into_bytes(),
        witness_answer: answer.status().as_u16(),
    })
}

async fn sign(folder: &Path, key_id: &str, checkpoint: &Checkpoint) -> anyhow::Result<Note> {
    let keys = keys(folder).await?;
    let id = KeyId::new(key_id)?;
    let vkey = Vkey::ed25519(&checkpoint.origin, keys.info(&id).await?.ed25519()?)?;
    let unsigned = checkpoint.to_note()?;
    let signature = keys
        .sign(&id, Purpose::Sealing, unsigned.text().as_bytes())
        .await?;
    Ok(unsigned.attach(vkey.name(), vkey.key_id(), signature.as_bytes())?)
}

async fn fetch_tree(http: &reqwest::Client, tiles: &str, size: u64) -> anyhow::Result<MemoryTree> {
    let mut tree = MemoryTree::new();
    while tree.size() < size {
        let Some(tile) = tile_at(TileKind::Entries, tree.size(), size) else {
            bail!("no tile holds entry {}", tree.size());
        };
        let url = format!("{tiles}/{tile}");
        let bytes = http
            .get(&url)
            .send()
            .await?
            .error_for_status()?
            .bytes()
            .await?;
        for entry in decode_bundle(&bytes, tile.width)? {
            tree.push_entry(entry);
        }
    }
    Ok(tree)
}

/// Uses the key in its own place, as an intruder on the machine would: the provider's audit trail records it.
pub(crate) async fn misuse_in_place(node_folder: &Path, key_id: &str) -> anyhow::Result<()> {
    let id = KeyId::new(key_id)?;
    keys(node_folder)
        .await?
        .sign(&id, Purpose::Sealing, b"a statement that nobody intended\n")
        .await?;
    Ok(())
}
