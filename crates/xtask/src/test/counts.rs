//! How many tests passed, failed and were skipped, from what the two runners say.

/// What a test prints that cannot run here.
const SKIPPED: &str = "SKIPPED: ";

/// What a test prints that has found a figure worth reading.
const MEASURED: &str = "MEASURED: ";

/// Most reasons and failures that are kept for the end.
const NAMED_MAX: usize = 200;

/// The outcome of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    /// `name: why` of those that were skipped.
    pub(super) reasons: Vec<String>,
    /// Names of those that failed.
    pub(super) failures: Vec<String>,
    /// `name: figure` that tests have found.
    pub(super) figures: Vec<String>,
}

impl Counts {
    /// From nextest's JUnit report. Only what nextest writes is understood.
    pub(super) fn from_junit(text: &str) -> Self {
        let mut counts = Self::default();
        for case in text.split("<testcase ").skip(1) {
            let case = case.split("</testcase>").next().unwrap_or(case);
            let name = format!("{} {}", attribute(case, "classname"), attribute(case, "name"));
            let said = unescaped(case);
            let reasons = said_after(SKIPPED, &said);
            said_after(MEASURED, &said).into_iter().for_each(|figure| note(&mut counts.figures, figure));
            if case.contains("<failure") || case.contains("<error") {
                counts.failed += 1;
                note(&mut counts.failures, name);
            } else if reasons.is_empty() {
                counts.passed += 1;
            } else {
                counts.skipped += 1;
                reasons.into_iter().for_each(|reason| note(&mut counts.reasons, reason));
            }
        }
        counts
    }

    /// Tests that are marked `#[ignore]`, by name, one a line.
    pub(super) fn skip_ignored(&mut self, ignored: usize, names: &str) {
        self.skipped += ignored;
        names.lines().for_each(|name| note(&mut self.reasons, format!("{name}: marked #[ignore]")));
    }

    /// A runner that fails without a failed test (a build error, a crash) must not look like a success.
    pub(super) fn must_agree_with(&mut self, success: bool, runner: &str) {
        if !success && self.failed == 0 {
            self.failed = 1;
            note(&mut self.failures, format!("{runner} itself"));
        }
    }

    /// Both together.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        other.reasons.into_iter().for_each(|reason| note(&mut self.reasons, reason));
        other.failures.into_iter().for_each(|failure| note(&mut self.failures, failure));
        other.figures.into_iter().for_each(|figure| note(&mut self.figures, figure));
    }
}

fn note(list: &mut Vec<String>, text: String) {
    if list.len() < NAMED_MAX && !list.contains(&text) {
        list.push(text);
    }
}

fn attribute<'a>(element: &'a str, name: &str) -> &'a str {
    let head = element.split('>').next().unwrap_or(element);
    let wanted = format!("{name}=\"");
    let mut starts = head.match_indices(&wanted).map(|(at, _)| at);
    let start = starts.find(|at| *at == 0 || head.as_bytes().get(at - 1) == Some(&b' '));
    let value = start.and_then(|at| head.get(at + wanted.len()..));
    value.and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

fn unescaped(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    plain.replace("&amp;", "&")
}

fn said_after(word: &str, text: &str) -> Vec<String> {
    let found = text.lines().filter_map(|line| line.split_once(word));
    found
        .map(|(_, reason)| reason.split("</system-").next().unwrap_or(reason).trim().to_owned())
        .filter(|reason| !reason.is_empty())
        .collect()
}

