//! The small languages inside the texts: durations, sizes, command lines, `KEY=VALUE` lines, addresses. Each reader
//! is a function from a text to a value or to a sentence that says what is wrong with it.

use std::time::Duration;

use jiff::fmt::friendly::SpanParser;
use jiff::{SignedDuration, SpanRelativeTo};

/// The longest duration that makes sense here. The engine's clock has its origin 400 days before its start, so no age
/// can be measured beyond that.
pub(crate) const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Soft signals that may be asked for. SIGKILL and SIGSTOP cannot be caught, the rest mean something else.
pub(crate) const SIGNALS: [&str; 7] =
    ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGABRT"];
/// Longest name of an environment variable.
const VARIABLE_NAME_MAX: usize = 256;

/// Reads `"90s"`, `"1m 30s"`, `"250ms"`, `"30d"`; a day has 24 h.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    static PARSER: SpanParser = SpanParser::new();
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err("is empty".into());
    }
    if trimmed.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("has no unit: {trimmed} of what?"));
    }
    let too_long = || format!("is longer than {}", duration_text(DURATION_MAX));
    let span = PARSER.parse_span(trimmed).map_err(|_| "is no duration".to_owned())?;
    let signed: SignedDuration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| "holds months or years, which have no fixed length: write days".to_owned())?;
    let duration = Duration::try_from(signed).map_err(|_| "is negative".to_owned())?;
    if duration > DURATION_MAX { Err(too_long()) } else { Ok(duration) }
}

/// `1m 30s`, `250ms`, `30d`: what [`parse_duration`] reads back.
pub(crate) fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_millis()), "ms"),
        (u64::from(duration.subsec_micros() % 1000), "us"),
    ];
    let words: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if words.is_empty() { "0s".into() } else { words.join(" ") }
}

/// `129 s`, `0.5 s`: for arithmetic, where `2m 9s` would hide the sum.
pub(crate) fn seconds_text(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{} s", (duration.as_secs_f64() * 1000.0).round() / 1000.0),
    }
}

/// Reads `"64MiB"`, `"512"` (bytes), `"10 kB"`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (digits, unit) = trimmed.split_at(end);
    if digits.is_empty() {
        return Err("does not start with a whole number".into());
    }
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        fraction if fraction.starts_with(['.', ',']) => return Err("is no whole number".into()),
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "ki" | "kib" => 1 << 10,
        "m" | "mi" | "mib" => 1 << 20,
        "g" | "gi" | "gib" => 1 << 30,
        "t" | "ti" | "tib" => 1 << 40,
        other => return Err(format!("has the unknown unit \"{other}\"")),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| "does not fit into 64 bits".into())
}

/// `64MiB`: what [`parse_size`] reads back.
pub(crate) fn size_text(bytes: u64) -> String {
    for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// Reads `"150%"`.
pub(crate) fn parse_percent(text: &str) -> Result<u32, String> {
    let number = text.trim().strip_suffix('%').ok_or("has no `%` at its end")?.trim_end();
    if number.contains(['.', ',']) {
        return Err("is no whole number of per cent".into());
    }
    number.parse().map_err(|_| "is no number of per cent".into())
}

/// Splits a command line at blanks. `'...'` is taken as it stands, in `"..."` a backslash escapes `"` and `\`, outside
/// it escapes anything. What only a shell could carry out is refused rather than passed on as a strange argument.
pub(crate) fn split_command(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => quoted(&mut rest, word.get_or_insert_default())?,
            '"' => double_quoted(&mut rest, word.get_or_insert_default())?,
            '\\' => match rest.next() {
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err("ends in a backslash".into()),
            },
            '|' | '&' | ';' | '<' | '>' | '$' | '`' | '*' => return Err(needs_a_shell(c)),
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    Ok(words)
}

fn needs_a_shell(c: char) -> String {
    format!("holds an unquoted `{c}`, which only a shell understands, and no shell runs")
}

fn quoted(rest: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), String> {
    for c in rest {
        if c == '\'' {
            return Ok(());
        }
        word.push(c);
    }
    Err("has a ' that is never closed".into())
}

fn double_quoted(rest: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), String> {
    while let Some(c) = rest.next() {
        match c {
            '"' => return Ok(()),
            '\\' => match rest.next() {
                Some(escaped @ ('"' | '\\')) => word.push(escaped),
                Some(other) => word.extend(['\\', other]),
                None => break,
            },
            '$' | '`' => return Err(needs_a_shell(c)),
            plain => word.push(plain),
        }
    }
    Err("has a \" that is never closed".into())
}

/// Is this a name that an environment variable may have?
pub(crate) fn check_variable_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("an environment variable needs a name".into());
    }
    if name.len() > VARIABLE_NAME_MAX {
        return Err(format!(
            "the name of an environment variable has at most {VARIABLE_NAME_MAX} characters here"
        ));
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if !name.bytes().all(good) || name.as_bytes()[0].is_ascii_digit() {
        // Not named: a slip of the hand may have put a secret where the name belongs.
        return Err("this is no name of an environment variable (letters, digits, _)".into());
    }
    if name == "NOTIFY_SOCKET" || name.starts_with("HORUS_SERVICE") || name == "HORUS_GENERATION" {
        return Err(format!("`{name}` is set by Horus itself"));
    }
    Ok(())
}

