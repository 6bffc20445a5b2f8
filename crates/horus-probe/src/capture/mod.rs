//! Evidence: what the kernel says about a process that is silent, before anything is touched.
//!
//! Reading has no side effect: no ptrace, no signal, no stop. The threads are looked at twice, a moment apart, so that
//! one capture can tell a running thread from a sleeping one; and each capture is compared with the one before of the
//! same run, which is what "no CPU used for 5 s" comes from. What could not be seen is listed with the reason, because
//! "no system call" and "not allowed to look" lead to opposite conclusions.
//!
//! Stacks and tasks are read by a [`witness`], a child that may die of it; then the kernel's view stands alone.

mod bundle;
mod phrase;
mod redact;
mod tail;
mod witness;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use horus_core::ids::{Generation, IncidentId, ProcessId, ServiceName};
use horus_core::observation::{CaptureStage, Finding};
use horus_core::plan::Secret;
use horus_core::time::Human;
use horus_sys::fact::{Fact, Missing};
use horus_sys::facts::{self, ProcessFacts, SocketFacts, ThreadFacts};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::limits::{CAPTURE_SOCKETS_MAX, CAPTURE_THREADS_MAX, CAPTURE_TIMEOUT, CAPTURES_MAX};
use crate::text::one_line;
use bundle::Bundle;
pub use bundle::Change;
use phrase::View;
use redact::Redactor;
use witness::Testimony;

/// The pause between the two looks at the threads.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// How many runs are remembered for comparison with the next capture.
const RUNS_REMEMBERED_MAX: usize = 4_096;

/// The longest line about a change.
const CHANGE_CHARACTERS_MAX: usize = 300;

/// What to capture, and for whom.
#[derive(Clone, Debug)]
pub struct CaptureRequest {
    /// The service.
    pub service: ServiceName,
    /// Which run of it.
    pub generation: Generation,
    /// Which of the captures.
    pub stage: CaptureStage,
    /// The incident that it belongs to.
    pub incident: Option<IncidentId>,
    /// The thread that is known to be stuck, if it is not the main one.
    pub thread: Option<i32>,
    /// What changed in the last minutes, the oldest first.
    pub changed: Vec<Change>,
    /// The service's current log file.
    pub log_path: PathBuf,
    /// Bytes of it that this run can have written, if another one may write behind them.
    pub log_end: Option<u64>,
    /// Values that must not appear in any log line of the bundle.
    pub redact: Vec<Secret>,
}

/// Makes captures and keeps their bundles.
#[derive(Debug)]
pub struct EvidenceRoom {
    directory: PathBuf,
    /// The program that reads stacks.
    witness: Option<PathBuf>,
    places: Arc<Semaphore>,
    /// The last look at each service's present run. Held only for the moment of an exchange.
    last: Mutex<BTreeMap<ServiceName, Stand>>,
}

/// How a process stood at a moment.
#[derive(Clone, Debug)]
struct Stand {
    process: ProcessId,
    place: Option<String>,
    cpu_ns: Option<u64>,
    /// The thread that the function is of, if it is not the main one's.
    thread: Option<i32>,
    /// The function that a witness named.
    function: Option<String>,
    /// What it does there, to be told when it does something else next time.
    doing: Option<String>,
    /// Since when neither place nor CPU time has changed.
    since: Instant,
    /// Since when the function has not changed either.
    function_since: Instant,
}

/// For how long nothing has moved, or what has.
#[derive(Clone, Debug, Default)]
struct Unmoved {
    /// Neither the place in the kernel nor the CPU time.
    place: Option<Duration>,
    /// Nor the function: the same line, after so long, without a nanosecond of CPU.
    function: Option<Duration>,
    /// Both functions, if it was in another one the last time.
    moved: Option<String>,
}

/// One look at the threads.
#[derive(Debug)]
struct Look {
    at: Instant,
    threads: Fact<Vec<ThreadFacts>>,
}

