//! The two short-lived ways to run a program, apart from the keeper's own children: a detached helper that outlives
//! us (the keeper itself), and a command with a deadline (exec probes).

use crate::call::check;
use crate::clock;
use crate::limits::{self, Resource};
use crate::lock::set_inheritable;
use crate::passed;
use crate::pipe::{self, Moved};
use crate::poll::{Interest, Poller, Ready};
use crate::process::{Handle, identify};
use crate::reap::{self, Peek, WaitStatus};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a killed command may take to disappear before it is left to the orphan reaper.
const KILL_PATIENCE: Duration = Duration::from_secs(1);
/// Bytes taken from a pipe at once.
const CHUNK: usize = 16 * 1024;

/// What came of a command with a deadline.
#[derive(Debug)]
pub enum ExecOutcome {
    /// It ended by itself.
    Finished {
        /// How.
        status: WaitStatus,
        /// What it printed.
        output: Output,
        /// How long it ran.
        elapsed: Duration,
    },
    /// The deadline passed; the whole process group was killed.
    TimedOut {
        /// What it had printed.
        output: Output,
        /// Whether it was seen gone. `false`: it hangs in the kernel (state D); it is reaped once it can be.
        gone: bool,
    },
    /// It could not be started or watched.
    NotStarted {
        /// Why.
        error: io::Error,
    },
}

/// Standard output and error of a command, as they came.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Output {
    /// The first bytes, at most as many as were asked for.
    pub bytes: Vec<u8>,
    /// How many more there were.
    pub dropped: u64,
}

/// Starts a program in its own session that outlives this process: no terminal, no standard input, output discarded,
/// errors into `errors`, and exactly one more descriptor, `inherited`, under its own number. Only `environment` is passed on.
/// It gets the limit on open files that we were given, not the one that we raised it to.
/// It is a child of ours: [`reap::take_orphans`] reaps it. Returns its pid.
#[expect(clippy::disallowed_methods, reason = "this module is the one other home of process creation")]
pub fn detached(
    program: &Path,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
    inherited: BorrowedFd<'_>,
    errors: File,
) -> io::Result<i32> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().map(|(name, value)| (name, value)));
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    let inherited = inherited.as_raw_fd();
    let open_files = limits::given_open_files()?;
    let prepare = move || {
        // SAFETY: a plain system call. A new session: no terminal's Ctrl-C, no group's signal reaches it.
        check(unsafe { libc::setsid() })?;
        crate::os::close_on_exec_from(3);
        // Best effort: the raised limit does no harm, it is only not what was asked for.
        let _ = limits::set(Resource::OpenFiles, open_files);
        // SAFETY: the parent keeps the descriptor open until the spawn returns.
        set_inheritable(unsafe { BorrowedFd::borrow_raw(inherited) }, true)
    };
    // SAFETY: `prepare` makes async-signal-safe calls only and allocates nothing.
    unsafe { command.pre_exec(prepare) };
    let (pid, ()) = reap::reserve_while(|| {
        let child = command.spawn()?;
        Ok::<_, io::Error>((i32::try_from(child.id()).unwrap_or(i32::MAX), ()))
    })?;
    reap::release(pid);
    Ok(pid)
}

