//! Host power management (DPM): few hosts on while little is wanted, all of them when it is much.
//!
//! Utilisation should be 63 % and is let alone within 18 % of that. A host is powered on after five
//! minutes above, and off after forty below: being late costs performance one way and only power the
//! other way. Before a host goes, the planner does it on paper: every VM must find a place, the peaks
//! of late must fit into what is left below the upper mark, the cluster's score must hold, and if any
//! host could be lost before, any could be afterwards.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use super::admission::{first_unplaceable, standing};
use super::evacuate::{Evacuation, evacuate};
use super::imbalance::normalised;
use super::obstacle::Obstacle;
use super::plan::Reason;
use super::rules::Rules;
use super::{Cluster, Host, HostState, Load, Names};
use crate::record::drs::DpmMode;
use crate::record::ha::AdmissionPolicy;

/// How much of the cluster's score may be lost for a host's power, in parts per million.
const SCORE_LOSS_MAX: u64 = 20_000;

/// Since when utilisation has been outside its range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerHistory {
    /// Above it.
    pub high_since: Option<Timestamp>,
    /// Below it.
    pub low_since: Option<Timestamp>,
}

/// What to do about the hosts' power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PowerAdvice {
    /// Nothing, and why.
    Keep(String),
    /// Nothing: of the hosts that could go, this is the last that was looked at, and it stays.
    Stays {
        /// The host.
        host: HostId,
        /// Why.
        why: Refusal,
    },
    /// Power this host on.
    On {
        /// The host.
        host: HostId,
        /// Utilisation by demand, per mille.
        used_permille: u64,
        /// Why.
        why: Wanted,
    },
    /// Empty this host and power it off.
    Off {
        /// The host.
        host: HostId,
        /// Utilisation by demand, per mille.
        used_permille: u64,
        /// How it is emptied.
        evacuation: Evacuation,
    },
}

/// Why a host is to be powered on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// So many per cent of the hosts that are on have been in use for long enough.
    InUse(u64),
    /// Admission control is not met, and how it stands.
    Admission(String),
    /// A host does not answer, and its part is missing.
    Lost(HostId),
    /// If the first failed, the second would find no host.
    Stranded(HostId, VmId),
}

impl Wanted {
    /// In a line for people.
    #[must_use]
    pub fn explain(&self, names: &Names<'_>) -> String {
        match self {
            Self::InUse(percent) => format!("{percent} % are in use"),
            Self::Admission(told) => format!("admission control is not met: {told}"),
            Self::Lost(host) => {
                format!("host '{}' does not answer, and its part is missing", (names.host)(*host))
            }
            Self::Stranded(host, vm) => format!(
                "if host '{}' fails, VM '{}' finds no host",
                (names.host)(*host),
                (names.vm)(*vm)
            ),
        }
    }
}

/// Why a host is not powered off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A VM cannot leave it.
    Stuck(VmId, Obstacle),
    /// Peaks of late would take so many per cent of the others.
    Peaks(u64),
    /// The VMs would run worse.
    Score,
    /// None of the others could fail then.
    Failover,
    /// Admission control would not be met, and how it would stand.
    Admission(String),
}

impl Refusal {
    /// In a line for people.
    #[must_use]
    pub fn explain(&self, names: &Names<'_>) -> String {
        match self {
            Self::Stuck(vm, obstacle) => {
                format!("VM '{}' cannot leave it, {}", (names.vm)(*vm), obstacle.explain(names))
            }
            Self::Peaks(percent) => {
                format!("peaks of late would take {percent} % of the others")
            }
            Self::Score => "the VMs would run worse".into(),
            Self::Failover => "no other host could fail then".into(),
            Self::Admission(told) => format!("admission control would not be met: {told}"),
        }
    }
}

