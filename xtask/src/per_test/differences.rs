// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a test ran in a run of all tests, against the same test alone.

use super::ran::{Line, Lines, Ran, Test};
use regex::Regex;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Why a line is not the same in both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// The test does not run it each time, although it is alone: it depends on time or chance. It is
    /// not compared.
    Varies,
    /// A process runs it once: what makes a value that all tests share ran in another test.
    Once,
    /// It ran on a thread that is no test's.
    Outside,
    /// What was recorded does not tell whether the test ran it: the report says so.
    Unknown,
    /// A rule says why: tests of a process share state.
    Rule(String),
    /// Nothing explains that the test lacks it.
    Lacks,
    /// The test has it, and alone it never ran it.
    Never,
}

impl Reason {
    /// Whether such a difference is an error.
    pub(super) fn is_wrong(&self) -> bool {
        matches!(self, Self::Lacks | Self::Never)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Varies => f.write_str("differs from run to run of the test alone"),
            Self::Once => f.write_str("runs once in a process, in another test"),
            Self::Outside => f.write_str("ran on a thread of no test"),
            Self::Unknown => f.write_str("unknown in the common run"),
            Self::Rule(rule) => f.write_str(rule),
            Self::Lacks => f.write_str("missing, and nothing explains it"),
            Self::Never => f.write_str("never ran in the test alone"),
        }
    }
}

/// A difference that somebody has looked into.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Rule {
    /// The functions whose lines it is about: a regular expression.
    function: String,
    /// The tests that it is about, if not all: a regular expression.
    #[serde(default)]
    test: String,
    /// Why tests of one process differ there.
    pub(super) because: String,
}

/// All differences of a crate.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// The tests that ran in both.
    pub(super) tests: usize,
    /// Of these, those that have the same lines in both, but for lines that vary.
    pub(super) equal: usize,
    /// Pairs of a test and a line that it ran in the common run.
    pub(super) lines: usize,
    /// The differences, by reason and function: which tests, and how many lines.
    pub(super) by: BTreeMap<(Reason, String), (BTreeSet<Test>, usize)>,
    /// Those that are errors.
    pub(super) errors: BTreeSet<(Test, Line)>,
    /// Tests that ran in one recording only.
    pub(super) unpaired: Vec<Test>,
    /// Tests with a difference that nothing explains: perhaps they run these lines seldom, or not always.
    pub(super) suspects: BTreeSet<Test>,
}

impl Differences {
    pub(super) fn of(together: &Ran, alone: &Ran, rules: &[Rule]) -> Result<Self, regex::Error> {
        let rules = rules.iter();
        let rules: Vec<(Regex, Regex, &str)> = rules
            .map(|rule| {
                let (function, test) = (Regex::new(&rule.function)?, Regex::new(&rule.test)?);
                Ok((function, test, &*rule.because))
            })
            .collect::<Result<_, regex::Error>>()?;
        let judge = Judge {
            together,
            rules: &rules,
            always: alone
                .tests
                .iter()
                .map(|(test, runs)| (test, common(runs)))
                .collect(),
        };
        let mut found = Self::default();
        let names: BTreeSet<&Test> = together.tests.keys().chain(alone.tests.keys()).collect();
        for test in names {
            let (Some(ours), Some(runs)) = (together.tests.get(test), alone.tests.get(test)) else {
                found.unpaired.push(test.clone());
                continue;
            };
            let ours: Lines = ours.iter().flatten().cloned().collect();
            let ever: Lines = runs.iter().flatten().cloned().collect();
            let always = &judge.always[test];
            found.tests += 1;
            found.lines += ours.len();
            let mut reasons: Vec<(Reason, &Line)> = Vec::new();
            for line in ours.difference(&ever) {
                reasons.push((judge.rule(test, line).unwrap_or(Reason::Never), line));
            }
            for line in always.difference(&ours) {
                reasons.push((judge.missing(test, line), line));
            }
            if reasons.is_empty() {
                found.equal += 1;
            }
            if reasons.iter().any(|(reason, _)| reason.is_wrong()) {
                found.suspects.insert(test.clone());
            }
            let varies = ever.difference(always).map(|line| (Reason::Varies, line));
            for (reason, line) in reasons.into_iter().chain(varies) {
                if reason.is_wrong() {
                    found.errors.insert((test.clone(), line.clone()));
                }
                let entry = found.by.entry((reason, judge.function(line).to_owned()));
                let (tests, lines) = entry.or_default();
                tests.insert(test.clone());
                *lines += 1;
            }
        }
        Ok(found)
    }

    /// Differences that are errors.
    pub(super) fn wrong(&self) -> usize {
        let wrong = self.by.iter().filter(|((reason, _), _)| reason.is_wrong());
        wrong.map(|(_, (_, lines))| lines).sum()
    }

    /// For each reason: tests, and pairs of a test and a line.
    pub(super) fn sums(&self) -> BTreeMap<&Reason, (usize, usize)> {
        let mut sums: BTreeMap<&Reason, (BTreeSet<&Test>, usize)> = BTreeMap::new();
        for ((reason, _), (tests, lines)) in &self.by {
            let sum = sums.entry(reason).or_default();
            sum.0.extend(tests);
            sum.1 += lines;
        }
        let sums = sums.into_iter();
        sums.map(|(reason, (tests, lines))| (reason, (tests.len(), lines)))
            .collect()
    }
}

