//! Where a loop waits for its next event: the calls that are a home, and those that only look like one.

use std::time::Duration;

use horus_sys::sample::Call;

/// What a group of threads has in common: the place where one of them waits for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A set of descriptors in the kernel (epoll, io_uring), by its descriptor. Threads that share it are one loop: the
    /// wait wanders among them.
    Set(i32),
    /// A thread that brings its own list to each wait (`poll`, `select`), or waits for connections.
    Own(u64),
}

/// A wait for the next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// Whose.
    pub key: Key,
    /// It may have been for more than one thing. `poll` on a single descriptor is also how a read with a timeout is made,
    /// so that proves no loop.
    pub wide: bool,
    /// When it ends by itself, if that can be seen: some calls have it in memory, which is not read here.
    pub timeout: Option<Duration>,
}

/// What a call says about the thread that is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It waits for the next event.
    Home(Home),
    /// It sleeps for a time that it chose itself.
    Sleep,
    /// It goes on with a call that was interrupted by a stop; which one is not told.
    Resumed,
    /// It waits for one certain thing.
    Other,
}

/// Reads a call of this thread.
pub fn wait_of(thread: u64, call: &Call) -> Wait {
    let [first, second, third, ..] = call.arguments;
    let finite = |place| {
        let milliseconds = call.milliseconds(place)?;
        u64::try_from(milliseconds).ok().map(Duration::from_millis)
    };
    let own = |wide, timeout| Wait::Home(Home { key: Key::Own(thread), wide, timeout });
    let set = |timeout| match call.descriptor() {
        Some(set) => Wait::Home(Home { key: Key::Set(set), wide: true, timeout }),
        None => Wait::Other,
    };
    match call.name() {
        Some("epoll_wait" | "epoll_pwait") => set(finite(3)),
        Some("epoll_pwait2") => set(None),
        // Without a completion to wait for it only hands in work.
        Some("io_uring_enter") if third > 0 => set(None),
        Some("poll" | "ppoll") if second == 0 => Wait::Sleep,
        Some("poll") => own(second > 1, finite(2)),
        Some("ppoll") => own(second > 1, None),
        Some("select" | "pselect6") if first == 0 => Wait::Sleep,
        Some("select" | "pselect6" | "accept" | "accept4") => own(true, None),
        Some("nanosleep" | "clock_nanosleep") => Wait::Sleep,
        Some("restart_syscall") => Wait::Resumed,
        _ => Wait::Other,
    }
}
