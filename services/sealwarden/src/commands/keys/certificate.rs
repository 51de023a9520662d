//! `keys certificate …`: the seal certificate, from the request to its revocation.

use std::path::{Path, PathBuf};

use sealwarden_anchors::binding::{self, Binding};
use sealwarden_anchors::chain::{Chain, MAX_CHAIN_BYTES};
use sealwarden_anchors::seal_certificate::{self, LegalPerson};
use sealwarden_anchors::signer::Signer;
use sealwarden_runbook_executor::seal_certificate::HeldCertificate;
use sealwarden_seal::note::Vkey;
use sealwarden_wire::control::v1::{
    BindSealCertificateRequest, CertifiedOrigin, ImportSealCertificateRequest,
    ListSealCertificatesRequest, ListSealCertificatesResponse, RevokeSealCertificateRequest,
    SealCertificate,
};
use serde_json::{Value, json};

use super::super::trust::read_limited;
use super::super::{Answer, client, time_argument};
use super::held::Desk;
use crate::cli::Cli;
use crate::failure::{Ending, Failure};
use crate::host::installation::write_public;
use crate::output::{self, time};

const DAY_S: i64 = 86_400;

/// The words behind `keys certificate`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeyCertificate {
    /// Make a P-256 key (it stays in DATA/seal-certificate, mode 0600) and a PKCS#10 request that a certificate authority can certify
    Request {
        #[command(flatten)]
        person: Person,
        /// Where to write the request (default: only DATA/seal-certificate/pending/request.pem)
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Throw the key of an earlier request away; a certificate for it can then not be imported any more
        #[arg(long)]
        replace: bool,
    },
    /// Take the certificate that the authority gave for the request; refused unless it is for that key, valid now, and may sign documents
    Import {
        /// The certificate (PEM), or the certificate and those above it
        certificate: PathBuf,
        /// The certificates above it (PEM), in their order
        #[arg(long, value_name = "FILE")]
        chain: Option<PathBuf>,
    },
    /// Make a certificate on the spot, for trying out: it shows how everything works, and nobody vouches for the name in it
    SelfSigned {
        #[command(flatten)]
        person: Person,
        /// Days it is valid
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
    },
    /// Sign with the certificate's key which verifier keys of the logs are its holder's, and publish that in the trust bundle; again whenever a log gets another key
    Bind {
        /// Only these logs (default: each one that is sealed into now)
        #[arg(long, value_name = "ORIGIN")]
        origin: Vec<String>,
        /// Days it shall hold (default: as long as the certificate is valid)
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: Option<u32>,
    },
    /// Publish that a certificate is revoked: seals of its logs that nobody independent dates before that become `suspect`. It cannot be taken back
    Revoke {
        /// The certificate: its SHA-256, or as much of it as is unique (default: the only one that is not revoked)
        certificate: Option<String>,
        /// Why: key-compromise, ca-compromise, affiliation-changed, superseded, cessation-of-operation, privilege-withdrawn, unspecified
        #[arg(long)]
        reason: String,
        /// From when on it counts as revoked (RFC 3339; default: now); revoking again can only move it to earlier
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// Revoke without asking
        #[arg(long)]
        yes: bool,
    },
    /// The certificates, what they are bound to, and what is stale
    Show,
}

/// Whom a certificate names.
#[derive(Debug, clap::Args)]
pub(crate) struct Person {
    /// Official name of the legal person
    #[arg(long, value_name = "NAME")]
    organization: String,
    /// Its registration as ETSI EN 319 412-1 writes it, e.g. NTRDE-HRB123456, VATFR-12345678901, LEIXG-…
    #[arg(long, value_name = "ID")]
    identifier: Option<String>,
    /// ISO 3166 country code, e.g. DE
    #[arg(long, value_name = "CC")]
    country: Option<String>,
}

impl Person {
    fn legal(&self) -> Result<LegalPerson, Failure> {
        let person = LegalPerson {
            organization: self.organization.clone(),
            identifier: self.identifier.clone(),
            country: self.country.clone(),
        };
        person.check().map_err(Failure::usage)?;
        Ok(person)
    }
}

pub(super) async fn run(cli: &Cli, what: &KeyCertificate) -> Answer {
    match what {
        KeyCertificate::Request {
            person,
            out,
            replace,
        } => request(cli, &person.legal()?, out.as_ref(), *replace),
        KeyCertificate::Import { certificate, chain } => {
            import(cli, certificate, chain.as_ref()).await
        }
        KeyCertificate::SelfSigned { person, days } => {
            self_signed(cli, &person.legal()?, *days).await
        }
        KeyCertificate::Bind { origin, days } => bind(cli, origin, *days).await,
        KeyCertificate::Revoke {
            certificate,
            reason,
            at,
            yes,
        } => revoke(cli, certificate.as_deref(), reason, at.as_deref(), *yes).await,
        KeyCertificate::Show => show(cli).await,
    }
}

