//! The server's file audit device, read as the independent record of key uses.
//!
//! Format (OpenBao 2.x, `audit/format_json`): one JSON object a line, a `request` before the server acts and a `response` after
//! it has acted and before it answers; texts in `request.data` and `response.data` are `hmac-sha256:` and 64 hexadecimal
//! digits unless the device logs raw. A use is a `response` with a signature in it: without that line the server would not
//! have given the signature away.

use std::io::{self, BufRead, Read};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{memory::Digest, shape::ours};
use crate::{id::KeyId, provider::Purpose};

/// Longer lines are not parsed, only reported.
pub(super) const MAX_LINE: usize = 4 * 1024 * 1024;

/// A message as the audit shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Shown {
    /// HMAC-SHA256 with the device's salt over the base64 text of the message.
    Keyed(#[serde(with = "hex::serde")] Digest),
    /// The device logs raw: the message's own SHA-256.
    Raw(#[serde(with = "hex::serde")] Digest),
}

impl Shown {
    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::Keyed(digest) | Self::Raw(digest) => *digest,
        }
    }
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

/// Which lines are about keys of ours.
#[derive(Clone)]
pub(super) struct Interest {
    /// `<mount>/`, without the namespace.
    pub(super) mount: String,
    /// `<namespace>/`, or nothing.
    pub(super) namespace: String,
}

impl Interest {
    /// What a line says, and when it was written (Unix milliseconds), if it says so.
    pub(super) fn understand(&self, bytes: &[u8]) -> (Said, Option<i64>) {
        if bytes.len() > MAX_LINE {
            let reason = format!("the line is longer than {MAX_LINE} bytes");
            return (Said::Unclear(reason), None);
        }
        match serde_json::from_slice::<Record>(bytes) {
            Ok(record) => (self.of(&record), Some(record.time.as_millisecond())),
            Err(error) => {
                let reason = format!("the line is no audit record: {error}");
                (Said::Unclear(reason), None)
            }
        }
    }

    fn of(&self, record: &Record) -> Said {
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
pub(super) fn next_line(reader: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, u64)>> {
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
    use serde_json::json;

    use super::*;

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
        let interest = Interest {
            mount: "transit/".to_owned(),
            namespace: String::new(),
        };
        interest.understand(line.trim_end().as_bytes()).0
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
}
