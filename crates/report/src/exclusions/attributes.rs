// SPDX-License-Identifier: MIT OR Apache-2.0
//! `#[coverage(off)]`, also behind `cfg_attr`, as those write who build with stable compilers; and types with
//! `#[derive]`, whose code nobody wrote.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Lit, Meta, Token};

use super::{Marked, Mistake};

/// Adds the lines of what has the attribute, or does not have it in a file that is not `counted`.
pub(super) fn add(path: &Path, text: &str, counted: bool, marked: &mut Marked) {
    match find(path, text, counted) {
        Ok(found) => {
            marked.lines.extend(found.lines);
            marked.derived.extend(found.derived);
        }
        Err(_) if counted && !has_switch(text) => {}
        Err(error) => {
            if !counted {
                marked.lines.extend(lines(1, text.lines().count()));
            }
            let line = u32::try_from(error.span().start().line).unwrap_or(0);
            marked.wrong.push((line, Mistake::NotRust));
        }
    }
}

/// The files of modules that are elsewhere and have the attribute. Of each there are two, of which one
/// exists.
pub(super) fn modules(path: &Path, text: &str, counted: bool) -> Vec<PathBuf> {
    if counted && !has_switch(text) {
        return Vec::new();
    }
    find(path, text, counted).map_or_else(|_| Vec::new(), |found| found.modules)
}

fn find<'p>(path: &'p Path, text: &str, counted: bool) -> syn::Result<Finder<'p>> {
    let mut finder = Finder {
        path,
        folder: folder_of_modules(path),
        inside: false,
        counted,
        lines: BTreeSet::new(),
        derived: BTreeSet::new(),
        modules: Vec::new(),
    };
    if counted && !has_switch(text) && !text.contains("derive(") {
        return Ok(finder);
    }
    let file = syn::parse_file(text)?;
    finder.counted = switch(&file.attrs).unwrap_or(counted);
    if !finder.counted {
        finder.lines.extend(lines(1, text.lines().count()));
    }
    finder.visit_file(&file);
    Ok(finder)
}

/// Whether there may be an attribute that says what is counted.
fn has_switch(text: &str) -> bool {
    text.contains("coverage(")
}

/// Where rustc looks for the modules that a file declares: beside a crate's first file, and beside
/// `mod.rs`. That other names are of first files, cargo's folders say.
fn folder_of_modules(path: &Path) -> PathBuf {
    const NAMES: [&str; 3] = ["mod.rs", "lib.rs", "main.rs"];
    const FOLDERS: [&str; 4] = ["bin", "tests", "examples", "benches"];
    let is_of = |name: Option<&OsStr>, known: &[&str]| {
        name.is_some_and(|name| known.iter().any(|known| name == *known))
    };
    let folder = path.parent().and_then(Path::file_name);
    if is_of(path.file_name(), &NAMES) || is_of(folder, &FOLDERS) {
        path.with_file_name("")
    } else {
        path.with_extension("")
    }
}

fn lines(first: usize, last: usize) -> impl Iterator<Item = u32> {
    (first..=last).filter_map(|line| u32::try_from(line).ok())
}

/// Goes through a file.
struct Finder<'p> {
    path: &'p Path,
    /// Where files of modules are that are declared here.
    folder: PathBuf,
    /// Inside of a module.
    inside: bool,
    /// Whether what is here is counted.
    counted: bool,
    /// The lines that are not counted.
    lines: BTreeSet<u32>,
    /// The lines of types with `#[derive]`: all code that has these lines is derived.
    derived: BTreeSet<u32>,
    /// Files of modules that are not.
    modules: Vec<PathBuf>,
}

impl Finder<'_> {
    /// Notes what an item's attributes say of its lines.
    fn add(&mut self, attributes: &[Attribute], item: &impl Spanned) {
        if let Some(on) = switch(attributes) {
            let span = item.span();
            let of_item = lines(span.start().line, span.end().line);
            if on {
                of_item.for_each(|line| {
                    self.lines.remove(&line);
                });
            } else {
                self.lines.extend(of_item);
            }
        }
    }

    /// Notes the lines of a type if it has code that is derived. A type has no other.
    fn add_derived(&mut self, attributes: &[Attribute], item: &impl Spanned) {
        if attributes.iter().any(|attribute| derives(&attribute.meta)) {
            let span = item.span();
            self.derived
                .extend(lines(span.start().line, span.end().line));
        }
    }

    /// Where a module is that is declared here and is elsewhere.
    fn files(&self, module: &syn::ItemMod) -> Vec<PathBuf> {
        let named = module.attrs.iter().find_map(|attribute| {
            let pair = attribute.meta.require_name_value().ok()?;
            match &pair.value {
                Expr::Lit(literal) if pair.path.is_ident("path") => match &literal.lit {
                    Lit::Str(path) => Some(path.value()),
                    _ => None,
                },
                _ => None,
            }
        });
        match named {
            Some(path) if self.inside => vec![self.folder.join(path)],
            Some(path) => vec![self.path.with_file_name(path)],
            None => {
                let name = name_of(module);
                vec![
                    self.folder.join(format!("{name}.rs")),
                    self.folder.join(name).join("mod.rs"),
                ]
            }
        }
    }
}

