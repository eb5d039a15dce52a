//! Sessions that copy what passes by ports.

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::network_watch::{
    MirrorDirection, NetworkMirror, NetworkMirrorCreate, NetworkMirrorDelete, NetworkMirrorList,
    NewNetworkMirror,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::switching::{
    self as record, MirrorSession, MirrorSource, MirrorTarget,
};
use racknest_types::fault::Fault;
use racknest_types::id::VmId;

use super::call::{Call, View};
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<NetworkMirrorList, _>(list)
        .on::<NetworkMirrorCreate, _>(create)
        .on::<NetworkMirrorDelete, _>(delete)
}

fn show(inventory: &Inventory, session: &MirrorSession) -> NetworkMirror {
    let guest = |vm: VmId, nic: u32| format!("{}/{nic}", inventory.name(vm.into()));
    let from = session.sources.iter().map(|source| match source {
        MirrorSource::Guest { vm, nic } => guest(*vm, *nic),
        MirrorSource::Uplink { host, nic } => format!("{host}/{nic}"),
    });
    NetworkMirror {
        name: session.name.clone(),
        number: session.number,
        from: from.collect(),
        vlan: session.vlan,
        direction: match session.direction {
            record::MirrorDirection::Both => MirrorDirection::Both,
            record::MirrorDirection::Sent => MirrorDirection::Sent,
            record::MirrorDirection::Received => MirrorDirection::Received,
        },
        to: match &session.target {
            MirrorTarget::Guest { vm, nic } => guest(*vm, *nic),
            MirrorTarget::File { .. } => format!("mirrors/{}.pcapng of each host", session.name),
            MirrorTarget::Remote { address } => address.clone(),
        },
    }
}

/// `VM` or `VM/NIC`: a NIC of it, the first if none is named.
fn guest(view: &View<'_>, text: &str) -> Result<(VmId, u32), Fault> {
    let (vm, key) = match view.inventory.find_vm(text) {
        Ok(vm) => (vm, None),
        Err(fault) => {
            let (vm, key) = text.rsplit_once('/').ok_or_else(|| fault.clone())?;
            let key = key.parse::<u32>().map_err(|_| fault)?;
            (view.inventory.find_vm(vm)?, Some(key))
        }
    };
    let record = view.inventory.vm(vm)?;
    let mut nics = record.config.nics.iter().map(|nic| nic.key);
    let found = nics.find(|nic| key.is_none_or(|key| *nic == key));
    let nic = found.ok_or_else(|| match key {
        Some(key) => Fault::not_found(format!("NIC {key} of VM '{}'", record.name)),
        None => Fault::state(format!("VM '{}' has no NIC", record.name)),
    })?;
    Ok((vm, nic))
}

fn source(view: &View<'_>, text: &str) -> Result<MirrorSource, Fault> {
    match guest(view, text) {
        Ok((vm, nic)) => Ok(MirrorSource::Guest { vm, nic }),
        Err(fault) => {
            let (host, nic) = text.rsplit_once('/').ok_or_else(|| fault.clone())?;
            let host = view.inventory.find_host(host).map_err(|_| fault)?;
            let record = view.inventory.host(host)?;
            Ok(MirrorSource::Uplink { host: record.name.clone(), nic: nic.to_owned() })
        }
    }
}

fn session(view: &View<'_>, new: &NewNetworkMirror) -> Result<MirrorSession, Fault> {
    let target = match (&new.to_vm, &new.to_address, new.file_bytes) {
        (Some(vm), None, None) => {
            let (vm, nic) = guest(view, vm)?;
            MirrorTarget::Guest { vm, nic }
        }
        (None, Some(address), None) => MirrorTarget::Remote { address: address.clone() },
        (None, None, Some(bytes_max)) => MirrorTarget::File { bytes_max },
        (None | Some(_), None | Some(_), None | Some(_)) => {
            return Err(Fault::invalid(
                "say where copies go: to_vm, to_address or file_bytes, one of them",
            ));
        }
    };
    let sources = new.from.iter().map(|text| source(view, text)).collect::<Result<_, _>>()?;
    let direction = match new.direction.unwrap_or_default() {
        MirrorDirection::Both => record::MirrorDirection::Both,
        MirrorDirection::Sent => record::MirrorDirection::Sent,
        MirrorDirection::Received => record::MirrorDirection::Received,
    };
    let name = new.name.clone();
    Ok(MirrorSession { number: 0, name, sources, vlan: new.vlan, direction, target })
}

async fn list(call: Call<NetworkMirrorList>) -> Result<Page<NetworkMirror>, Fault> {
    call.look(|view| {
        view.authorize_root()?;
        let sessions = &view.inventory.switch_settings().mirrors;
        Ok(Page::whole(sessions.iter().map(|it| show(view.inventory, it)).collect()))
    })
}

async fn create(call: Call<NetworkMirrorCreate>) -> Result<NetworkMirror, Fault> {
    let new = call.body.clone();
    call.run(move |desk| {
        // It shows what any guest says, so it takes the privilege for all of them.
        desk.view().authorize_root()?;
        let session = session(&desk.view(), &new)?;
        let number = desk.inventory.mirror_create(desk.now, desk.user, session.clone())?;
        Ok(show(desk.inventory, &MirrorSession { number, ..session }))
    })
    .await
}

async fn delete(call: Call<NetworkMirrorDelete>) -> Result<Nothing, Fault> {
    let name = call.name(0);
    call.run(move |desk| {
        desk.view().authorize_root()?;
        desk.inventory.mirror_delete(desk.now, desk.user, &name).map(|()| Nothing {})
    })
    .await
}
