//! `horus status`: everything in the time of one glance, worst first.

use horus_core::plan::Mode;
use horus_core::status::{MonitorStatus, ServiceStatus, StatusReport};
use horus_core::verdict::Verdict;

use super::style::{Paint, Style};
use super::text::{Cell, Table, brief, clean, columns, count, wrap};

/// Space between two columns, where there is enough; one where there is less.
const GAPS: [usize; 2] = [2, 1];

/// How much a verdict needs a person. The order is that of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// It does not do its work.
    Bad,
    /// Something is not as it should be.
    Look,
    /// Not running, or not yet, for a known reason.
    Quiet,
    /// Well.
    Fine,
}

impl Urgency {
    /// How much this service needs a person.
    pub(crate) fn of(service: &ServiceStatus) -> Self {
        let verdict = match service.verdict {
            // A program without any beat is judged by its process alone, and that lives: `horus check` warns of it.
            Verdict::Unknown if service.pid.is_some() && service.beats.is_empty() => Self::Quiet,
            Verdict::Silent
            | Verdict::Lying
            | Verdict::Blocked
            | Verdict::Spinning
            | Verdict::Uninterruptible
            | Verdict::WorkStalled
            | Verdict::CrashLooping => Self::Bad,
            Verdict::Valueless
            | Verdict::ProbePath
            | Verdict::Slow
            | Verdict::Starved
            | Verdict::Undrained
            | Verdict::Stopped
            | Verdict::Paused
            | Verdict::Thrashing
            | Verdict::Unknown
            | Verdict::Halted => Self::Look,
            Verdict::Held | Verdict::Down | Verdict::Starting | Verdict::Stopping => Self::Quiet,
            Verdict::Busy | Verdict::Idle | Verdict::Healthy => Self::Fine,
        };
        if service.breaker_open {
            return Self::Bad;
        }
        if service.incidents.is_empty() { verdict } else { verdict.min(Self::Look) }
    }

    /// The mark before the name: readable without colour.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::Bad => "!!",
            Self::Look => "!",
            Self::Quiet => "-",
            Self::Fine => "ok",
        }
    }

    /// Its colour.
    pub(crate) fn paint(self) -> Paint {
        match self {
            Self::Bad => Paint::Bad,
            Self::Look => Paint::Look,
            Self::Quiet => Paint::Quiet,
            Self::Fine => Paint::Good,
        }
    }
}

/// The whole report, in at most `width` columns.
pub(crate) fn render_status(report: &StatusReport, width: usize, style: Style) -> String {
    let mut services: Vec<&ServiceStatus> = report.services.iter().collect();
    services.sort_by_key(|service| (Urgency::of(service), service.name.as_str()));
    let mut out = wrap(&headline(report), "", width);
    out += &troubles(report, width, style);
    if !services.is_empty() {
        let table = service_table(&services, width);
        out.push('\n');
        out += &match GAPS.iter().find(|&&gap| table.width(gap) <= width) {
            Some(&gap) => table.render(gap, style),
            None => services.iter().map(|service| stacked(service, width, style)).collect(),
        };
    }
    if !report.monitors.is_empty() {
        out.push('\n');
        out += &monitor_lines(&report.monitors, width, style);
    }
    out
}

/// "3 services, 2 healthy, 1 silent; observe mode"
fn headline(report: &StatusReport) -> String {
    let mut line = count(report.services.len(), "service");
    let mut verdicts: Vec<(Verdict, usize)> = Vec::new();
    for service in &report.services {
        match verdicts.iter_mut().find(|(verdict, _)| *verdict == service.verdict) {
            Some((_, number)) => *number += 1,
            None => verdicts.push((service.verdict, 1)),
        }
    }
    verdicts.sort_by_key(|(verdict, number)| (std::cmp::Reverse(*number), *verdict));
    for (verdict, number) in verdicts {
        line += &format!(", {number} {}", verdict.word());
    }
    if !report.monitors.is_empty() {
        let down = report.monitors.iter().filter(|monitor| monitor.up == Some(false)).count();
        line += &format!("; {}", count(report.monitors.len(), "monitor"));
        line += &if down == 0 { String::new() } else { format!(", {down} down") };
    }
    let incidents: usize = report.services.iter().map(|service| service.incidents.len()).sum();
    if incidents > 0 {
        line += &format!("; {}", count(incidents, "open incident"));
    }
    match report.mode {
        Mode::Observe => line += "; observe mode",
        Mode::Enforce => {}
    }
    line
}

/// What is wrong with Horus itself.
fn troubles(report: &StatusReport, width: usize, style: Style) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        let text = wrap(&clean(&text), "!! horus: ", width);
        out += &text.lines().map(|line| style.paint(Paint::Bad, line) + "\n").collect::<String>();
    };
    if let Some(fault) = &report.store_fault {
        line(format!("the state directory takes no writes: {fault}"));
    }
    for sink in &report.dead_sinks {
        line(format!("sink {} takes no messages: {}", sink.name, sink.fault));
    }
    out
}

