//! What is shipped as text has to be as true as what is shipped as code.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test says what it expects")]

use std::path::{Path, PathBuf};

use horus_config::{Loaded, SystemEnvironment};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

fn said(loaded: &Loaded) -> Vec<String> {
    loaded.faults.iter().chain(&loaded.warnings).map(ToString::to_string).collect()
}

/// The fenced blocks of that language in a page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_shipped_configuration_is_sound() {
    let loaded = horus_config::load(&root().join("watchdog.toml"), &SystemEnvironment);
    // Nobody is told, on purpose; and the two programs are on the `PATH` that `cargo xtask run` makes.
    let expected = |said: &String| said.contains("there is no sink") || said.contains("there is no program");
    let unexpected: Vec<String> = said(&loaded).into_iter().filter(|said| !expected(said)).collect();
    assert_eq!(unexpected, Vec::<String>::new());
    let plan = loaded.into_result().unwrap().plan;
    let names: Vec<String> = plan.services.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["pipeline", "trading"]);
}

#[test]
fn the_configurations_in_the_pages_for_newcomers_are_sound() {
    for page in ["README.md", "docs/guides/getting-started.md"] {
        let configurations: Vec<String> =
            blocks(page, "toml").into_iter().filter(|block| block.contains("version = 1")).collect();
        assert!(!configurations.is_empty(), "{page} shows no watchdog.toml");
        for text in configurations {
            let loaded = horus_config::parse(&text, &root().join("watchdog.toml"), &SystemEnvironment);
            let faults: Vec<String> = loaded.faults.iter().map(ToString::to_string).collect();
            assert_eq!(faults, Vec::<String>::new(), "{page}");
        }
    }
}

#[test]
fn every_file_that_a_page_links_to_is_there() {
    let pages = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "docs/README.md",
        "docs/design/000-index.md",
        "docs/guides/getting-started.md",
        "docs/guides/trading.md",
        "docs/guides/pipeline.md",
    ];
    let mut dead = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let folder = root().join(page).parent().unwrap().to_path_buf();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            let elsewhere = link.contains("://") || file.is_empty();
            if !elsewhere && !folder.join(file).exists() {
                dead.push(format!("{page}: {link}"));
            }
        }
    }
    assert_eq!(dead, Vec::<String>::new());
}

/// All Rust of the workspace.
fn sources(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_and_file_that_the_architecture_names_is_there() {
    let mut code = String::new();
    ["crates", "tests"].iter().for_each(|folder| sources(&root().join(folder), &mut code));
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let is_test = |name: &&&str| name.matches('_').count() >= 3 && !name.contains(['/', '.', ' ']);
    let tests: Vec<&&str> = named.iter().filter(is_test).collect();
    assert!(tests.len() > 20, "only {} tests are named: has the page another form?", tests.len());
    let gone: Vec<&&&str> = tests.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert_eq!(gone, Vec::<&&&str>::new());
    let files = named.iter().filter(|name| name.starts_with("crates/") || name.starts_with("tests/"));
    let lost: Vec<&&str> = files.filter(|name| !root().join(name).exists()).collect();
    assert_eq!(lost, Vec::<&&str>::new());
}
