//! What a data centre is made of at the beginning: its hosts and VMs, generated or a user's own.

use racknest_cluster::record::ha::RestartPriority;
use racknest_types::bytes::Bytes;

/// Hosts and VMs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// The hosts.
    pub hosts: Vec<SiteHost>,
    /// The VMs; all are to run.
    pub vms: Vec<SiteVm>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteHost {
    /// Its name.
    pub name: String,
    /// Its cores.
    pub cores: u32,
    /// Its memory.
    pub memory: Bytes,
}

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteVm {
    /// Its name.
    pub name: String,
    /// Its virtual CPUs.
    pub vcpus: u16,
    /// Its memory.
    pub memory: Bytes,
    /// When it is restarted; `None` as the cluster has it.
    pub priority: Option<RestartPriority>,
}

impl Site {
    /// So many equal hosts, and so many equal VMs.
    #[must_use]
    pub fn uniform(hosts: u64, host_memory: Bytes, vms: u64, vm_memory: Bytes) -> Self {
        let hosts = (1..=hosts).map(|number| SiteHost {
            name: format!("esx{number:02}"),
            cores: 8,
            memory: host_memory,
        });
        let vms = (1..=vms).map(|number| SiteVm {
            name: format!("vm{number:02}"),
            vcpus: 1,
            memory: vm_memory,
            priority: None,
        });
        Self { hosts: hosts.collect(), vms: vms.collect() }
    }

    /// The same, with one more host like the largest.
    #[must_use]
    pub fn with_one_more_host(&self) -> Self {
        let mut more = self.clone();
        if let Some(largest) = self.hosts.iter().max_by_key(|host| host.memory) {
            let name = format!("{}-more", largest.name);
            more.hosts.push(SiteHost { name, ..largest.clone() });
        }
        more
    }

    /// Whether every VM has a place while these hosts, by place in the list, are lost: packed by
    /// memory, largest first into the fullest host that takes it, as restarts do not move what runs.
    #[must_use]
    pub fn fits_without(&self, lost: &[usize]) -> bool {
        let hosts = self.hosts.iter().enumerate();
        let left = hosts.filter(|(place, _)| !lost.contains(place));
        let mut room = left.map(|(_, host)| host.memory).collect::<Vec<_>>();
        let mut vms = self.vms.iter().map(|vm| vm.memory).collect::<Vec<_>>();
        vms.sort_unstable_by(|one, other| other.cmp(one));
        vms.into_iter().all(|memory| {
            let tightest = room.iter_mut().filter(|room| **room >= memory).min();
            match tightest {
                Some(room) => {
                    *room = *room - memory;
                    true
                }
                None => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_knows_how_many_hosts_it_can_lose() {
        let site = Site::uniform(3, Bytes::from_gib(8), 16, Bytes::from_gib(1));
        assert!(site.fits_without(&[]));
        assert!(site.fits_without(&[1]));
        assert!(!site.fits_without(&[0, 2]));
        assert!(site.with_one_more_host().fits_without(&[0, 2]));
    }
}
