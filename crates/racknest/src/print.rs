//! Everything that a user reads: lines, tables, JSON, errors, progress.
//!
//! Results go to stdout, so that they can be piped; what is said on the way (progress, notes,
//! errors) goes to stderr. A reader that stops reading (`racknest vm list | head`) ends the program
//! quietly.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::clock::Stopwatch;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table for people.
    #[default]
    Table,
    /// JSON, as the manager answered it.
    Json,
    /// Names alone, one a line.
    Name,
}

/// A column of a table: its title and where in the JSON of an item its value stands.
///
/// The path has its steps separated by dots; `a|b` takes the first that is there. After a colon
/// stands how the value is shown: see [`shown`].
pub(crate) type Column = (&'static str, &'static str);

/// One line of a result.
pub(crate) fn line(text: impl AsRef<str>) {
    let mut out = io::stdout().lock();
    end_if_unread(writeln!(out, "{}", text.as_ref()));
}

/// Bytes of a result, as they are.
pub(crate) fn bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    end_if_unread(out.write_all(bytes).and_then(|()| out.flush()));
}

/// What is worth knowing beside the result.
pub(crate) fn note(text: impl AsRef<str>) {
    // Nobody is left to be told when stderr cannot be written.
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// Why the command was not carried out, in one line.
pub(crate) fn error(error: &anyhow::Error) {
    let text = format!("{error:#}");
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    note(format!("racknest: {one_line}"));
}

#[expect(clippy::exit, reason = "as the shell's own commands end when their reader has gone")]
fn end_if_unread(written: io::Result<()>) {
    if written.is_err() {
        std::process::exit(0);
    }
}

/// JSON with one field a line.
pub(crate) fn json(value: &Value) {
    line(serde_json::to_string_pretty(value).expect("a JSON value can be written"));
}

/// A list in the format that was asked for.
pub(crate) fn list(format: Format, columns: &[Column], items: &[Value]) {
    match format {
        Format::Json => json(&Value::Array(items.to_vec())),
        Format::Name => items.iter().for_each(|item| line(name_of(item))),
        Format::Table if items.is_empty() => note("nothing to list"),
        Format::Table => {
            let rows = items.iter().map(|item| columns.iter().map(|column| cell(item, column.1)));
            table(&columns.iter().map(|column| column.0).collect::<Vec<_>>(), rows);
        }
    }
}

/// One item as a line of its columns, for lists that grow.
pub(crate) fn row(columns: &[Column], item: &Value) -> String {
    let cells = columns.iter().map(|column| cell(item, column.1)).filter(|cell| !cell.is_empty());
    cells.collect::<Vec<_>>().join("  ")
}

/// One object in the format that was asked for: as a table, each field with its value below the
/// other.
pub(crate) fn object(format: Format, item: &Value) {
    match format {
        Format::Json => json(item),
        Format::Name => line(name_of(item)),
        Format::Table => {
            let mut lines = vec![];
            flatten(item, "", &mut lines);
            // Which one it is, before what it is like.
            lines.sort_by_key(|(key, _)| (key != "name", key != "id"));
            let width = lines.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
            for (key, value) in lines {
                line(format!("{key:<width$}  {value}").trim_end());
            }
        }
    }
}

/// A table without lines, as wide as the terminal.
pub(crate) fn table<Row: IntoIterator<Item = String>>(
    titles: &[&str],
    rows: impl IntoIterator<Item = Row>,
) {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(titles.to_vec());
    table.add_rows(rows.into_iter().map(|row| row.into_iter().collect::<Vec<_>>()));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    for text in table.lines() {
        line(text.trim_end());
    }
}

/// What each thing is, one a line.
pub(crate) fn pairs_table(rows: &[(&str, String)]) {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        line(format!("{name:<width$}  {value}"));
    }
}

fn name_of(item: &Value) -> String {
    ["name", "id", "path"].iter().find_map(|key| item.get(key)).map(shown).unwrap_or_default()
}

/// The value of a column in an item.
fn cell(item: &Value, path: &str) -> String {
    let (paths, form) = path.split_once(':').unwrap_or((path, ""));
    let value = paths.split('|').map(|path| at(item, path)).find(|value| !value.is_null());
    value.map_or_else(String::new, |value| formed(value, form))
}

fn at<'a>(item: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(item, |value, step| &value[step])
}

/// A value as the form says: `bytes`, `mib`, `permille`, `percent`, `count` of a list, `pairs` of an
/// object, `time` by the clock on the wall.
fn formed(value: &Value, form: &str) -> String {
    let number = value.as_u64();
    match (form, number) {
        ("bytes", Some(bytes)) => racknest_types::bytes::Bytes::new(bytes).to_string(),
        ("mib", Some(mib)) => racknest_types::bytes::Bytes::from_mib(mib).to_string(),
        ("permille", Some(permille)) => format!("{}.{} %", permille / 10, permille % 10),
        ("percent", Some(percent)) => format!("{percent} %"),
        ("count", None) => value.as_array().map_or(0, Vec::len).to_string(),
        ("pairs", None) => pairs(value),
        ("time", None) => value.as_str().map(local_time).unwrap_or_default(),
        (_, Some(_) | None) => shown(value),
    }
}

