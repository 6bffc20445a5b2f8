//! `horus explain NAME`: what is known from which source, and what would have to happen for Horus to act.

use horus_core::explain::{Explanation, Foreseen, Known, Worth};

use super::style::{Paint, Style};
use super::text::{clean, human, wrap};

/// Columns of the names on the left.
const LABEL: usize = 14;

/// The order in which evidence is shown, and what each class is called.
const CLASSES: [(Worth, &str); 5] = [
    (Worth::Life, "signs of life"),
    (Worth::Death, "proofs of death"),
    (Worth::Held, "held by others"),
    (Worth::Absence, "missing"),
    (Worth::Neutral, "also known"),
];

/// The explanation, in at most `width` columns.
pub(crate) fn render_explanation(explanation: &Explanation, width: usize, style: Style) -> String {
    let Explanation { service, verdict, because, known, next, forbids, .. } = explanation;
    let mut out = format!(
        "{}: {}\n",
        style.paint(Paint::Head, service.as_str()),
        style.paint(Paint::Head, verdict.word())
    );
    out += &wrap(&clean(because), "   ", width);
    for (worth, title) in CLASSES {
        let mut class = known.iter().filter(|known| known.worth == worth).peekable();
        if class.peek().is_none() {
            continue;
        }
        out += &format!("\n{}\n", style.paint(Paint::Head, title));
        for Known { source, says, .. } in class {
            out += &line(source, says, width);
        }
    }
    if !forbids.is_empty() {
        out += &format!("\n{}\n", style.paint(Paint::Head, "no restart now"));
        for why in forbids {
            out += &wrap(&clean(why), "   ", width);
        }
    }
    if !next.is_empty() {
        out += &format!("\n{}\n", style.paint(Paint::Head, "what would happen"));
        for Foreseen { in_ms, when, what } in next {
            let label = in_ms.map_or_else(|| "if".to_owned(), |left| format!("in {}", human(left)));
            out += &line(&label, &format!("{when}: {what}"), width);
        }
    }
    out
}

fn line(label: &str, text: &str, width: usize) -> String {
    wrap(&clean(text), &format!("   {:LABEL$} ", clean(label)), width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use horus_core::explain::EXPLANATION_SCHEMA;
    use horus_core::ids::ServiceName;
    use horus_core::verdict::Verdict;

    #[test]
    fn evidence_stands_by_its_worth_and_what_would_happen_below() {
        let known =
            |worth, source: &str, says: &str| Known { worth, source: source.into(), says: says.into() };
        let explanation = Explanation {
            schema: EXPLANATION_SCHEMA,
            service: ServiceName::parse("trading").unwrap(),
            verdict: Verdict::Slow,
            because: "no fresh tick for 6 s, deadline 10 s".into(),
            known: vec![
                known(Worth::Neutral, "process", "4711 has been alive for 2 h"),
                known(Worth::Absence, "http", "fresh tick 6 s ago, at 812; last heard: no answer in 2 s"),
                known(Worth::Life, "counters", "one of them moved 1 s ago"),
                known(Worth::Death, "kernel", "blocked in recvfrom from 10.0.0.7:443 for 5 s"),
            ],
            next: vec![Foreseen {
                in_ms: Some(4_000),
                when: "no fresh tick for 10 s".into(),
                what: "a verdict and an incident; a restart, if its loop is proven dead".into(),
            }],
            forbids: vec!["held: it is held: migrating".into()],
        };
        insta::assert_snapshot!(render_explanation(&explanation, 100, Style::new(false)));
    }
}
