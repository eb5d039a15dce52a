//! Whether HA settings can work, before any agent is told them.

use alloc::format;
use alloc::string::String;

use racknest_types::fault::Fault;

use crate::inventory::Inventory;
use crate::record::cluster::ClusterRecord;
use crate::record::ha::{AdmissionPolicy, HaSettings, HaTimings, VmMonitoring};

/// No time in the settings is longer: a day is not a failover.
const MILLIS_MAX: u64 = 24 * 60 * 60 * 1000;

/// The shortest heartbeat: more of them would be most of what hosts do.
const BEAT_MS_MIN: u64 = 50;

/// A lease must outlive this many missed beats: one is lost easily.
const BEATS_PER_LEASE: u64 = 3;

impl Inventory {
    /// Whether these settings can work in this cluster.
    ///
    /// # Errors
    /// They cannot; the fault names the setting.
    pub(super) fn check_settings(
        &self,
        record: &ClusterRecord,
        settings: &HaSettings,
    ) -> Result<(), Fault> {
        check_timings(&settings.timings)?;
        check_millis("readiness_timeout_ms", settings.readiness_timeout_ms)?;
        check_monitoring(settings.monitoring)?;
        if settings.restarts_max == 0 {
            return Err(Fault::invalid("restarts_max 0 would restart nothing; give 1 at least"));
        }
        if settings.mass_failure_permille > 1000 {
            return Err(Fault::invalid(format!(
                "mass_failure_permille {} is more than all hosts; give 0 to 1000",
                settings.mass_failure_permille
            )));
        }
        for address in &settings.isolation_addresses {
            self.check_outsider(record, "isolation address", address)?;
        }
        if let Some(witness) = &settings.witness {
            self.check_outsider(record, "witness", witness)?;
        }
        self.check_admission_policy(record, &settings.admission)
    }

    /// A machine that judges the cluster's hosts is none of them.
    fn check_outsider(&self, record: &ClusterRecord, what: &str, name: &str) -> Result<(), Fault> {
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Fault::invalid(format!("{what} '{name}' cannot be a machine's name")));
        }
        if self.hosts_of(record.id).any(|host| host.name == name) {
            return Err(Fault::invalid(format!(
                "{what} '{name}' is a host of cluster '{}' itself; name a machine outside of it",
                record.name
            )));
        }
        Ok(())
    }

    fn check_admission_policy(
        &self,
        record: &ClusterRecord,
        policy: &AdmissionPolicy,
    ) -> Result<(), Fault> {
        let hosts = self.hosts_of(record.id).count();
        match policy {
            AdmissionPolicy::Off => Ok(()),
            AdmissionPolicy::Slots { failures } => {
                if *failures == 0 || (hosts > 0 && usize::from(*failures) >= hosts) {
                    return Err(Fault::invalid(format!(
                        "admission slots:{failures}: cluster '{}' has {hosts} hosts; give 1 to {}",
                        record.name,
                        hosts.saturating_sub(1).max(1)
                    )));
                }
                Ok(())
            }
            AdmissionPolicy::Percentage { cpu, memory } => {
                if *cpu > 100 || *memory > 100 || (*cpu == 0 && *memory == 0) {
                    return Err(Fault::invalid(format!(
                        "admission percentage:{cpu}:{memory}: give 1 to 100 per cent of CPU or memory"
                    )));
                }
                Ok(())
            }
            AdmissionPolicy::FailoverHosts(names) => {
                self.check_failover_hosts(record, names, hosts)
            }
        }
    }

    fn check_failover_hosts(
        &self,
        record: &ClusterRecord,
        names: &[String],
        hosts: usize,
    ) -> Result<(), Fault> {
        for (place, name) in names.iter().enumerate() {
            if !self.hosts_of(record.id).any(|host| host.name == *name) {
                return Err(Fault::invalid(format!(
                    "failover host '{name}' is no host of cluster '{}'",
                    record.name
                )));
            }
            if names[..place].contains(name) {
                return Err(Fault::invalid(format!("failover host '{name}' is named twice")));
            }
        }
        if names.is_empty() || names.len() >= hosts {
            return Err(Fault::invalid(format!(
                "admission with {} failover hosts of {hosts}: name one at least, and leave one for VMs",
                names.len()
            )));
        }
        Ok(())
    }
}

pub(super) fn check_monitoring(monitoring: VmMonitoring) -> Result<(), Fault> {
    let VmMonitoring::On { silence_ms, resets_max, window_ms } = monitoring else {
        return Ok(());
    };
    check_millis("monitoring: silence", silence_ms)?;
    if resets_max == 0 || window_ms < silence_ms {
        return Err(Fault::invalid(format!(
            "monitoring: {resets_max} resets in {window_ms} ms of a VM that may be silent for \
             {silence_ms} ms would never reset it"
        )));
    }
    Ok(())
}

pub(super) fn check_millis(what: &str, millis: u64) -> Result<(), Fault> {
    if millis == 0 || millis > MILLIS_MAX {
        return Err(Fault::invalid(format!(
            "{what} of {millis} ms cannot be; give 1 to {MILLIS_MAX} ms"
        )));
    }
    Ok(())
}

fn check_timings(timings: &HaTimings) -> Result<(), Fault> {
    let each = [
        ("beat_ms", timings.beat_ms),
        ("suspect_ms", timings.suspect_ms),
        ("dead_ms", timings.dead_ms),
        ("election_ms", timings.election_ms),
        ("isolation_ms", timings.isolation_ms),
        ("isolation_response_ms", timings.isolation_response_ms),
        ("shutdown_ms", timings.shutdown_ms),
        ("lease_ms", timings.lease_ms),
        ("all_paths_down_ms", timings.all_paths_down_ms),
    ];
    each.into_iter().try_for_each(|(name, millis)| check_millis(name, millis))?;
    if let Some(pause) = timings.retry_ms.into_iter().find(|pause| *pause > MILLIS_MAX) {
        return Err(Fault::invalid(format!("retry_ms: {pause} is more than {MILLIS_MAX}")));
    }
    if timings.beat_ms < BEAT_MS_MIN {
        return Err(Fault::invalid(format!(
            "beat_ms {} is below {BEAT_MS_MIN}: hosts would do little else",
            timings.beat_ms
        )));
    }
    let lease_min = timings.beat_ms * BEATS_PER_LEASE;
    let above = [
        ("suspect_ms", timings.suspect_ms, "beat_ms", timings.beat_ms),
        ("dead_ms", timings.dead_ms, "suspect_ms", timings.suspect_ms),
        ("election_ms", timings.election_ms, "beat_ms", timings.beat_ms),
        ("isolation_ms", timings.isolation_ms, "beat_ms", timings.beat_ms),
        ("dead_ms", timings.dead_ms, "lease_ms", timings.lease_ms),
    ];
    if timings.lease_ms < lease_min {
        return Err(Fault::invalid(format!(
            "lease_ms {} cannot work: it must be {lease_min} at least, three times beat_ms",
            timings.lease_ms
        )));
    }
    for (name, millis, other, least) in above {
        if millis <= least {
            return Err(Fault::invalid(format!(
                "{name} {millis} cannot work: it must be more than {other} ({least})"
            )));
        }
    }
    Ok(())
}
