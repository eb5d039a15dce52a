//! What holds for the switches of all hosts.

use racknest_api::v1::network_watch::{
    DiscoveryMode, DiscoveryProtocol, NetworkConfigure, NetworkSettings, NetworkSettingsPatch,
    NetworkSettingsShow,
};
use racknest_cluster::record::switching::{self as record, SwitchSettings};
use racknest_types::fault::Fault;

use super::call::Call;
use super::routes::Routes;

/// What is said for no collector.
const NO_COLLECTOR: &str = "none";

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on::<NetworkSettingsShow, _>(show_one).on::<NetworkConfigure, _>(configure)
}

fn show(settings: &SwitchSettings) -> NetworkSettings {
    let SwitchSettings { discovery, flows, .. } = settings;
    NetworkSettings {
        discovery_protocol: match discovery.protocol {
            record::DiscoveryProtocol::Lldp => DiscoveryProtocol::Lldp,
            record::DiscoveryProtocol::Cdp => DiscoveryProtocol::Cdp,
        },
        discovery: match discovery.mode {
            record::DiscoveryMode::Off => DiscoveryMode::Off,
            record::DiscoveryMode::Listen => DiscoveryMode::Listen,
            record::DiscoveryMode::Advertise => DiscoveryMode::Advertise,
            record::DiscoveryMode::Both => DiscoveryMode::Both,
        },
        snooping: settings.snooping,
        flows: flows.enabled,
        sampling: flows.sampling,
        active_seconds: flows.active_seconds,
        inactive_seconds: flows.inactive_seconds,
        collector: flows.collector.clone(),
    }
}

/// The settings after a change.
fn changed(settings: &SwitchSettings, patch: &NetworkSettingsPatch) -> SwitchSettings {
    let mut new = settings.clone();
    if let Some(protocol) = patch.discovery_protocol {
        new.discovery.protocol = match protocol {
            DiscoveryProtocol::Lldp => record::DiscoveryProtocol::Lldp,
            DiscoveryProtocol::Cdp => record::DiscoveryProtocol::Cdp,
        };
    }
    if let Some(mode) = patch.discovery {
        new.discovery.mode = match mode {
            DiscoveryMode::Off => record::DiscoveryMode::Off,
            DiscoveryMode::Listen => record::DiscoveryMode::Listen,
            DiscoveryMode::Advertise => record::DiscoveryMode::Advertise,
            DiscoveryMode::Both => record::DiscoveryMode::Both,
        };
    }
    new.snooping = patch.snooping.unwrap_or(new.snooping);
    let flows = &mut new.flows;
    flows.enabled = patch.flows.unwrap_or(flows.enabled);
    flows.sampling = patch.sampling.unwrap_or(flows.sampling);
    flows.active_seconds = patch.active_seconds.unwrap_or(flows.active_seconds);
    flows.inactive_seconds = patch.inactive_seconds.unwrap_or(flows.inactive_seconds);
    if let Some(collector) = &patch.collector {
        flows.collector = (collector != NO_COLLECTOR).then(|| collector.clone());
    }
    new
}

async fn show_one(call: Call<NetworkSettingsShow>) -> Result<NetworkSettings, Fault> {
    call.look(|view| {
        view.authorize_root()?;
        Ok(show(view.inventory.switch_settings()))
    })
}

async fn configure(call: Call<NetworkConfigure>) -> Result<NetworkSettings, Fault> {
    let patch = call.body.clone();
    call.run(move |desk| {
        desk.view().authorize_root()?;
        let settings = changed(desk.inventory.switch_settings(), &patch);
        desk.inventory.switch_configure(desk.now, desk.user, settings)?;
        Ok(show(desk.inventory.switch_settings()))
    })
    .await
}
