//! What goes through the pipes between the provider and its worker process.
//!
//! A frame is a 4-byte big-endian length and that many bytes, at most [`MAX_FRAME`]. First the provider sends a
//! [`Hello`] (JSON) and the PIN (a frame of its own, raw, so that no JSON parser makes copies of it); the worker
//! answers with [`Answer`] 0. Then one [`Call`] at a time is answered by one [`Answer`] with the same id.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::problem::TokenProblem;

/// Both ends are the same binary, except while it is being replaced.
pub(super) const VERSION: u32 = 3;
/// The longest content of a frame, in bytes.
pub(super) const MAX_FRAME: u32 = 256 * 1024;
/// The longest message that a token is asked to sign, in bytes: in hexadecimal it fits a frame.
pub(super) const MAX_MESSAGE: usize = 64 * 1024;

/// The first frame.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    /// [`VERSION`].
    pub(super) protocol: u32,
    /// The module to load.
    pub(super) module: PathBuf,
    /// The label of the token to use.
    pub(super) token: String,
}

/// How a key is found on the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyObject {
    /// `CKA_ID`: random, so that several installations can share a token.
    #[serde(with = "hex::serde")]
    pub(super) cka_id: [u8; 16],
    /// `CKA_LABEL`: for people with the vendor's tool, and checked as well.
    pub(super) label: String,
}

/// What the token is asked to do. Everything may be asked twice: the first answer may have been lost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Work {
    /// Make the key pair, or find the one that an earlier try made.
    Make(KeyObject),
    /// Sign with the key.
    Sign {
        /// The key.
        key: KeyObject,
        /// The message.
        #[serde(with = "hex::serde")]
        message: Vec<u8>,
    },
    /// Take the right to sign away from the key (`CKA_SIGN`).
    Forbid(KeyObject),
    /// Give it back.
    Permit(KeyObject),
    /// Remove the key's objects.
    Destroy(KeyObject),
    /// Find a certificate that vouches for the key.
    Vouch {
        /// The key.
        key: KeyObject,
        /// Its public part, which the certificate has to name.
        #[serde(with = "hex::serde")]
        public_key: [u8; 32],
    },
    /// See whether the token holds the key under another name, too.
    Alone {
        /// The key.
        key: KeyObject,
        /// Its public part.
        #[serde(with = "hex::serde")]
        public_key: [u8; 32],
    },
    /// See whether token and session are there. Uses no key.
    Look,
}

/// One request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    /// From 1.
    pub(super) id: u64,
    /// What to do.
    pub(super) work: Work,
}

/// What a token says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenFacts {
    /// Label.
    pub(super) label: String,
    /// Serial number.
    pub(super) serial: String,
    /// Whether the module says that the slot is hardware (`CKF_HW_SLOT`).
    pub(super) hardware: bool,
}

/// What a token says of a private key and of itself: the module's word, which nobody else vouches for. `None`: it does not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyClaims {
    /// `CKA_LOCAL`: made on the token.
    pub(super) local: Option<bool>,
    /// `CKA_ALWAYS_SENSITIVE`: its value was never readable.
    pub(super) always_sensitive: Option<bool>,
    /// `CKA_NEVER_EXTRACTABLE`: it could never be wrapped and taken out.
    pub(super) never_extractable: Option<bool>,
    /// `CKA_EXTRACTABLE`: it can be taken out now.
    pub(super) extractable: Option<bool>,
    /// The token's serial number.
    pub(super) token_serial: String,
    /// The token's model.
    pub(super) token_model: String,
    /// The token's manufacturer.
    pub(super) token_manufacturer: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Done {
    /// Logged in: the answer to [`Hello`].
    Ready {
        /// [`VERSION`] of the worker.
        protocol: u32,
        /// The token.
        token: TokenFacts,
    },
    /// The key pair is there.
    Made {
        /// The raw Ed25519 public key.
        #[serde(with = "hex::serde")]
        public_key: [u8; 32],
        /// What the token says of the private key.
        claims: Box<KeyClaims>,
    },
    /// Signed.
    Signed {
        /// The signature.
        #[serde(with = "hex::serde")]
        signature: [u8; 64],
    },
    /// The token refuses to sign with the key from now on.
    Forbidden,
    /// The token signs with the key again.
    Permitted,
    /// The key's objects are gone.
    Destroyed,
    /// Token and session are there.
    Seen,
    /// The token holds the key under this name only.
    Alone,
    /// What was found.
    Vouched {
        /// The certificate (X.509, DER) in hexadecimal.
        certificate: Option<String>,
    },
}

