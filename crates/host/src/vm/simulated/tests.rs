//! Power and shape of simulated guests, told as scripts, and what they cost.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use racknest_types::fault::FaultCode;
use tokio::sync::watch;

use super::*;
use crate::testing;

const CLAIM: Claim = Claim { cores: 4, core_mhz: 2000, memory: Bytes::from_gib(8) };

fn course() -> Course {
    Course { percent: mpsc::unbounded_channel().0, cancelled: watch::channel(false).1 }
}

fn request(word: &str, spec: VmSpec) -> Request {
    let memory = Some(spec.home.clone());
    match word {
        "create" => Request::Create { spec, sources: vec![], power_on: false },
        "create-on" => Request::Create { spec, sources: vec![], power_on: true },
        "delete" => Request::Delete { home: spec.home },
        "register" => Request::Register(spec),
        "unregister" => Request::Unregister,
        "on" => Request::PowerOn(spec),
        "off" => Request::PowerOff,
        "shutdown" => Request::Shutdown,
        "reset" => Request::Reset,
        "suspend" => Request::Suspend,
        "snapshot" => Request::Snapshot { spec, memory },
        "revert-on" => Request::Revert { spec, discard: vec![], memory },
        "revert-off" => Request::Revert { spec, discard: vec![], memory: None },
        "shrink" | "grow" | "as-it-was" => {
            let mut spec = spec;
            match word {
                "shrink" => spec.config.vcpus -= 1,
                "grow" => spec.config.vcpus += 1,
                _ => {}
            }
            Request::Reconfigure { spec, discard: vec![] }
        }
        _ => panic!("no request is called {word}"),
    }
}

async fn check(script: &str, expect: Expect) {
    let driver = Simulated::new(1, CLAIM);
    let spec = testing::spec(1);
    let mut transcript = String::new();
    for word in script.split_whitespace() {
        let result = driver.perform(spec.id, None, request(word, spec.clone()), course()).await;
        match result {
            Ok(power) => writeln!(transcript, "{word}: {power:?}").unwrap(),
            Err(fault) => writeln!(transcript, "{word}: {}: {fault}", fault.code).unwrap(),
        }
    }
    expect.assert_eq(&transcript);
}

#[tokio::test]
async fn power_follows_the_requests_and_each_can_be_repeated() {
    check(
        "off create create on on suspend suspend on reset off off reset suspend delete delete",
        expect![[r#"
            off: NotFound: vm-1 on this host does not exist
            create: Off
            create: Off
            on: On
            on: On
            suspend: Suspended
            suspend: Suspended
            on: On
            reset: On
            off: Off
            off: Off
            reset: InvalidPowerState: web01 cannot be reset: it is not powered on
            suspend: InvalidPowerState: web01 cannot be suspended: it is not powered on
            delete: Off
            delete: Off
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_runs_is_not_deleted_nor_shrunk() {
    check(
        "create-on delete unregister shrink grow as-it-was shrink snapshot revert-off shrink revert-on revert-on off unregister",
        expect![[r#"
            create-on: On
            delete: InvalidPowerState: web01 is powered on; power it off first
            unregister: InvalidPowerState: web01 is powered on; power it off first
            shrink: InvalidPowerState: web01 is not powered off: of its vCPUs and memory, only what was added to the 2 and 512 MiB that it started with can be taken away
            grow: On
            as-it-was: On
            shrink: InvalidPowerState: web01 is not powered off: of its vCPUs and memory, only what was added to the 2 and 512 MiB that it started with can be taken away
            snapshot: On
            revert-off: Off
            shrink: Off
            revert-on: On
            revert-on: On
            off: Off
            unregister: Off
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_guest_that_is_asked_shuts_itself_down() {
    let driver = Simulated::new(1, CLAIM);
    let spec = testing::spec(1);
    for word in ["create-on", "shutdown"] {
        let power = driver.perform(spec.id, None, request(word, spec.clone()), course()).await;
        assert_eq!(power, Ok(PowerState::On));
    }
    let VmEvent::PowerChanged { report, died, .. } = driver.next_event().await;
    assert_eq!((report.power, died), (PowerState::Off, false));
}

#[tokio::test]
async fn guests_share_the_cpu_that_the_host_claims() {
    let driver = Simulated::new(1, CLAIM);
    for number in 1..=8 {
        let mut spec = testing::spec(number);
        spec.config.workload.pattern =
            racknest_cluster::record::vm::Pattern::Constant { permille: 1000 };
        driver.perform(spec.id, None, request("create-on", spec.clone()), course()).await.unwrap();
    }
    let samples = driver.sample_at(Timestamp::from_millis(1_700_000_000_000));
    let total: u32 = samples.iter().map(|sample| sample.cpu_mhz).sum();
    assert_eq!(samples.len(), 8);
    assert!((7800..=8000).contains(&total), "{total} MHz of 8000");
}

#[tokio::test]
async fn a_simulated_vm_says_so() {
    let driver = Simulated::new(1, CLAIM);
    let spec = testing::spec(1);
    driver.perform(spec.id, None, request("create-on", spec.clone()), course()).await.unwrap();
    let Err(fault) = driver.console(spec.id).await else { panic!("a console") };
    assert_eq!(fault.code, FaultCode::NotSupported);
    assert!(fault.message.contains("web01 is simulated"), "{fault}");
    let log = String::from_utf8(driver.serial_log(spec.id).await.unwrap()).unwrap();
    assert!(log.contains("simulated guest: web01"), "{log}");
    assert!(driver.screenshot(spec.id).await.unwrap().starts_with(b"\x89PNG"));
    let Err(fault) = driver.serial(VmId::from_raw(9)).await else { panic!("a serial port") };
    assert_eq!(fault.code, FaultCode::NotFound);
}
