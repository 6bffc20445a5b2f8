//! The last lines of a log, read from its end.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::capture::redact::Redactor;
use crate::file::open_regular;
use crate::limits::{CAPTURE_LINE_CHARACTERS_MAX, CAPTURE_LINES_MAX, CAPTURE_TAIL_BYTES};
use crate::text::harmless;

/// How a runtime begins to say where all of it stands: Go and Java when they are asked to by SIGQUIT, Go when it ends by a fault of its own.
const DUMPS: [&str; 4] = ["SIGQUIT: quit", "Full thread dump ", "panic: ", "fatal error: "];

/// At most [`CAPTURE_LINES_MAX`] lines, without secrets, of what stands before `end` (bytes; `None`: all). When the file was
/// rotated a moment ago, the rest comes from the one before. Of a dump that is longer its beginning is taken: at its end there are registers.
pub(crate) fn last_lines(path: &Path, end: Option<u64>, redactor: &Redactor) -> io::Result<Vec<String>> {
    let mut lines = tail(path, end, CAPTURE_LINES_MAX)?;
    if lines.len() < CAPTURE_LINES_MAX {
        let mut before = path.as_os_str().to_owned();
        before.push(".1");
        // There may be none: then this is all.
        let mut older = tail(Path::new(&before), None, CAPTURE_LINES_MAX - lines.len()).unwrap_or_default();
        older.append(&mut lines);
        lines = older;
    }
    // A secret may stand across the cut, so it is hidden before the line is shortened.
    Ok(lines.iter().map(|line| shorten(&redactor.line(line))).collect())
}

fn tail(path: &Path, end: Option<u64>, count: usize) -> io::Result<Vec<String>> {
    let mut file = open_regular(path)?;
    let length = file.metadata()?.len();
    // A file that is shorter now was rotated since: where the end was in it is not known any more.
    let length = end.filter(|end| *end <= length).unwrap_or(length);
    let start = length.saturating_sub(CAPTURE_TAIL_BYTES);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length - start).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().collect();
    if start > 0 && lines.len() > 1 {
        // The first one is cut somewhere, perhaps in the middle of a secret that would not be known any more.
        lines.remove(0);
    } else if start > 0 {
        return Ok(vec![format!("(one line of more than {} KiB)", CAPTURE_TAIL_BYTES >> 10)]);
    }
    let excess = lines.len().saturating_sub(count);
    let dump = lines.iter().rposition(|line| DUMPS.iter().any(|begins| line.starts_with(begins)));
    let from = dump.map_or(excess, |at| at.min(excess));
    Ok(lines.drain(from..).take(count).map(str::to_owned).collect())
}

fn shorten(line: &str) -> String {
    let mut characters =
        line.chars().map(|character| if character == '\t' { ' ' } else { harmless(character) });
    let mut text: String = characters.by_ref().take(CAPTURE_LINE_CHARACTERS_MAX).collect();
    if characters.next().is_some() {
        text.push('…');
    }
    text
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write plain files")]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_few_short_and_clean() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bot.log");
        let none = Redactor::new(&[]);
        assert!(last_lines(&path, None, &none).is_err());
        let many: String = (0..200).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, many).unwrap();
        let lines = last_lines(&path, None, &none).unwrap();
        assert_eq!((lines.len(), lines[0].as_str(), lines[49].as_str()), (50, "line 150", "line 199"));
        std::fs::rename(&path, dir.path().join("bot.log.1")).unwrap();
        std::fs::write(&path, "token=abcdef\n\x1b[31mred\n").unwrap();
        let lines = last_lines(&path, None, &none).unwrap();
        assert_eq!(lines[47..], ["line 199", "token=***", " [31mred"]);
        std::fs::write(&path, "x".repeat(200_000)).unwrap();
        assert_eq!(last_lines(&path, None, &none).unwrap()[49], "(one line of more than 64 KiB)");
    }

    #[test]
    fn of_a_long_dump_the_beginning_is_taken_and_of_a_short_one_what_follows_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bot.log");
        let none = Redactor::new(&[]);
        let dump = |frames: usize| {
            let frames: String = (0..frames).map(|n| format!("main.wait({n})\n")).collect();
            format!("before\nSIGQUIT: quit\ngoroutine 1 [semacquire]:\n{frames}rip 0x1\n")
        };
        std::fs::write(&path, dump(500)).unwrap();
        let lines = last_lines(&path, None, &none).unwrap();
        assert_eq!((lines.len(), lines[0].as_str()), (50, "SIGQUIT: quit"));
        assert_eq!(lines[1], "goroutine 1 [semacquire]:");
        std::fs::write(&path, dump(5)).unwrap();
        let lines = last_lines(&path, None, &none).unwrap();
        assert_eq!((lines[0].as_str(), lines.last().unwrap().as_str()), ("before", "rip 0x1"));
    }

    #[test]
    fn what_was_written_after_the_end_belongs_to_somebody_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bot.log");
        let none = Redactor::new(&[]);
        std::fs::write(&path, "the last word\nthe next run\n").unwrap();
        assert_eq!(last_lines(&path, Some(14), &none).unwrap(), ["the last word"]);
        assert_eq!(last_lines(&path, Some(0), &none).unwrap(), [""; 0]);
        std::fs::write(&path, "rotated\n").unwrap();
        assert_eq!(last_lines(&path, Some(14), &none).unwrap(), ["rotated"]);
    }
}
