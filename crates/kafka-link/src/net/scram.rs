//! The client's side of SCRAM (RFC 5802, RFC 7677): pure, bytes in and bytes out. No channel
//! binding, as Kafka has none.
//!
//! Names and passwords are taken as the UTF-8 they are, as Kafka and its own clients take them:
//! SASLprep would change no ASCII, and beyond that another password than the broker's.

use std::num::NonZeroU32;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ring::{digest, hmac, pbkdf2};

/// Fewer make a stolen exchange easy to search (RFC 7677, section 4; Kafka allows no fewer).
const ITERATIONS_MIN: u32 = 4_096;
/// More keep our processor busy for a second.
const ITERATIONS_MAX: u32 = 600_000;
/// Of a server's message.
const MESSAGE_BYTES_MAX: usize = 4_096;
/// `n,,`: no channel binding, no other identity; and the same in base64.
const GS2_HEADER: &str = "n,,";
const GS2_HEADER_BASE64: &str = "biws";

#[derive(Clone, Copy, Debug)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// The first message has been made.
pub(super) struct Begun {
    hash: Hash,
    first_bare: String,
    nonce: String,
}

/// What the server's last message must prove.
pub(super) struct Proof {
    server_key: hmac::Key,
    signed: String,
}

impl Begun {
    /// `nonce`: printable ASCII without commas, never used before.
    pub(super) fn new(hash: Hash, username: &str, nonce: String) -> Self {
        let name = username.replace('=', "=3D").replace(',', "=2C");
        Self {
            hash,
            first_bare: format!("n={name},r={nonce}"),
            nonce,
        }
    }

    pub(super) fn first_message(&self) -> String {
        format!("{GS2_HEADER}{}", self.first_bare)
    }

    /// The answer to the server's first message. Takes as long as the server's iterations do.
    ///
    /// # Errors
    /// What is wrong with that message; nothing is sent then.
    pub(super) fn answer(self, password: &str, message: &[u8]) -> Result<(String, Proof), String> {
        let server = ServerFirst::parse(message, &self.nonce)?;
        let algorithm = self.hash.hmac();
        let mut salted = vec![0; algorithm.digest_algorithm().output_len()];
        let salt = &server.salt;
        pbkdf2::derive(
            self.hash.pbkdf2(),
            server.iterations,
            salt,
            password.as_bytes(),
            &mut salted,
        );
        let salted = hmac::Key::new(algorithm, &salted);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(algorithm.digest_algorithm(), client_key.as_ref());
        let without_proof = format!("c={GS2_HEADER_BASE64},r={}", server.nonce);
        let signed = format!("{},{},{without_proof}", self.first_bare, server.message);
        let signature = hmac::sign(
            &hmac::Key::new(algorithm, stored_key.as_ref()),
            signed.as_bytes(),
        );
        let pairs = client_key.as_ref().iter().zip(signature.as_ref());
        let proof: Vec<u8> = pairs.map(|(key, signature)| key ^ signature).collect();
        let server_key = hmac::sign(&salted, b"Server Key");
        let proof = format!("{without_proof},p={}", BASE64.encode(proof));
        let expected = Proof {
            server_key: hmac::Key::new(algorithm, server_key.as_ref()),
            signed,
        };
        Ok((proof, expected))
    }
}

impl Proof {
    /// Whether the server knows the password, too.
    ///
    /// # Errors
    /// Where it does not, or refuses us.
    pub(super) fn check(&self, message: &[u8]) -> Result<(), String> {
        let message = text(message)?;
        // What follows a comma are extensions, which change nothing.
        let value = message.split(',').next().unwrap_or_default();
        if let Some(why) = value.strip_prefix("e=") {
            return Err(format!("it says `{}`", why.escape_debug()));
        }
        let signature = value
            .strip_prefix("v=")
            .and_then(|signature| BASE64.decode(signature).ok())
            .ok_or("its last message has no signature")?;
        hmac::verify(&self.server_key, self.signed.as_bytes(), &signature).map_err(|_| {
            "its signature is wrong: it does not know the password, so it is not the broker it \
             claims to be"
                .to_owned()
        })
    }
}

struct ServerFirst<'a> {
    message: &'a str,
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl<'a> ServerFirst<'a> {
    fn parse(message: &'a [u8], ours: &str) -> Result<Self, String> {
        let message = text(message)?;
        let mut fields = message.split(',');
        let mut field = |name: &str| {
            let field = fields.next().and_then(|field| field.strip_prefix(name));
            // An extension in the first place (`m=`) is one that must be understood.
            field.ok_or_else(|| format!("its first message has no `{name}` where it belongs"))
        };
        let (nonce, salt, iterations) = (field("r=")?, field("s=")?, field("i=")?);
        let theirs = nonce.strip_prefix(ours).unwrap_or_default();
        if theirs.is_empty() {
            return Err("its nonce does not go on from ours".to_owned());
        }
        let salt = BASE64.decode(salt).ok().filter(|salt| !salt.is_empty());
        let iterations = iterations
            .parse()
            .ok()
            .filter(|count| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(count))
            .and_then(NonZeroU32::new)
            .ok_or_else(|| {
                format!(
                    "it asks for `{}` iterations, allowed are {ITERATIONS_MIN} to \
                     {ITERATIONS_MAX}",
                    iterations.escape_debug()
                )
            })?;
        Ok(Self {
            message,
            nonce,
            salt: salt.ok_or("its salt is none")?,
            iterations,
        })
    }
}

fn text(message: &[u8]) -> Result<&str, String> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(format!("a message of {} bytes came", message.len()));
    }
    std::str::from_utf8(message).map_err(|_| "a message came that is no text".to_owned())
}

#[cfg(test)]
mod tests;
