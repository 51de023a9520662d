//! `drill vendor-outage`: the vendor that time-stamps the log goes away, and another one stands in for it.

use std::time::Duration;

use anyhow::Context as _;
use sealwarden_wire::run::v1::Run;
use sealwarden_wire::seal::v1::{Priority, StatusRequest};
use serde_json::{Value, json};

use super::documents::{self, Document};
use super::sandbox::{Sandbox, Scene};
use super::score::{self, Findings, Score, Since};
use super::stamps::Stamps;
use super::watch::Watch;
use super::{Narrator, act};
use crate::cli::Drill;
use crate::client::Client;
use crate::failure::Failure;

/// The vendors, as the shipped plan names them.
const FIRST: &str = "stamps-one";
const SECOND: &str = "stamps-two";
/// The fewest documents that show all of it.
const FEWEST: usize = 4;
/// Pause before somebody looks again who has stamped.
const AGAIN: Duration = Duration::from_millis(200);

/// Both vendors, each a process of its own.
pub(super) struct Vendors {
    first: Stamps,
    second: Stamps,
    _folder: tempfile::TempDir,
}

impl Vendors {
    /// Starts both.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("sealwarden-vendors-")
            .tempdir()
            .context("making a folder for the vendors")?;
        Ok(Self {
            first: Stamps::start(FIRST, folder.path()).await?,
            second: Stamps::start(SECOND, folder.path()).await?,
            _folder: folder,
        })
    }

    /// Stamps every second; one failure after another is news after two.
    pub(super) fn scene(&self) -> Scene {
        let (one, two) = (&self.first, &self.second);
        let line = |it: &Stamps, more: &str| {
            format!(
                "{{name: {}, {more}roots: \"{}\"}}",
                it.name,
                it.roots().display()
            )
        };
        let tsa = |it: &Stamps, more: &str| line(it, &format!("url: \"{}\", {more}", it.url()));
        let probe = |it: &Stamps| {
            let more = format!(
                "tsa: \"{}\", every_s: 1, away_after: 2, timeout_ms: 1000, ",
                it.url()
            );
            line(it, &more)
        };
        let stands_in = format!("stands_in_for: {FIRST}, ");
        let settings = format!(
            "sealing:\n  anchors:\n    interval_s: 1\n    timeout_ms: 1000\n    tsas:\n      - {}\n      - {}\nverification:\n  vendors:\n    - {}\n    - {}\n",
            tsa(one, ""),
            tsa(two, &stands_in),
            probe(one),
            probe(two)
        );
        Scene {
            settings: settings.into(),
            misbehaves: None,
        }
    }

    /// Ends both.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.first.vanish().await?;
        self.second.vanish().await
    }
}

/// How large the log was that a vendor stamped last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamped {
    first: u64,
    second: u64,
}

/// What the drill does while the runbook runs.
struct Story<'a> {
    narrator: Narrator,
    vendors: &'a mut Vendors,
    client: Client,
    left: Vec<Document>,
    sealed: Vec<Document>,
    at_the_fall: Stamped,
    /// What was stamped once the other one stood in, and once the first one was back.
    stood_in: Option<Stamped>,
    came_back: bool,
}

/// The story.
pub(super) async fn play(
    narrator: Narrator,
    args: &Drill,
    sandbox: &Sandbox,
    vendors: &mut Vendors,
) -> Result<Score, Failure> {
    let left = documents::collect(args.dir.as_deref(), &sandbox.folder)?;
    if left.len() < FEWEST {
        return Err(Failure::usage(format!(
            "{} documents are too few for this drill; name a folder with at least {FEWEST}: --dir DIR",
            left.len()
        )));
    }
    let mut story = Story {
        narrator,
        vendors,
        client: sandbox.client("operator")?,
        left,
        sealed: Vec::new(),
        at_the_fall: Stamped::default(),
        stood_in: None,
        came_back: false,
    };
    narrator.chapter("Sealing");
    let quarter = story.left.len() / 4;
    story.seal(quarter).await?;
    story.until(|it| it.first > 0).await?;
    narrator.say(&format!(
        "  {quarter} files sealed; {FIRST} time-stamps the log, {SECOND} stands by"
    ));

    narrator.chapter("The outage");
    story.vendors.first.vanish().await?;
    let gone_ms = jiff::Timestamp::now().as_millisecond();
    story.at_the_fall = story.stamped().await?;
    story.seal(quarter).await?;
    narrator.say(&format!(
        "  {FIRST} is gone; {quarter} more files are sealed and verify, without a time stamp"
    ));

    narrator.chapter("The response (time since the outage)");
    let mut watch = Watch::new(narrator, gone_ms);
    let respond = act::respond(
        narrator,
        sandbox,
        &mut watch,
        "activate",
        async |run: &Run| story.act(run).await,
    );
    let incident = respond.await?;

    narrator.chapter("Afterwards");
    story.seal(usize::MAX).await?;
    let size = story.size();
    let end = story.until(|it| it.first >= size).await?;
    story.verify(sandbox).await?;
    let since = Since {
        at_ms: gone_ms,
        words: "the outage; how long one can go unseen is the probe's `every_s` times `away_after`",
    };
    score::collect(sandbox, &incident, since, story.findings(end)).await
}

