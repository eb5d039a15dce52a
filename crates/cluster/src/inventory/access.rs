//! Users, roles and permissions: who may do what, where.
//!
//! A permission gives a user a role on an object, and below it if it propagates. The nearest one on
//! the way up decides, as in vSphere: a permission on a VM hides the one on its folder.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{PermissionId, RoleId, UserId};
use racknest_types::time::Timestamp;

use super::{Inventory, check_name_form};
use crate::record::access::{PermissionRecord, RoleRecord, UserRecord};
use crate::record::entity::EntityRef;
use crate::record::event::EventKind;

/// The privilege that stands for all of them.
pub const EVERY_PRIVILEGE: &str = "*";

/// The privilege to see an object.
pub const READ: &str = "System.Read";

/// The user that a new box has, under whose name the programs of the box log in.
pub const ADMINISTRATOR: &str = "administrator";

/// The role that may do everything.
pub const ADMIN_ROLE: &str = "Admin";

/// The role that may see everything.
pub const READ_ONLY_ROLE: &str = "ReadOnly";

/// The role that may not even see; it takes an object out of a role further up.
pub const NO_ACCESS_ROLE: &str = "NoAccess";

/// The role for people who use VMs and do not make them.
pub const OPERATOR_ROLE: &str = "VirtualMachineUser";

/// A change of a user account; what is `None` stays as it is.
#[derive(Clone, Default)]
pub struct EditUser {
    /// The login name.
    pub name: Option<String>,
    /// The hash of the password.
    pub password_hash: Option<String>,
    /// Whether it may log in.
    pub enabled: Option<bool>,
}

impl fmt::Debug for EditUser {
    /// Leaves the hash out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("EditUser");
        fields.field("name", &self.name).field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

impl Inventory {
    pub(super) fn create_built_in_roles(&mut self) {
        let roles: [(&str, &[&str]); 4] = [
            (ADMIN_ROLE, &[EVERY_PRIVILEGE]),
            (READ_ONLY_ROLE, &[READ]),
            (NO_ACCESS_ROLE, &[]),
            (OPERATOR_ROLE, &[READ, "VirtualMachine.Interact.*", "VirtualMachine.State.*"]),
        ];
        for (name, privileges) in roles {
            let id = RoleId::from_raw(self.next_id());
            let privileges = privileges.iter().map(|&name| name.into()).collect();
            self.roles.insert(id, RoleRecord { id, name: name.into(), built_in: true, privileges });
            self.touch_created(id);
        }
    }

    /// Whether a user may do this to an object.
    ///
    /// # Errors
    /// They may not; the fault names the privilege that they lack.
    pub fn authorize(&self, user: &str, privilege: &str, entity: EntityRef) -> Result<(), Fault> {
        if self.holds_privilege(user, privilege, entity) {
            return Ok(());
        }
        Err(Fault::new(
            FaultCode::NoPermission,
            format!(
                "user '{user}' lacks the privilege {privilege} on {}; an administrator can give it \
                 with a role",
                self.describe(entity)
            ),
        ))
    }

    /// Whether a user has a privilege on an object.
    #[must_use]
    pub fn holds_privilege(&self, user: &str, privilege: &str, entity: EntityRef) -> bool {
        let Ok(user) = self.find_user(user) else {
            return false;
        };
        // What is in no tree (tasks, alarms, users …) is judged at the root.
        let root = EntityRef::Folder(self.root_folder());
        let mut at = entity;
        if let EntityRef::Task(id) = entity {
            at = self.tasks.get(&id).map_or(root, |task| task.target);
        }
        if at != root && self.parent(at).is_none() {
            at = root;
        }
        let mut is_itself = true;
        loop {
            let permission = self
                .permissions
                .values()
                .find(|it| it.entity == at && it.user == user && (is_itself || it.propagate));
            if let Some(permission) = permission {
                return self.roles.get(&permission.role).is_some_and(|role| {
                    role.privileges.iter().any(|held| covers(held, privilege))
                });
            }
            let Some(parent) = self.parent(at) else {
                return false;
            };
            at = parent;
            is_itself = false;
        }
    }

    /// Makes a user account.
    ///
    /// # Errors
    /// The name is taken or cannot be one.
    pub fn user_create(
        &mut self,
        now: Timestamp,
        by: &str,
        name: &str,
        password_hash: String,
    ) -> Result<UserId, Fault> {
        self.check_user_name(name)?;
        let id = UserId::from_raw(self.next_id());
        self.users.insert(id, UserRecord { id, name: name.into(), password_hash, enabled: true });
        self.touch_created(id);
        self.record_event(now, by, id, EventKind::Created, "");
        Ok(id)
    }

