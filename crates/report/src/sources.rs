// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which source files a report shows.
//!
//! A program's own sources are mostly a small part of all that debug information names. What is
//! clearly not of the project is folded away, by kind, and a report says what it folded.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use regex::Regex;

/// A pattern over paths: a glob, or after `re:` a regular expression.
///
/// A glob matches a whole path or the end of one, a file or a folder: `pool.c`, `lib/*.c`,
/// `**/test/`. `*` and `?` do not match a slash. A regular expression matches anywhere in the path.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// As somebody typed it, if somebody did.
    typed: Option<String>,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Glob(GlobSet),
    Regex(Regex),
    Below(PathBuf),
}

/// Text that is no pattern.
#[derive(Debug, thiserror::Error)]
pub enum BadPattern {
    /// Not a glob.
    #[error("{0}; for a regular expression write re:...")]
    Glob(#[from] globset::Error),
    /// Not a regular expression.
    #[error(transparent)]
    Regex(#[from] regex::Error),
}

impl FromStr for Pattern {
    type Err = BadPattern;

    fn from_str(text: &str) -> Result<Self, BadPattern> {
        if let Some(regex) = text.strip_prefix("re:") {
            return Ok(Self::typed(text, Matcher::Regex(Regex::new(regex)?)));
        }
        let path = text.strip_prefix("./").unwrap_or(text);
        let path = path.trim_end_matches('/');
        let mut set = GlobSetBuilder::new();
        for around in [("", ""), ("**/", ""), ("", "/**"), ("**/", "/**")] {
            let whole = format!("{}{path}{}", around.0, around.1);
            set.add(GlobBuilder::new(&whole).literal_separator(true).build()?);
        }
        Ok(Self::typed(text, Matcher::Glob(set.build()?)))
    }
}

impl Pattern {
    /// Matches this folder and all that is in it, whatever characters its name has.
    #[must_use]
    pub fn below(folder: &Path) -> Self {
        Self {
            typed: None,
            matcher: Matcher::Below(folder.to_owned()),
        }
    }

    fn typed(text: &str, matcher: Matcher) -> Self {
        Self {
            typed: Some(text.to_owned()),
            matcher,
        }
    }

    /// What somebody typed, if somebody did.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.typed.as_deref()
    }

    /// Whether it matches this path.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        match &self.matcher {
            Matcher::Glob(set) => set.is_match(path),
            Matcher::Regex(regex) => regex.is_match(&path.to_string_lossy()),
            Matcher::Below(folder) => path.starts_with(folder),
        }
    }
}

/// Sources that are not of the project that was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outside {
    /// Below `/usr`: headers of the system and its libraries.
    System,
    /// Rust's own libraries.
    RustStd,
    /// Crates from a registry or a repository.
    Crates,
    /// What the compiler makes without a source.
    Compiler,
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "system headers",
            Self::RustStd => "Rust's own libraries",
            Self::Crates => "crates of others",
            Self::Compiler => "code without a source",
        })
    }
}

/// Whether a file is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Show,
    /// It is not of the project; counted, not shown.
    Fold(Outside),
    /// The user does not want it.
    Leave,
}

/// Decides which sources are shown.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// If any: only what one of them matches is shown, of the project or not.
    pub only: Vec<Pattern>,
    /// The same, and what is not of the project is not shown. [`Filter::narrow`] finds them.
    pub own: Vec<Pattern>,
    /// What one of them matches is not shown.
    pub exclude: Vec<Pattern>,
    /// Fold nothing.
    pub all: bool,
    /// Folders that are of the project wherever they lie: where the program was run.
    pub project: Vec<PathBuf>,
}

