//! Every story's text. One arm or function per story: this file is the whole voice of Horus.

use std::time::Duration;

use horus_core::notice::{IncidentKind, Notice, StormMember, Story};
use horus_core::plan::Severity;
use horus_core::time::Human;
use horus_core::verdict::Verdict;

use super::Colour;
use crate::text::clean;

/// A quote (last line of output, error, evidence) is cut to so many units.
const QUOTE_MAX: usize = 240;

/// A word that stands in the first line (a counter's name) is cut to so many units.
const WORD_MAX: usize = 24;

/// A name in the details is cut to so many units.
const NAME_MAX: usize = 80;

/// How an incident ended is cut to so many units.
const OUTCOME_MAX: usize = 48;

/// So many services are named in one message.
const NAMES_MAX: usize = 8;

/// So many pieces of evidence are told, the newest ones.
const PLACES_MAX: usize = 5;

const NOTHING: &str = "Nothing to do.";
const LOOK: &str = "Please look.";
const NO_RESTART: &str = "I did not restart it: a restart does not cure this.";

/// The parts of a message that depend on the story.
pub(super) struct Telling {
    pub(super) emoji: &'static str,
    /// Follows the subject, with its own separator: " is stuck", ": over".
    pub(super) fact: String,
    /// What is asked of the reader, unless the notice needs somebody.
    pub(super) ask: &'static str,
    pub(super) details: Vec<String>,
    pub(super) colour: Colour,
    /// Stands in the title behind the kind.
    pub(super) outcome: Option<&'static str>,
}

impl Telling {
    fn new(emoji: &'static str, fact: impl Into<String>, ask: &'static str, details: Vec<String>) -> Self {
        Self { emoji, fact: fact.into(), ask, details, colour: Colour::Amber, outcome: None }
    }

    fn good(self, outcome: &'static str) -> Self {
        Self { colour: Colour::Green, outcome: Some(outcome), ..self }
    }
}

/// What an incident of this kind is called in a title.
pub(super) fn kind_words(kind: IncidentKind) -> &'static str {
    match kind {
        IncidentKind::Stuck => "stuck",
        IncidentKind::Exit => "ended by itself",
        IncidentKind::CrashLoop => "keeps crashing",
        IncidentKind::SameAge => "ends at the same age",
        IncidentKind::StartFailed => "does not start",
        IncidentKind::StartOverdue => "start not done",
        IncidentKind::ProbePath => "cannot be asked",
        IncidentKind::Valueless => "produces nothing",
        IncidentKind::FunnelBlocked => "work does not get through",
        IncidentKind::WillNotDie => "does not end",
        IncidentKind::MonitorDown => "down",
        IncidentKind::Store => "records not written",
        IncidentKind::SinkDead => "alerts not delivered",
        IncidentKind::Halted => "stopped itself",
        IncidentKind::Expectation => "too little to work on",
        IncidentKind::CommonCause => "trouble in many places",
        IncidentKind::RunOverdue => "job not finished",
        IncidentKind::RunMissed => "job not started",
        IncidentKind::Demoted => "restarts switched off",
        IncidentKind::Recurrence => "stalls every day",
        IncidentKind::KernelView => "seen from outside",
        IncidentKind::Storm => "several at once",
    }
}

/// Tells the story.
pub(super) fn tell(notice: &Notice, host: &str) -> Telling {
    let telling = told(notice, host);
    let bad = telling.colour == Colour::Amber && (notice.needs_you || notice.severity == Severity::Critical);
    if bad { Telling { colour: Colour::Red, ..telling } } else { telling }
}

