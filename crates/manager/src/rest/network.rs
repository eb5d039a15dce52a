//! Networks.

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::network::{
    Network, NetworkCreate, NetworkDelete, NetworkEdit, NetworkList, NetworkPatch, NetworkShow,
    PrivatePart, Shaping, TeamingPolicy,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::network::{CopyNetwork, EditNetwork};
use racknest_cluster::record::network::{self as record, NetworkPolicy, NetworkRecord};
use racknest_types::fault::Fault;

use super::call::Call;
use super::convert::{count, datacenter, fits, reference};
use super::folder;
use super::network_services;
use super::routes::Routes;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<NetworkList, _>(list)
        .on::<NetworkShow, _>(show_one)
        .on::<NetworkCreate, _>(create)
        .on::<NetworkEdit, _>(edit)
        .on::<NetworkDelete, _>(delete)
}

fn show(inventory: &Inventory, network: &NetworkRecord) -> Network {
    let policy = &network.policy;
    let shown = Network {
        id: network.id,
        name: network.name.clone(),
        folder: reference(inventory, network.folder),
        datacenter: datacenter(inventory, network.id),
        vlan: network.vlan,
        private_part: policy.private.map(|part| match part {
            record::PrivatePart::Promiscuous => PrivatePart::Promiscuous,
            record::PrivatePart::Isolated(_) => PrivatePart::Isolated,
            record::PrivatePart::Community(_) => PrivatePart::Community,
        }),
        private_vlan: policy.private.and_then(|part| match part {
            record::PrivatePart::Promiscuous => None,
            record::PrivatePart::Isolated(vlan) | record::PrivatePart::Community(vlan) => {
                Some(vlan)
            }
        }),
        trunk: ranges(&policy.trunk),
        promiscuous: policy.promiscuous,
        mac_changes: policy.mac_changes,
        forged_transmits: policy.forged_transmits,
        mac_learning: policy.mac_learning,
        mtu: policy.mtu,
        broadcast_limit: policy.broadcast_limit,
        multicast_limit: policy.multicast_limit,
        shaping_in: policy.shaping_in.map(shown),
        shaping_out: policy.shaping_out.map(shown),
        teaming: match policy.teaming.policy {
            record::TeamingPolicy::OriginatingPort => TeamingPolicy::OriginatingPort,
            record::TeamingPolicy::SourceMac => TeamingPolicy::SourceMac,
            record::TeamingPolicy::IpHash => TeamingPolicy::IpHash,
            record::TeamingPolicy::Explicit => TeamingPolicy::Explicit,
        },
        active_nics: policy.teaming.active.clone(),
        standby_nics: policy.teaming.standby.clone(),
        failback: policy.teaming.failback,
        blocked: policy.blocked,
        subnet: None,
        gateway: None,
        dhcp: None,
        dhcp_range: None,
        dns: None,
        dns_domain: None,
        nat: None,
        routed: None,
        firewall: Vec::new(),
        firewall_default: None,
        reservations: Vec::new(),
        spoof_guard: policy.spoof_guard,
        arp_suppression: policy.arp_suppression,
        vm_count: count(inventory.vms_attached(network.id)),
    };
    network_services::shown(inventory, network.services.as_ref(), shown)
}

const fn shown(shaping: record::Shaping) -> Shaping {
    let record::Shaping { average_kbps, peak_kbps, burst_kib } = shaping;
    Shaping { average_kbps, peak_kbps, burst_kib }
}

/// Ranges of VLANs as people write them: `10,20-29`.
fn ranges(trunk: &[(u16, u16)]) -> String {
    let written = trunk.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    written.collect::<Vec<_>>().join(",")
}

fn read_ranges(text: &str) -> Result<Vec<(u16, u16)>, Fault> {
    let bad = |word: &str| {
        Fault::invalid(format!("'{word}' is no range of VLANs: write them as in 10,20-29"))
    };
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let range = |word: &str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| bad(word));
        Ok((number(first)?, number(last)?))
    };
    words.map(range).collect()
}

