//! What has to survive a restart of Horus: written down when it changes, taken up by the next life.
//!
//! A memory holds ages and no instants, because the clock of a process ends with it: the next Horus puts each age before the instant at
//! which the memory was written. It is small, one per service and written as a whole; what can be asked anew (who lives, what it
//! beats) is not in it.

use std::time::Duration;

use crate::command::{Command, MEMORY_VERSION, Memory, MemoryHang, MemoryHold};
use crate::ledger::{ExitLedger, KillLedger};
use crate::service::{Hold, LastHang, Phase, Service, Wanted, Why};
use crate::silence::{RememberedInstance, RememberedSilence};
use crate::stalls::Stalls;
use crate::steps::LongStep;
use crate::time::Mono;
use crate::turn::Turn;

/// Ages of values are written down at least this far apart.
pub(crate) const REMEMBER_EVERY: Duration = Duration::from_secs(60);

impl Service {
    pub(crate) fn remember_if_due(&mut self, turn: &mut Turn<'_>) {
        let stale = !self.plan.values.is_empty() && turn.now.since(self.remembered_at) >= REMEMBER_EVERY;
        // A message that was sent changes what the next life has to know.
        let steps = self.witnessed_steps(turn.now);
        let grown = std::mem::replace(&mut self.witnessed_steps, steps) != steps;
        if self.incidents.take_changed() || self.dirty || stale || grown {
            self.dirty = false;
            self.remembered_at = turn.now;
            let memory = Box::new(self.memory(turn.now));
            turn.push(Command::Remember { service: self.name.clone(), memory });
        }
    }

    /// What has to survive a restart of Horus.
    pub(crate) fn memory(&self, now: Mono) -> Memory {
        let (kills, breaker_open) = self.kills.remember(now);
        let wanted = self.before_removal.unwrap_or(self.wanted);
        // Before the keeper has answered, what an earlier life knew of the run is all that is known.
        let (started, was_ready, moved, silent) = match &self.remembered_instance {
            Some(before) if self.alive().is_none() => {
                let silent = before.silent.as_ref().map(|silent| silent.record.clone());
                (Some(before.since), before.was_ready, before.moved.clone(), silent)
            }
            _ => {
                let ready = matches!(self.phase, Phase::Running(_) | Phase::Condemned { .. });
                let silent = self.witnessed(now, self.witness_from());
                (self.alive().map(|alive| alive.since), ready, self.beats.moved(), silent)
            }
        };
        // One that a person or an edit has ended does not go on.
        let goes_on = self.wanted == Wanted::Up || self.job.remembered;
        let began = self.job.began.filter(|_| goes_on);
        Memory {
            version: MEMORY_VERSION,
            generation: self.generation,
            wanted_up: wanted == Wanted::Up && !self.plan.autostart,
            stopped: wanted == Wanted::Down(Why::Operator),
            halted: wanted == Wanted::Down(Why::Halted),
            completed: wanted == Wanted::Down(Why::Completed),
            hold: self.hold.as_ref().map(|hold| MemoryHold {
                reason: hold.reason.clone(),
                age: now.since(hold.since),
                left: hold.until.map(|until| until.since(now)),
            }),
            exits: self.exits.remember(now),
            exits_unproven: self.exits.unproven(),
            kills,
            kills_unproven: self.kills.unproven(),
            breaker_open,
            overdue_starts: self.overdue_starts,
            values: self.counters.remember(now),
            incidents: self.incidents.remember(now),
            started: started.map(|since| now.since(since)),
            starting: self.remembered_start || matches!(self.phase, Phase::Launching { .. }),
            was_ready,
            moved,
            stalled_work: self.stalled_work.clone(),
            step: self.remember_step(now),
            stalls: self.stalls.remember(now),
            unit: self.remember_unit(),
            job_started: self.job.started.map(|at| now.since(at)),
            job_running: began.map(|at| now.since(at)),
            job_slot: self.job.slot,
            silent,
            hang: self.last_hang.as_ref().map(|hang| MemoryHang {
                first_sign: now.since(hang.first_sign),
                stuck_for: hang.stuck_for,
                how: hang.how.clone(),
                place: hang.place.clone(),
            }),
        }
    }

    /// Takes up where an earlier life of Horus stopped. `elapsed`: since the memory was written, by the time of day; `away`: the same
    /// by a clock that nobody sets, if that is known.
    pub(crate) fn restore(&mut self, now: Mono, memory: &Memory, elapsed: Duration, away: Option<Duration>) {
        let written = now.before(elapsed);
        // A person's orders hold whatever version wrote them down.
        self.restore_orders(memory, written);
        if memory.version != MEMORY_VERSION {
            self.raise_generation(memory.generation);
            return;
        }
        self.generation = memory.generation;
        self.raise_generation(memory.generation);
        self.exits = ExitLedger::restore(&memory.exits, memory.exits_unproven, written);
        self.kills = KillLedger::restore(&memory.kills, memory.kills_unproven, memory.breaker_open, written);
        self.overdue_starts = memory.overdue_starts;
        self.counters.restore(written, &memory.values);
        self.incidents.restore(&memory.incidents, written);
        let silent = memory.silent.clone().map(|record| RememberedSilence { record, away, read_at: now });
        self.remembered_instance = memory.started.map(|age| RememberedInstance {
            since: written.before(age),
            was_ready: memory.was_ready,
            moved: memory.moved.clone(),
            silent,
            step: memory
                .step
                .as_ref()
                .map(|step| LongStep { name: step.name.clone(), since: written.before(step.age) }),
        });
        self.remembered_start = memory.starting;
        self.foreign.stopped = memory.unit.as_ref().is_some_and(|unit| unit.stopped);
        self.stalls = Stalls::restore(&memory.stalls, written);
        self.job.started = memory.job_started.map(|age| written.before(age));
        self.job.began = memory.job_running.map(|age| written.before(age));
        self.job.remembered = self.job.began.is_some();
        self.job.slot = memory.job_slot;
        self.stalled_work.clone_from(&memory.stalled_work);
        self.last_hang = memory.hang.as_ref().map(|hang| LastHang {
            first_sign: written.before(hang.first_sign),
            stuck_for: hang.stuck_for,
            how: hang.how.clone(),
            place: hang.place.clone(),
        });
    }

    fn restore_orders(&mut self, memory: &Memory, written: Mono) {
        if memory.stopped {
            self.wanted = Wanted::Down(Why::Operator);
        } else if memory.halted {
            self.wanted = Wanted::Down(Why::Halted);
        } else if memory.completed {
            self.wanted = Wanted::Down(Why::Completed);
        } else if memory.wanted_up {
            self.wanted = Wanted::Up;
        }
        self.hold = memory.hold.as_ref().map(|hold| Hold {
            reason: hold.reason.clone(),
            since: written.before(hold.age),
            until: hold.left.map(|left| written + left),
        });
    }
}
