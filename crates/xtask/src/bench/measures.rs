//! The measures: how fast a dead child is replaced, what watching costs, how soon a hang is seen, how long it takes to take over
//! what a killed Horus has left, how fast output is taken.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use horus_sys::clock::monotonic;

use super::arena::Arena;
use super::stats::Trials;
use super::supervisors::{Bare, Cost, Horus, Programs, cost, kill, services};
use crate::shell;

/// A subject has settled after so long: what dies younger may be treated otherwise by a supervisor.
const SETTLED: Duration = Duration::from_millis(1_600);

/// Between two trials, so that one is over before the next begins.
const PAUSE: Duration = Duration::from_millis(50);

/// How often something that has no event is looked at: the resolution of what is measured by it.
const LOOK: Duration = Duration::from_millis(5);

/// Failsafe for whatever is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// Deadline and poll period of the services that hang.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);
pub(crate) const POLL: Duration = Duration::from_millis(250);

/// What is promised by absence alone; proof, which needs only one deadline, is the kernel sampler's.
pub(crate) const BOUND: Duration =
    Duration::from_millis(2 * DEADLINE.as_millis() as u64 + POLL.as_millis() as u64 + 1_000);

/// From the death of a child to the first instruction of its replacement.
pub(crate) struct Replaced {
    pub(crate) horus: Trials,
    pub(crate) bare: Trials,
    /// From the start of Horus until all its children ran.
    pub(crate) all_running: Duration,
}

/// Kills each of `count` children once: the first restart, under the settings that everybody has.
pub(crate) fn replaced(programs: &Programs, arena: &mut Arena, count: usize) -> Result<Replaced> {
    let names: Vec<String> = (0..count).map(|index| format!("s{index:03}")).collect();
    let socket = arena.socket();
    let text = services(&names, |_, name| {
        format!("command = [{:?}, \"stamp\", {socket:?}, {name:?}]", programs.subject)
    });
    let begun = monotonic();
    let horus = Horus::start(programs, arena, &text)?;
    let lives = arena.wait_for("s", count, LIMIT).with_context(|| horus.last_words())?;
    let all_running = lives.iter().map(|life| life.born).max().unwrap_or(begun).saturating_sub(begun);
    let bare = Bare::start(programs, arena, 1)?;
    let mut bare_life = arena.next_life("bare0", 0, LIMIT)?;
    arena.pass(SETTLED);

    let (mut by_horus, mut by_bare) = (Vec::new(), Vec::new());
    // In turn, so that both meet the same weather on this machine.
    for life in lives {
        let killed_at = monotonic();
        kill(life.pid)?;
        let next = arena.next_life(&life.name, life.pid, LIMIT).with_context(|| horus.last_words())?;
        by_horus.push(next.born.saturating_sub(killed_at));
        arena.pass(PAUSE);
        let killed_at = monotonic();
        kill(bare_life.pid)?;
        bare_life = arena.next_life("bare0", bare_life.pid, LIMIT)?;
        by_bare.push(bare_life.born.saturating_sub(killed_at));
        arena.pass(PAUSE);
    }
    drop(bare);
    horus.stop(arena)?;
    Ok(Replaced { horus: Trials::new(by_horus), bare: Trials::new(by_bare), all_running })
}

/// What it costs to watch some children for a while.
pub(crate) struct Watching {
    pub(crate) children: usize,
    pub(crate) horus: Cost,
    pub(crate) bare: Cost,
}

