// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask compare-lines`: two lcov tracefiles of the same run, line by line.
//!
//! The first is what is judged (rkcov's), the second what it is judged by (gcov's, or that of
//! `-Cinstrument-coverage`). A tracefile says of a line that it ran, that it did not, or nothing, so
//! a pair says one of eight things ([`Kind`]). Disagreements can be explained by [`Rule`]s, which
//! stand in a JSON file and name what they explain; `docs/report.md` says why each of them holds.

use crate::shell::Error;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `cargo xtask compare-lines`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tracefile to judge: rkcov's
    judged: PathBuf,
    /// The reference tracefile: gcov's, llvm-cov's
    reference: PathBuf,
    /// Compare only files whose path matches (a regular expression, after --strip)
    #[arg(long, value_name = "REGEX", default_value = "")]
    only: Regex,
    /// Remove this prefix from paths in both files; may be repeated
    #[arg(long, value_name = "PREFIX")]
    strip: Vec<String>,
    /// Look for the sources of relative paths here
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// The JSON report of the judged tracefile, which has the unknown lines
    #[arg(long, value_name = "FILE")]
    unknown: Option<PathBuf>,
    /// A JSON file of rules that explain disagreements
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// Write the result as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print this many lines of each kind of disagreement
    #[arg(long, value_name = "N", default_value_t = 20)]
    show: usize,
    /// Kinds of disagreement that fail if no rule explains them
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["ran-not", "not-ran"])]
    deny: Vec<Kind>,
}

/// What the two say of a line: the judged one first, `none` where it says nothing.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Both say that it ran.
    RanRan,
    /// Both say that it did not.
    NotNot,
    /// The judged one claims a line that did not run.
    RanNot,
    /// The judged one denies a line that ran.
    NotRan,
    /// The judged one is silent about a line that ran.
    NoneRan,
    /// The judged one is silent about a line that did not run.
    NoneNot,
    /// Only the judged one knows the line: it ran.
    RanNone,
    /// Only the judged one knows the line: it did not run.
    NotNone,
}

impl Kind {
    fn of(judged: Option<u64>, reference: Option<u64>) -> Option<Self> {
        Some(match (judged.map(|n| n > 0), reference.map(|n| n > 0)) {
            (Some(true), Some(true)) => Self::RanRan,
            (Some(false), Some(false)) => Self::NotNot,
            (Some(true), Some(false)) => Self::RanNot,
            (Some(false), Some(true)) => Self::NotRan,
            (None, Some(true)) => Self::NoneRan,
            (None, Some(false)) => Self::NoneNot,
            (Some(true), None) => Self::RanNone,
            (Some(false), None) => Self::NotNone,
            (None, None) => return None,
        })
    }

    /// Whether both say the same.
    #[must_use]
    pub const fn agrees(self) -> bool {
        matches!(self, Self::RanRan | Self::NotNot)
    }

    const ALL: [Self; 8] = [
        Self::RanRan,
        Self::NotNot,
        Self::RanNot,
        Self::NotRan,
        Self::NoneRan,
        Self::NoneNot,
        Self::RanNone,
        Self::NotNone,
    ];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RanRan => "ran-ran",
            Self::NotNot => "not-not",
            Self::RanNot => "ran-not",
            Self::NotRan => "not-ran",
            Self::NoneRan => "none-ran",
            Self::NoneNot => "none-not",
            Self::RanNone => "ran-none",
            Self::NotNone => "not-none",
        })
    }
}