impl Story<'_> {
    async fn seal(&mut self, count: usize) -> Result<(), Failure> {
        let mut sealing = self.client.sealing().await?;
        for _ in 0..count.min(self.left.len()) {
            let document = self.left.remove(0);
            documents::seal(&mut sealing, &document, Priority::Normal, false).await?;
            self.sealed.push(document);
        }
        Ok(())
    }

    /// How far each vendor has stamped, as the sealing service says it.
    async fn stamped(&self) -> Result<Stamped, Failure> {
        let mut sealing = self.client.sealing().await?;
        let status = sealing.status(StatusRequest {}).await?.into_inner();
        let of = |name: &str| {
            let mut all = status.anchors.iter();
            all.find(|it| it.name == name).map_or(0, |it| it.size)
        };
        Ok(Stamped {
            first: of(FIRST),
            second: of(SECOND),
        })
    }

    fn size(&self) -> u64 {
        u64::try_from(self.sealed.len()).unwrap_or(u64::MAX)
    }

    /// Looks until it is so; the drill's own bound ends it.
    async fn until(&self, is_so: impl Fn(Stamped) -> bool) -> Result<Stamped, Failure> {
        loop {
            let stamped = self.stamped().await?;
            if is_so(stamped) {
                return Ok(stamped);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What goes on outside the runbook: callers bring documents, and the vendor mends its service.
    async fn act(&mut self, run: &Run) -> Result<(), Failure> {
        let is = |step: &str, state: &str| {
            let mut steps = run.steps.iter();
            steps.any(|it| it.step == step && it.state == state)
        };
        if self.stood_in.is_none() && is("activate", "done") && !is("take-back", "done") {
            let size = self.size();
            let stamped = self.until(|it| it.second >= size).await?;
            self.stood_in = Some(stamped);
            self.narrator.say(&format!(
                "  ({SECOND} stamps the log of {} leaves, with what was sealed during the outage)",
                stamped.second
            ));
        }
        if !self.came_back && self.stood_in.is_some() && is("back", "awaiting-person") {
            self.came_back = true;
            self.vendors.first.come_back().await?;
            self.narrator
                .say(&format!("  (people: {FIRST} mended its service)"));
        }
        Ok(())
    }

    async fn verify(&mut self, sandbox: &Sandbox) -> Result<(), Failure> {
        let bundle = documents::trust(&self.client, sandbox.data()).await?;
        for it in &mut self.sealed {
            (it.after, it.reason) = documents::verdict_of(it, &bundle)?;
        }
        let valid = self.sealed.iter().filter(|it| it.after == "valid").count();
        self.narrator.say(&format!(
            "  {FIRST} stamps again; {valid} of {} files verify offline, without any vendor",
            self.sealed.len()
        ));
        Ok(())
    }

    fn findings(&self, end: Stamped) -> Findings {
        let stood_in = self.stood_in.unwrap_or_default();
        let told = [
            ("when it went away", self.at_the_fall),
            ("while the other one stood in", stood_in),
            ("at the end", end),
        ];
        let mut table = vec![vec![
            String::new(),
            format!("{FIRST} STAMPED"),
            format!("{SECOND} STAMPED"),
        ]];
        table.extend(told.iter().map(|(when, it)| {
            vec![
                (*when).to_owned(),
                it.first.to_string(),
                it.second.to_string(),
            ]
        }));
        let stamped: Vec<Value> = told
            .iter()
            .map(|(when, it)| json!({ "when": when, "first": it.first, "second": it.second }))
            .collect();
        let verdicts: Vec<Value> = self
            .sealed
            .iter()
            .map(|it| json!({ "file": it.name, "after": it.after, "reason": it.reason }))
            .collect();
        Findings {
            title: "How many leaves each vendor had stamped",
            table,
            facts: vec![("stamped", json!(stamped)), ("verdicts", json!(verdicts))],
            problems: problems(self.at_the_fall, stood_in, end, &self.sealed),
        }
    }
}

fn problems(fall: Stamped, stood_in: Stamped, end: Stamped, sealed: &[Document]) -> Vec<String> {
    let mut problems = Vec::new();
    if fall.second > 0 {
        problems.push(format!("{SECOND} stamped before it stood in"));
    }
    if stood_in.second <= fall.first {
        problems.push(format!(
            "{SECOND} stood in, and stamped nothing that was sealed meanwhile"
        ));
    }
    if stood_in.first > fall.first {
        problems.push(format!("{FIRST} stamped while it was away"));
    }
    if end.first <= stood_in.second {
        problems.push(format!("{FIRST} was taken back, and stamps nothing"));
    }
    if end.second > stood_in.second {
        problems.push(format!(
            "{SECOND} went on stamping after {FIRST} was taken back"
        ));
    }
    problems.extend(
        sealed
            .iter()
            .filter(|it| it.after != "valid")
            .map(|it| format!("{} is {}: {}", it.name, it.after, it.reason)),
    );
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stamped_when_decides() {
        let at = |first, second| Stamped { first, second };
        let good = |fall, stood_in, end| problems(fall, stood_in, end, &[]);
        assert_eq!(good(at(4, 0), at(4, 8), at(16, 8)), Vec::<String>::new());
        assert!(good(at(4, 4), at(4, 8), at(16, 8))[0].contains("before it stood in"));
        assert!(good(at(4, 0), at(4, 4), at(16, 4))[0].contains("nothing that was sealed"));
        assert!(good(at(4, 0), at(8, 8), at(16, 8))[0].contains("while it was away"));
        assert!(good(at(4, 0), at(4, 8), at(8, 8))[0].contains("stamps nothing"));
        assert!(good(at(4, 0), at(4, 8), at(16, 16))[0].contains("went on"));
    }
}
