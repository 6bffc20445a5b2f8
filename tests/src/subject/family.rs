//! A family that a careless stop would leave behind: a child, and a grandchild that was forked twice, leads a session
//! of its own and whose parent is gone. Each writes its pid into a file.

use std::io;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use super::{Options, TURN, leave, rest};

/// If this process was started as a member of the family, lives its life. False in the head of the family.
///
/// # Errors
/// The system refuses a session or a file.
pub fn live_as_member(options: &Options) -> io::Result<bool> {
    let Some(role) = options.text("--role") else { return Ok(false) };
    let folder = Path::new(options.text("--family").unwrap_or("."));
    if role == "between" {
        // The middle of a double fork: starts the last one and is gone before it speaks.
        start(options, "orphan")?;
        return Ok(true);
    }
    if role == "orphan" {
        nix::unistd::setsid()?;
    }
    leave(&folder.join(role), &std::process::id().to_string())?;
    loop {
        rest(Duration::from_secs(3600));
    }
}

/// Starts the family and waits until its members have written their pids.
///
/// # Errors
/// A member cannot be started.
pub fn found(options: &Options) -> io::Result<()> {
    let folder = Path::new(options.text("--family").unwrap_or("."));
    for member in ["child", "orphan"] {
        // Of an earlier run, if there was one.
        let _ = std::fs::remove_file(folder.join(member));
    }
    start(options, "child")?;
    // Its end is awaited, so that no zombie of ours is mistaken for a survivor.
    start(options, "between")?.wait()?;
    while !(folder.join("child").exists() && folder.join("orphan").exists()) {
        rest(TURN);
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "this subject is about the children that it starts by itself")]
fn start(options: &Options, role: &str) -> io::Result<Child> {
    let family = options.text("--family").unwrap_or(".");
    Command::new(std::env::current_exe()?).args(["--role", role, "--family", family]).spawn()
}
