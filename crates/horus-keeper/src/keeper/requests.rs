//! What the client asks, one line at a time.

use crate::keeper::killing::Kill;
use crate::keeper::slot::{Phase, Slot};
use crate::keeper::{Keeper, REQUESTS_A_TURN};
use crate::protocol::{Event, Generation, Request, Scope, ShutdownMode, SlotName};
use horus_sys::cgroup_limits::{GroupLimits, Limited};
use horus_sys::signal::Signal;

/// What to do after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
enum Next {
    Serve,
    End,
}

impl Keeper {
    /// Carries out what the client has sent, up to a limit. `true`: it asked the keeper to end.
    pub(crate) fn serve(&mut self) -> bool {
        for _ in 0..REQUESTS_A_TURN {
            let line = match self.client.as_mut().map(super::Client::next_line) {
                Some(Ok(Some(line))) => line,
                Some(Err(error)) => {
                    self.tell(Event::Rejected { error: error.to_string() });
                    self.drop_client(&error);
                    return false;
                }
                Some(Ok(None)) | None => return false,
            };
            let next = match serde_json::from_slice(&line) {
                Ok(request) => self.handle(request),
                Err(error) => self.reject(&format!("not a request: {error}")),
            };
            if next == Next::End {
                return true;
            }
        }
        self.busy = true; // more lines may wait in our own buffer
        false
    }

    fn handle(&mut self, request: Request) -> Next {
        match request {
            Request::Start(spec) => self.start(*spec),
            Request::Signal { slot, generation, signal, scope } => {
                self.on_signal(slot, generation, signal, scope)
            }
            Request::KillTree { slot, generation } => return self.on_kill_tree(&slot, generation),
            Request::Adjust { slot, tree } => self.on_adjust(slot, &tree),
            Request::Forget { slot } => return self.on_forget(slot),
            Request::Shutdown { mode } => return self.on_shutdown(mode),
            Request::Upgrade { executable } => self.upgrade(&executable),
            Request::Ping { token } => {
                self.keep_directory();
                self.tell(Event::Pong { token });
            }
            Request::Unknown => return self.reject("this keeper does not know that request"),
        }
        Next::Serve
    }

    fn reject(&mut self, error: &str) -> Next {
        self.tell(Event::Rejected { error: error.to_owned() });
        Next::Serve
    }

    /// The slot, if `generation` is its newest run.
    fn current(&self, slot: &SlotName, generation: Generation) -> Result<usize, String> {
        let index = self.find(slot).ok_or_else(|| format!("there is no slot {slot}"))?;
        match self.slot(index) {
            // Which run lives in it, nobody knows: every one is meant.
            Some(found) if found.generation == generation || found.unreadable().is_some() => Ok(index),
            Some(found) => Err(format!("slot {slot} is at run {}, not {generation}", found.generation)),
            None => Err(format!("there is no slot {slot}")),
        }
    }

    fn on_signal(&mut self, slot: SlotName, generation: Generation, signal: Signal, scope: Scope) {
        let sent = self.current(&slot, generation).and_then(|index| self.send_signal(index, signal, scope));
        self.tell(match sent {
            Ok(count) => Event::Signalled { slot, generation, signal, count },
            Err(error) => Event::SignalFailed { slot, generation, signal, error },
        });
    }

    fn on_kill_tree(&mut self, slot: &SlotName, generation: Generation) -> Next {
        match self.current(slot, generation) {
            Ok(index) => {
                if let Some(slot) = self.slot_mut(index) {
                    slot.kill.get_or_insert_with(|| Kill::new(generation));
                }
                self.kill_pass(index);
                Next::Serve
            }
            Err(error) => self.reject(&error),
        }
    }

    /// Answered in any case: the client has to know what is in force.
    fn on_adjust(&mut self, slot: SlotName, tree: &GroupLimits) {
        let Some(index) = self.find(&slot) else {
            let limited = Limited::refused(tree, "it was never started");
            self.tell(Event::Limited { slot, generation: Generation(0), tree: *tree, limited });
            return;
        };
        if let Some(pending) = self.slot_mut(index).and_then(|slot| slot.pending.as_mut()) {
            pending.tree = *tree;
        }
        self.limit_while_running(index, tree);
        self.tell_limits(index);
    }

    fn on_forget(&mut self, slot: SlotName) -> Next {
        let Some(index) = self.find(&slot) else {
            self.tell(Event::Forgotten { slot });
            return Next::Serve;
        };
        let idle = |slot: &Slot| {
            matches!(slot.phase, Phase::Empty | Phase::Unreadable { .. } | Phase::Ended { .. })
                && slot.kill.is_none()
        };
        if !self.slot(index).is_some_and(idle) {
            return self.reject(&format!("slot {slot} is in use"));
        }
        let strays = if self.slot(index).is_some_and(|slot| slot.unreadable().is_some()) {
            self.find_everybody(index).map(|found| found.len())
        } else {
            let table = self.read_table().ok_or_else(|| "cannot read the process table".to_owned());
            table.map(|table| self.members(index, &table).len())
        };
        match strays {
            Ok(0) => {}
            Ok(count) => {
                return self.reject(&format!("{count} processes of slot {slot} live: kill them first"));
            }
            Err(error) => return self.reject(&error),
        }
        self.drain(index);
        let Some(removed) = self.slots.get_mut(index).and_then(Option::take) else { return Next::Serve };
        self.names.remove(&slot);
        if let Some(cgroup) = &removed.cgroup {
            let _ = cgroup.remove();
        }
        match removed.directory.remove() {
            Ok(()) => self.tell(Event::Forgotten { slot }),
            Err(error) => {
                return self.reject(&format!("slot {slot} is forgotten, but its records stay: {error}"));
            }
        }
        Next::Serve
    }

    fn on_shutdown(&mut self, mode: ShutdownMode) -> Next {
        self.settle_unreadable();
        match mode {
            ShutdownMode::Leave => Next::End,
            ShutdownMode::IfIdle if self.is_idle() => Next::End,
            ShutdownMode::IfIdle => self.reject("programs live"),
        }
    }
}
