//! `keep` runs the keeper; every other verb is a subject for it to keep, or a small Horus. Only for this crate's tests.
#![forbid(unsafe_code)]

use horus_keeper::protocol::{
    Event, Generation, Limits, LogSpec, Request, SlotName, SlotState, StartSpec, Text,
};
use horus_keeper::{attach, hold_fifos, reap_orphans};
use horus_sys::cgroup_limits::GroupLimits;
use horus_sys::limits::{self, Limit, Resource};
use horus_sys::poll::{Interest, Poller, SignalPipe};
use horus_sys::process;
use horus_sys::signal::Signal;
use horus_sys::subreaper;
use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let verb = arguments.next();
    if verb.as_deref() == Some(OsStr::new("keep")) {
        return horus_keeper::run(arguments);
    }
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let text = |at: usize| words.get(at).map_or("", String::as_str);
    let number = |at: usize| text(at).parse::<u64>().unwrap_or(0);
    let result = match verb.as_deref().and_then(OsStr::to_str) {
        Some("leaderless") => leaderless(),
        Some("monster") => monster(number(0)),
        Some("lines") => lines(number(0), number(1)),
        Some("numbered") => numbered(Path::new(text(0)), text(1), number(2)),
        Some("attach") => attach(Path::new(text(0)), &own_exe(), None).map(|_| 0).map_err(Into::into),
        Some("attach-as-a-daemon") => attach_as_a_daemon(Path::new(text(0))),
        Some("replace") => horus_keeper::replace(Path::new(text(0))).map(|_| 0).map_err(Into::into),
        Some("reaper") => reaper(Path::new(text(0))),
        Some("manager") => manager(&words),
        Some("horus") => horus(Path::new(text(0)), Path::new(text(1)), number(2)),
        _ => Ok(64),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<u8, Box<dyn Error>>;

fn own_exe() -> PathBuf {
    std::env::current_exe().unwrap_or_default()
}

/// A Horus that a service manager protects and that has raised its own limits starts the keeper.
fn attach_as_a_daemon(run: &Path) -> Outcome {
    let given = limits::get(Resource::OpenFiles)?;
    limits::set(Resource::OpenFiles, Limit { soft: 300, hard: given.hard })?;
    OpenOptions::new().write(true).open("/proc/self/oom_score_adj")?.write_all(b"321")?;
    limits::raise_open_files()?;
    attach(run, &own_exe(), None)?;
    Ok(0)
}

/// The first thread ends, another goes on: the process shows as a zombie and lives.
fn leaderless() -> Outcome {
    std::thread::spawn(|| {
        loop {
            std::thread::park();
        }
    });
    process::end_this_thread()
}

/// One line of so many bytes, and a short one.
fn monster(mut bytes: u64) -> Outcome {
    let chunk = [b'x'; 64 * 1024];
    let mut out = io::stdout().lock();
    while bytes > 0 {
        let count = usize::try_from(bytes)?.min(chunk.len());
        out.write_all(chunk.get(..count).unwrap_or_default())?;
        bytes -= u64::try_from(count)?;
    }
    out.write_all(b"\nthe end\n")?;
    out.flush()?;
    Ok(0)
}

/// Numbered lines of different lengths, in writes that do not end where lines end.
fn lines(count: u64, size_of_write: u64) -> Outcome {
    let mut out = BufWriter::with_capacity(usize::try_from(size_of_write)?.max(1), io::stdout().lock());
    for number in 0..count {
        writeln!(out, "line {number} {}", "x".repeat(usize::try_from(number % 61)?))?;
    }
    out.flush()?;
    Ok(0)
}

/// Writes its start and its end into a ledger, and numbered lines in between; how many, and its exit code, it draws
/// from its pid.
fn numbered(ledger: &Path, slot: &str, generation: u64) -> Outcome {
    let pid = process::own_pid();
    let seed = u64::from(pid.unsigned_abs()).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    let (count, code) = (100 + seed % 2_000, seed % 120);
    let enter = |line: String| -> io::Result<()> {
        OpenOptions::new().append(true).create(true).open(ledger)?.write_all(line.as_bytes())
    };
    enter(format!("S {slot} {generation} {pid}\n"))?;
    let poller = Poller::new()?;
    let mut out = io::stdout();
    for number in 0..count {
        out.write_all(format!("{slot} {generation} {pid} line {number} {}\n", "x".repeat(40)).as_bytes())?;
        if number % 50 == 49 {
            poller.wait(&mut Vec::new(), Some(Duration::from_millis(1)))?;
        }
    }
    enter(format!("E {slot} {generation} {pid} {count} {code}\n"))?;
    Ok(u8::try_from(code)?)
}

/// What Horus does for a dead keeper: it is a subreaper, and records how orphans ended.
fn reaper(run: &Path) -> Outcome {
    subreaper::become_one().known().ok_or("no subreaper here")?;
    let signals = SignalPipe::listen(&[Signal::CHLD])?;
    let poller = Poller::new()?;
    poller.add(signals.as_fd(), 0, Interest::Read)?;
    drop(attach(run, &own_exe(), None)?);
    OpenOptions::new().append(true).create(true).open(run.with_file_name("ready"))?;
    loop {
        reap_orphans(run)?;
        poller.wait(&mut Vec::new(), None)?;
        signals.take()?;
    }
}

/// A service manager: starts Horus, starts it again when it dies (sometimes late), and reaps orphans at once.
#[expect(clippy::disallowed_methods, reason = "the manager is not Horus and has no keeper")]
fn manager(words: &[String]) -> Outcome {
    subreaper::become_one().known().ok_or("no subreaper here")?;
    let signals = SignalPipe::listen(&[Signal::CHLD])?;
    let poller = Poller::new()?;
    poller.add(signals.as_fd(), 0, Interest::Read)?;
    loop {
        let child = std::process::Command::new(own_exe()).arg("horus").args(words).spawn()?;
        let mut lives = true;
        while lives {
            horus_sys::reap::take_orphans(|pid, _| {
                lives &= u32::try_from(pid) != Ok(child.id());
                true
            })?;
            if lives {
                poller.wait(&mut Vec::new(), None)?;
                signals.take()?;
            }
        }
        if child.id() % 7 == 0 {
            Poller::new()?.wait(&mut Vec::new(), Some(Duration::from_millis(150)))?;
        }
    }
}

/// After so many starts on one connection the small Horus asks its keeper to become the same program again, at each start.
const UPGRADE_AFTER_STARTS: u32 = 5;

/// A Horus that restarts whatever ends, at once and for ever: the sharpest test of "never started twice".
fn horus(run: &Path, ledger: &Path, slots: u64) -> Outcome {
    let _ = subreaper::become_one();
    let pid = process::own_pid().to_string();
    horus_sys::files::write_atomic(
        &ledger.with_file_name("horus.pid"),
        pid.as_bytes(),
        horus_sys::files::Durability::ThisBoot,
    )?;
    let signals = SignalPipe::listen(&[Signal::CHLD])?;
    let names: Vec<SlotName> =
        (0..slots).map(|number| SlotName::try_from(format!("slot-{number}"))).collect::<Result<_, _>>()?;
    let mut hold = horus_keeper::FifoHold::default();
    loop {
        reap_orphans(run)?;
        let Ok(attached) = attach(run, &own_exe(), None) else { continue };
        if attached.hello.upgrades > 0 {
            let upgrades = ledger.with_file_name("upgrades");
            OpenOptions::new().append(true).create(true).open(upgrades)?.write_all(b"u")?;
        }
        drop(std::mem::replace(&mut hold, hold_fifos(run, &names)?));
        let mut generations = BTreeMap::new();
        let mut stream = attached.stream;
        for name in &names {
            let view = attached.hello.slots.iter().find(|view| view.slot == *name);
            let generation = view.map_or(Generation(0), |view| view.generation);
            generations.insert(name.clone(), generation);
            if view.is_none_or(|view| matches!(view.state, SlotState::Empty | SlotState::Ended { .. })) {
                restart(&mut stream, &mut generations, name, ledger)?;
            }
        }
        let mut starts = 0_u32;
        let ended = attend(&mut stream, &signals, run, |stream, event| {
            starts += u32::from(matches!(event, Event::Started { .. }));
            if starts >= UPGRADE_AFTER_STARTS && matches!(event, Event::Started { .. }) {
                let mut line = serde_json::to_vec(&Request::Upgrade { executable: own_exe() })?;
                line.push(b'\n');
                stream.write_all(&line)?;
            }
            if let Event::Exited { slot, .. } | Event::StartFailed { slot, .. } = event {
                restart(stream, &mut generations, &slot, ledger)?;
            }
            hold.update(run, &names)?;
            Ok(())
        });
        drop(ended); // the keeper is gone: attach again
    }
}

fn restart(
    stream: &mut UnixStream,
    generations: &mut BTreeMap<SlotName, Generation>,
    slot: &SlotName,
    ledger: &Path,
) -> io::Result<()> {
    let generation = generations.entry(slot.clone()).or_default();
    generation.0 += 1;
    let words =
        ["numbered", &ledger.display().to_string(), slot.as_str(), &generation.to_string()].map(Text::from);
    let exe = Text::from(own_exe().display().to_string());
    let spec = StartSpec {
        slot: slot.clone(),
        generation: *generation,
        argv: std::iter::once(exe).chain(words).collect(),
        environment: Vec::new(),
        directory: "/".into(),
        user: None,
        limits: Limits::default(),
        tree: GroupLimits::default(),
        log: LogSpec {
            path: ledger.with_file_name(format!("{slot}.log")),
            max_bytes: 1024 * 1024,
            keep: 100,
        },
        exclusive: Vec::new(),
    };
    let mut line = serde_json::to_vec(&Request::Start(Box::new(spec)))?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn attend(
    stream: &mut UnixStream,
    signals: &SignalPipe,
    run: &Path,
    mut handle: impl FnMut(&mut UnixStream, Event) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let poller = Poller::new()?;
    poller.add(stream.as_fd(), 0, Interest::Read)?;
    poller.add(signals.as_fd(), 1, Interest::Read)?;
    let (mut incoming, mut ready) = (Vec::new(), Vec::new());
    let mut chunk = [0; 16 * 1024];
    loop {
        poller.wait(&mut ready, None)?;
        if !signals.take()?.is_empty() {
            reap_orphans(run)?;
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => incoming.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(end) = incoming.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = incoming.drain(..=end).collect();
            handle(stream, serde_json::from_slice(&line)?)?;
        }
    }
}