impl Filter {
    /// A pattern that matches one of these files of the project selects files of the project alone: nobody who
    /// asks for `src/lib.rs` means that of a library. Unless nothing is folded.
    pub fn narrow<'f>(&mut self, files: impl Iterator<Item = &'f Path> + Clone) {
        if self.all {
            return;
        }
        let is_own = |pattern: &Pattern| {
            let mut files = files.clone();
            files.any(|path| pattern.matches(path) && self.outside(path).is_none())
        };
        let (mut own, only): (Vec<_>, Vec<_>) = self.only.iter().cloned().partition(is_own);
        self.own.append(&mut own);
        self.only = only;
    }

    /// Whether the file is shown.
    #[must_use]
    pub fn verdict(&self, path: &Path) -> Verdict {
        let wanted = |patterns: &[Pattern]| patterns.iter().any(|p| p.matches(path));
        if wanted(&self.exclude) {
            return Verdict::Leave;
        }
        if !self.only.is_empty() || !self.own.is_empty() {
            let own = wanted(&self.own) && self.outside(path).is_none();
            return if own || wanted(&self.only) {
                Verdict::Show
            } else {
                Verdict::Leave
            };
        }
        match self.outside(path) {
            Some(outside) if !self.all => Verdict::Fold(outside),
            _ => Verdict::Show,
        }
    }

    fn outside(&self, path: &Path) -> Option<Outside> {
        // Of a path below the project, only what follows the project's own folder counts.
        let inside = self
            .project
            .iter()
            .filter(|folder| folder.parent().is_some())
            .filter_map(|folder| path.strip_prefix(folder).ok())
            .min_by_key(|inside| inside.as_os_str().len());
        let text = inside.unwrap_or(path).to_string_lossy();
        let has = |part: &str| text.contains(part);
        if text.starts_with('<') {
            Some(Outside::Compiler)
        } else if ["/rustc/", "/rust/deps/", "/usr/src/rustc-"]
            .iter()
            .any(|folder| text.starts_with(folder))
            || has("/rustlib/src/rust/")
        {
            Some(Outside::RustStd)
        } else if has(".cargo/registry/src/")
            || has("/registry/src/index.crates.io-")
            || has(".cargo/git/checkouts/")
        {
            Some(Outside::Crates)
        } else if [
            "/usr/include/",
            "/usr/lib/",
            "/usr/lib64/",
            "/usr/local/include/",
        ]
        .iter()
        .any(|folder| text.starts_with(folder))
        {
            Some(Outside::System)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        pattern.parse::<Pattern>().unwrap().matches(Path::new(path))
    }

    #[test]
    fn globs_match_ends_of_paths_and_folders() {
        for (pattern, yes, no) in [
            ("pool.c", "/src/lib/pool.c", "/src/lib/spool.c"),
            ("lib/*.c", "/src/lib/a.c", "/src/lib/x/a.c"),
            ("lib", "/src/lib/x/a.c", "/src/libs/a.c"),
            ("lib/", "/src/lib/x/a.c", "/src/libs/a.c"),
            ("./lib", "/src/lib/x/a.c", "/src/libs/a.c"),
            ("/src", "/src/lib/a.c", "/else/src/a.c"),
            ("**/x/*.{c,h}", "/src/x/a.h", "/src/x/a.rs"),
            ("a.c", "a.c", "b.c"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn a_folder_is_what_it_is_called() {
        let folder = Pattern::below(Path::new("/w/a! [b]{c,d}*"));
        assert!(folder.matches(Path::new("/w/a! [b]{c,d}*/src/lib.rs")));
        assert!(!folder.matches(Path::new("/w/a! [b]{c,d}*e/src/lib.rs")));
    }

    #[test]
    fn regular_expressions_match_anywhere() {
        assert!(matches("re:po+l", "/src/lib/pool.c"));
        assert!(!matches("re:^lib", "/src/lib/pool.c"));
        assert!("re:(".parse::<Pattern>().is_err());
        let wrong = "a[".parse::<Pattern>().unwrap_err().to_string();
        assert!(wrong.contains("re:"), "{wrong}");
    }

    #[test]
    fn a_pattern_of_the_project_selects_nothing_else() {
        let ours = Path::new("/p/src/lib.rs");
        let theirs = Path::new("/rustc/0123abcd/library/alloc/src/lib.rs");
        let shown = |pattern: &str, all: bool| {
            let mut filter = Filter {
                only: vec![pattern.parse().unwrap()],
                all,
                ..Filter::default()
            };
            filter.narrow([ours, theirs].into_iter());
            [ours, theirs].map(|path| filter.verdict(path) == Verdict::Show)
        };
        assert_eq!(shown("src/lib.rs", false), [true, false]);
        assert_eq!(shown("src/lib.rs", true), [true, true]);
        assert_eq!(shown("alloc/src", false), [false, true]);
        assert_eq!(shown("main.rs", false), [false, false]);
    }

    #[test]
    fn what_is_clearly_of_others_is_folded() {
        let filter = Filter::default();
        for (path, outside) in [
            (
                "/usr/include/x86_64-linux-gnu/bits/stdio2.h",
                Some(Outside::System),
            ),
            (
                "/usr/lib/gcc/x86_64-linux-gnu/12/include/emmintrin.h",
                Some(Outside::System),
            ),
            ("/usr/src/project/a.c", None),
            (
                "/rustc/0123abcd/library/core/src/fmt/mod.rs",
                Some(Outside::RustStd),
            ),
            (
                "/home/u/.rustup/toolchains/x/lib/rustlib/src/rust/library/a.rs",
                Some(Outside::RustStd),
            ),
            (
                "/usr/src/rustc-1.96.0/library/core/src/option.rs",
                Some(Outside::RustStd),
            ),
            (
                "/rust/deps/hashbrown-0.16.1/src/map.rs",
                Some(Outside::RustStd),
            ),
            (
                "/home/u/.cargo/registry/src/index.crates.io-6f17d22bba15001f/a-1/src/lib.rs",
                Some(Outside::Crates),
            ),
            (
                "/cache/registry/src/index.crates.io-6f17d22bba15001f/a-1/src/lib.rs",
                Some(Outside::Crates),
            ),
            (
                "/home/u/.cargo/git/checkouts/a-1/2/src/lib.rs",
                Some(Outside::Crates),
            ),
            ("/home/u/project/src/main.rs", None),
            ("<built-in>", Some(Outside::Compiler)),
        ] {
            let expected = outside.map_or(Verdict::Show, Verdict::Fold);
            assert_eq!(filter.verdict(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn where_the_program_ran_is_the_project_wherever_it_lies() {
        let verdict = |project: &str, path: &str| {
            let project = vec![project.into()];
            let filter = Filter {
                project,
                ..Filter::default()
            };
            filter.verdict(Path::new(path))
        };
        let krate = "/home/u/.cargo/registry/src/index.crates.io-1/zstd-sys-2";
        let source = format!("{krate}/zstd/lib/common/pool.c");
        assert_eq!(verdict(krate, &source), Verdict::Show);
        assert_eq!(verdict("/home/u", &source), Verdict::Fold(Outside::Crates));
        assert_eq!(
            verdict("/usr/lib/mine", "/usr/lib/mine/a.py"),
            Verdict::Show
        );
        assert_eq!(verdict("/", "/usr/lib/a.h"), Verdict::Fold(Outside::System));
        // Of several folders the innermost counts.
        let filter = Filter {
            project: vec!["/home/u".into(), krate.into()],
            ..Filter::default()
        };
        assert_eq!(filter.verdict(Path::new(&source)), Verdict::Show);
    }

    #[test]
    fn the_users_patterns_come_first() {
        let patterns = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        let filter = Filter {
            only: patterns(&["/usr/include", "src"]),
            exclude: patterns(&["src/old"]),
            ..Filter::default()
        };
        let verdict = |path| filter.verdict(Path::new(path));
        assert_eq!(verdict("/usr/include/stdio.h"), Verdict::Show);
        assert_eq!(verdict("/p/src/a.c"), Verdict::Show);
        assert_eq!(verdict("/p/src/old/a.c"), Verdict::Leave);
        assert_eq!(verdict("/p/test/a.c"), Verdict::Leave);
        let all = Filter {
            all: true,
            ..Filter::default()
        };
        assert_eq!(all.verdict(Path::new("/usr/include/a.h")), Verdict::Show);
    }
}
