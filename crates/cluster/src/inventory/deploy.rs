//! Clones: one or very many from one VM, some at a time.
//!
//! Powered on are all of them or none: whether they may be is asked before the first is made, with all
//! of them counted. If that changes while they are made, a clone that may not start is made and left
//! off, and the task tells so at its end.
//!
//! One task carries all of them. Its record says how many were begun, so that a manager that starts
//! again goes on where it was; each VM's `pending` says what is under way.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{FolderId, HostId, NetworkId, PoolId, TaskId, VmId};
use racknest_types::time::Timestamp;

use super::Inventory;
use super::placement::{Need, Runs};
use super::vm::Draft;
use super::vm::layer_file;
use super::vm_action::VmAction;
use crate::record::folder::FolderKind;
use crate::record::task::{DEPLOY_FAILURES_MAX, Deploy, NamePattern, TaskState, TaskWork};
use crate::record::vm::{Disk, DiskSource, Nic, Step, VmConfig, VmRecord};

/// The most clones one task makes.
pub const CLONES_MAX: u32 = 1_000_000;

/// Clones to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloneVm {
    /// The template or VM to copy.
    pub source: VmId,
    /// What the clones are called.
    pub names: NamePattern,
    /// How many.
    pub count: u32,
    /// The most in the making at once.
    pub batch: u32,
    /// Whether they share the source's disks (a template's, or those of a VM's current snapshot).
    pub linked: bool,
    /// Whether they are powered on when made.
    pub power_on: bool,
    /// The folder they go to; `None` for the source's.
    pub folder: Option<FolderId>,
    /// The pool they draw from; `None` for the root pool of the source's cluster.
    pub pool: Option<PoolId>,
    /// The host they go to; `None` places each where most room is.
    pub host: Option<HostId>,
    /// Networks of the source, and those that they are attached to in their place.
    pub networks: Vec<(NetworkId, NetworkId)>,
}

impl Inventory {
    /// Clones a VM or template.
    ///
    /// # Errors
    /// A name is taken or cannot be one, a linked clone has nothing frozen to stand on, or no host
    /// can take them.
    pub fn vm_clone(
        &mut self,
        now: Timestamp,
        user: &str,
        clone: CloneVm,
    ) -> Result<TaskId, Fault> {
        let source = self.vm(clone.source)?.clone();
        self.check_vm_action(source.id, VmAction::Clone)?;
        if clone.count == 0 || clone.count > CLONES_MAX || clone.batch == 0 {
            return Err(Fault::invalid(format!(
                "{} clones in batches of {} cannot be; give 1 to {CLONES_MAX}, in batches of at \
                 least 1",
                clone.count, clone.batch
            )));
        }
        if clone.count > 1 && clone.names.digits == 0 {
            return Err(Fault::invalid(format!(
                "{} clones need a number in their name; write for example 'web##'",
                clone.count
            )));
        }
        self.check_swaps(&source, &clone.networks)?;
        let cluster = self.host(source.host)?.cluster;
        let folder =
            self.folder_or_default(clone.folder.or(Some(source.folder)), FolderKind::Vms)?;
        let pool = self.pool_or_default(clone.pool, Some(cluster))?;
        for place in 0..clone.count {
            self.check_name(folder.into(), &clone.names.name(place))?;
        }
        self.clone_disks(&source, clone.linked)?;
        let need = self.clone_need(&source, pool)?;
        let host = self.place_at(clone.host, &need)?;
        if clone.power_on {
            let first = clone.names.name(0);
            self.place_at(clone.host, &running(need, &first, &source.config))?;
            match clone.count {
                1 => self.check_start(&first, pool, host, &source.config)?,
                count => {
                    self.check_pool_of_many(pool, &source.config, count)?;
                    self.check_start_of_many(cluster, host, &source.config, count)?;
                }
            }
        }
        let work = TaskWork::Deploy(Deploy {
            source: source.id,
            names: clone.names,
            count: clone.count,
            begun: 0,
            done: 0,
            failed: 0,
            failures: Vec::new(),
            left_off: 0,
            first_left_off: None,
            batch: clone.batch,
            linked: clone.linked,
            power_on: clone.power_on,
            folder,
            pool,
            host: clone.host,
            networks: clone.networks,
        });
        let task = self.begin_task(now, user, "vm_clone", source.id, work);
        self.advance_deploy(now, task);
        Ok(task)
    }

