//! The first steps of the new program: it takes over what the old one left open, and if it cannot start, gives it back.
//!
//! Until it is ready the new program is on trial. The former one is still there, as an open file: a fatal error or a panic
//! executes that again, with copies of all descriptors, and it says what was wrong. Only a death by a signal cannot be
//! caught in the process; then whoever started Horus starts it again, and the note in the state directory tells of it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use horus_api::{API_SCHEMA, Listener, Spot, UpgradeOutcome, UpgradeReport};
use horus_core::event::What;
use horus_core::ids::ServiceName;
use horus_keeper::protocol::{Hello, Request, SlotName};
use horus_sys::process::ProcessId;
use horus_sys::spawn;
use tokio::sync::watch;

use super::keeper_part::{KeeperPart, Step};
use super::record::Record;
use super::{HELD, Program, pending};
use crate::daemon::directories::Held;
use crate::daemon::owner::Owner;

/// What is done if the new program cannot go on.
static WAY_BACK: Mutex<Option<WayBack>> = Mutex::new(None);

/// What the program before this one handed over.
#[derive(Debug)]
pub(in crate::daemon) struct Arrival {
    record: Record,
    api: Option<OwnedFd>,
    notify: BTreeMap<ServiceName, OwnedFd>,
    streams: BTreeMap<ServiceName, OwnedFd>,
    fifos: BTreeMap<SlotName, OwnedFd>,
}

impl Arrival {
    /// Takes it over, if there is something. An error means that it is there and cannot be used.
    pub(in crate::daemon) fn take() -> io::Result<Option<Self>> {
        let Some(record) = Record::take().transpose()? else { return Ok(None) };
        let mut way_back = WayBack { record: record.clone(), copies: Vec::new(), former: None };
        let mut own = |number: RawFd| {
            let descriptor = spawn::inherit(number)?;
            let copy = descriptor.try_clone()?;
            way_back.copies.push((number, copy));
            Ok::<_, io::Error>(descriptor)
        };
        // Locks are taken over by their numbers, where their files are known.
        for number in record.state_lock.into_iter().chain([record.run_lock]) {
            let _ = own(number)?.into_raw_fd();
        }
        let api = Some(own(record.api.descriptor)?);
        let notify = record.notify.iter().map(|(name, socket)| Ok((name.clone(), own(socket.descriptor)?)));
        let notify = notify.collect::<io::Result<_>>()?;
        let streams = record.streams.iter().map(|(name, socket)| Ok((name.clone(), own(socket.descriptor)?)));
        let streams = streams.collect::<io::Result<_>>()?;
        let fifos = record.fifos.iter().map(|(slot, number)| Ok((slot.clone(), own(*number)?)));
        let fifos = fifos.collect::<io::Result<_>>()?;
        way_back.former = record.former.map(spawn::inherit).transpose()?;
        if record.failed.is_none() && way_back.former.is_some() {
            *WAY_BACK.lock().unwrap_or_else(PoisonError::into_inner) = Some(way_back);
        }
        Ok(Some(Self { record, api, notify, streams, fifos }))
    }

    /// The path of this program, as the one before called it.
    pub(in crate::daemon) fn executable(&self) -> &Path {
        &self.record.to.path
    }

    /// What an upgrade takes if nobody names another.
    pub(in crate::daemon) fn home(&self) -> &Path {
        &self.record.home
    }

    /// The locks of the state and of the run directory.
    pub(in crate::daemon) fn locks(&self) -> Held {
        Held { state: self.record.state_lock, run: Some(self.record.run_lock) }
    }

