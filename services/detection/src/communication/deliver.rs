//! One message on one channel: its start is recorded, it is sent, its end is recorded.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use sealwarden_channels::page::{self, PublicIncident};
use sealwarden_channels::{Message, Outcome, Page};
use sealwarden_domain::communication::{Command, Communication, Retry, Sending, decide, one_line};
use sealwarden_engine::{ExecuteError, Node, Stream};
use sealwarden_keys::private_files;
use sealwarden_wire::event::v1::{DeliveryOutcome, NoticePrepared, PageAction};

use super::sinks::{Channel, Sink, Sinks};

/// How often the record of an end is tried, and the pause between, longer each time.
const RECORD_TRIES: u32 = 5;
const RECORD_PAUSE: Duration = Duration::from_millis(200);
/// The mode of files in a drill's outbox.
const PRIVATE_FILE: u32 = 0o600;

/// A notice to be sent.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) incident: String,
    pub(super) number: u32,
    pub(super) attempt: u32,
    pub(super) severity: String,
    pub(super) notice: NoticePrepared,
}

/// What one message tells.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) channel: String,
    pub(super) items: Vec<Item>,
    /// Everything that is public, where the channel is a folder of pages.
    pub(super) site: Option<Vec<PublicIncident>>,
    /// Whether the pages could not be written.
    pub(super) unwritten: bool,
}

impl Item {
    fn sending(&self, channel: &str) -> Sending {
        Sending {
            number: self.number,
            channel: channel.to_owned(),
            attempt: self.attempt,
        }
    }
}

/// Sends one message, from the recorded start to the recorded end. The job comes back.
pub(super) async fn deliver(node: Arc<Node>, sinks: Arc<Sinks>, retry: Retry, mut job: Job) -> Job {
    let Some(channel) = sinks.channels.get(&job.channel) else {
        return job;
    };
    let together = u32::try_from(job.items.len()).unwrap_or(u32::MAX);
    let key = key(&node, &job);
    let mut begun: Vec<&Item> = Vec::new();
    for item in &job.items {
        let start = Command::Start {
            sending: item.sending(&job.channel),
            key: key.clone(),
            together,
            now_ms: node.clock.now().wall_ms,
        };
        match command(&node, &item.incident, start).await {
            Ok(true) => begun.push(item),
            // Somebody was first, or it is settled: the state that it was found in was older.
            Ok(false) | Err(ExecuteError::Rejected(_)) => {}
            Err(error) => {
                tracing::warn!(incident = %item.incident, channel = %job.channel, %error, "a delivery cannot be begun");
            }
        }
    }
    let outcome = match (&channel.sink, &job.site) {
        (Sink::Pages(settings), Some(site)) => page::publish(settings, site).await,
        (Sink::Pages(_) | Sink::Address(_) | Sink::Outbox(_), _) => {
            if begun.is_empty() {
                return job;
            }
            send(&sinks, channel, &compose(&node, key, &begun)).await
        }
    };
    let unwritten = job.site.is_some() && !matches!(outcome, Outcome::Delivered(_));
    if unwritten && begun.is_empty() {
        tracing::warn!(channel = %job.channel, ?outcome, "the status page could not be written");
    }
    for item in begun {
        end(&node, &job.channel, item, &outcome, retry).await;
    }
    job.unwritten = unwritten;
    job
}

/// What names the message: a repetition of one notice has the same key.
fn key(node: &Node, job: &Job) -> String {
    let Some(first) = job.items.first() else {
        return String::new();
    };
    let name = format!(
        "{}/{}/{}/{}",
        node.installation, first.incident, first.number, job.channel
    );
    match job.items.len() {
        0 | 1 => name,
        many => format!("{name}+{}", many - 1),
    }
}

