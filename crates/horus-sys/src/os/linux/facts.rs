//! Facts from /proc.

use crate::fact::{Fact, Missing};
use crate::facts::{
    HostPressure, LimitFacts, MAX_COMMAND_LINE, MAX_THREADS, Pressure, ProcessFacts, SocketFacts, SystemCall,
    ThreadFacts,
};
use crate::redact;
use std::fs;
use std::io::{self, Read};

/// Longest /proc text that is read here, in bytes.
const MAX_TEXT: u64 = 64 * 1024;

pub(super) fn read_text(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_TEXT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot understand {what}"))
}

pub(crate) fn threads(pid: i32) -> io::Result<Vec<ThreadFacts>> {
    let directory = format!("/proc/{pid}/task");
    let mut tids: Vec<i32> = fs::read_dir(&directory)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .take(MAX_THREADS)
        .collect();
    tids.sort_unstable_by_key(|tid| (*tid != pid, *tid));
    Ok(tids.into_iter().filter_map(|tid| thread(&format!("{directory}/{tid}"), tid)).collect())
}

/// `None` when the thread ended meanwhile.
fn thread(directory: &str, tid: i32) -> Option<ThreadFacts> {
    let stat = read_text(&format!("{directory}/stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    let state = rest.trim_start().chars().next()?;
    let schedule = read_text(&format!("{directory}/schedstat"));
    let number = |position: usize| -> Fact<u64> {
        match &schedule {
            Ok(text) => Fact::from(
                text.split_ascii_whitespace()
                    .nth(position)
                    .and_then(|field| field.parse().ok())
                    .ok_or_else(|| odd("schedstat")),
            ),
            Err(error) => Fact::Missing(Missing::from(error)),
        }
    };
    Some(ThreadFacts {
        tid,
        name: name.to_owned(),
        state,
        wait_channel: wait_channel(directory, state),
        system_call: Fact::from(system_call(directory)),
        cpu_ns: number(0),
        runqueue_wait_ns: number(1),
    })
}

/// "0" means "it waits nowhere" for a running thread, and "you may not know" for a sleeping one.
fn wait_channel(directory: &str, state: char) -> Fact<String> {
    match read_text(&format!("{directory}/wchan")) {
        Ok(text) if text.trim() == "0" && state != 'R' => Fact::Missing(Missing::Denied),
        Ok(text) if text.trim() == "0" => Fact::Known(String::new()),
        Ok(text) => Fact::Known(text.trim().to_owned()),
        Err(error) => Fact::Missing(Missing::from(&error)),
    }
}

/// `running`, or `NUMBER arg0..arg5 sp pc` in hexadecimal, or `-1 sp pc` for a thread blocked outside a system call.
fn system_call(directory: &str) -> io::Result<Option<SystemCall>> {
    let text = read_text(&format!("{directory}/syscall"))?;
    let mut fields = text.split_ascii_whitespace();
    let Some(number) = fields.next().and_then(|field| field.parse::<i64>().ok()) else { return Ok(None) };
    if number < 0 {
        return Ok(None);
    }
    let mut hexadecimal = || {
        let field = fields.next()?.strip_prefix("0x")?;
        u64::from_str_radix(field, 16).ok()
    };
    let mut arguments = [0; 6];
    for argument in &mut arguments {
        *argument = hexadecimal().ok_or_else(|| odd("syscall"))?;
    }
    let registers = (hexadecimal().unwrap_or(0), hexadecimal().unwrap_or(0));
    Ok(Some(SystemCall { number, name: name_of(number).map(str::to_owned), arguments, registers }))
}

/// The calls in which programs wait.
pub(super) fn name_of(number: i64) -> Option<&'static str> {
    macro_rules! table {
        ($($name:literal => $number:expr),* $(,)?) => { [$(($number as i64, $name)),*] };
    }
    let common = table! {
        "read" => libc::SYS_read, "write" => libc::SYS_write, "pread64" => libc::SYS_pread64,
        "pwrite64" => libc::SYS_pwrite64, "readv" => libc::SYS_readv, "writev" => libc::SYS_writev,
        "openat" => libc::SYS_openat, "close" => libc::SYS_close, "ioctl" => libc::SYS_ioctl,
        "fsync" => libc::SYS_fsync, "fdatasync" => libc::SYS_fdatasync, "flock" => libc::SYS_flock,
        "fcntl" => libc::SYS_fcntl, "futex" => libc::SYS_futex, "nanosleep" => libc::SYS_nanosleep,
        "clock_nanosleep" => libc::SYS_clock_nanosleep, "ppoll" => libc::SYS_ppoll, "pselect6" => libc::SYS_pselect6,
        "epoll_pwait" => libc::SYS_epoll_pwait, "epoll_pwait2" => libc::SYS_epoll_pwait2, "accept" => libc::SYS_accept, "accept4" => libc::SYS_accept4,
        "connect" => libc::SYS_connect, "recvfrom" => libc::SYS_recvfrom, "recvmsg" => libc::SYS_recvmsg,
        "sendto" => libc::SYS_sendto, "sendmsg" => libc::SYS_sendmsg, "wait4" => libc::SYS_wait4,
        "waitid" => libc::SYS_waitid, "restart_syscall" => libc::SYS_restart_syscall,
        "rt_sigsuspend" => libc::SYS_rt_sigsuspend, "rt_sigtimedwait" => libc::SYS_rt_sigtimedwait,
        "io_uring_enter" => libc::SYS_io_uring_enter, "execve" => libc::SYS_execve, "sched_yield" => libc::SYS_sched_yield, "clone" => libc::SYS_clone,
        "splice" => libc::SYS_splice, "sendfile" => libc::SYS_sendfile, "unlinkat" => libc::SYS_unlinkat,
    };
    #[cfg(target_arch = "x86_64")]
    let older = table! {
        "open" => libc::SYS_open, "poll" => libc::SYS_poll, "select" => libc::SYS_select,
        "epoll_wait" => libc::SYS_epoll_wait, "pause" => libc::SYS_pause, "vfork" => libc::SYS_vfork,
    };
    #[cfg(not(target_arch = "x86_64"))]
    let older: [(i64, &str); 0] = [];
    common.iter().chain(&older).find(|(known, _)| *known == number).map(|(_, name)| *name)
}

pub(crate) fn process(pid: i32) -> io::Result<ProcessFacts> {
    let status = read_text(&format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    let resident =
        field("VmRSS").map_or(Some(0), |text| text.split_ascii_whitespace().next()?.parse::<u64>().ok());
    let tracer = field("TracerPid").and_then(|text| text.parse::<i32>().ok()).ok_or_else(|| odd("TracerPid"));
    Ok(ProcessFacts {
        resident_bytes: Fact::from(resident.map(|kibibytes| kibibytes * 1_024).ok_or_else(|| odd("VmRSS"))),
        open_files: Fact::from(fs::read_dir(format!("/proc/{pid}/fd")).map(|entries| entries.count() as u64)),
        threads: field("Threads").and_then(|text| text.parse().ok()).unwrap_or(0),
        state: field("State").and_then(|text| text.chars().next()).unwrap_or('?'),
        command_line: Fact::from(command_line(pid)),
        tracer: Fact::from(tracer.map(|pid| (pid > 0).then_some(pid))),
    })
}

fn command_line(pid: i32) -> io::Result<Vec<String>> {
    let mut text = read_text(&format!("/proc/{pid}/cmdline"))?;
    let end = (0..=MAX_COMMAND_LINE.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    Ok(redact::command_line(&text.trim_end_matches('\0').split('\0').collect::<Vec<_>>()))
}

pub(crate) fn sockets(pid: i32) -> io::Result<Vec<SocketFacts>> {
    super::sockets::of(pid)
}

/// `Max open files            1024                 524288               files`: names have spaces, columns have widths.
pub(crate) fn limits(pid: i32) -> io::Result<Vec<LimitFacts>> {
    const NAME_WIDTH: usize = 26;
    let text = read_text(&format!("/proc/{pid}/limits"))?;
    let limit = |line: &str| {
        let (name, rest) = line.split_at_checked(NAME_WIDTH)?;
        let mut values = rest.split_ascii_whitespace().map(|value| value.parse::<u64>().ok());
        Some(LimitFacts { name: name.trim_end().to_owned(), soft: values.next()?, hard: values.next()? })
    };
    Ok(text.lines().skip(1).filter_map(limit).collect())
}

pub(crate) fn pressure() -> HostPressure {
    let read = |resource: &str| {
        let text = read_text(&format!("/proc/pressure/{resource}"));
        match text {
            Ok(text) => Fact::from(parse_pressure(&text).ok_or_else(|| odd("pressure"))),
            // A kernel without PSI has no such file: not "gone" but "never was".
            Err(error) if error.kind() == io::ErrorKind::NotFound => Fact::Missing(Missing::Unsupported),
            Err(error) => Fact::Missing(Missing::from(&error)),
        }
    };
    HostPressure { cpu: read("cpu"), memory: read("memory"), io: read("io") }
}

fn parse_pressure(text: &str) -> Option<Pressure> {
    let average = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        line.split_ascii_whitespace().find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
    };
    Some(Pressure { some_avg10: average("some ")?, full_avg10: average("full ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_with_and_without_the_full_line() {
        let text = "some avg10=1.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(parse_pressure(text), Some(Pressure { some_avg10: 1.5, full_avg10: Some(0.25) }));
        assert_eq!(parse_pressure("some avg10=2.00").unwrap().full_avg10, None);
        assert_eq!(parse_pressure("nonsense"), None);
    }

    #[test]
    fn the_calls_programs_wait_in_have_names() {
        assert_eq!(name_of(libc::SYS_futex), Some("futex"));
        assert_eq!(name_of(999_999), None);
    }
}
