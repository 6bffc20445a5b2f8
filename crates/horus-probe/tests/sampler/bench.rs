//! A sampler that looks at some subjects until it says of each what is expected.

use std::time::Duration;

use horus_core::ids::{Generation, ServiceName};
use horus_probe::sampler::Sampler;
use horus_probe::sampler::view::{View, Word};

use crate::subject::Subject;

/// How often these tests look, and after how long they want to be told: real seconds are dear, and the rules know none.
pub(crate) const TICK: Duration = Duration::from_millis(100);
pub(crate) const DEADLINE: Duration = Duration::from_millis(1_200);
/// So many looks are enough to learn what a healthy program is.
const LEARNING: u32 = 20;
/// A test waits for its word so long, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    sampler: Sampler,
    service: ServiceName,
    pub(crate) said: Vec<(Duration, Word)>,
}

impl Bench {
    pub(crate) fn of(subject: &Subject) -> Self {
        let mut sampler = Sampler::new(TICK);
        let service = ServiceName::parse("subject").unwrap();
        sampler.watch(service.clone(), Generation(1), subject.id(), DEADLINE).unwrap();
        Self { sampler, service, said: Vec::new() }
    }

    /// One look, a tick after the last one.
    pub(crate) fn tick(&mut self) -> View {
        #[expect(clippy::disallowed_methods, reason = "the sampler is called by the clock")]
        std::thread::sleep(TICK);
        let sighting = self.sampler.tick().remove(0);
        assert_eq!((&sighting.service, sighting.generation), (&self.service, Generation(1)));
        self.said.push((horus_sys::clock::monotonic(), sighting.view.word));
        sighting.view
    }

    /// Looks while the program is well, until its loop is known. On a slow machine that takes longer.
    pub(crate) fn learn(&mut self) {
        (0..LEARNING).for_each(|_| drop(self.tick()));
        self.wait_for(Word::Alive);
    }

    /// Looks until this is said.
    pub(crate) fn wait_for(&mut self, word: Word) -> View {
        let start = horus_sys::clock::monotonic();
        loop {
            let view = self.tick();
            if view.word == word {
                return view;
            }
            let waited = horus_sys::clock::monotonic() - start;
            assert!(waited < PATIENCE, "wanted {word:?}, but: {view:?}; {:?}", self.words());
        }
    }

    /// Looks for some time, and says everything that was said.
    pub(crate) fn watch_for(&mut self, time: Duration) -> Vec<Word> {
        let start = horus_sys::clock::monotonic();
        self.said.clear();
        while horus_sys::clock::monotonic() - start < time {
            self.tick();
        }
        self.words()
    }

    /// Looks for some time, and accepts no accusation; in the end the loop is alive.
    pub(crate) fn stays_well(&mut self, time: Duration) {
        let told = self.watch_for(time);
        let well = [Word::Learning, Word::NoLoop, Word::Away, Word::Alive];
        assert!(told.iter().all(|word| well.contains(word)), "{told:?}");
        self.wait_for(Word::Alive);
    }

    /// What was said, without repetitions.
    pub(crate) fn words(&self) -> Vec<Word> {
        let mut words: Vec<Word> = self.said.iter().map(|(_, word)| *word).collect();
        words.dedup();
        words
    }
}
