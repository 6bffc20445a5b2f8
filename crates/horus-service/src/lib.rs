//! Horus as a service of the system: what has to be done so that it comes back by itself, and doing it.
//!
//! ```text
//!   survey --> Facts --> plan_install (pure) --> Plan --> Executor (dumb) --> Runner
//!              what is    what has to become      |        in this order,      systemctl,
//!              there now  of it, or why not       |        no decisions        launchctl
//!                                                 +--> the dry run prints it, a test compares it
//! ```
//!
//! A plan holds only what is still to be done: planned a second time, it is empty. So the dry run tells the truth, and
//! macOS plans are tested on Linux, where nothing can carry them out. Whoever carries a plan out decides nothing.
//!
//! Units and property lists are the files in `systemd/` and `plists/` of the source tree, which people may also copy by
//! hand; installing puts this machine's paths into them. Rejected: speaking D-Bus to systemd. `systemctl` is there
//! wherever systemd is, prints what it does, and a person can type the same.
#![forbid(unsafe_code)]

mod execute;
mod facts;
pub mod foreign;
mod job;
mod launchd;
mod plan;
mod plist_lint;
mod runner;
mod status;
mod stop_post;
mod systemd;
mod trust;

pub use execute::{Done, ExecuteError, Executor};
pub use facts::{Account, Existing, Facts, Traced, Wanted, survey};
pub use job::{Job, JobError, job_of};
pub use plan::{Action, Attempts, Manager, Plan, Refusal, Scope, Step, Target, Until};
pub use plist_lint::{Finding, Kind, lint_plist};
pub use runner::{Answer, RunError, Runner, SystemRunner};
pub use status::{Lack, ServiceStatus, State, status};
pub use stop_post::{StopPost, StopPostError, Swept, stop_post};
pub use trust::{Distrust, PathEntry, chain_of, distrust};

/// What has to be done so that Horus runs as a service, comes back by itself, and is started with the machine or the
/// session. Empty of steps if all of that is so.
///
/// # Errors
/// [`Refusal`]: why it must not or cannot be done; each says what to type.
pub fn plan_install(target: Target, facts: &Facts, wanted: &Wanted) -> Result<Plan, Refusal> {
    match target.manager {
        Manager::Systemd => systemd::install(target, facts, wanted),
        Manager::Launchd => launchd::install(target, facts, wanted),
    }
}

/// What has to be done so that nothing of the service is left; with `purge`, nothing of its state either. The notes say
/// what stays.
///
/// # Errors
/// [`Refusal`]
pub fn plan_uninstall(target: Target, facts: &Facts, purge: bool) -> Result<Plan, Refusal> {
    match target.manager {
        Manager::Systemd => systemd::uninstall(target, facts, purge),
        Manager::Launchd => launchd::uninstall(target, facts, purge),
    }
}
