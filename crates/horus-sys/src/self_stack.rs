//! Where one thread of this process stands, asked by another: the last words of a loop that no longer turns.
//!
//! The thread is interrupted by a signal and unwinds itself in the handler. That allocates and takes locks, which a
//! handler may not do in a program that wants to live: it may stand in the middle of `malloc`. It is right all the same,
//! because [`Subject::last_words`] is asked only by somebody who ends this process next, and waits for the answer no
//! longer than its patience: the worst that a deadlock in the handler can do is to leave the question unanswered.
//!
//! Rejected: frame pointers walked into a static array. It allocates nothing, but needs every dependency built with frame
//! pointers, and knows no names. A debugger by `ptrace`: it needs a right that a service does not have.

use crate::call::check;
use std::backtrace::Backtrace;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

/// Ignored by default on every system, so that it harms nobody when the handler is not there (yet).
const QUESTION: libc::c_int = libc::SIGURG;

/// How often the asker looks whether there is an answer.
const LOOK_EVERY: Duration = Duration::from_millis(10);

static ANSWER: Mutex<Option<String>> = Mutex::new(None);

/// A thread that can be asked.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    thread: libc::pthread_t,
}

impl Subject {
    /// The calling thread, which has to live as long as it may be asked. From now on the signal `SIGURG` is taken.
    ///
    /// # Errors
    /// If the system takes no handler.
    pub fn this_thread() -> io::Result<Self> {
        // SAFETY: all zeros is a valid sigaction, which the next lines fill in.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = answer as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the action is valid; see the module for what its handler does.
        check(unsafe { libc::sigaction(QUESTION, &raw const action, std::ptr::null_mut()) })?;
        // SAFETY: takes nothing and cannot fail.
        Ok(Self { thread: unsafe { libc::pthread_self() } })
    }

    /// The stack of that thread, the innermost call first; `None` if it does not answer in time (it may hang in the
    /// kernel). **The caller has to end this process afterwards**: see the module.
    pub fn last_words(&self, patience: Duration) -> Option<String> {
        // SAFETY: the thread lives by the contract of `this_thread`.
        if unsafe { libc::pthread_kill(self.thread, QUESTION) } != 0 {
            return None;
        }
        let end = crate::clock::monotonic() + patience;
        loop {
            // Not `lock`: the one who answers may never let go of it.
            if let Ok(mut answer) = ANSWER.try_lock()
                && let Some(answer) = answer.take()
            {
                return Some(answer);
            }
            if crate::clock::monotonic() >= end {
                return None;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }
}

extern "C" fn answer(_signal: libc::c_int) {
    let stack = Backtrace::force_capture().to_string();
    if let Ok(mut answer) = ANSWER.try_lock() {
        *answer = Some(stack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[inline(never)]
    fn a_place_with_a_name(wake: &mpsc::Receiver<()>) {
        let _ = wake.recv();
        std::hint::black_box(wake);
    }

    #[test]
    fn a_thread_that_waits_says_where() {
        let (tell, told) = mpsc::channel();
        let (wake, waiting) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(Subject::this_thread().unwrap()).unwrap();
            a_place_with_a_name(&waiting);
        });
        let subject = told.recv().unwrap();
        // Asked at once, it may still be on its way there.
        let mut answers = (0..1_000).map(|_| subject.last_words(Duration::from_secs(20)).unwrap());
        assert!(answers.any(|words| words.contains("a_place_with_a_name")));
        wake.send(()).unwrap();
        thread.join().unwrap();
    }
}