fn told(notice: &Notice, host: &str) -> Telling {
    let subject = notice.subject.as_str();
    match &notice.story {
        Story::StuckRestarting { stuck_for, how, place, kill, limit } => Telling::new(
            "🟠",
            format!(" has been stuck for {}; I am restarting it now.", Human(*stuck_for)),
            "Nothing to do yet.",
            vec![
                stuck(*stuck_for, how),
                hanging("It hangs in", place.as_deref()),
                format!("Restart {kill} of {limit} without a lasting cure; after that I stop and ask you."),
            ],
        ),
        Story::StuckObserved { because, stuck_for, how, place } => Telling::new(
            "👀",
            format!(" has been stuck for {}; I leave it alone.", Human(*stuck_for)),
            LOOK,
            vec![
                stuck(*stuck_for, how),
                hanging("It hangs in", place.as_deref()),
                format!("{because} I would have restarted it, and did nothing."),
            ],
        ),
        Story::StuckHealed { stuck_for, down_for, how, place } => Telling::new(
            "✅",
            " was stuck, I restarted it, working again.",
            NOTHING,
            vec![
                stuck(*stuck_for, how),
                hanging("It hung in", place.as_deref()),
                format!(
                    "{} from the first sign to the first proof of work after the restart.",
                    Human(*down_for)
                ),
            ],
        )
        .good("healed"),
        Story::CameBack { away_for } => Telling::new(
            "✅",
            format!(" was silent for {} and came back by itself.", Human(*away_for)),
            NOTHING,
            vec!["I did nothing to it. Cause unknown.".into()],
        )
        .good("came back"),
        Story::BreakerOpen { kills, how, places, retry } => {
            breaker_open(subject, *kills, how, places, *retry)
        }
        Story::ExitHealed { exit, lifetime, down_for, last_line } => {
            exit_healed(exit, *lifetime, *down_for, last_line.as_deref())
        }
        Story::ExitStaysDown { exit, lifetime, last_line } => {
            exit_stays_down(subject, exit, *lifetime, last_line.as_deref())
        }
        Story::CrashLoop { exits, within, exit, next_in, last_line } => {
            crash_loop(*exits, *within, exit, *next_in, last_line.as_deref())
        }
        Story::SameAge { deaths, every, exit } => same_age(*deaths, *every, exit),
        Story::StartFailed { error, next_in } => start_failed(error, *next_in),
        Story::StartOverdue { waited, heard } => start_overdue(*waited, heard),
        Story::ProbePath { since, heard } => probe_path(*since, heard),
        Story::KernelView { verdict, lasted, seen, place, because } => {
            kernel_view(*verdict, *lasted, seen, place.as_deref(), because)
        }
        Story::Valueless { value, counter, since, bound } => valueless(value, counter, *since, *bound),
        Story::FunnelBlocked { funnel, from, moved, to } => funnel_blocked(funnel, from, *moved, to),
        Story::WillNotDie { waited, detail } => will_not_die(*waited, detail),
        Story::MonitorDown { since, heard } => monitor_down(*since, heard),
        Story::Halted => halted(subject),
        Story::StoreTrouble { fault } => store_trouble(fault),
        Story::SinkDead { sink, fault } => sink_dead(sink, fault),
        Story::Over { lasted, how } => over(*lasted, how),
        Story::Test => test(host),
        Story::NothingToWorkOn { gauge, is, min, since } => nothing_to_work_on(gauge, *is, *min, *since),
        Story::CommonCause { what, services, of } => common_cause(what, services, *of),
        Story::Storm { members, more } => storm(members, *more, notice.needs_you),
        Story::RunOverdue { running, finish, skipped, doing, step } => {
            run_overdue(*running, *finish, *skipped, doing.as_deref(), step.as_deref())
        }
        Story::RunMissed { missed, because, catches_up } => run_missed(*missed, because, *catches_up),
        Story::Recurs { days, lasted } => recurs(*days, *lasted),
        Story::Demoted { detector, right, wrong } => demoted(subject, detector, *right, *wrong),
    }
}

fn breaker_open(subject: &str, kills: u32, how: &str, places: &[String], retry: Option<Duration>) -> Telling {
    let mut details = vec![
        format!("{} did not help. The last time: {}", times(kills, "restart"), sentence(how)),
        match retry {
            Some(retry) => format!("It is left as it is. I try once more in {}.", Human(retry)),
            None => "It is left as it is. I do not try again.".into(),
        },
    ];
    let skipped = places.len().saturating_sub(PLACES_MAX);
    for (number, place) in places.iter().enumerate().skip(skipped) {
        details.push(quote(&format!("Before restart {} it hung in", number + 1), Some(place)));
    }
    details.push(format!("When you have looked: horus resume {subject}"));
    let telling = Telling::new("🛑", " gets stuck again and again. I stopped restarting it.", LOOK, details);
    Telling { outcome: Some("restarts do not help"), ..telling }
}

fn exit_healed(exit: &str, lifetime: Duration, down_for: Duration, last_line: Option<&str>) -> Telling {
    let details = vec![
        ended(exit, lifetime),
        quote("Its last line", last_line),
        format!("{} from its end to the first proof of work.", Human(down_for)),
    ];
    Telling::new("✅", " ended by itself, I started it again, working again.", NOTHING, details)
        .good("healed")
}