/// What to do now.
#[must_use]
pub fn advise(
    cluster: &Cluster,
    rules: &Rules,
    history: &mut PowerHistory,
    now: Timestamp,
) -> PowerAdvice {
    let settings = &cluster.settings.dpm;
    if settings.mode == DpmMode::Off {
        *history = PowerHistory::default();
        return PowerAdvice::Keep("host power management is off".into());
    }
    let used = utilisation(cluster);
    let high = u64::from(settings.target_permille + settings.tolerance_permille);
    let low = u64::from(settings.target_permille.saturating_sub(settings.tolerance_permille));
    let since = |old: Option<Timestamp>, holds: bool| holds.then(|| old.unwrap_or(now));
    history.high_since = since(history.high_since, used > high);
    history.low_since = since(history.low_since, used < low);
    let lasted = |since: Option<Timestamp>, seconds: u32| {
        since.is_some_and(|since| now.since(since).as_secs() >= u64::from(seconds))
    };
    let percent = used.div_ceil(10);
    if let (Some(host), Some(why)) = (host_to_power_on(cluster), need(cluster, rules)) {
        return PowerAdvice::On { host: host.id, used_permille: used, why };
    }
    if lasted(history.high_since, settings.on_after_seconds) {
        let why = Wanted::InUse(percent);
        return match host_to_power_on(cluster) {
            Some(host) => PowerAdvice::On { host: host.id, used_permille: used, why },
            None => PowerAdvice::Keep("no host is in standby".into()),
        };
    }
    if lasted(history.low_since, settings.off_after_seconds) {
        let advice = power_off(cluster, rules, now, used, high);
        if settings.mode == DpmMode::Automatic && matches!(advice, PowerAdvice::Off { .. }) {
            // It is done. Before the next one goes, it is watched as long what this one brought.
            history.low_since = None;
        }
        return advice;
    }
    PowerAdvice::Keep(match (history.high_since, history.low_since) {
        (None, None) => format!("{percent} % are in use, which is as it should be"),
        (Some(since), _) | (None, Some(since)) => {
            format!("{percent} % are in use, for {} s so far", now.since(since).as_secs())
        }
    })
}

/// Why a host is wanted at once, whatever is in use: what is kept free for failures is not there.
fn need(cluster: &Cluster, rules: &Rules) -> Option<Wanted> {
    if cluster.admission == AdmissionPolicy::Off {
        return None;
    }
    let found = standing(&cluster.admission, cluster);
    if !found.is_met {
        return Some(Wanted::Admission(found.told));
    }
    let lost = cluster.hosts.iter().find(|host| host.state == HostState::Unreachable);
    if let Some(lost) = lost {
        return Some(Wanted::Lost(lost.id));
    }
    let stranded = first_unplaceable(cluster, rules)?;
    Some(Wanted::Stranded(stranded.host, stranded.vm))
}

/// What is wanted of the hosts that are on, by the scarcer resource, per mille.
fn utilisation(cluster: &Cluster) -> u64 {
    let on = cluster.hosts.iter().filter(|host| host.state == HostState::On);
    let capacity = on.map(|host| host.capacity.load()).sum();
    let wanted = cluster.vms.iter().filter(|vm| vm.runs());
    let wanted = wanted.map(|vm| Load { cpu: vm.demand.cpu_mhz, memory: vm.memory_demand_mib() });
    let used = normalised(wanted.sum(), capacity);
    used.cpu.max(used.memory) / 1000
}

/// The largest host in standby.
fn host_to_power_on(cluster: &Cluster) -> Option<&Host> {
    let standby = cluster.hosts.iter().filter(|host| host.state == HostState::Standby);
    standby.max_by_key(|host| {
        (host.capacity.cpu_mhz, host.capacity.memory_mib, core::cmp::Reverse(host.id))
    })
}

