//! The installation's own witnesses: its verification nodes, asked for their keys.

use std::time::Duration;

use sealwarden_engine::{Node, Role};
use sealwarden_seal::note::{VerifierKey, Vkey};
use sealwarden_seal::trust::{Payload, SignatureType, TrustBundle, WitnessEntry};

/// The longest that a witness may take to tell its keys.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const MAX_BYTES: usize = 8192;
/// No witness of ours has more keys.
const MAX_KEYS: usize = 4;

/// The witnesses of the next bundle: outside ones of the bundle before, and local ones: those that answer now, and for those that do not, what the bundle before says.
pub(super) async fn current(
    node: &Node,
    http: &reqwest::Client,
    before: Option<&TrustBundle>,
) -> Vec<WitnessEntry> {
    let mut witnesses = before
        .and_then(|bundle| Payload::parse(bundle.payload_text()).ok())
        .map(|payload| payload.witnesses)
        .unwrap_or_default();
    for (name, _, url) in node.peers(Role::Verification) {
        match ask(http, &url).await {
            Ok(keys) => join(&mut witnesses, keys, &node.installation),
            Err(reason) => {
                tracing::warn!(node = name, url, reason, "a witness did not tell its keys");
            }
        }
    }
    witnesses.sort_by(|a, b| a.name.cmp(&b.name));
    witnesses
}

/// What the witnesses tell of keys that a bundle does not list yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unlisted {
    /// None, and all of them answered.
    None,
    /// These, by their ids.
    Keys(Vec<String>),
    /// None, and one of them did not answer.
    Unknown,
}

impl Unlisted {
    /// Why a bundle is due, if it is.
    pub(super) fn reason(&self) -> Option<String> {
        match self {
            Self::Keys(keys) => Some(format!("lists the witness keys {}", keys.join(", "))),
            Self::None | Self::Unknown => None,
        }
    }
}

/// Asks the witnesses whether they have keys that the bundle does not list beside the one that it lists. Another witness than the bundle's is not looked for.
pub(super) async fn unlisted(node: &Node, http: &reqwest::Client, payload: &Payload) -> Unlisted {
    let mut outcome = Unlisted::None;
    for (name, _, url) in node.peers(Role::Verification) {
        match ask(http, &url).await {
            Ok(keys) => {
                let new = new_keys(&payload.witnesses, &keys);
                if !new.is_empty() {
                    return Unlisted::Keys(new);
                }
            }
            Err(reason) => {
                tracing::debug!(node = name, url, reason, "a witness did not tell its keys");
                outcome = Unlisted::Unknown;
            }
        }
    }
    outcome
}

fn new_keys(known: &[WitnessEntry], told: &[Vkey]) -> Vec<String> {
    let Some(entry) = known.iter().find(|entry| told.contains(&entry.vkey)) else {
        return Vec::new();
    };
    let new = told.iter().filter(|key| !entry.keys().any(|it| it == *key));
    new.map(|key| key.key_id().to_string()).collect()
}

/// Lists a witness with its keys, the first of which names it.
///
/// All the types of a witness that was not listed before are required: it never cosigned without one of them. Of one that was listed with fewer, none more is,
/// because what it cosigned before would not count any more. Keys that a bundle listed stay listed for the same reason.
fn join(witnesses: &mut Vec<WitnessEntry>, told: Vec<Vkey>, operator: &str) {
    let mut keys = told.into_iter();
    let Some(first) = keys.next() else { return };
    let name = first.name().to_owned();
    let mut entry = WitnessEntry::new(&name, first, operator, true);
    entry.other_vkeys.extend(keys);
    // The settings may have given it another name than its key has.
    let is_it = |known: &WitnessEntry| known.name == name || known.vkey == entry.vkey;
    let before = witnesses.iter().position(is_it);
    let before = before.map(|place| witnesses.remove(place));
    match &before {
        Some(before) if before.vkey == entry.vkey => {
            let kept = before.other_vkeys.iter();
            let kept: Vec<Vkey> = kept
                .filter(|key| !entry.other_vkeys.contains(key))
                .cloned()
                .collect();
            entry.other_vkeys.extend(kept);
            entry.required.clone_from(&before.required);
        }
        Some(_) | None => {
            let mut types: Vec<_> = entry.keys().filter_map(SignatureType::of_witness).collect();
            types.sort_unstable();
            types.dedup();
            // One type alone needs no rule, and a bundle without it is read by older programs.
            if types.len() > 1 {
                entry.required = types;
            }
        }
    }
    witnesses.push(entry);
}

