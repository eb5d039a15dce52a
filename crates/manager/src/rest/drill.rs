//! Drills: checked and written down by the inventory, then carried out at the box's desk.
//!
//! A drill is on record before anything is pulled, so that whoever is left can undo it. What was
//! done of one that fails half-way is taken back.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use racknest_api::page::Page;
use racknest_api::v1::drill::{
    Drill, DrillEvent, DrillExpectation, DrillKind, DrillList, DrillOutcome, DrillPreview,
    DrillShow, DrillStart, DrillState, DrillUndo, DrillVerdict, NewDrill,
};
use racknest_cluster::drill::{Verdict, elapsed_ms};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::drill::{
    DrillFault, DrillKind as KindRecord, DrillRecord, Expectation, LinkTrouble, Outcome,
};
use racknest_cluster::record::host::HostRecord;
use racknest_types::fault::Fault;
use racknest_types::id::{DrillId, HostId};
use racknest_types::time::Timestamp;
use racknest_underlay::{Control, Impairment, LinkFaults, MachineName, NicName, StorageState};

use super::call::{Call, View};
use super::convert::{Cut, mention, reference, time};
use super::event;
use super::host::machine;
use super::routes::Routes;
use crate::clock;
use crate::state::State;

/// The most events that are shown of one drill.
const EVENTS_MAX: usize = 1_000;

/// How long the answer to the drill that ends the manager has to get out.
const LAST_WORDS: Duration = Duration::from_millis(300);

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<DrillList, _>(list)
        .on::<DrillShow, _>(show_one)
        .on::<DrillPreview, _>(preview)
        .on::<DrillStart, _>(start)
        .on::<DrillUndo, _>(undo)
}

async fn list(call: Call<DrillList>) -> Result<Page<Drill>, Fault> {
    let query = &call.query;
    let cut = Cut::<DrillId>::new(query.limit, query.after.as_deref())?;
    let now = clock::now();
    call.look(|view| {
        let host = query.host.as_ref().map(|name| view.find_host(name)).transpose()?;
        let sight = view.sight();
        let drills = view.inventory.drills().rev().filter(|drill| {
            let hosts = &drill.fault.hosts;
            host.is_none_or(|host| hosts.contains(&host))
                && !sight.is_blind()
                && hosts.iter().all(|host| sight.sees(*host))
        });
        Ok(cut.falling(drills, |drill| drill.id, |drill| show(view.inventory, drill, now)))
    })
}

async fn show_one(call: Call<DrillShow>) -> Result<Drill, Fault> {
    call.look(|view| {
        let id = view.find_drill(&call.name(0))?;
        Ok(show_whole(view.inventory, view.inventory.drill(id)?, clock::now()))
    })
}

async fn preview(call: Call<DrillPreview>) -> Result<Drill, Fault> {
    call.look(|view| {
        let fault = fault(view, &call.body)?;
        let (vms, expected) = view.inventory.drill_preview(&fault)?;
        let record = DrillRecord {
            id: DrillId::from_raw(0),
            fault,
            user: view.user.to_owned(),
            started: clock::now(),
            undone: None,
            failed: None,
            vms,
            expected,
        };
        let shown = show(view.inventory, &record, record.started);
        Ok(Drill { id: None, state: DrillState::Preview, ..shown })
    })
}

async fn start(call: Call<DrillStart>) -> Result<Drill, Fault> {
    let new = call.body.clone();
    let fault = call.look(|view| fault(view, &new))?;
    check_box(&call, &fault).await?;
    let manager = call.state.underlay.name().clone();
    let (id, deed) = call
        .run(move |desk| {
            let id = desk.inventory.drill_start(desk.now, desk.user, fault)?;
            Ok((id, Deed::of(desk.inventory, desk.inventory.drill(id)?, &manager)?))
        })
        .await?;
    if let Err(fault) = deed.set_off(&call.state.cables).await {
        // It may have been done in part; whatever cannot be undone was not done either.
        drop(deed.undo(&call.state.cables).await);
        let why = fault.message.clone();
        let noted = call.run(move |desk| {
            desk.inventory.drill_fail(desk.now, id, &why);
            Ok(())
        });
        noted.await?;
        return Err(fault);
    }
    if deed.kind == KindRecord::KillManager {
        tokio::spawn(end_manager(call.state.clone(), id, deed.manager));
    }
    call.look(|view| Ok(show_whole(view.inventory, view.inventory.drill(id)?, clock::now())))
}

