//! One service: what is wanted, what is, and how the one follows the other.
//!
//! Wanted and actual state are separate fields. Who wins when they disagree about *why* something should happen:
//! **hold > operator's stop > breaker > policy**. All transitions go through the table in [`crate::transition`]; this
//! module carries out its steps. What the beats mean is decided in [`crate::judge`].

use std::time::Duration;

use crate::beats::Beats;
use crate::command::{Answer, Command};
use crate::event::{StepTaken, What};
use crate::exclusive::Blocked;
use crate::foreign::Foreign;
use crate::ids::{Generation, IncidentId, Instance, ProcessId, ServiceName};
use crate::incidents::Incidents;
use crate::jobs::Job;
use crate::ledger::{ExitLedger, KillLedger};
use crate::notice::{IncidentKind, Story};
use crate::observation::{CaptureStage, Declared, Exit, Finding};
use crate::own_word::OwnWord;
use crate::plan::ServicePlan;
use crate::reason::{Reason, Rule};
use crate::silence::RememberedInstance;
use crate::spell::{Spell, Track};
use crate::stalls::Stalls;
use crate::steps::LongStep;
use crate::time::Mono;
use crate::transition::{PhaseKind, Step, Trigger, next_step};
use crate::turn::Turn;
use crate::value::Counters;
use crate::verdict::Verdict;
use crate::view::Outlook;

/// After SIGKILL a process ought to be gone within this; else a person is told.
pub(crate) const UNDEAD_AFTER: Duration = Duration::from_secs(10);

/// A process without any beat has "come back" when it has lived for so long.
pub(crate) const PROCESS_ONLY_SETTLE: Duration = Duration::from_secs(5);

/// An answer of the keeper to a start is missed after this.
pub(crate) const LAUNCH_WAIT_MAX: Duration = Duration::from_secs(30);

/// Requests that may wait for one service.
pub(crate) const TICKETS_MAX: usize = 32;

/// What is wanted of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Up,
    Down(Why),
}

impl Wanted {
    /// What the plan wants, before anybody has said or done anything.
    pub(crate) fn by_default(plan: &ServicePlan) -> Self {
        match (plan.autostart, &plan.schedule) {
            (false, _) => Self::Down(Why::NotAutostart),
            (true, Some(_)) => Self::Down(Why::NotDue),
            (true, None) => Self::Up,
        }
    }
}

/// Why it is wanted down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The plan does not start it by itself.
    NotAutostart,
    /// It is a job, and waits for its time.
    NotDue,
    /// A person stopped it.
    Operator,
    /// It ended, and its policy says that this is all.
    Completed,
    /// It said that it stopped itself on purpose.
    Halted,
    /// The plan no longer has it.
    Removed,
    /// Horus is ending.
    ShutDown,
}

impl Why {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::NotAutostart => "not started by itself (autostart = false)",
            Self::NotDue => "a job that waits for its time",
            Self::Operator => "stopped by a person",
            Self::Completed => "ended, and its restart policy leaves it down",
            Self::Halted => "it stopped itself on purpose",
            Self::Removed => "removed from the plan",
            Self::ShutDown => "Horus is ending",
        }
    }
}

/// A living main process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Alive {
    pub(crate) process: ProcessId,
    pub(crate) since: Mono,
}

/// Where the process stands, with what is true only there.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Down,
    Waiting,
    Backoff {
        until: Mono,
    },
    /// `overdue_at`: the keeper's answer is missed from then on. `None`: that was told.
    Launching {
        overdue_at: Option<Mono>,
    },
    /// `watched_since`: the startup cap counts from then.
    Starting {
        alive: Alive,
        watched_since: Mono,
    },
    Running(Running),
    Condemned {
        running: Running,
        sentence: Sentence,
    },
    Stopping {
        alive: Alive,
        cause: StopCause,
        hard: bool,
        until: Mono,
    },
    Sweeping {
        until: Mono,
    },
}

/// A ready instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) alive: Alive,
    /// It became ready.
    pub(crate) ready_at: Mono,
    /// Fresh without a break since then: what proof is counted from.
    pub(crate) steady_since: Mono,
    pub(crate) proven: bool,
}

