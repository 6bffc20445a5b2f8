//! The programs: built once, and what is not to be had on this machine, with the reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use horus_tests::Rig;

use crate::cases::{Act, Case, Family};

const SUBJECTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/subjects/matrix");
const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../clients/python/src");

/// Where `cargo xtask test` has put packages of Python.
const PACKAGES: &str = "HORUS_TEST_PYTHON_PACKAGES";

/// What there is.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    python: Option<String>,
    packages: String,
    c: Option<PathBuf>,
    go: Option<PathBuf>,
    missing: BTreeMap<Family, String>,
}

impl Programs {
    /// Looks for and builds all.
    pub(crate) async fn get(rig: &Rig) -> Self {
        let packages = std::env::var(PACKAGES).map_or(CLIENT.to_owned(), |more| format!("{CLIENT}:{more}"));
        let mut programs = Self { python: rig.python().await, packages, ..Self::default() };
        if programs.python.is_none() {
            for family in [Family::Asyncio, Family::Uvloop, Family::Threads] {
                programs.missing.insert(family, "no python3".into());
            }
        } else if !programs.imports("uvloop") {
            programs.missing.insert(Family::Uvloop, format!("no uvloop, and none at {PACKAGES}"));
        }
        if !runs(command("node").arg("--version")) {
            programs.missing.insert(Family::Node, "no node".into());
        }
        if !runs(command("nginx").arg("-v")) {
            programs.missing.insert(Family::Nginx, "no nginx".into());
        }
        programs.c = programs.build_c();
        programs.go = programs.build_go();
        programs
    }

    /// Why this case cannot be played here.
    pub(crate) fn missing(&self, case: &Case) -> Option<&str> {
        let family = self.missing.get(&case.mode.family).map(String::as_str);
        let tracer = (case.mode.act == Act::Trace && self.c.is_none()).then_some("no tracer: no C compiler");
        family.or(tracer)
    }

    fn imports(&self, module: &str) -> bool {
        let Some(python) = &self.python else { return false };
        runs(command(python).args(["-c", &format!("import {module}")]).env("PYTHONPATH", &self.packages))
    }

    fn build_c(&mut self) -> Option<PathBuf> {
        let program = folder().join("matrix-c");
        let mut cc = command("cc");
        cc.args(["-g", "-O1", "-fno-omit-frame-pointer", "-pthread", "-o"]).arg(&program);
        let built = runs(cc.arg(format!("{SUBJECTS}/loops.c")));
        if !built {
            self.missing.insert(Family::C, "no C compiler".into());
        }
        built.then_some(program)
    }

    fn build_go(&mut self) -> Option<PathBuf> {
        let program = folder().join("matrix-go");
        let mut go = command("go");
        go.args(["build", "-o"]).arg(&program).arg("server.go").current_dir(SUBJECTS);
        go.env("GO111MODULE", "off").env("GOCACHE", folder().join("go-cache")).env("GOFLAGS", "");
        let built = runs(&mut go);
        if !built {
            self.missing.insert(Family::Go, "no Go".into());
        }
        built.then_some(program)
    }

    /// The C program, which is also the tracer.
    pub(crate) fn c(&self) -> &Path {
        self.c.as_deref().unwrap_or(Path::new("matrix-c"))
    }

