//! The REST client: one blocking call for each operation of the table in `racknest_api`.
//!
//! It trusts the certificate of its profile and no other, and passes no proxy: a rack is reached
//! directly. What the manager refuses comes back as its fault, whose line is for the user.

use std::io::{Cursor, Read};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use racknest_api::operation::{BodyForm, Nothing, Operation, OperationRow, escape, path};
use racknest_types::fault::{Fault, FaultCode};
use serde_json::{Map, Value};
use ureq::http::{Request, Response, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, SendBody};

use crate::profile::config::Profile;

/// How long a manager may take to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest JSON answer: a page of 10,000 VMs fits several times.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// A way to one rack.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    /// The name of its profile.
    pub(crate) name: String,
    /// How it is reached.
    pub(crate) profile: Profile,
}

/// Why an answer did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The manager refused, or failed.
    #[error("{0}")]
    Fault(Fault),
    /// There was no answer of the manager.
    #[error(
        "cannot reach rack '{name}' at {address} ({why}): if it is a box, start it with \
         `racknest up --name {name}`"
    )]
    Unreachable {
        /// The profile.
        name: String,
        /// Its address.
        address: String,
        /// What the system said.
        why: Box<ureq::Error>,
    },
    /// The answer was not what this version understands.
    #[error(
        "rack '{name}' answered what this racknest does not understand ({why}): use its version"
    )]
    Answer {
        /// The profile.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Client {
    /// A client for this profile. Nothing is sent yet.
    ///
    /// # Errors
    /// The profile's certificate cannot be read.
    pub(crate) fn new(name: &str, profile: &Profile) -> anyhow::Result<Self> {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::from(certificates(name, profile)?))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("racknest/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { agent, name: name.to_owned(), profile: profile.clone() })
    }

    /// Asks for an operation that takes nothing but what its path names.
    pub(crate) fn get<O>(&self, names: &[&str]) -> Result<O::Answer, CallError>
    where
        O: Operation<Query = Nothing, Body = Nothing>,
    {
        self.call::<O>(names, &Nothing {}, &Nothing {})
    }

    /// Asks for an operation with a body.
    pub(crate) fn send<O>(&self, names: &[&str], body: &O::Body) -> Result<O::Answer, CallError>
    where
        O: Operation<Query = Nothing>,
    {
        self.call::<O>(names, &Nothing {}, body)
    }

    /// Asks for an operation.
    pub(crate) fn call<O: Operation>(
        &self,
        names: &[&str],
        query: &O::Query,
        body: &O::Body,
    ) -> Result<O::Answer, CallError> {
        let json = |part: Result<Value, serde_json::Error>| {
            part.expect("queries and bodies have text keys")
        };
        let query = json(serde_json::to_value(query));
        let body = json(serde_json::to_value(body));
        let answer = self.ask(&OperationRow::of::<O>(), names, &query, &body)?;
        serde_json::from_value(answer).map_err(|error| self.not_understood(error.to_string()))
    }

    /// Reads all pages of a list; at most `limit` items.
    pub(crate) fn list(
        &self,
        row: &OperationRow,
        names: &[&str],
        query: &Value,
        limit: Option<usize>,
    ) -> Result<Vec<Value>, CallError> {
        let (mut query, mut items) = (query.clone(), vec![]);
        loop {
            let mut page = self.ask(row, names, &query, &Value::Null)?;
            let found = page["items"].take();
            items.append(&mut found.as_array().cloned().unwrap_or_default());
            let is_enough = limit.is_some_and(|limit| items.len() >= limit);
            if is_enough || page["next"].is_null() {
                items.truncate(limit.unwrap_or(usize::MAX));
                return Ok(items);
            }
            query["after"] = page["next"].take();
        }
    }

    /// Asks for a row of the table whose answer is JSON.
    pub(crate) fn ask(
        &self,
        row: &OperationRow,
        names: &[&str],
        query: &Value,
        body: &Value,
    ) -> Result<Value, CallError> {
        let body = match row.body {
            BodyForm::Json => body.to_string().into_bytes(),
            BodyForm::Absent | BodyForm::Octets => vec![],
        };
        let size = u64::try_from(body.len()).expect("a body in memory has a size that fits");
        let body = SendBody::from_owned_reader(Cursor::new(body));
        let mut answer = self.request(row, names, query, body, Some(size))?;
        let text = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| self.unreachable(error))?;
        if text.is_empty() {
            // An operation that answers nothing has an empty body, which is not JSON.
            return Ok(Value::Object(Map::new()));
        }
        serde_json::from_slice(&text).map_err(|error| self.not_understood(error.to_string()))
    }

    /// Asks for a row whose answer is not JSON: its length, if that is known, and its content.
    pub(crate) fn open(
        &self,
        row: &OperationRow,
        names: &[&str],
        query: &Value,
    ) -> Result<(Option<u64>, impl Read + use<>), CallError> {
        let answer = self.request(row, names, query, SendBody::none(), None)?;
        let body = answer.into_body();
        Ok((body.content_length(), body.into_reader()))
    }

    /// Sends the content of a file.
    pub(crate) fn upload(
        &self,
        row: &OperationRow,
        names: &[&str],
        query: &Value,
        size: u64,
        content: impl Read + 'static,
    ) -> Result<(), CallError> {
        let body = SendBody::from_owned_reader(content);
        self.request(row, names, query, body, Some(size)).map(drop)
    }

    fn request(
        &self,
        row: &OperationRow,
        names: &[&str],
        query: &Value,
        body: SendBody<'static>,
        size: Option<u64>,
    ) -> Result<Response<Body>, CallError> {
        let url = format!("{}{}{}", self.base(), path(row.path, names), query_text(query));
        let mut request = Request::builder().method(row.method.name()).uri(url);
        if let Some(token) = &self.profile.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request = match row.body {
            BodyForm::Json => request.header(header::CONTENT_TYPE, "application/json"),
            // A file that will be refused is not sent first: the manager is asked to go on.
            BodyForm::Octets => request
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::EXPECT, "100-continue"),
            BodyForm::Absent => request,
        };
        // A body of no bytes is none at all: a GET that announces one is refused on the way.
        let (body, size) = match (row.body, size) {
            (BodyForm::Absent, _) => (SendBody::none(), None),
            (BodyForm::Json | BodyForm::Octets, size) => (body, size),
        };
        if let Some(size) = size {
            request = request.header(header::CONTENT_LENGTH, size);
        }
        let request = request.body(body).map_err(|error| self.not_understood(error.to_string()))?;
        let answer = self.agent.run(request).map_err(|error| self.unreachable(error))?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer)) }
    }

    /// The address without a slash at its end.
    pub(crate) fn base(&self) -> &str {
        self.profile.address.trim_end_matches('/')
    }

    fn refusal(&self, mut answer: Response<Body>) -> CallError {
        let status = answer.status();
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        let Ok(mut fault) = serde_json::from_str::<Fault>(&text) else {
            return self.not_understood(format!("HTTP {status}"));
        };
        if status == StatusCode::UNAUTHORIZED && fault.code == FaultCode::NotAuthenticated {
            let name = &self.name;
            fault
                .message
                .push_str(&format!(": log in with `racknest session login --profile {name}`"));
        }
        CallError::Fault(fault)
    }

    fn unreachable(&self, error: ureq::Error) -> CallError {
        CallError::Unreachable {
            name: self.name.clone(),
            address: self.profile.address.clone(),
            why: Box::new(error),
        }
    }

    fn not_understood(&self, why: String) -> CallError {
        CallError::Answer { name: self.name.clone(), why }
    }
}

fn certificates(name: &str, profile: &Profile) -> anyhow::Result<Vec<Certificate<'static>>> {
    let mut certificates = vec![];
    for item in parse_pem(profile.certificate.as_bytes()) {
        match item.with_context(|| format!("profile '{name}': its certificate is no PEM"))? {
            PemItem::Certificate(certificate) => certificates.push(certificate),
            PemItem::PrivateKey(_) => {}
            _ => {}
        }
    }
    if certificates.is_empty() {
        return Err(anyhow!("profile '{name}': it has no certificate; add it again"));
    }
    Ok(certificates)
}

/// What follows the path: each field that is set, lists with commas.
fn query_text(query: &Value) -> String {
    let fields = query.as_object().into_iter().flatten();
    let pairs = fields.filter_map(|(key, value)| Some(format!("{key}={}", escape(&text(value)?))));
    let pairs = pairs.collect::<Vec<_>>().join("&");
    if pairs.is_empty() { pairs } else { format!("?{pairs}") }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => Some(items.iter().filter_map(text).collect::<Vec<_>>().join(",")),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => Some(value.to_string()),
    }
}
