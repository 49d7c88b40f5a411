// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a release has changed, as changes that undo it.

use crate::shell::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a source that lie nearer to each other are undone together.
const NEAR: usize = 6;

/// A source with something undone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) file: PathBuf,
    /// The first line that is changed, from 1; 0 for all of the file.
    line: usize,
    /// The whole source then.
    pub(super) text: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// Lines that become others.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hunk {
    /// How many lines stand before it.
    before: usize,
    /// How many it replaces.
    gone: usize,
    lines: Vec<String>,
}

/// The changes that make sources in `later` what they are in `earlier`: each place, and each file that has
/// several.
pub(super) fn undo(later: &Path, earlier: &Path) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    for file in sources(later, Path::new("src"))? {
        let (new, old) = (later.join(&file), earlier.join(&file));
        if !old.is_file() {
            continue;
        }
        let mut diff = Command::new("git");
        diff.args(["diff", "--no-index", "--no-color", "--unified=0"]);
        // It ends with 1 if there is a difference.
        let output = diff.arg(&new).arg(&old).output()?;
        let text = fs::read_to_string(&new)?;
        let places = together(hunks(&String::from_utf8_lossy(&output.stdout)));
        for place in &places {
            changes.push(Change {
                file: file.clone(),
                line: place[0].before + 1,
                text: with(&text, place),
            });
        }
        if places.len() > 1 {
            changes.push(Change {
                file,
                line: 0,
                text: with(&text, &places.concat()),
            });
        }
    }
    Ok(changes)
}

/// Sources in a folder, sorted.
fn sources(root: &Path, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            found.extend(sources(root, &path)?);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The hunks of a patch of one file without context.
fn hunks(patch: &str) -> Vec<Hunk> {
    let mut found: Vec<Hunk> = Vec::new();
    for line in patch.lines() {
        if let Some(sides) = line.strip_prefix("@@ -") {
            let side = sides.split(' ').next().unwrap_or_default();
            let (first, gone) = side.split_once(',').unwrap_or((side, "1"));
            let number = |text: &str| text.parse().unwrap_or(0_usize);
            let (first, gone) = (number(first), number(gone));
            found.push(Hunk {
                before: if gone == 0 {
                    first
                } else {
                    first.saturating_sub(1)
                },
                gone,
                lines: Vec::new(),
            });
        } else if let (Some(hunk), Some(line)) = (found.last_mut(), line.strip_prefix('+')) {
            hunk.lines.push(line.to_owned());
        }
    }
    found
}

/// Hunks near to each other in one group.
fn together(hunks: Vec<Hunk>) -> Vec<Vec<Hunk>> {
    let mut groups: Vec<Vec<Hunk>> = Vec::new();
    for hunk in hunks {
        match groups.last_mut() {
            Some(group)
                if group
                    .last()
                    .is_some_and(|last| hunk.before <= last.before + last.gone + NEAR) =>
            {
                group.push(hunk);
            }
            _ => groups.push(vec![hunk]),
        }
    }
    groups
}

/// A text with some hunks, which are sorted.
fn with(text: &str, hunks: &[Hunk]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut made: Vec<&str> = Vec::new();
    let mut at = 0;
    for hunk in hunks {
        made.extend(&lines[at..hunk.before]);
        made.extend(hunk.lines.iter().map(String::as_str));
        at = hunk.before + hunk.gone;
    }
    made.extend(&lines[at..]);
    made.push("");
    made.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undone_is_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let lines = |changed: &[(usize, &str)]| {
            let line = |n: usize| {
                let other = changed.iter().find(|(at, _)| *at == n);
                other.map_or(format!("{n}\n"), |(_, text)| (*text).to_owned())
            };
            (1..=30).map(line).collect::<String>()
        };
        let old = lines(&[(2, "two\n"), (4, "4\nfour\n"), (20, "")]);
        write("old/src/a/b.rs", &old);
        write("new/src/a/b.rs", &lines(&[]));
        write("new/src/new.rs", "");
        write("old/src/same.rs", "1\n");
        write("new/src/same.rs", "1\n");
        let changes = undo(&folder.path().join("new"), &folder.path().join("old")).unwrap();
        let shown: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["src/a/b.rs:2", "src/a/b.rs:20", "src/a/b.rs"]);
        assert_eq!(changes[0].text, lines(&[(2, "two\n"), (4, "4\nfour\n")]));
        assert_eq!(changes[1].text, lines(&[(20, "")]));
        assert_eq!(changes[2].text, old);
    }
}
