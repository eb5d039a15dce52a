//! What an operation is: one row of the table that server, clients and documentation share.
//!
//! The manager mounts a route for each [`Operation`] with the types it names; a client builds its
//! request from the same constants; the OpenAPI document and the authorisation test walk the
//! [`OperationRow`]s. See decision 0006 for why this is a table and not a trait with a method each.
//!
//! **Invariant:** an operation's id is its CLI command with underscores (`vm_power_on` is
//! `racknest vm power-on`) and its operationId in OpenAPI; it never changes within `v1`.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// One thing that a client can ask the manager for.
pub trait Operation: 'static {
    /// Its name: `vm_power_on`.
    const ID: &'static str;
    /// The HTTP method.
    const METHOD: Method;
    /// The path; `{vm}` stands for an id or a name.
    const PATH: &'static str;
    /// One sentence on what it does.
    const SUMMARY: &'static str;
    /// Who may.
    const ACCESS: Access;
    /// How the request's body travels.
    const BODY: BodyForm;
    /// How the answer travels when all went well.
    const ANSWER: AnswerForm;
    /// What may follow the `?`; [`Nothing`] refuses all.
    type Query: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
    /// The body; [`Nothing`] where there is none, or where it is not JSON.
    type Body: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
    /// The answer, one message of it where it is a stream; [`Nothing`] where it is not JSON.
    type Answer: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
}

/// The HTTP methods that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Reads, and changes nothing.
    Get,
    /// Makes something, or sets something off.
    Post,
    /// Replaces a whole file.
    Put,
    /// Changes the fields that are named.
    Patch,
    /// Deletes.
    Delete,
}

impl Method {
    /// As HTTP writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// Who may ask for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody who reaches the port.
    Anonymous,
    /// Any user who is logged in; what they see of others is limited by the operation itself.
    Session,
    /// A user with this privilege, in vSphere's words, on the object that the path names, or on what
    /// a new object is put into.
    Privilege(&'static str),
}

/// How the body of a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyForm {
    /// There is none.
    Absent,
    /// JSON. No body at all means `{}`, for operations whose every field can be left out.
    Json,
    /// The content of a file, as it is.
    Octets,
}

/// How an answer travels when all went well. Anything else is a fault, see [`crate::fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerForm {
    /// 200 with JSON.
    Json,
    /// 201 with JSON: the object that was made.
    Created,
    /// 202 with JSON: the task that does it.
    Accepted,
    /// 204 with nothing.
    Empty,
    /// 200 with a PNG picture.
    Png,
    /// 200 with text.
    Text,
    /// 200, or 206 for a part, with the content of a file.
    Octets,
    /// 200 with server-sent events, each with JSON.
    Events,
    /// 101 and a WebSocket with binary messages.
    Socket,
}

impl AnswerForm {
    /// The status that says so.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Json | Self::Png | Self::Text | Self::Octets | Self::Events => 200,
            Self::Created => 201,
            Self::Accepted => 202,
            Self::Empty => 204,
            Self::Socket => 101,
        }
    }

    /// The media type of what follows.
    #[must_use]
    pub const fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Json | Self::Created | Self::Accepted => Some("application/json"),
            Self::Png => Some("image/png"),
            Self::Text => Some("text/plain"),
            Self::Octets => Some("application/octet-stream"),
            Self::Events => Some("text/event-stream"),
            Self::Empty | Self::Socket => None,
        }
    }
}

/// No fields: a query, body or answer that carries nothing. A field that is there is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The schemas of what an operation takes and answers.
#[derive(Clone, Debug)]
pub struct OperationSchemas {
    /// Of the query.
    pub query: Schema,
    /// Of the body.
    pub body: Schema,
    /// Of the answer.
    pub answer: Schema,
}

/// An [`Operation`] as a value, for those who walk the whole table.
#[derive(Clone, Copy, Debug)]
pub struct OperationRow {
    /// See [`Operation::ID`].
    pub id: &'static str,
    /// See [`Operation::METHOD`].
    pub method: Method,
    /// See [`Operation::PATH`].
    pub path: &'static str,
    /// See [`Operation::SUMMARY`].
    pub summary: &'static str,
    /// See [`Operation::ACCESS`].
    pub access: Access,
    /// See [`Operation::BODY`].
    pub body: BodyForm,
    /// See [`Operation::ANSWER`].
    pub answer: AnswerForm,
    /// Makes the schemas of its types.
    pub schemas: fn(&mut SchemaGenerator) -> OperationSchemas,
}

