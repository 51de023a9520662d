//! `verify FILE`: the verdict, from the server or offline from a trust bundle.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sealwarden_seal::seal::{MAX_SEAL_BYTES, Seal as SealFile};
use sealwarden_seal::trust::{Roots, VerifiedBundle};
use sealwarden_seal::verdict::{self, Verification, VerifiedAnchor};
use sealwarden_wire::verify::v1::{VerifyRequest, VerifyResponse};
use serde_json::{Value, json};

use super::{Answer, client, export, trust, verify_many};
use crate::cli::{Cli, Verify};
use crate::failure::{Ending, Failure};
use crate::{output, trust_seen};

pub(crate) async fn run(cli: &Cli, args: &Verify) -> Answer {
    let files = files(args)?;
    let [file] = files.as_slice() else {
        return verify_many::run(cli, args, &files).await;
    };
    if args.from_list.is_some() {
        return verify_many::run(cli, args, &files).await;
    }
    let digest = digest_of(file)?;
    let seal_path = seal_path(args, file)?;
    let seal = read_seal(&seal_path)?;
    let anchors = export::for_seal(args.anchors.as_deref(), &seal_path)?;
    if let Some(anchors) = &anchors {
        export::warn_of_foreign(anchors, &seal);
    }
    let document = match &args.trust {
        Some(trust) => offline(cli, args, trust, (&seal, anchors.as_deref()), digest)?,
        None => online(cli, (seal, anchors), digest).await?,
    };
    if cli.json {
        output::json(&document);
    } else {
        let verdict = document["verdict"].as_str().unwrap_or_default();
        show(file, verdict, &document);
    }
    Ok(if is_good(&document) {
        Ending::Good
    } else {
        Ending::Negative
    })
}

/// Whether the document may be relied on.
pub(super) fn is_good(document: &Value) -> bool {
    let verdict = document["verdict"].as_str().unwrap_or_default();
    verdict == "valid" || verdict == "valid-before-compromise"
}

