//! What passes by the switches, for Prometheus: by guest's port, by host, and by cable.
//!
//! How many lines that are is bounded: a port has four counters and a line for each reason that
//! dropped something (19 at most), a host the same in sum and five of its tables, a cable five. `?vms=false` leaves the ports
//! of guests out; the sums of their hosts count those that are gone, too, so they only go up while an
//! agent lives. Simulated hosts have no switch, and no lines.

use std::time::Duration;

use futures::future::join_all;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::host::DriverKind;
use racknest_cluster::wire::switching::{PortEnd, SwitchPort, SwitchReport, SwitchTotals};
use racknest_cluster::wire::{StreamReply, StreamRequest};
use racknest_underlay::LinkState;
use tokio::time::timeout;

use crate::state::State;
use crate::statistics::exposition::{Exposition, Labels};

/// How long a host may take to answer: a scrape waits for all of them, and Prometheus for ten
/// seconds.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What was asked of hosts and box.
#[derive(Debug)]
pub(super) struct Switching {
    reports: Vec<(String, SwitchReport)>,
    links: Vec<LinkState>,
}

/// What is told of a port or of a host's guests.
struct Figures<'a> {
    labels: Labels<'a>,
    /// Frames and bytes in, frames and bytes out.
    passed: [u64; 4],
    drops: &'a [(String, u64)],
}

impl Switching {
    /// Asks every host that answers; the others are left out.
    pub(super) async fn gather(state: &State) -> Self {
        let hosts: Vec<String> = state.core.read(|inventory| {
            let hosts = inventory.hosts().filter(|host| {
                host.driver != DriverKind::Simulated && inventory.is_connected(host.id)
            });
            hosts.map(|host| host.name.clone()).collect()
        });
        let asked = hosts.into_iter().map(|host| async move {
            let answer = state.streams.open(&host, &StreamRequest::Switch);
            match timeout(ANSWER_MAX, answer).await {
                Ok(Ok((StreamReply::Switch(report), _))) => Some((host, report)),
                Ok(Ok(_) | Err(_)) | Err(_) => None,
            }
        });
        let reports = join_all(asked).await.into_iter().flatten().collect();
        let links = timeout(ANSWER_MAX, state.cables.links()).await;
        Self { reports, links: links.ok().and_then(Result::ok).unwrap_or_default() }
    }

    /// Writes it.
    pub(super) fn write(&self, inventory: &Inventory, with_vms: bool, exposition: &mut Exposition) {
        if with_vms {
            let ports = self.reports.iter().flat_map(|(host, report)| {
                report.ports.iter().filter_map(|port| guest(inventory, host, port))
            });
            let names: Vec<Named<'_>> = ports.collect();
            let figures = names.iter().map(Named::figures);
            write("switch_port", "by a guest's port", &figures.collect::<Vec<_>>(), exposition);
        }
        let hosts = self.reports.iter().map(|(host, report)| sum(host, &report.totals));
        write("switch_host", "by the guests of a host", &hosts.collect::<Vec<_>>(), exposition);
        self.write_tables(exposition);
        self.write_links(exposition);
    }

    fn write_tables(&self, exposition: &mut Exposition) {
        type Figure = fn(&SwitchTotals) -> u64;
        let figures: [(&str, &str, Figure); 5] = [
            ("flows", "Flows that a host keeps now.", |it| it.flows),
            ("groups", "Multicast groups that a host snoops now.", |it| it.groups),
            ("flows_missed_total", "Frames without a place for their flow.", |it| it.flows_missed),
            ("groups_refused_total", "Joins without a place for them.", |it| it.groups_refused),
            ("arp_answered_total", "Questions for addresses answered by a host.", |it| {
                it.arp_answered
            }),
        ];
        for (name, help, figure) in figures {
            let lines = self
                .reports
                .iter()
                .map(|(host, report)| (vec![("host", host.as_str())], figure(&report.totals)));
            let (name, lines) = (format!("switch_host_{name}"), lines.collect::<Vec<_>>());
            if name.ends_with("_total") {
                exposition.counter(&name, help, &lines);
            } else {
                exposition.gauge(&name, help, &lines);
            }
        }
    }

    fn write_links(&self, exposition: &mut Exposition) {
        let labels = |link: &LinkState| (link.machine.to_string(), link.nic.to_string());
        let names: Vec<(String, String)> = self.links.iter().map(labels).collect();
        type Figure = fn(&LinkState) -> u64;
        let families: [(&str, &str, Figure); 5] = [
            ("received_frames", "Frames and chunks of streams received", |it| it.received.frames),
            ("received_bytes", "Bytes received", |it| it.received.bytes),
            ("sent_frames", "Frames and chunks of streams sent", |it| it.sent.frames),
            ("sent_bytes", "Bytes sent", |it| it.sent.bytes),
            ("dropped_frames", "Frames and datagrams lost", |it| it.dropped_frames),
        ];
        for (name, what, figure) in families {
            let lines = names.iter().zip(&self.links).map(|((machine, nic), link)| {
                (vec![("machine", machine.as_str()), ("nic", nic.as_str())], figure(link))
            });
            let (name, what) = (format!("link_{name}_total"), format!("{what}, by a cable."));
            exposition.counter(&name, &what, &lines.collect::<Vec<_>>());
        }
    }
}

