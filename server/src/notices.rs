//! Word that the operator's commands leave for the server that runs on the same data: something has changed.
//!
//! Owns one file that grows by a byte each time, so that reading it costs one look at its length. Needed only where a
//! server remembers what it read from a database that it has to itself. Knows nothing of what has changed.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Where word is left; nowhere, if several servers share the database and so none of them remembers.
#[derive(Clone, Debug)]
pub struct Notices(Option<PathBuf>);

impl Notices {
    pub fn below(folder: &Path) -> Self {
        Notices(Some(folder.join(".notices")))
    }

    pub fn nowhere() -> Self {
        Notices(None)
    }

    /// Leaves word. It is on disk when this returns.
    pub fn leave(&self) -> io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(b".")?;
        file.sync_all()
    }

    /// How often word was left. `None` where none is.
    pub fn count(&self) -> Option<u64> {
        let path = self.0.as_ref()?;
        Some(std::fs::metadata(path).map_or(0, |metadata| metadata.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_that_was_left_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let notices = Notices::below(folder.path());
        assert_eq!(notices.count(), Some(0));
        notices.leave().unwrap();
        notices.clone().leave().unwrap();
        assert_eq!(notices.count(), Some(2));
        Notices::nowhere().leave().unwrap();
        assert_eq!(Notices::nowhere().count(), None);
    }
}
