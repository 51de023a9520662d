//! A FIDO key in software, as tests need it: it signs like a security key of OpenSSH, touched or not, and counts as it is told.
//!
//! Formats: OpenSSH `PROTOCOL.u2f` (what is signed), `PROTOCOL.sshsig` (the envelope). Put together by hand, so that nothing of the product judges itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, SHA512, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};

/// The flag "user present".
pub const TOUCHED: u8 = 1;

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

/// A FIDO key for SSH.
pub struct FidoKey {
    pair: Pair,
    /// What it was made for; keys of `ssh-keygen` say `ssh:`.
    pub application: String,
}

impl FidoKey {
    /// An `sk-ssh-ed25519` key.
    pub fn ed25519() -> Self {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("an Ed25519 key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("the key just made");
        Self::new(Pair::Ed25519(pair))
    }

    /// An `sk-ecdsa-sha2-nistp256` key.
    pub fn p256() -> Self {
        let (kind, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a P-256 key");
        let pair = EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random);
        Self::new(Pair::P256(pair.expect("the key just made")))
    }

    fn new(pair: Pair) -> Self {
        Self {
            pair,
            application: "ssh:".to_owned(),
        }
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Ed25519(_) => "sk-ssh-ed25519@openssh.com",
            Pair::P256(_) => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    fn public(&self) -> Vec<u8> {
        let mut blob = string(self.algorithm().as_bytes());
        match &self.pair {
            Pair::Ed25519(pair) => blob.extend(string(pair.public_key().as_ref())),
            Pair::P256(pair) => {
                blob.extend(string(b"nistp256"));
                blob.extend(string(pair.public_key().as_ref()));
            }
        }
        blob.extend(string(self.application.as_bytes()));
        blob
    }

    /// The line of its `.pub` file.
    pub fn line(&self) -> String {
        format!("{} {}", self.algorithm(), STANDARD.encode(self.public()))
    }

    /// An armored signature over `text`, with these flags and this count.
    pub fn sign(&self, text: &str, namespace: &str, flags: u8, counter: u32) -> String {
        let parts = [string(namespace.as_bytes()), string(b""), string(b"sha512")].concat();
        let hash = string(digest(&SHA512, text.as_bytes()).as_ref());
        let message = [b"SSHSIG".to_vec(), parts.clone(), hash].concat();
        let trailer = [vec![flags], counter.to_be_bytes().to_vec()].concat();
        let signed = [
            digest(&SHA256, self.application.as_bytes()).as_ref(),
            &trailer,
            digest(&SHA256, &message).as_ref(),
        ]
        .concat();
        let raw = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(&signed).as_ref().to_vec(),
            Pair::P256(pair) => {
                let both = pair
                    .sign(&SystemRandom::new(), &signed)
                    .expect("a signature");
                let (r, s) = both.as_ref().split_at(32);
                [mpint(r), mpint(s)].concat()
            }
        };
        let signature = [string(self.algorithm().as_bytes()), string(&raw), trailer].concat();
        let blob = [
            b"SSHSIG\0\0\0\x01".to_vec(),
            string(&self.public()),
            parts,
            string(&signature),
        ]
        .concat();
        let mut armored = String::from("-----BEGIN SSH SIGNATURE-----\n");
        for line in STANDARD.encode(blob).as_bytes().chunks(70) {
            armored.push_str(&String::from_utf8_lossy(line));
            armored.push('\n');
        }
        armored + "-----END SSH SIGNATURE-----\n"
    }
}

/// RFC 4251's `string`.
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a short string");
    [&length.to_be_bytes(), bytes].concat()
}

/// RFC 4251's `mpint` of a positive number.
fn mpint(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let mut bytes = number[zeros..].to_vec();
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        bytes.insert(0, 0);
    }
    string(&bytes)
}
