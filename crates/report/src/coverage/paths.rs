// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths of sources, as debug information has them.

use std::path::{Component, Path, PathBuf};

/// `path` without `.` and, where a folder stands before it, `..`. Links are not followed: the
/// sources need not be on this machine.
pub(super) fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match clean.components().next_back() {
                Some(Component::Normal(_)) => {
                    clean.pop();
                }
                Some(Component::RootDir) => {}
                _ => clean.push(".."),
            },
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_go_where_that_changes_nothing() {
        for (path, expected) in [
            ("/a/b/../c/./d.c", "/a/c/d.c"),
            ("./x.c", "x.c"),
            ("a/../../x.c", "../x.c"),
            ("../../x.c", "../../x.c"),
            ("/../x.c", "/x.c"),
            ("//a//b", "/a/b"),
        ] {
            assert_eq!(clean(path), Path::new(expected), "{path}");
        }
    }
}