/// Everything that the kernel said.
#[derive(Debug)]
struct Seen {
    threads: Vec<ThreadFacts>,
    sockets: Vec<SocketFacts>,
    process: Fact<ProcessFacts>,
    busy_thousandths: Vec<u64>,
    left_out: usize,
    missing: Vec<String>,
    /// When the last look was taken.
    at: Instant,
}

impl EvidenceRoom {
    /// Bundles go into `directory`, which is made when the first one is written.
    pub fn new(directory: PathBuf) -> Arc<Self> {
        Arc::new(Self::in_directory(directory, None))
    }

    /// The same, with a program that is asked for stacks and tasks: `horus` itself, which knows `capture PID --json`.
    pub fn with_witness(directory: PathBuf, program: PathBuf) -> Arc<Self> {
        Arc::new(Self::in_directory(directory, Some(program)))
    }

    fn in_directory(directory: PathBuf, witness: Option<PathBuf>) -> Self {
        Self { directory, witness, places: Arc::new(Semaphore::new(CAPTURES_MAX)), last: Mutex::default() }
    }

    /// Looks at the process and writes a bundle. Never fails, never takes longer than
    /// [`CAPTURE_TIMEOUT`], never touches the process: what could not be seen or written is in
    /// [`Finding::missing`].
    pub async fn capture(self: &Arc<Self>, main: ProcessId, request: CaptureRequest) -> Finding {
        let until = Instant::now() + CAPTURE_TIMEOUT;
        match timeout_at(until, Arc::clone(self).capture_in_time(main, request)).await {
            Ok(finding) => finding,
            Err(_) => nothing(format!("no evidence: not done in {}", Human(CAPTURE_TIMEOUT))),
        }
    }

    async fn capture_in_time(self: Arc<Self>, main: ProcessId, request: CaptureRequest) -> Finding {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            return nothing("no evidence: Horus is shutting down".to_owned());
        };
        let first = tokio::task::spawn_blocking(move || look(main)).await;
        let gone = matches!(&first, Ok(Look { threads: Fact::Missing(Missing::Gone), .. }));
        let asked = self.witness.clone().filter(|_| !gone).map(|program| {
            let (redact, thread) = (request.redact.clone(), request.thread);
            tokio::task::spawn_blocking(move || witness::ask(&program, main, thread, &Redactor::new(&redact)))
        });
        if !gone {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        let told = match asked {
            Some(asked) => {
                Some(asked.await.unwrap_or_else(|_| Err("the asking failed inside Horus".to_owned())))
            }
            None => None,
        };
        // The place goes along: work that hangs keeps it, so that hanging work is bounded.
        let second = tokio::task::spawn_blocking(move || {
            let _place = place;
            let seen = see(main, first.ok(), request.thread, request.stage);
            self.conclude(main, request, seen, told)
        });
        second.await.unwrap_or_else(|_| nothing("no evidence: the capture failed inside Horus".to_owned()))
    }

