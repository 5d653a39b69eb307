//! Blobs as files below one folder.
//!
//! Owns the layout (`t1/words/last.blob`, drafts in `.drafts`) and what it takes to survive a power cut. Knows nothing
//! about what is in them.

use super::{BlobError, BlobKey, BlobPrefix, BlobStore};
use async_trait::async_trait;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct FileBlobs {
    root: PathBuf,
}

/// Words contain no dot, so a blob's file never stands in the way of a folder of the same word.
const SUFFIX: &str = ".blob";
const DRAFTS: &str = ".drafts";

/// A draft this old was left by a server that was killed.
const ABANDONED: Duration = Duration::from_secs(86_400);

impl FileBlobs {
    /// Uses a folder, making it if need be, and clears away drafts that nobody will finish.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let blobs = FileBlobs { root: root.into() };
        crate::secrets::make_private_folder(&blobs.drafts()).map_err(|error| blobs.failed(error))?;
        blobs.clear_drafts().map_err(|error| blobs.failed(error))?;
        Ok(blobs)
    }

    fn clear_drafts(&self) -> io::Result<()> {
        for draft in fs::read_dir(self.drafts())? {
            let draft = draft?;
            let age = draft.metadata().and_then(|metadata| metadata.modified()).map(|then| then.elapsed());
            if matches!(age, Ok(Ok(age)) if age > ABANDONED) {
                absent_is_fine(fs::remove_file(draft.path()))?;
            }
        }
        Ok(())
    }

    fn drafts(&self) -> PathBuf {
        self.root.join(DRAFTS)
    }

    fn path(&self, key: &BlobKey) -> PathBuf {
        self.root.join(format!("{}{SUFFIX}", key.as_str()))
    }

    fn failed(&self, error: io::Error) -> BlobError {
        BlobError::unavailable(format!("{}: {error}", self.root.display()), error)
    }

    /// File operations block, so they run where blocking is allowed. Once begun they run to their end.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&FileBlobs) -> io::Result<T> + Send + 'static,
    ) -> Result<T, BlobError> {
        let blobs = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&blobs)).await;
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Err(BlobError::NotFound),
            Ok(Err(error)) => Err(self.failed(error)),
            Err(cancelled) => Err(BlobError::unavailable("the server is stopping", cancelled)),
        }
    }

    fn write(&self, key: &BlobKey, bytes: &[u8]) -> io::Result<()> {
        let draft = self.drafts().join(Uuid::new_v4().simple().to_string());
        let finish = || {
            let mut file = File::create_new(&draft)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            self.publish(&draft, &self.path(key))
        };
        finish().inspect_err(|_| drop(fs::remove_file(&draft)))
    }

    /// Moves a draft to its place and makes the move last.
    fn publish(&self, draft: &Path, path: &Path) -> io::Result<()> {
        let folder = path.parent().expect("a blob lies below the root");
        // Emptying a prefix may remove the folder between its making and the move; then it is made again.
        for _ in 0..16 {
            match fs::create_dir_all(folder).and_then(|()| fs::rename(draft, path)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                moved => moved?,
            }
            return folder
                .ancestors()
                .take_while(|ancestor| ancestor.starts_with(&self.root))
                .try_for_each(|ancestor| absent_is_fine(File::open(ancestor).and_then(|folder| folder.sync_all())));
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the folder is being removed again and again"))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        absent_is_fine(fs::remove_file(path))?;
        let folder = path.parent().expect("a blob lies below the root");
        absent_is_fine(File::open(folder).and_then(|folder| folder.sync_all()))
    }

    /// Keys below a folder, in the order of their bytes, without looking into folders that lie wholly before `after`.
    fn collect(&self, prefix: &str, after: &str, limit: usize, found: &mut Vec<BlobKey>) -> io::Result<()> {
        let entries = match fs::read_dir(self.root.join(prefix)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(());
            }
            entries => entries?,
        };
        // A folder sorts as its keys do, with its slash: "a-" comes before "a/b".
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if entry.file_type()?.is_dir() {
                names.push(format!("{prefix}{name}/"));
            } else if let Some(word) = name.strip_suffix(SUFFIX) {
                names.push(format!("{prefix}{word}"));
            }
        }
        names.sort_unstable();
        for name in names {
            if found.len() >= limit {
                break;
            }
            if name.ends_with('/') {
                if *name > *after || after.starts_with(&name) {
                    self.collect(&name, after, limit, found)?;
                }
            } else if *name > *after {
                found.extend(BlobKey::from_store(&name));
            }
        }
        Ok(())
    }

    /// Removes folders that have become empty below a prefix, innermost first.
    fn remove_empty_folders(&self, folder: &Path) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.remove_empty_folders(&entry.path())?;
            }
        }
        match fs::remove_dir(folder) {
            // Somebody stores something there again.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => absent_is_fine(removed),
        }
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[async_trait]
impl BlobStore for FileBlobs {
    async fn put(&self, key: &BlobKey, bytes: Vec<u8>) -> Result<(), BlobError> {
        let key = key.clone();
        match self.blocking(move |blobs| blobs.write(&key, &bytes)).await {
            // To store needs nothing to be there but the root: if that is gone, the store is.
            Err(BlobError::NotFound) => Err(self.failed(io::ErrorKind::NotFound.into())),
            stored => stored,
        }
    }

    async fn get(&self, key: &BlobKey) -> Result<Vec<u8>, BlobError> {
        let path = self.path(key);
        self.blocking(move |_| fs::read(path)).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), BlobError> {
        let path = self.path(key);
        self.blocking(move |blobs| blobs.remove(&path)).await
    }

    async fn list(
        &self,
        prefix: &BlobPrefix,
        after: Option<&BlobKey>,
        limit: usize,
    ) -> Result<Vec<BlobKey>, BlobError> {
        let (prefix, after) = (prefix.clone(), after.map_or(String::new(), |key| key.as_str().to_owned()));
        self.blocking(move |blobs| {
            let mut found = Vec::new();
            blobs.collect(prefix.as_str(), &after, limit, &mut found)?;
            Ok(found)
        })
        .await
    }

    async fn delete_prefix(&self, prefix: &BlobPrefix) -> Result<u64, BlobError> {
        let prefix = prefix.clone();
        self.blocking(move |blobs| {
            let mut found = Vec::new();
            blobs.collect(prefix.as_str(), "", usize::MAX, &mut found)?;
            found.iter().try_for_each(|key| blobs.remove(&blobs.path(key)))?;
            blobs.remove_empty_folders(&blobs.root.join(prefix.as_str()))?;
            Ok(found.len() as u64)
        })
        .await
    }

    async fn probe(&self) -> Result<(), BlobError> {
        let probed = self.blocking(|blobs| {
            let draft = blobs.drafts().join(Uuid::new_v4().simple().to_string());
            let written = fs::write(&draft, b"probe");
            let removed = fs::remove_file(&draft);
            written.and(removed)
        });
        match probed.await {
            Err(BlobError::NotFound) => Err(self.failed(io::ErrorKind::NotFound.into())),
            probed => probed,
        }
    }
}
