//! The output folder: the sink that the pipeline publishes into, and the truth about what is published.
//!
//! ```text
//!   OUT/content/20261122t092730z-title.md      the publication: this name appearing is the act
//!   OUT/site/20261122t092730z-title.html       the same as a page, in place before the act
//!   OUT/site/index.html, OUT/site/feed.xml     computed from content/
//! ```
//!
//! Publishing is idempotent. Before anything is written the folder is asked who holds the slot: nobody (write), this run
//! (a former life got so far: nothing to repeat but the lists) or another run (refuse). The name starts with the slot, so
//! the question needs the directory only, and it has the right answer even when the journal was lost.

use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::article::{self, ARTICLE_LIMIT_BYTES};
use crate::disk::{self, DiskError};
use crate::item::RunId;
use crate::render::{Listed, RenderError, Templates};
use crate::slot::Slot;
use crate::stop_at::{Boundary, StopAt};

/// How many of the newest articles the index and the feed list. Older ones stay in the folder.
pub const LISTED_LIMIT: usize = 100;

/// The output folder, held by this process alone.
#[derive(Debug)]
pub struct Folder {
    content: PathBuf,
    site: PathBuf,
    stop_at: StopAt,
    _lock: File,
}

/// What the folder could not do.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The disk refused. Retried.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another pipeline publishes into the same folder.
    #[error("another process holds {0}")]
    Held(String),
    /// A template failed: a bug.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// Who holds a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Holder {
    /// Nobody: it may be published.
    Nobody,
    /// This run.
    Run(RunId),
    /// A file with the slot's name that is no article of ours.
    Stranger(String),
}

/// The exact bytes of one publication.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The slot.
    pub slot: Slot,
    /// Stem of both file names; see [`article::slug`].
    pub slug: &'a str,
    /// The article.
    pub markdown: &'a str,
    /// The page.
    pub html: &'a str,
}

impl Folder {
    /// Makes the folder if it is not there, and takes its lock.
    pub fn open(root: &Path, stop_at: StopAt) -> Result<Self, FolderError> {
        let (content, site) = (root.join("content"), root.join("site"));
        disk::make_directory(&content)?;
        disk::make_directory(&site)?;
        let _lock = take_lock(&root.join(".pipeline.lock"))?;
        Ok(Self { content, site, stop_at, _lock })
    }

    /// Who holds `slot`.
    pub fn holder(&self, slot: Slot) -> Result<Holder, DiskError> {
        let prefix = format!("{}-", slot.stamp());
        let found = self.article_names()?.into_iter().find(|name| name.starts_with(&prefix));
        let Some(name) = found else { return Ok(Holder::Nobody) };
        let text = self.read_article(&name)?;
        Ok(match text.as_deref().map(article::read) {
            Some(Ok((matter, _))) => Holder::Run(matter.extra.run_id),
            Some(Err(_)) | None => Holder::Stranger(name),
        })
    }

    /// Writes the page, then the article. When this returns, both are on the disk.
    pub fn publish(&self, publication: Publication<'_>) -> Result<(), DiskError> {
        let stop_at = self.stop_at;
        let page = format!("{}.html", publication.slug);
        disk::write_whole(&self.site, &page, publication.html.as_bytes(), || {
            stop_at.reached(Boundary::PageWritten)
        })?;
        stop_at.reached(Boundary::PageRenamed);
        let article = format!("{}.md", publication.slug);
        disk::write_whole(&self.content, &article, publication.markdown.as_bytes(), || {
            stop_at.reached(Boundary::ArticleWritten);
        })?;
        stop_at.reached(Boundary::ArticleRenamed);
        Ok(())
    }

    /// Puts the page back if it is gone, for an article that is already there.
    pub fn restore_page(&self, publication: Publication<'_>) -> Result<(), DiskError> {
        disk::write_if_changed(&self.site, &format!("{}.html", publication.slug), publication.html.as_bytes())
    }

    /// Computes index and feed from the articles that are there.
    pub fn refresh_lists(&self, templates: &Templates) -> Result<(), FolderError> {
        let posts = self.newest()?;
        disk::write_if_changed(&self.site, "index.html", templates.index(&posts)?.as_bytes())?;
        disk::write_if_changed(&self.site, "feed.xml", templates.feed(&posts)?.as_bytes())?;
        Ok(())
    }

    /// The newest [`LISTED_LIMIT`] articles, newest first. Files that are no articles of ours are passed over.
    pub fn newest(&self) -> Result<Vec<Listed>, DiskError> {
        let mut names = self.article_names()?;
        names.sort_unstable_by(|one, other| other.cmp(one));
        let mut posts = Vec::new();
        for name in names {
            if posts.len() == LISTED_LIMIT {
                break;
            }
            match self.read_article(&name)?.as_deref().map(article::read) {
                Some(Ok((matter, _))) if name == format!("{}.md", matter.slug) => posts.push(Listed {
                    date: matter.date_text(),
                    title: matter.title,
                    slug: matter.slug,
                    description: matter.description,
                    tags: matter.tags,
                    run_id: matter.extra.run_id.to_string(),
                }),
                _ => tracing::warn!(file = %name, "not an article of ours, not listed"),
            }
        }
        Ok(posts)
    }

