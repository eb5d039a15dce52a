//! What the switch notes besides carrying frames: who is at the other ends of its wires, and who
//! talks to whom.
//!
//! What of it is wanted the manager says, for all hosts alike; it is kept in a file, because an agent
//! that starts while the manager is away must not do what was switched off.

mod discovery;
mod flows;

use std::io;
use std::num::NonZeroU32;

use racknest_cluster::record::switching::{FlowSettings, SwitchSettings};
use racknest_switch::flow::{Flow, FlowCache, FlowLimits};
use racknest_switch::neighbour::Neighbours;
use racknest_switch::{Egress, PortId, Verdict};

use super::Shared;
use super::panel::Panel;
use crate::layout::Layout;
use crate::whole_file;

/// What is noted, and what the manager wants of it.
#[derive(Debug)]
pub(super) struct Watch {
    /// The host's name.
    name: String,
    settings: SwitchSettings,
    neighbours: Neighbours,
    /// `None` where flows are not kept.
    flows: Option<FlowCache>,
    /// Flows that ended when the settings changed, for the collector.
    ended: Vec<Flow>,
}

impl Watch {
    /// As it was saved. A file that cannot be read is set aside: the manager tells it again.
    pub(super) fn load(name: &str, layout: &Layout) -> Self {
        let file = layout.switching();
        let saved = fs_err::read(&file).and_then(|content| {
            serde_json::from_slice::<SwitchSettings>(&content).map_err(io::Error::from)
        });
        let settings = match saved {
            Ok(settings) => settings,
            Err(error) if error.kind() == io::ErrorKind::NotFound => SwitchSettings::default(),
            Err(error) => {
                let aside = whole_file::set_aside(&file);
                tracing::warn!(%error, ?aside, "the switch's settings cannot be read and were set aside");
                SwitchSettings::default()
            }
        };
        Self {
            name: name.to_owned(),
            flows: cache(&settings.flows),
            neighbours: Neighbours::default(),
            settings,
            ended: Vec::new(),
        }
    }

    /// Saves what the manager says.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save(layout: &Layout, settings: &SwitchSettings) -> io::Result<()> {
        let content = serde_json::to_vec_pretty(settings).expect("settings are plain data");
        whole_file::replace(&layout.switching(), &content)
    }

    /// Whether the host has this name.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name
    }

    /// Does from now on what the manager says.
    pub(super) fn set(&mut self, settings: SwitchSettings) {
        if settings.flows != self.settings.flows {
            if let Some(flows) = &mut self.flows {
                let mut due = Vec::new();
                flows.due(u64::MAX, &mut due);
                self.ended.append(&mut due);
            }
            self.flows = cache(&settings.flows);
        }
        if !settings.discovery.mode.listens() {
            self.neighbours = Neighbours::default();
        }
        self.settings = settings;
    }
}

impl Panel {
    /// Does what the settings say.
    pub(super) fn apply_settings(&mut self, now_ms: u64) {
        let SwitchSettings { snooping, mirrors, wires, .. } = self.watch.settings.clone();
        self.set_snooping(now_ms, snooping);
        self.set_mirrors(now_ms, mirrors);
        self.set_wires(wires);
    }

    /// Keeps notes of a frame that was carried or dropped.
    pub(super) fn note(
        &mut self,
        now_ms: u64,
        from: PortId,
        frame: &[u8],
        (verdict, egress): (Verdict, &[Egress]),
    ) {
        if !matches!(verdict, Verdict::Dropped(_)) {
            self.watch.count(now_ms, &self.switch, from, frame, (verdict, egress));
            self.hear_addresses(now_ms, from, frame);
        }
    }
}

impl Shared {
    /// Does from now on what the manager says.
    pub(super) fn set_switching(&self, now_ms: u64, settings: SwitchSettings) {
        if let Err(error) = Watch::save(&self.layout, &settings) {
            tracing::error!(%error, "the switch's settings will be forgotten when the agent ends");
        }
        let mut panel = self.panel();
        let before = panel.watch.settings.discovery;
        if before.mode.advertises() && before != settings.discovery {
            // What is said no more, or in another protocol, must not outlive it.
            panel.announce_host(true, |exit, offload, pieces| self.send(exit, offload, pieces));
        }
        panel.watch.set(settings);
        panel.apply_settings(now_ms);
        self.fresh.notify_one();
        self.rewired.notify_one();
    }
}

fn cache(settings: &FlowSettings) -> Option<FlowCache> {
    let ms = |seconds: u32| u64::from(seconds) * 1_000;
    let limits = FlowLimits {
        // Who only looks wants all that passed, and not what passed since a piece of it was told.
        active_ms: match settings.collector {
            Some(_) => ms(settings.active_seconds),
            None => u64::MAX,
        },
        inactive_ms: ms(settings.inactive_seconds),
        sampling: NonZeroU32::new(settings.sampling).unwrap_or(NonZeroU32::MIN),
        ..FlowLimits::default()
    };
    settings.enabled.then(|| FlowCache::new(limits))
}
