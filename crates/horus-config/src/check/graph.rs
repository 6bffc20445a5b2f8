//! What services say about each other: `after`, and addresses that two of them share.

use std::collections::{BTreeMap, BTreeSet};

use horus_core::ids::{GroupName, ServiceName};
use url::Url;

use super::Check;
use crate::at::{At, Span};
use crate::fault::Code;
use crate::raw::{RawFile, RawHeartbeat, RawService};
use crate::words::nearest;

/// Most groups of one service.
const GROUPS_MAX: usize = 16;

impl Check<'_> {
    /// The names in `after` that are names; whether they exist is judged in [`Check::graph`].
    pub(super) fn after(&mut self, raw: &RawService) -> Vec<ServiceName> {
        let Some(list) = &raw.after else {
            return Vec::new();
        };
        let mut names: Vec<ServiceName> = Vec::new();
        for name in list.value.iter().filter_map(|at| ServiceName::parse(&at.value.0).ok()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The names in `groups`.
    pub(super) fn groups(&mut self, raw: &RawService) -> Vec<GroupName> {
        let Some(list) = &raw.groups else {
            return Vec::new();
        };
        if list.value.len() > GROUPS_MAX {
            let message = format!("`groups` has at most {GROUPS_MAX} names");
            self.findings.report(Code::BadNumber, &list.span, message).label("too many");
        }
        let mut names: Vec<GroupName> = Vec::new();
        for at in &list.value {
            match GroupName::parse(&at.value.0) {
                Ok(name) if names.contains(&name) => {}
                Ok(name) => names.push(name),
                Err(why) => {
                    self.findings
                        .report(Code::BadName, &at.span, format!("a name of `groups` is none: {why}"))
                        .label("not a name")
                        .help("lower-case letters, digits, `-` and `_`, such as \"trading\"");
                }
            }
        }
        names
    }

    pub(super) fn graph(&mut self, raw: &RawFile) {
        let mut edges: BTreeMap<&str, Vec<(&str, &Span)>> = BTreeMap::new();
        let mut places: BTreeMap<&str, &Span> = BTreeMap::new();
        for (name, service) in &raw.service {
            places.insert(&name.value, &name.span);
            let list = service.value.after.iter().flat_map(|list| &list.value);
            edges.insert(&name.value, list.map(|at| (at.value.0.as_str(), &at.span)).collect());
        }
        for (name, _) in raw.monitor.iter().filter(|(_, monitor)| monitor.value.is_unit()) {
            places.insert(&name.value, &name.span);
            edges.insert(&name.value, Vec::new());
        }
        for (service, after) in &edges {
            for (name, span) in after {
                if !places.contains_key(name) && !self.was_cut(&["service", name]) {
                    let known: Vec<&str> = places.keys().copied().filter(|known| known != service).collect();
                    let message = format!(
                        "`{service}` is to start after `{}`, which does not exist",
                        name.escape_debug()
                    );
                    self.unknown_service(message, name, span, &known);
                }
            }
        }
        self.cycles(&edges, &places);
        self.waits_for_jobs(raw, &edges);
        self.shared_addresses(raw);
        self.shared_keys(raw);
    }

    /// A job runs when its time comes, which may be tomorrow.
    fn waits_for_jobs(&mut self, raw: &RawFile, edges: &BTreeMap<&str, Vec<(&str, &Span)>>) {
        for (name, job) in &raw.service {
            let Some(schedule) = &job.value.schedule else {
                continue;
            };
            for (service, span) in edges.iter().flat_map(|(service, after)| {
                after
                    .iter()
                    .filter(|(target, _)| *target == name.value)
                    .map(move |(_, span)| (service, *span))
            }) {
                self.findings
                    .report(
                        Code::AfterJob,
                        span,
                        format!("`{service}` is not started before a run of the job `{}` is ready", name.value),
                    )
                    .label("waits for a time of the schedule")
                    .also(&schedule.span, "this one")
                    .help("`after` is for services that are always there: take it out, unless the wait is meant");
            }
        }
    }

    pub(super) fn unknown_service(&mut self, message: String, name: &str, span: &Span, known: &[&str]) {
        let help = match nearest(name, known.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None if known.is_empty() => "there is no other service in this file".to_owned(),
            None => format!("services of this file: {}", known.join(", ")),
        };
        self.findings.report(Code::UnknownService, span, message).label("no such service").help(help);
    }

    /// Each circle is told once, at the reference that closes it.
    fn cycles(&mut self, edges: &BTreeMap<&str, Vec<(&str, &Span)>>, places: &BTreeMap<&str, &Span>) {
        let mut done = BTreeSet::new();
        for start in edges.keys() {
            // A path of (service, next edge to look at) instead of recursion: the file decides its length.
            let mut path: Vec<(&str, usize)> = vec![(start, 0)];
            while let Some((service, next)) = path.last_mut() {
                let service: &str = service;
                let edge = edges.get(service).and_then(|list| list.get(*next));
                *next += 1;
                let Some((target, span)) = edge else {
                    done.insert(service);
                    path.pop();
                    continue;
                };
                if let Some(from) = path.iter().position(|(on_path, _)| on_path == target) {
                    let circle: Vec<&str> = path[from..].iter().map(|(name, _)| *name).collect();
                    self.cycle(&circle, span, places);
                } else if !done.contains(target) && edges.contains_key(target) {
                    path.push((target, 0));
                }
            }
        }
    }

    fn cycle(&mut self, circle: &[&str], span: &Span, places: &BTreeMap<&str, &Span>) {
        let [first, rest @ ..] = circle else {
            return;
        };
        let message = if rest.is_empty() {
            format!("`{first}` waits for itself")
        } else {
            // `a` after `b` after `a`
            let chain: Vec<String> = circle.iter().chain([first]).map(|name| format!("`{name}`")).collect();
            format!("these services wait for each other: {}", chain.join(" after "))
        };
        let fault = self.findings.report(Code::Cycle, span, message);
        fault.label("closes the circle").help("none of them could ever start: take one `after` out");
        for name in rest {
            if let Some(place) = places.get(name) {
                fault.also(place, format!("`{name}`"));
            }
        }
    }

    /// Two services with one address: the life of the one would hide the death of the other.
    fn shared_addresses(&mut self, raw: &RawFile) {
        let mut seen: BTreeMap<String, (&str, Span)> = BTreeMap::new();
        for (name, service) in &raw.service {
            let Some(heartbeat) = &service.value.heartbeat else {
                continue;
            };
            for (address, span) in addresses(heartbeat) {
                let Some((other, other_span)) = seen.get(&address) else {
                    seen.insert(address, (&name.value, span));
                    continue;
                };
                if *other == name.value {
                    continue;
                }
                self.findings
                    .report(
                        Code::SharedHeartbeat,
                        &span,
                        format!("`{}` and `{other}` have the same heartbeat", name.value),
                    )
                    .label("the life of one would hide the death of the other")
                    .also(other_span, format!("`{other}` has it here"))
                    .help("give each service an address of its own");
            }
        }
    }
}

/// What two services may not share, in one spelling, with its place.
fn addresses(heartbeat: &RawHeartbeat) -> Vec<(String, Span)> {
    let http = heartbeat.http.as_ref().and_then(|at| at.value.url.as_ref()).and_then(|at| {
        let mut url = Url::parse(at.value.0.trim()).ok()?;
        url.set_fragment(None);
        if url.host_str() == Some("localhost") {
            url.set_host(Some("127.0.0.1")).ok()?;
        }
        Some((format!("http {url}"), at.span.clone()))
    });
    let tcp = heartbeat.tcp.as_ref().and_then(|at| at.value.address.as_ref()).map(|at| {
        let text = at.value.0.trim();
        (format!("tcp {}", text.replace("localhost:", "127.0.0.1:")), at.span.clone())
    });
    let file = heartbeat.file.as_ref().and_then(|at| at.value.path.as_ref());
    let file =
        file.map(|At { value, span }| (format!("file {}", value.0.trim_start_matches("./")), span.clone()));
    [http, tcp, file].into_iter().flatten().collect()
}
