//! Starting a program, record first: `gen`, fork, `state`, gate.

use crate::crash_point::crash_point;
use crate::keeper::sink::Sink;
use crate::keeper::slot::{Phase, Slot};
use crate::keeper::{Keeper, Kind};
use crate::orphans::is_at;
use crate::protocol::{Event, Limits, MAX_SLOTS, StartSpec, StartStep, Text};
use crate::slots::{
    GenerationRecord, RUN_VARIABLE, SLOT_VARIABLE, StateRecord, WATCHDOG_PID_VARIABLE, WATCHDOG_VARIABLE,
};
use horus_sys::cgroup_limits::Limited;
use horus_sys::descriptors;
use horus_sys::files;
use horus_sys::launch::{self, Plan, Report, Told, Waiting};
use horus_sys::limits::{Limit, Resource};
use horus_sys::pipe;
use horus_sys::poll::{Interest, Poller};
use horus_sys::process::{self, Handle};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Why a start came to nothing.
pub(crate) enum Refusal {
    Failed { step: StartStep, error: String },
    Blocked { key: String, holder: String },
}

impl Refusal {
    pub(crate) fn new(step: StartStep, error: impl ToString) -> Self {
        Self::Failed { step, error: error.to_string() }
    }
}

/// Attaches what was being done to an error.
fn at<T, E: std::error::Error>(step: StartStep, what: &str, result: Result<T, E>) -> Result<T, Refusal> {
    result.map_err(|error| Refusal::new(step, format!("{what}: {}", crate::keeper::killing::chain(&error))))
}

impl Keeper {
    pub(crate) fn start(&mut self, spec: StartSpec) {
        let (slot, generation) = (spec.slot.clone(), spec.generation);
        if let Err(refusal) = self.try_start(&spec) {
            self.tell(match refusal {
                Refusal::Failed { step, error } => Event::StartFailed { slot, generation, step, error },
                Refusal::Blocked { key, holder } => Event::Blocked { slot, generation, key, holder },
            });
        }
    }

    fn try_start(&mut self, spec: &StartSpec) -> Result<(), Refusal> {
        check_request(spec)?;
        if descriptors::are_scarce() {
            // With the last one it could still be started, but nobody could connect, and its end could not be written down.
            let error =
                "the keeper has too few descriptors left: raise the hard limit (LimitNOFILE, ulimit -Hn)";
            return Err(Refusal::new(StartStep::Request, error));
        }
        self.check_log(spec)?;
        let program = resolve(spec)?;
        let index = self.free_slot(spec)?;
        if self.sweep_first(index, spec) {
            return Ok(());
        }
        self.take_locks(index, &spec.exclusive)?;
        // What fails from here on has left nobody behind.
        self.launch(index, spec, &program).inspect_err(|_| self.release_locks(index))?;
        if !spec.tree.is_none() {
            self.tell_limits(index);
        }
        Ok(())
    }

    fn launch(&mut self, index: usize, spec: &StartSpec, program: &Path) -> Result<(), Refusal> {
        let output = self.prepare_slot(index, spec)?;
        let plan = self.plan(spec, program, output)?;
        crash_point("start.after-gen");
        let waiting = at(StartStep::Fork, "cannot fork", launch::launch(&plan))?;
        drop(plan);
        crash_point("start.after-fork");
        self.release(index, spec, waiting)
    }

    /// Two slots that write to one file would write over each other.
    fn check_log(&self, spec: &StartSpec) -> Result<(), Refusal> {
        let taken = self.slots.iter().flatten().find(|slot| {
            slot.name != spec.slot && slot.sink.as_ref().is_some_and(|sink| sink.path() == spec.log.path)
        });
        match taken {
            Some(slot) => {
                Err(Refusal::new(StartStep::Request, format!("slot {} has the same log", slot.name)))
            }
            None => Ok(()),
        }
    }

    /// The slot's place, made if it is new; refused while it is in use.
    fn free_slot(&mut self, spec: &StartSpec) -> Result<usize, Refusal> {
        let Some(index) = self.find(&spec.slot) else {
            if self.slots.len() >= MAX_SLOTS {
                return Err(Refusal::new(StartStep::Request, format!("more than {MAX_SLOTS} slots")));
            }
            let directory = self.directory.slot(&spec.slot);
            at(StartStep::Record, "slot directory", files::ensure_private_dir(directory.path()))?;
            return Ok(self.insert(Slot::new(spec.slot.clone(), directory)));
        };
        self.take_back(index)?;
        let Some(slot) = self.slot(index) else {
            return Err(Refusal::new(StartStep::Busy, "the slot vanished"));
        };
        if let Some(main) = slot.main() {
            return Err(Refusal::new(
                StartStep::Busy,
                format!("process {main} of run {} has not ended", slot.generation),
            ));
        }
        if slot.kill.is_some() {
            return Err(Refusal::new(StartStep::Busy, "a kill is in progress"));
        }
        if spec.generation <= slot.generation {
            let error = format!("run {} is not above run {}", spec.generation, slot.generation);
            return Err(Refusal::new(StartStep::Request, error));
        }
        Ok(index)
    }

