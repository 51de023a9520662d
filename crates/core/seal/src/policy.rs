//! C2SP tlog-policy: logs, witnesses and the quorum over them, as a text that other people's tools read.
//!
//! ```text
//! log <vkey> [<url>]
//! witness <name> <vkey> [<url>]
//! group <name> <k|any|all> <member>…
//! quorum <name|none>
//! ```
//! Items are separated by spaces and tabs; empty lines and lines that begin with `#` are passed over. A name is defined before
//! it is used and is a member of one group at most. Exactly one line is the quorum: a policy without witnesses has to say
//! `quorum none`, so that a lost line never opens anything. Two things are stricter here than in the specification: the text is
//! UTF-8, and names hold no Unicode white space.

use crate::encoding::excerpt;
use crate::note::{MAX_NAME_BYTES, VerifierKey, Vkey};
use crate::trust::{
    Group, LogState, NO_QUORUM, Payload, Quorum, QuorumTree, Threshold, is_policy_name,
};
use std::collections::BTreeSet;
use std::fmt;

/// No policy is larger, in bytes.
pub const MAX_POLICY_BYTES: usize = 1024 * 1024;
/// No policy has more logs, witnesses or groups; tlog-policy asks for at least 32 of each.
pub const MAX_ENTRIES: usize = 1024;
const MAX_URL_BYTES: usize = 512;

/// A text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the policy: {reason}")]
pub struct PolicyError {
    /// Counted from 1; one behind the last where something is missing.
    pub line: usize,
    /// What is wrong, the value and what to write.
    pub reason: String,
}

/// A bundle cannot be written as a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the witness {0:?} cannot be named in a policy: rename it to one word that is not none")]
pub struct UnwritableName(pub String);

/// A log or a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// What groups call a witness; a log has its key's name.
    pub name: String,
    /// Its key.
    pub vkey: Vkey,
    /// Where it can be reached.
    pub url: Option<String>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The logs, any of which may have signed.
    pub logs: Vec<Party>,
    /// The witnesses.
    pub witnesses: Vec<Party>,
    /// Which witnesses must have cosigned.
    pub quorum: QuorumTree,
}

impl Policy {
    /// Reads a policy strictly.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        let at = |line: usize, reason: &str| PolicyError {
            line,
            reason: reason.to_owned(),
        };
        if bytes.len() > MAX_POLICY_BYTES {
            return Err(at(
                1,
                "it has more than 1 MiB; this is another kind of file",
            ));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            at(
                before.split(|byte| *byte == b'\n').count(),
                "it is not UTF-8",
            )
        })?;
        let mut reader = Reader::default();
        let mut lines = text.split('\n').peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_none() {
                // What follows the last newline.
                if line.is_empty() {
                    break;
                }
                return Err(at(
                    reader.line + 1,
                    "it does not end in a newline; it was cut short",
                ));
            }
            reader.line += 1;
            reader.read(line).map_err(|reason| PolicyError {
                line: reader.line,
                reason,
            })?;
        }
        let Some(name) = reader.quorum else {
            return Err(at(
                reader.line + 1,
                "there is no quorum line; write \"quorum none\" if no witness is asked for",
            ));
        };
        Ok(Self {
            logs: reader.logs,
            witnesses: reader.witnesses,
            quorum: QuorumTree {
                name,
                groups: reader.groups,
            },
        })
    }

    /// What a bundle asks for: the keys of its logs that still grow, its witnesses, its quorum. A witness of several keys
    /// becomes a group of them, since a policy's witness has one.
    pub fn of(payload: &Payload) -> Result<Self, UnwritableName> {
        let active = payload
            .logs
            .iter()
            .filter(|log| log.state == LogState::Active);
        let logs = active.flat_map(|log| &log.vkeys).map(|vkey| Party {
            name: vkey.name().to_owned(),
            vkey: vkey.clone(),
            url: None,
        });
        let (mut witnesses, mut groups) = (Vec::new(), Vec::new());
        for witness in &payload.witnesses {
            if !is_policy_name(&witness.name) || witness.name == NO_QUORUM {
                return Err(UnwritableName(witness.name.clone()));
            }
            let several = !witness.other_vkeys.is_empty();
            let mut members = Vec::new();
            for (place, vkey) in witness.keys().enumerate() {
                let name = if several {
                    format!("{}#{}", witness.name, place + 1)
                } else {
                    witness.name.clone()
                };
                members.push(name.clone());
                witnesses.push(Party {
                    name,
                    vkey: vkey.clone(),
                    url: witness.url.clone(),
                });
            }
            if several {
                groups.push(Group {
                    name: witness.name.clone(),
                    threshold: Threshold::Any,
                    members,
                });
            }
        }
        let name = match &payload.quorum {
            Quorum::Count(0) => NO_QUORUM.to_owned(),
            Quorum::Count(count) => {
                let name = free_name(payload);
                groups.push(Group {
                    name: name.clone(),
                    threshold: Threshold::Members(*count),
                    members: payload.witnesses.iter().map(|it| it.name.clone()).collect(),
                });
                name
            }
            Quorum::Tree(tree) => {
                groups.extend(tree.groups.iter().cloned());
                tree.name.clone()
            }
        };
        Ok(Self {
            logs: logs.collect(),
            witnesses,
            quorum: QuorumTree { name, groups },
        })
    }
}