/// A kill that was decided and not carried out.
#[derive(Clone, Debug)]
pub(crate) struct Sentence {
    pub(crate) reason: Reason,
    pub(crate) incident: IncidentId,
    pub(crate) track: Track,
    /// The detector.
    pub(crate) rule: Rule,
    /// It was starting, watched since then.
    pub(crate) watched_since: Option<Mono>,
    pub(crate) stuck_for: Duration,
    pub(crate) how: String,
    pub(crate) number: u32,
    /// The evidence has come (or was given up): the alert is on its way to the disk.
    pub(crate) told: bool,
    /// The next precondition is given up then.
    pub(crate) until: Mono,
}

/// Why a living instance is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopCause {
    Kill,
    Planned,
}

/// A hold in force.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    pub(crate) reason: String,
    pub(crate) since: Mono,
    pub(crate) until: Option<Mono>,
}

/// What a person waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    Up,
    Down,
}

/// The last death that nobody asked for.
#[derive(Clone, Debug)]
pub(crate) struct LastDeath {
    pub(crate) generation: Generation,
    pub(crate) at: Mono,
    pub(crate) exit: Exit,
    pub(crate) lifetime: Duration,
    pub(crate) last_line: Option<String>,
}

/// An alert that waits for the last line of the program's output, a moment at most.
#[derive(Clone, Debug)]
pub(crate) struct LastWords {
    pub(crate) incident: IncidentId,
    pub(crate) story: Story,
    pub(crate) until: Mono,
}

/// A hang that was acted on.
#[derive(Clone, Debug)]
pub(crate) struct LastHang {
    pub(crate) first_sign: Mono,
    pub(crate) stuck_for: Duration,
    pub(crate) how: String,
    pub(crate) place: Option<String>,
}

/// What comes with a trigger.
#[derive(Clone, Debug)]
pub(crate) enum Facts {
    None,
    Instance(Instance),
    Failure(String),
    Death { exit: Exit, strays: u32 },
    Because(StopCause, Reason),
    By(String),
}

