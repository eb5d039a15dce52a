//! From the table to axum: a route for each operation, held to its types.

use std::future::Future;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, on};
use racknest_api::operation::{AnswerForm, Method, Operation};
use racknest_types::fault::Fault;

use super::call::Call;
use crate::http::fault::Refusal;
use crate::state::State;

/// The routes made so far.
#[derive(Debug, Default)]
pub(super) struct Routes {
    router: Router<State>,
    ids: Vec<&'static str>,
}

impl Routes {
    /// Mounts an operation that takes and answers JSON, or nothing.
    pub(super) fn on<O, F>(self, handler: fn(Call<O>) -> F) -> Self
    where
        O: Operation,
        O::Query: Send,
        F: Future<Output = Result<O::Answer, Fault>> + Send + 'static,
    {
        let serve = move |Shared(state): Shared<State>, request: Request| async move {
            let call = Call::receive(state, request).await.map_err(Refusal)?;
            let answer = handler(call).await.map_err(Refusal)?;
            Ok::<Response, Refusal>(as_response::<O>(answer))
        };
        self.mount::<O, _, _>(serve)
    }

    /// Mounts an operation whose body or answer is a stream, and which reads the request itself.
    pub(super) fn on_request<O, F>(self, handler: fn(State, Request) -> F) -> Self
    where
        O: Operation,
        F: Future<Output = Result<Response, Fault>> + Send + 'static,
    {
        let serve = move |Shared(state): Shared<State>, request: Request| async move {
            handler(state, request).await.map_err(Refusal)
        };
        self.mount::<O, _, _>(serve)
    }

    fn mount<O, H, T>(mut self, serve: H) -> Self
    where
        O: Operation,
        H: axum::handler::Handler<T, State>,
        T: 'static,
    {
        self.ids.push(O::ID);
        self.router = self.router.route(O::PATH, on(filter(O::METHOD), serve));
        self
    }

    /// The ids of what has a route.
    #[cfg(test)]
    pub(super) fn ids(&self) -> &[&'static str] {
        &self.ids
    }

    /// All of them.
    pub(super) fn into_router(self) -> Router<State> {
        self.router
    }
}

const fn filter(method: Method) -> MethodFilter {
    match method {
        Method::Get => MethodFilter::GET,
        Method::Post => MethodFilter::POST,
        Method::Put => MethodFilter::PUT,
        Method::Patch => MethodFilter::PATCH,
        Method::Delete => MethodFilter::DELETE,
    }
}

fn as_response<O: Operation>(answer: O::Answer) -> Response {
    let status = StatusCode::from_u16(O::ANSWER.status()).expect("the table has real statuses");
    match O::ANSWER {
        AnswerForm::Json | AnswerForm::Created | AnswerForm::Accepted => {
            (status, Json(answer)).into_response()
        }
        AnswerForm::Empty => status.into_response(),
        AnswerForm::Png
        | AnswerForm::Text
        | AnswerForm::Octets
        | AnswerForm::Events
        | AnswerForm::Socket => unreachable!("{} makes its response itself", O::ID),
    }
}
