// SPDX-License-Identifier: MIT OR Apache-2.0
//! Results of our commands on pages of the documentation.

use crate::root;
use crate::shell::Error;
use std::fs;

/// What stands before the result of this command.
pub(crate) fn mark(command: &str) -> String {
    format!("<!-- The result of `cargo xtask {command}` follows. -->\n")
}

/// Keeps a result on a page, which is told from the root, in the place of the one behind `mark`. `result` gets
/// the page as it is.
pub(crate) fn keep(
    page: &str,
    mark: &str,
    result: impl FnOnce(&str) -> String,
) -> Result<(), Error> {
    let path = root().join(page);
    let text = fs::read_to_string(&path)?;
    let text =
        with_result(&text, mark, &result(&text)).ok_or_else(|| format!("{page} has no {mark}"))?;
    fs::write(path, text)?;
    println!("{page}");
    Ok(())
}

/// The page, with another result between this mark and the next heading. `None`: it has no such mark.
fn with_result(page: &str, mark: &str, result: &str) -> Option<String> {
    let (before, behind) = page.split_once(mark)?;
    let ends = ["\n## ", "\n### ", "\n<!-- The result of "].map(|end| behind.find(end));
    let rest = ends.into_iter().flatten().min();
    let rest = rest.map_or("", |at| &behind[at..]);
    Some(format!("{before}{mark}\n{result}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_takes_the_place_of_the_last() {
        let mark = mark("per-test");
        let page = format!("a\n\n{mark}\nold\n\n### b\n\n## c\n\nd\n");
        let page = with_result(&page, &mark, "new\n").unwrap();
        assert_eq!(page, format!("a\n\n{mark}\nnew\n\n### b\n\n## c\n\nd\n"));
        assert_eq!(with_result("a", &mark, "new\n"), None);
    }

    #[test]
    fn a_page_has_more_than_one_result() {
        let (x, y) = ("<!-- x -->\n", "<!-- y -->\n");
        let page = format!("a\n\n## x\n\n{x}\nold\n\n## y\n\nb\n\n{y}\nold\n");
        let page = with_result(&page, x, "new\n").unwrap();
        let page = with_result(&page, y, "newer\n").unwrap();
        assert_eq!(
            page,
            format!("a\n\n## x\n\n{x}\nnew\n\n## y\n\nb\n\n{y}\nnewer\n")
        );
    }
}
