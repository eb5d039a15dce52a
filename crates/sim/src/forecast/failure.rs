//! What fails in a year, and for how long: a model in hours, drawn from a seed.

use racknest_types::rng::Rng;

/// Milliseconds of an hour.
pub(crate) const HOUR_MS: u64 = 3_600_000;

/// Milliseconds of a year of 365 days.
pub(crate) const YEAR_MS: u64 = 365 * 24 * HOUR_MS;

/// How often things fail, and how long it takes until they are mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureModel {
    /// Mean time between two failures of one host, in hours.
    pub host_mtbf_hours: u64,
    /// Mean time until a failed host is back, in hours.
    pub host_mttr_hours: u64,
    /// Mean time between two failures of one host's network, in hours.
    pub link_mtbf_hours: u64,
    /// Mean time until its network is back, in minutes.
    pub link_mttr_minutes: u64,
    /// Mean time between two losses of one host's way to a datastore, in hours.
    pub storage_mtbf_hours: u64,
    /// Mean time until it is back, in minutes.
    pub storage_mttr_minutes: u64,
    /// Of a thousand datagrams, how many are lost all the time.
    pub loss_permille: u64,
    /// Mistakes that people make with hosts in a year: the wrong plug, the wrong cable.
    pub human_errors_per_year: u64,
    /// Mean time between two crashes of one VM, in hours.
    pub vm_mtbf_hours: u64,
}

impl Default for FailureModel {
    /// A host fails about once in two years and is back in four hours, as figures of large fleets
    /// go; the rest is guessed, and there to be changed.
    fn default() -> Self {
        Self {
            host_mtbf_hours: 17_520,
            host_mttr_hours: 4,
            link_mtbf_hours: 26_280,
            link_mttr_minutes: 30,
            storage_mtbf_hours: 43_800,
            storage_mttr_minutes: 20,
            loss_permille: 0,
            human_errors_per_year: 2,
            vm_mtbf_hours: 17_520,
        }
    }
}

/// Something that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// A host loses power or crashes.
    Host(usize),
    /// A host is cut off from the network.
    Link(usize),
    /// A host does not reach a datastore.
    Storage(usize),
    /// Somebody does something to the wrong host.
    Mistake,
    /// A VM's process crashes.
    Vm,
}

impl FailureModel {
    /// When this fails next, if it works now; `None` if it never does.
    pub(crate) fn wait_ms(&self, failure: Failure, vms: usize, rng: &mut Rng) -> Option<u64> {
        let mean = match failure {
            Failure::Host(_) => self.host_mtbf_hours * HOUR_MS,
            Failure::Link(_) => self.link_mtbf_hours * HOUR_MS,
            Failure::Storage(_) => self.storage_mtbf_hours * HOUR_MS,
            Failure::Mistake => YEAR_MS.checked_div(self.human_errors_per_year).unwrap_or(0),
            Failure::Vm => {
                let vms = u64::try_from(vms).unwrap_or(1).max(1);
                self.vm_mtbf_hours * HOUR_MS / vms
            }
        };
        (mean > 0).then(|| exponential(mean, rng))
    }

    /// How long it lasts.
    pub(crate) fn length_ms(&self, failure: Failure, rng: &mut Rng) -> u64 {
        const MINUTE_MS: u64 = 60_000;
        let mean = match failure {
            Failure::Host(_) => self.host_mttr_hours * HOUR_MS,
            Failure::Link(_) => self.link_mttr_minutes * MINUTE_MS,
            Failure::Storage(_) => self.storage_mttr_minutes * MINUTE_MS,
            // Whoever pulled the wrong plug is soon told.
            Failure::Mistake => 10 * MINUTE_MS,
            Failure::Vm => 0,
        };
        exponential(mean, rng)
    }
}

/// A draw from the exponential distribution of this mean, by comparisons alone (von Neumann 1951),
/// so that it is the same on every machine.
fn exponential(mean: u64, rng: &mut Rng) -> u64 {
    let mut whole = 0_u64;
    loop {
        let first = rng.next_u64();
        let (mut last, mut run) = (first, 1_u32);
        loop {
            let next = rng.next_u64();
            if next > last {
                break;
            }
            last = next;
            run += 1;
        }
        if run % 2 == 1 {
            let part = (u128::from(first) * u128::from(mean)) >> 64;
            let part = u64::try_from(part).unwrap_or(mean);
            return mean.saturating_mul(whole).saturating_add(part);
        }
        whole += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_and_the_spread_of_the_exponential_distribution() {
        let mut rng = Rng::from_seed(5);
        let draws = (0..100_000).map(|_| exponential(1_000, &mut rng)).collect::<Vec<_>>();
        let mean = draws.iter().sum::<u64>() / 100_000;
        assert!((985..=1_015).contains(&mean), "{mean}");
        // Of an exponential distribution, e^-1 = 36.8% are above the mean, e^-3 = 5.0% above three.
        let above = |limit| draws.iter().filter(|draw| **draw > limit).count();
        assert!((36_300..=37_300).contains(&above(1_000)), "{}", above(1_000));
        assert!((4_750..=5_250).contains(&above(3_000)), "{}", above(3_000));
    }
}
