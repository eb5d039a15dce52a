//! What a verb takes: flags and arguments made from the schemas of its operation.
//!
//! Every field of a query or body becomes an argument: a required text stands by its place, all else
//! is a flag. A size is written with its unit, a list by repeating the flag, and the few fields that
//! are objects have a short form of their own ([`short_form`]). So the command line cannot lack a
//! field that the interface has.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow, bail};
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgAction, ArgMatches};
use racknest_api::operation::{Method, OperationRow};
use racknest_types::bytes::Bytes;
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::secret;

pub(crate) mod measure;
mod short_form;

/// Fields that the client fills by itself.
const HIDDEN: &[&str] = &["after", "limit", "ticket", "wait_seconds"];

/// Fields that nobody should write into a shell's history.
const SECRETS: &[&str] = &["password", "old", "new"];

/// Optional texts that stand by their place all the same: `racknest vm list 'web*'`.
const OPTIONAL_BY_PLACE: &[(&str, &str)] = &[
    ("datastore_browse", "path"),
    ("network_flows", "vm"),
    ("vm_wire_list", "vm"),
    ("network_export", "switch"),
    ("network_repair", "switch"),
    ("network_health", "switch"),
];

/// Fields that come from files.
const FROM_FILES: &[(&str, &str)] = &[("network_import", "file")];

/// What else stands by its place, though it is no text: `racknest drill start fail_host esx03`.
const BY_PLACE: &[(&str, &str)] = &[
    ("drill_start", "kind"),
    ("drill_start", "hosts"),
    ("drill_preview", "kind"),
    ("drill_preview", "hosts"),
    ("vm_power_on_group", "vms"),
    ("vm_clone_stack", "vms"),
    ("host_health", "health"),
    ("network_forward", "port"),
];

/// One field of a query or body.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// Where its value goes: the fields to it, outermost first.
    way: Vec<String>,
    /// The name of its argument.
    pub(crate) name: String,
    help: String,
    shape: Shape,
    is_required: bool,
    is_by_place: bool,
    in_query: bool,
}

/// How a value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    Secret,
    Number,
    /// Present or absent.
    Switch,
    /// `true` or `false`; absent is a third answer.
    YesOrNo,
    /// A size, sent in units of so many bytes.
    Size(u64),
    /// A time, sent in microseconds.
    Time,
    /// A part of a whole, sent in parts per million.
    Share,
    /// A rate, sent in bits a second.
    Rate,
    /// One of these words.
    Choice(Vec<String>),
    /// An object of this name, in its short form.
    Object(String),
    /// Several of something.
    Many(Box<Self>),
}

/// The fields of an operation's query and body.
pub(crate) fn inputs(row: &OperationRow) -> Vec<Input> {
    let mut generator = SchemaGenerator::default();
    let schemas = (row.schemas)(&mut generator);
    let mut definitions = Map::new();
    for schema in [schemas.query.as_value(), schemas.body.as_value()] {
        definitions.extend(schema["$defs"].as_object().cloned().unwrap_or_default());
    }
    definitions.extend(generator.take_definitions(false));
    let mut fields = Fields { row, definitions, inputs: vec![] };
    fields.read(schemas.query.as_value(), &[], true);
    fields.read(schemas.body.as_value(), &[], false);
    fields.inputs
}

struct Fields<'a> {
    row: &'a OperationRow,
    definitions: Map<String, Value>,
    inputs: Vec<Input>,
}

