// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of differences: what another kcov does otherwise, and why this one does not.

use serde::Deserialize;
use std::collections::BTreeSet;

use crate::cases;
use crate::result::Verdict;
use crate::stage::Stop;

/// `differences.toml` beside this crate: where the C kcovs of Linux differ.
const KNOWN: &str = include_str!("../differences.toml");

/// What is known of all kcovs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    /// The kcovs' names.
    pub kcovs: Vec<String>,
    /// All rows.
    pub difference: Vec<Difference>,
}

/// One difference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// The only kcov to which this applies; all without it.
    pub only: Option<String>,
    /// What this kcov does and that one does not.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// The cases that show it.
    pub cases: Vec<String>,
    /// What the suite says when that kcov is as the row has it: parts of messages, of which one is enough.
    pub says: Vec<String>,
    /// What has to happen in a case for it to differ. The case may also pass.
    #[serde(default)]
    pub chance: Option<String>,
    /// What becomes of that kcov when its cases are played: something from which it does not recover.
    #[serde(default)]
    pub harms: Option<String>,
}

/// The rows for one kcov.
#[derive(Debug, Default)]
pub struct Table {
    /// The rows.
    pub difference: Vec<Difference>,
}

impl Differences {
    /// Those of the C kcovs of Linux.
    ///
    /// # Errors
    /// As of [`Self::parse`].
    pub fn known() -> Result<Self, String> {
        Self::parse(KNOWN)
    }

    /// The tables with this text.
    ///
    /// # Errors
    /// If it has none, or names a kcov or a case that does not exist, or one case twice for one kcov.
    pub fn parse(text: &str) -> Result<Self, String> {
        let all: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        let only = all.difference.iter().filter_map(|row| row.only.as_ref());
        for kcov in only.chain(&all.kcovs) {
            let mut seen = BTreeSet::new();
            for case in all.of(kcov)?.difference.iter().flat_map(|row| &row.cases) {
                if !cases::cases().any(|c| c.id == case) {
                    return Err(format!("no case is called {case}"));
                }
                if !seen.insert(case.clone()) {
                    return Err(format!("{case} stands in two rows for {kcov}"));
                }
            }
        }
        Ok(all)
    }

    /// The table of this kcov.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn of(&self, kcov: &str) -> Result<Table, String> {
        if !self.kcovs.iter().any(|name| name == kcov) {
            let names = self.kcovs.join(", ");
            return Err(format!(
                "no table of differences is called {kcov}; there are {names}"
            ));
        }
        let is_of = |row: &&Difference| row.only.as_ref().is_none_or(|only| only == kcov);
        Ok(Table {
            difference: self.difference.iter().filter(is_of).cloned().collect(),
        })
    }

    /// The tables as a page.
    #[must_use]
    pub fn page(&self) -> String {
        let kcovs = self.kcovs.join("` and `");
        let mut text = format!(
            "# Differences\n\nThis page lists where the C kcovs of Linux 6.12 and 7.3 differ from the rules. It is written from `conformance/differences.toml` by\n\
             `cargo run -p rkcov-conformance -- differences --write`. With `--differences NAME` (`{kcovs}`) the suite expects exactly the\n\
             differences of that kcov: one more or one less is a failure. A case that damages the kcov runs only with `--harmful`, in its own guest.\n\n\
             | rule | why | kcovs | shown by |\n| --- | --- | --- | --- |\n",
        );
        for row in &self.difference {
            let cases = row.cases.join("`, `");
            let harms = row
                .harms
                .as_deref()
                .map_or_else(String::new, |what| format!(", not run there: {what}"));
            let chance = row
                .chance
                .as_deref()
                .map_or_else(String::new, |what| format!(", if {what}"));
            let (rule, reason) = (&row.rule, &row.reason);
            let kcovs = row.only.as_deref().unwrap_or("all");
            text.push_str(&format!(
                "| {rule} | {reason} | {kcovs} | `{cases}`{harms}{chance} |\n"
            ));
        }
        text
    }
}

impl Difference {
    /// Whether this message is one that the row expects.
    fn is_said(&self, message: &str) -> bool {
        self.says.iter().any(|part| message.contains(part))
    }
}

