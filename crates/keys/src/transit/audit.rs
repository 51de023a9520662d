//! The server's file audit device, read as the independent record of key uses.
//!
//! Format (OpenBao 2.x, `audit/format_json`): one JSON object a line, a `request` before the server acts and a `response` after
//! it has acted and before it answers; texts in `request.data` and `response.data` are `hmac-sha256:` and 64 hexadecimal
//! digits unless the device logs raw. A use is a `response` with a signature in it: without that line the server would not
//! have given the signature away.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::Value;

use super::{memory::Digest, shape::ours};
use crate::{error::KeyError, id::KeyId, provider::Purpose};

/// Longer lines are not parsed, only reported.
const MAX_LINE: usize = 4 * 1024 * 1024;
/// Of a line at most this much is handed on, in bytes.
const KEPT: usize = 4096;

/// A message as the audit shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// HMAC-SHA256 with the device's salt over the base64 text of the message.
    Keyed(Digest),
    /// The device logs raw: the message's own SHA-256.
    Raw(Digest),
}

/// What a line says of our keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing.
    Nothing,
    /// The key signed these messages, at least one, in one request.
    Used {
        key: KeyId,
        purpose: Purpose,
        at_ms: i64,
        messages: Vec<Shown>,
    },
    /// It cannot be understood, or tells of something that must not happen to such a key.
    Unclear(String),
}

/// One complete line.
pub(super) struct Line {
    /// The byte after its line end.
    pub(super) end: u64,
    /// Its text, cut.
    pub(super) text: String,
    pub(super) said: Said,
}

/// What one reading found.
pub(super) struct Reading {
    /// The lines that speak of our keys or cannot be understood.
    pub(super) lines: Vec<Line>,
    /// Everything before this byte is read.
    pub(super) end: u64,
}

/// The file. Its functions block their thread.
#[derive(Clone)]
pub(super) struct AuditFile {
    pub(super) path: PathBuf,
    /// `<mount>/`, without the namespace.
    pub(super) mount: String,
    /// `<namespace>/`, or nothing.
    pub(super) namespace: String,
}

impl AuditFile {
    /// Its length in bytes.
    pub(super) fn length(&self) -> Result<u64, KeyError> {
        let metadata = std::fs::metadata(&self.path);
        Ok(metadata.map_err(|error| self.unavailable(&error))?.len())
    }

    /// Where its last complete line ends; 0 if there is none, or no file yet.
    pub(super) fn last_line_end(&self) -> u64 {
        const PIECE: usize = 4096;
        let Ok(file) = File::open(&self.path) else {
            return 0;
        };
        let mut end = file.metadata().map_or(0, |found| found.len());
        while end > 0 {
            let mut piece = [0_u8; PIECE];
            let begin = end.saturating_sub(u64::try_from(PIECE).unwrap_or(u64::MAX));
            let length = usize::try_from(end.saturating_sub(begin)).unwrap_or(PIECE);
            let Some(piece) = piece.get_mut(..length) else {
                return 0;
            };
            if file.read_exact_at(piece, begin).is_err() {
                return 0;
            }
            if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
                let at = u64::try_from(at).unwrap_or(0);
                return begin.saturating_add(at).saturating_add(1);
            }
            end = begin;
        }
        0
    }

    /// Reads on after byte `from`, which ends a line, until `limit` lines of interest are found.
    pub(super) fn read(&self, from: u64, limit: usize) -> Result<Reading, KeyError> {
        let unavailable = |error: io::Error| self.unavailable(&error);
        let mut file = File::open(&self.path).map_err(unavailable)?;
        self.check(&file, from)?;
        file.seek(SeekFrom::Start(from)).map_err(unavailable)?;
        let mut reader = BufReader::with_capacity(64 * 1024, file);
        let mut reading = Reading {
            lines: Vec::new(),
            end: from,
        };
        while reading.lines.len() < limit {
            let Some((bytes, taken)) = next_line(&mut reader).map_err(unavailable)? else {
                break;
            };
            reading.end = reading.end.saturating_add(taken);
            let said = self.understand(&bytes);
            if said != Said::Nothing {
                let kept = bytes.get(..KEPT).unwrap_or(&bytes);
                reading.lines.push(Line {
                    end: reading.end,
                    text: String::from_utf8_lossy(kept).into_owned(),
                    said,
                });
            }
        }
        Ok(reading)
    }

    fn check(&self, file: &File, from: u64) -> Result<(), KeyError> {
        let corrupt = |reason: String| KeyError::Corrupt {
            what: format!("the audit {}", self.path.display()),
            reason,
        };
        let length = file.metadata().map_err(|error| self.unavailable(&error))?;
        let length = length.len();
        if from > length {
            return Err(corrupt(format!(
                "it has {length} bytes, and {from} were read before: it was shortened or rotated"
            )));
        }
        let Some(before) = from.checked_sub(1) else {
            return Ok(());
        };
        let mut last = [0_u8; 1];
        file.read_exact_at(&mut last, before)
            .map_err(|error| self.unavailable(&error))?;
        if last == [b'\n'] {
            return Ok(());
        }
        Err(corrupt(format!(
            "no line ends at byte {from}, where one did before: it was rewritten"
        )))
    }

    fn unavailable(&self, error: &io::Error) -> KeyError {
        KeyError::Unavailable {
            reason: format!("cannot read the audit {}: {error}", self.path.display()),
        }
    }

    fn understand(&self, bytes: &[u8]) -> Said {
        if bytes.len() > MAX_LINE {
            return Said::Unclear(format!("the line is longer than {MAX_LINE} bytes"));
        }
        let record: Record = match serde_json::from_slice(bytes) {
            Ok(record) => record,
            Err(error) => return Said::Unclear(format!("the line is no audit record: {error}")),
        };
        // Requests are what somebody wanted; a response is what was done. Errors did nothing.
        if record.kind != "response" || !record.error.is_empty() {
            return Said::Nothing;
        }
        let namespace = record.request.namespace.path.as_str();
        let below = record.request.path.strip_prefix(self.mount.as_str());
        match below {
            Some(below) if namespace == self.namespace => record.of_the_mount(below),
            Some(_) | None => Said::Nothing,
        }
    }
}

