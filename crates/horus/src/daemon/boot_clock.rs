//! How old what was remembered of a silence is, by the clock of this boot: nobody sets it, and it goes on while the machine sleeps.
//!
//! The time of day does not do for that. Set back while no Horus was there, it would make an absence of hours look like one of
//! seconds, and what was witnessed before it would be held against a program.

use std::sync::OnceLock;
use std::time::Duration;

use horus_core::command::{BootTime, Memory};
use horus_sys::clock;

/// Now, by the clock of this boot. `None`: the system does not say which boot this is.
fn now() -> Option<BootTime> {
    static BOOT: OnceLock<Option<String>> = OnceLock::new();
    let boot = BOOT.get_or_init(|| clock::boot_id().ok().filter(|id| !id.is_empty())).clone()?;
    Some(BootTime { boot, since: clock::since_boot() })
}

/// Notes when a record was made, if that was not noted by an earlier life.
pub(super) fn stamp(mut memory: Memory) -> Memory {
    if let Some(silent) = memory.silent.as_mut().filter(|silent| silent.written.is_none()) {
        silent.written = now();
    }
    memory
}

/// How long ago that was. `None`: not in this boot, or not known.
pub(super) fn away(memory: &Memory) -> Option<Duration> {
    now()?.since(memory.silent.as_ref()?.written.as_ref()?)
}

#[cfg(test)]
mod tests {
    use horus_core::command::MemorySilence;
    use horus_core::ids::ProcessId;

    use super::*;

    fn memory(written: Option<BootTime>) -> Memory {
        let silent = MemorySilence {
            process: ProcessId { pid: 7, start_time: 1 },
            rules: 0,
            sources: Vec::new(),
            work: Vec::new(),
            waited: Some(Duration::from_secs(5)),
            declined: Vec::new(),
            handed_over: false,
            written,
        };
        Memory { silent: Some(silent), ..Memory::default() }
    }

    #[test]
    fn an_age_is_known_within_one_boot_only() {
        let stamped = stamp(memory(None));
        assert!(away(&stamped).unwrap() < Duration::from_secs(60));
        let written = stamped.silent.unwrap().written.unwrap();
        let earlier =
            BootTime { since: written.since.saturating_sub(Duration::from_secs(3600)), ..written.clone() };
        assert!(away(&memory(Some(earlier.clone()))).unwrap() >= written.since - earlier.since);
        let ahead = BootTime { since: written.since + Duration::from_secs(3600), ..written.clone() };
        assert_eq!(away(&memory(Some(ahead))), None);
        assert_eq!(away(&memory(Some(BootTime { boot: "another".into(), ..written }))), None);
        assert_eq!(away(&memory(None)), None);
    }

    #[test]
    fn a_record_of_an_earlier_life_keeps_its_time() {
        let written = BootTime { boot: "another".into(), since: Duration::from_secs(3) };
        assert_eq!(stamp(memory(Some(written.clone()))).silent.unwrap().written, Some(written));
        assert_eq!(stamp(Memory::default()), Memory::default());
    }
}
