//! The command line: the same words as the API. Help texts are the product's manual at 3 a.m.

mod drill;
mod provider_flags;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::drill::{Drill, DrillName};
pub(crate) use self::provider_flags::{Token, Transit};

/// Seals documents, watches its own seals, and runs the response when something goes wrong with them.
#[derive(Debug, Parser)]
#[command(name = "sealwarden", version, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 good, 1 a negative verdict or outcome, 2 usage, 3 unavailable, 4 refused.\n\nStart with:  sealwarden drill key-compromise    (everything at once, in a sandbox)\n             sealwarden up                      (all services on this machine)"
)]
pub(crate) struct Cli {
    /// Folder of the installation
    #[arg(
        long,
        global = true,
        env = "SEALWARDEN_DATA",
        default_value = "./sealwarden-data",
        value_name = "DIR"
    )]
    pub(crate) data: PathBuf,
    /// Answer with one JSON document
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Address of a service on another machine (https://host:port); needs --as or the certificate flags
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Whose certificate in DATA/certificates to use
    #[arg(
        long = "as",
        global = true,
        value_name = "NAME",
        default_value = "operator"
    )]
    pub(crate) caller: String,
    /// Client certificate (PEM), with --client-key and --ca
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        requires = "client_key",
        requires = "ca"
    )]
    pub(crate) client_cert: Option<PathBuf>,
    /// Private key of the client certificate (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,
    /// Certificate authority of the installation (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The word of [`Command::Pkcs11Worker`].
pub(crate) const PKCS11_WORKER: &str = "pkcs11-worker";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Loads a PKCS#11 module for the service that starts it; not for people
    #[command(hide = true)]
    Pkcs11Worker,
    /// A time-stamping authority for drills and tests; its stamps prove nothing to anybody else
    #[command(hide = true)]
    DrillTsa(crate::commands::tsa::DrillTsa),
    /// Run all services on this machine; prints one line `ready …` when it serves, stops cleanly on SIGTERM
    Up(Up),
    /// Run one service of a distributed installation, over NATS
    Serve(Serve),
    /// Seal files: writes FILE.seal beside each
    Seal(Seal),
    /// Verify a file against its seal; with --trust it needs no server
    Verify(Verify),
    /// Write a seal as other people's tools read it: RFC 3161 token, CAdES signature, COSE receipt; needs no server
    Export(crate::commands::export::Export),
    /// Have an outside authority time-stamp the seals' checkpoints, into FILE.seal.anchors
    Anchor(crate::commands::export::AnchorFiles),
    /// The trust bundle
    #[command(subcommand)]
    Trust(Trust),
    /// The seal log and its audit
    #[command(subcommand)]
    Log(crate::commands::log::Log),
    /// Stored documents: revalidation, quarantine, restore
    #[command(subcommand)]
    Archive(crate::commands::archive::Archive),
    /// Verifiers that others run: whether their releases still say what is known of archived documents
    #[command(subcommand)]
    Verifier(crate::commands::verifier::Verifier),
    /// Vendors whose services are used: how they do, who stands in, and that seals need none of them
    #[command(subcommand)]
    Vendors(crate::commands::vendors::Vendors),
    /// Sealing keys
    #[command(subcommand)]
    Keys(Keys),
    /// Take private records out of the log for good, by request; and keep them: legal holds
    Erase(crate::commands::erase::Erase),
    /// Report that something is wrong; why there is a signal; that something was released
    Signal(crate::commands::signal::Signal),
    /// The detectors in force, and what they see
    #[command(subcommand)]
    Detectors(crate::commands::detectors::Detectors),
    /// Incidents
    #[command(subcommand)]
    Incident(Incident),
    /// Notices to people outside: written here, sent when legal counsel and communications have signed them
    #[command(subcommand)]
    Notice(crate::commands::notice::Notice),
    /// What happened and why: drafted from the event log, completed by people, published under a signature
    #[command(subcommand)]
    Postmortem(crate::commands::postmortem::Postmortem),
    /// Action items of incidents: who changes what by when, and who looked
    #[command(subcommand)]
    Items(crate::commands::items::Items),
    /// How long incidents took, by class and month, and what became of action items
    Report(crate::commands::report::Report),
    /// Runs of runbooks
    #[command(subcommand)]
    Run(crate::commands::run::Run),
    /// Show exactly what a step will do, ask, and sign
    Approve(Approve),
    /// Who may approve, and with which keys
    #[command(subcommand)]
    Roster(crate::commands::roster::Roster),
    /// The response plan
    #[command(subcommand)]
    Plan(crate::commands::plan::Plan),
    /// Runbooks as text and picture
    #[command(subcommand)]
    Runbook(crate::commands::runbook::Runbook),
    /// The real loop in a sandbox of its own, with faults injected and a score
    Drill(Drill),
    /// Evidence bundles
    #[command(subcommand)]
    Evidence(Evidence),
    /// Certificates of callers
    #[command(subcommand)]
    Certificate(crate::commands::certificate::Certificate),
    /// What runs, in which mode, and what is open
    Status,
    /// How fast it is, beside this machine's limits and a plain baseline
    Bench(crate::bench::Bench),
}

