//! The plan's channels with their addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use sealwarden_channels::{ChannelSettings, StatusPage};
use sealwarden_engine::Node;
use sealwarden_eventlog::Environment;
use sealwarden_runbook::ChannelKind;

use crate::config::Config;

/// Where a channel's messages go.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// To its address.
    Address(Box<ChannelSettings>),
    /// Onto static pages in a folder.
    Pages(StatusPage),
    /// Into a folder: a drill's channels that have no address of their own.
    Outbox(PathBuf),
}

/// A channel that can be told something.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    pub(crate) kind: ChannelKind,
    pub(crate) sink: Sink,
}

/// The channels by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sinks {
    pub(crate) channels: BTreeMap<String, Channel>,
    /// Their names.
    pub(crate) reachable: BTreeSet<String>,
    /// Nothing leaves this machine.
    pub(crate) drill: bool,
}

impl Channel {
    /// Whether it is a folder of pages.
    pub(crate) fn is_page(&self) -> bool {
        match self.sink {
            Sink::Pages(_) => true,
            Sink::Address(_) | Sink::Outbox(_) => false,
        }
    }
}

impl Sinks {
    /// Puts plan and settings together, and says where they do not fit.
    pub(crate) async fn new(config: &Config, node: &Node) -> anyhow::Result<Self> {
        let drill = node.environment == Environment::Drill;
        let mut sinks = Self {
            drill,
            ..Self::default()
        };
        let planned = node.plan.plan().communication();
        for (name, settings) in &config.channels {
            let known = planned.and_then(|plan| plan.channels.get(name));
            let Some(channel) = known else {
                anyhow::bail!(
                    "the setting detection.channels.{name} is for a channel that the plan does not have; add it to `communication: channels:` in plan.yaml, or remove it"
                );
            };
            if channel.kind.as_str() != settings.kind() {
                anyhow::bail!(
                    "the setting detection.channels.{name} is a {}, and the plan says that it is a {}; let both say the same",
                    settings.kind(),
                    channel.kind.as_str()
                );
            }
            if drill {
                local(name, settings).await?;
            }
            let sink = match settings {
                // What a drill says must not stand where people outside read.
                ChannelSettings::StatusPage(_) if drill => outbox(node, name),
                ChannelSettings::StatusPage(page) => Sink::Pages(page.clone()),
                ChannelSettings::Slack(_)
                | ChannelSettings::Pagerduty(_)
                | ChannelSettings::Mail(_) => Sink::Address(Box::new(settings.clone())),
            };
            let kind = channel.kind;
            sinks.channels.insert(name.clone(), Channel { kind, sink });
        }
        let unnamed = planned.into_iter().flat_map(|plan| plan.channels.values());
        for channel in unnamed.filter(|channel| !config.channels.contains_key(&channel.name)) {
            if drill {
                let sink = outbox(node, &channel.name);
                let kind = channel.kind;
                let name = channel.name.clone();
                sinks.channels.insert(name, Channel { kind, sink });
            } else {
                tracing::info!(channel = %channel.name, "the plan's channel has no address in settings.yaml (detection: channels:) and tells nobody");
            }
        }
        sinks.reachable = sinks.channels.keys().cloned().collect();
        Ok(sinks)
    }
}

/// Where a drill's messages on a channel lie.
fn outbox(node: &Node, channel: &str) -> Sink {
    Sink::Outbox(node.data.join("outbox").join(channel))
}

/// Drills tell only this machine.
async fn local(name: &str, settings: &ChannelSettings) -> anyhow::Result<()> {
    match settings.is_local().await {
        Ok(true) => Ok(()),
        Ok(false) => anyhow::bail!(
            "the setting detection.channels.{name} leads away from this machine, and this is a drill; let it lead to a sink here, or leave it out"
        ),
        Err(reason) => anyhow::bail!("the setting detection.channels.{name}: {reason}"),
    }
}
