//! Networks.

use racknest_api::operation::Nothing;
use racknest_api::page::Page;
use racknest_api::v1::network::{
    Network, NetworkCreate, NetworkDelete, NetworkEdit, NetworkList, NetworkPatch, NetworkShow,
    PortBinding, PrivatePart, Shaping, TeamingPolicy,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::network::{CopyNetwork, EditNetwork, NewNetwork};
use racknest_cluster::inventory::switch_sync::SwitchChange;
use racknest_cluster::record::network::{self as record, Binding, NetworkPolicy, NetworkRecord};
use racknest_types::fault::Fault;

use super::call::{Call, View};
use super::convert::{count, datacenter, fits, reference};
use super::routes::Routes;
use super::{folder, network_services, switch};

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
    let (binding, _, auto_expand) = shown_binding(network.binding);
    let shown = Network {
        id: network.id,
        name: network.name.clone(),
        folder: reference(inventory, network.folder),
        datacenter: datacenter(inventory, network.id),
        switch: network.switch.map(|switch| reference(inventory, switch)),
        binding,
        ports: inventory.port_count(network),
        ports_used: inventory.nics_attached(network.id),
        auto_expand: auto_expand.unwrap_or_default(),
        vlan: network.vlan,
        private_part: policy.private.map(shown_part),
        private_vlan: policy.private.and_then(vlan_of),
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
        teaming: shown_teaming(policy.teaming.policy),
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

const fn shown_part(part: record::PrivatePart) -> PrivatePart {
    match part {
        record::PrivatePart::Promiscuous => PrivatePart::Promiscuous,
        record::PrivatePart::Isolated(_) => PrivatePart::Isolated,
        record::PrivatePart::Community(_) => PrivatePart::Community,
    }
}

const fn vlan_of(part: record::PrivatePart) -> Option<u16> {
    match part {
        record::PrivatePart::Promiscuous => None,
        record::PrivatePart::Isolated(vlan) | record::PrivatePart::Community(vlan) => Some(vlan),
    }
}

const fn shown_teaming(teaming: record::TeamingPolicy) -> TeamingPolicy {
    match teaming {
        record::TeamingPolicy::OriginatingPort => TeamingPolicy::OriginatingPort,
        record::TeamingPolicy::SourceMac => TeamingPolicy::SourceMac,
        record::TeamingPolicy::IpHash => TeamingPolicy::IpHash,
        record::TeamingPolicy::Explicit => TeamingPolicy::Explicit,
    }
}

/// A binding as it is shown: the number of ports and whether there may be more, with static binding.
pub(super) const fn shown_binding(binding: Binding) -> (PortBinding, Option<u32>, Option<bool>) {
    match binding {
        Binding::Static { ports, auto_expand } => {
            (PortBinding::Static, Some(ports), Some(auto_expand))
        }
        Binding::Ephemeral => (PortBinding::Ephemeral, None, None),
    }
}

/// A binding after a change.
pub(super) fn changed_binding(known: Binding, patch: &NetworkPatch) -> Binding {
    let (ports, auto_expand) = match known {
        Binding::Static { ports, auto_expand } => (ports, auto_expand),
        Binding::Ephemeral => (record::PORTS, true),
    };
    let stays = match known {
        Binding::Static { .. } => PortBinding::Static,
        // Who gives it a number of ports means ports that have numbers.
        Binding::Ephemeral if patch.ports.is_some() => PortBinding::Static,
        Binding::Ephemeral => PortBinding::Ephemeral,
    };
    match patch.binding.unwrap_or(stays) {
        PortBinding::Static => Binding::Static {
            ports: patch.ports.unwrap_or(ports),
            auto_expand: patch.auto_expand.unwrap_or(auto_expand),
        },
        PortBinding::Ephemeral => Binding::Ephemeral,
    }
}

/// The change that makes a policy of which nothing is said this one.
pub(super) fn as_patch(policy: &NetworkPolicy) -> NetworkPatch {
    NetworkPatch {
        private_part: policy.private.map(shown_part),
        private_vlan: policy.private.and_then(vlan_of),
        trunk: (!policy.trunk.is_empty()).then(|| ranges(&policy.trunk)),
        promiscuous: Some(policy.promiscuous),
        mac_changes: Some(policy.mac_changes),
        forged_transmits: Some(policy.forged_transmits),
        mac_learning: Some(policy.mac_learning),
        mtu: Some(policy.mtu),
        broadcast_limit: policy.broadcast_limit,
        multicast_limit: policy.multicast_limit,
        shaping_in: policy.shaping_in.map(shown),
        shaping_out: policy.shaping_out.map(shown),
        teaming: Some(shown_teaming(policy.teaming.policy)),
        active_nics: Some(policy.teaming.active.clone()),
        standby_nics: Some(policy.teaming.standby.clone()),
        failback: Some(policy.teaming.failback),
        blocked: Some(policy.blocked),
        ..NetworkPatch::default()
    }
}

const fn shown(shaping: record::Shaping) -> Shaping {
    let record::Shaping { average_kbps, peak_kbps, burst_kib } = shaping;
    Shaping { average_kbps, peak_kbps, burst_kib }
}

/// Ranges of VLANs as people write them: `10,20-29`.
pub(super) fn ranges(trunk: &[(u16, u16)]) -> String {
    let written = trunk.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    written.collect::<Vec<_>>().join(",")
}

pub(super) fn read_ranges(text: &str) -> Result<Vec<(u16, u16)>, Fault> {
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
pub(super) fn changed(
    policy: &NetworkPolicy,
    patch: &NetworkPatch,
) -> Result<NetworkPolicy, Fault> {
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
    let known_vlan = known.and_then(vlan_of);
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
        let named = new.switch.as_ref();
        let switch = named.map(|name| desk.inventory.find_switch(name)).transpose()?;
        // A network of a switch goes to the switch's own folder.
        let folder = match (switch, &new.folder) {
            (Some(switch), None) => {
                let folder = desk.inventory.switch(switch)?.folder;
                desk.view().authorize(folder).map(|()| Some(folder))?
            }
            (_, name) => folder::to_make_in(&desk.view(), name.as_deref(), |it| it.network_folder)?,
        };
        let source = new.copy_of.as_deref();
        if let Some(source) = source.map(|name| desk.view().find_network(name)).transpose()? {
            let vlan = Some(new.vlan).filter(|vlan| *vlan > 0);
            let copy = CopyNetwork { source, folder, name: &new.name, vlan };
            let id = desk.inventory.network_copy(desk.now, desk.user, copy)?;
            return Ok(show(desk.inventory, desk.inventory.network(id)?));
        }
        let binding = NetworkPatch {
            binding: new.binding,
            ports: new.ports,
            auto_expand: new.auto_expand,
            ..NetworkPatch::default()
        };
        let binding = changed_binding(Binding::default(), &binding);
        let wanted = NewNetwork { name: new.name, folder, vlan: new.vlan, switch, binding };
        let id = desk.inventory.network_create_on(desk.now, desk.user, wanted)?;
        Ok(show(desk.inventory, desk.inventory.network(id)?))
    })
    .await
}

async fn edit(call: Call<NetworkEdit>) -> Result<Network, Fault> {
    let (network, patch) = (call.name(0), call.body.clone());
    if patch.atomic {
        let (id, edit) = call.look(|view| {
            let id = view.find_network(&network)?;
            Ok::<_, Fault>((id, edited(view, view.inventory.network(id)?, patch)?))
        })?;
        switch::agreed(&call, SwitchChange::Network(id, edit)).await?;
        return call.look(|view| Ok(show(view.inventory, view.inventory.network(id)?)));
    }
    call.run(move |desk| {
        let id = desk.view().find_network(&network)?;
        let edit = edited(&desk.view(), desk.inventory.network(id)?, patch)?;
        desk.inventory.network_edit(desk.now, desk.user, id, edit)?;
        Ok(show(desk.inventory, desk.inventory.network(id)?))
    })
    .await
}

fn edited(
    view: &View<'_>,
    network: &NetworkRecord,
    patch: NetworkPatch,
) -> Result<EditNetwork, Fault> {
    let services = network_services::changed(view, network.services.as_ref(), &patch)?;
    let policy = changed(&network.policy, &patch)?;
    let binding = changed_binding(network.binding, &patch);
    let (name, vlan) = (patch.name, patch.vlan);
    Ok(EditNetwork { name, vlan, policy: Some(policy), binding: Some(binding), services })
}

async fn delete(call: Call<NetworkDelete>) -> Result<Nothing, Fault> {
    let network = call.name(0);
    call.run(move |desk| {
        let id = desk.view().find_network(&network)?;
        desk.inventory.network_delete(desk.now, desk.user, id).map(|()| Nothing {})
    })
    .await
}
