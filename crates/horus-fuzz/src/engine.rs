//! The judge itself, told anything that can be said.
//!
//! Promised, whatever the inputs: no panic; the same inputs give the same commands; after each step the next one is due
//! later, so that nothing spins; one step asks for a bounded number of things; whatever it asks to be written down and
//! whatever it shows reads back equal. (The guarantees about programs need a world that does not lie: horus-sim.)

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use horus_core::command::{Command, Memory};
use horus_core::ids::{Generation, Instance, ProcessId, ServiceName};
use horus_core::observation::{Beat, Exit, Finding, Input, Observation};
use horus_core::plan::{BeatKind, Plan};
use horus_core::time::Mono;
use horus_core::{Engine, Remembered};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dream::{NAMES, dream};
use crate::source::Source;

/// Steps of one life.
const STEPS_MAX: usize = 96;
/// Commands of one step: a fixed number for each service and monitor there is, and for Horus itself.
const COMMANDS_EACH_MAX: usize = 40;
/// Commands that wait to be obeyed.
const WAITING_MAX: usize = 64;

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
enum Happens {
    /// Anything that can be said.
    Said(Box<Input>),
    /// The world does what it was asked to.
    Obeyed,
    /// The newest run of this service shows a fresh tick.
    Ticked(usize),
    /// Nothing, until the engine wants to be woken.
    Slept,
    /// Horus dies and begins again with what it remembered.
    Reborn,
}

/// A life: its seed, and what happens after how long.
type Script = (u64, Vec<(Duration, Happens)>);

/// Any bytes, read as a life.
pub fn check_life(bytes: &[u8]) {
    let (seed, script) = script(&mut Source::new(bytes));
    let first = World::live(seed, &script);
    let second = World::live(seed, &script);
    assert_eq!(first, second, "the same inputs give other commands");
}

fn script(source: &mut Source<'_>) -> Script {
    let seed = source.number();
    let mut script = Vec::new();
    if let Some(plan) = plan(source) {
        script.push((Duration::ZERO, Happens::Said(Box::new(Input::PlanChanged(Box::new(plan))))));
        script.push((Duration::ZERO, Happens::Said(Box::new(Input::Reconciled))));
    }
    while !source.is_empty() && script.len() < STEPS_MAX {
        let passed = match source.byte() % 8 {
            0..=2 => Duration::ZERO,
            3..=5 => Duration::from_millis(100 * u64::from(source.byte())),
            6 => Duration::from_secs(60 * u64::from(source.byte())),
            _ => Duration::from_secs(86_400 * u64::from(source.byte())),
        };
        let happens = match source.byte() % 16 {
            0..=5 => Happens::Obeyed,
            6..=8 => Happens::Ticked(source.below(NAMES.len())),
            9..=10 => Happens::Slept,
            11 if source.once_in(4) => Happens::Reborn,
            _ => match dream::<Input>(source) {
                Some(input) => Happens::Said(Box::new(input)),
                None => continue,
            },
        };
        script.push((passed, happens));
    }
    (seed, script)
}

/// A dreamed plan, or one that was written by people.
fn plan(source: &mut Source<'_>) -> Option<Plan> {
    const WRITTEN: &str = include_str!("../tests/engine-plan.toml");
    if source.once_in(2) {
        return dream(source);
    }
    static PLAN: OnceLock<Plan> = OnceLock::new();
    let read = || {
        let file = std::path::Path::new("/srv/watchdog.toml");
        let loaded = horus_config::parse(WRITTEN, file, &horus_config::SystemEnvironment);
        loaded.into_result().unwrap_or_else(|faults| panic!("{faults:?}")).plan
    };
    Some(PLAN.get_or_init(read).clone())
}

struct World {
    engine: Engine,
    seed: u64,
    now: Mono,
    waiting: VecDeque<Command>,
    runs: BTreeMap<ServiceName, Generation>,
    memories: BTreeMap<ServiceName, Memory>,
    tick: u64,
    said: Vec<Command>,
}

impl World {
    /// Lives the script and gives all commands.
    fn live(seed: u64, script: &[(Duration, Happens)]) -> Vec<Command> {
        let mut world = Self {
            engine: Engine::new(seed, 0, Vec::new()),
            seed,
            now: Mono::from_origin(Mono::ORIGIN_BEFORE_START),
            waiting: VecDeque::new(),
            runs: BTreeMap::new(),
            memories: BTreeMap::new(),
            tick: 0,
            said: Vec::new(),
        };
        for (passed, happens) in script {
            world.now = world.now + *passed;
            world.happen(happens);
        }
        world.said
    }

