//! Secrets that are kept in files of their own.
//!
//! Owns the list of secrets, and the demand that nobody else can read their files. Knows nothing about what they open.

use super::load::{Origin, Problem, Setting, Settings};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use toml::Value;

/// Settings that can also be the content of a file: for each, the key with `_file` behind it names the file.
pub(super) const SECRETS: [&str; 7] = [
    "database.url",
    "database.password",
    "database.migration_url",
    "master_key.key",
    "blobs.s3.access_key",
    "blobs.s3.secret_key",
    "metrics.token",
];

/// Replaces each `x_file` by the content of the file as `x`.
pub(super) fn read_all(settings: &mut Settings, problems: &mut Vec<Problem>) {
    for key in SECRETS {
        let file_key = format!("{key}_file");
        let Some(named) = settings.get(&file_key) else { continue };
        let origin = named.origin.clone();
        if let Some(plain) = settings.get(key) {
            match rank(&plain.origin).cmp(&rank(&origin)) {
                std::cmp::Ordering::Greater => continue,
                std::cmp::Ordering::Equal => {
                    let message = format!("{key} is set as well: keep one of the two");
                    problems.push(Problem { key: file_key, origin, message });
                    continue;
                }
                std::cmp::Ordering::Less => {}
            }
        }
        let path = PathBuf::from(named.value.as_str().expect("a path is a string"));
        match read_secret(&path) {
            Ok(secret) => {
                let value = Value::String(secret);
                settings.insert(key.to_owned(), Setting { value, origin: Origin::SecretFile(path) });
            }
            Err(message) => problems.push(Problem { key: file_key, origin, message }),
        }
    }
}

fn rank(origin: &Origin) -> u8 {
    match origin {
        Origin::Default => 0,
        Origin::File { .. } => 1,
        Origin::Environment(_) | Origin::SecretFile(_) => 2,
    }
}

/// The content of a secret file without the newline that editors leave at its end.
fn read_secret(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    refuse_readable_by_others(path, &metadata)?;
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() { Err(format!("{shown} is empty")) } else { Ok(text.to_owned()) }
}

/// A secret in a file that others can read is no secret.
pub(crate) fn refuse_readable_by_others(path: &Path, metadata: &Metadata) -> Result<(), String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let forbidden = forbidden_modes(metadata.uid(), rustix::process::geteuid().as_raw());
        if metadata.is_file() && metadata.mode() & forbidden != 0 {
            let (shown, mode) = (path.display(), metadata.mode() & 0o777);
            return Err(format!("{shown} can be read by others (mode {mode:04o}); run: chmod 600 {shown}"));
        }
    }
    Ok(())
}

/// The group may read a file only when it is root's and we are not: that is how Kubernetes and systemd hand a secret
/// to an unprivileged server.
#[cfg(unix)]
fn forbidden_modes(owner: u32, ourselves: u32) -> u32 {
    const ROOT: u32 = 0;
    if owner == ROOT && ourselves != ROOT { 0o027 } else { 0o077 }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_root_hands_to_our_group_may_be_read_by_a_group() {
        let (root, ourselves, somebody) = (0, 1000, 1001);
        for (owner, user) in [(ourselves, ourselves), (somebody, ourselves), (root, root), (ourselves, root)] {
            assert_eq!(forbidden_modes(owner, user) & 0o640, 0o040, "{owner} {user}");
        }
        assert_eq!(forbidden_modes(root, ourselves) & 0o440, 0, "as Kubernetes mounts it");
        assert_ne!(forbidden_modes(root, ourselves) & 0o004, 0);
        assert_ne!(forbidden_modes(root, ourselves) & 0o020, 0);
    }
}