fn exit_stays_down(subject: &str, exit: &str, lifetime: Duration, last_line: Option<&str>) -> Telling {
    let details = vec![
        ended(exit, lifetime),
        quote("Its last line", last_line),
        format!("To start it: horus start {subject}"),
    ];
    Telling::new("🛑", " ended by itself and stays down, as its settings say.", LOOK, details)
}

fn crash_loop(
    exits: u32,
    within: Duration,
    exit: &str,
    next_in: Duration,
    last_line: Option<&str>,
) -> Telling {
    let details = vec![
        format!("The last one: {}", sentence(exit)),
        quote("Its last line", last_line),
        if next_in.is_zero() {
            // A unit that is only watched.
            "What started it starts it again each time; I do not.".to_owned()
        } else {
            format!("I try again {}, then ever more slowly.", soon(next_in))
        },
    ];
    let fact = format!(" keeps crashing: {} in {}.", times(exits, "time"), Human(within));
    Telling::new("🛑", fact, LOOK, details)
}

fn same_age(deaths: u32, every: Duration, exit: &str) -> Telling {
    let details = vec![
        format!("{} in a row at the same age, {} after the start.", times(deaths, "end"), Human(every)),
        format!("The last one: {}", sentence(exit)),
        "I did not end it. Look for a timer, a cron job, a memory limit or another watchdog.".into(),
    ];
    let fact = format!(" ends every {}. Something seems to stop it on a schedule.", Human(every));
    Telling::new("🔁", fact, LOOK, details)
}

fn soon(wait: Duration) -> String {
    if wait.is_zero() { "at once".into() } else { format!("in {}", Human(wait)) }
}

fn start_failed(error: &str, next_in: Option<Duration>) -> Telling {
    let fact = match next_in {
        Some(next) => format!(" could not be started. I try again {}.", soon(next)),
        None => " could not be started. I do not try again.".into(),
    };
    let details = vec![quote("What failed", Some(error)), "The program itself did not run.".into()];
    Telling::new("🛑", fact, LOOK, details)
}

fn start_overdue(waited: Duration, heard: &str) -> Telling {
    let details = vec![
        quote("Instead of a sign of life I hear", Some(heard)),
        "I do not restart it for that: what never answered may be asked at the wrong place.".into(),
    ];
    let fact = format!(" is not ready after {}, or I ask it wrongly.", Human(waited));
    Telling::new("🟡", fact, LOOK, details)
}

fn probe_path(since: Duration, heard: &str) -> Telling {
    let details = vec![
        quote("When I ask it, I hear", Some(heard)),
        "I do not restart it for that: nothing is known about the program itself.".into(),
    ];
    let fact = format!(" has not been reachable for {}. It may well be working.", Human(since));
    Telling::new("🟡", fact, LOOK, details)
}

fn kernel_view(
    verdict: Verdict,
    lasted: Duration,
    seen: &str,
    place: Option<&str>,
    because: &str,
) -> Telling {
    let what = match verdict {
        Verdict::Spinning => "has burnt CPU without a pause",
        Verdict::Undrained => "has taken no work",
        Verdict::Stopped => "has been stopped by somebody",
        Verdict::Paused => "has been frozen by somebody",
        Verdict::Uninterruptible => "has been waiting in the kernel",
        Verdict::Thrashing => "has been waiting for its memory",
        _ => "has been stuck",
    };
    let details = vec![
        quote("The kernel shows", Some(seen)),
        quote("Where", place),
        format!("I leave it alone: {}", sentence(because)),
    ];
    Telling::new("🟡", format!(" {what} for {}.", Human(lasted)), LOOK, details)
}

fn valueless(value: &str, counter: &str, since: Duration, bound: Duration) -> Telling {
    let (since, bound) = (Human(since), Human(bound));
    let details = vec![
        format!("{} last went up {since} ago; more than {bound} is too long.", clean(counter, NAME_MAX)),
        NO_RESTART.into(),
    ];
    let fact = format!(" runs but has produced no {} for {since}.", clean(value, WORD_MAX));
    Telling::new("🟡", fact, LOOK, details)
}

fn funnel_blocked(funnel: &str, from: &str, moved: u64, to: &str) -> Telling {
    let [funnel, from, stage] = [funnel, from, to].map(|name| clean(name, NAME_MAX));
    let details =
        vec![format!("{funnel}: {from} went up by {moved}, {stage} did not move at all."), NO_RESTART.into()];
    let fact = format!(" runs, but its work stops before {}.", clean(to, WORD_MAX));
    Telling::new("🟡", fact, LOOK, details)
}