fn name_of(module: &syn::ItemMod) -> String {
    let name = module.ident.to_string();
    name.strip_prefix("r#").unwrap_or(&name).to_owned()
}

impl<'a> Visit<'a> for Finder<'_> {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.add(&item.attrs, item);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.add(&item.attrs, item);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        self.add(&item.attrs, item);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
        self.add(&item.attrs, item);
        visit::visit_item_impl(self, item);
    }

    fn visit_item_struct(&mut self, item: &'a syn::ItemStruct) {
        self.add_derived(&item.attrs, item);
    }

    fn visit_item_enum(&mut self, item: &'a syn::ItemEnum) {
        self.add_derived(&item.attrs, item);
    }

    fn visit_item_union(&mut self, item: &'a syn::ItemUnion) {
        self.add_derived(&item.attrs, item);
    }

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        self.add(&item.attrs, item);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        self.add(&item.attrs, item);
        let counted = switch(&item.attrs).unwrap_or(self.counted);
        if item.content.is_none() {
            if !counted {
                let files = self.files(item);
                self.modules.extend(files);
            }
            return;
        }
        let folder = self.folder.join(name_of(item));
        let before = (
            std::mem::replace(&mut self.folder, folder),
            std::mem::replace(&mut self.inside, true),
            std::mem::replace(&mut self.counted, counted),
        );
        visit::visit_item_mod(self, item);
        (self.folder, self.inside, self.counted) = before;
    }
}

/// What attributes say of coverage: whether it is on, if they say it.
fn switch(attributes: &[Attribute]) -> Option<bool> {
    attributes
        .iter()
        .find_map(|attribute| of_meta(&attribute.meta))
}

fn of_meta(meta: &Meta) -> Option<bool> {
    let Meta::List(list) = meta else {
        return None;
    };
    if list.path.is_ident("coverage") {
        return match list.tokens.to_string().as_str() {
            "off" => Some(false),
            "on" => Some(true),
            _ => None,
        };
    }
    conditional(list).iter().find_map(of_meta)
}

/// Whether code is derived, under some condition at least.
fn derives(meta: &Meta) -> bool {
    let Meta::List(list) = meta else {
        return false;
    };
    list.path.is_ident("derive") || conditional(list).iter().any(derives)
}