/// Has the box take this manager's power, unless the drill is undone before its answer is out.
async fn end_manager(state: State, id: DrillId, manager: MachineName) {
    tokio::time::sleep(LAST_WORDS).await;
    if state.core.read(|inventory| inventory.active_drill(id).is_err()) {
        return;
    }
    if let Err(fault) = state.cables.power_off(&manager).await {
        tracing::error!(%fault, "the drill could not take the manager's power");
    }
}

async fn undo(call: Call<DrillUndo>) -> Result<Drill, Fault> {
    let (id, deed) = call.look(|view| {
        let id = view.find_drill(&call.name(0))?;
        let drill = view.inventory.active_drill(id)?;
        Ok::<_, Fault>((id, Deed::of(view.inventory, drill, call.state.underlay.name())?))
    })?;
    deed.undo(&call.state.cables).await?;
    call.run(move |desk| {
        desk.inventory.drill_undone(desk.now, desk.user, id)?;
        Ok(show_whole(desk.inventory, desk.inventory.drill(id)?, desk.now))
    })
    .await
}

/// What is asked for, with the names looked up; the user may do it to each of the hosts.
fn fault(view: &View<'_>, new: &NewDrill) -> Result<DrillFault, Fault> {
    let named = new.hosts.iter().map(|name| view.find_host(name));
    let mut hosts = named.collect::<Result<BTreeSet<HostId>, _>>()?;
    if let Some(rack) = &new.rack {
        let in_rack = view.inventory.hosts().filter(|host| host.rack == *rack);
        let in_rack: Vec<HostId> = in_rack.map(|host| host.id).collect();
        if in_rack.is_empty() {
            return Err(Fault::not_found(format!("rack '{rack}'")));
        }
        for host in in_rack {
            view.authorize(host)?;
            hosts.insert(host);
        }
    }
    if new.kind == DrillKind::RackPower && new.rack.is_none() {
        return Err(Fault::invalid("which rack loses its power? name one: --rack NAME"));
    }
    if hosts.is_empty() {
        view.authorize_root()?;
    }
    let trouble = LinkTrouble {
        delay_us: new.delay_us.unwrap_or_default(),
        jitter_us: new.jitter_us.unwrap_or_default(),
        loss_ppm: new.loss_ppm.unwrap_or_default(),
        rate_bps: new.rate_bps.unwrap_or_default(),
    };
    faults(&trouble).check().map_err(|error| Fault::invalid(error.to_string()))?;
    let hosts = hosts.into_iter().collect();
    Ok(DrillFault { kind: kind_record(new.kind), hosts, nics: new.nics.clone(), trouble })
}

/// A host that is no machine of this box is a real one, with real users.
async fn check_box(call: &Call<DrillStart>, fault: &DrillFault) -> Result<(), Fault> {
    let outlets = call.state.cables.power().await?;
    let names = call.look(|view| {
        let names = fault.hosts.iter().map(|id| view.inventory.name((*id).into()));
        names.collect::<Vec<String>>()
    });
    let is_ours = |name: &String| outlets.iter().any(|outlet| outlet.machine.as_str() == name);
    match names.iter().find(|name| !is_ours(name)) {
        Some(name) if !call.body.yes => Err(Fault::state(format!(
            "host '{name}' is not of this box: what you do to it is real; say --yes if it is meant"
        ))),
        Some(_) | None => Ok(()),
    }
}

/// A drill as the box's desk knows it.
struct Deed {
    kind: KindRecord,
    machines: Vec<Target>,
    faults: LinkFaults,
    manager: MachineName,
}

/// A host and those of its NICs that are meant.
struct Target {
    machine: MachineName,
    nics: Vec<NicName>,
}

impl Deed {
    fn of(
        inventory: &Inventory,
        drill: &DrillRecord,
        manager: &MachineName,
    ) -> Result<Self, Fault> {
        let DrillFault { kind, hosts, nics, trouble } = &drill.fault;
        let target = |id: &HostId| {
            let host: &HostRecord = inventory.host(*id)?;
            let meant = if nics.is_empty() { &host.nics } else { nics };
            let nics = meant.iter().map(|nic| nic.parse().map_err(unnamed));
            Ok::<_, Fault>(Target {
                machine: machine(&host.name)?,
                nics: nics.collect::<Result<_, _>>()?,
            })
        };
        let machines = hosts.iter().map(target).collect::<Result<_, Fault>>()?;
        Ok(Self { kind: *kind, machines, faults: faults(trouble), manager: manager.clone() })
    }