/// Why some lines are said to differ. What is left out holds for all lines.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is called where it is documented.
    name: String,
    /// Kinds of disagreement.
    kinds: Vec<Kind>,
    /// A regular expression that the path matches.
    #[serde(default)]
    path: String,
    /// A regular expression that the line's text matches.
    #[serde(default)]
    text: String,
    /// Numbers of lines.
    #[serde(default)]
    lines: Option<Vec<u32>>,
    /// Only where another line of the file has the same text and ran: by the reference if the judged
    /// one claims this line, by the judged one if it denies it.
    #[serde(default)]
    twin: bool,
    /// Whether the judged one knows of code there, of which it says nothing: of lines about which it
    /// is silent.
    #[serde(default)]
    code: Option<bool>,
    /// It explains no more lines than these, or it is no longer what was looked at when it was written.
    #[serde(default)]
    most: Option<usize>,
    /// A line under it that somebody looked at by hand.
    #[serde(default)]
    example: Option<Example>,
}

/// A line that a rule explains.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    /// The end of the source's path.
    path: String,
    /// The line, without white space around it.
    text: String,
    /// What was found there.
    #[serde(rename = "why")]
    _why: String,
}

impl Rule {
    /// What is wrong with it after a comparison.
    fn broken(&self, explained: &[&Difference]) -> Option<String> {
        let Self { name, text, .. } = self;
        let count = explained.len();
        let is = |example: &Example| {
            let at = |d: &&Difference| d.path.ends_with(&example.path) && d.text == example.text;
            explained.iter().copied().any(|d| at(&d))
        };
        match (self.most, &self.example) {
            (Some(most), _) if count > most => Some(format!(
                "rule {name} ({text}) explains {count} lines, more than {most}"
            )),
            (_, Some(example)) if !is(example) => Some(format!(
                "rule {name} ({text}) does not explain its example, {}: {}",
                example.path, example.text
            )),
            _ => None,
        }
    }
}

/// A line about which the two do not say the same.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// The path of the source.
    pub path: String,
    /// The line's number.
    pub line: u32,
    /// What the two say.
    pub kind: Kind,
    /// The line, if the source can be read.
    pub text: String,
    /// The rule that explains it.
    pub rule: Option<String>,
}

/// How far two tracefiles agree.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Files that both know.
    pub files: usize,
    /// Files that only the judged one has.
    pub only_judged: Vec<String>,
    /// Files that only the reference has.
    pub only_reference: Vec<String>,
    /// Lines of files that both know, by what the two say.
    pub lines: BTreeMap<Kind, usize>,
    /// Of the lines of which both say anything, the share of which they say the same, in percent.
    pub agreement: f64,
    /// Of the lines that ran by the reference, the share that the judged one knows, in percent.
    pub found: f64,
    /// Lines that a rule explains.
    pub rules: BTreeMap<String, usize>,
    /// Rules that explain more than they should, or not what they should.
    pub broken: Vec<String>,
    /// Every line of which they do not say the same.
    pub differences: Vec<Difference>,
}

/// Lines and how often they ran, by file.
pub type Tracefile = BTreeMap<String, BTreeMap<u32, u64>>;

/// Reads an lcov tracefile. Records of one file are added up.
///
/// # Errors
/// A line record has no number or no count.
pub fn parse(text: &str) -> Result<Tracefile, Error> {
    let mut files = Tracefile::new();
    let mut file: Option<&mut BTreeMap<u32, u64>> = None;
    for record in text.lines() {
        if let Some(path) = record.strip_prefix("SF:") {
            file = Some(files.entry(path.to_owned()).or_default());
        } else if record == "end_of_record" {
            file = None;
        } else if let Some(data) = record.strip_prefix("DA:") {
            let mut fields = data.split(',');
            let line = fields.next().and_then(|line| line.parse().ok());
            let count = fields.next().and_then(count_of);
            match (&mut file, line, count) {
                (Some(file), Some(line), Some(count)) => {
                    let known = file.entry(line).or_insert(0);
                    *known = known.saturating_add(count);
                }
                _ => return Err(format!("not a record of lcov: {record}").into()),
            }
        }
    }
    Ok(files)
}