fn will_not_die(waited: Duration, detail: &str) -> Telling {
    let details = vec![
        format!("Still there {} after it was ended by force.", Human(waited)),
        quote("The system says", Some(detail)),
        "Often a disk or network drive that does not answer. If it stays so, restart the machine.".into(),
    ];
    Telling::new("🛑", " does not end, not even by force. I start no second one beside it.", LOOK, details)
}

fn monitor_down(since: Duration, heard: &str) -> Telling {
    let details = vec![
        quote("When I ask it, I hear", Some(heard)),
        "I only watch it and did not start it, so I do not start it again.".into(),
    ];
    Telling::new("🔴", format!(" has been down for {}.", Human(since)), LOOK, details)
}

fn halted(subject: &str) -> Telling {
    let details = vec![
        "It said so itself (state \"halted\"). A stop of its own is never undone by me.".into(),
        format!("When it may work again: horus restart {subject}"),
    ];
    Telling::new("⏹️", " stopped itself on purpose. I leave it so.", LOOK, details)
}

fn store_trouble(fault: &str) -> Telling {
    let details = vec![
        quote("The system says", Some(fault)),
        "Until that is cured, history is not kept, and alerts that wait are lost if horus ends.".into(),
    ];
    Telling::new("🛑", " cannot write its records. It goes on watching and healing.", LOOK, details)
}

fn sink_dead(sink: &str, fault: &str) -> Telling {
    let details = vec![
        quote("It said", Some(fault)),
        format!("When its URL is right again: horus alerts test {}", clean(sink, NAME_MAX)),
    ];
    let fact = format!(" cannot bring alerts to {} any more.", clean(sink, WORD_MAX));
    Telling::new("🔕", fact, LOOK, details)
}

fn over(lasted: Duration, how: &str) -> Telling {
    let fact = format!(": over after {}: {}", Human(lasted), sentence(&clean(how, OUTCOME_MAX)));
    let details = vec![format!("From the first sign to the end: {}.", Human(lasted))];
    Telling::new("✅", fact, NOTHING, details).good("over")
}

fn test(host: &str) -> Telling {
    let fact = format!(": this is a test, alerts from {} arrive here.", clean(host, WORD_MAX));
    let telling = Telling::new("🔔", fact, NOTHING, vec!["Sent by: horus alerts test".into()]);
    Telling { outcome: Some("test"), colour: Colour::Grey, ..telling }
}

fn nothing_to_work_on(gauge: &str, is: Option<f64>, min: f64, since: Duration) -> Telling {
    let shows = match is {
        Some(is) => format!("{} is {}", clean(gauge, NAME_MAX), number(is)),
        None => format!("{} was never heard", clean(gauge, NAME_MAX)),
    };
    let details = vec![format!("{shows}; at least {} is right.", number(min)), NO_RESTART.into()];
    let has = is.map_or_else(|| "no".to_owned(), number);
    let fact = format!(" has had too little to do for {} ({has} {}).", Human(since), clean(gauge, WORD_MAX));
    Telling::new("🟡", fact, LOOK, details)
}

