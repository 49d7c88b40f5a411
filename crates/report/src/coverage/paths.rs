// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths of sources, as debug information has them.

use std::path::{Component, Path, PathBuf};

/// `path` without `.` and, where a folder stands before it, `..`. Links are not followed: the
/// sources need not be on this machine.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
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

/// Where the source is that debug information has at `path`. Of the folders in `moved`, the second is
/// where sources are that the first stands for; the longest counts, and of several those in which
/// the file is.
pub(crate) fn place(path: &Path, moved: &[(PathBuf, PathBuf)]) -> PathBuf {
    let path = clean(path);
    let mut places: Vec<(usize, PathBuf)> = moved
        .iter()
        .filter(|(named, _)| named.has_root() == path.has_root())
        .filter_map(|(named, folder)| {
            let inside = path.strip_prefix(named).ok()?;
            Some((named.components().count(), folder.join(inside)))
        })
        .collect();
    places.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    let there = places.iter().position(|(_, place)| place.is_file());
    match places.into_iter().nth(there.unwrap_or(0)) {
        Some((_, place)) => place,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_where_their_folders_were_before_they_got_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("b.rs");
        std::fs::write(&there, "").unwrap();
        let moved: Vec<(PathBuf, PathBuf)> = [
            ("/remapped", "/w"),
            ("/remapped/deps", "/home/u/registry"),
            ("", "/nowhere"),
            ("", folder.path().to_str().unwrap()),
        ]
        .map(|(named, place)| (named.into(), place.into()))
        .into();
        for (path, expected) in [
            ("/remapped/src/a.rs", Path::new("/w/src/a.rs")),
            ("/remapped/deps/a.rs", Path::new("/home/u/registry/a.rs")),
            ("/remapped2/a.rs", Path::new("/remapped2/a.rs")),
            ("./b.rs", &there),
            ("a.rs", Path::new("/nowhere/a.rs")),
        ] {
            assert_eq!(place(Path::new(path), &moved), expected, "{path}");
        }
    }

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
            assert_eq!(clean(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
