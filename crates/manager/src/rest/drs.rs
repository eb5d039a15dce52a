//! DRS of a cluster.

use racknest_api::page::Page;
use racknest_api::v1::drs::{
    AppliedRecommendation, ClusterApply, ClusterDrs, ClusterRecommendations, DpmMode, Drs,
    DrsEffect, DrsMode, DrsOverride, DrsPatch, Recommendation, RecommendedMove, VmDrsMode,
};
use racknest_api::v1::task::Task;
use racknest_cluster::drs::Names;
use racknest_cluster::drs::plan::Effect;
use racknest_cluster::inventory::Inventory;
use racknest_cluster::inventory::drs::{Applied, DpmTimes, EditDrs, Numbered};
use racknest_cluster::record::drs::{DpmMode as DpmRecord, DrsMode as ModeRecord};
use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, HostId, VmId};

use super::call::{Call, View};
use super::convert::{count, reference, time};
use super::routes::Routes;
use super::task;

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<ClusterRecommendations, _>(recommendations)
        .on::<ClusterApply, _>(apply)
        .on::<ClusterDrs, _>(edit)
}

async fn recommendations(
    call: Call<ClusterRecommendations>,
) -> Result<Page<Recommendation>, Fault> {
    call.look(|view| {
        let cluster = view.find_cluster(&call.name(0))?;
        let waiting = view.inventory.drs_status(cluster)?.recommendations;
        Ok(Page::whole(waiting.iter().map(|it| show_one(view.inventory, it)).collect()))
    })
}

async fn apply(call: Call<ClusterApply>) -> Result<Page<Task>, Fault> {
    let (cluster, number) = (call.name(0), call.body.number);
    call.run(move |desk| {
        let cluster = desk.view().find_cluster(&cluster)?;
        let tasks = desk.inventory.drs_apply(desk.now, desk.user, cluster, number)?;
        let tasks = tasks.into_iter().map(|id| task::begun(desk, id));
        Ok(Page::whole(tasks.collect::<Result<_, _>>()?))
    })
    .await
}

async fn edit(call: Call<ClusterDrs>) -> Result<Drs, Fault> {
    let (cluster, patch) = (call.name(0), call.body.clone());
    call.run(move |desk| {
        let id = desk.view().find_cluster(&cluster)?;
        let edit = edited(desk.view(), &patch)?;
        desk.inventory.drs_edit(desk.now, desk.user, id, edit)?;
        show(desk.inventory, id)
    })
    .await
}

fn edited(view: View<'_>, patch: &DrsPatch) -> Result<EditDrs, Fault> {
    let overrides = match (&patch.vm, patch.vm_mode) {
        (None, None) => vec![],
        (Some(vm), Some(mode)) => vec![(view.inventory.find_vm(vm)?, vm_mode_record(mode))],
        (Some(_), None) | (None, Some(_)) => {
            return Err(Fault::invalid("vm and vm_mode belong together; give both or neither"));
        }
    };
    Ok(EditDrs {
        mode: patch.mode.map(mode_record),
        threshold: patch.threshold,
        interval_seconds: patch.interval_seconds,
        passes_min: patch.passes,
        cooldown_seconds: patch.cooldown_seconds,
        scalable_shares: patch.scalable_shares,
        dpm: patch.dpm.map(|mode| match mode {
            DpmMode::Off => DpmRecord::Off,
            DpmMode::Manual => DpmRecord::Manual,
            DpmMode::Automatic => DpmRecord::Automatic,
        }),
        dpm_times: DpmTimes {
            on_after_seconds: patch.dpm_on_after_seconds,
            off_after_seconds: patch.dpm_off_after_seconds,
            on_seconds_min: patch.dpm_on_seconds_min,
            hosts_on_min: patch.dpm_hosts_on_min,
        },
        overrides,
    })
}