    /// Networks can only take the place of those that the source is attached to.
    fn check_swaps(
        &self,
        source: &VmRecord,
        networks: &[(NetworkId, NetworkId)],
    ) -> Result<(), Fault> {
        for &(from, to) in networks {
            self.network(to)?;
            if !source.config.nics.iter().any(|nic| nic.network == from) {
                return Err(Fault::invalid(format!(
                    "VM '{}' is not attached to {}, in the place of which its clones are to be on {}",
                    source.name,
                    self.describe(from.into()),
                    self.describe(to.into())
                )));
            }
        }
        Ok(())
    }

    fn clone_need<'a>(&self, source: &'a VmRecord, pool: PoolId) -> Result<Need<'a>, Fault> {
        Ok(Need {
            cluster: self.pool(pool)?.cluster,
            datastore: &source.home.datastore,
            vcpus: source.config.vcpus,
            memory: source.config.memory,
            networks: source.config.nics.iter().map(|nic| nic.network).collect(),
            runs: None,
        })
    }

    /// Where the clones' disks come from, and the layers they stand on.
    pub(super) fn clone_disks(
        &self,
        source: &VmRecord,
        linked: bool,
    ) -> Result<Vec<(DiskSource, Disk)>, Fault> {
        self.check_stays(source)?;
        let snapshot = source.current_snapshot.and_then(|id| self.snapshots.get(&id));
        let frozen = match snapshot {
            Some(snapshot) => &snapshot.config,
            None if source.is_template => &source.config,
            None if linked && !source.config.disks.is_empty() => {
                return Err(Fault::state(format!(
                    "VM '{}' has no snapshot that a linked clone could stand on; take one, make it \
                     a template, or make a full clone",
                    source.name
                )));
            }
            None if source.power == crate::record::vm::PowerState::On => {
                return Err(Fault::state(format!(
                    "VM '{}' is powered on and has no snapshot to copy from; take one, or power \
                     it off",
                    source.name
                )));
            }
            None => &source.config,
        };
        Ok(frozen
            .disks
            .iter()
            .map(|disk| {
                let below = core::iter::once(&disk.file).chain(&disk.backing).cloned().collect();
                let (from, backing) = if linked {
                    (DiskSource::Linked(disk.file.clone()), below)
                } else {
                    (DiskSource::Copy(disk.file.clone()), Vec::new())
                };
                (from, Disk { backing, ..disk.clone() })
            })
            .collect())
    }

    /// Begins as many clones as may be in the making, and ends the task when all are done.
    pub(super) fn advance_deploy(&mut self, now: Timestamp, task: TaskId) {
        loop {
            let Some((deploy, cancelled)) = self.running_deploy(task) else {
                return;
            };
            let in_flight = deploy.begun - deploy.done - deploy.failed;
            let is_over = cancelled || deploy.begun == deploy.count;
            if is_over && in_flight == 0 {
                let result = deploy_result(&deploy, cancelled);
                return self.end_task(now, task, result);
            }
            if is_over || in_flight >= deploy.batch {
                return;
            }
            let name = deploy.names.name(deploy.begun);
            let outcome = self.begin_clone(now, task, &deploy, &name);
            self.with_deploy(task, |deploy| {
                deploy.begun += 1;
                match outcome {
                    Ok(None) => {}
                    Ok(Some(refused)) => {
                        deploy.left_off += 1;
                        deploy.first_left_off.get_or_insert((name, refused));
                    }
                    Err(fault) => note_failure(deploy, name, fault),
                }
            });
        }
    }

    fn running_deploy(&self, task: TaskId) -> Option<(Deploy, bool)> {
        let record = self.tasks.get(&task)?;
        match &record.work {
            TaskWork::Deploy(deploy) if record.state == TaskState::Running => {
                Some((deploy.clone(), record.cancel_requested))
            }
            TaskWork::Deploy(_)
            | TaskWork::Step
            | TaskWork::EnterMaintenance { .. }
            | TaskWork::ReturnVms { .. }
            | TaskWork::PowerOnHost { .. }
            | TaskWork::Remediate(_)
            | TaskWork::ChangeSwitch => None,
        }
    }

    fn with_deploy(&mut self, task: TaskId, change: impl FnOnce(&mut Deploy)) {
        if let Some(record) = self.tasks.get_mut(&task)
            && let TaskWork::Deploy(deploy) = &mut record.work
        {
            change(deploy);
            let ended = u64::from(deploy.done) + u64::from(deploy.failed);
            let percent = ended * 100 / u64::from(deploy.count.max(1));
            record.percent = u8::try_from(percent.min(99)).unwrap_or(99);
            self.touch(task);
        }
    }

    /// Begins one clone; says why it will not be powered on, if it should and may not.
    fn begin_clone(
        &mut self,
        now: Timestamp,
        task: TaskId,
        deploy: &Deploy,
        name: &str,
    ) -> Result<Option<Fault>, Fault> {
        let source = self.vm(deploy.source)?.clone();
        self.check_name(deploy.folder.into(), name)?;
        let disks = self.clone_disks(&source, deploy.linked)?;
        let attached = source.config.nics.iter().map(|nic| nic.network);
        self.check_ports(name, None, attached)?;
        let (host, refused) = self.clone_place(&source, deploy, name)?;
        let nics = source
            .config
            .nics
            .iter()
            .map(|nic| {
                let swap = deploy.networks.iter().find(|(from, _)| *from == nic.network);
                let network = swap.map_or(nic.network, |(_, to)| *to);
                let fresh = self.new_nic(nic.key, network.into());
                // In a fenced copy of the network the address is free, and means the same.
                let address = nic.address.filter(|_| swap.is_some());
                Nic { connected: nic.connected, address, ..fresh }
            })
            .collect();
        let config = VmConfig { disks: Vec::new(), nics, ..source.config.clone() };
        let draft = Draft {
            name: name.into(),
            folder: deploy.folder,
            pool: deploy.pool,
            host,
            datastore: source.home.datastore,
            config,
            is_template: false,
        };
        let id = self.put_draft(now, draft);
        let mut sources = Vec::new();
        self.update_vm(id, |vm| {
            for (from, disk) in disks {
                sources.push(from);
                let file = layer_file(&vm.home, disk.key, 0);
                vm.config.disks.push(Disk { file, ..disk });
            }
        });
        let power_on = deploy.power_on && refused.is_none();
        self.begin_step(id, task, Step::Create { sources, power_on });
        Ok(refused)
    }

    /// Where a clone goes, and why it cannot be powered on there, if it should.
    fn clone_place(
        &self,
        source: &VmRecord,
        deploy: &Deploy,
        name: &str,
    ) -> Result<(HostId, Option<Fault>), Fault> {
        let need = self.clone_need(source, deploy.pool)?;
        if !deploy.power_on {
            return self.place_at(deploy.host, &need).map(|host| (host, None));
        }
        let runs = running(need.clone(), name, &source.config);
        let started = self.place_at(deploy.host, &runs).and_then(|host| {
            self.check_start(name, deploy.pool, host, &source.config).map(|()| host)
        });
        match started {
            Ok(host) => Ok((host, None)),
            Err(why) => self.place_at(deploy.host, &need).map(|host| (host, Some(why))),
        }
    }

    pub(super) fn deploy_step_ended(
        &mut self,
        now: Timestamp,
        task: TaskId,
        name: &str,
        result: Result<(), Fault>,
    ) {
        self.with_deploy(task, |deploy| match result {
            Ok(()) => deploy.done += 1,
            Err(fault) => note_failure(deploy, name.into(), fault),
        });
        self.advance_deploy(now, task);
    }
}

