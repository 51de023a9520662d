//! The task: looks, records what is due, hands deliveries out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sealwarden_domain::communication::{Command, Communication, Due, decide, due, pending};
use sealwarden_engine::{ExecuteError, Node, Stream};
use sealwarden_runbook::{Audience, ChannelKind};
use sealwarden_wire::event::v1::NoticePrepared;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deliver::{Item, Job, deliver};
use super::sinks::{Channel, Sinks};
use super::site::{Site, public, standing};
use super::{Surroundings, with_situation};
use crate::config::Telling;
use crate::follow::{Watch, sleep_until};

/// How long to wait before what the event log did not take is tried again, milliseconds.
const AGAIN_MS: i64 = 1000;
/// The shortest and longest pause before something is looked at again.
const LEAST: Duration = Duration::from_millis(10);
const MOST: Duration = Duration::from_mins(1);
/// The most deliveries of one channel that are remembered as ready. Those above are found again when there is room.
const MAX_READY: usize = 10_000;
/// From how many on notices of one channel are told in one message, and the most of one message.
const TOGETHER_FROM: usize = 4;
const TOGETHER_MOST: usize = 50;
/// How long what is under way may go on when the process ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Notices of one channel that may be sent: incident and number, and which attempt it is.
type Ready = BTreeMap<(String, u32), u32>;

struct Task {
    node: Arc<Node>,
    watch: Arc<Watch>,
    settings: Telling,
    sinks: Arc<Sinks>,
    /// When incidents are looked at, Unix milliseconds. Only a memory of what the state says.
    wake_ms: BTreeMap<String, i64>,
    /// By channel.
    ready: BTreeMap<String, Ready>,
    /// What is being sent: channel, incident, number.
    sending: BTreeSet<(String, String, u32)>,
    /// Channels, and when they may be told something again.
    paused: BTreeMap<String, Instant>,
    under_way: JoinSet<Job>,
    busy: BTreeSet<String>,
    site: Site,
}

/// Tells people until shutdown.
pub(crate) async fn communicate(
    node: Arc<Node>,
    watch: Arc<Watch>,
    settings: Telling,
    sinks: Arc<Sinks>,
) -> anyhow::Result<()> {
    let shutdown = node.shutdown.clone();
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = watch.live() => {}
    }
    let mut changes = watch.changes();
    let mut task = Task {
        node,
        watch,
        settings,
        sinks,
        wake_ms: BTreeMap::new(),
        ready: BTreeMap::new(),
        sending: BTreeSet::new(),
        paused: BTreeMap::new(),
        under_way: JoinSet::new(),
        busy: BTreeSet::new(),
        site: Site::default(),
    };
    loop {
        task.act().await;
        let wake = task.wake_at();
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = changes.changed() => {}
            Some(done) = task.under_way.join_next() => task.finished(done)?,
            () = sleep_until(wake) => {}
        }
    }
    // What has no end in the log is sent again by the next process; waiting a moment spares people most of that.
    let last = async { while task.under_way.join_next().await.is_some() {} };
    drop(tokio::time::timeout(FAREWELL, last).await);
    Ok(())
}

impl Task {
    async fn act(&mut self) {
        let now_ms = self.node.clock.now().wall_ms;
        let (tidings, recorded) = self.watch.tidings();
        let settled_ms = now_ms.saturating_add(self.settings.settle_ms());
        for id in tidings {
            self.look_at(id, settled_ms);
        }
        for id in recorded {
            self.look_at(id, now_ms);
        }
        let due: Vec<String> = self
            .wake_ms
            .iter()
            .filter(|(_, at)| **at <= now_ms)
            .map(|(id, _)| id.clone())
            .collect();
        for id in due {
            self.wake_ms.remove(&id);
            self.look(&id, now_ms).await;
        }
        self.hand_out();
    }

    fn look_at(&mut self, id: String, at_ms: i64) {
        let known = self.wake_ms.entry(id).or_insert(at_ms);
        *known = at_ms.min(*known);
    }

    /// Records what is due of one incident, and remembers what may be sent.
    async fn look(&mut self, id: &str, now_ms: i64) {
        let around = Surroundings::of(&self.node);
        let reachable = &self.sinks.reachable;
        let seen = self.watch.read(|state| {
            with_situation(state, id, &around, reachable, now_ms, |situation| {
                let pending = pending(situation.communication, now_ms);
                (due(situation), pending, standing(situation))
            })
        });
        let Some((Due { notices, next_ms }, (sendings, next_sending_ms), standing)) = seen else {
            return;
        };
        let channels = self.sinks.channels.iter();
        let pages = channels
            .filter(|(_, it)| it.is_page())
            .map(|(name, _)| name);
        self.site.take_in(id, standing, pages);
        for at_ms in next_ms.into_iter().chain(next_sending_ms) {
            self.look_at(id.to_owned(), at_ms);
        }
        for notice in notices {
            match record(&self.node, id, notice).await {
                Ok(()) => {}
                Err(ExecuteError::Rejected(rejection)) => {
                    tracing::warn!(incident = %id, %rejection, "it is not told");
                }
                Err(error) => {
                    tracing::warn!(incident = %id, %error, "what is due cannot be recorded yet");
                    return self.look_at(id.to_owned(), now_ms.saturating_add(AGAIN_MS));
                }
            }
        }
        for sending in sendings {
            let named = (sending.channel.clone(), id.to_owned(), sending.number);
            if !self.sinks.channels.contains_key(&sending.channel) || self.sending.contains(&named)
            {
                continue;
            }
            let ready = self.ready.entry(sending.channel).or_default();
            if ready.len() >= MAX_READY {
                self.look_at(id.to_owned(), now_ms.saturating_add(AGAIN_MS));
                continue;
            }
            ready.insert((id.to_owned(), sending.number), sending.attempt);
        }
    }