    fn conclude(
        &self,
        main: ProcessId,
        request: CaptureRequest,
        mut seen: Seen,
        told: Option<Result<Testimony, String>>,
    ) -> Finding {
        let CaptureRequest {
            service,
            generation,
            stage,
            incident,
            thread,
            mut changed,
            log_path,
            log_end,
            redact,
        } = request;
        let thread = thread.filter(|thread| seen.threads.iter().any(|found| found.tid == *thread));
        let place = seen.threads.first().and_then(phrase::place);
        let cpu_ns = total_cpu_ns(&seen.threads);
        let told = heard(told, &mut seen);
        let function = told.as_ref().and_then(|told| told.place.clone());
        let doing = told.as_ref().and_then(Testimony::doing);
        let stand = Stand {
            process: main,
            place: place.clone(),
            cpu_ns,
            thread,
            function,
            doing,
            since: seen.at,
            function_since: seen.at,
        };
        let unmoved = self.compare(&service, stand, seen.at);
        let view = View {
            process: main,
            thread,
            facts: seen.process.as_known(),
            threads: &seen.threads,
            sockets: &seen.sockets,
            busy_thousandths: &seen.busy_thousandths,
            unmoved: unmoved.place,
            proven: unmoved.function,
            moved: unmoved.moved.as_deref(),
            told: told.as_ref().filter(|told| told.says_where()).map(|told| told.phrase.as_str()),
        };
        let phrase = phrase::phrase(&view);
        let stopped = phrase::stopped(&view);
        let redactor = Redactor::new(&redact);
        for change in &mut changed {
            change.what = one_line(&redactor.line(&change.what), CHANGE_CHARACTERS_MAX);
        }
        let last_lines = tail::last_lines(&log_path, log_end, &redactor).unwrap_or_else(|error| {
            seen.missing.push(format!("log lines: {}", Missing::from(&error)));
            Vec::new()
        });
        let mut bundle = Bundle {
            schema: bundle::SCHEMA,
            service,
            phrase,
            at: Timestamp::now(),
            stage,
            incident,
            generation,
            main,
            missing: seen.missing,
            thread,
            place,
            cpu_ns,
            process: seen.process,
            pressure: facts::pressure(),
            load: facts::load(),
            threads: seen.threads,
            sockets: seen.sockets,
            stacks: told,
            unmoved_ms: unmoved.function.and_then(|unmoved| u64::try_from(unmoved.as_millis()).ok()),
            moved: unmoved.moved,
            left_out: seen.left_out,
            changed,
            last_lines,
        };
        let written = bundle.write(&self.directory);
        if let Err(error) = &written {
            tracing::warn!(%error, "an evidence bundle could not be written");
            bundle.missing.push(format!("bundle: not written ({error})"));
        }
        if let Err(error) = bundle::keep_newest(&self.directory) {
            tracing::debug!(%error, "old evidence could not be removed");
        }
        let Bundle { phrase, missing, place, cpu_ns, last_lines, .. } = bundle;
        Finding { phrase, bundle: written.ok(), stopped, missing, place, cpu_ns, seen: None, last_lines }
    }

    /// For how long nothing has moved, or what has, if this is not the first look at this process.
    fn compare(&self, service: &ServiceName, mut stand: Stand, now: Instant) -> Unmoved {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.remove(service).filter(|before| before.process == stand.process);
        let mut unmoved = Unmoved::default();
        if let Some(mut before) = before {
            // Two threads are at two places, and neither has moved for that.
            if before.thread != stand.thread {
                (before.function, before.doing) = (None, None);
            }
            unmoved.moved = before.doing.as_ref().zip(stand.doing.as_ref()).and_then(|(one, other)| {
                // What could not be seen the one time or the other says nothing.
                (one != other).then(|| format!("{one} then {other}"))
            });
            let is_at_rest = before.place.is_some()
                && before.place == stand.place
                && before.cpu_ns.is_some()
                && before.cpu_ns == stand.cpu_ns;
            if is_at_rest {
                stand.since = before.since;
                unmoved.place = Some(now.saturating_duration_since(before.since));
                if before.function.is_some() && before.function == stand.function {
                    stand.function_since = before.function_since;
                    unmoved.function = Some(now.saturating_duration_since(before.function_since));
                }
            }
        }
        if last.len() < RUNS_REMEMBERED_MAX {
            last.insert(service.clone(), stand);
        }
        unmoved
    }
}

/// Takes what a witness did not see, or why it said nothing, over into what is missing.
fn heard(told: Option<Result<Testimony, String>>, seen: &mut Seen) -> Option<Testimony> {
    match told? {
        Ok(mut testimony) => {
            for reason in std::mem::take(&mut testimony.missing) {
                if !seen.missing.contains(&reason) {
                    seen.missing.push(reason);
                }
            }
            Some(testimony)
        }
        Err(why) => {
            seen.missing.push(format!("stacks: {why}"));
            None
        }
    }
}

