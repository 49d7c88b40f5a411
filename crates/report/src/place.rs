// SPDX-License-Identifier: MIT OR Apache-2.0
//! Places in sources, as people name them.

use std::path::Path;

use crate::coverage::{Coverage, Function, Hits, SourceFile};

/// A place that somebody asks about.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A line.
    Line {
        /// Its source.
        path: &'a Path,
        /// Its number.
        line: u32,
        /// Who ran it.
        hits: &'a Hits,
    },
    /// A function.
    Function {
        /// Its source.
        path: &'a Path,
        /// The function.
        function: &'a Function,
    },
    /// A whole source.
    File {
        /// Its path.
        path: &'a Path,
        /// What it has.
        source: &'a SourceFile,
    },
}

/// There is no such place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// No source is called that.
    #[error("no source is {0} in the traces, and no function is called so")]
    Unknown(String),
    /// Several sources are called that.
    #[error("several sources are called {name}: {}; say more of the path", files.join(", "))]
    Several {
        /// What was asked for.
        name: String,
        /// The sources.
        files: Vec<String>,
    },
    /// There is no code on the line.
    #[error("{file}:{line}: there is no code on this line{}", nearest(*.next))]
    NoCode {
        /// The source.
        file: String,
        /// The line.
        line: u32,
        /// The next one that has code.
        next: Option<u32>,
    },
}

fn nearest(next: Option<u32>) -> String {
    next.map_or_else(String::new, |line| {
        format!("; the next that has some is {line}")
    })
}

impl<'a> Place<'a> {
    /// All places with a name: `FILE:LINE`, `FILE`, of which the end is enough, or a function's name or its end.
    /// A path from the folder of a run on is that one, whatever else ends so.
    ///
    /// # Errors
    /// There is none, or several sources have the name.
    pub fn named(coverage: &'a Coverage, name: &str) -> Result<Vec<Self>, NoPlace> {
        let (file, line) = match name.rsplit_once(':') {
            Some((file, line)) if !file.is_empty() => match line.parse::<u32>() {
                Ok(line) => (file, Some(line)),
                Err(_) => (name, None),
            },
            _ => (name, None),
        };
        let files = coverage.files.iter();
        let mut files: Vec<_> = files.filter(|(path, _)| path.ends_with(file)).collect();
        let directories = coverage.runs.iter().map(|run| &run.info.directory);
        let exact: Vec<_> = directories.map(|folder| folder.join(file)).collect();
        if files.iter().any(|(path, _)| exact.contains(path)) {
            files.retain(|(path, _)| exact.contains(path));
        }
        if files.is_empty() {
            let all = coverage.files.iter();
            let all =
                all.flat_map(|(path, source)| source.functions.iter().map(move |f| (path, f)));
            let named = all.filter(|(_, function)| is_called(&function.name, name));
            let found: Vec<_> = named
                .map(|(path, function)| Place::Function { path, function })
                .collect();
            return match found.is_empty() {
                true => Err(NoPlace::Unknown(name.to_owned())),
                false => Ok(found),
            };
        }
        let Some(line) = line else {
            let all = files.into_iter();
            let all = all.map(|(path, source)| Place::File { path, source });
            return one_source(name, all.collect());
        };
        let with_code = files.iter().filter_map(|(path, source)| {
            let hits = source.lines.get(&line)?;
            Some(Place::Line { path, line, hits })
        });
        let found: Vec<_> = with_code.collect();
        if found.is_empty() {
            let later = files
                .iter()
                .flat_map(|(_, source)| source.lines.range(line..));
            return Err(NoPlace::NoCode {
                file: file.to_owned(),
                line,
                next: later.map(|(line, _)| *line).min(),
            });
        }
        one_source(name, found)
    }

    /// Its source.
    #[must_use]
    pub const fn path(&self) -> &'a Path {
        match self {
            Self::Line { path, .. } | Self::Function { path, .. } | Self::File { path, .. } => path,
        }
    }

    /// Who ran what is there.
    pub fn hits(&self) -> impl Iterator<Item = &'a Hits> {
        let (one, all) = match *self {
            Self::Line { hits, .. } => (Some(hits), None),
            Self::Function { function, .. } => (Some(&function.hits), None),
            Self::File { source, .. } => (None, Some(source.lines.values())),
        };
        one.into_iter().chain(all.into_iter().flatten())
    }

    /// The function that it is or is in, the smallest if there are several.
    #[must_use]
    pub fn function(&self, coverage: &'a Coverage) -> Option<&'a Function> {
        match *self {
            Self::Function { function, .. } => Some(function),
            Self::File { .. } => None,
            Self::Line { path, line, .. } => {
                let functions = coverage.file(path)?.functions.iter();
                let around = functions.filter(|f| f.lines.0 <= line && line <= f.lines.1);
                around.min_by_key(|f| f.lines.1 - f.lines.0)
            }
        }
    }
}

/// The places, if they are of one source.
fn one_source<'a>(name: &str, places: Vec<Place<'a>>) -> Result<Vec<Place<'a>>, NoPlace> {
    if places.len() < 2 {
        return Ok(places);
    }
    let files = places
        .iter()
        .map(|place| place.path().display().to_string());
    Err(NoPlace::Several {
        name: name.to_owned(),
        files: files.collect(),
    })
}

/// Whether a function's name, with its parameters or without, is `wanted`, or ends in it.
fn is_called(name: &str, wanted: &str) -> bool {
    let is = |name: &str| {
        name.strip_suffix(wanted)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
    };
    is(name) || is(without_parameters(name))
}

/// The name of a function of C++ without the types of its parameters.
fn without_parameters(name: &str) -> &str {
    let mut depth = 0_usize;
    if name.ends_with(')') {
        for (at, c) in name.char_indices().rev() {
            match c {
                ')' => depth += 1,
                '(' if depth == 1 => return &name[..at],
                '(' => depth -= 1,
                _ => {}
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_called_by_the_end_of_their_names() {
        for (name, wanted, is) in [
            ("kit::larger", "larger", true),
            ("kit::larger", "kit::larger", true),
            ("kit::larger", "ger", false),
            ("larger", "kit::larger", false),
            ("a::add(int (*)(int), b::C)", "add", true),
            (
                "a::add(int (*)(int), b::C)",
                "a::add(int (*)(int), b::C)",
                true,
            ),
            ("(anonymous namespace)::f", "f", true),
            ("broken)", "broken", false),
        ] {
            assert_eq!(is_called(name, wanted), is, "{name} {wanted}");
        }
    }
}
