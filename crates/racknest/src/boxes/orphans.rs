//! Processes of a box whose parent has ended: the box takes them as its own.
//!
//! A QEMU is a daemon, so the system gives it a new parent, and that one has to ask how it ended
//! before the process is gone for good. The first process of a machine does so; that of a container
//! often does not, and then every guest that was powered off stays in the list of processes. So the
//! box is the new parent of what descends from it.
//!
//! **Invariant:** the box's machines are left to those who watch them: how one of them has ended is
//! told once, and whoever starts it again wants to know. They are the leaders of a group in the
//! box's own session, which no daemon is and nothing that a machine starts.

use std::io;

use rustix::process::{Pid, WaitOptions, getpid, getsid, set_child_subreaper, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// Makes this process the parent of its orphans, for as long as it and this runtime live.
pub(crate) fn adopt() -> io::Result<()> {
    let mut endings = signal(SignalKind::child())?;
    set_child_subreaper(Some(getpid()))?;
    let session = getsid(None)?;
    tokio::spawn(async move {
        while endings.recv().await.is_some() {
            // Small reads, some milliseconds of them where thousands of processes run.
            let reaped = tokio::task::spawn_blocking(move || reap(session)).await;
            if let Ok(Err(error)) = reaped {
                tracing::debug!("the processes that have ended cannot be listed: {error}");
            }
        }
    });
    Ok(())
}

/// Lets go of every orphan that has ended.
fn reap(session: Pid) -> io::Result<()> {
    let own = getpid();
    for entry in fs_err::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(parse) else { continue };
        // One that is gone by now has no file.
        let stat = fs_err::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        if stat.is_ok_and(|stat| is_ended_orphan(&stat, pid, own, session)) {
            // Nobody else waits for it, and it has ended: this does not block and cannot fail.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
    Ok(())
}

/// Whether this line of `/proc/PID/stat` tells of a process that `parent` has inherited, and which
/// has ended.
fn is_ended_orphan(stat: &str, pid: Pid, parent: Pid, session: Pid) -> bool {
    // The name of the command comes before, and may have spaces and parentheses.
    let Some((_, fields)) = stat.rsplit_once(')') else { return false };
    let mut fields = fields.split_whitespace();
    let state = fields.next();
    let mut next = || fields.next().and_then(parse);
    let (is_child, group, own_session) = (next() == Some(parent), next(), next());
    let is_machine = group == Some(pid) && own_session == Some(session);
    state == Some("Z") && is_child && !is_machine
}

fn parse(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_no_orphan_and_a_daemon_is() {
        let pid = |number| Pid::from_raw(number).unwrap();
        let is_orphan = |stat: &str| is_ended_orphan(stat, pid(7), pid(2), pid(2));
        assert!(is_orphan("7 (qemu-system-x86) Z 2 5 5 0 -1"), "a daemon");
        assert!(is_orphan("7 (sh) Z 2 7 7 0 -1"), "the one between a daemon and its parent");
        assert!(is_orphan("7 (qemu) img) Z 2 6 2 0 -1"), "what a machine was doing");
        assert!(!is_orphan("7 (racknest) Z 2 7 2 0 -1"), "a machine");
        assert!(!is_orphan("7 (qemu-system-x86) S 2 5 5 0 -1"), "it runs");
        assert!(!is_orphan("7 (qemu-system-x86) Z 3 5 5 0 -1"), "somebody else's");
        assert!(!is_orphan(""), "gone");
    }
}
