//! `incident obligations | told | regime | material`: duties to notify.

use sealwarden_wire::incident::v1 as wire;
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::commands::{Answer, client, time_argument};
use crate::failure::{Ending, Failure};
use crate::output::{self, span, time};

/// The words behind `incident` that are about duties.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Duties {
    /// Who has to be told by when, and whether they were: the duties of laws and contracts
    ///
    /// A regime that may concern the incident runs its clocks until a person rules it out with `incident regime`. The data stands in the plan's
    /// regimes.yaml; what is marked "not checked" was not compared with its source.
    Obligations {
        /// The incident
        id: String,
    },
    /// Record that somebody was told, as a duty asks
    Told {
        /// The incident
        id: String,
        /// The duty, as `incident obligations` names it: REGIME/DUTY
        #[arg(value_name = "REGIME/DUTY")]
        duty: String,
        /// Where it can be found again: the authority's number, a letter. The same one twice is recorded once
        #[arg(long)]
        reference: String,
        /// When they were told (RFC 3339; default: now)
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
    /// Say whether a regime concerns the incident: a lawyer's decision, recorded with its reason
    #[command(group = clap::ArgGroup::new("ruling").required(true).args(["applies", "does_not_apply"]))]
    Regime {
        /// The incident
        id: String,
        /// The regime
        regime: String,
        /// It concerns the incident
        #[arg(
            long,
            conflicts_with = "does_not_apply",
            required_unless_present = "does_not_apply"
        )]
        applies: bool,
        /// It does not: its clocks are silent until somebody says that it does
        #[arg(long)]
        does_not_apply: bool,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Record when the incident was determined to be material; it only ever moves to earlier
    Material {
        /// The incident
        id: String,
        /// The regime whose clock this starts
        regime: String,
        /// When (RFC 3339)
        #[arg(long, value_name = "TIME")]
        at: String,
        /// Who determined it, and why
        #[arg(long)]
        reason: String,
    },
}

pub(crate) async fn run(cli: &Cli, what: &Duties) -> Answer {
    let mut incidents = client(cli)?.incidents().await?;
    let answer = match what {
        Duties::Told {
            id,
            duty,
            reference,
            at,
        } => {
            let (regime, duty) = named(duty)?;
            let at_ms = match at {
                Some(text) => time_argument("at", text)?,
                None => 0,
            };
            let request = wire::RecordToldRequest {
                incident: id.clone(),
                regime,
                duty,
                at_ms,
                reference: reference.clone(),
            };
            incidents.record_told(request).await?.into_inner()
        }
        Duties::Regime {
            id,
            regime,
            applies,
            does_not_apply: _,
            reason,
        } => {
            let request = wire::RuleRegimeRequest {
                incident: id.clone(),
                regime: regime.clone(),
                applies: *applies,
                reason: reason.clone(),
            };
            incidents.rule_regime(request).await?.into_inner()
        }
        Duties::Material {
            id,
            regime,
            at,
            reason,
        } => {
            let request = wire::StartClockRequest {
                incident: id.clone(),
                regime: regime.clone(),
                clock: "material".to_owned(),
                at_ms: time_argument("at", at)?,
                reason: reason.clone(),
            };
            incidents.start_clock(request).await?.into_inner()
        }
        Duties::Obligations { id } => {
            let request = wire::ObligationsRequest {
                incident: id.clone(),
            };
            incidents.obligations(request).await?.into_inner()
        }
    };
    show(cli, &answer);
    let overdue = answer.duties.iter().any(|d| d.standing == "overdue");
    let asked = matches!(what, Duties::Obligations { .. });
    Ok(if asked && overdue {
        Ending::Negative
    } else {
        Ending::Good
    })
}

/// `REGIME/DUTY`, as it is shown.
fn named(text: &str) -> Result<(String, String), Failure> {
    text.split_once('/')
        .map(|(regime, duty)| (regime.to_owned(), duty.to_owned()))
        .ok_or_else(|| {
            Failure::usage(format!(
                "{text:?} names no duty; write REGIME/DUTY as `sealwarden incident obligations` shows it, for example nis2/early-warning"
            ))
        })
}

