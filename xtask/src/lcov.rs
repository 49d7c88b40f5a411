// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading lcov tracefiles.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What ran of each source.
pub type Coverage = BTreeMap<PathBuf, Source>;

/// What ran of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// How often each line with code ran.
    pub lines: BTreeMap<u32, u64>,
    /// How often each function ran, by its name.
    pub functions: BTreeMap<String, u64>,
}

impl Source {
    /// The lines that ran.
    pub fn ran(&self) -> impl Iterator<Item = u32> + '_ {
        let ran = self.lines.iter().filter(|(_, count)| **count > 0);
        ran.map(|(line, _)| *line)
    }
}

/// Reads a tracefile. What is no record of lines and functions is passed over.
#[must_use]
pub fn read(tracefile: &str) -> Coverage {
    let mut coverage = Coverage::new();
    let mut path = PathBuf::new();
    for record in tracefile.lines() {
        let Some((kind, value)) = record.split_once(':') else {
            continue;
        };
        if kind == "SF" {
            path = value.into();
            coverage.entry(path.clone()).or_default();
            continue;
        }
        let (Some(source), Some((first, rest))) = (coverage.get_mut(&path), value.split_once(','))
        else {
            continue;
        };
        match kind {
            "DA" => {
                // A checksum may follow.
                let count = rest.split(',').next().unwrap_or_default();
                if let (Ok(line), Ok(count)) = (first.parse(), count.parse::<u64>()) {
                    *source.lines.entry(line).or_default() += count;
                }
            }
            "FNDA" => {
                if let Ok(count) = first.parse::<u64>() {
                    *source.functions.entry(rest.into()).or_default() += count;
                }
            }
            _ => {}
        }
    }
    coverage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_functions() {
        let coverage = read(
            "TN:\nSF:/a.rs\nFN:3,f<A, B>\nFNDA:2,f<A, B>\nDA:3,2\nDA:4,0\nDA:3,1,x\nLF:2\nend_of_record\nSF:/b.rs\n",
        );
        let source = &coverage[&PathBuf::from("/a.rs")];
        assert_eq!(source.lines, [(3, 3), (4, 0)].into());
        assert_eq!(source.functions, [("f<A, B>".to_owned(), 2)].into());
        assert_eq!(source.ran().collect::<Vec<_>>(), [3]);
        assert_eq!(coverage[&PathBuf::from("/b.rs")], Source::default());
    }
}
