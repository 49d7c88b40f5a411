// SPDX-License-Identifier: MIT OR Apache-2.0
//! Marks in comments: `LCOV_EXCL_LINE`, `GCOVR_EXCL_FUNCTION`, and from `LCOV_EXCL_START` to before
//! `LCOV_EXCL_STOP`; the same with the names of other tools.

use std::ops::RangeInclusive;

use memchr::memmem;

use super::{Marked, Mistake};

/// The tools whose marks are known.
const TOOLS: [&str; 4] = ["LCOV", "GCOV", "GCOVR", "GRCOV"];

/// What the marks of one line say. Those of branches (`LCOV_EXCL_BR_LINE`) say nothing of lines.
#[derive(Default)]
struct Marks {
    line: bool,
    start: bool,
    stop: bool,
    function: bool,
}

fn marks(text: &str) -> Marks {
    const MIDDLE: &str = "_EXCL_";
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut marks = Marks::default();
    for (at, _) in text.match_indices(MIDDLE) {
        let (before, after) = (&text[..at], &text[at + MIDDLE.len()..]);
        let tool = before.rsplit(|c| !is_part(c)).next();
        if !tool.is_some_and(|tool| TOOLS.contains(&tool)) {
            continue;
        }
        match after.split(|c| !is_part(c)).next() {
            Some("LINE") => marks.line = true,
            Some("START") => marks.start = true,
            Some("STOP") => marks.stop = true,
            Some("FUNCTION") => marks.function = true,
            _ => {}
        }
    }
    marks
}

/// Where the function of a mark in the first of these lines has its first line with code: there, or
/// behind what is left of its declaration.
fn of_function<'t>(number: u32, lines: impl Iterator<Item = &'t str>) -> RangeInclusive<u32> {
    let is_declaration = |line: &&str| {
        let comment = line.find("//").into_iter().chain(line.find("/*")).min();
        !line[..comment.unwrap_or(line.len())].contains([';', '}'])
    };
    let more = lines.take_while(is_declaration).count();
    number..=number.saturating_add(u32::try_from(more).unwrap_or(0))
}

/// The lines that comments exclude.
pub(super) fn of(text: &str) -> Marked {
    let mut marked = Marked::default();
    // Most sources have none.
    if memmem::find(text.as_bytes(), b"_EXCL_").is_none() {
        return marked;
    }
    let mut began: Option<u32> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let marks = marks(line);
        let both = marks.start && marks.stop;
        if marks.line || both {
            marked.lines.insert(number);
        }
        if marks.function {
            marked
                .functions
                .push(of_function(number, text.lines().skip(number as usize - 1)));
        }
        if both {
            continue;
        }
        match began {
            Some(start) if marks.start => marked.wrong.push((number, Mistake::Inside(start))),
            None if marks.start => began = Some(number),
            Some(start) if marks.stop => {
                marked.lines.extend(start..number);
                began = None;
            }
            None if marks.stop => marked.wrong.push((number, Mistake::NoStart)),
            _ => {}
        }
    }
    if let Some(start) = began {
        marked.wrong.push((start, Mistake::NoStop));
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<u32> {
        of(text).lines.into_iter().collect()
    }

    #[test]
    fn a_line_is_excluded_by_the_mark_of_any_tool() {
        for tool in TOOLS {
            let text = format!("a\nb // {tool}_EXCL_LINE\nc /* {tool}_EXCL_LINE */\n");
            assert_eq!(lines(&text), [2, 3], "{tool}");
        }
    }

    #[test]
    fn what_is_no_mark_excludes_nothing() {
        for text in [
            "// XLCOV_EXCL_LINE",
            "// LCOV_EXCL_LINES",
            "// LCOV_EXCL_BR_LINE",
            "// GCOVR_EXCL_BR_START\n// GCOVR_EXCL_BR_STOP",
            "// COV_EXCL_LINE",
            "// LCOV_EXCL",
        ] {
            assert_eq!(of(text), Marked::default(), "{text}");
        }
    }

    #[test]
    fn a_region_has_its_start_and_not_its_stop() {
        assert_eq!(
            lines("a\n// LCOV_EXCL_START\nb\nc\n// LCOV_EXCL_STOP\nd"),
            [2, 3, 4]
        );
        // Files that several tools read have the marks of all.
        let text =
            "/* LCOV_EXCL_START GCOVR_EXCL_START */\nb\n/* LCOV_EXCL_STOP GCOVR_EXCL_STOP */\n";
        let marked = of(text);
        assert_eq!((lines(text), marked.wrong), (vec![1, 2], vec![]));
        assert_eq!(
            lines("a /* LCOV_EXCL_START */ b /* LCOV_EXCL_STOP */\nc"),
            [1]
        );
    }

    #[test]
    fn marks_without_their_other_half_are_mistakes() {
        let text = "// LCOV_EXCL_STOP\n// LCOV_EXCL_START\n// LCOV_EXCL_START\n// LCOV_EXCL_STOP\n\
                    // LCOV_EXCL_START\na\n";
        let marked = of(text);
        assert_eq!(marked.lines, [2, 3].into());
        assert_eq!(
            marked.wrong,
            [
                (1, Mistake::NoStart),
                (3, Mistake::Inside(2)),
                (5, Mistake::NoStop)
            ]
        );
    }

    #[test]
    fn a_function_begins_before_anything_ends() {
        let functions = |text: &str| of(text).functions;
        assert_eq!(functions("int f() // GCOVR_EXCL_FUNCTION\n{\n}\n"), [1..=3]);
        let text = "\nint f(int n, // GCOVR_EXCL_FUNCTION; debugging\n  int m)\n{\n  n++;\n}\n";
        assert_eq!(functions(text), [2..=5]);
        assert_eq!(
            functions("int f(); // LCOV_EXCL_FUNCTION\nint g() {\n}\n"),
            [1..=1]
        );
        assert_eq!(
            functions("int f() { return 1; } /* GCOV_EXCL_FUNCTION */\n"),
            [1..=1]
        );
        assert!(functions("// GCOVR_EXCL_FUNCTIONS\n").is_empty());
    }
}
