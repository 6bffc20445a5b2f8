//! A recording is lived again: what a person sees at the prompt, and that it is the same whichever way one comes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says what it expects")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_core::Engine;
use horus_core::command::{Command, Memory};
use horus_core::ids::{Generation, Instance, ProcessId, ServiceName};
use horus_core::observation::{
    Beat, Exit, Finding, Input, LoopSeen, Observation, OperatorRequest, ProbeFault,
};
use horus_core::plan::{
    BeatKind, BeatPlan, HttpBeat, KillPlan, Plan, Ready, RestartOn, RestartPlan, ServicePlan, StopPlan,
};
use horus_core::time::Mono;
use horus_sim::recording::{Birth, Line, RememberedService, read, told, write_line};
use horus_sim::replay::{Answer, CHECKPOINTS_MAX, LoadError, Prompt, Session, Step, load, script};

const SECOND: Duration = Duration::from_secs(1);

/// The committed recording.
fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/kill-loop.jsonl")
}

fn session() -> Session {
    Session::new(load(&file()).unwrap()).unwrap()
}

// --- how it was recorded ---

/// A world of one program, around a real engine. Everything that the engine is told is written down.
struct Recorder {
    lines: Vec<Line>,
    engine: Engine,
    now: Mono,
    alive: Option<(Instance, Mono)>,
    memory: Option<(Memory, Mono)>,
    incidents: u64,
    ticks: u64,
}

fn bot() -> ServiceName {
    ServiceName::parse("bot").unwrap()
}

/// Deadline 10 s, poll 1 s, three kills, proof after a minute.
fn plan() -> Plan {
    let beat = HttpBeat {
        url: "http://127.0.0.1:7801/heartbeat".into(),
        every: SECOND,
        timeout: SECOND,
        seq: Some("/seq".into()),
        progress: None,
        state: None,
        lag: None,
        gauges: None,
    };
    let plain = ServicePlan::plain(vec!["bot".into()]);
    let service = ServicePlan {
        ready: Ready::Tick,
        beats: vec![BeatPlan::Http(beat)],
        deadline: 10 * SECOND,
        stop: StopPlan { signal: "SIGTERM".into(), grace: 5 * SECOND },
        restart: RestartPlan { on: RestartOn::Always, ..plain.restart },
        kills: KillPlan { prove: 60 * SECOND, ..plain.kills },
        ..plain
    };
    Plan { services: BTreeMap::from([(bot(), service)]), ..Plan::default() }
}

impl Recorder {
    fn new(note: &str) -> Self {
        let born = Birth::first(7, note);
        let mut recorder = Self {
            engine: born.engine(),
            lines: vec![Line::Born { born }],
            now: Mono::from_origin(Mono::ORIGIN_BEFORE_START),
            alive: None,
            memory: None,
            incidents: 0,
            ticks: 0,
        };
        recorder.tell(Input::Wall("2026-07-01T16:18:06Z".parse().unwrap()));
        recorder.tell(Input::PlanChanged(Box::new(plan())));
        recorder.tell(Input::Reconciled);
        recorder
    }

    /// Horus is killed, and another one begins with what was remembered; its clock goes on.
    fn restart_horus(&mut self) {
        let (memory, written) = self.memory.clone().unwrap();
        self.now = self.now + 2 * SECOND;
        let elapsed = self.now.since(written);
        let remembered = RememberedService { service: bot(), memory, elapsed, away: None };
        let born = Birth {
            incidents: self.incidents,
            remembered: vec![remembered],
            ..Birth::first(8, "Horus was restarted")
        };
        self.engine = born.engine();
        self.lines.push(Line::Born { born });
        self.tell(Input::Wall("2026-07-01T16:30:00Z".parse().unwrap()));
        self.tell(Input::PlanChanged(Box::new(plan())));
        if let Some((instance, _)) = self.alive {
            self.observe(Observation::Adopted(instance));
        }
        self.tell(Input::Reconciled);
    }

    fn tell(&mut self, input: Input) {
        self.lines.push(told(self.now, &input));
        for command in self.engine.step(self.now, input) {
            self.obey(command);
        }
    }

