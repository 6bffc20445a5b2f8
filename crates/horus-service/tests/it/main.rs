//! Plans for four kinds of service, carrying them out, and what is wrong with a unit or a property list.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test says what it expects")]

mod executing;
mod plans;
mod plists;
mod units;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_service::{
    Account, Answer, Existing, Facts, Manager, PathEntry, RunError, Runner, Scope, Target, Traced, Wanted,
};

/// Says on standard error that a test cannot run here, and why.
#[expect(clippy::print_stderr, reason = "the runner of the tests counts these lines")]
fn skipped(name: &str, reason: &str) {
    eprintln!("SKIPPED: {name}: {reason}");
}

fn target(manager: Manager, scope: Scope) -> Target {
    Target { manager, scope }
}

fn answer(code: i32, text: &str) -> Answer {
    Answer { code, text: text.to_owned() }
}

/// Names from the root to `path`, all of them root's.
fn of_root(path: &Path) -> Traced {
    let names = path.ancestors().map(Path::to_owned);
    let chain = names.map(|path| PathEntry { path, owner: 0, group: 0, mode: 0o755, link: false }).collect();
    Traced { path: path.to_owned(), chain }
}

/// A machine on which nothing is installed, and what is wanted of it.
fn machine(manager: Manager, scope: Scope) -> (Facts, Wanted) {
    let (home, program) = match manager {
        Manager::Systemd => ("/home/ann", "/usr/local/bin/horus"),
        Manager::Launchd => ("/Users/ann", "/usr/local/bin/horus"),
    };
    let account = match scope {
        Scope::System => {
            Account { uid: 0, name: "root".into(), home: Some("/root".into()), ..Account::default() }
        }
        Scope::User => Account {
            uid: 501,
            name: "ann".into(),
            home: Some(home.into()),
            runtime_directory: (manager == Manager::Systemd).then(|| PathBuf::from("/run/user/501")),
        },
    };
    let config = match scope {
        Scope::System => PathBuf::from("/etc/horus/watchdog.toml"),
        Scope::User => Path::new(home).join(".config/horus/watchdog.toml"),
    };
    let facts = Facts { account, manager_runs: true, existing: Existing::default() };
    let wanted = Wanted {
        executable: of_root(Path::new(program)),
        config: of_root(&config),
        stop_within: Duration::from_secs(150),
        linger: false,
    };
    (facts, wanted)
}

/// Writes down what it is asked, and answers from a list; when that is at its end, with success.
#[derive(Default)]
struct Recording {
    asked: Vec<String>,
    answers: VecDeque<Answer>,
    paused: Vec<Duration>,
}

impl Runner for Recording {
    fn run(&mut self, argv: &[String], _within: Duration) -> Result<Answer, RunError> {
        self.asked.push(argv.join(" "));
        Ok(self.answers.pop_front().unwrap_or_else(|| answer(0, "state = running\n")))
    }

    fn pause(&mut self, time: Duration) {
        self.paused.push(time);
    }
}
