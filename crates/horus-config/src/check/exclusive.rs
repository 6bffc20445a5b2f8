//! `exclusive`: what only one service may use at a time, and who in this file waits for whom because of it.

use std::collections::BTreeMap;

use horus_core::exclusive::Exclusive;

use super::{Check, tidy};
use crate::at::{At, Span};
use crate::fault::Code;
use crate::raw::{RawFile, RawService, Text};

/// Most keys of one service.
const KEYS_MAX: usize = 16;
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 1024;

impl Check<'_> {
    pub(super) fn exclusive(&mut self, raw: &RawService) -> Vec<Exclusive> {
        let Some(list) = &raw.exclusive else {
            return Vec::new();
        };
        if list.value.len() > KEYS_MAX {
            let message = format!("`exclusive` has at most {KEYS_MAX} keys");
            self.findings.report(Code::BadNumber, &list.span, message).label("too many");
        }
        let mut keys = Vec::new();
        for at in &list.value {
            match self.key(&at.value.0) {
                Ok(key) if keys.contains(&key) => {}
                Ok(key) => keys.push(key),
                Err(why) => {
                    self.findings
                        .report(Code::BadExclusive, &at.span, format!("a key of `exclusive` {why}"))
                        .label("names nothing to lock")
                        .help("write \"repo:/srv/app\", \"path:/dev/ttyUSB0\" or \"name:gpu0\"");
                }
            }
        }
        keys
    }

    fn key(&self, text: &str) -> Result<Exclusive, String> {
        let (kind, rest) = text.split_once(':').ok_or("does not begin with `repo:`, `path:` or `name:`")?;
        if rest.trim().is_empty() {
            return Err(format!("has nothing after `{}:`", kind.escape_debug()));
        }
        if text.len() > KEY_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(format!("holds control characters or is longer than {KEY_BYTES_MAX} bytes"));
        }
        match kind {
            "repo" => Ok(Exclusive::Repo(tidy(&self.folder.join(rest)))),
            "path" => Ok(Exclusive::Path(tidy(&self.folder.join(rest)))),
            "name" => Ok(Exclusive::Name(rest.to_owned())),
            _ => Err(format!("begins with `{}:`, not with `repo:`, `path:` or `name:`", kind.escape_debug())),
        }
    }

    /// Two services that are always wanted and share a key: one of them never runs while the other does.
    pub(super) fn shared_keys(&mut self, raw: &RawFile) {
        let mut seen: BTreeMap<Exclusive, (&str, &Span)> = BTreeMap::new();
        for (name, service) in &raw.service {
            let RawService { autostart, schedule, exclusive, .. } = &service.value;
            let always = schedule.is_none() && autostart.as_ref().is_none_or(|at| at.value);
            let list: &[At<Text>] = exclusive.as_ref().map_or(&[], |list| &list.value);
            for at in list.iter().filter(|_| always) {
                let Ok(key) = self.key(&at.value.0) else { continue };
                let Some((other, place)) = seen.get(&key).filter(|(other, _)| *other != name.value) else {
                    seen.entry(key).or_insert((&name.value, &at.span));
                    continue;
                };
                let message =
                    format!("`{other}` and `{}` are both always wanted and share `{key}`", name.value);
                self.findings
                    .report(Code::SharedExclusive, &at.span, message)
                    .label("whoever comes second waits until the other one ends")
                    .also(place, "the other one")
                    .help("give one of them a `schedule` or `autostart = false`, unless it is a reserve for the other");
            }
        }
    }
}
