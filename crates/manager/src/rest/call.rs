//! One request to an operation of the table, read and checked; and the desk it is carried out at.
//!
//! A handler is a function from a [`Call`] to the operation's answer. It makes one call into the
//! core: [`Call::run`] to change something, [`Call::look`] to read. Inside, names become objects
//! through the [`View`], which asks for the operation's privilege on each: a handler that names its
//! object has authorised it.

use std::net::IpAddr;

use axum::body::Bytes;
use axum::extract::{FromRequest as _, FromRequestParts as _, Query, RawPathParams, Request};
use axum::http::request::Parts;
use racknest_api::operation::{Access, BodyForm, Operation};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::access::READ;
use racknest_cluster::record::entity::EntityRef;
use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{
    AlarmId, ClusterId, DatacenterId, DatastoreId, DrillId, FolderId, HostId, NetworkId,
    PermissionId, PoolId, RoleId, SwitchId, TaskId, UserId, VmId,
};
use racknest_types::time::Timestamp;

use crate::session::login::{Caller, address};
use crate::state::State;

/// A request to the operation `O`.
#[derive(Debug)]
pub(super) struct Call<O: Operation> {
    /// The way to everything.
    pub(super) state: State,
    /// Where it comes from.
    pub(super) address: IpAddr,
    /// What follows the `?`.
    pub(super) query: O::Query,
    /// The body.
    pub(super) body: O::Body,
    caller: Option<Caller>,
    path: Vec<String>,
}

impl<O: Operation> Call<O> {
    /// Reads a request whole.
    pub(super) async fn receive(state: State, request: Request) -> Result<Self, Fault> {
        let (mut parts, body) = request.into_parts();
        let caller = match O::ACCESS {
            Access::Anonymous => None,
            Access::Session | Access::Privilege(_) => Some(caller(&mut parts, &state).await?),
        };
        let (path, query) = (path(&mut parts).await?, query::<O>(&parts)?);
        let address = address(&parts);
        let bytes = Bytes::from_request(Request::from_parts(parts, body), &()).await;
        let bytes = bytes.map_err(|error| Fault::invalid(format!("the body: {error}")))?;
        Ok(Self { query, body: read_body::<O>(&bytes)?, caller, path, address, state })
    }

    /// Reads all but the body, which `O` does not have or which is a stream.
    pub(super) async fn receive_head(
        state: State,
        parts: &mut Parts,
        caller: Caller,
    ) -> Result<Self, Fault> {
        let (path, query) = (path(parts).await?, query::<O>(parts)?);
        let (address, body) = (address(parts), read_body::<O>(&[])?);
        Ok(Self { query, body, caller: Some(caller), path, address, state })
    }

    /// Who asks.
    pub(super) fn caller(&self) -> &Caller {
        self.caller.as_ref().expect("only operations that are open to anybody have no caller")
    }

    /// The text in this place of the path, counted from 0.
    pub(super) fn name(&self, place: usize) -> String {
        self.path[place].clone()
    }

    /// Changes the inventory, as the user who asks. On return the change is saved.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Desk<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let user = self.caller().name.clone();
        let work = move |inventory: &mut Inventory, now| {
            work(&mut Desk { inventory, now, user: &user, access: O::ACCESS })
        };
        self.state.core.run(work).await
    }

    /// Reads the inventory, as the user who asks.
    pub(super) fn look<T>(&self, look: impl FnOnce(&View<'_>) -> T) -> T {
        let user = &self.caller().name;
        self.state.core.read(|inventory| look(&View { inventory, user, access: O::ACCESS }))
    }
}

/// Who sends a request.
pub(super) async fn caller(parts: &mut Parts, state: &State) -> Result<Caller, Fault> {
    Caller::from_request_parts(parts, state).await.map_err(|refusal| refusal.0)
}

async fn path(parts: &mut Parts) -> Result<Vec<String>, Fault> {
    let parameters = RawPathParams::from_request_parts(parts, &()).await;
    let parameters = parameters.map_err(|error| Fault::invalid(format!("the path: {error}")))?;
    Ok(parameters.iter().map(|(_, value)| value.to_owned()).collect())
}