impl Table {
    /// The row that has this case.
    #[must_use]
    pub fn row(&self, case: &str) -> Option<&Difference> {
        let has = |row: &&Difference| row.cases.iter().any(|c| c == case);
        self.difference.iter().find(has)
    }

    /// What a case came to, where differences are expected.
    #[must_use]
    pub fn judge(&self, case: &str, played: Result<(), Stop>) -> Verdict {
        let row = self.row(case);
        match (played, row) {
            (Ok(()), None) => Verdict::Pass,
            (Ok(()), Some(row)) if row.chance.is_some() => Verdict::Pass,
            (Ok(()), Some(row)) => {
                Verdict::Fail(format!("no longer differs; the table says: {}", row.rule))
            }
            (Err(Stop::Lacks(need, why)), _) => Verdict::Skip(format!("{need}: {why}")),
            (Err(stop), Some(row)) if row.is_said(&stop.to_string()) => {
                Verdict::Differs(stop.to_string())
            }
            (Err(stop), Some(row)) => Verdict::Fail(format!(
                "differs otherwise than the table says ({}): {stop}",
                row.says.join(", ")
            )),
            (Err(stop), None) => Verdict::Fail(stop.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rkcov_model::Need;

    const TABLE: &str = r#"
        kcovs = ["another", "older"]
        [[difference]]
        rule = "r"
        reason = "because"
        cases = ["errno.sizes.0"]
        says = ["ok, not EINVAL"]
        [[difference]]
        only = "older"
        chance = "the task is preempted"
        rule = "s"
        reason = "because"
        cases = ["errno.sizes.2"]
        says = ["ok, not EINVAL"]
    "#;

    #[test]
    fn each_kcov_of_linux_has_a_table() {
        let all = Differences::known().unwrap();
        for kcov in &all.kcovs {
            assert!(all.of(kcov).unwrap().difference.len() > 10);
        }
        assert!(all
            .of("linux-2.6")
            .unwrap_err()
            .ends_with("linux-6.12, linux-7.3"));
    }

    #[test]
    fn a_row_is_of_one_kcov_or_of_all() {
        let all = Differences::parse(TABLE).unwrap();
        let has = |kcov, case| all.of(kcov).unwrap().row(case).is_some();
        assert!(has("older", "errno.sizes.0") && has("older", "errno.sizes.2"));
        assert!(has("another", "errno.sizes.0") && !has("another", "errno.sizes.2"));
    }

    #[test]
    fn a_difference_must_be_there_and_be_the_one() {
        let table = Differences::parse(TABLE).unwrap().of("another").unwrap();
        let failed = |what: &str| Err(Stop::Failed(what.into()));
        let judged = |case, played| table.judge(case, played);
        let differs = judged("errno.sizes.0", failed("`init`: ok, not EINVAL"));
        assert!(matches!(differs, Verdict::Differs(_)));
        let otherwise = judged("errno.sizes.0", failed("`init`: EBUSY, not EINVAL"));
        assert!(matches!(otherwise, Verdict::Fail(_)));
        assert!(matches!(judged("errno.sizes.0", Ok(())), Verdict::Fail(_)));
        assert!(matches!(
            judged("errno.sizes.1", failed("x")),
            Verdict::Fail(_)
        ));
        assert_eq!(judged("errno.sizes.1", Ok(())), Verdict::Pass);
        let older = Differences::parse(TABLE).unwrap().of("older").unwrap();
        assert_eq!(older.judge("errno.sizes.2", Ok(())), Verdict::Pass);
        let by_chance = older.judge("errno.sizes.2", failed("ok, not EINVAL"));
        assert!(matches!(by_chance, Verdict::Differs(_)));
        let lacks = Err(Stop::Lacks(Need::Kill, "no".into()));
        assert!(matches!(judged("errno.sizes.0", lacks), Verdict::Skip(_)));
    }

    #[test]
    fn a_case_that_does_not_exist_is_refused() {
        let text = TABLE.replace("errno.sizes.0", "errno.sizes.none");
        assert!(Differences::parse(&text).is_err());
    }
}