    /// Changes a user's name, password hash or whether they may log in.
    ///
    /// Permissions, sessions and tokens are of the account and stay with another name; so do its
    /// tasks, which go under it. Events keep the name of their time.
    ///
    /// # Errors
    /// Nobody would be left who may do everything, or the name cannot be theirs.
    pub fn user_edit(
        &mut self,
        now: Timestamp,
        by: &str,
        id: UserId,
        edit: EditUser,
    ) -> Result<(), Fault> {
        let user = self.user(id)?;
        let (old, was_enabled) = (user.name.clone(), user.enabled);
        let name = edit.name.filter(|name| *name != old);
        if let Some(name) = &name {
            self.check_other_name(&old, name)?;
        }
        if edit.enabled == Some(false) && was_enabled {
            self.check_other_admin(id)?;
        }
        if edit.password_hash.is_some() || edit.enabled.is_some() {
            self.record_event(now, by, id, EventKind::Reconfigured, "");
        }
        if let Some(user) = self.users.get_mut(&id) {
            user.password_hash = edit.password_hash.unwrap_or_else(|| user.password_hash.clone());
            user.enabled = edit.enabled.unwrap_or(user.enabled);
        }
        self.touch(id);
        if let Some(name) = name {
            self.rename_user(id, &old, &name);
            self.record_event(now, by, id, EventKind::Renamed, format!("from '{old}'"));
        }
        Ok(())
    }

    fn check_other_name(&self, old: &str, name: &str) -> Result<(), Fault> {
        if old == ADMINISTRATOR {
            return Err(Fault::state(format!(
                "user '{old}' came with racknest, which logs in under that name; make another user"
            )));
        }
        self.check_user_name(name)
    }

    fn rename_user(&mut self, id: UserId, old: &str, name: &str) {
        if let Some(user) = self.users.get_mut(&id) {
            user.name = name.into();
        }
        let own = self.tasks.values().filter(|task| task.user == old).map(|task| task.id);
        for task in own.collect::<Vec<_>>() {
            if let Some(task) = self.tasks.get_mut(&task) {
                task.user = name.into();
            }
            self.touch(task);
        }
    }

    fn check_user_name(&self, name: &str) -> Result<(), Fault> {
        check_name_form(name)?;
        if self.find_user(name).is_err() {
            return Ok(());
        }
        Err(Fault::new(FaultCode::DuplicateName, format!("user '{name}' exists already")))
    }

    /// Deletes a user account and its permissions.
    ///
    /// # Errors
    /// Nobody would be left who may do everything.
    pub fn user_delete(&mut self, now: Timestamp, by: &str, id: UserId) -> Result<(), Fault> {
        self.user(id)?;
        self.check_other_admin(id)?;
        self.record_event(now, by, id, EventKind::Removed, "");
        self.drop_permissions(|permission| permission.user == id);
        self.users.remove(&id);
        self.touch_deleted(id);
        Ok(())
    }

    /// Makes a role.
    ///
    /// # Errors
    /// The name is taken or cannot be one.
    pub fn role_create(
        &mut self,
        now: Timestamp,
        by: &str,
        name: &str,
        privileges: BTreeSet<String>,
    ) -> Result<RoleId, Fault> {
        self.check_role_name(name)?;
        let id = RoleId::from_raw(self.next_id());
        self.roles.insert(id, RoleRecord { id, name: name.into(), built_in: false, privileges });
        self.touch_created(id);
        self.record_event(now, by, id, EventKind::Created, "");
        Ok(id)
    }

    fn check_role_name(&self, name: &str) -> Result<(), Fault> {
        check_name_form(name)?;
        if self.find_role(name).is_err() {
            return Ok(());
        }
        Err(Fault::new(FaultCode::DuplicateName, format!("role '{name}' exists already")))
    }

    /// Changes the name or the privileges of a role; who has it keeps it.
    ///
    /// # Errors
    /// It is built in, or the name is taken or cannot be one.
    pub fn role_edit(
        &mut self,
        now: Timestamp,
        by: &str,
        id: RoleId,
        name: Option<String>,
        privileges: Option<BTreeSet<String>>,
    ) -> Result<(), Fault> {
        let role = self.own_role(id)?;
        let name = name.filter(|name| *name != role.name);
        if let Some(name) = &name {
            self.check_role_name(name)?;
        }
        let old = role.name.clone();
        if let Some(role) = self.roles.get_mut(&id) {
            role.name = name.clone().unwrap_or_else(|| old.clone());
            role.privileges = privileges.unwrap_or_else(|| role.privileges.clone());
        }
        self.touch(id);
        match name {
            Some(_) => {
                self.record_event(now, by, id, EventKind::Renamed, format!("from '{old}'"));
            }
            None => self.record_event(now, by, id, EventKind::Reconfigured, ""),
        }
        Ok(())
    }

