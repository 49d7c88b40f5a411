// SPDX-License-Identifier: MIT OR Apache-2.0
//! Percentages as exact as users write them.

use std::fmt;
use std::str::FromStr;

/// A part of a hundred, in hundredths: as exact as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u32);

impl Percent {
    const ALL: Self = Self(10_000);

    /// Rounded down: only all is 100. `None` if there is nothing that it could be a part of.
    pub(super) fn of(part: usize, whole: usize) -> Option<Self> {
        let whole = u128::try_from(whole).ok().filter(|whole| *whole > 0)?;
        let hundredths = part as u128 * u128::from(Self::ALL.0) / whole;
        u32::try_from(hundredths).ok().map(Self)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole} %"),
            (whole, hundredths) => write!(f, "{whole}.{hundredths:02} %"),
        }
    }
}

impl FromStr for Percent {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = || {
            let scale = [10, 1].get(decimals.len() - 1)?;
            let hundredths = decimals.parse::<u32>().ok()? * scale;
            whole
                .parse::<u32>()
                .ok()?
                .checked_mul(100)?
                .checked_add(hundredths)
        };
        (digits(whole) && digits(decimals))
            .then(number)
            .flatten()
            .map(Self)
            .filter(|percent| *percent <= Self::ALL)
            .ok_or("a number from 0 to 100, with two decimals at most")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_as_exact_as_they_are_written() {
        for (text, hundredths) in [
            ("0", 0),
            ("80", 8000),
            ("33.3", 3330),
            ("33.03", 3303),
            ("100.00", 10_000),
        ] {
            assert_eq!(text.parse(), Ok(Percent(hundredths)), "{text}");
        }
        for text in [
            "",
            ".",
            "80.",
            ".5",
            "-1",
            "+1",
            "1e1",
            "100.01",
            "0.001",
            "80%",
            "4294967296",
        ] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
        let shown = [Percent(8000), Percent(3303)].map(|percent| percent.to_string());
        assert_eq!(shown, ["80 %", "33.03 %"]);
    }

    #[test]
    fn only_all_lines_are_a_hundred() {
        assert_eq!(Percent::of(333, 1000), "33.3".parse().ok());
        assert_eq!(Percent::of(99_999, 100_000), Some(Percent(9999)));
        assert_eq!(Percent::of(usize::MAX, usize::MAX), Some(Percent::ALL));
        assert_eq!(Percent::of(0, 0), None);
    }
}