impl Fields<'_> {
    /// Adds the fields of an object that stands at `way`.
    fn read(&mut self, schema: &Value, way: &[String], in_query: bool) {
        let schema = self.resolved(schema).clone();
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = schema["properties"].as_object().cloned().unwrap_or_default();
        // Those that are required first and in their order, because they stand by their place.
        let optional = properties.keys().map(String::as_str).filter(|key| !required.contains(key));
        for key in required.iter().copied().chain(optional) {
            let is_hidden = in_query && HIDDEN.contains(&key);
            if is_hidden || FROM_FILES.contains(&(self.row.id, key)) {
                continue;
            }
            let mut way = way.to_vec();
            way.push(key.to_owned());
            let property = &properties[key];
            let is_known = self.type_name(property).is_some_and(short_form::is_known);
            if self.kind(property) == "object" && !is_known {
                self.read(property, &way, in_query);
            } else {
                self.push(key, property, way, required.contains(&key), in_query);
            }
        }
    }

    fn push(
        &mut self,
        key: &str,
        property: &Value,
        way: Vec<String>,
        is_required: bool,
        in_query: bool,
    ) {
        let shape = self.shape(key, property);
        let is_optional_by_place = OPTIONAL_BY_PLACE.contains(&(self.row.id, key))
            || (in_query && key == "name" && self.row.method == Method::Get);
        let is_by_place = (is_required && shape == Shape::Text)
            || is_optional_by_place
            || BY_PLACE.contains(&(self.row.id, key));
        self.inputs.push(Input {
            name: argument_name(&way, &shape),
            help: help(property),
            way,
            shape,
            is_required: is_required && !matches!(key, "privileges"),
            is_by_place,
            in_query,
        });
    }

    fn shape(&self, key: &str, property: &Value) -> Shape {
        let schema = self.without_null(property);
        if SECRETS.contains(&key) {
            return Shape::Secret;
        }
        if let Some(unit) = size_unit(key) {
            return Shape::Size(unit);
        }
        if let Some(shape) = measured_shape(key) {
            return shape;
        }
        match self.kind(schema) {
            "integer" => Shape::Number,
            "boolean" if schema["default"] == json!(true) || schema["type"].is_array() => {
                Shape::YesOrNo
            }
            "boolean" => Shape::Switch,
            "array" => Shape::Many(Box::new(self.shape("", &schema["items"]))),
            _ => match (self.choices(schema), self.type_name(schema)) {
                (Some(choices), _) => Shape::Choice(choices),
                (None, Some(name)) if short_form::is_known(name) => Shape::Object(name.to_owned()),
                (None, Some(_) | None) => Shape::Text,
            },
        }
    }

    /// What remains of a schema when `null` is not allowed.
    fn without_null<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let variants = schema["anyOf"].as_array().into_iter().flatten();
        variants.into_iter().find(|variant| variant["type"] != json!("null")).unwrap_or(schema)
    }

    fn kind<'a>(&'a self, schema: &'a Value) -> &'a str {
        let schema = self.without_null(schema);
        match &self.resolved(schema)["type"] {
            Value::String(kind) => kind,
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).next().unwrap_or(""),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "",
        }
    }

    fn choices(&self, schema: &Value) -> Option<Vec<String>> {
        let schema = self.resolved(schema);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if let Some(words) = schema["enum"].as_array() {
            return words.iter().map(text).collect();
        }
        schema["oneOf"].as_array()?.iter().map(|variant| text(&variant["const"])).collect()
    }

    fn type_name<'a>(&'a self, schema: &'a Value) -> Option<&'a str> {
        let reference = self.without_null(schema)["$ref"].as_str()?;
        reference.rsplit('/').next()
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        name.and_then(|name| self.definitions.get(name)).unwrap_or(schema)
    }
}

/// The bytes of one unit of a field that is a size.
fn size_unit(key: &str) -> Option<u64> {
    match key {
        _ if key.ends_with("_bytes") => Some(1),
        "memory_mib" => Some(1 << 20),
        _ => None,
    }
}

/// How a field is written whose name ends with its unit.
fn measured_shape(key: &str) -> Option<Shape> {
    match key {
        _ if key.ends_with("_us") => Some(Shape::Time),
        _ if key.ends_with("_ppm") => Some(Shape::Share),
        _ if key.ends_with("_bps") => Some(Shape::Rate),
        _ => None,
    }
}

