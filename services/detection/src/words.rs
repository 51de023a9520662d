//! Events in a person's words, one line each.

use std::collections::BTreeMap;

use sealwarden_domain::incident::{stage_name, time_text};
use sealwarden_domain::log_control::{LogControl, acknowledgement_results, kind_name};
use sealwarden_wire::event::v1::{
    ApprovalRecorded, ConditionEvaluated, ConditionOutcome, DeliveryOutcome, DirectiveAcknowledged,
    EvidenceGiven, Fenced, IncidentClassified, KeyLife, RunOutcome, SignatureWithheld, StepEnded,
    StepOutcome, SuspensionAdded, event::Kind,
};

/// The line for an event in the stream with this id; `None` for what is no part of a story.
#[expect(
    clippy::too_many_lines,
    reason = "every event is named here, with its sentence or where that is made"
)]
pub(crate) fn words(kind: &Kind, id: &str, logs: &BTreeMap<String, LogControl>) -> Option<String> {
    Some(match kind {
        Kind::SignalReported(e) => {
            let proof = if e.proven {
                "with proof"
            } else {
                "without proof"
            };
            format!(
                "{} reports {}, {proof}. {} {}",
                e.detector, e.class, e.seen, e.expected
            )
        }
        Kind::HoldPlaced(e) => {
            format!(
                "signing with {} is held until {}",
                e.origin,
                time_text(e.expires_at_ms)
            )
        }
        Kind::IncidentOpened(_)
        | Kind::SignalJoined(_)
        | Kind::IncidentClassified(_)
        | Kind::IncidentStageReached(_)
        | Kind::RunLinked(_)
        | Kind::EvidenceSealed(_)
        | Kind::OutsideCounted(_)
        | Kind::SignalResolved(_)
        | Kind::IncidentHandedOver(_) => return of_incident(kind),
        Kind::DirectiveIssued(e) => {
            let d = e.directive.as_ref()?;
            format!(
                "directive {} orders {} (step {} of run {})",
                d.epoch,
                kind_name(d.kind()),
                d.step,
                d.run
            )
        }
        Kind::DirectiveAcknowledged(e) => acknowledged(e, logs.get(id)),
        Kind::DirectiveRefused(e) => {
            format!("{} refuses directive {}: {}", e.node, e.epoch, e.reason)
        }
        Kind::Fenced(e) => fenced(e),
        Kind::Isolated(e) => format!(
            "isolated: provider: {}; witness: {}; trust bundle: {}",
            e.provider, e.witness, e.trust
        ),
        Kind::OriginOpened(e) => {
            format!("origin {} opened in place of {}", e.origin, e.predecessor)
        }
        Kind::TrustPublished(e) => {
            format!("trust bundle version {} published: {}", e.version, e.reason)
        }
        Kind::SuspensionAdded(e) => suspended(e),
        Kind::SignatureWithheld(e) => withheld(e),
        Kind::RosterAdopted(e) => format!("the first roster is sha256:{}", e.digest),
        Kind::RosterProposed(e) => format!(
            "{} proposes roster {} sha256:{}: {}",
            e.proposed_by, e.number, e.digest, e.reason
        ),
        Kind::RosterDecided(e) => format!(
            "{} says {} to roster {} sha256:{}",
            e.signed.as_ref().map_or("", |it| it.person.as_str()),
            e.decision,
            e.number,
            e.digest
        ),
        Kind::PersonAway(e) if e.until_ms <= e.from_ms => format!("{} is back", e.person),
        Kind::PersonAway(e) => format!("{} is away: {}", e.person, e.reason),
        Kind::RosterChanged(e) => {
            format!("roster {} is in force: {}", e.number, e.reason)
        }
        Kind::SealCertificateImported(_)
        | Kind::SealCertificateBound(_)
        | Kind::SealCertificateRevoked(_) => return of_certificate(kind),
        Kind::SignerAdded(_)
        | Kind::SignersActivated(_)
        | Kind::SignerRetired(_)
        | Kind::KeyLifeChanged(_)
        | Kind::KeyPressureChanged(_) => return of_key(kind),
        Kind::RunStarted(_)
        | Kind::InputsResolved(_)
        | Kind::ConditionEvaluated(_)
        | Kind::ApprovalRecorded(_)
        | Kind::ApprovalRefused(_)
        | Kind::ApproverKeyRevoked(_)
        | Kind::StepStarted(_)
        | Kind::StepTaken(_)
        | Kind::StepProgressed(_)
        | Kind::StepEnded(_)
        | Kind::StepUnknown(_)
        | Kind::RunEnded(_)
        | Kind::RunPaused(_)
        | Kind::RunResumed(_)
        | Kind::RunAborted(_)
        | Kind::StepRetried(_)
        | Kind::StepSkipped(_)
        | Kind::StepOverridden(_)
        | Kind::OverrideReviewed(_)
        | Kind::EvidenceGiven(_) => return of_run(kind),
        Kind::RevalidationStarted(_)
        | Kind::ArchiveDamageFound(_)
        | Kind::RevalidationFinished(_)
        | Kind::DocumentQuarantined(_)
        | Kind::DocumentRestored(_)
        | Kind::DocumentReleased(_)
        | Kind::RestoreFailed(_) => return crate::archive_words::sentence(kind),
        Kind::VerdictsCompared(e) => crate::detectors::verdicts_words(e),
        Kind::VendorProbed(_) | Kind::VendorSetAside(_) | Kind::VendorTakenBack(_) => {
            return crate::detectors::vendor_words(kind);
        }
        Kind::RegimeDecided(_)
        | Kind::RegimeClockStarted(_)
        | Kind::DutyMet(_)
        | Kind::DutyWarned(_)
        | Kind::DutyMissed(_) => return crate::duties::sentence(kind),
        Kind::NoticePrepared(_)
        | Kind::NoticeDecided(_)
        | Kind::DeliveryStarted(_)
        | Kind::DeliveryEnded(_)
        | Kind::IncidentAcknowledged(_) => return of_communication(kind),
        Kind::PostmortemRecorded(_)
        | Kind::PostmortemApproved(_)
        | Kind::ActionItemAdded(_)
        | Kind::ActionItemMoved(_)
        | Kind::ActionItemDone(_)
        | Kind::ActionItemChecked(_)
        | Kind::ActionItemDropped(_) => return crate::learning::sentence(kind),
        Kind::ErasureOrdered(_)
        | Kind::ErasureFinished(_)
        | Kind::LegalHoldSet(_)
        | Kind::LegalHoldReleased(_)
        | Kind::TicketsWithdrawn(_)
        | Kind::ArchiveExtended(_)
        | Kind::PermitRequested(_)
        | Kind::PermitGranted(_)
        | Kind::PermitReleased(_)
        | Kind::IntentRecorded(_)
        | Kind::CheckpointPublished(_)
        | Kind::CheckpointAnchored(_)
        | Kind::CheckpointCosigned(_)
        | Kind::KeyUseObserved(_)
        | Kind::AuditGapObserved(_)
        | Kind::CheckpointSighted(_)
        | Kind::NodeEnrolled(_)
        | Kind::ServiceAnnounced(_)
        | Kind::ExecutorLeased(_)
        | Kind::ExecutorReleased(_)
        | Kind::EvidenceHandedOut(_)
        | Kind::DetectorsInstalled(_)
        | Kind::NearMissRecorded(_)
        | Kind::MeasuresTaken(_)
        | Kind::CanaryRun(_)
        | Kind::TimeTicked(_) => return None,
        Kind::ReleaseMarked(e) => {
            format!("{} {} was released, says {}", e.component, e.version, e.by)
        }
    })
}

