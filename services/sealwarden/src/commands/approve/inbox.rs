//! `approve --list`: what waits for people, and for whoever asks first.

use sealwarden_wire::run::v1 as wire;
use serde_json::json;

use super::SigningKey;
use crate::cli::{Approve, Cli};
use crate::client::Client;
use crate::commands::roster::change;
use crate::failure::{Ending, Failure};
use crate::output::{self, span, time};

/// A step that waits for people.
struct Item<'a> {
    run: &'a wire::Run,
    step: &'a wire::Step,
    /// Whether whoever asks could bring it further; `None` if nobody knows who asks.
    for_me: Option<bool>,
}

impl Item<'_> {
    /// Whose decisions stand.
    fn signed(&self) -> Vec<String> {
        let counted = self
            .step
            .approvals
            .iter()
            .filter(|it| it.refused.is_empty());
        let signed =
            counted.map(|it| format!("{} {}s", it.person, it.decision.replace("deny", "denie")));
        signed.collect()
    }

    fn json(&self) -> serde_json::Value {
        let (run, step) = (self.run, self.step);
        json!({
            "run": run.run, "incident": run.incident, "step": step.step, "title": step.title, "state": step.state, "quorum": step.quorum,
            "missing": step.missing, "since_ms": step.waits_since_ms, "due_ms": step.due_ms, "signed": self.signed(),
            "can_sign": step.can_sign, "for_me": self.for_me,
        })
    }

    fn row(&self, now_ms: i64) -> Vec<String> {
        let (run, step) = (self.run, self.step);
        let left = step.due_ms.saturating_sub(now_ms);
        let due = if left < 0 {
            format!("{} OVERDUE", time(step.due_ms))
        } else {
            format!("{} (in {})", time(step.due_ms), span(left))
        };
        let signed = self.signed();
        vec![
            if self.for_me == Some(true) { "*" } else { "" }.to_owned(),
            run.run.clone(),
            step.step.clone(),
            time(step.waits_since_ms),
            due,
            step.missing.clone(),
            if signed.is_empty() {
                "nobody".to_owned()
            } else {
                signed.join(", ")
            },
            step.title.clone(),
        ]
    }
}

/// Shows what waits: what whoever asks can sign first, then by the time it is due.
pub(super) async fn list(cli: &Cli, client: &Client, args: &Approve) -> Result<Ending, Failure> {
    let mut runs = client.runs().await?;
    let open = runs.list(wire::ListRequest { open_only: true });
    let open = open.await?.into_inner().runs;
    let roster = runs.show_roster(wire::ShowRosterRequest {});
    let roster = roster.await?.into_inner();
    // Who asks is told by the key, as everywhere; without one the list is everybody's.
    let key = match SigningKey::find(cli, &args.signing) {
        Ok(key) => Some(key.fingerprint()),
        Err(error) if args.signing.key.is_some() || args.mine => return Err(error),
        Err(_) => None,
    };
    let me = key.and_then(|key| {
        let mut people = roster.people.iter();
        people.find(|it| it.keys.iter().any(|it| it.fingerprint == key))
    });
    if args.mine && me.is_none() {
        return Err(Failure::refused(
            "your key belongs to nobody on the roster, so nothing waits for you; name yours with --key",
        ));
    }
    let me = me.map(|person| person.person.clone());
    let mut changes = roster.proposals;
    changes.retain(|it| !args.mine || me.as_ref().is_some_and(|me| it.can_sign.contains(me)));
    let steps = open
        .iter()
        .flat_map(|run| run.steps.iter().map(move |step| (run, step)));
    let mut items: Vec<Item<'_>> = steps
        .filter(|(_, step)| step.waits_since_ms != 0)
        .map(|(run, step)| Item {
            run,
            step,
            for_me: me.as_ref().map(|me| step.can_sign.contains(me)),
        })
        .filter(|item| !args.mine || item.for_me == Some(true))
        .collect();
    items.sort_by_key(|item| (item.for_me != Some(true), item.step.due_ms));
    if cli.json {
        let rows: Vec<_> = items.iter().map(Item::json).collect();
        let changes: Vec<_> = changes.iter().map(change::document).collect();
        output::json(&json!({ "waiting": rows, "me": me, "roster": changes }));
        return Ok(Ending::Good);
    }
    for it in &changes {
        output::line(&change::shown(it));
        output::line("sign it: sealwarden roster approve\n");
    }
    if items.is_empty() && !changes.is_empty() {
        return Ok(Ending::Good);
    }
    if items.is_empty() {
        output::line(if args.mine {
            "nothing waits for you"
        } else {
            "nothing waits for an approval"
        });
        return Ok(Ending::Good);
    }
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let head = [
        "", "RUN", "STEP", "SINCE", "BY", "MISSING", "SIGNED", "WHAT",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(items.iter().map(|item| item.row(now_ms)));
    output::table(&rows);
    if let Some(me) = me {
        output::line(&format!("* {me} can sign it: sealwarden approve RUN STEP"));
    }
    Ok(Ending::Good)
}
