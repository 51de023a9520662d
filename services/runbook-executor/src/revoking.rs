//! Keys of people that count no more: recorded for all in the trust stream, and in each open run, whose approvals they could be.
//!
//! A run learns of them before it takes an approval in and before a step begins, so a crash between the two streams changes nothing. What went away with the roster while
//! a run was open counts no more in it either: the run is pinned to the roster that it began with, and that must not keep a key or a role alive that the installation gave up.

use sealwarden_domain::fold::event;
use sealwarden_domain::run::{Command, RunState, decide};
use sealwarden_engine::{ExecuteError, Meta, Node, Stream};
use sealwarden_wire::event::v1::ApproverKeyRevoked;

use crate::executor::Executor;

/// What a run has not been told yet.
fn due(node: &Node, state: &RunState) -> Vec<ApproverKeyRevoked> {
    let Some(pinned) = state.pinned().filter(|_| state.is_open()) else {
        return Vec::new();
    };
    let mut due: Vec<ApproverKeyRevoked> = node.board.read(|installation| {
        let revoked = installation.trust.revoked_keys.all();
        revoked.cloned().collect()
    });
    let (then, now) = (pinned.roster(), node.roster());
    if then.digest() != now.digest() {
        let still = then.still(&now);
        for person in then.people() {
            let counts = |key: &str| still.by_fingerprint(key).is_some();
            let gone = person.keys.iter().filter(|key| !counts(&key.fingerprint));
            due.extend(gone.map(|key| ApproverKeyRevoked {
                key_fingerprint: key.fingerprint.clone(),
                person: person.id.clone(),
                by: String::new(),
                reason: "under the roster in force it is not this person's with these roles any more"
                    .to_owned(),
                signature: String::new(),
            }));
        }
    }
    due.retain(|revoked| {
        let key = &revoked.key_fingerprint;
        !state.revoked().contains(key) && then.by_fingerprint(key).is_some()
    });
    due
}

/// Records in a run what it has not been told yet.
pub(crate) async fn catch_up(
    node: &Node,
    stream: &mut Stream<RunState>,
) -> Result<(), ExecuteError> {
    for revoked in due(node, stream.state()) {
        let incident = stream
            .state()
            .pinned()
            .map(|pinned| pinned.started().incident.clone());
        let meta: Meta = node.meta().correlated(incident.unwrap_or_default());
        tracing::warn!(
            key = revoked.key_fingerprint,
            person = revoked.person,
            reason = revoked.reason,
            "a key counts no more in a run"
        );
        let executed = stream.execute(meta, |state| {
            let events = decide(state, Command::RevokeKey(revoked.clone()), node.clock.now())?;
            Ok(events.into_iter().map(event).collect())
        });
        executed.await?;
    }
    Ok(())
}

/// Tells every open run. One that cannot be told now learns of it before it takes anything in.
pub(crate) async fn tell_open_runs(executor: &Executor, key: &str) -> Vec<String> {
    let node = &executor.node;
    let open: Vec<String> = node.board.read(|installation| {
        let runs = installation.runs.iter();
        let open = runs.filter(|(_, run)| run.ended.is_none());
        open.map(|(id, _)| id.clone()).collect()
    });
    let mut told = Vec::new();
    for run in open {
        let answer = async {
            let mut stream = node.stream::<RunState>("run", &run).await?;
            catch_up(node, &mut stream).await?;
            Ok::<bool, ExecuteError>(stream.state().revoked().contains(key))
        };
        match answer.await {
            Ok(true) => told.push(run),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(run, %error, "a run is told later that a key counts no more");
            }
        }
    }
    told
}
