//! Objects written in one word: a disk is its size, a network adapter its network.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::size;

/// The objects that have a short form: name, what its value is called, how it is written.
const FORMS: &[(&str, &str, &str)] = &[
    ("NewDisk", "SIZE", "its size, as in 8GiB"),
    ("DiskGrowth", "KEY=SIZE", "its key and its size afterwards, as in 0=16GiB"),
    ("NewNic", "NETWORK[,mac=ADDRESS]", "its network, and its address unless one is to be chosen"),
    ("Admission", "POLICY", "off, slots:HOSTS, percentage:CPU:MEMORY, or failover-hosts:NAME,NAME"),
    (
        "Monitoring",
        "LEVEL",
        "off, low, medium, high, or SILENCE:RESETS:WINDOW with both times in seconds",
    ),
    (
        "NicPatch",
        "KEY,...",
        "its key and what changes, as in 1,network=web,mac=02:00:00:00:00:01,connected=yes",
    ),
    (
        "Shaping",
        "AVERAGE:PEAK:BURST",
        "average and peak in kbit/s and the burst in KiB, as in 10000:20000:512; 0:0:0 for none",
    ),
    (
        "FirewallRule",
        "RULE",
        "allow or deny, then if wanted ,from= ,to= with a network or 10.1.0.0/24, ,protocol=tcp, udp \
         or icmp ,ports=80-90",
    ),
    (
        "Reservation",
        "MAC=ADDRESS",
        "a card and its address, as in 02:00:00:00:00:01=10.1.0.9, then if wanted ,name=NAME",
    ),
    ("NetworkSwap", "NETWORK=OTHER", "a network of the source and the clones', as in web=web-test"),
    ("Boot", "BOOT", "bios, or KERNEL,INITRAMFS[,ARGUMENTS] as paths on a datastore"),
    (
        "Workload",
        "LOAD",
        "constant:20, daily:LOW:HIGH or bursts:IDLE:BURST:DUTY in per mille of the CPU, then if \
         wanted ,active=PERMILLE ,iops=N ,kbps=N",
    ),
];

/// Whether objects of this name have a short form.
pub(super) fn is_known(name: &str) -> bool {
    FORMS.iter().any(|form| form.0 == name)
}

/// What its value is called in a usage line.
pub(super) fn value_name(name: &str) -> &'static str {
    FORMS.iter().find(|form| form.0 == name).map_or("VALUE", |form| form.1)
}

/// How it is written.
pub(super) fn help(name: &str) -> &'static str {
    FORMS.iter().find(|form| form.0 == name).map_or("", |form| form.2)
}

/// The object that this text means.
pub(super) fn parse(name: &str, text: &str) -> anyhow::Result<Value> {
    let parsed = match name {
        "NewDisk" => size(text, 1).map(|bytes| json!({ "capacity_bytes": bytes })),
        "DiskGrowth" => growth(text),
        "NewNic" => Ok(new_nic(text)),
        "NicPatch" => {
            let (key, rest) = split(text);
            number(key).and_then(|key| nic(json!({ "key": key }), rest))
        }
        "Admission" => admission(text),
        "Monitoring" => monitoring(text),
        "Shaping" => shaping(text),
        "FirewallRule" => firewall_rule(text),
        "Reservation" => reservation(text),
        "NetworkSwap" => match text.split_once('=') {
            Some((from, to)) => Ok(json!({ "from": from, "to": to })),
            None => Err(anyhow::anyhow!("there is no '='")),
        },
        "Boot" => boot(text),
        _ => workload(text),
    };
    parsed.with_context(|| format!("'{text}' is not {}", help(name)))
}

fn split(text: &str) -> (&str, &str) {
    text.split_once(',').unwrap_or((text, ""))
}

fn number(text: &str) -> anyhow::Result<Value> {
    text.parse::<u32>().map(Value::from).with_context(|| format!("'{text}' is no number"))
}

/// `network=web,connected=no` added to what is known of a network adapter.
fn nic(mut nic: Value, rest: &str) -> anyhow::Result<Value> {
    for part in rest.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("network", value)) => nic["network"] = json!(value),
            Some(("mac", value)) => nic["mac"] = json!(value),
            Some(("connected", "yes")) => nic["is_connected"] = json!(true),
            Some(("connected", "no")) => nic["is_connected"] = json!(false),
            Some(_) | None => bail!("'{part}' is not known"),
        }
    }
    Ok(nic)
}

fn growth(text: &str) -> anyhow::Result<Value> {
    let (key, bytes) = text.split_once('=').context("there is no '='")?;
    Ok(json!({ "key": number(key)?, "capacity_bytes": size(bytes, 1)? }))
}