fn power_off(
    cluster: &Cluster,
    rules: &Rules,
    now: Timestamp,
    used: u64,
    high: u64,
) -> PowerAdvice {
    let settings = &cluster.settings.dpm;
    let on = cluster.hosts.iter().filter(|host| host.state == HostState::On);
    let mut hosts = on.collect::<Vec<_>>();
    if hosts.len() <= usize::try_from(settings.hosts_on_min.max(1)).unwrap_or(usize::MAX) {
        return PowerAdvice::Keep("no more hosts are on than must be".into());
    }
    // The fewest VMs first: they are the fewest moves.
    let mut vms = BTreeMap::<HostId, usize>::new();
    for host in cluster.vms.iter().filter(|vm| vm.runs()).filter_map(|vm| vm.host) {
        *vms.entry(host).or_default() += 1;
    }
    let count = |host: &Host| vms.get(&host.id).copied().unwrap_or(0);
    hosts.sort_by_key(|host| (count(host), host.capacity.cpu_mhz, host.id));
    let was_safe = first_unplaceable(cluster, rules).is_none();
    let mut advice = PowerAdvice::Keep("every host was powered on not long ago".into());
    for host in hosts {
        let on_for = now.since(host.state_changed).as_secs();
        if on_for < u64::from(settings.on_seconds_min) {
            continue;
        }
        let evacuation = evacuate(cluster, rules, host.id, &Reason::PowerSaving(host.id));
        match refusal(cluster, rules, host.id, &evacuation, was_safe, high) {
            Some(why) => advice = PowerAdvice::Stays { host: host.id, why },
            None => return PowerAdvice::Off { host: host.id, used_permille: used, evacuation },
        }
    }
    advice
}