#[derive(Deserialize)]
struct Record {
    time: Timestamp,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    error: String,
    request: Request,
    #[serde(default)]
    response: Data,
}

#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    path: String,
    #[serde(default)]
    namespace: Namespace,
    #[serde(default)]
    data: Value,
}

#[derive(Default, Deserialize)]
struct Namespace {
    #[serde(default)]
    path: String,
}

#[derive(Default, Deserialize)]
struct Data {
    #[serde(default)]
    data: Value,
}

impl Record {
    /// A successful request to our mount at path `below`.
    fn of_the_mount(&self, below: &str) -> Said {
        let words: Vec<&str> = below.split('/').collect();
        match words.as_slice() {
            ["sign", name, ..] => {
                ours(name).map_or(Said::Nothing, |(purpose, key)| self.signed(purpose, key))
            }
            // The private key left the server, or signed what is no message.
            ["export" | "byok-export", _, name, ..] | ["backup", name] | ["keys", name, "csr"]
                if ours(name).is_some() =>
            {
                Said::Unclear(format!(
                    "{below} is a use of key {name} that this program never makes"
                ))
            }
            _ => Said::Nothing,
        }
    }

    fn signed(&self, purpose: Purpose, key: KeyId) -> Said {
        let requested = &self.request.data;
        let answered = &self.response.data;
        let inputs: Vec<&Value> =
            match (requested.get("batch_input"), answered.get("batch_results")) {
                (Some(Value::Array(inputs)), Some(Value::Array(results))) => inputs
                    .iter()
                    .zip(results)
                    .filter(|(_, result)| result.get("signature").is_some())
                    .filter_map(|(input, _)| input.get("input"))
                    .collect(),
                _ if answered.get("signature").is_some() => {
                    requested.get("input").into_iter().collect()
                }
                _ => return Said::Nothing,
            };
        let messages: Option<Vec<Shown>> = inputs.into_iter().map(shown).collect();
        match messages {
            Some(messages) if !messages.is_empty() => Said::Used {
                key,
                purpose,
                at_ms: self.time.as_millisecond(),
                messages,
            },
            Some(_) | None => Said::Unclear(format!(
                "it is a use of {purpose} key {key} that does not show what was signed"
            )),
        }
    }
}

fn shown(input: &Value) -> Option<Shown> {
    let text = input.as_str()?;
    if let Some(keyed) = keyed(text) {
        return Some(Shown::Keyed(keyed));
    }
    let message = BASE64_STANDARD.decode(text).ok()?;
    let digest = digest(&SHA256, &message);
    Some(Shown::Raw(digest.as_ref().try_into().ok()?))
}

/// `hmac-sha256:` and 64 hexadecimal digits.
pub(super) fn keyed(text: &str) -> Option<Digest> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.strip_prefix("hmac-sha256:")?, &mut bytes).ok()?;
    Some(bytes)
}

