//! Carrying a plan out, step by step. Decides nothing; each step looks first whether it is done already, so a plan that
//! was cut short is simply carried out again.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_sys::files::{Durability, read_limited, write_atomic};

use crate::plan::{Action, Attempts, Manager, Plan, Scope, Step, Until, command_line};
use crate::runner::{Answer, RunError, Runner};

/// Most tries of a command that answers "not yet".
const TRIES_MAX: u32 = 10;
/// Pause after the first of them; each further one is half as long again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long one look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
/// Unit files and property lists are read by everybody.
const FILE_MODE: u32 = 0o644;

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was carried out.
    Changed,
    /// It was so already.
    AsItWas,
}

/// The step at which a plan ended.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The file system refused.
    #[error("`{step}` failed")]
    File {
        /// As shown by the dry run.
        step: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer.
    #[error("`{step}` failed")]
    Run {
        /// As shown by the dry run.
        step: String,
        /// Why.
        #[source]
        source: RunError,
    },
    /// The wrong answer.
    #[error("`{step}` ended with {}{}", .answer.code, said(.answer))]
    Refused {
        /// As shown by the dry run.
        step: String,
        /// What it said.
        answer: Answer,
    },
    /// The right answer did not come.
    #[error("{step}: not within {} s{}", within.as_secs(), said(.last))]
    Late {
        /// As shown by the dry run.
        step: String,
        /// How long it was waited for.
        within: Duration,
        /// What was said last.
        last: Answer,
    },
    /// Removing this would remove more than Horus.
    #[error("{} is not removed: it is not a folder called horus", .0.display())]
    NotOurFolder(PathBuf),
}

fn said(answer: &Answer) -> String {
    let text = answer.text.trim();
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl ExecuteError {
    /// What to type next.
    pub fn hint(&self, plan: &Plan) -> String {
        let commands = match self {
            Self::File { .. } | Self::NotOurFolder(_) => {
                return "mend that, then type the same again: what is done is not done twice".into();
            }
            Self::Run { .. } | Self::Refused { .. } | Self::Late { .. } => {
                match (plan.target.manager, plan.target.scope) {
                    (Manager::Systemd, Scope::System) => "journalctl -u horus.service -n 50",
                    (Manager::Systemd, Scope::User) => "journalctl --user -u horus.service -n 50",
                    (Manager::Launchd, Scope::System) => {
                        "tail -50 /Library/Logs/Horus/horus.log; launchctl print system/dev.horus.daemon"
                    }
                    (Manager::Launchd, Scope::User) => {
                        "tail -50 ~/Library/Logs/Horus/horus.log; launchctl print gui/$(id -u)/dev.horus.agent"
                    }
                }
            }
        };
        format!("{commands}; then type the same again: what is done is not done twice")
    }
}

/// See the module.
pub struct Executor<'a> {
    runner: &'a mut dyn Runner,
    root: PathBuf,
}

impl<'a> Executor<'a> {
    /// Works on this machine.
    pub fn new(runner: &'a mut dyn Runner) -> Self {
        Self::below(runner, Path::new("/"))
    }

    /// Every file is taken below `root`: an image that is being made, or a test.
    pub fn below(runner: &'a mut dyn Runner, root: &Path) -> Self {
        Self { runner, root: root.to_owned() }
    }

    /// Carries the plan out, and tells of each step when it is done.
    ///
    /// # Errors
    /// [`ExecuteError`]: the first step that failed. Those before it stay done.
    pub fn execute(&mut self, plan: &Plan, mut tell: impl FnMut(&Step, Done)) -> Result<(), ExecuteError> {
        for step in &plan.steps {
            let done = self.carry_out(&step.action)?;
            tell(step, done);
        }
        Ok(())
    }

    fn carry_out(&mut self, action: &Action) -> Result<Done, ExecuteError> {
        let file = |source| ExecuteError::File { step: action.to_string(), source };
        match action {
            Action::MakeDirectory { path } => make_directory(&self.place(path)).map_err(file),
            Action::WriteFile { path, content } => write(&self.place(path), content).map_err(file),
            Action::RemoveFile { path } => gone(fs::remove_file(self.place(path))).map_err(file),
            Action::RemoveTree { path } => {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if !name.to_lowercase().starts_with("horus") || path.components().count() < 3 {
                    return Err(ExecuteError::NotOurFolder(path.clone()));
                }
                gone(fs::remove_dir_all(self.place(path))).map_err(file)
            }
            Action::Run { argv, within, attempts } => self.run(action, argv, *within, *attempts),
            Action::WaitUntil { argv, until, within } => self.wait(action, argv, until, *within),
        }
    }

    fn place(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn run(
        &mut self,
        action: &Action,
        argv: &[String],
        within: Duration,
        attempts: Attempts,
    ) -> Result<Done, ExecuteError> {
        let mut pause = FIRST_PAUSE;
        for tried in 1.. {
            let answer = self.runner.run(argv, within);
            if attempts == Attempts::OnceAndNeverMind {
                break;
            }
            let answer = answer.map_err(|source| ExecuteError::Run { step: action.to_string(), source })?;
            match attempts {
                _ if answer.succeeded() => break,
                Attempts::WhileItEndsWith(code) if answer.code == code && tried < TRIES_MAX => {
                    self.runner.pause(pause);
                    pause = pause * 3 / 2;
                }
                _ => return Err(ExecuteError::Refused { step: command_line(argv), answer }),
            }
        }
        Ok(Done::Changed)
    }

    /// Waits by asking. The time is counted in looks, which tests can count too.
    fn wait(
        &mut self,
        action: &Action,
        argv: &[String],
        until: &Until,
        within: Duration,
    ) -> Result<Done, ExecuteError> {
        let looks = within.as_millis() / LOOK_AGAIN.as_millis();
        let mut last = Answer { code: 0, text: String::new() };
        for look in 0..=looks {
            if look > 0 {
                self.runner.pause(LOOK_AGAIN);
            }
            last = match self.runner.run(argv, LOOK_WITHIN) {
                Ok(answer) => answer,
                // A manager that is slow to answer is asked again.
                Err(RunError::TimedOut { .. }) => continue,
                Err(source) => return Err(ExecuteError::Run { step: action.to_string(), source }),
            };
            let right = match until {
                Until::Fails => !last.succeeded(),
                Until::Succeeds => last.succeeded(),
                Until::Prints(text) => last.succeeded() && last.text.contains(text),
            };
            if right {
                return Ok(Done::AsItWas);
            }
        }
        Err(ExecuteError::Late { step: action.to_string(), within, last })
    }
}

fn make_directory(path: &Path) -> io::Result<Done> {
    if path.is_dir() {
        return Ok(Done::AsItWas);
    }
    DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    Ok(Done::Changed)
}

fn write(path: &Path, content: &str) -> io::Result<Done> {
    let same = read_limited(path, content.len()).is_ok_and(|there| there == content.as_bytes());
    let mode = |path: &Path| fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
    if same && mode(path)? == FILE_MODE {
        return Ok(Done::AsItWas);
    }
    if !same {
        write_atomic(path, content.as_bytes(), Durability::PowerLoss)?;
    }
    fs::set_permissions(path, Permissions::from_mode(FILE_MODE))?;
    Ok(Done::Changed)
}

/// What is not there need not be removed.
fn gone(removed: io::Result<()>) -> io::Result<Done> {
    match removed {
        Ok(()) => Ok(Done::Changed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Done::AsItWas),
        Err(error) => Err(error),
    }
}
