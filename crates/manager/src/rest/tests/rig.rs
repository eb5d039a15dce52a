//! A manager's state on a real underlay and store, asked through the router without a socket.

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use racknest_api::operation::{Operation, OperationRow, path};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::access::{ADMIN_ROLE, READ_ONLY_ROLE};
use racknest_cluster::inventory::report::HostHello;
use racknest_cluster::record::drill::{DrillFault, DrillKind, LinkTrouble};
use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::record::host::{DriverKind, HostAbout};
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::FromHost;
use racknest_types::bytes::Bytes;
use racknest_types::fault::Fault;
use racknest_types::id::{HostId, TaskId};
use racknest_types::time::Timestamp;
use racknest_underlay::{Fabric, FabricConfig, Underlay};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::config::ManagerConfig;
use crate::session::password::Passwords;
use crate::state::State;
use crate::testing::{CLAIM, USER, make_lab, small_vm};
use crate::{clock, http, run};

/// A box with a datacenter, a host `esx01` that answers when the test says so, a VM `web01` with a
/// disk, and the users `admin`, `reader` and `nobody`.
pub(super) struct Rig {
    pub(super) state: State,
    pub(super) host: HostId,
    _fabric: Fabric,
    directory: tempfile::TempDir,
}

/// What an operation is asked with: the names in its path, what follows the path, the body.
pub(super) type Asked<'a> = (&'a [&'a str], &'a str, Option<Value>);

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} {text}", self.status))
    }

    /// The fault that it is.
    pub(super) fn fault(&self) -> Fault {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

impl Rig {
    pub(super) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path();
        let fabric = FabricConfig {
            socket: home.join("run/underlay.sock"),
            links_file: home.join("links.json"),
        };
        let fabric = Fabric::start(fabric).await.unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let config =
            ManagerConfig::new(home.join("manager"), listen, home.join("run/underlay.sock"));
        fs_err::create_dir_all(&config.directory).unwrap();
        let state = run::open(&config, Passwords::cheap()).await.unwrap();
        let host = make_lab(&state.core).await;
        let rig = Self { state, host, _fabric: fabric, directory };
        rig.people().await;
        rig.connect().await;
        rig.make_vm().await;
        rig.make_drill().await;
        rig
    }

    async fn people(&self) {
        self.change(|inventory, now| {
            inventory.network_create(now, USER, None, "VM Network", 0)?;
            for (name, role) in
                [("admin", Some(ADMIN_ROLE)), ("reader", Some(READ_ONLY_ROLE)), ("nobody", None)]
            {
                let user = inventory.user_create(now, USER, name, String::new())?;
                if let Some(role) = role {
                    let role = inventory.find_role(role)?;
                    let root = EntityRef::Folder(inventory.root_folder());
                    inventory.permission_set(now, USER, root, user, role, true)?;
                }
            }
            Ok(())
        })
        .await;
    }

    /// The host answers.
    async fn connect(&self) {
        let (host, about) = (self.host, HostAbout::default());
        let hello = HostHello { claim: CLAIM, driver: DriverKind::Simulated, about, vms: vec![] };
        self.change(move |inventory, now| inventory.handle_host_connected(now, host, hello)).await;
    }

    async fn make_vm(&self) {
        let create = || {
            let mut create = small_vm("web01");
            create.disks = vec![Bytes::from_gib(8)];
            create
        };
        let task = self
            .change(move |inventory, now| {
                inventory.vm_create(now, USER, create()).map(|(_, task)| task)
            })
            .await;
        self.host_does(task, PowerState::Off).await;
    }

    /// A drill that is over.
    async fn make_drill(&self) {
        let fault = DrillFault {
            kind: DrillKind::HangAgent,
            hosts: vec![self.host],
            nics: vec![],
            trouble: LinkTrouble::default(),
        };
        self.change(move |inventory, now| {
            let id = inventory.drill_start(now, USER, fault)?;
            inventory.drill_undone(now, USER, id)
        })
        .await;
    }

    /// The host has done what the task asked it for.
    pub(super) async fn host_does(&self, task: TaskId, power: PowerState) {
        let host = self.host;
        self.change(move |inventory, now| {
            let waits = |vm: &&racknest_cluster::record::vm::VmRecord| {
                vm.pending.as_ref().is_some_and(|pending| pending.task == task)
            };
            let vm = inventory.vms().find(waits).expect("a VM waits for the host").id;
            let done = FromHost::Done { task, vm, result: Ok(power) };
            inventory.handle_host_message(now, host, done);
            Ok(())
        })
        .await;
    }

    /// A machine on the underlay.
    pub(super) async fn machine(&self, name: &str) -> Underlay {
        let socket = self.directory.path().join("run/underlay.sock");
        let nics = ["vmnic0".parse().unwrap()];
        Underlay::connect(&socket, name.parse().unwrap(), &nics).await.unwrap()
    }

    pub(super) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Inventory, Timestamp) -> Result<T, Fault> + Send + 'static,
    ) -> T {
        self.state.core.run(change).await.unwrap()
    }

    /// The secret of a session of this user.
    pub(super) fn login(&self, user: &str) -> String {
        let id = self.state.core.read(|inventory| inventory.find_user(user)).unwrap();
        let address = "127.0.0.1".parse().unwrap();
        let (token, _) = self.state.sessions.begin(clock::now(), id, address).unwrap();
        token.reveal().to_owned()
    }

    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = http::router(self.state.clone()).oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec();
        Answer { status, headers, body }
    }

    /// Asks for an operation as a user, who need not be one.
    pub(super) async fn ask(
        &self,
        user: Option<&str>,
        row: &OperationRow,
        asked: Asked<'_>,
    ) -> Answer {
        self.send(self.request(user, row, asked)).await
    }

    /// Asks as the administrator for an operation that takes no query.
    pub(super) async fn admin<O: Operation>(&self, place: &[&str], body: Option<Value>) -> Answer {
        self.ask(Some("admin"), &OperationRow::of::<O>(), (place, "", body)).await
    }

    /// The request for an operation.
    pub(super) fn request(
        &self,
        user: Option<&str>,
        row: &OperationRow,
        (place, query, body): Asked<'_>,
    ) -> Request<Body> {
        let uri = format!("{}{query}", path(row.path, place));
        let mut request = Request::builder().method(row.method.name()).uri(uri);
        if let Some(user) = user {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.login(user)));
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        request.body(body).unwrap()
    }
}