/// The number of ignored tests from nextest's own summary, if this line is it:
/// `Summary [ 1.2s] 300 tests run: 299 passed (1 slow), 1 failed, 4 skipped`.
pub(super) fn nextest_skipped(line: &str) -> Option<usize> {
    let rest = line.trim_start().strip_prefix("Summary [")?;
    let last = rest.rsplit(", ").next()?;
    Some(last.strip_suffix(" skipped").and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// Listens to `cargo test -- --show-output`.
#[derive(Debug, Default)]
pub(super) struct Libtest {
    counts: Counts,
    /// Between `successes:` and the end of that section: output of tests that passed, which nobody wants to read.
    in_successes: bool,
    /// Tests that passed by saying that they cannot run here.
    skipped_themselves: usize,
}

impl Libtest {
    /// Takes a line; whether it is worth showing.
    pub(super) fn hear(&mut self, line: &str) -> bool {
        if line == "successes:" {
            self.in_successes = true;
        } else if line == "failures:" || line.starts_with("test result: ") {
            self.in_successes = false;
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            note(&mut self.counts.failures, name.to_owned());
        }
        if let Some((name, why)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ignored"))
        {
            let why = why.trim_start_matches([',', ' ']);
            let why = if why.is_empty() { "marked #[ignore]" } else { why };
            note(&mut self.counts.reasons, format!("{name}: {why}"));
        }
        if let Some((_, reason)) = line.split_once(SKIPPED).filter(|_| self.in_successes) {
            self.skipped_themselves += 1;
            note(&mut self.counts.reasons, reason.trim().to_owned());
        }
        if let Some(result) = line.strip_prefix("test result: ") {
            self.counts.passed += number_before(result, " passed");
            self.counts.failed += number_before(result, " failed");
            self.counts.skipped += number_before(result, " ignored");
        }
        // A crate without documentation tests has nothing to say.
        !self.in_successes && !line.is_empty() && line != "running 0 tests"
    }

    /// What was heard.
    pub(super) fn counts(mut self) -> Counts {
        self.counts.passed = self.counts.passed.saturating_sub(self.skipped_themselves);
        self.counts.skipped += self.skipped_themselves;
        self.counts
    }
}

fn number_before(text: &str, word: &str) -> usize {
    let before = text.split(word).next().unwrap_or_default();
    if before.len() == text.len() {
        return 0;
    }
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_nextest_is_counted() {
        let report = r#"<testsuites name="ci" tests="3">
<testsuite name="horus-tests::hang">
  <testcase name="passes" classname="horus-tests::hang" time="0.1">
    <system-err>all is well: 3 &lt; 4
MEASURED: chaos: 100 kills</system-err>
  </testcase>
  <testcase name="needs_python" classname="horus-tests::hang" time="0.1">
    <system-err>SKIPPED: needs_python: python3 &gt;= 3.9 is not installed</system-err>
  </testcase>
  <testcase name="fails" classname="horus-tests::hang" time="0.1">
    <failure type="test failure">it said "SKIPPED: no"</failure>
  </testcase>
</testsuite></testsuites>"#;
        let counts = Counts::from_junit(report);
        assert_eq!((counts.passed, counts.failed, counts.skipped), (1, 1, 1));
        assert_eq!(counts.reasons, ["needs_python: python3 >= 3.9 is not installed"]);
        assert_eq!(counts.failures, ["horus-tests::hang fails"]);
        assert_eq!(counts.figures, ["chaos: 100 kills"]);
    }

    #[test]
    fn the_summary_of_nextest_tells_what_was_ignored() {
        let line = "     Summary [  12.345s] 300 tests run: 299 passed (1 slow), 1 failed, 4 skipped";
        assert_eq!(nextest_skipped(line), Some(4));
        assert_eq!(nextest_skipped("     Summary [  12.345s] 300 tests run: 300 passed"), Some(0));
        assert_eq!(nextest_skipped("        PASS [   0.004s] horus a, 4 skipped"), None);
    }

    #[test]
    fn the_words_of_cargo_test_are_counted() {
        let mut libtest = Libtest::default();
        let said = [
            ("running 4 tests", true),
            ("test a ... ok", true),
            ("test b ... FAILED", true),
            ("test d ... ignored, takes an hour", true),
            ("successes:", false),
            ("---- c stderr ----", false),
            ("SKIPPED: c: no python", false),
            ("failures:", true),
            ("SKIPPED: b: said while it failed", true),
            ("test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out", true),
            ("test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out", true),
        ];
        for (line, shown) in said {
            assert_eq!(libtest.hear(line), shown, "{line}");
        }
        let counts = libtest.counts();
        assert_eq!((counts.passed, counts.failed, counts.skipped), (6, 1, 2));
        assert_eq!(counts.failures, ["b"]);
        assert_eq!(counts.reasons, ["d: takes an hour", "c: no python"]);
    }

    #[test]
    fn a_runner_that_fails_without_a_test_is_a_failure() {
        let mut counts = Counts::default();
        counts.must_agree_with(false, "cargo test");
        assert_eq!(counts.failed, 1);
    }
}