fn refused(error: &dyn std::fmt::Display) -> Failure {
    Failure::refused(error.to_string())
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn request(cli: &Cli, person: &LegalPerson, out: Option<&PathBuf>, replace: bool) -> Answer {
    let desk = Desk::of(&cli.data);
    let place = desk.pending_request();
    if desk.pending_key().exists() && !replace {
        return Err(Failure::refused(format!(
            "a request is under way: {}; import its certificate, or make another key with --replace",
            place.display()
        )));
    }
    let (key, request) = seal_certificate::request(person, &[]).map_err(|e| refused(&e))?;
    let key = zeroize::Zeroizing::new(key);
    desk.keep_request(&key, &request)?;
    if let Some(out) = out {
        write_public(out, request.as_bytes())?;
    }
    let shown = out.unwrap_or(&place);
    if cli.json {
        output::json(&json!({ "request": shown, "key": desk.pending_key() }));
    } else {
        output::line(&format!(
            "{}: have it certified, then `sealwarden keys certificate import FILE`; the key stays in {}",
            shown.display(),
            desk.pending_key().display()
        ));
    }
    Ok(Ending::Good)
}

async fn import(cli: &Cli, certificate: &Path, above: Option<&PathBuf>) -> Answer {
    let desk = Desk::of(&cli.data);
    let limit = u64::try_from(MAX_CHAIN_BYTES).unwrap_or(u64::MAX);
    let mut pem = read_limited(certificate, limit)?;
    if let Some(above) = above {
        pem.push(b'\n');
        pem.extend(read_limited(above, limit)?);
    }
    let key = desk.waiting_key()?.ok_or_else(|| {
        Failure::refused(
            "no request is under way, so that no key waits for a certificate; begin with `sealwarden keys certificate request`",
        )
    })?;
    let chain = Chain::read(&pem, now_ms()).map_err(|e| refused(&e))?;
    // The key must be the certificate's.
    Signer::from_pem(chain.pem.as_bytes(), &key).map_err(|e| refused(&e))?;
    let held = desk.keep(&chain.fingerprint, &chain.pem, &key)?;
    let recorded = record(cli, &chain, false).await?;
    desk.use_it(&held, true)?;
    tell_imported(cli, &recorded, &[]);
    Ok(Ending::Good)
}

async fn record(cli: &Cli, chain: &Chain, trial: bool) -> Result<SealCertificate, Failure> {
    let request = ImportSealCertificateRequest {
        chain: chain.pem.clone().into(),
        trial,
    };
    let mut control = client(cli)?.certificates().await?;
    Ok(control.import(request).await?.into_inner())
}

async fn self_signed(cli: &Cli, person: &LegalPerson, days: u32) -> Answer {
    // Before a key is made: without services nothing could be recorded.
    let client = client(cli)?;
    drop(client.certificates().await?);
    let now_s = jiff::Timestamp::now().as_second();
    let until_s = now_s.saturating_add(i64::from(days) * DAY_S);
    let issued =
        seal_certificate::issue(person, &[], now_s - 60, until_s).map_err(|e| refused(&e))?;
    let key = zeroize::Zeroizing::new(issued.key.clone());
    let pem = format!("{}{}", issued.certificate, issued.root);
    let chain = Chain::read(pem.as_bytes(), now_ms()).map_err(|e| refused(&e))?;
    let desk = Desk::of(&cli.data);
    let held = desk.keep(&chain.fingerprint, &chain.pem, key.as_bytes())?;
    let recorded = record(cli, &chain, true).await?;
    desk.use_it(&held, false)?;
    tell_imported(
        cli,
        &recorded,
        &[
            "for trying out only: no authority checked that the name is yours, so nobody else has a reason to believe it",
            "it is no advanced or qualified electronic seal (eIDAS Art. 36, 38), and verifiers find its root nowhere but here",
        ],
    );
    Ok(Ending::Good)
}

fn tell_imported(cli: &Cli, it: &SealCertificate, notes: &[&str]) {
    if cli.json {
        output::json(&json!({ "certificate": as_json(it), "notes": notes }));
        return;
    }
    output::line(&format!(
        "{} {}: valid until {}",
        short(&it.certificate),
        it.subject,
        time(it.not_after_ms)
    ));
    for note in notes {
        output::line(note);
    }
    output::line("next: `sealwarden keys certificate bind` signs which log keys are its holder's");
}

async fn list(cli: &Cli) -> Result<ListSealCertificatesResponse, Failure> {
    let mut control = client(cli)?.certificates().await?;
    let answer = control.list(ListSealCertificatesRequest {}).await?;
    Ok(answer.into_inner())
}

async fn bind(cli: &Cli, origins: &[String], days: Option<u32>) -> Answer {
    let held = Desk::of(&cli.data).required()?;
    let signer = held.signer()?;
    let listed = list(cli).await?;
    let mut told = Vec::new();
    let mut control = client(cli)?.certificates().await?;
    for origin in chosen(&listed, origins)? {
        let signed = sign(&held, &signer, origin, days)?;
        let request = BindSealCertificateRequest {
            binding: signed.clone().into(),
        };
        let recorded = control.bind(request).await?.into_inner();
        held.keep_binding(&origin.origin, &signed)?;
        let found = recorded
            .bindings
            .iter()
            .find(|it| it.origin == origin.origin);
        let until_ms = found.map_or(0, |it| it.until_ms);
        if !cli.json {
            output::line(&format!(
                "{}: keys bound: {}, to {} until {} (trust bundle version {})",
                origin.origin,
                origin.vkeys.len(),
                recorded.subject,
                time(until_ms),
                recorded.trust_version
            ));
        }
        told.push(json!({
            "origin": origin.origin, "vkeys": origin.vkeys, "until_ms": until_ms, "certificate": recorded.certificate, "trust_version": recorded.trust_version,
        }));
    }
    if cli.json {
        output::json(&json!({ "bound": told }));
    }
    Ok(Ending::Good)
}

/// The logs to bind: those named, or those that are sealed into now.
fn chosen<'a>(
    listed: &'a ListSealCertificatesResponse,
    origins: &[String],
) -> Result<Vec<&'a CertifiedOrigin>, Failure> {
    let active = || listed.origins.iter().filter(|it| it.state == "active");
    if origins.is_empty() {
        return Ok(active().collect());
    }
    let find = |name: &String| {
        let found = listed.origins.iter().find(|it| it.origin == *name);
        found.ok_or_else(|| {
            let known: Vec<_> = active().map(|it| it.origin.as_str()).collect();
            Failure::usage(format!(
                "there is no log {name:?}; there are: {}",
                known.join(", ")
            ))
        })
    };
    origins.iter().map(find).collect()
}

