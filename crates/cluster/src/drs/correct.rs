//! What must be put right whatever it does to the balance: hosts that are to be empty, rules that
//! are broken, guarantees that exceed a host. Then what should be.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::cost;
use super::imbalance::{Spread, normalised};
use super::model::{Model, Unit};
use super::obstacle::Obstacle;
use super::plan::{Effect, Move, Plan, Reason, Recommendation, Stuck};
use super::rules::{Breach, BrokenBy};
use super::{HostState, Load};
use crate::record::drs::DrsMode;

/// The priority of what must be.
pub(super) const MUST: u8 = 1;

/// The priority of what should be.
const SHOULD: u8 = 2;

/// Puts right what can be, in the working copy and in the plan.
pub(super) fn correct(model: &mut Model<'_>, plan: &mut Plan) {
    for host in 0..model.hosts.len() {
        if model.host(host).state == HostState::Maintenance {
            let reason = Reason::Maintenance(model.host(host).id);
            empty(model, plan, host, &reason, MUST);
        }
    }
    mend_rules(model, plan, true);
    for host in 0..model.hosts.len() {
        relieve(model, plan, host);
    }
    if model.cluster.settings.threshold < SHOULD {
        return;
    }
    for host in 0..model.hosts.len() {
        if model.host(host).state == HostState::Quarantined {
            let reason = Reason::Quarantine(model.host(host).id);
            empty(model, plan, host, &reason, SHOULD);
        }
    }
    mend_rules(model, plan, false);
}

/// Moves everything off a host.
pub(super) fn empty(
    model: &mut Model<'_>,
    plan: &mut Plan,
    host: usize,
    reason: &Reason,
    priority: u8,
) {
    // The largest first: they fit in fewer places.
    let mut vms = model.hosts[host].vms.clone();
    vms.sort_by_key(|vm| (core::cmp::Reverse(model.vm(*vm).memory_mib), *vm));
    for vm in vms {
        if model.place[vm] != Some(host) {
            continue;
        }
        let unit = model.unit_of(vm);
        match find_target(model, &unit, priority) {
            Ok(to) => recommend(model, plan, &unit, to, reason.clone(), priority),
            Err(obstacle) => {
                let vm = model.vm(vm).id;
                plan.stuck.push(Stuck { vm, reason: reason.clone(), obstacle });
            }
        }
    }
}

/// Moves VMs until every rule holds that can.
fn mend_rules(model: &mut Model<'_>, plan: &mut Plan, is_mandatory: bool) {
    let priority = if is_mandatory { MUST } else { SHOULD };
    let ids = model.rules.vms().collect::<Vec<_>>();
    for id in ids {
        let Some(vm) = model.vm_number(id).filter(|vm| model.place[*vm].is_some()) else {
            continue;
        };
        let Some(breach) = breach_of(model, vm).filter(|it| it.is_mandatory == is_mandatory) else {
            continue;
        };
        // Two VMs that are to be apart: whichever of them can go.
        let mut movers = Vec::from([vm]);
        if let BrokenBy::Near(other) | BrokenBy::FarFrom(other, _) = breach.by {
            movers.extend(model.vm_number(other));
        }
        let reason = Reason::Rule { vm: id, breach };
        let mut obstacle = None;
        let found = movers.into_iter().find_map(|mover| {
            let unit = model.unit_of(mover);
            match find_target(model, &unit, priority) {
                Ok(to) if mends(model, vm, &unit, to) => Some((unit, to)),
                Ok(_) => None,
                Err(why) => {
                    obstacle.get_or_insert(why);
                    None
                }
            }
        });
        match found {
            Some((unit, to)) => recommend(model, plan, &unit, to, reason, priority),
            None if is_mandatory => plan.stuck.push(Stuck {
                vm: id,
                reason,
                obstacle: obstacle.unwrap_or(Obstacle::SmallGain),
            }),
            None => {}
        }
    }
}

fn breach_of(model: &Model<'_>, vm: usize) -> Option<Breach> {
    let host = model.host(model.place[vm]?).id;
    let placed = |id| model.place_of(id);
    let broken = model.rules.allows(model.vm(vm).id, host, &placed).err()?;
    Some(broken.to_breach())
}

/// Whether the VM's rules hold better after the move than before.
fn mends(model: &Model<'_>, vm: usize, unit: &Unit, to: usize) -> bool {
    let mut after = model.clone();
    after.apply(unit, to);
    let Some(now) = breach_of(&after, vm) else {
        return true;
    };
    let before = breach_of(model, vm);
    before.is_some_and(|before| before.is_mandatory && !now.is_mandatory)
}

/// Moves VMs off a host until their guarantees fit.
fn relieve(model: &mut Model<'_>, plan: &mut Plan, host: usize) {
    let reason = Reason::Overcommitted(model.host(host).id);
    let capacity = model.host(host).capacity.load();
    let mut tried = BTreeSet::new();
    while model.host(host).state == HostState::On && !capacity.covers(model.hosts[host].guaranteed)
    {
        let left = model.hosts[host].vms.iter().filter(|vm| !tried.contains(*vm));
        let Some(vm) = left.copied().max_by_key(|vm| {
            let guaranteed = model.vm(*vm).guaranteed();
            (guaranteed.memory, guaranteed.cpu, core::cmp::Reverse(*vm))
        }) else {
            return;
        };
        tried.insert(vm);
        let unit = model.unit_of(vm);
        match find_target(model, &unit, MUST) {
            Ok(to) => recommend(model, plan, &unit, to, reason.clone(), MUST),
            Err(obstacle) => {
                let vm = model.vm(vm).id;
                plan.stuck.push(Stuck { vm, reason: reason.clone(), obstacle });
            }
        }
    }
}

