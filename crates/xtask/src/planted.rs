//! `cargo xtask planted`: would anybody notice if the judge were wrong?
//!
//! ```text
//!   horus-core/mutations.toml ──> one deliberate fault ──> copy of the workspace ──> its test, all tests, the swarm
//!                                                                                          │
//!                                       table: fault -> caught by <── the first that fails ┘
//! ```
//!
//! Each fault is one that a tired author could make, with the reason why it would be dangerous. A fault that nothing
//! catches, whose place is not found any more, or that does not compile, fails the command. The copy is kept between
//! runs, so that only what has changed is built again. Rejected: mutating at random (`cargo mutants` does it, and
//! better); this list is for faults that have a meaning.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::shell::{self, cargo};

/// The list.
const LIST: &str = "crates/horus-core/mutations.toml";

/// Where the faults are planted.
const CORE: &str = "crates/horus-core/src";

/// The keys of one fault; all of them are needed.
const KEYS: [&str; 6] = ["name", "file", "find", "replace", "danger", "caught_by"];

/// The tests that get a chance, in this order: the ones of the core, then simulated worlds with their short swarm.
const STAGES: [&[&str]; 2] =
    [&["test", "-p", "horus-core", "--no-fail-fast"], &["test", "-p", "horus-sim", "--no-fail-fast"]];

/// Each fault is one more build, so building has to be quick.
const QUICK: [&str; 4] =
    ["--config", "profile.dev.debug=0", "--config", "profile.dev.package.horus-core.opt-level=1"];

/// The page that shows the table, between these two lines.
const PAGE: &str = "docs/reference/mutations.md";
const PAGE_BEGIN: &str = "<!-- planted: written by `cargo xtask planted --write` -->";
const PAGE_END: &str = "<!-- planted: end -->";

/// Failed tests that are named in the table.
const SHOWN_MAX: usize = 3;

/// Options of `cargo xtask planted`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only the faults whose name holds one of these words
    words: Vec<String>,
    /// Only look whether each fault still finds its place; run nothing
    #[arg(long)]
    list: bool,
    /// Without simulated worlds: the tests of the core alone
    #[arg(long)]
    core_only: bool,
    /// Write the table into docs/reference/mutations.md; for the whole list only
    #[arg(long, conflicts_with_all = ["words", "list"])]
    write: bool,
}

/// One deliberate fault.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mutation {
    name: String,
    /// In the `src` of the core.
    file: String,
    /// Is there exactly once.
    find: String,
    replace: String,
    danger: String,
    /// Name of the test that is meant to fail.
    caught_by: String,
}

/// What became of one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    /// The test failed that is meant to.
    Caught,
    /// Others did, although that one did not.
    CaughtElsewhere(Vec<String>),
    Survived,
    /// It is no fault of the judge but one of the list.
    Unusable(String),
}

