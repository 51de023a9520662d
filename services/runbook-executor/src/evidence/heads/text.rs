//! The heads of an event log as a text that has one spelling.
//!
//! ```text
//! sealwarden heads v1
//! installation: acme
//! environment: production
//! time: 2026-01-01T00:00:00Z
//! position: 1234
//! incident/I-0badcafe-1 1201 sha256:<hex>
//! log/main 1234 sha256:<hex>
//! ```
//!
//! `position` is the last position of the whole log; each line after it names a stream, the position of its last commit and that commit's chain hash, sorted by bytes.

use std::collections::BTreeMap;
use std::fmt;

use sealwarden_eventlog::{Head, StreamName};

const HEADER: &str = "sealwarden heads v1";

/// Where every stream of an event log ended at one moment. A chain hash covers everything before it in its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heads {
    /// The installation's name.
    pub(crate) installation: String,
    /// "production" or "drill".
    pub(crate) environment: String,
    /// When, RFC 3339.
    pub(crate) time: String,
    /// The last position of the whole log.
    pub(crate) position: u64,
    /// Each stream's last commit.
    pub(crate) streams: BTreeMap<String, Head>,
}

/// A text that is no heads text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the heads: {problem}")]
pub(crate) struct HeadsError {
    line: usize,
    problem: String,
}

fn wrong(line: usize, problem: impl Into<String>) -> HeadsError {
    HeadsError {
        line,
        problem: problem.into(),
    }
}

impl Heads {
    /// Reads exactly what `Display` writes.
    pub(crate) fn parse(text: &str) -> Result<Self, HeadsError> {
        let mut lines = text.lines().zip(1..);
        if lines.next().map(|(line, _)| line) != Some(HEADER) {
            return Err(wrong(1, format!("it does not begin with {HEADER:?}")));
        }
        let mut field = |name: &str| {
            let (line, at) = lines.next().ok_or_else(|| wrong(0, "it is cut short"))?;
            line.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(": "))
                .map(str::to_owned)
                .ok_or_else(|| wrong(at, format!("expected \"{name}: …\"")))
        };
        let mut heads = Self {
            installation: field("installation")?,
            environment: field("environment")?,
            time: field("time")?,
            position: field("position")?
                .parse()
                .map_err(|_| wrong(5, "the position is not a number"))?,
            streams: BTreeMap::new(),
        };
        for (line, at) in lines {
            let (stream, head) = stream_line(line)
                .ok_or_else(|| wrong(at, "expected \"<stream> <position> sha256:<hex>\""))?;
            if !(1..=heads.position).contains(&head.position) {
                let problem = format!("no stream can end at position {}", head.position);
                return Err(wrong(at, problem));
            }
            heads.streams.insert(stream, head);
        }
        if heads.to_string() != text {
            return Err(wrong(1, "it is not in its only spelling"));
        }
        Ok(heads)
    }

    /// When, in Unix milliseconds; 0 where the time cannot be read.
    pub(crate) fn at_ms(&self) -> i64 {
        self.time
            .parse::<jiff::Timestamp>()
            .map_or(0, jiff::Timestamp::as_millisecond)
    }
}

fn stream_line(line: &str) -> Option<(String, Head)> {
    let mut words = line.split(' ');
    let stream: StreamName = words.next()?.parse().ok()?;
    let position = words.next()?.parse().ok()?;
    let mut hash = [0; 32];
    hex::decode_to_slice(words.next()?.strip_prefix("sha256:")?, &mut hash).ok()?;
    words
        .next()
        .is_none()
        .then(|| (stream.to_string(), Head { position, hash }))
}

impl fmt::Display for Heads {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{HEADER}")?;
        writeln!(out, "installation: {}", self.installation)?;
        writeln!(out, "environment: {}", self.environment)?;
        writeln!(out, "time: {}", self.time)?;
        writeln!(out, "position: {}", self.position)?;
        self.streams.iter().try_for_each(|(stream, head)| {
            let hash = hex::encode(head.hash);
            writeln!(out, "{stream} {} sha256:{hash}", head.position)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_read_back_and_have_one_spelling() {
        let head = |position, byte| Head {
            position,
            hash: [byte; 32],
        };
        let heads = Heads {
            installation: "acme".into(),
            environment: "drill".into(),
            time: "2026-01-01T00:00:00.5Z".into(),
            position: 9,
            streams: BTreeMap::from([
                ("log/main".into(), head(9, 1)),
                ("run/R-1".into(), head(4, 2)),
            ]),
        };
        let text = heads.to_string();
        assert_eq!(Heads::parse(&text), Ok(heads.clone()));
        assert_eq!(heads.at_ms(), 1_767_225_600_500);
        for bad in [
            text.replace("position: 9", "position: 8"),
            text.replace("run/R-1 4", "run/R-1 0"),
            text.replace("run/R-1 4", "run/R-1 04"),
            text.replace("log/main", "zog/main"),
            text.replace("run/R-1", "run R-1"),
            text.replace("sha256:01", "sha256:0"),
            format!("{text}\n"),
            String::new(),
        ] {
            assert!(Heads::parse(&bad).is_err(), "{bad}");
        }
    }
}