/// DRS of a cluster as JSON.
pub(super) fn show(inventory: &Inventory, cluster: ClusterId) -> Result<Drs, Fault> {
    let settings = &inventory.cluster(cluster)?.drs;
    let status = inventory.drs_status(cluster)?;
    let of_vm = |(vm, mode): (&VmId, &ModeRecord)| DrsOverride {
        vm: reference(inventory, *vm),
        mode: mode_shown(*mode),
    };
    Ok(Drs {
        mode: mode_shown(settings.mode),
        threshold: settings.threshold,
        interval_seconds: settings.interval_seconds,
        passes: settings.passes_min,
        cooldown_seconds: settings.cooldown_seconds,
        scalable_shares: settings.scalable_shares,
        dpm: match settings.dpm.mode {
            DpmRecord::Off => DpmMode::Off,
            DpmRecord::Manual => DpmMode::Manual,
            DpmRecord::Automatic => DpmMode::Automatic,
        },
        dpm_on_after_seconds: settings.dpm.on_after_seconds,
        dpm_off_after_seconds: settings.dpm.off_after_seconds,
        dpm_on_seconds_min: settings.dpm.on_seconds_min,
        dpm_hosts_on_min: settings.dpm.hosts_on_min,
        overrides: settings.overrides.iter().map(of_vm).collect(),
        passed: status.passed.map(time),
        imbalance_permille: status.imbalance.combined_ppm / 1000,
        target_permille: status.target_ppm / 1000,
        score_permille: status.score,
        recommendations: count(status.recommendations.iter()),
        why_not: status.why_not,
        stuck: status.stuck,
        conflicts: status.conflicts,
        cannot_lose: status.unplaceable,
        power: status.power,
        applied: status.applied.iter().map(show_applied).collect(),
    })
}

fn show_one(inventory: &Inventory, numbered: &Numbered) -> Recommendation {
    let (vm, host) = (|id: VmId| inventory.name(id.into()), |id: HostId| inventory.name(id.into()));
    let recommendation = &numbered.recommendation;
    let moves = recommendation.moves.iter();
    let told =
        moves.clone().map(|it| format!("{}: {} to {}", vm(it.vm), host(it.from), host(it.to)));
    Recommendation {
        number: numbered.number,
        priority: recommendation.priority,
        what: told.collect::<Vec<_>>().join(", "),
        moves: moves
            .map(|it| RecommendedMove {
                vm: reference(inventory, it.vm),
                from: reference(inventory, it.from),
                to: reference(inventory, it.to),
            })
            .collect(),
        reason: recommendation.reason.explain(&Names { vm: &vm, host: &host }),
        expected: effect(&recommendation.effect),
        seconds: recommendation.cost.seconds,
        copied_mib: recommendation.cost.copied_mib,
        refused: numbered.refused.as_ref().map(|fault| fault.message.clone()),
    }
}

fn show_applied(applied: &Applied) -> AppliedRecommendation {
    AppliedRecommendation {
        number: applied.number,
        at: time(applied.at),
        what: applied.told.clone(),
        tasks: applied.tasks.clone(),
        expected: effect(&applied.expected),
        imbalance_permille: applied.real.map(|(imbalance, _)| imbalance / 1000),
        score_permille: applied.real.map(|(_, score)| score / 1000),
    }
}

const fn effect(effect: &Effect) -> DrsEffect {
    DrsEffect {
        imbalance_before_permille: effect.imbalance_before / 1000,
        imbalance_after_permille: effect.imbalance_after / 1000,
        score_before_permille: effect.score_before / 1000,
        score_after_permille: effect.score_after / 1000,
    }
}

const fn mode_record(mode: DrsMode) -> ModeRecord {
    match mode {
        DrsMode::Off => ModeRecord::Off,
        DrsMode::Manual => ModeRecord::Manual,
        DrsMode::Partial => ModeRecord::Partial,
        DrsMode::Full => ModeRecord::Full,
    }
}

const fn vm_mode_record(mode: VmDrsMode) -> Option<ModeRecord> {
    match mode {
        VmDrsMode::Off => Some(ModeRecord::Off),
        VmDrsMode::Manual => Some(ModeRecord::Manual),
        VmDrsMode::Partial => Some(ModeRecord::Partial),
        VmDrsMode::Full => Some(ModeRecord::Full),
        VmDrsMode::Cluster => None,
    }
}

const fn mode_shown(mode: ModeRecord) -> DrsMode {
    match mode {
        ModeRecord::Off => DrsMode::Off,
        ModeRecord::Manual => DrsMode::Manual,
        ModeRecord::Partial => DrsMode::Partial,
        ModeRecord::Full => DrsMode::Full,
    }
}
