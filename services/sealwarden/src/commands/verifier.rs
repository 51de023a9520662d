//! `verifier …`: verifiers that others run. `serve` is one; `list` and `compare` tell whether those of the settings still say what is known of archived documents.

mod serve;

use clap::Subcommand;
use sealwarden_wire::event::v1::VerdictsCompared;
use sealwarden_wire::verify::v1::{CompareVerdictsRequest, ListVerifiersRequest, VerifierStatus};
use serde_json::{Value, json};

use super::{Answer, client};
use crate::cli::Cli;
use crate::failure::{Ending, Failure};
use crate::output;

/// The words behind `verifier`.
#[derive(Debug, Subcommand)]
pub(crate) enum Verifier {
    /// Answer verdicts over HTTP from a trust bundle alone, without any of the services: `POST /verify`, `GET /about`; prints one line `ready …`
    Serve(serve::Serve),
    /// The verifiers of the settings, and what their releases said last; exit 1 if one differs or is silent
    List,
    /// Put archived documents to a verifier now, and what it must refuse; exit 1 if it says something else than is known of them
    Compare {
        /// Its name (settings.yaml, verification: verifiers)
        verifier: String,
    },
}

pub(crate) async fn run(cli: &Cli, what: &Verifier) -> Answer {
    match what {
        Verifier::Serve(args) => serve::run(cli, args).await,
        Verifier::List => list(cli).await,
        Verifier::Compare { verifier } => compare(cli, verifier).await,
    }
}

async fn list(cli: &Cli) -> Answer {
    let mut verifiers = client(cli)?.verifiers().await?;
    let answer = verifiers.list_verifiers(ListVerifiersRequest {}).await?;
    let known = answer.into_inner().verifiers;
    let good = known.iter().all(|it| it.last.as_ref().is_none_or(is_good));
    if cli.json {
        let all: Vec<Value> = known.iter().map(status).collect();
        output::json(&json!({ "good": good, "verifiers": all }));
    } else if known.is_empty() {
        output::line("no verifier is configured; name one in settings.yaml:");
        output::line(
            "  verification:\n    verifiers:\n      - {name: fleet, url: https://verify.example.com, archive: main}",
        );
    } else {
        for it in &known {
            output::line(&format!("{} ({})", it.verifier, it.url));
            let how = if it.every_s == 0 {
                "only when somebody asks".to_owned()
            } else {
                format!("every {} s", it.every_s)
            };
            output::line(&format!("  documents: of archive {}, {how}", it.archive));
            match &it.last {
                Some(last) => tell(last),
                None => output::line("  said:      it was not asked yet"),
            }
        }
    }
    Ok(ending(good))
}

async fn compare(cli: &Cli, verifier: &str) -> Answer {
    let request = CompareVerdictsRequest {
        verifier: verifier.to_owned(),
    };
    let mut verifiers = client(cli)?.verifiers().await?;
    let answer = verifiers.compare_verdicts(request).await?.into_inner();
    let compared = answer
        .compared
        .ok_or_else(|| Failure::unavailable("the service answered without a comparison"))?;
    if cli.json {
        output::json(&document(&compared));
    } else {
        output::line(&compared.verifier);
        tell(&compared);
    }
    Ok(ending(is_good(&compared)))
}

fn ending(good: bool) -> Ending {
    if good { Ending::Good } else { Ending::Negative }
}

fn is_good(compared: &VerdictsCompared) -> bool {
    sealwarden_domain::verifier::agrees(compared)
}

fn status(it: &VerifierStatus) -> Value {
    json!({
        "verifier": it.verifier, "url": it.url, "archive": it.archive, "every_s": it.every_s, "last": it.last.as_ref().map(document),
    })
}

fn document(it: &VerdictsCompared) -> Value {
    let releases = it.releases.iter().map(|r| {
        json!({ "release": r.release, "trust_version": r.trust_version, "compared": r.compared, "different": r.different })
    });
    let differences = it.differences.iter().map(|d| {
        json!({
            "release": d.release, "object": d.object, "probe": d.probe, "expected": d.expected, "said": d.said, "reason": d.reason,
        })
    });
    json!({
        "verifier": it.verifier, "archive": it.archive, "by": it.by, "at_ms": it.at_ms, "good": is_good(it), "compared": it.compared,
        "different": it.different, "problem": (!it.problem.is_empty()).then_some(&it.problem),
        "releases": releases.collect::<Vec<_>>(), "differences": differences.collect::<Vec<_>>(),
        "agreed_releases": it.agreed_releases, "agreed_at_ms": (it.agreed_at_ms > 0).then_some(it.agreed_at_ms),
    })
}

fn tell(it: &VerdictsCompared) {
    output::line(&format!(
        "  asked:     {} (UTC), by {}",
        output::time(it.at_ms),
        it.by
    ));
    for release in &it.releases {
        let word = match release.different {
            0 => format!("agrees on all of {}", release.compared),
            some => format!("DIFFERS on {some} of {}", release.compared),
        };
        output::line(&format!(
            "  release:   {} (trust bundle version {}) {word}",
            release.release, release.trust_version
        ));
    }
    if !it.problem.is_empty() {
        output::line(&format!("  SILENT:    {}", it.problem));
    }
    let mut told = "";
    for one in &it.differences {
        output::line(&format!(
            "  differs:   {} {} at release {}: {} instead of {}",
            one.probe, one.object, one.release, one.said, one.expected
        ));
        // One reason for a hundred documents is told once.
        if !one.reason.is_empty() && one.reason != told {
            output::line(&format!("             {}", one.reason));
            told = &one.reason;
        }
    }
    if it.agreed_at_ms > 0 && !is_good(it) {
        output::line(&format!(
            "  agreed:    {} (UTC), at release {}",
            output::time(it.agreed_at_ms),
            it.agreed_releases.join(", ")
        ));
    }
}