/// Plants each fault and sees who notices.
pub(crate) fn planted(options: &Options) -> Result<ExitCode> {
    let root = shell::root()?;
    let all = read_list(&std::fs::read_to_string(root.join(LIST)).context(LIST)?)?;
    let wanted = |mutation: &Mutation| {
        options.words.is_empty() || options.words.iter().any(|word| mutation.name.contains(word.as_str()))
    };
    let chosen: Vec<Mutation> = all.into_iter().filter(wanted).collect();
    ensure!(!chosen.is_empty(), "no fault of {LIST} has such a name");
    let lost: Vec<String> = chosen.iter().filter_map(|mutation| place(&root, mutation).err()).collect();
    for fault in &lost {
        eprintln!("error: {fault}");
    }
    if options.list {
        for mutation in &chosen {
            println!("{}: {} ({})", mutation.name, mutation.danger, mutation.caught_by);
        }
        return Ok(if lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    ensure!(lost.is_empty(), "{} of {} faults have lost their place", lost.len(), chosen.len());
    let garden = Garden::lay_out(&root, if options.core_only { &STAGES[..1] } else { &STAGES })?;
    let mut rows = Vec::new();
    for (number, mutation) in (1..).zip(&chosen) {
        eprintln!("[{number}/{}] {}: {}", chosen.len(), mutation.name, mutation.danger);
        let outcome = garden.plant(mutation)?;
        eprintln!("        {}", words(&outcome, mutation));
        rows.push((mutation, outcome));
    }
    if options.write {
        let page = root.join(PAGE);
        let text = std::fs::read_to_string(&page).context(PAGE)?;
        write(&page, &with_table(&text, &table(&rows))?)?;
    }
    Ok(close(&rows))
}

/// The rows for the page: what was planted, why it matters, and the test that was seen to fail.
fn table(rows: &[(&Mutation, Outcome)]) -> String {
    let mut table =
        String::from("| planted fault | what it would do to people | caught by |\n| --- | --- | --- |\n");
    for (mutation, outcome) in rows {
        let catcher = match outcome {
            Outcome::Caught => format!("`{}`", mutation.caught_by),
            Outcome::CaughtElsewhere(tests) => format!("`{}`", tests.first().map_or("?", String::as_str)),
            Outcome::Survived | Outcome::Unusable(_) => format!("**{}**", words(outcome, mutation)),
        };
        table.push_str(&format!("| `{}` | {} | {catcher} |\n", mutation.name, mutation.danger));
    }
    table
}

/// The page with another table between its two marks.
fn with_table(page: &str, table: &str) -> Result<String> {
    let parts =
        page.split_once(PAGE_BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(PAGE_END)?.1)));
    let (before, after) = parts.with_context(|| format!("{PAGE}: no `{PAGE_BEGIN}` and `{PAGE_END}`"))?;
    Ok(format!("{before}{PAGE_BEGIN}\n\n{table}\n{PAGE_END}{after}"))
}

/// The table, and whether all is well.
fn close(rows: &[(&Mutation, Outcome)]) -> ExitCode {
    let width = rows.iter().map(|(mutation, _)| mutation.name.len()).max().unwrap_or_default();
    println!();
    for (mutation, outcome) in rows {
        println!("{:width$}  {}", mutation.name, words(outcome, mutation));
    }
    let caught = rows.iter().filter(|(_, outcome)| is_caught(outcome)).count();
    println!("{caught} of {} planted faults were caught", rows.len());
    if caught == rows.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_caught(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Caught | Outcome::CaughtElsewhere(_))
}

fn words(outcome: &Outcome, mutation: &Mutation) -> String {
    match outcome {
        Outcome::Caught => format!("caught by {}", mutation.caught_by),
        Outcome::CaughtElsewhere(tests) => {
            let shown = tests.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
            format!("caught by {shown} (not by {})", mutation.caught_by)
        }
        Outcome::Survived => "SURVIVED".to_owned(),
        Outcome::Unusable(why) => format!("UNUSABLE: {why}"),
    }
}

/// The file of a fault, without and with it.
fn place(root: &Path, mutation: &Mutation) -> Result<(String, String), String> {
    let path = root.join(CORE).join(&mutation.file);
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("{}: {}: {error}", mutation.name, path.display()))?;
    match text.matches(&mutation.find).count() {
        1 => {
            let wrong = text.replace(&mutation.find, &mutation.replace);
            Ok((text, wrong))
        }
        0 => Err(format!("{}: search text not found in {}", mutation.name, mutation.file)),
        count => Err(format!("{}: search text found {count} times in {}", mutation.name, mutation.file)),
    }
}

fn read_list(text: &str) -> Result<Vec<Mutation>> {
    let table: toml::Table = text.parse().context(LIST)?;
    let entries = table.get("mutation").and_then(toml::Value::as_array);
    let entries = entries.with_context(|| format!("{LIST}: no [[mutation]]"))?;
    let mut names = BTreeSet::new();
    let mut list = Vec::new();
    for entry in entries {
        let entry = entry.as_table().with_context(|| format!("{LIST}: [[mutation]] is a table"))?;
        let name = entry.get("name").and_then(toml::Value::as_str).unwrap_or("a fault without a name");
        if let Some(key) = entry.keys().find(|key| !KEYS.contains(&key.as_str())) {
            bail!("{LIST}: {name}: unknown key {key}");
        }
        ensure!(names.insert(name.to_owned()), "{LIST}: {name} is there twice");
        let read = |key: &str| {
            let value = entry.get(key).and_then(toml::Value::as_str).map(ToOwned::to_owned);
            value.with_context(|| format!("{LIST}: {name}: {key} is missing, or no text"))
        };
        let mutation = Mutation {
            name: read("name")?,
            file: read("file")?,
            find: read("find")?,
            replace: read("replace")?,
            danger: read("danger")?,
            caught_by: read("caught_by")?,
        };
        ensure!(
            !mutation.find.is_empty() && mutation.find != mutation.replace,
            "{LIST}: {name} changes nothing"
        );
        ensure!(!mutation.caught_by.is_empty(), "{LIST}: {name}: caught_by names the test");
        list.push(mutation);
    }
    Ok(list)
}

