// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocks of lines between two marks, which is all that rkcov ever adds to a file of the tree.
//!
//! No line that was there is changed or removed. Dropping the blocks therefore gives back the file
//! byte for byte, and putting them in begins with dropping them, so that it can be done twice.

/// How a file writes comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comment {
    /// `/* ... */`
    C,
    /// `# ...`
    Hash,
}

impl Comment {
    fn line(self, text: &str) -> String {
        match self {
            Comment::C => format!("/* rkcov: {text} */\n"),
            Comment::Hash => format!("# rkcov: {text}\n"),
        }
    }
}

/// The marks of a block do not pair up, or the file was cut after one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unpaired;

/// The file's text without its blocks.
pub(super) fn strip(text: &str, comment: Comment) -> Result<String, Unpaired> {
    let (begin, end) = (comment.line("begin"), comment.line("end"));
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for line in text.split_inclusive('\n') {
        match (inside, line) {
            (false, l) if l == begin => inside = true,
            (true, l) if l == end => inside = false,
            (_, l) if l == begin || l == end => return Err(Unpaired),
            (true, _) => {}
            (false, l) => out.push_str(l),
        }
    }
    if inside {
        return Err(Unpaired);
    }
    Ok(out)
}

/// The file's text with `body` as a block before line number `line` (from 0; the number of lines
/// puts it at the end). `text` has no block yet and `body` ends with a newline.
pub(super) fn insert(text: &str, line: usize, body: &str, comment: Comment) -> String {
    let at: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let (before, after) = text.split_at(at);
    let (begin, end) = (comment.line("begin"), comment.line("end"));
    [before, &begin, body, &end, after].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strip_undoes_insert_everywhere() {
        let text = "a\n\nb\n";
        for line in 0..=3 {
            let with = insert(text, line, "x\ny\n", Comment::Hash);
            assert_ne!(with, text);
            assert_eq!(strip(&with, Comment::Hash).unwrap(), text);
        }
        assert_eq!(
            insert(text, 1, "x\n", Comment::C),
            "a\n/* rkcov: begin */\nx\n/* rkcov: end */\n\nb\n"
        );
    }

    #[test]
    fn files_without_a_block_stay() {
        for text in ["", "a", "a\nb", "# rkcov: beginning\n"] {
            assert_eq!(strip(text, Comment::Hash).unwrap(), text);
        }
    }

    #[test]
    fn marks_pair_up() {
        for text in [
            "# rkcov: begin\n",
            "# rkcov: end\n",
            "# rkcov: begin\n# rkcov: begin\n# rkcov: end\n",
            "# rkcov: begin\n# rkcov: end",
        ] {
            assert_eq!(strip(text, Comment::Hash), Err(Unpaired), "{text:?}");
        }
    }
}
