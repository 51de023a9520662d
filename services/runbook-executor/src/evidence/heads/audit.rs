//! The audit of all heads that are kept beside an evidence log; needs no server and no event log.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use sealwarden_seal::note::Vkey;

use super::kept::{Kept, name_of};
use crate::evidence::verify::{Damage, damage};

/// What a folder of heads holds.
#[derive(Debug, Default)]
pub struct HeadsAudit {
    /// Sealed heads that hold: the name of the files without ending, and the seal.
    pub seals: Vec<(String, String)>,
    /// Files of a pair that was never finished: a crash leaves them.
    pub unfinished: u64,
    /// What does not hold.
    pub damage: Vec<Damage>,
}

/// Checks every kept text against its seal, and that neither what they saw of the event log nor their places in the evidence log go back. Blocks its thread.
pub fn audit_heads(dir: &Path, evidence_log: &Vkey) -> io::Result<HeadsAudit> {
    let mut audit = HeadsAudit::default();
    let (mut texts, mut seals) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(dir)? {
        let file = entry?.file_name().to_string_lossy().into_owned();
        let (name, ending) = file.split_once('.').unwrap_or((&file, ""));
        let number = name.parse::<u64>().ok().filter(|it| name_of(*it) == name);
        match (number, ending) {
            (Some(number), "txt") => drop(texts.insert(number)),
            (Some(number), "seal") => drop(seals.insert(number)),
            (Some(_), "txt.partial" | "seal.partial") => audit.unfinished += 1,
            _ => audit.damage.push(damage(
                &file,
                "no such file",
                "a file that is named after no heads",
            )),
        }
    }
    audit.unfinished += u64::try_from(seals.difference(&texts).count()).unwrap_or(u64::MAX);
    let mut last: Option<(String, u64, u64)> = None;
    for number in texts {
        let name = name_of(number);
        let kept = match Kept::read(dir, &name, evidence_log) {
            Ok(kept) => kept,
            Err(damage) => {
                audit.damage.push(damage);
                continue;
            }
        };
        if let Some((before, position, index)) = &last
            && (kept.heads.position < *position || kept.index <= *index)
        {
            audit.damage.push(damage(
                &format!("{name}.txt"),
                format!("heads that follow {before}: from position {position} on, behind leaf {index} of the evidence log"),
                format!("position {}, leaf {}", kept.heads.position, kept.index),
            ));
        }
        last = Some((name.clone(), kept.heads.position, kept.index));
        audit.seals.push((name, kept.seal));
    }
    Ok(audit)
}
