//! `seal FILE…`: hashes here, seals there, writes `FILE.seal`; or `FILE.seal.ticket` while signing is stopped.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use sealwarden_seal::seal::Seal as SealFile;
use sealwarden_wire::seal::v1::{
    GetSealRequest, Priority, SealRequest, SealResponse, Stage, sealing_client::SealingClient,
};
use serde_json::json;

use super::archive::{self, Stored};
use super::seal_many::{self, MANY};
use super::ticket::{self, TicketFile};
use super::verify::{beside, digest_of};
use super::{Answer, anchors, client};
use crate::cli::{Cli, PriorityName, Seal, WaitStage};
use crate::client::Traced;
use crate::failure::{Ending, Failure};
use crate::host::installation::write_public;
use crate::output;

/// Files that are hashed and sealed at once; the server puts them into shared batches.
const AT_ONCE: usize = 128;

/// What became of one file.
pub(super) struct Done {
    file: PathBuf,
    seal: PathBuf,
    origin: String,
    index: u64,
    /// "queued", "sealed", "witnessed", "already sealed" or "renewed".
    state: &'static str,
    /// While it is queued: the ticket, its file, and how many may be before it.
    ticket: Option<(String, PathBuf, Option<u64>)>,
    /// Where it is archived.
    archived: Option<Stored>,
}

impl Done {
    /// It waits under a ticket.
    pub(super) fn queued(
        file: &Path,
        seal: PathBuf,
        ticket: String,
        kept: PathBuf,
        before: Option<u64>,
    ) -> Self {
        Self {
            file: file.to_owned(),
            seal,
            origin: String::new(),
            index: 0,
            state: "queued",
            ticket: Some((ticket, kept, before)),
            archived: None,
        }
    }

    /// Its seal is written.
    pub(super) fn sealed(
        file: &Path,
        seal: PathBuf,
        origin: &str,
        index: u64,
        state: &'static str,
    ) -> Self {
        Self {
            file: file.to_owned(),
            seal,
            origin: origin.to_owned(),
            index,
            state,
            ticket: None,
            archived: None,
        }
    }

    pub(super) fn is_queued(&self) -> bool {
        self.ticket.is_some()
    }

    fn words(&self) -> String {
        match &self.ticket {
            Some((ticket, kept, before)) => {
                let place = match before {
                    Some(before) => format!(", at most {before} before it"),
                    None => String::new(),
                };
                format!("{}: queued under {ticket}{place}", kept.display())
            }
            None => format!(
                "{}: {} as {} #{}{}",
                self.seal.display(),
                self.state,
                self.origin,
                self.index,
                self.archived
                    .as_ref()
                    .map_or_else(String::new, Stored::words)
            ),
        }
    }

    fn json(&self) -> serde_json::Value {
        match &self.ticket {
            Some((ticket, kept, before)) => json!({
                "file": self.file, "ticket": ticket, "ticket_file": kept, "stage": self.state, "before": before,
            }),
            None => json!({
                "file": self.file, "seal": self.seal, "origin": self.origin, "index": self.index, "stage": self.state,
                "archived": self.archived.as_ref().map(Stored::json),
            }),
        }
    }
}

pub(crate) async fn run(cli: &Cli, args: &Seal) -> Answer {
    let files = files(args)?;
    let services = client(cli)?;
    let report = Report::new(cli, args, files.len());
    if in_bulk(args, &files) {
        seal_many::run(&services, args, files, &report).await?;
        return report.end();
    }
    let client = services.sealing().await?;
    let archiving = archive::Archiving::new(&services, args).await?;
    let archiving = &archiving;
    let mut results = stream::iter(files)
        .map(|file| {
            let client = client.clone();
            async move {
                let result = if args.collect {
                    ticket::collect(client.clone(), args, &file).await
                } else {
                    one(client.clone(), args, &file).await
                };
                let result = match result {
                    Ok(done) if args.wait == Some(WaitStage::Anchored) => {
                        anchored(client, Duration::from_secs(args.wait_seconds), done).await
                    }
                    result => result,
                };
                let result = match result {
                    Ok(done) if !done.is_queued() => archived(archiving, done).await,
                    result => result,
                };
                (file, result)
            }
        })
        .buffered(AT_ONCE);
    while let Some((file, result)) = results.next().await {
        report.add(&file, result);
    }
    report.end()
}