/// Horus asks each child for its beat every second; the bare loop only waits.
pub(crate) fn watching(
    programs: &Programs,
    arena: &mut Arena,
    children: usize,
    time: Duration,
) -> Result<Watching> {
    let names: Vec<String> = (0..children).map(|index| format!("w{children}-{index:03}")).collect();
    let ports = free_ports(children)?;
    let socket = arena.socket();
    let text = services(&names, |index, name| {
        let port = ports.get(index).copied().unwrap_or_default();
        format!(
            "command = [{:?}, \"beat\", {socket:?}, {name:?}, \"{port}\"]\n\
             heartbeat.http = {{ url = \"http://127.0.0.1:{port}/\", every = \"1s\", seq = \"/seq\", state = \"/state\" }}",
            programs.subject
        )
    });
    let horus = Horus::start(programs, arena, &text)?;
    arena.wait_for(&format!("w{children}-"), children, LIMIT).with_context(|| horus.last_words())?;
    let by_horus = cost_over(arena, &horus.pids()?, time)?;
    horus.stop(arena)?;
    let bare = Bare::start(programs, arena, children)?;
    arena.wait_for("bare", children, LIMIT)?;
    let by_bare = cost_over(arena, &bare.pids()?, time)?;
    drop(bare);
    Ok(Watching { children, horus: by_horus, bare: by_bare })
}

/// Memory at the end; processor time and wake-ups of the time itself, the start not counted.
fn cost_over(arena: &mut Arena, pids: &[i32], time: Duration) -> Result<Cost> {
    arena.pass(5 * PAUSE + SETTLED);
    let before = cost(pids)?;
    arena.pass(time);
    let after = cost(pids)?;
    let (cpu, wakeups) = (after.cpu.saturating_sub(before.cpu), after.wakeups.saturating_sub(before.wakeups));
    Ok(Cost { cpu, wakeups, ..after })
}

/// From the last sign of life to the first signal, and to the first instruction of the replacement.
pub(crate) struct Seen {
    pub(crate) signalled: Trials,
    pub(crate) replaced: Trials,
}

/// Children hang, every second one with a page that goes on answering. Each has a Horus of its own: several that hang within a few
/// minutes would be taken for one common cause.
pub(crate) fn seen(programs: &Programs, arena: &mut Arena, trials: usize) -> Result<Seen> {
    let (mut signalled, mut replaced) = (Vec::new(), Vec::new());
    let socket = arena.socket();
    for index in 0..trials {
        let name = format!("h{index:03}");
        let port = free_ports(1)?.first().copied().unwrap_or_default();
        let text = services(std::slice::from_ref(&name), |_, name| {
            format!(
                "command = [{:?}, \"beat\", {socket:?}, {name:?}, \"{port}\"]\n\
                 deadline = \"{}s\"\n\
                 heartbeat.http = {{ url = \"http://127.0.0.1:{port}/\", every = \"{}ms\", timeout = \"{}ms\", seq = \"/seq\" }}",
                programs.subject,
                DEADLINE.as_secs(),
                POLL.as_millis(),
                2 * POLL.as_millis(),
            )
        });
        let horus = Horus::start(programs, arena, &text)?;
        let life = arena.next_life(&name, 0, LIMIT).with_context(|| horus.last_words())?;
        // Not in step with the polls: whatever the phase, the bound has to hold.
        arena.pass(2 * DEADLINE + Duration::from_millis(37) * u32::try_from(index % 7)?);
        let order = if index % 2 == 0 { "hang" } else { "lie" };
        let hung_at = arena.order(&name, order, LIMIT)?;
        let death = arena.death(life.pid, LIMIT).with_context(|| horus.last_words())?;
        signalled.push(death.saturating_sub(hung_at));
        let next = arena.next_life(&name, life.pid, LIMIT).with_context(|| horus.last_words())?;
        replaced.push(next.born.saturating_sub(hung_at));
        horus.stop(arena)?;
    }
    Ok(Seen { signalled: Trials::new(signalled), replaced: Trials::new(replaced) })
}

/// A Horus that was killed, and the next one.
pub(crate) struct Adopted {
    pub(crate) children: usize,
    /// From its start until all are known to live and are watched again.
    pub(crate) took: Duration,
    /// Children that died meanwhile: none is allowed.
    pub(crate) died: usize,
}

/// What Horus writes of each that it takes over.
const TAKEN_OVER: &str = "was found alive and taken over";

