//! The words after `horus keep`.

use crate::keeper::KeeperError;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// What the keeper is told at its start.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) run_dir: PathBuf,
    pub(crate) lock: RawFd,
    pub(crate) cgroup: Option<PathBuf>,
}

impl Arguments {
    /// The words that say the same to another program of this process.
    pub(crate) fn words(&self, lock: RawFd) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["keep".into(), "--run-dir".into(), self.run_dir.clone().into()];
        words.extend(["--lock-fd".into(), lock.to_string().into()]);
        words.extend(self.cgroup.iter().flat_map(|path| ["--cgroup".into(), path.clone().into()]));
        words
    }

    pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, KeeperError> {
        let usage = |text: &str| KeeperError::Usage(text.to_owned());
        let (mut run_dir, mut lock, mut cgroup) = (None, None, None);
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| usage("a value is missing"))?;
            match name.to_str() {
                Some("--run-dir") => run_dir = Some(PathBuf::from(value)),
                Some("--cgroup") => cgroup = Some(PathBuf::from(value)),
                Some("--lock-fd") => lock = value.to_str().and_then(|value| value.parse().ok()),
                _ => return Err(usage(&format!("unknown option {}", name.display()))),
            }
        }
        Ok(Self {
            run_dir: run_dir.ok_or_else(|| usage("--run-dir is missing"))?,
            lock: lock
                .filter(|number| *number > 2)
                .ok_or_else(|| usage("--lock-fd is missing or no descriptor"))?,
            cgroup,
        })
    }
}
