//! `run list | show | draw | pause | resume | abort | retry | done | skip | override | review`

mod done;
mod show;

use clap::Args;
use sealwarden_wire::run::v1 as wire;
use sealwarden_wire::run::v1::runs_client::RunsClient;
use serde_json::{Value, json};

use super::{Answer, approve, client};
use crate::cli::{Cli, Signing};
use crate::client::Traced;
use crate::failure::{Ending, Failure};
use crate::output::{self, time};

/// The state of a run whose stream holds something that does not fit.
const SET_ASIDE: &str = "set-aside";

/// The words behind `run`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Run {
    /// Runs, open ones first; exit code 1 if one is set aside, because its stream holds something that does not fit
    List {
        /// Only those that have not ended
        #[arg(long)]
        open: bool,
    },
    /// One run: steps, approvals, what it waits for
    Show {
        /// Its id
        id: String,
        /// Stay and show it anew whenever it changes, until it ends (exit code 1 if it ends other than completed). Ctrl-C ends the view, not the run. With --json a
        /// document a line
        #[arg(long)]
        watch: bool,
    },
    /// Draw a run as SVG: its runbook with states, approvals and times
    Draw(super::runbook::draw::DrawRun),
    /// Start no new step until `run resume`
    ///
    /// Still advances: what is under way, to its end; an attempt that ended without an answer is observed. Approvals and confirmations are taken in. Deadlines and the
    /// validity of approvals run on: after a long pause people must sign again. Signing that was stopped stays stopped.
    Pause(Steered),
    /// Let a paused run go on
    Resume(Steered),
    /// End a run: nothing new starts, nothing is taken back
    ///
    /// Steps that have not started never will. What is under way goes on to its end, then the run ends as `aborted`. Containment stays: keys stay isolated and modes stay as
    /// they are. A step of which nobody knows whether it happened keeps the run open until a person signs what they found (`run retry`: it did not; `run skip`: go on).
    /// An abort is not taken back.
    ///
    /// With --undo the steps that are done are taken back where the runbook says how (`runbook show` lists it): as steps named STEP.undo, each after everything that relied
    /// on it. Those that lift containment or cannot be repeated ask for their approvals (`approve RUN STEP.undo`) and for the run's evidence, as anywhere else; until then
    /// the run stays open and containment holds. One that fails is stuck: `run retry` or `run skip`.
    Abort(Aborted),
    /// Try a failed step once more, under the same idempotency key
    ///
    /// For a step that definitely failed. One of which nobody knows whether it happened asks for your signature that it did not: find out first. One whose condition could
    /// not be evaluated (`undecided`) asks for your signature that it goes on as if the condition held; its own approvals still come then. Its approvals must still
    /// be valid; what expired must be signed again. In a paused run it starts after the resume.
    Retry(Decided),
    /// Say that you did what a manual step asks for, with its evidence; signs
    ///
    /// Evidence is handed in first and becomes part of what everybody signs: it stands as evidence.NAME in the step's inputs. Files are kept in the evidence store under their
    /// SHA-256. Handing in something else later asks for all confirmations anew. Whoever confirms with you says `run done RUN STEP` and sees what was handed in.
    Done(done::Done),
    /// Go on without a step; needs the step's own quorum
    ///
    /// For a step that is ready, failed, or of which nobody knows. A step without a quorum needs that of the steps behind it that cannot be taken back or order nodes (an
    /// evidence snapshot is skipped only by those); with none behind, one person. Instructions behind it show `(skipped: step …)`; a step whose outputs an action behind it takes
    /// cannot be skipped. It is not taken back.
    Skip(Reasoned),
    /// Break-glass: order a step without its quorum, also against a denial
    ///
    /// People with the role `break-glass` sign: one to tighten (isolate a key, read-only, divert), also if they raised the signal; two who did not ask for it for anything else,
    /// each with a FIDO key that they touch (or one of which the roster says `touch: waived`). Needs of the step and evidence still come first. Nodes check these signatures themselves. Everybody sees it, and the incident cannot
    /// be closed until two others have signed `run review`.
    Override(Reasoned),
    /// Sign that you have looked at an override in which you had no part
    Review(Decided),
}

