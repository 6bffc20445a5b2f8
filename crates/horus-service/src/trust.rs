//! Whether anybody but root could change what root would run.
//!
//! A root daemon below a home directory is a way to become root: whoever may write the file, or any directory on the
//! way to it, decides what runs at the next boot. The question is asked of every name on the way, of the path as it was
//! typed and of the one it leads to.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const GROUP_MAY_WRITE: u32 = 0o020;
const OTHERS_MAY_WRITE: u32 = 0o002;

/// One name on the way to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathEntry {
    /// The way up to here.
    pub path: PathBuf,
    /// Its user.
    pub owner: u32,
    /// Its group.
    pub group: u32,
    /// Its permission bits.
    pub mode: u32,
    /// A symbolic link: its own bits mean nothing.
    pub link: bool,
}

/// Why a name on the way is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// Which name.
    pub path: PathBuf,
    /// In words, without the path.
    pub what: String,
}

/// Every name on the way to `path`, and on the way to where it leads.
///
/// # Errors
/// One of them cannot be looked at.
pub fn chain_of(path: &Path) -> io::Result<Vec<PathEntry>> {
    let led_to = std::fs::canonicalize(path)?;
    let names: BTreeSet<&Path> = path.ancestors().chain(led_to.ancestors()).collect();
    let entry = |path: &Path| {
        let found = std::fs::symlink_metadata(path)?;
        let (owner, group, mode) = (found.uid(), found.gid(), found.mode() & 0o7777);
        Ok(PathEntry { path: path.to_owned(), owner, group, mode, link: found.is_symlink() })
    };
    names.into_iter().filter(|path| !path.as_os_str().is_empty()).map(entry).collect()
}

/// The names that somebody else than root could replace. Write access of the group 0 is root's own.
pub fn distrust(chain: &[PathEntry]) -> Vec<Distrust> {
    let judge = |entry: &PathEntry| {
        let what = if entry.owner != 0 {
            format!("belongs to user {}", entry.owner)
        } else if entry.link {
            return None;
        } else if entry.mode & OTHERS_MAY_WRITE != 0 {
            "may be written by everybody".to_owned()
        } else if entry.mode & GROUP_MAY_WRITE != 0 && entry.group != 0 {
            format!("may be written by group {}", entry.group)
        } else {
            return None;
        };
        Some(Distrust { path: entry.path.clone(), what })
    };
    chain.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, owner: u32, group: u32, mode: u32) -> PathEntry {
        PathEntry { path: path.into(), owner, group, mode, link: false }
    }

    #[test]
    fn only_what_root_alone_can_change_is_trusted() {
        let good =
            [entry("/", 0, 0, 0o755), entry("/usr", 0, 0, 0o775), entry("/usr/bin/horus", 0, 50, 0o755)];
        assert_eq!(distrust(&good), []);
        for (bad, what) in [
            (entry("/home/ann", 1000, 1000, 0o755), "belongs to user 1000"),
            (entry("/tmp", 0, 0, 0o1777), "may be written by everybody"),
            (entry("/usr/local/bin", 0, 50, 0o2775), "may be written by group 50"),
        ] {
            let mut chain = good.to_vec();
            chain.push(bad.clone());
            assert_eq!(distrust(&chain), [Distrust { path: bad.path, what: what.into() }]);
        }
    }

    #[test]
    fn a_link_leads_to_what_is_looked_at_too() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("real/horus"), folder.path().join("horus"));
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::fs::File::create(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let names: Vec<PathBuf> = chain_of(&link).unwrap().into_iter().map(|entry| entry.path).collect();
        for path in [Path::new("/"), &link, &target, target.parent().unwrap()] {
            assert!(names.contains(&std::path::absolute(path).unwrap()), "{path:?} is missing in {names:?}");
        }
    }
}