fn files(args: &Verify) -> Result<Vec<PathBuf>, Failure> {
    let mut files = args.files.clone();
    if let Some(list) = &args.from_list {
        let text = std::fs::read_to_string(list)
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

fn show(file: &Path, verdict: &str, document: &Value) {
    output::line(&format!("{}: {verdict}", file.display()));
    if let Some(reason) = document["reason"].as_str() {
        output::line(&format!("  {reason}"));
    }
    if let (Some(origin), Some(index)) = (document["origin"].as_str(), document["index"].as_u64()) {
        output::line(&format!("  place:     {origin} #{index}"));
    }
    if let Some(at) = document["sealed_at"].as_str() {
        output::line(&format!("  sealed at: {at} (earliest witness)"));
    }
    let signed: Vec<_> = document["signed"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !signed.is_empty() {
        output::line(&format!("  signed:    {} (log)", signed.join(", ")));
    }
    for w in document["witnesses"].as_array().into_iter().flatten() {
        let text = |name: &str| w[name].as_str().unwrap_or_default().to_owned();
        let kind = if w["local"].as_bool() == Some(true) {
            "local"
        } else {
            "outside"
        };
        output::line(&format!(
            "  witness:   {} of {} ({kind}), {}",
            text("name"),
            text("operator"),
            text("time")
        ));
    }
    for it in document["anchors"].as_array().into_iter().flatten() {
        let later = if it["later"].as_bool() == Some(true) {
            format!(" (a later checkpoint, {} leaves)", it["size"])
        } else {
            String::new()
        };
        output::line(&format!(
            "  anchored:  by {}, {}{later}",
            it["tsa"].as_str().unwrap_or_default(),
            it["time"].as_str().unwrap_or_default()
        ));
    }
    output::line(&format!(
        "  trust:     bundle version {} of {}",
        document["trust_version"],
        document["trust_issued"].as_str().unwrap_or("-")
    ));
}

fn offline(
    cli: &Cli,
    args: &Verify,
    file: &Path,
    (seal, held): (&[u8], Option<&[u8]>),
    digest: [u8; 32],
) -> Result<Value, Failure> {
    let bundle = bundle(cli, args, file)?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let dated = match held {
        Some(held) => export::verified(held, args.tsa_root.as_deref(), &bundle)?,
        None => Vec::new(),
    };
    let answer = verdict::verify_anchored(seal, Some(digest), &bundle, &dated, now_ms);
    let mut document = from_answer(&answer);
    document["anchors"] = Value::Array(own_anchors(seal, &dated));
    Ok(document)
}

/// Those that date the seal's checkpoint: it was stamped, or a later one that contains it. The earliest first, which is the one that counts.
fn own_anchors(seal: &[u8], dated: &[VerifiedAnchor]) -> Vec<Value> {
    let Ok(seal) = SealFile::parse(seal) else {
        return Vec::new();
    };
    let own = seal.checkpoint().ok().map(|it| it.size);
    let told = |it: &VerifiedAnchor| {
        let size = it.size_over(&seal.note)?;
        let time = jiff::Timestamp::from_millisecond(it.time_ms);
        let told = json!({ "tsa": it.tsa, "time": time.map(|time| time.to_string()).ok(), "size": size, "later": own != Some(size) });
        Some((it.time_ms, told))
    };
    let mut told: Vec<_> = dated.iter().filter_map(told).collect();
    told.sort_by_key(|(time_ms, _)| *time_ms);
    told.into_iter().map(|(_, told)| told).collect()
}

/// The trust bundle that the command names, with the verifier's limit on its age.
pub(super) fn bundle(cli: &Cli, args: &Verify, file: &Path) -> Result<VerifiedBundle, Failure> {
    let bytes = trust::read_limited(file, trust::MAX_BUNDLE)?;
    let anchors = args.roots.as_deref().map(read_roots).transpose()?;
    let bundle = trust_seen::open(&bytes, &cli.data, anchors.as_ref())?;
    Ok(match args.max_age {
        Some(age) => bundle.with_max_age_s(age.as_secs()),
        None => bundle,
    })
}

/// What the command tells of an offline verdict.
pub(super) fn from_answer(answer: &Verification) -> Value {
    json!({
        "verdict": answer.verdict.as_str(), "reason": answer.reason, "origin": answer.origin, "index": answer.index,
        "sealed_at": answer.sealed_at, "signed": answer.signed, "witnesses": answer.witnesses,
        "trust_version": answer.bundle_version, "trust_issued": answer.bundle_issued,
    })
}

async fn online(
    cli: &Cli,
    (seal, anchors): (Vec<u8>, Option<Vec<u8>>),
    digest: [u8; 32],
) -> Result<Value, Failure> {
    let request = VerifyRequest {
        seal: seal.into(),
        digest: digest.to_vec().into(),
        anchors: anchors.unwrap_or_default().into(),
    };
    let answer = client(cli)?
        .verification()
        .await?
        .verify(request)
        .await?
        .into_inner();
    Ok(from_response(answer))
}

/// What the command tells of the server's verdict.
pub(super) fn from_response(answer: VerifyResponse) -> Value {
    let or_none = |text: String| {
        if text.is_empty() {
            Value::Null
        } else {
            Value::String(text)
        }
    };
    let has_place = !answer.origin.is_empty();
    json!({
        "verdict": answer.verdict, "reason": answer.reason, "origin": or_none(answer.origin),
        "index": if has_place { json!(answer.index) } else { Value::Null },
        "sealed_at": or_none(answer.sealed_at), "signed": answer.signed,
        "witnesses": answer.witnesses.iter().map(|w| json!({ "name": w.name, "operator": w.operator, "time": w.time, "local": w.local })).collect::<Vec<_>>(),
        "trust_version": answer.trust_version, "trust_issued": answer.trust_issued,
        "anchors": answer.anchors.iter().map(|it| json!({ "tsa": it.tsa, "time": it.time, "size": it.size, "later": it.later })).collect::<Vec<_>>(),
    })
}

/// Root keys of a file, all of which must have signed.
pub(super) fn read_roots(path: &Path) -> Result<Roots, Failure> {
    let bytes = trust::read_limited(path, 64 * 1024)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::usage(format!(
            "{} is not a list of SSH public keys",
            path.display()
        ))
    })?;
    let keys: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let roots = Roots {
        threshold: u32::try_from(keys.len()).unwrap_or(u32::MAX),
        keys,
    };
    roots
        .validate()
        .map_err(|e| Failure::usage(format!("{}: {e}", path.display())))?;
    Ok(roots)
}

fn seal_path(args: &Verify, file: &Path) -> Result<PathBuf, Failure> {
    match &args.seal {
        Some(path) => Ok(path.clone()),
        None if file.as_os_str() == "-" => Err(Failure::usage(
            "standard input has no seal beside it; name one with --seal",
        )),
        None => Ok(beside(file)),
    }
}

/// `FILE.seal`
pub(crate) fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".seal");
    PathBuf::from(name)
}

/// Reads a seal, and one byte more than a seal may have, so that the verdict can say that it is too large.
pub(super) fn read_seal(path: &Path) -> Result<Vec<u8>, Failure> {
    let usage = |e: io::Error| {
        Failure::usage(format!(
            "cannot read the seal {}: {e}; name it with --seal, or seal the file with `sealwarden seal`",
            path.display()
        ))
    };
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_SEAL_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    File::open(path)
        .map_err(usage)?
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(usage)?;
    Ok(bytes)
}

/// SHA-256 of a file, or of standard input for `-`, read in pieces.
pub(crate) fn digest_of(path: &Path) -> Result<[u8; 32], Failure> {
    let hashed = if path.as_os_str() == "-" {
        hash(io::stdin().lock())
    } else {
        File::open(path).and_then(|file| {
            if file.metadata()?.is_dir() {
                return Err(io::Error::other("it is a folder; name files"));
            }
            hash(file)
        })
    };
    hashed.map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))
}

fn hash(mut input: impl Read) -> io::Result<[u8; 32]> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => context.update(buffer.get(..count).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(digest)
}
