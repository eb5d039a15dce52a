//! Reads what a handler has left of a request's body, so that the connection stays good.
//!
//! Over HTTP/1 the next request follows the body of this one. Who refuses a request before its
//! body has arrived leaves the server nothing but to close the connection, and the client, which
//! keeps connections, learns of it by a request that nobody answers. So the answer waits for the
//! rest of the body, within bounds: behind a larger or slower rest the connection is closed.
//!
//! It is done in one place for every route: the handler gets the body on loan, and where it drops
//! it unread the rest comes back. HTTP/2 needs none of it, as requests do not follow one another.
//!
//! **Invariant:** a body is only read after its handler has answered, and never more than
//! [`BODY_BYTES_MAX`] of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::{Version, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::{Stream, StreamExt as _};
use tokio::sync::oneshot;

use super::{BODY_BYTES_MAX, PATIENCE};

/// Lets the handler answer, then reads what it has left of the body.
pub(super) async fn read_the_rest(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    // Who waits to be asked for the body has not sent it, and a reader would ask for it.
    let is_held_back = head.headers.contains_key(header::EXPECT);
    if body.is_end_stream() || is_held_back || head.version > Version::HTTP_11 {
        return next.run(Request::from_parts(head, body)).await;
    }
    let (back, mut returned) = oneshot::channel();
    let loan = Loan { body: Some(body.into_data_stream()), back: Some(back) };
    let response = next.run(Request::from_parts(head, Body::from_stream(loan))).await;
    // A handler that has handed the body on still reads it.
    if let Ok(rest) = returned.try_recv() {
        // What is not there in time is left, as before.
        let _ = tokio::time::timeout(PATIENCE, discard(rest)).await;
    }
    response
}

async fn discard(mut body: BodyDataStream) {
    let mut left = BODY_BYTES_MAX;
    while let Some(Ok(chunk)) = body.next().await {
        let Some(less) = left.checked_sub(chunk.len()) else { return };
        left = less;
    }
}

/// A body that goes back to its owner when its reader drops it.
struct Loan {
    body: Option<BodyDataStream>,
    back: Option<oneshot::Sender<BodyDataStream>>,
}

impl Stream for Loan {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_next(context),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // An owner who is gone does not want it.
            let _ = back.send(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::middleware::from_fn;
    use axum::routing::post;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;

    use super::*;

    /// A server that refuses everything without a look at the body, and says when it did.
    async fn refuse_all() -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
        let (say, refused) = mpsc::unbounded_channel();
        let refuse = move || async move {
            say.send(()).unwrap();
            StatusCode::FORBIDDEN
        };
        let router = Router::new().route("/", post(refuse)).layer(from_fn(read_the_rest));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (address, refused)
    }

    fn head(length: usize) -> String {
        format!("POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: {length}\r\n\r\n")
    }

    /// Reads one answer without a body; its first line.
    async fn answer(connection: &mut BufReader<TcpStream>) -> String {
        let mut lines = vec![];
        loop {
            let mut line = String::new();
            let count = connection.read_line(&mut line).await.unwrap();
            assert_ne!(count, 0, "the connection was closed after {lines:?}");
            if line == "\r\n" {
                return lines.swap_remove(0);
            }
            lines.push(line);
        }
    }

    #[tokio::test]
    async fn a_connection_outlives_a_request_refused_before_its_body_arrived() {
        let (address, mut refused) = refuse_all().await;
        let mut connection = BufReader::new(TcpStream::connect(address).await.unwrap());
        for _ in 0..3 {
            connection.write_all(format!("{}half", head(8)).as_bytes()).await.unwrap();
            // One thread runs both sides: the server has done all it can when this goes on.
            refused.recv().await.unwrap();
            connection.write_all(b"half").await.unwrap();
            assert_eq!(answer(&mut connection).await, "HTTP/1.1 403 Forbidden\r\n");
        }
    }

    #[tokio::test]
    async fn a_body_without_end_is_not_read_to_its_end() {
        let (address, mut refused) = refuse_all().await;
        let mut connection = BufReader::new(TcpStream::connect(address).await.unwrap());
        connection.write_all(head(usize::MAX / 2).as_bytes()).await.unwrap();
        refused.recv().await.unwrap();
        let chunk = vec![0; BODY_BYTES_MAX / 4];
        let mut sent = 0;
        while connection.write_all(&chunk).await.is_ok() {
            sent += chunk.len();
            assert!(sent < 64 * BODY_BYTES_MAX, "{sent} bytes of a refused body were taken");
        }
        // What the answer was cannot be said: a connection closed with bytes unread loses it.
        drop(connection.read_to_end(&mut vec![]).await);
    }

    #[tokio::test]
    async fn who_waits_to_be_asked_for_the_body_is_answered_without_it() {
        let (address, _refused) = refuse_all().await;
        let mut connection = BufReader::new(TcpStream::connect(address).await.unwrap());
        let head = head(8).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(answer(&mut connection).await, "HTTP/1.1 403 Forbidden\r\n");
    }
}