/// A verb about a whole run.
#[derive(Debug, Args)]
pub(crate) struct Steered {
    /// The run
    run: String,
    /// Why, for the record
    #[arg(long, default_value = "")]
    why: String,
}

/// The end of a run.
#[derive(Debug, Args)]
pub(crate) struct Aborted {
    #[command(flatten)]
    steered: Steered,
    /// Take back what is done, where the runbook says how
    #[arg(long)]
    undo: bool,
}

/// A verb about a step that may need a signature.
#[derive(Debug, Args)]
pub(crate) struct Decided {
    /// The run
    run: String,
    /// The step
    step: String,
    /// Why, for the record
    #[arg(long, default_value = "")]
    why: String,
    #[command(flatten)]
    signing: Signing,
}

/// A verb about a step that needs a signature and a reason.
#[derive(Debug, Args)]
pub(crate) struct Reasoned {
    /// The run
    run: String,
    /// The step
    step: String,
    /// Why, for the record
    #[arg(long)]
    why: String,
    #[command(flatten)]
    signing: Signing,
}

pub(crate) async fn run(cli: &Cli, what: &Run) -> Answer {
    let mut runs = client(cli)?.runs().await?;
    match what {
        Run::Draw(args) => {
            let asked = wire::ShowRequest {
                run: args.run.clone(),
            };
            let run = runs.show(asked).await?.into_inner();
            return super::runbook::draw::draw_run(cli, args, &run);
        }
        Run::List { open } => {
            let list = runs
                .list(wire::ListRequest { open_only: *open })
                .await?
                .into_inner()
                .runs;
            if cli.json {
                output::json(&json!({ "runs": list.iter().map(document).collect::<Vec<_>>() }));
            } else if list.is_empty() {
                output::line("no runs");
            } else {
                let head = ["RUN", "STATE", "RUNBOOK", "INCIDENT", "STARTED (UTC)"];
                let mut rows = vec![head.map(str::to_owned).to_vec()];
                rows.extend(list.iter().map(|r| {
                    vec![
                        r.run.clone(),
                        r.state.clone(),
                        r.runbook.clone(),
                        r.incident.clone(),
                        time(r.started_at_ms),
                    ]
                }));
                output::table(&rows);
            }
            let aside: Vec<&wire::Run> = list.iter().filter(|r| r.state == SET_ASIDE).collect();
            if !cli.json {
                for run in &aside {
                    output::line(&format!("{} is set aside: {}", run.run, run.reason));
                }
            }
            if !aside.is_empty() {
                return Ok(Ending::Negative);
            }
        }
        Run::Show { id, watch: true } => return show::watch(cli, &mut runs, id).await,
        Run::Show { id, watch: false } => {
            let run = show::fetch(&mut runs, id).await?;
            if cli.json {
                output::json(&document(&run));
            } else {
                output::line(&show::text(&run));
            }
        }
        Run::Pause(args) => return steer(cli, &mut runs, wire::Verb::Pause, args).await,
        Run::Resume(args) => return steer(cli, &mut runs, wire::Verb::Resume, args).await,
        Run::Abort(args) => {
            let request = wire::OperateRequest {
                undo: args.undo,
                ..operation(wire::Verb::Abort, &args.steered.run, "", &args.steered.why)
            };
            return operate(cli, &mut runs, request).await;
        }
        Run::Retry(args) => return retry(cli, &mut runs, args).await,
        Run::Done(args) => return done::done(cli, &mut runs, args).await,
        Run::Skip(args) => {
            let request = prepare(&args.run, &args.step, "skip");
            return approve::signed(cli, &mut runs, request, false, &args.signing, &args.why).await;
        }
        Run::Override(args) => {
            if args.why.trim().is_empty() {
                return Err(Failure::usage(
                    "an override needs a reason that others will review: --why TEXT",
                ));
            }
            let request = prepare(&args.run, &args.step, "override");
            return approve::signed(cli, &mut runs, request, false, &args.signing, &args.why).await;
        }
        Run::Review(args) => {
            let request = prepare(&args.run, &args.step, "review");
            return approve::signed(cli, &mut runs, request, false, &args.signing, &args.why).await;
        }
    }
    Ok(Ending::Good)
}

