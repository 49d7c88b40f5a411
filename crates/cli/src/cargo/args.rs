// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of the arguments are ours, and which are cargo's.
//!
//! Ours may stand anywhere before `--`, among cargo's, as everywhere in cargo. An argument that we do not
//! know is cargo's.

use super::project::Choice;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Names of long options, without the dashes, and whether a value follows.
pub type Options = BTreeMap<String, bool>;

/// The options of a command.
#[must_use]
pub fn options(command: &clap::Command) -> Options {
    let mut options = Options::new();
    for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
        let value = arg.get_action().takes_values();
        let names = arg.get_long_and_visible_aliases().unwrap_or_default();
        let hidden = arg.get_all_aliases().unwrap_or_default();
        options.extend(
            names
                .into_iter()
                .chain(hidden)
                .map(|name| (name.to_owned(), value)),
        );
    }
    options
}

/// A command line, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Ours.
    pub own: Vec<OsString>,
    /// Cargo's, and from `--` on the program's.
    pub cargo: Vec<OsString>,
}

/// Takes a command line apart.
#[must_use]
pub fn split(args: Vec<OsString>, own: &Options) -> Split {
    let mut split = Split::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            split.cargo.push(arg);
            split.cargo.extend(args);
            break;
        }
        let text = arg.to_string_lossy();
        let name = text.strip_prefix("--").unwrap_or_default();
        let (name, attached) = match name.split_once('=') {
            Some((name, _)) => (name, true),
            None => (name, false),
        };
        let (to, value) = match own.get(name) {
            Some(value) => (&mut split.own, *value),
            None => (&mut split.cargo, false),
        };
        to.push(arg);
        if value && !attached {
            to.extend(args.next());
        }
    }
    split
}

/// An option that is passed to cargo, and one of ours that it resembles.
#[must_use]
pub fn resembling(cargo: &[OsString], own: &Options) -> Option<(String, String)> {
    /// A mistyped name is at least so similar to the right one.
    const ALIKE: f64 = 0.9;
    /// Names of cargo's and nextest's own options that are so similar to one of ours.
    const CARGOS: [&str; 2] = ["exclude", "filterset"];
    let theirs = cargo.iter().take_while(|arg| *arg != "--");
    let each = theirs.filter_map(|arg| {
        let text = arg.to_string_lossy();
        let name = text.strip_prefix("--")?.split('=').next()?.to_owned();
        let like = |ours: &String| (strsim::jaro_winkler(&name, ours), ours.clone());
        let best = own.keys().map(like).max_by(|a, b| a.0.total_cmp(&b.0))?;
        let is_ours = best.0 >= ALIKE && !CARGOS.contains(&&*name);
        is_ours.then_some((best.0, name, best.1))
    });
    let best = each.max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some((format!("--{}", best.1), format!("--{}", best.2)))
}

/// What cargo's own arguments say that we have to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// `--target`.
    pub targets: Vec<String>,
    /// `--target-dir`.
    pub target_dir: Option<PathBuf>,
    /// What tells where the project is, and how to read it: for `cargo metadata`.
    pub project: Vec<OsString>,
    /// `--package`.
    pub packages: Vec<String>,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// Nothing is to be run.
    pub no_run: bool,
}

impl Known {
    /// Reads cargo's arguments.
    #[must_use]
    pub fn read(cargo: &[OsString]) -> Self {
        let mut known = Self::default();
        let mut rest = cargo.iter().take_while(|arg| *arg != "--");
        while let Some(arg) = rest.next() {
            let text = arg.to_string_lossy();
            let short = ["-p", "-C", "-Z", "-F"]
                .into_iter()
                .find(|short| text.starts_with(short) && text.len() > 2);
            let (name, attached) = match (short, text.split_once('=')) {
                (Some(short), _) => (short, Some(text[2..].trim_start_matches('='))),
                (None, Some((name, value))) => (name, Some(value)),
                (None, None) => (&*text, None),
            };
            let mut value = || match attached {
                Some(value) => OsString::from(value),
                None => rest.next().cloned().unwrap_or_default(),
            };
            let text = |value: OsString| value.to_string_lossy().into_owned();
            match name {
                "--target" => known.targets.push(text(value())),
                "--target-dir" => known.target_dir = Some(value().into()),
                "-p" | "--package" => known.packages.push(text(value())),
                "--exclude" => known.exclude.push(text(value())),
                // Features decide which dependencies there are.
                "--manifest-path" | "--config" | "-Z" | "--lockfile-path" | "--features" | "-F" => {
                    let value = value();
                    known.project.extend([name.into(), value]);
                }
                "--offline"
                | "--locked"
                | "--frozen"
                | "--all-features"
                | "--no-default-features" => known.project.push(name.into()),
                "--no-run" => known.no_run = true,
                _ => {}
            }
        }
        known
    }

    /// The packages that are named, together with ours.
    #[must_use]
    pub fn choice(&self, with: &[String], without: &[String]) -> Choice {
        Choice {
            only: self.packages.clone(),
            without: self.exclude.iter().chain(without).cloned().collect(),
            with: with.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn a_mistyped_option_resembles_ours() {
        let own = Options::from([
            ("format".to_owned(), true),
            ("fail-under-lines".to_owned(), true),
        ]);
        let of = |line: &str| resembling(&words(line), &own);
        let pair = |theirs: &str, ours: &str| Some((theirs.to_owned(), ours.to_owned()));
        assert_eq!(of("--lib --fromat lcov"), pair("--fromat", "--format"));
        assert_eq!(
            of("--fail-under-line=80"),
            pair("--fail-under-line", "--fail-under-lines")
        );
        assert_eq!(of("--release --features a -p b"), None);
        assert_eq!(of("-- --fromat"), None);
        let own = Options::from([("exclusive".to_owned(), false)]);
        assert_eq!(resembling(&words("--exclude a"), &own), None);
    }

    fn split_line(line: &str) -> [String; 2] {
        let own = [
            ("lcov", false),
            ("include", true),
            ("filter", true),
            ("functions", false),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value)).into();
        let split = split(words(line), &own);
        [split.own, split.cargo].map(|words| {
            let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
            words.join(" ")
        })
    }

    #[test]
    fn each_gets_its_own() {
        assert_eq!(
            split_line("-p a --lcov --release --include serde name --filter=src --functions"),
            [
                "--lcov --include serde --filter=src --functions",
                "-p a --release name"
            ]
        );
        assert_eq!(
            split_line("--include --lcov -- --lcov --filter x"),
            ["--include --lcov", "-- --lcov --filter x"]
        );
    }

    #[test]
    fn what_cargo_is_told() {
        let known = Known::read(&words(
            "-pa --package=b -p c --target t --target=u --target-dir d --exclude x --no-run \
             --manifest-path m --offline --config=k=v --features=f -Fg --all-features -- -p z",
        ));
        assert_eq!(known.packages, ["a", "b", "c"]);
        assert_eq!(known.targets, ["t", "u"]);
        assert_eq!(known.target_dir, Some("d".into()));
        assert_eq!(known.exclude, ["x"]);
        assert_eq!(
            known.project,
            words("--manifest-path m --offline --config k=v --features f -F g --all-features")
        );
        assert!(known.no_run);
    }
}
