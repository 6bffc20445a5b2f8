//! Children that ended: look first, record, and only then let the kernel forget them.
//!
//! A dead child stays a zombie until it is waited for, and its pid stays taken. So its status can be read
//! ([`peek`]), written down, and then released ([`reap`]); a crash in between loses nothing.
//!
//! One process may have several parties that wait: the keeper's successor looks for orphans while an exec probe waits
//! for its own child. [`reserve_while`] keeps them apart: a reserved pid is only reaped by whoever reserved it.

use crate::call::{check, retry};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitStatus {
    /// It called `exit` with this code, 0 to 255.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// Which.
        number: i32,
        /// Whether the kernel wrote a core.
        core_dumped: bool,
    },
}

/// What a look at one pid showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peek {
    /// Not a child of this process (any more).
    NotOurs,
    /// Our child, and it has not ended.
    Running,
    /// Our child, ended and not reaped yet.
    Ended(WaitStatus),
}

impl WaitStatus {
    /// From the `status` word of `waitpid`.
    pub fn from_raw(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal { number: libc::WTERMSIG(status), core_dumped: libc::WCOREDUMP(status) }
        } else {
            Self::Code(libc::WEXITSTATUS(status))
        }
    }

    fn from_siginfo(info: &libc::siginfo_t) -> Self {
        // SAFETY: the record was filled by waitid, whose variant of the union holds the status.
        let value = unsafe { info.si_status() };
        match info.si_code {
            libc::CLD_KILLED => Self::Signal { number: value, core_dumped: false },
            libc::CLD_DUMPED => Self::Signal { number: value, core_dumped: true },
            _ => Self::Code(value),
        }
    }
}

/// Looks at one child without reaping it.
pub fn peek(pid: i32) -> io::Result<Peek> {
    let Ok(id) = libc::id_t::try_from(pid) else { return Ok(Peek::NotOurs) };
    match waitid(libc::P_PID, id) {
        Ok(Some((_, status))) => Ok(Peek::Ended(status)),
        Ok(None) => Ok(Peek::Running),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(Peek::NotOurs),
        Err(error) => Err(error),
    }
}

/// Some child that ended and is not reaped yet: always the same one until somebody reaps it.
pub fn peek_any() -> io::Result<Option<(i32, WaitStatus)>> {
    match waitid(libc::P_ALL, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        result => result,
    }
}

/// Lets the kernel forget an ended child; its status, or `None` if there was nothing to reap.
pub fn reap(pid: i32) -> io::Result<Option<WaitStatus>> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the answer.
    match retry(|| unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) }) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(WaitStatus::from_raw(status))),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

fn waitid(kind: libc::idtype_t, id: libc::id_t) -> io::Result<Option<(i32, WaitStatus)>> {
    // SAFETY: an all-zero siginfo_t is valid; WNOHANG leaves it zero when nothing has ended.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: `info` is a valid place for the answer.
        match check(unsafe { libc::waitid(kind, id, &raw mut info, options) }) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // SAFETY: waitid's variant of the union holds the pid, zero if nothing ended.
    let pid = unsafe { info.si_pid() };
    Ok((pid > 0).then(|| (pid, WaitStatus::from_siginfo(&info))))
}

static RESERVED: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn reserved() -> MutexGuard<'static, BTreeSet<i32>> {
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `make_child` and reserves the pid it returns before anybody else can look for ended children.
/// Balance it with [`release`].
pub fn reserve_while<T, E>(make_child: impl FnOnce() -> Result<(i32, T), E>) -> Result<(i32, T), E> {
    let mut pids = reserved();
    let (pid, value) = make_child()?;
    pids.insert(pid);
    Ok((pid, value))
}

/// Gives a reserved pid up: it was reaped, or anybody may reap it now.
pub fn release(pid: i32) {
    reserved().remove(&pid);
}

/// Most orphans taken in one call of [`take_orphans`]; the rest is left for the next call.
pub const MAX_ORPHANS_A_CALL: usize = 4_096;

/// Reaps every ended child that nobody has reserved. `record` is called with each before it is reaped; if it returns
/// `false` the child stays a zombie for another time.
pub fn take_orphans(mut record: impl FnMut(i32, WaitStatus) -> bool) -> io::Result<usize> {
    let pids = reserved();
    let mut taken = 0;
    let mut take = |pid: i32, status: WaitStatus| -> io::Result<bool> {
        let take = !pids.contains(&pid) && record(pid, status);
        if take {
            reap(pid)?;
            taken += 1;
        }
        Ok(take)
    };
    let mut blocked = false;
    for _ in 0..MAX_ORPHANS_A_CALL {
        let Some((pid, status)) = peek_any()? else { break };
        if !take(pid, status)? {
            blocked = true; // peek_any would show this one for ever
            break;
        }
    }
    if blocked {
        let me = crate::process::own_pid();
        for row in crate::process::Table::read()?.rows() {
            if row.parent == me
                && row.is_gone()
                && let Peek::Ended(status) = peek(row.id.pid)?
            {
                take(row.id.pid, status)?;
            }
        }
    }
    Ok(taken)
}
