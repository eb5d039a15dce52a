//! The manager's certificate: made at the first start, kept, renewed by itself.
//!
//! A box has no name in the world's DNS, so no public authority signs for it. It is its own: a
//! certificate authority that lives ten years, whose certificate (`ca.pem`) clients are given to
//! trust, and below it the server's certificate, which changes when the names it must carry
//! change or its time runs out. A client that trusts `ca.pem` notices neither.
//!
//! The names and the expiry stand in front of the certificate in its own file, where PEM allows
//! text: reading them back needs no X.509 parser.
//!
//! **Invariant:** a private key is never readable by another user, and never replaced while the
//! certificate made for it is still used.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use racknest_types::time::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::whole_file;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Ten years: clients were told to trust it by hand.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
/// The longest that browsers accept for a server is 398 days.
const SERVER_LIFE: Duration = Duration::from_secs(397 * 24 * 60 * 60);
/// Renewed at a start when less is left.
const SERVER_RENEW: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file could not be read or written.
    #[error("cannot keep the certificate in {directory}")]
    File {
        /// Where the files are.
        directory: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A key file is not a key.
    #[error("{path} is not a private key; restore it, or delete its directory to get new ones")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rcgen::Error,
    },
    /// It could not be signed.
    #[error("cannot make the certificate")]
    Sign(#[source] rcgen::Error),
    /// The files do not fit together.
    #[error("the certificate in {directory} cannot be used; delete the directory to get a new one")]
    Use {
        /// Where the files are.
        directory: PathBuf,
        /// What is wrong with them.
        #[source]
        source: rustls::Error,
    },
    /// A file is not PEM.
    #[error("the certificate in {directory} cannot be read; delete the directory to get a new one")]
    Pem {
        /// Where the files are.
        directory: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
}

/// The TLS configuration of the server, from the files in `directory`; made if they are missing.
///
/// # Errors
/// The files cannot be read or written, or are not what they should be.
pub fn server_config(
    directory: &Path,
    names: &[String],
    now: Timestamp,
) -> Result<Arc<rustls::ServerConfig>, CertificateError> {
    let file = |source| CertificateError::File { directory: directory.to_owned(), source };
    fs_err::create_dir_all(directory).map_err(file)?;
    let authority = Authority::open(directory, now)?;
    let (key, key_is_new) = key_pair(&directory.join("server.key"))?;
    let path = directory.join("server.pem");
    let kept = whole_file::read(&path).map_err(file)?;
    let pem = match kept {
        Some(pem) if !key_is_new && still_good(&pem, names, now) => pem,
        Some(_) | None => {
            let pem = authority.sign(&key, names, now)?;
            whole_file::write(&path, whole_file::PUBLIC, pem.as_bytes()).map_err(file)?;
            pem
        }
    };
    rustls_config(&pem, &key, directory)
}

/// The names a client may know the manager by: this machine's, and the address it listens on.
#[must_use]
pub fn names(hostname: &str, listen: IpAddr) -> Vec<String> {
    let mut names: Vec<String> =
        ["localhost", "127.0.0.1", "::1"].into_iter().map(str::to_owned).collect();
    if !hostname.is_empty() && hostname.is_ascii() {
        names.push(hostname.to_owned());
    }
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    names.sort();
    names.dedup();
    names
}

fn rustls_config(
    pem: &str,
    key: &KeyPair,
    directory: &Path,
) -> Result<Arc<rustls::ServerConfig>, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| CertificateError::Pem { directory: directory.to_owned(), source })?;
    let key = PrivateKeyDer::Pkcs8(key.serialized_der().to_vec().into());
    let bad = |source| CertificateError::Use { directory: directory.to_owned(), source };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(bad)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(bad)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn open(directory: &Path, now: Timestamp) -> Result<Self, CertificateError> {
        let (key, key_is_new) = key_pair(&directory.join("ca.key"))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("racknest certificate authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, now, AUTHORITY_LIFE);
        let path = directory.join("ca.pem");
        if key_is_new || !path.exists() {
            let pem = params.self_signed(&key).map_err(CertificateError::Sign)?.pem();
            whole_file::write(&path, whole_file::PUBLIC, pem.as_bytes()).map_err(|source| {
                CertificateError::File { directory: directory.to_owned(), source }
            })?;
        }
        // The name and the key make the issuer: what else stands in `ca.pem` is not needed.
        Ok(Self { issuer: Issuer::new(params, key) })
    }

    fn sign(
        &self,
        key: &KeyPair,
        names: &[String],
        now: Timestamp,
    ) -> Result<String, CertificateError> {
        let mut params = CertificateParams::new(names).map_err(CertificateError::Sign)?;
        params.distinguished_name = name("racknest manager");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_life(&mut params, now, SERVER_LIFE);
        let certificate = params.signed_by(key, &self.issuer).map_err(CertificateError::Sign)?;
        Ok(format!("{}\n{}", preamble(names, now + SERVER_LIFE), certificate.pem()))
    }
}

fn preamble(names: &[String], expires: Timestamp) -> String {
    format!("racknest names={} expires={}", names.join(","), expires.millis())
}

fn still_good(pem: &str, names: &[String], now: Timestamp) -> bool {
    let Some((kept_names, expires)) = pem
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("racknest names="))
        .and_then(|rest| rest.split_once(" expires="))
    else {
        // Not one of ours: somebody put their own certificate here, and we keep it.
        return true;
    };
    let expires = expires.parse().map_or(Timestamp::EPOCH, Timestamp::from_millis);
    kept_names == names.join(",") && expires.since(now) > SERVER_RENEW
}

/// The key in a file, and whether it was made just now.
fn key_pair(path: &Path) -> Result<(KeyPair, bool), CertificateError> {
    let file = |source| CertificateError::File {
        directory: path.parent().unwrap_or(path).to_owned(),
        source,
    };
    if let Some(pem) = whole_file::read(path).map_err(file)? {
        return KeyPair::from_pem(&pem)
            .map(|key| (key, false))
            .map_err(|source| CertificateError::Key { path: path.to_owned(), source });
    }
    let key = KeyPair::generate().map_err(CertificateError::Sign)?;
    whole_file::write(path, whole_file::SECRET, key.serialize_pem().as_bytes()).map_err(file)?;
    Ok((key, true))
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "racknest");
    name.push(DnType::CommonName, common_name);
    name
}

/// A day of grace at the beginning, for a client whose clock is behind.
fn set_life(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let day = |at: Timestamp| {
        let seconds = i64::try_from(at.millis() / 1000).unwrap_or(i64::MAX);
        let date = jiff::Timestamp::from_second(seconds)
            .unwrap_or(jiff::Timestamp::MAX)
            .to_zoned(jiff::tz::TimeZone::UTC)
            .date();
        let part = |number: i8| u8::try_from(number).expect("months and days are positive");
        rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    (params.not_before, params.not_after) = (day(now - DAY), day(now + life));
}

#[cfg(test)]
mod tests;
