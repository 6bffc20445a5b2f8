//! Finding the daemon: from the command line to a configuration, from there to the run directory and its socket.
//!
//! A configuration with a fault in it must not keep anybody from `horus status`: only the three keys that say where
//! the socket is are read here, by the rules of the real reader. Everything else may be as broken as it likes.

use std::path::{Path, PathBuf};

use horus_api::{Client, SOCKET_NAME};
use horus_config::{Environment, FILE_BYTES_MAX};

use super::args::Place;
use super::exit::ExitStatus;
use super::fault::Fault;

/// The configuration of this folder.
const HERE: &str = "watchdog.toml";

/// The configuration of a user's own service, below the home directory.
const OF_USER: &str = ".config/horus/watchdog.toml";

/// The configuration of the machine's service.
const OF_MACHINE: &str = "/etc/horus/watchdog.toml";

/// Where a configuration is looked for, in this order: what is nearer outranks what is farther. A home of somebody else, as
/// sudo may leave it, is none.
fn usual_places(environment: &dyn Environment) -> Vec<PathBuf> {
    let ours = |home: &PathBuf| {
        let owner = environment.look(home).map(|facts| facts.owner);
        home.is_absolute() && owner.is_ok_and(|owner| owner == environment.user_id())
    };
    let home = environment.variable("HOME").map(PathBuf::from).filter(ours);
    let own = home.map(|home| home.join(OF_USER));
    [HERE.into()].into_iter().chain(own).chain([OF_MACHINE.into()]).collect()
}

/// The configuration file that is meant.
///
/// # Errors
/// None was named, and none is in the usual places.
pub(crate) fn config(place: &Place, environment: &dyn Environment) -> Result<PathBuf, Fault> {
    if let Some(config) = &place.config {
        return Ok(config.clone());
    }
    usual_places(environment).into_iter().find(|path| environment.look(path).is_ok()).ok_or_else(|| {
        Fault::new(
            ExitStatus::BadConfig,
            format!("there is no configuration: neither ./{HERE} nor ~/{OF_USER} nor {OF_MACHINE}"),
            "`horus init` writes one to start from; --config FILE names another",
        )
    })
}

/// A client of the daemon that is meant.
///
/// # Errors
/// The run directory cannot be told.
pub(crate) fn client(place: &Place, environment: &dyn Environment) -> Result<Client, Fault> {
    if let Some(socket) = &place.socket {
        return Ok(Client::new(socket));
    }
    let file = config(place, environment)?;
    let run_directory = run_directory(&file, environment)?;
    Ok(Client::new(run_directory.join(SOCKET_NAME)))
}

fn run_directory(file: &Path, environment: &dyn Environment) -> Result<PathBuf, Fault> {
    let unusable = |what: String| {
        let hint = format!("`horus check {}` tells more; --socket PATH goes around it", file.display());
        Fault::new(ExitStatus::BadConfig, format!("{} {what}", file.display()), hint)
    };
    let bytes = environment
        .read(file, FILE_BYTES_MAX + 1)
        .map_err(|error| unusable("cannot be read".into()).because(&error))?;
    let text = String::from_utf8_lossy(&bytes);
    let whole: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| unusable(format!("is no TOML: {}", error.message())))?;
    let places = only_the_places(&whole);
    let loaded = horus_config::parse(&places, file, environment);
    match loaded.into_result() {
        Ok(checked) => Ok(checked.plan.daemon.run_directory),
        Err(faults) => {
            let first = faults.first().map_or_else(String::new, |fault| format!(": {}", fault.message));
            Err(unusable(format!("does not tell where the daemon's socket is{first}")))
        }
    }
}

/// A configuration that says nothing but where things are.
fn only_the_places(whole: &toml::Table) -> String {
    let mut daemon = toml::Table::new();
    for key in ["state_directory", "run_directory"] {
        if let Some(value) = whole.get("daemon").and_then(|daemon| daemon.get(key)) {
            daemon.insert(key.into(), value.clone());
        }
    }
    let mut places = toml::Table::new();
    places.insert("version".into(), toml::Value::Integer(1));
    places.insert("daemon".into(), toml::Value::Table(daemon));
    places.to_string()
}

#[cfg(test)]
mod tests {
    use std::io;

    use horus_config::{FileFacts, SystemEnvironment, UserFacts};

    use super::*;

    /// A person whose home is the first, and who is the second.
    struct Person(&'static str, u32);

    impl Environment for Person {
        fn variable(&self, name: &str) -> Option<String> {
            (name == "HOME").then(|| self.0.to_owned())
        }

        fn look(&self, path: &Path) -> io::Result<FileFacts> {
            let owner = if path == Path::new("/home/ann") { 1000 } else { 0 };
            Ok(FileFacts { owner, mode: 0o755, directory: true })
        }

        fn user_id(&self) -> u32 {
            self.1
        }

        fn read(&self, _: &Path, _: u64) -> io::Result<Vec<u8>> {
            Err(io::ErrorKind::NotFound.into())
        }

        fn user(&self, _: &str) -> Option<UserFacts> {
            None
        }

        fn group(&self, _: &str) -> Option<u32> {
            None
        }

        fn host_name(&self) -> Option<String> {
            None
        }

        fn current_directory(&self) -> PathBuf {
            "/".into()
        }
    }

    #[test]
    fn the_home_of_somebody_else_is_none() {
        let looks_at_home = |person: Person| usual_places(&person).len() == 3;
        assert!(looks_at_home(Person("/home/ann", 1000)));
        assert!(looks_at_home(Person("/var/root", 0)));
        assert!(!looks_at_home(Person("/home/ann", 0)), "sudo that keeps HOME");
        assert!(!looks_at_home(Person("home/ann", 1000)));
    }

    fn socket(text: &str) -> Result<PathBuf, Fault> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("watchdog.toml");
        std::os::unix::fs::symlink("/dev/null", directory.path().join("unrelated")).unwrap();
        horus_sys::files::write_atomic(&file, text.as_bytes(), horus_sys::files::Durability::ThisBoot)
            .unwrap();
        let place = Place { config: Some(file), socket: None };
        client(&place, &SystemEnvironment).map(|client| {
            let socket = client.socket();
            socket.strip_prefix(directory.path()).unwrap_or(socket).to_path_buf()
        })
    }

    #[test]
    fn an_unrelated_fault_does_not_hide_the_socket() {
        let text = "version = 99\nnonsense = true\n[daemon]\nrun_directory = \"run\"\nmode = 7\n[service.BAD]\nx = 1\n";
        assert_eq!(socket(text).unwrap(), Path::new("run/horus.sock"));
    }

    #[test]
    fn what_does_not_tell_is_said() {
        for (text, part) in
            [("[daemon", "is no TOML"), ("[daemon]\nrun_directory = 7\n", "does not tell where")]
        {
            let Err(Fault::Said(said)) = socket(text) else { panic!("{text}") };
            assert_eq!(said.status, ExitStatus::BadConfig);
            assert!(said.message.contains(part), "{}", said.message);
        }
    }

    #[test]
    fn a_named_socket_needs_no_configuration() {
        let place = Place { config: Some("/does/not/exist".into()), socket: Some("/tmp/x.sock".into()) };
        assert_eq!(client(&place, &SystemEnvironment).unwrap().socket(), Path::new("/tmp/x.sock"));
    }
}
