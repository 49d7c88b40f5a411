// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files as a tree of folders.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::style::shown;
use crate::coverage::FileView;

/// A folder with what is in it.
#[derive(Debug, Default)]
pub(super) struct Folder<'v, 'a> {
    pub(super) folders: BTreeMap<String, Self>,
    pub(super) files: BTreeMap<String, &'v FileView<'a>>,
}

/// How much of something ran.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    pub(super) functions_ran: u64,
    pub(super) functions_known: u64,
    pub(super) functions: u64,
    pub(super) lines_ran: u64,
    pub(super) lines_known: u64,
    pub(super) lines: u64,
    /// Lines of which it is not known whether they ran.
    pub(super) unknown: u64,
    /// Some file does not know what did not run, so `functions` and `lines` say too little.
    pub(super) partial: bool,
}

impl Totals {
    pub(super) fn of(file: &FileView<'_>) -> Self {
        Self {
            functions_ran: file.functions_ran() as u64,
            functions_known: file.functions.len() as u64,
            functions: file.functions_all() as u64,
            lines_ran: file.lines_ran() as u64,
            lines_known: file.lines.len() as u64,
            lines: file.lines_all() as u64,
            unknown: file.unknown.len() as u64,
            partial: !file.complete,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.functions_ran += other.functions_ran;
        self.functions_known += other.functions_known;
        self.functions += other.functions;
        self.lines_ran += other.lines_ran;
        self.lines_known += other.lines_known;
        self.lines += other.lines;
        self.unknown += other.unknown;
        self.partial |= other.partial;
    }
}

impl<'v, 'a> Folder<'v, 'a> {
    /// The tree of these files, and the folder that all of them are in.
    pub(super) fn tree(files: &'v [FileView<'a>]) -> (PathBuf, Self) {
        let base = common_folder(files.iter().map(|file| file.path));
        let mut root = Self::default();
        for file in files {
            let path = file.path.strip_prefix(&base).unwrap_or(file.path);
            let mut folder = &mut root;
            for component in path.parent().into_iter().flat_map(Path::components) {
                folder = folder.folders.entry(name(component)).or_default();
            }
            let last = path.components().next_back();
            folder
                .files
                .insert(last.map(name).unwrap_or_default(), file);
        }
        root.shorten();
        (base, root)
    }

    /// Whether there is such a file in it.
    pub(super) fn any(&self, is: &dyn Fn(&FileView<'_>) -> bool) -> bool {
        self.files.values().any(|file| is(file)) || self.folders.values().any(|inner| inner.any(is))
    }

    /// Levels of folders in it.
    pub(super) fn depth(&self) -> usize {
        let inner = self.folders.values().map(Self::depth).max();
        inner.map_or(0, |depth| depth + 1)
    }

    /// A folder that holds one folder only is shown as one with it.
    fn shorten(&mut self) {
        let folders = std::mem::take(&mut self.folders);
        for (mut name, mut folder) in folders {
            folder.shorten();
            if folder.files.is_empty() && folder.folders.len() == 1 {
                if let Some((inner, only)) = folder.folders.pop_first() {
                    name = format!("{name}/{inner}");
                    folder = only;
                }
            }
            self.folders.insert(name, folder);
        }
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.folders
            .values()
            .for_each(|folder| totals.add(folder.totals()));
        self.files
            .values()
            .for_each(|file| totals.add(Totals::of(file)));
        totals
    }
}

/// The Rust package that a file is of: the next `Cargo.toml` above it that names one.
pub(super) fn crate_of(path: &Path) -> Option<String> {
    path.extension().filter(|end| *end == "rs")?;
    let folders = path.ancestors().skip(1);
    folders
        .filter_map(|folder| std::fs::read_to_string(folder.join("Cargo.toml")).ok())
        .find_map(|manifest| package_name(&manifest))
}

fn package_name(manifest: &str) -> Option<String> {
    let mut lines = manifest.lines().map(str::trim);
    lines.find(|line| *line == "[package]")?;
    let mut table = lines.take_while(|line| !line.starts_with('['));
    let name = table.find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "name").then_some(value)
    })?;
    name.split(['"', '\'']).nth(1).map(str::to_owned)
}

fn name(component: Component<'_>) -> String {
    match component {
        Component::RootDir => String::new(),
        other => shown(Path::new(other.as_os_str())),
    }
}

/// The deepest folder that all paths are in; empty if there is none.
fn common_folder<'p>(paths: impl IntoIterator<Item = &'p Path>) -> PathBuf {
    let mut folders = paths.into_iter().map(|path| path.parent().unwrap_or(path));
    let first = folders.next().unwrap_or(Path::new(""));
    let common = folders.fold(first.to_owned(), |common, folder| {
        let same = common.components().zip(folder.components());
        same.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
    });
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_names_its_package() {
        let manifest = "[workspace]\nname = \"no\"\n[package]\nversion = \"1\"\nname = 'a-b' # x\n";
        assert_eq!(package_name(manifest).as_deref(), Some("a-b"));
        assert_eq!(package_name("[package]\n[lib]\nname = \"c\"\n"), None);
    }

    #[test]
    fn the_common_folder_is_the_deepest() {
        let common = |paths: &[&str]| common_folder(paths.iter().map(Path::new));
        assert_eq!(common(&["/a/b/c.c", "/a/b/d/e.c"]), Path::new("/a/b"));
        assert_eq!(common(&["/a/b/c.c"]), Path::new("/a/b"));
        assert_eq!(common(&["/a/b.c", "/c/d.c"]), Path::new("/"));
        assert_eq!(common(&["/a/b.c", "c/d.c"]), Path::new(""));
        assert_eq!(common(&[]), Path::new(""));
    }

    #[test]
    fn chains_of_folders_are_one() {
        let paths = ["/p/src/x/a.c", "/p/src/x/y/b.c", "/p/lib/z/w/c.c"].map(PathBuf::from);
        let files: Vec<FileView<'_>> = paths
            .iter()
            .map(|path| FileView {
                path,
                lines: [(1, 1)].into(),
                functions: vec![],
                complete: true,
                unknown: Vec::new(),
                unknown_functions: Vec::new(),
                comparisons: BTreeMap::new(),
            })
            .collect();
        let (base, tree) = Folder::tree(&files);
        assert_eq!(base, Path::new("/p"));
        assert_eq!(
            tree.folders.keys().collect::<Vec<_>>(),
            ["lib/z/w", "src/x"]
        );
        let src = &tree.folders["src/x"];
        assert!(src.files.contains_key("a.c") && src.folders["y"].files.contains_key("b.c"));
        assert_eq!(tree.totals().lines_ran, 3);
    }
}