    /// The API's socket, if it still is the one at `path`; else one has to be bound.
    pub(in crate::daemon) fn listener(&mut self, path: &Path) -> Option<Listener> {
        match Listener::inherit(self.api.take()?, path, self.record.api.spot) {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::warn!(error = crate::daemon::chain(&error), "another API socket is made");
                None
            }
        }
    }

    /// For the journal: what this is.
    pub(in crate::daemon) fn sentence(&self) -> String {
        let (from, to) = (&self.record.from.program, &self.record.to.program);
        match &self.record.failed {
            None => format!("goes on as {to}, upgraded from {from}, pid {}", std::process::id()),
            Some(why) => format!("goes on as {to}: {from} could not go on ({why})"),
        }
    }

    /// What is said of the upgrade until it is over.
    pub(in crate::daemon) fn report(&self) -> UpgradeReport {
        UpgradeReport { tries: self.record.tries, under_way: true, ..no_report() }
    }

    /// Gives the judge's loop what it takes over: sockets that programs beat at, FIFOs that hold their words.
    pub(in crate::daemon) fn settle(self, owner: &mut Owner, report: watch::Sender<UpgradeReport>) {
        let Self { record, notify, streams, fifos, .. } = self;
        for (service, socket) in notify {
            let place = record.notify.get(&service);
            // Where another socket is by now, nobody finds this one.
            let ours = place.is_some_and(|place| {
                Spot::of(&place.path) == Some(place.spot)
                    && owner.senses.notify_address(&service) == place.path
            });
            if ours && let Err(error) = owner.senses.inherit_notify(&service, socket) {
                tracing::warn!(%service, error = crate::daemon::chain(&error), "its notify socket is made anew");
            }
        }
        for (service, socket) in streams {
            let ours = record.streams.get(&service).is_some_and(|place| {
                Spot::of(&place.path) == Some(place.spot) && owner.senses.stream_place(&service) == place.path
            });
            if ours {
                owner.senses.inherit_stream(&service, socket);
            }
        }
        let run_directory = owner.plan.daemon.run_directory.clone();
        for (slot, fifo) in fifos {
            // One that is not the slot's any more holds nobody's words.
            owner.fifos.take_over(&run_directory, slot, fifo);
        }
        let now = owner.now();
        let keeper =
            if record.failed.is_none() { KeeperPart::new(now) } else { KeeperPart::nothing_to_do(now) };
        owner.arrived = Some(Arrived { record, report, keeper, kept: None, last_hello: None });
    }
}

/// The report of a process that was not upgraded.
pub(in crate::daemon) fn no_report() -> UpgradeReport {
    UpgradeReport {
        schema: API_SCHEMA,
        pid: std::process::id(),
        program: Program::of_process().to_string(),
        ..UpgradeReport::default()
    }
}

/// A program that has arrived, until the keeper has become it as well.
#[derive(Debug)]
pub(in crate::daemon) struct Arrived {
    record: Record,
    report: watch::Sender<UpgradeReport>,
    keeper: KeeperPart,
    /// Services that lived before and do now, once the keeper has told.
    kept: Option<usize>,
    last_hello: Option<(ProcessId, u32)>,
}

/// What of a Hello counts here.
pub(in crate::daemon) fn identity(hello: &Hello) -> (ProcessId, u32) {
    (hello.process, hello.upgrades)
}

/// The keeper was heard, and what it has is known: this program is ready, and there is no way back.
pub(in crate::daemon) fn attached(owner: &mut Owner, keeper: (ProcessId, u32)) {
    no_way_back();
    pending::proven(&owner.plan.daemon.state_directory);
    let Some(mut arrived) = owner.arrived.take() else { return };
    if arrived.kept.is_none() {
        pending::end(&owner.plan.daemon.state_directory);
        let same = arrived.record.services.iter().filter(|(service, process)| {
            owner.processes.get(*service).is_some_and(|instance| instance.process == **process)
        });
        arrived.kept = Some(same.count());
    }
    arrived.last_hello = Some(keeper);
    let step = arrived.keeper.attached(keeper.0, keeper.1);
    go_on(owner, arrived, step);
}

/// The keeper does not become the new program. False: it was not asked by us.
pub(in crate::daemon) fn keeper_refused(owner: &mut Owner, why: &str) -> bool {
    let Some(mut arrived) = owner.arrived.take() else { return false };
    let step = arrived.keeper.refused(owner.now(), why);
    go_on(owner, arrived, step);
    true
}

/// Time has passed.
pub(in crate::daemon) fn tend(owner: &mut Owner) {
    let Some(mut arrived) = owner.arrived.take() else { return };
    let keeper = arrived.last_hello.filter(|_| owner.keeper.is_attached());
    let step = arrived.keeper.tend(owner.now(), keeper);
    go_on(owner, arrived, step);
}

impl Arrived {
    /// When [`tend`] is wanted at the latest.
    pub(in crate::daemon) fn next(&self) -> Option<horus_core::time::Mono> {
        self.keeper.next()
    }

