//! Taking VMs into the inventory whose files are on a datastore already.

use alloc::format;
use alloc::string::String;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{FolderId, HostId, PoolId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::placement::Need;
use super::vm::{Draft, check_size};
use crate::record::folder::FolderKind;
use crate::record::task::TaskWork;
use crate::record::vm::{Nic, Step, VmConfig};
use crate::wire::VmSpec;

/// A VM whose files are there, as the file `vm.json` in its directory describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterVm {
    /// What the file says. Its id counts for nothing: the VM gets a new one.
    pub spec: VmSpec,
    /// Another name than the file's.
    pub name: Option<String>,
    /// The folder it goes to; `None` for the only datacenter's.
    pub folder: Option<FolderId>,
    /// The pool it draws from; `None` for the only cluster's root pool.
    pub pool: Option<PoolId>,
    /// The host it goes to; `None` places it where most room is.
    pub host: Option<HostId>,
}

impl Inventory {
    /// Registers a VM whose files are on a datastore already.
    ///
    /// It keeps its addresses and UUID unless another VM has them. Adapters on networks that are
    /// not there are left out.
    ///
    /// # Errors
    /// A VM with this directory is registered, the name is taken, or no host can take it.
    pub fn vm_register(
        &mut self,
        now: Timestamp,
        user: &str,
        register: RegisterVm,
    ) -> Result<(VmId, TaskId), Fault> {
        let spec = register.spec;
        if let Some(holder) = self.index.homes.get(&spec.home) {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!(
                    "{} is registered already as {}",
                    spec.home,
                    self.describe((*holder).into())
                ),
            ));
        }
        let name = register.name.unwrap_or(spec.name);
        let folder = self.folder_or_default(register.folder, FolderKind::Vms)?;
        self.check_name(folder.into(), &name)?;
        check_size(&name, spec.config.vcpus, spec.config.memory)?;
        self.datastore_named(&spec.home.datastore)?;
        let pool = self.pool_or_default(register.pool, None)?;
        let need = Need {
            cluster: self.pool(pool)?.cluster,
            datastore: &spec.home.datastore,
            vcpus: spec.config.vcpus,
            memory: spec.config.memory,
            networks: spec.config.nics.iter().map(|nic| nic.network).collect(),
            runs: None,
        };
        self.check_ports(
            &name,
            None,
            need.networks.iter().copied().filter(|it| self.networks.contains_key(it)),
        )?;
        self.check_allocations(&name, &spec.config, need.cluster)?;
        let host = self.place_at(register.host, &need)?;
        let config = self.adopted_config(spec.config);
        let is_uuid_taken = self.vms.values().any(|vm| vm.uuid == spec.uuid);
        let datastore = spec.home.datastore.clone();
        let draft = Draft { name, folder, pool, host, datastore, config, is_template: false };
        let id = self.put_draft(now, draft);
        self.update_vm(id, |vm| {
            vm.home = spec.home;
            if !is_uuid_taken {
                vm.uuid = spec.uuid;
            }
        });
        let task = self.begin_task(now, user, "vm_register", id, TaskWork::Step);
        self.begin_step(id, task, Step::Register);
        Ok((id, task))
    }

    fn adopted_config(&mut self, config: VmConfig) -> VmConfig {
        let mut nics = alloc::vec::Vec::new();
        for nic in config.nics {
            let Some(vlan) = self.networks.get(&nic.network).map(|network| network.vlan) else {
                continue;
            };
            let is_taken = self.mac_holder(None, nic.mac).is_some();
            let fresh = self.new_nic(nic.key, nic.network.into());
            nics.push(if is_taken { fresh } else { Nic { vlan, ..nic } });
        }
        VmConfig { nics, ..config }
    }
}
