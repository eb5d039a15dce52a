//! What is plugged into the switch: the NICs of VMs that run, and of those that are about to.

use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::{Registration, VmSpec};
use racknest_types::id::VmId;

use super::arrival::Arrival;
use super::{Agent, Job, Request};
use crate::net::Order;
use crate::vm::Driver;

impl<D: Driver> Agent<D> {
    /// Plugs the NICs of a VM that is about to run, so that its first frame is not lost.
    pub(super) fn prepare_network(&self, vm: VmId, job: &Job) {
        match job {
            Job::Request { request: Request::PowerOn(spec), .. }
            | Job::Request { request: Request::Create { spec, power_on: true, .. }, .. }
            | Job::Request { request: Request::Revert { spec, memory: Some(_), .. }, .. } => {
                self.plug(&Registration { spec: spec.clone(), power: PowerState::On });
            }
            Job::Request { request: Request::Reconfigure { spec, .. }, .. } => self.expect(spec),
            Job::Know(registration) => self.plug(registration),
            Job::Arrive { arrival: Arrival::Expect(offer), .. } => {
                self.expect(&offer.spec);
            }
            Job::Arrive { arrival: Arrival::Run(_), .. } => {
                if let Some(expected) = self.expected.get(&vm) {
                    let spec = expected.registration.spec.clone();
                    self.plug(&Registration { spec, power: PowerState::On });
                }
            }
            Job::Start { spec, .. } => {
                self.plug(&Registration { spec: (**spec).clone(), power: PowerState::On });
            }
            Job::Request { .. }
            | Job::Resume(_)
            | Job::Forget { .. }
            | Job::StayOff
            | Job::StartAgain
            | Job::Stop(_)
            | Job::Reset
            | Job::Arrive { .. } => {}
        }
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
