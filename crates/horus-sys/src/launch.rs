//! Making a child that does not run its program before it is told to.
//!
//! ```text
//!   parent                        child
//!   ------                        -----
//!   fork ------------------------> session, streams, ordinary badness, limits, user, directory
//!   write down who it is           read one byte from the gate ...
//!   open the gate -- one byte ---> ... execve
//!   read the report <-- EOF: it runs | 8 bytes: step and errno, then _exit
//! ```
//!
//! If the parent dies before the gate opens, the child reads end-of-file and ends without having run anything: a
//! program that runs is always on record. The report never blocks either side: its pipe is fresh and takes 8 bytes.
//!
//! Between `fork` and `execve` only async-signal-safe calls are made; all memory is allocated before.
//! Rejected: `std::process::Command` with `pre_exec` (its error pipe makes the parent wait for the exec, and the gate
//! must open in between) and `PR_SET_PDEATHSIG` (fires when the forking *thread* ends).

use crate::call::{self, check};
use crate::limits::{Limit, Resource};
use crate::pipe;
use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::ptr;

/// The variable by which a program knows that the watchdog means it, and nobody that it has started.
const WATCHDOG_PID: &[u8] = b"WATCHDOG_PID=";
/// Its name, ten digits, and the zero at the end.
const WATCHDOG_PID_BYTES: usize = WATCHDOG_PID.len() + 11;

/// Where programs are looked for when the child's environment has no `PATH`.
pub const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Exit code of a child whose gate closed before it opened: nothing ran.
pub const EXIT_GATE_CLOSED: i32 = 125;
/// Exit code of a child that could not run its program; the report says why.
pub const EXIT_NOT_EXECUTED: i32 = 127;
const REPORT_LENGTH: usize = 8;

/// Whom the child runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Everything about a child-to-be, in the form the kernel takes.
#[derive(Debug)]
pub struct Plan {
    /// Absolute path of the program.
    pub program: CString,
    /// Arguments, the program's own name first.
    pub arguments: Vec<CString>,
    /// `NAME=value` entries; nothing else is inherited.
    pub environment: Vec<CString>,
    /// It is also told its own number in `WATCHDOG_PID`, which only the child itself can know: what it starts sees that it is not meant.
    pub watchdog_pid: bool,
    /// Working directory.
    pub directory: CString,
    /// Whom to become; `None` stays as we are.
    pub identity: Option<Identity>,
    /// Limits to set.
    pub limits: Vec<(Resource, Limit)>,
    /// Becomes descriptor 0.
    pub input: OwnedFd,
    /// Becomes descriptors 1 and 2.
    pub output: OwnedFd,
}

/// A child that waits at its gate.
#[derive(Debug)]
pub struct Waiting {
    /// Its pid. It is our child and must be reaped.
    pub pid: i32,
    /// Lets it run; dropped unopened, it ends instead.
    pub gate: Gate,
    /// Tells how its `execve` went.
    pub report: Report,
}

/// The only way for the child to go on.
#[derive(Debug)]
pub struct Gate(OwnedFd);

/// The child's end of the story, non-blocking.
#[derive(Debug)]
pub struct Report(OwnedFd);

/// What a report says so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Not decided yet.
    Nothing,
    /// The program runs (or the child was killed before it could say anything: look whether it lives).
    Executed,
    /// It could not be run.
    Failed(Failed),
}

/// Which step between fork and exec failed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// The step.
    pub step: Step,
    /// The `errno` it failed with.
    pub errno: i32,
}

/// The steps of a child between fork and exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Found its own session.
    Session,
    /// Put input and output in place.
    Streams,
    /// Set the resource limit.
    Limit(Resource),
    /// Set supplementary groups.
    Groups,
    /// Set the group.
    Group,
    /// Set the user.
    User,
    /// Enter the working directory.
    Directory,
    /// Execute the program.
    Execute,
}

const STEPS: [Step; 13] = [
    Step::Session,
    Step::Streams,
    Step::Limit(Resource::OpenFiles),
    Step::Limit(Resource::Memory),
    Step::Limit(Resource::Processes),
    Step::Limit(Resource::Core),
    Step::Limit(Resource::FileSize),
    Step::Limit(Resource::Cpu),
    Step::Groups,
    Step::Group,
    Step::User,
    Step::Directory,
    Step::Execute,
];

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Session => f.write_str("found a session"),
            Self::Streams => f.write_str("attach output"),
            Self::Limit(resource) => write!(f, "set limit {}", resource.name()),
            Self::Groups => f.write_str("set supplementary groups"),
            Self::Group => f.write_str("set group"),
            Self::User => f.write_str("set user"),
            Self::Directory => f.write_str("enter the working directory"),
            Self::Execute => f.write_str("execute the program"),
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {}: {}", self.step, io::Error::from_raw_os_error(self.errno))
    }
}

