// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask affected`: whether `cargo rkcov affected` names the tests that changes of real crates
//! concern.
//!
//! Of each two successive releases, the later one is recorded, and what the release has changed is undone:
//! one place after the other, and each source as a whole. So the tests that came with a change are there, and
//! fail without it. Each test whose result or output is then another one has to be in the answer.

mod changes;
mod results;

use crate::choice::{self, Listed};
use crate::rust_projects::Project;
use crate::shell::{self, heading, Error};
use crate::{demo, page, sources, work_dir};
use changes::{undo, Change};
use results::Results;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Arguments of `cargo xtask affected`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these crates
    #[arg(value_name = "CRATE", value_parser = choice::known::<Crate>)]
    crates: Vec<&'static Crate>,
    /// So many pairs of releases of each, the newest ones
    #[arg(long, value_name = "N")]
    pairs: Option<usize>,
    /// No further pair is tried after so many minutes of a crate
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u64,
    /// Keep the results in docs/per-test.md
    #[arg(long)]
    write: bool,
}

/// A crate, and its releases from the first to the last one.
#[derive(Debug)]
struct Crate {
    name: &'static str,
    releases: &'static [&'static str],
    /// Words of `cargo test`.
    tests: &'static str,
    /// Tests that are left out, since they take minutes.
    slow: &'static [&'static str],
}

const CRATES: &[Crate] = &[
    Crate {
        name: "httparse",
        releases: &[
            "1.3.1", "1.3.2", "1.3.3", "1.3.4", "1.3.5", "1.3.6", "1.4.0", "1.4.1", "1.5.0",
            "1.5.1", "1.6.0", "1.7.0", "1.7.1", "1.8.0", "1.9.3", "1.9.4", "1.9.5", "1.10.0",
            "1.10.1",
        ],
        tests: "--lib",
        slow: &["test_all_utf8_char_in_paths"],
    },
    Crate {
        name: "smallvec",
        releases: &[
            "1.6.0", "1.6.1", "1.7.0", "1.8.0", "1.8.1", "1.9.0", "1.10.0", "1.11.0", "1.11.1",
            "1.11.2", "1.12.0", "1.13.1", "1.13.2", "1.14.0", "1.15.0", "1.15.1",
        ],
        tests: "--lib",
        slow: &[],
    },
];

/// How long tests may take: so much, and as many times what they took without a change.
const LONGEST: Duration = Duration::from_secs(30);
const TIMES: u32 = 4;

impl Listed for Crate {
    const ALL: &'static [Self] = CRATES;
    const WHAT: &'static str = "crates";

    fn name(&self) -> &'static str {
        self.name
    }
}

/// What was found of a crate.
#[derive(Debug, Default)]
struct Found {
    pairs: usize,
    tests: usize,
    /// Changes after which the crate does not compile, or its tests do not end: nothing is known of them.
    broken: usize,
    /// Changes of which the answer is all tests.
    all: usize,
    /// Changes with an answer that names tests.
    named: usize,
    /// The sum of the tests in these answers, and of those that there are, in percent.
    chosen: f64,
    /// Pairs of such a change and a test that it changes.
    hit: usize,
    /// The same, and the test is not in the answer.
    missed: Vec<String>,
}

/// Undoes and asks.
///
/// # Errors
/// A release cannot be fetched, built or run, or a test is not in an answer.
pub fn run(args: &Args) -> Result<(), Error> {
    let cargo_rkcov = demo::build_command("cargo-rkcov", "release")?;
    let wanted = choice::wanted(&args.crates);
    let mut rows = Vec::new();
    for one in wanted {
        let found = one.check(&cargo_rkcov, args)?;
        println!("{} {found:?}", one.name);
        rows.push((one, found));
    }
    if args.write {
        page::keep("docs/per-test.md", &page::mark("affected"), |_| {
            table(&rows)
        })?;
    }
    let missed: Vec<&str> = rows
        .iter()
        .flat_map(|(_, found)| found.missed.iter().map(String::as_str))
        .collect();
    if !missed.is_empty() {
        return Err(format!("tests that are in no answer:\n{}", missed.join("\n")).into());
    }
    // A run in which no change changes any test says nothing.
    if rows.iter().all(|(_, found)| found.hit == 0) {
        return Err("no change with an answer changed any test".into());
    }
    Ok(())
}