/// What was told to whom. That a delivery was begun is no story.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "`words` names every event and sends only those of what is told here"
)]
fn of_communication(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::NoticePrepared(e) => {
            let news = e.text.lines().next().unwrap_or_default();
            let whom = if e.addressee.is_empty() {
                &e.audience
            } else {
                &e.addressee
            };
            format!("notice {} for {whom}: {news}", e.number)
        }
        Kind::NoticeDecided(e) => format!(
            "notice {}: {} decides \"{}\"",
            e.number, e.person, e.decision
        ),
        Kind::DeliveryEnded(e) => match e.outcome() {
            DeliveryOutcome::Delivered => {
                format!("notice {} is delivered on {}", e.number, e.channel)
            }
            DeliveryOutcome::Refused => {
                format!(
                    "notice {} is refused by {}: {}",
                    e.number, e.channel, e.reason
                )
            }
            _ if e.again_at_ms == 0 => format!(
                "notice {} could not be delivered on {}: {}",
                e.number, e.channel, e.reason
            ),
            _ => return None,
        },
        Kind::IncidentAcknowledged(e) => format!("{} takes care of it. {}", e.by, e.note),
        _ => return None,
    })
}

/// The events of an incident's own life.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "`words` names every event and sends only those of incidents here"
)]
fn of_incident(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::IncidentOpened(e) => format!("incident opened: {}", e.title),
        Kind::SignalJoined(e) => format!("signal {} of {} joined", e.signal, e.detector),
        Kind::IncidentClassified(e) => classified(e),
        Kind::IncidentStageReached(e) => format!("{}: {}", stage_name(e.stage()), e.reason),
        Kind::RunLinked(e) => format!("run {} of runbook {} works on it", e.run, e.runbook),
        Kind::OutsideCounted(e) => format!(
            "{} further alerts of {} were counted and not recorded one by one",
            e.further, e.source
        ),
        Kind::IncidentHandedOver(e) if e.to == e.by => {
            format!("{} takes it over. {}", e.by, e.note)
        }
        Kind::IncidentHandedOver(e) => format!("{} hands it over to {}. {}", e.by, e.to, e.note),
        Kind::SignalResolved(e) => format!("{} says that signal {} is over", e.by, e.signal),
        Kind::EvidenceSealed(e) => {
            format!(
                "{} files of evidence sealed in {} (manifest {})",
                e.files, e.bundle, e.manifest_sha256
            )
        }
        _ => return None,
    })
}

