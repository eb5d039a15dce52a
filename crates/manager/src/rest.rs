//! The REST interface: a handler for each operation of the table in `racknest-api`.
//!
//! One file for each kind. A handler reads the request, makes one call into the core, and converts
//! what comes back; every rule is in `racknest-cluster`. See decision 0006 for the table.
//!
//! **Invariant:** every operation of the table has a route, and its handler asks for its privilege
//! (`rest/tests.rs` walks the table).

mod about;
mod alarm;
mod call;
mod change;
mod cluster;
mod console;
mod convert;
mod datacenter;
mod datastore;
mod datastore_file;
mod drill;
mod drs;
mod event;
mod folder;
mod ha;
mod ha_view;
mod host;
mod network;
mod network_flow;
mod network_health;
mod network_mirror;
mod network_services;
mod network_settings;
mod network_topology;
mod network_transfer;
mod network_watch;
mod permission;
mod pool;
mod range;
mod remediation;
mod role;
mod routes;
mod rule;
mod session;
mod snapshot;
mod stats;
mod switch;
mod task;
#[cfg(test)]
mod tests;
pub mod ticket;
mod timing;
mod usage;
mod user;
mod vm;
mod vm_group;
mod vm_register;
mod vm_spec;
mod vm_view;
mod vm_wire;
mod vmkernel;
mod wake;

use axum::http::{Method, StatusCode, Uri};
use axum::response::IntoResponse;
use axum::{Json, Router};
use racknest_types::fault::Fault;

use self::routes::Routes;
use crate::state::State;

/// Everything below `/api/v1`.
pub(crate) fn router() -> Router<State> {
    routes().into_router().method_not_allowed_fallback(wrong_method)
}

async fn wrong_method(method: Method, uri: Uri) -> impl IntoResponse {
    let message = format!("{method} {} is not there; see /openapi.json for what is", uri.path());
    (StatusCode::METHOD_NOT_ALLOWED, Json(Fault::unsupported(message)))
}

fn routes() -> Routes {
    let kinds = [
        about::mount,
        session::mount,
        user::mount,
        role::mount,
        permission::mount,
        datacenter::mount,
        folder::mount,
        cluster::mount,
        drs::mount,
        ha::mount,
        rule::mount,
        pool::mount,
        host::mount,
        remediation::mount,
        vm::mount,
        vm_group::mount,
        vm_wire::mount,
        snapshot::mount,
        console::mount,
        datastore::mount,
        datastore_file::mount,
        network::mount,
        network_services::mount,
        network_health::mount,
        network_transfer::mount,
        switch::mount,
        vmkernel::mount,
        network_watch::mount,
        network_flow::mount,
        network_settings::mount,
        network_topology::mount,
        network_mirror::mount,
        task::mount,
        event::mount,
        change::mount,
        alarm::mount,
        drill::mount,
        stats::mount,
    ];
    kinds.into_iter().fold(Routes::default(), |routes, mount: fn(Routes) -> Routes| mount(routes))
}