/// A value in a few words.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => match (fields.get("name"), fields.get("message")) {
            (Some(name), _) => shown(name),
            (None, Some(message)) => shown(message),
            (None, None) => value.to_string(),
        },
    }
}

/// The fields of an object in one line.
fn pairs(value: &Value) -> String {
    let fields = value.as_object().into_iter().flatten();
    fields.map(|(key, value)| format!("{key}={}", shown(value))).collect::<Vec<_>>().join(" ")
}

/// A point in time (RFC 3339) by the clock on the wall.
fn local_time(text: &str) -> String {
    let Ok(time) = text.parse::<jiff::Timestamp>() else { return text.to_owned() };
    time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The fields of an object, each with the way to it; mentions of objects as their names.
fn flatten(value: &Value, way: &str, lines: &mut Vec<(String, String)>) {
    let deeper = |step: &str| match way {
        "" => step.to_owned(),
        _ => format!("{way}.{step}"),
    };
    match value {
        Value::Object(fields) if is_mention(value) => {
            lines.push((way.to_owned(), fields.get("name").map(shown).unwrap_or_default()));
        }
        Value::Object(fields) if way == "allowed_actions" => {
            let allowed = fields.iter().filter(|(_, action)| action["allowed"] == true);
            let allowed = allowed.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
            lines.push((way.to_owned(), allowed));
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                flatten(field, &deeper(key), lines);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() && !is_mention(item)) => {
            for (place, item) in items.iter().enumerate() {
                flatten(item, &deeper(&place.to_string()), lines);
            }
        }
        Value::Null => {}
        Value::Number(_) if way.ends_with("_bytes") => {
            lines.push((way.trim_end_matches("_bytes").to_owned(), formed(value, "bytes")));
        }
        Value::Number(_) if way.ends_with("_mib") => {
            lines.push((way.trim_end_matches("_mib").to_owned(), formed(value, "mib")));
        }
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            lines.push((way.to_owned(), shown(value)));
        }
    }
}

fn is_mention(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| {
        fields.len() == 2 && fields.contains_key("id") && fields.contains_key("name")
    })
}

/// A bar for work of known length, on a terminal; elsewhere one line when it is done.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    label: String,
    clock: Stopwatch,
}

impl Progress {
    /// A bar up to `length`.
    pub(crate) fn start(label: impl Into<String>, length: u64) -> Self {
        let label = label.into();
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg}  [{bar:30}] {pos}/{len} {elapsed}")
                .expect("the template is a constant that is right")
                .progress_chars("=> ");
            let bar = ProgressBar::new(length).with_style(style).with_message(label.clone());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, label, clock: Stopwatch::start() }
    }

    /// So much is done.
    pub(crate) fn set(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// It is over and came to nothing: the error that follows says why.
    pub(crate) fn give_up(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// It is over; the line that remains says what came of it.
    pub(crate) fn finish(self, outcome: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.clock.elapsed().as_secs_f64();
        note(format!("{}: {outcome} ({seconds:.1} s)", self.label));
    }
}

/// Whether what is printed goes to a screen.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person sits in front of both ends, so that a question can be asked.
pub(crate) fn is_conversation() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question that is answered with yes or no; anything but yes is no.
pub(crate) fn confirm(question: &str) -> bool {
    let _ = write!(io::stderr().lock(), "{question} [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cell_is_found_by_its_way_and_shown_in_its_form() {
        let item = json!({
            "name": "vm01", "host": {"id": "host-1", "name": "esx01"}, "memory_mib": 512,
            "disks": [1, 2], "used_bytes": 1536, "load": 125, "on": true, "none": null,
        });
        for (path, expected) in [
            ("name", "vm01"),
            ("host", "esx01"),
            ("host.id", "host-1"),
            ("memory_mib:mib", "512 MiB"),
            ("disks:count", "2"),
            ("used_bytes:bytes", "1.5 KiB"),
            ("load:permille", "12.5 %"),
            ("on", "yes"),
            ("none|name", "vm01"),
            ("absent.too", ""),
        ] {
            assert_eq!(cell(&item, path), expected, "{path}");
        }
    }

    #[test]
    fn an_object_is_shown_field_by_field() {
        let item = json!({
            "name": "vm01", "host": {"id": "host-1", "name": "esx01"},
            "disks": [{"key": 1}], "tags": ["a", "b"], "pool": null,
        });
        let mut lines = vec![];
        flatten(&item, "", &mut lines);
        let lines: Vec<String> =
            lines.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(lines, ["disks.0.key=1", "host=esx01", "name=vm01", "tags=a, b"]);
    }
}