/// A name for the group of all witnesses that none of them has.
fn free_name(payload: &Payload) -> String {
    let taken = |name: &str| payload.witnesses.iter().any(|it| it.name == name);
    let mut name = "quorum".to_owned();
    while taken(&name) {
        name.push('-');
    }
    name
}

/// Writes what [`Policy::parse`] reads: logs, witnesses, groups, quorum; one space between items.
impl fmt::Display for Policy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |party: &Party| {
            let url = party.url.as_ref();
            url.map_or_else(String::new, |url| format!(" {url}"))
        };
        for log in &self.logs {
            writeln!(out, "log {}{}", log.vkey, url(log))?;
        }
        for witness in &self.witnesses {
            writeln!(
                out,
                "witness {} {}{}",
                witness.name,
                witness.vkey,
                url(witness)
            )?;
        }
        for group in &self.quorum.groups {
            let members = group.members.join(" ");
            writeln!(out, "group {} {} {members}", group.name, group.threshold)?;
        }
        writeln!(out, "quorum {}", self.quorum.name)
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    line: usize,
    logs: Vec<Party>,
    witnesses: Vec<Party>,
    groups: Vec<Group>,
    quorum: Option<String>,
    /// Names of witnesses and groups.
    names: BTreeSet<String>,
    /// Names that are members of a group.
    members: BTreeSet<String>,
    log_keys: BTreeSet<Vec<u8>>,
    witness_keys: BTreeSet<Vec<u8>>,
}

