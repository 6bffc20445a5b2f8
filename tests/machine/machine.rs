//! A machine of one's own for each test: `box` boots a real systemd in namespaces, in about a second.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use horus_sys::clock::monotonic;
use horus_sys::reap::WaitStatus;
use horus_sys::spawn::{ExecOutcome, run_with_deadline};
use horus_tests::{Binaries, FAILSAFE, skipped};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/machine/box");
const OUTPUT_MAX: usize = 1 << 20;
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a command in the box said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) text: String,
}

/// See the module. Ends with the test, however that ends.
pub(crate) struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    /// A machine with Horus in `/usr/local/bin` and nothing else; `None` where there can be none, which is said.
    pub(crate) fn boot(test: &str) -> Option<Self> {
        let can = script(&["can".into()]);
        if can.code != 0 {
            skipped(test, can.text.trim());
            return None;
        }
        let folder = tempfile::Builder::new().prefix("horus-box-").tempdir_in("/tmp").unwrap();
        let machine = Self { folder };
        let up = script(&["up".into(), machine.dir(), std::process::id().to_string().into()]);
        assert_eq!(up.code, 0, "the box does not boot: {}", up.text);
        machine.put(&horus(), "/usr/local/bin/horus");
        Some(machine)
    }

    fn dir(&self) -> OsString {
        self.folder.path().join("box").into()
    }

    /// Copies a file of this machine into the box.
    pub(crate) fn put(&self, from: &Path, to: &str) {
        let put = script(&["put".into(), self.dir(), from.into(), to.into()]);
        assert_eq!(put.code, 0, "{}", put.text);
    }

    /// Runs a command in the box.
    pub(crate) fn run(&self, command: &[&str]) -> Said {
        let words = ["run".into(), self.dir()].into_iter().chain(command.iter().map(OsString::from));
        script(&words.collect::<Vec<_>>())
    }

    /// Runs a shell's words in the box; they have to succeed.
    pub(crate) fn sh(&self, words: &str) -> String {
        let said = self.run(&["sh", "-c", words]);
        assert_eq!(said.code, 0, "`{words}` failed: {}\n{}", said.text, self.journal());
        said.text.trim().to_owned()
    }

    /// Waits until a shell's words succeed in the box.
    pub(crate) fn wait_for(&self, what: &str, words: &str) {
        let end = monotonic() + FAILSAFE;
        loop {
            let said = self.run(&["sh", "-c", words]);
            if said.code == 0 {
                return;
            }
            assert!(monotonic() < end, "never: {what} (`{words}`): {}\n{}", said.text, self.journal());
            std::thread::park_timeout(LOOK_AGAIN);
        }
    }

    /// A property of the service, as systemd shows it.
    pub(crate) fn shows(&self, property: &str) -> String {
        self.sh(&format!("systemctl show horus --property={property} --value"))
    }

    /// Writes a file in the box.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let file = self.folder.path().join("file");
        horus_sys::files::write_atomic(&file, text.as_bytes(), horus_sys::files::Durability::ThisBoot)
            .unwrap();
        self.put(&file, path);
    }

    /// Puts another build of Horus at a path, as packages do: whole, by a rename.
    pub(crate) fn put_build(&self, number: u8, to: &str) {
        let file = self.folder.path().join("build");
        other_build(&horus(), number, &file);
        let new = format!("{to}.new");
        self.put(&file, &new);
        self.sh(&format!("mv {new} {to}"));
    }

    /// Boots it again.
    pub(crate) fn reboot(&self) {
        let boot = self.sh("cat /proc/sys/kernel/random/boot_id");
        self.run(&["systemctl", "reboot"]);
        self.wait_for("another boot", &format!("test \"$(cat /proc/sys/kernel/random/boot_id)\" != {boot}"));
    }

    /// What systemd and Horus have to say, for a test that fails.
    pub(crate) fn journal(&self) -> String {
        self.run(&["journalctl", "--no-pager", "--boot", "--unit=horus", "--lines=60"]).text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        script(&["down".into(), self.dir()]);
    }
}

/// The program under test.
pub(crate) fn horus() -> PathBuf {
    Binaries::beside(env!("CARGO_BIN_EXE_hanger")).path("horus")
}

/// A copy of Horus with another identifier where the linker has written one.
fn other_build(of: &Path, number: u8, to: &Path) {
    const HEAD: [u8; 16] = [4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, b'G', b'N', b'U', 0];
    let mut bytes = std::fs::read(of).unwrap();
    // Every linker here writes one.
    let at = bytes.windows(HEAD.len()).position(|window| window == HEAD);
    bytes[at.unwrap() + HEAD.len()..][..20].fill(number);
    put_program(to, &bytes);
}

fn put_program(to: &Path, bytes: &[u8]) {
    horus_sys::files::write_atomic(to, bytes, horus_sys::files::Durability::ThisBoot).unwrap();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Packages of different builds, made as `cargo xtask package` makes them, and one whose program does not run; `None` where that
/// is not possible, which is said.
pub(crate) fn packages(test: &str, folder: &Path, versions: [&str; 2], broken: &str) -> Option<[PathBuf; 3]> {
    let packaging = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging"));
    if command(&["/usr/bin/dpkg-deb".into(), "--version".into()]).is_none() {
        skipped(test, "dpkg-deb is not installed");
        return None;
    }
    let laid_out = folder.join("root");
    let made = |words: &[&std::ffi::OsStr]| {
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        let said = command(&words).unwrap();
        assert_eq!(said.code, 0, "{words:?}: {}", said.text);
    };
    made(&[packaging.join("stage").as_os_str(), horus().as_os_str(), laid_out.as_os_str()]);
    let program = laid_out.join("usr/bin/horus");
    // Symbols are most of a program that is made for tests, and take long to pack.
    command(&["strip".into(), program.clone().into()]);
    let deb = |version: &str| {
        let file = folder.join(format!("horus_{version}.deb"));
        let script = packaging.join("deb");
        made(&[script.as_os_str(), laid_out.as_os_str(), version.as_ref(), file.as_os_str()]);
        file
    };
    let [old, new] = [1, 2].map(|number| {
        other_build(&program, number, &program);
        deb(versions[usize::from(number) - 1])
    });
    put_program(&program, b"#!/bin/sh\nkill -SEGV $$\n");
    Some([old, new, deb(broken)])
}

fn script(words: &[OsString]) -> Said {
    let argv: Vec<OsString> = std::iter::once(SCRIPT.into()).chain(words.iter().cloned()).collect();
    command(&argv).unwrap_or_else(|| panic!("{argv:?} does not end, or cannot be run"))
}

fn command(argv: &[OsString]) -> Option<Said> {
    let quickly = ("DEB_LEVEL".into(), "1".into());
    let path = ("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    match run_with_deadline(argv, &[path, quickly], Path::new("/"), FAILSAFE * 2, OUTPUT_MAX) {
        ExecOutcome::Finished { status, output, .. } => {
            let code = match status {
                WaitStatus::Code(code) => code,
                WaitStatus::Signal { number, .. } => 128 + number,
            };
            Some(Said { code, text: String::from_utf8_lossy(&output.bytes).into_owned() })
        }
        _ => None,
    }
}
