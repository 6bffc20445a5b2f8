//! A note in the state directory while the process changes its program: if the new one dies before it is ready, nobody is
//! left in the process who could say so, and the next start does.
//!
//! ```text
//!   the new program dies      the service manager starts the path again: it is tried once more, as after any death
//!   it dies again             the next start gives way to the former program, of which the state directory has a copy
//! ```
//!
//! That one tells a person, and goes on. The note stays until the new program has been ready once: whenever it is started
//! again (after a reboot, say) it has one try. What dies before it comes here cannot be helped here; that is what the
//! rehearsal is for, which goes the same way.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use horus_sys::files::{Durability, read_limited, write_atomic};
use horus_sys::spawn;
use serde::{Deserialize, Serialize};

use super::{Program, trust};
use crate::daemon::test_hook;

const FILE: &str = "upgrade.pending";

/// The copy of the program before the last upgrade.
const FORMER: &str = "former-horus";

/// Only we execute it.
const FORMER_MODE: u32 = 0o700;

/// The environment variable by which a former program knows whom it stands in for.
pub(super) const FELL_BACK: &str = "HORUS_FELL_BACK";

/// Longest note that is read, in bytes.
const NOTE_MAX: usize = 16 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Note {
    version: u32,
    from: String,
    to: String,
    path: PathBuf,
    /// How often the new program was started since, and was not ready when the next one started.
    #[serde(default)]
    deaths: u32,
    /// There is a copy of the program that this was an upgrade from.
    #[serde(default)]
    former: bool,
}

/// What a former program has to know.
#[derive(Debug, Serialize, Deserialize)]
struct FellBack {
    /// What the service manager starts, and an upgrade takes.
    home: PathBuf,
    /// For people.
    text: String,
}

fn file(state_directory: &Path) -> PathBuf {
    state_directory.join(FILE)
}

fn read(state_directory: &Path) -> Option<Option<Note>> {
    let bytes = read_limited(&file(state_directory), NOTE_MAX).ok()?;
    Some(serde_json::from_slice(&bytes).ok())
}

fn write(state_directory: &Path, note: &Note) {
    let written = serde_json::to_vec(note)
        .map_err(io::Error::from)
        .and_then(|bytes| write_atomic(&file(state_directory), &bytes, Durability::ThisBoot));
    if let Err(error) = written {
        // Only a death in the next second would need it.
        tracing::warn!(%error, "the note about the upgrade cannot be written");
    }
}

/// The change begins. `former`: as [`keep_former`] said.
pub(super) fn begin(state_directory: &Path, to: &Program, path: &Path, former: bool) {
    let from = Program::of_process().to_string();
    let (to, path) = (to.to_string(), path.to_owned());
    write(state_directory, &Note { version: 1, from, to, path, deaths: 0, former });
}

/// It is over, well or not.
pub(super) fn end(state_directory: &Path) {
    let _ = std::fs::remove_file(file(state_directory));
}

/// This program is ready: if it is the one of the note, it is good.
pub(super) fn proven(state_directory: &Path) {
    if read(state_directory).flatten().is_some_and(|note| note.to == Program::of_process().to_string()) {
        end(state_directory);
    }
}

/// Keeps a copy of this program, for the case that the next one dies again and again. False if there is none. Blocks, for as
/// long as the disk does.
pub(super) fn keep_former(state_directory: &Path) -> bool {
    let copied = copy_own(&state_directory.join(FORMER));
    if let Err(error) = &copied {
        tracing::warn!(%error, "there is no copy of this program, should the next one die again and again");
    }
    copied.is_ok()
}

fn copy_own(to: &Path) -> io::Result<()> {
    let mut own = File::from(spawn::own_program()?.0);
    let new = to.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(FORMER_MODE).open(&new)?;
    let copied = io::copy(&mut own, &mut copy).and_then(|_| copy.sync_data());
    drop(copy);
    let kept = copied.and_then(|()| std::fs::rename(&new, to));
    if kept.is_err() {
        // Half of a program is in the way of the disk and of nothing else.
        let _ = std::fs::remove_file(&new);
    }
    kept
}

/// Counts a start of the program that an upgrade has brought and that has not been ready yet. Returns, unless it has died
/// twice and the former one takes its place. The locks of the directories are held, so that nobody else counts; they fall
/// with the exec, and the former one takes them.
pub(in crate::daemon) fn give_way_if_it_dies_again(state_directory: &Path) {
    if fell_back().is_some() {
        return;
    }
    let own = Program::of_process().to_string();
    let Some(mut note) = read(state_directory).flatten().filter(|note| note.to == own) else { return };
    let gives_way = note.deaths > 0 && note.former;
    note.deaths = if gives_way { 0 } else { note.deaths.saturating_add(1) };
    write(state_directory, &note);
    if gives_way {
        let error = become_former(&state_directory.join(FORMER), note);
        tracing::error!(error, "it dies again and again, and the former program cannot be executed");
    }
}

