//! Events: what happened, kept for a while.

use alloc::string::String;

use racknest_types::id::EventId;
use racknest_types::time::Timestamp;

use super::Inventory;
use crate::record::entity::EntityRef;
use crate::record::event::{EventKind, EventRecord};

/// The most events that are kept; the oldest go first. At 60 busy VMs that is some weeks.
pub const EVENTS_MAX: usize = 100_000;

impl Inventory {
    /// Writes down that something happened.
    pub fn record_event(
        &mut self,
        now: Timestamp,
        user: &str,
        entity: impl Into<EntityRef>,
        kind: EventKind,
        detail: impl Into<String>,
    ) {
        let entity = entity.into();
        let id = EventId::from_raw(self.next_id());
        let event = EventRecord {
            id,
            at: now,
            kind,
            entity,
            entity_name: self.name(entity),
            user: user.into(),
            detail: detail.into(),
        };
        self.events.insert(id, event);
        self.touch_created(id);
        if self.events.len() > EVENTS_MAX
            && let Some((oldest, _)) = self.events.pop_first()
        {
            self.touch_deleted(oldest);
        }
    }
}