    fn happen(&mut self, happens: &Happens) {
        match happens {
            Happens::Said(input) => self.step(*input.clone()),
            Happens::Obeyed => {
                if let Some(answer) = self.waiting.pop_front().and_then(|command| self.answer(&command)) {
                    self.step(answer);
                }
            }
            Happens::Ticked(who) => {
                let Ok(service) = ServiceName::parse(NAMES[*who]) else { return };
                let Some(&generation) = self.runs.get(&service) else { return };
                self.tick += 1;
                let beat = Beat {
                    source: BeatKind::Http,
                    tick: Some(self.tick),
                    progress: BTreeMap::from([("orders".to_owned(), self.tick)]),
                    declared: None,
                    gauges: BTreeMap::new(),
                    loop_lag_ms: None,
                };
                self.step(Input::Service(service, Observation::Beat { generation, beat }));
            }
            Happens::Slept => {
                if let Some(due) = self.engine.next_deadline() {
                    // A plan may speak of centuries; the clock of a test does not have as many.
                    let due = due.min(self.now + Duration::from_secs(400 * 86_400));
                    self.now = due.max(self.now);
                    self.step(Input::Wake);
                }
            }
            Happens::Reborn => {
                let remembered =
                    std::mem::take(&mut self.memories).into_iter().map(|(service, memory)| Remembered {
                        service,
                        memory,
                        elapsed: Duration::from_secs(1),
                        away: Some(Duration::from_secs(1)),
                    });
                self.engine = Engine::new(self.seed, 0, remembered.collect());
                self.waiting.clear();
            }
        }
    }

    fn step(&mut self, input: Input) {
        let commands = self.engine.step(self.now, input);
        let status = self.engine.status(self.now);
        let parties = 1 + status.services.len() + status.monitors.len() + status.dead_sinks.len();
        assert!(commands.len() <= COMMANDS_EACH_MAX * parties, "{} commands in one step", commands.len());
        let due = self.engine.next_deadline();
        assert!(due.is_none_or(|due| due > self.now), "due at once after a step: the daemon would spin");
        check_round(&status);
        for command in &commands {
            self.note(command);
        }
        self.said.extend(commands);
    }

    fn note(&mut self, command: &Command) {
        match command {
            Command::Record(event) => check_round(event.as_ref()),
            Command::Tell(notice) => check_round(notice.as_ref()),
            Command::Remember { service, memory } => {
                check_round(memory.as_ref());
                self.memories.insert(service.clone(), *memory.clone());
            }
            Command::Start { .. }
            | Command::Signal { .. }
            | Command::KillTree { .. }
            | Command::Capture { .. }
            | Command::Confirm { .. }
                if self.waiting.len() < WAITING_MAX =>
            {
                self.waiting.push_back(command.clone());
            }
            _ => {}
        }
    }

    /// What the world tells after it has done what was asked.
    fn answer(&mut self, command: &Command) -> Option<Input> {
        Some(match command {
            Command::Start { service, generation, .. } => {
                let process = ProcessId { pid: 100, start_time: generation.0 };
                self.runs.insert(service.clone(), *generation);
                let instance = Instance { generation: *generation, process };
                Input::Service(service.clone(), Observation::Spawned(instance))
            }
            Command::Signal { service, generation, .. } => {
                let (generation, exit) = (*generation, Exit::Signal(15));
                Input::Service(service.clone(), Observation::Exited { generation, exit, strays: 0 })
            }
            Command::KillTree { service, generation, .. } => {
                Input::Service(service.clone(), Observation::Gone { generation: *generation, killed: 1 })
            }
            Command::Capture { service, generation, stage, .. } => {
                let (generation, stage, finding) = (*generation, *stage, Finding::default());
                Input::Service(service.clone(), Observation::Captured { generation, stage, finding })
            }
            Command::Confirm { incident } => Input::IncidentStored { incident: *incident, persisted: true },
            _ => return None,
        })
    }
}

/// What goes to disk or to a reader comes back as it was, to the millisecond that formats keep.
fn check_round<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let written = serde_json::to_string(value).expect("it is JSON");
    let read: T = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
    let again = serde_json::to_string(&read).expect("it is JSON");
    assert_eq!(again, written, "it changes when it is read");
}
