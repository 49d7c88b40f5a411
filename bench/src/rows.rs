// SPDX-License-Identifier: MIT OR Apache-2.0
//! The raw rows, and what is made of them.

use crate::build::Variant;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::{fs, io};

/// Nanoseconds of each variant, round by round.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    rows: Vec<(usize, String, u64)>,
}

impl Rows {
    /// Keeps one measurement.
    pub(crate) fn push(&mut self, round: usize, variant: &Variant, nanoseconds: u64) {
        self.rows.push((round, variant.name(), nanoseconds));
    }

    /// Writes the rows, with the machine that they were measured on.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = format!("# {}\nround,variant,nanoseconds\n", machine());
        for (round, variant, nanoseconds) in &self.rows {
            let _ = writeln!(text, "{round},{variant},{nanoseconds}");
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)
    }

    /// First quartile, median and third quartile of `of / to` in the same round. `None` if one of
    /// them was not measured.
    #[must_use]
    pub(crate) fn ratio(&self, of: &Variant, to: &Variant) -> Option<[f64; 3]> {
        let times = |variant: &Variant| -> BTreeMap<usize, u64> {
            let name = variant.name();
            self.rows
                .iter()
                .filter(|row| row.1 == name)
                .map(|row| (row.0, row.2))
                .collect()
        };
        let (of, to) = (times(of), times(to));
        let mut ratios: Vec<f64> = of
            .iter()
            .filter_map(|(round, time)| Some(*time as f64 / *to.get(round)? as f64))
            .collect();
        ratios.sort_by(f64::total_cmp);
        let at = |quarter: usize| {
            ratios
                .get((ratios.len().checked_sub(1)?) * quarter / 4)
                .copied()
        };
        Some([at(1)?, at(2)?, at(3)?])
    }
}

fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} processors")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Collection, Compiler, Instrumentation};

    #[test]
    fn ratios_are_of_the_same_round() {
        let variant = |on| Variant {
            compiler: Compiler::Gcc,
            instrumentation: Instrumentation::TracePc,
            collection: Collection::Rkcov,
            on,
        };
        let mut rows = Rows::default();
        for (round, (off, on)) in [(10, 20), (100, 100), (10, 30), (1, 4)]
            .into_iter()
            .enumerate()
        {
            rows.push(round, &variant(false), off);
            rows.push(round, &variant(true), on);
        }
        assert_eq!(
            rows.ratio(&variant(true), &variant(false)),
            Some([1.0, 2.0, 3.0])
        );
        let other = Variant {
            collection: Collection::None,
            ..variant(false)
        };
        assert_eq!(rows.ratio(&variant(true), &other), None);
    }
}
