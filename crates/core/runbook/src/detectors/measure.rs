//! What detectors can look at: a closed set, each derived from recorded events.

/// What a measure is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// A seal log line.
    Log,
    /// A node.
    Node,
    /// An archive.
    Archive,
    /// A key provider.
    Provider,
    /// Whatever an outside source names.
    Outside,
}

impl SubjectKind {
    /// The word before the name: `log main`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Node => "node",
            Self::Archive => "archive",
            Self::Provider => "key provider",
            Self::Outside => "outside",
        }
    }
}

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// Leaves that a writer intended.
    Seals,
    /// Intents.
    Intents,
    /// Intents that came to an end.
    SettledIntents,
    /// Published checkpoints.
    Checkpoints,
    /// From an intent's record to its publication's, milliseconds.
    PublishMs,
    /// Signatures that came too late and were thrown away.
    SignaturesWithheld,
    /// Uses of keys that an audit shows.
    KeyUses,
    /// Times that another key took over.
    Failovers,
    /// Checkpoints with a log's signature that do not fit.
    ForeignCheckpoints,
    /// Those of them that a witness refused.
    WitnessRefusals,
    /// Holes in key audits.
    AuditGaps,
    /// Permits that a node asked for.
    PermitRequests,
    /// Revalidations of an archive that ended.
    Revalidations,
    /// Damaged objects found in an archive.
    ArchiveDamage,
    /// Verdicts that a node gave.
    Verdicts,
    /// Those of them that were not good.
    NegativeVerdicts,
    /// Calls of a key provider.
    KeyCalls,
    /// Those of them that failed or came too late.
    KeyErrors,
    /// How long a call of a key provider took, milliseconds.
    KeyCallMs,
    /// Seals that wait in the durable queue.
    QueueDepth,
    /// Canaries: a digest sealed and verified.
    Canaries,
    /// Those of them that failed.
    CanaryFailures,
    /// How long a canary took, milliseconds.
    CanaryMs,
    /// A number that an outside source tells.
    Outside,
}

/// What there is to say of a measure.
struct MeasureSpec {
    name: &'static str,
    of: SubjectKind,
    unit: &'static str,
    summary: &'static str,
}

const fn spec(
    name: &'static str,
    of: SubjectKind,
    unit: &'static str,
    summary: &'static str,
) -> MeasureSpec {
    MeasureSpec {
        name,
        of,
        unit,
        summary,
    }
}

impl Measure {
    /// All measures.
    pub const ALL: [Self; 24] = [
        Self::Seals,
        Self::Intents,
        Self::SettledIntents,
        Self::Checkpoints,
        Self::PublishMs,
        Self::SignaturesWithheld,
        Self::KeyUses,
        Self::Failovers,
        Self::ForeignCheckpoints,
        Self::WitnessRefusals,
        Self::AuditGaps,
        Self::PermitRequests,
        Self::Revalidations,
        Self::ArchiveDamage,
        Self::Verdicts,
        Self::NegativeVerdicts,
        Self::KeyCalls,
        Self::KeyErrors,
        Self::KeyCallMs,
        Self::QueueDepth,
        Self::Canaries,
        Self::CanaryFailures,
        Self::CanaryMs,
        Self::Outside,
    ];

    #[rustfmt::skip]
    fn spec(self) -> MeasureSpec {
        use SubjectKind::{Archive, Log, Node, Outside, Provider};
        match self {
            Self::Seals => spec("seals", Log, "seals", "Leaves that the log's writer intended"),
            Self::Intents => spec("intents", Log, "intents", "Intents, recorded before a key is used"),
            Self::SettledIntents => spec("settled-intents", Log, "intents", "Intents that were published, or whose signature was withheld"),
            Self::Checkpoints => spec("checkpoints", Log, "checkpoints", "Checkpoints that were published"),
            Self::PublishMs => spec("publish-ms", Log, "ms", "From the record of an intent to that of its publication: key, witness and disk together"),
            Self::SignaturesWithheld => spec("signatures-withheld", Log, "signatures", "Signatures that came after their permit had run out"),
            Self::KeyUses => spec("key-uses", Log, "uses", "Uses of the log's keys that an audit shows"),
            Self::Failovers => spec("failovers", Log, "failovers", "Times that another key took over by itself"),
            Self::ForeignCheckpoints => spec("foreign-checkpoints", Log, "checkpoints", "Checkpoints with the log's signature that do not fit, seen by a witness or in a seal"),
            Self::WitnessRefusals => spec("witness-refusals", Log, "checkpoints", "Those that the witness refused"),
            Self::AuditGaps => spec("audit-gaps", Node, "gaps", "Holes in the audits of the node's key providers"),
            Self::PermitRequests => spec("permit-requests", Node, "requests", "Permits that the node asked for; a node that seals asks again every few seconds"),
            Self::Revalidations => spec("revalidations", Archive, "revalidations", "Revalidations that ended"),
            Self::ArchiveDamage => spec("archive-damage", Archive, "objects", "Damaged objects that were found"),
            Self::Verdicts => spec("verdicts", Node, "verdicts", "Verdicts that the node gave"),
            Self::NegativeVerdicts => spec("negative-verdicts", Node, "verdicts", "Those that were not good"),
            Self::KeyCalls => spec("key-calls", Provider, "calls", "Signatures that were asked for"),
            Self::KeyErrors => spec("key-errors", Provider, "calls", "Those that failed or came too late"),
            Self::KeyCallMs => spec("key-call-ms", Provider, "ms", "How long a signature took"),
            Self::QueueDepth => spec("queue-depth", Log, "seals", "Seals that wait in the durable queue"),
            Self::Canaries => spec("canaries", Log, "canaries", "Canaries: a digest of our own, sealed and verified on a schedule"),
            Self::CanaryFailures => spec("canary-failures", Log, "canaries", "Those that were not sealed, or did not verify"),
            Self::CanaryMs => spec("canary-ms", Log, "ms", "How long a canary took"),
            Self::Outside => spec("outside", Outside, "", "A number that an outside source tells, by its name"),
        }
    }

    /// Its name in `detectors.yaml`.
    pub fn as_str(self) -> &'static str {
        self.spec().name
    }

    /// The measure of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }

    /// Its place in [`Self::ALL`].
    pub fn index(self) -> usize {
        Self::ALL
            .into_iter()
            .position(|it| it == self)
            .unwrap_or_default()
    }

    /// What it is taken of.
    pub fn of(self) -> SubjectKind {
        self.spec().of
    }

    /// The unit of its values; empty where the source alone knows.
    pub fn unit(self) -> &'static str {
        self.spec().unit
    }

    /// What it is, in a line.
    pub fn summary(self) -> &'static str {
        self.spec().summary
    }
}
