//! Whole managers, on a real underlay, with the hosts in the test's hands.

use std::os::unix::fs::PermissionsExt as _;

use racknest_cluster::record::event::EventKind;
use racknest_cluster::record::host::HostConnection;
use racknest_cluster::wire::CONTROL_PORT;
use racknest_types::id::HostId;
use racknest_underlay::{Fabric, FabricConfig, MachineName};

use super::*;
use crate::testing::{FakeHost, USER, add_host, eventually, make_lab};

/// A box with nothing in it but its cables and a manager.
struct Rig {
    fabric: Fabric,
    directory: tempfile::TempDir,
}

impl Rig {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fabric = FabricConfig {
            socket: directory.path().join("run/underlay.sock"),
            links_file: directory.path().join("links.json"),
        };
        Self { fabric: Fabric::start(fabric).await.unwrap(), directory }
    }

    fn config(&self) -> ManagerConfig {
        let home = self.directory.path();
        let listen = "127.0.0.1:0".parse().unwrap();
        let mut config =
            ManagerConfig::new(home.join("manager"), listen, home.join("run/underlay.sock"));
        config.host_silence = Duration::from_millis(300);
        config
    }

    fn file(&self, name: &str) -> String {
        fs_err::read_to_string(self.directory.path().join("manager").join(name)).unwrap()
    }

    async fn machine(&self, name: &str) -> Underlay {
        let socket = self.directory.path().join("run/underlay.sock");
        let nics = [nic()];
        Underlay::connect(&socket, name.parse().unwrap(), &nics).await.unwrap()
    }
}

fn nic() -> NicName {
    "vmnic0".parse().unwrap()
}

/// What an HTTPS client that trusts the box's authority gets.
async fn get(rig: &Rig, path: &str) -> (u16, String) {
    get_as(rig, path, None).await
}

async fn get_as(rig: &Rig, path: &str, token: Option<&str>) -> (u16, String) {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let url = format!("https://{}{path}", rig.file("address").trim());
    let authority = rig.file("tls/ca.pem");
    let fetch = move || {
        let authority = ureq::tls::Certificate::from_pem(authority.as_bytes()).unwrap();
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::new_with_certs(&[authority]))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false);
        let mut request = config.build().new_agent().get(url);
        if let Some(bearer) = bearer {
            request = request.header("authorization", bearer);
        }
        let mut response = request.call().unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    };
    tokio::task::spawn_blocking(fetch).await.unwrap()
}

fn connection(manager: &Running, host: HostId) -> HostConnection {
    manager.state.core.read(|inventory| inventory.host(host).unwrap().connection)
}

