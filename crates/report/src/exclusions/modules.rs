// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules with `#[coverage(off)]` that are files of their own. Which these are stands in the file that
//! declares them, which need not have code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::attributes;
use crate::coverage::paths::clean;

/// The files that are not counted, if these are the files with code.
pub(super) fn not_counted<'p>(files: impl Iterator<Item = &'p Path>) -> BTreeSet<PathBuf> {
    let mut declaring = BTreeSet::new();
    for file in files.filter(|path| is_rust(path)) {
        add_with_parents(file, &mut declaring);
    }
    let mut found = BTreeSet::new();
    let mut rest: Vec<PathBuf> = declaring
        .iter()
        .flat_map(|path| modules(path, true))
        .collect();
    while let Some(path) = rest.pop() {
        if !found.contains(&path) {
            rest.extend(modules(&path, false));
            found.insert(path);
        }
    }
    found
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "rs")
}

/// Adds a file, those that may declare its module, and so on.
fn add_with_parents(file: &Path, all: &mut BTreeSet<PathBuf>) {
    if !all.insert(file.to_owned()) {
        return;
    }
    let Some(folder) = file.parent() else {
        return;
    };
    let beside = ["mod.rs", "lib.rs", "main.rs"].map(|name| folder.join(name));
    let above = folder.file_name().map(|_| folder.with_extension("rs"));
    for parent in beside.into_iter().chain(above) {
        if parent.is_file() {
            add_with_parents(&parent, all);
        }
    }
}

fn modules(path: &Path, counted: bool) -> Vec<PathBuf> {
    let Ok(text) = fs::read_to_string(path) else {
        return Vec::new();
    };
    let files = attributes::modules(path, &text, counted);
    files.iter().map(|file| clean(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_an_uncounted_module_declares_is_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [
            // Only declarations: the file is in no coverage.
            ("src/lib.rs", "mod a;\n#[coverage(off)]\nmod b;\n"),
            ("src/a.rs", "fn a() {}\nmod inner;\n"),
            (
                "src/a/inner.rs",
                "#[coverage(off)]\n#[path = \"../../far.rs\"]\nmod far;\nfn i() {}\n",
            ),
            ("src/b/mod.rs", "mod c;\n"),
            ("src/b/c.rs", "fn c() {}\n"),
            ("far.rs", "fn far() {}\n"),
        ] {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            fs::write(at(name), text).unwrap();
        }
        let with_code = ["src/a.rs", "src/a/inner.rs", "src/b/c.rs", "far.rs"].map(at);
        let found = not_counted(with_code.iter().map(PathBuf::as_path));
        let counted: Vec<bool> = with_code.iter().map(|file| !found.contains(file)).collect();
        assert_eq!(counted, [true, true, false, false]);
    }
}
