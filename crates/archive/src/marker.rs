//! The marker of a quarantined object.

use serde::{Deserialize, Serialize};

use crate::name::ObjectName;

/// Name and version of the marker's form.
const FORMAT: &str = "sealwarden-archive-quarantine/v1";

/// Why an object is not to be used. It stands in the store, so that programs which know nothing of the service can see it, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marker {
    /// Name and version of this form.
    pub format: String,
    /// The object.
    pub object: ObjectName,
    /// Why.
    pub reason: String,
    /// Who quarantined it.
    pub by: String,
    /// Since when, Unix milliseconds.
    pub since_ms: i64,
}

impl Marker {
    /// A new one.
    pub fn new(object: ObjectName, reason: String, by: String, since_ms: i64) -> Self {
        Self {
            format: FORMAT.to_owned(),
            object,
            reason,
            by,
            since_ms,
        }
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }
}
