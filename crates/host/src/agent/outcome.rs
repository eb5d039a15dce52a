//! What the agent takes in of a job that is done: what is known of the VM now, and who is told.

use racknest_cluster::record::migration::MigrationFigures;
use racknest_cluster::record::vm::PowerState;
use racknest_cluster::wire::FromHost;
use racknest_types::id::VmId;

use super::Agent;
use super::perform::{After, Outcome};
use crate::ha::Input;
use crate::vm::Driver;

impl<D: Driver> Agent<D> {
    /// Takes in what is known of a VM after a job; what its move took, if it left.
    fn note(&mut self, vm: VmId, after: After) -> Option<MigrationFigures> {
        match after {
            After::Same => {}
            After::Known(record, power) => {
                self.expected.remove(&vm);
                self.book.set(record, power);
            }
            After::Epoch(epoch) => self.book.set_epoch(vm, epoch),
            After::Forgotten => {
                self.expected.remove(&vm);
                self.book.remove(vm);
            }
            After::Left(figures) => {
                self.book.remove(vm);
                return figures;
            }
            After::Moved(record, power, figures) => {
                self.book.set(record, power);
                return figures;
            }
            After::Expected(record) => drop(self.expected.insert(vm, record)),
        }
        None
    }

    pub(super) fn handle_outcome(&mut self, outcome: Outcome) {
        let Outcome { vm, answer, after, news, started, reply } = outcome;
        self.lanes.handle_done(vm);
        self.cancels.remove(&vm);
        let is_on = matches!(after, After::Known(_, PowerState::On));
        let figures = self.note(vm, after);
        // Its process may have ended again while the job's last words were saved, and that may have
        // been told before them.
        let is_gone = is_on && !self.tools.driver.runs(vm);
        if is_gone {
            self.book.set_power(vm, PowerState::Off);
        }
        self.connect_nics(vm);
        if let Some((visitor, reply)) = reply
            && let Some(answer) = self.visitors.remove(&visitor)
        {
            // It may have gone meanwhile; then it asks again.
            let _ = answer.send(reply);
        }
        if let (Some((task, ..)), Some(figures)) = (&answer, figures) {
            self.send(FromHost::Migrated { task: *task, figures });
        }
        self.unsettled.remove(&vm);
        self.tell_ha_of(vm);
        if let Some(result) = started {
            self.tell_ha(Input::Started(vm, result));
        }
        if let Some((task, kind, result)) = answer {
            self.book.set_answer(vm, task, kind, &result);
            self.send(FromHost::Done { task, vm, result });
        }
        if let (Some(why), Some(report)) = (news, self.book.report(vm)) {
            let reason = why.to_owned();
            self.send(FromHost::VmChanged { report, died: false, reason });
        }
        if let Some(report) = self.book.report(vm).filter(|_| is_gone) {
            let reason = "its process ended as soon as it had started".to_owned();
            self.send(FromHost::VmChanged { report, died: true, reason });
        }
        self.let_in();
    }
}