fn common_cause(what: &str, services: &[String], of: u32) -> Telling {
    let named: Vec<_> = services.iter().take(NAMES_MAX).map(|name| clean(name, WORD_MAX)).collect();
    let more = match services.len().saturating_sub(named.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let troubled = format!("{}{more}", named.join(", "));
    let details = vec![
        quote("What I saw", Some(what)),
        quote("In trouble", Some(&troubled)),
        "One common cause is likelier than that many at once: this machine, its network, or I.".into(),
        "When it has passed I look anew, and restart one at a time. Until then a real fault waits.".into(),
    ];
    let fact = match services.len() {
        0 | 1 => " restarts nothing for now: this machine itself seems to be in trouble.".into(),
        red => format!(" restarts nothing for now: {red} of {of} services are in trouble at once."),
    };
    Telling::new("⚠️", fact, LOOK, details)
}

fn storm(members: &[StormMember], more: u32, needs_you: bool) -> Telling {
    let ill: Vec<_> = members.iter().filter(|member| !member.over).collect();
    let count = ill.len() + more as usize;
    let well = members.len() - ill.len();
    let mut details: Vec<String> = ill
        .iter()
        .take(NAMES_MAX)
        .map(|member| {
            let help = if member.needs_you { "; needs you" } else { "" };
            let what = format!("{}: {}{help}", clean(&member.subject, WORD_MAX), kind_words(member.kind));
            if member.because.is_empty() { what } else { quote(&what, Some(&member.because)) }
        })
        .collect();
    match count.saturating_sub(details.len()) {
        0 => {}
        more => details.push(format!("And {more} more: horus incidents")),
    }
    if well > 0 {
        details.push(format!("Well again: {well}."));
    }
    details.push("They began at about the same time; this message is for all of them.".into());
    let fact = match count {
        0 => ": those that were in trouble are well again.".into(),
        1 => ": 1 service is in trouble, of several at once.".into(),
        count => format!(" has {count} services in trouble at once."),
    };
    Telling::new(if needs_you { "🛑" } else { "🔴" }, fact, LOOK, details)
}

fn run_overdue(
    running: Duration,
    finish: Duration,
    skipped: u32,
    doing: Option<&str>,
    step: Option<&str>,
) -> Telling {
    let meanwhile = match skipped {
        0 => String::new(),
        1 => "1 later run was not started, because this one still runs.".into(),
        more => format!("{more} later runs were not started, because this one still runs."),
    };
    let details = vec![
        doing.map(|doing| format!("It {doing}.")).unwrap_or_default(),
        meanwhile,
        "I let it run: it may be stuck, or just need longer than it was given.".into(),
    ];
    let (running, finish) = (Human(running), Human(finish));
    let fact = step.map_or_else(
        || format!(" still runs after {running}; it had {finish} to finish."),
        |step| format!(" is still in its step `{step}` after {running}; it had {finish} for it."),
    );
    Telling::new("⏰", fact, LOOK, details)
}

fn run_missed(missed: u32, because: &str, catches_up: bool) -> Telling {
    let (fact, next) = if catches_up {
        (" was not started at its time. I make up for it now.", "It is made up for once, now.")
    } else {
        (" was not started at its time. It waits for its next time.", "It is not made up for.")
    };
    let details = vec![
        format!("It was due {} and not started: {}", times(missed, "time"), sentence(because)),
        next.into(),
    ];
    Telling::new("⏰", fact, LOOK, details)
}

fn recurs(days: u64, lasted: Duration) -> Telling {
    let details = vec![
        "It came back by itself each time, so I did nothing to it.".into(),
        "Look for what happens at that time of day: a backup, a report, a cron job, a busy neighbour.".into(),
    ];
    let fact = format!(" stalls every day at this time: {days} days in a row, now for {}.", Human(lasted));
    Telling::new("🔁", fact, LOOK, details)
}

fn demoted(subject: &str, detector: &str, right: u32, wrong: u32) -> Telling {
    let restarts = right.saturating_add(wrong);
    let details = vec![
        format!(
            "Of {} for this reason, {right} brought a service back for good.",
            times(restarts, "restart")
        ),
        "From now on I only tell you of it. Is the deadline too short, or is the wrong thing asked?".into(),
    ];
    let seems = clean(detector, WORD_MAX);
    let helped = format!("that helped {right} of {}", times(restarts, "time"));
    let fact = match subject {
        "horus" => format!(" no longer restarts what seems {seems}: {helped}."),
        _ => format!(" is no longer restarted for seeming {seems}: {helped}."),
    };
    Telling::new("👀", fact, LOOK, details)
}

/// A quantity as a program gave it: whole numbers without a point, never longer than a word.
fn number(value: f64) -> String {
    clean(&value.to_string(), WORD_MAX)
}

fn stuck(stuck_for: Duration, how: &str) -> String {
    format!("No sign of work for {}: {}", Human(stuck_for), sentence(how))
}

fn hanging(words: &str, place: Option<&str>) -> String {
    match place.map(|place| clean(place, QUOTE_MAX)).filter(|place| !place.is_empty()) {
        Some(place) => format!("{words}: {place}"),
        None => "Where it hangs and why: unknown.".into(),
    }
}

fn ended(exit: &str, lifetime: Duration) -> String {
    format!("It ended {} after its start: {}", Human(lifetime), sentence(exit))
}

/// `words: text`, or nothing if there is no text.
fn quote(words: &str, text: Option<&str>) -> String {
    match text.map(|text| clean(text, QUOTE_MAX)).filter(|text| !text.is_empty()) {
        Some(text) => format!("{words}: {text}"),
        None => String::new(),
    }
}

/// The text with a full stop, unless it has an end already.
fn sentence(text: &str) -> String {
    let text = clean(text, QUOTE_MAX);
    match text.chars().last() {
        None => "unknown.".into(),
        Some('.' | '!' | '?' | '…') => text,
        Some(_) => format!("{text}."),
    }
}

fn times(count: u32, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
