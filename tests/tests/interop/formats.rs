//! Notes, checkpoints, trees, tiles and proofs, by Rust implementations that share no code with ours.

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{InclusionProof, RootHash};
use sha2::{Digest as _, Sha256};
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};
use tlog_tiles::{Checkpoint, Hash, Tile, check_record, record_hash};

use super::published::{Published, SEALS};

/// Checks `cosignature/v1` as C2SP writes it: a time, then Ed25519 over a header with the time and the whole note.
struct Cosigner {
    name: String,
    id: u32,
    key: Vec<u8>,
}

impl Cosigner {
    fn new(vkey: &str) -> Self {
        let mut parts = vkey.splitn(3, '+');
        let mut part = || parts.next().expect("name+id+key");
        let (name, id, key) = (part().to_owned(), part(), part());
        let id = u32::from_str_radix(id, 16).expect("a key id");
        let key = base64(key);
        assert_eq!(key.first(), Some(&0x04), "the type of a cosignature key");
        assert_eq!(
            id,
            signed_note::key_id(&name, &key),
            "the id of a cosignature key"
        );
        Self {
            name,
            id,
            key: key.split_at(1).1.to_vec(),
        }
    }
}

impl Verifier for Cosigner {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, note: &[u8], blob: &[u8]) -> bool {
        let Some((time, signature)) = blob.split_first_chunk::<8>() else {
            return false;
        };
        let mut message =
            format!("cosignature/v1\ntime {}\n", u64::from_be_bytes(*time)).into_bytes();
        message.extend_from_slice(note);
        ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, &self.key)
            .verify(&message, signature)
            .is_ok()
    }
}

/// Standard base64, by the implementation that `signed_note` brings along: a signature line with nothing else in it.
fn base64(text: &str) -> Vec<u8> {
    let line = format!("— x {text}");
    let parsed = signed_note::Signature::from_bytes(line.as_bytes()).expect("base64");
    [&parsed.id().to_be_bytes(), parsed.signature()].concat()
}

/// Opens a signed checkpoint under both keys.
fn checkpoint(note: &[u8], published: &Published) -> Checkpoint {
    let note = Note::from_bytes(note).expect("a signed note");
    let log = StandardVerifier::new(&published.log).expect("the log's verifier key");
    let witness = Cosigner::new(&published.witness);
    let known = VerifierList::new(vec![Box::new(log), Box::new(witness)]);
    let (verified, unknown) = note.verify(&known).expect("both signatures verify");
    assert_eq!(
        (verified.len(), unknown.len()),
        (2, 0),
        "log and witness signed, nobody else"
    );
    let checkpoint = Checkpoint::from_bytes(note.text()).expect("a checkpoint");
    assert_eq!(checkpoint.origin(), "seal.example.com/main/1");
    assert_eq!(checkpoint.extension(), "");
    checkpoint
}

/// The entries of a bundle: a length of two bytes before each.
fn entries(mut bundle: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bundle.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        entries.push(entry.to_vec());
        bundle = rest;
    }
    entries
}

#[tokio::test(flavor = "multi_thread")]
async fn tiles_over_http_rebuild_into_the_signed_root_and_every_seal_proves_its_entry() {
    let published = Published::start().await;
    let (kind, note) = published.get("checkpoint").await;
    assert!(kind.starts_with("text/plain"), "{kind}");
    let head = checkpoint(&note, &published);
    assert_eq!(head.size(), SEALS);

    let (kind, full) = published.get("tile/entries/000").await;
    assert_eq!(kind, "application/octet-stream");
    let (_, rest) = published.get("tile/entries/001.p/44").await;
    let entries: Vec<_> = [entries(&full), entries(&rest)].concat();
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    entries.iter().cloned().for_each(|entry| tree.push(entry));
    assert_eq!(
        tree.root().as_bytes().as_slice(),
        &head.hash().0,
        "the signed root is the root of the entries"
    );

    hash_tiles(&published, &entries).await;
    for (index, seal) in published.seals.iter().step_by(7) {
        prove(&published, seal, *index, &entries);
    }
}

async fn hash_tiles(published: &Published, entries: &[Vec<u8>]) {
    let hashes: Vec<u8> = entries
        .iter()
        .flat_map(|entry| record_hash(entry).0)
        .collect();
    let (full, partial) = hashes.split_at(256 * 32);
    assert_eq!(published.get("tile/0/000").await.1, full);
    assert_eq!(published.get("tile/0/001.p/44").await.1, partial);
    assert_eq!(
        published.get("tile/1/000.p/1").await.1,
        Tile::subtree_hash(full).0
    );
}

/// Reads a seal as the C2SP text says and holds it against the entry at its place, by two implementations.
fn prove(published: &Published, seal: &[u8], place: u64, entries: &[Vec<u8>]) {
    let text = std::str::from_utf8(seal).expect("a seal is text");
    let (head, note) = text
        .split_once("\n\n")
        .expect("an empty line before the checkpoint");
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("c2sp.org/tlog-proof@v1"));
    let extra = lines
        .next()
        .and_then(|line| line.strip_prefix("extra "))
        .map(base64)
        .expect("nonce and record");
    let index = lines
        .next()
        .and_then(|line| line.strip_prefix("index "))
        .expect("an index");
    assert_eq!(index, place.to_string());
    let proof: Vec<[u8; 32]> = lines
        .map(|line| base64(line).try_into().expect("a hash"))
        .collect();
    let head = checkpoint(note.as_bytes(), published);

    let entry = usize::try_from(place)
        .ok()
        .and_then(|at| entries.get(at))
        .expect("an entry");
    let other = b"another entry".to_vec();
    let path: Vec<Hash> = proof.iter().map(|hash| Hash(*hash)).collect();
    let check =
        |entry: &[u8]| check_record(&path, head.size(), *head.hash(), place, record_hash(entry));
    assert!(
        check(entry).is_ok(),
        "seal {place} does not prove its entry"
    );
    assert!(check(&other).is_err());

    let root = RootHash::<Sha256>::new(head.hash().0.into(), head.size());
    let path = InclusionProof::from_bytes(proof.concat());
    assert!(
        root.verify_inclusion(entry, place, &path).is_ok(),
        "seal {place} does not prove its entry"
    );
    assert!(root.verify_inclusion(&other, place, &path).is_err());

    // The entry is the salted commitment: version, then SHA-256 over domain, nonce and record; the public tile shows no more.
    let nonce = extra.split_at(16).0;
    assert_eq!(entry.len(), 33);
    assert!(!entry.windows(16).any(|window| window == nonce));
    assert_ne!(
        entry.split_at(1).1,
        Sha256::digest(&extra).as_slice(),
        "the commitment has a domain of its own"
    );
}
