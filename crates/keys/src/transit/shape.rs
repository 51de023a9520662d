//! A key as the transit engine describes it, and its name there.
//!
//! The name is `<purpose>-<id>`. The engine keeps no custom metadata with a key (2.7 ignores the field), a name cannot be
//! changed, a policy can allow `transit/sign/sealing-*` to the one node that seals, and every line of the audit shows the
//! purpose.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    algorithm::PublicKey,
    attestation::Attestation,
    id::KeyId,
    provider::{KeyInfo, KeyState, Purpose},
};

/// The only version of a key that is ever used: a rotated key is another key, which no log lists.
pub(super) const VERSION: u64 = 1;

/// The format of the attestation: the server's description of the key as JSON, signed by nobody.
const METADATA: &str = "transit-key-metadata-v1";

/// Every purpose.
pub(super) const PURPOSES: [Purpose; 4] = [
    Purpose::Sealing,
    Purpose::Signing,
    Purpose::Node,
    Purpose::Witness,
];

/// The key's name in the engine.
pub(super) fn server_name(purpose: Purpose, id: &KeyId) -> String {
    format!("{purpose}-{id}")
}

/// The key a name in the engine means, if it is one of ours.
pub(super) fn ours(name: &str) -> Option<(Purpose, KeyId)> {
    PURPOSES.into_iter().find_map(|purpose| {
        let id = name.strip_prefix(purpose.as_str())?.strip_prefix('-')?;
        Some((purpose, KeyId::new(id).ok()?))
    })
}

/// `data` of `GET <mount>/keys/<name>`.
#[derive(Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the server's own fields")]
pub(super) struct Described {
    #[serde(rename = "type")]
    kind: String,
    latest_version: u64,
    keys: BTreeMap<String, serde_json::Value>,
    exportable: bool,
    allow_plaintext_backup: bool,
    #[serde(default)]
    imported_key: bool,
    #[serde(default)]
    derived: bool,
    #[serde(default)]
    soft_deleted: bool,
    /// The whole of it, as the server gave it.
    #[serde(skip)]
    pub(super) as_given: serde_json::Value,
}

#[derive(Deserialize)]
struct Version {
    public_key: String,
    creation_time: Timestamp,
}

impl Described {
    /// The public description, or what does not fit an Ed25519 key of exactly one version.
    pub(super) fn info(
        &self,
        id: &KeyId,
        purpose: Purpose,
        provider: &str,
    ) -> Result<KeyInfo, String> {
        if self.kind != "ed25519" || self.derived {
            return Err(format!(
                "it is a {}{} key, not a plain ed25519 one",
                if self.derived { "derived " } else { "" },
                self.kind
            ));
        }
        let only = self.keys.get(&VERSION.to_string());
        let (Some(version), true) = (only, self.latest_version == VERSION && self.keys.len() == 1)
        else {
            return Err(format!(
                "its latest version is {} of {}, where version {VERSION} is the only one expected: somebody has rotated or trimmed it",
                self.latest_version,
                self.keys.len()
            ));
        };
        let version = Version::deserialize(version).map_err(|error| error.to_string())?;
        let public_key = BASE64_STANDARD
            .decode(&version.public_key)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or("its public key is not 32 bytes in base64")?;
        Ok(KeyInfo {
            id: id.clone(),
            purpose,
            public_key: PublicKey::Ed25519(public_key),
            state: if self.soft_deleted {
                KeyState::Disabled
            } else {
                KeyState::Active
            },
            created_at_ms: version.creation_time.as_millisecond(),
            provider: provider.to_owned(),
            attestation: Attestation::Document {
                format: METADATA.to_owned(),
                bytes: self.as_given.to_string().into_bytes(),
            },
        })
    }

    /// Whether the server refuses to use it.
    pub(super) fn is_soft_deleted(&self) -> bool {
        self.soft_deleted
    }

    /// Why a copy of the private key may exist outside the server. The engine never lets `exportable` and
    /// `allow_plaintext_backup` be taken back, so `None` means: no copy was ever given out.
    pub(super) fn may_be_copied(&self) -> Option<&'static str> {
        if self.exportable {
            Some("the key is exportable")
        } else if self.allow_plaintext_backup {
            Some("the key allows plaintext backups")
        } else if self.imported_key {
            Some("the key was imported, so it was outside before")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn described() -> serde_json::Value {
        json!({
            "type": "ed25519", "latest_version": 1, "exportable": false, "allow_plaintext_backup": false,
            "keys": {"1": {"public_key": BASE64_STANDARD.encode([7; 32]), "creation_time": "2026-11-23T03:11:45.953663328Z"}},
        })
    }

    fn info(value: serde_json::Value) -> Result<KeyInfo, String> {
        let described: Described = serde_json::from_value(value).unwrap();
        described.info(&KeyId::new("main-1").unwrap(), Purpose::Sealing, "transit")
    }

    #[test]
    fn a_key_of_another_kind_or_version_is_refused() {
        assert_eq!(info(described()).unwrap().ed25519(), Ok([7; 32]));
        for (field, value) in [
            ("type", json!("ecdsa-p256")),
            ("derived", json!(true)),
            ("latest_version", json!(2)),
            ("keys", json!({})),
            ("keys", json!({"1": 1_700_000_000})),
        ] {
            let mut changed = described();
            changed[field] = value;
            assert!(info(changed).is_err(), "{field}");
        }
    }

    #[test]
    fn whatever_may_have_left_the_server_is_named() {
        for field in ["exportable", "allow_plaintext_backup", "imported_key"] {
            let mut changed = described();
            changed[field] = json!(true);
            let described: Described = serde_json::from_value(changed).unwrap();
            assert!(described.may_be_copied().is_some(), "{field}");
        }
    }

    proptest! {
        #[test]
        fn a_name_in_the_engine_means_one_key(id in "[a-z0-9][a-z0-9.-]{0,63}", which in 0..4_usize) {
            let id = KeyId::new(id).unwrap();
            let name = server_name(PURPOSES[which], &id);
            prop_assert_eq!(ours(&name), Some((PURPOSES[which], id)));
        }
    }
}