/// The copy in which faults are planted.
struct Garden {
    root: PathBuf,
    target: PathBuf,
    stages: &'static [&'static [&'static str]],
}

impl Garden {
    /// Brings the copy up to date and sees that it is well without any fault: else everything would be "caught".
    fn lay_out(root: &Path, stages: &'static [&'static [&'static str]]) -> Result<Self> {
        let home = shell::target_directory(root)?.join("planted");
        let garden = Self { root: home.join("tree"), target: home.join("target"), stages };
        let mut list = shell::command("git");
        list.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let files = shell::read(&mut list)?;
        let files: BTreeSet<&Path> =
            files.split('\0').filter(|name| !name.is_empty()).map(Path::new).collect();
        for file in &files {
            copy_if_different(&root.join(file), &garden.root.join(file))?;
        }
        remove_others(&garden.root, &garden.root, &files)?;
        for stage in stages {
            let failed = garden.run(stage)?;
            ensure!(failed.is_empty(), "without any fault these fail already: {}", failed.join(", "));
        }
        Ok(garden)
    }

    fn cargo(&self, words: &[&str]) -> std::process::Command {
        let mut cargo = cargo(&self.root);
        cargo.args(words).args(QUICK).env("CARGO_TARGET_DIR", &self.target);
        // A snapshot that differs is a failure, never a new snapshot.
        cargo.env("INSTA_UPDATE", "no").env("INSTA_FORCE_PASS", "0").env_remove("HORUS_UPDATE");
        cargo
    }

    /// The names of the tests that fail. A program that fails without such a name is one, too.
    fn run(&self, words: &[&str]) -> Result<Vec<String>> {
        let mut failed = Vec::new();
        let status = shell::stream(&mut self.cargo(words), |_, line| failed.extend(failed_test(line)))?;
        if failed.is_empty() && !status.success() {
            failed.push(format!("`cargo {}` itself ({status})", words.join(" ")));
        }
        Ok(failed)
    }

    fn plant(&self, mutation: &Mutation) -> Result<Outcome> {
        let (right, wrong) = match place(&self.root, mutation) {
            Ok(texts) => texts,
            Err(why) => return Ok(Outcome::Unusable(why)),
        };
        let path = self.root.join(CORE).join(&mutation.file);
        write(&path, &wrong)?;
        let outcome = self.tend(mutation);
        write(&path, &right)?;
        outcome
    }

    fn tend(&self, mutation: &Mutation) -> Result<Outcome> {
        let mut build = self.cargo(&["test", "-p", "horus-core", "--no-run", "--quiet"]);
        if !shell::stream(&mut build, |_, _| {})?.success() {
            return Ok(Outcome::Unusable("it does not compile".into()));
        }
        // The one that is meant to notice is asked first: most of the time that is all.
        let meant: Vec<&str> = STAGES[0].iter().copied().chain([mutation.caught_by.as_str()]).collect();
        for stage in std::iter::once(meant.as_slice()).chain(self.stages.iter().copied()) {
            let failed = self.run(stage)?;
            if failed.iter().any(|test| is_named(test, &mutation.caught_by)) {
                return Ok(Outcome::Caught);
            }
            if !failed.is_empty() {
                return Ok(Outcome::CaughtElsewhere(failed));
            }
        }
        Ok(Outcome::Survived)
    }
}

/// `test ledger::tests::a_test ... FAILED`
fn failed_test(line: &str) -> Option<String> {
    let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(name.trim_end_matches(" - should panic").to_owned())
}

/// Tests are named without their modules, which may move.
fn is_named(test: &str, name: &str) -> bool {
    test == name || test.rsplit("::").next() == Some(name)
}

fn copy_if_different(from: &Path, to: &Path) -> Result<()> {
    // Deleted, and git does not know it yet.
    let Ok(new) = std::fs::read(from) else { return Ok(()) };
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Removes what is not in the workspace any more.
fn remove_others(root: &Path, folder: &Path, files: &BTreeSet<&Path>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(root, &path, files)?;
        } else if !files.contains(path.strip_prefix(root)?) || root_is_gone(&path) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// A link to something that is not there.
fn root_is_gone(path: &Path) -> bool {
    path.is_symlink() && !path.exists()
}

#[expect(clippy::disallowed_methods, reason = "a copy that nobody reads while it is written")]
fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "[[mutation]]\nname = \"a\"\nfile = \"a.rs\"\nfind = \"x\"\nreplace = \"y\"\n\
                         danger = \"d\"\ncaught_by = \"t\"\n";

    #[test]
    fn a_list_with_a_fault_of_its_own_is_refused() {
        assert_eq!(read_list(ENTRY).unwrap().len(), 1);
        let faults = [
            ("", "no [[mutation]]"),
            (&ENTRY.replace("danger = \"d\"\n", ""), "danger is missing"),
            (&ENTRY.replace("danger", "dangre"), "unknown key dangre"),
            (&ENTRY.replace("\"y\"", "\"x\""), "changes nothing"),
            (&ENTRY.replace("\"t\"", "\"\""), "caught_by"),
            (&format!("{ENTRY}{ENTRY}"), "twice"),
        ];
        for (text, expected) in faults {
            let error = format!("{:#}", read_list(text).unwrap_err());
            assert!(error.contains(expected), "{error:?} for {expected}");
        }
    }

    #[test]
    fn the_words_of_the_test_runner_are_understood() {
        assert_eq!(failed_test("test ledger::tests::a ... FAILED").as_deref(), Some("ledger::tests::a"));
        assert_eq!(failed_test("test a - should panic ... FAILED").as_deref(), Some("a"));
        assert_eq!(failed_test("test a ... ok"), None);
        assert_eq!(failed_test("test result: FAILED. 1 passed; 1 failed"), None);
        assert!(is_named("ledger::tests::a", "a") && is_named("a", "a") && !is_named("b::aa", "a"));
    }

    #[test]
    fn the_table_takes_its_place_in_the_page_and_nothing_else() {
        let page = format!("before\n{PAGE_BEGIN}\nold\n{PAGE_END}\nafter\n");
        let (list, found) = (read_list(ENTRY).unwrap(), vec!["there".to_owned()]);
        let table = table(&[(&list[0], Outcome::CaughtElsewhere(found)), (&list[0], Outcome::Survived)]);
        let new = with_table(&page, &table).unwrap();
        assert!(new.starts_with(&format!("before\n{PAGE_BEGIN}\n\n| planted")), "{new}");
        assert!(
            new.ends_with(&format!(
                "| `a` | d | `there` |\n| `a` | d | **SURVIVED** |\n\n{PAGE_END}\nafter\n"
            ))
        );
        assert_eq!(with_table(&new, &table).unwrap(), new, "writing it again changes nothing");
        assert!(with_table("no marks", &table).is_err());
    }

    #[test]
    fn a_place_has_to_be_found_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let mutation = |find: &str| Mutation {
            name: "m".into(),
            file: "lib.rs".into(),
            find: find.into(),
            replace: String::new(),
            danger: String::new(),
            caught_by: "t".into(),
        };
        assert!(place(root, &mutation("forbid(unsafe_code)")).is_ok());
        assert!(place(root, &mutation("no such text")).unwrap_err().contains("not found"));
        assert!(place(root, &mutation("mod ")).unwrap_err().contains("times"));
        let missing = Mutation { file: "none.rs".into(), ..mutation("x") };
        assert!(place(root, &missing).unwrap_err().starts_with("m: "));
    }
}
