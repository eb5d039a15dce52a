//! The certificate is kept, renewed, and trusted by a client that knows only `ca.pem`.

use std::os::unix::fs::PermissionsExt as _;

use fs_err as fs;
use rustls::pki_types::ServerName;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn open(directory: &Path, names: &[String], now: Timestamp) -> Arc<rustls::ServerConfig> {
    server_config(directory, names, now).unwrap()
}

fn box_names() -> Vec<String> {
    names("rack7", "192.0.2.7".parse().unwrap())
}

/// Does a client that trusts `ca.pem` accept the server under this name?
fn handshake(directory: &Path, name: &str, now: Timestamp) -> Result<(), rustls::Error> {
    let server_config = open(directory, &box_names(), now);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut server = rustls::ServerConnection::new(server_config).unwrap();
    while client.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn a_client_that_trusts_the_authority_accepts_every_name_of_the_box() {
    let directory = tempfile::tempdir().unwrap();
    // rustls asks the real clock, so the certificate must be of today.
    let now = crate::clock::now();
    for name in ["localhost", "127.0.0.1", "::1", "rack7", "192.0.2.7"] {
        handshake(directory.path(), name, now).expect(name);
    }
    handshake(directory.path(), "elsewhere", now).expect_err("a name that it does not carry");
}

#[test]
fn keys_are_for_the_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), &box_names(), NOW);
    for key in ["ca.key", "server.key"] {
        let mode = fs::metadata(directory.path().join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn the_certificate_is_kept_until_its_names_change_or_its_time_runs_out() {
    let directory = tempfile::tempdir().unwrap();
    let server = || fs::read_to_string(directory.path().join("server.pem")).unwrap();
    let authority = || fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    open(directory.path(), &box_names(), NOW);
    let (first, first_authority) = (server(), authority());

    open(directory.path(), &box_names(), NOW + DAY * 300);
    assert_eq!(server(), first);
    open(directory.path(), &box_names(), NOW + DAY * 350);
    assert_ne!(server(), first, "47 days are left");

    let renewed = server();
    open(directory.path(), &names("rack8", "127.0.0.1".parse().unwrap()), NOW + DAY * 350);
    assert_ne!(server(), renewed, "another name");
    assert_eq!(authority(), first_authority, "what clients trust stays");
}

#[test]
fn a_key_that_was_lost_takes_its_certificate_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let now = crate::clock::now();
    open(directory.path(), &box_names(), now);
    for key in ["server.key", "ca.key"] {
        fs::remove_file(directory.path().join(key)).unwrap();
    }
    fs::remove_file(directory.path().join("server.pem")).unwrap();
    handshake(directory.path(), "localhost", now).unwrap();
}

#[test]
fn a_broken_key_is_refused_by_name_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("server.key");
    fs::write(&key, "rubbish").unwrap();
    let error = server_config(directory.path(), &box_names(), NOW).expect_err("rubbish");
    assert!(error.to_string().contains("server.key is not a private key"), "{error}");
    assert_eq!(fs::read_to_string(&key).unwrap(), "rubbish");
}