/// One service.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) name: ServiceName,
    pub(crate) plan: ServicePlan,
    pub(crate) phase: Phase,
    pub(crate) wanted: Wanted,
    pub(crate) hold: Option<Hold>,
    /// The run that lives, or the last one that did.
    pub(crate) generation: Generation,
    /// The highest run that was ever heard of; the next start gets the one after it.
    pub(crate) highest: Generation,
    pub(crate) beats: Beats,
    pub(crate) counters: Counters,
    pub(crate) exits: ExitLedger,
    pub(crate) kills: KillLedger,
    pub(crate) incidents: Incidents,
    pub(crate) spell: Spell,
    /// The counter whose standstill led to the last restart of that kind.
    pub(crate) stalled_work: Option<String>,
    /// The step that it said it is in.
    pub(crate) step: Option<LongStep>,
    /// When it last began or ended a step; `None`: it knows of none.
    pub(crate) stepped_at: Option<Mono>,
    /// That is not written down yet, and which step was before.
    pub(crate) step_unnoted: Option<Option<StepTaken>>,
    /// When a step was last written down.
    pub(crate) step_noted_at: Option<Mono>,
    /// The same for declared work.
    pub(crate) work_spell: Spell,
    /// What the kernel shows of the instance.
    pub(crate) outlook: Outlook,
    /// Limits are stretched to so many per cent, because the whole machine is short of something.
    pub(crate) slow_percent: u32,
    /// What the machine's pressure asks for; the longer limits of before stay in force for a while from then.
    pub(crate) slow_target: u32,
    pub(crate) slow_since: Option<Mono>,
    /// That was granted once since the last fresh tick.
    pub(crate) slow_kept: bool,
    /// It was taken over from an earlier life of Horus.
    pub(crate) adopted: bool,
    /// The last instant at which it was known to have nothing to do, or not to be asked.
    pub(crate) idle_at: Option<Mono>,
    /// Half-deadline stalls that ended by themselves.
    pub(crate) stalls: Stalls,
    pub(crate) job: Job,
    /// The start of this instance has passed its cap.
    pub(crate) start_overdue: bool,
    /// When an overdue start was first looked at closely.
    pub(crate) start_looked_at: Mono,
    /// A kill on its way from the decision to the phase that carries it.
    pub(crate) sentence: Option<(Running, Sentence)>,
    pub(crate) declared: Declared,
    /// It says that it hangs.
    pub(crate) own_word: OwnWord,
    /// A long step that its beats declare; its end may be declared, too.
    pub(crate) busy_until: Option<Mono>,
    /// Time that it asked for (`EXTEND_TIMEOUT_USEC`).
    pub(crate) extended_until: Option<Mono>,
    /// Silence counts from here at the earliest: the plan it is judged by has changed, or it was adopted.
    pub(crate) judged_since: Mono,
    /// A long step or a pause that it had declared ended then, by its own word.
    pub(crate) declared_until: Mono,
    /// It is in a declared step or pause since then.
    pub(crate) declared_from: Option<Mono>,
    /// Time since its last fresh tick that it had declared, and that is over: not charged.
    pub(crate) declared_credit: Duration,
    pub(crate) said: Option<String>,
    /// When its status line was last written down.
    pub(crate) said_at: Option<Mono>,
    /// No start before then, and why.
    pub(crate) delay: Option<(Mono, Reason)>,
    /// Its start was refused because of a lock.
    pub(crate) blocked: Option<Blocked>,
    pub(crate) launch_reason: Option<Reason>,
    /// What is known of it if it is a unit of somebody else.
    pub(crate) foreign: Foreign,
    /// No run up to this one can live again.
    pub(crate) ended: Generation,
    /// What was wanted before it left the plan; it may come back while it stops.
    pub(crate) before_removal: Option<Wanted>,
    /// What runs was started by an older plan.
    pub(crate) relaunch_pending: bool,
    pub(crate) launched_in_this_life: bool,
    pub(crate) overdue_starts: u32,
    pub(crate) last_death: Option<LastDeath>,
    pub(crate) last_hang: Option<LastHang>,
    /// Places of all hangs since the last proof, for the breaker's alert.
    pub(crate) places: Vec<String>,
    pub(crate) recovers_at: Option<Mono>,
    /// It was adopted with open incidents: its next fresh tick is a recovery.
    pub(crate) recovers_on_tick: bool,
    /// An alert about an exit that waits for the last line of its output.
    pub(crate) last_words: Option<LastWords>,
    /// The run that was asked to say where it stands while it was killed.
    pub(crate) dumped: Option<Generation>,
    /// People who wait: ticket, for what, until when at most.
    pub(crate) tickets: Vec<(u64, Goal, Mono)>,
    pub(crate) verdict: Verdict,
    /// What an earlier life of Horus knew of the instance that lived.
    pub(crate) remembered_instance: Option<RememberedInstance>,
    /// This life of Horus has listened to the instance since then; time that is excused does not count.
    pub(crate) witnessed_since: Mono,
    /// The life before has handed it over, with everything that it had heard.
    pub(crate) handed_over: bool,
    /// The steps of the silence that was last written down.
    pub(crate) witnessed_steps: u64,
    /// An earlier life of Horus had asked for a start and did not hear what became of it.
    pub(crate) remembered_start: bool,
    /// When it has to be looked at again without any input.
    pub(crate) due: Option<Mono>,
    /// Something that has to survive a restart of Horus has changed.
    pub(crate) dirty: bool,
    pub(crate) remembered_at: Mono,
}

