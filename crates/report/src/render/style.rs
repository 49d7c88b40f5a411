// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small things that make text readable: colour, numbers, widths.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use unicode_width::UnicodeWidthStr;

/// What a piece of text is, to be shown in colour if there is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Heading,
    Folder,
    Aside,
    Good,
    Middling,
    Poor,
    Alarm,
}

/// Whether text has colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Escape sequences of ANSI terminals are wanted.
    pub colour: bool,
}

impl Style {
    /// `text` as it is shown in this role.
    pub(super) fn paint<T: fmt::Display>(self, role: Role, text: T) -> impl fmt::Display {
        let code = match role {
            Role::Heading => "1",
            Role::Folder => "1;34",
            Role::Aside => "2",
            Role::Good => "32",
            Role::Middling => "33",
            Role::Poor => "31",
            Role::Alarm => "1;31",
        };
        Painted {
            code: self.colour.then_some(code),
            text,
        }
    }
}

struct Painted<T> {
    code: Option<&'static str>,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "\x1b[{code}m{}\x1b[0m", self.text),
            None => self.text.fmt(f),
        }
    }
}

/// A path as text. Bytes that are not UTF-8 are written as `\xE9`, so that two paths stay two.
pub(super) fn shown(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

/// A part of a whole: 100% is all of it and 0% is nothing; what is near to either has a decimal.
/// Rounded down.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let thousandths = u128::from(part) * 1000 / u128::from(whole.max(1));
    let tenths = match thousandths {
        0 if part > 0 => 1,
        all => all,
    };
    match tenths {
        0 | 10..990 | 1000.. => format!("{}%", tenths / 10),
        _ => format!("{}.{}%", tenths / 10, tenths % 10),
    }
}

/// A number with commas: `1,234,567`.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 line`, `2 lines`.
pub(super) fn plural(n: u64, one: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{} {one}{s}", number(n))
}

/// How many columns `text` takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// `text` without control characters, so that a name in a trace cannot act on a terminal.
pub(super) fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// `text`, its beginning cut off if it takes more than `columns`.
pub(super) fn tail(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept: Vec<char> = Vec::new();
    let mut taken = 1;
    for c in text.chars().rev() {
        taken += width(c.encode_utf8(&mut [0; 4]));
        if taken > columns {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept.iter().rev().collect()
}

/// `text`, its end cut off if it takes more than `columns`.
pub(super) fn head(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut taken = 1;
    for c in text.chars() {
        taken += width(c.encode_utf8(&mut [0; 4]));
        if taken > columns {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

/// Line numbers as ranges: `1-4, 7, 9-10`.
pub(super) fn ranges(lines: impl IntoIterator<Item = u32>) -> Vec<String> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for line in lines {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == line => *last = line,
            _ => ranges.push((line, line)),
        }
    }
    ranges
        .into_iter()
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect()
}

/// `items` with commas between, in lines of at most `columns`.
pub(super) fn wrapped(items: &[String], columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let comma = if at + 1 < items.len() { "," } else { "" };
        match lines.last_mut() {
            Some(line) if width(line) + 1 + item.len() + comma.len() <= columns => {
                line.push(' ');
                line.push_str(item);
                line.push_str(comma);
            }
            _ => lines.push(format!("{item}{comma}")),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_all_or_nothing_only_if_they_are() {
        for (part, whole, shown) in [
            (0, 7, "0%"),
            (7, 7, "100%"),
            (1, 1_000_000, "0.1%"),
            (9, 1000, "0.9%"),
            (10, 1000, "1%"),
            (755, 1000, "75%"),
            (989, 1000, "98%"),
            (990, 1000, "99.0%"),
            (999_999, 1_000_000, "99.9%"),
            (u64::MAX - 1, u64::MAX, "99.9%"),
        ] {
            assert_eq!(percent(part, whole), shown, "{part} of {whole}");
        }
    }

    #[test]
    fn numbers_have_commas() {
        let texts = [0, 999, 1000, 1_234_567].map(number);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [plural(1, "line"), plural(0, "line")],
            ["1 line", "0 lines"]
        );
    }

    #[test]
    fn lines_in_a_row_are_a_range() {
        assert_eq!(ranges([1, 2, 3, 7, 9, 10]), ["1-3", "7", "9-10"]);
        assert!(ranges([]).is_empty());
    }

    #[test]
    fn wrapped_lines_fit() {
        let items: Vec<String> = (100..120).map(|n| n.to_string()).collect();
        let lines = wrapped(&items, 20);
        assert!(lines.iter().all(|line| line.len() <= 20), "{lines:?}");
        assert_eq!(lines.join(" "), items.join(", "));
        assert_eq!(wrapped(&items[..1], 1), ["100"]);
    }

    #[test]
    fn long_names_lose_their_beginning_or_their_end() {
        assert_eq!(head("abcdef", 6), "abcdef");
        assert_eq!(head("abcdef", 4), "abc…");
        assert_eq!(tail("abcdef", 6), "abcdef");
        assert_eq!(tail("abcdef", 4), "…def");
        assert_eq!(width(&tail("日本語テキスト", 6)), 5);
    }

    #[test]
    fn colour_only_when_asked() {
        let text = |colour| Style { colour }.paint(Role::Good, "x").to_string();
        assert_eq!(
            (text(false), text(true)),
            ("x".into(), "\x1b[32mx\x1b[0m".into())
        );
    }
}
