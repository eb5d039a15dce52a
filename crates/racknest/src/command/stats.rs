//! Statistics as numbers and as a small chart.

use anyhow::bail;
use clap::{Arg, ArgAction, ArgMatches, Command};
use racknest_api::operation::OperationRow;
use racknest_api::v1::stats::{Series, Stats};

use super::{Setting, input};
use crate::print::{self, Format};

/// How many columns a chart has: what fits beside the numbers on a terminal of 80.
const CHART_WIDTH: usize = 40;

/// The heights a column can have.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Adds the argument of `racknest stats query`.
pub(crate) fn arguments(command: Command) -> Command {
    command.arg(
        Arg::new("values")
            .long("values")
            .action(ArgAction::SetTrue)
            .help("Print every value instead of charts"),
    )
}

/// Prints the history of an object's counters.
pub(crate) fn query(
    row: &OperationRow,
    matches: &ArgMatches,
    setting: &Setting,
) -> anyhow::Result<()> {
    let (query, body) = input::read(&input::inputs(row), matches)?;
    let answer = super::row("stats_query");
    let answer = setting.client()?.ask(answer, &[], &query, &body)?;
    if setting.format == Format::Json {
        print::json(&answer);
        return Ok(());
    }
    let stats: Stats = serde_json::from_value(answer)?;
    if !stats.series.iter().any(is_known) {
        bail!(
            "there are no values for {} yet: the first come after {} seconds",
            stats.entity.name,
            stats.period_seconds
        );
    }
    if matches.get_flag("values") {
        values(&stats);
    } else {
        charts(&stats);
    }
    Ok(())
}

/// Whether anything is known of a counter: of a VM, nothing is of the machine under its host.
fn is_known(series: &Series) -> bool {
    series.values.iter().any(Option::is_some)
}

fn values(stats: &Stats) {
    let mut titles = vec!["AT"];
    titles.extend(stats.series.iter().map(|series| series.counter.as_str()));
    let rows = stats.times.iter().enumerate().map(|(place, time)| {
        let cells = stats.series.iter().map(move |series| {
            let value = series.values.get(place).copied().flatten();
            value.map_or_else(String::new, |value| shown(value, &series.unit))
        });
        std::iter::once(time.to_string()).chain(cells).collect::<Vec<_>>()
    });
    print::table(&titles, rows);
}

fn charts(stats: &Stats) {
    let (first, last) = (stats.times.first(), stats.times.last());
    if let (Some(first), Some(last)) = (first, last) {
        let seconds = stats.period_seconds;
        print::line(format!("{}: {first} to {last}, each {seconds} s", stats.entity.name));
    }
    let rows = stats.series.iter().filter(|series| is_known(series)).map(|series| {
        let known: Vec<u64> = series.values.iter().copied().flatten().collect();
        let bound = |value: Option<&u64>| {
            value.map_or_else(String::new, |value| shown(*value, &series.unit))
        };
        [
            series.counter.clone(),
            chart(series),
            bound(known.last()),
            bound(known.iter().min()),
            bound(known.iter().max()),
            series.unit.clone(),
        ]
    });
    print::table(&["COUNTER", "", "LAST", "MIN", "MAX", "UNIT"], rows);
}

/// A value for people: vSphere counts per cent in hundredths.
fn shown(value: u64, unit: &str) -> String {
    if unit == "percent" {
        format!("{}.{:02}", value / 100, value % 100)
    } else {
        value.to_string()
    }
}

/// The values as columns; each is the highest of those it stands for, and a gap where none is known.
fn chart(series: &Series) -> String {
    let values = &series.values;
    let top = values.iter().copied().flatten().max().unwrap_or(0).max(1);
    let per_column = values.len().div_ceil(CHART_WIDTH).max(1);
    let column = |values: &[Option<u64>]| match values.iter().copied().flatten().max() {
        None => ' ',
        Some(value) => {
            let level = u128::from(value) * 7 / u128::from(top);
            LEVELS[usize::try_from(level).unwrap_or(7).min(7)]
        }
    };
    values.chunks(per_column).map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(values: &[Option<u64>]) -> String {
        let (counter, unit) = (String::new(), String::new());
        chart(&Series { counter, unit, values: values.to_vec() })
    }

    #[test]
    fn per_cent_are_counted_in_hundredths() {
        assert_eq!(shown(56, "percent"), "0.56");
        assert_eq!(shown(10_000, "percent"), "100.00");
        assert_eq!(shown(56, "megaHertz"), "56");
    }

    #[test]
    fn a_chart_shows_heights_and_gaps() {
        assert_eq!(drawn(&[Some(0), Some(50), None, Some(100)]), "▁▄ █");
        assert_eq!(drawn(&[]), "");
        assert_eq!(drawn(&[Some(0), Some(0)]), "▁▁");
        assert_eq!(drawn(&[Some(u64::MAX); 100]).chars().count(), 34);
    }
}