    /// FIFO, log, cgroup and the `gen` record; the descriptor for the child's output.
    fn prepare_slot(&mut self, index: usize, spec: &StartSpec) -> Result<OwnedFd, Refusal> {
        self.make_group(index);
        self.limit_before_start(index, &spec.tree);
        let poller = &self.poller;
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else {
            return Err(Refusal::new(StartStep::Busy, "the slot vanished"));
        };
        at(StartStep::Record, "slot directory", files::ensure_private_dir(slot.directory.path()))?;
        retire_fifo(slot, poller);
        at(StartStep::Record, "FIFO", open_fifo(slot, index, poller))?;
        let output = at(StartStep::Record, "FIFO", pipe::open_writer(&slot.directory.fifo()))?;
        if let Some(user) = &spec.user {
            at(StartStep::Record, "FIFO owner", pipe::give_to(output.as_fd(), user.uid, user.gid))?;
        }
        let record = GenerationRecord {
            generation: spec.generation,
            log: spec.log.clone(),
            cgroup: slot.cgroup.as_ref().map(|group| group.path().to_owned()),
            exclusive: spec.exclusive.clone(),
            counts: slot.counts,
        };
        at(StartStep::Record, "generation record", slot.directory.write_generation(&record))?;
        slot.generation = spec.generation;
        slot.phase = Phase::Empty;
        slot.adopted = false;
        slot.sink = Some(Sink::new(spec.log.clone()));
        Ok(output)
    }

    fn plan(&self, spec: &StartSpec, program: &Path, output: OwnedFd) -> Result<Plan, Refusal> {
        let word = |bytes: &[u8]| {
            CString::new(bytes)
                .map_err(|_| Refusal::new(StartStep::Request, "an argument or variable holds a NUL byte"))
        };
        let variable = |name: &[u8], value: &[u8]| word(&[name, b"=", value].concat());
        let mut environment = Vec::with_capacity(spec.environment.len() + 2);
        // Who is told to beat is told that he is meant, as by systemd: what inherits the variables must not beat in his place.
        let watchdog_pid =
            spec.environment.iter().any(|(name, _)| name.as_bytes() == WATCHDOG_VARIABLE.as_bytes());
        let ours =
            [SLOT_VARIABLE, RUN_VARIABLE].into_iter().chain(watchdog_pid.then_some(WATCHDOG_PID_VARIABLE));
        let ours: Vec<_> = ours.collect();
        for (name, value) in &spec.environment {
            // Ours come last and must be the only ones of their name.
            if !ours.iter().any(|ours| ours.as_bytes() == name.as_bytes()) {
                environment.push(variable(name.as_bytes(), value.as_bytes())?);
            }
        }
        environment.push(word(format!("{SLOT_VARIABLE}={}/{}", spec.slot, spec.generation).as_bytes())?);
        environment.push(variable(RUN_VARIABLE.as_bytes(), self.directory.path().as_os_str().as_bytes())?);
        Ok(Plan {
            program: word(program.as_os_str().as_bytes())?,
            arguments: spec
                .argv
                .iter()
                .map(|argument| word(argument.as_bytes()))
                .collect::<Result<_, _>>()?,
            environment,
            watchdog_pid,
            directory: word(spec.directory.as_os_str().as_bytes())?,
            identity: spec.user.clone(),
            limits: limits(&spec.limits, self.inherited_open_files),
            input: at(StartStep::Fork, "/dev/null", File::open("/dev/null"))?.into(),
            output,
        })
    }

    /// Writes down who it is, and only then lets it run. Any failure drops the gate: the child ends without running.
    fn release(&mut self, index: usize, spec: &StartSpec, waiting: Waiting) -> Result<(), Refusal> {
        let Waiting { pid, gate, report } = waiting;
        let main = at(StartStep::Fork, "cannot watch the child", open_child(pid))?;
        if let Some(cgroup) = self.slot(index).and_then(|slot| slot.cgroup.as_ref())
            && let Err(error) = cgroup.add(pid)
        {
            let why = format!("it is not in its cgroup: {error}");
            self.degraded(index, &why);
            if let Some(slot) = self.slot_mut(index) {
                (slot.cgroup, slot.counts) = (None, None);
                slot.limits = (spec.tree, Limited::refused(&spec.tree, &why));
            }
        }
        let record =
            StateRecord { generation: spec.generation, process: main.id(), boot_id: self.boot_id.clone() };
        let directory = self.directory.slot(&spec.slot);
        at(StartStep::Record, "state record", directory.write_state(&record))?;
        crash_point("start.after-state");
        if let Err(error) = self.sign_locks(index, main.id()) {
            let _ = directory.remove_state();
            return Err(Refusal::new(StartStep::Record, format!("the notes in its locks: {error}")));
        }
        if let Err(error) = self.watch_start(index, &main, &report) {
            let _ = directory.remove_state();
            return Err(Refusal::new(StartStep::Fork, format!("cannot watch the child: {error}")));
        }
        // An error means that the child is dead already; its end is seen as any other.
        let _ = gate.open();
        crash_point("start.after-gate");
        if let Some(slot) = self.slot_mut(index) {
            slot.last_main = Some(main.id());
            slot.earliest_start = slot.earliest_start.min(main.id().start_time);
            slot.phase = Phase::Starting { main, report, failed: None };
        }
        Ok(())
    }

