//! One DRS pass: what should move, why, what it costs, and if nothing, why not.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use racknest_types::id::{HostId, VmId};
use racknest_types::time::Timestamp;

use super::cost::Cost as MoveCost;
use super::imbalance::Imbalance;
use super::model::Model;
use super::obstacle::Obstacle;
use super::rules::{Breach, Rules};
use super::{Cluster, Names, balance, correct};
use crate::record::drs::DrsMode;

pub use super::cost::Cost;

/// What one pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do, in this order.
    pub recommendations: Vec<Recommendation>,
    /// How uneven the cluster is.
    pub before: Imbalance,
    /// How uneven it will be when all of that is done.
    pub after: Imbalance,
    /// The imbalance that the threshold tolerates, in parts per million.
    pub target_ppm: u64,
    /// Why there are no more moves for balance.
    pub why_not: WhyNot,
    /// VMs that must move and cannot.
    pub stuck: Vec<Stuck>,
}

/// What one pass leaves to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damping {
    /// Passes in a row, the last one included, that found the cluster out of balance.
    pub uneven_passes: u32,
}

/// Something that should be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recommendation {
    /// From 1 (it must be) to 5 (a small gain).
    pub priority: u8,
    /// The VMs that move; together, or not at all.
    pub moves: Vec<Move>,
    /// Why.
    pub reason: Reason,
    /// What it is expected to do.
    pub effect: Effect,
    /// What it costs.
    pub cost: MoveCost,
    /// Whether it is done without being asked.
    pub is_automatic: bool,
}

/// One migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The VM.
    pub vm: VmId,
    /// The host it is on.
    pub from: HostId,
    /// The host it goes to.
    pub to: HostId,
}

/// Why something should be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// One host carries more than another.
    Balance {
        /// The heavier one's CPU and memory in use by entitlement, per mille.
        from_permille: (u64, u64),
        /// The lighter one's.
        to_permille: (u64, u64),
    },
    /// A host is to be empty.
    Maintenance(HostId),
    /// A host's health is doubtful.
    Quarantine(HostId),
    /// A host is to be powered off, as few are needed.
    PowerSaving(HostId),
    /// A rule is broken.
    Rule {
        /// The VM it speaks of.
        vm: VmId,
        /// How.
        breach: Breach,
    },
    /// More is guaranteed on a host than it has.
    Overcommitted(HostId),
}

/// What something is expected to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// The imbalance before, in parts per million.
    pub imbalance_before: u64,
    /// The imbalance after.
    pub imbalance_after: u64,
    /// The cluster's score before, in parts per million.
    pub score_before: u64,
    /// The cluster's score after.
    pub score_after: u64,
}

/// Why there are no (more) moves for balance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WhyNot {
    /// The cluster is even enough for its threshold.
    #[default]
    Even,
    /// DRS is off.
    Off,
    /// The threshold wants only what must be.
    OnlyMandatory,
    /// It has been uneven for too few passes.
    TooSoon {
        /// Passes in a row so far.
        passes: u32,
        /// Passes it takes.
        needed: u32,
    },
    /// Migrations run; what they change is awaited.
    UnderWay(usize),
    /// No move is good; the best of them, and what stands against it.
    NoGoodMove(Option<(Move, Obstacle)>),
}

/// A VM that must move and cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The VM.
    pub vm: VmId,
    /// Why it must.
    pub reason: Reason,
    /// Why it cannot.
    pub obstacle: Obstacle,
}

/// Makes one pass.
#[must_use]
pub fn plan(cluster: &Cluster, rules: &Rules, damping: &mut Damping, now: Timestamp) -> Plan {
    if cluster.settings.mode == DrsMode::Off {
        *damping = Damping::default();
        return Plan { why_not: WhyNot::Off, ..Plan::default() };
    }
    let mut model = Model::new(cluster, rules);
    let before = model.imbalance();
    let mut plan = Plan {
        before,
        target_ppm: before.target_ppm(cluster.settings.threshold),
        ..Plan::default()
    };
    correct::correct(&mut model, &mut plan);
    plan.why_not = if cluster.settings.threshold > 1 {
        balance::balance(&mut model, &mut plan, damping, now)
    } else {
        WhyNot::OnlyMandatory
    };
    plan.after = model.imbalance();
    plan
}

impl Reason {
    /// Why, with the names that the reader knows.
    #[must_use]
    pub fn explain(&self, names: &Names<'_>) -> String {
        let percent = |permille: &u64| permille.div_ceil(10);
        match self {
            Self::Balance { from_permille, to_permille } => format!(
                "even out load: CPU {} % and memory {} % there, {} % and {} % here",
                percent(&from_permille.0),
                percent(&from_permille.1),
                percent(&to_permille.0),
                percent(&to_permille.1)
            ),
            Self::Maintenance(host) => {
                format!("host '{}' enters maintenance", (names.host)(*host))
            }
            Self::Quarantine(host) => format!("host '{}' is quarantined", (names.host)(*host)),
            Self::PowerSaving(host) => {
                format!("host '{}' is not needed and can be powered off", (names.host)(*host))
            }
            Self::Rule { vm, breach } => {
                format!("{}: {}", (names.vm)(*vm), breach.explain(names))
            }
            Self::Overcommitted(host) => {
                format!("more is reserved on host '{}' than it has", (names.host)(*host))
            }
        }
    }
}

impl WhyNot {
    /// Why not, with the names that the reader knows.
    #[must_use]
    pub fn explain(&self, names: &Names<'_>) -> String {
        match self {
            Self::Even => "the cluster is even enough for its migration threshold".into(),
            Self::Off => "DRS is off".into(),
            Self::OnlyMandatory => "the migration threshold wants only what must be".into(),
            Self::TooSoon { passes, needed } => format!(
                "the cluster has been uneven for {passes} passes; it takes {needed} in a row"
            ),
            Self::UnderWay(count) => {
                format!("{count} migrations run; their effect is awaited")
            }
            Self::NoGoodMove(None) => "no VM of the heavier hosts can move".into(),
            Self::NoGoodMove(Some((best, obstacle))) => format!(
                "the best move left, {} from '{}' to '{}', is not made: {}",
                (names.vm)(best.vm),
                (names.host)(best.from),
                (names.host)(best.to),
                obstacle.explain(names)
            ),
        }
    }
}

impl fmt::Display for Plan {
    /// One line per recommendation, by ids.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permille = |ppm: u64| ppm / 1000;
        for one in &self.recommendations {
            let moves = one.moves.iter();
            let moves = moves.map(|it| format!("{} {} -> {}", it.vm, it.from, it.to));
            writeln!(
                f,
                "{} {}: {}; I {} -> {} ‰, score {} -> {} ‰, {} s",
                one.priority,
                moves.collect::<Vec<_>>().join(", "),
                one.reason.explain(&Names::IDS),
                permille(one.effect.imbalance_before),
                permille(one.effect.imbalance_after),
                permille(one.effect.score_before),
                permille(one.effect.score_after),
                one.cost.seconds
            )?;
        }
        for stuck in &self.stuck {
            let reason = stuck.reason.explain(&Names::IDS);
            writeln!(f, "! {} stays: {reason}, but {}", stuck.vm, stuck.obstacle)?;
        }
        writeln!(
            f,
            "I {} -> {} ‰; {}",
            permille(self.before.combined_ppm),
            permille(self.after.combined_ppm),
            self.why_not.explain(&Names::IDS)
        )
    }
}