/// A guest's port with the names that it is told by.
struct Named<'a> {
    host: &'a str,
    vm: &'a str,
    id: String,
    nic: String,
    network: &'a str,
    port: &'a SwitchPort,
}

fn guest<'a>(inventory: &'a Inventory, host: &'a str, port: &'a SwitchPort) -> Option<Named<'a>> {
    let PortEnd::Guest { vm, nic } = port.end else { return None };
    let network = port.network.and_then(|id| inventory.network(id).ok());
    Some(Named {
        host,
        vm: inventory.vm(vm).map_or("", |vm| &vm.name),
        id: vm.to_string(),
        nic: nic.to_string(),
        network: network.map_or("", |network| &network.name),
        port,
    })
}

impl Named<'_> {
    fn figures(&self) -> Figures<'_> {
        let Self { host, vm, id, nic, network, port } = self;
        Figures {
            labels: vec![
                ("vm", *vm),
                ("id", id),
                ("nic", nic),
                ("network", *network),
                ("host", *host),
            ],
            passed: [port.frames_in, port.bytes_in, port.frames_out, port.bytes_out],
            drops: &port.drops,
        }
    }
}

fn sum<'a>(host: &'a str, totals: &'a SwitchTotals) -> Figures<'a> {
    Figures {
        labels: vec![("host", host)],
        passed: [totals.frames_in, totals.bytes_in, totals.frames_out, totals.bytes_out],
        drops: &totals.drops,
    }
}

fn write(scope: &str, by: &str, all: &[Figures<'_>], exposition: &mut Exposition) {
    // "In" is towards the switch: what a guest sent.
    let families = [
        ("sent_frames", "Frames sent, dropped ones included"),
        ("sent_bytes", "Bytes sent, dropped ones included"),
        ("received_frames", "Frames received"),
        ("received_bytes", "Bytes received"),
    ];
    for (place, (name, what)) in families.into_iter().enumerate() {
        let lines = all.iter().map(|it| (it.labels.clone(), it.passed[place]));
        let (name, what) = (format!("{scope}_{name}_total"), format!("{what}, {by}."));
        exposition.counter(&name, &what, &lines.collect::<Vec<_>>());
    }
    let drops = all.iter().flat_map(|it| {
        let lines = it.drops.iter().map(|(reason, count)| {
            let mut labels = it.labels.clone();
            labels.push(("reason", reason.as_str()));
            (labels, *count)
        });
        lines.collect::<Vec<_>>()
    });
    let (name, what) = (format!("{scope}_dropped_frames_total"), format!("Frames dropped, {by}."));
    exposition.counter(&name, &what, &drops.collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use racknest_types::id::VmId;

    use super::*;

    fn switching() -> Switching {
        let drops = vec![("storm".to_owned(), 2)];
        let port = SwitchPort {
            end: PortEnd::Guest { vm: VmId::from_raw(77), nic: 0 },
            network: None,
            is_up: true,
            uplink: None,
            frames_in: 5,
            bytes_in: 500,
            frames_out: 6,
            bytes_out: 600,
            drops: drops.clone(),
            faults: String::new(),
        };
        let uplink = SwitchPort { end: PortEnd::Uplink("vmnic0".into()), ..port.clone() };
        let totals = SwitchTotals { frames_in: 9, drops, ..SwitchTotals::default() };
        let report = SwitchReport { ports: vec![port, uplink], totals, ..SwitchReport::default() };
        let link = LinkState {
            machine: "esx01".parse().unwrap(),
            nic: "vmnic0".parse().unwrap(),
            is_up: true,
            faults: racknest_underlay::LinkFaults::default(),
            is_waiting: false,
            port: racknest_underlay::PortSetup::default(),
            is_machine_on: true,
            sent: racknest_underlay::Traffic { frames: 1, bytes: 60 },
            received: racknest_underlay::Traffic::default(),
            dropped_frames: 3,
        };
        Switching { reports: vec![("esx01".into(), report)], links: vec![link] }
    }

    fn written(with_vms: bool) -> String {
        let mut exposition = Exposition::default();
        let inventory = Inventory::new(1);
        switching().write(&inventory, with_vms, &mut exposition);
        exposition.into_text()
    }

    #[test]
    fn ports_hosts_and_cables_tell_what_passed_and_why_frames_were_dropped() {
        let text = written(true);
        let port = r#"{vm="",id="vm-77",nic="0",network="",host="esx01""#;
        for line in [
            &*format!("racknest_switch_port_sent_bytes_total{port}}} 500"),
            &*format!("racknest_switch_port_received_frames_total{port}}} 6"),
            &*format!("racknest_switch_port_dropped_frames_total{port},reason=\"storm\"}} 2"),
            r#"racknest_switch_host_sent_frames_total{host="esx01"} 9"#,
            r#"racknest_switch_host_dropped_frames_total{host="esx01",reason="storm"} 2"#,
            r#"racknest_link_sent_bytes_total{machine="esx01",nic="vmnic0"} 60"#,
            r#"racknest_link_dropped_frames_total{machine="esx01",nic="vmnic0"} 3"#,
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_scrape_without_vms_has_the_sums_and_no_ports() {
        let text = written(false);
        assert!(!text.contains("switch_port") && text.contains("switch_host"), "{text}");
    }
}
