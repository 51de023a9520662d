//! Who is told what through which channel: the section `communication` of `plan.yaml`.
//!
//! The plan names channels and people; addresses and secrets stand in the settings of the installation, under the same names.

mod check;
mod plan;
mod read;
mod template;
#[cfg(test)]
mod tests;

pub(crate) use check::{errors, warnings};
pub use plan::{Audience, Channel, ChannelKind, Communication};
pub use read::is_language;
pub(crate) use read::{CHANNEL, COMMUNICATION, ESCALATION, read};
pub use template::{BadNotice, NOTICE_FIELDS, NoticeTemplate};
pub(crate) use template::{FOLDER, check as check_notice};
