// SPDX-License-Identifier: MIT OR Apache-2.0
//! Lines whose authors do not want them counted: those between comments that lcov, gcovr and grcov
//! know, and functions of Rust with `#[coverage(off)]`. And those that no author wrote: code by `#[derive]`.

mod attributes;
mod comments;
mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::coverage::{Coverage, SourceFile};
use crate::sources::{Filter, Verdict};

/// The lines of one source that are not to be counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Marked {
    lines: BTreeSet<u32>,
    /// The lines of which one is the first line with code of a function that is not counted.
    functions: Vec<RangeInclusive<u32>>,
    /// The lines of which all code is derived: not the authors' code, so it is left out without a word.
    derived: BTreeSet<u32>,
    wrong: Vec<(u32, Mistake)>,
}

/// What is wrong with a mark; see [`Misplaced`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Mistake {
    #[error("EXCL_START has no EXCL_STOP behind it, so it excludes nothing")]
    NoStop,
    #[error("EXCL_STOP has no EXCL_START before it")]
    NoStart,
    #[error("EXCL_START is inside of what line {0} began to exclude")]
    Inside(u32),
    #[error("EXCL_FUNCTION is not where a function begins, so it excludes nothing")]
    Within,
    #[error(
        "this is not Rust as rkcov reads it, so #[coverage(off)] in the file excludes nothing"
    )]
    NotRust,
}

/// A mark that excludes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {what}", path.display())]
pub struct Misplaced {
    path: PathBuf,
    line: u32,
    what: Mistake,
}

/// What was left out of a coverage.
#[derive(Debug, Default)]
pub struct Excluded {
    /// The lines with code, by file.
    pub lines: BTreeMap<PathBuf, Vec<u32>>,
    /// Marks that exclude nothing.
    pub misplaced: Vec<Misplaced>,
}

impl Excluded {
    /// How many lines there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lines.values().map(Vec::len).sum()
    }
}

impl Coverage {
    /// Leaves out what the authors of the files that `filter` shows do not want counted. A source that
    /// is not there excludes nothing.
    pub fn exclude(&mut self, filter: &Filter) {
        let not_counted = modules::not_counted(self.files.keys().map(PathBuf::as_path));
        let files = self.files.iter_mut();
        let shown: Vec<(&PathBuf, &mut SourceFile)> = files
            .filter(|(path, _)| filter.verdict(path) == Verdict::Show)
            .collect();
        // To read thousands of sources takes longer than all that follows.
        let marks: Vec<Option<Marked>> = shown
            .par_iter()
            .map(|(path, _)| {
                let bytes = std::fs::read(path).ok()?;
                let counted = !not_counted.contains(*path);
                Some(marked(path, &String::from_utf8_lossy(&bytes), counted))
            })
            .collect();
        for ((path, file), marks) in shown.into_iter().zip(marks) {
            let Some(mut marked) = marks else { continue };
            add_functions(file, &mut marked);
            let wrong = marked.wrong.iter().map(|(line, what)| Misplaced {
                path: path.clone(),
                line: *line,
                what: *what,
            });
            self.excluded.misplaced.extend(wrong);
            let lines = leave_out(file, &marked.lines);
            if !lines.is_empty() {
                self.excluded.lines.insert(path.clone(), lines);
            }
            leave_out(file, &marked.derived);
        }
    }
}

fn marked(path: &Path, text: &str, counted: bool) -> Marked {
    let mut marked = comments::of(text);
    if path.extension().is_some_and(|end| end == "rs") {
        attributes::add(path, text, counted, &mut marked);
    }
    marked
}

/// Adds the lines of the functions that have a mark. Of a mark before a function that has no code,
/// nothing is said.
fn add_functions(file: &SourceFile, marked: &mut Marked) {
    for place in &marked.functions {
        let known = || file.functions.iter().map(|function| function.lines);
        let first = known()
            .map(|(first, _)| first)
            .filter(|first| place.contains(first))
            .min();
        let mark = *place.start();
        match first {
            Some(first) => {
                let of_it = known().filter(|lines| lines.0 == first);
                marked
                    .lines
                    .extend(of_it.flat_map(|(first, last)| first..=last));
            }
            None if known().any(|(first, last)| (first..=last).contains(&mark)) => {
                marked.wrong.push((mark, Mistake::Within));
            }
            None => {}
        }
    }
}