/// SIGKILL of Horus while many children live; its keeper lives on, too.
pub(crate) fn adopted(programs: &Programs, arena: &mut Arena, children: usize) -> Result<Adopted> {
    let names: Vec<String> = (0..children).map(|index| format!("a{index:03}")).collect();
    let socket = arena.socket();
    let text = services(&names, |_, name| {
        format!("command = [{:?}, \"stamp\", {socket:?}, {name:?}]", programs.subject)
    });
    let mut horus = Horus::start(programs, arena, &text)?;
    arena.wait_for("a", children, LIMIT).with_context(|| horus.last_words())?;
    arena.pass(SETTLED);
    horus.die_and_come_back()?;
    let begun = monotonic();
    while horus.said(TAKEN_OVER) < children {
        if monotonic() > begun + LIMIT {
            bail!("only {} of {children} were taken over: {}", horus.said(TAKEN_OVER), horus.last_words());
        }
        arena.pass(LOOK);
    }
    let took = monotonic().saturating_sub(begun);
    let died = children - arena.named("a").len();
    horus.stop(arena)?;
    Ok(Adopted { children, took, died })
}

/// Many lines, from a program to files that are rotated.
pub(crate) struct Logged {
    pub(crate) lines: u64,
    pub(crate) horus: Duration,
    /// Processor time of Horus and its keeper.
    pub(crate) cpu: Duration,
    /// Lines that are missing, doubled or torn.
    pub(crate) wrong: u64,
    /// The same lines through a pipe to `cat`, which writes them to one file.
    pub(crate) cat: Duration,
}

/// Bytes of a line, its end included.
pub(crate) const LINE_BYTES: u64 = 100;

pub(crate) fn logged(programs: &Programs, arena: &mut Arena, lines: u64) -> Result<Logged> {
    let socket = arena.socket();
    let name = "talker".to_owned();
    let text = services(std::slice::from_ref(&name), |_, name| {
        format!(
            "command = [{:?}, \"lines\", {socket:?}, {name:?}, \"{lines}\"]\nlog = {{ keep = 99 }}",
            programs.subject
        )
    });
    let horus = Horus::start(programs, arena, &text)?;
    arena.wait_for(&name, 1, LIMIT).with_context(|| horus.last_words())?;
    arena.pass(SETTLED);
    let before = cost(&horus.pids()?)?;
    let begun = monotonic();
    arena.order(&name, "talk", LIMIT).with_context(|| horus.last_words())?;
    while size(&horus.logs(&name)) < lines * LINE_BYTES && monotonic() < begun + LIMIT {
        arena.pass(LOOK);
    }
    let by_horus = monotonic().saturating_sub(begun);
    let cpu = cost(&horus.pids()?)?.cpu.saturating_sub(before.cpu);
    let wrong = wrong_lines(&horus.logs(&name), lines)?;
    horus.stop(arena)?;

    let file = arena.folder().join("cat.log");
    let begun = monotonic();
    let mut talker = shell::command(&programs.subject);
    let mut talker = talker.args(["print", &lines.to_string()]).stdout(Stdio::piped()).spawn()?;
    let mut cat = shell::command("cat");
    cat.stdin(talker.stdout.take().context("a pipe")?).stdout(File::create(&file)?);
    let copied = cat.status()?;
    talker.wait()?;
    let cat = monotonic().saturating_sub(begun);
    let written = file.metadata()?.len();
    if !copied.success() || written != lines * LINE_BYTES {
        bail!("`cat` has written {written} bytes, {copied}");
    }
    std::fs::remove_file(file)?;
    Ok(Logged { lines, horus: by_horus, cpu, wrong, cat })
}

fn size(files: &[PathBuf]) -> u64 {
    files.iter().filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum()
}

/// Each line has to be there once, whole, in order.
fn wrong_lines(files: &[PathBuf], lines: u64) -> Result<u64> {
    let (mut wrong, mut expected) = (0, 0);
    for path in files {
        for line in BufReader::new(File::open(path)?).lines() {
            let line = line?;
            let number = line.get(..12).and_then(|text| text.parse::<u64>().ok());
            let whole = line.len() as u64 + 1 == LINE_BYTES;
            wrong += u64::from(number != Some(expected) || !whole);
            expected = number.unwrap_or(expected) + 1;
        }
    }
    Ok(wrong + lines.saturating_sub(expected))
}

/// Ports that nobody uses at the moment.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let held: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>()?;
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