/// `add_disks` is `--add-disk`, `memory_mib` is `--memory`, `cpu_mhz.limit` is `--cpu-limit`, and so is
/// `cpu_allocation.limit`.
fn argument_name(way: &[String], shape: &Shape) -> String {
    let mut parts: Vec<&str> = way.iter().map(String::as_str).collect();
    for part in &mut parts {
        for unit in ["_mib", "_bytes", "_us", "_ppm", "_bps", "_allocation"] {
            *part = part.strip_suffix(unit).unwrap_or(part);
        }
        // `cpu_mhz.limit` is a limit of the CPU; `core_mhz` by itself is a speed.
        *part =
            if part.starts_with("cpu_") { part.strip_suffix("_mhz").unwrap_or(part) } else { part };
    }
    let name = parts.join("-").replace('_', "-");
    match shape {
        // Addresses, and then anything else.
        Shape::Many(_) if name.ends_with("sses") => name.trim_end_matches("es").to_owned(),
        Shape::Many(_) => name.strip_suffix('s').unwrap_or(&name).to_owned(),
        Shape::Text
        | Shape::Secret
        | Shape::Number
        | Shape::Switch
        | Shape::YesOrNo
        | Shape::Size(_)
        | Shape::Time
        | Shape::Share
        | Shape::Rate
        | Shape::Choice(_)
        | Shape::Object(_) => name,
    }
}

fn help(property: &Value) -> String {
    let text = property["description"].as_str().unwrap_or_default();
    text.trim_end_matches('.').replace('\n', " ")
}

impl Input {
    /// Whether it stands by its place, so that only one object can be named before it.
    pub(crate) fn is_by_place(&self) -> bool {
        self.is_by_place
    }

    /// Whether it must stand at its place.
    pub(crate) fn is_required_by_place(&self) -> bool {
        self.is_by_place && self.is_required
    }

    /// Its argument.
    pub(crate) fn argument(&self) -> Arg {
        let argument = Arg::new(self.name.clone()).help(self.help());
        let argument = if self.is_by_place {
            argument.value_name(self.name.to_uppercase())
        } else {
            argument.long(self.name.clone()).value_name(self.value_name(&self.shape))
        };
        let argument = match &self.shape {
            Shape::Switch => argument.action(ArgAction::SetTrue),
            // A password is asked for: the flag says that there is one.
            Shape::Secret if self.is_required => argument.hide(true).action(ArgAction::SetTrue),
            Shape::Secret => argument.action(ArgAction::SetTrue),
            Shape::Choice(words) => {
                let words = words.iter().map(|word| {
                    let word = PossibleValue::new(word.clone());
                    let dashed = word.get_name().replace('_', "-");
                    word.alias(dashed)
                });
                let words = PossibleValuesParser::new(words);
                argument.value_parser(words).ignore_case(true).hide_possible_values(true)
            }
            Shape::YesOrNo => argument
                .value_parser(PossibleValuesParser::new(["true", "false"]))
                .hide_possible_values(true),
            Shape::Many(_) if self.is_by_place => argument.num_args(0..),
            Shape::Many(_) => argument.action(ArgAction::Append),
            Shape::Text
            | Shape::Number
            | Shape::Size(_)
            | Shape::Time
            | Shape::Share
            | Shape::Rate
            | Shape::Object(_) => argument,
        };
        argument.required(self.is_required && self.shape != Shape::Secret)
    }

    /// What its value is called in a usage line.
    fn value_name(&self, shape: &Shape) -> String {
        match shape {
            Shape::Number => "NUMBER".to_owned(),
            Shape::Size(_) => "SIZE".to_owned(),
            Shape::Time => "TIME".to_owned(),
            Shape::Share => "PERCENT".to_owned(),
            Shape::Rate => "RATE".to_owned(),
            Shape::Object(name) => short_form::value_name(name).to_owned(),
            Shape::Many(shape) => self.value_name(shape),
            Shape::Choice(words) => words.join("|"),
            Shape::YesOrNo => "true|false".to_owned(),
            Shape::Text | Shape::Secret | Shape::Switch => self.name.to_uppercase(),
        }
    }