/// The number of a line, from 1, and what is wrong with it.
type LineFault = (usize, String);

/// Reads the lines of an `env_file`: `KEY=VALUE`, blank lines, `#` comments; one pair of quotes around a value is
/// taken off. Faults name the line (from 1), never its content.
pub(crate) fn parse_env_file(text: &str) -> (Vec<(String, String)>, Vec<LineFault>) {
    let mut variables = Vec::new();
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            faults.push((index + 1, "is not KEY=VALUE".to_owned()));
            continue;
        };
        let name = name.trim_end();
        if check_variable_name(name).is_err() {
            faults.push((
                index + 1,
                "does not start with the name of a variable (letters, digits, _) that may be set".into(),
            ));
        } else if value.contains('\0') {
            faults.push((index + 1, "holds a NUL byte".into()));
        } else {
            variables.push((name.to_owned(), unquoted(value.trim()).to_owned()));
        }
    }
    (variables, faults)
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return inner;
        }
    }
    value
}

/// Is this `host:port`?
pub(crate) fn check_address(text: &str) -> Result<(), String> {
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("has no port".into());
    };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let good_host = match bracketed {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b)),
    };
    if !good_host {
        return Err("has no host that could be asked".into());
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Err("has no port between 1 and 65535".into()),
        Ok(_) => Ok(()),
    }
}

/// Is this a JSON pointer (RFC 6901)?
pub(crate) fn check_pointer(text: &str) -> Result<(), String> {
    if !text.is_empty() && !text.starts_with('/') {
        return Err("does not start with \"/\"".into());
    }
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'~' && !matches!(rest.next(), Some(b'0' | b'1')) {
            return Err("has a \"~\" that is not \"~0\" or \"~1\"".into());
        }
    }
    Ok(())
}

/// The candidate that was probably meant by `text`: the nearest one, if it is near.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (text.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(text, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Longest text that is compared: a key of a megabyte has no near neighbour anyway.
const COMPARED_MAX: usize = 80;

/// Edits (insert, delete, replace, swap of neighbours) between two words; upper and lower case count as equal.
fn edit_distance(left: &str, right: &str) -> usize {
    let fold = |text: &str| -> Vec<char> { text.chars().flat_map(char::to_lowercase).collect() };
    let (left, right) = (fold(left), fold(right));
    if left.len().max(right.len()) > COMPARED_MAX {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for (i, &a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &b) in right.iter().enumerate() {
            let mut cost = (last[j] + usize::from(a != b)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a == right[j - 1] && left[i - 1] == b {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back() {
        for (text, milliseconds) in [
            ("90s", 90_000),
            ("1m 30s", 90_000),
            ("250ms", 250),
            ("30d", 2_592_000_000),
            ("1.5h", 5_400_000),
            ("0s", 0),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(milliseconds), "{text}");
            assert_eq!(parse_duration(&duration_text(duration)), Ok(duration));
        }
        for text in ["", "90", "soon", "-5s", "2 years", "5s ago", "400d", "1s 1s", "9999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_back() {
        for (text, bytes) in [("64MiB", 64 << 20), ("512", 512), ("10 kB", 10_000), ("2G", 2 << 30), ("0", 0)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(parse_size(&size_text(bytes)), Ok(bytes));
        }
        for text in ["", "MiB", "1.5GiB", "-1", "1 XB", "99999999TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn commands_split_as_in_a_shell() {
        let words = |line: &str| split_command(line).unwrap();
        assert_eq!(words("bot run --feed tape"), ["bot", "run", "--feed", "tape"]);
        assert_eq!(words(r#"sh -c 'echo "a  b" | wc'"#), ["sh", "-c", "echo \"a  b\" | wc"]);
        assert_eq!(words(r#"bot "two words" a\ b "" 'it'"'"'s'"#), ["bot", "two words", "a b", "", "it's"]);
        assert_eq!(words("  "), [""; 0]);
        for line in ["bot | tee log", "bot 'open", "bot \"open", "bot $HOME", "bot \"$HOME\"", "bot\\"] {
            assert!(split_command(line).is_err(), "{line}");
        }
    }

    #[test]
    fn env_files_are_read_line_by_line() {
        let (variables, faults) =
            parse_env_file("# c\nA=1\n\nB = 'x y'\nnonsense\n1A=2\nE=\nNOTIFY_SOCKET=/x");
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(variables, [pair("A", "1"), pair("B", "x y"), pair("E", "")]);
        assert_eq!(faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [5, 6, 8]);
    }

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let keys = ["deadline", "startup", "restart", "stop"];
        assert_eq!(nearest("deadlin", keys), Some("deadline"));
        assert_eq!(nearest("dedaline", keys), Some("deadline"));
        assert_eq!(nearest("Stop", keys), Some("stop"));
        assert_eq!(nearest("timeout", keys), None);
    }

    #[test]
    fn addresses_and_pointers() {
        for good in ["127.0.0.1:80", "localhost:5432", "[::1]:8080"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in ["localhost", "localhost:", ":80", "a:0", "a:70000", "http://a:80", "::1:80", "a b:80"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
        for good in ["", "/seq", "/a~1b/0"] {
            assert_eq!(check_pointer(good), Ok(()), "{good}");
        }
        for bad in ["seq", "/a~2", "/~"] {
            assert!(check_pointer(bad).is_err(), "{bad}");
        }
    }
}