fn sign(
    held: &HeldCertificate,
    signer: &Signer,
    origin: &CertifiedOrigin,
    days: Option<u32>,
) -> Result<Vec<u8>, Failure> {
    let vkeys: Vec<Vkey> = origin
        .vkeys
        .iter()
        .map(|it| it.parse())
        .collect::<Result<_, _>>()
        .map_err(|error: sealwarden_seal::note::VkeyError| refused(&error))?;
    let (_, not_after_ms) = signer.validity_ms().map_err(|e| refused(&e))?;
    let now_ms = now_ms();
    let now_s = now_ms.div_euclid(1000);
    let end_s = not_after_ms.div_euclid(1000);
    let wanted = days.map(|days| now_s.saturating_add(i64::from(days) * DAY_S));
    let until_s = wanted.map_or(end_s, |it| it.min(end_s));
    // What is still true keeps its beginning: the same words again change nothing.
    let last = held.binding(&origin.origin)?.filter(|last| {
        let named = last.vkeys.iter().map(ToString::to_string);
        last.until_s == until_s && named.eq(sorted(&origin.vkeys))
    });
    let from_s = last.map_or(now_s, |last| last.from_s);
    Binding::new(&origin.origin, vkeys, from_s, until_s)
        .and_then(|it| binding::sign(&it, signer, now_ms))
        .map_err(|e| refused(&e))
}

fn sorted(vkeys: &[String]) -> Vec<String> {
    let mut sorted = vkeys.to_vec();
    sorted.sort();
    sorted
}

async fn revoke(
    cli: &Cli,
    named: Option<&str>,
    reason: &str,
    at: Option<&str>,
    yes: bool,
) -> Answer {
    let reason: sealwarden_seal::trust::RevocationReason =
        reason.parse().map_err(Failure::usage)?;
    let at_ms = at.map_or_else(|| Ok(now_ms()), |at| time_argument("at", at))?;
    let listed = list(cli).await?;
    let certificate = named_one(&listed.certificates, named)?;
    let question = format!(
        "Publish that {} {} is revoked as of {} ({})? Seals of its logs that nobody independent dates before that become suspect. It cannot be taken back.",
        short(&certificate.certificate),
        certificate.subject,
        time(at_ms),
        reason.as_str()
    );
    if !yes && !output::confirmed(&question) {
        return Err(Failure::refused("nothing was revoked"));
    }
    let request = RevokeSealCertificateRequest {
        certificate: certificate.certificate.clone(),
        at_ms,
        reason: reason.as_str().to_owned(),
    };
    let mut control = client(cli)?.certificates().await?;
    let revoked = control.revoke(request).await?.into_inner();
    if cli.json {
        output::json(
            &json!({ "certificate": as_json(&revoked), "trust_version": revoked.trust_version }),
        );
    } else {
        output::line(&format!(
            "{} {}: revoked as of {} ({}); trust bundle version {} says so",
            short(&revoked.certificate),
            revoked.subject,
            time(revoked.revoked_at_ms),
            revoked.revocation_reason,
            revoked.trust_version
        ));
    }
    Ok(Ending::Good)
}

