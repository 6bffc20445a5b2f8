//! One turn of the pipeline: look at what is due, do one step of it, say what was done.
//!
//! A turn is synchronous and short. It does exactly one of these, the first that applies:
//!
//! 1. open what must be open (the state directory with its journal; the output folder on first use);
//! 2. record slots that passed unserved, and give the current slot a topic;
//! 3. take the oldest item whose stage is not stalled one state further.
//!
//! When the disk refuses, the turn ends with an error and nothing has moved: the same turn is tried again later. So the
//! loop above has no memory of what it was doing, and coming back after a crash is the same code as coming back after a
//! full disk.

use std::fs::File;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::article::{self, ArticleError, FrontMatter};
use crate::disk::{self, DiskError};
use crate::folder::{Folder, FolderError, Holder, Publication, take_lock};
use crate::generator::{Chain, Draft, Renderer, Research};
use crate::item::{RunId, Stage};
use crate::journal::{self, Closed, Item, Journal, JournalError, Progress, QUEUE_LIMIT};
use crate::render::{RenderError, Templates};
use crate::secrets::SecretPatterns;
use crate::slot::{Missed, Slot, SlotLength};
use crate::stop_at::{Boundary, StopAt};
use crate::topic::Entry;
use crate::validate::{self, Validation};

const MISSED_AWAY: &str = "missed while the pipeline was down or stuck";
const MISSED_FULL: &str = "the queue is full";
const NOTHING_FIT: &str = "no topic is fit to print";

/// Where things are and how often something is due.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The output folder.
    pub out: PathBuf,
    /// The state directory.
    pub state: PathBuf,
    /// The length of a slot.
    pub every: SlotLength,
    /// The hook of the kill tests.
    pub stop_at: StopAt,
}

/// What a turn did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// A slot got its topic.
    Opened {
        /// The new item.
        run_id: RunId,
        /// Invalid topics that were seen for the first time on the way to a valid one.
        newly_invalid: u64,
    },
    /// A slot ended without an item.
    Closed {
        /// Which.
        slot: Slot,
        /// How.
        outcome: Closed,
        /// Invalid topics that were seen for the first time.
        newly_invalid: u64,
    },
    /// Slots were recorded as missed.
    Missed(Missed),
    /// A stage finished its work on an item.
    Advanced(Stage),
    /// An item was taken out, with the reason.
    Quarantined(String),
    /// Nothing is due, or everything that is due stands before a stalled stage.
    Nothing,
}

/// Why a turn could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The output folder, or the lock of the state directory.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The state directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A damaged journal could not be renamed.
    #[error("the damaged journal cannot be set aside")]
    SetAside(#[source] std::io::Error),
    /// An article that is too early.
    #[error("the item {run_id} waits: {reason}")]
    NotYet {
        /// Which.
        run_id: RunId,
        /// Why.
        reason: String,
    },
    /// Every tier failed.
    #[error("no tier could write: {0}")]
    NoTier(String),
    /// A bug in a template or the front matter.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// A bug in a template or the front matter.
    #[error(transparent)]
    Article(#[from] ArticleError),
}

impl TurnError {
    /// True when trying again cannot help: another process holds the directories, or a newer program wrote the journal.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Folder(FolderError::Held(_)) | Self::Journal(JournalError::Newer { .. }))
    }
}

/// The pipeline without clock, signals and network.
#[derive(Debug)]
pub struct Pipeline {
    settings: Settings,
    topics: Vec<Entry>,
    secrets: SecretPatterns,
    templates: Templates,
    chain: Chain,
    opened: Option<Opened>,
    folder: Option<Folder>,
}

/// The state directory, held by this process alone.
#[derive(Debug)]
struct Opened {
    journal: Journal,
    _lock: File,
}

impl Pipeline {
    /// A pipeline over `topics`. Touches nothing yet.
    #[must_use]
    pub fn new(
        settings: Settings,
        topics: Vec<Entry>,
        templates: Templates,
        secrets: SecretPatterns,
    ) -> Self {
        let chain = Chain::new(vec![Box::new(Renderer::new(templates.clone()))]);
        Self { settings, topics, secrets, templates, chain, opened: None, folder: None }
    }

