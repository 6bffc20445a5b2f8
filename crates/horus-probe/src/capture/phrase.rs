//! One phrase for a person, made of what the kernel says about the threads.

use std::time::Duration;

use horus_core::ids::ProcessId;
use horus_core::time::Human;
use horus_sys::fact::Fact;
use horus_sys::facts::{ProcessFacts, SocketFacts, SystemCall, ThreadFacts};

/// Everything that was seen, and how it compares with what was seen before.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) process: ProcessId,
    /// The thread that is known to be stuck, if it is another one than the main thread and is among them.
    pub(crate) thread: Option<i32>,
    pub(crate) facts: Option<&'a ProcessFacts>,
    pub(crate) threads: &'a [ThreadFacts],
    pub(crate) sockets: &'a [SocketFacts],
    /// CPU time that each thread used during the capture, in thousandths of one CPU, by position; empty if unknown.
    pub(crate) busy_thousandths: &'a [u64],
    /// For how long the process is known to have used no CPU at all, and its main thread to have been where it is.
    pub(crate) unmoved: Option<Duration>,
    /// For how long it has also been in the same function: a proof.
    pub(crate) proven: Option<Duration>,
    /// Both functions, if it was in another one the last time.
    pub(crate) moved: Option<&'a str>,
    /// What a witness says of the same, if it found a place.
    pub(crate) told: Option<&'a str>,
}

/// A thread that used at least so much of one CPU, in thousandths, is said to run.
const RUNS_FROM: u64 = 500;

/// Somebody else has stopped it, or may at any moment: its silence says nothing about the program.
pub(crate) fn stopped(view: &View<'_>) -> Option<String> {
    if let Some(Fact::Known(Some(tracer))) = view.facts.map(|facts| &facts.tracer) {
        return Some(format!("it is held by a debugger or tracer (pid {tracer})"));
    }
    let stopped = view.threads.first().is_some_and(|main| matches!(main.state, 'T' | 't'));
    stopped.then(|| "it is stopped by SIGSTOP or a debugger".to_owned())
}

/// The phrase; empty if nothing can be said.
pub(crate) fn phrase(view: &View<'_>) -> String {
    let Some(main) = view.threads.first() else { return String::new() };
    if let Some(stopped) = stopped(view) {
        return stopped;
    }
    match main.state {
        'Z' | 'X' => return "the process is dead and not reaped yet".to_owned(),
        _ => {}
    }
    let busy = |position: usize| view.busy_thousandths.get(position).copied().unwrap_or_default();
    let asked = view.threads.iter().position(|thread| Some(thread.tid) == view.thread);
    let (place, thread) =
        asked.and_then(|place| Some((place, view.threads.get(place)?))).unwrap_or((0, main));
    let who = match place {
        0 => "main thread".to_owned(),
        _ => format!("thread {} ({})", crate::text::one_line(&thread.name, 16), thread.tid),
    };
    let mut text = match view.told {
        Some(told) if busy(place) >= RUNS_FROM => format!("{told} ({} % CPU)", busy(place) / 10),
        Some(told) => told.to_owned(),
        None if busy(place) >= RUNS_FROM => format!("{who} is running ({} % CPU)", busy(place) / 10),
        None => format!("{who} {}", waiting(thread, view)),
    };
    let others = view.threads.iter().enumerate().skip(1).filter(|(position, _)| *position != place);
    let busiest = others
        .max_by_key(|(position, _)| busy(*position))
        .filter(|(position, _)| busy(*position) >= RUNS_FROM);
    if let Some((position, thread)) = busiest {
        let name = crate::text::one_line(&thread.name, 16);
        text = format!("{text}; thread {name} is running ({} % CPU)", busy(position) / 10);
    } else if let Some(proven) = view.proven
        && !text.is_empty()
    {
        text = format!("{text}, has not moved for {}", Human(proven));
    } else if let Some(unmoved) = view.unmoved
        && !text.is_empty()
    {
        text = format!("{text}, no CPU used for {}", Human(unmoved));
    }
    if let Some(moved) = view.moved
        && !text.is_empty()
    {
        text = format!("{text}; it moves: {moved}");
    }
    text
}

