//! Who is logged in: sessions that end when they are idle, and tokens for automation that do not.
//!
//! ```text
//! user + password ──login──► session: in memory, ends after 30 min unused or with the manager
//! session ──token create──► token: saved (its hash), ends when revoked or at its own date
//! ```
//!
//! Sessions are not saved: a manager that starts again asks people for their password again, and
//! programs carry a token. Whoever ends a user, or disables one, need not come here: each request
//! looks the user up in the inventory.
//!
//! **Invariant:** no secret is kept, only hashes of secrets. At most [`SESSIONS_MAX`] sessions
//! exist; the one that is idle longest makes room.

pub mod login;
pub mod password;
mod record;
mod throttle;
pub mod token;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use racknest_types::fault::{Fault, FaultCode};
use racknest_types::id::{SessionId, UserId};
use racknest_types::time::Timestamp;

use self::password::Passwords;
use self::record::TokenRecord;
use self::throttle::Throttle;
use self::token::{Token, TokenHash};
use crate::store::records::TOKENS;
use crate::store::{Outcome, Span, Store, Transaction};

/// A session ends when it was not used for this long, as in vCenter.
pub const IDLE_MAX: Duration = Duration::from_secs(30 * 60);

/// Sessions at once; a script that logs in on every call and never out must not fill the memory.
pub const SESSIONS_MAX: usize = 10_000;

/// Tokens for automation at once.
pub const TOKENS_MAX: usize = 10_000;

/// A session or token, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose it is.
    pub user: UserId,
    /// What it is.
    pub kind: SessionKind,
    /// When it began.
    pub created: Timestamp,
    /// When it was last used; for a token, since this manager started.
    pub last_used: Option<Timestamp>,
    /// Where it was last used from.
    pub address: Option<IpAddr>,
}

/// What a session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// Somebody logged in with a password.
    Login,
    /// A token for automation.
    Token {
        /// What it is for.
        name: String,
        /// When it stops working; `None` is never.
        expires: Option<Timestamp>,
    },
}

impl Session {
    fn is_over(&self, now: Timestamp) -> bool {
        match &self.kind {
            SessionKind::Login => now.since(self.last_used.unwrap_or(self.created)) > IDLE_MAX,
            SessionKind::Token { expires, .. } => expires.is_some_and(|at| at <= now),
        }
    }
}

/// Everybody who is logged in.
#[derive(Debug)]
pub struct Sessions {
    passwords: Passwords,
    store: Arc<dyn Store>,
    /// Guards the two tables; nothing awaits or writes to the store while it is held.
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    sessions: BTreeMap<TokenHash, Session>,
    throttle: Throttle,
    last_id: u64,
}