/// `allow,from=web,to=10.2.0.0/24,protocol=tcp,ports=80-90`.
fn firewall_rule(text: &str) -> anyhow::Result<Value> {
    let (action, rest) = split(text);
    let mut rule = json!({ "action": action });
    for part in rest.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some((key @ ("from" | "to" | "protocol" | "ports"), value)) => rule[key] = json!(value),
            Some(_) | None => bail!("'{part}' is not known"),
        }
    }
    match action {
        "allow" | "deny" => Ok(rule),
        _ => bail!("it begins with allow or deny"),
    }
}

/// `02:00:00:00:00:01=10.1.0.9,name=printer`.
fn reservation(text: &str) -> anyhow::Result<Value> {
    let (kept, rest) = split(text);
    let (mac, address) = kept.split_once('=').context("there is no '='")?;
    let mut reservation = json!({ "mac": mac, "address": address });
    for part in rest.split(',').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("name", value)) => reservation["name"] = json!(value),
            Some(_) | None => bail!("'{part}' is not known"),
        }
    }
    Ok(reservation)
}

/// A network's name may hold a comma, an address none.
fn new_nic(text: &str) -> Value {
    match text.rsplit_once(",mac=") {
        Some((network, mac)) => json!({ "network": network, "mac": mac }),
        None => json!({ "network": text }),
    }
}

fn admission(text: &str) -> anyhow::Result<Value> {
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "off" if rest.is_empty() => Ok(json!({ "kind": "off" })),
        "slots" => Ok(json!({ "kind": "slots", "failures": number(rest)? })),
        "percentage" => {
            let (cpu, memory) = rest.split_once(':').unwrap_or((rest, rest));
            Ok(json!({ "kind": "percentage", "cpu": number(cpu)?, "memory": number(memory)? }))
        }
        "failover-hosts" => {
            let hosts: Vec<&str> = rest.split(',').filter(|name| !name.is_empty()).collect();
            Ok(json!({ "kind": "failover_hosts", "hosts": hosts }))
        }
        _ => bail!("the policy is not known"),
    }
}

/// vSphere's levels, or what they are made of.
fn monitoring(text: &str) -> anyhow::Result<Value> {
    let [silence, resets, window] = match text {
        "off" => return Ok(json!({ "kind": "off" })),
        "low" => [120, 3, 7 * 24 * 3600],
        "medium" => [60, 3, 24 * 3600],
        "high" => [30, 3, 3600],
        _ => {
            let parts: Vec<u64> =
                text.split(':').map(str::parse).collect::<Result<_, _>>().context("no numbers")?;
            <[u64; 3]>::try_from(parts).map_err(|_| anyhow::anyhow!("not three numbers"))?
        }
    };
    let (silence, window) = (silence.saturating_mul(1000), window.saturating_mul(1000));
    Ok(json!({ "kind": "on", "silence_ms": silence, "resets_max": resets, "window_ms": window }))
}

fn boot(text: &str) -> anyhow::Result<Value> {
    if text == "bios" {
        return Ok(json!({ "kind": "bios" }));
    }
    let mut parts = text.splitn(3, ',');
    let (kernel, initramfs) = (parts.next().unwrap_or_default(), parts.next());
    let initramfs = initramfs.context("a kernel needs an initial file system")?;
    let arguments = parts.next().unwrap_or_default();
    Ok(json!({
        "kind": "kernel", "kernel": kernel, "initramfs": initramfs, "arguments": arguments,
    }))
}

fn workload(text: &str) -> anyhow::Result<Value> {
    let (pattern, rest) = split(text);
    let mut words = pattern.split(':');
    let (kind, fields): (&str, &[&str]) = match words.next() {
        Some("constant") => ("constant", &["permille"]),
        Some("daily") => ("daily", &["low_permille", "high_permille"]),
        Some("bursts") => ("bursts", &["idle_permille", "burst_permille", "duty_permille"]),
        Some(_) | None => bail!("the pattern is not known"),
    };
    let mut pattern = Map::from_iter([("kind".to_owned(), json!(kind))]);
    for field in fields {
        let word = words.next().with_context(|| format!("{kind} has {} numbers", fields.len()))?;
        pattern.insert((*field).to_owned(), number(word)?);
    }
    let mut load = json!({
        "pattern": pattern, "active_memory_permille": 100, "disk_iops": 50, "network_kbps": 1000,
    });
    for part in rest.split(',').filter(|part| !part.is_empty()) {
        let (key, value) =
            part.split_once('=').with_context(|| format!("'{part}' has no value"))?;
        let field = match key {
            "active" => "active_memory_permille",
            "iops" => "disk_iops",
            "kbps" => "network_kbps",
            _ => bail!("'{key}' is not known"),
        };
        load[field] = number(value)?;
    }
    Ok(load)
}

