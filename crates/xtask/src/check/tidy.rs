//! What every file has to keep to, and what it had better.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Finding;

/// Longest file that is read in one go, in lines. A longer one is named, not refused.
const FILE_LINES: usize = 650;

/// Longest line of Rust. A longer one is named, not refused.
const LINE_CHARACTERS: usize = 120;

/// Most warnings that are printed.
const WARNINGS_MAX: usize = 20;

/// Folders that hold no sources.
const NOT_OURS: [&str; 6] = [".git", "target", "run", "node_modules", "__pycache__", ".venv"];

/// Files that somebody else wrote.
const NOT_OUR_FILES: [&str; 3] = ["Cargo.lock", "LICENSE-APACHE", "LICENSE-MIT"];

/// Words that mean "not done". Cut in two, so that this file is not found.
const UNDONE: [&str; 4] =
    [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!("), concat!("FIX", "ME")];

pub(super) fn check(root: &Path) -> Result<Finding> {
    let mut files = Vec::new();
    walk(root, &mut files)?;
    files.sort();
    let mut faults = Vec::new();
    let mut warnings = Vec::new();
    let local = local_paths(root);
    for file in &files {
        let shown = file.strip_prefix(root)?.display();
        if matches!(file.to_str(), Some(name) if name.ends_with(".snap.new") || name.ends_with(".pending-snap"))
        {
            faults.push(format!("{shown}: a snapshot that waits for a decision"));
        }
        let foreign =
            file.file_name().is_some_and(|name| NOT_OUR_FILES.iter().any(|foreign| name == *foreign));
        let Ok(text) = std::fs::read_to_string(file) else { continue };
        if foreign {
            continue;
        }
        let is_rust = file.extension().is_some_and(|end| end == "rs");
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(word) = UNDONE.iter().find(|word| is_rust && line.contains(**word)) {
                faults.push(format!("{shown}:{number}: {word}"));
            }
            if let Some(path) = local.iter().find(|path| line.contains(path.as_str())) {
                faults.push(format!("{shown}:{number}: a path of this machine: {path}"));
            }
            if is_rust && line.chars().count() > LINE_CHARACTERS {
                warnings.push(format!("{shown}:{number}: longer than {LINE_CHARACTERS} characters"));
            }
        }
        let lines = text.lines().count();
        if is_rust && lines > FILE_LINES {
            warnings.push(format!("{shown}: {lines} lines, more than {FILE_LINES}"));
        }
    }
    for warning in warnings.iter().take(WARNINGS_MAX) {
        eprintln!("warning: {warning}");
    }
    Ok(Finding::of(faults, format!("{} files, {} warnings", files.len(), warnings.len())))
}

/// Paths that mean something on this machine only: that of the workspace, and the home of who works here.
fn local_paths(root: &Path) -> Vec<String> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.filter(|home| home.components().count() > 1);
    let mut paths = vec![format!("{}/", root.display())];
    paths.extend(home.map(|home| format!("{}/", home.display())));
    paths
}

/// Everything below a folder that is ours; a file is itself.
pub(super) fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if folder.is_file() {
        files.push(folder.to_path_buf());
        return Ok(());
    }
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let ours = !NOT_OURS.iter().any(|name| entry.file_name() == *name);
        if kind.is_dir() && ours {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The files that cargo starts to compile a crate from, tests and benches apart.
pub(super) fn crate_roots(folder: &Path) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> =
        ["lib.rs", "main.rs"].iter().map(|name| folder.join("src").join(name)).collect();
    let programs = std::fs::read_dir(folder.join("src/bin")).into_iter().flatten().flatten();
    roots.extend(programs.map(|entry| entry.path()));
    roots.retain(|path| path.is_file());
    roots
}
