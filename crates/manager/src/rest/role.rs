//! Roles, and the privileges that operations ask for.

use std::collections::{BTreeMap, BTreeSet};

use racknest_api::operation::{Access, Nothing};
use racknest_api::page::Page;
use racknest_api::v1::role::{
    Privilege, PrivilegeList, Role, RoleCreate, RoleDelete, RoleEdit, RoleList, RoleShow,
};
use racknest_cluster::inventory::access::EVERY_PRIVILEGE;
use racknest_cluster::record::access::RoleRecord;
use racknest_types::fault::Fault;

use super::call::Call;
use super::routes::Routes;
use super::vm_spec::PLACING;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<RoleList, _>(list)
        .on::<RoleShow, _>(show_one)
        .on::<RoleCreate, _>(create)
        .on::<RoleEdit, _>(edit)
        .on::<RoleDelete, _>(delete)
        .on::<PrivilegeList, _>(list_privileges)
}

fn show(role: &RoleRecord) -> Role {
    Role {
        id: role.id,
        name: role.name.clone(),
        is_built_in: role.built_in,
        privileges: role.privileges.clone(),
    }
}

async fn list(call: Call<RoleList>) -> Result<Page<Role>, Fault> {
    Ok(call.look(|view| Page::whole(view.inventory.roles().map(show).collect())))
}

async fn show_one(call: Call<RoleShow>) -> Result<Role, Fault> {
    call.look(|view| {
        let role = view.find_role(&call.name(0))?;
        view.inventory.role(role).map(show)
    })
}

async fn create(call: Call<RoleCreate>) -> Result<Role, Fault> {
    let new = call.body.clone();
    check(&new.privileges)?;
    call.run(move |desk| {
        desk.view().authorize_root()?;
        let id = desk.inventory.role_create(desk.now, desk.user, &new.name, new.privileges)?;
        desk.inventory.role(id).map(show)
    })
    .await
}

async fn edit(call: Call<RoleEdit>) -> Result<Role, Fault> {
    let (role, patch) = (call.name(0), call.body.clone());
    patch.privileges.as_ref().map_or(Ok(()), check)?;
    call.run(move |desk| {
        let id = desk.view().find_role(&role)?;
        desk.inventory.role_edit(desk.now, desk.user, id, patch.name, patch.privileges)?;
        desk.inventory.role(id).map(show)
    })
    .await
}

/// A privilege that nothing asks for is a typing error, and would silently allow nothing.
fn check(privileges: &BTreeSet<String>) -> Result<(), Fault> {
    let known = known();
    let is_known = |held: &str| match held.strip_suffix(".*") {
        Some(group) => known
            .keys()
            .any(|name| name.strip_prefix(group).is_some_and(|rest| rest.starts_with('.'))),
        None => held == EVERY_PRIVILEGE || known.contains_key(held),
    };
    match privileges.iter().find(|held| !is_known(held)) {
        None => Ok(()),
        Some(unknown) => Err(Fault::invalid(format!(
            "no operation asks for a privilege '{unknown}'; 'racknest privilege list' shows them"
        ))),
    }
}

/// The privileges that operations ask for, with the operations.
fn known() -> BTreeMap<&'static str, Vec<String>> {
    let mut known: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for row in racknest_api::operations() {
        if let Access::Privilege(name) = row.access {
            known.entry(name).or_default().push(row.id.to_owned());
        }
    }
    for (name, operations) in PLACING {
        let operations = operations.iter().map(|&id| id.to_owned());
        known.entry(name).or_default().extend(operations);
    }
    known
}

async fn delete(call: Call<RoleDelete>) -> Result<Nothing, Fault> {
    let role = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_role(&role)?;
        desk.inventory.role_delete(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}

async fn list_privileges(_: Call<PrivilegeList>) -> Result<Page<Privilege>, Fault> {
    let privilege = |(name, operations): (&str, _)| Privilege { name: name.to_owned(), operations };
    Ok(Page::whole(known().into_iter().map(privilege).collect()))
}
