//! The change feed as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::Request;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use futures::stream::{self, Stream};
use racknest_api::v1::change::{Change, ChangeKind, ChangeWatch};
use racknest_cluster::inventory::{Change as Published, ChangeKind as PublishedKind};
use racknest_cluster::record::entity::EntityRef;
use racknest_types::fault::Fault;

use super::call::{Call, caller};
use super::routes::Routes;
use super::task;
use crate::core::feed::{MissedChanges, Watcher};

/// From one sign of life to the next, so that a proxy does not take a quiet box for a dead one.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The header with which a browser that lost its connection says what it has seen.
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) fn mount(routes: Routes) -> Routes {
    routes.on_request::<ChangeWatch, _>(watch)
}

async fn watch(state: crate::state::State, request: Request) -> Result<Response, Fault> {
    let (mut parts, _) = request.into_parts();
    let caller = caller(&mut parts, &state).await?;
    let last_seen = match parts.headers.get(LAST_EVENT_ID) {
        Some(value) => Some(
            value
                .to_str()
                .ok()
                .and_then(|it| it.parse().ok())
                .ok_or_else(|| Fault::invalid("Last-Event-ID is the number of a change"))?,
        ),
        None => None,
    };
    let call = Call::<ChangeWatch>::receive_head(state, &mut parts, caller).await?;
    let feed = call.state.core.feed();
    let watcher = match last_seen.or(call.query.since) {
        Some(seen) => feed.watch_after(seen),
        None => feed.watch(),
    };
    let events = changes(call, watcher).map(|change| Ok::<_, Infallible>(event(&change)));
    let keepalive = KeepAlive::new().interval(KEEPALIVE);
    Ok(Sse::new(events).keep_alive(keepalive).into_response())
}

fn event(change: &Change) -> Event {
    let event = Event::default().id(change.number.to_string());
    event.json_data(change).expect("a change has string keys")
}

/// What the caller may see of what changes, until the manager stops.
fn changes(call: Call<ChangeWatch>, watcher: Watcher) -> impl Stream<Item = Change> {
    let pages = stream::unfold((call, watcher), |(call, mut watcher)| async move {
        let page = match watcher.next().await? {
            Ok(published) => seen(&call, &published),
            Err(MissedChanges { newest }) => vec![reset(newest)],
        };
        Some((stream::iter(page), (call, watcher)))
    });
    pages.flatten()
}

fn reset(newest: u64) -> Change {
    let entity = EntityRef::Meta.to_string();
    Change { number: newest, entity, kind: ChangeKind::Reset, task: None }
}

fn seen(call: &Call<ChangeWatch>, published: &[Published]) -> Vec<Change> {
    call.look(|view| {
        let sight = view.sight();
        let task = |change: &Published| {
            let EntityRef::Task(id) = change.entity else { return None };
            view.inventory.task(id).ok()
        };
        let sees = |change: &&Published| match task(change) {
            Some(task) => task::is_seen(task, view.user, &sight),
            None if change.entity == EntityRef::Meta => false,
            // Where it was is no longer known; its id alone tells nothing to who never saw it.
            None if change.kind == PublishedKind::Deleted => !sight.is_blind(),
            None => sight.sees(change.entity),
        };
        let show = |change: &Published| Change {
            number: change.number,
            entity: change.entity.to_string(),
            kind: match change.kind {
                PublishedKind::Created => ChangeKind::Created,
                PublishedKind::Updated => ChangeKind::Changed,
                PublishedKind::Deleted => ChangeKind::Removed,
            },
            task: task(change).map(task::show),
        };
        published.iter().filter(sees).map(show).collect()
    })
}