/// gcov's counts may be negative after a race; such a line ran.
fn count_of(text: &str) -> Option<u64> {
    let number: i128 = text.trim().parse().ok()?;
    Some(u64::try_from(number.unsigned_abs()).unwrap_or(u64::MAX))
}

/// What is compared, and what explains differences.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// Taken off the beginning of paths.
    pub strip: &'a [String],
    /// Which files, after that; all if there is none.
    pub only: Option<&'a Regex>,
    /// Where sources with relative paths are.
    pub root: &'a str,
    /// What explains differences; the first that matches counts.
    pub rules: &'a [Rule],
    /// Lines of which the judged one knows that they have code, and not whether it ran, if it says so.
    pub unknown: Option<&'a Unknown>,
}

/// Lines by file.
pub type Unknown = BTreeMap<String, BTreeSet<u32>>;

/// What a report in JSON says: the lines, and those of which nobody knows whether they ran.
///
/// # Errors
/// It is no such report.
pub fn report(text: &str) -> Result<(Tracefile, Unknown), Error> {
    #[derive(Deserialize)]
    struct Report {
        files: Vec<File>,
    }
    #[derive(Deserialize)]
    struct File {
        path: String,
        lines: Vec<Line>,
        unknown: BTreeSet<u32>,
    }
    #[derive(Deserialize)]
    struct Line {
        line: u32,
        count: u64,
    }
    let report: Report = serde_json::from_str(text)?;
    let (mut files, mut unknown) = (Tracefile::new(), Unknown::new());
    for file in report.files {
        let lines = file.lines.iter().map(|at| (at.line, at.count));
        files.insert(file.path.clone(), lines.collect());
        unknown.insert(file.path, file.unknown);
    }
    Ok((files, unknown))
}

/// Compares two tracefiles.
///
/// # Errors
/// A rule's regular expression is none.
pub fn compare(
    judged: Tracefile,
    reference: Tracefile,
    options: &Options<'_>,
) -> Result<Comparison, Error> {
    let mut rules = Vec::new();
    for rule in options.rules {
        rules.push((rule, Regex::new(&rule.path)?, Regex::new(&rule.text)?));
    }
    let (judged, mut reference) = (renamed(judged, options), renamed(reference, options));
    let mut result = Comparison {
        files: 0,
        only_judged: Vec::new(),
        only_reference: Vec::new(),
        lines: Kind::ALL.into_iter().map(|kind| (kind, 0)).collect(),
        agreement: 100.0,
        found: 100.0,
        rules: BTreeMap::new(),
        broken: Vec::new(),
        differences: Vec::new(),
    };
    let unknown = options.unknown.map(|unknown| {
        let named = |(path, lines): (&String, _)| (short(path, options).to_owned(), lines);
        unknown
            .iter()
            .map(named)
            .collect::<BTreeMap<String, &BTreeSet<u32>>>()
    });
    let mut explained: Vec<Vec<usize>> = vec![Vec::new(); rules.len()];
    for (path, mine) in judged {
        let Some(theirs) = reference.remove(&path) else {
            result.only_judged.push(path);
            continue;
        };
        result.files += 1;
        let source = fs::read(Path::new(options.root).join(&path)).unwrap_or_default();
        let source = String::from_utf8_lossy(&source);
        let source: Vec<&str> = source.lines().collect();
        let mut numbers: Vec<u32> = mine.keys().chain(theirs.keys()).copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        let text_of = |line: u32| {
            let at = (line as usize).checked_sub(1);
            at.and_then(|at| source.get(at))
                .map_or("", |text| text.trim())
        };
        // How many lines of a text ran.
        let texts = |side: &BTreeMap<u32, u64>| {
            let mut texts: HashMap<&str, u32> = HashMap::new();
            for (line, _) in side.iter().filter(|(_, count)| **count > 0) {
                *texts.entry(text_of(*line)).or_default() += 1;
            }
            texts
        };
        let (ours_ran, theirs_ran) = (texts(&mine), texts(&theirs));
        let unknown = unknown.as_ref().map(|all| all.get(&path));
        for line in numbers {
            let (ours, theirs) = (mine.get(&line).copied(), theirs.get(&line).copied());
            let Some(kind) = Kind::of(ours, theirs) else {
                continue;
            };
            *result.lines.entry(kind).or_default() += 1;
            if kind.agrees() {
                continue;
            }
            let text = text_of(line);
            let twin = match kind {
                Kind::RanNot => theirs_ran.contains_key(text),
                Kind::NotRan => ours_ran.contains_key(text),
                _ => false,
            };
            let code = unknown.map(|all| all.is_some_and(|all| all.contains(&line)));
            let rule = rules.iter().position(|(rule, on_path, on_text)| {
                rule.kinds.contains(&kind)
                    && rule.lines.as_ref().is_none_or(|all| all.contains(&line))
                    && (!rule.twin || twin)
                    && rule.code.is_none_or(|has| code == Some(has))
                    && on_path.is_match(&path)
                    && on_text.is_match(text)
            });
            if let Some(rule) = rule {
                explained[rule].push(result.differences.len());
            }
            let rule = rule.map(|at| rules[at].0.name.clone());
            if let Some(name) = &rule {
                *result.rules.entry(name.clone()).or_default() += 1;
            }
            result.differences.push(Difference {
                path: path.clone(),
                line,
                kind,
                text: text.to_owned(),
                rule,
            });
        }
    }
    for ((rule, ..), lines) in rules.iter().zip(&explained) {
        let lines: Vec<&Difference> = lines.iter().map(|at| &result.differences[*at]).collect();
        result.broken.extend(rule.broken(&lines));
    }
    result.only_reference = reference.into_keys().collect();
    let count = |kind| result.lines.get(&kind).copied().unwrap_or_default();
    let same = count(Kind::RanRan) + count(Kind::NotNot);
    let other = count(Kind::RanNot) + count(Kind::NotRan);
    result.agreement = percent(same, same + other);
    let ran = count(Kind::RanRan);
    let missed = count(Kind::NotRan) + count(Kind::NoneRan);
    result.found = percent(ran, ran + missed);
    Ok(result)
}