fn nothing(missing: String) -> Finding {
    let missing = vec![missing];
    Finding { missing, ..Finding::default() }
}

/// Is it still this very process?
fn is_same(main: ProcessId) -> bool {
    matches!(horus_sys::process::identify(main.pid), Ok(Some(now)) if now.start_time == main.start_time)
}

fn look(main: ProcessId) -> Look {
    let threads = if is_same(main) { facts::threads(main.pid) } else { Fact::Missing(Missing::Gone) };
    Look { at: Instant::now(), threads }
}

fn see(main: ProcessId, first: Option<Look>, thread: Option<i32>, stage: CaptureStage) -> Seen {
    let second = look(main);
    let process = facts::process(main.pid);
    let sockets = facts::sockets(main.pid);
    if !is_same(main) || second.threads == Fact::Missing(Missing::Gone) {
        // After an exit nobody expects more than the log.
        let missing =
            if stage == CaptureStage::Exit { vec![] } else { vec!["process: not there any more".to_owned()] };
        return Seen {
            threads: Vec::new(),
            sockets: Vec::new(),
            process: Fact::Missing(Missing::Gone),
            busy_thousandths: Vec::new(),
            left_out: 0,
            missing,
            at: second.at,
        };
    }
    let missing = list_missing(&second.threads, &sockets, &process);
    let mut threads = second.threads.known().unwrap_or_default();
    let mut sockets = sockets.known().unwrap_or_default();
    let asked = threads.iter().position(|found| Some(found.tid) == thread);
    // Those behind are left out first.
    if let Some(from_second) =
        asked.filter(|position| *position > 0).and_then(|position| threads.get_mut(1..=position))
    {
        from_second.rotate_right(1);
    }
    let busy_thousandths = first.map(|first| busy(first, &threads, second.at)).unwrap_or_default();
    let left_out =
        threads.len().saturating_sub(CAPTURE_THREADS_MAX) + sockets.len().saturating_sub(CAPTURE_SOCKETS_MAX);
    threads.truncate(CAPTURE_THREADS_MAX);
    sockets.truncate(CAPTURE_SOCKETS_MAX);
    Seen { threads, sockets, process, busy_thousandths, left_out, missing, at: second.at }
}

/// How much of one CPU each thread used between two looks, in thousandths.
fn busy(first: Look, threads: &[ThreadFacts], now: Instant) -> Vec<u64> {
    let between_ns = u64::try_from(now.saturating_duration_since(first.at).as_nanos()).unwrap_or(u64::MAX);
    let before: BTreeMap<i32, u64> = first
        .threads
        .known()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|thread| Some((thread.tid, thread.cpu_ns.known()?)))
        .collect();
    let used = |thread: &ThreadFacts| {
        let used_ns = thread.cpu_ns.as_known()?.saturating_sub(*before.get(&thread.tid)?);
        // The two readings are not quite as far apart for every thread: never more than a whole CPU.
        Some((used_ns.saturating_mul(1_000) / between_ns.max(1)).min(1_000))
    };
    threads.iter().map(|thread| used(thread).unwrap_or_default()).collect()
}

/// CPU time of all threads that live. `None` if one of them could not be read, or there may be more than are told: a part is no
/// sum, and would prove a rest that nobody saw.
fn total_cpu_ns(threads: &[ThreadFacts]) -> Option<u64> {
    if threads.is_empty() || threads.len() >= CAPTURE_THREADS_MAX.min(facts::MAX_THREADS) {
        return None;
    }
    threads.iter().try_fold(0_u64, |sum, thread| sum.checked_add(*thread.cpu_ns.as_known()?))
}