/// Takes lines out of a file, and the functions that begin on one of them or have no other. Gives those
/// that have code.
fn leave_out(file: &mut SourceFile, excluded: &BTreeSet<u32>) -> Vec<u32> {
    if excluded.is_empty() {
        return Vec::new();
    }
    let with_code = file.lines.keys().filter(|line| excluded.contains(line));
    let gone: Vec<u32> = with_code.copied().collect();
    file.lines.retain(|line, _| !excluded.contains(line));
    file.comparisons.retain(|line, _| !excluded.contains(line));
    file.functions.retain(|function| {
        let (first, last) = function.lines;
        !excluded.contains(&first)
            && (first == 0 || file.lines.range(first..=last.max(first)).next().is_some())
    });
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::{Function, Hits};

    #[test]
    fn functions_go_with_their_first_line_or_with_their_last_one_that_is_left() {
        let function = |name: &str, lines| Function {
            name: name.into(),
            lines,
            hits: Hits::default(),
        };
        let mut file = SourceFile {
            lines: [1, 2, 5, 6, 9, 10]
                .map(|line| (line, Hits::default()))
                .into(),
            functions: vec![
                function("whole", (1, 2)),
                function("first", (5, 6)),
                function("inside", (9, 10)),
            ],
            ..SourceFile::default()
        };
        assert_eq!(
            leave_out(&mut file, &[1, 2, 3, 5, 10].into()),
            [1, 2, 5, 10]
        );
        let left: Vec<u32> = file.lines.keys().copied().collect();
        assert_eq!(left, [6, 9]);
        assert_eq!(file.functions, [function("inside", (9, 10))]);
    }

    #[test]
    fn a_function_goes_with_the_mark_where_it_begins() {
        let function = |lines| Function {
            name: "f".into(),
            lines,
            hits: Hits::default(),
        };
        let file = SourceFile {
            functions: [(3, 6), (8, 9), (8, 8), (12, 20)].map(function).into(),
            ..SourceFile::default()
        };
        let marks = |functions: Vec<RangeInclusive<u32>>| {
            let mut marked = Marked {
                functions,
                ..Marked::default()
            };
            add_functions(&file, &mut marked);
            (marked.lines.into_iter().collect::<Vec<_>>(), marked.wrong)
        };
        // The brace is the first line that has code, or the declaration is.
        assert_eq!(marks(vec![2..=4]), (vec![3, 4, 5, 6], vec![]));
        assert_eq!(marks(vec![8..=9]), (vec![8, 9], vec![]));
        // One that was not compiled, and a mark in a body.
        assert_eq!(marks(vec![10..=11]), (vec![], vec![]));
        assert_eq!(marks(vec![14..=14]), (vec![], vec![(14, Mistake::Within)]));
    }

    #[test]
    fn attributes_are_rusts() {
        let text = "#[coverage(off)]\nfn f() {}\n// LCOV_EXCL_LINE\n";
        let lines = |path: &str| marked(Path::new(path), text, true).lines;
        assert_eq!(lines("a.rs"), [1, 2, 3].into());
        assert_eq!(lines("a.c"), [3].into());
    }

    #[test]
    fn what_is_on_again_may_have_lines_that_comments_exclude() {
        let text = "#[coverage(off)]\nmod m {\n    #[coverage(on)]\n    fn f() {\n        g(); // LCOV_EXCL_LINE\n    }\n}\n";
        assert_eq!(
            marked(Path::new("a.rs"), text, true).lines,
            [1, 2, 5, 7].into()
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let say = |what| {
            let path = "a.c".into();
            Misplaced {
                path,
                line: 7,
                what,
            }
            .to_string()
        };
        assert_eq!(
            say(Mistake::Inside(3)),
            "a.c:7: EXCL_START is inside of what line 3 began to exclude"
        );
        assert_eq!(
            say(Mistake::NoStop),
            "a.c:7: EXCL_START has no EXCL_STOP behind it, so it excludes nothing"
        );
    }
}
