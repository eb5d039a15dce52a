//! How a fault travels: its JSON is `{"code", "message"}`, its HTTP status depends on the code.
//!
//! Programs match on the code; the status is there for proxies and for people with curl.

use racknest_types::fault::FaultCode;
use schemars::{Schema, SchemaGenerator, json_schema};

/// The HTTP status of a fault.
#[must_use]
pub const fn status(code: FaultCode) -> u16 {
    match code {
        FaultCode::InvalidArgument => 400,
        FaultCode::NotAuthenticated | FaultCode::InvalidLogin => 401,
        FaultCode::NoPermission => 403,
        FaultCode::NotFound => 404,
        FaultCode::DuplicateName
        | FaultCode::InvalidState
        | FaultCode::InvalidPowerState
        | FaultCode::ResourceInUse
        | FaultCode::TaskInProgress
        | FaultCode::InsufficientResources
        | FaultCode::RequestCanceled => 409,
        FaultCode::SystemError => 500,
        FaultCode::NotSupported => 501,
        FaultCode::HostNotConnected | FaultCode::InaccessibleDatastore => 503,
        FaultCode::Timedout => 504,
        FaultCode::NoDiskSpace => 507,
    }
}

/// The schema of `racknest_types::fault::Fault`, which is pure and cannot derive it.
pub(crate) fn schema(generator: &mut SchemaGenerator) -> Schema {
    let codes: Vec<&str> = FaultCode::ALL.iter().map(|code| code.name()).collect();
    let reference = "Fault";
    if !generator.definitions().contains_key(reference) {
        let definition = json_schema!({
            "type": "object",
            "description": "Why something was not done.",
            "properties": {
                "code": { "type": "string", "enum": codes, "description": "What programs match on." },
                "message": {
                    "type": "string",
                    "description": "One line for people: names the object, says what to do."
                }
            },
            "required": ["code", "message"]
        });
        generator.definitions_mut().insert(reference.to_owned(), definition.into());
    }
    Schema::new_ref(format!("#/components/schemas/{reference}"))
}

/// The schema of a fault that may be absent.
pub(crate) fn optional_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [schema(generator), { "type": "null" }] })
}
