//! Programs that somebody else holds: stopped, traced, frozen, or in a wait of the kernel.

use std::fs;
use std::path::{Path, PathBuf};

use horus_probe::sampler::view::Word;

use crate::bench::{Bench, DEADLINE};
use crate::subject::Subject;

#[test]
fn a_stopped_program_is_stopped_and_not_to_blame_and_goes_on() {
    for mode in ["healthy", "idle"] {
        let Some(subject) = Subject::c(mode) else { return };
        let mut bench = Bench::of(&subject);
        bench.learn();
        subject.signal("STOP");
        let view = bench.wait_for(Word::Stopped);
        assert!(view.to_string().starts_with("stopped by a signal for "), "{view}");
        assert!(!view.is_proof());
        assert_eq!(bench.watch_for(DEADLINE * 2), [Word::Stopped]);
        subject.signal("CONT");
        bench.wait_for(Word::Alive);
        bench.stays_well(DEADLINE * 2);
    }
}

#[test]
fn a_parent_that_waits_for_a_vfork_is_uninterruptible_and_not_blocked() {
    let Some(mut subject) = Subject::c("vfork") else { return };
    let mut bench = Bench::of(&subject);
    bench.learn();
    subject.go();
    let view = bench.wait_for(Word::Uninterruptible);
    assert!(!view.is_proof() && !bench.words().iter().any(|word| word.is_death()), "{:?}", bench.words());
}

/// A control group of this test's own, with a freezer.
struct Group {
    directory: PathBuf,
    switch: PathBuf,
    words: [&'static str; 2],
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.set(1);
        let start = horus_sys::clock::monotonic();
        // Until the subject that was in it is reaped.
        while fs::remove_dir(&self.directory).is_err() {
            if horus_sys::clock::monotonic() - start > DEADLINE {
                break;
            }
        }
    }
}

impl Group {
    /// In the freezer of version 1, or in the tree of version 2.
    fn new(root: &str, switch: &str, words: [&'static str; 2]) -> Option<Self> {
        let name = format!("horus-sampler-{}-{}", std::process::id(), switch.replace('.', "-"));
        let directory = Path::new(root).join(name);
        let skip = |why: &dyn std::fmt::Display| eprintln!("SKIPPED: a freezer at {root}: {why}");
        fs::create_dir(&directory).inspect_err(|error| skip(error)).ok()?;
        let switch = directory.join(switch);
        if !switch.exists() {
            skip(&"it has none");
            let _ = fs::remove_dir(&directory);
            return None;
        }
        Some(Self { directory, switch, words })
    }

    #[expect(clippy::disallowed_methods, reason = "a control file is no file")]
    fn set(&self, word: usize) -> std::io::Result<()> {
        fs::write(&self.switch, self.words[word])
    }

    #[expect(clippy::disallowed_methods, reason = "a control file is no file")]
    fn add(&self, subject: &Subject) -> bool {
        fs::write(self.directory.join("cgroup.procs"), subject.id().pid.to_string()).is_ok()
    }
}

#[test]
fn a_frozen_program_is_paused_in_either_version_of_control_groups() {
    let places = [
        ("/sys/fs/cgroup/freezer", "freezer.state", ["FROZEN", "THAWED"]),
        ("/sys/fs/cgroup/unified", "cgroup.freeze", ["1", "0"]),
        ("/sys/fs/cgroup", "cgroup.freeze", ["1", "0"]),
    ];
    for (root, switch, words) in places {
        for mode in ["healthy", "idle"] {
            let Some(subject) = Subject::c(mode) else { return };
            let Some(group) = Group::new(root, switch, words).filter(|group| group.add(&subject)) else {
                continue;
            };
            let mut bench = Bench::of(&subject);
            bench.learn();
            group.set(0).unwrap();
            let view = bench.wait_for(Word::Paused);
            assert!(!view.is_proof());
            assert_eq!(bench.watch_for(DEADLINE * 2), [Word::Paused], "{root}");
            group.set(1).unwrap();
            bench.wait_for(Word::Alive);
            bench.stays_well(DEADLINE * 2);
            drop(subject);
        }
    }
}

#[test]
fn without_the_right_to_look_there_is_no_evidence() {
    // The first process of this machine, if it is somebody else's.
    let Some(id) = horus_sys::process::identify(1).ok().flatten() else { return };
    if horus_sys::sample::call(1, 1).as_known().is_some() {
        eprintln!(
            "SKIPPED: without_the_right_to_look_there_is_no_evidence: everything may be looked at here"
        );
        return;
    }
    let mut sampler = horus_probe::sampler::Sampler::new(crate::bench::TICK);
    let service = horus_core::ids::ServiceName::parse("first").unwrap();
    let process = horus_core::ids::ProcessId { pid: id.pid, start_time: id.start_time };
    sampler.watch(service, horus_core::ids::Generation(1), process, DEADLINE).unwrap();
    for _ in 0..30 {
        let view = sampler.tick().remove(0).view;
        assert!(matches!(view.word, Word::NoEvidence | Word::Stopped), "{view:?}");
    }
}
