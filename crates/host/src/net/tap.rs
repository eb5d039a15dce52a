//! Taps: ports of the switch that get copies of what passes by another one; and what of the panel
//! others ask for.

use racknest_cluster::wire::switching::{
    PortEnd, SwitchCard, SwitchPort, SwitchReport, SwitchTotals, TraceAnswer, TraceQuestion,
};
use racknest_switch::forward::MirrorId;
use racknest_switch::{
    DropReason, Mirror, PortConfig, PortCounters, PortId, PortMode, PortRole, Verdict,
};
use racknest_types::fault::Fault;
use tokio::sync::mpsc;

use super::panel::{Panel, Plugged};

/// A tap of a panel.
#[derive(Debug)]
pub(super) struct TapId {
    port: PortId,
    mirror: MirrorId,
}

impl Panel {
    /// Copies what passes by a port, both ways, to this channel.
    pub(super) fn add_tap(
        &mut self,
        now_ms: u64,
        end: &PortEnd,
        copies: mpsc::Sender<Vec<u8>>,
    ) -> Result<TapId, Fault> {
        let watched = self.port_at(end)?;
        let config = PortConfig::new(PortRole::Tap, PortMode::trunk());
        let port = self.switch.plug(now_ms, PortConfig { mtu: u16::MAX, ..config });
        let both = vec![watched];
        let mirror = Mirror { to: port, sent_by: both.clone(), sent_to: both, vlan: None };
        let mirror = self.switch.add_mirror(mirror);
        self.taps.insert(port, copies);
        Ok(TapId { port, mirror })
    }

    pub(super) fn remove_tap(&mut self, tap: &TapId) {
        self.switch.remove_mirror(tap.mirror);
        self.switch.remove_port(tap.port);
        self.taps.remove(&tap.port);
    }

    /// What would become of a frame.
    pub(super) fn trace(
        &self,
        now_ms: u64,
        question: &TraceQuestion,
    ) -> Result<TraceAnswer, Fault> {
        let from = self.port_at(&question.from)?;
        let trace = self.switch.trace(now_ms, from, &question.frame);
        let dropped = match trace.verdict {
            Verdict::Dropped(reason) => Some(reason.name().to_owned()),
            Verdict::Forwarded | Verdict::Flooded => None,
        };
        let sent = trace.egress.iter().filter_map(|egress| {
            let mut room = [0; 4];
            let frame = egress.tag.pieces(&question.frame, &mut room).concat();
            Some((self.end_of(egress.port)?, frame))
        });
        let refused = trace
            .refused
            .iter()
            .filter_map(|(port, reason)| Some((self.end_of(*port)?, reason.name().to_owned())));
        Ok(TraceAnswer { dropped, sent: sent.collect(), refused: refused.collect() })
    }

    /// The ports and the cards.
    pub(super) fn report(&self, now_ms: u64) -> SwitchReport {
        let ports = self.switch.ports().filter_map(|id| self.port_report(id));
        let cards = self.switch.table().list(now_ms).into_iter().filter_map(|known| {
            Some(SwitchCard {
                mac: known.card.bytes(),
                vlan: known.vlan.get(),
                end: self.end_of(known.port)?,
                age_ms: known.age_ms,
            })
        });
        SwitchReport {
            ports: ports.collect(),
            cards: cards.collect(),
            totals: self.totals(),
            neighbours: self.neighbours(now_ms),
        }
    }

    /// What passed by all guests.
    fn totals(&self) -> SwitchTotals {
        let mut sum = self.gone;
        for counters in self.ports.keys().filter_map(|id| self.switch.counters(*id)) {
            sum.add(counters);
        }
        let count = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
        let snooper = self.switch.snooper();
        let (flows, flows_missed) = self.watch.flows_kept();
        SwitchTotals {
            arp_answered: self.protection.answered(),
            groups: snooper.map_or(0, |snooper| count(snooper.size())),
            groups_refused: snooper.map_or(0, |snooper| snooper.refused()),
            flows: count(flows),
            flows_missed,
            frames_in: sum.frames_in,
            bytes_in: sum.bytes_in,
            frames_out: sum.frames_out,
            bytes_out: sum.bytes_out,
            drops: drops(&sum),
        }
    }

    fn port_report(&self, id: PortId) -> Option<SwitchPort> {
        let counters = self.switch.counters(id)?;
        let name = |port: PortId| {
            self.uplinks.iter().find(|(_, other)| *other == port).map(|(nic, _)| nic.to_string())
        };
        let (faults, lost) = self.wires.faults(id);
        let mut drops = drops(counters);
        drops.extend((lost > 0).then(|| ("faulty_wire".to_owned(), lost)));
        Some(SwitchPort {
            end: self.end_of(id)?,
            network: self.ports.get(&id).map(|port| port.nic.network),
            is_up: self.switch.is_open(id),
            uplink: self.switch.uplink_of(id).and_then(name),
            frames_in: counters.frames_in,
            bytes_in: counters.bytes_in,
            frames_out: counters.frames_out,
            bytes_out: counters.bytes_out,
            drops,
            faults,
        })
    }

    fn port_at(&self, end: &PortEnd) -> Result<PortId, Fault> {
        let found = match end {
            PortEnd::Guest { vm, nic } => {
                let is_it = |port: &Plugged| port.vm == *vm && port.nic.key == *nic;
                self.ports.iter().find(|(_, port)| is_it(port)).map(|(id, _)| *id)
            }
            PortEnd::Uplink(name) => {
                self.uplinks.iter().find(|(nic, _)| nic.as_str() == name).map(|(_, id)| *id)
            }
        };
        found.ok_or_else(|| match end {
            PortEnd::Guest { nic, .. } => Fault::state(format!(
                "NIC {nic} of the VM is not plugged in: the VM is off, or its cable out"
            )),
            PortEnd::Uplink(name) => Fault::not_found(format_args!("NIC '{name}'")),
        })
    }

    pub(super) fn end_of(&self, id: PortId) -> Option<PortEnd> {
        if let Some(port) = self.ports.get(&id) {
            return Some(PortEnd::Guest { vm: port.vm, nic: port.nic.key });
        }
        let uplink = self.uplinks.iter().find(|(_, port)| *port == id);
        uplink.map(|(nic, _)| PortEnd::Uplink(nic.to_string()))
    }
}

/// Drops by reason, of reasons that had any.
fn drops(counters: &PortCounters) -> Vec<(String, u64)> {
    let all = DropReason::ALL.map(|reason| (reason, counters.dropped(reason)));
    let some = all.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(reason, count)| (reason.name().to_owned(), count)).collect()
}