impl Service {
    pub(crate) fn new(name: ServiceName, plan: ServicePlan, now: Mono) -> Self {
        let wanted = Wanted::by_default(&plan);
        let mut counters = Counters::default();
        counters.retune(now, &plan);
        Self {
            incidents: Incidents::new(name.as_str()),
            beats: Beats::new(&plan.beats),
            name,
            plan,
            phase: Phase::Down,
            wanted,
            hold: None,
            generation: Generation::default(),
            highest: Generation::default(),
            counters,
            exits: ExitLedger::default(),
            kills: KillLedger::default(),
            spell: Spell::default(),
            stalled_work: None,
            step: None,
            stepped_at: None,
            step_unnoted: None,
            step_noted_at: None,
            work_spell: Spell::default(),
            outlook: Outlook::default(),
            slow_percent: 100,
            slow_target: 100,
            slow_since: None,
            slow_kept: false,
            adopted: false,
            idle_at: None,
            stalls: Stalls::default(),
            job: Job::default(),
            start_overdue: false,
            start_looked_at: now,
            sentence: None,
            declared: Declared::Ok,
            own_word: OwnWord::default(),
            busy_until: None,
            extended_until: None,
            judged_since: now,
            declared_until: Mono::default(),
            declared_from: None,
            declared_credit: Duration::ZERO,
            said: None,
            said_at: None,
            delay: None,
            blocked: None,
            launch_reason: None,
            foreign: Foreign::default(),
            ended: Generation::default(),
            before_removal: None,
            relaunch_pending: false,
            launched_in_this_life: false,
            overdue_starts: 0,
            last_death: None,
            last_hang: None,
            places: Vec::new(),
            recovers_at: None,
            recovers_on_tick: false,
            last_words: None,
            dumped: None,
            tickets: Vec::new(),
            verdict: Verdict::Down,
            remembered_instance: None,
            witnessed_since: now,
            handed_over: false,
            witnessed_steps: 0,
            remembered_start: false,
            due: Some(now),
            dirty: false,
            remembered_at: now,
        }
    }

    pub(crate) fn kind(&self) -> PhaseKind {
        match &self.phase {
            Phase::Down => PhaseKind::Down,
            Phase::Waiting => PhaseKind::Waiting,
            Phase::Backoff { .. } => PhaseKind::Backoff,
            Phase::Launching { .. } => PhaseKind::Launching,
            Phase::Starting { .. } => PhaseKind::Starting,
            Phase::Running(_) => PhaseKind::Running,
            Phase::Condemned { .. } => PhaseKind::Condemned,
            Phase::Stopping { .. } => PhaseKind::Stopping,
            Phase::Sweeping { .. } => PhaseKind::Sweeping,
        }
    }

    /// The living main process, if there is one.
    pub(crate) fn alive(&self) -> Option<Alive> {
        match &self.phase {
            Phase::Starting { alive, .. } | Phase::Stopping { alive, .. } => Some(*alive),
            Phase::Running(running) | Phase::Condemned { running, .. } => Some(running.alive),
            Phase::Down
            | Phase::Waiting
            | Phase::Backoff { .. }
            | Phase::Launching { .. }
            | Phase::Sweeping { .. } => None,
        }
    }

