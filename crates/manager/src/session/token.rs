//! Tokens: what a client sends instead of its password, and the only thing kept of it.
//!
//! A token is 256 random bits. Because nobody can guess it, one round of SHA-256 is enough to keep
//! it: who reads the store or the memory learns nothing to log in with. Looking a token up by its
//! hash also needs no comparison in constant time: an attacker cannot choose hashes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use racknest_types::fault::Fault;
use sha2::{Digest as _, Sha256};

use super::password::random;

/// What every token begins with, so that a leaked one is recognised as what it is.
const PREFIX: &str = "rnt_";

/// A secret that stands for a login. It is shown once, to the one who logged in.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self, Fault> {
        let mut bytes = [0; 32];
        random(&mut bytes)?;
        Ok(Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The secret itself, to hand to its owner.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What may be kept of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

/// The SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of what a client sent.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    pub(super) fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(super) fn from_text(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_and_do_not_print_themselves() {
        let (one, two) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert_ne!(one, two);
        assert_eq!(format!("{one:?}"), "Token(secret)");
        assert!(one.reveal().starts_with("rnt_"));
    }

    #[test]
    fn a_hash_is_read_back_as_it_is_written() {
        let hash = Token::generate().unwrap().hash();
        assert_eq!(TokenHash::from_text(&hash.to_text()), Some(hash));
        assert_eq!(TokenHash::from_text("rubbish"), None);
    }
}
