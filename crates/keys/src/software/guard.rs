//! What opens a folder of keys.
//!
//! wrapping key = HKDF-SHA256(salt, secret), where the secret is the content of a generated guard file, or
//! PBKDF2-HMAC-SHA256(passphrase, salt). The salt, and a check value that tells a wrong guard from a damaged key file,
//! stand in `guard-check.json`.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use ring::{
    hkdf, pbkdf2,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::no_randomness;
use crate::{
    error::KeyError,
    private_files::{self, PRIVATE_FILE},
};

/// PBKDF2 rounds for a new folder (OWASP's figure for HMAC-SHA256, 2023).
const ITERATIONS: u32 = 600_000;
/// Rounds above this are damage, and would only hang the start.
const MAX_ITERATIONS: u32 = 20_000_000;
/// The shortest passphrase accepted for a new folder, in bytes.
const MIN_PASSPHRASE: usize = 12;
/// Guard and passphrase files are short.
const MAX_BYTES: u64 = 4096;
/// What the wrapping key is derived for.
const WRAP_INFO: &[u8] = b"sealwarden/keys/wrap/v1";
/// What the check value is derived for.
const CHECK_INFO: &[u8] = b"sealwarden/keys/check/v1";

/// The secret that key files are sealed under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard {
    /// A file of 32 random bytes in hexadecimal, made with mode 0600 on first use. Keep it on another disk than the keys.
    File(PathBuf),
    /// A file with a passphrase of at least 12 bytes, mode 0600; a line end after it does not count.
    PassphraseFile(PathBuf),
}

impl Guard {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::PassphraseFile(path) => path,
        }
    }

    fn kind(&self) -> GuardKind {
        match self {
            Self::File(_) => GuardKind::File,
            Self::PassphraseFile(_) => GuardKind::Passphrase,
        }
    }
}

/// The key that seeds are sealed under. Lives as long as the provider.
#[derive(Zeroize)]
#[zeroize(drop)]
pub(super) struct WrappingKey([u8; 32]);

impl WrappingKey {
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum GuardKind {
    File,
    Passphrase,
}

/// The content of `guard-check.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GuardRecord {
    version: u8,
    guard: GuardKind,
    #[serde(with = "hex::serde")]
    salt: [u8; 32],
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pbkdf2_iterations: Option<NonZeroU32>,
    #[serde(with = "hex::serde")]
    check: [u8; 32],
}

fn check_path(dir: &Path) -> PathBuf {
    dir.join("guard-check.json")
}

/// Whether the folder has been used before.
pub(super) fn check_exists(dir: &Path) -> bool {
    check_path(dir).exists()
}

/// The error for keys without their `guard-check.json`.
pub(super) fn check_is_missing(dir: &Path) -> KeyError {
    KeyError::Corrupt {
        what: check_path(dir).display().to_string(),
        reason: "the file is missing, and the key files beside it cannot be opened without it"
            .into(),
    }
}

/// Derives the wrapping key of `dir` and checks that `guard` is the one the folder was made with. Call it with the
/// folder's lock held.
pub(super) fn open(dir: &Path, guard: &Guard) -> Result<WrappingKey, KeyError> {
    let path = check_path(dir);
    match private_files::read_private(&path, MAX_BYTES) {
        Ok(bytes) => open_existing(dir, guard, &bytes),
        Err(error) if error.is_not_found() => open_new(dir, guard),
        Err(error) => Err(error.into()),
    }
}

fn open_existing(dir: &Path, guard: &Guard, bytes: &[u8]) -> Result<WrappingKey, KeyError> {
    let corrupt = |reason: String| KeyError::Corrupt {
        what: check_path(dir).display().to_string(),
        reason,
    };
    let wrong = |reason: &str| KeyError::WrongGuard {
        guard: guard.path().display().to_string(),
        dir: dir.display().to_string(),
        reason: reason.to_owned(),
    };
    let check: GuardRecord =
        serde_json::from_slice(bytes).map_err(|error| corrupt(error.to_string()))?;
    if check.version != 1 {
        return Err(corrupt(format!(
            "version {} is not 1, the one this program knows",
            check.version
        )));
    }
    let iterations_fit = match check.guard {
        GuardKind::File => check.pbkdf2_iterations.is_none(),
        GuardKind::Passphrase => check
            .pbkdf2_iterations
            .is_some_and(|rounds| rounds.get() <= MAX_ITERATIONS),
    };
    if !iterations_fit {
        return Err(corrupt("pbkdf2_iterations does not fit the guard".into()));
    }
    if check.guard != guard.kind() {
        return Err(wrong(match check.guard {
            GuardKind::File => "the keys were made with a guard file, not with a passphrase",
            GuardKind::Passphrase => "the keys were made with a passphrase, not with a guard file",
        }));
    }
    let secret = existing_secret(guard)?
        .ok_or_else(|| wrong("the guard file does not exist, though keys were made with one"))?;
    let (wrapping, found) = derive(&secret, &check.salt, check.pbkdf2_iterations)?;
    if found == check.check {
        Ok(wrapping)
    } else {
        Err(wrong(
            "it is another secret than the one they were made with",
        ))
    }
}

