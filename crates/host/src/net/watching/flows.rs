//! Flows: who talks to whom, for those who look and for a collector.
//!
//! The collector is told by IPFIX over UDP (RFC 7011) from a socket of the agent's own: it stands
//! outside of the box, so that no cable of the box leads to it. A host that has no cable left tells
//! nothing all the same: what is not on the wires has no switch behind it that could.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use racknest_cluster::record::switching::FlowSettings;
use racknest_cluster::wire::switching::{FlowQuestion, FlowReport, PortEnd};
use racknest_switch::flow::{ExportSettings, Exporter, Flow, Network};
use racknest_switch::{Egress, Frame, PortId, Switch, Verdict};
use tokio::net::UdpSocket;

use super::Watch;
use crate::clock;
use crate::net::Shared;
use crate::net::panel::Panel;

/// How often it is looked which flows are due.
const PAUSE: Duration = Duration::from_secs(1);

/// How often the templates are sent again: a collector that was started anew can read nothing before
/// (RFC 7011, 8.4).
const TEMPLATES_MS: u64 = 60_000;

/// Bytes of a message: it fits into a packet of any Ethernet, with room for tunnels.
const MESSAGE_BYTES: usize = 1_400;

impl Watch {
    /// Counts a frame that entered by a port and was not dropped.
    pub(in crate::net) fn count(
        &mut self,
        now_ms: u64,
        switch: &Switch,
        from: PortId,
        bytes: &[u8],
        (verdict, egress): (Verdict, &[Egress]),
    ) {
        let Some(flows) = &mut self.flows else { return };
        let exit = match (verdict, egress) {
            (Verdict::Dropped(_), _) => return,
            // The receiver is first, before those who listen in.
            (Verdict::Forwarded, [receiver, ..]) => Some(receiver.port),
            (Verdict::Flooded, [only]) => Some(only.port),
            (Verdict::Forwarded | Verdict::Flooded, _) => None,
        };
        let Ok(frame) = Frame::parse(bytes) else { return };
        let vlan = switch.config(from).and_then(|config| config.mode.classify(frame.tag()));
        if let Some(vlan) = vlan {
            flows.observe(now_ms, vlan, from, &frame, bytes.len(), exit);
        }
    }

    /// How many flows are kept, and how many frames found no place.
    pub(in crate::net) fn flows_kept(&self) -> (usize, u64) {
        self.flows.as_ref().map_or((0, 0), |flows| (flows.size(), flows.frames_missed()))
    }

    /// What has ended or went on for long enough to be told of.
    fn due(&mut self, now_ms: u64) -> Vec<Flow> {
        let mut due = Vec::new();
        if let Some(flows) = &mut self.flows {
            flows.due(now_ms, &mut due);
        }
        let mut ended = std::mem::take(&mut self.ended);
        ended.append(&mut due);
        ended
    }
}

impl Panel {
    /// Who talks to whom, most bytes first.
    pub(in crate::net) fn flows(&self, now_ms: u64, question: FlowQuestion) -> Vec<FlowReport> {
        let Some(cache) = &self.watch.flows else { return Vec::new() };
        let sampling = self.watch.settings.flows.sampling.max(1);
        let live = cache.live().filter(|flow| flow.frames > 0);
        let reports = live.filter_map(|flow| {
            let entry = self.end_of(flow.key.ingress)?;
            let exit = flow.egress.and_then(|port| self.end_of(port));
            Some(report(now_ms, flow, sampling, entry, exit))
        });
        let is_of = |end: &PortEnd| match (end, question.vm) {
            (_, None) => true,
            (PortEnd::Guest { vm, .. }, Some(wanted)) => *vm == wanted,
            (PortEnd::Uplink(_), Some(_)) => false,
        };
        let is_wanted = |it: &FlowReport| is_of(&it.entry) || it.exit.as_ref().is_some_and(is_of);
        let mut reports: Vec<FlowReport> = reports.filter(is_wanted).collect();
        reports.sort_by_key(|report| std::cmp::Reverse(report.bytes));
        reports.truncate(usize::try_from(question.flows_max).unwrap_or(usize::MAX));
        reports
    }
}