/// `--wait` may stand without a stage before a file: `seal --wait FILE` waits for witnesses, and takes no file for a stage.
pub(crate) fn complete(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<_> = arguments.into_iter().collect();
    let is_seal = arguments.iter().any(|it| it == "seal");
    let is_stage = |text: &OsString| {
        let stages = WaitStage::value_variants().iter();
        let mut names = stages.filter_map(ValueEnum::to_possible_value);
        names.any(|name| text == name.get_name())
    };
    for place in 0..arguments.len() {
        let next = arguments.get(place + 1);
        if is_seal
            && arguments.get(place).is_some_and(|it| it == "--wait")
            && !next.is_some_and(is_stage)
            && let Some(wait) = arguments.get_mut(place)
        {
            *wait = "--wait=witnessed".into();
        }
    }
    arguments
}

impl Command {
    /// Whether the command runs services in this process.
    pub(crate) fn hosts_services(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Serve(_) | Self::Drill(_))
    }

    /// Its word on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Pkcs11Worker => PKCS11_WORKER,
            Self::DrillTsa(_) => "drill-tsa",
            Self::Up(_) => "up",
            Self::Serve(_) => "serve",
            Self::Seal(_) => "seal",
            Self::Verify(_) => "verify",
            Self::Export(_) => "export",
            Self::Anchor(_) => "anchor",
            Self::Trust(_) => "trust",
            Self::Log(_) => "log",
            Self::Archive(_) => "archive",
            Self::Vendors(_) => "vendors",
            Self::Verifier(_) => "verifier",
            Self::Keys(_) => "keys",
            Self::Erase(_) => "erase",
            Self::Signal(_) => "signal",
            Self::Detectors(_) => "detectors",
            Self::Incident(_) => "incident",
            Self::Notice(_) => "notice",
            Self::Postmortem(_) => "postmortem",
            Self::Items(_) => "items",
            Self::Report(_) => "report",
            Self::Run(_) => "run",
            Self::Approve(_) => "approve",
            Self::Roster(_) => "roster",
            Self::Plan(_) => "plan",
            Self::Runbook(_) => "runbook",
            Self::Drill(_) => "drill",
            Self::Evidence(_) => "evidence",
            Self::Certificate(_) => "certificate",
            Self::Status => "status",
            Self::Bench(_) => "bench",
        }
    }
}

