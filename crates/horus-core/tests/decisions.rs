//! The decision table, cell by cell: what no cell may do, and the page in docs/reference that shows all of them.
//! `HORUS_UPDATE=1 cargo test` writes that page anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use horus_core::decision::{Action, Axes, Decision, Instead, Outside, Veto, decide};
use horus_core::verdict::{LoopAxis, ProcessAxis, ProgressAxis, ValueAxis, Verdict};

const CELLS: usize = 4 * 6 * 5 * 4 * 12;

fn restarts(decision: Decision) -> bool {
    matches!(decision.action, Action::Restart | Action::RestartAtTwice)
}

#[test]
fn the_product_is_complete_and_every_cell_has_its_reason() {
    let mut seen = std::collections::BTreeSet::new();
    for axes in Axes::all() {
        assert!(seen.insert(axes), "{axes:?} occurs twice");
        assert!(!decide(axes).because.is_empty(), "{axes:?} has no reason");
    }
    assert_eq!(seen.len(), CELLS);
}

#[test]
fn invariant_g8_no_value_changes_whether_anything_is_restarted() {
    for axes in Axes::all() {
        let plain = decide(Axes { value: ValueAxis::Unknown, ..axes });
        let with = decide(axes);
        assert_eq!(restarts(plain), restarts(with), "{axes:?}");
        if restarts(plain) {
            assert_eq!(plain, with, "{axes:?}");
        }
    }
}

#[test]
fn invariant_g1_life_on_the_judged_track_forbids_a_restart() {
    for axes in Axes::all().filter(|axes| restarts(decide(*axes))) {
        let by_work = axes.process == ProcessAxis::Running
            && axes.progress == ProgressAxis::Stalled
            && !axes.outside.is_held()
            && matches!(axes.loop_axis, LoopAxis::Unknown | LoopAxis::Beating | LoopAxis::Late);
        if by_work {
            continue;
        }
        assert_ne!(axes.progress, ProgressAxis::Advancing, "declared work advances: {axes:?}");
        assert_ne!(axes.outside, Outside::Home, "its loop was seen at home: {axes:?}");
        assert!(!axes.outside.is_held(), "somebody else holds it: {axes:?}");
        let silent = matches!(axes.loop_axis, LoopAxis::Silent | LoopAxis::Lying);
        assert!(silent || axes.outside.is_death(), "neither absence nor proof: {axes:?}");
    }
}

#[test]
fn what_has_no_process_or_is_ending_is_left_alone() {
    for axes in Axes::all() {
        if matches!(axes.process, ProcessAxis::Absent | ProcessAxis::Stopping) {
            assert_eq!(decide(axes).action, Action::Nothing, "{axes:?}");
        }
    }
}

#[test]
fn a_start_is_ended_by_a_proof_of_death_past_its_cap_and_by_nothing_else() {
    for axes in Axes::all().filter(|axes| axes.process == ProcessAxis::Starting) {
        let works = axes.progress == ProgressAxis::Advancing;
        let lawful = axes.loop_axis == LoopAxis::Silent && axes.outside.is_death() && !works;
        assert_eq!(restarts(decide(axes)), lawful, "{axes:?}");
    }
}

#[test]
fn a_restart_at_once_needs_a_proof_of_death() {
    for axes in Axes::all().filter(|axes| decide(*axes).action == Action::Restart) {
        assert!(axes.outside.is_death(), "{axes:?}");
    }
}

#[test]
fn a_permanent_hang_of_whatever_form_leads_somewhere() {
    for axes in Axes::all().filter(|axes| axes.process == ProcessAxis::Running) {
        let silent = matches!(axes.loop_axis, LoopAxis::Silent | LoopAxis::Lying | LoopAxis::Unreachable);
        let declared = axes.loop_axis == LoopAxis::Lying && axes.progress == ProgressAxis::Idle;
        if (silent && !declared) || axes.progress == ProgressAxis::Stalled {
            assert!(decide(axes).action > Action::Watch, "{axes:?} is neither told nor healed");
        }
    }
}