    /// Deletes a role that nobody has.
    ///
    /// # Errors
    /// It is built in, or somebody has it.
    pub fn role_delete(&mut self, now: Timestamp, by: &str, id: RoleId) -> Result<(), Fault> {
        let name = self.own_role(id)?.name.clone();
        if let Some(permission) = self.permissions.values().find(|it| it.role == id) {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "role '{name}' is held by user '{}' on {}; delete that permission first",
                    self.name(permission.user.into()),
                    self.describe(permission.entity)
                ),
            ));
        }
        self.record_event(now, by, id, EventKind::Removed, "");
        self.roles.remove(&id);
        self.touch_deleted(id);
        Ok(())
    }

    /// Gives a user a role on an object, in place of the one they had there.
    ///
    /// # Errors
    /// One of them is not there, or nobody would be left who may do everything.
    pub fn permission_set(
        &mut self,
        now: Timestamp,
        by: &str,
        entity: EntityRef,
        user: UserId,
        role: RoleId,
        propagate: bool,
    ) -> Result<PermissionId, Fault> {
        let name = self.user(user)?.name.clone();
        let role_name = self.role(role)?.name.clone();
        if !self.record_exists(entity) {
            return Err(Fault::not_found(entity));
        }
        let is_root = entity == EntityRef::Folder(self.root_folder());
        if is_root && (role_name != ADMIN_ROLE || !propagate) {
            self.check_other_admin(user)?;
        }
        let held = self.permissions.values().find(|it| it.entity == entity && it.user == user);
        let id = match held {
            Some(permission) => permission.id,
            None => PermissionId::from_raw(self.next_id()),
        };
        let record = PermissionRecord { id, entity, user, role, propagate };
        match self.permissions.insert(id, record) {
            None => self.touch_created(id),
            Some(_) => self.touch(id),
        }
        let detail = format!("'{name}' has role '{role_name}'");
        self.record_event(now, by, entity, EventKind::Reconfigured, detail);
        Ok(id)
    }

    /// Takes a user's role on an object away.
    ///
    /// # Errors
    /// Nobody would be left who may do everything.
    pub fn permission_delete(
        &mut self,
        now: Timestamp,
        by: &str,
        id: PermissionId,
    ) -> Result<(), Fault> {
        let record = self.permission(id)?.clone();
        if record.entity == EntityRef::Folder(self.root_folder()) {
            self.check_other_admin(record.user)?;
        }
        self.permissions.remove(&id);
        self.touch_deleted(id);
        let detail = format!("'{}' has no role here any more", self.name(record.user.into()));
        self.record_event(now, by, record.entity, EventKind::Reconfigured, detail);
        Ok(())
    }

    pub(super) fn drop_permissions_on(&mut self, entity: EntityRef) {
        self.drop_permissions(|permission| permission.entity == entity);
    }

    fn drop_permissions(&mut self, gone: impl Fn(&PermissionRecord) -> bool) {
        let gone =
            self.permissions.values().filter(|it| gone(it)).map(|it| it.id).collect::<Vec<_>>();
        for id in gone {
            self.permissions.remove(&id);
            self.touch_deleted(id);
        }
    }

    fn own_role(&self, id: RoleId) -> Result<&RoleRecord, Fault> {
        let role = self.role(id)?;
        if role.built_in {
            return Err(Fault::state(format!(
                "role '{}' is built in; it can be neither changed nor deleted",
                role.name
            )));
        }
        Ok(role)
    }

    /// Whether somebody else may do everything: the last one cannot be locked out.
    fn check_other_admin(&self, user: UserId) -> Result<(), Fault> {
        let root = EntityRef::Folder(self.root_folder());
        let is_admin = |it: &PermissionRecord| {
            it.entity == root
                && it.propagate
                && self.roles.get(&it.role).is_some_and(|role| role.name == ADMIN_ROLE)
                && self.users.get(&it.user).is_some_and(|user| user.enabled)
        };
        let holds = self.permissions.values().any(|it| it.user == user && is_admin(it));
        if !holds || self.permissions.values().any(|it| it.user != user && is_admin(it)) {
            return Ok(());
        }
        Err(Fault::state(format!(
            "user '{}' is the last administrator; make another one first",
            self.name(user.into())
        )))
    }
}

/// Whether a held privilege covers a wanted one: the same, all, or all of a group (`Group.*`).
fn covers(held: &str, wanted: &str) -> bool {
    held == wanted
        || held == EVERY_PRIVILEGE
        || held.strip_suffix('*').is_some_and(|group| wanted.starts_with(group))
}