    fn help(&self) -> String {
        let shape = if let Shape::Many(shape) = &self.shape { shape } else { &self.shape };
        match shape {
            Shape::Object(name) => format!("{}: {}", self.help, short_form::help(name)),
            Shape::Size(_) => format!("{}: as in 512MiB or 8GiB", self.help),
            Shape::Time => format!("{}: as in 50ms or 2s", self.help),
            Shape::Share => format!("{}: as in 2% or 0.5%", self.help),
            Shape::Rate => format!("{}: as in 10mbit or 512kbit", self.help),
            Shape::Secret => format!("{}; it is asked for", self.help),
            Shape::Text
            | Shape::Number
            | Shape::Switch
            | Shape::YesOrNo
            | Shape::Choice(_)
            | Shape::Many(_) => self.help.clone(),
        }
    }

    /// Its value as the command line says, if it says one.
    fn value(&self, matches: &ArgMatches) -> anyhow::Result<Option<Value>> {
        if let Shape::Many(shape) = &self.shape {
            let Some(texts) = matches.get_many::<String>(&self.name) else { return Ok(None) };
            let values = texts.map(|text| self.one(shape, text));
            return Ok(Some(Value::Array(values.collect::<anyhow::Result<_>>()?)));
        }
        if self.shape == Shape::Switch {
            return Ok(matches.get_flag(&self.name).then_some(Value::Bool(true)));
        }
        if self.shape == Shape::Secret {
            let is_meant = self.is_required || matches.get_flag(&self.name);
            return is_meant.then(|| secret::ask(&self.help).map(Value::String)).transpose();
        }
        let text = matches.get_one::<String>(&self.name);
        text.map(|text| self.one(&self.shape, text)).transpose()
    }

    fn measured(&self, text: &str, read: fn(&str) -> Option<u64>) -> anyhow::Result<Value> {
        let value = read(text).map(Value::from);
        value.ok_or_else(|| anyhow!("--{}: '{text}' cannot be; {}", self.name, self.help()))
    }

    fn one(&self, shape: &Shape, text: &str) -> anyhow::Result<Value> {
        match shape {
            Shape::Number => {
                let number = text.parse::<u64>();
                number
                    .map(Value::from)
                    .map_err(|_| anyhow!("--{}: '{text}' is no number", self.name))
            }
            Shape::YesOrNo => Ok(Value::Bool(text == "true")),
            Shape::Size(unit) => size(text, *unit).with_context(|| format!("--{}", self.name)),
            Shape::Time => self.measured(text, measure::micros),
            Shape::Share => self.measured(text, measure::ppm),
            Shape::Rate => self.measured(text, measure::bits_per_second),
            Shape::Object(name) => {
                short_form::parse(name, text).with_context(|| format!("--{}", self.name))
            }
            Shape::Choice(words) => {
                let word = text.to_lowercase();
                let underscored = word.replace('-', "_");
                let is_known = words.contains(&underscored);
                Ok(Value::String(if is_known { underscored } else { word }))
            }
            Shape::Text | Shape::Secret | Shape::Switch | Shape::Many(_) => {
                Ok(Value::String(text.to_owned()))
            }
        }
    }
}

/// An object of this name in its short form, as a deployment file has it too.
pub(crate) fn object(name: &str, text: &str) -> anyhow::Result<Value> {
    short_form::parse(name, text)
}

/// A size in units of so many bytes.
fn size(text: &str, unit: u64) -> anyhow::Result<Value> {
    let bytes: Bytes = text.parse()?;
    if !bytes.get().is_multiple_of(unit) {
        bail!("'{text}' is not whole {}", Bytes::new(unit));
    }
    Ok(Value::from(bytes.get() / unit))
}

/// The query and the body that the command line says.
pub(crate) fn read(inputs: &[Input], matches: &ArgMatches) -> anyhow::Result<(Value, Value)> {
    let mut trees: BTreeMap<bool, Value> = BTreeMap::from([(true, json!({})), (false, json!({}))]);
    for input in inputs {
        let Some(value) = input.value(matches)? else { continue };
        let mut place = trees.get_mut(&input.in_query).expect("both trees are there");
        for step in &input.way {
            place = &mut place[step.as_str()];
        }
        *place = value;
    }
    let query = trees.remove(&true).unwrap_or_default();
    Ok((query, trees.remove(&false).unwrap_or_default()))
}