/// Serves every connection to this machine as a host without VMs, until it is dropped.
async fn serve_as_host(underlay: Underlay, name: &'static str) -> JoinHandle<()> {
    let mut listener = underlay.listen(CONTROL_PORT).await.unwrap();
    tokio::spawn(async move {
        let _alive = underlay;
        loop {
            let (stream, from) = listener.accept().await;
            assert_eq!(from.as_str(), "vcenter");
            let mut host = FakeHost::new(stream);
            host.greet(name, Vec::new()).await;
            while host.hear().await.is_some() {}
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_manager_says_where_it_is_and_keeps_its_secrets() {
    let rig = Rig::new().await;
    let manager = Running::start(rig.config()).await.unwrap();
    let (status, page) = get(&rig, "/").await;
    assert_eq!(status, 200);
    assert!(page.contains("racknest 0."), "{page}");
    let (status, document) = get(&rig, "/openapi.json").await;
    assert_eq!((status, document.as_str()), (200, racknest_api::OPENAPI));
    let (status, fault) = get(&rig, "/nothing/here").await;
    assert_eq!(status, 404);
    assert!(fault.contains(r#""code":"NotFound""#), "{fault}");

    let directory = rig.directory.path().join("manager");
    let mode =
        |name: &str| fs_err::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for secret in ["password", "tls/ca.key", "tls/server.key"] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    manager.stop().await;
    assert!(!directory.join("address").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_administrator_keeps_the_first_password_and_what_was_made_stays() {
    let rig = Rig::new().await;
    let manager = Running::start(rig.config()).await.unwrap();
    let password = rig.file("password");
    make_lab(&manager.state.core).await;
    manager.stop().await;

    let config = ManagerConfig { initial_password: Some("another one".into()), ..rig.config() };
    let manager = Running::start(config).await.unwrap();
    assert_eq!(rig.file("password"), password, "only the first start makes one");
    let State { core, sessions, .. } = &manager.state;
    let home = "127.0.0.1".parse().unwrap();
    let login = sessions.login(core, "administrator", password.trim(), home);
    let (token, session) = login.await.unwrap();
    let caller = sessions.caller(core, token.reveal(), home).unwrap();
    assert_eq!((caller.name.as_str(), caller.session), ("administrator", session.id));
    assert_eq!(core.read(|inventory| inventory.hosts().len()), 1);
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_and_a_second_manager_are_refused_in_one_line() {
    let rig = Rig::new().await;
    let manager = Running::start(rig.config()).await.unwrap();
    let taken = rig.file("address").trim().parse().unwrap();
    let refused = async |config| Running::start(config).await.map(drop).unwrap_err().to_string();

    let error = refused(ManagerConfig { listen: taken, ..rig.config() }).await;
    assert!(error.contains("in use by another program"), "{error}");
    let error = refused(rig.config()).await;
    let process = format!("in use by process {}", std::process::id());
    assert!(error.contains(&process), "{error}");

    assert_eq!(get(&rig, "/").await.0, 200, "the first one is not disturbed");
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_without_a_box_says_how_to_start_one() {
    let rig = Rig::new().await;
    let config = ManagerConfig { underlay: rig.directory.path().join("none"), ..rig.config() };
    let error = Running::start(config).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("racknest up"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_lost_with_its_cable_and_found_with_it() {
    let rig = Rig::new().await;
    let manager = Running::start(rig.config()).await.unwrap();
    let serving = serve_as_host(rig.machine("esx01").await, "esx01").await;
    let host = make_lab(&manager.state.core).await;
    let is = |wanted| move |manager: &Running| connection(manager, host) == wanted;
    let (connected, lost) = (is(HostConnection::Connected), is(HostConnection::NotResponding));

    eventually("the host is connected", || connected(&manager)).await;
    let machine: MachineName = "esx01".parse().unwrap();
    rig.fabric.cut(&machine, &nic()).await.unwrap();
    eventually("the host is lost", || lost(&manager)).await;
    rig.fabric.restore(&machine, &nic()).await.unwrap();
    eventually("the host is connected again", || connected(&manager)).await;

    let core = &manager.state.core;
    core.run(move |inventory, now| inventory.host_disconnect(now, USER, host)).await.unwrap();
    assert_eq!(connection(&manager, host), HostConnection::Disconnected);
    core.run(move |inventory, now| inventory.host_connect(now, USER, host)).await.unwrap();
    eventually("the host is connected on demand", || connected(&manager)).await;

    serving.abort();
    eventually("the host is lost with its agent", || lost(&manager)).await;
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_can_be_added_before_they_are_switched_on() {
    let rig = Rig::new().await;
    let manager = Running::start(rig.config()).await.unwrap();
    let core = &manager.state.core;
    make_lab(core).await;
    let host = core.run(|inventory, now| add_host(inventory, now, "esx02")).await.unwrap();
    assert_eq!(connection(&manager, host), HostConnection::NotResponding);
    let serving = serve_as_host(rig.machine("esx02").await, "esx02").await;
    eventually("the host is connected", || connection(&manager, host) == HostConnection::Connected)
        .await;
    manager.stop().await;
    serving.abort();

    let manager = Running::start(rig.config()).await.unwrap();
    let lost = manager.state.core.read(|inventory| {
        inventory.events().filter(|event| event.kind == EventKind::HostConnectionLost).count()
    });
    assert_eq!(lost, 0, "a manager that stops does not lose its hosts");
    manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_for_those_who_log_in() {
    let rig = Rig::new().await;
    let manager = Running::start(rig.config()).await.unwrap();
    make_lab(&manager.state.core).await;
    let (status, fault) = get(&rig, "/metrics").await;
    assert_eq!(status, 401);
    assert!(fault.contains(r#""code":"NotAuthenticated""#), "{fault}");

    let State { core, sessions, .. } = &manager.state;
    let user = core.read(|inventory| inventory.find_user("administrator")).unwrap();
    let token = sessions.create_token(clock::now(), user, "prometheus", None).await.unwrap().0;
    let (status, text) = get_as(&rig, "/metrics?vms=false", Some(token.reveal())).await;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("racknest_hosts{connection=\"not_responding\"} 1\n"), "{text}");
    let (status, fault) = get_as(&rig, "/metrics?vms=maybe", Some(token.reveal())).await;
    assert_eq!(status, 400, "{fault}");
    manager.stop().await;
}
