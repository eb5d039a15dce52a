//! Load balancing: greedy hill climbing, with everything in its way that keeps it from thrashing.
//!
//! Step by step the move is made that evens the cluster out most, as long as it is less even than its
//! threshold wants. A move must pay ([`super::cost`]), must bring its two hosts a tenth closer to the
//! mean, must have room at the target for the most its VMs wanted lately, and may not bend a rule.
//! The cluster must have been uneven for some passes in a row, a VM that moved stays for a while, a
//! host takes part in a few moves per pass, and no pass begins while migrations still change what it
//! measures.
//!
//! In a large cluster only the heaviest and lightest hosts of each resource are tried: the best move
//! is between such two, nearly always, and a pass stays far below a second.

use alloc::vec::Vec;

use racknest_types::time::Timestamp;

use super::correct::{check_movable, make, peak_overflows};
use super::cost::{self, Cost};
use super::imbalance::Spread;
use super::model::{Model, Unit};
use super::obstacle::Obstacle;
use super::plan::{Damping, Move, Plan, Reason, WhyNot};
use super::{Load, Resource};

/// Heaviest, and lightest, hosts of each resource that are tried per step.
const EXTREMES: usize = 16;

/// How much closer to the mean a move brings its two hosts at least, per cent of their squared
/// distance.
const GOODNESS_PERCENT: i128 = 10;

/// Balances the working copy, and tells why it stopped.
pub(super) fn balance(
    model: &mut Model<'_>,
    plan: &mut Plan,
    damping: &mut Damping,
    now: Timestamp,
) -> WhyNot {
    let settings = &model.cluster.settings;
    if !model.imbalance().exceeds(settings.threshold) {
        *damping = Damping::default();
        return WhyNot::Even;
    }
    damping.uneven_passes = damping.uneven_passes.saturating_add(1);
    if model.cluster.moves_under_way > 0 {
        return WhyNot::UnderWay(model.cluster.moves_under_way);
    }
    if damping.uneven_passes < settings.passes_min {
        let (passes, needed) = (damping.uneven_passes, settings.passes_min);
        return WhyNot::TooSoon { passes, needed };
    }
    // Every move makes the cluster more even, so they end; this bounds them all the same.
    for _ in 0..model.cluster.vms.len() {
        let imbalance = model.imbalance();
        let Some(priority) = imbalance.priority().filter(|_| imbalance.exceeds(settings.threshold))
        else {
            return WhyNot::Even;
        };
        let mut step = Step::new(model, now);
        step.search();
        let (best, rejected) = (step.best, step.rejected);
        let Some(best) = best else {
            let told = |it: Tried| (model.move_of(&it), it.obstacle);
            let rejected = rejected.map(told);
            return WhyNot::NoGoodMove(rejected.and_then(|(at, why)| Some((at?, why?))));
        };
        let permille = |host: usize| {
            let used = model.normalised(host);
            (used.cpu / 1000, used.memory / 1000)
        };
        let reason =
            Reason::Balance { from_permille: permille(best.from), to_permille: permille(best.to) };
        model.hosts[best.from].moves += 1;
        model.hosts[best.to].moves += 1;
        let recommendation = make(model, &best.unit, best.to, reason, priority, best.cost);
        plan.recommendations.push(recommendation);
    }
    WhyNot::Even
}

/// A move that was tried.
struct Tried {
    unit: Unit,
    from: usize,
    to: usize,
    unevenness: i128,
    cost: Cost,
    obstacle: Option<Obstacle>,
}

/// The search for one move.
struct Step<'m, 'a> {
    model: &'m Model<'a>,
    now: Timestamp,
    spread: Spread,
    unevenness: i128,
    mean: Load,
    best: Option<Tried>,
    rejected: Option<Tried>,
}

impl Model<'_> {
    fn move_of(&self, tried: &Tried) -> Option<Move> {
        let vm = self.vm(*tried.unit.vms.first()?).id;
        Some(Move { vm, from: self.host(tried.from).id, to: self.host(tried.to).id })
    }
}

impl<'m, 'a> Step<'m, 'a> {
    fn new(model: &'m Model<'a>, now: Timestamp) -> Self {
        let spread = model.spread();
        Self {
            model,
            now,
            unevenness: spread.unevenness(),
            mean: spread.mean(),
            spread,
            best: None,
            rejected: None,
        }
    }

    fn search(&mut self) {
        let (sources, targets) = self.extremes();
        for from in sources {
            for vm in &self.model.hosts[from].vms {
                let unit = self.model.unit_of(*vm);
                // A bundle is tried once, and only where all of it is together.
                let is_first = unit.vms.iter().min() == Some(vm);
                let is_together = unit.vms.iter().all(|vm| self.model.place[*vm] == Some(from));
                if is_first && is_together {
                    self.try_unit(&unit, from, &targets);
                }
            }
        }
    }