/// Replaces our own program: the same process, with its children, goes on as `program`. The descriptors `keep` stay open
/// under their numbers, everything else that is close-on-exec is closed; dispositions of handled signals become the default.
/// Returns only if it cannot be done, and then nothing has changed.
pub fn become_program(
    program: &Path,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
    keep: &[BorrowedFd<'_>],
) -> io::Error {
    match try_become(program, arguments, environment, keep) {
        Ok(never) => match never {},
        Err(error) => {
            for descriptor in keep {
                // It was open a moment ago, and stays so.
                let _ = set_inheritable(*descriptor, false);
            }
            error
        }
    }
}

fn try_become(
    program: &Path,
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
    keep: &[BorrowedFd<'_>],
) -> io::Result<std::convert::Infallible> {
    let word = |bytes: &[u8]| CString::new(bytes).map_err(io::Error::from);
    let name = word(program.as_os_str().as_bytes())?;
    let mut words = vec![name.clone()];
    for argument in arguments {
        words.push(word(argument.as_bytes())?);
    }
    let for_the_next =
        environment.iter().filter(|(name, _)| !passed::VARIABLES.iter().any(|variable| name == variable));
    let variables =
        for_the_next.map(|(name, value)| word(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
    let variables = variables.collect::<io::Result<Vec<_>>>()?;
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (words, variables) = (pointers(&words), pointers(&variables));
    for descriptor in keep {
        set_inheritable(*descriptor, true)?;
    }
    // SAFETY: a NUL-terminated path and two NULL-terminated vectors of NUL-terminated texts, all alive.
    unsafe { libc::execve(name.as_ptr(), words.as_ptr(), variables.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Takes over a descriptor that our former program left open under this number; close-on-exec from now on.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD on any number is harmless and tells whether it is open.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    let descriptor = pipe::own(number);
    set_inheritable(descriptor.as_fd(), false)?;
    Ok(descriptor)
}

/// The file that this process was executed from, also after another one was renamed over it; and the path by which it can be
/// executed as long as it is open. Only where the system executes open files (Linux).
pub fn own_program() -> io::Result<(OwnedFd, PathBuf)> {
    crate::os::own_program()
}

/// A file without a name, for what one program hands to the next in the same process.
pub fn anonymous_file() -> io::Result<File> {
    crate::os::anonymous_file(c"horus-handover")
}

/// Runs a command in its own process group, with exactly this environment and a limit on time and kept output. Blocks:
/// call it from a thread that may. When it returns the group is gone, also if the command left children behind; only
/// a child that founded its own session escapes.
pub fn run_with_deadline(
    argv: &[OsString],
    environment: &[(OsString, OsString)],
    directory: &Path,
    timeout: Duration,
    max_output: usize,
) -> ExecOutcome {
    match Running::start(argv, environment, directory) {
        Ok(mut running) => running.attend(timeout, max_output),
        Err(error) => ExecOutcome::NotStarted { error },
    }
}

const TOKEN_PROCESS: u64 = 0;
const TOKEN_OUTPUT: u64 = 1;
const TOKEN_ERRORS: u64 = 2;

struct Running {
    pid: i32,
    handle: Option<Handle>,
    poller: Poller,
    streams: [Option<OwnedFd>; 2],
    started: Duration,
}

impl Running {
    #[expect(clippy::disallowed_methods, reason = "this module is the one other home of process creation")]
    fn start(argv: &[OsString], environment: &[(OsString, OsString)], directory: &Path) -> io::Result<Self> {
        let empty = || io::Error::new(io::ErrorKind::InvalidInput, "the command is empty");
        let (program, arguments) = argv.split_first().ok_or_else(empty)?;
        let path = environment
            .iter()
            .find(|(name, _)| name == OsStr::new("PATH"))
            .map(|(_, value)| value.as_os_str());
        let program_path = crate::launch::resolve(program, path, directory)
            .map_err(|error| io::Error::new(io::ErrorKind::NotFound, error.to_string()))?;
        let poller = Poller::new()?;
        let mut command = Command::new(program_path);
        command.arg0(program).args(arguments).env_clear();
        command.envs(environment.iter().map(|(name, value)| (name, value))).current_dir(directory);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let started = clock::monotonic();
        let (pid, mut child) = reap::reserve_while(|| {
            let child = command.spawn()?;
            Ok::<_, io::Error>((i32::try_from(child.id()).unwrap_or(i32::MAX), child))
        })?;
        let streams = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        let mut running = Self { pid, handle: None, poller, streams, started };
        if let Err(error) = running.watch() {
            running.end();
            return Err(error);
        }
        Ok(running)
    }

    fn watch(&mut self) -> io::Result<()> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let id = identify(self.pid)?.ok_or_else(gone)?;
        let handle = Handle::open(id)?.ok_or_else(gone)?;
        self.poller.watch(&handle, TOKEN_PROCESS)?;
        self.handle = Some(handle);
        for (stream, token) in self.streams.iter().zip([TOKEN_OUTPUT, TOKEN_ERRORS]) {
            if let Some(stream) = stream {
                pipe::set_nonblocking(stream.as_fd())?;
                self.poller.add(stream.as_fd(), token, Interest::Read)?;
            }
        }
        Ok(())
    }

    fn attend(&mut self, timeout: Duration, max_output: usize) -> ExecOutcome {
        let mut output = Output::default();
        let mut ready = Vec::new();
        loop {
            let elapsed = clock::monotonic().saturating_sub(self.started);
            if elapsed >= timeout {
                self.collect(&mut output, max_output);
                return ExecOutcome::TimedOut { gone: self.end().is_some(), output };
            }
            if let Err(error) = self.poller.wait(&mut ready, Some(timeout - elapsed)) {
                self.end();
                return ExecOutcome::NotStarted { error };
            }
            let ended = ready.iter().any(|event| event.token == TOKEN_PROCESS);
            self.collect(&mut output, max_output);
            self.close_finished(&ready);
            if ended {
                let elapsed = clock::monotonic().saturating_sub(self.started);
                return match self.end() {
                    Some(status) => ExecOutcome::Finished { status, output, elapsed },
                    None => ExecOutcome::TimedOut { output, gone: false },
                };
            }
        }
    }

    /// Takes what is there, a bounded number of chunks, so that a flood cannot postpone the deadline.
    fn collect(&self, output: &mut Output, max_output: usize) {
        const CHUNKS_A_TURN: usize = 16;
        let mut buffer = vec![0; CHUNK];
        for stream in self.streams.iter().flatten() {
            for _ in 0..CHUNKS_A_TURN {
                let Ok(Moved::Bytes(count)) = pipe::read_some(stream.as_fd(), &mut buffer) else { break };
                let keep = count.min(max_output.saturating_sub(output.bytes.len()));
                output.bytes.extend_from_slice(buffer.get(..keep).unwrap_or_default());
                output.dropped += u64::try_from(count - keep).unwrap_or(0);
            }
        }
    }

    /// A stream at its end would be ready for ever.
    fn close_finished(&mut self, ready: &[Ready]) {
        for event in ready.iter().filter(|event| event.hangup) {
            let slot = match event.token {
                TOKEN_OUTPUT => self.streams.first_mut(),
                TOKEN_ERRORS => self.streams.last_mut(),
                _ => None,
            };
            if let Some(stream) = slot.and_then(|stream| {
                stream.take_if(|stream| pipe::waiting(stream.as_fd()).is_ok_and(|bytes| bytes == 0))
            }) {
                let _ = self.poller.remove(stream.as_fd());
            }
        }
    }

    /// Kills the group, waits a little, reaps. The unreaped leader pins the group's number, so nobody else is hit.
    fn end(&mut self) -> Option<WaitStatus> {
        let deadline = clock::monotonic() + KILL_PATIENCE;
        let mut status = None;
        loop {
            // SAFETY: a plain system call; the number is ours and above 1.
            let _ = unsafe { libc::kill(-self.pid, libc::SIGKILL) };
            match reap::peek(self.pid) {
                Ok(Peek::Ended(ended)) => status = Some(ended),
                Ok(Peek::NotOurs) => break,
                Ok(Peek::Running) | Err(_) => {}
            }
            if status.is_some() {
                let _ = reap::reap(self.pid);
                break;
            }
            let left = deadline.saturating_sub(clock::monotonic());
            if left.is_zero() {
                break;
            }
            let _ = self.poller.wait(&mut Vec::new(), Some(left.min(Duration::from_millis(20))));
        }
        reap::release(self.pid);
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout_ms: u64, max_output: usize) -> ExecOutcome {
        let argv = ["sh", "-c", script].map(OsString::from);
        let environment = [("PATH".into(), "/usr/bin:/bin".into())];
        run_with_deadline(&argv, &environment, Path::new("/"), Duration::from_millis(timeout_ms), max_output)
    }

    #[test]
    fn output_and_code_come_back_and_the_rest_is_counted() {
        let ExecOutcome::Finished { status, output, .. } = shell("echo out; echo err >&2; exit 3", 20_000, 6)
        else {
            panic!("did not finish")
        };
        assert_eq!(status, WaitStatus::Code(3));
        assert_eq!((output.bytes.len(), output.dropped), (6, 2));
    }

    #[test]
    fn a_flood_ends_at_the_deadline() {
        let ExecOutcome::TimedOut { output, gone } = shell("yes", 300, 1_000) else { panic!("it ended") };
        assert!(gone);
        assert_eq!(output.bytes.len(), 1_000);
        assert!(output.dropped > 0);
    }

    #[test]
    fn the_whole_group_is_killed_at_the_deadline_and_after_the_end() {
        for (script, finishes) in [("sleep 1000 & echo $!; wait", false), ("sleep 1000 & echo $!", true)] {
            let outcome = shell(script, if finishes { 20_000 } else { 500 }, 100);
            let (ExecOutcome::TimedOut { output, .. } | ExecOutcome::Finished { output, .. }) = outcome
            else {
                panic!("not started")
            };
            let pid: i32 = String::from_utf8(output.bytes).unwrap().trim().parse().unwrap();
            let deadline = clock::monotonic() + Duration::from_secs(20);
            while crate::process::row(pid).unwrap().is_some_and(|row| !row.is_gone()) {
                assert!(clock::monotonic() < deadline, "{script}: {pid} lives");
            }
        }
    }

    #[test]
    fn what_cannot_start_says_why() {
        let outcome = run_with_deadline(&["no-such".into()], &[], Path::new("/"), Duration::from_secs(1), 10);
        let ExecOutcome::NotStarted { error } = outcome else { panic!("it started") };
        assert!(error.to_string().starts_with("no-such: not found in PATH"), "{error}");
    }

    #[test]
    fn the_orphan_reaper_steals_no_exit() {
        for _ in 0..50 {
            let reaper = std::thread::spawn(|| reap::take_orphans(|_, _| true).unwrap());
            let outcome = shell("exit 7", 20_000, 10);
            reaper.join().unwrap();
            assert!(
                matches!(outcome, ExecOutcome::Finished { status: WaitStatus::Code(7), .. }),
                "{outcome:?}"
            );
        }
    }
}