/// Where services listen and what they work with.
#[derive(Clone, Debug, Args)]
pub(crate) struct Hosting {
    /// NATS server with JetStream instead of the embedded event log (nats://host:port, or tls://user:password@host:port)
    #[arg(
        long,
        env = "SEALWARDEN_NATS",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) nats: Option<String>,
    /// gRPC address, mutual TLS; port 0 takes the last one used, or any free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// HTTP address for tiles, checkpoints and the witness
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDR")]
    pub(crate) listen_http: SocketAddr,
    /// Further names or addresses under which callers reach this service; they go into its certificate
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Vec<String>,
    /// Settings of the services (default: DATA/settings.yaml if it is there)
    #[arg(long, env = "SEALWARDEN_SETTINGS", value_name = "FILE")]
    pub(crate) settings: Option<PathBuf>,
    /// Folder of the response plan (default: DATA/plan, made on first start with trial keys)
    #[arg(long, value_name = "DIR")]
    pub(crate) plan: Option<PathBuf>,
    /// On first start: what origins begin with, e.g. seal.example.com
    #[arg(long, default_value = "sealwarden.local", value_name = "NAME")]
    pub(crate) base: String,
    /// On first start: the installation's name (default: made up)
    #[arg(long, value_name = "NAME")]
    pub(crate) installation: Option<String>,
    /// File with the passphrase that guards software keys at rest (default: a guard file in the data folder)
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) token: Token,
    #[command(flatten)]
    pub(crate) transit: Transit,
    /// Log lines as JSON
    #[arg(long)]
    pub(crate) log_json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) hosting: Hosting,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Which service
    #[arg(value_enum)]
    pub(crate) role: RoleName,
    /// Name of this node, unique in the installation (default: the role with -1). Several runbook executors share all runs: what one held is taken over within seconds when it
    /// dies or says nothing
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) hosting: Hosting,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleName {
    Sealing,
    Verification,
    Detection,
    RunbookExecutor,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitStage {
    /// Signed by the log, durable
    Sealed,
    /// Cosigned by the witnesses that the trust bundle requires
    Witnessed,
    /// Dated by an outside time-stamping authority too; its anchors go into FILE.seal.anchors
    Anchored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PriorityName {
    Normal,
    Critical,
}

impl Seal {
    /// The stage that a new seal waits for.
    pub(crate) fn awaited(&self) -> WaitStage {
        self.wait.unwrap_or(WaitStage::Witnessed)
    }
}

#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(crate) struct Seal {
    /// Files; `-` seals standard input (with --out FILE)
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Read further file names from FILE, one a line; `-` reads them from standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) from_list: Option<PathBuf>,
    /// Folder for the seals (a file name when standard input is sealed)
    #[arg(long, value_name = "PATH")]
    pub(crate) out: Option<PathBuf>,
    /// Tell each file as soon as it is known: one JSON document a line
    #[arg(long)]
    pub(crate) json_lines: bool,
    /// Stage to wait for [default: witnessed; with --collect: none]; without a stage it means witnessed
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "witnessed", value_name = "STAGE")]
    pub(crate) wait: Option<WaitStage>,
    /// How long to wait for anchors, which come at intervals, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait_seconds: u64,
    /// Fetch the seals of files that wait in the durable queue under FILE.seal.ticket; exit 1 while one still waits
    #[arg(long, conflicts_with_all = ["force", "renew", "no_queue"])]
    pub(crate) collect: bool,
    /// While signing is stopped, be refused instead of taking a ticket
    #[arg(long)]
    pub(crate) no_queue: bool,
    /// Critical requests are sealed in mode queue-noncritical too, and leave the queue first
    #[arg(long, value_enum, default_value_t = PriorityName::Normal)]
    pub(crate) priority: PriorityName,
    /// Tenant of the records
    #[arg(long, default_value = "default")]
    pub(crate) tenant: String,
    /// Subject kept in the record; private, never in a public tile
    #[arg(long)]
    pub(crate) subject: Option<String>,
    /// Replace a seal that belongs to other content
    #[arg(long)]
    pub(crate) force: bool,
    /// Store each file and its seal in this archive, too, once the seal is durable; asking again changes nothing
    #[arg(long, value_name = "NAME")]
    pub(crate) archive: Option<String>,
    /// What the names in the archive begin with, e.g. 2026/; the file's own name follows
    #[arg(
        long,
        value_name = "PREFIX",
        requires = "archive",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) archive_prefix: String,
    /// Give a name in the archive to another document; the former one stays in the backup store
    #[arg(long, requires = "archive")]
    pub(crate) archive_replace: bool,
    /// Fetch the present seal of files that were sealed again after an incident, and replace FILE.seal
    #[arg(long, conflicts_with = "force")]
    pub(crate) renew: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Documents; `-` for standard input (with --seal). Several: one line each, exit 1 if any verdict is negative
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Read further file names from FILE, one a line
    #[arg(long, value_name = "FILE")]
    pub(crate) from_list: Option<PathBuf>,
    /// The seal of one document (default: FILE.seal)
    #[arg(long, value_name = "FILE")]
    pub(crate) seal: Option<PathBuf>,
    /// Verify offline with this trust bundle
    #[arg(long, value_name = "FILE")]
    pub(crate) trust: Option<PathBuf>,
    /// File with the trust roots (public SSH keys, one a line) that must have signed the bundle; without it the first bundle seen fixes them
    #[arg(long, value_name = "FILE", requires = "trust")]
    pub(crate) roots: Option<PathBuf>,
    /// The oldest that the trust bundle may be, such as 7d or 12h: an older one makes a good seal `suspect`, as an expired one does, because a later compromise may not be known
    #[arg(long, value_name = "AGE", requires = "trust", value_parser = sealwarden_runbook::parse_duration)]
    pub(crate) max_age: Option<std::time::Duration>,
    /// Anchors of the seal's checkpoint, which may date it before a compromise (default: FILE.seal.anchors if it is there)
    #[arg(long, value_name = "FILE")]
    pub(crate) anchors: Option<PathBuf>,
    /// Certificates of the authorities above the time-stamping authorities that you trust (PEM), instead of those that the trust bundle names
    #[arg(long, value_name = "FILE", requires = "trust")]
    pub(crate) tsa_root: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    /// Write the present trust bundle
    Export {
        /// Where to (default: standard output)
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check a trust bundle and show what it says
    Show {
        /// The bundle (default: the server's)
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// All keys with state, age and uses: which of them sign now, which stand by, and when one is due for rotation
    List,
    /// The seal certificate: whom the log's keys belong to, for exports and in the trust bundle
    #[command(subcommand)]
    Certificate(crate::commands::keys::certificate::KeyCertificate),
    /// Let the preferred key provider sign again after a failover; probes it first and refuses while it does not answer
    Failback {
        /// Log line (default: the sealing node's)
        log: Option<String>,
        /// Provider to go to (default: the most preferred one)
        #[arg(long, value_name = "PROVIDER")]
        to: Option<String>,
        /// Why, for the record
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Begin a planned rotation: a new key of the same origin; both sign until cached trust bundles are renewed. (A stolen key is an incident, not a rotation.)
    Rotate {
        /// Log line (default: the sealing node's)
        log: Option<String>,
        /// Why, for the record
        #[arg(long, default_value = "")]
        why: String,
    },
    /// Ask for a key never to sign again; the origin's other keys go on. Begins a run: others approve it, nodes check that. (A stolen key is `signal`: it takes the whole origin out.)
    Revoke {
        #[command(flatten)]
        order: KeyOrder,
        /// Since when its signatures may be somebody else's (RFC 3339; default: now)
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Ask for a key that does not sign any more to be erased at its provider. Begins a run: others approve it
    Destroy {
        #[command(flatten)]
        order: KeyOrder,
    },
    /// Ask for an isolated key to sign again, and its origin to go on. Begins a run: others approve it
    Restore {
        #[command(flatten)]
        order: KeyOrder,
    },
}

/// A key, and why something is to become of it.
#[derive(Debug, Args)]
pub(crate) struct KeyOrder {
    /// The key's id, as `keys list` shows it
    #[arg(value_name = "KEY")]
    pub(crate) key: String,
    /// Its origin (default: the one that has a key of this name)
    #[arg(long)]
    pub(crate) origin: Option<String>,
    /// Why: it is what the people who approve will read
    #[arg(long)]
    pub(crate) why: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Incident {
    /// Incidents, open ones first
    List {
        /// Only those that are not closed
        #[arg(long)]
        open: bool,
    },
    /// One incident: signals, clocks, timeline
    Show {
        /// Its id
        id: String,
    },
    /// Classify an incident; this starts the class's runbook
    Classify {
        /// Its id
        id: String,
        /// Class, as the plan names it
        #[arg(long)]
        class: String,
        /// Earliest possible compromise (RFC 3339); it only ever moves to earlier
        #[arg(long, value_name = "TIME")]
        compromised_since: Option<String>,
        /// Why
        #[arg(long)]
        reason: String,
    },
    #[command(flatten)]
    Ownership(crate::commands::incident::ownership::Ownership),
    #[command(flatten)]
    Duties(crate::commands::incident::obligations::Duties),
    #[command(flatten)]
    Told(crate::commands::incident::told::Told),
}

#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The run
    #[arg(required_unless_present_any = ["list", "mine"])]
    pub(crate) run: Option<String>,
    /// The step
    #[arg(required_unless_present_any = ["list", "mine"])]
    pub(crate) step: Option<String>,
    /// Show every step that waits for approvals: since when, by when, who has signed; first those that you can sign
    #[arg(long, conflicts_with_all = ["run", "step"])]
    pub(crate) list: bool,
    /// Show only those that wait for you; who you are is told by your key
    #[arg(long, conflicts_with_all = ["run", "step"])]
    pub(crate) mine: bool,
    /// Deny instead of approving
    #[arg(long)]
    pub(crate) deny: bool,
    #[command(flatten)]
    pub(crate) signing: Signing,
    /// A note that is kept with your decision
    #[arg(long, default_value = "")]
    pub(crate) note: String,
}

/// How a person signs.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// Your SSH key (default: `DATA/people/NAME/id_ed25519` with --as NAME, else `~/.ssh/id_ed25519`); keys with a passphrase and FIDO keys are used through ssh-keygen
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Sign without asking
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Evidence {
    /// Copy all evidence of an incident into one file, for a court, an auditor or another machine. Who takes it and what for is recorded and signed first; damaged
    /// evidence is not handed out
    Export {
        /// The incident
        incident: String,
        /// What the copy is for, in words: a file number, a request
        #[arg(long, value_name = "WORDS")]
        purpose: String,
        /// The file to write (tar)
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// The chain of custody: what is kept of an incident, who collected it, who was given copies
    Custody {
        /// The incident
        incident: String,
    },
    /// Check an evidence bundle, or a file that `evidence export` wrote; needs no server
    Verify {
        /// The bundle's folder, or the exported file
        bundle: PathBuf,
        /// Trust bundle that names the signing key (default: the bundle's own copy, which then proves only that nothing changed since)
        #[arg(long, value_name = "FILE")]
        trust: Option<PathBuf>,
    },
}
