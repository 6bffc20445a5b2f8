//! What is shown while a start or a stop takes its time.

use super::text::{clean, fit, human};

/// What one service is being asked, and how far that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// "stopping", "starting", "holding".
    pub(crate) doing: &'static str,
    /// The service.
    pub(crate) name: String,
    /// What was done or is waited for. Empty: nothing was heard yet.
    pub(crate) text: String,
    /// Since that was said, milliseconds.
    pub(crate) elapsed_ms: u64,
    /// The most that it can take, milliseconds.
    pub(crate) limit_ms: Option<u64>,
}

/// "stopping trading: SIGTERM sent, 3.2 s of 20 s", on one line of the terminal.
pub(crate) fn render_live(step: &Step, width: usize) -> String {
    let told = if step.text.is_empty() { String::new() } else { format!(": {}", clean(&step.text)) };
    let elapsed = moving(step.elapsed_ms);
    let of = step.limit_ms.map_or_else(String::new, |limit| format!(" of {}", human(limit)));
    // One column is left free: some terminals wrap when the last one is filled.
    fit(&format!("{} {}{told}, {elapsed}{of}", step.doing, step.name), width.saturating_sub(1))
}

/// The same where lines cannot be updated: said once, with what it may take.
pub(crate) fn render_plain(step: &Step) -> String {
    let limit = step.limit_ms.map_or_else(String::new, |limit| format!(" (at most {})", human(limit)));
    format!("{} {}: {}{limit}", step.doing, step.name, clean(&step.text))
}

/// `3.2 s` up to a minute, so that it is seen to move; `2 min 5 s` beyond.
fn moving(milliseconds: u64) -> String {
    if milliseconds < 60_000 {
        format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100)
    } else {
        human(milliseconds)
    }
}

/// Draws `lines` over the `drawn` lines that were drawn before; the cursor ends below them.
pub(crate) fn redraw(drawn: usize, lines: &[String]) -> String {
    let up = if drawn > 0 { format!("\u{1b}[{drawn}A") } else { String::new() };
    let body: String = lines.iter().map(|line| format!("\r\u{1b}[2K{line}\n")).collect();
    format!("{up}{body}\u{1b}[0J")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(elapsed_ms: u64, limit_ms: Option<u64>) -> Step {
        Step { doing: "stopping", name: "trading".into(), text: "SIGTERM sent".into(), elapsed_ms, limit_ms }
    }

    #[test]
    fn progress_reads_like_speech() {
        assert_eq!(
            render_live(&step(3_210, Some(20_000)), 80),
            "stopping trading: SIGTERM sent, 3.2 s of 20 s"
        );
        assert_eq!(render_live(&step(0, None), 80), "stopping trading: SIGTERM sent, 0.0 s");
        assert_eq!(render_live(&step(125_400, None), 80), "stopping trading: SIGTERM sent, 2 min 5 s");
        assert_eq!(render_live(&step(3_210, Some(20_000)), 20), "stopping trading:…");
        let silent = Step { text: String::new(), ..step(400, None) };
        assert_eq!(render_live(&silent, 80), "stopping trading, 0.4 s");
        assert_eq!(render_plain(&step(0, Some(20_000))), "stopping trading: SIGTERM sent (at most 20 s)");
    }

    #[test]
    fn redrawing_replaces_what_was_there() {
        assert_eq!(redraw(0, &["a".into()]), "\r\u{1b}[2Ka\n\u{1b}[0J");
        assert_eq!(redraw(2, &["b".into()]), "\u{1b}[2A\r\u{1b}[2Kb\n\u{1b}[0J");
    }
}
