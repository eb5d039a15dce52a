//! Permissions.

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::permission::{
    Permission, PermissionCreate, PermissionDelete, PermissionEdit, PermissionList,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::access::PermissionRecord;
use racknest_types::fault::Fault;

use super::call::Call;
use super::convert::{mention, reference};
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<PermissionList, _>(list)
        .on::<PermissionCreate, _>(create)
        .on::<PermissionEdit, _>(edit)
        .on::<PermissionDelete, _>(delete)
}

fn show(inventory: &Inventory, permission: &PermissionRecord) -> Permission {
    Permission {
        id: permission.id,
        entity: mention(inventory, permission.entity),
        user: reference(inventory, permission.user),
        role: reference(inventory, permission.role),
        propagate: permission.propagate,
    }
}

async fn list(call: Call<PermissionList>) -> Result<Page<Permission>, Fault> {
    let query = &call.query;
    call.look(|view| {
        view.authorize_root()?;
        let entity = query.entity.as_ref().map(|text| view.find_any(text)).transpose()?;
        let user = query.user.as_ref().map(|name| view.find_user(name)).transpose()?;
        let permissions = view.inventory.permissions().filter(|it| {
            entity.is_none_or(|entity| it.entity == entity)
                && user.is_none_or(|user| it.user == user)
        });
        Ok(Page::whole(permissions.map(|it| show(view.inventory, it)).collect()))
    })
}

async fn create(call: Call<PermissionCreate>) -> Result<Permission, Fault> {
    let new = call.body.clone();
    call.run(move |desk| {
        let entity = desk.view().find_any(&new.entity)?;
        let user = desk.inventory.find_user(&new.user)?;
        let role = desk.inventory.find_role(&new.role)?;
        let (now, by) = (desk.now, desk.user);
        let id = desk.inventory.permission_set(now, by, entity, user, role, new.propagate)?;
        Ok(show(desk.inventory, desk.inventory.permission(id)?))
    })
    .await
}

async fn edit(call: Call<PermissionEdit>) -> Result<Permission, Fault> {
    let (permission, patch) = (call.name(0), call.body.clone());
    call.run(move |desk| {
        let id = desk.view().find_permission(&permission)?;
        let old = desk.inventory.permission(id)?.clone();
        let role = patch.role.as_ref().map(|name| desk.inventory.find_role(name)).transpose()?;
        let (now, by, role) = (desk.now, desk.user, role.unwrap_or(old.role));
        let propagate = patch.propagate.unwrap_or(old.propagate);
        desk.inventory.permission_set(now, by, old.entity, old.user, role, propagate)?;
        Ok(show(desk.inventory, desk.inventory.permission(id)?))
    })
    .await
}

async fn delete(call: Call<PermissionDelete>) -> Result<Nothing, Fault> {
    let permission = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_permission(&permission)?;
        desk.inventory.permission_delete(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}
