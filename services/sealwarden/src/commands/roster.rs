//! `roster show | propose | approve | deny | absent | revoke`

mod absence;
pub(super) mod change;

use std::path::PathBuf;

use sealwarden_domain::approval::{Environment, revocation_text};
use sealwarden_domain::roster::Vote;
use sealwarden_wire::event::v1::ApproverKeyRevoked;
use sealwarden_wire::run::v1 as wire;
use serde_json::json;

use super::approve::SigningKey;
use super::{Answer, client};
use crate::cli::{Cli, Signing};
use crate::failure::{Ending, Failure};
use crate::output;

/// The words behind `roster`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Roster {
    /// Who may approve, with which roles and keys, which keys count no more, and which changes wait for signatures
    ///
    /// Ends with 1 if something does not fit, such as a roster.yaml that somebody edited and nobody signed.
    Show {
        /// Print the roster in force as roster.yaml, and nothing else
        #[arg(long)]
        yaml: bool,
    },
    /// Ask for another roster: people, roles and keys change only when a quorum of the roster in force signs
    ///
    /// The quorum is what roster.yaml names under `changed_by`; if it names none, two people in different roles, one of them security-lead or break-glass. Whoever proposes
    /// it and whoever gains a role by it does not count. It waits for a week. Once it is signed it is in force at once, on every node and without a restart, and roster.yaml is
    /// written. Runs that are open go on with those keys and roles that both rosters have.
    Propose {
        /// The changed roster.yaml
        file: PathBuf,
        /// Why, in one line; it is signed, and everybody reads it
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Sign a proposed roster
    Approve {
        /// The beginning of its digest, as `roster show` prints it (default: the one that waits)
        digest: Option<String>,
        #[command(flatten)]
        signing: Signing,
    },
    /// End a proposal: anybody on the roster can. It may be proposed again, and must be signed again
    Deny {
        /// The beginning of its digest, as `roster show` prints it (default: the one that waits)
        digest: Option<String>,
        #[command(flatten)]
        signing: Signing,
    },
    /// Somebody cannot be reached, so that others are asked; they say it, or somebody who is `security-lead` or `break-glass`
    ///
    /// It tells people whom a step waits for (`approve --list`, `run show`), and takes no right away: who signs all the same counts. The answer, `roster show` and `status` say which
    /// quorums nobody can meet meanwhile. At most 90 days. There are no deputies: others with the same roles sign.
    Absent {
        /// Who
        person: String,
        /// Until when (RFC 3339)
        #[arg(long, value_name = "TIME", required_unless_present = "back")]
        until: Option<String>,
        /// From when (RFC 3339; default: now)
        #[arg(long, value_name = "TIME")]
        from: Option<String>,
        /// They are back
        #[arg(long, conflicts_with_all = ["until", "from"])]
        back: bool,
        /// Why, in one line; everybody reads it
        #[arg(long, value_name = "TEXT", default_value = "away")]
        why: String,
        #[command(flatten)]
        signing: Signing,
    },
    /// A key is lost, stolen, or its owner has gone: it counts no more
    ///
    /// Its owner signs that, or anybody with the role `security-lead` or `break-glass`, alone. From then on no approval by the key counts for a step that has not begun, also
    /// in runs under way and whenever it was given; every node refuses it, too. Steps that began stay. A denial stands until its person approves with another key. This is
    /// not taken back: propose a roster with a new key, and without the old one.
    Revoke {
        /// The key's fingerprint (`SHA256:…`), or the person, if they have one key
        #[arg(value_name = "KEY")]
        whose: String,
        /// Why, in one line; everybody reads it
        #[arg(long, value_name = "TEXT")]
        why: String,
        #[command(flatten)]
        signing: Signing,
    },
}