    fn watch_start(&self, index: usize, main: &Handle, report: &Report) -> io::Result<()> {
        self.poller.watch(main, Kind::Process.token(index))?;
        self.poller.add(report.as_fd(), Kind::Report.token(index), Interest::Read)
    }

    /// The child says whether its exec worked.
    pub(crate) fn on_report(&mut self, index: usize) {
        let poller = &self.poller;
        let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) else { return };
        let Phase::Starting { main, report, failed } = &mut slot.phase else { return };
        match report.read() {
            Ok(Told::Nothing) => {}
            Ok(Told::Failed(failure)) => {
                *failed = Some(failure);
                let _ = poller.remove(report.as_fd());
            }
            // A pipe that cannot be read says as little as one that was closed: the process tells the rest.
            Ok(Told::Executed) | Err(_) if failed.is_none() => {
                let process = main.id();
                let _ = poller.remove(report.as_fd());
                let phase = std::mem::replace(&mut slot.phase, Phase::Empty);
                if let Phase::Starting { main, .. } = phase {
                    slot.phase = Phase::Running { main };
                }
                let event = Event::Started { slot: slot.name.clone(), generation: slot.generation, process };
                self.tell(event);
            }
            Ok(Told::Executed) | Err(_) => {}
        }
    }
}

/// Opens the slot's FIFO for pumping, once.
pub(crate) fn open_fifo(slot: &mut Slot, index: usize, poller: &Poller) -> io::Result<()> {
    if slot.fifo.is_none() {
        let path = slot.directory.fifo();
        pipe::make_fifo(&path)?;
        slot.fifo = Some(pipe::open_reader(&path)?);
    }
    if let (Some(fifo), false) = (&slot.fifo, slot.fifo_watched) {
        poller.add(fifo.as_fd(), Kind::Output.token(index), Interest::Read)?;
        slot.fifo_watched = true;
    }
    Ok(())
}

/// Lets go of a FIFO whose name was taken away: the program that had it is gone, and the next one could not open it.
fn retire_fifo(slot: &mut Slot, poller: &Poller) {
    let Some(fifo) = slot.fifo.take().map(File::from) else { return };
    if is_at(&fifo, &slot.directory.fifo()) {
        slot.fifo = Some(fifo.into());
        return;
    }
    if std::mem::take(&mut slot.fifo_watched) {
        let _ = poller.remove(fifo.as_fd());
    }
}

fn open_child(pid: i32) -> io::Result<Handle> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    // Our unreaped child: its pid cannot mean anybody else.
    Handle::open(process::identify(pid)?.ok_or_else(gone)?)?.ok_or_else(gone)
}

fn check_request(spec: &StartSpec) -> Result<(), Refusal> {
    let refuse = |error: &str| Err(Refusal::new(StartStep::Request, error));
    if spec.argv.first().is_none_or(|program| program.as_bytes().is_empty()) {
        return refuse("the command is empty");
    }
    if !spec.directory.is_absolute() || !spec.log.path.is_absolute() {
        return refuse("directory and log must be absolute paths");
    }
    if spec.environment.iter().any(|(name, _)| name.as_bytes().is_empty() || name.as_bytes().contains(&b'='))
    {
        return refuse("a variable's name is empty or holds an equals sign");
    }
    if spec.generation.0 == 0 {
        return refuse("runs are counted from 1");
    }
    Ok(())
}

fn resolve(spec: &StartSpec) -> Result<std::path::PathBuf, Refusal> {
    let path = spec.environment.iter().rev().find(|(name, _)| name.as_bytes() == b"PATH");
    let path = path.map(|(_, Text(value))| OsStr::from_bytes(value));
    let program = spec.argv.first().map_or(OsStr::new(""), |program| OsStr::from_bytes(program.as_bytes()));
    launch::resolve(program, path, &spec.directory).map_err(|error| Refusal::new(StartStep::Resolve, error))
}

/// The limits asked for; the number of open files goes back to what the keeper was started with, because it raised
/// its own.
fn limits(asked: &Limits, inherited_open_files: Limit) -> Vec<(Resource, Limit)> {
    let both = |value: u64| Limit { soft: value, hard: value };
    let mut limits = vec![(Resource::OpenFiles, asked.open_files.map_or(inherited_open_files, both))];
    for (resource, value) in [
        (Resource::Memory, asked.memory),
        (Resource::Processes, asked.processes),
        (Resource::Core, asked.core),
        (Resource::FileSize, asked.file_size),
        (Resource::Cpu, asked.cpu),
    ] {
        limits.extend(value.map(|value| (resource, both(value))));
    }
    limits
}
