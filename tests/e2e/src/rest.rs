//! REST as a program speaks it: the operations table over TLS, trusting the lab's certificate only.

use std::sync::Arc;
use std::time::Duration;

use racknest_api::operation::{BodyForm, Nothing, Operation, escape, path};
use racknest_api::v1::session::{Login, SessionLogin};
use racknest_api::v1::task::{Task, TaskShow, TaskState, TaskWait};
use racknest_api::v1::vm::{Vm, VmFilter, VmList, VmShow};
use racknest_types::fault::{Fault, FaultCode};
use serde_json::Value;
use ureq::Agent;
use ureq::http::Request;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::wait::{self, LONG};

/// How long one answer may take: the longest wait for a task, and then some.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// A way to a manager, with or without somebody logged in.
#[derive(Clone, Debug)]
pub struct Rest {
    agent: Agent,
    address: String,
    token: Option<String>,
}

/// Why an operation was not done.
#[derive(Debug)]
pub enum Refusal {
    /// The manager said no, with this status.
    Fault(u16, Fault),
    /// Nobody answered, or not to the end.
    Silence(String),
}

impl Refusal {
    /// The code of the manager's fault.
    #[must_use]
    pub const fn code(&self) -> Option<FaultCode> {
        match self {
            Self::Fault(_, fault) => Some(fault.code),
            Self::Silence(_) => None,
        }
    }
}

impl Rest {
    /// The manager at this address, whose certificate comes from this one (PEM).
    ///
    /// # Panics
    /// The certificate is none.
    #[must_use]
    pub fn new(address: &str, certificate: &str, token: Option<String>) -> Self {
        let items = parse_pem(certificate.as_bytes()).map(|item| item.expect("PEM is well-formed"));
        let certificates: Vec<Certificate<'static>> = items
            .filter_map(|item| match item {
                PemItem::Certificate(certificate) => Some(certificate),
                PemItem::PrivateKey(_) | _ => None,
            })
            .collect();
        assert!(!certificates.is_empty(), "a profile has its rack's certificate");
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::from(certificates))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build()
            .new_agent();
        Self { agent, address: address.trim_end_matches('/').to_owned(), token }
    }

    /// The same manager with connections of its own, as another program has.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { agent: self.agent.config().clone().new_agent(), ..self.clone() }
    }

    /// The same manager with another token, or none.
    #[must_use]
    pub fn with_token(&self, token: Option<String>) -> Self {
        Self { token, ..self.clone() }
    }

    /// Logs in.
    ///
    /// # Errors
    /// The name or password is wrong.
    pub fn login(&self, user: &str, password: &str) -> Result<Self, Refusal> {
        let login = Login { user: user.to_owned(), password: password.to_owned() };
        let ticket = self.with_token(None).send::<SessionLogin>(&[], &login)?;
        Ok(self.with_token(Some(ticket.token)))
    }

    /// An operation that takes nothing but what its path names.
    ///
    /// # Errors
    /// It was refused, or nobody answered.
    pub fn get<O>(&self, names: &[&str]) -> Result<O::Answer, Refusal>
    where
        O: Operation<Query = Nothing, Body = Nothing>,
    {
        self.call::<O>(names, &Nothing {}, &Nothing {})
    }

    /// An operation with a body.
    ///
    /// # Errors
    /// It was refused, or nobody answered.
    pub fn send<O: Operation<Query = Nothing>>(
        &self,
        names: &[&str],
        body: &O::Body,
    ) -> Result<O::Answer, Refusal> {
        self.call::<O>(names, &Nothing {}, body)
    }

    /// Any operation whose answer is JSON.
    ///
    /// # Errors
    /// It was refused, or nobody answered.
    ///
    /// # Panics
    /// The answer is not what the table says.
    pub fn call<O: Operation>(
        &self,
        names: &[&str],
        query: &O::Query,
        body: &O::Body,
    ) -> Result<O::Answer, Refusal> {
        let json = |part: Result<Value, _>| part.expect("what is sent has text keys");
        let path =
            format!("{}{}", path(O::PATH, names), query_text(&json(serde_json::to_value(query))));
        let body = match O::BODY {
            BodyForm::Json => Some(json(serde_json::to_value(body)).to_string()),
            BodyForm::Absent | BodyForm::Octets => None,
        };
        let (_, bytes) = self.ask(O::METHOD.name(), &path, body)?;
        let bytes = if bytes.is_empty() { b"{}".to_vec() } else { bytes };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            panic!("{}: {error}: {}", O::ID, String::from_utf8_lossy(&bytes))
        }))
    }

    /// Any request: the status and the body of its answer, if that is a success.
    ///
    /// # Errors
    /// It was refused, or nobody answered.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<(u16, Vec<u8>), Refusal> {
        let silence =
            |why: &dyn std::fmt::Display| Refusal::Silence(format!("{method} {path}: {why}"));
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json").body(body);
                self.agent.run(request.map_err(|error| silence(&error))?)
            }
            None => self.agent.run(request.body(()).map_err(|error| silence(&error))?),
        };
        let mut answer = answer.map_err(|error| silence(&error))?;
        let status = answer.status();
        let body = answer.body_mut().with_config().limit(1 << 30).read_to_vec();
        let body = body.map_err(|error| silence(&error))?;
        if status.is_success() {
            return Ok((status.as_u16(), body));
        }
        Err(serde_json::from_slice(&body).map_or_else(
            |_| silence(&format!("HTTP {status} {}", String::from_utf8_lossy(&body))),
            |fault| Refusal::Fault(status.as_u16(), fault),
        ))
    }

    /// Every VM and template that fits the filter.
    ///
    /// # Errors
    /// It was refused, or nobody answered.
    pub fn vms(&self, filter: &VmFilter) -> Result<Vec<Vm>, Refusal> {
        let (mut filter, mut vms) = (filter.clone(), vec![]);
        loop {
            let page = self.call::<VmList>(&[], &filter, &Nothing {})?;
            vms.extend(page.items);
            match page.next {
                Some(next) => filter.after = Some(next),
                None => return Ok(vms),
            }
        }
    }

    /// One VM.
    ///
    /// # Panics
    /// It is not there.
    #[must_use]
    pub fn vm(&self, name: &str) -> Vm {
        self.get::<VmShow>(&[name]).unwrap_or_else(|why| panic!("{name}: {why:?}"))
    }

    /// Waits for a task; how it ended.
    ///
    /// # Panics
    /// It did not end in time, or nobody answered for as long.
    #[must_use]
    pub fn outcome(&self, task: &Task) -> Task {
        let id = task.id.to_string();
        let wait = TaskWait { wait_seconds: Some(5) };
        wait::until_some(&format!("{} {id} ends", task.operation), LONG, || {
            let task = self.call::<TaskShow>(&[&id], &wait, &Nothing {}).ok()?;
            (task.state != TaskState::Running).then_some(task)
        })
    }

    /// Waits for a task that goes well.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn succeeds(&self, task: Result<Task, Refusal>) -> Task {
        let task = self.outcome(&task.unwrap_or_else(|why| panic!("refused: {why:?}")));
        assert_eq!(task.state, TaskState::Success, "{task:?}");
        task
    }
}

fn query_text(query: &Value) -> String {
    let fields = query.as_object().into_iter().flatten();
    let pairs = fields.filter_map(|(key, value)| match value {
        Value::Null => None,
        Value::String(text) => Some(format!("{key}={}", escape(text))),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Some(format!("{key}={}", escape(&value.to_string())))
        }
    });
    let pairs = pairs.collect::<Vec<_>>().join("&");
    if pairs.is_empty() { pairs } else { format!("?{pairs}") }
}
