//! What the programs wrote down about themselves, compared with what Horus says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use horus_core::event::What;
use horus_core::ids::IncidentId;
use horus_core::observation::Exit;
use horus_core::record::Recorded;
use horus_tests::Rig;

use crate::fleet::{Kind, Member};

/// One life of one program, as it has written it down itself.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// Which.
    pub(crate) generation: u64,
    /// Its process.
    pub(crate) pid: i32,
    /// Its code and its lines, if it ended by itself.
    pub(crate) ended: Option<(i32, u64)>,
}

/// The lives of each program, in order.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// By name.
    pub(crate) lives: BTreeMap<String, Vec<Life>>,
    /// Programs that met another one of their name.
    pub(crate) doubled: Vec<String>,
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) lives: u64,
    pub(crate) ends: u64,
    /// Ends that nobody saw.
    pub(crate) unseen: Vec<String>,
    pub(crate) lines: u64,
    pub(crate) alerts: u64,
    pub(crate) repeated_alerts: u64,
    /// What must not be, in words.
    pub(crate) faults: Vec<String>,
}

impl Book {
    /// Reads it.
    pub(crate) fn of(rig: &Rig) -> Self {
        let mut book = Self::default();
        for line in std::fs::read_to_string(rig.room.path("book")).unwrap().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [word, name, generation, pid, code, lines] = words[..] else {
                panic!("a torn line: {line:?}")
            };
            let pid: i32 = pid.parse().unwrap();
            let lives = book.lives.entry(name.to_owned()).or_default();
            if word == "E" {
                let life = lives.iter_mut().rfind(|life| life.pid == pid).expect("who ends has begun");
                life.ended = Some((code.parse().unwrap(), lines.parse().unwrap()));
                continue;
            }
            lives.push(Life { generation: generation.parse().unwrap(), pid, ended: None });
            if word == "D" {
                book.doubled.push(format!("{name}: {pid}"));
            }
        }
        book
    }

    /// Each end that a program wrote down is in the journal, once, with its code or as one that nobody saw. The ends that are
    /// missing, if there are any.
    pub(crate) fn missing_ends(&self, events: &[Recorded]) -> Vec<String> {
        let known = exits(events);
        let of_name = |(name, lives): (&String, &Vec<Life>)| {
            let ended = lives.iter().filter(|life| life.ended.is_some());
            let unknown = ended.filter(|life| !known.contains_key(&(name.clone(), life.generation)));
            unknown.map(|life| format!("{name} {}", life.generation)).collect::<Vec<_>>()
        };
        self.lives.iter().flat_map(of_name).collect()
    }
}

fn exits(events: &[Recorded]) -> BTreeMap<(String, u64), Vec<Exit>> {
    let mut exits: BTreeMap<(String, u64), Vec<Exit>> = BTreeMap::new();
    for event in events {
        if let (What::Exited { exit, .. }, Some(generation)) = (&event.event.what, event.event.generation) {
            exits.entry((event.event.subject.clone(), generation.0)).or_default().push(*exit);
        }
    }
    exits
}

impl Tally {
    /// Nobody died who did not end by itself, nobody lived twice; and whoever is held is where it was.
    /// `alive` was looked at between the two books.
    pub(crate) fn count_lives(
        &mut self,
        before: &Book,
        after: &Book,
        members: &[Member],
        alive: &BTreeSet<i32>,
    ) {
        self.faults.extend(after.doubled.iter().map(|who| format!("doubled: {who}")));
        for member in members {
            let lives = before.lives.get(&member.name).map(Vec::as_slice).unwrap_or_default();
            self.lives += lives.len() as u64;
            self.ends += lives.iter().filter(|life| life.ended.is_some()).count() as u64;
            let mut fault = |text: String| self.faults.push(format!("{}: {text}", member.name));
            let wanted_once = member.lives_on() || member.is_down();
            if wanted_once && lives.len() != 1 {
                fault(format!("it has lived {} times", lives.len()));
            }
            for (place, life) in lives.iter().enumerate() {
                let (lives, last) = (alive.contains(&life.pid), place + 1 == lives.len());
                let ends_later = after.lives[&member.name][place].ended.is_some();
                if lives && (life.ended.is_some() || !last || member.is_down()) {
                    fault(format!("{} is still there", life.pid));
                }
                if !lives && !ends_later && !member.is_down() {
                    fault(format!("{} died", life.pid));
                }
            }
        }
    }

