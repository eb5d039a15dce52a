//! Reading over REST how a box is.

use std::collections::BTreeMap;

use anyhow::Context as _;
use racknest_api::operation::{Nothing, Operation};
use racknest_api::page::{LIMIT_MAX, Page};
use racknest_api::v1::cluster::{Cluster, ClusterList};
use racknest_api::v1::datacenter::DatacenterList;
use racknest_api::v1::datastore::{DatastoreFilter, DatastoreList};
use racknest_api::v1::ha::RestartPriority;
use racknest_api::v1::host::{Host, HostFilter, HostList};
use racknest_api::v1::network::{NetworkFilter, NetworkList};
use racknest_api::v1::rule::{ClusterGroupList, ClusterRuleList};
use racknest_api::v1::vm::{PowerState, Vm, VmFilter, VmList};
use racknest_api::v1::vm_config::Boot;
use racknest_types::bytes::Bytes;

use super::availability::{self, ActualAvailability};
use super::config::BootName;
use super::plan::{Actual, ActualHost, ActualVm};
use crate::client::Client;

/// Reads how a box is.
pub(crate) fn read(client: &Client) -> anyhow::Result<Actual> {
    let datacenters = client.get::<DatacenterList>(&[])?.items;
    let clusters = client.get::<ClusterList>(&[])?.items;
    let hosts = hosts(client)?;
    let datastores = client.call::<DatastoreList>(&[], &DatastoreFilter::default(), &Nothing {})?;
    let networks = client.call::<NetworkList>(&[], &NetworkFilter::default(), &Nothing {})?;
    let mut vms = vec![];
    let mut restarts: BTreeMap<String, Restarts> = BTreeMap::new();
    pages(client, |page: Page<Vm>| {
        vms.extend(page.items.iter().map(vm));
        for vm in page.items {
            let Some(ha) = vm.ha else { continue };
            let on = ha.depends_on.into_iter().map(|on| on.name).collect();
            restarts.entry(vm.cluster.name).or_default().insert(vm.name, (ha.restart_priority, on));
        }
    })?;
    let availability = clusters
        .iter()
        .map(|cluster| {
            let vms = restarts.remove(&cluster.name).unwrap_or_default();
            Ok((cluster.name.clone(), availability(client, cluster, vms)?))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Actual {
        datacenters: datacenters.into_iter().map(|datacenter| datacenter.name).collect(),
        clusters: clusters.into_iter().map(|cluster| cluster.name).collect(),
        hosts: hosts.into_iter().map(host).collect(),
        datastores: datastores.items.into_iter().map(|datastore| datastore.name).collect(),
        networks: networks.items.into_iter().map(|network| (network.name, network.vlan)).collect(),
        vms: vms.into_iter().collect(),
        availability,
    })
}

/// The VMs with HA settings of their own: their priority, and what they wait for.
type Restarts = BTreeMap<String, (RestartPriority, Vec<String>)>;

fn availability(
    client: &Client,
    cluster: &Cluster,
    vms: Restarts,
) -> anyhow::Result<ActualAvailability> {
    let named = [cluster.name.as_str()];
    let rules = client.get::<ClusterRuleList>(&named)?.items.into_iter().map(availability::rule);
    let groups = client.get::<ClusterGroupList>(&named)?.items.into_iter().map(availability::group);
    Ok(ActualAvailability {
        ha: availability::entry(&cluster.ha),
        rules: rules.map(|rule| (rule.name.clone(), rule)).collect(),
        groups: groups.map(|group| (group.name.clone(), group)).collect(),
        vms,
    })
}

/// All hosts.
pub(crate) fn hosts(client: &Client) -> anyhow::Result<Vec<Host>> {
    let mut filter = HostFilter { limit: Some(LIMIT_MAX), ..HostFilter::default() };
    let mut hosts = vec![];
    loop {
        let page = client.call::<HostList>(&[], &filter, &Nothing {})?;
        hosts.extend(page.items);
        match page.next {
            Some(next) => filter.after = Some(next),
            None => return Ok(hosts),
        }
    }
}

/// All VMs and templates, a page at a time: a hundred thousand at once are a gigabyte of JSON.
fn pages(
    client: &Client,
    mut on_page: impl FnMut(<VmList as Operation>::Answer),
) -> anyhow::Result<()> {
    let mut filter = VmFilter { limit: Some(LIMIT_MAX), ..VmFilter::default() };
    loop {
        let mut page = client.call::<VmList>(&[], &filter, &Nothing {})?;
        let next = page.next.take();
        on_page(page);
        match next {
            Some(next) => filter.after = Some(next),
            None => return Ok(()),
        }
    }
}

fn host(host: Host) -> (String, ActualHost) {
    let actual = ActualHost {
        cluster: host.cluster.name,
        memory: Bytes::from_mib(host.memory_mib),
        cores: host.cores,
        core_mhz: host.core_mhz,
        rack: host.rack,
    };
    (host.name, actual)
}

fn vm(vm: &Vm) -> (String, ActualVm) {
    let actual = ActualVm {
        is_template: vm.is_template,
        is_off: vm.power_state == PowerState::PoweredOff && !vm.is_template,
        boot: match vm.boot {
            Boot::Bios => BootName::Bios,
            Boot::Kernel { .. } => BootName::Live,
        },
        vcpus: vm.vcpus,
        memory: Bytes::from_mib(vm.memory_mib),
        disk: Bytes::new(vm.disks.first().map_or(0, |disk| disk.capacity_bytes)),
        cpu_allocation: vm.cpu_allocation,
        memory_allocation: vm.memory_allocation,
    };
    (vm.name.clone(), actual)
}

/// How many VMs are on, and how many there are, templates not counted.
pub(crate) fn summary(client: &Client) -> anyhow::Result<racknest_api::v1::about::Summary> {
    client.get::<racknest_api::v1::about::BoxSummary>(&[]).context("the box does not say how it is")
}
