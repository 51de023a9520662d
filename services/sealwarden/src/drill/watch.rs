//! The live timeline: what `incident show` tells, as it grows.

use sealwarden_wire::incident::v1 as wire;

use super::Narrator;
use super::sandbox::Sandbox;
use crate::failure::Failure;

/// Longest line of the story, in characters, without its time.
const WIDTH: usize = 96;

/// Follows the first incident of the sandbox.
pub(crate) struct Watch {
    narrator: Narrator,
    started_ms: i64,
    told: usize,
    /// Its id, once it is open.
    pub(crate) incident: Option<String>,
}

impl Watch {
    /// Times are told relative to `started_ms`, Unix milliseconds.
    pub(crate) fn new(narrator: Narrator, started_ms: i64) -> Self {
        Self {
            narrator,
            started_ms,
            told: 0,
            incident: None,
        }
    }

    /// Tells what is new, and answers the incident as it is now.
    pub(crate) async fn look(
        &mut self,
        sandbox: &Sandbox,
    ) -> Result<Option<wire::Incident>, Failure> {
        let mut incidents = sandbox.client("operator")?.incidents().await?;
        if self.incident.is_none() {
            let list = incidents
                .list(wire::ListRequest { open_only: false })
                .await?
                .into_inner()
                .incidents;
            self.incident = list.first().map(|i| i.incident.clone());
        }
        let Some(id) = &self.incident else {
            return Ok(None);
        };
        let incident = incidents
            .show(wire::ShowRequest {
                incident: id.clone(),
            })
            .await?
            .into_inner();
        for entry in incident
            .timeline
            .iter()
            .skip(self.told)
            .filter(|e| is_told(&e.text))
        {
            let at = (entry.at_ms - self.started_ms).max(0);
            let time = format!("  +{:>3}.{:03} s  ", at / 1000, at % 1000);
            for (number, line) in wrapped(&entry.text).iter().enumerate() {
                let margin = if number == 0 {
                    time.clone()
                } else {
                    " ".repeat(time.len())
                };
                self.narrator.say(&format!("{margin}{line}"));
            }
        }
        self.told = self.told.max(incident.timeline.len());
        Ok(Some(incident))
    }
}

/// The full timeline is in `incident show`; the story leaves out what only repeats the line before or announces the next.
fn is_told(text: &str) -> bool {
    let repeats = ["signal ", "detected: ", "classified: "]
        .iter()
        .any(|start| text.starts_with(start));
    let announces = text.starts_with("step ")
        && (text.contains(" is ready: ") || text.contains(" began (attempt 1)"));
    !repeats && !announces
}

/// Words in lines of at most [`WIDTH`] characters, as far as words allow.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = lines.last().is_some_and(|line| {
            !line.is_empty() && line.chars().count() + 1 + word.chars().count() > WIDTH
        });
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
