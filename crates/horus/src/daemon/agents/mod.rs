//! Agents: code that Horus puts into a program, by a variable that its runtime reads at the start (`agent = "python"`).
//!
//! Their files are part of this program. They are written beside the notify sockets, where every user that a service may run as
//! can read them and only Horus can write, and are compared with what they should be before each start: nobody else's code is ever
//! brought into a service by us. Nothing is written into the program's own folders. A service whose table says no `agent` gets no
//! variable, and files that no service of the plan needs are removed at the next start of any.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use horus_core::agent::Agent;
use horus_core::plan::Plan;
use horus_sys::files::{Durability, read_limited, write_atomic};
use horus_sys::user::effective_uid;

/// Why the agent of a service cannot be put into it. It is started all the same.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    /// The program would not load it, or would not start with it.
    #[error("`{option}` keeps it out")]
    KeptOut {
        /// By this word.
        option: String,
    },
    /// Somebody else's, or something else, is in the place of our directory or file.
    #[error("{path} is not ours")]
    NotOurs {
        /// Where.
        path: PathBuf,
    },
    /// It could not be written or read.
    #[error("cannot write the agent's {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A file of an agent: its name and what is in it.
type AgentFile = (&'static str, &'static str);

const PYTHON: &[AgentFile] = &[
    ("sitecustomize.py", include_str!("python/sitecustomize.py")),
    ("_horus_agent.py", include_str!("python/_horus_agent.py")),
];

const NODE: &[AgentFile] = &[(NODE_AGENT, include_str!("node/horus-agent.cjs"))];
/// By this name the agent finds itself in `NODE_OPTIONS`.
const NODE_AGENT: &str = "horus-agent.cjs";

const EVERY_AGENT: [Agent; 2] = [Agent::Python, Agent::Node];

fn files_of(agent: Agent) -> &'static [AgentFile] {
    match agent {
        Agent::Python => PYTHON,
        Agent::Node => NODE,
    }
}

fn folder_of(places: &Path, agent: Agent) -> PathBuf {
    places.join("agents").join(agent.word())
}

/// Writes the files of the agent where they are not, and answers the variable that brings them into a program, with its value:
/// what the program has in it already stays in it. `places`: the directory of the notify sockets.
pub(super) fn variable(
    agent: Agent,
    places: &Path,
    command: &[String],
    value_of: impl Fn(&str) -> Option<String>,
) -> Result<(&'static str, String), AgentError> {
    let others: Vec<String> =
        value_of(agent.variable()).iter().flat_map(|value| value.split(' ')).map(str::to_owned).collect();
    if let Some(option) = agent.kept_out_by(command).or_else(|| agent.refused_by(&others)) {
        return Err(AgentError::KeptOut { option });
    }
    let folder = write(agent, places)?;
    match agent {
        Agent::Python => {
            let others = value_of("PYTHONPATH").filter(|value| !value.is_empty());
            let ours = folder.display();
            let value = others.map_or_else(|| ours.to_string(), |others| format!("{ours}:{others}"));
            Ok(("PYTHONPATH", value))
        }
        Agent::Node => {
            let path =
                folder.join(NODE_AGENT).display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
            let ours = format!("--require=\"{path}\"");
            let others = value_of("NODE_OPTIONS").filter(|value| !value.trim().is_empty());
            let value = others.map_or_else(|| ours.clone(), |others| format!("{ours} {others}"));
            Ok(("NODE_OPTIONS", value))
        }
    }
}

/// Removes what no service of the plan needs.
pub(super) fn tidy(places: &Path, plan: &Plan) {
    let needed = |agent: Agent| plan.services.values().any(|service| service.launch.agent == Some(agent));
    for agent in EVERY_AGENT.into_iter().filter(|agent| !needed(*agent)) {
        // Nothing is lost if it stays: nobody is told of it.
        let _ = fs::remove_dir_all(folder_of(places, agent));
    }
    let _ = fs::remove_dir(places.join("agents"));
}