/// Why a command names no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No such file.
    #[error("{program}: not found{}", if searched.is_empty() { String::new() } else { format!(" in PATH ({searched})") })]
    NotFound {
        /// As it was asked for.
        program: String,
        /// The PATH that was searched, if it was.
        searched: String,
    },
    /// There is one, but nobody may execute it.
    #[error("{0}: not executable")]
    NotExecutable(PathBuf),
    /// There is a directory of that name.
    #[error("{0}: is a directory")]
    IsDirectory(PathBuf),
}

/// Finds the program as a shell would: a name with a slash relative to `directory`, any other in `path`.
pub fn resolve(program: &OsStr, path: Option<&OsStr>, directory: &Path) -> Result<PathBuf, ResolveError> {
    if program.as_bytes().contains(&b'/') {
        return probe(&directory.join(program)).unwrap_or_else(|| Err(not_found(program, "")));
    }
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    let mut worst = None;
    if !program.is_empty() {
        for entry in std::env::split_paths(path) {
            match probe(&directory.join(entry).join(program)) {
                Some(Ok(found)) => return Ok(found),
                Some(Err(error)) => worst = worst.or(Some(error)),
                None => {}
            }
        }
    }
    Err(worst.unwrap_or_else(|| not_found(program, &path.to_string_lossy())))
}

fn not_found(program: &OsStr, searched: &str) -> ResolveError {
    ResolveError::NotFound { program: program.to_string_lossy().into_owned(), searched: searched.to_owned() }
}

fn probe(path: &Path) -> Option<Result<PathBuf, ResolveError>> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(if metadata.is_dir() {
        Err(ResolveError::IsDirectory(path.to_owned()))
    } else if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        Err(ResolveError::NotExecutable(path.to_owned()))
    } else {
        Ok(path.to_owned())
    })
}

impl Gate {
    /// Lets the child run its program. An error means that it had died already.
    pub fn open(self) -> io::Result<()> {
        pipe::write_some(self.0.as_fd(), b"g").map(drop)
    }
}

impl Report {
    /// What the child has said.
    pub fn read(&self) -> io::Result<Told> {
        let mut bytes = [0; REPORT_LENGTH];
        // SAFETY: the buffer is valid for writes of its length.
        let result = call::retry(|| unsafe {
            libc::read(self.0.as_raw_fd(), bytes.as_mut_ptr().cast(), REPORT_LENGTH)
        });
        match result {
            Ok(0) => Ok(Told::Executed),
            Ok(_) => Ok(decode(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Told::Nothing),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Report {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn decode(bytes: [u8; REPORT_LENGTH]) -> Told {
    let [step, _, _, _, a, b, c, d] = bytes;
    let errno = i32::from_le_bytes([a, b, c, d]);
    Told::Failed(Failed { step: STEPS.get(usize::from(step)).copied().unwrap_or(Step::Execute), errno })
}

/// The plan as plain numbers and pointers: what the child may use without allocating.
struct Prepared<'p> {
    plan: &'p Plan,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    groups: Vec<libc::gid_t>,
    change_identity: bool,
    gate_read: RawFd,
    gate_write: RawFd,
    report: RawFd,
}

/// Forks. The child sets itself up and waits at the gate; this returns at once. The caller must be single-threaded or
/// reserve the child (see [`crate::reap::reserve_while`]), and must ignore `SIGPIPE`.
pub fn launch(plan: &Plan) -> io::Result<Waiting> {
    let (gate_read, gate_write) = pipe::anonymous(false)?;
    let (report_read, report_write) = pipe::anonymous(true)?;
    for descriptor in [&gate_read, &gate_write, &report_write, &plan.input, &plan.output] {
        if descriptor.as_raw_fd() < 3 {
            return Err(io::Error::other("descriptors 0 to 2 must be open before a child is made"));
        }
    }
    let us = crate::user::effective_uid();
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
    };
    let mut environment: Vec<_> = pointers(&plan.environment);
    if plan.watchdog_pid {
        // Room for one more before the end.
        environment.push(ptr::null());
    }
    let mut prepared = Prepared {
        arguments: pointers(&plan.arguments),
        environment,
        groups: plan.identity.as_ref().map_or_else(Vec::new, |identity| identity.groups.clone()),
        // An ordinary user may "become" itself, but may not set groups.
        change_identity: plan.identity.as_ref().is_some_and(|identity| us == 0 || identity.uid != us),
        gate_read: gate_read.as_raw_fd(),
        gate_write: gate_write.as_raw_fd(),
        report: report_write.as_raw_fd(),
        plan,
    };
    let mask = block_all_signals()?;
    // SAFETY: the child runs only `run_child`, which makes async-signal-safe calls and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        run_child(&mut prepared);
    }
    let pid = check(pid);
    restore_signals(&mask);
    Ok(Waiting { pid: pid?, gate: Gate(gate_write), report: Report(report_read) })
}

fn block_all_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: an all-zero sigset_t is valid memory for sigfillset.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `all` is a valid set.
    check(unsafe { libc::sigfillset(&raw mut all) })?;
    // SAFETY: both sets are valid.
    let code = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    if code == 0 { Ok(before) } else { Err(io::Error::from_raw_os_error(code)) }
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: the mask was filled by the kernel.
    let _ = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, ptr::from_ref(mask), ptr::null_mut()) };
}