fn query<O: Operation>(parts: &Parts) -> Result<O::Query, Fault> {
    let parsed = Query::<O::Query>::try_from_uri(&parts.uri);
    let Query(query) =
        parsed.map_err(|error| Fault::invalid(format!("the query: {}", cause(&error))))?;
    Ok(query)
}

fn read_body<O: Operation>(bytes: &[u8]) -> Result<O::Body, Fault> {
    // No body is an empty object: what must be in it is then missed by name.
    let is_empty = bytes.is_empty() || O::BODY == BodyForm::Octets;
    let bytes = if is_empty { b"{}".as_slice() } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| Fault::invalid(format!("the body: {error}")))
}

/// The innermost reason: the layers around it only say that a query was being read.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Where a change is made: the inventory, for one command of one user.
pub(super) struct Desk<'a> {
    /// The inventory.
    pub(super) inventory: &'a mut Inventory,
    /// When.
    pub(super) now: Timestamp,
    /// Who.
    pub(super) user: &'a str,
    access: Access,
}

impl Desk<'_> {
    /// The inventory to look at.
    pub(super) fn view(&self) -> View<'_> {
        View { inventory: self.inventory, user: self.user, access: self.access }
    }
}

/// The inventory as one user sees it, for one operation.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    /// The inventory.
    pub(super) inventory: &'a Inventory,
    /// Who looks.
    pub(super) user: &'a str,
    access: Access,
}

macro_rules! finders {
    ($($find:ident -> $id:ident;)*) => {
        impl View<'_> {
            $(
                #[doc = concat!("What is meant by this id, name or path, if it may be used here. See `Inventory::", stringify!($find), "`.")]
                pub(super) fn $find(&self, text: &str) -> Result<$id, Fault> {
                    let id = self.inventory.$find(text)?;
                    self.authorize(id)?;
                    Ok(id)
                }
            )*
        }
    };
}

finders! {
    find_alarm -> AlarmId;
    find_cluster -> ClusterId;
    find_datacenter -> DatacenterId;
    find_datastore -> DatastoreId;
    find_folder -> FolderId;
    find_host -> HostId;
    find_network -> NetworkId;
    find_pool -> PoolId;
    find_role -> RoleId;
    find_switch -> SwitchId;
    find_user -> UserId;
    find_vm -> VmId;
}

impl<'a> View<'a> {
    /// Whether the operation may be done to this object.
    ///
    /// # Errors
    /// The user lacks its privilege there.
    pub(super) fn authorize(&self, entity: impl Into<EntityRef>) -> Result<(), Fault> {
        match self.access {
            Access::Anonymous | Access::Session => Ok(()),
            Access::Privilege(name) => self.inventory.authorize(self.user, name, entity.into()),
        }
    }

    /// Whether the user holds another privilege than the operation's own, which it takes too.
    ///
    /// # Errors
    /// The user lacks it there.
    pub(super) fn authorize_as(
        &self,
        privilege: &'static str,
        entity: impl Into<EntityRef>,
    ) -> Result<(), Fault> {
        self.inventory.authorize(self.user, privilege, entity.into())
    }

    /// Whether the operation may be done to the inventory as a whole.
    pub(super) fn authorize_root(&self) -> Result<(), Fault> {
        self.authorize(self.inventory.root_folder())
    }

    /// A task.
    pub(super) fn find_task(&self, text: &str) -> Result<TaskId, Fault> {
        let id: TaskId = text.parse().map_err(|error| Fault::invalid(format!("{error}")))?;
        self.inventory.task(id)?;
        self.authorize(id)?;
        Ok(id)
    }

    /// A drill, if it may be used on each of its hosts. Who may not on the whole inventory does not
    /// hear whether there is one of that id.
    pub(super) fn find_drill(&self, text: &str) -> Result<DrillId, Fault> {
        let found = self.inventory.find_drill(text);
        let hosts = found.as_ref().ok().and_then(|id| self.inventory.drill(*id).ok());
        match hosts.map(|drill| drill.fault.hosts.as_slice()) {
            None | Some([]) => self.authorize_root()?,
            Some(hosts) => hosts.iter().try_for_each(|host| self.authorize(*host))?,
        }
        found
    }

