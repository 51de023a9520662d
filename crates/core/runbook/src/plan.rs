//! The plan: classes of incidents, their targets, the quorums that nodes demand; and the whole folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::check;
use crate::communication::{Communication, NoticeTemplate};
use crate::detectors::Detectors;
use crate::digest::{hex, sha256};
use crate::directive::DirectiveKind;
use crate::finding::{self, Finding, Place};
use crate::names::show_duration;
use crate::obligations::Regimes;
use crate::quorum::Quorum;
use crate::read_plan;
use crate::roster::Roster;
use crate::runbook::Runbook;
use crate::template::PlanField;
use crate::vendors::Vendors;

/// How bad incidents of a class are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IncidentSeverity {
    /// Everybody now.
    Critical,
    /// Today.
    High,
    /// This week.
    Medium,
    /// When there is time.
    Low,
}

impl IncidentSeverity {
    /// Every one, the worst first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Medium, Self::Low];

    /// The word used in plan files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// How fast the organisation wants to be, each counted from the first bad event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Until the incident is open.
    pub detect: Duration,
    /// Until containment is proven.
    pub contain: Duration,
    /// Until everything is verified and sealing goes on.
    pub recover: Duration,
}

/// A class of incidents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Its name, such as `key-compromise`.
    pub name: String,
    /// What it is, in a line.
    pub title: String,
    /// How bad it is.
    pub severity: IncidentSeverity,
    /// The runbook that answers it.
    pub runbook: String,
    /// How fast.
    pub targets: Targets,
    /// Where it stands in `plan.yaml`.
    pub place: Place,
}

/// `plan.yaml`.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) classes: BTreeMap<String, Class>,
    pub(crate) containment: BTreeMap<DirectiveKind, (Quorum, Place)>,
    pub(crate) hold: Duration,
    pub(crate) approval_validity: Duration,
    pub(crate) communication: Option<Communication>,
    pub(crate) digest: [u8; 32],
}

impl Plan {
    /// The plan's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The plan's version, from 1.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The classes, by name.
    pub fn classes(&self) -> &BTreeMap<String, Class> {
        &self.classes
    }

    /// The class of this name.
    pub fn class(&self, name: &str) -> Option<&Class> {
        self.classes.get(name)
    }

    /// The quorum that nodes demand before they obey a directive of this kind. A loaded plan has one for every
    /// kind; `None` means that the directive must be refused.
    pub fn containment(&self, kind: DirectiveKind) -> Option<&Quorum> {
        self.containment.get(&kind).map(|(quorum, _)| quorum)
    }

    /// How long an automatic hold lasts unless a quorum confirms or lifts it.
    pub fn hold(&self) -> Duration {
        self.hold
    }

    /// How long an approval is valid after it was signed.
    pub fn approval_validity(&self) -> Duration {
        self.approval_validity
    }

    /// Who is told what through which channel; `None` if the plan does not say.
    pub fn communication(&self) -> Option<&Communication> {
        self.communication.as_ref()
    }

    /// SHA-256 of the bytes of `plan.yaml`.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The value of `${plan.…}`.
    pub fn field(&self, field: PlanField) -> String {
        match field {
            PlanField::Name => self.name.clone(),
            PlanField::Version => self.version.to_string(),
            PlanField::Hold => show_duration(self.hold),
            PlanField::ApprovalValidity => show_duration(self.approval_validity),
        }
    }
}

/// The whole plan: `plan.yaml`, `roster.yaml` and the runbooks, checked against each other.
#[derive(Clone, Debug)]
pub struct PlanSet {
    pub(crate) plan: Plan,
    pub(crate) roster: Roster,
    pub(crate) people_at: BTreeMap<String, Place>,
    pub(crate) runbooks: BTreeMap<String, Runbook>,
    pub(crate) regimes: Option<Regimes>,
    pub(crate) vendors: Option<Vendors>,
    pub(crate) detectors: Option<Detectors>,
    pub(crate) notices: BTreeMap<String, NoticeTemplate>,
}