/// The child's whole life before its program. Async-signal-safe: system calls on memory prepared by the parent.
fn run_child(prepared: &mut Prepared<'_>) -> ! {
    let mut own_pid = [0_u8; WATCHDOG_PID_BYTES];
    // First of all: only the parent's copy may keep the gate from closing.
    // SAFETY: our copy of the descriptor, not used again.
    let _ = unsafe { libc::close(prepared.gate_write) };
    let step = match set_up(prepared) {
        Ok(()) => {
            let mut byte = 0_u8;
            // SAFETY: one byte of stack.
            let read = call::retry(|| unsafe { libc::read(prepared.gate_read, (&raw mut byte).cast(), 1) });
            if !matches!(read, Ok(1)) {
                // SAFETY: ends the process without running the parent's exit handlers.
                unsafe { libc::_exit(EXIT_GATE_CLOSED) }
            }
            if prepared.plan.watchdog_pid {
                // SAFETY: it takes nothing and cannot fail.
                write_watchdog_pid(&mut own_pid, unsafe { libc::getpid() });
                let last = prepared.environment.len().saturating_sub(2);
                if let Some(place) = prepared.environment.get_mut(last) {
                    *place = own_pid.as_ptr().cast();
                }
            }
            let arguments = prepared.arguments.as_ptr();
            let environment = prepared.environment.as_ptr();
            // SAFETY: program and both NULL-terminated vectors live in the copied memory of the parent.
            unsafe { libc::execve(prepared.plan.program.as_ptr(), arguments, environment) };
            Step::Execute
        }
        Err(step) => step,
    };
    fail(prepared.report, step)
}

/// `WATCHDOG_PID=` and a number, ended by a zero. Allocates nothing.
fn write_watchdog_pid(buffer: &mut [u8; WATCHDOG_PID_BYTES], pid: libc::pid_t) {
    let mut digits = [0_u8; 10];
    let (mut rest, mut count) = (pid.unsigned_abs(), 0);
    for digit in &mut digits {
        let value = (rest % 10) as u8;
        *digit = b'0' + value;
        (rest, count) = (rest / 10, count + 1);
        if rest == 0 {
            break;
        }
    }
    let text = WATCHDOG_PID.iter().chain(digits.iter().take(count).rev());
    // The zero behind it is there already.
    buffer.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
}

fn fail(report: RawFd, step: Step) -> ! {
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    let number =
        STEPS.iter().position(|known| *known == step).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX);
    let [a, b, c, d] = errno.to_le_bytes();
    let message = [number, 0, 0, 0, a, b, c, d];
    // SAFETY: eight bytes of stack into an empty pipe: it cannot block, and if nobody reads any more we just die.
    let _ = unsafe { libc::write(report, message.as_ptr().cast(), REPORT_LENGTH) };
    // SAFETY: ends the process without running the parent's exit handlers.
    unsafe { libc::_exit(EXIT_NOT_EXECUTED) }
}

