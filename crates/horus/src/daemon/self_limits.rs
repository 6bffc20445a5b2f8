//! What Horus itself uses, looked at now and then: a watchdog that eats the machine is its first problem.
//!
//! Nothing is done about it here: every queue has its limit, and a leak is a bug that a person has to know of. It is told
//! before it hurts, while there are descriptors and memory left to tell it with.

use std::time::Duration;

use horus_sys::limits::{self, Resource};
use horus_sys::{facts, process};
use tokio::sync::mpsc;

use super::owner::Call;

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Resident memory beyond which something leaks: ten times what Horus needs for 500 services.
const MEMORY_MAX: u64 = 512 << 20;

/// From this share of a limit on it is told, in per cent.
const NEAR: u64 = 80;

/// And below this one it is over.
const FAR: u64 = 60;

/// Looks for ever, and tells of changes.
pub(super) async fn watch(calls: mpsc::Sender<Call>) {
    let mut told = Told::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Ok(used) = tokio::task::spawn_blocking(look).await else { return };
        for text in told.news(used) {
            tracing::warn!("{text}");
            if calls.send(Call::Note(text)).await.is_err() {
                return;
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Used {
    memory: u64,
    files: u64,
    files_max: u64,
}

fn look() -> Used {
    let facts = facts::process(process::own_pid()).known();
    let memory = facts.as_ref().and_then(|facts| facts.resident_bytes.as_known().copied());
    let files = facts.as_ref().and_then(|facts| facts.open_files.as_known().copied());
    let files_max = limits::get(Resource::OpenFiles).map_or(u64::MAX, |limit| limit.soft);
    // What cannot be seen is not near its limit.
    Used { memory: memory.unwrap_or(0), files: files.unwrap_or(0), files_max }
}

#[derive(Debug, Default)]
struct Told {
    memory: bool,
    files: bool,
}

impl Told {
    fn news(&mut self, used: Used) -> Vec<String> {
        let (memory_mib, max_mib) = (used.memory >> 20, MEMORY_MAX >> 20);
        let (files, files_max) = (used.files, used.files_max);
        let memory = change(&mut self.memory, used.memory, MEMORY_MAX);
        let open = change(&mut self.files, files, files_max);
        let texts = [
            memory.map(|near| match near {
                true => format!(
                    "Horus uses {memory_mib} MiB of memory; beyond {max_mib} MiB it leaks: please report it"
                ),
                false => format!("Horus uses {memory_mib} MiB of memory again"),
            }),
            open.map(|near| match near {
                true => {
                    format!("Horus has {files} of {files_max} descriptors open; without one it sees nothing")
                }
                false => format!("Horus has {files} of {files_max} descriptors open again"),
            }),
        ];
        texts.into_iter().flatten().collect()
    }
}

/// Whether it came near its limit (true) or went away from it, if either.
fn change(told: &mut bool, used: u64, limit: u64) -> Option<bool> {
    let percent = used.saturating_mul(100) / limit.max(1);
    let near = if *told { percent >= FAR } else { percent >= NEAR };
    (near != std::mem::replace(told, near)).then_some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_a_limit_is_told_once_and_so_is_its_end() {
        let mut told = Told::default();
        let used = |files, memory_mib: u64| Used { memory: memory_mib << 20, files, files_max: 1000 };
        assert_eq!(told.news(used(799, 100)), Vec::<String>::new());
        assert!(told.news(used(800, 100))[0].contains("800 of 1000 descriptors"));
        // About the limit: neither again nor over.
        assert_eq!(told.news(used(790, 100)), Vec::<String>::new());
        assert_eq!(told.news(used(810, 100)), Vec::<String>::new());
        let both = told.news(used(10, 500));
        assert!(both[0].contains("500 MiB") && both[1].contains("open again"), "{both:?}");
    }

    #[test]
    fn this_process_is_seen() {
        let used = look();
        assert!(used.files > 2 && used.files_max > used.files, "{used:?}");
    }
}