fn named_one<'a>(
    all: &'a [SealCertificate],
    named: Option<&str>,
) -> Result<&'a SealCertificate, Failure> {
    let fits = |it: &&SealCertificate| match named {
        Some(named) => it.certificate.starts_with(named),
        None => it.revoked_at_ms == 0,
    };
    let found: Vec<_> = all.iter().filter(fits).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::usage(format!(
            "no seal certificate fits {:?}; `sealwarden keys certificate show` lists them",
            named.unwrap_or("that is not revoked")
        ))),
        several => {
            let names: Vec<_> = several.iter().map(|it| short(&it.certificate)).collect();
            Err(Failure::usage(format!(
                "{} certificates fit: {}; name one",
                several.len(),
                names.join(", ")
            )))
        }
    }
}

async fn show(cli: &Cli) -> Answer {
    let desk = Desk::of(&cli.data);
    let current = desk.current()?;
    let waiting = desk.pending_request().exists();
    let listed = list(cli).await?;
    let used = |it: &SealCertificate| {
        current
            .as_ref()
            .is_some_and(|held| it.certificate.starts_with(&held.name))
    };
    if cli.json {
        let certificates: Vec<_> = listed
            .certificates
            .iter()
            .map(|it| {
                let mut value = as_json(it);
                value["used_for_exports"] = Value::Bool(used(it));
                value
            })
            .collect();
        let origins: Vec<_> = listed.origins.iter().map(origin_json).collect();
        output::json(&json!({
            "certificates": certificates, "origins": origins, "request_under_way": waiting,
        }));
        return Ok(Ending::Good);
    }
    if listed.certificates.is_empty() {
        output::line("no seal certificate: exports cannot be signed, and no legal person is named");
    }
    for it in &listed.certificates {
        tell(it, used(it));
    }
    for origin in listed.origins.iter().filter(|it| !it.problem.is_empty()) {
        if origin.state == "active" {
            output::line(&format!("STALE {}: {}", origin.origin, origin.problem));
        }
    }
    if waiting {
        output::line(&format!(
            "a request is under way: {}",
            desk.pending_request().display()
        ));
    }
    Ok(Ending::Good)
}

fn tell(it: &SealCertificate, used: bool) {
    let mark = if used { ", used for exports here" } else { "" };
    let trial = if it.trial {
        ", for trying out only"
    } else {
        ""
    };
    output::line(&format!(
        "{} {}{trial}{mark}",
        short(&it.certificate),
        it.subject
    ));
    output::line(&format!(
        "  issued by {}, valid {} to {}",
        it.issuer,
        time(it.not_before_ms),
        time(it.not_after_ms)
    ));
    if it.revoked_at_ms > 0 {
        output::line(&format!(
            "  REVOKED as of {} ({})",
            time(it.revoked_at_ms),
            it.revocation_reason
        ));
    }
    for bound in &it.bindings {
        let stale = if bound.stale.is_empty() {
            String::new()
        } else {
            format!("; STALE: {}", bound.stale)
        };
        output::line(&format!(
            "  bound: {} keys of {} until {}{stale}",
            bound.vkeys.len(),
            bound.origin,
            time(bound.until_ms)
        ));
    }
}

fn as_json(it: &SealCertificate) -> Value {
    let bindings = it.bindings.iter().map(|bound| {
        json!({
            "origin": bound.origin, "vkeys": bound.vkeys, "from_ms": bound.from_ms, "until_ms": bound.until_ms,
            "stale": Some(&bound.stale).filter(|it| !it.is_empty()),
        })
    });
    json!({
        "certificate": it.certificate, "subject": it.subject, "issuer": it.issuer, "not_before_ms": it.not_before_ms, "not_after_ms": it.not_after_ms,
        "trial": it.trial,
        "revoked": (it.revoked_at_ms > 0).then(|| json!({ "at_ms": it.revoked_at_ms, "reason": it.revocation_reason })),
        "bindings": bindings.collect::<Vec<_>>(),
    })
}

fn origin_json(it: &CertifiedOrigin) -> Value {
    json!({
        "origin": it.origin, "state": it.state, "vkeys": it.vkeys,
        "certificate": Some(&it.certificate).filter(|it| !it.is_empty()), "problem": Some(&it.problem).filter(|it| !it.is_empty()),
    })
}

/// As much of a fingerprint as people compare.
pub(super) fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(16).collect()
}