fn show(cli: &Cli, answer: &wire::ObligationsResponse) {
    if cli.json {
        output::json(&json!({
            "incident": answer.incident, "regimes_version": answer.regimes_version, "now_ms": answer.now_ms,
            "duties": answer.duties.iter().map(document).collect::<Vec<_>>(),
        }));
        return;
    }
    if answer.duties.is_empty() {
        output::line(match answer.regimes_version {
            0 => "the plan has no regimes.yaml, so nothing is known of duties to notify",
            _ => "no regime of the plan concerns this incident",
        });
        return;
    }
    let head = [
        "STANDING",
        "DUTY",
        "DUE (UTC)",
        "LEFT",
        "WHAT COUNTS",
        "TELL",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(answer.duties.iter().map(|duty| row(duty, answer.now_ms)));
    output::table(&rows);
    for text in remarks(&answer.duties) {
        output::line(&text);
    }
}

fn row(duty: &wire::Duty, now_ms: i64) -> Vec<String> {
    let due = match duty.due_at_ms {
        0 => "-".to_owned(),
        _ if duty.within == "at once" => "at once".to_owned(),
        at => time(at),
    };
    let left = match duty.standing.as_str() {
        "running" => span(duty.due_at_ms.saturating_sub(now_ms)),
        "overdue" => format!("{} over", span(now_ms.saturating_sub(duty.due_at_ms))),
        _ => "-".to_owned(),
    };
    let counts = match duty.standing.as_str() {
        "waiting" => format!("starts: {}", duty.waits_for.join(" or ")),
        "met" | "met late" => format!("{} {} ({})", time(duty.met_at_ms), duty.reference, duty.by),
        "ruled out" => format!("{} ({})", duty.reason, duty.by),
        _ => format!("{} after {}", duty.within, duty.clock),
    };
    vec![
        duty.standing.to_uppercase(),
        format!("{}/{}", duty.regime, duty.duty),
        due,
        left,
        counts,
        duty.told.join(", "),
    ]
}

/// What a reader must know to judge the data: which regimes were not compared with their source, and which days are not certain.
fn remarks(duties: &[wire::Duty]) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut unchecked: Vec<&str> = duties
        .iter()
        .filter(|duty| !duty.checked)
        .map(|duty| duty.regime.as_str())
        .collect();
    unchecked.sort_unstable();
    unchecked.dedup();
    if !unchecked.is_empty() {
        remarks.push(format!(
            "not checked against their source: {}",
            unchecked.join(", ")
        ));
    }
    for duty in duties.iter().filter(|duty| duty.beyond_calendar) {
        remarks.push(format!(
            "{}/{}: the calendar does not know the holidays of that time; it may be due later, never earlier",
            duty.regime, duty.duty
        ));
    }
    let open = duties.iter().any(|duty| {
        matches!(
            duty.standing.as_str(),
            "running" | "due now" | "overdue" | "waiting"
        )
    });
    if open {
        remarks.push(
            "whether a regime concerns the incident is for counsel to say: sealwarden incident regime"
                .to_owned(),
        );
    }
    remarks
}

fn document(d: &wire::Duty) -> Value {
    json!({
        "regime": d.regime, "regime_title": d.regime_title, "source": d.source, "as_of": d.as_of, "checked": d.checked,
        "concerns": d.says, "duty": d.duty, "title": d.title, "told": d.told, "standing": d.standing, "clock": d.clock,
        "within": d.within, "started_at_ms": d.started_at_ms, "due_at_ms": d.due_at_ms, "beyond_calendar": d.beyond_calendar,
        "met_at_ms": d.met_at_ms, "reference": d.reference, "by": d.by, "reason": d.reason, "waits_for": d.waits_for,
    })
}
