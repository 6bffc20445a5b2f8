//! The part of `deny.toml` that can be judged from `cargo metadata` alone: licences, duplicates, sources.
//!
//! It reads the same file as cargo-deny, so that both say the same; cargo-deny knows more where it is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Finding, spdx};
use crate::shell::{self, cargo};

/// What `deny.toml` says.
struct Rules {
    allowed: Vec<String>,
    /// Further licences for one crate.
    exceptions: BTreeMap<String, Vec<String>>,
    /// `name@version` that may stand beside another version of itself.
    duplicates: BTreeSet<String>,
    targets: Vec<String>,
}

/// A crate of the dependency graph.
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    source: Option<String>,
}

pub(super) fn check(root: &Path) -> Result<Finding> {
    let rules = Rules::read(&std::fs::read_to_string(root.join("deny.toml")).context("deny.toml")?)?;
    let metadata = shell::read(cargo(root).args(["metadata", "--format-version", "1", "--locked"]))?;
    let packages = packages(&serde_json::from_str(&metadata)?, &built(root, &rules.targets)?)?;
    let mut faults: Vec<String> = packages.iter().filter_map(|package| rules.fault(package)).collect();
    faults.extend(rules.duplicate_faults(&packages));
    Ok(Finding::of(faults, format!("{} crates from the registry", packages.len())))
}

impl Rules {
    fn read(text: &str) -> Result<Self> {
        let file: toml::Table = text.parse()?;
        let licenses = file.get("licenses").context("deny.toml has no [licenses]")?;
        let mut exceptions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for exception in licenses.get("exceptions").and_then(toml::Value::as_array).into_iter().flatten() {
            let name =
                exception.get("crate").and_then(toml::Value::as_str).context("exception without crate")?;
            exceptions.entry(name.into()).or_default().extend(texts(exception.get("allow")));
        }
        let skip = file.get("bans").and_then(|bans| bans.get("skip")).and_then(toml::Value::as_array);
        let skipped = skip.into_iter().flatten().filter_map(|skip| skip.get("crate")?.as_str());
        Ok(Self {
            allowed: texts(licenses.get("allow")),
            exceptions,
            duplicates: skipped.map(str::to_owned).collect(),
            targets: texts(file.get("graph").and_then(|graph| graph.get("targets"))),
        })
    }

    fn fault(&self, package: &Package) -> Option<String> {
        let Package { name, version, licence, source } = package;
        if source.as_deref() != Some("registry+https://github.com/rust-lang/crates.io-index") {
            return Some(format!("{name} {version} does not come from crates.io"));
        }
        let Some(licence) = licence else { return Some(format!("{name} {version} names no licence")) };
        let mut allowed = self.allowed.clone();
        allowed.extend(self.exceptions.get(name).cloned().unwrap_or_default());
        match spdx::is_met(licence, &allowed) {
            Ok(true) => None,
            Ok(false) => Some(format!("{name} {version} is under {licence}, which deny.toml does not allow")),
            Err(error) => Some(format!("{name} {version}: {error:#}")),
        }
    }

    fn duplicate_faults(&self, packages: &[Package]) -> Vec<String> {
        let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for package in packages {
            versions.entry(&package.name).or_default().push(&package.version);
        }
        let mut faults = Vec::new();
        for (name, versions) in &versions {
            let known = |version: &&&str| self.duplicates.contains(&format!("{name}@{version}"));
            let unexplained = versions.iter().filter(|version| !known(version)).count();
            if versions.len() > 1 && unexplained > 1 {
                faults.push(format!("{name} is built {} times: {}", versions.len(), versions.join(", ")));
            }
        }
        let present: BTreeSet<String> =
            packages.iter().map(|p| format!("{}@{}", p.name, p.version)).collect();
        let gone = self.duplicates.difference(&present);
        faults.extend(gone.map(|name| format!("{name} is excused in deny.toml and no longer there")));
        faults
    }
}

fn texts(list: Option<&toml::Value>) -> Vec<String> {
    let list = list.and_then(toml::Value::as_array).into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// `name version` of everything that is built for one of these targets. Asked of `cargo tree`: metadata alone also holds
/// what no chosen feature needs.
fn built(root: &Path, targets: &[String]) -> Result<BTreeSet<String>> {
    let mut built = BTreeSet::new();
    for target in targets {
        let mut tree = cargo(root);
        tree.args(["tree", "--workspace", "--locked", "--quiet", "--target", target]);
        tree.args(["--prefix", "none", "--format", "{p}", "--edges", "normal,build,dev"]);
        built.extend(shell::read(&mut tree)?.lines().filter_map(name_and_version));
    }
    Ok(built)
}

/// From `serde v1.0.229 (proc-macro)`.
fn name_and_version(line: &str) -> Option<String> {
    let mut words = line.split(' ');
    Some(format!("{} {}", words.next()?, words.next()?.strip_prefix('v')?))
}

/// Those of them that come from elsewhere.
fn packages(metadata: &Value, built: &BTreeSet<String>) -> Result<Vec<Package>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let all = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let is_built = |package: &Value| {
        let (name, version) = (package["name"].as_str(), package["version"].as_str());
        name.zip(version).is_some_and(|(name, version)| built.contains(&format!("{name} {version}")))
    };
    let foreign = all.iter().filter(|package| !package["source"].is_null() && is_built(package));
    foreign
        .map(|package| {
            Ok(Package {
                name: text(&package["name"]).context("a package without name")?,
                version: text(&package["version"]).context("a package without version")?,
                licence: text(&package["license"]),
                source: text(&package["source"]),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
[graph]
targets = ["x86_64-unknown-linux-gnu"]
[licenses]
allow = ["MIT"]
exceptions = [{ crate = "notify", allow = ["CC0-1.0"] }]
[bans]
skip = [{ crate = "syn@2.0.0", reason = "until all use 3" }]
"#;

    fn package(name: &str, version: &str, licence: &str) -> Package {
        let source = Some("registry+https://github.com/rust-lang/crates.io-index".into());
        Package { name: name.into(), version: version.into(), licence: Some(licence.into()), source }
    }

    #[test]
    fn a_line_of_the_tree_is_read() {
        assert_eq!(name_and_version("serde v1.0.229 (proc-macro)").as_deref(), Some("serde 1.0.229"));
        assert_eq!(name_and_version(""), None);
    }

    #[test]
    fn an_exception_holds_for_its_crate_only() {
        let rules = Rules::read(RULES).unwrap();
        assert_eq!(rules.fault(&package("notify", "8.0.0", "CC0-1.0")), None);
        assert!(rules.fault(&package("other", "1.0.0", "CC0-1.0")).is_some());
        let git =
            Package { source: Some("git+https://example.com/x".into()), ..package("x", "1.0.0", "MIT") };
        assert!(rules.fault(&git).unwrap().contains("crates.io"));
    }

    #[test]
    fn a_duplicate_needs_a_reason_and_a_reason_needs_a_duplicate() {
        let rules = Rules::read(RULES).unwrap();
        let syn = [package("syn", "2.0.0", "MIT"), package("syn", "3.0.0", "MIT")];
        assert_eq!(rules.duplicate_faults(&syn), Vec::<String>::new());
        let more =
            [package("syn", "2.0.0", "MIT"), package("a", "1.0.0", "MIT"), package("a", "2.0.0", "MIT")];
        assert_eq!(rules.duplicate_faults(&more), ["a is built 2 times: 1.0.0, 2.0.0"]);
        assert!(rules.duplicate_faults(&[]).first().unwrap().contains("no longer there"));
    }
}