impl PlanSet {
    /// Reads a plan's files, given as names inside the folder and texts. Files whose names do not end in `.yaml`
    /// or `.yml` are documentation and left alone. Gives every error of every file.
    pub fn load<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Result<Self, Vec<Finding>> {
        let set = read_plan::read_set(files)?;
        let mut errors = check::errors(&set);
        if errors.is_empty() {
            Ok(set)
        } else {
            finding::sort(&mut errors);
            Err(errors)
        }
    }

    /// Reads plan, roster and one runbook of a plan, as a run pins them. The runbooks of other classes need not be
    /// there; everything else is checked as in [`Self::load`].
    pub fn load_for_run<N: AsRef<str>, T: AsRef<str>>(
        files: &[(N, T)],
    ) -> Result<Self, Vec<Finding>> {
        let set = read_plan::read_set(files)?;
        let mut errors = check::errors(&set);
        errors.retain(|finding| finding.code != "class-without-runbook");
        if errors.is_empty() {
            Ok(set)
        } else {
            finding::sort(&mut errors);
            Err(errors)
        }
    }

    /// What could be better: the plan works without it.
    pub fn check(&self) -> Vec<Finding> {
        let mut warnings = check::warnings(self);
        finding::sort(&mut warnings);
        warnings
    }

    /// The same plan with another roster, for example one with trial keys; its quorums are checked again.
    pub fn with_roster(mut self, roster: Roster) -> Result<Self, Vec<Finding>> {
        self.roster = roster;
        let errors = check::errors(&self);
        if errors.is_empty() {
            Ok(self)
        } else {
            Err(errors)
        }
    }

    /// `plan.yaml`.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// `roster.yaml`.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// `regimes.yaml`: the duties to notify; `None` if the plan has none.
    pub fn regimes(&self) -> Option<&Regimes> {
        self.regimes.as_ref()
    }

    /// `detectors.yaml`; `None` if the plan has only the built-in ones.
    pub fn detectors(&self) -> Option<&Detectors> {
        self.detectors.as_ref()
    }

    /// `vendors.yaml`: whose services the installation rests on; `None` if the plan has none.
    pub fn vendors(&self) -> Option<&Vendors> {
        self.vendors.as_ref()
    }

    /// Templates of notices to everybody, by name.
    pub fn notices(&self) -> &BTreeMap<String, NoticeTemplate> {
        &self.notices
    }

    /// The runbooks, by name.
    pub fn runbooks(&self) -> &BTreeMap<String, Runbook> {
        &self.runbooks
    }

    /// The runbook of this name.
    pub fn runbook(&self, name: &str) -> Option<&Runbook> {
        self.runbooks.get(name)
    }

    /// The runbook that answers incidents of this class.
    pub fn runbook_for(&self, class: &str) -> Option<&Runbook> {
        self.runbook(&self.plan.class(class)?.runbook)
    }

    /// SHA-256 over everything: `sealwarden-plan/v1`, then `plan <hex>`, `roster <hex>`, where there are regimes
    /// `regimes <hex>`, where there are detectors `detectors <hex>`, and, sorted by name, `runbook <name> <hex>` and then `notice <name> <hex>`, with the digests of the parts; each line ends in `\n`.
    pub fn digest(&self) -> [u8; 32] {
        let mut text = String::from("sealwarden-plan/v1\n");
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "plan {}\nroster {}",
            hex(&self.plan.digest),
            self.roster.digest_hex()
        );
        if let Some(regimes) = &self.regimes {
            let _ = writeln!(text, "regimes {}", regimes.digest_hex());
        }
        if let Some(detectors) = &self.detectors {
            let _ = writeln!(text, "detectors {}", detectors.digest_hex());
        }
        if let Some(vendors) = &self.vendors {
            let _ = writeln!(text, "vendors {}", vendors.digest_hex());
        }
        for (name, runbook) in &self.runbooks {
            let _ = writeln!(text, "runbook {name} {}", runbook.digest_hex());
        }
        for (name, notice) in &self.notices {
            let _ = writeln!(text, "notice {name} {}", notice.digest);
        }
        sha256(text.as_bytes())
    }

    /// The digest in hexadecimal.
    pub fn digest_hex(&self) -> String {
        hex(&self.digest())
    }
}