impl OperationRow {
    /// The row of this operation.
    #[must_use]
    pub const fn of<O: Operation>() -> Self {
        Self {
            id: O::ID,
            method: O::METHOD,
            path: O::PATH,
            summary: O::SUMMARY,
            access: O::ACCESS,
            body: O::BODY,
            answer: O::ANSWER,
            schemas: schemas::<O>,
        }
    }

    /// The kind of object it is about, which is the first word of its id and of its CLI command.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.id.split('_').next().unwrap_or(self.id)
    }

    /// The names in its path, in order: `["vm"]`.
    pub fn parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(parameter)
    }
}

fn schemas<O: Operation>(generator: &mut SchemaGenerator) -> OperationSchemas {
    OperationSchemas {
        query: generator.root_schema_for::<O::Query>(),
        body: generator.subschema_for::<O::Body>(),
        answer: generator.subschema_for::<O::Answer>(),
    }
}

fn parameter(segment: &'static str) -> Option<&'static str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

/// Puts values into the `{…}` of a path, in order, so that any name travels as one segment.
///
/// # Panics
/// There are not as many values as places: the caller names a wrong operation.
#[must_use]
pub fn path(template: &'static str, values: &[&str]) -> String {
    let mut rest = values.iter();
    let segments = template.split('/').map(|segment| match parameter(segment) {
        None => segment.to_owned(),
        Some(name) => escape(rest.next().unwrap_or_else(|| panic!("{template} needs {name}"))),
    });
    let path = segments.collect::<Vec<_>>().join("/");
    assert!(rest.next().is_none(), "{template} has no place for all of {values:?}");
    path
}

/// Percent-encodes all that RFC 3986 does not call unreserved.
#[must_use]
pub fn escape(text: &str) -> String {
    use std::fmt::Write as _;

    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("writing to a String succeeds");
        }
    }
    escaped
}

/// Writes a kind's operations as types that implement [`Operation`], and its part of the table.
///
/// ```text
/// operations! {
///     /// Powers on a VM.
///     VmPowerOn = "vm_power_on": Post "/api/v1/vms/{vm}/power-on",
///         access Privilege("VirtualMachine.Interact.PowerOn"),
///         answer Accepted(Task);
/// }
/// ```
///
/// `query TYPE,` and `body FORM(TYPE),` may stand before `answer`.
macro_rules! operations {
    ($(
        #[doc = $summary:literal]
        $name:ident = $id:literal: $method:ident $path:literal,
            access $access:expr,
            $(query $query:ty,)?
            $(body $body_form:ident($body:ty),)?
            answer $answer_form:ident($answer:ty);
    )*) => {
        $(
            #[doc = $summary]
            #[doc = ""]
            #[doc = concat!("`", stringify!($method), " ", $path, "`, `", $id, "`.")]
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl $crate::operation::Operation for $name {
                const ID: &'static str = $id;
                const METHOD: $crate::operation::Method = $crate::operation::Method::$method;
                const PATH: &'static str = $path;
                const SUMMARY: &'static str = $summary.trim_ascii();
                const ACCESS: $crate::operation::Access = {
                    #[expect(unused_imports, reason = "each row names the ones it needs")]
                    use $crate::operation::Access::{Anonymous, Privilege, Session};
                    $access
                };
                const BODY: $crate::operation::BodyForm =
                    $crate::operation::body_form!($($body_form)?);
                const ANSWER: $crate::operation::AnswerForm =
                    $crate::operation::AnswerForm::$answer_form;
                type Query = $crate::operation::or_nothing!($($query)?);
                type Body = $crate::operation::or_nothing!($($body)?);
                type Answer = $answer;
            }
        )*

        /// This kind's part of the table.
        pub(crate) const OPERATIONS: &[$crate::operation::OperationRow] =
            &[$($crate::operation::OperationRow::of::<$name>()),*];
    };
}

macro_rules! body_form {
    () => {
        $crate::operation::BodyForm::Absent
    };
    ($form:ident) => {
        $crate::operation::BodyForm::$form
    };
}

macro_rules! or_nothing {
    () => {
        $crate::operation::Nothing
    };
    ($type:ty) => {
        $type
    };
}

pub(crate) use {body_form, operations, or_nothing};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slash_stays_one_segment() {
        assert_eq!(path("/a/{b}/c/{d}", &["x/y?", "ü"]), "/a/x%2Fy%3F/c/%C3%BC");
    }

    #[test]
    #[should_panic(expected = "needs vm")]
    fn a_path_without_its_value_is_a_bug() {
        let _ = path("/vms/{vm}", &[]);
    }
}