#[expect(clippy::disallowed_methods, reason = "nobody is started: this process becomes the program")]
fn become_former(former: &Path, note: Note) -> String {
    if let Err(why) = trust::examine(former) {
        return why;
    }
    let Note { from, to, path, .. } = note;
    let text = format!("{to} ({}) died twice before it was ready; {from} runs in its place", path.display());
    tracing::error!("{text}");
    let fell_back = match serde_json::to_string(&FellBack { home: path, text }) {
        Ok(fell_back) => fell_back,
        Err(error) => return error.to_string(),
    };
    let mut words = std::env::args_os();
    let mut command = Command::new(former);
    command.arg0(words.next().as_deref().unwrap_or(OsStr::new("horus"))).args(words);
    // The trouble of a test was the other program's.
    command.env(FELL_BACK, fell_back).env_remove(test_hook::FOLDER);
    command.exec().to_string()
}

fn fell_back() -> Option<FellBack> {
    serde_json::from_str(&std::env::var(FELL_BACK).ok()?).ok()
}

/// What the service manager starts, if this program stands in for it.
pub(in crate::daemon) fn home_of_other() -> Option<PathBuf> {
    fell_back().map(|fell_back| fell_back.home).filter(|home| home.is_absolute())
}

/// In whose place this program runs and why, for an alert.
pub(in crate::daemon) fn tell_of_other() -> Option<String> {
    fell_back().map(|fell_back| fell_back.text)
}

/// Whether an earlier process died while it changed its program; told once for each death.
pub(in crate::daemon) fn tell_of_a_death(state_directory: &Path) -> Option<String> {
    if fell_back().is_some() {
        return None;
    }
    let note = read(state_directory)?;
    let own = Program::of_process();
    if note.as_ref().is_none_or(|note| note.to != own.to_string()) {
        end(state_directory);
    }
    Some(match note {
        Some(Note { from, to, path, .. }) => format!(
            "the upgrade from {from} to {to} ({}) died before it was ready; this is {own}, and the services went on",
            path.display()
        ),
        None => format!("an upgrade died before it was ready; this is {own}, and the services went on"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(folder: &Path, to: &Program, former: bool) {
        super::begin(folder, to, Path::new("/usr/bin/horus"), former);
    }

    fn other() -> Program {
        Program { version: "9.9.9".into(), build: None }
    }

    fn deaths(folder: &Path) -> Option<u32> {
        read(folder).flatten().map(|note| note.deaths)
    }

    #[test]
    fn a_death_is_told_once_and_a_good_end_never() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(tell_of_a_death(folder.path()), None);
        begin(folder.path(), &other(), true);
        end(folder.path());
        assert_eq!(tell_of_a_death(folder.path()), None);
        begin(folder.path(), &other(), true);
        let told = tell_of_a_death(folder.path()).unwrap();
        let from = Program::of_process();
        let wanted = format!("the upgrade from {from} to 9.9.9 (/usr/bin/horus) died");
        assert!(told.starts_with(&wanted), "{told}");
        assert_eq!(tell_of_a_death(folder.path()), None);
        write_atomic(&file(folder.path()), b"torn", Durability::ThisBoot).unwrap();
        assert!(tell_of_a_death(folder.path()).unwrap().starts_with("an upgrade died"));
    }

    #[test]
    fn the_new_program_has_one_more_try_and_is_on_trial_until_it_is_ready() {
        let folder = tempfile::tempdir().unwrap();
        let own = Program::of_process();
        // Another program than the one of the note is not on trial.
        begin(folder.path(), &other(), true);
        give_way_if_it_dies_again(folder.path());
        proven(folder.path());
        assert_eq!(deaths(folder.path()), Some(0));

        begin(folder.path(), own, true);
        give_way_if_it_dies_again(folder.path());
        assert_eq!(deaths(folder.path()), Some(1));
        assert!(tell_of_a_death(folder.path()).is_some());
        assert_eq!(deaths(folder.path()), Some(1), "it is told and not over");
        // The copy is gone: it is tried all the same, and after that has its one try again.
        give_way_if_it_dies_again(folder.path());
        assert_eq!(deaths(folder.path()), Some(0));
        proven(folder.path());
        assert_eq!(deaths(folder.path()), None);

        // There never was one, and an older copy is not taken for it.
        begin(folder.path(), own, false);
        keep_former(folder.path());
        for death in 1..4 {
            give_way_if_it_dies_again(folder.path());
            assert_eq!(deaths(folder.path()), Some(death));
        }
    }

    #[test]
    fn the_copy_is_this_program_and_nobody_else_s() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        assert!(keep_former(folder.path()) && keep_former(folder.path()));
        let kept = folder.path().join(FORMER);
        let own = std::fs::metadata(std::env::current_exe().unwrap()).unwrap();
        let copy = std::fs::metadata(&kept).unwrap();
        assert_eq!((copy.len(), copy.permissions().mode() & 0o777), (own.len(), FORMER_MODE));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half is left");
    }
}
