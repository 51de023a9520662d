//! `run done`: hands in what a manual step asks for, and confirms it.

use std::io::Read as _;
use std::path::Path;

use clap::Args;
use sealwarden_wire::run::v1 as wire;
use sealwarden_wire::run::v1::given_field::Content;
use sealwarden_wire::run::v1::runs_client::RunsClient;

use super::{document, prepare, show};
use crate::cli::{Cli, Signing};
use crate::client::Traced;
use crate::commands::{Answer, approve};
use crate::failure::{Ending, Failure};
use crate::output;

/// The most bytes that are handed in at once.
const MAX_FILE: u64 = 8 * 1024 * 1024;

/// What a person says to have done.
#[derive(Debug, Args)]
pub(crate) struct Done {
    /// The run
    run: String,
    /// The step
    step: String,
    /// What the step asks for: NAME=VALUE, or NAME=@FILE for a file (8 MiB at once)
    #[arg(long, value_name = "NAME=VALUE")]
    evidence: Vec<String>,
    /// Hand the evidence in and do not confirm
    #[arg(long)]
    only_evidence: bool,
    /// A line beside the confirmation, for the record
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    signing: Signing,
}

pub(super) async fn done(cli: &Cli, runs: &mut RunsClient<Traced>, args: &Done) -> Answer {
    let mut run = show::fetch(runs, &args.run).await?;
    if !args.evidence.is_empty() {
        let fields = args.evidence.iter().map(|text| field(text));
        let request = wire::GiveEvidenceRequest {
            run: args.run.clone(),
            step: args.step.clone(),
            fields: fields.collect::<Result<_, _>>()?,
        };
        run = runs.give_evidence(request).await?.into_inner();
    }
    let step = run.steps.iter().find(|step| step.step == args.step);
    if let Some(step) = step.filter(|step| step.action != MANUAL) {
        return Err(Failure::usage(format!(
            "step {} runs by itself ({}): only what people perform is said to be done; `sealwarden approve` approves it",
            step.step, step.action
        )));
    }
    if args.only_evidence {
        if cli.json {
            output::json(&document(&run));
        } else {
            let names = step.into_iter().flat_map(|step| &step.evidence);
            for given in names {
                output::line(&show::evidence(given));
            }
        }
        return Ok(Ending::Good);
    }
    let open = step.into_iter().flat_map(|step| &step.evidence);
    let open = open.filter(|given| given.required && given.value.is_empty());
    let open: Vec<&str> = open.map(|given| given.name.as_str()).collect();
    if !open.is_empty() {
        return Err(Failure::usage(format!(
            "step {} asks for evidence that is not handed in yet: {}; add --evidence NAME=VALUE or NAME=@FILE",
            args.step,
            open.join(", ")
        )));
    }
    let request = prepare(&args.run, &args.step, "");
    approve::signed(cli, runs, request, false, &args.signing, &args.note).await
}

/// The action that people perform.
const MANUAL: &str = "confirm";

/// `NAME=VALUE` or `NAME=@FILE`.
fn field(text: &str) -> Result<wire::GivenField, Failure> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(Failure::usage(format!(
            "{text:?} is no evidence; write NAME=VALUE or NAME=@FILE"
        )));
    };
    let (content, file_name) = match value.strip_prefix('@') {
        None => (Content::Value(value.to_owned()), String::new()),
        Some(path) => {
            let path = Path::new(path);
            let file_name = path.file_name().unwrap_or_default().to_string_lossy();
            (Content::File(read(path)?.into()), file_name.into_owned())
        }
    };
    Ok(wire::GivenField {
        name: name.to_owned(),
        content: Some(content),
        file_name,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let unreadable =
        |error: std::io::Error| Failure::usage(format!("cannot read {shown}: {error}"));
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    let mut limited = file.take(MAX_FILE + 1);
    limited.read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_FILE) {
        return Ok(bytes);
    }
    Err(Failure::usage(format!(
        "{shown} is larger than {MAX_FILE} bytes; keep it elsewhere and hand in its address and digest"
    )))
}