/// With two digits behind the point.
#[expect(clippy::cast_precision_loss)]
fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 100.0;
    }
    (part as f64 * 10_000.0 / whole as f64).floor() / 100.0
}

/// A path without what is stripped.
fn short<'p>(path: &'p str, options: &Options<'_>) -> &'p str {
    let mut prefixes = options.strip.iter();
    let rest = prefixes.find_map(|prefix| path.strip_prefix(prefix.as_str()));
    rest.map_or(path, |rest| rest.trim_start_matches('/'))
}

fn renamed(files: Tracefile, options: &Options<'_>) -> Tracefile {
    let mut renamed = Tracefile::new();
    for (path, lines) in files {
        let short = short(&path, options);
        if options.only.is_some_and(|only| !only.is_match(short)) {
            continue;
        }
        match renamed.entry(short.to_owned()) {
            Entry::Vacant(free) => {
                free.insert(lines);
            }
            Entry::Occupied(mut there) => {
                for (line, count) in lines {
                    *there.get_mut().entry(line).or_insert(0) += count;
                }
            }
        }
    }
    renamed
}

impl Comparison {
    /// Differences of this kind that no rule explains.
    pub fn unexplained(&self, kind: Kind) -> impl Iterator<Item = &Difference> {
        let all = self.differences.iter();
        all.filter(move |difference| difference.kind == kind && difference.rule.is_none())
    }

