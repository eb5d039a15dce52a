//! Guests: they boot, are heard, hang, shut down when asked, and crash.

use racknest_cluster::ha::Event;
use racknest_cluster::record::ha::VmMonitoring;
use racknest_cluster::record::lease::LeaseState;
use racknest_cluster::record::vm::PowerState;
use racknest_types::id::{HostId, VmId};

use super::work::{Act, Goal, Work};
use crate::datastore::ProcessId;
use crate::fact::EndKind;
use crate::world::{GuestStep, Happening, World};

/// Between two signs of life of a guest whose silence counts.
const GUEST_BEAT_MS: u64 = 1_000;

impl World {
    /// A guest does something, if its process still runs.
    pub(crate) fn guest(&mut self, id: HostId, vm: VmId, process: ProcessId, what: GuestStep) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let Some(it) = host.processes.get_mut(&vm).filter(|it| it.id == process) else { return };
        if it.is_hung {
            return;
        }
        match what {
            GuestStep::Boots => {
                it.is_ready = true;
                self.hear_guest(id, vm, process);
            }
            GuestStep::Beats => self.hear_guest(id, vm, process),
            // It was reset after it was asked, and has forgotten.
            GuestStep::ShutsDown if !it.is_asked => {}
            GuestStep::ShutsDown => {
                let is_given_away = it.is_given_away;
                let why = if is_given_away { EndKind::Fenced } else { EndKind::Clean };
                self.kill(id, vm, why);
                // Who gives it away waits for that, or begins and looks.
                if !is_given_away {
                    self.plan_exit(id, vm, true);
                }
            }
        }
    }

    pub(super) fn hear_guest(&mut self, id: HostId, vm: VmId, process: ProcessId) {
        if self.hosts.get(&id).is_some_and(|host| !host.is_hung) {
            self.feed(id, Event::GuestHeard(vm));
        }
        // Where nobody waits for more than one sign of life, it must not come before the host's agent
        // is told of the start.
        let agent = self.hosts.get(&id).and_then(|host| host.agent.as_ref());
        let is_early = agent.is_none_or(|agent| agent.lanes.contains_key(&vm));
        if is_early || self.swarm.settings.monitoring != VmMonitoring::Off {
            let beat = Happening::Guest { host: id, vm, process, what: GuestStep::Beats };
            self.plan(GUEST_BEAT_MS, beat);
        }
    }

    /// An agent sees that a process has ended, now or when it goes on; one that begins later looks.
    pub(super) fn plan_exit(&mut self, id: HostId, vm: VmId, is_clean: bool) {
        let boot = self.hosts[&id].boots;
        self.plan(1, Happening::Exit { host: id, boot, vm, is_clean });
    }

    pub(crate) fn exit(&mut self, id: HostId, vm: VmId, is_clean: bool) {
        if is_clean {
            self.stay_off(id, vm);
        } else {
            self.tell_agent(id, vm, true);
            self.tell_manager(id, vm, true);
        }
    }

    /// A guest that ended by itself is not started again.
    fn stay_off(&mut self, id: HostId, vm: VmId) {
        let stopped = Act::Mark { state: LeaseState::Stopped, must: true };
        let acts = [stopped, Act::Register(PowerState::Off)];
        self.push_work(id, Work::new(vm, Goal::Nobody, acts));
    }

    pub(crate) fn ask_guest(&mut self, id: HostId, vm: VmId, is_given_away: bool) {
        let wait = 200 + self.below(3_000);
        let known = self.hosts.get_mut(&id).and_then(|host| host.disk.registry.get_mut(&vm));
        if let Some(known) = known.filter(|_| is_given_away) {
            known.is_leaving = true;
        }
        let process = self.hosts.get_mut(&id).and_then(|host| host.processes.get_mut(&vm));
        let Some(process) = process else { return };
        process.is_asked = true;
        process.is_given_away |= is_given_away;
        let process = process.id;
        self.plan(wait, Happening::Guest { host: id, vm, process, what: GuestStep::ShutsDown });
    }

    pub(crate) fn reset_guest(&mut self, id: HostId, vm: VmId) {
        let wait = 1 + self.below(self.swarm.boot_ms);
        let process = self.hosts.get_mut(&id).and_then(|host| host.processes.get_mut(&vm));
        let Some(process) = process else { return };
        process.is_hung = false;
        process.is_ready = false;
        process.is_asked = false;
        let process = process.id;
        self.plan(wait, Happening::Guest { host: id, vm, process, what: GuestStep::Boots });
    }

    /// A VM's process crashes; its lease says that it runs, so its host starts it again.
    pub(crate) fn crash_guest(&mut self, id: HostId, vm: VmId) {
        self.kill(id, vm, EndKind::Died);
        self.plan_exit(id, vm, false);
    }
}
