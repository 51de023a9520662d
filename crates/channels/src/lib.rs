//! Telling people: Slack-compatible webhooks, `PagerDuty` Events v2, mail over SMTP, static status pages.
//!
//! One message on one channel is one try; it ends delivered, refused, not sent, or unknown, and never hangs longer than the channel's time-out. Repeating is the caller's
//! affair, under the same key: what the other side knows of that key is said with each channel.
//!
//! **Invariant:** no domain. Texts come in as they are to be read; each channel escapes them for its format.
//!
//! **Invariant:** secrets are read from files of their own for each message, zeroised, and stand in no message of an error.

mod http;
mod mail;
mod message;
pub mod page;
mod pagerduty;
mod settings;
mod slack;

pub use message::{Message, Outcome, Page};
pub use settings::{ChannelSettings, Mail, MailTls, PagerDuty, Slack, StatusPage, WrongSetting};

/// Sends one message. It answers within the channel's time-out.
pub async fn send(channel: &ChannelSettings, message: &Message) -> Outcome {
    match channel {
        ChannelSettings::Slack(slack) => slack::send(slack, message).await,
        ChannelSettings::Pagerduty(pager) => pagerduty::send(pager, message).await,
        ChannelSettings::Mail(mail) => mail::send(mail, message).await,
        ChannelSettings::StatusPage(_) => {
            Outcome::Refused("a status page is written whole: see `page::publish`".to_owned())
        }
    }
}
