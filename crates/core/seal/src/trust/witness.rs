//! Witnesses: their keys, and when they have cosigned.

use super::payload::{check_name, check_required, rule};
use super::{SignatureType, TrustError};
use crate::note::{Note, Vkey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MAX_URL_BYTES: usize = 512;
/// A witness has at most this many keys beside its first.
const MAX_OTHER_VKEYS: usize = 8;

/// A witness whose cosignatures count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessEntry {
    /// What people call it.
    pub name: String,
    /// Its cosignature key.
    pub vkey: Vkey,
    /// Who runs it.
    pub operator: String,
    /// Is it run by the installation itself? Only other people's witnesses date a seal before a compromise.
    pub local: bool,
    /// Its other keys: a signature of any of them is this one witness's. So a witness can sign with two algorithms, or
    /// change its key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_vkeys: Vec<Vkey>,
    /// The address under which it takes `add-checkpoint` (C2SP tlog-witness's submission prefix).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The types of which each a signature of the witness must stand on a checkpoint, in their order; else it has not cosigned. Where
    /// none is named, one signature of any of its keys is enough.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<SignatureType>,
}

/// The times of a witness's signatures on one checkpoint, by type: the earliest of each, none where it states none.
pub type SignatureTimes<T> = BTreeMap<SignatureType, Option<T>>;

impl WitnessEntry {
    /// A witness with one key and without an address.
    pub fn new(name: &str, vkey: Vkey, operator: &str, local: bool) -> Self {
        Self {
            name: name.to_owned(),
            vkey,
            operator: operator.to_owned(),
            local,
            other_vkeys: Vec::new(),
            url: None,
            required: Vec::new(),
        }
    }

    /// All its keys.
    pub fn keys(&self) -> impl Iterator<Item = &Vkey> {
        std::iter::once(&self.vkey).chain(&self.other_vkeys)
    }

    /// When a checkpoint with these signatures was cosigned: `None` where it was not, or a required type is missing, and `Some(None)` where no time is
    /// stated. It is the earliest time. Where types are required it is the latest of theirs: who can forge one of them must not date with it.
    pub fn time_of<T: Ord + Copy>(&self, signed: &SignatureTimes<T>) -> Option<Option<T>> {
        if signed.is_empty() {
            return None;
        }
        if self.required.is_empty() {
            return Some(signed.values().flatten().min().copied());
        }
        let times: Option<Vec<Option<T>>> = self
            .required
            .iter()
            .map(|wanted| signed.get(wanted).copied())
            .collect();
        let stated: Option<Vec<T>> = times?.into_iter().collect();
        Some(stated.and_then(|times| times.into_iter().max()))
    }

    /// When it cosigned this note, in Unix seconds by its own clock, as [`Self::time_of`] says it. A bad line of one of its keys is no cosignature.
    pub fn cosigned(&self, note: &Note) -> Option<Option<u64>> {
        let keys: Vec<Vkey> = self.keys().cloned().collect();
        let mut signed = SignatureTimes::new();
        for line in note.verify(&keys).ok()? {
            let of = keys.get(line.key_index).and_then(SignatureType::of_witness);
            note_time(&mut signed, of?, line.time_s);
        }
        self.time_of(&signed)
    }

    pub(super) fn validate(&self) -> Result<(), TrustError> {
        let name = &self.name;
        check_name("witness", name)?;
        check_name("operator", &self.operator)?;
        rule(self.other_vkeys.len() <= MAX_OTHER_VKEYS, || {
            format!("witness {name} has more than {MAX_OTHER_VKEYS} other keys")
        })?;
        for vkey in self.keys() {
            rule(SignatureType::of_witness(vkey).is_some(), || {
                format!("{vkey} of witness {name} is not a cosignature key (type 04 or 06)")
            })?;
        }
        let types = self.keys().filter_map(SignatureType::of_witness);
        check_required(name, &self.required, &types.collect())?;
        let fits = |url: &String| {
            let printable = url.bytes().all(|byte| byte.is_ascii_graphic());
            let web = url.starts_with("https://") || url.starts_with("http://");
            printable && web && url.len() <= MAX_URL_BYTES
        };
        rule(self.url.as_ref().is_none_or(fits), || {
            format!(
                "the address of witness {name} is not an http or https URL of at most {MAX_URL_BYTES} bytes"
            )
        })
    }

    pub(super) fn has_second_format(&self) -> bool {
        !self.other_vkeys.is_empty() || self.url.is_some()
    }
}

/// Adds a signature's time to those of its type: the earliest stays, and a stated one before none.
pub(crate) fn note_time<T: Ord + Copy>(
    signed: &mut SignatureTimes<T>,
    of: SignatureType,
    found: Option<T>,
) {
    let kept = signed.entry(of).or_insert(found);
    *kept = match (*kept, found) {
        (Some(kept), Some(found)) => Some(kept.min(found)),
        (kept, found) => kept.or(found),
    };
}