    /// A permission.
    pub(super) fn find_permission(&self, text: &str) -> Result<PermissionId, Fault> {
        let id: PermissionId = text.parse().map_err(|error| Fault::invalid(format!("{error}")))?;
        let entity = self.inventory.permission(id)?.entity;
        self.authorize(entity)?;
        Ok(id)
    }

    /// An object of any kind: its id, its path, or its kind and name (`host/esx01`).
    pub(super) fn find_any(&self, text: &str) -> Result<EntityRef, Fault> {
        let entity = find_any(self.inventory, text)?;
        self.authorize(entity)?;
        Ok(entity)
    }

    /// An object of any kind that is, or was: an id is good for what is gone, too.
    pub(super) fn find_past(&self, text: &str) -> Result<EntityRef, Fault> {
        text.parse().or_else(|_| self.find_any(text))
    }

    /// What the user may see.
    pub(super) fn sight(&self) -> Sight<'a> {
        Sight::new(self.inventory, self.user)
    }
}

fn find_any(inventory: &Inventory, text: &str) -> Result<EntityRef, Fault> {
    if let Some(path) = text.strip_prefix('/') {
        let root = EntityRef::Folder(inventory.root_folder());
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        return parts.try_fold(root, |at, part| {
            let child = inventory.children(at).find(|(name, _)| *name == part);
            child.map(|(_, entity)| entity).ok_or_else(|| Fault::not_found(format!("'{text}'")))
        });
    }
    match text.split_once('/') {
        None => inventory.find_entity(text),
        Some(("vm", name)) => inventory.find_vm(name).map(EntityRef::from),
        Some(("host", name)) => inventory.find_host(name).map(EntityRef::from),
        Some(("cluster", name)) => inventory.find_cluster(name).map(EntityRef::from),
        Some(("datacenter", name)) => inventory.find_datacenter(name).map(EntityRef::from),
        Some(("folder", name)) => inventory.find_folder(name).map(EntityRef::from),
        Some(("pool", name)) => inventory.find_pool(name).map(EntityRef::from),
        Some(("datastore", name)) => inventory.find_datastore(name).map(EntityRef::from),
        Some(("network", name)) => inventory.find_network(name).map(EntityRef::from),
        Some(("switch", name)) => inventory.find_switch(name).map(EntityRef::from),
        Some((kind, _)) => Err(Fault::invalid(format!(
            "'{kind}' is no kind of object that can be named here; write an id, a path, or for \
             example host/esx01"
        ))),
    }
}

/// What a user may see, for lists: asked once for each item, so what can be known is known before.
pub(super) struct Sight<'a> {
    inventory: &'a Inventory,
    user: &'a str,
    /// The same for every object, where the user's only permission is at the root.
    everything: Option<bool>,
}

impl<'a> Sight<'a> {
    fn new(inventory: &'a Inventory, user: &'a str) -> Self {
        let root = EntityRef::Folder(inventory.root_folder());
        let id = inventory.find_user(user).ok();
        let mut own = inventory.permissions().filter(|permission| Some(permission.user) == id);
        let everything = match (own.next(), own.next()) {
            (None, _) => Some(false),
            (Some(only), None) if only.entity == root && only.propagate => {
                Some(inventory.holds_privilege(user, READ, root))
            }
            (Some(_), _) => None,
        };
        Self { inventory, user, everything }
    }

    /// Whether nothing is seen at all.
    pub(super) fn is_blind(&self) -> bool {
        self.everything == Some(false)
    }

    /// Whether this object is seen.
    pub(super) fn sees(&self, entity: impl Into<EntityRef>) -> bool {
        self.everything
            .unwrap_or_else(|| self.inventory.holds_privilege(self.user, READ, entity.into()))
    }
}

/// The fault of what belongs to somebody else.
pub(super) fn not_yours(what: &str) -> Fault {
    Fault::new(FaultCode::NoPermission, format!("{what} belongs to another user"))
}