/// The lines of every run.
fn common(runs: &[Lines]) -> Lines {
    let Some((first, others)) = runs.split_first() else {
        return Lines::new();
    };
    let in_all = |line: &&Line| others.iter().all(|run| run.contains(*line));
    first.iter().filter(in_all).cloned().collect()
}

/// What says why a line is missing.
struct Judge<'a> {
    together: &'a Ran,
    /// Functions, tests, and why.
    rules: &'a [(Regex, Regex, &'a str)],
    /// What each test runs each time that it is alone.
    always: BTreeMap<&'a Test, Lines>,
}

impl Judge<'_> {
    fn function(&self, line: &Line) -> &str {
        let name = self.together.functions.get(line);
        name.map_or("?", String::as_str)
    }

    fn rule(&self, test: &Test, line: &Line) -> Option<Reason> {
        let function = self.function(line);
        let mut rules = self.rules.iter();
        let (_, _, because) =
            rules.find(|(of, tests, _)| of.is_match(function) && tests.is_match(&test.1))?;
        Some(Reason::Rule((*because).to_owned()))
    }

    /// Why `test` lacks a line that it runs each time that it is alone.
    fn missing(&self, test: &Test, line: &Line) -> Reason {
        if self.together.outside.contains_key(line) {
            return Reason::Outside;
        }
        let maybe = self.together.maybe.get(test);
        if maybe.is_some_and(|lines| lines.contains(line)) {
            return Reason::Unknown;
        }
        // Of all tests of a process that run it alone, one did.
        let ran = |other: &&&Test| {
            let runs = self.together.tests.get(**other);
            runs.is_some_and(|runs| runs.iter().any(|run| run.contains(line)))
        };
        let like = |other: &&&Test| other.0 == test.0 && self.always[**other].contains(line);
        let who: Vec<&&Test> = self.always.keys().filter(like).collect();
        if who.iter().filter(|other| ran(other)).count() == 1 {
            return Reason::Once;
        }
        self.rule(test, line).unwrap_or(Reason::Lacks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str) -> Test {
        ("p".to_owned(), name.to_owned())
    }

    fn lines(numbers: &[u32]) -> Lines {
        numbers.iter().map(|n| ("a.rs".into(), *n)).collect()
    }

    fn ran(tests: &[(&str, &[&[u32]])]) -> Ran {
        let runs = |runs: &[&[u32]]| runs.iter().map(|run| lines(run)).collect();
        Ran {
            tests: tests
                .iter()
                .map(|(name, r)| (test(name), runs(r)))
                .collect(),
            ..Ran::default()
        }
    }

    #[test]
    fn each_difference_has_its_reason() {
        // 3 is made once; 4 varies; 5 is a pool's; 6 is credited to the wrong test; 7 is lost by both; 8 is unknown.
        let alone = ran(&[
            ("a", &[&[1, 3, 5, 7, 8], &[1, 3, 4, 5, 7, 8]]),
            ("b", &[&[2, 3, 6, 7], &[2, 3, 6, 7]]),
            ("c", &[&[9]]),
        ]);
        let mut together = ran(&[("a", &[&[1, 3, 6]]), ("b", &[&[2, 6]]), ("d", &[&[9]])]);
        together
            .outside
            .insert(("a.rs".into(), 5), BTreeSet::from(["pool".to_owned()]));
        together.maybe.insert(test("a"), lines(&[8]));
        let of = |n: u32| (("a.rs".into(), n), format!("f{n}"));
        together.functions = (1..9).map(of).collect();
        let found = Differences::of(&together, &alone, &[]).unwrap();
        let got: Vec<(&Reason, &str, Vec<&str>)> = found
            .by
            .iter()
            .map(|((reason, function), (tests, _))| {
                let tests = tests.iter().map(|(_, name)| &**name);
                (reason, &**function, tests.collect())
            })
            .collect();
        assert_eq!(
            got,
            [
                (&Reason::Varies, "f4", vec!["a"]),
                (&Reason::Once, "f3", vec!["b"]),
                (&Reason::Outside, "f5", vec!["a"]),
                (&Reason::Unknown, "f8", vec!["a"]),
                (&Reason::Lacks, "f7", vec!["a", "b"]),
                (&Reason::Never, "f6", vec!["a"]),
            ]
        );
        assert_eq!((found.tests, found.equal, found.wrong()), (2, 0, 3));
        assert_eq!(found.unpaired, [test("c"), test("d")]);
        assert_eq!(found.suspects, BTreeSet::from([test("a"), test("b")]));

        let rule = |function: &str, test: &str| Rule {
            function: function.to_owned(),
            test: test.to_owned(),
            because: "known".to_owned(),
        };
        let found = Differences::of(&together, &alone, &[rule("^f[67]$", "^a$")]).unwrap();
        assert_eq!(found.wrong(), 1, "f7 in b");
        let found = Differences::of(&together, &alone, &[rule("^f[67]$", "")]).unwrap();
        assert_eq!(found.wrong(), 0);
        let sums = found.sums();
        assert_eq!(sums[&Reason::Rule("known".to_owned())], (2, 3));
    }
}