/// Puts what has a seal into the archive, if one was named.
async fn archived(archiving: &archive::Archiving, mut done: Done) -> Result<Done, Failure> {
    done.archived = archiving.store(&done.file, &done.seal).await?;
    Ok(done)
}

/// Waits until a seal is anchored, and writes its anchors. A wait that was too short is no error: the state says what was reached.
pub(super) async fn anchored(
    mut client: SealingClient<Traced>,
    patience: Duration,
    mut done: Done,
) -> Result<Done, Failure> {
    if done.is_queued() {
        return Ok(done);
    }
    let stage = anchors::wait(&mut client, &done.origin, done.index, patience).await?;
    if stage != Stage::Anchored {
        return Ok(done);
    }
    match anchors::fetch(&mut client, &done.seal).await? {
        anchors::Fetched::Anchored(_) | anchors::Fetched::Kept => done.state = "anchored",
        anchors::Fetched::Waits(_) => {}
    }
    Ok(done)
}

/// Whether these files are sealed in bulk.
fn in_bulk(args: &Seal, files: &[PathBuf]) -> bool {
    files.len() >= MANY
        && !args.collect
        && !args.renew
        && args.archive.is_none()
        && files.iter().all(|file| file.as_os_str() != "-")
}

/// Tells what became of each file as soon as it is known, and counts.
pub(super) struct Report<'a> {
    cli: &'a Cli,
    args: &'a Seal,
    total: usize,
    bar: ProgressBar,
    told: Mutex<Told>,
}

/// What was told.
#[derive(Default)]
struct Told {
    /// For the one JSON document at the end.
    documents: Vec<serde_json::Value>,
    /// The first failure decides the exit code.
    first: Option<Failure>,
    failures: usize,
    queued: usize,
    /// Some seal did not reach the stage that was waited for.
    unmet: bool,
    /// Some seal was not anchored in time.
    unanchored: bool,
}

impl<'a> Report<'a> {
    fn new(cli: &'a Cli, args: &'a Seal, total: usize) -> Self {
        let slow = total > 1 || args.wait == Some(WaitStage::Anchored);
        let bar = if slow && output::watched() && !cli.json {
            let style = "{wide_bar} {human_pos} of {human_len} files, {per_sec} {elapsed} {msg}";
            let style = ProgressStyle::with_template(style);
            let bar = ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        } else {
            ProgressBar::hidden()
        };
        if args.wait == Some(WaitStage::Anchored) {
            bar.set_message(format!(
                "waiting for anchors, {} s at most",
                args.wait_seconds
            ));
        }
        Self {
            cli,
            args,
            total,
            bar,
            told: Mutex::default(),
        }
    }

    /// One file's outcome.
    pub(super) fn add(&self, file: &Path, result: Result<Done, Failure>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let shown = match &result {
            Ok(done) => done.json(),
            Err(e) => json!({ "file": file, "error": e.message() }),
        };
        self.bar.inc(1);
        if self.args.json_lines {
            output::line(&shown.to_string());
        } else if self.cli.json {
            told.documents.push(shown);
        } else {
            self.bar.suspend(|| match &result {
                Ok(done) => output::line(&done.words()),
                Err(e) => output::complain(&format!("error: {}: {}", file.display(), e.message())),
            });
        }
        match result {
            Ok(done) => {
                told.unanchored |= self.args.wait == Some(WaitStage::Anchored)
                    && !done.is_queued()
                    && done.state != "anchored";
                told.queued += usize::from(done.is_queued());
                told.unmet |= done.state == "sealed"
                    && self.args.wait != Some(WaitStage::Sealed)
                    && !self.args.collect;
            }
            Err(failure) => {
                told.failures += 1;
                told.first.get_or_insert(failure);
            }
        }
    }