/// The best host for a unit that has to leave.
fn find_target(model: &Model<'_>, unit: &Unit, priority: u8) -> Result<usize, Obstacle> {
    check_movable(model, unit)?;
    let first = unit.vms.first().map(|vm| model.vm(*vm).id);
    let few = first.and_then(|vm| model.rules.only_hosts(vm));
    let hosts = match few {
        Some(few) => few.iter().filter_map(|id| model.host_number(*id)).collect::<Vec<_>>(),
        None => (0..model.hosts.len()).collect(),
    };
    let spread = model.spread();
    let mut best = None;
    let mut obstacle = None;
    for host in hosts {
        // Where all of them are already they cannot go.
        if unit.vms.iter().all(|vm| model.place[*vm] == Some(host)) {
            continue;
        }
        if let Err(why) = model.check(unit, host) {
            obstacle = better_told(obstacle, why);
            continue;
        }
        let bent = model.bent(unit, host);
        let is_full = peak_overflows(model, unit, host);
        if priority > MUST && (bent > 0 || is_full) {
            obstacle =
                better_told(obstacle, if is_full { Obstacle::Peak } else { Obstacle::WouldBend });
            continue;
        }
        let stay = unit.vms.iter().filter(|vm| model.place[**vm] == Some(host)).count();
        // VMs that want nothing, or of which nothing is known yet, weigh what was promised to them.
        let promised = Load { cpu: 0, memory: model.hosts[host].promised_mib };
        let promised = normalised(promised, model.host(host).capacity.load());
        let uneven = unevenness(model, &spread, unit, host);
        let key = (bent, is_full, unit.vms.len() - stay, uneven, promised.memory);
        if best.as_ref().is_none_or(|(least, _)| key < *least) {
            best = Some((key, host));
        }
    }
    best.map(|(_, host)| host).ok_or_else(|| obstacle.unwrap_or(Obstacle::TooSmall))
}

/// Of two obstacles the one that tells more: that a host is off says little.
fn better_told(old: Option<Obstacle>, new: Obstacle) -> Option<Obstacle> {
    match old {
        None | Some(Obstacle::HostState(_)) => Some(new),
        Some(old) => Some(old),
    }
}

pub(super) fn check_movable(model: &Model<'_>, unit: &Unit) -> Result<(), Obstacle> {
    for vm in &unit.vms {
        let vm = model.vm(*vm);
        if vm.is_busy {
            return Err(Obstacle::Busy);
        }
        if vm.mode(&model.cluster.settings) == DrsMode::Off {
            return Err(Obstacle::LeftAlone);
        }
    }
    Ok(())
}

pub(super) fn peak_overflows(model: &Model<'_>, unit: &Unit, host: usize) -> bool {
    let peak = model.hosts[host].peak + unit.peak;
    !model.host(host).capacity.load().covers(peak)
}

/// How uneven the cluster would be with the unit on this host.
fn unevenness(model: &Model<'_>, spread: &Spread, unit: &Unit, host: usize) -> i128 {
    let mut spread = *spread;
    let coming = unit.vms.iter().filter(|vm| model.place[**vm] != Some(host));
    let more = coming.map(|vm| model.entitled[*vm]).sum();
    let none = Load::default();
    spread = spread.with(model.normalised(host), model.normalised_with(host, more, none));
    let sources = unit.vms.iter().filter_map(|vm| model.place[*vm]).collect::<BTreeSet<_>>();
    for from in sources.into_iter().filter(|from| *from != host && model.is_balanced(*from)) {
        let going = unit.vms.iter().filter(|vm| model.place[**vm] == Some(from));
        let less = going.map(|vm| model.entitled[*vm]).sum();
        spread = spread.with(model.normalised(from), model.normalised_with(from, none, less));
    }
    spread.unevenness()
}

/// Moves a unit in the working copy, and says so in the plan.
fn recommend(
    model: &mut Model<'_>,
    plan: &mut Plan,
    unit: &Unit,
    to: usize,
    reason: Reason,
    priority: u8,
) {
    let from = unit.vms.iter().find_map(|vm| model.place[*vm].filter(|host| *host != to));
    let cost = cost::of_needed_move(model, unit, from.unwrap_or(to), to);
    let recommendation = make(model, unit, to, reason, priority, cost);
    plan.recommendations.push(recommendation);
}

/// Moves a unit in the working copy, and tells it as a recommendation.
pub(super) fn make(
    model: &mut Model<'_>,
    unit: &Unit,
    to: usize,
    reason: Reason,
    priority: u8,
    cost: cost::Cost,
) -> Recommendation {
    let target = model.host(to).id;
    let moves = unit.vms.iter().filter_map(|vm| {
        let from = model.place[*vm].filter(|from| *from != to)?;
        Some(Move { vm: model.vm(*vm).id, from: model.host(from).id, to: target })
    });
    let moves = moves.collect();
    let settings = &model.cluster.settings;
    let is_automatic = unit.vms.iter().all(|vm| model.vm(*vm).mode(settings) == DrsMode::Full);
    let (imbalance_before, score_before) = (model.imbalance().combined_ppm, model.cluster_score());
    model.apply(unit, to);
    let effect = Effect {
        imbalance_before,
        imbalance_after: model.imbalance().combined_ppm,
        score_before,
        score_after: model.cluster_score(),
    };
    Recommendation { priority, moves, reason, effect, cost, is_automatic }
}
