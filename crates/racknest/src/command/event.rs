//! What happens while one looks: the change feed, and the events in it.

use std::io::{BufRead as _, BufReader, Read};

use anyhow::{Context as _, bail};
use clap::{ArgMatches, Command};
use serde_json::{Value, json};

use super::{Setting, columns, field, row};
use crate::client::Client;
use crate::print::{self, Format};

/// The most events that one look brings; more happen in a second only when VMs start by the hundred.
const EVENTS_MAX: usize = 10_000;

/// `racknest event follow` prints all events: it takes nothing of what the feed can be asked for.
pub(crate) fn follow_arguments(command: Command) -> Command {
    command.mut_arg("since", |since| since.hide(true))
}

/// Prints each change as a line of JSON, until it is stopped.
pub(crate) fn watch(matches: &ArgMatches, setting: &Setting) -> anyhow::Result<()> {
    let client = setting.client()?;
    let since = matches.get_one::<String>("since").map(|since| since.parse::<u64>()).transpose();
    let query = json!({ "since": since.context("--since is a number")? });
    each_change(&client, &query, |change| {
        print::line(change.to_string());
        Ok(())
    })
}

/// Prints each event as it happens, until it is stopped.
pub(crate) fn follow(setting: &Setting) -> anyhow::Result<()> {
    let client = setting.client()?;
    let mut last = newest(&client, 1)?.first().map_or(0, number);
    each_change(&client, &json!({}), |change| {
        let is_event = field(change, "entity").starts_with("event-");
        if !is_event && field(change, "kind") != "reset" {
            return Ok(());
        }
        let mut events = newest(&client, EVENTS_MAX)?;
        events.retain(|event| number(event) > last);
        events.reverse();
        last = events.last().map_or(last, number);
        events.iter().for_each(|event| show(setting.format, event));
        Ok(())
    })
}

fn show(format: Format, event: &Value) {
    match format {
        Format::Json => print::line(event.to_string()),
        Format::Name => print::line(field(event, "kind")),
        Format::Table => print::line(print::row(columns::of("event_list"), event)),
    }
}

fn newest(client: &Client, limit: usize) -> anyhow::Result<Vec<Value>> {
    let query = json!({ "limit": limit });
    Ok(client.list(row("event_list"), &[], &query, Some(limit))?)
}

fn number(event: &Value) -> u64 {
    let digits = field(event, "id").rsplit('-').next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn each_change(
    client: &Client,
    query: &Value,
    mut on_change: impl FnMut(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (_, feed) = client.open(row("change_watch"), &[], query)?;
    each_message(feed, |text| {
        let change = serde_json::from_str(text).context("the feed is not understood")?;
        on_change(&change)
    })?;
    bail!("the feed of rack '{}' ended: see `racknest status`", client.name)
}

/// Server-sent events: `data:` lines, each message ended by an empty line.
fn each_message(
    feed: impl Read,
    mut on_message: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut message = String::new();
    for line in BufReader::new(feed).lines() {
        let Ok(line) = line else { return Ok(()) };
        match (line.strip_prefix("data:"), line.is_empty()) {
            (Some(text), _) => message.push_str(text.trim_start()),
            (None, true) if !message.is_empty() => on_message(&std::mem::take(&mut message))?,
            (None, _) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_from_comments_and_ids() {
        let feed = ": hello\n\nid: 7\ndata: {\"a\":1}\n\ndata: {\"b\":\ndata: 2}\n\n";
        let mut messages = vec![];
        each_message(feed.as_bytes(), |text| {
            messages.push(text.to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(messages, ["{\"a\":1}", "{\"b\":2}"]);
    }
}
