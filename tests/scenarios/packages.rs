//! Servers as Debian packages them, which know systemd and have never heard of Horus: redis, PostgreSQL, HAProxy, gunicorn.
//!
//! Each runs as its unit says (`Type=notify`): `READY=1` is awaited, its status line is shown, a reload is survived, SIGKILL
//! is answered by a new one, and a stop ends it with its own clean exit. None of them sends `WATCHDOG=1`, so its silence for
//! many deadlines proves nothing, and nobody is signalled for it.
//!
//! `cargo xtask test` installs the packages where it may. Where it may not, each test is skipped by name.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use horus_core::event::{DeathCause, What};
use horus_core::observation::Exit;
use horus_core::verdict::Verdict;
use horus_sys::files::{Durability, write_atomic};
use horus_sys::process::{ProcessId, is_alive};
use horus_sys::signal::Signal;
use horus_tests::{FAILSAFE, Rig, skipped};
use nix::unistd::{User, geteuid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::{is_exit, is_kill, rig, service};

/// What `Type=notify` means, and a deadline that each of these tests outlives.
const KEYS: &str = "ready = \"notify\"\ndeadline = \"1s\"\nstartup = \"60s\"\n\
                    stop = { grace = \"30s\" }\n";
const DEADLINES_SILENT_MS: u64 = 4_000;

/// A server of a package, as it is configured here.
struct Server {
    name: &'static str,
    /// Its part of `watchdog.toml`.
    config: String,
    port: u16,
    /// A question to its port, and how the answer begins.
    question: &'static [u8],
    answer: &'static [u8],
    /// The status line that it gives.
    says: Option<&'static str>,
}

impl Server {
    /// Asks until it answers as it should.
    async fn answers(&self, rig: &Rig, expected: &[u8]) {
        let end = tokio::time::Instant::now() + FAILSAFE;
        let mut last = String::new();
        while tokio::time::Instant::now() < end {
            match self.ask(expected.len()).await {
                Ok(answer) if answer == expected => return,
                Ok(answer) => last = String::from_utf8_lossy(&answer).into_owned(),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("{} does not answer: {last}\n{}", self.name, rig.output(self.name));
    }

    async fn ask(&self, length: usize) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(self.question).await?;
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    /// It becomes ready by its own word, shows its status, and is left alone however long it says nothing more.
    async fn comes_up(&self, rig: &mut Rig) -> ProcessId {
        rig.run(&self.config).await;
        let process = rig.ready(self.name).await;
        let ready = rig.first(self.name, "ready", |what| matches!(what, What::BecameReady { .. })).await;
        let What::BecameReady { by, .. } = &ready.event.what else { unreachable!() };
        assert_eq!(by, "READY=1", "{}", self.name);
        self.answers(rig, self.answer).await;
        if let Some(says) = self.says {
            rig.status_until(self.name, says, |now| now.said.as_deref() == Some(says)).await;
            let shown = rig.cli(&["status", self.name]).await;
            assert!(shown.out.contains(says), "{}", shown.out);
        }
        let outlived = |up: Option<u64>| up.is_some_and(|up| up > DEADLINES_SILENT_MS);
        let now = rig.status_until(self.name, "up for long", |now| outlived(now.up_for_ms)).await;
        assert_eq!(now.verdict, Verdict::Healthy, "{}: {now:#?}", self.name);
        assert!(now.incidents.is_empty(), "{now:#?}");
        rig.assert_never_signalled(self.name);
        process
    }

    /// A reload by its own signal: it serves on, and is the same process.
    async fn reloads(&self, rig: &Rig, process: &ProcessId, signal: Signal, then: &[u8]) {
        rig.signal(process, signal);
        self.answers(rig, then).await;
        assert_eq!(rig.process(self.name).await, *process, "{}", self.name);
        rig.assert_never_signalled(self.name);
    }

    /// SIGKILL, and another one serves. Then a stop, which it answers with a clean exit.
    async fn dies_returns_and_ends(&self, mut rig: Rig, process: &ProcessId) {
        let before = rig.journal.last();
        rig.signal(process, Signal::KILL);
        let exit = rig.after(before, self.name, "exit", is_exit).await;
        let died = |what: &What| matches!(what, What::Exited { exit: Exit::Signal(9), .. });
        assert!(died(&exit.event.what), "{:?}", exit.event.what);
        let new = rig.ready_after(exit.seq, self.name).await;
        assert!(new != *process && !is_alive(process));
        self.answers(&rig, self.answer).await;
        assert_eq!(rig.count(self.name, is_kill), 0, "{}: nobody but this test killed it", self.name);

        let before = rig.journal.last();
        let stop = rig.cli(&["stop", self.name]).await;
        assert_eq!(stop.code, 0, "{}{}", stop.out, stop.err);
        let end = rig.after(before, self.name, "exit", is_exit).await;
        let clean = |what: &What| {
            matches!(what, What::Exited { exit: Exit::Code(0), cause: DeathCause::Planned, .. })
        };
        assert!(clean(&end.event.what), "{:?}\n{}", end.event.what, rig.output(self.name));
        assert!(!is_alive(&new));
        rig.stop().await;
    }
}

/// The first of the places where there is this program.
fn found(places: impl IntoIterator<Item = PathBuf>) -> Option<String> {
    places.into_iter().find(|place| place.is_file()).map(|place| place.display().to_string())
}

fn in_path(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    found(std::env::split_paths(&path).chain(system).map(|folder| folder.join(program)))
}

/// Other users may pass through the room, so that they reach what is theirs in it.
fn let_pass(room: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(room, std::fs::Permissions::from_mode(0o711)).unwrap();
}

#[tokio::test]
async fn redis_from_its_package_runs_as_under_systemd() {
    let Some(program) = in_path("redis-server") else {
        return skipped("redis under Horus", "no redis-server");
    };
    let mut rig = rig().await;
    let port = rig.room.port();
    let (port_word, folder) = (port.to_string(), rig.room.path("").display().to_string());
    let mut command = vec![program.as_str(), "--bind", "127.0.0.1", "--port", &port_word, "--dir", &folder];
    command.extend(["--supervised", "systemd", "--daemonize", "no", "--save", "", "--appendonly", "yes"]);
    let redis = Server {
        name: "redis",
        config: service("redis", &command, KEYS),
        port,
        question: b"PING\r\n",
        answer: b"+PONG\r\n",
        says: Some("Ready to accept connections"),
    };
    let process = redis.comes_up(&mut rig).await;
    redis.dies_returns_and_ends(rig, &process).await;
}

/// PostgreSQL refuses to be root, so root has it run as the user of its package.
#[tokio::test]
async fn postgres_from_its_package_runs_as_under_systemd() {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let places: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    let program = |name: &str| found(places.iter().map(|place| place.join(name)));
    let (Some(postgres), Some(initdb)) = (program("postgres"), program("initdb")) else {
        return skipped("PostgreSQL under Horus", "no postgres in /usr/lib/postgresql/*/bin");
    };
    let user = if geteuid().is_root() { User::from_name("postgres").unwrap() } else { None };
    if geteuid().is_root() && user.is_none() {
        return skipped("PostgreSQL under Horus", "it refuses to be root, and there is no user postgres");
    }
    let mut rig = rig().await;
    let_pass(&rig.room.path(""));
    let data = rig.room.path("data");
    std::fs::create_dir(&data).unwrap();
    #[expect(clippy::disallowed_methods, reason = "makes the database that the server serves")]
    let mut making = Command::new(initdb);
    making.arg("-D").arg(&data).args(["--auth", "trust", "--no-sync", "--username", "horus"]);
    making.current_dir("/").stdin(Stdio::null());
    let mut keys = KEYS.to_owned();
    if let Some(user) = user {
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        std::os::unix::fs::chown(&data, Some(uid), Some(gid)).unwrap();
        making.uid(uid).gid(gid);
        keys.push_str("user = \"postgres\"\n");
    }
    let made = tokio::time::timeout(FAILSAFE, making.kill_on_drop(true).output()).await.unwrap().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let configured = data.join("postgresql.conf");
    let settings = |more: &str| {
        // Added to, not replaced: it is the server's user who owns it.
        let mut file = std::fs::File::options().append(true).open(&configured).unwrap();
        writeln!(file, "{more}").unwrap();
    };
    settings("fsync = off");

    let port = rig.room.port();
    let (port_word, data) = (port.to_string(), data.display().to_string());
    let command = [&postgres, "-D", &data, "-h", "127.0.0.1", "-p", &port_word, "-k", ""];
    let postgres = Server {
        name: "postgres",
        config: service("postgres", &command, &keys),
        port,
        // Whether it would speak TLS. It would not: so says a server that reads its port.
        question: b"\0\0\0\x08\x04\xd2\x16\x2f",
        answer: b"N",
        says: None,
    };
    let process = postgres.comes_up(&mut rig).await;
    settings("log_connections = on");
    postgres.reloads(&rig, &process, Signal::HUP, b"N").await;
    postgres.dies_returns_and_ends(rig, &process).await;
}

/// HAProxy's master forks a worker, and on a reload becomes a new program in the same process, which says so.
#[tokio::test]
async fn haproxy_from_its_package_runs_as_under_systemd() {
    let Some(program) = in_path("haproxy") else {
        return skipped("HAProxy under Horus", "no haproxy");
    };
    let mut rig = rig().await;
    let port = rig.room.port();
    let file = rig.room.path("haproxy.cfg");
    let configure = |status: &str| {
        let text = format!(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n\
             frontend horus\n  bind 127.0.0.1:{port}\n  http-request return status {status}\n"
        );
        write_atomic(&file, text.as_bytes(), Durability::ThisBoot).unwrap();
    };
    configure("200");
    let haproxy = Server {
        name: "haproxy",
        config: service("haproxy", &[&program, "-Ws", "-f", &file.display().to_string()], KEYS),
        port,
        question: b"GET / HTTP/1.0\r\n\r\n",
        answer: b"HTTP/1.1 200 ",
        says: None,
    };
    let process = haproxy.comes_up(&mut rig).await;
    configure("403");
    haproxy.reloads(&rig, &process, Signal::USR2, b"HTTP/1.1 403 ").await;
    let reloaded = "ready again after a reload";
    rig.status_until("haproxy", reloaded, |now| now.said.as_deref() == Some(reloaded)).await;
    configure("200");
    haproxy.dies_returns_and_ends(rig, &process).await;
}

#[tokio::test]
async fn gunicorn_from_its_package_runs_as_under_systemd() {
    let Some(program) = in_path("gunicorn") else {
        return skipped("gunicorn under Horus", "no gunicorn");
    };
    let mut rig = rig().await;
    let port = rig.room.port();
    let application = rig.room.path("application.py");
    let write = |status: &str| {
        let text = format!("def app(environ, start):\n    start('{status}', [])\n    return [b'x']\n");
        write_atomic(&application, text.as_bytes(), Durability::ThisBoot).unwrap();
    };
    write("200 OK");
    let (address, folder) = (format!("127.0.0.1:{port}"), rig.room.path("").display().to_string());
    let mut command = vec![program.as_str(), "--bind", &address, "--workers", "2", "--chdir", &folder];
    command.push("application:app");
    let keys = format!("{KEYS}env = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\n");
    let gunicorn = Server {
        name: "gunicorn",
        config: service("gunicorn", &command, &keys),
        port,
        question: b"GET / HTTP/1.0\r\n\r\n",
        answer: b"HTTP/1.0 200 ",
        says: Some("Gunicorn arbiter booted"),
    };
    let process = gunicorn.comes_up(&mut rig).await;
    write("403 No");
    gunicorn.reloads(&rig, &process, Signal::HUP, b"HTTP/1.0 403 ").await;
    write("200 OK");
    gunicorn.dies_returns_and_ends(rig, &process).await;
}