impl Sessions {
    /// The sessions of a manager that starts: none, and the tokens that were saved.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open(store: Arc<dyn Store>, passwords: Passwords) -> Result<Self, Fault> {
        let mut tables = Tables::default();
        store.range(&Span::prefix(TOKENS), &mut |entry| {
            let unreadable = || Fault::system(format!("{} in the store is not a token", entry.key));
            let record: TokenRecord =
                serde_json::from_slice(entry.value).map_err(|_| unreadable())?;
            let hash = TokenHash::from_text(&record.hash).ok_or_else(unreadable)?;
            tables.last_id = tables.last_id.max(record.id.raw());
            tables.sessions.insert(hash, Session::from(record));
            Ok(())
        })?;
        Ok(Self { passwords, store, tables: Mutex::new(tables) })
    }

    /// Hashes the passwords of users.
    #[must_use]
    pub const fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// A new session of a user whose password was right.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn begin(
        &self,
        now: Timestamp,
        user: UserId,
        address: IpAddr,
    ) -> Result<(Token, Session), Fault> {
        let token = Token::generate()?;
        let mut tables = self.lock();
        tables.make_room(now);
        let session = Session {
            id: tables.next_id(now),
            user,
            kind: SessionKind::Login,
            created: now,
            last_used: Some(now),
            address: Some(address),
        };
        tables.sessions.insert(token.hash(), session.clone());
        Ok((token, session))
    }

    /// A new token with which a program acts as this user.
    ///
    /// # Errors
    /// It could not be saved, or there are too many.
    pub async fn create_token(
        &self,
        now: Timestamp,
        user: UserId,
        name: &str,
        expires: Option<Timestamp>,
    ) -> Result<(Token, Session), Fault> {
        let token = Token::generate()?;
        let hash = token.hash();
        let (name, created) = (name.to_owned(), now);
        let record = {
            let mut tables = self.lock();
            if tables.sessions.values().filter(|it| it.kind != SessionKind::Login).count()
                >= TOKENS_MAX
            {
                return Err(Fault::new(
                    FaultCode::ResourceInUse,
                    format!("there are {TOKENS_MAX} tokens already; revoke some"),
                ));
            }
            let id = tables.next_id(now);
            TokenRecord { id, user, name, hash: hash.to_text(), created, expires }
        };
        let value = serde_json::to_vec(&record).expect("a token record has string keys");
        let puts = vec![(key(record.id), value)];
        self.save(Transaction { puts, ..Transaction::default() }).await?;
        let session = Session::from(record);
        self.lock().sessions.insert(hash, session.clone());
        Ok((token, session))
    }

    /// Whose secret this is. A session that is used does not get idle.
    ///
    /// # Errors
    /// Nobody's, or the session is over.
    pub fn authenticate(
        &self,
        now: Timestamp,
        secret: &str,
        address: IpAddr,
    ) -> Result<(SessionId, UserId), Fault> {
        let hash = TokenHash::of(secret);
        let mut tables = self.lock();
        let Some(session) = tables.sessions.get_mut(&hash) else {
            return Err(not_logged_in("the session has ended, or was never one; log in again"));
        };
        if session.is_over(now) {
            let reason = match &session.kind {
                SessionKind::Login => "the session was idle for too long; log in again".to_owned(),
                SessionKind::Token { name, .. } => {
                    format!("the token '{name}' has expired; make a new one")
                }
            };
            if session.kind == SessionKind::Login {
                tables.sessions.remove(&hash);
            }
            return Err(not_logged_in(reason));
        }
        session.last_used = Some(now);
        session.address = Some(address);
        Ok((session.id, session.user))
    }

    /// Every session and token, oldest first.
    #[must_use]
    pub fn list(&self, now: Timestamp) -> Vec<Session> {
        let mut tables = self.lock();
        tables.forget_idle(now);
        let mut sessions: Vec<_> = tables.sessions.values().cloned().collect();
        sessions.sort_unstable_by_key(|session| session.id);
        sessions
    }

    /// The session or token with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, id: SessionId) -> Result<Session, Fault> {
        let tables = self.lock();
        let session = tables.sessions.values().find(|session| session.id == id);
        session.cloned().ok_or_else(|| Fault::not_found(id))
    }

    /// Ends a session, or revokes a token.
    ///
    /// # Errors
    /// There is none, or the store could not forget the token; then it still works.
    pub async fn end(&self, id: SessionId) -> Result<(), Fault> {
        if self.find(id)?.kind != SessionKind::Login {
            let deletes = vec![key(id)];
            self.save(Transaction { deletes, ..Transaction::default() }).await?;
        }
        self.lock().sessions.retain(|_, session| session.id != id);
        Ok(())
    }

    async fn save(&self, transaction: Transaction) -> Result<(), Fault> {
        let store = Arc::clone(&self.store);
        let saved = tokio::task::spawn_blocking(move || store.transact(&transaction)).await;
        match saved
            .map_err(|error| Fault::system(format!("saving the token failed: {error}")))??
        {
            Outcome::Committed { .. } => Ok(()),
            Outcome::Conflict => Err(Fault::system("the store refused the token; try again")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // A panic while it was held left at worst a session too many or too few.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Milliseconds since 1970, or the next number: ids are not used again after a restart.
    fn next_id(&mut self, now: Timestamp) -> SessionId {
        self.last_id = now.millis().max(self.last_id + 1);
        SessionId::from_raw(self.last_id)
    }

    fn forget_idle(&mut self, now: Timestamp) {
        self.sessions.retain(|_, it| it.kind != SessionKind::Login || !it.is_over(now));
    }

    fn make_room(&mut self, now: Timestamp) {
        if self.sessions.len() < SESSIONS_MAX {
            return;
        }
        self.forget_idle(now);
        let logins = || self.sessions.iter().filter(|(_, it)| it.kind == SessionKind::Login);
        if logins().count() >= SESSIONS_MAX
            && let Some(hash) = logins().min_by_key(|(_, it)| it.last_used).map(|(hash, _)| *hash)
        {
            self.sessions.remove(&hash);
        }
    }
}

impl From<TokenRecord> for Session {
    fn from(record: TokenRecord) -> Self {
        Self {
            id: record.id,
            user: record.user,
            kind: SessionKind::Token { name: record.name, expires: record.expires },
            created: record.created,
            last_used: None,
            address: None,
        }
    }
}

fn key(id: SessionId) -> String {
    format!("{TOKENS}{:020}", id.raw())
}

fn not_logged_in(message: impl Into<String>) -> Fault {
    Fault::new(FaultCode::NotAuthenticated, message)
}

#[cfg(test)]
mod tests;