    async fn set_off(&self, cables: &Control) -> Result<(), Fault> {
        match self.kind {
            KindRecord::FailHost | KindRecord::RackPower => {
                self.each(|target| cables.power_off(&target.machine)).await
            }
            KindRecord::IsolateHost => self.each(|target| switch(cables, target, false)).await,
            KindRecord::Partition => {
                let group = self.machines.iter().map(|target| target.machine.clone()).collect();
                cables.partition(vec![group]).await
            }
            KindRecord::SlowLink | KindRecord::LossyLink => {
                self.each(|target| impair(cables, target, self.faults)).await
            }
            KindRecord::StorageCut => self.set_storage(cables, StorageState::AllPathsDown).await,
            KindRecord::StorageLost => self.set_storage(cables, StorageState::DeviceLost).await,
            KindRecord::HangAgent => self.each(|target| cables.hang(&target.machine, true)).await,
            // Its power goes once the answer is out; see `end_manager`.
            KindRecord::KillManager => Ok(()),
        }
    }

    async fn undo(&self, cables: &Control) -> Result<(), Fault> {
        match self.kind {
            KindRecord::FailHost | KindRecord::RackPower => {
                self.each(|target| cables.power_on(&target.machine)).await
            }
            KindRecord::IsolateHost => self.each(|target| switch(cables, target, true)).await,
            KindRecord::Partition => cables.partition(vec![]).await,
            KindRecord::SlowLink | KindRecord::LossyLink => {
                self.each(|target| impair(cables, target, LinkFaults::default())).await
            }
            KindRecord::StorageCut | KindRecord::StorageLost => {
                self.set_storage(cables, StorageState::Connected).await
            }
            KindRecord::HangAgent => self.each(|target| cables.hang(&target.machine, false)).await,
            KindRecord::KillManager => cables.power_on(&self.manager).await,
        }
    }

    async fn set_storage(&self, cables: &Control, state: StorageState) -> Result<(), Fault> {
        self.each(|target| cables.set_storage(&target.machine, state)).await
    }

