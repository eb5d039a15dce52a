//! The manager's door: HTTP over TLS, for people, programs and Prometheus.
//!
//! One port has everything: `/api/v1`, its description in `/openapi.json`, `/metrics`, and a page
//! at `/` that says what this is.
//!
//! **Who reads `/metrics` logs in like everybody else**, with a token in the `Authorization`
//! header. On a machine that many share, a port that answers to anyone on loopback answers to all
//! of them, and the names of VMs are not everybody's business. Prometheus has a setting for it.
//!
//! A client that dawdles costs a connection and no more: handshake, headers and the first request
//! have deadlines, bodies a size.

pub mod fault;
mod metrics;
mod unread;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::middleware::from_fn;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use axum_server::Handle;
use axum_server::accept::{TcpConfigAcceptor, TcpKeepaliveConfig, TcpSocketConfig};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use racknest_types::fault::Fault;

use self::fault::Refusal;
use crate::state::State;

/// The largest body of a request that is not a file.
const BODY_BYTES_MAX: usize = 1 << 20;

/// For the TLS handshake, the first request, the headers of every other, and a body that is left.
const PATIENCE: Duration = Duration::from_secs(15);

/// A client that vanished without a word is noticed after about two minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Why the port cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody has it.
    #[error(
        "{address} is in use by another program; stop it, or choose another address with --listen"
    )]
    InUse {
        /// The address.
        address: SocketAddr,
    },
    /// An ordinary user may not.
    #[error(
        "an ordinary user may not listen on {address}; choose a port from 1024 on with --listen"
    )]
    NotAllowed {
        /// The address.
        address: SocketAddr,
    },
    /// This machine does not have it.
    #[error("{address} is not an address of this machine; choose another with --listen")]
    NotOurs {
        /// The address.
        address: SocketAddr,
    },
    /// Something else.
    #[error("cannot listen on {address}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Listens, so that a port in use is known before anything else is begun.
pub(crate) fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let other = |source| ListenError::Other { address, source };
    let listener = TcpListener::bind(address).map_err(|source| {
        let kind = source.kind();
        if kind == io::ErrorKind::AddrInUse {
            ListenError::InUse { address }
        } else if kind == io::ErrorKind::PermissionDenied {
            ListenError::NotAllowed { address }
        } else if kind == io::ErrorKind::AddrNotAvailable {
            ListenError::NotOurs { address }
        } else {
            other(source)
        }
    })?;
    listener.set_nonblocking(true).map_err(other)?;
    Ok(listener)
}

/// Serves until the handle says to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    handle: Handle<SocketAddr>,
    state: State,
) -> io::Result<()> {
    let keepalive = TcpKeepaliveConfig::new().time(KEEPALIVE).interval(KEEPALIVE / 6);
    let socket = TcpSocketConfig::new().nodelay(true).keepalive(keepalive);
    let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(tls))
        .handshake_timeout(PATIENCE)
        .acceptor(TcpConfigAcceptor::new(socket));
    let mut server = axum_server::from_tcp(listener)?
        .acceptor(acceptor)
        .handle(handle)
        .first_request_timeout(PATIENCE)
        .accept_error_handler(|from, error| {
            tracing::debug!(?from, "a connection was not accepted: {error}");
        });
    server.http_builder().http1().header_read_timeout(PATIENCE);
    server
        .http_builder()
        .http2()
        // Without it a websocket (RFC 8441) cannot be opened over HTTP/2.
        .enable_connect_protocol()
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(PATIENCE);
    server.serve(router(state).into_make_service_with_connect_info::<SocketAddr>()).await
}

/// Everything the port answers to.
pub(crate) fn router(state: State) -> Router {
    Router::new()
        .route("/", get(front_page))
        .route("/openapi.json", get(openapi))
        .route("/metrics", get(metrics::metrics))
        .merge(crate::rest::router())
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(unread::read_the_rest))
        .with_state(state)
}

async fn front_page() -> impl IntoResponse {
    let mut headers = HeaderMap::new();
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    (headers, Html(include_str!("http/front_page.html").replace("VERSION", crate::VERSION)))
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], racknest_api::OPENAPI)
}

async fn nothing_here(uri: Uri) -> Refusal {
    Refusal(Fault::not_found(format!("'{}' (see /openapi.json for what does)", uri.path())))
}
