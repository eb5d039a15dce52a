//! What a VM wants, out of samples: as it is lately, and the most it was.
//!
//! Whoever moves VMs after single samples chases noise. The mean follows a change within some
//! minutes; the peak rises at once and sinks over hours, so that a VM that bursts now and then is
//! never put where its bursts do not fit.

use super::Demand;

/// Seconds in which the mean takes over most of a change. vSphere averages over five minutes too.
const MEAN_SECONDS: u64 = 300;

/// Seconds in which the peak sinks most of the way down to the mean.
const PEAK_SECONDS: u64 = 4 * 3600;

/// Parts of one unit: the steps of a slow mean are smaller than one.
const FRACTION: u64 = 4096;

/// What a VM wants, over time.
///
/// ```
/// use racknest_cluster::drs::Demand;
/// use racknest_cluster::drs::trend::Trend;
///
/// let mut trend = Trend::default();
/// trend.note(Demand { cpu_mhz: 500, ..Demand::default() }, 20);
/// trend.note(Demand { cpu_mhz: 2000, ..Demand::default() }, 20);
/// assert_eq!(trend.mean().cpu_mhz, 593);
/// assert_eq!(trend.peak().cpu_mhz, 2000);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trend {
    values: Option<[Value; 5]>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Value {
    mean: u64,
    peak: u64,
}

impl Trend {
    /// Notes what the VM wanted over the last so many seconds.
    pub fn note(&mut self, sample: Demand, seconds: u64) {
        let samples = parts(sample).map(|part| part.saturating_mul(FRACTION));
        match &mut self.values {
            None => self.values = Some(samples.map(|part| Value { mean: part, peak: part })),
            Some(values) => {
                for (value, sample) in values.iter_mut().zip(samples) {
                    value.mean = towards(value.mean, sample, seconds, MEAN_SECONDS);
                    value.peak = towards(value.peak, value.mean, seconds, PEAK_SECONDS).max(sample);
                }
            }
        }
    }

    /// As it is lately.
    #[must_use]
    pub fn mean(&self) -> Demand {
        whole(self.values.unwrap_or_default().map(|value| value.mean))
    }

    /// The most it was lately; never below [`Self::mean`].
    #[must_use]
    pub fn peak(&self) -> Demand {
        whole(self.values.unwrap_or_default().map(|value| value.peak.max(value.mean)))
    }
}

/// One step of an exponential mean.
const fn towards(old: u64, new: u64, seconds: u64, constant: u64) -> u64 {
    let whole = seconds + constant;
    if new >= old {
        old + (new - old) / whole * seconds + (new - old) % whole * seconds / whole
    } else {
        old - ((old - new) / whole * seconds + (old - new) % whole * seconds / whole)
    }
}

const fn parts(demand: Demand) -> [u64; 5] {
    [
        demand.cpu_mhz,
        demand.active_mib,
        demand.consumed_mib,
        demand.reclaimed_mib,
        demand.network_kbps,
    ]
}

fn whole(values: [u64; 5]) -> Demand {
    let [cpu_mhz, active_mib, consumed_mib, reclaimed_mib, network_kbps] =
        values.map(|value| value / FRACTION);
    Demand { cpu_mhz, active_mib, consumed_mib, reclaimed_mib, network_kbps }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn cpu(mhz: u64) -> Demand {
        Demand { cpu_mhz: mhz, ..Demand::default() }
    }

    #[test]
    fn a_spike_shows_in_the_peak_and_hardly_in_the_mean() {
        let mut trend = Trend::default();
        for _ in 0..30 {
            trend.note(cpu(100), 20);
        }
        trend.note(cpu(3000), 20);
        assert_eq!((trend.mean().cpu_mhz, trend.peak().cpu_mhz), (281, 3000));
        for _ in 0..90 {
            trend.note(cpu(100), 20);
        }
        let (mean, peak) = (trend.mean().cpu_mhz, trend.peak().cpu_mhz);
        assert_eq!((mean, peak), (100, 2662));
    }

    #[test]
    fn the_mean_arrives() {
        let mut trend = Trend::default();
        trend.note(cpu(0), 20);
        let steps = (0..200).map(|_| {
            trend.note(cpu(1000), 20);
            trend.mean().cpu_mhz
        });
        let steps = steps.collect::<Vec<_>>();
        assert!(steps.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(steps[15] > 600 && steps[199] >= 998, "{} {}", steps[15], steps[199]);
    }
}
