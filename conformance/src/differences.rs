// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table of differences: what another kcov does otherwise, and why this one does not.

use serde::Deserialize;

use crate::cases;
use crate::result::Verdict;
use crate::stage::Stop;

/// The C kcov of Linux 6.12, as `differences.toml` beside this crate has it.
pub const LINUX_6_12: &str = include_str!("../differences.toml");

/// All rows for one kcov.
#[derive(Debug, Default, Deserialize)]
pub struct Table {
    /// Which kcov this is about.
    pub kcov: String,
    /// The rows.
    pub difference: Vec<Difference>,
}

/// One difference.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Difference {
    /// What this kcov does and that one does not.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// The cases that show it.
    pub cases: Vec<String>,
    /// What the suite says when that kcov is as the row has it: a part of the message.
    pub says: String,
    /// What becomes of that kcov when its cases are played: something from which it does not recover.
    #[serde(default)]
    pub harms: Option<String>,
}

impl Table {
    /// The table with this text.
    ///
    /// # Errors
    /// If it is not one, or names a case that does not exist or one case twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        let mut seen = std::collections::BTreeSet::new();
        for case in table.difference.iter().flat_map(|row| &row.cases) {
            if !cases::cases().any(|c| c.id == case) {
                return Err(format!("no case is called {case}"));
            }
            if !seen.insert(case) {
                return Err(format!("{case} stands in two rows"));
            }
        }
        Ok(table)
    }

    /// The row that has this case.
    #[must_use]
    pub fn row(&self, case: &str) -> Option<&Difference> {
        let has = |row: &&Difference| row.cases.iter().any(|c| c == case);
        self.difference.iter().find(has)
    }

    /// The table as a page.
    #[must_use]
    pub fn page(&self) -> String {
        let mut text = format!(
            "# Differences\n\nThis page lists where {} differs from the rules. It is written from `conformance/differences.toml` by\n\
             `cargo run -p rkcov-conformance -- differences --write`. With `--differences linux-6.12` the suite expects exactly these\n\
             differences: one more or one less is a failure. A case that damages the kcov runs only with `--harmful`, in its own guest.\n\n| rule | why | shown by |\n| --- | --- | --- |\n",
            self.kcov
        );
        for row in &self.difference {
            let cases = row.cases.join("`, `");
            let harms = row
                .harms
                .as_deref()
                .map_or_else(String::new, |what| format!(", not run there: {what}"));
            let (rule, reason) = (&row.rule, &row.reason);
            text.push_str(&format!("| {rule} | {reason} | `{cases}`{harms} |\n"));
        }
        text
    }

    /// What a case came to, where differences are expected.
    #[must_use]
    pub fn judge(&self, case: &str, played: Result<(), Stop>) -> Verdict {
        let row = self.row(case);
        match (played, row) {
            (Ok(()), None) => Verdict::Pass,
            (Ok(()), Some(row)) => {
                Verdict::Fail(format!("no longer differs; the table says: {}", row.rule))
            }
            (Err(Stop::Lacks(need, why)), _) => Verdict::Skip(format!("{need}: {why}")),
            (Err(stop), Some(row)) if stop.to_string().contains(&row.says) => {
                Verdict::Differs(stop.to_string())
            }
            (Err(stop), Some(row)) => Verdict::Fail(format!(
                "differs otherwise than the table says ({}): {stop}",
                row.says
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
        kcov = "another"
        [[difference]]
        rule = "r"
        reason = "because"
        cases = ["errno.sizes.0"]
        says = "ok, not EINVAL"
    "#;

    #[test]
    fn linux_6_12_is_a_table() {
        let table = Table::parse(LINUX_6_12).unwrap();
        assert!(table.difference.len() > 10);
    }

    #[test]
    fn a_difference_must_be_there_and_be_the_one() {
        let table = Table::parse(TABLE).unwrap();
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
        let lacks = Err(Stop::Lacks(Need::Kill, "no".into()));
        assert!(matches!(judged("errno.sizes.0", lacks), Verdict::Skip(_)));
    }

    #[test]
    fn a_case_that_does_not_exist_is_refused() {
        let text = TABLE.replace("errno.sizes.0", "errno.sizes.none");
        assert!(Table::parse(&text).is_err());
    }
}