    /// Codes are right, or nobody saw them. Who ended after `then` may not be in the journal yet.
    pub(crate) fn count_exits(&mut self, then: &Book, now: &Book, events: &[Recorded]) {
        let known = exits(events);
        for (name, lives) in &now.lives {
            for (place, life) in lives.iter().enumerate() {
                let ended_then = then.lives[name].get(place).is_some_and(|life| life.ended.is_some());
                let said = known.get(&(name.clone(), life.generation)).map(Vec::as_slice).unwrap_or_default();
                match (life.ended, said) {
                    (Some((code, _)), [Exit::Code(said)]) if *said == code => {}
                    (Some(_), [Exit::Unknown]) => {
                        self.unseen.push(format!("{name} {}", life.generation));
                    }
                    (Some(_), []) if !ended_then => {}
                    // It was stopped by a person, or it lives.
                    (None, [] | [Exit::Signal(15)]) => {}
                    (ended, said) => self.faults.push(format!(
                        "{name} {}: it says that it ended with {ended:?}, and the journal says {said:?}",
                        life.generation
                    )),
                }
            }
        }
    }

    /// Each line that somebody took is in the files once, in order.
    pub(crate) fn count_lines(&mut self, rig: &Rig, book: &Book, members: &[Member]) {
        for member in
            members.iter().filter(|member| !matches!(member.kind, Kind::Quiet | Kind::Beats | Kind::Held))
        {
            let mut next: BTreeMap<i32, u64> = BTreeMap::new();
            for file in files(rig, &member.name) {
                self.read_lines(&file, &member.name, &mut next);
            }
            for life in book.lives.get(&member.name).into_iter().flatten() {
                let written = rig.room.path(&format!("{}.{}.written", member.name, life.pid));
                let written = std::fs::read_to_string(written).unwrap_or_default();
                let least = life.ended.map_or(written.parse().unwrap_or(0), |(_, lines)| lines);
                let found = next.get(&life.pid).copied().unwrap_or(0);
                self.lines += found;
                if found < least {
                    self.faults.push(format!("{} {}: {found} lines of {least}", member.name, life.pid));
                }
            }
        }
    }

    fn read_lines(&mut self, path: &Path, name: &str, next: &mut BTreeMap<i32, u64>) {
        let mut file = BufReader::with_capacity(1 << 20, File::open(path).unwrap());
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line).unwrap() > 0 {
            let text = String::from_utf8_lossy(&line);
            let parsed = text.strip_suffix('\n').and_then(|text| text.split_once(' '));
            let parsed = parsed
                .and_then(|(pid, number)| Some((pid.parse::<i32>().ok()?, number.parse::<u64>().ok()?)));
            match parsed {
                Some((pid, number)) => {
                    let expected: &mut u64 = next.entry(pid).or_default();
                    if number != *expected && self.faults.len() < 100 {
                        self.faults.push(format!("{name} {pid}: line {number} after line {expected}"));
                    }
                    *expected = number + 1;
                }
                // The last one of somebody who was stopped in the middle of it.
                None if !text.ends_with('\n') => {}
                None => self.faults.push(format!("{name}: a torn line {text:?}")),
            }
            line.clear();
        }
    }

    /// Each incident that was to be told has come to both sinks, in its last version.
    pub(crate) fn count_alerts(&mut self, rig: &Rig, told: &BTreeSet<IncidentId>) {
        let (discord, slack) = (rig.sinks.discord.accepted(), rig.sinks.slack.accepted());
        for (sink, messages) in [("discord", discord), ("slack", slack)] {
            self.alerts += messages.len() as u64;
            let mut seen = BTreeSet::new();
            self.repeated_alerts +=
                messages.iter().filter(|said| !seen.insert(said.full_text())).count() as u64;
            for id in told {
                let word = id.to_string();
                if !messages.iter().any(|said| said.full_text().contains(&word)) {
                    self.faults.push(format!("{sink}: nothing was said of {word}"));
                }
            }
        }
    }
}

/// The incidents of which a message was put into the outbox: what another tells of, too, begins none.
pub(crate) fn told(events: &[Recorded]) -> BTreeSet<IncidentId> {
    let told = events.iter().filter(|event| matches!(event.event.what, What::Told { within: None, .. }));
    let within = events.iter().filter_map(|event| match event.event.what {
        What::Told { within, .. } => within,
        _ => None,
    });
    told.filter_map(|event| event.event.incident).chain(within).collect()
}

/// The output of a service, the oldest file first.
fn files(rig: &Rig, name: &str) -> Vec<PathBuf> {
    let folder = rig.room.path("s/logs");
    let rotated = (1..=100).rev().map(|number| folder.join(format!("{name}.log.{number}")));
    rotated.chain([folder.join(format!("{name}.log"))]).filter(|file| file.exists()).collect()
}