    /// Nothing of it is there and nothing is on its way.
    pub(crate) fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Down | Phase::Waiting | Phase::Backoff { .. })
    }

    pub(crate) fn record(&self, turn: &mut Turn<'_>, incident: Option<IncidentId>, what: What) {
        turn.record(self.name.as_str(), Some(self.generation), incident, what);
    }

    /// The incident that a restart belongs to: a hang, or an end that nobody asked for.
    pub(crate) fn fault_incident(&self) -> Option<IncidentId> {
        let kinds =
            [IncidentKind::Stuck, IncidentKind::CrashLoop, IncidentKind::Exit, IncidentKind::StartFailed];
        kinds.into_iter().find_map(|kind| self.incidents.find(kind)).map(|incident| incident.id)
    }

    /// Looks the trigger up in the table and does what it says.
    pub(crate) fn react(&mut self, turn: &mut Turn<'_>, trigger: Trigger, facts: Facts) {
        let step = next_step(self.kind(), trigger);
        self.carry_out(turn, step, facts);
    }

    pub(crate) fn carry_out(&mut self, turn: &mut Turn<'_>, step: Step, facts: Facts) {
        match (step, facts) {
            (Step::Nothing, _) => {}
            (Step::Settle, _) => self.settle(turn),
            (Step::Adopt, Facts::Instance(instance)) => self.adopt(turn, instance),
            (Step::AwaitTick, Facts::Instance(instance)) => self.await_tick(turn, instance),
            (Step::CountFailure, Facts::Failure(error)) => self.count_failure(turn, error),
            (Step::AwaitLock, Facts::Failure(by)) => self.await_lock(turn, by),
            (Step::BecomeReady, Facts::By(by)) => self.become_ready(turn, by),
            (Step::Condemn, _) => self.condemn(turn),
            (Step::Pardon, _) => self.pardon(turn),
            (Step::StopSoftly, Facts::Because(cause, reason)) => self.stop_softly(turn, cause, &reason),
            (Step::StopHard, _) => self.stop_hard(turn),
            (Step::Bury | Step::Sweep, Facts::Death { exit, strays }) => self.bury(turn, exit, strays),
            (Step::TakeBack, Facts::Failure(error)) => self.take_back(turn, error),
            (Step::ReportUndead, facts) => self.report_undead(turn, facts),
            // The remaining pairs cannot be built: each trigger is made with its own facts in this crate.
            (
                Step::Adopt
                | Step::AwaitTick
                | Step::CountFailure
                | Step::AwaitLock
                | Step::TakeBack
                | Step::BecomeReady
                | Step::StopSoftly
                | Step::Bury
                | Step::Sweep,
                _,
            ) => debug_assert!(false, "{step:?} without its facts"),
        }
    }

    /// The highest run that was ever heard of.
    pub(crate) fn highest(&self) -> Generation {
        self.highest.max(self.generation)
    }

    /// Somebody has heard of this run.
    pub(crate) fn raise_generation(&mut self, at_least: Generation) {
        self.highest = self.highest.max(at_least);
    }

    // --- evidence ---

    pub(crate) fn captured(
        &mut self,
        turn: &mut Turn<'_>,
        generation: Generation,
        stage: CaptureStage,
        finding: Finding,
    ) {
        if stage == CaptureStage::Exit {
            if self.has_died(generation) {
                let line = finding.last_lines.iter().rev().find(|line| !line.trim().is_empty()).cloned();
                if let Some(last) = &mut self.last_death {
                    last.last_line.clone_from(&line);
                }
                self.tell_last_words(turn, Some(line));
            }
            self.record(turn, self.fault_incident(), What::EvidenceCaptured { stage, finding });
            return;
        }
        self.take_evidence(turn, stage, finding);
    }

    // --- people ---

    pub(crate) fn answer(&mut self, turn: &mut Turn<'_>, goal: Goal, answer: &Answer) {
        for (ticket, ..) in self.tickets.extract_if(.., |(_, waiting, _)| *waiting == goal) {
            turn.push(Command::Answer { ticket, answer: answer.clone() });
        }
    }

    /// Somebody waits, but not for ever: the bound is the sum of all that may lawfully happen in between.
    pub(crate) fn wait_for(&mut self, now: Mono, ticket: u64, goal: Goal) {
        let end = self.plan.stop.grace.saturating_add(UNDEAD_AFTER * 2);
        let start = match goal {
            Goal::Up => self.startup_cap().saturating_add(LAUNCH_WAIT_MAX),
            Goal::Down => LAUNCH_WAIT_MAX,
        };
        self.tickets.push((ticket, goal, now + end.saturating_add(start)));
    }

    /// Tells those who have waited for too long how things stand.
    pub(crate) fn expire_tickets(&mut self, turn: &mut Turn<'_>) {
        let (now, stands) = (turn.now, self.kind().word());
        for (ticket, ..) in self.tickets.extract_if(.., |(_, _, until)| *until <= now) {
            let answer = Answer::Failed(format!(
                "{} is still {stands}; horus status {} tells more",
                self.name, self.name
            ));
            turn.push(Command::Answer { ticket, answer });
        }
    }

    /// A person has stopped it: nothing of what was wrong with the instance matters any more.
    pub(crate) fn close_all(&mut self, turn: &mut Turn<'_>) {
        for id in self.incidents.ids() {
            self.incidents.close(turn, id, crate::event::Outcome::EndedByOperator, "you stopped it", None);
        }
        self.last_hang = None;
    }
}
