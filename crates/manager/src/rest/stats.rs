//! Statistics.

use std::sync::Arc;

use racknest_api::page::Page;
use racknest_api::v1::stats::{
    Counter as CounterRow, Latest, LatestFilter, Series, Stats, StatsCounters, StatsInterval,
    StatsKind, StatsLatest, StatsQuery,
};
use racknest_cluster::inventory::Inventory;
use racknest_cluster::record::entity::EntityRef;
use racknest_cluster::record::host::HostRecord;
use racknest_types::fault::Fault;
use racknest_types::id::{ClusterId, HostId, VmId};
use racknest_types::time::Timestamp;

use super::call::{Call, View};
use super::cluster::cpu_mhz;
use super::convert::{Cut, mention, moment, time};
use super::routes::Routes;
use crate::clock;
use crate::statistics::counter::Counter;
use crate::statistics::{Interval, Member, Query, Sample, Series as Measured, Statistics, Subject};

pub(super) fn mount(routes: Routes) -> Routes {
    routes
        .on::<StatsCounters, _>(list_counters)
        .on::<StatsQuery, _>(query)
        .on::<StatsLatest, _>(latest)
}

async fn list_counters(_: Call<StatsCounters>) -> Result<Page<CounterRow>, Fault> {
    let rows = Counter::ALL.iter().map(|counter| CounterRow {
        name: counter.name().to_owned(),
        unit: counter.unit().name().to_owned(),
        rollup: counter.rollup().name().to_owned(),
        description: counter.description().to_owned(),
    });
    Ok(Page::whole(rows.collect()))
}

/// What is measured.
#[derive(Clone)]
enum Measurable {
    One(Subject),
    Cluster(Vec<Member>),
}

impl Measurable {
    fn new(inventory: &Inventory, entity: EntityRef) -> Result<Self, Fault> {
        if let EntityRef::Vm(id) = entity {
            return Ok(Self::One(Subject::Vm(id)));
        }
        if let EntityRef::Host(id) = entity {
            return Ok(Self::One(Subject::Host(id)));
        }
        if let EntityRef::Cluster(id) = entity {
            let member = |host: &HostRecord| Member { host: host.id, capacity_mhz: cpu_mhz(host) };
            return Ok(Self::Cluster(inventory.hosts_of(id).map(member).collect()));
        }
        Err(Fault::invalid(format!("{entity} has no statistics; name a VM, a host or a cluster")))
    }

    fn latest(&self, statistics: &Statistics, now: Timestamp) -> Option<Sample> {
        match self {
            Self::One(subject) => statistics.latest(now, *subject),
            Self::Cluster(members) => statistics.latest_of_cluster(now, members),
        }
    }

    fn query(
        &self,
        statistics: &Statistics,
        now: Timestamp,
        query: &Query<'_>,
    ) -> Result<Measured, Fault> {
        match self {
            Self::One(subject) => statistics.query(now, *subject, query),
            Self::Cluster(members) => statistics.query_cluster(now, members, query),
        }
    }
}

async fn query(call: Call<StatsQuery>) -> Result<Stats, Fault> {
    let range = &call.query;
    let counters = counters(range.counters.as_deref())?;
    let (entity, measurable) = call.look(|view| {
        let entity = view.find_any(&range.entity)?;
        let measurable = Measurable::new(view.inventory, entity)?;
        Ok::<_, Fault>((mention(view.inventory, entity), measurable))
    })?;
    let now = clock::now();
    let (from, to) = (range.from.map_or(Timestamp::EPOCH, moment), range.to.map_or(now, moment));
    let (interval, statistics) = (range.interval, Arc::clone(&call.state.statistics));
    let work = move || {
        let query = Query { counters: &counters, interval: show_interval(interval), from, to };
        measurable.query(&statistics, now, &query)
    };
    let measured = tokio::task::spawn_blocking(work).await;
    let measured =
        measured.map_err(|error| Fault::system(format!("reading the statistics: {error}")))??;
    Ok(Stats {
        entity,
        interval,
        period_seconds: u32::try_from(measured.interval.as_secs()).unwrap_or(u32::MAX),
        times: measured.times.iter().map(|at| time(*at)).collect(),
        series: measured.values.into_iter().map(show_series).collect(),
    })
}

