//! Tickets for one connection to a console, for browsers, which cannot put a header on a WebSocket.
//!
//! A ticket stands in a URL, and URLs end up in logs: it is good for one VM, once, and half a minute.
//! Only its hash is kept.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::VmId;
use racknest_types::time::Timestamp;

use crate::session::login::Caller;
use crate::session::token::{Token, TokenHash};

/// How long a ticket is good.
pub const LIFETIME: Duration = Duration::from_secs(30);

/// Tickets that wait to be used; nobody opens a thousand consoles in half a minute.
const TICKETS_MAX: usize = 1000;

/// The tickets that were not used yet.
#[derive(Debug, Default)]
pub struct Tickets {
    /// Nothing awaits while it is held.
    held: Mutex<BTreeMap<TokenHash, Ticket>>,
}

#[derive(Debug)]
struct Ticket {
    vm: VmId,
    caller: Caller,
    expires: Timestamp,
}

impl Tickets {
    /// A ticket for this VM, and until when it is good.
    pub(super) fn issue(
        &self,
        now: Timestamp,
        vm: VmId,
        caller: Caller,
    ) -> Result<(Token, Timestamp), Fault> {
        let token = Token::generate()?;
        let expires = now + LIFETIME;
        let mut held = self.lock();
        held.retain(|_, ticket| ticket.expires > now);
        if held.len() >= TICKETS_MAX {
            return Err(Fault::new(
                FaultCode::ResourceInUse,
                format!("{TICKETS_MAX} console tickets wait to be used; try again in a minute"),
            ));
        }
        held.insert(token.hash(), Ticket { vm, caller, expires });
        Ok((token, expires))
    }

    /// Who was given this ticket, and for which VM. It is worth nothing from then on.
    pub(super) fn redeem(&self, now: Timestamp, secret: &str) -> Result<(VmId, Caller), Fault> {
        let ticket = self.lock().remove(&TokenHash::of(secret));
        let ticket = ticket.filter(|ticket| ticket.expires > now);
        ticket.map(|ticket| (ticket.vm, ticket.caller)).ok_or_else(|| {
            Fault::new(
                FaultCode::NotAuthenticated,
                "the console ticket was used or is too old; ask for another",
            )
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TokenHash, Ticket>> {
        // A panic while it was held left at worst a ticket too many or too few.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use racknest_types::id::{SessionId, UserId};

    use super::*;

    #[test]
    fn a_ticket_is_good_once_and_not_for_long() {
        let tickets = Tickets::default();
        let caller = Caller {
            user: UserId::from_raw(1),
            name: "alice".to_owned(),
            session: SessionId::from_raw(2),
        };
        let (now, vm) = (Timestamp::from_millis(1000), VmId::from_raw(3));
        let (token, expires) = tickets.issue(now, vm, caller.clone()).unwrap();
        assert_eq!(tickets.redeem(now, token.reveal()), Ok((vm, caller.clone())));
        tickets.redeem(now, token.reveal()).expect_err("it was used");
        let (late, _) = tickets.issue(now, vm, caller).unwrap();
        tickets.redeem(expires, late.reveal()).expect_err("it is too old");
        tickets.redeem(now, "a guess").expect_err("there never was one");
    }
}