impl Reader {
    fn read(&mut self, line: &str) -> Result<(), String> {
        if let Some(byte) = line.bytes().find(|byte| is_forbidden(*byte)) {
            return Err(format!(
                "it holds the control character 0x{byte:02x}; only tabs and newlines are allowed"
            ));
        }
        let items: Vec<&str> = line
            .split([' ', '\t'])
            .filter(|item| !item.is_empty())
            .collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", vkey] => self.log(vkey, None),
            ["log", vkey, url] => self.log(vkey, Some(url)),
            ["witness", name, vkey] => self.witness(name, vkey, None),
            ["witness", name, vkey, url] => self.witness(name, vkey, Some(url)),
            ["group", name, threshold, members @ ..] => self.group(name, threshold, members),
            ["quorum", name] => self.quorum(name),
            [first, ..] => Err(format!(
                "{:?} with {} items is none of: log <vkey> [<url>], witness <name> <vkey> [<url>], group <name> <k|any|all> \
                 <member>…, quorum <name|none>",
                excerpt(first),
                items.len()
            )),
        }
    }

    fn log(&mut self, vkey: &str, url: Option<&str>) -> Result<(), String> {
        room(self.logs.len(), "logs")?;
        let vkey: Vkey = vkey.parse().map_err(|error| format!("{error}"))?;
        match vkey.key() {
            VerifierKey::Ed25519(_) | VerifierKey::MlDsa44(_) => {}
            VerifierKey::CosignatureV1(_) => {
                return Err(format!(
                    "{vkey} is a witness's key (type 04); logs have 01 or 06"
                ));
            }
        }
        if !self.log_keys.insert(vkey.public_key().to_vec()) {
            return Err(format!(
                "the key of {} is listed twice among the logs",
                vkey.name()
            ));
        }
        self.logs.push(Party {
            name: vkey.name().to_owned(),
            vkey,
            url: url.map(read_url).transpose()?,
        });
        Ok(())
    }

    fn witness(&mut self, name: &str, vkey: &str, url: Option<&str>) -> Result<(), String> {
        room(self.witnesses.len(), "witnesses")?;
        let vkey: Vkey = vkey.parse().map_err(|error| format!("{error}"))?;
        match vkey.key() {
            VerifierKey::CosignatureV1(_) | VerifierKey::MlDsa44(_) => {}
            VerifierKey::Ed25519(_) => {
                return Err(format!(
                    "{vkey} is a log's key (type 01); witnesses have 04 or 06"
                ));
            }
        }
        if !self.witness_keys.insert(vkey.public_key().to_vec()) {
            return Err(format!(
                "the key of {} is listed twice among the witnesses, and would count twice",
                vkey.name()
            ));
        }
        let name = self.define(name)?;
        self.witnesses.push(Party {
            name,
            vkey,
            url: url.map(read_url).transpose()?,
        });
        Ok(())
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), String> {
        room(self.groups.len(), "groups")?;
        let threshold = Threshold::parse(threshold)?;
        if let Threshold::Members(count) = threshold
            && !usize::try_from(count).is_ok_and(|count| (1..=members.len()).contains(&count))
        {
            return Err(format!(
                "the group {} wants {count} of its {} members",
                excerpt(name),
                members.len()
            ));
        }
        if members.is_empty() {
            return Err(format!("the group {} has no members", excerpt(name)));
        }
        for member in members {
            if !self.names.contains(*member) {
                return Err(format!(
                    "{:?} is no witness and no group of an earlier line",
                    excerpt(member)
                ));
            }
            if !self.members.insert((*member).to_owned()) {
                return Err(format!(
                    "{:?} is a member twice; a name can be a member of one group only",
                    excerpt(member)
                ));
            }
        }
        let name = self.define(name)?;
        self.groups.push(Group {
            name,
            threshold,
            members: members.iter().map(|member| (*member).to_owned()).collect(),
        });
        Ok(())
    }

    fn quorum(&mut self, name: &str) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("there is a second quorum line; leave one".to_owned());
        }
        if name != NO_QUORUM && !self.names.contains(name) {
            return Err(format!(
                "the quorum {:?} is no witness, no group of an earlier line, and not none",
                excerpt(name)
            ));
        }
        self.quorum = Some(name.to_owned());
        Ok(())
    }

    fn define(&mut self, name: &str) -> Result<String, String> {
        if !is_policy_name(name) || name == NO_QUORUM || name.len() > MAX_NAME_BYTES {
            return Err(format!(
                "{:?} cannot be a name: use 1 to 128 bytes without white space, and not none",
                excerpt(name)
            ));
        }
        if !self.names.insert(name.to_owned()) {
            return Err(format!("the name {:?} is given twice", excerpt(name)));
        }
        Ok(name.to_owned())
    }
}

fn is_forbidden(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') || byte == 0x7f
}

fn room(count: usize, what: &str) -> Result<(), String> {
    if count < MAX_ENTRIES {
        return Ok(());
    }
    Err(format!("there are more than {MAX_ENTRIES} {what}"))
}

fn read_url(url: &str) -> Result<String, String> {
    if url.len() > MAX_URL_BYTES {
        return Err(format!("the URL has more than {MAX_URL_BYTES} bytes"));
    }
    Ok(url.to_owned())
}