    /// The service of a case: its table in the configuration.
    pub(crate) fn service(&self, case: &Case, place: &Place) -> String {
        let (mode, order) = (case.mode, place.order.display().to_string());
        let python = self.python.as_deref().unwrap_or("python3");
        let port = place.port.to_string();
        let own_port = if case.beats { port.as_str() } else { "0" };
        let (script, server) = (|name: &str| format!("{SUBJECTS}/{name}"), self.go.as_deref());
        let mut words: Vec<String> = match mode.family {
            Family::Asyncio | Family::Uvloop => {
                vec![
                    python.into(),
                    "-B".into(),
                    script("loops.py"),
                    mode.word.into(),
                    "--order".into(),
                    order,
                ]
            }
            Family::Threads => {
                vec![
                    python.into(),
                    "-B".into(),
                    script("threads.py"),
                    mode.word.into(),
                    "--order".into(),
                    order,
                ]
            }
            Family::Node => vec!["node".into(), script("loops.js"), mode.word.into(), order, own_port.into()],
            Family::TokioMulti => vec![place.tokio.clone(), mode.word.into(), order, "multi".into()],
            Family::TokioCurrent => vec![place.tokio.clone(), mode.word.into(), order, "current".into()],
            Family::Go => {
                let program = server.unwrap_or(Path::new("matrix-go")).display().to_string();
                vec![program, mode.word.into(), order, port.clone()]
            }
            Family::C => vec![self.c().display().to_string(), mode.word.into(), order],
            Family::Nginx => nginx(place),
        };
        if mode.family == Family::Uvloop {
            words.push("--uvloop".into());
        }
        if mode.act == Act::OrderAndKnock && mode.family == Family::C {
            words.push(port);
        }
        let mut keys = format!(
            "command = {}\ndeadline = \"{}s\"\nstartup = \"120s\"\nkills = {{ prove = \"12s\" }}\nstop = {{ grace = \"2s\" }}\n",
            serde_json::to_string(&words).unwrap(),
            case.deadline().as_secs(),
        );
        if mode.family <= Family::Threads {
            keys += &format!("env = {{ PYTHONPATH = \"{}\" }}\n", self.packages);
        }
        if case.beats {
            keys += &beats(mode.family, place.port);
        }
        if mode.counts && case.beats {
            keys += &format!(
                "progress.work = {{ counter = \"work\", stalled = \"{}s\" }}\n",
                case.deadline().as_secs()
            );
        }
        format!("[service.{}]\n{keys}\n", case.name())
    }

    /// A service that is well and beats: of many such a few may hang without a common cause.
    pub(crate) fn well(name: &str, tokio: &str, order: &Path) -> String {
        let words = [tokio.to_owned(), "idle".into(), order.display().to_string(), "current".into()];
        let words = serde_json::to_string(&words).unwrap();
        format!(
            "[service.{name}]\ncommand = {words}\ndeadline = \"5s\"\n{}\n",
            beats(Family::TokioCurrent, 0)
        )
    }
}

/// Where a case is played.
#[derive(Debug)]
pub(crate) struct Place {
    /// The folder in which it is ordered.
    pub(crate) order: PathBuf,
    /// A port of its own.
    pub(crate) port: u16,
    /// The program on tokio, which cargo has built.
    pub(crate) tokio: String,
}

fn beats(family: Family, port: u16) -> String {
    let every = "every = \"500ms\", timeout = \"1s\"";
    match family {
        Family::Node | Family::Go => format!(
            "heartbeat.http = {{ url = \"http://127.0.0.1:{port}/\", {every}, seq = \"/seq\", progress = \"/progress\" }}\n"
        ),
        Family::Nginx => format!("heartbeat.http = {{ url = \"http://127.0.0.1:{port}/\", {every} }}\n"),
        _ => "heartbeat.notify = true\nready = \"notify\"\n".into(),
    }
}

/// nginx as it comes, with files of its own.
#[expect(clippy::disallowed_methods, reason = "the configuration of a subject")]
fn nginx(place: &Place) -> Vec<String> {
    let folder = place.order.display();
    let text = format!(
        "daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;\nevents {{}}\n\
         http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; \
         fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
         server {{ listen 127.0.0.1:{}; location / {{ return 200 ok; }} }} }}\n",
        place.port
    );
    let file = place.order.join("nginx.conf");
    std::fs::write(&file, text).unwrap();
    vec!["nginx".into(), "-c".into(), file.display().to_string()]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

#[expect(clippy::disallowed_methods, reason = "compilers and interpreters that end at once")]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn runs(command: &mut Command) -> bool {
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