    fn end(self) -> Answer {
        self.bar.finish_and_clear();
        let told = self
            .told
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if self.cli.json && !self.args.json_lines {
            output::json(&one_document(&told));
        }
        if let Some(first) = told.first {
            // Each file's error was told.
            let all_told = self.cli.json || self.args.json_lines || self.total == 1;
            return Err(if all_told {
                first.seen()
            } else {
                first.told(told.failures, self.total)
            });
        }
        if told.queued > 0 {
            output::complain(&format!(
                "warning: {} of {} files wait to be sealed; fetch their seals later: sealwarden seal --collect FILE… (with --wait it waits for them)",
                told.queued, self.total
            ));
            return Ok(Ending::Negative);
        }
        if told.unmet {
            output::complain(
                "warning: sealed, but not every seal reached the witnesses in time; run `sealwarden seal --renew` on them later",
            );
            return Ok(Ending::Negative);
        }
        if told.unanchored {
            output::complain(
                "warning: not every seal was anchored in time; `sealwarden status` says how the time-stamping authorities are doing, and `sealwarden anchor --upgrade FILE…` fetches the anchors later",
            );
            return Ok(Ending::Negative);
        }
        Ok(Ending::Good)
    }
}

/// What `--json` answers: with the first error and its exit code, if there is one.
fn one_document(told: &Told) -> serde_json::Value {
    let seals = &told.documents;
    match &told.first {
        Some(e) => json!({ "seals": seals, "error": e.message(), "exit": e.code() }),
        None => json!({ "seals": seals }),
    }
}

/// How a file stands before anything is asked.
pub(super) enum Standing {
    /// Its seal is there.
    Sealed(Done),
    /// It waits under a ticket.
    Waits,
    /// It is to be sealed.
    New {
        /// Where its seal goes.
        target: PathBuf,
        /// Its SHA-256.
        digest: [u8; 32],
    },
}

/// Hashes a file and looks for its seal.
pub(super) async fn standing(args: &Seal, file: &Path) -> Result<Standing, Failure> {
    let target = target(args, file)?;
    let path = file.to_owned();
    let digest = tokio::task::spawn_blocking(move || digest_of(&path))
        .await
        .context("hashing")??;
    if let Some(done) = sealed_already(args, file, &target, &digest)? {
        return Ok(Standing::Sealed(done));
    }
    let waits = TicketFile::read(&target)?.is_some_and(|it| it.is_of(&digest, &args.tenant));
    Ok(if waits {
        Standing::Waits
    } else {
        Standing::New { target, digest }
    })
}

/// The seal of this very content, if it is there and is not to be replaced.
fn sealed_already(
    args: &Seal,
    file: &Path,
    target: &Path,
    digest: &[u8; 32],
) -> Result<Option<Done>, Failure> {
    if args.force {
        return Ok(None);
    }
    let Some(present) = present(target)? else {
        return Ok(None);
    };
    if present.record.digest != *digest {
        return Err(Failure::usage(format!(
            "{} is the seal of other content; --force replaces it",
            target.display()
        )));
    }
    let origin = present.checkpoint().map(|c| c.origin).unwrap_or_default();
    let target = target.to_owned();
    Ok(Some(Done::sealed(
        file,
        target,
        &origin,
        present.index,
        "already sealed",
    )))
}

pub(super) async fn one(
    mut client: SealingClient<Traced>,
    args: &Seal,
    file: &Path,
) -> Result<Done, Failure> {
    let target = target(args, file)?;
    let path = file.to_owned();
    let digest = tokio::task::spawn_blocking(move || digest_of(&path))
        .await
        .context("hashing")??;
    if args.renew {
        let absent = || {
            Failure::usage(format!(
                "{} does not exist; there is nothing to renew",
                target.display()
            ))
        };
        let present = present(&target)?.ok_or_else(absent)?;
        return renew(client, args, file, &target, &present, digest).await;
    }
    if let Some(done) = sealed_already(args, file, &target, &digest)? {
        return Ok(done);
    }
    // A request that waits already is asked for under its own id: it never becomes two seals.
    let waiting = TicketFile::read(&target)?.filter(|ticket| ticket.is_of(&digest, &args.tenant));
    let request_id = waiting.map_or_else(
        || uuid::Uuid::new_v4().to_string(),
        |ticket| ticket.request_id,
    );
    let request = SealRequest {
        digest_algorithm: "sha-256".to_owned(),
        digest: digest.to_vec().into(),
        tenant: args.tenant.clone(),
        policy: String::new(),
        subject: args.subject.clone().unwrap_or_default(),
        claimed_at_ms: jiff::Timestamp::now().as_millisecond(),
        request_id: request_id.clone(),
        wait: wait(args).into(),
        priority: match args.priority {
            PriorityName::Normal => Priority::Normal,
            PriorityName::Critical => Priority::Critical,
        }
        .into(),
        accept_queued: !args.no_queue,
    };
    let answer = client.seal(request).await?.into_inner();
    if answer.stage() == Stage::Queued {
        let ticket = TicketFile::new(answer.ticket, &digest, &args.tenant, request_id);
        let kept = ticket.write(&target)?;
        return Ok(Done::queued(file, target, ticket.ticket, kept, None));
    }
    let state = state(&answer);
    let done = write(file, target, answer, state)?;
    TicketFile::remove(&done.seal)?;
    Ok(done)
}

