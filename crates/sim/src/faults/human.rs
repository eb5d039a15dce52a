//! People: a host put into maintenance or disconnected in the middle of everything, and put back.

use racknest_cluster::record::host::{HostConnection, Maintenance};
use racknest_types::id::HostId;

use super::{Begun, FaultKind};
use crate::workload::USER;
use crate::world::World;

impl World {
    pub(super) fn err(&mut self, kind: FaultKind) -> Begun {
        let Some(host) = self.any_host(|_| true) else { return Begun::Not };
        let evacuates = self.below(2) == 0;
        let done = self.command(|inventory, now| {
            if kind == FaultKind::Disconnect {
                inventory.host_disconnect(now, USER, host)
            } else {
                inventory.host_maintenance_enter(now, USER, host, evacuates).map(drop)
            }
        });
        if done.is_ok() { Begun::Lasts(Some(host)) } else { Begun::Not }
    }

    /// Takes back what people did to a host.
    pub(super) fn make_good(&mut self, host: HostId) {
        let record = self.manager.inventory.as_ref().and_then(|it| it.host(host).ok());
        let Some((connection, maintenance)) = record.map(|it| (it.connection, it.maintenance))
        else {
            return;
        };
        let stays = self.below(2) == 0;
        let done = self.command(|inventory, now| {
            if connection == HostConnection::Disconnected {
                inventory.host_connect(now, USER, host)?;
            }
            if maintenance != Maintenance::Off {
                inventory.host_maintenance_exit(now, USER, host, stays)?;
            }
            Ok(())
        });
        // What the inventory refuses here is healed at the end of the run once more.
        let _ = done;
    }
}
