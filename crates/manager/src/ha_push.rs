//! Tells the hosts' HA agents of their cluster, after a quiet moment.
//!
//! What they are told is the inventory's to say ([`racknest_cluster::inventory::ha`]). Here is when:
//! a box of a thousand hosts changes its cluster a thousand times while it starts, and every host is
//! told of all the others, so it is told once things are quiet, and some hosts at a time.

use std::time::Duration;

use racknest_cluster::inventory::Change;
use racknest_cluster::record::entity::EntityRef;
use tokio::time::{Instant, timeout};

use crate::core::Core;
use crate::core::feed::{MissedChanges, Watcher};

/// Nothing of hosts and clusters has changed for this long: it is quiet.
const QUIET: Duration = Duration::from_millis(100);

/// It is never quiet for this long: what is known by now is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// Hosts told at once, so that their messages do not all wait in memory.
const HOSTS_AT_ONCE: usize = 64;

/// Follows the inventory until it is dropped.
pub(crate) async fn run(core: Core) {
    let mut changes = core.feed().watch();
    loop {
        while let Ok(true) = core.run(|inventory, _| Ok(inventory.ha_push(HOSTS_AT_ONCE))).await {}
        if !is_concerned(&mut changes).await {
            return;
        }
        let patience = Instant::now() + PATIENCE;
        while Instant::now() < patience {
            match timeout(QUIET, is_concerned(&mut changes)).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(_quiet) => break,
            }
        }
    }
}

/// Waits until a host or a cluster has changed; says whether the core is still there.
async fn is_concerned(changes: &mut Watcher) -> bool {
    while let Some(next) = changes.next().await {
        if concerns(&next) {
            return true;
        }
    }
    false
}

fn concerns(next: &Result<Vec<Change>, MissedChanges>) -> bool {
    next.as_ref().map_or(true, |changes| {
        changes.iter().any(|it| matches!(it.entity, EntityRef::Host(_) | EntityRef::Cluster(_)))
    })
}

#[cfg(test)]
mod tests {
    use racknest_cluster::inventory::report::HostHello;
    use racknest_cluster::record::host::{DriverKind, HostAbout};
    use racknest_cluster::wire::ToHost;
    use tokio::sync::mpsc;

    use super::*;
    use crate::core::Connection;
    use crate::testing::{CLAIM, USER, add_host, make_lab, records};

    #[tokio::test]
    async fn a_host_is_told_once_of_changes_that_come_together() {
        let directory = tempfile::tempdir().unwrap();
        let (records, _) = records(directory.path());
        let core = Core::start(records, 1).unwrap();
        let host = make_lab(&core).await;
        let pushing = tokio::spawn(run(core.clone()));
        let (outbox, mut messages) = mpsc::channel(100);
        let connection = Connection { host, number: 1 };
        let about = HostAbout::default();
        let hello = HostHello { claim: CLAIM, driver: DriverKind::Simulated, about, vms: vec![] };
        core.host_connected(connection, hello, outbox).await.unwrap();
        core.run(|inventory, now| {
            let cluster = inventory.find_cluster("lab")?;
            let mut settings = inventory.cluster(cluster)?.ha.clone();
            settings.enabled = true;
            inventory.cluster_ha_edit(now, USER, cluster, settings)?;
            (2..20).try_for_each(|n| add_host(inventory, now, &format!("esx{n:02}")).map(drop))
        })
        .await
        .unwrap();
        assert!(matches!(messages.recv().await, Some(ToHost::Networks(_))));
        let told = messages.recv().await.unwrap();
        let ToHost::Ha(cluster) = told else { panic!("{told:?}") };
        assert_eq!((cluster.members.len(), cluster.generation), (19, 19));
        core.run(|inventory, now| add_host(inventory, now, "esx20").map(drop)).await.unwrap();
        let Some(ToHost::Ha(cluster)) = messages.recv().await else { panic!("it is told again") };
        assert_eq!(cluster.members.len(), 20);
        core.stop().await;
        pushing.abort();
        assert!(messages.try_recv().is_err(), "twice, for two moments");
    }
}
