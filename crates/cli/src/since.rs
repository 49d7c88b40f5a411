// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lines that changed since a revision, as git says.

use rkcov_report::coverage::{Function, View};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why it cannot be told what changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no git.
    #[error("cannot run git")]
    Run(#[from] io::Error),
    /// Git refuses.
    #[error("git cannot show what changed: {0}")]
    Refused(String),
}

/// Lines that changed, by file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<PathBuf, Vec<RangeInclusive<u32>>>);

impl Changes {
    /// What changed in the work tree that we are in, since `rev`.
    ///
    /// # Errors
    /// Git cannot be run, or it does not know `rev`.
    pub fn since(rev: &str) -> Result<Self, Error> {
        let root = root()?;
        // A revision is none of git's options.
        let patch = git(&[
            "-c",
            "core.quotePath=false",
            "diff",
            "--unified=0",
            "--no-color",
            "--no-ext-diff",
            "--no-prefix",
            "--end-of-options",
            rev,
            "--",
        ])?;
        Ok(Self::of(&patch, &root))
    }

    /// The lines that a patch without context adds, in files below `root`.
    fn of(patch: &str, root: &Path) -> Self {
        let mut changes = Self::default();
        let mut file: Option<PathBuf> = None;
        let mut body = 0_u32;
        for line in patch.lines() {
            if body > 0 && line.starts_with(['+', '-', '\\']) {
                body -= u32::from(!line.starts_with('\\'));
                continue;
            }
            if let Some(name) = line.strip_prefix("+++ ") {
                // A tab ends a name with a blank in it.
                let name = unquoted(name.trim_end_matches('\t'));
                file = (name != "/dev/null").then(|| root.join(name));
            } else if let Some(hunk) = line.strip_prefix("@@ -") {
                let mut sides = hunk.split(' ');
                let (Some(old), Some(new)) = (
                    sides.next().and_then(side),
                    sides.next().and_then(|new| side(new.strip_prefix('+')?)),
                ) else {
                    continue;
                };
                body = old.1 + new.1;
                if let (Some(file), 1..) = (&file, new.1) {
                    let lines = changes.0.entry(file.clone()).or_default();
                    lines.push(new.0..=new.0 + new.1 - 1);
                }
            }
        }
        changes
    }

    fn has(lines: &[RangeInclusive<u32>], line: u32) -> bool {
        lines.iter().any(|range| range.contains(&line))
    }

    /// Leaves in a view only lines that changed, and the functions that have such lines.
    pub fn restrict(&self, view: &mut View<'_>) {
        for file in &mut view.files {
            let real = || self.0.get(&fs::canonicalize(file.path).ok()?);
            let lines = self.0.get(file.path).or_else(real);
            let lines = lines.map_or(&[][..], Vec::as_slice);
            file.lines.retain(|line, _| Self::has(lines, *line));
            file.unknown.retain(|line| Self::has(lines, *line));
            file.comparisons.retain(|line, _| Self::has(lines, *line));
            let changed = |function: &Function| {
                let (first, last) = function.lines;
                lines
                    .iter()
                    .any(|range| *range.start() <= last && first <= *range.end())
            };
            file.functions.retain(|(function, _)| changed(function));
            file.unknown_functions.retain(|function| changed(function));
        }
        view.files
            .retain(|file| !file.lines.is_empty() || file.complete && !file.unknown.is_empty());
        view.folded.clear();
    }
}

/// The first line of one side of a hunk, and how many there are: `12,3`, or `12` for one.
fn side(text: &str) -> Option<(u32, u32)> {
    match text.split_once(',') {
        Some((first, many)) => Some((first.parse().ok()?, many.parse().ok()?)),
        None => Some((text.parse().ok()?, 1)),
    }
}

/// A name as git prints it, in quotes if there is something odd in it.
fn unquoted(name: &str) -> OsString {
    let Some(inner) = name
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    else {
        return name.into();
    };
    let mut bytes = Vec::new();
    let mut rest = inner.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        let octal = rest
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &rest[3..];
        } else if let [letter, after @ ..] = rest {
            rest = after;
            bytes.push(match letter {
                b'a' => 7,
                b'b' => 8,
                b't' => b'\t',
                b'n' => b'\n',
                b'v' => 11,
                b'f' => 12,
                b'r' => b'\r',
                other => *other,
            });
        }
    }
    OsString::from_vec(bytes)
}

/// The work tree that we are in.
pub(crate) fn root() -> Result<PathBuf, Error> {
    let root = git(&["rev-parse", "--show-toplevel"])?;
    Ok(PathBuf::from(root.trim_end_matches('\n')))
}

pub(crate) fn git(arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new("git").args(arguments).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("it failed without a message");
        return Err(Error::Refused(said.to_owned()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_lines_are_found() {
        let patch = "diff --git a/x.c b/x.c\n--- x.c\n+++ x.c\n@@ -3 +3,2 @@ int f()\n-old\n+new\n+++ not a name\n\
                     @@ -9,2 +10,0 @@\n-a\n--- b\n@@ -20,0 +19 @@\n+c\n\\ No newline at end of file\n\
                     diff --git a/gone.c b/gone.c\n--- gone.c\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\
                     --- /dev/null\n+++ \"a\\303\\244\\\"b.c\"\n@@ -0,0 +1,3 @@\n+1\n+2\n+3\n";
        let changes = Changes::of(patch, Path::new("/p"));
        let expected = [
            (PathBuf::from("/p/aä\"b.c"), vec![1..=3]),
            (PathBuf::from("/p/x.c"), vec![3..=4, 19..=19]),
        ];
        assert_eq!(changes.0, expected.into());
    }
}