pub(crate) async fn run(cli: &Cli, what: &Roster) -> Answer {
    let mut runs = client(cli)?.runs().await?;
    let roster = runs.show_roster(wire::ShowRosterRequest {});
    let roster = roster.await?.into_inner();
    let (whose, why, signing) = match what {
        Roster::Show { yaml: true } => {
            output::line(roster.text.trim_end());
            return Ok(Ending::Good);
        }
        Roster::Show { yaml: false } => return Ok(show(cli, &roster)),
        Roster::Propose { file, reason } => {
            return Box::pin(change::propose(cli, &mut runs, file, reason)).await;
        }
        Roster::Approve { digest, signing } => {
            let named = (digest.as_deref(), Vote::Approve);
            return Box::pin(change::sign(cli, &mut runs, &roster, named, signing)).await;
        }
        Roster::Deny { digest, signing } => {
            let named = (digest.as_deref(), Vote::Deny);
            return Box::pin(change::sign(cli, &mut runs, &roster, named, signing)).await;
        }
        Roster::Absent {
            person,
            until,
            from,
            back: _,
            why,
            signing,
        } => {
            let said = absence::Said {
                person,
                from: from.as_deref(),
                until: until.as_deref(),
                why,
            };
            return Box::pin(absence::say(cli, &mut runs, &roster, &said, signing)).await;
        }
        Roster::Revoke {
            whose,
            why,
            signing,
        } => (whose, why, signing),
    };
    let mine = SigningKey::find(cli, signing)?;
    let revoked = revocation(&roster, whose, why, &mine)?;
    let environment = Environment::parse(&roster.environment).ok_or_else(|| {
        let named = &roster.environment;
        Failure::refused(format!("the server names an unknown environment {named:?}"))
    })?;
    let text = revocation_text(&roster.installation, environment, &revoked);
    let namespace = environment.namespace();
    if !cli.json || !signing.yes {
        output::complain(&format!(
            "The key {} of {} will count for nothing that has not begun. This is not taken back.\n\nThe statement to sign (SSHSIG, namespace {namespace}):\n{text}",
            revoked.key_fingerprint, revoked.person
        ));
    }
    if !signing.yes && !output::confirmed(&format!("Sign this as {}?", revoked.by)) {
        return Err(Failure::usage("not signed: nothing was sent"));
    }
    let request = wire::RevokeKeyRequest {
        signature: mine.sign(&text, namespace)?,
        key_fingerprint: revoked.key_fingerprint.clone(),
        person: revoked.person.clone(),
        by: revoked.by.clone(),
        reason: revoked.reason.clone(),
    };
    let told = runs.revoke_key(request).await?.into_inner().runs;
    if cli.json {
        output::json(&json!({
            "revoked": revoked.key_fingerprint, "person": revoked.person, "by": revoked.by, "reason": revoked.reason, "runs": told,
        }));
    } else {
        let runs = if told.is_empty() {
            "no open run knows it".to_owned()
        } else {
            format!("it counts no more in {}", told.join(", "))
        };
        output::line(&format!(
            "revoked: {} of {}; {runs}. Propose a roster without it (`roster propose`).",
            revoked.key_fingerprint, revoked.person
        ));
    }
    Ok(Ending::Good)
}

/// What is to be signed: whose key it is, and who signs.
fn revocation(
    roster: &wire::Roster,
    key: &str,
    why: &str,
    mine: &SigningKey,
) -> Result<ApproverKeyRevoked, Failure> {
    let of = |named: &str| {
        let people = roster.people.iter();
        let mut pairs = people.flat_map(|person| person.keys.iter().map(move |it| (person, it)));
        pairs.find(|(_, it)| it.fingerprint == named)
    };
    let (owner, fingerprint) =
        if let Some(person) = roster.people.iter().find(|it| it.person == key) {
            (person, only_key(person)?)
        } else if let Some((person, it)) = of(key) {
            (person, it.fingerprint.clone())
        } else {
            let problem = format!(
                "no person and no key of the roster is {key:?}; `sealwarden roster show` lists them"
            );
            return Err(Failure::usage(problem));
        };
    let signer = signer(roster, mine)?;
    Ok(ApproverKeyRevoked {
        key_fingerprint: fingerprint,
        person: owner.person.clone(),
        by: signer.person.clone(),
        reason: why.to_owned(),
        signature: String::new(),
    })
}