/// The answer to one request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Answer {
    /// The request's id; 0 for [`Hello`].
    pub(super) id: u64,
    /// What was done, or why not.
    pub(super) outcome: Result<Done, TokenProblem>,
}

/// A value as the content of a frame.
pub(super) fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::from)
}

/// The value of a frame.
pub(super) fn decode<T: DeserializeOwned>(content: &[u8]) -> io::Result<T> {
    serde_json::from_slice(content).map_err(io::Error::from)
}

fn prefix(content: &[u8]) -> io::Result<[u8; 4]> {
    match u32::try_from(content.len()) {
        Ok(length) if length <= MAX_FRAME => Ok(length.to_be_bytes()),
        Ok(_) | Err(_) => Err(too_long(content.len())),
    }
}

fn room(prefix: [u8; 4]) -> io::Result<Zeroizing<Vec<u8>>> {
    let length = u32::from_be_bytes(prefix);
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(too_long(size));
    }
    Ok(Zeroizing::new(vec![0; size]))
}

fn too_long(length: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a frame of {length} bytes is longer than {MAX_FRAME}"),
    )
}

/// Writes a frame, for the worker.
pub(super) fn write_frame(output: &mut impl Write, content: &[u8]) -> io::Result<()> {
    output.write_all(&prefix(content)?)?;
    output.write_all(content)?;
    output.flush()
}

/// Reads a frame, for the worker; `None` at the end of the input.
pub(super) fn read_frame(input: &mut impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut content = room(length)?;
    input.read_exact(&mut content)?;
    Ok(Some(content))
}

/// Writes a frame, for the provider.
pub(super) async fn send(
    output: &mut (impl AsyncWriteExt + Unpin),
    content: &[u8],
) -> io::Result<()> {
    output.write_all(&prefix(content)?).await?;
    output.write_all(content).await?;
    output.flush().await
}

/// Reads a frame, for the provider.
pub(super) async fn receive(
    input: &mut (impl AsyncReadExt + Unpin),
) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut length = [0; 4];
    input.read_exact(&mut length).await?;
    let mut content = room(length)?;
    input.read_exact(&mut content).await?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_message_fits_a_frame() {
        let call = Call {
            id: u64::MAX,
            work: Work::Sign {
                key: KeyObject {
                    cka_id: [0xff; 16],
                    label: "x".repeat(128),
                },
                message: vec![0xff; MAX_MESSAGE],
            },
        };
        let mut pipe = Vec::new();
        write_frame(&mut pipe, &encode(&call).unwrap()).unwrap();
        let content = read_frame(&mut pipe.as_slice()).unwrap().unwrap();
        let Work::Sign { message, .. } = decode::<Call>(&content).unwrap().work else {
            panic!("another request came out");
        };
        assert_eq!(message.len(), MAX_MESSAGE);
    }

    #[test]
    fn an_over_long_or_cut_frame_is_refused_before_room_is_made_for_it() {
        let mut long: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0];
        assert_eq!(
            read_frame(&mut long).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        let mut cut: &[u8] = &[0, 0, 0, 9, 1, 2];
        assert_eq!(
            read_frame(&mut cut).unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        let mut nothing: &[u8] = &[];
        assert!(read_frame(&mut nothing).unwrap().is_none());
        let too_much = vec![0; usize::try_from(MAX_FRAME).unwrap() + 1];
        write_frame(&mut Vec::new(), &too_much).unwrap_err();
    }

    #[test]
    fn answers_survive_the_pipe_and_strangers_do_not() {
        let answer = Answer {
            id: 7,
            outcome: Err(TokenProblem::PinWrong {
                token: "t".to_owned(),
            }),
        };
        let back: Answer = decode(&encode(&answer).unwrap()).unwrap();
        assert_eq!((back.id, back.outcome), (7, answer.outcome));
        decode::<Answer>(br#"{"id":1,"outcome":{"Ok":"forbidden"},"more":1}"#).unwrap_err();
        decode::<Answer>(br#"{"id":1,"outcome":{"Ok":"forbidden"}}"#).unwrap();
    }
}
