//! What is shipped as text has to be as true as what is shipped as code.

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
    let unexpected: Vec<String> =
        said(&loaded).into_iter().filter(|said| !said.contains("no `[sink")).collect();
    assert_eq!(unexpected, Vec::<String>::new());
    let plan = loaded.into_result().unwrap().plan;
    let names: Vec<String> = plan.services.iter().map(|service| service.name.to_string()).collect();
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
