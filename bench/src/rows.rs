// SPDX-License-Identifier: MIT OR Apache-2.0
//! The raw rows, and what is made of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::{fs, io};
use xtask::shell;

/// What each run of each program and variant took.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rows {
    /// Where they were measured.
    pub(crate) machine: String,
    rows: Vec<Row>,
}

/// What one run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Nanoseconds of user time, or what the bench's page says that it counts instead.
    pub(crate) user: u64,
    /// Nanoseconds of system time.
    pub(crate) system: u64,
    /// Nanoseconds from start to end.
    pub(crate) wall: u64,
    /// KiB of the largest process.
    pub(crate) kib: u64,
}

impl Spent {
    /// What `measured` writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            user: next()?,
            system: next()?,
            wall: next()?,
            kib: next()?,
        })
    }

    /// Of what a program prints of its own work: it begins with nanoseconds of processor time.
    pub(crate) fn of_work(printed: &str) -> Option<Self> {
        Some(Self::count(
            printed.split_whitespace().next()?.parse().ok()?,
        ))
    }

    /// One figure alone.
    pub(crate) fn count(user: u64) -> Self {
        Self {
            user,
            ..Self::default()
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    round: usize,
    program: String,
    variant: String,
    spent: Spent,
}

const COLUMNS: &str = "round,program,variant,user,system,wall,kib";

impl Rows {
    /// None yet, of this machine.
    pub(crate) fn of_this_machine() -> Self {
        Self {
            machine: machine(),
            rows: Vec::new(),
        }
    }

    /// Keeps one measurement.
    pub(crate) fn push(&mut self, round: usize, program: &str, variant: &str, spent: Spent) {
        self.rows.push(Row {
            round,
            program: program.to_owned(),
            variant: variant.to_owned(),
            spent,
        });
    }

    /// Puts these rows in the place of those of the same programs in `old`.
    ///
    /// # Errors
    /// The old ones come from another machine.
    pub(crate) fn replace_in(self, mut old: Self) -> Result<Self, shell::Error> {
        if old.machine != self.machine {
            let Self { machine, .. } = old;
            return Err(format!("the other rows are of another machine ({machine})").into());
        }
        let programs: Vec<String> = self.programs().iter().map(ToString::to_string).collect();
        old.rows.retain(|row| !programs.contains(&row.program));
        old.rows.extend(self.rows);
        Ok(old)
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
                spent,
            } = row;
            let Spent {
                user,
                system,
                wall,
                kib,
            } = spent;
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{round},{program},{variant},{user},{system},{wall},{kib}"
            );
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
            let fields: Vec<&str> = line.splitn(4, ',').collect();
            let [round, program, variant, spent] = fields[..] else {
                return Err(format!("{}: {line}", path.display()).into());
            };
            let spent = Spent::parse(&spent.replace(',', " "))
                .ok_or_else(|| format!("{}: {line}", path.display()))?;
            rows.push(round.parse()?, program, variant, spent);
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

    /// The variants of a program, in the order in which they were measured.
    #[must_use]
    pub(crate) fn variants(&self, program: &str) -> Vec<&str> {
        let mut variants: Vec<&str> = Vec::new();
        for row in self.rows.iter().filter(|row| row.program == program) {
            if !variants.contains(&row.variant.as_str()) {
                variants.push(&row.variant);
            }
        }
        variants
    }

    /// One figure of a variant in each round.
    #[must_use]
    pub(crate) fn of(
        &self,
        program: &str,
        variant: &str,
        figure: fn(&Spent) -> u64,
    ) -> BTreeMap<usize, u64> {
        let of = |row: &&Row| row.program == program && row.variant == variant;
        let rows = self.rows.iter().filter(of);
        rows.map(|row| (row.round, figure(&row.spent))).collect()
    }

    /// First quartile, median and third quartile of a figure. `None` if it was not measured.
    #[must_use]
    pub(crate) fn quartiles(
        &self,
        program: &str,
        variant: &str,
        figure: fn(&Spent) -> u64,
    ) -> Option<[f64; 3]> {
        let figures = self.of(program, variant, figure);
        quartiles(figures.into_values().map(|figure| figure as f64).collect())
    }

    /// First quartile, median and third quartile of `of / to` in the same round. `None` if one of
    /// them was not measured.
    #[must_use]
    pub(crate) fn ratio(
        &self,
        program: &str,
        of: &str,
        to: &str,
        figure: fn(&Spent) -> u64,
    ) -> Option<[f64; 3]> {
        let to = self.of(program, to, figure);
        let of = self.of(program, of, figure);
        let ratio = |(round, time): (&usize, &u64)| Some(*time as f64 / *to.get(round)? as f64);
        quartiles(of.iter().filter_map(ratio).collect())
    }
}

fn quartiles(mut figures: Vec<f64>) -> Option<[f64; 3]> {
    figures.sort_by(f64::total_cmp);
    let last = figures.len().checked_sub(1)?;
    Some([1, 2, 3].map(|quarter| figures[last * quarter / 4]))
}

/// The processor, the system, and the compilers.
fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut text = format!(
        "{}; {cores} processors; Linux {}",
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

    fn user(spent: &Spent) -> u64 {
        spent.user
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut rows = Rows::default();
        for (round, (off, on)) in [(10, 20), (100, 100), (10, 30), (1, 4)]
            .into_iter()
            .enumerate()
        {
            rows.push(round, "p", "off", Spent::count(off));
            rows.push(round, "p", "on", Spent::count(on));
            rows.push(round, "q", "on", Spent::count(1));
        }
        assert_eq!(rows.ratio("p", "on", "off", user), Some([1.0, 2.0, 3.0]));
        assert_eq!(rows.ratio("p", "on", "other", user), None);
        assert_eq!(rows.quartiles("p", "off", user), Some([1.0, 10.0, 10.0]));
        assert_eq!(rows.rounds(), 4);
        assert_eq!(rows.programs(), ["p", "q"]);
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results/rows.csv");
        let mut rows = Rows::of_this_machine();
        let spent = Spent::parse("12 3 40 1000\n").unwrap();
        rows.push(0, "zlib", "gcc-plain", spent);
        rows.write(&path).unwrap();
        assert_eq!(Rows::read(&path).unwrap(), rows);
        fs::write(&path, "# m\nround,program\n").unwrap();
        assert!(Rows::read(&path).is_err());
    }

    #[test]
    fn rows_of_a_program_take_the_place_of_its_old_ones() {
        let rows = |program, user, machine: &str| {
            let mut rows = Rows {
                machine: machine.into(),
                ..Rows::default()
            };
            rows.push(0, program, "v", Spent::count(user));
            rows
        };
        let mut old = rows("p", 1, "m");
        old.push(0, "q", "v", Spent::count(2));
        let new = rows("p", 3, "m").replace_in(old).unwrap();
        assert_eq!(new.quartiles("p", "v", user), Some([3.0; 3]));
        assert_eq!(new.quartiles("q", "v", user), Some([2.0; 3]));
        assert!(rows("p", 3, "n").replace_in(new).is_err());
    }
}
