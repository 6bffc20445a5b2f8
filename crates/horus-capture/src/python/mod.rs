//! What a Python interpreter says of itself: stacks by py-spy, tasks by our own walk.

mod code;
mod layout;
mod objects;
#[cfg_attr(not(target_os = "linux"), path = "stacks_missing.rs")]
mod stacks;
pub(crate) mod tasks;

pub(crate) use layout::{Layout, common};

use std::time::Duration;

use crate::document::Python;
use crate::limits::WALKS_MAX;
use crate::memory::{Lost, OfProcess, Pages};

/// Where an interpreter is, and its stacks.
pub(crate) struct Interpreter {
    major: u64,
    minor: u64,
    /// Address of the pointer to `sys.modules`.
    modules: u64,
    python: Python,
}

/// Asks the interpreter of a process, if its mappings look like one's. What could not be seen goes into `missing`.
pub(crate) fn look(pid: i32, missing: &mut Vec<String>) -> Option<Python> {
    let interpreter = match stacks::read(pid) {
        Ok(interpreter) => interpreter,
        Err(why) => {
            missing.push(format!("Python stacks: {why}"));
            return None;
        }
    };
    let Interpreter { major, minor, modules, mut python } = interpreter;
    let Some(layout) = Layout::of(major, minor) else {
        missing
            .push(format!("asyncio tasks: those of Python {major}.{minor} are not read, only 3.11 to 3.13"));
        return Some(python);
    };
    let mut last = None;
    for _ in 0..WALKS_MAX {
        match walk(pid, layout, modules) {
            Ok(census) => {
                let census = census.unwrap_or_default();
                if census.opaque > 0 {
                    missing
                        .push(format!("asyncio tasks: {} of a kind that is not understood", census.opaque));
                }
                let kept = census.tasks.len() + census.opaque;
                python.tasks_counted = census.counted.max(kept as u64);
                python.tasks = census.tasks;
                python.loops = census.loops;
                return Some(python);
            }
            Err(lost @ (Lost::Gone | Lost::Denied)) => {
                last = Some(lost);
                break;
            }
            Err(lost) => last = Some(lost),
        }
    }
    let why = last.map(|lost| lost.to_string()).unwrap_or_default();
    missing.push(format!("asyncio tasks: no evidence: {why}"));
    Some(python)
}

/// One walk, through pages that are read anew.
fn walk(pid: i32, layout: Layout, modules: u64) -> Result<Option<tasks::Census>, Lost> {
    let pages = Pages::new(OfProcess(pid));
    let modules = pages.pointer(modules)?.ok_or(Lost::Odd("an interpreter without modules"))?;
    let now: Duration = horus_sys::clock::monotonic();
    tasks::census(&pages, layout, modules, now)
}
