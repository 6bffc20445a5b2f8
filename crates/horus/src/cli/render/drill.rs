//! `horus drill`: each step with its time and its bound, then what was checked.

use crate::cli::drill::{Drill, Step};

use super::style::{Paint, Style};
use super::text::{Cell, Table, clean, human};

/// The report.
pub(crate) fn render_drill(drill: &Drill, style: Style) -> String {
    let mut table = Table::default();
    let heads = ["", "STEP", "AFTER", "AT MOST", "WHAT"];
    table.row(heads.iter().map(|head| Cell::new(head, Paint::Dim)).collect(), String::new());
    for step in &drill.steps {
        let (mark, paint) = mark(step.is_kept());
        let bound = step.bound_ms.map_or_else(String::new, human);
        let cells = vec![
            Cell::new(mark, paint),
            Cell::new(step.name, Paint::Head),
            Cell::new(after(step), paint),
            Cell::new(bound, Paint::Dim),
            Cell::new(&step.text, Paint::Plain),
        ];
        table.row(cells, String::new());
    }
    let mut out = format!("drill: {} of {}\n", drill.fault.word(), clean(drill.service.as_str()));
    out += &table.render(2, style);
    for (what, so) in &drill.checks {
        let (mark, paint) = mark(*so);
        out += &format!("{}  {}\n", style.paint(paint, mark), clean(what));
    }
    match drill.cleaned_up {
        Some(true) => {
            out += &format!("{}  the private horus of the drill is gone\n", style.paint(Paint::Good, "ok"))
        }
        Some(false) => {
            out += &format!(
                "{}  the private horus did not end and was killed\n",
                style.paint(Paint::Bad, "NOT SO")
            );
        }
        None => {}
    }
    let verdict = if drill.passed() { "the drill passed" } else { "the drill FAILED" };
    out + verdict + "\n"
}

fn after(step: &Step) -> String {
    step.after_ms.map_or_else(|| "never".to_owned(), human)
}

fn mark(so: bool) -> (&'static str, Paint) {
    if so { ("ok", Paint::Good) } else { ("NOT SO", Paint::Bad) }
}
