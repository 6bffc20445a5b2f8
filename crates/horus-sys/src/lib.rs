//! Everything Horus asks of the operating system, and the only unsafe code of the workspace.
//!
//! The rest of Horus speaks in the words of this crate: a [`process::ProcessId`] is a pid *and* a start time, so a
//! reused pid is never mistaken for its former owner; a [`fact::Fact`] is known or missing *for a reason*, so "not
//! allowed to look" never reads as "nothing there".
//!
//! ```text
//!   clock  process  signal  reap  subreaper     who lives, who died, how to reach them
//!   launch  spawn  cgroup  user  limits         how a child is made, and what it may have
//!   poll  pipe  peer  lock  files               what a single-threaded loop needs
//!   facts  memory  redact  disk                 what the kernel says about a process, or about a disk, right now
//!   sample  proc_text                           the same in small: looks that are cheap enough for every second
//!   notify  self_stack                          how Horus itself is watched
//!        \_____________ os ______________/
//!               linux.rs | macos.rs             one private name, two systems
//! ```
//!
//! Linux needs kernel 5.3 (pidfd); later kernels are used where they have more (`close_range` 5.9, `cgroup.kill` 5.14,
//! `PIDFD_GET_INFO` 6.15). On macOS each missing facility is said so by a value, in [`facility::survey`].
//! Rejected: `nix` and `rustix`. The set of calls is small, half of it is in neither, and the code between `fork` and
//! `exec` must be readable line by line.

pub mod cgroup;
pub mod cgroup_home;
pub mod cgroup_limits;
pub mod clock;
pub mod descriptors;
pub mod disk;
pub mod elf;
pub mod facility;
pub mod fact;
pub mod facts;
pub mod files;
pub mod launch;
pub mod limits;
pub mod lock;
pub mod memory;
pub mod notify;
pub mod passed;
pub mod peer;
pub mod pipe;
pub mod poll;
pub mod proc_text;
pub mod process;
pub mod reap;
pub mod redact;
pub mod sample;
pub mod self_stack;
pub mod signal;
pub mod spawn;
pub mod subreaper;
pub mod user;

mod call;

#[cfg(target_os = "linux")]
#[path = "os/linux.rs"]
mod os;
#[cfg(target_os = "macos")]
#[path = "os/macos.rs"]
mod os;
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("Horus knows Linux and macOS");
