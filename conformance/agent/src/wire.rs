// SPDX-License-Identifier: MIT OR Apache-2.0
//! What agents answer, one line each.
//!
//! | answer | meaning |
//! | --- | --- |
//! | `ok` | done |
//! | `errno N` | failed with this error number |
//! | `value N` | a number came back |
//! | `words N...` | words came back |
//! | `absent` | no such file or mapping, or there is one already |
//! | `lacks NEED WHY` | cannot be done here |
//! | `broken WHY` | went wrong |
//! | `text ...` | what was asked for |

use rkcov_model::host::Site;
use rkcov_model::{Need, Outcome, Trouble};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To an operation.
    Outcome(Outcome),
    /// It could not be done.
    Trouble(Trouble),
    /// To a question.
    Text(String),
}

/// The answer's line.
#[must_use]
pub fn print(answer: &Answer) -> String {
    match answer {
        Answer::Outcome(Outcome::Done) => "ok".into(),
        Answer::Outcome(Outcome::Failed(raw)) => format!("errno {raw}"),
        Answer::Outcome(Outcome::Value(value)) => format!("value {value}"),
        Answer::Outcome(Outcome::Words(words)) => {
            let mut line = String::from("words");
            for word in words {
                line.push_str(&format!(" {word:#x}"));
            }
            line
        }
        Answer::Outcome(Outcome::Absent) => "absent".into(),
        Answer::Trouble(Trouble::Lacks(need, why)) => format!("lacks {need} {why}"),
        Answer::Trouble(Trouble::Broken(why)) => format!("broken {}", why.replace('\n', " ")),
        Answer::Text(text) => format!("text {text}"),
    }
}

/// The answer that a line is.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &str) -> Result<Answer, String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let bad = || format!("not an answer: {line}");
    Ok(match word {
        "ok" => Answer::Outcome(Outcome::Done),
        "errno" => Answer::Outcome(Outcome::Failed(rest.parse().map_err(|_| bad())?)),
        "value" => Answer::Outcome(Outcome::Value(number(rest).ok_or_else(bad)?)),
        "words" => {
            let words: Option<Vec<u64>> = rest.split_whitespace().map(number).collect();
            Answer::Outcome(Outcome::Words(words.ok_or_else(bad)?))
        }
        "absent" => Answer::Outcome(Outcome::Absent),
        "lacks" => {
            let (name, why) = rest.split_once(' ').unwrap_or((rest, ""));
            let need = need(name).ok_or_else(bad)?;
            Answer::Trouble(Trouble::Lacks(need, why.into()))
        }
        "broken" => Answer::Trouble(Trouble::Broken(rest.into())),
        "text" => Answer::Text(rest.into()),
        _ => return Err(bad()),
    })
}

/// A number, decimal or hexadecimal.
#[must_use]
pub fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => word.parse().ok(),
    }
}

/// The need with this name.
#[must_use]
pub fn need(word: &str) -> Option<Need> {
    Need::ALL.into_iter().find(|need| need.word() == word)
}

/// The site that these words name: `compare BYTES CONSTANT` or `switch BITS`.
#[must_use]
pub fn site(words: &[&str]) -> Option<Site> {
    match *words {
        ["compare", bytes, constant] => Some(Site::Compare {
            log2: number(bytes)?.trailing_zeros() as u8,
            constant: constant == "1",
        }),
        ["switch", bits] => Some(Site::Switch {
            bits: number(bits)?,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_survive_the_wire() {
        for answer in [
            Answer::Outcome(Outcome::Done),
            Answer::Outcome(Outcome::Failed(524)),
            Answer::Outcome(Outcome::Value(7)),
            Answer::Outcome(Outcome::Words(vec![])),
            Answer::Outcome(Outcome::Words(vec![0, u64::MAX])),
            Answer::Outcome(Outcome::Absent),
            Answer::Trouble(Trouble::Lacks(Need::Softirq, "no softirqs here".into())),
            Answer::Trouble(Trouble::Broken("it fell".into())),
            Answer::Text("markers 1024 0x1000 16".into()),
        ] {
            assert_eq!(parse(&print(&answer)), Ok(answer));
        }
        assert!(parse("maybe").is_err());
        assert!(parse("words one").is_err());
    }
}