fn withheld(e: &SignatureWithheld) -> String {
    format!(
        "{} threw a signature of {} at size {} away: {}",
        e.node, e.origin, e.size, e.reason
    )
}

fn life(life: KeyLife) -> &'static str {
    match life {
        KeyLife::Unspecified => "changed",
        KeyLife::Isolated => "isolated",
        KeyLife::Revoked => "revoked",
        KeyLife::Destroyed => "destroyed",
        KeyLife::Restored => "restored",
    }
}

/// The events of an origin's keys.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "`words` names every event and sends only those of keys here"
)]
fn of_key(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::SignerAdded(e) => format!(
            "key {} of the {} provider may sign for {}",
            e.key_id, e.provider, e.origin
        ),
        Kind::SignersActivated(e) => format!(
            "{} is signed by {}, decided by {}: {}",
            e.origin,
            e.active
                .iter()
                .chain(&e.overlapping)
                .cloned()
                .collect::<Vec<_>>()
                .join(" and "),
            e.by,
            e.why
        ),
        Kind::SignerRetired(e) => {
            format!(
                "key {} never signs for {} again: {}",
                e.key_id, e.origin, e.why
            )
        }
        Kind::KeyLifeChanged(e) => format!(
            "key {} of {} is {} at {}: {}",
            e.key_id,
            e.origin,
            life(e.life()),
            e.by,
            e.outcome
        ),
        Kind::KeyPressureChanged(e) if e.diverting => format!(
            "{} sends seals that are not critical into its queue: {}",
            e.node, e.reason
        ),
        Kind::KeyPressureChanged(e) => format!("{} seals everything at once again", e.node),
        _ => return None,
    })
}