impl Crate {
    fn check(&self, cargo_rkcov: &Path, args: &Args) -> Result<Found, Error> {
        let until = Instant::now() + Duration::from_secs(args.minutes * 60);
        let pairs: Vec<&[&str]> = self.releases.windows(2).collect();
        let newest = pairs.len() - args.pairs.unwrap_or(pairs.len()).min(pairs.len());
        let mut found = Found::default();
        for pair in pairs[newest..].iter().rev() {
            let [earlier, later] = pair else { continue };
            if Instant::now() > until {
                println!("there is no time for more");
                break;
            }
            heading(&format!(
                "{} {later} without what is new since {earlier}",
                self.name
            ))?;
            let earlier = sources::crates_io(self.name, earlier)?;
            let later = sources::crates_io(self.name, later)?;
            let project = self.project(cargo_rkcov, &later)?;
            self.check_pair(&project, &earlier, &mut found)?;
            found.pairs += 1;
        }
        Ok(found)
    }

    /// A work tree of git with a release in it. What was built of another one before is used again.
    fn project(&self, cargo_rkcov: &Path, release: &Path) -> Result<Project, Error> {
        let folder = work_dir("affected").join(self.name);
        fs::create_dir_all(folder.join("target"))?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.ends_with("target") || path.ends_with("Cargo.lock") {
                continue;
            }
            if path.is_dir() {
                fs::remove_dir_all(path)?;
            } else {
                fs::remove_file(path)?;
            }
        }
        for entry in fs::read_dir(release)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if name != "Cargo.lock" {
                shell::run(
                    Command::new("cp")
                        .arg("-r")
                        .arg(&path)
                        .arg(folder.join(name)),
                )?;
            }
        }
        // What benches and other tests need is no concern of these.
        let manifest = folder.join("Cargo.toml");
        let text = fs::read_to_string(&manifest)?;
        fs::write(manifest, without_other_targets(&text))?;
        fs::write(folder.join(".gitignore"), "/target\nCargo.lock\n")?;
        // Old releases that allow no warnings have some with today's compiler.
        fs::create_dir_all(folder.join(".cargo"))?;
        let lints = "[build]\nrustflags = [\"--cap-lints\", \"warn\"]\n";
        fs::write(folder.join(".cargo/config.toml"), lints)?;
        for words in [
            &["init", "-q"][..],
            &["add", "-A"],
            &["commit", "-q", "-m", "a release"],
        ] {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]);
            shell::read(git.args(words).current_dir(&folder))?;
        }
        Ok(Project::in_folder(cargo_rkcov, folder))
    }

    fn check_pair(
        &self,
        project: &Project,
        earlier: &Path,
        found: &mut Found,
    ) -> Result<(), Error> {
        let line = format!(
            "test --per-test --no-report --ignore-run-fail {} -- {}",
            self.tests,
            self.skips().join(" ")
        );
        let log = project.folder.join("target/recorded.log");
        // Those of other releases say nothing of this one.
        let traces = project.folder.join("target/rkcov/trace");
        if traces.exists() {
            fs::remove_dir_all(traces)?;
        }
        shell::run_logged(&mut project.cargo_rkcov(&line), &log)?;
        let hour = Duration::from_secs(60 * 60);
        let before = self.results(project, hour)?;
        let before = before.ok_or("the release does not compile")?;
        found.tests += before.count();
        for change in undo(&project.folder, earlier)? {
            let path = project.folder.join(&change.file);
            let text = fs::read_to_string(&path)?;
            fs::write(&path, &change.text)?;
            let done = self.check_change(project, &change, &before, found);
            fs::write(&path, text)?;
            done?;
        }
        Ok(())
    }

    fn check_change(
        &self,
        project: &Project,
        change: &Change,
        before: &Results,
        found: &mut Found,
    ) -> Result<(), Error> {
        let answer = shell::read(&mut project.cargo_rkcov("affected --format json"))?;
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        if answer["all"] == true {
            found.all += 1;
            println!("{change}: all tests");
            return Ok(());
        }
        let tests = answer["tests"]
            .as_array()
            .ok_or("the answer has no tests")?;
        let tests: BTreeSet<&str> = tests.iter().filter_map(|test| test.as_str()).collect();
        let longest = LONGEST + before.took * TIMES;
        let Some(after) = self.results(project, longest)? else {
            found.broken += 1;
            println!("{change}: does not compile or end");
            return Ok(());
        };
        let changed = before.differ(&after);
        found.named += 1;
        found.chosen += tests.len() as f64 * 100.0 / before.count().max(1) as f64;
        found.hit += changed.len();
        println!(
            "{change}: {} tests changed, {} in the answer",
            changed.len(),
            tests.len()
        );
        for test in changed.iter().filter(|test| !tests.contains(test.as_str())) {
            let text = format!("{} {change}: {test}", self.name);
            println!("missed: {text}");
            found.missed.push(text);
        }
        Ok(())
    }

    /// How the tests end now, and what they print; nothing if they do not compile, or do not end in time.
    fn results(&self, project: &Project, longest: Duration) -> Result<Option<Results>, Error> {
        let test = ["test", "--quiet"];
        let tests = self.tests.split(' ');
        let mut build = project.plain("cargo");
        build.args(test).args(tests.clone()).arg("--no-run");
        if !build.output()?.status.success() {
            return Ok(None);
        }
        let mut run = project.plain("timeout");
        run.arg(longest.as_secs().to_string()).arg("cargo");
        run.args(test).args(tests);
        run.args([
            "--no-fail-fast",
            "--",
            "--show-output",
            "--format",
            "pretty",
        ]);
        let began = Instant::now();
        let output = run.args(self.skips()).output()?;
        let took = began.elapsed();
        let ended = matches!(output.status.code(), Some(0 | 101));
        let printed = String::from_utf8_lossy(&output.stdout);
        Ok(ended.then(|| Results::read(&printed, took)))
    }

    /// The words that leave tests out.
    fn skips(&self) -> Vec<String> {
        let slow = self.slow.iter();
        slow.map(|test| format!("--skip={test}")).collect()
    }
}