    /// Does one step of what is due at `now`. Items that stand before `stalled` are passed over.
    pub fn turn(&mut self, now: Timestamp, stalled: Option<Stage>) -> Result<Turn, TurnError> {
        let result = self.step(now, stalled);
        match &result {
            // Opened again next time, where directories are made, health is checked and a damaged journal is set aside.
            Err(TurnError::Journal(JournalError::Damaged(_) | JournalError::Storage(_))) => {
                self.opened = None
            }
            Err(TurnError::Folder(FolderError::Disk(_))) => self.folder = None,
            Err(TurnError::Journal(JournalError::Impossible { what, run_id })) => {
                let run_id = RunId::from_stored(run_id);
                let reason = format!("its row in the journal holds an impossible {what}");
                self.journal(now)?.quarantine(&run_id, &reason, now)?;
                return Ok(Turn::Quarantined(reason));
            }
            _ => (),
        }
        result
    }

    /// The journal, for those who only look. `None` before it could be opened.
    #[must_use]
    pub fn open_journal(&self) -> Option<&Journal> {
        self.opened.as_ref().map(|opened| &opened.journal)
    }

    /// True when the output folder holds a publication of `slot`.
    #[must_use]
    pub fn holds(&self, slot: Slot) -> bool {
        self.folder
            .as_ref()
            .is_some_and(|folder| folder.holder(slot).is_ok_and(|holder| holder != Holder::Nobody))
    }

    fn step(&mut self, now: Timestamp, stalled: Option<Stage>) -> Result<Turn, TurnError> {
        let every = self.settings.every;
        let journal = self.journal(now)?;
        let live = journal.live()?;
        let current = every.slot_at(now);
        let latest = journal.latest_slot()?;
        if let Some(missed) = latest.and_then(|latest| every.missed_between(latest, current)) {
            journal.record_missed(missed, MISSED_AWAY, now)?;
            return Ok(Turn::Missed(missed));
        }
        // A clock that stepped back waits until it has caught up: no slot is served twice.
        if latest.is_none_or(|latest| latest < current) {
            if live.len() < QUEUE_LIMIT {
                return self.fill(current, now);
            }
            let missed = Missed { first: current, last: current, count: 1 };
            journal.record_missed(missed, MISSED_FULL, now)?;
            return Ok(Turn::Missed(missed));
        }
        if let Some(vacant) = journal.vacant_slots()?.first() {
            return self.fill(*vacant, now);
        }
        match live.into_iter().find(|item| item.progress.state().stage() != stalled || stalled.is_none()) {
            Some(item) => self.advance(item, now),
            None => Ok(Turn::Nothing),
        }
    }

