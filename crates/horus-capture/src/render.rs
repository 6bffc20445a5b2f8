//! A document as text for a terminal.

use std::fmt::Write as _;

use horus_sys::fact::Fact;
use horus_sys::facts::{LimitFacts, ThreadFacts};

use crate::document::{Document, Frame, Loop, Python, TaskState};
use crate::phrase::{shown, shown_native};

/// Limits that explain a hang or a crash; the others are in the JSON.
const LIMITS_SHOWN: [&str; 4] = ["Max open files", "Max processes", "Max address space", "Max cpu time"];

impl Document {
    /// Readable text. `all_threads`: also of threads that wait beside the main one.
    pub fn render(&self, all_threads: bool) -> String {
        let mut text = String::new();
        let phrase = if self.phrase.is_empty() { "nothing can be said" } else { &self.phrase };
        line(&mut text, 0, &format!("{} {}", self.pid, phrase));
        if let Some(python) = &self.python {
            self.python(&mut text, python, all_threads);
        }
        self.threads(&mut text, all_threads);
        self.sockets(&mut text);
        self.limits(&mut text);
        for missing in &self.missing {
            line(&mut text, 0, &format!("missing: {missing}"));
        }
        line(&mut text, 0, &format!("looked for {:.1} ms, nothing was stopped", self.took_ms));
        clean(&text)
    }

    fn python(&self, text: &mut String, python: &Python, all_threads: bool) {
        line(text, 0, &format!("\nPython {}", python.version));
        for thread in &python.threads {
            let is_main = thread.tid == Some(self.pid);
            if !all_threads && !is_main && !thread.owns_gil && python.threads.len() > 4 {
                continue;
            }
            let name = thread.name.as_deref().unwrap_or(if is_main { "MainThread" } else { "thread" });
            let tid = thread.tid.map_or_else(|| "?".to_owned(), |tid| tid.to_string());
            line(text, 2, &format!("{name} ({tid}){}", if thread.owns_gil { ", holds the GIL" } else { "" }));
            frames(text, &thread.frames);
        }
        for found in &python.loops {
            line(text, 2, &loop_words(found));
        }
        for task in &python.tasks {
            let state = match (task.state, &task.waits_on) {
                (TaskState::Running, _) => "runs on the loop now".to_owned(),
                (TaskState::Created, _) => "has not begun".to_owned(),
                (TaskState::Waiting, Some(on)) => format!("waits on {on}"),
                (TaskState::Waiting, None) => "waits for its turn".to_owned(),
            };
            line(text, 2, &format!("task {} {state}", task.name));
            let chain: Vec<String> = task.chain.iter().map(shown).collect();
            line(text, 6, &chain.join(" -> "));
        }
        let hidden = python.tasks_counted.saturating_sub(python.tasks.len() as u64);
        if hidden > 0 {
            line(text, 2, &format!("{hidden} more tasks are counted, ended ones among them"));
        }
    }

    fn threads(&self, text: &mut String, all_threads: bool) {
        line(text, 0, &format!("\nThreads: {}", self.threads.len()));
        for thread in self.threads.iter().take(if all_threads { usize::MAX } else { 4 }) {
            let stuck =
                if self.thread == Some(thread.tid) { ", the one that the phrase is about" } else { "" };
            line(text, 2, &format!("{} {} {}{stuck}", thread.tid, thread.name, thread_words(thread)));
            let native = self.native.iter().find(|native| native.tid == thread.tid);
            if let Some(native) = native {
                if let Some(unknown) = &native.unknown {
                    line(text, 6, unknown);
                }
                for frame in native.frames.iter().take(crate::limits::FRAMES_MAX) {
                    line(text, 6, &shown_native(frame));
                }
            }
        }
    }

    fn sockets(&self, text: &mut String) {
        if self.sockets.is_empty() {
            return;
        }
        line(text, 0, &format!("\nSockets: {}", self.sockets.len()));
        for socket in &self.sockets {
            let remote = socket.remote.as_ref().map(|remote| format!(" -> {remote}")).unwrap_or_default();
            let queues = match (socket.receive_queue, socket.send_queue) {
                (0, 0) => String::new(),
                (unread, unsent) => format!(", {unread} not read, {unsent} not sent"),
            };
            let words = format!(
                "{} {} {}{remote} {}{queues}",
                socket.descriptor, socket.protocol, socket.local, socket.state
            );
            line(text, 2, &words);
        }
    }

    fn limits(&self, text: &mut String) {
        let Fact::Known(limits) = &self.limits else { return };
        let shown: Vec<String> = limits
            .iter()
            .filter(|limit| LIMITS_SHOWN.contains(&limit.name.as_str()))
            .filter_map(|LimitFacts { name, soft, .. }| Some(format!("{name} {}", (*soft)?)))
            .collect();
        if !shown.is_empty() {
            line(text, 0, &format!("\nLimits: {}", shown.join(", ")));
        }
    }
}

fn loop_words(found: &Loop) -> String {
    let late = match (found.lag_ms, &found.lag_unknown) {
        (Some(lag), _) if lag > 0.0 => format!("its first timer is {lag:.0} ms late"),
        (Some(lag), _) => format!("its first timer is due in {:.0} ms", -lag),
        (None, why) => format!("lag not known: {}", why.as_deref().unwrap_or("not seen")),
    };
    let count =
        |count: Option<u64>, what: &str| count.map(|count| format!(", {count} {what}")).unwrap_or_default();
    format!(
        "loop {}: {late}{}{}",
        found.class,
        count(found.timers, "timers"),
        count(found.ready, "callbacks due")
    )
}

fn thread_words(thread: &ThreadFacts) -> String {
    let call = match &thread.system_call {
        Fact::Known(Some(call)) => {
            call.name.clone().unwrap_or_else(|| format!("system call {}", call.number))
        }
        Fact::Known(None) => "in its own code".to_owned(),
        Fact::Missing(why) => format!("system call {why}"),
    };
    let channel = thread.wait_channel.as_known().filter(|channel| !channel.is_empty());
    let channel = channel.map(|channel| format!(" ({channel})")).unwrap_or_default();
    format!("{} {call}{channel}", thread.state)
}

fn frames(text: &mut String, frames: &[Frame]) {
    for frame in frames {
        line(text, 6, &shown(frame));
    }
}

fn line(text: &mut String, indent: usize, words: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{:indent$}{words}", "");
}

/// Names come from somebody else's memory: none of them may speak to the terminal.
fn clean(text: &str) -> String {
    let harmful = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if harmful(c) { ' ' } else { c }).collect()
}