fn prepare(run: &str, step: &str, decision: &str) -> wire::PrepareRequest {
    wire::PrepareRequest {
        run: run.to_owned(),
        step: step.to_owned(),
        decision: decision.to_owned(),
    }
}

async fn steer(
    cli: &Cli,
    runs: &mut RunsClient<Traced>,
    verb: wire::Verb,
    args: &Steered,
) -> Answer {
    operate(cli, runs, operation(verb, &args.run, "", &args.why)).await
}

/// A step that failed is retried on the operator's word; one of which nobody knows, on a signed one.
async fn retry(cli: &Cli, runs: &mut RunsClient<Traced>, args: &Decided) -> Answer {
    let request = wire::ShowRequest {
        run: args.run.clone(),
    };
    let shown = runs.show(request).await?.into_inner();
    let asked = shown.state == "stuck"
        && shown.steps.iter().any(|step| {
            step.step == args.step && matches!(step.state.as_str(), "unknown" | "undecided")
        });
    if asked {
        let request = prepare(&args.run, &args.step, "retry");
        return approve::signed(cli, runs, request, false, &args.signing, &args.why).await;
    }
    let request = operation(wire::Verb::Retry, &args.run, &args.step, &args.why);
    operate(cli, runs, request).await
}

fn operation(verb: wire::Verb, run: &str, step: &str, why: &str) -> wire::OperateRequest {
    wire::OperateRequest {
        run: run.to_owned(),
        verb: verb.into(),
        step: step.to_owned(),
        reason: why.to_owned(),
        undo: false,
    }
}

async fn operate(
    cli: &Cli,
    runs: &mut RunsClient<Traced>,
    request: wire::OperateRequest,
) -> Answer {
    let after = runs.operate(request).await?.into_inner();
    if cli.json {
        output::json(&document(&after));
    } else {
        let reason = if after.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", after.reason)
        };
        output::line(&format!("{} is {}{reason}", after.run, after.state));
    }
    Ok(Ending::Good)
}

/// A run as JSON.
pub(crate) fn document(run: &wire::Run) -> Value {
    json!({
        "run": run.run, "incident": run.incident, "runbook": run.runbook, "runbook_digest": run.runbook_digest,
        "state": run.state, "reason": run.reason, "started_at_ms": run.started_at_ms, "ended_at_ms": run.ended_at_ms,
        "requesters": run.requesters,
        "steps": run.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

/// A step as JSON.
pub(crate) fn step(s: &wire::Step) -> Value {
    json!({
        "step": s.step, "title": s.title, "action": s.action, "state": s.state, "needs": s.needs, "quorum": s.quorum, "missing": s.missing,
        "attempts": s.attempts, "outputs": s.outputs, "progress": s.progress, "error": s.error, "error_kind": s.error_kind, "retry": s.retry, "remark": s.remark, "inputs": s.inputs,
        "waits_since_ms": s.waits_since_ms, "due_ms": s.due_ms, "can_sign": s.can_sign,
        "started_at_ms": s.started_at_ms, "ended_at_ms": s.ended_at_ms,
        "when": s.when, "condition": s.condition, "seen": s.seen,
        "evidence": s.evidence.iter().map(evidence).collect::<Vec<_>>(),
        "approvals": s.approvals.iter().map(approval).collect::<Vec<_>>(),
    })
}

/// A field of evidence as JSON.
fn evidence(e: &wire::Evidence) -> Value {
    json!({
        "name": e.name, "kind": e.kind, "required": e.required, "of": e.of, "value": e.value, "file_name": e.file_name, "bytes": e.bytes,
        "stored": e.stored,
    })
}

/// An approval as JSON.
pub(crate) fn approval(a: &wire::Approval) -> Value {
    json!({
        "person": a.person, "roles": a.roles, "decision": a.decision, "at_ms": a.at_ms, "key_fingerprint": a.key_fingerprint,
        "statement": a.statement, "signature": a.signature, "refused": a.refused, "note": a.note,
        "presence": a.presence, "counter": a.counter, "warning": a.warning,
    })
}