/// What `cfg_attr` adds. Whoever names coverage there means tools like this one, whatever the condition.
fn conditional(list: &syn::MetaList) -> Vec<Meta> {
    if !list.path.is_ident("cfg_attr") {
        return Vec::new();
    }
    let all = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    all.into_iter().flatten().skip(1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(text: &str) -> Vec<u32> {
        let mut marked = Marked::default();
        add(Path::new("a.rs"), text, true, &mut marked);
        assert_eq!(marked.wrong, []);
        marked.lines.into_iter().collect()
    }

    #[test]
    fn functions_end_where_they_end() {
        let text = "fn a() {\n}\n\n/// It.\n#[coverage(off)]\nfn b() {\n    a();\n}\nfn c() {}\n";
        assert_eq!(excluded(text), [4, 5, 6, 7, 8]);
        let text = "fn a() {}\n#[cfg_attr(coverage_nightly, inline, coverage(off))]\nfn b() {}\n";
        assert_eq!(excluded(text), [2, 3]);
        let text = "#[cfg_attr(all(coverage, not(x)), coverage(off))]\nfn b() {\n}\n";
        assert_eq!(excluded(text), [1, 2, 3]);
    }

    #[test]
    fn what_is_inside_may_be_on_again() {
        let text = "#[coverage(off)]\nimpl A {\n    fn a() {}\n    #[coverage(on)]\n    fn b() {\n    }\n}\n";
        assert_eq!(excluded(text), [1, 2, 3, 7]);
        let text = "trait T {\n    #[coverage(off)]\n    fn a() {}\n    fn b() {}\n}\n";
        assert_eq!(excluded(text), [2, 3]);
        assert_eq!(excluded("#![coverage(off)]\nfn a() {}\n"), [1, 2]);
        assert_eq!(
            excluded("fn a() {}\n#[coverage(off)]\nmod m {\n    fn b() {}\n}\n"),
            [2, 3, 4, 5]
        );
    }

    #[test]
    fn types_with_derived_code_end_where_they_end() {
        let derived = |text: &str| {
            let mut marked = Marked::default();
            add(Path::new("a.rs"), text, true, &mut marked);
            assert_eq!((marked.wrong.len(), marked.lines.len()), (0, 0));
            marked.derived.into_iter().collect::<Vec<_>>()
        };
        let text = "fn a() {}\n#[derive(Debug)]\nstruct A {\n    a: u8,\n}\nfn b() {}\n";
        assert_eq!(derived(text), [2, 3, 4, 5]);
        let text = "fn a() {\n    #[cfg_attr(test, derive(Clone))]\n    enum A {}\n}\n";
        assert_eq!(derived(text), [2, 3]);
        assert_eq!(
            derived("#[repr(C)]\nstruct A;\n#[derive(Copy)]\nunion B {}\n"),
            [3, 4]
        );
        // What is no Rust has nothing that is derived.
        assert!(derived("#[derive(Debug)]\nstruct A;\nfn (\n").is_empty());
    }

    #[test]
    fn what_is_said_elsewhere_counts_nothing() {
        assert!(excluded("// #[coverage(off)]\nfn a() { \"#[coverage(off)]\"; }\n").is_empty());
        assert!(excluded("#[coverage(often)]\nfn a() {}\n").is_empty());
    }

    #[test]
    fn what_is_no_rust_excludes_nothing() {
        let mut marked = Marked::default();
        let text = "#[coverage(off)]\nfn a() {}\nfn (\n";
        add(Path::new("a.rs"), text, true, &mut marked);
        assert!(marked.lines.is_empty());
        assert!(
            matches!(marked.wrong[..], [(3, Mistake::NotRust)]),
            "{marked:?}"
        );
    }
    #[test]
    fn modules_that_are_elsewhere_have_files() {
        let of = |path: &str, text: &str, counted| {
            let files = modules(Path::new(path), text, counted);
            let shown = files.iter().map(|file| file.to_str().unwrap().to_owned());
            shown.collect::<Vec<_>>().join(" ")
        };
        let off =
            "#[cfg(test)]\n#[cfg_attr(coverage_nightly, coverage(off))]\nmod tests;\nmod other;\n";
        assert_eq!(of("src/lib.rs", off, true), "src/tests.rs src/tests/mod.rs");
        assert_eq!(
            of("src/a/mod.rs", off, true),
            "src/a/tests.rs src/a/tests/mod.rs"
        );
        assert_eq!(
            of("src/a.rs", off, true),
            "src/a/tests.rs src/a/tests/mod.rs"
        );
        let inside =
            "#[coverage(off)]\nmod b {\n    mod r#c;\n    #[coverage(on)]\n    mod d;\n}\n";
        assert_eq!(
            of("src/a.rs", inside, true),
            "src/a/b/c.rs src/a/b/c/mod.rs"
        );
        assert_eq!(
            of("tests/a.rs", off, true),
            "tests/tests.rs tests/tests/mod.rs"
        );
        let named = "#[coverage(off)]\n#[path = \"x/y.rs\"]\nmod b;\n";
        assert_eq!(of("src/a.rs", named, true), "src/x/y.rs");
        let named = format!("mod m {{\n{named}}}\n");
        assert_eq!(of("src/a.rs", &named, true), "src/a/m/x/y.rs");
        // What is declared in a file that is not counted is not either.
        assert_eq!(
            of("src/a.rs", "mod b;\n", false),
            "src/a/b.rs src/a/b/mod.rs"
        );
        assert_eq!(of("src/a.rs", "mod b;\n", true), "");
    }

    #[test]
    fn a_file_that_is_not_counted_may_have_parts_that_are() {
        let of = |text: &str| {
            let mut marked = Marked::default();
            add(Path::new("a.rs"), text, false, &mut marked);
            (
                marked.lines.into_iter().collect::<Vec<_>>(),
                marked.wrong.len(),
            )
        };
        assert_eq!(of("fn a() {\n}\n"), (vec![1, 2], 0));
        assert_eq!(of("fn a() {}\n#[coverage(on)]\nfn b() {}\n"), (vec![1], 0));
        assert_eq!(of("#![coverage(on)]\nfn a() {}\n"), (vec![], 0));
        assert_eq!(of("fn (\n"), (vec![1], 1));
    }
}
