//! What is plugged into the switch: the NICs of VMs that run, and of those that are about to.

use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{Registration, VmSpec};
use racknest_types::id::VmId;

use super::arrival::Arrival;
use super::{Agent, Job, Request};
use crate::net::Order;
use crate::vm::Driver;

impl<D: Driver> Agent<D> {
    /// Plugs the NICs of a VM that is about to run, so that its first frame is not lost, and lets
    /// the cards connect for which its QEMU will wait.
    pub(super) fn prepare_network(&self, vm: VmId, job: &Job) {
        match job {
            Job::Request { request, .. } => self.prepare_for(request),
            Job::Resume(record) => {
                if let Some(begun) = &record.unfinished {
                    self.prepare_for(&begun.request);
                }
            }
            Job::Know(registration) => self.plug(registration),
            Job::Start { spec, .. } => self.plug_in(spec),
            Job::StartAgain => {
                if let Some(known) = self.book.get(vm) {
                    self.plug_in(&known.record.registration.spec);
                }
            }
            Job::Arrive { arrival: Arrival::Expect(offer), .. } => self.expect(&offer.spec),
            Job::Arrive { arrival: Arrival::Run(_), .. } => {
                if let Some(expected) = self.expected.get(&vm) {
                    self.plug_in(&expected.registration.spec);
                }
            }
            Job::Forget { .. }
            | Job::StayOff
            | Job::Stop(_)
            | Job::Reset
            | Job::Arrive { arrival: Arrival::GiveUp(_), .. } => {}
        }
    }

    fn prepare_for(&self, request: &Request) {
        match request {
            Request::PowerOn(spec)
            | Request::Create { spec, power_on: true, .. }
            | Request::Revert { spec, memory: Some(_), .. } => self.plug_in(spec),
            Request::Reconfigure { spec, .. } => self.expect(spec),
            Request::Create { .. }
            | Request::Revert { .. }
            | Request::PowerOff
            | Request::Snapshot { .. }
            | Request::DeleteSnapshot { .. }
            | Request::Delete { .. }
            | Request::Register(_)
            | Request::Unregister
            | Request::Migrate { .. }
            | Request::Relocate { .. }
            | Request::Shutdown
            | Request::Reset
            | Request::Suspend => {}
        }
    }

    fn plug_in(&self, spec: &VmSpec) {
        self.plug(&Registration { spec: spec.clone(), power: PowerState::On });
    }

    pub(super) fn plug(&self, registration: &Registration) {
        if let Some(network) = &self.network
            && registration.power == PowerState::On
        {
            let spec = &registration.spec;
            network.order(Order::Plug { vm: spec.id, nics: spec.config.nics.clone() });
        }
    }

    /// Lets the cards of a VM connect which is not here yet, or which gets more.
    fn expect(&self, spec: &VmSpec) {
        if let Some(network) = &self.network {
            network.order(Order::Expect { vm: spec.id, nics: spec.config.nics.clone() });
        }
    }

    /// Brings the switch in line with what the book says of a VM.
    pub(super) fn connect_nics(&self, vm: VmId) {
        if let Some(running) = self.book.get(vm).filter(|known| known.power == PowerState::On) {
            self.plug(&Registration {
                power: PowerState::On,
                ..running.record.registration.clone()
            });
        } else if let Some(expected) = self.expected.get(&vm) {
            self.expect(&expected.registration.spec);
        } else if let Some(network) = &self.network {
            network.order(Order::Unplug { vm });
        }
    }
}
