//! The sink for a Horus that has none: the message as text, to a writer (the daemon's standard error).

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use horus_core::outbox::{Move, OutboxItem};

use crate::WallClock;
use crate::http::Letterhead;
use crate::sink::{Answer, Form, Sending, Sink, Verdict};
use crate::words::Message;

/// Prints messages.
pub struct Printer<W> {
    writer: Arc<Mutex<W>>,
    letterhead: Letterhead,
    clock: WallClock,
}

impl<W: Write + Send + 'static> Printer<W> {
    /// Prints to `writer`, flushed after each message.
    pub fn new(writer: W, letterhead: Letterhead, clock: WallClock) -> Self {
        Self { writer: Arc::new(Mutex::new(writer)), letterhead, clock }
    }
}

impl<W: Write + Send + 'static> Sink for Printer<W> {
    async fn deliver(&self, item: &OutboxItem, how: Move, form: Form) -> Answer {
        let Letterhead { host, time_zone } = &self.letterhead;
        let now = (self.clock)();
        let text = printed(&Sending { item, host, time_zone, now, how, form }.message());
        let writer = Arc::clone(&self.writer);
        // A terminal or pipe that nobody reads blocks the writer: not on a thread that others need.
        let written = tokio::task::spawn_blocking(move || {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.write_all(text.as_bytes()).and_then(|()| writer.flush())
        });
        match written.await {
            Ok(Ok(())) => Verdict::Delivered { remote_id: None }.into(),
            Ok(Err(error)) => Verdict::Retry { after: None, error: error.to_string() }.into(),
            Err(error) => Verdict::Retry { after: None, error: error.to_string() }.into(),
        }
    }
}

/// The message as lines for a terminal. Its texts hold no control characters, so nothing is to be escaped.
pub fn printed(message: &Message) -> String {
    let details = message.detail_lines.iter().chain([&message.footer]);
    let indented: String = details.map(|line| format!("   {line}\n")).collect();
    format!("{}\n{indented}", message.first_line)
}
