// SPDX-License-Identifier: MIT OR Apache-2.0
//! The raw rows, and what is made of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::{fs, io};
use xtask::shell;

/// Nanoseconds of each program and variant, round by round.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Where they were measured.
    pub(crate) machine: String,
    rows: Vec<Row>,
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    round: usize,
    program: String,
    variant: String,
    nanoseconds: u64,
}

const COLUMNS: &str = "round,program,variant,nanoseconds";

impl Rows {
    /// None yet, of this machine.
    pub(crate) fn of_this_machine() -> Self {
        Self {
            machine: machine(),
            rows: Vec::new(),
        }
    }

    /// Keeps one measurement.
    pub(crate) fn push(&mut self, round: usize, program: &str, variant: &str, nanoseconds: u64) {
        self.rows.push(Row {
            round,
            program: program.to_owned(),
            variant: variant.to_owned(),
            nanoseconds,
        });
    }

    /// Writes the rows, with the machine that they were measured on.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = format!("# {}\n{COLUMNS}\n", self.machine);
        for row in &self.rows {
            let Row {
                round,
                program,
                variant,
                nanoseconds,
            } = row;
            let _ = writeln!(text, "{round},{program},{variant},{nanoseconds}");
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)
    }

    /// Reads what [`Rows::write`] wrote.
    ///
    /// # Errors
    /// The file cannot be read, or is no such file.
    pub(crate) fn read(path: &Path) -> Result<Self, shell::Error> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let mut lines = text.lines();
        let machine = lines.next().and_then(|line| line.strip_prefix("# "));
        let mut rows = Self {
            machine: machine.ok_or("the raw rows name no machine")?.to_owned(),
            rows: Vec::new(),
        };
        if lines.next() != Some(COLUMNS) {
            return Err(format!("{}: the columns are not {COLUMNS}", path.display()).into());
        }
        for line in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let [round, program, variant, nanoseconds] = fields[..] else {
                return Err(format!("{}: {line}", path.display()).into());
            };
            rows.push(round.parse()?, program, variant, nanoseconds.parse()?);
        }
        Ok(rows)
    }

    /// How many rounds there are.
    #[must_use]
    pub(crate) fn rounds(&self) -> usize {
        self.rows.iter().map(|row| row.round + 1).max().unwrap_or(0)
    }

    /// The programs, in the order in which they were measured.
    #[must_use]
    pub(crate) fn programs(&self) -> Vec<&str> {
        let mut programs: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !programs.contains(&row.program.as_str()) {
                programs.push(&row.program);
            }
        }
        programs
    }

    /// A variant's time in each round.
    #[must_use]
    pub(crate) fn times(&self, program: &str, variant: &str) -> BTreeMap<usize, u64> {
        let of = |row: &&Row| row.program == program && row.variant == variant;
        let rows = self.rows.iter().filter(of);
        rows.map(|row| (row.round, row.nanoseconds)).collect()
    }

    /// First quartile, median and third quartile of `of / to` in the same round. `None` if one of
    /// them was not measured.
    #[must_use]
    pub(crate) fn ratio(&self, program: &str, of: &str, to: &str) -> Option<[f64; 3]> {
        let to = self.times(program, to);
        let mut ratios: Vec<f64> = self
            .times(program, of)
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

/// The processor, the system, the compilers, and how busy it all is.
fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let mut text = format!(
        "{}; {cores} processors; Linux {}; load {load} at the beginning",
        model.trim(),
        kernel.trim()
    );
    for compiler in ["gcc", crate::build::CLANG, "rustc"] {
        let version = shell::read(Command::new(compiler).arg("--version")).unwrap_or_default();
        if let Some(version) = version.lines().next() {
            let _ = write!(text, "; {version}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut rows = Rows::default();
        for (round, (off, on)) in [(10, 20), (100, 100), (10, 30), (1, 4)]
            .into_iter()
            .enumerate()
        {
            rows.push(round, "p", "off", off);
            rows.push(round, "p", "on", on);
            rows.push(round, "q", "on", 1);
        }
        assert_eq!(rows.ratio("p", "on", "off"), Some([1.0, 2.0, 3.0]));
        assert_eq!(rows.ratio("p", "on", "other"), None);
        assert_eq!(rows.rounds(), 4);
        assert_eq!(rows.programs(), ["p", "q"]);
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results/rows.csv");
        let mut rows = Rows::of_this_machine();
        rows.push(0, "zlib", "gcc-plain", 12);
        rows.write(&path).unwrap();
        assert_eq!(Rows::read(&path).unwrap(), rows);
        fs::write(&path, "# m\nround,program\n").unwrap();
        assert!(Rows::read(&path).is_err());
    }
}