async fn ask(http: &reqwest::Client, url: &str) -> Result<Vec<Vkey>, String> {
    let answer = http
        .get(format!("{}/witness/key", url.trim_end_matches('/')))
        .timeout(TIMEOUT)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| error.to_string())?;
    let bytes = crate::evidence::bounded_body(answer, MAX_BYTES).await?;
    let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    read(text)
}

/// One key a line.
fn read(text: &str) -> Result<Vec<Vkey>, String> {
    let keys: Result<Vec<Vkey>, String> = text.trim_end().lines().map(key).collect();
    let keys = keys?;
    let mut names: Vec<_> = keys.iter().map(Vkey::name).collect();
    names.dedup();
    if names.len() != 1 || keys.len() > MAX_KEYS {
        return Err(format!(
            "it tells {} keys; a witness tells 1 to {MAX_KEYS} of one name, one a line",
            keys.len()
        ));
    }
    Ok(keys)
}

fn key(text: &str) -> Result<Vkey, String> {
    let vkey: Vkey = text
        .parse()
        .map_err(|error: sealwarden_seal::note::VkeyError| error.to_string())?;
    match vkey.key() {
        VerifierKey::CosignatureV1(_) | VerifierKey::MlDsa44(_) => Ok(vkey),
        VerifierKey::Ed25519(_) => Err(format!("{vkey} is not a cosignature key (type 04 or 06)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classic(seed: u8) -> Vkey {
        Vkey::cosignature_v1("w", [seed; 32]).unwrap()
    }

    fn quantum(seed: u8) -> Vkey {
        Vkey::ml_dsa_44("w", [seed; 1312]).unwrap()
    }

    #[test]
    fn one_key_a_line_of_one_name() {
        let both = format!("{}\n{}\n", classic(3), quantum(4));
        assert_eq!(read(&both).unwrap(), [classic(3), quantum(4)]);
        assert_eq!(read(&classic(3).to_string()).unwrap(), [classic(3)]);
        let log = Vkey::ed25519("w", [3; 32]).unwrap();
        let other = Vkey::ml_dsa_44("v", [4; 1312]).unwrap();
        let many = both.repeat(3);
        for bad in ["", "\n", "x", &log.to_string(), &many] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(read(&format!("{}\n{other}\n", classic(3))).is_err());
    }

    #[test]
    fn a_type_is_required_of_a_witness_that_always_had_it_and_known_keys_stay() {
        let types = [SignatureType::Ed25519, SignatureType::MlDsa44];
        let mut new = Vec::new();
        join(&mut new, vec![classic(3), quantum(4)], "us");
        assert_eq!(new[0].required, types);
        assert_eq!(new_keys(&new, &[classic(3), quantum(4)]), [""; 0]);
        // It stays required, and the key listed, whatever the witness tells later.
        join(&mut new, vec![classic(3)], "us");
        assert_eq!(new[0].required, types);
        assert_eq!(new[0].other_vkeys, [quantum(4)]);

        let mut old = Vec::new();
        join(&mut old, vec![classic(3)], "us");
        assert!(old[0].required.is_empty());
        let told = [classic(3), quantum(4)];
        assert_eq!(new_keys(&old, &told), [quantum(4).key_id().to_string()]);
        join(&mut old, told.to_vec(), "us");
        assert!(old[0].required.is_empty(), "its older cosignatures count");
        assert_eq!(old[0].other_vkeys, [quantum(4)]);
        assert_eq!(new_keys(&old, &[classic(9)]), [""; 0]);
    }
}