/// The events of a run.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "`words` names every event and sends only those of runs here"
)]
fn of_run(kind: &Kind) -> Option<String> {
    Some(match kind {
        Kind::RunStarted(e) => format!("run {} of runbook {} began", e.run, e.runbook),
        Kind::InputsResolved(e) => format!(
            "step {} is ready: {}",
            e.step,
            e.inputs.trim_end().replace('\n', ", ")
        ),
        Kind::ConditionEvaluated(e) => condition(e),
        Kind::ApprovalRecorded(e) => approval(e),
        Kind::ApprovalRefused(e) => {
            format!(
                "an approval of step {} by {} does not count ({}): {}",
                e.step, e.person, e.code, e.reason
            )
        }
        Kind::ApproverKeyRevoked(e) => {
            let by = if e.by.is_empty() {
                "it went away with the roster"
            } else {
                &e.by
            };
            format!(
                "the key {} of {} counts no more ({by}): {}",
                e.key_fingerprint, e.person, e.reason
            )
        }
        Kind::StepStarted(e) => format!("step {} began (attempt {})", e.step, e.attempt),
        Kind::StepTaken(e) => format!(
            "another executor, or a later life of the same one, takes step {} over (attempt {})",
            e.step, e.attempt
        ),
        Kind::StepProgressed(e) => {
            let told = e.missing.iter().all(|who| e.text.contains(who.as_str()));
            let missing = if told {
                String::new()
            } else {
                format!("; waiting for {}", e.missing.join(", "))
            };
            format!("step {}: {}{missing}", e.step, e.text)
        }
        Kind::StepEnded(e) => step_ended(e),
        Kind::StepUnknown(e) => format!("step {} ended without an answer: {}", e.step, e.reason),
        Kind::RunEnded(e) => {
            let outcome = match e.outcome() {
                RunOutcome::Completed => "completed",
                RunOutcome::Failed => "failed",
                RunOutcome::Aborted => "was aborted",
                RunOutcome::Unspecified => "ended",
            };
            format!("the run {outcome}: {}", e.reason)
        }
        Kind::RunPaused(e) => because(format!("{} paused the run", e.by), &e.reason),
        Kind::RunResumed(e) => because(format!("{} let the run go on", e.by), &e.reason),
        Kind::RunAborted(e) if e.undo => because(
            format!("{} aborted the run and has taken back what it did", e.by),
            &e.reason,
        ),
        Kind::RunAborted(e) => because(format!("{} aborted the run", e.by), &e.reason),
        Kind::StepRetried(e) => because(
            format!("{} has step {} tried again", e.by, e.step),
            &e.reason,
        ),
        Kind::StepSkipped(e) => because(
            format!(
                "the run goes on without step {} ({})",
                e.step,
                e.by.join(", ")
            ),
            &e.reason,
        ),
        Kind::StepOverridden(e) => because(
            format!(
                "BREAK-GLASS: {} ordered step {} without its quorum; others must review it",
                e.by.join(", "),
                e.step
            ),
            &e.reason,
        ),
        Kind::EvidenceGiven(e) => evidence_given(e),
        Kind::OverrideReviewed(e) => {
            format!(
                "{} reviewed the override of step {}",
                e.by.join(", "),
                e.step
            )
        }
        _ => return None,
    })
}

fn evidence_given(e: &EvidenceGiven) -> String {
    let fields = e.evidence.iter().map(|given| {
        if given.stored.is_empty() {
            format!("{} {:?}", given.name, given.value)
        } else {
            let (file, digest) = (&given.file_name, &given.value);
            format!("{} {file:?} (sha256 {digest})", given.name)
        }
    });
    let fields: Vec<String> = fields.collect();
    format!(
        "{} handed in for step {}: {}",
        e.by,
        e.step,
        fields.join(", ")
    )
}

