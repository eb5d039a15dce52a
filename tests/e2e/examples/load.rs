//! Load on a running box through REST: how long a command takes, and how many it takes a second.
//!
//! `load ADDRESS CERTIFICATE TOKEN round-trips COUNT` powers one simulated VM on and off and prints
//! the time from sending `vm_power_on` to its acknowledgement, which is after its save.
//! `load ADDRESS CERTIFICATE TOKEN creates COUNT CONNECTIONS` makes VMs over many connections.
//! `load fdatasync DIRECTORY COUNT` times what a save cannot be faster than: an append and an
//! `fdatasync` there. Every mode prints one JSON object; `cargo xtask bench` runs them.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

fn main() -> anyhow::Result<()> {
    let words = std::env::args().skip(1).collect::<Vec<_>>();
    let words = words.iter().map(String::as_str).collect::<Vec<_>>();
    let result = match words.as_slice() {
        ["fdatasync", directory, count] => fdatasync(Path::new(directory), count.parse()?)?,
        [address, certificate, token, mode, rest @ ..] => {
            let target = Target::new(address, certificate, token)?;
            match (*mode, rest) {
                ("round-trips", [count]) => target.round_trips(count.parse()?)?,
                ("creates", [count, connections]) => {
                    target.creates(count.parse()?, connections.parse()?)?
                }
                _ => bail!("there is no mode '{mode}' with {} words after it", rest.len()),
            }
        }
        _ => bail!("usage: load ADDRESS CERTIFICATE TOKEN round-trips|creates …"),
    };
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}

/// The manager under load.
#[derive(Clone)]
struct Target {
    address: String,
    token: String,
    tls: TlsConfig,
}

impl Target {
    fn new(address: &str, certificate: &str, token: &str) -> anyhow::Result<Self> {
        let pem = std::fs::read(certificate).with_context(|| format!("reading {certificate}"))?;
        let certificate = Certificate::from_pem(&pem).context("the certificate")?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(vec![certificate])))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        Ok(Self { address: address.to_owned(), token: token.to_owned(), tls })
    }

    /// A client with a connection of its own, as a program has.
    fn agent(&self) -> Agent {
        Agent::config_builder()
            .tls_config(self.tls.clone())
            .http_status_as_error(false)
            .build()
            .new_agent()
    }

    fn post(&self, agent: &Agent, path: &str, body: &Value) -> anyhow::Result<Value> {
        let mut answer = agent
            .post(format!("{}{path}", self.address))
            .header("authorization", format!("Bearer {}", self.token))
            .send_json(body)?;
        let status = answer.status();
        let value: Value = answer.body_mut().read_json()?;
        ensure!(status.is_success(), "{path}: {status}: {}", value["message"]);
        Ok(value)
    }

    fn wait(&self, agent: &Agent, task: &Value) -> anyhow::Result<()> {
        let id = task["id"].as_str().context("a task has an id")?;
        loop {
            let mut answer = agent
                .get(format!("{}/api/v1/tasks/{id}?wait_seconds=30", self.address))
                .header("authorization", format!("Bearer {}", self.token))
                .call()?;
            let task: Value = answer.body_mut().read_json()?;
            match task["state"].as_str() {
                Some("running") => {}
                Some("success") => return Ok(()),
                _ => bail!("{task}"),
            }
        }
    }

    fn create(&self, agent: &Agent, name: &str) -> anyhow::Result<Value> {
        self.post(agent, "/api/v1/vms", &json!({"name": name, "disks": [], "memory_mib": 64}))
    }

    fn round_trips(&self, count: usize) -> anyhow::Result<Value> {
        let agent = self.agent();
        let name = format!("bench-{}", std::process::id());
        self.wait(&agent, &self.create(&agent, &name)?)?;
        let (on, off) =
            (format!("/api/v1/vms/{name}/power-on"), format!("/api/v1/vms/{name}/power-off"));
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            let task = self.post(&agent, &on, &json!({}))?;
            times.push(start.elapsed());
            self.wait(&agent, &task)?;
            self.wait(&agent, &self.post(&agent, &off, &json!({}))?)?;
        }
        Ok(quantiles(times))
    }

    fn creates(&self, count: usize, connections: usize) -> anyhow::Result<Value> {
        let next = AtomicUsize::new(0);
        let prefix = format!("load-{}-", std::process::id());
        let start = Instant::now();
        let worker = || -> anyhow::Result<Vec<Duration>> {
            let agent = self.agent();
            let mut times = Vec::new();
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= count {
                    return Ok(times);
                }
                let begun = Instant::now();
                self.create(&agent, &format!("{prefix}{place}"))?;
                times.push(begun.elapsed());
            }
        };
        let times = std::thread::scope(|scope| {
            let workers = (0..connections).map(|_| scope.spawn(worker)).collect::<Vec<_>>();
            let results = workers.into_iter().map(|it| it.join().expect("a worker does not panic"));
            results.collect::<anyhow::Result<Vec<_>>>()
        })?;
        let seconds = start.elapsed().as_secs_f64();
        let mut result = quantiles(times.into_iter().flatten().collect());
        result["seconds"] = json!(seconds);
        #[expect(clippy::cast_precision_loss, reason = "a count of thousands is exact in a float")]
        let rate = count as f64 / seconds;
        result["per_second"] = json!(rate);
        Ok(result)
    }
}

fn fdatasync(directory: &Path, count: usize) -> anyhow::Result<Value> {
    let path = directory.join("fdatasync.probe");
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        file.write_all(&[0x5a; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(quantiles(times))
}

fn quantiles(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let at = |permille: usize| {
        let place = (times.len() * permille / 1000).min(times.len().saturating_sub(1));
        times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    json!({"count": times.len(), "p50_ms": at(500), "p90_ms": at(900), "p99_ms": at(990)})
}
