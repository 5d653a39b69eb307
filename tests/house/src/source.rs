//! Our own source text, line by line. Knows nothing about Rust beyond comments and words.

use std::path::Path;

/// One line of one file, with where it stands.
#[derive(Clone, Debug)]
pub struct Line {
    /// From the root of the workspace, with forward slashes.
    pub file: String,
    pub number: usize,
    pub text: String,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.number, self.text.trim())
    }
}

impl Line {
    /// Whether the line mentions `word` as a whole word, outside of a comment.
    pub fn mentions(&self, word: &str) -> bool {
        let code = self.text.split("//").next().unwrap_or_default();
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        code.match_indices(word)
            .any(|(at, _)| !code[..at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part))
    }

    /// Whether the file lies at or beneath one of these paths.
    pub fn is_in(&self, places: &[&str]) -> bool {
        places
            .iter()
            .any(|place| self.file.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

/// Every Rust file beneath these folders of the workspace, as (path from the root, text).
pub fn files(folders: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in folders {
        let start = crate::root().join(folder);
        assert!(start.is_dir(), "{folder} is no folder of this workspace: has a room moved?");
        walk(&start, &mut found);
    }
    found.sort();
    found
}

/// A document of the workspace, by its path from the root.
pub fn document(path: &str) -> String {
    std::fs::read_to_string(crate::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every line of every Rust file beneath these folders.
pub fn lines(folders: &[&str]) -> Vec<Line> {
    let numbered = |(file, text): (String, String)| {
        let lines: Vec<Line> = text
            .lines()
            .zip(1..)
            .map(|(text, number)| Line { file: file.clone(), number, text: text.to_owned() })
            .collect();
        lines
    };
    files(folders).into_iter().flat_map(numbered).collect()
}

fn walk(folder: &Path, found: &mut Vec<(String, String)>) {
    let entries = std::fs::read_dir(folder).expect("a folder of the workspace can be read");
    for path in entries.map(|entry| entry.expect("a folder of the workspace can be read").path()) {
        if path.is_dir() && !is_somebody_elses(&path) {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file is readable UTF-8");
            let name = path.strip_prefix(crate::root()).expect("it was found beneath the root");
            found.push((name.to_string_lossy().replace('\\', "/"), text));
        }
    }
}

fn is_somebody_elses(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name == "target" || name == "node_modules" || name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line { file: "server/src/store/mod.rs".into(), number: 1, text: text.into() }
    }

    #[test]
    fn a_word_is_found_whole_and_outside_of_comments() {
        assert!(line("use diesel::prelude;").mentions("diesel"));
        assert!(line("diesel").mentions("diesel"));
        assert!(!line("use diesel_async::X;").mentions("diesel"));
        assert!(!line("// diesel is slow here").mentions("diesel"));
        assert!(!line("let a = 1; // as diesel does").mentions("diesel"));
    }

    #[test]
    fn a_place_is_a_folder_or_a_file_and_not_a_prefix_of_a_name() {
        assert!(line("").is_in(&["server/src/store"]));
        assert!(line("").is_in(&["server/src/store/mod.rs"]));
        assert!(!line("").is_in(&["server/src/sto"]));
    }
}