/// Whose key it is.
fn signer<'a>(
    roster: &'a wire::Roster,
    mine: &SigningKey,
) -> Result<&'a wire::RosterPerson, Failure> {
    let key = mine.fingerprint();
    let mut people = roster.people.iter();
    people
        .find(|person| person.keys.iter().any(|it| it.fingerprint == key))
        .ok_or_else(|| {
            Failure::refused(format!(
                "key {key} belongs to nobody on the roster; name yours with --key"
            ))
        })
}

/// The key of somebody who has one.
fn only_key(person: &wire::RosterPerson) -> Result<String, Failure> {
    let id = &person.person;
    let mut counting = person.keys.iter().filter(|it| it.revoked_reason.is_empty());
    match (counting.next(), counting.next()) {
        (Some(only), None) => Ok(only.fingerprint.clone()),
        (None, _) => Err(Failure::usage(format!(
            "{id} has no key that counts; nothing to revoke"
        ))),
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "{id} has several keys; name one by its fingerprint (`sealwarden roster show`)"
        ))),
    }
}

fn show(cli: &Cli, roster: &wire::Roster) -> Ending {
    if cli.json {
        let people: Vec<_> = roster
            .people
            .iter()
            .map(|person| {
                let keys: Vec<_> = person.keys.iter().map(|key| json!({
                    "fingerprint": key.fingerprint, "algorithm": key.algorithm, "touch": key.touch,
                    "revoked_by": key.revoked_by, "revoked_reason": key.revoked_reason,
                })).collect();
                json!({
                    "person": person.person, "name": person.name, "roles": person.roles, "keys": keys,
                    "away_until_ms": person.away_until_ms, "away_reason": person.away_reason,
                })
            })
            .collect();
        output::json(&json!({
            "installation": roster.installation, "environment": roster.environment, "digest": roster.digest, "people": people,
            "number": roster.number, "change_rule": roster.change_rule, "findings": roster.findings,
            "proposals": roster.proposals.iter().map(change::document).collect::<Vec<_>>(),
        }));
        return ending(roster);
    }
    let mut rows = vec![
        ["PERSON", "ROLES", "KEY", "TOUCH", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    for person in &roster.people {
        let roles = person.roles.join(", ");
        if person.keys.is_empty() {
            rows.push(vec![
                person.person.clone(),
                roles.clone(),
                "none: cannot approve".to_owned(),
                String::new(),
                String::new(),
            ]);
        }
        rows.extend(person.keys.iter().map(|key| {
            let revoked = if key.revoked_reason.is_empty() {
                String::new()
            } else {
                format!("REVOKED by {}: {}", key.revoked_by, key.revoked_reason)
            };
            vec![
                person.person.clone(),
                roles.clone(),
                key.fingerprint.clone(),
                key.touch.clone(),
                revoked,
            ]
        }));
    }
    output::table(&rows);
    output::line(&format!(
        "roster {} sha256:{}; a change takes {}",
        roster.number, roster.digest, roster.change_rule
    ));
    for person in roster.people.iter().filter(|it| it.away_until_ms > 0) {
        output::line(&format!(
            "AWAY {} until {}: {}",
            person.person,
            output::time(person.away_until_ms),
            person.away_reason
        ));
    }
    for proposal in &roster.proposals {
        output::line(&format!("\n{}", change::shown(proposal)));
    }
    for finding in &roster.findings {
        output::line(&format!("\nNOT AS IT SHOULD BE: {finding}"));
    }
    ending(roster)
}

fn ending(roster: &wire::Roster) -> Ending {
    if roster.findings.is_empty() {
        Ending::Good
    } else {
        Ending::Negative
    }
}