fn open_new(dir: &Path, guard: &Guard) -> Result<WrappingKey, KeyError> {
    let secret = match (existing_secret(guard)?, guard) {
        (Some(secret), _) => secret,
        (None, Guard::File(path)) => make_guard_file(path)?,
        (None, Guard::PassphraseFile(path)) => {
            return Err(KeyError::Unsafe {
                reason: format!(
                    "the passphrase file {} does not exist: write one with mode 0600",
                    path.display()
                ),
            });
        }
    };
    let mut salt = [0_u8; 32];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| no_randomness())?;
    let pbkdf2_iterations = match guard.kind() {
        GuardKind::File => None,
        GuardKind::Passphrase => NonZeroU32::new(ITERATIONS),
    };
    let (wrapping, check) = derive(&secret, &salt, pbkdf2_iterations)?;
    let content = serde_json::to_vec_pretty(&GuardRecord {
        version: 1,
        guard: guard.kind(),
        salt,
        pbkdf2_iterations,
        check,
    })
    .map_err(|error| KeyError::Unavailable {
        reason: format!("cannot write guard-check.json: {error}"),
    })?;
    private_files::replace(&check_path(dir), &content, PRIVATE_FILE)?;
    Ok(wrapping)
}

/// Reads the guard's secret; `None` if its file is not there.
fn existing_secret(guard: &Guard) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
    let path = guard.path();
    let unsafe_guard = |reason: String| KeyError::Unsafe { reason };
    let bytes = match private_files::read_private(path, MAX_BYTES) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    match guard {
        Guard::File(_) => {
            let mut secret = Zeroizing::new(vec![0_u8; 32]);
            hex::decode_to_slice(text, &mut secret).map_err(|_| {
                unsafe_guard(format!(
                    "{} is not a guard file: it does not hold 64 hexadecimal digits; name a file that does not exist, and it will be made",
                    path.display()
                ))
            })?;
            Ok(Some(secret))
        }
        Guard::PassphraseFile(_) => {
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.len() < MIN_PASSPHRASE {
                return Err(unsafe_guard(format!(
                    "the passphrase in {} has {} bytes: use at least {MIN_PASSPHRASE}",
                    path.display(),
                    text.len()
                )));
            }
            Ok(Some(Zeroizing::new(text.to_vec())))
        }
    }
}

/// Makes the guard file, or reads the one that another process made meanwhile.
fn make_guard_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let mut secret = Zeroizing::new(vec![0_u8; 32]);
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| no_randomness())?;
    let mut text = Zeroizing::new(hex::encode(&*secret));
    text.push('\n');
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        private_files::private_dir(parent)?;
    }
    if private_files::create(path, text.as_bytes(), PRIVATE_FILE)? {
        return Ok(secret);
    }
    existing_secret(&Guard::File(path.to_owned()))?.ok_or_else(|| KeyError::Unavailable {
        reason: format!(
            "the guard file {} vanished while it was made",
            path.display()
        ),
    })
}

/// The length that HKDF is asked for.
struct Len32;

impl hkdf::KeyType for Len32 {
    fn len(&self) -> usize {
        32
    }
}

fn derive(
    secret: &[u8],
    salt: &[u8; 32],
    pbkdf2_iterations: Option<NonZeroU32>,
) -> Result<(WrappingKey, [u8; 32]), KeyError> {
    let mut stretched = Zeroizing::new([0_u8; 32]);
    let input = if let Some(rounds) = pbkdf2_iterations {
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            rounds,
            salt,
            secret,
            stretched.as_mut(),
        );
        stretched.as_slice()
    } else {
        secret
    };
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(input);
    let expand = |info: &[u8], out: &mut [u8; 32]| {
        prk.expand(&[info], Len32)
            .and_then(|okm| okm.fill(out))
            .map_err(|_| KeyError::Unavailable {
                reason: "the wrapping key could not be derived".to_owned(),
            })
    };
    let mut wrapping = WrappingKey([0_u8; 32]);
    let mut check = [0_u8; 32];
    expand(WRAP_INFO, &mut wrapping.0)?;
    expand(CHECK_INFO, &mut check)?;
    Ok((wrapping, check))
}
