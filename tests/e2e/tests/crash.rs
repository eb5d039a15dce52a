//! SIGKILL, and then a look at what is left: nothing acknowledged is lost, nothing runs twice.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use racknest_api::v1::task::{Task, TaskState};
use racknest_api::v1::vm::{NewVm, PowerState, VmCreate, VmFilter};
use racknest_e2e::wait::{self, LONG};
use racknest_e2e::{Lab, Rest, Role};

const CREATES: u32 = 200;
const CLIENTS: u32 = 32;

fn new_vm(name: &str) -> NewVm {
    let body = format!(r#"{{"name": "{name}", "memory_mib": 64}}"#);
    serde_json::from_str(&body).expect("a name and a size make a VM")
}

/// Creates VMs over many connections until the manager is gone or all are made; each that was
/// acknowledged is sent on.
fn create_many(rest: &Rest, acknowledged: &mpsc::Sender<(String, Task)>, next: &AtomicU32) {
    let rest = rest.another();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= CREATES {
            return;
        }
        let name = format!("new{number:03}");
        let Ok(task) = rest.send::<VmCreate>(&[], &new_vm(&name)) else { return };
        if acknowledged.send((name, task)).is_err() {
            return;
        }
    }
}

fn wait_for_manager(rest: &Rest) {
    wait::until("the manager answers again", LONG, || rest.vms(&VmFilter::default()).is_ok());
}

fn wait_all_on(rest: &Rest, prefix: &str, count: usize) {
    let filter = VmFilter {
        name: Some(format!("{prefix}*")),
        power_state: Some(PowerState::PoweredOn),
        ..VmFilter::default()
    };
    wait::until(&format!("{count} VMs {prefix}* are on"), LONG, || {
        rest.vms(&filter).is_ok_and(|vms| vms.len() == count)
    });
}

#[test]
fn kill_9_of_the_manager_among_creates_loses_nothing_that_was_acknowledged() {
    let lab = Lab::simulated(4, 8);
    let rest = lab.rest();
    let managers = lab.running(Role::Manager);
    let (sender, receiver) = mpsc::channel();
    let next = AtomicU32::new(0);
    let mut acknowledged = std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let sender = sender.clone();
            let (rest, next) = (&rest, &next);
            scope.spawn(move || create_many(rest, &sender, next));
        }
        let first: Vec<_> = receiver.iter().take(60).collect();
        managers.iter().for_each(racknest_e2e::Process::kill);
        first
    });
    drop(sender);
    acknowledged.extend(receiver.iter());
    assert!(
        acknowledged.len() < usize::try_from(CREATES).expect("it is small"),
        "the manager was killed after the work, not in its middle"
    );

    wait_for_manager(&rest);
    assert_ne!(lab.running(Role::Manager), managers, "the box started another manager");
    for (name, task) in &acknowledged {
        let task = rest.outcome(task);
        assert_eq!(task.state, TaskState::Success, "{name}: {task:?}");
    }
    let made = VmFilter { name: Some("new*".to_owned()), ..VmFilter::default() };
    let made = rest.vms(&made).expect("the manager answers");
    for (name, _) in &acknowledged {
        let count = made.iter().filter(|vm| vm.name == *name).count();
        assert_eq!(count, 1, "{name} was acknowledged and is there {count} times");
    }
    wait_all_on(&rest, "vm", 8);
}

#[test]
fn after_kill_9_of_an_agent_its_vms_are_on_and_obey() {
    let lab = Lab::simulated(2, 6);
    let rest = lab.rest();
    let before = lab.running(Role::Host);
    lab.kill(Role::Host);
    wait::until("the box starts the agents again", LONG, || {
        lab.running(Role::Host).len() == before.len()
    });
    wait_all_on(&rest, "vm", 6);
    wait::until("a VM can be powered off", LONG, || lab.say("vm power-off vm01").code == Some(0));
    assert_eq!(rest.vm("vm01").power_state, PowerState::PoweredOff);
    wait_all_on(&rest, "vm", 5);
}

#[test]
fn kill_9_of_the_box_process_alone_stops_no_manager_and_up_repairs_it() {
    let lab = Lab::simulated(2, 4);
    let rest = lab.rest();
    let managers = lab.running(Role::Manager);
    lab.kill(Role::Box);
    assert_eq!(lab.running(Role::Manager), managers);
    assert!(rest.vms(&VmFilter::default()).is_ok(), "the manager answers without the box process");
    lab.start(&[]).done();
    assert_eq!(lab.running(Role::Box).len(), 1);
    assert_eq!(lab.running(Role::Manager).len(), 1);
    wait_all_on(&lab.rest(), "vm", 4);
}

#[test]
fn after_kill_9_of_everything_up_brings_the_inventory_and_its_vms_back() {
    let lab = Lab::simulated(3, 9);
    lab.say("vm power-off vm09").done();
    lab.say("pool create gold --parent lab").done();
    let before = lab.say("vm list -o name").stdout();
    lab.cut_power();
    let said = lab.start(&[]).stdout();
    assert!(!said.is_empty(), "`up` shows what runs");
    let rest = lab.rest();
    wait_all_on(&rest, "vm", 8);
    assert_eq!(rest.vm("vm09").power_state, PowerState::PoweredOff);
    assert_eq!(lab.say("vm list -o name").stdout(), before);
    lab.say("pool show gold").done();
    assert_eq!(lab.running(Role::Box).len(), 1);
    assert_eq!(lab.running(Role::Manager).len(), 1);
}

#[test]
fn kill_9_of_everything_again_and_again_ends_the_same() {
    let lab = Lab::simulated(2, 4);
    for _ in 0..3 {
        lab.cut_power();
        lab.start(&[]).done();
    }
    wait_all_on(&lab.rest(), "vm", 4);
}
