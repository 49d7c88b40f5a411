// SPDX-License-Identifier: MIT OR Apache-2.0
//! `#[coverage(off)]`, also behind `cfg_attr`, as those write who build with stable compilers.

use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Meta, Token};

use super::{Marked, Mistake};

/// Adds the lines of what has the attribute.
pub(super) fn add(text: &str, marked: &mut Marked) {
    if !text.contains("coverage(") {
        return;
    }
    match syn::parse_file(text) {
        Ok(file) => {
            let whole = switch(&file.attrs).map(|on| (1, text.lines().count(), on));
            let mut finder = Finder {
                spans: whole.into_iter().collect(),
            };
            finder.visit_file(&file);
            for (first, last, on) in finder.spans {
                for line in (first..=last).filter_map(|line| u32::try_from(line).ok()) {
                    if on {
                        marked.lines.remove(&line);
                    } else {
                        marked.lines.insert(line);
                    }
                }
            }
        }
        Err(error) => {
            let line = u32::try_from(error.span().start().line).unwrap_or(0);
            marked.wrong.push((line, Mistake::NotRust));
        }
    }
}

/// What has the attribute: its lines, and whether it is counted. What is inside of another one comes
/// after it.
struct Finder {
    spans: Vec<(usize, usize, bool)>,
}

impl Finder {
    fn add(&mut self, attributes: &[Attribute], item: &impl Spanned) {
        if let Some(on) = switch(attributes) {
            let span = item.span();
            self.spans.push((span.start().line, span.end().line, on));
        }
    }
}

impl<'a> Visit<'a> for Finder {
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

    fn visit_item_trait(&mut self, item: &'a syn::ItemTrait) {
        self.add(&item.attrs, item);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        self.add(&item.attrs, item);
        visit::visit_item_mod(self, item);
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
    if !list.path.is_ident("cfg_attr") {
        return None;
    }
    let list = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    // Whoever names coverage there means tools like this one, whatever the condition.
    list.ok()?.iter().skip(1).find_map(of_meta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(text: &str) -> Vec<u32> {
        let mut marked = Marked::default();
        add(text, &mut marked);
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
    fn what_is_said_elsewhere_counts_nothing() {
        assert!(excluded("// #[coverage(off)]\nfn a() { \"#[coverage(off)]\"; }\n").is_empty());
        assert!(excluded("#[coverage(often)]\nfn a() {}\n").is_empty());
    }

    #[test]
    fn what_is_no_rust_excludes_nothing() {
        let mut marked = Marked::default();
        add("#[coverage(off)]\nfn a() {}\nfn (\n", &mut marked);
        assert!(marked.lines.is_empty());
        assert!(
            matches!(marked.wrong[..], [(3, Mistake::NotRust)]),
            "{marked:?}"
        );
    }
}
