//! The transition table in docs/reference is what the code does. `HORUS_UPDATE=1 cargo test` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use horus_core::transition::{PhaseKind, Trigger, next_step};

fn table() -> String {
    let mut text = String::from(
        "# The transition table\n\n\
         Generated from `horus_core::transition::next_step`; do not edit.\n\
         One row per trigger, one column per phase of a service. `·` means that nothing is done (a wish is remembered).\n\
         `settle` chooses between down, waiting, backoff and launching: hold > operator's stop > breaker > policy.\n\n|",
    );
    for phase in PhaseKind::ALL {
        let _ = write!(text, " | {}", phase.word());
    }
    text.push_str(" |\n|---|");
    text.push_str(&"---|".repeat(PhaseKind::ALL.len()));
    text.push('\n');
    for trigger in Trigger::ALL {
        let _ = write!(text, "| **{}**", trigger.words());
        for phase in PhaseKind::ALL {
            let _ = write!(text, " | {}", next_step(phase, trigger).words());
        }
        text.push_str(" |\n");
    }
    text
}

#[test]
#[expect(clippy::disallowed_methods, reason = "writes a generated page of the docs on request")]
fn the_transition_table_is_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/transitions.md");
    if std::env::var_os("HORUS_UPDATE").is_some() {
        std::fs::write(&path, table()).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(committed, table(), "run: HORUS_UPDATE=1 cargo test -p horus-core");
}