fn list_missing(
    threads: &Fact<Vec<ThreadFacts>>,
    sockets: &Fact<Vec<SocketFacts>>,
    process: &Fact<ProcessFacts>,
) -> Vec<String> {
    let mut all = Vec::new();
    let mut note = |what: &str, why: Option<&Missing>| {
        if let Some(why) = why {
            let why = if *why == Missing::Denied { "permission".to_owned() } else { why.to_string() };
            all.push(format!("{what}: {why}"));
        }
    };
    note("threads", why(threads));
    if let Some(main) = threads.as_known().and_then(|threads| threads.first()) {
        note("system calls", why(&main.system_call));
        note("wait channels", why(&main.wait_channel));
        note("CPU time", why(&main.cpu_ns));
    }
    note("sockets", why(sockets));
    note("process", why(process));
    all
}

fn why<T>(fact: &Fact<T>) -> Option<&Missing> {
    match fact {
        Fact::Known(_) => None,
        Fact::Missing(why) => Some(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_a_part_of_the_threads_is_no_sum() {
        let thread = |tid| ThreadFacts {
            tid,
            name: "bot".into(),
            state: 'S',
            wait_channel: Fact::Known(String::new()),
            system_call: Fact::Known(None),
            cpu_ns: Fact::Known(2),
            runqueue_wait_ns: Fact::Known(0),
        };
        let threads = |count: usize| -> Vec<ThreadFacts> { (1..).take(count).map(thread).collect() };
        assert_eq!(total_cpu_ns(&threads(0)), None);
        assert_eq!(total_cpu_ns(&threads(3)), Some(6));
        assert_eq!(total_cpu_ns(&threads(CAPTURE_THREADS_MAX)), None, "there may be more");
        let mut hidden = threads(3);
        hidden[1].cpu_ns = Fact::Missing(Missing::Denied);
        assert_eq!(total_cpu_ns(&hidden), None);
    }
    #[tokio::test]
    async fn two_looks_at_one_run_prove_a_rest_or_tell_what_moved() {
        let room = EvidenceRoom::in_directory(PathBuf::new(), None);
        let service = ServiceName::parse("bot").unwrap();
        let began = Instant::now();
        let look_at = |thread, pid, after_s, cpu_ns, function: Option<&str>, doing: Option<&str>| {
            let now = began + Duration::from_secs(after_s);
            let stand = Stand {
                process: ProcessId { pid, start_time: 1 },
                place: Some("recvfrom(5)".into()),
                cpu_ns: Some(cpu_ns),
                thread,
                function: function.map(str::to_owned),
                doing: doing.or(function).map(str::to_owned),
                since: now,
                function_since: now,
            };
            let Unmoved { place, function, moved } = room.compare(&service, stand, now);
            let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
            (seconds(place), seconds(function), moved)
        };
        let look =
            |pid, after_s, cpu_ns, function, doing| look_at(None, pid, after_s, cpu_ns, function, doing);
        let (order, fetch) = (Some("place_order (bot.py:98)"), Some("fetch (bot.py:120)"));
        assert_eq!(look(7, 0, 100, order, None), (None, None, None), "the first look proves nothing");
        assert_eq!(look(7, 4, 100, order, None), (Some(4), Some(4), None));
        assert_eq!(look(7, 8, 100, order, None), (Some(8), Some(8), None));
        let moved = Some("place_order (bot.py:98) then fetch (bot.py:120)".to_owned());
        assert_eq!(look(7, 9, 150, fetch, None), (None, None, moved));
        let home = Some("fetch (bot.py:120) then its wait for events".to_owned());
        assert_eq!(look(7, 10, 151, None, Some("its wait for events")), (None, None, home));
        assert_eq!(look(7, 11, 151, None, None), (Some(1), None, None), "no witness, no proof by it");
        assert_eq!(look(8, 12, 151, order, None), (None, None, None), "another run");
        assert_eq!(
            look_at(Some(9), 8, 13, 152, fetch, None),
            (None, None, None),
            "another thread has not moved"
        );
        assert_eq!(look_at(Some(9), 8, 15, 152, fetch, None), (Some(2), Some(2), None));
    }
}
