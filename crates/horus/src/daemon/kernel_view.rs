//! Looks at every process from outside, once a second, and tells the engine what the kernel shows.
//!
//! Reading /proc may take its time, so it is done off the loop. The owner says which processes there are; what is seen comes back as
//! observations: at once when it changes, every second while something is wrong, and seldom while nothing is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use horus_core::ids::{Generation, ProcessId, ServiceName};
use horus_core::observation::{Input, KernelView, KernelWord, Observation};
use horus_probe::sampler::{Sampler, Sighting, TICK};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// What is well is told again after so long, so that the judge knows that somebody still looks.
const RENEWED_EVERY: Duration = Duration::from_secs(10);

/// One process to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    generation: Generation,
    process: ProcessId,
    deadline: Duration,
}

type AllWanted = Arc<BTreeMap<ServiceName, Wanted>>;

/// Who is looked at.
#[derive(Debug)]
pub(super) struct KernelLook {
    wanted: watch::Sender<AllWanted>,
}

impl KernelLook {
    /// Looks from now on, until it is dropped.
    pub(super) fn start(inputs: mpsc::Sender<Input>) -> Self {
        let (wanted, all_wanted) = watch::channel(AllWanted::default());
        drop(tokio::spawn(look(all_wanted, inputs)));
        Self { wanted }
    }

    /// This is the process of that run. The same again changes its deadline only.
    pub(super) fn watch(
        &self,
        service: &ServiceName,
        generation: Generation,
        process: ProcessId,
        deadline: Duration,
    ) {
        let new = Wanted { generation, process, deadline };
        let changed = self.wanted.borrow().get(service) != Some(&new);
        if changed {
            self.wanted.send_modify(|all| {
                Arc::make_mut(all).insert(service.clone(), new);
            });
        }
    }

    /// There is nothing of it to look at.
    pub(super) fn forget(&self, service: &ServiceName) {
        let known = self.wanted.borrow().contains_key(service);
        if known {
            self.wanted.send_modify(|all| {
                Arc::make_mut(all).remove(service);
            });
        }
    }
}

/// Ends with whoever asked for it, or with the loop that it tells.
async fn look(all_wanted: watch::Receiver<AllWanted>, inputs: mpsc::Sender<Input>) {
    let mut sampler = Sampler::default();
    let mut before = AllWanted::default();
    let mut told = Told::default();
    let mut every = interval(TICK);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while all_wanted.has_changed().is_ok() {
        every.tick().await;
        let wanted = Arc::clone(&all_wanted.borrow());
        if wanted.is_empty() && before.is_empty() {
            continue;
        }
        let last = std::mem::replace(&mut before, Arc::clone(&wanted));
        let task = tokio::task::spawn_blocking(move || {
            follow(&mut sampler, &last, &wanted);
            let sightings = sampler.tick();
            (sampler, sightings)
        });
        let Ok((back, sightings)) = task.await else {
            tracing::error!("the kernel sampler ended: what a loop does is not looked at any more");
            return;
        };
        sampler = back;
        for input in told.news(sightings, Instant::now()) {
            if inputs.send(input).await.is_err() {
                return;
            }
        }
    }
}

/// Looks at those who are wanted now, and at nobody else.
fn follow(
    sampler: &mut Sampler,
    last: &BTreeMap<ServiceName, Wanted>,
    wanted: &BTreeMap<ServiceName, Wanted>,
) {
    for (service, old) in last {
        if wanted.get(service).is_none_or(|new| new.generation != old.generation) {
            sampler.forget(service, old.generation);
        }
    }
    for (service, Wanted { generation, process, deadline }) in wanted {
        if let Err(too_many) = sampler.watch(service.clone(), *generation, *process, *deadline)
            && last.get(service).is_none_or(|old| old.generation != *generation)
        {
            tracing::warn!(%service, "it is not looked at from outside: {too_many}");
        }
    }
}

/// What was last told of whom.
#[derive(Debug, Default)]
struct Told {
    last: BTreeMap<ServiceName, (Generation, KernelWord, bool, Instant)>,
}

impl Told {
    /// What of it has to be told.
    fn news(&mut self, sightings: Vec<Sighting>, now: Instant) -> Vec<Input> {
        let mut news = Vec::new();
        let mut last = BTreeMap::new();
        for Sighting { service, generation, view } in sightings {
            // That it has ended is told by whoever is its parent.
            let Some(view) = view.told() else { continue };
            let (word, held) = (view.word, view.held.is_some());
            let known = self.last.remove(&service).filter(|known| {
                let (run, same, was_held, at) = *known;
                let still = run == generation && same == word && was_held == held;
                still && is_quiet(&view) && now.duration_since(at) < RENEWED_EVERY
            });
            let entry = known.unwrap_or_else(|| {
                let observation = Observation::KernelView { generation, view };
                news.push(Input::Service(service.clone(), observation));
                (generation, word, held, now)
            });
            last.insert(service, entry);
        }
        self.last = last;
        news
    }
}

/// Nothing is wrong, or nothing is known.
fn is_quiet(view: &KernelView) -> bool {
    let quiet = matches!(
        view.word,
        KernelWord::Learning | KernelWord::Alive | KernelWord::NoLoop | KernelWord::NoEvidence
    );
    quiet && view.held.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use horus_probe::sampler::view::{View, Word};

    fn sighting(word: Word) -> Sighting {
        let view = View { word, ..View::plain(Word::Learning) };
        Sighting { service: ServiceName::parse("bot").unwrap(), generation: Generation(1), view }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_well_is_told_seldom_and_what_is_not_every_time() {
        let mut told = Told::default();
        let begun = Instant::now();
        let mut count =
            |word, seconds| told.news(vec![sighting(word)], begun + Duration::from_secs(seconds)).len();
        let alive: usize = (0..20).map(|second| count(Word::Alive, second)).sum();
        assert_eq!(alive, 2, "at once, and after ten seconds");
        let blocked: usize = (20..30).map(|second| count(Word::Blocked, second)).sum();
        assert_eq!(blocked, 10);
        assert_eq!(count(Word::Alive, 30), 1, "a change is told at once");
        assert_eq!(count(Word::Gone, 31), 0);
        assert_eq!(count(Word::Alive, 32), 1, "another process is another matter");
    }
}