#[test]
fn vetoes_are_in_their_order_and_each_does_something_else_instead() {
    assert_eq!(Veto::ALL.len(), 13);
    assert!(Veto::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(Veto::ALL[0], Veto::Held, "a person's order comes first");
    assert_eq!(Veto::ALL.last(), Some(&Veto::Breaker));
}

// --- the page ---

const SAME: [ValueAxis; 2] = [ValueAxis::Unknown, ValueAxis::Fresh];

fn shown(decision: Decision) -> String {
    match decision.action {
        Action::Nothing => decision.verdict.word().to_owned(),
        action => format!("{}, **{}**", decision.verdict.word(), action.words()),
    }
}

fn running(loop_axis: LoopAxis, progress: ProgressAxis, value: ValueAxis, outside: Outside) -> Decision {
    decide(Axes { process: ProcessAxis::Running, loop_axis, progress, value, outside })
}

fn columns(text: &mut String, first: &str, last: &str) {
    let names = Outside::ALL.map(|outside| format!(" {} |", outside.word()));
    let line: String = format!("{first}{}{last}", names.concat());
    let dashes = "---|".repeat(line.matches('|').count() - 1);
    let _ = write!(text, "{line}\n|{dashes}\n");
}

fn running_table(text: &mut String) {
    columns(text, "| loop | progress |", " value stale or dead |");
    for loop_axis in LoopAxis::ALL {
        for progress in ProgressAxis::ALL {
            let _ = write!(text, "| {} | {} |", loop_axis.word(), progress.word());
            for outside in Outside::ALL {
                let cell = running(loop_axis, progress, ValueAxis::Unknown, outside);
                assert!(SAME.map(|value| running(loop_axis, progress, value, outside)) == [cell, cell]);
                let _ = write!(text, " {} |", shown(cell));
            }
            // One column stands for both bad values and all that is seen, but for what is held: checked here, so the page
            // leaves nothing out.
            let free = Outside::ALL.into_iter().filter(|outside| !outside.is_held());
            let cells = |value| -> Vec<Decision> {
                free.clone().map(|outside| running(loop_axis, progress, value, outside)).collect()
            };
            for outside in Outside::ALL.into_iter().filter(|outside| outside.is_held()) {
                let cell = |value| running(loop_axis, progress, value, outside);
                assert!(ValueAxis::ALL.into_iter().all(|value| cell(value) == cell(ValueAxis::Unknown)));
            }
            let (plain, stale, dead) =
                (cells(ValueAxis::Unknown), cells(ValueAxis::Stale), cells(ValueAxis::Dead));
            if stale == plain && dead == plain {
                text.push_str(" as on the left |\n");
            } else {
                let one = stale[0];
                assert!(stale.iter().chain(&dead).all(|cell| *cell == one), "{loop_axis:?} {progress:?}");
                let _ = writeln!(text, " {}; held: as on the left |", shown(one));
            }
        }
    }
}

fn starting_table(text: &mut String) {
    columns(text, "| loop |", "");
    for loop_axis in LoopAxis::ALL {
        let _ = write!(text, "| {} |", loop_axis.word());
        for outside in Outside::ALL {
            let cell = |progress, value| {
                decide(Axes { process: ProcessAxis::Starting, loop_axis, progress, value, outside })
            };
            let one = cell(ProgressAxis::Unknown, ValueAxis::Unknown);
            for progress in ProgressAxis::ALL {
                let same = ValueAxis::ALL.into_iter().all(|value| cell(progress, value) == one);
                let works = progress == ProgressAxis::Advancing && one.action == Action::Restart;
                assert!(same || (works && cell(progress, ValueAxis::Unknown).action == Action::Tell));
            }
            let _ = write!(text, " {} |", shown(one));
        }
        text.push('\n');
    }
}

fn reasons_table(text: &mut String) {
    let mut cells: BTreeMap<(Action, Verdict, &str), usize> = BTreeMap::new();
    for axes in Axes::all() {
        let Decision { verdict, action, because } = decide(axes);
        *cells.entry((action, verdict, because)).or_default() += 1;
    }
    text.push_str("| action | verdict | because | cells |\n|---|---|---|---|\n");
    for ((action, verdict, because), count) in cells {
        let _ = writeln!(text, "| {} | {} | {because} | {count} |", action.words(), verdict.word());
    }
}

fn vetoes_table(text: &mut String) {
    text.push_str("| veto | because | instead |\n|---|---|---|\n");
    for veto in Veto::ALL {
        let instead = match veto.instead() {
            Instead::Wait => "the silence goes on to be judged; nothing is told",
            Instead::Tell => "a person is told what was seen, and why nothing is done",
            Instead::Ask => "a person is told that they are needed",
        };
        let _ = writeln!(text, "| {} | {} | {instead} |", veto.word(), veto.because());
    }
}

fn page() -> String {
    let mut text = String::from(
        "# The decision table\n\n\
         Generated from `horus_core::decision`; do not edit. Four axes and what is seen from outside make 5,760 cells; each\n\
         has its verdict, its action and its reason. Where a column or a row stands for several cells, the test that makes\n\
         this page has checked that they are the same.\n\n\
         `watch`: capture evidence, probe faster. `tell`: a person is told, nothing is touched. `restart`: at the deadline.\n\
         `restart at 2x`: at twice the deadline, because absence is all there is. A restart is only what the table asks\n\
         for; what may forbid it stands in the last table.\n\n\
         The columns are what is seen from outside, by captures that are compared and by the kernel's view: `turning` its\n\
         loops come home, `home` its main thread was met in its poll call during a silence, `away` not met for improbably\n\
         long, `beside` one loop is dead while another comes home. `stopped`, `paused`, `uninterruptible` and `thrashing` are held.\n\n\
         ## A running service\n\n",
    );
    running_table(&mut text);
    text.push_str(
        "\n## A service that starts\n\n`silent` means here that the startup cap has passed. The value does not matter;\ndeclared work that advances makes a `tell` of the restart.\n\n",
    );
    starting_table(&mut text);
    let absent = decide(Axes {
        process: ProcessAxis::Absent,
        loop_axis: LoopAxis::Unknown,
        progress: ProgressAxis::Unknown,
        value: ValueAxis::Unknown,
        outside: Outside::None,
    });
    let _ = write!(
        text,
        "\n## No process, or on its way to its end\n\nAlways {} or stopping: {}.\n\n## The reasons\n\n",
        absent.verdict.word(),
        absent.because,
    );
    reasons_table(&mut text);
    text.push_str("\n## What may forbid a restart\n\nIn the order of precedence: the first that holds is the one that is told.\n\n");
    vetoes_table(&mut text);
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "writes a generated page of the docs on request")]
fn the_page_shows_the_whole_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/decisions.md");
    if std::env::var_os("HORUS_UPDATE").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, page(), "run: HORUS_UPDATE=1 cargo test -p horus-core");
}

#[test]
fn the_words_of_each_axis_tell_its_values_apart() {
    use horus_core::verdict::{ProcessAxis, ValueAxis};
    assert_eq!(ProcessAxis::ALL.map(ProcessAxis::word), ["absent", "starting", "running", "stopping"]);
    assert_eq!(ValueAxis::ALL.map(ValueAxis::word), ["unknown", "fresh", "stale", "dead"]);
}
