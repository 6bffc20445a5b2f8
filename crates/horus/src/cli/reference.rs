//! `docs/reference/cli.md` is the help of every verb, word for word.

use std::path::Path;

use clap::{Command, CommandFactory};

use super::args::CommandLine;

const FILE: &str = "../../docs/reference/cli.md";

fn page(command: &Command, name: &str, out: &mut String) {
    let help = command.clone().term_width(90).bin_name(name).render_long_help();
    let lines: String = help.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect();
    *out += &format!("\n## {name}\n\n```text\n{lines}```\n");
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        page(verb, &format!("{name} {}", verb.get_name()), out);
    }
}

fn reference() -> String {
    let mut command = CommandLine::command();
    command.build();
    let mut out = "# Command line\n\nGenerated from the program's own help: `HORUS_UPDATE=1 cargo test -p horus reference`.\n".to_owned();
    page(&command, "horus", &mut out);
    out
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a generated page in the source tree, not state")]
fn the_reference_is_what_the_program_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let wanted = reference();
    if std::env::var_os("HORUS_UPDATE").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        there == wanted,
        "docs/reference/cli.md is out of date: HORUS_UPDATE=1 cargo test -p horus reference"
    );
}

#[test]
fn no_machine_shows_in_the_reference() {
    assert!(!reference().contains(env!("CARGO_MANIFEST_DIR")));
}