    fn observe(&mut self, observation: Observation) {
        self.tell(Input::Service(bot(), observation));
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Start { generation, .. } => {
                let pid = 4000 + i32::try_from(generation.0).unwrap();
                let instance = Instance { generation, process: ProcessId { pid, start_time: 1 } };
                self.alive = Some((instance, self.now));
                self.observe(Observation::Spawned(instance));
            }
            // It hangs: it does not hear SIGTERM.
            Command::Signal { .. } => {}
            Command::KillTree { generation, .. } => {
                self.alive = None;
                self.observe(Observation::Exited { generation, exit: Exit::Signal(9), strays: 0 });
                self.observe(Observation::Gone { generation, killed: 1 });
            }
            Command::Capture { generation, stage, .. } => {
                let finding = Finding {
                    phrase: "main thread sleeps in recvfrom on 10.0.0.7:443".into(),
                    place: Some("recvfrom".into()),
                    cpu_ns: Some(1),
                    seen: Some(LoopSeen::Blocked),
                    ..Finding::default()
                };
                self.observe(Observation::Captured { generation, stage, finding });
            }
            Command::Confirm { incident } => self.tell(Input::IncidentStored { incident, persisted: true }),
            Command::Remember { memory, .. } => self.memory = Some((*memory, self.now)),
            Command::Record(event) => {
                self.incidents +=
                    u64::from(matches!(event.what, horus_core::event::What::IncidentOpened { .. }));
            }
            Command::Watch { .. }
            | Command::Hasten { .. }
            | Command::Unwatch { .. }
            | Command::Tell(_)
            | Command::Answer { .. }
            | Command::Finished => {}
        }
    }

    /// Lets so many seconds pass; each run of the program hangs at the age that `hangs` has for it.
    fn run(&mut self, seconds: u64, hangs: impl Fn(Generation) -> u64) {
        for _ in 0..seconds {
            let next = self.now + SECOND;
            while let Some(due) = self.engine.next_deadline().filter(|due| *due <= next) {
                self.now = due.max(self.now);
                self.tell(Input::Wake);
            }
            self.now = next;
            if let Some((Instance { generation, .. }, since)) = self.alive {
                let works = self.now.since(since).as_secs() < hangs(generation);
                let heard = if works { self.beat(generation) } else { silence(generation) };
                self.observe(heard);
            }
        }
    }

    fn beat(&mut self, generation: Generation) -> Observation {
        self.ticks += 1;
        let beat = Beat {
            source: BeatKind::Http,
            tick: Some(self.ticks),
            progress: BTreeMap::new(),
            declared: None,
            gauges: BTreeMap::new(),
            loop_lag_ms: None,
        };
        Observation::Beat { generation, beat }
    }
}

fn silence(generation: Generation) -> Observation {
    let (source, fault) = (BeatKind::Http, ProbeFault::NoAnswer);
    Observation::NoBeat { generation, source, fault, detail: "no answer in 1 s".into() }
}

/// Run 1 hangs and is healed, run 2 proves it. Later runs hang at the age of 12 s, until the breaker opens. Horus is
/// restarted meanwhile; then a person resumes, and run 6 works.
fn kill_loop() -> Vec<Line> {
    let mut recorder = Recorder::new("a bot that hangs: healed once, then in vain until the breaker opens");
    let hangs = |run: Generation| match run.0 {
        1 => 30,
        2 => 100,
        3..=5 => 12,
        _ => u64::MAX,
    };
    recorder.run(480, hangs);
    recorder.restart_horus();
    recorder.run(10, hangs);
    recorder.tell(Input::Operator {
        ticket: 1,
        request: OperatorRequest::Resume { service: bot(), reason: Some("the venue is back".into()) },
    });
    recorder.tell(Input::Operator { ticket: 2, request: OperatorRequest::Restart(bot()) });
    recorder.run(90, hangs);
    recorder.lines
}

