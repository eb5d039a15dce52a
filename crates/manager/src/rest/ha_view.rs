//! High availability, as it is shown: between the words of records and those of the interface.

use racknest_api::v1::ha as api;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::cluster::ClusterRecord;
use racknest_cluster::record::ha::{
    AdmissionPolicy, HaRole, HaTimings, IsolationResponse, ProactiveResponse, Readiness,
    RestartPriority, StorageResponse, VmHaPolicy, VmMonitoring,
};
use racknest_cluster::record::host::HostRecord;
use racknest_cluster::record::vm::VmRecord;
use racknest_cluster::wire::ha::HostHealth;

use super::convert::{count, reference, time};

/// Words that are the same on both sides, each way.
macro_rules! words {
    ($($show:ident $read:ident $record:ident = $($word:ident)*;)*) => {
        $(
            pub(super) const fn $show(word: $record) -> api::$record {
                match word {
                    $($record::$word => api::$record::$word,)*
                }
            }

            pub(super) const fn $read(word: api::$record) -> $record {
                match word {
                    $(api::$record::$word => $record::$word,)*
                }
            }
        )*
    };
}

words! {
    isolation read_isolation IsolationResponse = LeavePoweredOn PowerOff ShutDown;
    priority read_priority RestartPriority = Disabled Lowest Low Medium High Highest;
    readiness read_readiness Readiness = Placed PoweredOn GuestHeartbeat;
    storage read_storage StorageResponse = Event Conservative Aggressive;
    proactive read_proactive ProactiveResponse = Off Quarantine Maintenance Mixed;
}

/// HA of a cluster.
pub(super) fn cluster(inventory: &Inventory, record: &ClusterRecord) -> api::ClusterHa {
    let ha = &record.ha;
    let primary = inventory.ha_primary(record.id);
    api::ClusterHa {
        enabled: ha.enabled,
        armed: ha.armed,
        primary: primary.map(|host| reference(inventory, host.id)),
        is_holding: primary.is_some_and(|host| host.ha.is_holding),
        profile: match ha.timings {
            HaTimings::LAB => api::TimingProfile::Lab,
            HaTimings::VSPHERE => api::TimingProfile::Vsphere,
            _ => api::TimingProfile::Custom,
        },
        timings: timings(&ha.timings),
        isolation_response: isolation(ha.isolation_response),
        isolation_addresses: ha.isolation_addresses.clone(),
        witness: ha.witness.clone(),
        restart_priority: priority(ha.restart_priority),
        readiness: readiness(ha.readiness),
        readiness_timeout_ms: ha.readiness_timeout_ms,
        monitoring: monitoring(ha.monitoring),
        all_paths_down: storage(ha.all_paths_down),
        permanent_device_loss: storage(ha.permanent_device_loss),
        proactive: proactive(ha.proactive),
        restarts_max: ha.restarts_max,
        mass_failure_permille: ha.mass_failure_permille,
        admission: admission(&ha.admission),
        policy_count: count(record.ha_policies.iter()),
    }
}

fn timings(timings: &HaTimings) -> api::HaTimings {
    api::HaTimings {
        beat_ms: timings.beat_ms,
        suspect_ms: timings.suspect_ms,
        dead_ms: timings.dead_ms,
        election_ms: timings.election_ms,
        isolation_ms: timings.isolation_ms,
        isolation_response_ms: timings.isolation_response_ms,
        shutdown_ms: timings.shutdown_ms,
        lease_ms: timings.lease_ms,
        all_paths_down_ms: timings.all_paths_down_ms,
        retry_ms: timings.retry_ms.to_vec(),
    }
}

pub(super) const fn monitoring(monitoring: VmMonitoring) -> api::Monitoring {
    match monitoring {
        VmMonitoring::Off => api::Monitoring::Off,
        VmMonitoring::On { silence_ms, resets_max, window_ms } => {
            api::Monitoring::On { silence_ms, resets_max, window_ms }
        }
    }
}