/// The same need, of a clone that is started.
fn running<'a>(need: Need<'a>, name: &'a str, config: &'a VmConfig) -> Need<'a> {
    Need { runs: Some(Runs { name, vm: None, config }), ..need }
}

fn note_failure(deploy: &mut Deploy, name: String, fault: Fault) {
    deploy.failed += 1;
    if deploy.failures.len() < DEPLOY_FAILURES_MAX {
        deploy.failures.push((name, fault));
    }
}

fn deploy_result(deploy: &Deploy, cancelled: bool) -> Result<(), Fault> {
    if let Some((name, first)) = deploy.failures.first() {
        let message = match deploy.count {
            1 => first.message.clone(),
            count => {
                format!("{} of {count} clones failed, '{name}' first: {first}", deploy.failed)
            }
        };
        return Err(Fault::new(first.code, message));
    }
    if cancelled && deploy.done < deploy.count {
        return Err(Fault::new(
            FaultCode::RequestCanceled,
            format!("cancelled after {} of {} clones", deploy.done, deploy.count),
        ));
    }
    if let Some((name, why)) = &deploy.first_left_off {
        let message = match deploy.count {
            1 => format!("'{name}' is made and left powered off: {}", why.message),
            count => format!(
                "all {count} are made, {} of them left powered off, '{name}' first: {}",
                deploy.left_off, why.message
            ),
        };
        return Err(Fault::new(why.code, message));
    }
    Ok(())
}