    fn try_unit(&mut self, unit: &Unit, from: usize, targets: &[usize]) {
        let none = Load::default();
        let model = self.model;
        let from_before = model.normalised(from);
        let from_after = model.normalised_with(from, none, unit.entitled);
        let without = self.spread.with(from_before, from_after);
        let bent = model.bent(unit, from);
        let stays = self.check_unit(unit);
        for to in targets.iter().copied().filter(|to| *to != from) {
            let to_before = model.normalised(to);
            let to_after = model.normalised_with(to, unit.entitled, none);
            let unevenness = without.with(to_before, to_after).unevenness();
            if unevenness >= self.unevenness || !beats(unevenness, self.best.as_ref()) {
                continue;
            }
            let is_good = self.is_closer([from_before, to_before], [from_after, to_after]);
            let checked = match (&stays, is_good) {
                (Err(obstacle), _) => Err(obstacle.clone()),
                (Ok(()), false) => Err(Obstacle::SmallGain),
                (Ok(()), true) => self.check_move(unit, from, to, bent),
            };
            let tried = |cost: Cost, obstacle: Option<Obstacle>| Tried {
                unit: unit.clone(),
                from,
                to,
                unevenness,
                cost,
                obstacle,
            };
            match checked {
                Ok(cost) => self.best = Some(tried(cost, None)),
                Err(why) if beats(unevenness, self.rejected.as_ref()) => {
                    self.rejected = Some(tried(Cost::default(), Some(why)));
                }
                Err(_) => {}
            }
        }
    }

    /// Whether this unit may move for balance at all.
    fn check_unit(&self, unit: &Unit) -> Result<(), Obstacle> {
        check_movable(self.model, unit)?;
        let cooldown = u64::from(self.model.cluster.settings.cooldown_seconds);
        for vm in &unit.vms {
            if let Some(moved) = self.model.vm(*vm).moved {
                let passed = self.now.since(moved).as_secs();
                if passed < cooldown {
                    return Err(Obstacle::Cooldown { seconds: cooldown - passed });
                }
            }
        }
        Ok(())
    }

    fn check_move(
        &self,
        unit: &Unit,
        from: usize,
        to: usize,
        bent: usize,
    ) -> Result<Cost, Obstacle> {
        let model = self.model;
        let moves_max = model.cluster.settings.moves_per_host_max;
        if [from, to].iter().any(|host| model.hosts[*host].moves >= moves_max) {
            return Err(Obstacle::EnoughMoves);
        }
        model.check(unit, to)?;
        if model.bent(unit, to) > bent {
            return Err(Obstacle::WouldBend);
        }
        // Where peaks do not fit anywhere, the less full host is better all the same.
        if peak_overflows(model, unit, to) && !self.peaks_less(unit, from, to) {
            return Err(Obstacle::Peak);
        }
        let cost = cost::of_move(model, unit, from, to);
        cost.check()?;
        Ok(cost)
    }

    fn peaks_less(&self, unit: &Unit, from: usize, to: usize) -> bool {
        let used = |host: usize, more: Load| {
            let capacity = self.model.host(host).capacity.load();
            let used = super::imbalance::normalised(self.model.hosts[host].peak + more, capacity);
            used.cpu.max(used.memory)
        };
        used(to, unit.peak) < used(from, Load::default())
    }

    /// Whether the two hosts come closer to the mean by enough.
    fn is_closer(&self, before: [Load; 2], after: [Load; 2]) -> bool {
        let distance = |hosts: [Load; 2]| {
            hosts
                .iter()
                .map(|host| {
                    Resource::BOTH
                        .into_iter()
                        .map(|resource| {
                            let off =
                                i128::from(host.of(resource)) - i128::from(self.mean.of(resource));
                            i128::from(self.model.weights.of(resource)) * off * off
                        })
                        .sum::<i128>()
                })
                .sum::<i128>()
        };
        distance(after) * 100 <= distance(before) * (100 - GOODNESS_PERCENT)
    }

    /// The hosts to try moves from and to.
    fn extremes(&self) -> (Vec<usize>, Vec<usize>) {
        let model = self.model;
        let mut hosts =
            (0..model.hosts.len()).filter(|host| model.is_balanced(*host)).collect::<Vec<_>>();
        if hosts.len() <= 2 * EXTREMES {
            return (hosts.clone(), hosts);
        }
        let (mut sources, mut targets) = (Vec::new(), Vec::new());
        for resource in Resource::BOTH {
            hosts.sort_by_key(|host| (model.normalised(*host).of(resource), *host));
            targets.extend(hosts.iter().take(EXTREMES));
            sources.extend(hosts.iter().rev().take(EXTREMES));
        }
        for list in [&mut sources, &mut targets] {
            list.sort_unstable();
            list.dedup();
        }
        (sources, targets)
    }
}

fn beats(unevenness: i128, other: Option<&Tried>) -> bool {
    other.is_none_or(|other| unevenness < other.unevenness)
}

#[cfg(test)]
mod patterns;
#[cfg(test)]
mod tests;
