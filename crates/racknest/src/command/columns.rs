//! What a list of each kind shows, and what each kind is.

use crate::print::Column;

/// The columns of a list that an operation answers, by the operation's id.
pub(crate) fn of(id: &str) -> &'static [Column] {
    TABLE.iter().find(|(known, _)| *known == id).map_or(NAMED, |(_, columns)| columns)
}

/// What a kind is, in a few words.
pub(crate) fn about(kind: &str) -> &'static str {
    KINDS.iter().find(|(known, _)| *known == kind).map_or("", |(_, about)| about)
}

const NAMED: &[Column] = &[("NAME", "name"), ("ID", "id")];

const SESSIONS: &[Column] = &[
    ("ID", "id"),
    ("USER", "user"),
    ("NAME", "name"),
    ("FROM", "address"),
    ("LAST USED", "last_used:time"),
    ("EXPIRES", "expires:time"),
    ("THIS ONE", "is_current"),
];

const SWITCH_HOSTS: &[Column] = &[
    ("SWITCH", "switch"),
    ("HOST", "host"),
    ("UPLINKS", "uplinks"),
    ("STATE", "state"),
    ("WHY", "reason"),
];

const TABLE: &[(&str, &[Column])] = &[
    (
        "vm_list",
        &[
            ("NAME", "name"),
            ("POWER", "power_state"),
            ("HOST", "host"),
            ("VCPUS", "vcpus"),
            ("MEMORY", "memory_mib:mib"),
            ("DISK", "provisioned_bytes:bytes"),
            ("USED", "usage.disk_used_bytes:bytes"),
            ("ADDRESS", "guest_address"),
            ("TEMPLATE", "is_template"),
            ("ID", "id"),
        ],
    ),
    (
        "vm_snapshot_list",
        &[
            ("NAME", "name"),
            ("AFTER", "parent"),
            ("TAKEN", "created:time"),
            ("MEMORY", "has_memory"),
            ("CURRENT", "is_current"),
            ("ID", "id"),
        ],
    ),
    (
        "host_list",
        &[
            ("NAME", "name"),
            ("CONNECTION", "connection"),
            ("MAINTENANCE", "maintenance"),
            ("POWER", "power"),
            ("CLUSTER", "cluster"),
            ("RACK", "rack"),
            ("CORES", "cores"),
            ("MHZ", "core_mhz"),
            ("MEMORY", "memory_mib:mib"),
            ("VMS", "vm_count"),
            ("ON", "vms_powered_on"),
            ("HA", "ha.role"),
            ("HEALTH", "ha.health"),
            ("GUEST CODE", "accelerator"),
            ("VERSION", "version"),
            ("AGENT", "agent"),
        ],
    ),
    (
        "cluster_remediate",
        &[
            ("PLACE", "place"),
            ("HOST", "host"),
            ("ON", "vms_powered_on"),
            ("OFF", "vms_powered_off"),
            ("HA PRIMARY", "is_primary"),
            ("IN MAINTENANCE", "in_maintenance"),
            ("DONE", "is_done"),
            ("BLOCKED BECAUSE", "blocked"),
        ],
    ),
    (
        "vm_wire_list",
        &[("VM", "vm"), ("NIC", "nic"), ("PLUGGED IN", "is_up"), ("FAULTS", "faults")],
    ),
    (
        "link_list",
        &[
            ("HOST", "host"),
            ("NIC", "nic"),
            ("PLUGGED IN", "is_up"),
            ("FAULTS", "faults"),
            ("PORT VLANS", "port_vlans"),
            ("PORT MTU", "port_mtu"),
            ("RECEIVED", "rx_bytes:bytes"),
            ("SENT", "tx_bytes:bytes"),
            ("DROPPED", "dropped_frames"),
        ],
    ),
    (
        "drill_list",
        &[
            ("ID", "id"),
            ("KIND", "kind"),
            ("HOSTS", "hosts"),
            ("STATE", "state"),
            ("USER", "user"),
            ("STARTED", "started:time"),
            ("UNDONE", "undone:time"),
        ],
    ),
    (
        "cluster_list",
        &[
            ("NAME", "name"),
            ("DATACENTER", "datacenter"),
            ("HOSTS", "host_count"),
            ("CONNECTED", "hosts_connected"),
            ("VMS", "vm_count"),
            ("ON", "vms_powered_on"),
            ("MHZ", "cpu_mhz"),
            ("MEMORY", "memory_mib:mib"),
            ("MEMORY USED", "memory_used_mib:mib"),
            ("HA", "ha.enabled"),
        ],
    ),
    (
        "cluster_recommendations",
        &[
            ("NUMBER", "number"),
            ("PRIORITY", "priority"),
            ("MOVES", "what"),
            ("REASON", "reason"),
            ("IMBALANCE", "expected.imbalance_before_permille"),
            ("AFTER", "expected.imbalance_after_permille"),
            ("SECONDS", "seconds"),
            ("REFUSED", "refused"),
        ],
    ),
    (
        "cluster_apply",
        &[
            ("ID", "id"),
            ("OPERATION", "operation"),
            ("TARGET", "target"),
            ("STATE", "state"),
            ("DONE", "percent:percent"),
            ("USER", "user"),
            ("BEGAN", "created:time"),
            ("WHY NOT", "error.message"),
        ],
    ),
    (
        "cluster_rule_list",
        &[
            ("NAME", "name"),
            ("KIND", "kind"),
            ("STRENGTH", "strength"),
            ("ENABLED", "is_enabled"),
            ("VMS", "vm_group|vms"),
            ("WITH", "host_group|after_group"),
            ("NO EFFECT BECAUSE", "conflict"),
        ],
    ),
    (
        "cluster_group_list",
        &[("NAME", "name"), ("HOLDS", "holds"), ("MEMBERS", "vms|hosts"), ("RULES", "rules")],
    ),
    (
        "pool_list",
        &[
            ("NAME", "name"),
            ("CLUSTER", "cluster"),
            ("IN", "parent"),
            ("CPU RESERVED", "cpu_mhz.reservation"),
            ("CPU LIMIT", "cpu_mhz.limit"),
            ("MEMORY RESERVED", "memory_mib.reservation:mib"),
            ("MEMORY LIMIT", "memory_mib.limit:mib"),
            ("VMS", "vm_count"),
            ("ID", "id"),
        ],
    ),
    (
        "datastore_list",
        &[
            ("NAME", "name"),
            ("CAPACITY", "space.capacity_bytes:bytes"),
            ("FREE", "space.free_bytes:bytes"),
            ("USED", "space.used_bytes:bytes"),
            ("PROVISIONED", "provisioned_bytes:bytes"),
            ("VMS", "vm_count"),
            ("HOSTS", "hosts:count"),
            ("DIRECTORY", "directory"),
        ],
    ),
    (
        "datastore_browse",
        &[
            ("PATH", "path"),
            ("SIZE", "size_bytes:bytes"),
            ("USED", "used_bytes:bytes"),
            ("DIRECTORY", "is_directory"),
            ("MODIFIED", "modified:time"),
        ],
    ),
    (
        "network_list",
        &[
            ("NAME", "name"),
            ("SWITCH", "switch"),
            ("VLAN", "vlan"),
            ("BINDING", "binding"),
            ("PORTS", "ports"),
            ("USED", "ports_used"),
            ("VMS", "vm_count"),
            ("ID", "id"),
        ],
    ),
    (
        "network_ports",
        &[
            ("PORT", "port"),
            ("HOST", "host"),
            ("NETWORK", "network"),
            ("UP", "is_up"),
            ("UPLINK", "uplink"),
            ("IN", "frames_in"),
            ("BYTES IN", "bytes_in:bytes"),
            ("OUT", "frames_out"),
            ("BYTES OUT", "bytes_out:bytes"),
            ("DROPPED", "drops:pairs"),
            ("FAULTS", "faults"),
        ],
    ),
    (
        "network_macs",
        &[
            ("MAC", "mac"),
            ("VLAN", "vlan"),
            ("PORT", "port"),
            ("HOST", "host"),
            ("SILENT S", "age_seconds"),
        ],
    ),
    (
        "network_leases",
        &[
            ("NETWORK", "network.name"),
            ("ADDRESS", "address"),
            ("MAC", "mac"),
            ("NAME", "name"),
            ("VM", "vm.name"),
        ],
    ),
    (
        "network_firewall",
        &[
            ("NO", "number"),
            ("ACTION", "action"),
            ("FROM", "from"),
            ("TO", "to"),
            ("PROTOCOL", "protocol"),
            ("PORTS", "ports"),
        ],
    ),
    (
        "network_forwards",
        &[
            ("NO", "number"),
            ("LISTENS ON", "listen"),
            ("PROTOCOL", "protocol"),
            ("VM", "vm.name"),
            ("ADDRESS", "address"),
            ("PORT", "port"),
            ("TROUBLE", "trouble"),
        ],
    ),
    (
        "switch_list",
        &[
            ("NAME", "name"),
            ("STANDARD OF", "host"),
            ("MTU", "mtu"),
            ("UPLINKS", "uplinks"),
            ("ALL HOSTS", "all_hosts"),
            ("HOSTS", "host_count"),
            ("OUT OF SYNC", "hosts_out_of_sync"),
            ("NETWORKS", "networks:count"),
            ("GENERATION", "generation"),
            ("ID", "id"),
        ],
    ),
    ("switch_hosts", SWITCH_HOSTS),
    ("network_repair", SWITCH_HOSTS),
    (
        "network_health",
        &[
            ("SWITCH", "switch"),
            ("HOST", "host"),
            ("NIC", "nic"),
            ("VLAN", "vlan"),
            ("MTU", "mtu"),
            ("STATE", "state"),
        ],
    ),
    (
        "vmkernel_list",
        &[
            ("HOST", "host"),
            ("NAME", "name"),
            ("NETWORK", "network"),
            ("ADDRESS", "address"),
            ("MTU", "mtu"),
            ("SERVICES", "services"),
            ("NICS", "nics"),
        ],
    ),
    (
        "network_trace",
        &[
            ("AT", "place"),
            ("COMES BY", "entry"),
            ("GOES BY", "exit"),
            ("TAG", "tag"),
            ("DROPPED", "dropped"),
        ],
    ),
    (
        "network_neighbours",
        &[
            ("AT", "at"),
            ("NEIGHBOUR", "system"),
            ("ITS PORT", "port"),
            ("PORT IS", "port_description"),
            ("PROTOCOL", "protocol"),
            ("RUNS", "description"),
            ("CHASSIS", "chassis"),
        ],
    ),
    (
        "network_topology",
        &[
            ("FROM", "from"),
            ("TO", "to"),
            ("NETWORK", "network"),
            ("UP", "is_up"),
            ("FAULTS", "faults"),
            ("SENT", "sent_bytes:bytes"),
            ("RECEIVED", "received_bytes:bytes"),
            ("DROPPED", "dropped_frames"),
        ],
    ),
    (
        "network_mirror_list",
        &[
            ("NAME", "name"),
            ("NUMBER", "number"),
            ("FROM", "from"),
            ("VLAN", "vlan"),
            ("DIRECTION", "direction"),
            ("TO", "to"),
        ],
    ),
    (
        "network_flows",
        &[
            ("PROTOCOL", "protocol"),
            ("FROM", "source"),
            ("TO", "destination"),
            ("ENTERS BY", "entry"),
            ("LEAVES BY", "exit"),
            ("VLAN", "vlan"),
            ("FRAMES", "frames"),
            ("BYTES", "bytes:bytes"),
            ("BIT/S", "rate_bps"),
            ("AGE S", "age_seconds"),
            ("SILENT S", "silent_seconds"),
        ],
    ),
    ("folder_list", &[("PATH", "path"), ("HOLDS", "holds"), ("ID", "id")]),
    ("user_list", &[("NAME", "name"), ("ENABLED", "enabled"), ("ID", "id")]),
    (
        "role_list",
        &[("NAME", "name"), ("BUILT IN", "is_built_in"), ("PRIVILEGES", "privileges:count")],
    ),
    ("privilege_list", &[("NAME", "name"), ("OPERATIONS", "operations")]),
    (
        "permission_list",
        &[
            ("ID", "id"),
            ("ON", "entity"),
            ("USER", "user"),
            ("ROLE", "role"),
            ("BELOW TOO", "propagate"),
        ],
    ),
    ("session_list", SESSIONS),
    ("token_list", SESSIONS),
    (
        "task_list",
        &[
            ("ID", "id"),
            ("OPERATION", "operation"),
            ("TARGET", "target"),
            ("STATE", "state"),
            ("DONE", "percent:percent"),
            ("USER", "user"),
            ("BEGAN", "created:time"),
            ("WHY NOT", "error.message"),
        ],
    ),
    (
        "event_list",
        &[
            ("AT", "at:time"),
            ("KIND", "kind"),
            ("ON", "entity"),
            ("USER", "user"),
            ("MESSAGE", "message"),
        ],
    ),
    (
        "alarm_list",
        &[
            ("NAME", "name"),
            ("WATCHES", "trigger"),
            ("YELLOW", "yellow_permille:permille"),
            ("RED", "red_permille:permille"),
            ("ENABLED", "enabled"),
            ("RAISED", "raised_count"),
            ("ID", "id"),
        ],
    ),
    (
        "alarm_states",
        &[
            ("ALARM", "alarm"),
            ("ON", "entity"),
            ("STATUS", "status"),
            ("SINCE", "since:time"),
            ("SEEN BY", "acknowledged_by"),
        ],
    ),
    (
        "stats_counters",
        &[("NAME", "name"), ("UNIT", "unit"), ("ROLLUP", "rollup"), ("COUNTS", "description")],
    ),
    ("stats_latest", &[("OF", "entity"), ("AT", "at:time"), ("VALUES", "values:pairs")]),
];