    /// The result for people, with at most `show` lines of each kind of difference.
    #[must_use]
    pub fn text(&self, show: usize) -> String {
        use fmt::Write;
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{} files in both, {} only judged, {} only reference",
            self.files,
            self.only_judged.len(),
            self.only_reference.len()
        );
        for (kind, count) in &self.lines {
            let what = match kind {
                Kind::RanRan => "both say it ran",
                Kind::NotNot => "both say it did not run",
                Kind::RanNot => "claimed to have run, but did not",
                Kind::NotRan => "said not to have run, but did",
                Kind::NoneRan => "ran, the judged one is silent",
                Kind::NoneNot => "did not run, the judged one is silent",
                Kind::RanNone => "claimed to have run, the reference is silent",
                Kind::NotNone => "said not to have run, the reference is silent",
            };
            let of_kind = self.differences.iter().filter(|d| d.kind == *kind);
            let explained = of_kind.filter(|d| d.rule.is_some()).count();
            let explained = match explained {
                0 => String::new(),
                n => format!(" ({n} explained)"),
            };
            let _ = writeln!(text, "{kind:<9} {count:>7}  {what}{explained}");
        }
        for (rule, count) in &self.rules {
            let _ = writeln!(text, "rule {rule}: {count}");
        }
        let _ = writeln!(
            text,
            "agreement {:.2} % of the lines of which both say anything; \
             {:.2} % of the lines that ran are known",
            self.agreement, self.found
        );
        for broken in &self.broken {
            let _ = writeln!(text, "{broken}");
        }
        for kind in Kind::ALL {
            let total = self.unexplained(kind).count();
            for difference in self.unexplained(kind).take(show) {
                let Difference {
                    path,
                    line,
                    text: t,
                    ..
                } = difference;
                let _ = writeln!(text, "{kind} {path}:{line}: {t}");
            }
            if total > show && show > 0 {
                let _ = writeln!(text, "{kind} and {} more", total - show);
            }
        }
        text
    }
}