    fn outcome(&self, keeper: Option<String>) -> UpgradeOutcome {
        let (from, to) = (self.record.from.program.to_string(), self.record.to.program.to_string());
        let services_kept = self.kept.unwrap_or(0);
        let lived = self.record.services.len();
        let kept = match (services_kept, lived) {
            (1, 1) => "1 service kept".to_owned(),
            (kept, lived) if kept == lived => format!("{kept} services kept"),
            (kept, lived) => format!("{kept} of {lived} services kept"),
        };
        match &self.record.failed {
            None => {
                let text = match &keeper {
                    Some(keeper) => format!("upgraded {from} -> {to}; {kept}; {keeper}"),
                    None => format!("upgraded {from} -> {to}; {kept}"),
                };
                UpgradeOutcome { upgraded: true, from, to, services_kept, keeper, text, hint: None }
            }
            // The program that failed is the one that handed back.
            Some(why) => UpgradeOutcome {
                upgraded: false,
                text: format!("{from} could not go on: {why}; {to} does, with {kept}"),
                from: to,
                to: from,
                services_kept,
                keeper,
                hint: Some("horus events --service horus".into()),
            },
        }
    }
}

fn go_on(owner: &mut Owner, mut arrived: Arrived, step: Step) {
    match step {
        Step::Ask => {
            let executable = arrived.record.to.path.clone();
            owner.keeper.send(Request::Upgrade { executable });
        }
        Step::Nothing if !arrived.keeper.is_over() || arrived.kept.is_none() => {}
        Step::Nothing => return finish(owner, &arrived, None),
        Step::Over(text) => {
            if arrived.kept.is_some() {
                return finish(owner, &arrived, Some(text));
            }
            arrived.keeper = KeeperPart::nothing_to_do(owner.now());
        }
    }
    owner.arrived = Some(arrived);
}

fn finish(owner: &Owner, arrived: &Arrived, keeper: Option<String>) {
    let outcome = arrived.outcome(keeper);
    let text = outcome.text.clone();
    if outcome.upgraded {
        tracing::info!("{text}");
    } else {
        tracing::error!("{text}");
    }
    owner.note(What::Horus { text });
    arrived.report.send_modify(|report| {
        report.under_way = false;
        report.tries += 1;
        report.last = Some(outcome);
    });
}

/// The former program and everything that it needs.
#[derive(Debug)]
struct WayBack {
    record: Record,
    /// Numbers as they are in the record, each with a copy that outlives whatever this program does with its own.
    copies: Vec<(RawFd, OwnedFd)>,
    former: Option<OwnedFd>,
}

/// This program is good.
fn no_way_back() {
    drop(WAY_BACK.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// The new program cannot go on: the former one does. Returns if there is none, or if it cannot be executed either. Does
/// not wait, because a panic may have come here while it held the way back.
pub(in crate::daemon) fn go_back(why: &str) {
    let Some(way_back) = WAY_BACK.try_lock().ok().and_then(|mut way_back| way_back.take()) else { return };
    let error = way_back.go(why);
    tracing::error!(%error, "the former program cannot be executed");
}

impl WayBack {
    fn go(self, why: &str) -> io::Error {
        self.try_go(why).err().unwrap_or_else(|| io::ErrorKind::Other.into())
    }

    fn try_go(self, why: &str) -> io::Result<()> {
        let Some(former) = &self.former else { return Err(io::ErrorKind::NotFound.into()) };
        let record = self.turned(why);
        let file = record.write()?;
        let keep: Vec<BorrowedFd<'_>> =
            self.copies.iter().map(|(_, copy)| copy.as_fd()).chain([file.as_fd()]).collect();
        let program = PathBuf::from(format!("/proc/self/fd/{}", former.as_raw_fd()));
        let words: Vec<_> = record.words.iter().map(super::departure::to_word).collect();
        let environment = super::departure::environment(&file);
        let _ = horus_sys::signal::hold_back(&HELD);
        super::departure::lower_open_files();
        Err(spawn::become_program(&program, &words, &environment, &keep))
    }

    /// The record, for the other direction and with the numbers of the copies.
    fn turned(&self, why: &str) -> Record {
        let copy = |number: RawFd| {
            self.copies.iter().find(|(known, _)| *known == number).map_or(-1, |(_, copy)| copy.as_raw_fd())
        };
        let mut record = self.record.clone();
        std::mem::swap(&mut record.from, &mut record.to);
        record.failed = Some(why.to_owned());
        record.former = None;
        record.state_lock = record.state_lock.map(copy);
        record.run_lock = copy(record.run_lock);
        record.api.descriptor = copy(record.api.descriptor);
        record.notify.values_mut().for_each(|socket| socket.descriptor = copy(socket.descriptor));
        record.streams.values_mut().for_each(|socket| socket.descriptor = copy(socket.descriptor));
        record.fifos.values_mut().for_each(|number| *number = copy(*number));
        record
    }
}
