//! From what a person wrote (`repo:/srv/app`) to the lock file that stands for it, the same for every name of the same
//! thing. All lock files lie in one folder of the user, so that two Horuses meet there; see `docs/concepts/trees.md`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use horus_core::exclusive::Exclusive;
use horus_keeper::protocol;
use horus_sys::{files, lock};

/// Longest `.git` or `commondir` file that is read, in bytes.
const GIT_FILE_MAX: usize = 16 << 10;

/// The lock that stands for it. Errors are for people.
pub(super) fn resolve(exclusive: &Exclusive) -> Result<protocol::Exclusive, String> {
    let name = match exclusive {
        Exclusive::Repo(path) => file_name("path", common_directory(path)?.as_os_str().as_bytes()),
        Exclusive::Path(path) => file_name("path", real(path).as_os_str().as_bytes()),
        Exclusive::Name(name) => file_name("name", name.as_bytes()),
    };
    Ok(protocol::Exclusive { key: exclusive.to_string(), lock: lock::machine_directory().join(name) })
}

/// The path without links; of what is not there (a device that is not plugged in), that of its folder.
fn real(path: &Path) -> PathBuf {
    if let Ok(found) = path.canonicalize() {
        return found;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// What all work trees of a repository share, found as git finds it.
fn common_directory(path: &Path) -> Result<PathBuf, String> {
    let start = path.canonicalize().map_err(|error| format!("repo:{}: {error}", path.display()))?;
    for folder in start.ancestors() {
        let git = folder.join(".git");
        if git.is_dir() {
            return real_git_directory(&git);
        }
        if git.is_file() {
            let text = read(&git)?;
            let target = text.strip_prefix("gitdir:").map(str::trim).filter(|target| !target.is_empty());
            let target = target.ok_or_else(|| format!("{}: names no git directory", git.display()))?;
            return real_git_directory(&folder.join(target));
        }
        if folder.join("HEAD").is_file() && folder.join("objects").is_dir() {
            return real_git_directory(folder);
        }
    }
    Err(format!("repo:{}: it is in no git repository", path.display()))
}

fn real_git_directory(git: &Path) -> Result<PathBuf, String> {
    let shared = git.join("commondir");
    let common = if shared.is_file() { git.join(read(&shared)?.trim()) } else { git.to_owned() };
    common.canonicalize().map_err(|error| format!("{}: {error}", common.display()))
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = files::read_limited(path, GIT_FILE_MAX);
    let bytes = bytes.map_err(|error| format!("{}: {error}", path.display()))?;
    String::from_utf8(bytes).map_err(|_| format!("{}: not text", path.display()))
}

/// A name of fixed length without slashes: FNV-1a over the kind and the bytes. All lock files are of the same user: nobody
/// gains by two things of one name.
fn file_name(kind: &str, bytes: &[u8]) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let all = kind.bytes().chain([0]).chain(bytes.iter().copied());
    let hash = all.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    format!("{hash:032x}.lock")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test makes the files that it resolves")]

    use super::*;
    use std::fs;

    fn file(exclusive: &Exclusive) -> PathBuf {
        resolve(exclusive).unwrap().lock
    }

    #[test]
    fn one_thing_has_one_lock_whatever_it_is_called() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |path: &str| scratch.path().join(path);
        fs::create_dir_all(at("app/.git/worktrees/second")).unwrap();
        fs::create_dir_all(at("app/src")).unwrap();
        fs::create_dir_all(at("second/src")).unwrap();
        fs::write(at("app/.git/worktrees/second/commondir"), "../..\n").unwrap();
        let text = format!("gitdir: {}\n", at("app/.git/worktrees/second").display());
        fs::write(at("second/.git"), text).unwrap();
        std::os::unix::fs::symlink(at("app"), at("link")).unwrap();

        let repository = file(&Exclusive::Repo(at("app")));
        for path in ["app/src", "link", "second", "second/src"] {
            assert_eq!(file(&Exclusive::Repo(at(path))), repository, "{path}");
        }
        assert_eq!(file(&Exclusive::Path(at("link/src"))), file(&Exclusive::Path(at("app/src"))));
        assert_eq!(file(&Exclusive::Path(at("link/unplugged"))), file(&Exclusive::Path(at("app/unplugged"))));
        assert_ne!(file(&Exclusive::Path(at("app"))), repository);
        assert_ne!(file(&Exclusive::Name("gpu0".into())), file(&Exclusive::Name("gpu1".into())));
        let error = resolve(&Exclusive::Repo(at("gone"))).unwrap_err();
        assert!(error.contains("gone: No such file"), "{error}");
    }
}
