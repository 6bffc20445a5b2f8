//! Looks at every process from outside, once a second, and tells the engine what the kernel shows; and counts, more seldom, what the
//! program prints and uses.
//!
//! Reading /proc may take its time, so it is done off the loop. The owner says which processes there are; what is seen comes back as
//! observations: at once when it changes, every second while something is wrong, and seldom while nothing is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use horus_core::ids::{Generation, ProcessId, ServiceName};
use horus_core::observation::{Input, KernelView, KernelWord, Observation};
use horus_probe::Draws;
use horus_probe::activity::{Count, Counter, Subject};
use horus_probe::sampler::{Sampler, Sighting, TICK};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// What is well is told again after so long, so that the judge knows that somebody still looks.
const RENEWED_EVERY: Duration = Duration::from_secs(10);

/// One process to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) generation: Generation,
    pub(super) process: ProcessId,
    /// What its loop does is looked at; what has to last has lasted after so long.
    pub(super) sampled: Option<Duration>,
    /// A beat of it is late: each look is a close one.
    pub(super) closely: bool,
    /// What it does is counted, so often.
    pub(super) counted: Option<Counted>,
}

/// How a program is counted from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) every: Duration,
    /// Where its output goes, if Horus owns that.
    pub(super) log: Option<PathBuf>,
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

    /// This is the process of that run. The same again changes how it is looked at only.
    pub(super) fn watch(&self, service: &ServiceName, mut new: Wanted) {
        let known = self.wanted.borrow().get(service).cloned();
        let same_run = known.as_ref().is_some_and(|known| known.generation == new.generation);
        new.closely |= same_run && known.as_ref().is_some_and(|known| known.closely);
        let changed = known.as_ref() != Some(&new);
        if changed {
            self.wanted.send_modify(|all| {
                Arc::make_mut(all).insert(service.clone(), new);
            });
        }
    }

    /// A beat of it is late, or it is not any more.
    pub(super) fn hasten(&self, service: &ServiceName, fast: bool) {
        let changed = self.wanted.borrow().get(service).is_some_and(|known| known.closely != fast);
        if changed {
            self.wanted.send_modify(|all| {
                if let Some(wanted) = Arc::make_mut(all).get_mut(service) {
                    wanted.closely = fast;
                }
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
    let mut counting = Counting::default();
    let mut before = AllWanted::default();
    let mut told = Told::default();
    // A program that works for 0.3 s of each second must not be met at work, or at home, every time.
    let mut draws = Draws::seeded("kernel sampler");
    let mut due = Instant::now();
    while all_wanted.has_changed().is_ok() {
        sleep_until(due).await;
        due = Instant::now() + draws.around(TICK);
        let wanted = Arc::clone(&all_wanted.borrow());
        if wanted.is_empty() && before.is_empty() {
            continue;
        }
        let last = std::mem::replace(&mut before, Arc::clone(&wanted));
        let task = tokio::task::spawn_blocking(move || {
            follow(&mut sampler, &last, &wanted);
            let sightings = sampler.tick();
            let counts = counting.look(&wanted, Instant::now());
            (sampler, sightings, counting, counts)
        });
        let Ok((sampled, sightings, counted, counts)) = task.await else {
            tracing::error!("the kernel sampler ended: what a loop does is not looked at any more");
            return;
        };
        (sampler, counting) = (sampled, counted);
        let counts = counts.into_iter().map(|Count { service, generation, activity }| {
            Input::Service(service, Observation::Activity { generation, activity })
        });
        for input in told.news(sightings, Instant::now()).into_iter().chain(counts) {
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
        let stays = |new: &Wanted| new.generation == old.generation && new.sampled.is_some();
        if !wanted.get(service).is_some_and(stays) {
            sampler.forget(service, old.generation);
        }
    }
    for (service, Wanted { generation, process, sampled, closely, .. }) in wanted {
        let Some(deadline) = sampled else { continue };
        if let Err(too_many) = sampler.watch(service.clone(), *generation, *process, *deadline)
            && last.get(service).is_none_or(|old| old.generation != *generation)
        {
            tracing::warn!(%service, "it is not looked at from outside: {too_many}");
        }
        sampler.suspect(service, *generation, *closely);
    }
}

/// What is counted from outside, and when it was last.
#[derive(Debug, Default)]
struct Counting {
    counter: Counter,
    looked: BTreeMap<ServiceName, (Generation, Instant)>,
}

impl Counting {
    /// Counts for those whose time has come.
    fn look(&mut self, wanted: &BTreeMap<ServiceName, Wanted>, now: Instant) -> Vec<Count> {
        let subjects: Vec<_> = wanted
            .iter()
            .filter_map(|(service, wanted)| {
                let log = wanted.counted.as_ref()?.log.clone();
                let (generation, process) = (wanted.generation, wanted.process);
                Some((service, Subject { generation, process, log }))
            })
            .collect();
        self.counter.follow(subjects.iter().map(|(service, subject)| (*service, subject)));
        self.looked.retain(|service, (generation, _)| {
            wanted
                .get(service)
                .is_some_and(|wanted| wanted.counted.is_some() && wanted.generation == *generation)
        });
        let looked = &mut self.looked;
        self.counter.look(|service| {
            let wanted = wanted.get(service)?;
            let every = wanted.counted.as_ref()?.every;
            let before = looked.get(service).map(|(_, at)| now.duration_since(*at));
            // A tick may come a little early.
            if before.is_some_and(|passed| passed + TICK / 2 < every) {
                return None;
            }
            looked.insert(service.clone(), (wanted.generation, now));
            Some(before.unwrap_or_default())
        })
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
