//! `cargo xtask check --cross`: what is written for macOS, seen from a machine that is not one.
//!
//! ```text
//!   rustup target add            the compiled standard library
//!   PyPI: ziglang                a C compiler and a linker for every target, with the symbols of libSystem
//!   PyPI: cargo-zigbuild         hands both to cargo
//!   frameworks (here)            the symbols of Security and CoreFoundation that our dependencies may use
//! ```
//!
//! Two things are shown: that all targets of the workspace type-check for it without a warning, and that every program
//! links. It is not shown that one of them *runs*. And what is linked against Apple's two frameworks is linked against a
//! list of names: [`FRAMEWORKS`] is what one link has asked for, so that a new name fails here and has to be looked up in
//! Apple's manuals; that these are exported is believed, not shown. Programs from here are for looking at, not for shipping.
//!
//! Not a part of the plain check: it builds everything a second time.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Check, Finding};
use crate::{setup, shell};

/// What is built for.
const TRIPLE: &str = "aarch64-apple-darwin";

/// The pair that is known to work together.
const ZIGBUILD: (&str, &str) = ("cargo-zigbuild", "0.24.0");
const ZIG: &str = "ziglang==0.17.1";

/// A Mach-O file of 64 bits begins with these bytes, and then with the processor's number.
const MACH_O_ARM64: [u8; 8] = [0xcf, 0xfa, 0xed, 0xfe, 0x0c, 0, 0, 1];

/// What rustls asks the system about certificates with, and what that is described in.
const FRAMEWORKS: [(&str, &[&str]); 2] = [
    (
        "Security",
        &[
            "SecCertificateCopySubjectSummary",
            "SecCertificateCreateWithData",
            "SecCopyErrorMessageString",
            "SecPolicyCreateSSL",
            "SecTrustCreateWithCertificates",
            "SecTrustEvaluateWithError",
            "SecTrustSetAnchorCertificates",
            "SecTrustSetAnchorCertificatesOnly",
            "SecTrustSetOCSPResponse",
            "SecTrustSetVerifyDate",
        ],
    ),
    (
        "CoreFoundation",
        &[
            "CFArrayCreate",
            "CFDataCreate",
            "CFDateCreate",
            "CFErrorCopyDescription",
            "CFErrorGetCode",
            "CFRelease",
            "CFStringCreateWithBytes",
            "CFStringGetBytes",
            "CFStringGetCStringPtr",
            "CFStringGetLength",
            "kCFAbsoluteTimeIntervalSince1970",
            "kCFAllocatorDefault",
            "kCFTypeArrayCallBacks",
        ],
    ),
];

/// In this order: the second takes much of the first for its own.
pub(super) const CHECKS: [(&str, Check); 2] = [("lints for macOS", lints), ("programs for macOS", programs)];

fn lints(root: &Path) -> Result<Finding> {
    let cross = match Cross::prepare(root)? {
        Ok(cross) => cross,
        Err(why) => return Ok(Finding::Skipped(why)),
    };
    let arguments = ["--workspace", "--all-targets", "--locked", "--keep-going", "--", "-D", "warnings"];
    shell::run(cross.cargo("clippy").args(arguments))?;
    Ok(Finding::Good(format!("all targets, no warning, {TRIPLE}")))
}

fn programs(root: &Path) -> Result<Finding> {
    let cross = match Cross::prepare(root)? {
        Ok(cross) => cross,
        Err(why) => return Ok(Finding::Skipped(why)),
    };
    shell::run(cross.cargo("zigbuild").args(["--workspace", "--bins", "--locked", "--keep-going"]))?;
    let folder = cross.target.join(TRIPLE).join("debug");
    let names = names_of_programs(root)?;
    let mut faults = Vec::new();
    for name in &names {
        if !is_mach_o(&folder.join(name)) {
            faults.push(format!("{name}: there is no Mach-O file of it"));
        }
    }
    let looked_at = format!(
        "{} link; against Apple's frameworks by a list of names only; none was run: {}",
        names.len(),
        names.join(", ")
    );
    Ok(Finding::of(faults, looked_at))
}

/// A cargo that builds for [`TRIPLE`].
struct Cross {
    root: PathBuf,
    target: PathBuf,
    zigbuild: PathBuf,
    zig: PathBuf,
    frameworks: PathBuf,
}