fn report(
    now_ms: u64,
    flow: &Flow,
    sampling: u32,
    entry: PortEnd,
    exit: Option<PortEnd>,
) -> FlowReport {
    let key = flow.key;
    FlowReport {
        entry,
        exit,
        vlan: key.vlan.get(),
        source_mac: key.source_mac.bytes(),
        destination_mac: key.destination_mac.bytes(),
        ether_type: key.ether_type,
        addresses: match key.network {
            Network::None => None,
            Network::Ipv4 { source, destination } => {
                Some((IpAddr::V4(source), IpAddr::V4(destination)))
            }
            Network::Ipv6 { source, destination } => {
                Some((IpAddr::V6(source), IpAddr::V6(destination)))
            }
        },
        protocol: key.protocol,
        source_port: key.source_port,
        destination_port: key.destination_port,
        frames: flow.frames,
        bytes: flow.bytes,
        age_ms: now_ms.saturating_sub(flow.first_ms),
        silent_ms: now_ms.saturating_sub(flow.last_ms),
        sampling,
    }
}

/// The way to a collector.
struct Export {
    settings: FlowSettings,
    exporter: Exporter,
    socket: UdpSocket,
    /// When the templates were sent last.
    templates_ms: Option<u64>,
    is_failing: bool,
}

impl Export {
    async fn open(settings: &FlowSettings, domain: u32) -> io::Result<Option<Self>> {
        let collector = settings.collector.as_ref().map(|text| text.parse::<SocketAddr>());
        let Some(Ok(collector)) = collector else { return Ok(None) };
        let any: IpAddr = match collector {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(collector).await?;
        let sampling = NonZeroU32::new(settings.sampling).unwrap_or(NonZeroU32::MIN);
        let exporter = Exporter::new(ExportSettings { domain, unix_ms_at_zero: 0, sampling });
        let settings = settings.clone();
        Ok(Some(Self { settings, exporter, socket, templates_ms: None, is_failing: false }))
    }

    /// Tells these flows; templates go first where they are due.
    async fn tell(&mut self, now_ms: u64, mut flows: &[Flow]) {
        let unix_ms = clock::now().millis();
        self.exporter.set_unix_ms_at_zero(unix_ms.saturating_sub(now_ms));
        let unix_s = u32::try_from(unix_ms / 1_000).unwrap_or(u32::MAX);
        let is_old = |at: u64| now_ms.saturating_sub(at) >= TEMPLATES_MS;
        let mut with_templates = self.templates_ms.is_none_or(is_old);
        while with_templates || !flows.is_empty() {
            let (message, count) =
                self.exporter.message(unix_s, flows, with_templates, MESSAGE_BYTES);
            let sent = self.socket.send(&message).await;
            if let Err(error) = &sent
                && !self.is_failing
            {
                tracing::warn!(%error, collector = ?self.settings.collector, "flows are not taken");
            }
            self.is_failing = sent.is_err();
            if with_templates {
                self.templates_ms = Some(now_ms);
            }
            with_templates = false;
            flows = flows.get(count..).unwrap_or_default();
        }
    }
}

impl Shared {
    /// Tells the collector of flows, and forgets those that have ended.
    pub(in crate::net) async fn export_flows(self: Arc<Self>) {
        let mut export: Option<Export> = None;
        loop {
            tokio::time::sleep(PAUSE).await;
            let now_ms = self.clock.millis();
            let (due, settings, domain, has_way_out) = {
                let mut panel = self.panel();
                let due = panel.watch.due(now_ms);
                let has_way_out = panel.uplinks.iter().any(|(_, port)| panel.switch.is_open(*port));
                let settings = panel.watch.settings.flows.clone();
                (due, settings, domain(&panel.watch.name), has_way_out)
            };
            if let Some(export) = export.as_mut().filter(|_| has_way_out) {
                export.tell(now_ms, &due).await;
            }
            let is_other = export.as_ref().is_none_or(|export| export.settings != settings);
            if is_other && (export.is_some() || settings.collector.is_some()) {
                export = match Export::open(&settings, domain).await {
                    Ok(opened) => opened,
                    Err(error) => {
                        tracing::warn!(%error, "no way to the collector of flows");
                        None
                    }
                };
            }
        }
    }
}

/// The number by which a collector tells the hosts of a box apart, which all send from one address:
/// always the same for the same name (FNV-1a).
fn domain(host: &str) -> u32 {
    host.bytes()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
