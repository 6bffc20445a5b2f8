//! What the kernel sampler costs: per look at a process, and for a thousand processes once a second.
//!
//! `cargo bench -p horus-probe --bench sampler`. Figures are processor time of this process, the mean of several rounds, and
//! each also as a multiple of one bare reading of `/proc/PID/stat` in the same run: that multiple is the same on a fast and on a
//! slow machine, and so can be compared with another day. Memory is what the process keeps resident
//! more than before the sampler knew them. Without a harness: it measures processes, not functions.
#![expect(clippy::unwrap_used, reason = "a measurement fails by a panic")]
#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use horus_core::ids::{Generation, ProcessId, ServiceName};
use horus_probe::sampler::{Sampler, TICK};

/// How many processes stand for a fleet.
const PROCESSES: usize = 1_000;
/// So many ticks are spent on learning, and so many are measured.
const LEARNING: usize = 12;
const ROUNDS: usize = 20;
/// So many bare readings are the measure.
const READINGS: usize = 20_000;
const DEADLINE: Duration = Duration::from_secs(10);

/// A loop that waits in `poll` for two pipes, and runs for a moment every so often. One shell makes them all.
const LOOP: &str = "
import os, select, sys
count, every = int(sys.argv[1]), float(sys.argv[2])
pids = []
for _ in range(count):
    pid = os.fork()
    if pid == 0:
        loop = select.epoll()
        loop.register(os.pipe()[0], select.EPOLLIN)
        while True:
            loop.poll(every)
    pids.append(pid)
print(*pids, flush=True)
sys.stdin.readline()
for pid in pids:
    os.kill(pid, 9)
";

struct Fleet {
    parent: Child,
    processes: Vec<ProcessId>,
}

impl Fleet {
    #[expect(clippy::disallowed_methods, reason = "a measurement makes its own subjects")]
    fn new(count: usize, every: &str) -> Option<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", LOOP, &count.to_string(), every]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut parent = command.spawn().ok()?;
        let mut line = String::new();
        BufReader::new(parent.stdout.take()?).read_line(&mut line).ok()?;
        let identify = |pid: &str| horus_sys::process::identify(pid.parse().ok()?).ok()?;
        let processes = line.split_ascii_whitespace().filter_map(identify);
        let processes = processes.map(|id| ProcessId { pid: id.pid, start_time: id.start_time }).collect();
        Some(Self { parent, processes })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.parent.stdin.take().map(|mut input| input.write_all(b"\n"));
        let _ = self.parent.wait();
    }
}

/// Processor time of this process so far.
fn cpu() -> Duration {
    let me = horus_sys::process::own_pid();
    let threads = horus_sys::sample::threads(me, 64).known().unwrap();
    let used = |thread: &u64| horus_sys::sample::usage(me, *thread).known().map_or(0, |usage| usage.cpu_ns);
    Duration::from_nanos(threads.ids.iter().map(used).sum())
}

/// Resident memory of this process, in kB.
fn resident_kb() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// One bare reading of `/proc/PID/stat`.
fn bare(processes: &[ProcessId]) -> Duration {
    let before = cpu();
    for process in processes.iter().cycle().take(READINGS) {
        let _ = std::hint::black_box(std::fs::read(format!("/proc/{}/stat", process.pid)));
    }
    (cpu() - before) / u32::try_from(READINGS).unwrap()
}

fn measure(name: &str, count: usize, every: &str) {
    let Some(fleet) = Fleet::new(count, every) else {
        println!("SKIPPED {name}: there is no python3 here");
        return;
    };
    let bare = bare(&fleet.processes);
    let before_kb = resident_kb();
    // As often as in life: a fleet that runs now and then has run between two ticks.
    let mut sampler = Sampler::new(TICK);
    for (at, process) in fleet.processes.iter().enumerate() {
        let service = ServiceName::parse(&format!("s{at}")).unwrap();
        sampler.watch(service, Generation(1), *process, DEADLINE).unwrap();
    }
    let (mut learning, mut learned, mut pulses) = (Duration::ZERO, Duration::ZERO, 0);
    for round in 0..LEARNING + ROUNDS {
        #[expect(clippy::disallowed_methods, reason = "the sampler is called by the clock")]
        std::thread::sleep(TICK);
        let before = cpu();
        std::hint::black_box(sampler.tick());
        let used = cpu() - before;
        if round < LEARNING {
            learning += used;
        } else {
            learned += used;
            pulses += sampler.cost().pulses;
        }
    }
    let more_kb = resident_kb().saturating_sub(before_kb);
    let number = u32::try_from(fleet.processes.len()).unwrap().max(1);
    let learning = learning / u32::try_from(LEARNING).unwrap() / number;
    let typical = learned / u32::try_from(ROUNDS).unwrap();
    let each = typical / number;
    let times = |cost: Duration| cost.as_secs_f64() / bare.as_secs_f64();
    println!(
        "{name}: {number} processes at 1 Hz use {:.1} ms of processor time a second ({:.2} % of one); per look {:.1} us ({:.1} x a bare \
         read of stat, {:.1} us), close look {:.1} us ({:.1} x); {} % of the looks were a pulse; {more_kb} kB of memory more",
        typical.as_secs_f64() * 1e3,
        typical.as_secs_f64() * 100.0,
        each.as_secs_f64() * 1e6,
        times(each),
        bare.as_secs_f64() * 1e6,
        learning.as_secs_f64() * 1e6,
        times(learning),
        pulses * 100 / (ROUNDS * fleet.processes.len()).max(1),
    );
}

fn main() {
    measure("idle loops", PROCESSES, "3600");
    measure("loops that run twice a second", PROCESSES, "0.5");
    measure("the sockets of the machine, for one process", 1, "0.5");
}
