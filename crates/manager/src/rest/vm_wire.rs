//! The wires of VMs: made faulty, cut, made whole.
//!
//! They are on record, and every host is told: the host that runs the VM does it, whichever that is.

use racknest_api::page::Page;
use racknest_api::v1::vm_wire::{VmWire, VmWireCut, VmWireList, VmWireRestore, VmWireSlow};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::switching::GuestWire;
use racknest_types::fault::Fault;
use racknest_types::id::VmId;
use racknest_types::impairment::LinkFaults;

use super::call::{Call, Desk, View};
use super::convert::reference;
use super::host::{slowed, trouble, words};
use super::routes::Routes;
use super::timing;
use crate::clock;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<VmWireList, _>(list)
        .on::<VmWireSlow, _>(slow)
        .on::<VmWireCut, _>(cut)
        .on::<VmWireRestore, _>(restore)
}

fn show(inventory: &Inventory, wire: &GuestWire) -> VmWire {
    let faults = &wire.faults;
    let is_waiting = !faults.phase(clock::now()).is_on;
    VmWire {
        vm: reference(inventory, wire.vm),
        nic: wire.nic,
        is_up: !faults.is_unplugged,
        faults: words(faults, is_waiting),
        is_waiting,
        inward: trouble(&faults.inward),
        outward: trouble(&faults.outward),
    }
}

/// The NIC that is named, by a user who may do this to its VM.
fn named(view: &View<'_>, vm: &str, nic: &str) -> Result<(VmId, u32), Fault> {
    let vm = view.find_vm(vm)?;
    let key = nic.parse::<u32>();
    let key = key.map_err(|_| {
        Fault::invalid(format!("'{}' is no key of a NIC: they are 0, 1, ...", nic.escape_debug()))
    })?;
    Ok((vm, key))
}

fn before(inventory: &Inventory, vm: VmId, nic: u32) -> LinkFaults {
    let known = inventory.guest_wires().find(|it| it.vm == vm && it.nic == nic);
    known.map(|it| it.faults).unwrap_or_default()
}

fn change(
    desk: &mut Desk<'_>,
    (vm, nic): (&str, &str),
    faults: impl FnOnce(LinkFaults) -> Result<LinkFaults, Fault>,
) -> Result<VmWire, Fault> {
    let (vm, nic) = named(&desk.view(), vm, nic)?;
    let faults = faults(before(desk.inventory, vm, nic))?;
    let wire = GuestWire { vm, nic, faults };
    desk.inventory.wire_impair(desk.now, desk.user, wire)?;
    Ok(show(desk.inventory, &wire))
}

async fn list(call: Call<VmWireList>) -> Result<Page<VmWire>, Fault> {
    call.look(|view| {
        let wanted = call.query.vm.as_ref().map(|vm| view.find_vm(vm)).transpose()?;
        let sight = view.sight();
        let wires = view.inventory.guest_wires();
        let wires = wires.filter(|it| wanted.is_none_or(|vm| it.vm == vm) && sight.sees(it.vm));
        Ok(Page::whole(wires.map(|wire| show(view.inventory, wire)).collect()))
    })
}

async fn slow(call: Call<VmWireSlow>) -> Result<VmWire, Fault> {
    let (vm, nic, slowing) = (call.name(0), call.name(1), call.body);
    call.run(move |desk| change(desk, (&vm, &nic), |before| slowed(&before, &slowing))).await
}

async fn cut(call: Call<VmWireCut>) -> Result<VmWire, Fault> {
    let (vm, nic, cutting) = (call.name(0), call.name(1), call.body);
    call.run(move |desk| {
        change(desk, (&vm, &nic), |_| {
            if cutting.permanent {
                return Err(Fault::invalid("only vmhba0 of a host can be lost for good"));
            }
            let schedule = timing::of_cut(&cutting)?;
            Ok(LinkFaults { is_unplugged: true, schedule, ..LinkFaults::default() })
        })
    })
    .await
}

async fn restore(call: Call<VmWireRestore>) -> Result<VmWire, Fault> {
    let (vm, nic) = (call.name(0), call.name(1));
    call.run(move |desk| change(desk, (&vm, &nic), |_| Ok(LinkFaults::default()))).await
}