/// A policy after a change.
fn changed(policy: &NetworkPolicy, patch: &NetworkPatch) -> Result<NetworkPolicy, Fault> {
    let mut new = policy.clone();
    let set = |to: &mut bool, wanted: Option<bool>| *to = wanted.unwrap_or(*to);
    set(&mut new.promiscuous, patch.promiscuous);
    set(&mut new.mac_changes, patch.mac_changes);
    set(&mut new.forged_transmits, patch.forged_transmits);
    set(&mut new.mac_learning, patch.mac_learning);
    set(&mut new.teaming.failback, patch.failback);
    set(&mut new.blocked, patch.blocked);
    set(&mut new.spoof_guard, patch.spoof_guard);
    set(&mut new.arp_suppression, patch.arp_suppression);
    new.mtu = patch.mtu.unwrap_or(new.mtu);
    let limit = |known: Option<u32>, wanted: Option<u32>| match wanted {
        None => known,
        Some(0) => None,
        Some(limit) => Some(limit),
    };
    new.broadcast_limit = limit(new.broadcast_limit, patch.broadcast_limit);
    new.multicast_limit = limit(new.multicast_limit, patch.multicast_limit);
    let shaping = |known: Option<record::Shaping>, wanted: Option<Shaping>| match wanted {
        None => known,
        Some(Shaping { average_kbps: 0, .. }) => None,
        Some(Shaping { average_kbps, peak_kbps, burst_kib }) => {
            Some(record::Shaping { average_kbps, peak_kbps, burst_kib })
        }
    };
    new.shaping_in = shaping(new.shaping_in, patch.shaping_in);
    new.shaping_out = shaping(new.shaping_out, patch.shaping_out);
    if let Some(teaming) = patch.teaming {
        new.teaming.policy = match teaming {
            TeamingPolicy::OriginatingPort => record::TeamingPolicy::OriginatingPort,
            TeamingPolicy::SourceMac => record::TeamingPolicy::SourceMac,
            TeamingPolicy::IpHash => record::TeamingPolicy::IpHash,
            TeamingPolicy::Explicit => record::TeamingPolicy::Explicit,
        };
    }
    new.teaming.active = patch.active_nics.clone().unwrap_or(new.teaming.active);
    new.teaming.standby = patch.standby_nics.clone().unwrap_or(new.teaming.standby);
    if let Some(trunk) = &patch.trunk {
        new.trunk = read_ranges(trunk)?;
    }
    new.private = private(new.private, patch)?;
    Ok(new)
}

fn private(
    known: Option<record::PrivatePart>,
    patch: &NetworkPatch,
) -> Result<Option<record::PrivatePart>, Fault> {
    let known_vlan = known.and_then(|part| match part {
        record::PrivatePart::Promiscuous => None,
        record::PrivatePart::Isolated(vlan) | record::PrivatePart::Community(vlan) => Some(vlan),
    });
    let vlan = || {
        let missing = || Fault::invalid("name the VLAN of the part: private_vlan");
        patch.private_vlan.or(known_vlan).ok_or_else(missing)
    };
    Ok(match (patch.private_part, known) {
        (None, Some(record::PrivatePart::Isolated(_))) => {
            Some(record::PrivatePart::Isolated(vlan()?))
        }
        (None, Some(record::PrivatePart::Community(_))) => {
            Some(record::PrivatePart::Community(vlan()?))
        }
        (None, known) => known,
        (Some(PrivatePart::None), _) => None,
        (Some(PrivatePart::Promiscuous), _) => Some(record::PrivatePart::Promiscuous),
        (Some(PrivatePart::Isolated), _) => Some(record::PrivatePart::Isolated(vlan()?)),
        (Some(PrivatePart::Community), _) => Some(record::PrivatePart::Community(vlan()?)),
    })
}

async fn list(call: Call<NetworkList>) -> Result<Page<Network>, Fault> {
    let name = call.query.name.as_deref();
    Ok(call.look(|view| {
        let sight = view.sight();
        let networks = view.inventory.networks();
        let seen = networks.filter(|it| fits(name, &it.name) && sight.sees(it.id));
        Page::whole(seen.map(|network| show(view.inventory, network)).collect())
    }))
}

async fn show_one(call: Call<NetworkShow>) -> Result<Network, Fault> {
    call.look(|view| {
        let network = view.find_network(&call.name(0))?;
        Ok(show(view.inventory, view.inventory.network(network)?))
    })
}

async fn create(call: Call<NetworkCreate>) -> Result<Network, Fault> {
    let new = call.body.clone();
    call.run(move |desk| {
        let folder =
            folder::to_make_in(&desk.view(), new.folder.as_deref(), |it| it.network_folder)?;
        let (now, user) = (desk.now, desk.user);
        let source =
            new.copy_of.as_deref().map(|name| desk.view().find_network(name)).transpose()?;
        let id = match source {
            None => desk.inventory.network_create(now, user, folder, &new.name, new.vlan)?,
            Some(source) => {
                let vlan = Some(new.vlan).filter(|vlan| *vlan > 0);
                let copy = CopyNetwork { source, folder, name: &new.name, vlan };
                desk.inventory.network_copy(now, user, copy)?
            }
        };
        Ok(show(desk.inventory, desk.inventory.network(id)?))
    })
    .await
}

async fn edit(call: Call<NetworkEdit>) -> Result<Network, Fault> {
    let (network, patch) = (call.name(0), call.body.clone());
    call.run(move |desk| {
        let id = desk.view().find_network(&network)?;
        let known = desk.inventory.network(id)?;
        let policy = changed(&known.policy, &patch)?;
        let services = network_services::changed(&desk.view(), known.services.as_ref(), &patch)?;
        let (name, vlan) = (patch.name, patch.vlan);
        let edit = EditNetwork { name, vlan, policy: Some(policy), services };
        desk.inventory.network_edit(desk.now, desk.user, id, edit)?;
        Ok(show(desk.inventory, desk.inventory.network(id)?))
    })
    .await
}

async fn delete(call: Call<NetworkDelete>) -> Result<Nothing, Fault> {
    let network = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_network(&network)?;
        desk.inventory.network_delete(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}