/// A manifest without what only benches, examples and other tests need.
fn without_other_targets(manifest: &str) -> String {
    let mut kept = true;
    let mut text = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            let gone = ["[dev-dependencies", "[[bench", "[[example", "[[test"];
            kept = !gone.iter().any(|table| line.starts_with(table));
        }
        if kept {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.push_str("\n[workspace]\n");
    text
}

fn table(rows: &[(&Crate, Found)]) -> String {
    let mut text = String::from(
        "| crate | pairs of releases | changes | all tests | does not compile | an answer with names | tests in it | tests that changed | of these not in the answer |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (one, found) in rows {
        let (first, last) = (
            one.releases[one.releases.len() - 1 - found.pairs],
            one.releases[one.releases.len() - 1],
        );
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} {first} to {last} | {} | {} | {} | {} | {} | {:.0} % | {} | {} |",
            one.name,
            found.pairs,
            found.all + found.broken + found.named,
            found.all,
            found.broken,
            found.named,
            found.chosen / found.named.max(1) as f64,
            found.hit,
            found.missed.len(),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_keeps_what_the_library_needs() {
        let manifest = "[package]\nname = \"a\"\n[dev-dependencies.criterion]\nversion = \"1\"\n\
                        [[bench]]\nname = \"b\"\n[features]\nstd = []\n";
        assert_eq!(
            without_other_targets(manifest),
            "[package]\nname = \"a\"\n[features]\nstd = []\n\n[workspace]\n"
        );
    }
}
