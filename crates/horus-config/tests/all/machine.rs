//! A machine that is the same wherever the tests run.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use horus_config::{Environment, FileFacts, Loaded, UserFacts};

/// Where the fixtures are.
pub(crate) fn configs(kind: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/configs").join(kind);
    let mut files: Vec<(String, String)> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no fixtures in {}", folder.display());
    files
}

/// Checks a text as `/srv/horus/watchdog.toml` of the made-up machine.
pub(crate) fn parse(text: &str) -> Loaded {
    horus_config::parse(text, Path::new("watchdog.toml"), &Machine::new(1000))
}

/// The same, as the fixture wants it: as root if its name says so.
pub(crate) fn parse_fixture(name: &str, text: &str) -> Loaded {
    let user = if name.ends_with("-as-root") { 0 } else { 1000 };
    horus_config::parse(text, Path::new("watchdog.toml"), &Machine::new(user))
}

pub(crate) struct Machine {
    pub(crate) user: u32,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) files: BTreeMap<PathBuf, (FileFacts, Vec<u8>)>,
    pub(crate) run_base: PathBuf,
}

impl Machine {
    pub(crate) fn new(user: u32) -> Self {
        let mut machine =
            Self { user, variables: BTreeMap::new(), files: BTreeMap::new(), run_base: "/run".into() };
        for (name, value) in [
            ("PATH", "/usr/bin"),
            ("HOME", "/home/horus"),
            ("USER", "horus"),
            ("SSH_AUTH_SOCK", "secret-inherited"),
        ] {
            machine.variables.insert(name.into(), value.into());
        }
        for folder in ["/srv/horus", "/srv/horus/feed"] {
            machine.add(folder, 1000, 0o755, true, "");
        }
        for program in
            ["bot", "feed", "sh", "worker", "df", "trading", "pipeline", "alpha", "beta", "gamma", "loner"]
        {
            machine.add(&format!("/usr/bin/{program}"), 0, 0o755, false, "");
        }
        machine.add("/srv/horus/feed.sh", 1000, 0o644, false, "");
        machine.add(
            "/srv/horus/bot.env",
            1000,
            0o600,
            false,
            "# comment\nTOKEN=\"secret-env-file\"\nREGION=eu\n",
        );
        machine.add("/srv/horus/broken.env", 1000, 0o600, false, "A=1\nsecret-line\n1X=2\n");
        machine.add("/srv/horus/slack.url", 1000, 0o600, false, "https://hooks.slack.com/services/secret\n");
        machine.add("/srv/horus/open.url", 1000, 0o644, false, "https://example.com/secret");
        machine.add("/srv/horus/foreign.url", 1002, 0o600, false, "https://example.com/secret");
        machine
    }

    pub(crate) fn add(&mut self, path: &str, owner: u32, mode: u32, directory: bool, content: &str) {
        let facts = FileFacts { owner, mode, directory };
        self.files.insert(path.into(), (facts, content.as_bytes().to_vec()));
    }

    fn file(&self, path: &Path) -> io::Result<&(FileFacts, Vec<u8>)> {
        self.files.get(path).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}

impl Environment for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
    fn look(&self, path: &Path) -> io::Result<FileFacts> {
        self.file(path).map(|(facts, _)| *facts)
    }
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.file(path).map(|(_, content)| content.iter().copied().take(limit as usize).collect())
    }
    fn user_id(&self) -> u32 {
        self.user
    }
    fn user(&self, name_or_number: &str) -> Option<UserFacts> {
        let users = [(0, "root", "/root"), (1000, "horus", "/home/horus"), (1001, "bot", "/home/bot")];
        let found =
            users.iter().find(|(id, name, _)| *name == name_or_number || id.to_string() == name_or_number);
        found.map(|(id, name, home)| UserFacts { id: *id, name: (*name).into(), home: (*home).into() })
    }
    fn group(&self, name_or_number: &str) -> Option<u32> {
        (name_or_number == "bots").then_some(1001)
    }
    fn host_name(&self) -> Option<String> {
        Some("testhost".into())
    }
    fn current_directory(&self) -> PathBuf {
        "/srv/horus".into()
    }
    fn run_base(&self) -> PathBuf {
        self.run_base.clone()
    }
}
