//! Orders to start a VM, on the host that gets them.
//!
//! An order is repeated until it is answered, and done once: the host remembers what it answered.
//! Two primaries may order the same VM; it is started once, and both get the answer.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use super::{Action, Agent, LeasesWanted, StartFailure};
use crate::wire::VmSpec;
use crate::wire::ha_message::HaBody;

/// Answers remembered; an order is repeated within a beat, so that this is minutes of orders.
const ANSWERS_MAX: usize = 512;

/// Orders that a host has got.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// VMs that are being started, and who wants to know.
    starting: BTreeMap<VmId, Vec<Order>>,
    answers: VecDeque<(Order, HaBody)>,
}

/// An order, by who gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) from: HostId,
    pub(super) boot: u64,
    pub(super) number: u64,
    pub(super) after_epoch: u64,
}

impl Orders {
    /// Notes that a VM is being started, and who wants to know.
    pub(super) fn begin(&mut self, vm: VmId, order: Option<Order>) {
        self.starting.entry(vm).or_default().extend(order);
    }

    fn remember(&mut self, order: Order, answer: HaBody) {
        if self.answers.len() >= ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back((order, answer));
    }
}

impl Agent {
    /// A primary wants a VM started here.
    pub(super) fn ordered(&mut self, _now: Timestamp, order: Order, spec: VmSpec) {
        let vm = spec.id;
        if let Some((_, answer)) = self.orders.answers.iter().find(|it| it.0 == order) {
            self.out.send(order.from, answer.clone());
            return;
        }
        if let Some(askers) = self.orders.starting.get_mut(&vm) {
            if !askers.contains(&order) {
                askers.push(order);
            }
            return;
        }
        if let Some(epoch) = self.local.runs(vm).filter(|epoch| *epoch > order.after_epoch) {
            self.answer(order, vm, &Ok(epoch));
            return;
        }
        if self.local.runs(vm).is_some() {
            // The copy here runs under an older lease than the one that the primary has read: it
            // is to be stopped first, as a look at the lease will show.
            if let Some(datastore) = self.local.datastore(vm) {
                self.out.look(datastore, LeasesWanted::Of([vm].into()));
            }
            let why = "an old copy of it runs here and is about to be stopped";
            self.answer(order, vm, &Err(StartFailure::Failed(why.into())));
            return;
        }
        let settings = self.cluster.as_ref().map(|it| (it.settings.armed, it.member(self.host)));
        let refusal = match settings {
            Some((true, Some(me))) if me.takes_vms => None,
            Some((false, _)) => Some("HA is disarmed on this host"),
            Some((true, _)) | None => Some("the host takes no VMs"),
        };
        if let Some(why) = refusal {
            self.answer(order, vm, &Err(StartFailure::Failed(why.into())));
            return;
        }
        self.orders.begin(vm, Some(order));
        let after_epoch = order.after_epoch;
        self.out.actions.push_back(Action::Start { spec, after_epoch });
    }

    pub(super) fn start_ended(
        &mut self,
        now: Timestamp,
        vm: VmId,
        result: Result<u64, StartFailure>,
    ) {
        self.retry_ended(now, vm, &result);
        for order in self.orders.starting.remove(&vm).unwrap_or_default() {
            self.answer(order, vm, &result);
        }
    }

    fn answer(&mut self, order: Order, vm: VmId, result: &Result<u64, StartFailure>) {
        let number = order.number;
        let body = match result {
            Ok(epoch) => HaBody::Started {
                order: number,
                vm,
                epoch: Some(*epoch),
                settled: true,
                why: String::new(),
            },
            Err(failure) => HaBody::Started {
                order: number,
                vm,
                epoch: None,
                settled: *failure == StartFailure::LeaseTaken,
                why: in_words(failure),
            },
        };
        self.orders.remember(order, body.clone());
        self.out.send(order.from, body);
    }
}

pub(super) fn in_words(failure: &StartFailure) -> String {
    match failure {
        StartFailure::LeaseTaken => "another host has a newer lease, or it was stopped".into(),
        StartFailure::DiskInUse => "its disks are in use: its old copy runs still".into(),
        StartFailure::NoDatastore => "its datastore is not reached".into(),
        StartFailure::Failed(why) => why.clone(),
    }
}