const KINDS: &[(&str, &str)] = &[
    ("alarm", "What is watched, and where it is raised"),
    ("box", "What answers, whether it is well, what it holds"),
    ("change", "The feed of changes"),
    ("cluster", "Clusters of hosts"),
    ("datacenter", "Datacenters"),
    ("datastore", "Datastores and the files on them"),
    ("drill", "Faults that are set off on purpose, and what follows"),
    ("event", "What happened, when, to what"),
    ("folder", "Folders of the inventory"),
    ("host", "Hosts: the machines that run VMs"),
    ("link", "Cables between hosts and the physical switch"),
    ("network", "Networks: port groups of VMs"),
    ("permission", "Who has which role on what"),
    ("pool", "Resource pools"),
    ("privilege", "What roles are made of"),
    ("role", "Roles: sets of privileges"),
    ("session", "Log in and out"),
    ("stats", "What VMs, hosts and clusters use"),
    ("switch", "Switches of hosts: distributed and standard ones"),
    ("task", "Work that takes time"),
    ("token", "Access for programs"),
    ("user", "User accounts"),
    ("vm", "VMs and templates"),
    ("vmkernel", "VMkernel adapters: by which networks hosts themselves speak"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::verb;

    #[test]
    fn every_kind_says_what_it_is_and_every_row_is_of_an_operation() {
        for verb in verb::all() {
            assert!(!about(&verb.kind()).is_empty(), "{}", verb.kind());
        }
        for (id, _) in TABLE {
            assert!(verb::all().any(|verb| verb.row.id == *id), "{id} is no operation");
        }
    }
}
