//! `items list | add | move | done | check | drop | gate`

use sealwarden_wire::incident::v1 as wire;
use sealwarden_wire::incident::v1::change_item_request::{Change, Check, Move};
use serde_json::{Value, json};

use super::{Answer, client, time_argument};
use crate::cli::Cli;
use crate::failure::{Ending, Failure};
use crate::output::{self, time};

/// Action items of incidents.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Items {
    /// Action items, those that are due first
    List {
        /// Of one incident (default: of all)
        id: Option<String>,
        /// Only those that somebody still has to do
        #[arg(long)]
        open: bool,
    },
    /// Add one; the same title twice is one
    Add {
        /// The incident
        id: String,
        /// What has to change
        #[arg(long)]
        title: String,
        /// Who answers for it: an id of the roster
        #[arg(long)]
        owner: String,
        /// By when (RFC 3339)
        #[arg(long, value_name = "TIME")]
        due: String,
        /// How somebody else can see that it is done
        #[arg(long, value_name = "TEXT")]
        verify: String,
        /// Once it is overdue, `items gate` says no
        #[arg(long)]
        gates_releases: bool,
    },
    /// Give it another owner or date, with the reason
    Move {
        /// The incident
        id: String,
        /// The item, such as A1
        item: String,
        /// The new owner
        #[arg(long)]
        owner: Option<String>,
        /// The new date (RFC 3339)
        #[arg(long, value_name = "TIME")]
        due: Option<String>,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Say that it is done
    Done {
        /// The incident
        id: String,
        /// The item
        item: String,
        /// Where it can be seen: a change, a release, a document
        #[arg(long)]
        reference: String,
    },
    /// Say what you found when you looked at one that somebody else did
    Check {
        /// The incident
        id: String,
        /// The item
        item: String,
        /// What you found
        #[arg(long)]
        found: String,
        /// It is not done after all: it is open again
        #[arg(long)]
        not_done: bool,
    },
    /// Say that it will not be done, and why
    Drop {
        /// The incident
        id: String,
        /// The item
        item: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Whether a release may go out: exit code 1 while an item that gates releases is overdue
    Gate,
}

pub(crate) async fn run(cli: &Cli, what: &Items) -> Answer {
    let (id, item, change) = match what {
        Items::List { id, open } => return list(cli, id.as_deref(), *open).await,
        Items::Gate => return gate(cli).await,
        Items::Add {
            id,
            title,
            owner,
            due,
            verify,
            gates_releases,
        } => {
            let request = wire::AddItemRequest {
                incident: id.clone(),
                title: title.clone(),
                owner: owner.clone(),
                due_at_ms: time_argument("due", due)?,
                verification: verify.clone(),
                gates_releases: *gates_releases,
            };
            let mut learning = client(cli)?.learning().await?;
            let learned = learning.add_item(request).await?.into_inner();
            return Ok(show(cli, &of(&learned)));
        }
        Items::Move {
            id,
            item,
            owner,
            due,
            reason,
        } => {
            let due_at_ms = match due {
                Some(text) => time_argument("due", text)?,
                None => 0,
            };
            if owner.is_none() && due.is_none() {
                return Err(Failure::usage("name what changes: --owner, --due or both"));
            }
            let change = Change::Move(Move {
                owner: owner.clone().unwrap_or_default(),
                due_at_ms,
                reason: reason.clone(),
            });
            (id, item, change)
        }
        Items::Done {
            id,
            item,
            reference,
        } => (id, item, Change::Done(reference.clone())),
        Items::Check {
            id,
            item,
            found,
            not_done,
        } => {
            let check = Check {
                done: !not_done,
                found: found.clone(),
            };
            (id, item, Change::Check(check))
        }
        Items::Drop { id, item, reason } => (id, item, Change::Drop(reason.clone())),
    };
    let request = wire::ChangeItemRequest {
        incident: id.clone(),
        item: item.clone(),
        change: Some(change),
    };
    let mut learning = client(cli)?.learning().await?;
    let learned = learning.change_item(request).await?.into_inner();
    Ok(show(cli, &of(&learned)))
}

/// Items with the incident that they belong to.
type Listed = Vec<(String, wire::ActionItem)>;

fn of(learned: &wire::Learned) -> Listed {
    let items = learned.items.iter();
    items
        .map(|item| (learned.incident.clone(), item.clone()))
        .collect()
}

/// The items of every incident that the server lists.
async fn all(cli: &Cli) -> Result<Listed, Failure> {
    let client = client(cli)?;
    let asked = wire::ListRequest { open_only: false };
    let incidents = client.incidents().await?.list(asked).await?.into_inner();
    let mut learning = client.learning().await?;
    let mut listed = Vec::new();
    for incident in incidents.incidents {
        let asked = wire::ShowLearningRequest {
            incident: incident.incident,
        };
        listed.extend(of(&learning.show(asked).await?.into_inner()));
    }
    Ok(listed)
}

fn is_open(item: &wire::ActionItem) -> bool {
    matches!(item.standing.as_str(), "open" | "overdue")
}

async fn list(cli: &Cli, id: Option<&str>, open: bool) -> Answer {
    let mut listed = match id {
        Some(id) => of(&super::postmortem::learned(cli, id).await?),
        None => all(cli).await?,
    };
    if open {
        listed.retain(|(_, item)| is_open(item));
    }
    listed.sort_by_key(|(_, item)| (!is_open(item), item.due_at_ms));
    Ok(show(cli, &listed))
}

async fn gate(cli: &Cli) -> Answer {
    let mut late = all(cli).await?;
    late.retain(|(_, item)| item.gates_releases && item.standing == "overdue");
    if cli.json {
        output::json(&json!({ "may_release": late.is_empty(), "overdue": rows(&late) }));
    } else if late.is_empty() {
        output::line("no overdue action item stands against a release");
    } else {
        output::line("a release has to wait for these action items, which are overdue:");
        table(&late);
    }
    Ok(if late.is_empty() {
        Ending::Good
    } else {
        Ending::Negative
    })
}

fn show(cli: &Cli, listed: &Listed) -> Ending {
    if cli.json {
        output::json(&json!({ "items": rows(listed) }));
    } else if listed.is_empty() {
        output::line("no action items");
    } else {
        table(listed);
    }
    Ending::Good
}

fn table(listed: &Listed) {
    let head = ["INCIDENT", "ITEM", "STANDING", "DUE (UTC)", "OWNER", "WHAT"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (incident, item) in listed {
        rows.push(vec![
            incident.clone(),
            item.item.clone(),
            item.standing.clone(),
            time(item.due_at_ms),
            item.owner.clone(),
            item.title.clone(),
        ]);
    }
    output::table(&rows);
}

fn rows(listed: &Listed) -> Vec<Value> {
    let row = |(incident, item): &(String, wire::ActionItem)| {
        json!({
            "incident": incident, "item": item.item, "title": item.title, "owner": item.owner, "due_at_ms": item.due_at_ms,
            "verification": item.verification, "gates_releases": item.gates_releases, "standing": item.standing,
            "added_at_ms": item.added_at_ms, "ended_at_ms": item.ended_at_ms, "remark": item.remark, "by": item.by,
        })
    };
    listed.iter().map(row).collect()
}