fn service_table(services: &[&ServiceStatus], width: usize) -> Table {
    let mut table = Table::default();
    let heads =
        ["", "NAME", "VERDICT", "PID", "UP", "PROCESS", "LOOP", "PROGRESS", "VALUE", "KILLS", "EXITS"];
    table.row(heads.iter().map(|head| Cell::new(head, Paint::Dim)).collect(), String::new());
    for service in services {
        let urgency = Urgency::of(service);
        let plain = |text: String| Cell::new(text, Paint::Plain);
        let axis = |word: &str| Cell::new(if word == "unknown" { "?" } else { word }, Paint::Plain);
        let cells = vec![
            Cell::new(urgency.mark(), urgency.paint()),
            Cell::new(service.name.as_str(), Paint::Head),
            Cell::new(service.verdict.word(), urgency.paint()),
            plain(service.pid.map_or_else(|| "-".into(), |pid| pid.to_string())),
            plain(service.up_for_ms.map_or_else(|| "-".into(), brief)),
            axis(service.process.is.word()),
            axis(service.loop_axis.is.word()),
            axis(service.progress.is.word()),
            axis(service.value.is.word()),
            plain(format!("{}/{}", service.kills_unproven, service.kills_limit)),
            plain(service.exits_recent.to_string()),
        ];
        table.row(cells, reasons(service, width));
    }
    table
}

/// Why it is not well; nothing for those that are.
fn reasons(service: &ServiceStatus, width: usize) -> String {
    let mut out = String::new();
    let mut line = |text: &str| out += &wrap(&clean(text), "     ", width);
    if Urgency::of(service) != Urgency::Fine {
        line(&service.because);
    }
    if service.breaker_open {
        line(&format!(
            "breaker open: restarts did not cure it; when you have: horus resume {}",
            service.name
        ));
    }
    if let Some(hold) = &service.hold {
        let left =
            hold.left_ms.map_or_else(|| "until resumed".into(), |left| format!("{} left", brief(left)));
        line(&format!("held for {}, {left}: {}", brief(hold.for_ms), hold.reason));
    }
    // The engine's own sentence usually says it.
    let says_it = ["next start", "next in"].iter().any(|words| service.because.contains(words));
    if let Some(next) = service.next_start_in_ms.filter(|_| !says_it) {
        line(&format!("next start in {}", brief(next)));
    }
    if !service.incidents.is_empty() {
        let ids: Vec<String> = service.incidents.iter().map(|id| format!("horus incident {id}")).collect();
        line(&format!("story: {}", ids.join(", ")));
    }
    out
}

/// A service on lines of its own, for terminals too narrow for the table.
fn stacked(service: &ServiceStatus, width: usize, style: Style) -> String {
    let urgency = Urgency::of(service);
    let pid = service.pid.map_or_else(String::new, |pid| format!("pid {pid}, "));
    let up = service.up_for_ms.map_or_else(|| "not running".into(), |up| format!("up {}", brief(up)));
    let mark = format!("{:2}", urgency.mark());
    let name = style.paint(Paint::Head, service.name.as_str());
    let verdict = style.paint(urgency.paint(), service.verdict.word());
    let head = format!("{} {name}  {verdict}\n", style.paint(urgency.paint(), &mark));
    let facts = format!(
        "{pid}{up}; process {}, loop {}, progress {}, value {}; kills {}/{}, exits {}",
        service.process.is.word(),
        service.loop_axis.is.word(),
        service.progress.is.word(),
        service.value.is.word(),
        service.kills_unproven,
        service.kills_limit,
        service.exits_recent
    );
    head + &wrap(&facts, "   ", width) + &reasons(service, width)
}

fn monitor_lines(monitors: &[MonitorStatus], width: usize, style: Style) -> String {
    let name_width = monitors.iter().map(|monitor| columns(monitor.name.as_str())).max().unwrap_or(0);
    let mut rows: Vec<(Urgency, &MonitorStatus)> = monitors
        .iter()
        .map(|monitor| {
            let urgency = match monitor.up {
                Some(false) => Urgency::Bad,
                None => Urgency::Quiet,
                Some(true) => Urgency::Fine,
            };
            (urgency, monitor)
        })
        .collect();
    rows.sort_by_key(|(urgency, monitor)| (*urgency, monitor.name.as_str()));
    let mut out = String::new();
    for (urgency, monitor) in rows {
        let word = match monitor.up {
            Some(false) => "down",
            None => "not asked yet",
            Some(true) => "up",
        };
        let since = monitor.for_ms.map_or_else(String::new, |length| format!(" for {}", brief(length)));
        let first = format!("{:2}  {:name_width$}  ", urgency.mark(), monitor.name.as_str());
        let text = wrap(&format!("{word}{since}: {}", clean(&monitor.because)), &first, width);
        // The mark is painted after the layout: codes have no width.
        let painted = style.paint(urgency.paint(), urgency.mark());
        out += &text.replacen(urgency.mark(), &painted, 1);
    }
    out
}
