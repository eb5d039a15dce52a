//! The latest values as text for Prometheus.
//!
//! Every counter is a family of its own for VMs, hosts and clusters, because a sum over a family
//! must mean something: one family for all would count every VM twice. Values are in base units
//! (bytes, seconds, hertz, ratios), as Prometheus wants them; names and ids are labels.

use std::fmt::Write;

use super::Sample;
use super::counter::Counter;

/// The media type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What all names begin with.
const PREFIX: &str = "racknest";

/// What a set of samples is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// VMs.
    Vm,
    /// Hosts.
    Host,
    /// Clusters.
    Cluster,
}

impl Scope {
    const fn name(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Host => "host",
            Self::Cluster => "cluster",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Vm => "by a VM",
            Self::Host => "by a host and its VMs",
            Self::Cluster => "by the hosts of a cluster",
        }
    }
}

/// Labels and their values: `[("vm", "web01"), ("id", "vm-42")]`.
///
/// Together they must tell a sample from all others: two VMs may have one name.
pub type Labels<'a> = Vec<(&'static str, &'a str)>;

/// The text, as far as it is written.
#[derive(Clone, Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Adds the samples of all VMs, all hosts or all clusters: a family for each counter.
    pub fn samples(&mut self, scope: Scope, samples: &[(Labels<'_>, Sample)]) {
        for counter in Counter::ALL {
            let metric = counter.metric();
            let name = format!("{PREFIX}_{}_{}", scope.name(), metric.name);
            let (what, by) = (counter.description(), scope.sentence());
            let help = format!("{what}, {by}: {} of vSphere.", counter.name());
            self.head(&name, &help, "gauge");
            for (labels, sample) in samples {
                if let Some(steps) = sample.values[counter.index()] {
                    let value = steps.saturating_mul(metric.multiply);
                    self.line(&name, labels, &decimal(value, metric.decimals));
                }
            }
        }
    }

    /// Adds a family of whole numbers that go up and down. `racknest_` is put before its name.
    pub fn gauge(&mut self, name: &str, help: &str, samples: &[(Labels<'_>, u64)]) {
        self.family((name, "gauge"), help, samples);
    }

    /// Adds a family of whole numbers that only go up, until what they count starts again.
    /// `racknest_` is put before its name, which ends with `_total`.
    pub fn counter(&mut self, name: &str, help: &str, samples: &[(Labels<'_>, u64)]) {
        self.family((name, "counter"), help, samples);
    }

    fn family(&mut self, (name, kind): (&str, &str), help: &str, samples: &[(Labels<'_>, u64)]) {
        let name = format!("{PREFIX}_{name}");
        self.head(&name, help, kind);
        for (labels, value) in samples {
            self.line(&name, labels, &value.to_string());
        }
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}")
            .expect("writing to a string cannot fail");
    }

    fn line(&mut self, name: &str, labels: &[(&'static str, &str)], value: &str) {
        self.text.push_str(name);
        let mut before = '{';
        for (label, text) in labels {
            self.text.push(before);
            self.text.push_str(label);
            self.text.push_str("=\"");
            push_escaped(&mut self.text, text);
            self.text.push('"');
            before = ',';
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.text.push(' ');
        self.text.push_str(value);
        self.text.push('\n');
    }
}

fn push_escaped(text: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

/// A number of which the last digits are decimals: exact, where a float would not be.
fn decimal(number: u64, decimals: usize) -> String {
    if decimals == 0 {
        return number.to_string();
    }
    let digits = format!("{number:0>width$}", width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    format!("{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use racknest_types::time::Timestamp;

    use super::*;
    use crate::statistics::counter::COUNTERS;

    type Parsed = BTreeMap<(String, BTreeMap<String, String>), String>;

    /// Reads the text as Prometheus does, and panics where Prometheus would refuse it.
    fn parse(text: &str) -> Parsed {
        let mut samples = Parsed::new();
        let mut families = BTreeSet::new();
        let mut family = String::new();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text");
                assert!(!help.is_empty());
                assert!(families.insert(name.to_owned()), "{name} comes twice");
                family = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let kind = if family.ends_with("_total") { "counter" } else { "gauge" };
                assert_eq!(rest, format!("{family} {kind}"));
            } else {
                let (name, labels, value) = parse_line(line);
                assert_eq!(name, family, "a sample outside of its family");
                value.parse::<f64>().expect("a number");
                assert_eq!(samples.insert((name, labels), value), None, "{line} comes twice");
            }
        }
        for name in families {
            assert!(name.starts_with("racknest_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
        samples
    }

    fn parse_line(line: &str) -> (String, BTreeMap<String, String>, String) {
        let end = line.find(['{', ' ']).expect("a name");
        let (name, mut rest) = line.split_at(end);
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            loop {
                let (label, quoted) = rest.split_once("=\"").expect("a label");
                let (value, after) = unquote(quoted);
                labels.insert(label.to_owned(), value);
                if let Some(after) = after.strip_prefix('}') {
                    rest = after;
                    break;
                }
                rest = after.strip_prefix(',').expect("another label");
            }
        }
        (name.to_owned(), labels, rest.trim_start_matches(' ').to_owned())
    }

    fn unquote(quoted: &str) -> (String, &str) {
        let mut value = String::new();
        let mut letters = quoted.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '"' => return (value, &quoted[at + 1..]),
                '\\' => match letters.next().expect("an escaped letter").1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                other => value.push(other),
            }
        }
        panic!("{quoted} does not end");
    }

    fn sample(value: u64) -> Sample {
        Sample { at: Timestamp::EPOCH, values: [Some(value); COUNTERS] }
    }

    #[test]
    fn every_value_is_read_back_in_base_units() {
        let mut exposition = Exposition::default();
        let odd = "a \"b\" \\ c\nd,e}=";
        let labels = |name, id| vec![("vm", name), ("id", id), ("host", "esx01")];
        let mut second = sample(8);
        second.values[Counter::MemoryGranted.index()] = None;
        let vms = [(labels(odd, "vm-1"), sample(1234)), (labels(odd, "vm-2"), second)];
        exposition.samples(Scope::Vm, &vms);
        exposition.samples(Scope::Host, &[(vec![("host", "esx01")], sample(1))]);
        exposition.samples(Scope::Cluster, &[]);
        exposition.gauge("tasks", "Tasks that are\nrunning.", &[(vec![], 3)]);
        exposition.counter("frames_total", "Frames.", &[(vec![], 4)]);
        let parsed = parse(&exposition.into_text());
        assert_eq!(parsed.len(), COUNTERS + COUNTERS - 1 + COUNTERS + 2);
        let value = |name: &str, labels: &[(&'static str, &str)]| {
            let labels = labels.iter().map(|(label, value)| ((*label).into(), (*value).into()));
            parsed.get(&(name.to_owned(), labels.collect())).map(String::as_str)
        };
        let first = labels(odd, "vm-1");
        assert_eq!(value("racknest_vm_cpu_usage_ratio", &first), Some("0.1234"));
        assert_eq!(value("racknest_vm_cpu_usage_hertz", &first), Some("1234000000"));
        assert_eq!(value("racknest_vm_memory_consumed_bytes", &first), Some("5054464"));
        assert_eq!(value("racknest_vm_disk_latency_seconds", &first), Some("0.001234"));
        let received = "racknest_vm_network_received_bytes_per_second";
        assert_eq!(value(received, &labels(odd, "vm-2")), Some("1000"));
        assert_eq!(value("racknest_vm_memory_granted_bytes", &labels(odd, "vm-2")), None);
        assert_eq!(value("racknest_host_cpu_usage_ratio", &[("host", "esx01")]), Some("0.0001"));
        assert_eq!(value("racknest_tasks", &[]), Some("3"));
        assert_eq!(value("racknest_frames_total", &[]), Some("4"));
    }
}