/// The next complete line without its end, cut to a little over [`MAX_LINE`], and the bytes it took in the file.
fn next_line(reader: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, u64)>> {
    const PIECE: u64 = 64 * 1024;
    let mut kept = Vec::new();
    let mut taken = 0_u64;
    loop {
        let mut piece = Vec::new();
        let read = reader.by_ref().take(PIECE).read_until(b'\n', &mut piece)?;
        if read == 0 {
            return Ok(None);
        }
        taken = taken.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        let ended = piece.pop_if(|byte| *byte == b'\n').is_some();
        if kept.len() <= MAX_LINE {
            kept.extend_from_slice(&piece);
        }
        if ended {
            return Ok(Some((kept, taken)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::json;

    use super::*;

    fn file(lines: &[&str]) -> (tempfile::TempDir, AuditFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        std::fs::write(&path, lines.concat()).unwrap();
        let audit = AuditFile {
            path,
            mount: "transit/".to_owned(),
            namespace: String::new(),
        };
        (dir, audit)
    }

    fn response(path: &str, request: &Value, answer: &Value) -> String {
        let line = json!({
            "time": "2026-11-23T03:13:33.839076204Z", "type": "response", "auth": {"token_type": "service"},
            "request": {"id": "x", "path": path, "namespace": {"id": "root"}, "data": request},
            "response": {"data": answer},
        });
        format!("{line}\n")
    }

    fn hmac(byte: u8) -> String {
        format!("hmac-sha256:{}", hex::encode([byte; 32]))
    }

    fn only(line: &str) -> Said {
        let (_dir, audit) = file(&[line]);
        let mut reading = audit.read(0, 10).unwrap();
        assert_eq!(reading.end, u64::try_from(line.len()).unwrap());
        reading.lines.pop().map_or(Said::Nothing, |line| line.said)
    }

    #[test]
    fn a_use_is_a_response_with_a_signature_of_one_of_our_keys() {
        let request = json!({"input": hmac(7), "key_version": 1});
        let answer = json!({"signature": hmac(8), "key_version": 1});
        let used = only(&response("transit/sign/sealing-main-1", &request, &answer));
        let expected = Said::Used {
            key: KeyId::new("main-1").unwrap(),
            purpose: Purpose::Sealing,
            at_ms: 1_795_403_613_839,
            messages: vec![Shown::Keyed([7; 32])],
        };
        assert_eq!(used, expected);
        let with_hash = "transit/sign/sealing-main-1/sha2-256";
        assert_eq!(only(&response(with_hash, &request, &answer)), expected);
        for path in [
            "transit/sign/other",
            "kv/sign/sealing-main-1",
            "transit/verify/sealing-main-1",
        ] {
            assert_eq!(
                only(&response(path, &request, &answer)),
                Said::Nothing,
                "{path}"
            );
        }
        let wanted_only = response("transit/sign/sealing-main-1", &request, &answer)
            .replace("\"response\",", "\"request\",");
        assert_eq!(only(&wanted_only), Said::Nothing);
    }

    #[test]
    fn of_a_batch_only_what_was_signed_counts() {
        let request = json!({"batch_input": [{"input": hmac(1)}, {"input": hmac(2)}]});
        let answer = json!({"batch_results": [{"error": hmac(9)}, {"signature": hmac(8)}]});
        let said = only(&response("transit/sign/node-a", &request, &answer));
        assert!(
            matches!(&said, Said::Used { messages, .. } if *messages == [Shown::Keyed([2; 32])]),
            "{said:?}"
        );
    }

    #[test]
    fn a_device_that_logs_raw_shows_the_message_itself() {
        let request = json!({"input": BASE64_STANDARD.encode("hallo")});
        let said = only(&response(
            "transit/sign/node-a",
            &request,
            &json!({"signature": "vault:v1:"}),
        ));
        let expected: Digest = digest(&SHA256, b"hallo").as_ref().try_into().unwrap();
        assert!(
            matches!(&said, Said::Used { messages, .. } if *messages == [Shown::Raw(expected)]),
            "{said:?}"
        );
    }

    #[test]
    fn a_copy_of_a_key_and_a_use_without_its_message_are_unclear() {
        for path in [
            "transit/export/signing-key/sealing-a",
            "transit/byok-export/x/sealing-a",
            "transit/backup/sealing-a",
            "transit/keys/sealing-a/csr",
        ] {
            let said = only(&response(path, &json!({}), &json!({})));
            assert!(matches!(said, Said::Unclear(_)), "{path}: {said:?}");
        }
        let said = only(&response(
            "transit/sign/sealing-a",
            &json!({}),
            &json!({"signature": "x"}),
        ));
        assert!(matches!(said, Said::Unclear(_)), "{said:?}");
    }

    #[test]
    fn a_torn_last_line_waits_and_a_malformed_complete_one_is_reported() {
        let (_dir, audit) = file(&["{\"time\": \"2026", ""]);
        assert_eq!(audit.read(0, 10).unwrap().end, 0);
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&audit.path)
            .unwrap();
        file.write_all(b"\nrest").unwrap();
        let reading = audit.read(0, 10).unwrap();
        assert_eq!(reading.end, 15);
        assert!(matches!(reading.lines[0].said, Said::Unclear(_)));
        assert!(audit.read(reading.end, 10).unwrap().lines.is_empty());
    }

    #[test]
    fn a_shortened_or_rewritten_file_is_corrupt() {
        let (_dir, audit) = file(&["{}\n{}\n"]);
        for cursor in [2, 7] {
            assert!(matches!(
                audit.read(cursor, 1),
                Err(KeyError::Corrupt { .. })
            ));
        }
    }
}
