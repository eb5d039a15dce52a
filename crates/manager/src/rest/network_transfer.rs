//! Switches written down, and brought in again.

use std::collections::BTreeMap;

use racknest_api::v1::network::NetworkPatch;
use racknest_api::v1::switch::{NetworkExport, NetworkImport, SwitchChanges, SwitchFile};
use racknest_cluster::inventory::switch_transfer::{NetworkTemplate, SwitchTemplate};
use racknest_cluster::record::network::NetworkPolicy;
use racknest_types::fault::Fault;
use racknest_types::id::SwitchId;

use super::call::{Call, View};
use super::routes::Routes;
use super::{folder, network};

/// The version of the form.
const VERSION: u32 = 1;

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on::<NetworkExport, _>(export).on::<NetworkImport, _>(import)
}

async fn export(call: Call<NetworkExport>) -> Result<SwitchFile, Fault> {
    call.look(|view| {
        let id = the_one(view, call.query.switch.as_deref())?;
        Ok(written(view.inventory.switch_export(id)?))
    })
}

/// The switch that is named, or the only one.
fn the_one(view: &View<'_>, name: Option<&str>) -> Result<SwitchId, Fault> {
    if let Some(name) = name {
        return view.find_switch(name);
    }
    let mut switches = view.inventory.switches();
    match (switches.next(), switches.next()) {
        (Some(only), None) => view.authorize(only.id).map(|()| only.id),
        _ => {
            view.authorize_root()?;
            Err(Fault::invalid("there is not exactly one switch; say which one you mean"))
        }
    }
}

fn written(template: SwitchTemplate) -> SwitchFile {
    let network = |network: &NetworkTemplate| {
        let (binding, ports, auto_expand) = network::shown_binding(network.binding);
        NetworkPatch {
            name: Some(network.name.clone()),
            vlan: Some(network.vlan),
            binding: Some(binding),
            ports,
            auto_expand,
            ..network::as_patch(&network.policy)
        }
    };
    SwitchFile {
        version: VERSION,
        networks: template.networks.iter().map(network).collect(),
        name: template.name,
        host: template.host,
        mtu: template.mtu,
        uplinks: template.uplinks,
        all_hosts: template.takes_all,
        health_check: template.health_check,
        hosts: template.members.into_iter().collect(),
    }
}

fn read(file: SwitchFile) -> Result<SwitchTemplate, Fault> {
    if file.version != VERSION {
        return Err(Fault::unsupported(format!(
            "the file has version {}, this racknest reads version {VERSION}",
            file.version
        )));
    }
    let networks = file.networks.iter().map(|patch| {
        let name = patch.name.clone();
        if patch.subnet.is_some() || patch.firewall.is_some() {
            return Err(Fault::unsupported(
                "addresses and services of networks are not imported; take them out of the file",
            ));
        }
        Ok(NetworkTemplate {
            name: name.ok_or_else(|| Fault::invalid("a network of the file has no name"))?,
            vlan: patch.vlan.unwrap_or_default(),
            binding: network::changed_binding(<_>::default(), patch),
            policy: network::changed(&NetworkPolicy::default(), patch)?,
        })
    });
    let members: BTreeMap<String, Vec<String>> = file.hosts;
    Ok(SwitchTemplate {
        networks: networks.collect::<Result<_, Fault>>()?,
        name: file.name,
        host: file.host,
        mtu: file.mtu,
        uplinks: file.uplinks,
        takes_all: file.all_hosts,
        health_check: file.health_check,
        members: members.into_iter().collect(),
    })
}

async fn import(call: Call<NetworkImport>) -> Result<SwitchChanges, Fault> {
    let wanted = call.body.clone();
    let is_preview = wanted.preview;
    let template = read(wanted.file)?;
    let changes = call
        .run(move |desk| {
            let folder =
                folder::to_make_in(&desk.view(), wanted.folder.as_deref(), |it| it.network_folder)?;
            desk.inventory.switch_import(desk.now, desk.user, folder, &template, is_preview)
        })
        .await?;
    Ok(SwitchChanges { changes, is_preview })
}
