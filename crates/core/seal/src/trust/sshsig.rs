//! SSHSIG (OpenSSH's PROTOCOL.sshsig): one strict spelling, and the user-presence flag enforced.

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, LineEnding, PublicKey, SshSig};

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "\n-----END SSH SIGNATURE-----\n";
const MAX_ARMORED_BYTES: usize = 16 * 1024;
/// Armor lines are this wide where OpenSSH writes them; other writers use 64 or 76.
const LINE_WIDTHS: [usize; 3] = [70, 64, 76];
/// FIDO: the person touched the key.
const USER_PRESENT: u8 = 0x01;

/// Reads an armored signature whose armor and contents have no other spelling; the error says what is wrong.
pub(super) fn decode(armored: &str) -> Result<SshSig, String> {
    let body = armored
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END))
        .filter(|_| armored.len() <= MAX_ARMORED_BYTES)
        .ok_or("it is not an armored SSH signature")?;
    let packed: String = body.split('\n').collect();
    if !LINE_WIDTHS
        .iter()
        .any(|width| wrap(&packed, *width) == body)
    {
        return Err("its armor is wrapped in an unusual way".to_owned());
    }
    let unreadable = |error: ssh_key::Error| format!("it cannot be read ({error})");
    let usual = format!("{BEGIN}{}{END}", wrap(&packed, LINE_WIDTHS[0]));
    let signature = SshSig::from_pem(&usual).map_err(unreadable)?;
    // Writing it again must give the same bytes: nothing in it may be altered unnoticed.
    if signature
        .to_pem(LineEnding::LF)
        .map_err(unreadable)?
        .trim_end()
        != usual.trim_end()
    {
        return Err("it is not in its canonical encoding".to_owned());
    }
    Ok(signature)
}

fn wrap(packed: &str, width: usize) -> String {
    let mut wrapped = String::with_capacity(packed.len() + packed.len() / width);
    for (place, letter) in packed.chars().enumerate() {
        if place != 0 && place % width == 0 {
            wrapped.push('\n');
        }
        wrapped.push(letter);
    }
    wrapped
}

/// Verifies an armored signature under the key that it names, and gives that key back.
pub(crate) fn verify(armored: &str, namespace: &str, message: &[u8]) -> Result<KeyData, String> {
    let signature = decode(armored)?;
    if signature.version() != SshSig::VERSION || !signature.reserved().is_empty() {
        return Err("it has an unknown version or reserved data".to_owned());
    }
    if signature.namespace() != namespace {
        return Err(format!(
            "it was made for the namespace {:?}, {namespace:?} is wanted",
            signature.namespace()
        ));
    }
    let key = signature.public_key().clone();
    check_algorithm(&key)?;
    check_presence(&key, signature.signature_bytes())?;
    PublicKey::new(key.clone(), "")
        .verify(namespace, message, &signature)
        .map_err(|_| "it does not verify".to_owned())?;
    Ok(key)
}

/// Only Ed25519, Ed25519 on a security key and ECDSA P-256.
pub(super) fn check_algorithm(key: &KeyData) -> Result<(), String> {
    let algorithm = key.algorithm();
    let p256 = Algorithm::Ecdsa {
        curve: ssh_key::EcdsaCurve::NistP256,
    };
    if [Algorithm::Ed25519, Algorithm::SkEd25519, p256].contains(&algorithm) {
        return Ok(());
    }
    Err(format!(
        "{algorithm} keys are not accepted; use ssh-ed25519, sk-ssh-ed25519 or P-256"
    ))
}

/// A security key's signature ends in u8 flags and u32 counter.
fn check_presence(key: &KeyData, signature: &[u8]) -> Result<(), String> {
    if key.algorithm() != Algorithm::SkEd25519 {
        return Ok(());
    }
    match signature.last_chunk::<5>() {
        Some([flags, ..]) if flags & USER_PRESENT != 0 => Ok(()),
        Some(_) | None => Err("nobody touched the security key; sign with touch required".into()),
    }
}