    fn article_names(&self) -> Result<Vec<String>, DiskError> {
        let cannot = |source| DiskError::new("list", &self.content, source);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.content).map_err(cannot)? {
            let name = entry.map_err(cannot)?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") && !name.starts_with('.') {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The text of an article; `None` when it is no text or too large to be one.
    fn read_article(&self, name: &str) -> Result<Option<String>, DiskError> {
        let path = self.content.join(name);
        let cannot = |source| DiskError::new("read", &path, source);
        let mut text = String::new();
        let limit = u64::try_from(ARTICLE_LIMIT_BYTES).unwrap_or(u64::MAX);
        match File::open(&path).map_err(cannot)?.take(limit + 1).read_to_string(&mut text) {
            Ok(bytes) if bytes > ARTICLE_LIMIT_BYTES => Ok(None),
            Ok(_) => Ok(Some(text)),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(cannot(error)),
        }
    }
}

/// Takes a lock that ends with the process, however it ends.
pub(crate) fn take_lock(path: &Path) -> Result<File, FolderError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|source| DiskError::new("open the lock", path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FolderError::Held(path.display().to_string())),
        Err(TryLockError::Error(source)) => Err(DiskError::new("lock", path, source).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(second: i64) -> Slot {
        Slot::from_second(second).unwrap()
    }

    fn article_of(slug: &str, run_id: &str) -> String {
        format!(
            "+++\ntitle = \"T\"\ndate = 2026-11-22T09:27:30Z\nslug = \"{slug}\"\ndescription = \"d\"\ntags = []\ndraft = false\n\n\
             [extra]\nrun_id = \"{run_id}\"\ntier = \"renderer\"\nsources = []\n+++\n\nbody\n"
        )
    }

    fn put(folder: &Folder, second: i64, title: &str, run_id: &str) -> String {
        let slug = article::slug(slot(second), title);
        let markdown = article_of(&slug, run_id);
        folder
            .publish(Publication { slot: slot(second), slug: &slug, markdown: &markdown, html: "<p>" })
            .unwrap();
        slug
    }

    #[test]
    fn the_folder_knows_who_holds_a_slot() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), StopAt::default()).unwrap();
        assert_eq!(folder.holder(slot(30)).unwrap(), Holder::Nobody);
        put(&folder, 30, "a", "run-a");
        assert_eq!(folder.holder(slot(30)).unwrap(), Holder::Run(RunId::from_stored("run-a")));
        assert_eq!(folder.holder(slot(60)).unwrap(), Holder::Nobody);
        let stranger = format!("{}-x.md", slot(60).stamp());
        disk::write_whole(&root.path().join("content"), &stranger, b"\xff not text", || ()).unwrap();
        assert_eq!(folder.holder(slot(60)).unwrap(), Holder::Stranger(stranger));
    }

    #[test]
    fn lists_hold_the_newest_first_and_pass_over_strangers() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), StopAt::default()).unwrap();
        let older = put(&folder, 30, "a", "run-a");
        let newer = put(&folder, 60, "b", "run-b");
        std::fs::create_dir(root.path().join("content/folder.md")).unwrap();
        disk::write_whole(&root.path().join("content"), "99991231t235959z-x.md", b"no head", || ()).unwrap();
        disk::write_whole(
            &root.path().join("content"),
            "moved.md",
            article_of("../../evil", "r").as_bytes(),
            || (),
        )
        .unwrap();
        let slugs: Vec<String> = folder.newest().unwrap().into_iter().map(|post| post.slug).collect();
        assert_eq!(slugs, [newer, older]);
    }

    #[test]
    fn lists_stop_at_their_limit() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path(), StopAt::default()).unwrap();
        for number in 0..=i64::try_from(LISTED_LIMIT).unwrap() {
            let slug = article::slug(slot(number), "t");
            let name = format!("{slug}.md");
            disk::write_whole(&root.path().join("content"), &name, article_of(&slug, "r").as_bytes(), || ())
                .unwrap();
        }
        assert_eq!(folder.newest().unwrap().len(), LISTED_LIMIT);
    }

    #[test]
    fn a_second_pipeline_on_the_same_folder_is_told_so() {
        let root = tempfile::tempdir().unwrap();
        let first = Folder::open(root.path(), StopAt::default()).unwrap();
        assert!(matches!(Folder::open(root.path(), StopAt::default()), Err(FolderError::Held(_))));
        drop(first);
        Folder::open(root.path(), StopAt::default()).unwrap();
    }
}