fn show_series((counter, values): (Counter, Vec<Option<u64>>)) -> Series {
    Series { counter: counter.name().to_owned(), unit: counter.unit().name().to_owned(), values }
}

const fn show_interval(interval: StatsInterval) -> Interval {
    match interval {
        StatsInterval::RealTime => Interval::RealTime,
        StatsInterval::Day => Interval::Day,
        StatsInterval::Week => Interval::Week,
        StatsInterval::Month => Interval::Month,
        StatsInterval::Year => Interval::Year,
    }
}

fn counters(names: Option<&str>) -> Result<Vec<Counter>, Fault> {
    let Some(names) = names else { return Ok(Counter::ALL.to_vec()) };
    let counter = |name: &str| {
        Counter::from_name(name.trim()).ok_or_else(|| {
            Fault::invalid(format!(
                "there is no counter '{name}'; 'racknest stats counters' shows them"
            ))
        })
    };
    names.split(',').map(counter).collect()
}

async fn latest(call: Call<StatsLatest>) -> Result<Page<Latest>, Fault> {
    let (statistics, now) = (&call.state.statistics, clock::now());
    call.look(|view| match (&call.query.entity, call.query.kind) {
        (Some(text), None) => {
            let entity = view.find_any(text)?;
            let latest = show_latest(view.inventory, statistics, now, entity)?;
            Ok(Page::whole(latest.into_iter().collect()))
        }
        (None, Some(kind)) => latest_of_kind(view, &call.query, kind, (statistics, now)),
        (Some(_), Some(_)) | (None, None) => {
            Err(Fault::invalid("say either entity or kind: one object, or all of a kind"))
        }
    })
}

fn latest_of_kind(
    view: &View<'_>,
    filter: &LatestFilter,
    kind: StatsKind,
    (statistics, now): (&Statistics, Timestamp),
) -> Result<Page<Latest>, Fault> {
    let inventory = view.inventory;
    let (limit, after, sight) = (filter.limit, filter.after.as_deref(), view.sight());
    let show = |entity: EntityRef| show_latest(inventory, statistics, now, entity).ok().flatten();
    let page = match kind {
        StatsKind::Vm => {
            let ids = inventory.vms().map(|vm| vm.id).filter(|id| sight.sees(*id));
            Cut::<VmId>::new(limit, after)?.rising(ids, |id| *id, |id| show(id.into()))
        }
        StatsKind::Host => {
            let ids = inventory.hosts().map(|host| host.id).filter(|id| sight.sees(*id));
            Cut::<HostId>::new(limit, after)?.rising(ids, |id| *id, |id| show(id.into()))
        }
        StatsKind::Cluster => {
            let ids = inventory.clusters().map(|it| it.id).filter(|id| sight.sees(*id));
            Cut::<ClusterId>::new(limit, after)?.rising(ids, |id| *id, |id| show(id.into()))
        }
    };
    // What has no sample is left out of its page; the page after it begins behind it all the same.
    Ok(Page { items: page.items.into_iter().flatten().collect(), next: page.next })
}

fn show_latest(
    inventory: &Inventory,
    statistics: &Statistics,
    now: Timestamp,
    entity: EntityRef,
) -> Result<Option<Latest>, Fault> {
    let sample = Measurable::new(inventory, entity)?.latest(statistics, now);
    Ok(sample.map(|sample| {
        let values = Counter::ALL
            .iter()
            .filter_map(|counter| Some((counter.name().to_owned(), sample.value(*counter)?)));
        Latest { entity: mention(inventory, entity), at: time(sample.at), values: values.collect() }
    }))
}