    fn journal(&mut self, now: Timestamp) -> Result<&mut Journal, TurnError> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => self.open(now)?,
        };
        Ok(&mut self.opened.insert(opened).journal)
    }

    fn open(&self, now: Timestamp) -> Result<Opened, TurnError> {
        let state = &self.settings.state;
        disk::make_directory(state)?;
        let _lock = take_lock(&state.join("lock"))?;
        let journal = match Journal::open(state) {
            Err(JournalError::Damaged(reason)) => {
                let aside = journal::set_aside(state, now).map_err(TurnError::SetAside)?;
                tracing::error!(reason, aside = %aside.display(), "the journal was damaged and is set aside; starting a new one");
                Journal::open(state)?
            }
            other => other?,
        };
        Ok(Opened { journal, _lock })
    }

    fn folder(&mut self) -> Result<&Folder, TurnError> {
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => {
                let folder = Folder::open(&self.settings.out, self.settings.stop_at)?;
                // A former life may have been cut off between the article and the lists, or somebody removed them.
                folder.refresh_lists(&self.templates)?;
                folder
            }
        };
        Ok(self.folder.insert(folder))
    }

    /// Gives `slot` the next topic of the rotation that is fit to print.
    fn fill(&mut self, slot: Slot, now: Timestamp) -> Result<Turn, TurnError> {
        // A folder that cannot be asked now is asked again before publication; the item may wait for it in the queue.
        let asked = self.folder().and_then(|folder| Ok(folder.holder(slot)?));
        let holder = asked.unwrap_or_else(|_| {
            self.folder = None;
            Holder::Nobody
        });
        if holder != Holder::Nobody {
            self.journal(now)?.close_slot(slot, Closed::Adopted, "the output folder already holds it")?;
            return Ok(Turn::Closed { slot, outcome: Closed::Adopted, newly_invalid: 0 });
        }
        let topics = std::mem::take(&mut self.topics);
        let turn = self.journal(now).and_then(|journal| choose(journal, &topics, slot, now));
        self.topics = topics;
        let turn = turn?;
        if matches!(turn, Turn::Opened { .. }) {
            self.settings.stop_at.reached(Boundary::Opened);
        }
        Ok(turn)
    }

    fn advance(&mut self, item: Item, now: Timestamp) -> Result<Turn, TurnError> {
        let run_id = item.run_id.clone();
        let turn = match item.progress {
            Progress::Queued(topic) => {
                self.journal(now)?.researched(&run_id, &Research::gather(&topic), now)?;
                Turn::Advanced(Stage::Gather)
            }
            Progress::Researched(research) => self.synthesise(&run_id, &research, now)?,
            Progress::Drafted(research, draft) => self.format(&run_id, item.slot, &research, &draft, now)?,
            Progress::Validated { markdown } => self.deliver(&run_id, &markdown, now)?,
            Progress::Staged { slug, markdown, html } => {
                let publication =
                    Publication { slot: item.slot, slug: &slug, markdown: &markdown, html: &html };
                self.distribute(&run_id, publication, now)?
            }
        };
        match &turn {
            Turn::Advanced(stage) => {
                tracing::info!(%run_id, slot = %item.slot, title = %item.title, %stage, state = %stage.leads_to(), "stage done");
                self.settings.stop_at.reached(boundary_after(*stage));
            }
            Turn::Quarantined(reason) => {
                tracing::warn!(%run_id, slot = %item.slot, title = %item.title, reason, "quarantined");
            }
            _ => (),
        }
        Ok(turn)
    }

    fn synthesise(&mut self, run_id: &RunId, research: &Research, now: Timestamp) -> Result<Turn, TurnError> {
        let draft = self.chain.write(research).map_err(|faults| {
            TurnError::NoTier(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        self.journal(now)?.drafted(run_id, &draft, now)?;
        Ok(Turn::Advanced(Stage::Synthesise))
    }

    fn format(
        &mut self,
        run_id: &RunId,
        slot: Slot,
        research: &Research,
        draft: &Draft,
        now: Timestamp,
    ) -> Result<Turn, TurnError> {
        let matter = FrontMatter::new(run_id, slot, research, draft)?;
        let markdown = article::write(&matter, &draft.body)?;
        let owner = self.journal(now)?.slug_owner(&matter.slug)?;
        let context =
            validate::Context { run_id, research, slug_owner: owner.as_ref(), now, secrets: &self.secrets };
        match validate::validate(&markdown, &context) {
            Validation::Passed => {
                self.journal(now)?.validated(run_id, &matter.slug, &markdown, now)?;
                Ok(Turn::Advanced(Stage::Format))
            }
            Validation::NotYet(reason) => Err(TurnError::NotYet { run_id: run_id.clone(), reason }),
            Validation::Rejected(reasons) => self.quarantine(run_id, reasons.join("; "), now),
        }
    }

    fn deliver(&mut self, run_id: &RunId, markdown: &str, now: Timestamp) -> Result<Turn, TurnError> {
        let (matter, body) = article::read(markdown)?;
        let html = self.templates.page(&matter, body)?;
        self.journal(now)?.staged(run_id, &html, now)?;
        Ok(Turn::Advanced(Stage::Deliver))
    }

    /// Intent, effect, marker, in this order; see the guide for what a crash between any two of them leaves.
    fn distribute(
        &mut self,
        run_id: &RunId,
        publication: Publication<'_>,
        now: Timestamp,
    ) -> Result<Turn, TurnError> {
        let slot = publication.slot;
        match self.folder()?.holder(slot).map_err(FolderError::from)? {
            Holder::Nobody => {
                self.journal(now)?.intend(run_id, slot, now)?;
                self.settings.stop_at.reached(Boundary::Intent);
                self.folder()?.publish(publication).map_err(FolderError::from)?;
            }
            Holder::Run(holder) if holder == *run_id => {
                self.journal(now)?.intend(run_id, slot, now)?;
                self.folder()?.restore_page(publication).map_err(FolderError::from)?;
            }
            Holder::Run(other) => {
                return self.yield_slot(
                    run_id,
                    slot,
                    format!("its slot was published by the run {other}"),
                    now,
                );
            }
            Holder::Stranger(name) => {
                return self.yield_slot(run_id, slot, format!("its slot is taken by the file {name}"), now);
            }
        }
        let templates = self.templates.clone();
        self.folder()?.refresh_lists(&templates)?;
        self.settings.stop_at.reached(Boundary::Listed);
        self.journal(now)?.published(run_id, slot, now)?;
        Ok(Turn::Advanced(Stage::Distribute))
    }

    /// Takes the item out, and leaves the slot to whoever holds it in the output folder.
    fn yield_slot(
        &mut self,
        run_id: &RunId,
        slot: Slot,
        reason: String,
        now: Timestamp,
    ) -> Result<Turn, TurnError> {
        // A crash between the two leaves a vacant slot, and filling it asks the folder first.
        self.journal(now)?.quarantine(run_id, &reason, now)?;
        self.journal(now)?.close_slot(slot, Closed::Adopted, &reason)?;
        Ok(Turn::Quarantined(reason))
    }

    fn quarantine(&mut self, run_id: &RunId, reason: String, now: Timestamp) -> Result<Turn, TurnError> {
        self.journal(now)?.quarantine(run_id, &reason, now)?;
        Ok(Turn::Quarantined(reason))
    }
}

/// Walks the rotation from where it stands, at most once around.
fn choose(journal: &mut Journal, topics: &[Entry], slot: Slot, now: Timestamp) -> Result<Turn, TurnError> {
    let taken = journal.rotation()?;
    let count = u64::try_from(topics.len()).unwrap_or(u64::MAX);
    let start = usize::try_from(taken.checked_rem(count).unwrap_or(0)).unwrap_or(0);
    let mut newly_invalid = 0;
    for (step, entry) in (1_u64..).zip(topics.iter().cycle().skip(start).take(topics.len())) {
        match entry {
            Entry::Invalid(topic) => {
                if journal.record_invalid(slot, topic, now)? {
                    newly_invalid += 1;
                    tracing::warn!(topic = %topic.label, reason = %topic.reason(), "topic quarantined");
                }
            }
            Entry::Valid(topic) => {
                if journal.was_tried(&RunId::derive(&topic.digest(), slot))? {
                    continue;
                }
                let run_id = journal.open_slot(slot, topic, taken + step, now)?;
                tracing::info!(%run_id, %slot, title = %topic.title, "slot opened");
                return Ok(Turn::Opened { run_id, newly_invalid });
            }
        }
    }
    journal.close_slot(slot, Closed::Empty, NOTHING_FIT)?;
    tracing::error!(%slot, "{NOTHING_FIT}: the slot stays empty");
    Ok(Turn::Closed { slot, outcome: Closed::Empty, newly_invalid })
}

fn boundary_after(stage: Stage) -> Boundary {
    match stage {
        Stage::Gather => Boundary::Researched,
        Stage::Synthesise => Boundary::Drafted,
        Stage::Format => Boundary::Validated,
        Stage::Deliver => Boundary::Staged,
        Stage::Distribute => Boundary::Marked,
    }
}

/// An error with all its causes in one line.
#[must_use]
pub fn chain_of(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