async fn renew(
    mut client: SealingClient<Traced>,
    args: &Seal,
    file: &Path,
    target: &Path,
    present: &SealFile,
    digest: [u8; 32],
) -> Result<Done, Failure> {
    if present.record.digest != digest {
        return Err(Failure::usage(format!(
            "{} is the seal of other content than {}",
            target.display(),
            file.display()
        )));
    }
    let origin = present
        .checkpoint()
        .map_err(|e| Failure::usage(e.to_string()))?
        .origin;
    let request = GetSealRequest {
        origin,
        index: present.index,
        follow: true,
    };
    let answer = client.get_seal(request).await?.into_inner();
    let renewed = SealFile::parse(&answer.seal)
        .map_err(|e| Failure::refused(format!("the server's answer is not a seal: {e}")))?;
    if renewed.record.digest != digest {
        return Err(Failure::refused(
            "the server answered with the seal of another document",
        ));
    }
    if answer.stage() == Stage::Sealed && args.awaited() == WaitStage::Witnessed {
        return write(file, target.to_owned(), answer, "sealed");
    }
    write(file, target.to_owned(), answer, "renewed")
}

pub(super) fn write(
    file: &Path,
    target: PathBuf,
    answer: SealResponse,
    state: &'static str,
) -> Result<Done, Failure> {
    write_public(&target, &answer.seal)?;
    Ok(Done {
        file: file.to_owned(),
        seal: target,
        origin: answer.origin,
        index: answer.index,
        state,
        ticket: None,
        archived: None,
    })
}

pub(super) fn state(answer: &SealResponse) -> &'static str {
    match answer.stage() {
        Stage::Anchored => "anchored",
        Stage::Witnessed => "witnessed",
        Stage::Sealed | Stage::Queued | Stage::Unspecified => "sealed",
    }
}

pub(super) fn wait(args: &Seal) -> Stage {
    match args.awaited() {
        WaitStage::Sealed => Stage::Sealed,
        // Anchors come at intervals: they are waited for when the seal is there.
        WaitStage::Witnessed | WaitStage::Anchored => Stage::Witnessed,
    }
}

/// The seal that is there already.
fn present(target: &Path) -> Result<Option<SealFile>, Failure> {
    match std::fs::read(target) {
        Ok(bytes) => SealFile::parse(&bytes).map(Some).map_err(|e| {
            Failure::usage(format!(
                "{} is there and is not a seal ({e}); remove it or use --out",
                target.display()
            ))
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::usage(format!(
            "cannot read {}: {e}",
            target.display()
        ))),
    }
}

pub(super) fn target(args: &Seal, file: &Path) -> Result<PathBuf, Failure> {
    match &args.out {
        Some(out) if file.as_os_str() == "-" => Ok(out.clone()),
        Some(out) => {
            let name = file
                .file_name()
                .ok_or_else(|| Failure::usage(format!("{} is not a file name", file.display())))?;
            std::fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
            Ok(out.join(beside(Path::new(name))))
        }
        None if file.as_os_str() == "-" => Err(Failure::usage(
            "say where the seal of standard input goes: --out FILE",
        )),
        None => Ok(beside(file)),
    }
}

fn files(args: &Seal) -> Result<Vec<PathBuf>, Failure> {
    let mut files = args.files.clone();
    if let Some(list) = &args.from_list {
        let read = if list.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin())
        } else {
            std::fs::read_to_string(list)
        };
        let text = read
            .map_err(|e| Failure::usage(format!("cannot read the list {}: {e}", list.display())))?;
        files.extend(text.lines().filter(|l| !l.is_empty()).map(PathBuf::from));
    }
    if files.is_empty() {
        return Err(Failure::usage(
            "name at least one file, or `-` for standard input",
        ));
    }
    Ok(files)
}