    /// Gives each idle channel its next message.
    fn hand_out(&mut self) {
        let now = Instant::now();
        self.paused.retain(|_, until| *until > now);
        let with_news = self.ready.iter().filter(|(_, ready)| !ready.is_empty());
        let with_news = with_news.map(|(name, _)| name).chain(&self.site.stale);
        let idle: BTreeSet<String> = with_news
            .filter(|name| !self.busy.contains(*name) && !self.paused.contains_key(*name))
            .cloned()
            .collect();
        for name in idle {
            let items = self.next_of(&name);
            let page = self.sinks.channels.get(&name).is_some_and(Channel::is_page);
            let site = page.then(|| self.watch.read(public));
            self.site.stale.remove(&name);
            if items.is_empty() && site.is_none() {
                continue;
            }
            for item in &items {
                let named = (name.clone(), item.incident.clone(), item.number);
                self.sending.insert(named);
            }
            self.busy.insert(name.clone());
            let job = Job {
                channel: name,
                items,
                site,
                unwritten: false,
            };
            let (node, sinks) = (Arc::clone(&self.node), Arc::clone(&self.sinks));
            let retry = self.settings.retry();
            self.under_way.spawn(deliver(node, sinks, retry, job));
        }
    }

    /// The next message's notices: one, or many together where the channel tells them to the same readers.
    fn next_of(&mut self, name: &str) -> Vec<Item> {
        let Some(ready) = self.ready.get_mut(name) else {
            return Vec::new();
        };
        let kind = self.sinks.channels.get(name).map(|channel| channel.kind);
        let most = match kind {
            // Its pages are written whole, once for all.
            Some(ChannelKind::StatusPage) => TOGETHER_MOST,
            Some(ChannelKind::Slack | ChannelKind::Mail) if ready.len() >= TOGETHER_FROM => {
                TOGETHER_MOST
            }
            Some(ChannelKind::Slack | ChannelKind::Mail | ChannelKind::PagerDuty) | None => 1,
        };
        let mut items: Vec<Item> = Vec::new();
        self.watch.read(|state| {
            while items.len() < most
                && let Some(((incident, number), attempt)) = ready.pop_first()
            {
                let notice = state
                    .communications
                    .get(&incident)
                    .and_then(|told| told.notice(number));
                let Some(notice) = notice.map(|notice| notice.prepared.clone()) else {
                    continue;
                };
                let outside = notice.audience == Audience::Public.as_str()
                    && kind != Some(ChannelKind::StatusPage);
                let own = !notice.mail.is_empty() || outside;
                if own && !items.is_empty() {
                    // It goes to one person, or to people outside, who read no lists: with the next message.
                    ready.insert((incident, number), attempt);
                    break;
                }
                let severity = state
                    .incidents
                    .get(&incident)
                    .and_then(|i| i.classified.as_ref());
                let severity = severity.map(|c| c.severity.clone()).unwrap_or_default();
                items.push(Item {
                    incident,
                    number,
                    attempt,
                    severity,
                    notice,
                });
                if own {
                    break;
                }
            }
        });
        items
    }

    fn finished(&mut self, done: Result<Job, tokio::task::JoinError>) -> anyhow::Result<()> {
        let job = done.map_err(|error| anyhow::anyhow!("a delivery panicked: {error}"))?;
        let now_ms = self.node.clock.now().wall_ms;
        for item in job.items {
            let named = (job.channel.clone(), item.incident.clone(), item.number);
            self.sending.remove(&named);
            // Where its end could not be recorded, it is found again here.
            self.look_at(item.incident, now_ms.saturating_add(AGAIN_MS));
        }
        self.busy.remove(&job.channel);
        if job.unwritten {
            self.site.stale.insert(job.channel.clone());
        }
        let retry = self.settings.retry();
        let gap = if job.unwritten {
            Duration::from_millis(u64::try_from(retry.first_ms).unwrap_or(0))
        } else {
            Duration::from_millis(self.settings.gap_ms)
        };
        self.paused.insert(job.channel, Instant::now() + gap);
        Ok(())
    }

    /// When to look again if nothing happens before. The clock of the wall may be set meanwhile, so never in more than a minute.
    fn wake_at(&self) -> Option<Instant> {
        let now_ms = self.node.clock.now().wall_ms;
        let looks = self.wake_ms.values().min().map(|at_ms| {
            let left = u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0);
            Instant::now() + Duration::from_millis(left).clamp(LEAST, MOST)
        });
        let waits = |name: &String| {
            let ready = self.ready.get(name);
            self.site.stale.contains(name) || ready.is_some_and(|ready| !ready.is_empty())
        };
        let pauses = self.paused.iter().filter(|(name, _)| waits(name));
        pauses.map(|(_, until)| *until).chain(looks).min()
    }
}

/// Records a text that is due.
pub(super) async fn record(
    node: &Node,
    id: &str,
    notice: NoticePrepared,
) -> Result<(), ExecuteError> {
    let mut stream: Stream<Communication> = node.stream("communication", id).await?;
    let meta = node.meta().correlated(id.to_owned());
    let command = Command::Prepare(Box::new(notice));
    stream
        .execute(meta, |state| decide(state, command.clone()))
        .await
        .map(drop)
}