/// `AVERAGE:PEAK:BURST`.
fn shaping(text: &str) -> anyhow::Result<Value> {
    let words: Vec<&str> = text.split(':').collect();
    let [average, peak, burst] = words[..] else { bail!("it has three numbers") };
    Ok(json!({
        "average_kbps": number(average)?, "peak_kbps": number(peak)?, "burst_kib": number(burst)?,
    }))
}

#[cfg(test)]
mod tests {
    use racknest_api::v1::ha::{Admission, Monitoring};
    use racknest_api::v1::network_services::{FirewallRule, Reservation};
    use racknest_api::v1::vm_config::{Boot, DiskGrowth, NewDisk, NewNic, NicPatch, Workload};
    use serde::de::DeserializeOwned;

    use super::*;

    fn parsed<T: DeserializeOwned>(name: &str, text: &str) -> T {
        serde_json::from_value(parse(name, text).unwrap()).unwrap()
    }

    #[test]
    fn a_short_form_is_what_the_interface_takes() {
        assert_eq!(parsed::<NewDisk>("NewDisk", "8GiB").capacity_bytes, 8 << 30);
        assert_eq!(parsed::<NewNic>("NewNic", "VM Network").network, "VM Network");
        let nic = parsed::<NewNic>("NewNic", "a, b,mac=02:00:00:00:00:01");
        assert_eq!((nic.network.as_str(), nic.mac.as_deref()), ("a, b", Some("02:00:00:00:00:01")));
        let growth = parsed::<DiskGrowth>("DiskGrowth", "2=16GiB");
        assert_eq!((growth.key, growth.capacity_bytes), (2, 16 << 30));
        let rule = parsed::<FirewallRule>("FirewallRule", "deny,from=web,protocol=tcp,ports=22");
        assert_eq!((rule.from.as_deref(), rule.ports.as_deref()), (Some("web"), Some("22")));
        let kept = parsed::<Reservation>("Reservation", "02:00:00:00:00:01=10.1.0.9,name=a");
        assert_eq!((kept.address.as_str(), kept.name.as_deref()), ("10.1.0.9", Some("a")));
        let nic = parsed::<NicPatch>("NicPatch", "1,mac=02:00:00:00:00:01");
        assert_eq!(nic.mac.as_deref(), Some("02:00:00:00:00:01"));
        let nic = parsed::<NicPatch>("NicPatch", "1,network=web,connected=yes");
        assert_eq!(
            (nic.key, nic.network.as_deref(), nic.is_connected),
            (1, Some("web"), Some(true))
        );
        assert_eq!(
            parsed::<Admission>("Admission", "percentage:25:30"),
            Admission::Percentage { cpu: 25, memory: 30 }
        );
        let hosts = vec!["esx07".to_owned(), "esx08".to_owned()];
        assert_eq!(
            parsed::<Admission>("Admission", "failover-hosts:esx07,esx08"),
            Admission::FailoverHosts { hosts }
        );
        let on = Monitoring::On { silence_ms: 30_000, resets_max: 3, window_ms: 3_600_000 };
        assert_eq!(parsed::<Monitoring>("Monitoring", "high"), on);
        assert_eq!(parsed::<Monitoring>("Monitoring", "30:3:3600"), on);
        assert_eq!(parsed::<Boot>("Boot", "bios"), Boot::Bios);
        assert!(
            matches!(parsed("Boot", "[ds] k,[ds] i,a=1,2"), Boot::Kernel { arguments, .. } if arguments == "a=1,2")
        );
        assert_eq!(parsed::<Workload>("Workload", "bursts:10:900:50,iops=7").disk_iops, 7);
        assert_eq!(parsed::<Workload>("Workload", "daily:20:600").disk_iops, 50);
    }

    #[test]
    fn what_is_no_short_form_is_told_how_it_is_written() {
        for (name, text) in [
            ("NewDisk", "big"),
            ("DiskGrowth", "16GiB"),
            ("DiskGrowth", "first=16GiB"),
            ("DiskGrowth", "0=big"),
            ("Admission", "some"),
            ("Monitoring", "30:3"),
            ("NicPatch", "1,speed=10"),
            ("NicPatch", "web"),
            ("NetworkSwap", "web"),
            ("FirewallRule", "maybe"),
            ("FirewallRule", "allow,port=80"),
            ("Reservation", "02:00:00:00:00:01"),
            ("Boot", "linux"),
            ("Workload", "constant"),
            ("Workload", "constant:20,iops"),
        ] {
            let error = format!("{:#}", parse(name, text).unwrap_err());
            assert!(error.contains(text) && error.contains(help(name)), "{error}");
        }
    }
}
