//! The host's network configuration: kept in a file, given to the switch, and taken back when it cuts
//! the host off. What is decided about it is in [`racknest_cluster::host_network`].

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use racknest_cluster::host_network::{Action, NetworkKeeper, Way, check, way_of};
use racknest_cluster::wire::FromHost;
use racknest_cluster::wire::host_network::{HostNetwork, KeptNetwork, NetworkVersions};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::net::{Network, Order};
use crate::whole_file;

/// How long a change may take to be in use.
const SETTLE_MS: u64 = 500;

/// What the network configuration of a host works on.
#[derive(Debug)]
pub struct Wiring {
    /// The host's NICs, in order.
    pub nics: Vec<String>,
    /// Where the configuration is kept; `None` where it need not outlive the agent.
    pub file: Option<PathBuf>,
    /// By which NICs the host itself speaks; `None` by all of them.
    pub way: watch::Sender<Option<Way>>,
}

/// The network configuration of a host, at work.
pub(super) struct WiringDesk {
    wiring: Wiring,
    keeper: NetworkKeeper,
    began: Instant,
    /// What the manager is told, and when.
    held: Option<(u64, FromHost)>,
}

impl WiringDesk {
    /// Takes up what was kept.
    pub(super) fn new(wiring: Wiring, network: Option<&Network>) -> Self {
        let kept = wiring.file.as_ref().map(load).unwrap_or_default();
        let desk =
            Self { keeper: NetworkKeeper::new(0, kept), wiring, began: Instant::now(), held: None };
        if let Some(current) = desk.keeper.current() {
            desk.put_to_use(current, network);
        }
        desk
    }

    /// The manager has said what holds.
    pub(super) fn take(
        &mut self,
        said: HostNetwork,
        network: Option<&Network>,
    ) -> Option<FromHost> {
        let actions = self.keeper.handle_network(self.millis(), said, &self.wiring.nics);
        let told = self.perform(actions, network);
        if self.keeper.deadline_ms().is_none() {
            return told;
        }
        // Told by the new way: told before it is in use, it would be confirmed by the old one.
        let at = self.millis() + SETTLE_MS;
        self.held = told.map(|told| (at, told));
        None
    }

    /// The manager asks whether something could hold.
    pub(super) fn prepare(&self, asked: &HostNetwork) -> FromHost {
        let result = check(asked, &self.wiring.nics);
        FromHost::NetworkPrepared { versions: asked.versions.clone(), result }
    }

    /// The manager has heard that something holds.
    pub(super) fn confirm(&mut self, versions: &NetworkVersions) {
        let actions = self.keeper.handle_confirmed(versions);
        self.perform(actions, None);
    }

    /// Returns when the patience with a change on trial is at its end. May be dropped and called
    /// again.
    pub(super) async fn due(&self) {
        let held = self.held.as_ref().map(|(at, _)| *at);
        match self.keeper.deadline_ms().into_iter().chain(held).min() {
            Some(deadline) => {
                tokio::time::sleep_until(self.began + Duration::from_millis(deadline)).await;
            }
            None => std::future::pending().await,
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Goes back, if that is due.
    pub(super) fn go_back(&mut self, network: Option<&Network>) -> Option<FromHost> {
        let now_ms = self.millis();
        if let Some((_, told)) = self.held.take_if(|(at, _)| *at <= now_ms) {
            return Some(told);
        }
        let actions = self.keeper.handle_timeout(now_ms);
        if !actions.is_empty() {
            tracing::warn!(
                "a change of the network cut this host off; it goes back to what it had"
            );
        }
        self.perform(actions, network)
    }

    fn perform(&self, actions: Vec<Action>, network: Option<&Network>) -> Option<FromHost> {
        let mut answer = None;
        for action in actions {
            match action {
                Action::Save(kept) => self.save(&kept),
                Action::Use(current) => self.put_to_use(&current, network),
                Action::Tell(versions, outcome) => {
                    answer = Some(FromHost::NetworkApplied { versions, outcome });
                }
            }
        }
        answer
    }

    fn put_to_use(&self, current: &HostNetwork, network: Option<&Network>) {
        if let Some(network) = network {
            network.order(Order::Groups(current.groups.clone()));
            network.order(Order::Switches(Box::new(current.clone())));
        }
        let all = Way { nics: self.wiring.nics.clone(), vlan: 0 };
        let way = way_of(current, &self.wiring.nics).filter(|way| *way != all);
        self.wiring.way.send_if_modified(|before| {
            let is_news = *before != way;
            *before = way;
            is_news
        });
    }

    fn save(&self, kept: &KeptNetwork) {
        let Some(file) = &self.wiring.file else { return };
        let content = serde_json::to_vec_pretty(kept).expect("a network is plain data");
        if let Err(error) = whole_file::replace(file, &content) {
            tracing::error!(%error, "the network configuration will be forgotten with the agent");
        }
    }
}

/// What was kept; nothing if there is no file. An unreadable one is set aside: the manager tells
/// again.
fn load(file: &PathBuf) -> KeptNetwork {
    let kept = fs_err::read(file)
        .and_then(|content| serde_json::from_slice(&content).map_err(io::Error::from));
    match kept {
        Ok(kept) => kept,
        Err(error) if error.kind() == io::ErrorKind::NotFound => KeptNetwork::default(),
        Err(error) => {
            let aside = whole_file::set_aside(file);
            tracing::warn!(%error, ?aside, "the kept network cannot be read and was set aside");
            KeptNetwork::default()
        }
    }
}