fn text(lines: &[Line]) -> Vec<u8> {
    let mut text = Vec::new();
    for line in lines {
        write_line(&mut text, line).unwrap();
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a generated file in the source tree, not state")]
fn the_committed_recording_is_what_the_engine_lives_through() {
    let wanted = text(&kill_loop());
    if std::env::var_os("HORUS_UPDATE").is_some() {
        std::fs::write(file(), &wanted).unwrap();
    }
    let there = std::fs::read(file()).unwrap_or_default();
    assert!(there == wanted, "out of date: HORUS_UPDATE=1 cargo test -p horus-sim --test replay");
}

// --- what a person sees ---

/// A whole session: each instruction with its answer.
fn transcript(instructions: &str) -> String {
    let mut prompt = Prompt::new(session());
    let mut out = String::new();
    for line in instructions.split(';').map(str::trim) {
        out += &format!("> {line}\n");
        for instruction in script(line).unwrap() {
            match prompt.obey(&instruction) {
                Ok(answer) => out += &answer.text(),
                Err(error) => out += &format!("error: {error}\nhint: {}\n", error.hint()),
            }
        }
    }
    out
}

#[test]
fn a_first_look() {
    insta::assert_snapshot!(transcript(
        "where; step; step; commands; step 4; status; list 2; back 2; back 100; help; quit"
    ));
}

#[test]
fn from_the_first_silence_to_the_kill() {
    let session = "break verdict blocked bot; break phase condemned; break signal; break kill; continue; diff; \
        continue; commands; continue; where; continue; diff; history 8; status bot";
    insta::assert_snapshot!(transcript(session));
}

#[test]
fn the_breaker_its_incident_and_the_way_back() {
    let session = "break event breaker_opened; continue; commands; status; delete 1; break rule breaker; goto end; reverse; \
        break; delete all; break service bot; reverse; reverse; status";
    insta::assert_snapshot!(transcript(session));
}

#[test]
fn a_restart_of_horus_and_a_person() {
    let session = "goto end; break command answer; reverse; commands; diff; delete all; break at 8m 2s; goto start; \
        continue; step 3; diff";
    insta::assert_snapshot!(transcript(session));
}

#[test]
fn what_cannot_be_done_is_said_with_what_can() {
    let session = "goto 0; goto 999999; status nobody; delete 3; diff 1 999999; goto 9h";
    insta::assert_snapshot!(transcript(session));
}

#[test]
fn every_state_change_is_one_line() {
    let mut lines = String::new();
    let mut session = session();
    session.history(session.steps(), |transition| lines += &transition.line());
    insta::assert_snapshot!(lines);
}

/// What `horus replay` prints for a command line of the guide.
fn printed(command: &str, shown: &str) -> String {
    let (command, head) = match command.split_once(" | head -") {
        Some((command, lines)) => (command, lines.parse().unwrap()),
        None => (command, usize::MAX),
    };
    let mut out = String::new();
    let mut prompt = Prompt::new(session());
    let mut session = session();
    let words: Vec<&str> = command.splitn(6, ' ').collect();
    match words[..] {
        [_, "horus", "replay", _, "--transitions"] => {
            session.history(session.steps(), |transition| out += &transition.line());
        }
        [_, "horus", "replay", _, "--script", text] => {
            for instruction in script(text.trim_matches('\'')).unwrap() {
                out += &prompt.obey(&instruction).unwrap().text();
            }
        }
        [_, "horus", "replay", _] => {
            out += &prompt.obey(&script("where").unwrap()[0]).unwrap().text();
            for typed in shown.lines().filter_map(|line| {
                line.split_once("> ").filter(|(at, _)| at.contains('/') && !at.contains(' '))
            }) {
                let step = prompt.session().step().step;
                out += &format!("{step}/{}> {}\n", prompt.session().steps(), typed.1);
                for instruction in script(typed.1).unwrap() {
                    out += &prompt.obey(&instruction).unwrap().text();
                }
            }
        }
        [_, "head", "-c", bytes, ..] => {
            let error =
                loaded(&std::fs::read(file()).unwrap()[..bytes.parse().unwrap()], "cut.jsonl").unwrap_err();
            out += &format!("error: {error}\n");
            error.causes().iter().for_each(|cause| out += &format!("  because: {cause}\n"));
            out += &format!("\nhint: {}\n", error.hint());
            let directories = out.split_inclusive(['/', ' ', '`']).filter(|part| !part.ends_with('/'));
            out = directories.collect();
        }
        _ => panic!("the guide shows what this test does not know: {command}"),
    }
    out.split_inclusive('\n').take(head).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a generated page in the source tree, not state")]
fn the_guide_shows_what_is_printed() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/replay.md");
    let mut there = std::fs::read_to_string(&guide).unwrap();
    let mut wanted = String::new();
    let mut rest = there.as_str();
    while let Some((before, block)) = rest.split_once("```console\n") {
        let (block, after) = block.split_once("```\n").unwrap();
        let (command, shown) = block.split_once('\n').unwrap();
        wanted += &format!("{before}```console\n{command}\n{}```\n", printed(command, shown));
        rest = after;
    }
    wanted += rest;
    if std::env::var_os("HORUS_UPDATE").is_some() {
        std::fs::write(&guide, &wanted).unwrap();
        there.clone_from(&wanted);
    }
    assert!(there == wanted, "out of date: HORUS_UPDATE=1 cargo test -p horus-sim --test replay");
}

#[test]
fn an_incident_is_followed_through_the_recording() {
    let mut prompt = Prompt::new(session());
    let obey = |prompt: &mut Prompt, text: &str| prompt.obey(&script(text).unwrap()[0]).unwrap();
    obey(&mut prompt, "break event incident_opened");
    obey(&mut prompt, "continue");
    let opened = prompt.session().step().clone();
    let id = opened.commands.iter().find_map(|command| command.incident).unwrap();
    obey(&mut prompt, "delete all");
    obey(&mut prompt, &format!("break incident {id}"));
    let mut steps = 0;
    loop {
        obey(&mut prompt, "continue");
        let step = prompt.session().step();
        if step.step == prompt.session().steps() {
            break;
        }
        steps += 1;
        let names_it = step.commands.iter().any(|command| command.incident == Some(id));
        assert!(names_it || step.input.incident == Some(id), "{step:?}");
    }
    assert!(steps >= 3, "it was told, stored and closed: {steps}");
}

#[test]
fn answers_are_data_too() {
    let mut prompt = Prompt::new(session());
    let answers: Vec<Answer> = script("goto 6; commands; diff; status; list 1; break start; history 2")
        .unwrap()
        .iter()
        .map(|instruction| prompt.obey(instruction).unwrap())
        .collect();
    insta::assert_json_snapshot!(answers);
}

// --- that it is the same whichever way one comes ---

/// Everything that can be seen at a step.
fn seen(session: &Session) -> (Step, String) {
    (session.step().clone(), serde_json::to_string(&session.status()).unwrap())
}

#[test]
fn there_and_back_is_the_same() {
    let mut session = session();
    let mut forward = vec![seen(&session)];
    while session.has_next() {
        session.forward();
        forward.push(seen(&session));
    }
    let mut random = 7_u64;
    for _ in 0..300 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let step = usize::try_from(random >> 33).unwrap() % session.steps() + 1;
        session.goto(step);
        assert_eq!(seen(&session), forward[step - 1], "by a jump to step {step}");
        session.forward();
        assert_eq!(seen(&session), forward[step.min(session.steps() - 1)], "on from step {step}");
    }
    for step in (1..=session.steps()).rev().take(400) {
        session.goto(step);
        assert_eq!(seen(&session), forward[step - 1], "backwards to step {step}");
    }
}

#[test]
fn a_step_back_costs_less_than_the_way_there() {
    let mut recorder = Recorder::new("long");
    recorder.run(40_000, |_| u64::MAX);
    let steps = recorder.lines.len();
    let mut session = Session::new(recorder.lines).unwrap();
    session.goto(steps);
    let last = seen(&session);
    assert!(session.cost().checkpoints <= CHECKPOINTS_MAX);
    let before = session.cost().lived;
    for back in 1..=50 {
        session.goto(steps - back);
    }
    let each = (session.cost().lived - before) / 50;
    // The checkpoints are thinned out to half of their greatest number at most.
    assert!(
        each <= u64::try_from(2 * steps / CHECKPOINTS_MAX).unwrap(),
        "{each} of {steps} lines for one step back"
    );
    session.goto(steps);
    assert_eq!(seen(&session), last);
}

// --- what is no recording ---

#[expect(clippy::disallowed_methods, reason = "a file of a test, in a directory of its own")]
fn loaded(bytes: &[u8], name: &str) -> Result<Vec<Line>, LoadError> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(name);
    std::fs::write(&file, bytes).unwrap();
    load(&file)
}

