//! The OpenAPI 3.1 document, made from the table of operations.
//!
//! `cargo xtask gen` writes it to `openapi.json`, which is committed so that a change of the
//! interface shows in review; a test fails when the two differ.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::operation::{Access, AnswerForm, BodyForm, OperationRow, OperationSchemas};
use crate::{fault, operations};

/// Makes the document.
#[must_use]
pub fn document() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = SchemaGenerator::new(settings);
    let error = fault::schema(&mut generator).to_value();
    let mut paths: Map<String, Value> = Map::new();
    for row in operations() {
        let schemas = (row.schemas)(&mut generator);
        let needs_body = has_required(&schemas.body, &generator);
        let item = paths.entry(row.path).or_insert_with(|| json!({}));
        item[row.method.name().to_lowercase()] = operation(row, schemas, needs_body, &error);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "racknest",
            "version": "1",
            "description": "A data centre in a box: the REST interface of its manager.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" }
        },
        "servers": [{ "url": "/" }],
        "security": [{ "session": [] }],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "session": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token that session_login or token_create answered."
                }
            }
        }
    })
}

fn operation(
    row: &OperationRow,
    schemas: OperationSchemas,
    needs_body: bool,
    error: &Value,
) -> Value {
    let mut operation = json!({
        "operationId": row.id,
        "summary": row.summary,
        "tags": [row.kind()],
        "parameters": parameters(row, &schemas),
        "responses": {
            row.answer.status().to_string(): answer(row.answer, &schemas),
            "default": {
                "description": "It was not done.",
                "content": { "application/json": { "schema": error } }
            }
        }
    });
    match row.access {
        Access::Anonymous => operation["security"] = json!([]),
        Access::Session => {}
        Access::Privilege(name) => operation["x-racknest-privilege"] = json!(name),
    }
    match row.body {
        BodyForm::Absent => {}
        BodyForm::Json => {
            operation["requestBody"] =
                body(needs_body, "application/json", schemas.body.to_value());
        }
        BodyForm::Octets => {
            operation["requestBody"] = body(true, "application/octet-stream", json!({}));
        }
    }
    operation
}

/// Whether a body must have some field: a body that need not have any need not be there either.
fn has_required(schema: &Schema, generator: &SchemaGenerator) -> bool {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let definition = name.and_then(|name| generator.definitions().get(name));
    definition.is_some_and(|definition| definition.get("required").is_some())
}

fn body(required: bool, media_type: &str, schema: Value) -> Value {
    json!({ "required": required, "content": { media_type: { "schema": schema } } })
}

fn answer(form: AnswerForm, schemas: &OperationSchemas) -> Value {
    let description = match form {
        AnswerForm::Json => "What was asked for.",
        AnswerForm::Created => "What was made.",
        AnswerForm::Accepted => "The task that does it.",
        AnswerForm::Empty => "It is done.",
        AnswerForm::Png => "A picture.",
        AnswerForm::Text => "Text.",
        AnswerForm::Octets => "The content; 206 where a `Range` header named a part.",
        AnswerForm::Events => "Server-sent events; the schema is that of each one's data.",
        AnswerForm::Socket => "A WebSocket with binary messages.",
    };
    let schema = match form {
        AnswerForm::Json | AnswerForm::Created | AnswerForm::Accepted | AnswerForm::Events => {
            schemas.answer.as_value().clone()
        }
        AnswerForm::Empty | AnswerForm::Socket => json!({}),
        AnswerForm::Png | AnswerForm::Octets => json!({}),
        AnswerForm::Text => json!({ "type": "string" }),
    };
    let mut answer = json!({ "description": description });
    if let Some(media_type) = form.media_type() {
        answer["content"] = json!({ media_type: { "schema": schema } });
    }
    answer
}

fn parameters(row: &OperationRow, schemas: &OperationSchemas) -> Vec<Value> {
    let in_path = row.parameters().map(|name| {
        json!({
            "name": name,
            "in": "path",
            "required": true,
            "description": format!("The {name}: its id or its name."),
            "schema": { "type": "string" }
        })
    });
    in_path.chain(query_parameters(schemas.query.as_value())).collect()
}

/// A query is a struct of scalars, each field of which is a parameter of its own.
fn query_parameters(schema: &Value) -> Vec<Value> {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let Some(properties) = schema["properties"].as_object() else { return vec![] };
    let parameter = |(name, property): (&String, &Value)| {
        let mut property = property.clone();
        let description = property.as_object_mut().and_then(|fields| fields.remove("description"));
        let mut parameter = json!({
            "name": name,
            "in": "query",
            "required": required.contains(&json!(name)),
            "schema": property
        });
        if let Some(description) = description {
            parameter["description"] = description;
        }
        parameter
    };
    properties.iter().map(parameter).collect()
}