fn write(agent: Agent, places: &Path) -> Result<PathBuf, AgentError> {
    let folder = folder_of(places, agent);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| AgentError::Io { path, source }
    };
    for directory in [places.join("agents"), folder.clone()] {
        match DirBuilder::new().mode(0o755).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(&directory)(error));
            }
            _ => {}
        }
        let found = fs::symlink_metadata(&directory).map_err(failed(&directory))?;
        if !found.is_dir() || found.uid() != effective_uid() {
            return Err(AgentError::NotOurs { path: directory });
        }
        readable_by_all(&directory, 0o755, found.mode()).map_err(failed(&directory))?;
    }
    for (name, text) in files_of(agent) {
        let path = folder.join(name);
        if !is_as_it_should_be(&path, text) {
            write_atomic(&path, text.as_bytes(), Durability::ThisBoot).map_err(failed(&path))?;
            readable_by_all(&path, 0o644, 0).map_err(failed(&path))?;
        }
    }
    Ok(folder)
}

fn readable_by_all(path: &Path, mode: u32, found: u32) -> io::Result<()> {
    if found & 0o7777 == mode { Ok(()) } else { fs::set_permissions(path, Permissions::from_mode(mode)) }
}

fn is_as_it_should_be(path: &Path, text: &str) -> bool {
    let found = fs::symlink_metadata(path);
    let ours = found.is_ok_and(|found| {
        found.is_file() && found.uid() == effective_uid() && found.mode() & 0o7777 == 0o644
    });
    ours && read_limited(path, text.len()).is_ok_and(|content| content == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn what_the_program_has_in_its_variable_stays_in_it() {
        let places = tempfile::tempdir().unwrap();
        let folder = folder_of(places.path(), Agent::Python);
        let with = |old: Option<&str>| {
            let old = old.map(str::to_owned);
            variable(Agent::Python, places.path(), &[], |name| old.clone().filter(|_| name == "PYTHONPATH"))
                .unwrap()
                .1
        };
        assert_eq!(with(None), folder.display().to_string());
        // An empty entry would be the working directory.
        assert_eq!(with(Some("")), folder.display().to_string());
        assert_eq!(with(Some("/app:/lib")), format!("{}:/app:/lib", folder.display()));
    }

    #[test]
    fn node_keeps_its_options_and_is_not_kept_from_starting() {
        let places = tempfile::tempdir().unwrap();
        let folder = folder_of(places.path(), Agent::Node);
        let with = |old: Option<&str>, command: &[&str]| {
            let old = old.map(str::to_owned);
            let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
            variable(Agent::Node, places.path(), &command, |_| old.clone()).map(|(_, value)| value)
        };
        let ours = format!("--require=\"{}/horus-agent.cjs\"", folder.display());
        assert_eq!(with(None, &["node", "bot.js"]).unwrap(), ours);
        assert_eq!(with(Some("--no-warnings"), &["node"]).unwrap(), format!("{ours} --no-warnings"));
        for (old, command) in [
            (None, &["node", "--permission", "bot.js"][..]),
            (Some("--experimental-permission"), &["node"][..]),
        ] {
            assert!(matches!(with(old, command), Err(AgentError::KeptOut { .. })), "{old:?} {command:?}");
        }
    }

    #[test]
    fn what_somebody_changed_is_made_anew_before_it_is_used() {
        let places = tempfile::tempdir().unwrap();
        let folder = write(Agent::Python, places.path()).unwrap();
        let file = folder.join("_horus_agent.py");
        let inode = || fs::symlink_metadata(&file).unwrap().ino();
        let first = inode();
        write(Agent::Python, places.path()).unwrap();
        assert_eq!(inode(), first, "what is right is left alone");
        write_atomic(&file, b"import evil\n", Durability::ThisBoot).unwrap();
        write(Agent::Python, places.path()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), PYTHON[1].1);
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        write(Agent::Python, places.path()).unwrap();
        assert_eq!(fs::symlink_metadata(&file).unwrap().mode() & 0o777, 0o644);
        assert_eq!(fs::symlink_metadata(&folder).unwrap().mode() & 0o777, 0o755);
    }

    #[test]
    fn no_link_is_followed_to_somewhere_else() {
        let places = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), places.path().join("agents")).unwrap();
        let error = variable(Agent::Python, places.path(), &[], nothing).unwrap_err();
        assert!(matches!(error, AgentError::NotOurs { .. }), "{error}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }

    #[test]
    fn without_a_service_that_wants_it_nothing_is_left() {
        let places = tempfile::tempdir().unwrap();
        write(Agent::Python, places.path()).unwrap();
        tidy(places.path(), &Plan::default());
        assert_eq!(fs::read_dir(places.path()).unwrap().count(), 0);
    }
}
