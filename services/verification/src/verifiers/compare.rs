//! Comparing: documents of an archive, spread over all of it, and with some of them what must be refused.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use sealwarden_archive::{Entry, ObjectName};
use sealwarden_seal::seal::MAX_SEAL_BYTES;
use sealwarden_wire::event::v1::{DifferentVerdict, ReleaseCompared, VerdictsCompared};
use sealwarden_wire::verify::v1::VerifyRequest;

use super::ask::{Asking, Said};
use super::config::VerifierConfig;
use crate::archive::Archive;

/// How many questions are under way at once.
const AT_ONCE: usize = 8;
/// With how many documents a wrong digest is tried, too.
const WRONG: usize = 8;
/// How many differences, and how many releases, are kept.
const KEPT: usize = 16;
/// After so many questions without an answer the rest is not asked.
const SILENT: usize = 3;

/// A document with its seal.
const ARCHIVED: &str = "archived";
/// The seal with the digest of something else.
const WRONG_DOCUMENT: &str = "wrong-document";

/// A question, and what is known.
struct Probe {
    object: String,
    kind: &'static str,
    seal: Vec<u8>,
    digest: [u8; 32],
    expected: String,
}

/// Puts documents to the verifier. An error says why there is nothing to compare with, which is not the verifier's fault.
pub(crate) async fn compare(
    config: &VerifierConfig,
    archive: &Archive,
) -> Result<VerdictsCompared, String> {
    let probes = probes(config, archive).await?;
    let mut outcome = Outcome::default();
    match Asking::new(config) {
        Ok(asking) => outcome.ask_all(&asking, probes).await,
        Err(problem) => outcome.silent.push(problem),
    }
    Ok(VerdictsCompared {
        verifier: config.name.clone(),
        archive: config.archive.clone(),
        compared: outcome.releases.values().map(|it| it.compared).sum(),
        different: outcome.releases.values().map(|it| it.different).sum(),
        releases: outcome.releases.into_values().take(KEPT).collect(),
        differences: outcome.differences,
        problem: outcome.silent.into_iter().next().unwrap_or_default(),
        node: archive.node.name.clone(),
        at_ms: archive.now_ms(),
        ..VerdictsCompared::default()
    })
}

/// What is known of documents now. Those that are damaged, quarantined or not valid here are left out.
async fn probes(config: &VerifierConfig, archive: &Archive) -> Result<Vec<Probe>, String> {
    let inventory = archive.inventory();
    let is_whole = |name: &ObjectName| {
        archive.state(|state| {
            !state.damaged.contains_key(name.as_str())
                && !state.quarantined.contains_key(name.as_str())
        })
    };
    let every = inventory.len().div_ceil(config.sample.max(1)).max(1);
    let entries = inventory.after(None).step_by(every);
    let entries: Vec<Entry> = entries
        .filter(|entry| is_whole(&entry.name))
        .cloned()
        .collect();
    let largest = u64::try_from(MAX_SEAL_BYTES).unwrap_or(u64::MAX);
    let mut probes = Vec::new();
    for entry in entries {
        let seal = archive.store.get(&entry.name.seal(), largest).await;
        let seal = seal.map_err(|e| format!("archive {}: {e}", config.archive))?;
        let object = entry.name.as_str();
        let Some(archived) = probe(archive, object, ARCHIVED, &seal, entry.sha256).await? else {
            continue;
        };
        if probes.len() < WRONG * 2 {
            let wrong = entry.sha256.map(|byte| byte ^ 0xff);
            let expected = known(archive, &seal, wrong).await?;
            probes.push(Probe {
                object: object.to_owned(),
                kind: WRONG_DOCUMENT,
                seal,
                digest: wrong,
                expected,
            });
        }
        probes.push(archived);
    }
    if probes.is_empty() {
        return Err(format!(
            "archive {} has no document that is valid here, so there is nothing to compare with",
            config.archive
        ));
    }
    Ok(probes)
}

/// The question about a document as it was stored; none if it is not valid here.
async fn probe(
    archive: &Archive,
    object: &str,
    kind: &'static str,
    seal: &[u8],
    digest: [u8; 32],
) -> Result<Option<Probe>, String> {
    let expected = known(archive, seal, digest).await?;
    let valid = matches!(expected.as_str(), "valid" | "valid-before-compromise");
    Ok(valid.then(|| Probe {
        object: object.to_owned(),
        kind,
        seal: seal.to_vec(),
        digest,
        expected,
    }))
}

/// This installation's own verdict.
async fn known(archive: &Archive, seal: &[u8], digest: [u8; 32]) -> Result<String, String> {
    let request = VerifyRequest {
        seal: seal.to_vec().into(),
        digest: digest.to_vec().into(),
        ..VerifyRequest::default()
    };
    let answer = archive.verifying.verify(&request).await;
    answer.map(|it| it.verdict).map_err(|e| e.to_string())
}

/// What the answers come to.
#[derive(Default)]
struct Outcome {
    releases: BTreeMap<String, ReleaseCompared>,
    differences: Vec<DifferentVerdict>,
    silent: Vec<String>,
}

impl Outcome {
    async fn ask_all(&mut self, asking: &Asking, probes: Vec<Probe>) {
        let mut answers = stream::iter(probes)
            .map(|probe| async move {
                let said = asking.ask(&probe.seal, &probe.digest).await;
                (probe, said)
            })
            .buffered(AT_ONCE);
        while let Some((probe, said)) = answers.next().await {
            match said {
                Ok(said) => self.take(&probe, said),
                Err(reason) => {
                    self.silent.push(reason);
                    if self.silent.len() >= SILENT {
                        return;
                    }
                }
            }
        }
    }

    fn take(&mut self, probe: &Probe, said: Said) {
        let release = self.releases.entry(said.release.clone()).or_default();
        release.release.clone_from(&said.release);
        release.trust_version = said.trust_version;
        release.compared += 1;
        if said.verdict == probe.expected {
            return;
        }
        release.different += 1;
        if self.differences.len() < KEPT {
            self.differences.push(DifferentVerdict {
                release: said.release,
                object: probe.object.clone(),
                probe: probe.kind.to_owned(),
                expected: probe.expected.clone(),
                said: said.verdict,
                reason: said.reason,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_count_for_the_release_that_said_so() {
        let probe = |kind, expected: &str| Probe {
            object: "a".to_owned(),
            kind,
            seal: Vec::new(),
            digest: [0; 32],
            expected: expected.to_owned(),
        };
        let said = |release: &str, verdict: &str| Said {
            verdict: verdict.to_owned(),
            reason: String::new(),
            release: release.to_owned(),
            trust_version: 1,
        };
        let mut outcome = Outcome::default();
        outcome.take(&probe(ARCHIVED, "valid"), said("1", "valid"));
        outcome.take(&probe(ARCHIVED, "valid"), said("2", "suspect"));
        // The most dangerous verifier is the one that refuses nothing.
        outcome.take(
            &probe(WRONG_DOCUMENT, "document-mismatch"),
            said("2", "valid"),
        );
        let counts = |release: &str| {
            let it = &outcome.releases[release];
            (it.compared, it.different)
        };
        assert_eq!((counts("1"), counts("2")), ((1, 0), (2, 2)));
        assert_eq!(outcome.differences[1].probe, WRONG_DOCUMENT);
        for _ in 0..100 {
            outcome.take(&probe(ARCHIVED, "valid"), said("2", "suspect"));
        }
        assert_eq!(outcome.differences.len(), KEPT);
    }
}