fn set_up(prepared: &Prepared<'_>) -> Result<(), Step> {
    // SAFETY: a plain system call.
    check(unsafe { libc::setsid() }).map_err(|_| Step::Session)?;
    reset_signals();
    let (input, output) = (prepared.plan.input.as_raw_fd(), prepared.plan.output.as_raw_fd());
    for (from, to) in [(input, 0), (output, 1), (output, 2)] {
        // SAFETY: both are open descriptors (0 to 2 by the parent's check); dup2 clears close-on-exec on the copy.
        check(unsafe { libc::dup2(from, to) }).map_err(|_| Step::Streams)?;
    }
    // Close everything else, do not only mark it: a child that waits at its gate, or hangs in execve on a dead network
    // disk, must not keep its parent's lock and sockets alive. Before the limits, which could hide high numbers.
    crate::os::close_others(3, prepared.gate_read, prepared.report);
    // A daemon's protection from the kernel's out-of-memory killer is not its children's. Not permitted is no failure.
    crate::os::ordinary_oom_score();
    for (resource, limit) in &prepared.plan.limits {
        let limit = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
        // SAFETY: a valid rlimit on the stack.
        check(unsafe { libc::setrlimit(resource.number() as _, &raw const limit) })
            .map_err(|_| Step::Limit(*resource))?;
    }
    if prepared.change_identity {
        become_identity(prepared)?;
    }
    // SAFETY: a NUL-terminated path.
    check(unsafe { libc::chdir(prepared.plan.directory.as_ptr()) }).map_err(|_| Step::Directory)?;
    Ok(())
}

fn become_identity(prepared: &Prepared<'_>) -> Result<(), Step> {
    let Some(identity) = &prepared.plan.identity else { return Ok(()) };
    let groups = &prepared.groups;
    // SAFETY: the pointer is valid for so many ids. Groups first: afterwards we may not any more.
    check(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) }).map_err(|_| Step::Groups)?;
    // SAFETY: a plain system call.
    check(unsafe { libc::setgid(identity.gid) }).map_err(|_| Step::Group)?;
    // SAFETY: a plain system call; as root it sets the saved id too, so there is no way back.
    check(unsafe { libc::setuid(identity.uid) }).map_err(|_| Step::User)?;
    Ok(())
}

/// Handlers are reset by exec, but *ignored* signals stay ignored, and the mask stays too: undo both.
fn reset_signals() {
    crate::os::default_all_signals();
    // SAFETY: an all-zero sigset_t is valid memory for sigemptyset.
    let mut none: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `none` is a valid set.
    let _ = unsafe { libc::sigemptyset(&raw mut none) };
    restore_signals(&none);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_without_allocating() {
        for pid in [1, 10, 4711, i32::MAX] {
            let mut buffer = [0_u8; WATCHDOG_PID_BYTES];
            write_watchdog_pid(&mut buffer, pid);
            let text = std::ffi::CStr::from_bytes_until_nul(&buffer).unwrap().to_str().unwrap();
            assert_eq!(text, format!("WATCHDOG_PID={pid}"));
        }
    }

    #[test]
    fn programs_are_found_as_a_shell_would_or_the_reason_is_said() {
        let root = Path::new("/");
        let resolve =
            |program: &str, path: Option<&str>| resolve(OsStr::new(program), path.map(OsStr::new), root);
        assert!(resolve("sh", None).unwrap().ends_with("bin/sh"));
        assert_eq!(resolve("bin/sh", None).unwrap(), Path::new("/bin/sh"));
        assert_eq!(resolve("/bin", None), Err(ResolveError::IsDirectory("/bin".into())));
        assert_eq!(resolve("/etc/passwd", None), Err(ResolveError::NotExecutable("/etc/passwd".into())));
        assert_eq!(
            resolve("passwd", Some("/nowhere:/etc")),
            Err(ResolveError::NotExecutable("/etc/passwd".into()))
        );
        assert_eq!(resolve("/no/such", None).unwrap_err().to_string(), "/no/such: not found");
        let error = resolve("no-such-program", Some("/bin")).unwrap_err();
        assert_eq!(error.to_string(), "no-such-program: not found in PATH (/bin)");
        assert!(resolve("", None).is_err());
    }

    #[test]
    fn every_step_survives_the_pipe() {
        for (number, step) in STEPS.iter().enumerate() {
            let number = u8::try_from(number).unwrap();
            let told = decode([number, 0, 0, 0, 2, 0, 0, 0]);
            assert_eq!(told, Told::Failed(Failed { step: *step, errno: 2 }));
        }
    }
}
