//! A mention of another object: its id, and its name so that nobody has to ask for it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The id and the name of an object. `I` is its kind's id, or `String` where it can be any kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference<I> {
    /// Its id, which tells its kind too (`vm-42`).
    pub id: I,
    /// Its name.
    pub name: String,
}

impl<I> JsonSchema for Reference<I> {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "A mention of another object.",
            "properties": {
                "id": { "type": "string", "description": "Its id, which tells its kind too." },
                "name": { "type": "string", "description": "Its name." }
            },
            "required": ["id", "name"]
        })
    }
}