pub(super) const fn read_monitoring(monitoring: api::Monitoring) -> VmMonitoring {
    match monitoring {
        api::Monitoring::Off => VmMonitoring::Off,
        api::Monitoring::On { silence_ms, resets_max, window_ms } => {
            VmMonitoring::On { silence_ms, resets_max, window_ms }
        }
    }
}

pub(super) fn admission(policy: &AdmissionPolicy) -> api::Admission {
    match policy {
        AdmissionPolicy::Off => api::Admission::Off,
        AdmissionPolicy::Slots { failures } => api::Admission::Slots { failures: *failures },
        AdmissionPolicy::Percentage { cpu, memory } => {
            api::Admission::Percentage { cpu: *cpu, memory: *memory }
        }
        AdmissionPolicy::FailoverHosts(hosts) => {
            api::Admission::FailoverHosts { hosts: hosts.clone() }
        }
    }
}

pub(super) fn read_admission(admission: api::Admission) -> AdmissionPolicy {
    match admission {
        api::Admission::Off => AdmissionPolicy::Off,
        api::Admission::Slots { failures } => AdmissionPolicy::Slots { failures },
        api::Admission::Percentage { cpu, memory } => AdmissionPolicy::Percentage { cpu, memory },
        api::Admission::FailoverHosts { hosts } => AdmissionPolicy::FailoverHosts(hosts),
    }
}

/// How a host stands among its peers; `None` where HA is off.
pub(super) fn host(inventory: &Inventory, record: &HostRecord) -> Option<api::HostHa> {
    inventory.cluster(record.cluster).ok().filter(|cluster| cluster.ha.enabled)?;
    Some(api::HostHa {
        role: match record.ha.role {
            HaRole::Unknown => api::HaRole::Unknown,
            HaRole::Electing => api::HaRole::Electing,
            HaRole::Secondary(_) => api::HaRole::Secondary,
            HaRole::Primary => api::HaRole::Primary,
        },
        role_changed: time(record.ha.role_changed),
        health: inventory.ha_health(record.id).map(|health| match health {
            HostHealth::Live => api::HostHealth::Live,
            HostHealth::Suspected => api::HostHealth::Suspected,
            HostHealth::Partitioned => api::HostHealth::Partitioned,
            HostHealth::Isolated => api::HostHealth::Isolated,
            HostHealth::Dead => api::HostHealth::Dead,
            HostHealth::Away => api::HostHealth::Away,
        }),
    })
}

/// What HA does with a VM that has settings of its own.
pub(super) fn vm_if_own(inventory: &Inventory, record: &VmRecord) -> Option<api::VmHa> {
    inventory.vm_ha_policy(record.id)?;
    vm(inventory, record)
}

/// What HA does with a VM; `None` for a template.
pub(super) fn vm(inventory: &Inventory, record: &VmRecord) -> Option<api::VmHa> {
    let cluster = inventory.host(record.host).ok()?.cluster;
    let ha = &inventory.cluster(cluster).ok()?.ha;
    if record.is_template {
        return None;
    }
    let none = VmHaPolicy::default();
    let own = inventory.vm_ha_policy(record.id).unwrap_or(&none);
    let is_protected = inventory.vm_restart_priority(record.id) != RestartPriority::Disabled;
    Some(api::VmHa {
        is_protected,
        restart_priority: priority(own.restart_priority.unwrap_or(ha.restart_priority)),
        isolation_response: isolation(own.isolation_response.unwrap_or(ha.isolation_response)),
        readiness: readiness(own.readiness.unwrap_or(ha.readiness)),
        readiness_delay_ms: own.readiness_delay_ms,
        depends_on: own.depends_on.iter().map(|on| reference(inventory, *on)).collect(),
        monitoring: monitoring(own.monitoring.unwrap_or(ha.monitoring)),
        has_own_settings: *own != none,
    })
}