/// Error, causes and hint, without the name of the directory.
fn told_as(bytes: &[u8]) -> String {
    let error = loaded(bytes, "recording.jsonl").unwrap_err();
    let mut text = error.to_string();
    for cause in error.causes() {
        text += &format!("\n  because: {cause}");
    }
    text += &format!("\nhint: {}", error.hint());
    let words = text.split_inclusive(['/', ' ']).filter(|part| !part.ends_with('/'));
    words.collect()
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line() {
    let born = r#"{"born":{"version":1,"seed":1,"incidents":0}}"#;
    let cases = [
        "".to_owned(),
        "Dear diary\n".to_owned(),
        r#"{"at_ns":1,"input":"wake"}"#.to_owned(),
        format!("{born}\n{{\"at_ns\":1,\"input\":\"wake\"}}\n{{\"at_ns\":1,\"inp"),
        format!("{born}\n{{\"at_ns\":1,\"input\":\"sleep\"}}\n"),
        format!("{born}\n{{\"at\":1}}\n"),
        format!("{born}\n{{\"at_ns\":-1,\"input\":\"wake\"}}\n"),
        r#"{"born":{"version":2,"seeds":[1,2],"anything":"else"}}"#.to_owned(),
        r#"{"born":{"version":0,"seed":1}}"#.to_owned(),
        r#"{"born":{"version":1,"seed":"seven","incidents":0}}"#.to_owned(),
    ];
    let told: Vec<String> = cases.iter().map(|case| told_as(case.as_bytes())).collect();
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn a_file_that_is_not_there_is_said() {
    let error = load(Path::new("no/such/file")).unwrap_err();
    assert_eq!(error.to_string(), "no/such/file cannot be read");
    assert!(matches!(load(Path::new("/")), Err(LoadError::NoFile { .. })));
}

#[test]
fn a_recording_that_was_cut_at_any_byte_is_refused_or_whole_up_to_there() {
    let lines = &kill_loop()[..40];
    let bytes = text(lines);
    let whole: Vec<usize> =
        bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    for cut in 0..=bytes.len() {
        let complete = whole.iter().filter(|end| **end <= cut).count();
        // With or without its line end, the last line is whole.
        let at_an_end = cut == 0 || whole.contains(&cut) || whole.iter().any(|end| end + 1 == cut);
        match read(&mut &bytes[..cut]) {
            Ok(part) => {
                assert!(at_an_end && cut > 0, "cut inside of a line at byte {cut}");
                assert_eq!(part, lines[..complete], "cut at byte {cut}");
                let mut session = Session::new(part).unwrap();
                session.goto(usize::MAX);
            }
            Err(error) => {
                assert!(!at_an_end || cut == 0, "cut at the end of a line, at byte {cut}: {error}");
                if cut > 0 {
                    let named = format!("line {} of", complete + 1);
                    assert!(error.to_string().contains(&named), "cut at byte {cut}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_recording_of_nonsense_is_lived_through() {
    // Times that run backwards and to the end of the clock, a birth in between, names that no plan has.
    let mut lines = kill_loop();
    for (place, line) in lines.iter_mut().enumerate() {
        if let Line::Told { at_ns, .. } = line {
            match place % 7 {
                3 => *at_ns = u64::MAX,
                5 => *at_ns = 0,
                _ => {}
            }
        }
    }
    lines.swap(0, 1);
    assert!(Session::new(lines.clone()).is_err());
    lines.swap(0, 1);
    lines.insert(20, Line::Born { born: Birth::first(0, "") });
    lines.insert(
        30,
        told(
            Mono::default(),
            &Input::Service(
                ServiceName::parse("nobody").unwrap(),
                Observation::SaidReady { generation: Generation(9) },
            ),
        ),
    );
    let mut session = Session::new(lines).unwrap();
    session.history(usize::MAX, |_| {});
    let end = seen(&session);
    session.goto(10);
    session.goto(usize::MAX);
    assert_eq!(seen(&session), end);
}
