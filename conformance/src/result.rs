// SPDX-License-Identifier: MIT OR Apache-2.0
//! What cases came to, for people and as JSON lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What one case came to on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "why", rename_all = "lowercase")]
pub enum Verdict {
    /// As it must be.
    Pass,
    /// As it must be, as far as the time allowed.
    Short(String),
    /// Otherwise, as the table of differences says.
    Differs(String),
    /// Not played, since it damages this kcov, as the table of differences says.
    Harms(String),
    /// Otherwise.
    Fail(String),
    /// The host does not have what the case is about.
    Skip(String),
}

/// One line of results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The host's name.
    pub host: String,
    /// The case's id.
    pub case: String,
    /// What it came to.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Results of one host, by case.
pub type Results = BTreeMap<String, Verdict>;

/// Characters of a reason that lines have of each of its ends. It may name all words of a buffer.
const END: usize = 200;

/// A reason, without its middle if it is long.
fn brief(why: &str) -> String {
    let long = why.chars().count();
    if long <= 2 * END {
        return why.to_owned();
    }
    let first: String = why.chars().take(END).collect();
    let last: String = why.chars().skip(long - END).collect();
    format!("{first} … {last}")
}

impl Verdict {
    /// The same, with a short reason.
    fn brief(&self) -> Self {
        match self {
            Self::Pass => Self::Pass,
            Self::Short(why) => Self::Short(brief(why)),
            Self::Differs(why) => Self::Differs(brief(why)),
            Self::Harms(why) => Self::Harms(brief(why)),
            Self::Fail(why) => Self::Fail(brief(why)),
            Self::Skip(why) => Self::Skip(brief(why)),
        }
    }
}

/// Results as lines, in the order of their cases. Of long reasons they have the ends only.
#[must_use]
pub fn print(host: &str, results: &Results) -> String {
    let mut text = String::new();
    for (case, verdict) in results {
        let line = Line {
            host: host.into(),
            case: case.clone(),
            verdict: verdict.brief(),
        };
        // A map of strings is always JSON.
        let _ = writeln!(text, "{}", serde_json::to_string(&line).unwrap_or_default());
    }
    text
}

/// Results by host, from lines. Lines that are none of ours, as a console has them, are skipped.
#[must_use]
pub fn parse(text: &str) -> BTreeMap<String, Results> {
    let mut hosts: BTreeMap<String, Results> = BTreeMap::new();
    for line in text.lines() {
        let json = line.find('{').map(|at| &line[at..]);
        if let Some(Ok(line)) = json.map(serde_json::from_str::<Line>) {
            hosts
                .entry(line.host)
                .or_default()
                .insert(line.case, line.verdict);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_keeps_its_ends() {
        let why = format!("m0: recorded [{}], not [0 1]", "0x1 ".repeat(10_000));
        let kept = brief(&why);
        assert!(kept.starts_with("m0: recorded [0x1 ") && kept.ends_with("], not [0 1]"));
        assert_eq!(kept.chars().count(), 2 * END + 3);
        assert_eq!(brief(&kept[..300]), kept[..300]);
    }

    #[test]
    fn lines_are_read_as_they_were_printed_and_others_skipped() {
        let results = Results::from([
            ("a.b.c".to_owned(), Verdict::Pass),
            ("a.b.d".to_owned(), Verdict::Skip("softirq: none".into())),
            ("a.b.f".to_owned(), Verdict::Harms("it stops".into())),
            ("a.b.e".to_owned(), Verdict::Fail("0x1, not\n0x2".into())),
        ]);
        let text = format!("[ 1.2] booting {{}}\n[ 1.3] {}", print("device", &results));
        assert_eq!(
            parse(&text),
            BTreeMap::from([("device".to_owned(), results)])
        );
    }
}
