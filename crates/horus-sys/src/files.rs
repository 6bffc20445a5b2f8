//! Small files that must be whole or absent, and directories that are nobody else's business.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How long a written file must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Until the machine stops: survives the death of any process. For run-time records.
    ThisBoot,
    /// Also through a power cut: file and directory are synced.
    PowerLoss,
}

/// Why a private directory could not be had.
#[derive(Debug, thiserror::Error)]
pub enum PrivateDirError {
    /// It, or a parent, could not be made or examined.
    #[error("cannot make directory {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is something else of that name.
    #[error("{path} exists and is not a directory")]
    NotADirectory {
        /// Which.
        path: PathBuf,
    },
    /// Somebody else owns it.
    #[error("{path} belongs to user {owner}, not to us ({us})")]
    ForeignOwner {
        /// Which.
        path: PathBuf,
        /// Its user id.
        owner: u32,
        /// Ours.
        us: u32,
    },
}

/// Replaces the file at `path` so that a reader sees the old or the new content, whole. Mode 0600.
pub fn write_atomic(path: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".tmp-{}-{serial}", std::process::id()));
    let temporary = PathBuf::from(name);
    let result = write_then_rename(path, &temporary, content, durability);
    if result.is_err() {
        // Best effort: the first error is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_then_rename(
    path: &Path,
    temporary: &Path,
    content: &[u8],
    durability: Durability,
) -> io::Result<()> {
    // A leftover of a dead process with our pid may be there: truncate, it is ours.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    file.write_all(content)?;
    if durability == Durability::PowerLoss {
        file.sync_all()?;
    }
    drop(file);
    fs::rename(temporary, path)?;
    if durability == Durability::PowerLoss {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}

/// Reads a file of at most `limit` bytes; a longer one is [`io::ErrorKind::FileTooLarge`], not a cut text.
pub fn read_limited(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut content = Vec::new();
    file.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut content)?;
    if content.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(content)
}

/// Makes the directory (parents too) if it is not there, and makes sure that it is ours alone: owned by us, 0700.
pub fn ensure_private_dir(path: &Path) -> Result<(), PrivateDirError> {
    let io_error = |source| PrivateDirError::Io { path: path.to_owned(), source };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(io_error)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(io_error(error)),
    }
    // Not through a symbolic link: somebody else could point it elsewhere.
    let metadata = fs::symlink_metadata(path).map_err(io_error)?;
    if !metadata.is_dir() {
        return Err(PrivateDirError::NotADirectory { path: path.to_owned() });
    }
    let us = crate::user::effective_uid();
    if metadata.uid() != us {
        return Err(PrivateDirError::ForeignOwner { path: path.to_owned(), owner: metadata.uid(), us });
    }
    if metadata.permissions().mode() & 0o777 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io_error)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("horus-sys-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_no_scraps() {
        let directory = scratch("atomic");
        ensure_private_dir(&directory).unwrap();
        let file = directory.join("record");
        for durability in [Durability::ThisBoot, Durability::PowerLoss] {
            write_atomic(&file, b"one", durability).unwrap();
            write_atomic(&file, b"three", durability).unwrap();
            assert_eq!(read_limited(&file, 5).unwrap(), b"three");
        }
        assert_eq!(read_limited(&file, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_wide_open_directory_is_closed_and_a_file_or_link_refused() {
        let directory = scratch("private");
        DirBuilder::new().mode(0o755).create(&directory).unwrap();
        ensure_private_dir(&directory).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        let link = directory.join("link");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        assert!(matches!(ensure_private_dir(&link), Err(PrivateDirError::NotADirectory { .. })));
        fs::remove_dir_all(directory).unwrap();
    }
}
