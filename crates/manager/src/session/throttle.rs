//! Backing off from whoever keeps guessing.
//!
//! Each failed login of a user from one address doubles the time until the next answer, so that
//! guessing costs time while the owner of the account, elsewhere, does not notice.
//!
//! ```text
//! failures  1     2     3     4    ...   9 and more
//! delay   0.1 s 0.2 s 0.4 s 0.8 s       25.6 s, then refused until it has passed
//! ```
//!
//! **Invariant:** at most [`KEPT_MAX`] pairs are remembered; the oldest is forgotten first.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use racknest_types::time::Timestamp;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const DOUBLINGS_MAX: u32 = 8;
/// Nobody is kept waiting longer; who has to wait longer is refused.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// After this long without a failure all is forgiven.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// About 200 bytes each.
const KEPT_MAX: usize = 4096;

/// Who failed to log in lately.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    failures: BTreeMap<(String, IpAddr), Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Timestamp,
    next: Timestamp,
}

/// What to do with a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Check it after this time.
    Wait(Duration),
    /// Refuse it: the user must wait this long.
    Refuse(Duration),
}

impl Throttle {
    /// May this user try from this address? An attempt that may is expected to fail: several at
    /// once wait one after the other.
    pub(super) fn admit(&mut self, now: Timestamp, user: &str, from: IpAddr) -> Verdict {
        let key = (user.to_owned(), from);
        let Some(failures) = self.failures.get_mut(&key) else {
            return Verdict::Wait(Duration::ZERO);
        };
        // A clock that was set back must not lock anybody out.
        if now.since(failures.last) > FORGET || failures.last > now {
            self.failures.remove(&key);
            return Verdict::Wait(Duration::ZERO);
        }
        let wait = failures.next.since(now);
        if wait > WAIT_MAX {
            return Verdict::Refuse(wait);
        }
        failures.next = now + wait + delay(failures.count);
        Verdict::Wait(wait)
    }

    pub(super) fn failed(&mut self, now: Timestamp, user: &str, from: IpAddr) {
        if self.failures.len() >= KEPT_MAX
            && let Some(oldest) =
                self.failures.iter().min_by_key(|(_, it)| it.last).map(|(key, _)| key.clone())
        {
            self.failures.remove(&oldest);
        }
        let failures = self.failures.entry((user.to_owned(), from)).or_insert(Failures {
            count: 0,
            last: now,
            next: now,
        });
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        failures.next = failures.next.max(now + delay(failures.count));
    }

    pub(super) fn succeeded(&mut self, user: &str, from: IpAddr) {
        self.failures.remove(&(user.to_owned(), from));
    }
}

fn delay(failures: u32) -> Duration {
    FIRST_DELAY * 2_u32.pow(failures.saturating_sub(1).min(DOUBLINGS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn after(failures: u32) -> Throttle {
        let mut throttle = Throttle::default();
        for _ in 0..failures {
            throttle.failed(NOW, "bob", HOME);
        }
        throttle
    }

    #[test]
    fn the_first_attempt_does_not_wait_and_each_failure_doubles() {
        let waits = |failures| after(failures).admit(NOW, "bob", HOME);
        assert_eq!(waits(0), Verdict::Wait(Duration::ZERO));
        assert_eq!(waits(1), Verdict::Wait(Duration::from_millis(100)));
        assert_eq!(waits(4), Verdict::Wait(Duration::from_millis(800)));
        assert_eq!(waits(9), Verdict::Refuse(Duration::from_millis(25_600)));
        assert_eq!(waits(1000), Verdict::Refuse(Duration::from_millis(25_600)));
    }

    #[test]
    fn guessing_in_parallel_is_not_faster() {
        let mut throttle = after(4);
        assert_eq!(throttle.admit(NOW, "bob", HOME), Verdict::Wait(Duration::from_millis(800)));
        assert_eq!(throttle.admit(NOW, "bob", HOME), Verdict::Wait(Duration::from_millis(1600)));
        assert_eq!(throttle.admit(NOW, "bob", HOME), Verdict::Refuse(Duration::from_millis(2400)));
    }

    #[test]
    fn others_do_not_wait() {
        let mut throttle = after(20);
        assert_eq!(throttle.admit(NOW, "bob", AWAY), Verdict::Wait(Duration::ZERO));
        assert_eq!(throttle.admit(NOW, "eve", HOME), Verdict::Wait(Duration::ZERO));
    }

    #[test]
    fn a_success_and_a_quarter_of_an_hour_forgive() {
        let mut throttle = after(20);
        throttle.succeeded("bob", HOME);
        assert_eq!(throttle.admit(NOW, "bob", HOME), Verdict::Wait(Duration::ZERO));
        let later = NOW + FORGET + Duration::from_millis(1);
        assert_eq!(after(20).admit(later, "bob", HOME), Verdict::Wait(Duration::ZERO));
    }

    #[test]
    fn memory_is_bounded() {
        let mut throttle = Throttle::default();
        for user in 0..KEPT_MAX + 10 {
            let at = NOW + Duration::from_millis(u64::try_from(user).unwrap());
            throttle.failed(at, &user.to_string(), HOME);
        }
        assert_eq!(throttle.failures.len(), KEPT_MAX);
        assert!(!throttle.failures.contains_key(&("0".to_owned(), HOME)));
    }
}