/// Why a host cannot go, if it cannot.
fn refusal(
    cluster: &Cluster,
    rules: &Rules,
    host: HostId,
    evacuation: &Evacuation,
    was_safe: bool,
    high: u64,
) -> Option<Refusal> {
    if let Some(stuck) = evacuation.stuck.first() {
        return Some(Refusal::Stuck(stuck.vm, stuck.obstacle.clone()));
    }
    let peak = evacuation.peak_after.cpu.max(evacuation.peak_after.memory) / 1000;
    if peak > high {
        return Some(Refusal::Peaks(peak / 10));
    }
    if evacuation.score_after + SCORE_LOSS_MAX < evacuation.score_before {
        return Some(Refusal::Score);
    }
    let mut after = cluster.clone();
    for step in evacuation.recommendations.iter().flat_map(|it| &it.moves) {
        if let Some(vm) = after.vm_mut(step.vm) {
            vm.host = Some(step.to);
        }
    }
    for other in after.hosts.iter_mut().filter(|other| other.id == host) {
        other.state = HostState::Standby;
    }
    if was_safe && first_unplaceable(&after, rules).is_some() {
        return Some(Refusal::Failover);
    }
    let found = standing(&cluster.admission, &after);
    (!found.is_met).then_some(Refusal::Admission(found.told))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::drs::tests::read;

    fn cluster(cpu: u64, hosts: &str) -> Cluster {
        let mut script = String::from(hosts);
        for vm in 1..=9 {
            script += &format!("\nvm {vm} on {} cpu {cpu} active 512 protected", (vm - 1) % 3 + 1);
        }
        let mut cluster = read(&script);
        cluster.settings.dpm.mode = DpmMode::Automatic;
        cluster
    }

    /// Asks every minute, until something is done.
    fn minutes(cluster: &Cluster) -> String {
        let rules = cluster.compile_rules();
        let mut history = PowerHistory::default();
        let mut last = String::new();
        for minute in 20..120 {
            let now = Timestamp::from_millis(minute * 60_000);
            match advise(cluster, &rules, &mut history, now) {
                PowerAdvice::Keep(why) => last = why,
                PowerAdvice::Stays { host, why } => {
                    last = format!("{host} stays on: {}", why.explain(&Names::IDS));
                }
                PowerAdvice::On { host, .. } => {
                    return format!("minute {}: on {host}", minute - 20);
                }
                PowerAdvice::Off { host, evacuation, .. } => {
                    let moves = evacuation.recommendations.len();
                    return format!("minute {}: off {host} with {moves} moves", minute - 20);
                }
            }
        }
        last
    }

    #[test]
    fn hosts_go_after_forty_minutes_of_little_and_come_after_five_of_much() {
        let three = "host 1\nhost 2\nhost 3\nhost 4 standby";
        let mut told = String::new();
        for cpu in [200, 1000, 1800, 2200, 3000] {
            told += &format!("{cpu}: {}\n", minutes(&cluster(cpu, three)));
        }
        expect![[r#"
            200: minute 40: off host-1 with 3 moves
            1000: minute 40: off host-1 with 3 moves
            1800: 54 % are in use, which is as it should be
            2200: 66 % are in use, which is as it should be
            3000: minute 5: on host-4
        "#]]
        .assert_eq(&told);
    }

    #[test]
    fn a_host_is_woken_at_once_for_what_is_kept_free_and_for_one_that_is_lost() {
        let wakes = |admission: AdmissionPolicy, hosts: &str| {
            let cluster = Cluster { admission, ..cluster(300, hosts) };
            let mut history = PowerHistory::default();
            let now = Timestamp::from_millis(0);
            match advise(&cluster, &cluster.compile_rules(), &mut history, now) {
                PowerAdvice::On { host, why, .. } => {
                    format!("{host}: {}", why.explain(&Names::IDS))
                }
                PowerAdvice::Keep(why) => why,
                PowerAdvice::Stays { host, .. } | PowerAdvice::Off { host, .. } => {
                    format!("not to be: {host}")
                }
            }
        };
        let all_on = "host 1\nhost 2\nhost 3\nhost 4 standby";
        let one_lost = "host 1\nhost 2\nhost 3\nhost 4 standby\nhost 5 unreachable";
        let slots = |failures| AdmissionPolicy::Slots { failures };
        let told = [
            wakes(AdmissionPolicy::Off, one_lost),
            wakes(slots(1), all_on),
            wakes(slots(1), one_lost),
            wakes(slots(3), all_on),
        ];
        expect![[r#"
            17 % are in use, for 0 s so far
            17 % are in use, for 0 s so far
            host-4: host 'host-5' does not answer, and its part is missing
            host-4: admission control is not met: 9 of 936 slots of 32 MHz and 32 MiB in use; 2 hosts may fail, 3 must
        "#]]
        .assert_eq(&(told.join("\n") + "\n"));
    }

    #[test]
    fn automatic_management_waits_between_two_hosts_and_keeps_what_admission_needs() {
        let mut cluster = cluster(200, "host 1\nhost 2\nhost 3\nhost 4");
        let rules = cluster.compile_rules();
        let mut history = PowerHistory::default();
        let mut off = Vec::new();
        for minute in 20..200 {
            let now = Timestamp::from_millis(minute * 60_000);
            if let PowerAdvice::Off { host, evacuation, .. } =
                advise(&cluster, &rules, &mut history, now)
            {
                off.push(minute - 20);
                for step in evacuation.recommendations.iter().flat_map(|it| &it.moves) {
                    cluster.vm_mut(step.vm).unwrap().host = Some(step.to);
                }
                let hosts = cluster.hosts.iter_mut();
                hosts.filter(|it| it.id == host).for_each(|it| it.state = HostState::Standby);
            }
        }
        // Two stay: with one alone, none could fail.
        assert_eq!(off, [40, 81]);
    }

    #[test]
    fn the_last_hosts_stay() {
        let mut cluster = cluster(100, "host 1\nhost 2\nhost 3");
        cluster.settings.dpm.hosts_on_min = 3;
        assert_eq!(minutes(&cluster), "no more hosts are on than must be");
        cluster.settings.dpm.mode = DpmMode::Off;
        assert_eq!(minutes(&cluster), "host power management is off");
    }

    #[test]
    fn a_host_whose_vms_cannot_leave_stays_on() {
        let mut cluster = cluster(100, "host 1\nhost 2\nhost 3");
        for vm in &mut cluster.vms {
            vm.is_busy = true;
        }
        expect!["host-3 stays on: VM 'vm-3' cannot leave it, the VM is busy with something else"]
            .assert_eq(&minutes(&cluster));
    }
}
