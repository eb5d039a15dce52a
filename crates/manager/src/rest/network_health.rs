//! What the health checks of switches found.

use racknest_api::page::Page;
use racknest_api::v1::switch::{NetworkHealth, UplinkHealth, UplinkState};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::host::HostRecord;
use racknest_cluster::wire::host_network::{self as wire, UplinkFinding};
use racknest_types::fault::Fault;

use super::call::Call;
use super::convert::reference;
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on::<NetworkHealth, _>(list)
}

fn show(inventory: &Inventory, host: &HostRecord, health: &wire::UplinkHealth) -> UplinkHealth {
    // Who is alone hears nobody, however well the wires are.
    let state = match (health.finding, inventory.has_peer(health.switch, host.id)) {
        (UplinkFinding::Ok, _) => UplinkState::Ok,
        (_, false) => UplinkState::NoPeer,
        (UplinkFinding::MtuMismatch, true) => UplinkState::MtuMismatch,
        (UplinkFinding::OneWay, true) => UplinkState::OneWay,
        (UplinkFinding::VlanMissing, true) => UplinkState::VlanMissing,
    };
    UplinkHealth {
        switch: reference(inventory, health.switch).name,
        host: reference(inventory, host.id),
        nic: health.nic.clone(),
        vlan: health.vlan,
        mtu: health.mtu,
        state,
    }
}

async fn list(call: Call<NetworkHealth>) -> Result<Page<UplinkHealth>, Fault> {
    call.look(|view| {
        let switch = call.query.switch.as_ref().map(|text| view.find_switch(text)).transpose()?;
        let sight = view.sight();
        let hosts = view.inventory.hosts().filter(|host| sight.sees(host.id));
        let health = hosts.flat_map(|host| {
            view.inventory.network_health(host.id).map(move |health| (host, health))
        });
        let health = health.filter(|(_, it)| switch.is_none_or(|switch| it.switch == switch));
        Ok(Page::whole(health.map(|(host, it)| show(view.inventory, host, it)).collect()))
    })
}