impl Cross {
    /// Fetches what is missing. The inner error is why it cannot be had here.
    fn prepare(root: &Path) -> Result<Result<Self, String>> {
        if cfg!(target_os = "macos") {
            return Ok(Err("this is a Mac: the checks without --cross are about it".into()));
        }
        if let Err(why) = setup::rust_target(TRIPLE) {
            return Ok(Err(why));
        }
        let target = shell::target_directory(root)?;
        let zigbuild = match setup::from_pypi(&target, ZIGBUILD, &[ZIG]) {
            Ok(program) => program,
            Err(why) => return Ok(Err(why)),
        };
        let tools = zigbuild.ancestors().nth(2).context("a tool lies in the bin of its folder")?;
        let zig = tools.join("ziglang/zig");
        if !shell::is_there(shell::command(&zig).arg("version")) {
            return Ok(Err(format!("{ZIG} holds no zig that runs here")));
        }
        let target = target.join("cross");
        let frameworks = target.join("frameworks");
        write_frameworks(&frameworks)?;
        Ok(Ok(Self { root: root.to_path_buf(), target, zigbuild, zig, frameworks }))
    }

    fn cargo(&self, verb: &str) -> std::process::Command {
        let mut cargo = shell::cargo(&self.root);
        let mut zigbuild = shell::command(&self.zigbuild);
        // The same environment as every cargo of ours has.
        for (name, value) in cargo.current_dir(&self.root).get_envs() {
            match value {
                Some(value) => zigbuild.env(name, value),
                None => zigbuild.env_remove(name),
            };
        }
        zigbuild.current_dir(&self.root).env("CARGO_ZIGBUILD_ZIG_PATH", &self.zig);
        zigbuild.env("CARGO_TARGET_DIR", &self.target).env("CARGO_PROFILE_DEV_DEBUG", "0");
        zigbuild.env("CARGO_ENCODED_RUSTFLAGS", format!("-Lframework={}", self.frameworks.display()));
        zigbuild.args([verb, "--target", TRIPLE]);
        zigbuild
    }
}

/// Lists of names, as a linker reads them in the place of a framework.
fn write_frameworks(folder: &Path) -> Result<()> {
    for (name, symbols) in FRAMEWORKS {
        let folder = folder.join(format!("{name}.framework"));
        std::fs::create_dir_all(&folder)?;
        std::fs::File::create(folder.join(format!("{name}.tbd")))?
            .write_all(framework(name, symbols).as_bytes())?;
    }
    Ok(())
}

fn framework(name: &str, symbols: &[&str]) -> String {
    let mut text = format!(
        "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos ]\n\
         install-name: '/System/Library/Frameworks/{name}.framework/Versions/A/{name}'\n\
         exports:\n  - targets: [ arm64-macos ]\n    symbols: ["
    );
    for (nth, symbol) in symbols.iter().enumerate() {
        // In C, a name of the source is one of the file with a line before it.
        let _ = write!(text, "{} _{symbol}", if nth == 0 { "" } else { "," });
    }
    text + " ]\n...\n"
}

fn names_of_programs(root: &Path) -> Result<Vec<String>> {
    let metadata =
        shell::read(shell::cargo(root).args(["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let targets = packages.iter().filter_map(|package| package["targets"].as_array()).flatten();
    let is_program = |target: &serde_json::Value| {
        let kinds = target["kind"].as_array();
        // One that asks for a feature is a tool of a crate's own, not built by default.
        kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"))
            && target["required-features"].as_array().is_none_or(Vec::is_empty)
    };
    let names = targets.filter(|target| is_program(target)).filter_map(|target| target["name"].as_str());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

fn is_mach_o(path: &Path) -> bool {
    let mut start = [0; MACH_O_ARM64.len()];
    std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok())
        && start == MACH_O_ARM64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_framework_is_a_list_of_names() {
        let text = framework("Tea", &["TeaBoil", "kTeaCups"]);
        assert!(text.contains("Frameworks/Tea.framework/Versions/A/Tea'\n"), "{text}");
        assert!(text.ends_with("symbols: [ _TeaBoil, _kTeaCups ]\n...\n"), "{text}");
    }

    #[test]
    fn a_program_of_this_machine_is_none_for_that_one() {
        assert!(!is_mach_o(&std::env::current_exe().unwrap()));
        assert!(!is_mach_o(Path::new("/no/such/file")));
    }
}