    /// To all at once: the power of a rack does not go host by host.
    async fn each<'a, F>(&'a self, deed: impl Fn(&'a Target) -> F) -> Result<(), Fault>
    where
        F: Future<Output = Result<(), Fault>> + 'a,
    {
        join_all(self.machines.iter().map(deed)).await.into_iter().collect()
    }
}

async fn switch(cables: &Control, target: &Target, is_up: bool) -> Result<(), Fault> {
    for nic in &target.nics {
        match is_up {
            true => cables.restore(&target.machine, nic).await?,
            false => cables.cut(&target.machine, nic).await?,
        }
    }
    Ok(())
}

async fn impair(cables: &Control, target: &Target, faults: LinkFaults) -> Result<(), Fault> {
    for nic in &target.nics {
        cables.impair(&target.machine, nic, faults).await?;
    }
    Ok(())
}

fn unnamed(error: racknest_underlay::wire::ParseNameError) -> Fault {
    Fault::invalid(error.to_string())
}

fn faults(trouble: &LinkTrouble) -> LinkFaults {
    let LinkTrouble { delay_us, jitter_us, loss_ppm, rate_bps } = *trouble;
    let one = Impairment { delay_us, jitter_us, loss_ppm, rate_bps, ..Impairment::default() };
    LinkFaults { inward: one, outward: one, seed: 0, ..LinkFaults::default() }
}

/// A drill without what happened, as lists have it.
fn show(inventory: &Inventory, drill: &DrillRecord, now: Timestamp) -> Drill {
    let verdicts = inventory.drill_verdicts(drill, now);
    let expected = drill.expected.iter().zip(verdicts);
    let state = match (&drill.failed, drill.undone) {
        (Some(_), _) => DrillState::Failed,
        (None, Some(_)) => DrillState::Undone,
        (None, None) => DrillState::Active,
    };
    Drill {
        id: Some(drill.id),
        name: inventory.drill_name(&drill.fault),
        kind: kind(drill.fault.kind),
        description: describe(inventory, &drill.fault),
        hosts: drill.fault.hosts.iter().map(|id| reference(inventory, *id)).collect(),
        state,
        user: drill.user.clone(),
        started: time(drill.started),
        undone: drill.undone.map(time),
        failed: drill.failed.clone(),
        vm_count: u32::try_from(drill.vms.len()).unwrap_or(u32::MAX),
        expected: expected.map(|(one, verdict)| show_expected(inventory, one, verdict)).collect(),
        timeline: vec![],
    }
}

fn show_whole(inventory: &Inventory, drill: &DrillRecord, now: Timestamp) -> Drill {
    let events = inventory.drill_timeline(drill).into_iter().take(EVENTS_MAX).map(|record| {
        let shown = event::show(record);
        DrillEvent {
            after_ms: elapsed_ms(drill.started, record.at),
            at: shown.at,
            kind: shown.kind,
            entity: shown.entity,
            message: shown.message,
        }
    });
    Drill { timeline: events.collect(), ..show(inventory, drill, now) }
}

fn show_expected(
    inventory: &Inventory,
    expected: &Expectation,
    verdict: Verdict,
) -> DrillExpectation {
    let (verdict, after_ms) = match verdict {
        Verdict::Pending => (DrillVerdict::Pending, None),
        Verdict::Met { after_ms } => (DrillVerdict::Met, Some(after_ms).filter(|ms| *ms > 0)),
        Verdict::Late { after_ms } => (DrillVerdict::Late, Some(after_ms)),
        Verdict::Missed => (DrillVerdict::Missed, None),
        Verdict::Violated { after_ms } => (DrillVerdict::Violated, Some(after_ms)),
        Verdict::Undone => (DrillVerdict::Undone, None),
    };
    let outcome = match expected.outcome {
        Outcome::HostLost => DrillOutcome::HostLost,
        Outcome::HostDeclaredDead => DrillOutcome::HostDeclaredDead,
        Outcome::HostKept => DrillOutcome::HostKept,
        Outcome::VmRestarted => DrillOutcome::VmRestarted,
        Outcome::VmUndisturbed => DrillOutcome::VmUndisturbed,
    };
    let entity = mention(inventory, expected.entity);
    DrillExpectation { outcome, entity, within_ms: expected.within_ms, verdict, after_ms }
}

fn describe(inventory: &Inventory, fault: &DrillFault) -> String {
    let names: Vec<String> = fault.hosts.iter().map(|id| inventory.name((*id).into())).collect();
    let hosts = names.join(", ");
    let cables = faults(&fault.trouble).inward;
    match fault.kind {
        KindRecord::FailHost => format!("{hosts}: power pulled, agent and guests gone at once"),
        KindRecord::IsolateHost => format!("{hosts}: all network cables pulled"),
        KindRecord::Partition => format!("{hosts}: cut off from all others, not from each other"),
        KindRecord::SlowLink | KindRecord::LossyLink => format!("{hosts}: cables with {cables}"),
        KindRecord::StorageCut => format!("{hosts}: no path to any datastore"),
        KindRecord::StorageLost => format!("{hosts}: all datastores gone for good"),
        KindRecord::KillManager => "the manager: power pulled; hosts and VMs run on".to_owned(),
        KindRecord::HangAgent => format!("{hosts}: agent stopped where it is, guests run on"),
        KindRecord::RackPower => format!("{hosts}: the rack's power pulled, all at once"),
    }
}

const fn kind(kind: KindRecord) -> DrillKind {
    match kind {
        KindRecord::FailHost => DrillKind::FailHost,
        KindRecord::IsolateHost => DrillKind::IsolateHost,
        KindRecord::Partition => DrillKind::Partition,
        KindRecord::SlowLink => DrillKind::SlowLink,
        KindRecord::LossyLink => DrillKind::LossyLink,
        KindRecord::StorageCut => DrillKind::StorageCut,
        KindRecord::StorageLost => DrillKind::StorageLost,
        KindRecord::KillManager => DrillKind::KillManager,
        KindRecord::HangAgent => DrillKind::HangAgent,
        KindRecord::RackPower => DrillKind::RackPower,
    }
}

const fn kind_record(kind: DrillKind) -> KindRecord {
    match kind {
        DrillKind::FailHost => KindRecord::FailHost,
        DrillKind::IsolateHost => KindRecord::IsolateHost,
        DrillKind::Partition => KindRecord::Partition,
        DrillKind::SlowLink => KindRecord::SlowLink,
        DrillKind::LossyLink => KindRecord::LossyLink,
        DrillKind::StorageCut => KindRecord::StorageCut,
        DrillKind::StorageLost => KindRecord::StorageLost,
        DrillKind::KillManager => KindRecord::KillManager,
        DrillKind::HangAgent => KindRecord::HangAgent,
        DrillKind::RackPower => KindRecord::RackPower,
    }
}
