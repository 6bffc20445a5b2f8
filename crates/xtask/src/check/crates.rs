//! What holds for every crate of the workspace: versions in one table, lints inherited, no dependency that nobody uses.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Finding, tidy};

/// The one crate that may hold unsafe code.
const UNSAFE_HOME: &str = "horus-sys";

/// Kinds of dependencies, and the folders that may use each.
const KINDS: [(&str, &[&str]); 3] = [
    ("dependencies", &["src", "subjects"]),
    ("dev-dependencies", &["."]),
    ("build-dependencies", &["build.rs"]),
];

/// A member of the workspace.
struct Member {
    name: String,
    folder: PathBuf,
    manifest: toml::Table,
}

pub(super) fn check(root: &Path) -> Result<Finding> {
    let members = members(root)?;
    let mut faults = Vec::new();
    for member in &members {
        let mut fault = |text: String| faults.push(format!("{}: {text}", member.name));
        let inherits = |value: Option<&toml::Value>| {
            value.and_then(|value| value.get("workspace")).and_then(toml::Value::as_bool) == Some(true)
        };
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !inherits(member.manifest.get("package").and_then(|package| package.get(key))) {
                fault(format!("`{key}` is not that of the workspace"));
            }
        }
        if !inherits(Some(&toml::Value::Table(member.manifest.clone())).and_then(|whole| whole.get("lints")))
        {
            fault("[lints] are not those of the workspace".into());
        }
        for (name, value) in KINDS.iter().flat_map(|(kind, _)| dependencies(&member.manifest, kind)) {
            // A crate that is its own dependency turns on a feature of itself for its tests.
            if !inherits(Some(&value)) && name != member.name {
                fault(format!("the version of {name} does not stand in the workspace table"));
            }
        }
        for program in tidy::crate_roots(&member.folder) {
            let text = std::fs::read_to_string(&program)?;
            let forbids = text.contains("#![forbid(unsafe_code)]");
            if !forbids && member.name != UNSAFE_HOME {
                fault(format!("{} does not forbid unsafe code", program.strip_prefix(root)?.display()));
            }
        }
    }
    Ok(Finding::of(faults, format!("{} crates: lints, versions, unsafe code", members.len())))
}

/// Dependencies that no source of their crate names.
pub(super) fn unused(root: &Path) -> Result<Finding> {
    let mut faults = Vec::new();
    let mut looked_at = 0;
    for member in members(root)? {
        for (kind, folders) in KINDS {
            let sources = sources(&member.folder, folders)?;
            for (name, _) in dependencies(&member.manifest, kind) {
                looked_at += 1;
                let identifier = name.replace('-', "_");
                if !sources.iter().any(|text| has_word(text, &identifier)) {
                    faults.push(format!("{}: nothing uses {name} of [{kind}]", member.name));
                }
            }
        }
    }
    Ok(Finding::of(faults, format!("{looked_at} dependencies are used")))
}

fn members(root: &Path) -> Result<Vec<Member>> {
    let mut folders = vec![root.join("tests")];
    for entry in std::fs::read_dir(root.join("crates"))? {
        folders.push(entry?.path());
    }
    folders.sort();
    folders
        .into_iter()
        .filter(|folder| folder.join("Cargo.toml").is_file())
        .map(|folder| {
            let text = std::fs::read_to_string(folder.join("Cargo.toml"))?;
            let manifest: toml::Table = text.parse().with_context(|| folder.display().to_string())?;
            let name = manifest.get("package").and_then(|package| package.get("name")?.as_str());
            Ok(Member { name: name.context("a crate without name")?.to_owned(), folder, manifest })
        })
        .collect()
}

/// Dependencies of one kind, those for one platform included.
fn dependencies(manifest: &toml::Table, kind: &str) -> Vec<(String, toml::Value)> {
    let platforms = manifest.get("target").and_then(toml::Value::as_table);
    let tables = platforms.into_iter().flat_map(|platforms| platforms.values().map(|value| value.get(kind)));
    let tables =
        std::iter::once(manifest.get(kind)).chain(tables).flatten().filter_map(toml::Value::as_table);
    tables.flat_map(|table| table.iter().map(|(name, value)| (name.clone(), value.clone()))).collect()
}

fn sources(folder: &Path, names: &[&str]) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for name in names {
        tidy::walk(&folder.join(name), &mut files)?;
    }
    let rust = files.iter().filter(|file| file.extension().is_some_and(|end| end == "rs"));
    rust.map(|file| Ok(std::fs::read_to_string(file)?)).collect()
}

fn has_word(text: &str, word: &str) -> bool {
    let part_of_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word).any(|(at, _)| {
        !part_of_word(text[..at].chars().next_back()) && !part_of_word(text[at + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_not_found_inside_another() {
        assert!(has_word("use serde::Serialize;", "serde"));
        assert!(!has_word("use serde_json::Value;", "serde"));
        assert!(!has_word("my_serde()", "serde"));
    }

    #[test]
    fn dependencies_of_a_platform_count() {
        let manifest =
            "[dependencies]\na.workspace = true\n[target.'cfg(unix)'.dependencies]\nb.workspace = true\n";
        let names: Vec<String> = dependencies(&manifest.parse().unwrap(), "dependencies")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["a", "b"]);
    }
}