fn waiting(thread: &ThreadFacts, view: &View<'_>) -> String {
    let channel = thread.wait_channel.as_known().filter(|name| !name.is_empty() && *name != "0");
    let manner = if thread.state == 'D' { "cannot be interrupted" } else { "sleeps" };
    match &thread.system_call {
        Fact::Known(Some(call)) => {
            let name = call.name.clone().unwrap_or_else(|| format!("system call {}", call.number));
            let doing = meaning(&name).map(|meaning| format!(" ({meaning})")).unwrap_or_default();
            let on = subject(call, &name, view).map(|subject| format!(" on {subject}")).unwrap_or_default();
            format!("{manner} in {name}{on}{doing}")
        }
        Fact::Known(None) if thread.state == 'R' => "is ready to run".to_owned(),
        Fact::Known(None) => "is in its own code".to_owned(),
        Fact::Missing(_) => match (thread.state, channel) {
            ('R', _) => "is ready to run".to_owned(),
            (_, Some(channel)) => format!("{manner} in the kernel function {channel}"),
            ('D', None) => "waits in the kernel and cannot be interrupted".to_owned(),
            _ => "sleeps; where is not to be seen".to_owned(),
        },
    }
}

/// What waiting in this call means, where the name does not say it.
fn meaning(name: &str) -> Option<&'static str> {
    Some(match name {
        "futex" => "a lock, or another thread",
        "epoll_wait" | "epoll_pwait" | "poll" | "ppoll" | "select" | "pselect6" => "waiting for events",
        "clock_nanosleep" | "nanosleep" => "a sleep of its own",
        "wait4" | "waitid" => "waiting for a child process",
        "accept" | "accept4" => "waiting for a connection",
        "restart_syscall" => "a call that goes on after a stop",
        _ => return None,
    })
}

/// Calls whose first argument is a descriptor.
fn takes_descriptor(name: &str) -> bool {
    const NAMES: [&str; 20] = [
        "read",
        "write",
        "pread64",
        "pwrite64",
        "readv",
        "writev",
        "recvfrom",
        "recvmsg",
        "sendto",
        "sendmsg",
        "accept",
        "accept4",
        "connect",
        "flock",
        "fcntl",
        "fsync",
        "fdatasync",
        "ioctl",
        "sendfile",
        "splice",
    ];
    NAMES.contains(&name)
}

fn subject(call: &SystemCall, name: &str, view: &View<'_>) -> Option<String> {
    let descriptor =
        i32::try_from(call.arguments.first()?.cast_signed()).ok().filter(|_| takes_descriptor(name))?;
    if let Some(socket) = view.sockets.iter().find(|socket| socket.descriptor == descriptor) {
        return Some(match &socket.remote {
            Some(remote) => remote.clone(),
            None if socket.local.is_empty() => format!("a {} socket", socket.protocol),
            None => format!("{} ({})", socket.local, socket.protocol),
        });
    }
    // Not a socket of the tables: a pipe, a file, a terminal. Linux only; elsewhere there is no such link.
    let link = std::fs::read_link(format!("/proc/{}/fd/{descriptor}", view.process.pid)).ok()?;
    let link = crate::text::one_line(&link.to_string_lossy(), 120);
    Some(match link.split_once(":[") {
        Some((kind, _)) => format!("a {kind} (descriptor {descriptor})"),
        None => link,
    })
}

/// The main thread's place in the kernel, to be compared between captures: same text, same place.
pub(crate) fn place(main: &ThreadFacts) -> Option<String> {
    let channel = main.wait_channel.as_known().map_or("", String::as_str);
    match &main.system_call {
        Fact::Known(Some(call)) => {
            let name = call.name.clone().unwrap_or_else(|| call.number.to_string());
            let arguments: Vec<String> =
                call.arguments.iter().map(|argument| format!("{argument:x}")).collect();
            let (stack, program) = call.registers;
            Some(
                format!("{name}({}) sp={stack:x} pc={program:x} {channel}", arguments.join(","))
                    .trim_end()
                    .to_owned(),
            )
        }
        Fact::Known(None) => Some("running".to_owned()),
        // A wait channel alone names a kind of place, not the place: still better than nothing.
        Fact::Missing(_) if channel.is_empty() => None,
        Fact::Missing(_) => Some(format!("in {channel}")),
    }
}

#[cfg(test)]
mod tests {
    use horus_sys::fact::Missing;

    use super::*;

    fn thread(state: char, call: Fact<Option<SystemCall>>) -> ThreadFacts {
        ThreadFacts {
            tid: 1,
            name: "bot".into(),
            state,
            wait_channel: Fact::Known("futex_do_wait".into()),
            system_call: call,
            cpu_ns: Fact::Known(1),
            runqueue_wait_ns: Fact::Known(0),
        }
    }

    fn call(name: &str, first: u64) -> Fact<Option<SystemCall>> {
        let arguments = [first, 0, 0, 0, 0, 0];
        Fact::Known(Some(SystemCall { number: 7, name: Some(name.into()), arguments, registers: (1, 2) }))
    }