fn condition(e: &ConditionEvaluated) -> String {
    match e.outcome() {
        ConditionOutcome::Holds => format!("step {} is needed: {}", e.step, e.condition),
        ConditionOutcome::DoesNotHold => format!(
            "step {} is not needed: {} does not hold",
            e.step, e.condition
        ),
        ConditionOutcome::Error | ConditionOutcome::Unspecified => format!(
            "nobody can tell whether step {} is needed: {} ({})",
            e.step, e.error, e.condition
        ),
    }
}

/// A sentence with the reason that was given, if one was.
fn because(sentence: String, reason: &str) -> String {
    if reason.is_empty() {
        sentence
    } else {
        format!("{sentence}: {reason}")
    }
}

fn classified(e: &IncidentClassified) -> String {
    let since = time_text(e.compromised_since_ms);
    let since = if since.is_empty() {
        since
    } else {
        format!(", compromised since {since} at the earliest")
    };
    format!(
        "classified as {} ({}) by {}{since}: {}",
        e.class, e.severity, e.by, e.reason
    )
}

fn acknowledged(e: &DirectiveAcknowledged, log: Option<&LogControl>) -> String {
    let kind = log
        .and_then(|log| log.directives.get(&e.epoch))
        .map_or("", |d| kind_name(d.kind()));
    let results: Vec<String> = acknowledgement_results(&e.note)
        .into_iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let results = if results.is_empty() {
        String::new()
    } else {
        format!(" ({})", results.join("; "))
    };
    format!("{} enforces directive {} {kind}{results}", e.node, e.epoch)
}

fn of_certificate(kind: &Kind) -> Option<String> {
    if let Kind::SealCertificateImported(e) = kind {
        Some(format!("seal certificate of {} imported", e.subject))
    } else if let Kind::SealCertificateBound(e) = kind {
        let keys = e.vkeys.len();
        Some(format!(
            "seal certificate {} bound to {keys} keys of {}",
            e.certificate, e.origin
        ))
    } else if let Kind::SealCertificateRevoked(e) = kind {
        let at = time_text(e.at_ms);
        Some(format!(
            "seal certificate {} revoked as of {at} ({})",
            e.certificate, e.reason
        ))
    } else {
        None
    }
}

fn suspended(e: &SuspensionAdded) -> String {
    let from = time_text(e.from_ms);
    format!("{} is suspended in the trust bundle from {from}", e.origin)
}

fn fenced(e: &Fenced) -> String {
    let nodes: Vec<String> = e
        .nodes
        .iter()
        .map(|node| format!("{} {}", node.node, node.how))
        .collect();
    format!(
        "fenced: no node can sign with {} any more ({})",
        e.origin,
        nodes.join("; ")
    )
}

fn approval(e: &ApprovalRecorded) -> String {
    let decision = match e.decision.as_str() {
        "deny" => "denies",
        "confirm" => "confirms",
        "retry" => "says that nothing happened in",
        "skip" => "would skip",
        "override" => "breaks the glass for",
        "review" => "reviewed the override of",
        _ => "approves",
    };
    format!(
        "{} ({}) {decision} step {}",
        e.person,
        e.roles.join(", "),
        e.step
    )
}

fn step_ended(e: &StepEnded) -> String {
    let how = if e.observed {
        " (found by looking)"
    } else {
        ""
    };
    match e.outcome() {
        StepOutcome::Done => {
            let outputs: Vec<String> = e
                .outputs
                .iter()
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            let outputs = if outputs.is_empty() {
                String::new()
            } else {
                format!(": {}", outputs.join(", "))
            };
            format!("step {} is done{how}{outputs}", e.step)
        }
        StepOutcome::NotDone | StepOutcome::Unspecified => {
            let kind = if e.error_kind.is_empty() {
                String::new()
            } else {
                format!(" ({})", e.error_kind)
            };
            format!("step {} was not done{how}{kind}: {}", e.step, e.error)
        }
    }
}