/// Compares, prints, and says by its status whether something that is denied is unexplained.
///
/// # Errors
/// A file cannot be read or written.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    let read = |path: &Path| {
        fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let rules: Vec<Rule> = match &args.rules {
        Some(path) => serde_json::from_str(&read(path)?)?,
        None => Vec::new(),
    };
    let root = args.root.to_string_lossy();
    let unknown = match &args.unknown {
        Some(path) => Some(report(&read(path)?)?.1),
        None => None,
    };
    let options = Options {
        unknown: unknown.as_ref(),
        strip: &args.strip,
        only: Some(&args.only),
        root: &root,
        rules: &rules,
    };
    let judged = parse(&read(&args.judged)?)?;
    let reference = parse(&read(&args.reference)?)?;
    let result = compare(judged, reference, &options)?;
    if let Some(path) = &args.output {
        fs::write(path, serde_json::to_string_pretty(&result)? + "\n")?;
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&result)?);
    } else {
        print!("{}", result.text(args.show));
    }
    let denied = |kind: &Kind| result.unexplained(*kind).next().is_some();
    Ok(
        if args.deny.iter().any(denied) || !result.broken.is_empty() {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUDGED: &str = "TN:\nSF:/b/a.c\nFN:1,f\nDA:1,3\nDA:2,1\nDA:3,0\nDA:4,0\nDA:5,1\nDA:6,0\n\
                          end_of_record\nSF:/b/mine.c\nDA:1,1\nend_of_record\n";
    const REFERENCE: &str = "SF:/c/a.c\nDA:1,2,checksum\nDA:2,0\nDA:3,0\nDA:4,9\nDA:7,1\nDA:8,0\n\
                             end_of_record\nSF:/c/a.c\nDA:8,0\nend_of_record\n\
                             SF:/c/theirs.c\nDA:1,1\nend_of_record\n";

    fn compared(rules: &[Rule]) -> Comparison {
        let strip = ["/b".to_owned(), "/c/".to_owned()];
        let options = Options {
            strip: &strip,
            rules,
            ..Options::default()
        };
        compare(parse(JUDGED).unwrap(), parse(REFERENCE).unwrap(), &options).unwrap()
    }

    #[test]
    fn every_pair_has_its_kind() {
        let result = compared(&[]);
        let lines: Vec<(Kind, usize)> = result.lines.clone().into_iter().collect();
        let expected = [1, 1, 1, 1, 1, 1, 1, 1];
        assert_eq!(
            lines,
            Kind::ALL.into_iter().zip(expected).collect::<Vec<_>>()
        );
        assert_eq!((result.agreement, result.found), (50.0, 33.33));
        assert_eq!(result.only_judged, ["mine.c"]);
        assert_eq!(result.only_reference, ["theirs.c"]);
        let claimed: Vec<u32> = result.unexplained(Kind::RanNot).map(|d| d.line).collect();
        assert_eq!(claimed, [2]);
    }

    #[test]
    fn a_rule_explains_what_it_names() {
        let rules = r#"[
            {"name": "other", "kinds": ["ran-not"], "path": "b\\.c$"},
            {"name": "line", "kinds": ["ran-not", "not-ran"], "lines": [2]}
        ]"#;
        let result = compared(&serde_json::from_str::<Vec<Rule>>(rules).unwrap());
        assert_eq!(result.unexplained(Kind::RanNot).count(), 0);
        assert_eq!(result.unexplained(Kind::NotRan).count(), 1);
        assert_eq!(result.rules, [("line".to_owned(), 1)].into());
    }

    #[test]
    fn a_rule_says_what_would_refute_it() {
        let folder = tempfile::tempdir().unwrap();
        let text = "a = 1;\nreturn 0;\n  return 0;\nb = 1;\nreturn 0;\nc = 1;\n";
        fs::write(folder.path().join("a.c"), text).unwrap();
        let strip = ["/b".to_owned(), "/c/".to_owned()];
        let json = r#"{"files": [{"path": "/b/a.c", "lines": [{"line": 1, "count": 3}], "unknown": [8]}]}"#;
        let (lines, unknown) = report(json).unwrap();
        assert_eq!(lines["/b/a.c"], [(1, 3)].into());
        let with = |rules: &str| {
            let rules: Vec<Rule> = serde_json::from_str(rules).unwrap();
            let options = Options {
                strip: &strip,
                root: folder.path().to_str().unwrap(),
                rules: &rules,
                unknown: Some(&unknown),
                ..Options::default()
            };
            compare(parse(JUDGED).unwrap(), parse(REFERENCE).unwrap(), &options).unwrap()
        };
        // Line 2 is claimed: no other `return 0;` ran by the reference. Line 4 is denied.
        let twins = r#"[{"name": "t", "kinds": ["ran-not", "not-ran"], "twin": true}]"#;
        assert!(with(twins).rules.is_empty());
        let code = r#"[{"name": "c", "kinds": ["none-ran", "none-not"], "code": true}]"#;
        let result = with(code);
        let explained = result.differences.iter().filter(|d| d.rule.is_some());
        assert_eq!(explained.map(|d| d.line).collect::<Vec<_>>(), [8]);

        let rule =
            |more: &str| format!(r#"[{{"name": "r", "kinds": ["ran-not", "not-ran"], {more}}}]"#);
        let example = |text: &str| {
            rule(&format!(
                r#""example": {{"path": "a.c", "text": "{text}", "why": ""}}"#
            ))
        };
        assert!(with(&rule(r#""most": 2"#)).broken.is_empty());
        assert_eq!(with(&rule(r#""most": 1"#)).broken.len(), 1);
        assert!(with(&example("b = 1;")).broken.is_empty());
        assert_eq!(with(&example("a = 1;")).broken.len(), 1);
    }

    #[test]
    fn what_is_not_lcov_is_refused() {
        assert!(parse("SF:a\nDA:x,1\n").is_err());
        assert!(parse("DA:1,1\n").is_err());
        assert_eq!(parse("SF:a\nDA:1,-2\n").unwrap()["a"][&1], 2);
    }
}