    fn said(threads: &[ThreadFacts], busy_thousandths: &[u64], unmoved: Option<Duration>) -> String {
        let sockets = [SocketFacts {
            descriptor: 5,
            protocol: "tcp".into(),
            local: "10.0.0.1:40000".into(),
            remote: Some("10.0.0.7:443".into()),
            state: "ESTABLISHED".into(),
            receive_queue: 0,
            send_queue: 0,
        }];
        let process = ProcessId { pid: i32::MAX, start_time: 0 };
        phrase(&View {
            process,
            thread: None,
            facts: None,
            threads,
            sockets: &sockets,
            busy_thousandths,
            unmoved,
            proven: None,
            moved: None,
            told: None,
        })
    }

    #[test]
    fn a_phrase_names_the_call_the_peer_and_for_how_long() {
        let recv = [thread('S', call("recvfrom", 5))];
        let five = Some(Duration::from_secs(5));
        assert_eq!(
            said(&recv, &[0], five),
            "main thread sleeps in recvfrom on 10.0.0.7:443, no CPU used for 5 s"
        );
        let lock = [thread('S', call("futex", 5))];
        assert_eq!(said(&lock, &[0], None), "main thread sleeps in futex (a lock, or another thread)");
    }

    #[test]
    fn a_phrase_follows_the_thread_that_is_stuck() {
        let worker = ThreadFacts { tid: 7, name: "worker".into(), ..thread('S', call("recvfrom", 5)) };
        let threads = [thread('S', call("futex", 0)), thread('R', Fact::Known(None)), worker];
        let view = View {
            process: ProcessId { pid: i32::MAX, start_time: 0 },
            thread: Some(7),
            facts: None,
            threads: &threads,
            sockets: &[],
            busy_thousandths: &[0, 900, 0],
            unmoved: None,
            proven: None,
            moved: None,
            told: None,
        };
        assert_eq!(phrase(&view), "thread worker (7) sleeps in recvfrom; thread bot is running (90 % CPU)");
        let busy = View { busy_thousandths: &[0, 0, 700], ..view };
        assert_eq!(phrase(&busy), "thread worker (7) is running (70 % CPU)");
        let gone = View { thread: Some(8), busy_thousandths: &[], ..busy };
        assert_eq!(phrase(&gone), "main thread sleeps in futex (a lock, or another thread)");
    }

    #[test]
    fn a_phrase_says_whether_it_moves() {
        let threads = [thread('S', call("recvfrom", 5))];
        let view = View {
            process: ProcessId { pid: i32::MAX, start_time: 0 },
            thread: None,
            facts: None,
            threads: &threads,
            sockets: &[],
            busy_thousandths: &[0],
            unmoved: Some(Duration::from_secs(9)),
            proven: Some(Duration::from_secs(8)),
            moved: None,
            told: Some("waiting on recv from 10.0.0.7:443 in place_order (bot.py:98)"),
        };
        let place = "waiting on recv from 10.0.0.7:443 in place_order (bot.py:98)";
        assert_eq!(phrase(&view), format!("{place}, has not moved for 8 s"));
        let moved = Some("fetch (bot.py:120) then place_order (bot.py:98)");
        let view = View { unmoved: None, proven: None, moved, ..view };
        assert_eq!(
            phrase(&view),
            format!("{place}; it moves: fetch (bot.py:120) then place_order (bot.py:98)")
        );
        assert_eq!(phrase(&View { threads: &[], ..view }), "");
    }

    #[test]
    fn running_stopped_and_unknown_are_told_apart() {
        assert_eq!(
            said(&[thread('R', Fact::Known(None))], &[998], None),
            "main thread is running (99 % CPU)"
        );
        assert_eq!(
            said(&[thread('T', call("read", 0))], &[0], None),
            "it is stopped by SIGSTOP or a debugger"
        );
        assert_eq!(said(&[], &[], None), "");
        let hidden = Fact::Missing(Missing::Denied);
        assert_eq!(
            said(&[thread('S', hidden.clone())], &[0], None),
            "main thread sleeps in the kernel function futex_do_wait"
        );
        let both = [thread('S', call("futex", 0)), thread('R', Fact::Known(None))];
        let text = said(&both, &[0, 700], Some(Duration::from_secs(1)));
        assert_eq!(
            text,
            "main thread sleeps in futex (a lock, or another thread); thread bot is running (70 % CPU)"
        );
    }

    #[test]
    fn a_place_is_the_same_only_if_nothing_about_it_changed() {
        let at = |first| place(&thread('S', call("recvfrom", first)));
        assert_eq!(at(5), at(5));
        assert_ne!(at(5), at(6));
        assert_eq!(place(&thread('R', Fact::Known(None))).as_deref(), Some("running"));
        assert_eq!(place(&thread('S', Fact::Missing(Missing::Denied))).as_deref(), Some("in futex_do_wait"));
    }
}
