//! Passwords: made, hashed, and checked without stopping the box.
//!
//! argon2id is meant to be slow and large: about 30 ms and 12 MiB each (OWASP's second choice of
//! parameters). A thousand logins at once would otherwise take the whole machine, so hashing runs
//! off the async threads, on half of the cores at most, and only so many may wait for it.
//!
//! **Invariant:** checking takes the same time whether the user exists or not.

use std::num::NonZero;
use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use racknest_types::fault::{Fault, FaultCode};
use tokio::sync::Semaphore;

/// Logins that may wait for their turn: 30 s of work for one core.
const WAITING_MAX: usize = 1000;

/// The longest password, so that nobody sends a novel to be hashed.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// The shortest password of a user.
pub const PASSWORD_BYTES_MIN: usize = 8;

/// Letters and digits that look like no other: 57 of them, 5.8 bits each.
const ALPHABET: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";

/// 16 characters: 93 bits.
const GENERATED_LENGTH: usize = 16;

/// Hashes and checks passwords, a few at a time.
#[derive(Clone, Debug)]
pub struct Passwords {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    params: Params,
    /// Checked when there is no such user, to take the same time.
    nobody: Arc<str>,
}

impl Passwords {
    /// With parameters for real passwords.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn new() -> Result<Self, Fault> {
        Self::with_params(Params::new(12 * 1024, 3, 1, None).expect("within argon2's bounds"))
    }

    fn with_params(params: Params) -> Result<Self, Fault> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let nobody = hash_now(&params, &generate()?)?.into();
        Ok(Self {
            running: Arc::new(Semaphore::new(cores.div_ceil(2))),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            params,
            nobody,
        })
    }

    /// Without the cost: for tests of what is around it.
    #[cfg(test)]
    pub(crate) fn cheap() -> Self {
        Self::with_params(Params::new(8, 1, 1, None).unwrap()).unwrap()
    }

    /// The hash of a new password, in the PHC string format.
    ///
    /// # Errors
    /// The password is too short or too long, or too many others are being hashed.
    pub async fn hash(&self, password: &str) -> Result<String, Fault> {
        check_length(password)?;
        let (params, password) = (self.params.clone(), password.to_owned());
        self.slowly(move || hash_now(&params, &password)).await?
    }

    /// Whether this is the password of that hash. `None` is a user that does not exist: the answer
    /// is no, after the same time.
    ///
    /// # Errors
    /// Too many others are being checked.
    pub async fn verify(&self, hash: Option<String>, password: &str) -> Result<bool, Fault> {
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| String::from(&*self.nobody));
        let password = password.to_owned();
        let fits = self
            .slowly(move || {
                PasswordHash::new(&hash).is_ok_and(|hash| {
                    // The parameters stand in the hash: older, cheaper ones still verify.
                    Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
                })
            })
            .await?;
        Ok(exists && fits)
    }

    async fn slowly<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!("{WAITING_MAX} logins are waiting already; try again in a minute"),
            ));
        };
        let _running = self.running.acquire().await.expect("the semaphore is never closed");
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Fault::system(format!("checking the password failed: {error}")))
    }
}

fn check_length(password: &str) -> Result<(), Fault> {
    if password.len() < PASSWORD_BYTES_MIN {
        return Err(Fault::invalid(format!(
            "the password is too short; use at least {PASSWORD_BYTES_MIN} characters"
        )));
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(Fault::invalid(format!(
            "the password is too long; use at most {PASSWORD_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

fn hash_now(params: &Params, password: &str) -> Result<String, Fault> {
    let mut salt = [0; 16];
    random(&mut salt)?;
    let salt = SaltString::encode_b64(&salt).expect("16 bytes are a salt");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| Fault::system(format!("cannot hash the password: {error}")))
}

/// A new password for people to copy.
///
/// # Errors
/// The system gives no randomness.
pub fn generate() -> Result<String, Fault> {
    let mut password = String::with_capacity(GENERATED_LENGTH);
    while password.len() < GENERATED_LENGTH {
        let mut bytes = [0; 32];
        random(&mut bytes)?;
        // Bytes above the last whole multiple of the alphabet are dropped: no letter is likelier.
        let usable = 256 / ALPHABET.len() * ALPHABET.len();
        for byte in bytes.map(usize::from).into_iter().filter(|byte| *byte < usable) {
            if password.len() < GENERATED_LENGTH {
                password.push(char::from(ALPHABET[byte % ALPHABET.len()]));
            }
        }
    }
    Ok(password)
}

/// Randomness that nobody can guess.
pub(super) fn random(bytes: &mut [u8]) -> Result<(), Fault> {
    getrandom::fill(bytes)
        .map_err(|error| Fault::system(format!("the system gives no randomness: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::cheap();
        let hash = passwords.hash("correct horse").await.unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(passwords.verify(Some(hash.clone()), "correct horse").await.unwrap());
        assert!(!passwords.verify(Some(hash), "battery staple").await.unwrap());
        assert!(!passwords.verify(None, "correct horse").await.unwrap());
        assert!(!passwords.verify(Some("rubbish".into()), "correct horse").await.unwrap());
    }

    #[tokio::test]
    async fn a_password_of_the_wrong_length_is_refused() {
        let passwords = Passwords::cheap();
        let error = passwords.hash("short").await.expect_err("too short");
        assert_eq!(error.code, FaultCode::InvalidArgument);
        passwords.hash(&"x".repeat(PASSWORD_BYTES_MAX + 1)).await.expect_err("too long");
    }

    #[tokio::test]
    async fn a_flood_of_logins_is_refused_in_one_line() {
        let passwords = Passwords::cheap();
        let _all = passwords.waiting.acquire_many(1000).await.unwrap();
        let error = passwords.verify(None, "x").await.expect_err("nobody may wait any more");
        assert!(error.message.contains("try again"), "{error}");
    }

    #[test]
    fn generated_passwords_differ_and_can_be_typed() {
        let (one, two) = (generate().unwrap(), generate().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), GENERATED_LENGTH);
        assert!(one.bytes().all(|byte| ALPHABET.contains(&byte)), "{one}");
    }
}
