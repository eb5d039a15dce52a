//! What the agent's loop waits for and may not have: each waits for ever where there is nothing.

use racknest_cluster::wire::ToHost;
use tokio::sync::watch;
use tokio::time::Interval;

use super::connection::Connection;
use super::{MESSAGES_PER_TURN, Running};
use crate::net::{Heard, Network};

/// Waits for what may not be there.
pub(super) async fn optional<T>(future: &mut Option<Running<T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The next messages of the manager, some at once; `None` when its connection ends.
pub(super) async fn messages(connection: Option<&mut Connection>) -> Option<Vec<ToHost>> {
    let Some(connection) = connection else { return std::future::pending().await };
    let mut messages = Vec::new();
    let count = connection.incoming.recv_many(&mut messages, MESSAGES_PER_TURN).await;
    (count > 0).then_some(messages)
}

/// The next tick of a timer, if there is one.
pub(super) async fn tick(timer: Option<&mut Interval>) {
    match timer {
        Some(timer) => {
            timer.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// The next value of what is watched, if it is.
pub(super) async fn news<T: Clone>(watched: Option<&mut watch::Receiver<T>>) -> T {
    let Some(watched) = watched else { return std::future::pending().await };
    match watched.changed().await {
        Ok(()) => watched.borrow_and_update().clone(),
        Err(_) => std::future::pending().await,
    }
}

/// The next address that a guest was heard to use.
pub(super) async fn heard(network: Option<&mut Network>) -> Heard {
    match network {
        Some(network) => network.heard().await,
        None => std::future::pending().await,
    }
}
