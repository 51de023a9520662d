//! Judging what was found of an object. Pure: bytes and a trust bundle in, damage out.

use std::collections::BTreeMap;

use sealwarden_seal::trust::VerifiedBundle;
use sealwarden_seal::verdict::{Verdict, Verification, Verifier};

use crate::damage::{Damage, DamageClass, Document, Found, SealFile};
use crate::inventory::{Entry, Inventory};

/// Checkpoints that are remembered: documents that were stored together mostly share them.
const CHECKPOINTS: usize = 256;

/// What is known of the other objects.
pub type Known<'a> = &'a Inventory;

/// What the look at one object gave.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What is wrong; nothing if it is intact.
    pub damage: Vec<Damage>,
    /// The seal's verdict over the digest that was sealed, and its reason; `None` where there is no seal to judge.
    pub verdict: Option<(Verdict, String)>,
    /// Which of [`Examiner::notes`] the seal's checkpoint is; for good seals only.
    pub note: Option<usize>,
}

/// Judges many objects under one trust bundle.
pub struct Examiner<'a> {
    verifier: Verifier<'a>,
    known: Known<'a>,
    now_ms: i64,
    notes: BTreeMap<Box<[u8]>, usize>,
}

impl std::fmt::Debug for Examiner<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Examiner")
            .field("notes", &self.notes.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Examiner<'a> {
    /// `now_ms` is the present, Unix milliseconds.
    pub fn new(bundle: &'a VerifiedBundle, known: Known<'a>, now_ms: i64) -> Self {
        Self {
            verifier: Verifier::new(bundle, CHECKPOINTS),
            known,
            now_ms,
            notes: BTreeMap::new(),
        }
    }

    /// The signed checkpoints of the good seals, in the order of their numbers.
    pub fn notes(&self) -> Vec<Vec<u8>> {
        let mut all: Vec<_> = self.notes.iter().collect();
        all.sort_by_key(|(_, number)| **number);
        all.into_iter().map(|(note, _)| note.to_vec()).collect()
    }

    /// Judges one object.
    pub fn examine(&mut self, entry: &Entry, found: &Found) -> Examined {
        let mut examined = Examined {
            damage: Vec::new(),
            verdict: None,
            note: None,
        };
        examined
            .damage
            .extend(self.document(entry, &found.document));
        match &found.seal {
            SealFile::Present(bytes) => self.seal(entry, bytes, &mut examined),
            SealFile::Missing => {
                let detail = "there is no seal beside it";
                examined
                    .damage
                    .push(of(entry, DamageClass::SealMissing, detail.to_owned()));
            }
            SealFile::Unreadable(reason) | SealFile::Unanswered(reason) => {
                let detail = format!("its seal cannot be read: {reason}");
                examined
                    .damage
                    .push(of(entry, DamageClass::Unreadable, detail));
            }
        }
        examined
    }

    fn document(&self, entry: &Entry, document: &Document) -> Option<Damage> {
        let measured = match document {
            Document::Present(measured) => measured,
            Document::Missing => {
                let detail = format!("{} bytes are gone", entry.size);
                return Some(of(entry, DamageClass::Missing, detail));
            }
            Document::Unreadable(reason) | Document::Unanswered(reason) => {
                let detail = format!("it cannot be read: {reason}");
                return Some(of(entry, DamageClass::Unreadable, detail));
            }
            Document::Oversized(size) => {
                let detail = format!(
                    "it has {size} bytes instead of {}; so many were not read",
                    entry.size
                );
                let mut damage = of(entry, DamageClass::BytesChanged, detail);
                damage.found_size = Some(*size);
                return Some(damage);
            }
        };
        if measured.sha256 == entry.sha256 {
            return None;
        }
        let other = self.known.named(&measured.sha256);
        let (class, detail) = match other {
            Some(other) => (
                DamageClass::DocumentSwapped,
                format!("the document of {other} stands here"),
            ),
            None if measured.size < entry.size => (
                DamageClass::Truncated,
                format!("it has {} of {} bytes", measured.size, entry.size),
            ),
            None => (
                DamageClass::BytesChanged,
                format!(
                    "its {} bytes are not those that were sealed ({})",
                    measured.size, entry.size
                ),
            ),
        };
        let mut damage = of(entry, class, detail);
        damage.found_sha256 = hex::encode(measured.sha256);
        damage.found_size = Some(measured.size);
        Some(damage)
    }

    fn seal(&mut self, entry: &Entry, bytes: &[u8], examined: &mut Examined) {
        let answer = self.verifier.verify(bytes, Some(entry.sha256), self.now_ms);
        let problem = self.seal_problem(entry, &answer);
        match problem {
            Some((class, detail)) => examined.damage.push(of(entry, class, detail)),
            None => examined.note = note_of(bytes).map(|note| self.number(note)),
        }
        examined.verdict = Some((answer.verdict, answer.reason));
    }

    fn number(&mut self, note: &[u8]) -> usize {
        if let Some(number) = self.notes.get(note) {
            return *number;
        }
        let number = self.notes.len();
        self.notes.insert(note.into(), number);
        number
    }

    fn seal_problem(&self, entry: &Entry, answer: &Verification) -> Option<(DamageClass, String)> {
        let class = match answer.verdict {
            Verdict::Malformed | Verdict::BadProof | Verdict::BadSignature => {
                DamageClass::SealDamaged
            }
            Verdict::DocumentMismatch => {
                let other = answer
                    .record
                    .as_ref()
                    .and_then(|record| self.known.named(&record.digest));
                let whose = other.map_or_else(String::new, |other| {
                    format!("the seal of {other} stands here: ")
                });
                return Some((
                    DamageClass::SealOfAnotherDocument,
                    format!("{whose}{}", answer.reason),
                ));
            }
            Verdict::UnknownLog if answer.origin.as_deref() != Some(&entry.origin) => {
                DamageClass::SealDamaged
            }
            Verdict::UnknownLog => DamageClass::SealNotValid,
            Verdict::Valid
            | Verdict::ValidBeforeCompromise
            | Verdict::Suspect
            | Verdict::Unwitnessed => {
                if let Some(other) = other_leaf(entry, answer) {
                    return Some((DamageClass::SealOfAnotherDocument, other));
                }
                if answer.verdict.is_valid() {
                    return None;
                }
                DamageClass::SealNotValid
            }
        };
        Some((
            class,
            format!("{}: {}", answer.verdict.as_str(), answer.reason),
        ))
    }
}

/// Whether a good seal is of another leaf than the one that was stored, or that one was sealed again as.
fn other_leaf(entry: &Entry, answer: &Verification) -> Option<String> {
    let here = answer.origin.as_deref() == Some(&entry.origin) && answer.index == Some(entry.index);
    let original = answer
        .record
        .as_ref()
        .and_then(|record| record.original.as_ref());
    let again = original.is_some_and(|it| it.origin == entry.origin && it.index == entry.index);
    (!here && !again).then(|| {
        format!(
            "its seal is leaf {} of {}; the document was stored as leaf {} of {}",
            answer.index.unwrap_or_default(),
            answer.origin.as_deref().unwrap_or_default(),
            entry.index,
            entry.origin
        )
    })
}

fn note_of(seal: &[u8]) -> Option<&[u8]> {
    let at = seal.windows(2).position(|pair| pair == b"\n\n")?;
    seal.get(at + 2..)
}

fn of(entry: &Entry, class: DamageClass, detail: String) -> Damage {
    Damage {
        object: entry.name.to_string(),
        class,
        detail,
        expected_sha256: hex::encode(entry.sha256),
        found_sha256: String::new(),
        expected_size: entry.size,
        found_size: None,
        first_difference: None,
    }
}
