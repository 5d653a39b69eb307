//! Finds `initdb` and `postgres` on this machine. Knows nothing about running them.

use std::path::{Path, PathBuf};

use crate::Error;

/// Names a folder with the binaries of the version to test against; it goes before everything else.
const FOLDER_VARIABLE: &str = "SELKIE_TEST_PG_BIN";

#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) initdb: PathBuf,
    pub(crate) postgres: PathBuf,
}

impl Binaries {
    pub(crate) fn find() -> Result<Self, Error> {
        if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
            return in_folder(Path::new(&folder)).ok_or(Error::NoBinaries);
        }
        on_path().or_else(|| newest_in(Path::new("/usr/lib/postgresql"))).ok_or(Error::NoBinaries)
    }
}

fn in_folder(folder: &Path) -> Option<Binaries> {
    let binaries = Binaries { initdb: folder.join("initdb"), postgres: folder.join("postgres") };
    (binaries.initdb.is_file() && binaries.postgres.is_file()).then_some(binaries)
}

/// `initdb` looks for `postgres` beside itself, so a link in /usr/local/bin is followed to where both live.
fn on_path() -> Option<Binaries> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|folder| in_folder(folder.join("initdb").canonicalize().ok()?.parent()?))
}

/// Debian keeps its versions side by side, as `<root>/<major>/bin`.
fn newest_in(root: &Path) -> Option<Binaries> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(root)
        .ok()?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    versions.iter().rev().find_map(|(_, folder)| in_folder(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_version_wins() {
        let root = tempfile::tempdir().unwrap();
        for (version, files) in [("9", 2), ("15", 2), ("16", 1), ("common", 2)] {
            let bin = root.path().join(version).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            for name in ["initdb", "postgres"].iter().take(files) {
                std::fs::write(bin.join(name), "").unwrap();
            }
        }
        let found = newest_in(root.path()).unwrap();
        assert_eq!(found.postgres, root.path().join("15/bin/postgres"));
    }
}