fn compose(node: &Node, key: String, items: &[&Item]) -> Message {
    let first = items.first();
    let mut message = Message {
        key,
        matter: first.map(|item| item.incident.clone()).unwrap_or_default(),
        title: String::new(),
        text: String::new(),
        severity: first.map(|item| item.severity.clone()).unwrap_or_default(),
        source: node.installation.clone(),
        page: first.map_or(Page::None, |item| action(item.notice.page())),
        to: first
            .map(|item| item.notice.mail.clone())
            .filter(|mail| !mail.is_empty()),
    };
    match items {
        [one] => {
            message.title.clone_from(&one.notice.title);
            message.text.clone_from(&one.notice.text);
        }
        many => {
            message.title = format!("{} notices came due together", many.len());
            for item in many {
                let news = item.notice.text.lines().next().unwrap_or_default();
                let line = format!(
                    "{} — {} (sealwarden incident notices {} --number {})\n",
                    one_line(&item.notice.title),
                    one_line(news),
                    item.incident,
                    item.number
                );
                message.text.push_str(&line);
            }
        }
    }
    message
}

fn action(page: PageAction) -> Page {
    match page {
        PageAction::Unspecified | PageAction::None => Page::None,
        PageAction::Trigger => Page::Trigger,
        PageAction::Acknowledge => Page::Acknowledge,
        PageAction::Resolve => Page::Resolve,
    }
}

async fn send(sinks: &Sinks, channel: &Channel, message: &Message) -> Outcome {
    match &channel.sink {
        Sink::Pages(_) => Outcome::NotSent("its pages are written without a message".to_owned()),
        Sink::Outbox(folder) => outbox(folder, message).await,
        Sink::Address(settings) => {
            // The file of an address may have changed since the start.
            if sinks.drill && settings.is_local().await != Ok(true) {
                return Outcome::Refused("a drill tells only sinks on this machine".to_owned());
            }
            sealwarden_channels::send(settings, message).await
        }
    }
}

/// A drill's messages lie where people can read them.
async fn outbox(folder: &Path, message: &Message) -> Outcome {
    let name: String = message
        .key
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let path = folder.join(format!("{name}.txt"));
    let text = format!("{}\n\n{}", message.title, message.text);
    let folder = folder.to_path_buf();
    let written = tokio::task::spawn_blocking(move || {
        private_files::private_dir(&folder)?;
        private_files::replace(&path, text.as_bytes(), PRIVATE_FILE).map(|()| path)
    });
    match written.await {
        Ok(Ok(path)) => Outcome::Delivered(format!("it lies in {}", path.display())),
        Ok(Err(error)) => Outcome::NotSent(error.to_string()),
        Err(error) => Outcome::Unknown(error.to_string()),
    }
}

async fn end(node: &Node, channel: &str, item: &Item, outcome: &Outcome, retry: Retry) {
    let (word, reason) = match outcome {
        Outcome::Delivered(reason) => (DeliveryOutcome::Delivered, reason),
        Outcome::Refused(reason) => (DeliveryOutcome::Refused, reason),
        Outcome::NotSent(reason) => (DeliveryOutcome::NotSent, reason),
        Outcome::Unknown(reason) => (DeliveryOutcome::Unknown, reason),
    };
    if word != DeliveryOutcome::Delivered {
        tracing::warn!(incident = %item.incident, notice = item.number, channel, attempt = item.attempt, outcome = word.as_str_name(), %reason, "a notice was not delivered");
    }
    let ended = Command::End {
        sending: item.sending(channel),
        outcome: word,
        reason: one_line(reason),
        now_ms: node.clock.now().wall_ms,
        retry,
        chance: chance(),
    };
    for attempt in 1..=RECORD_TRIES {
        match command(node, &item.incident, ended.clone()).await {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(incident = %item.incident, channel, %error, "the end of a delivery cannot be recorded; it may be sent again");
            }
        }
        tokio::time::sleep(RECORD_PAUSE * attempt).await;
    }
}

/// Whether it changed something.
async fn command(node: &Node, id: &str, command: Command) -> Result<bool, ExecuteError> {
    let mut stream: Stream<Communication> = node.stream("communication", id).await?;
    let meta = node.meta().correlated(id.to_owned());
    let executed = stream
        .execute(meta, |state| decide(state, command.clone()))
        .await?;
    Ok(!executed.events.is_empty())
}

/// 0 to 1000. Without chance, pauses are only less different.
fn chance() -> u16 {
    let mut bytes = [0; 2];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => u16::from_le_bytes(bytes) % 1001,
        Err(_) => 0,
    }
}
