//! What the world around the file looks like, behind one trait: the only door through which this crate asks the
//! machine anything. Tests put a small made-up machine behind it.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// What is known of a file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileFacts {
    /// User id of its owner.
    pub owner: u32,
    /// Permission bits (`0o600`).
    pub mode: u32,
    /// It is a directory.
    pub directory: bool,
}

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserFacts {
    /// User id.
    pub id: u32,
    /// Login name.
    pub name: String,
    /// Home directory.
    pub home: PathBuf,
}

/// Facts that decide what a configuration means here.
pub trait Environment {
    /// An environment variable of Horus, if it is set and is text.
    fn variable(&self, name: &str) -> Option<String>;

    /// Facts about a file; symbolic links are followed.
    ///
    /// # Errors
    /// Those of the system, above all [`io::ErrorKind::NotFound`].
    fn look(&self, path: &Path) -> io::Result<FileFacts>;

    /// The first `limit` bytes of a file.
    ///
    /// # Errors
    /// Those of the system.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>>;

    /// The effective user id of Horus. 0 is root.
    fn user_id(&self) -> u32;

    /// A user by name or number. `None`: there is no such user.
    fn user(&self, name_or_number: &str) -> Option<UserFacts>;

    /// The id of a group by name or number. `None`: there is no such group.
    fn group(&self, name_or_number: &str) -> Option<u32>;

    /// The host name of this machine, if it can be told.
    fn host_name(&self) -> Option<String>;

    /// The folder that relative paths on the command line start from.
    fn current_directory(&self) -> PathBuf;

    /// Where root's programs have what is of this boot only.
    fn run_base(&self) -> PathBuf {
        PathBuf::from("/run")
    }
}

/// The machine that this program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn look(&self, path: &Path) -> io::Result<FileFacts> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = std::fs::metadata(path)?;
        Ok(FileFacts { owner: metadata.uid(), mode: metadata.mode() & 0o7777, directory: metadata.is_dir() })
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        use std::os::unix::fs::FileTypeExt as _;
        // Opening a FIFO would wait for a writer, perhaps for ever.
        if std::fs::metadata(path)?.file_type().is_fifo() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is a FIFO, not a file"));
        }
        let mut content = Vec::new();
        std::fs::File::open(path)?.take(limit).read_to_end(&mut content)?;
        Ok(content)
    }

    fn user_id(&self) -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    fn user(&self, name_or_number: &str) -> Option<UserFacts> {
        let number = name_or_number.parse::<u32>().ok();
        let found = match number {
            Some(id) => nix::unistd::User::from_uid(id.into()),
            None => nix::unistd::User::from_name(name_or_number),
        };
        let known = found.ok().flatten();
        known.map(|user| UserFacts { id: user.uid.as_raw(), name: user.name, home: user.dir })
    }

    fn group(&self, name_or_number: &str) -> Option<u32> {
        match name_or_number.parse::<u32>() {
            // A group needs no name to be joined.
            Ok(id) => Some(id),
            Err(_) => {
                nix::unistd::Group::from_name(name_or_number).ok().flatten().map(|group| group.gid.as_raw())
            }
        }
    }

    fn host_name(&self) -> Option<String> {
        nix::unistd::gethostname().ok()?.into_string().ok().filter(|name| !name.is_empty())
    }

    fn current_directory(&self) -> PathBuf {
        std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"))
    }

    fn run_base(&self) -> PathBuf {
        // The root of macOS is read-only and has no /run; /var/run is emptied at each start.
        PathBuf::from(if cfg!(target_os = "macos") { "/var/run" } else { "/run" })
    }
}
