// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the pages refer to is there.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The README and all of docs/.
fn pages() -> Vec<PathBuf> {
    let docs = fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| entry.unwrap().path());
    let pages: Vec<_> = docs
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .chain([root().join("README.md"), root().join("CONTRIBUTING.md")])
        .collect();
    assert!(pages.len() > 10);
    pages
}

/// The targets of a page's links to files.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|s| s.split(')').next());
    targets
        .filter(|target| !target.contains("://"))
        .filter_map(|target| target.split('#').next())
        .filter(|file| !file.is_empty())
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            let target = page.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link}", page.display());
        }
    }
}

#[test]
fn the_book_has_every_page() {
    let summary = fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let all: Vec<&str> = links(&summary).collect();
    let docs = pages().into_iter().filter_map(|page| {
        let name = page.file_name()?.to_str()?.to_owned();
        let is_page = page.starts_with(root().join("docs")) && name != "SUMMARY.md";
        is_page.then_some(name)
    });
    for page in docs {
        let times = all.iter().filter(|link| **link == page).count();
        assert_eq!(times, 1, "docs/SUMMARY.md: {page}");
    }
}

#[test]
fn what_is_installed_is_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let action = read("action.yml");
    assert!(action.contains(&format!("default: {version}\n")));
    assert!(read("CHANGELOG.md").contains(&format!("\n## {version}")));
    let page = read("docs/install.md") + &read("docs/ci.md");
    for (before, after) in [
        ("rkcov_", "-1_"),
        ("rkcov-", "-x86"),
        ("rkcov/rkcov@v", "\n"),
    ] {
        let uses: Vec<_> = page.match_indices(before).collect();
        assert!(!uses.is_empty(), "{before}");
        for (at, _) in uses {
            let rest = &page[at + before.len()..];
            assert!(rest.starts_with(&format!("{version}{after}")), "{before}");
        }
    }
}

/// All Rust and C in a folder.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "h") {
            into.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

/// The names in backticks of the review's column "here": functions, types, fields, tests.
fn names(page: &str) -> Vec<&str> {
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let here = rows.skip(1).filter_map(|row| row.split(" | ").nth(1));
    let quoted = here.flat_map(|text| text.split('`').skip(1).step_by(2));
    quoted
        .map(|name| name.trim_end_matches("()"))
        .flat_map(|name| name.split("::"))
        .filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
        .collect()
}

#[test]
fn the_review_is_answered_where_the_page_says() {
    let page = fs::read_to_string(root().join("docs/review.md")).unwrap();
    let mut all = String::new();
    for folder in ["crates", "conformance", "examples", "xtask"] {
        sources(&root().join(folder), &mut all);
    }
    let names = names(&page);
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let found = all.split(|c| !is_name(c)).any(|word| word == name);
        assert!(found, "docs/review.md: there is no {name}");
    }
}

#[test]
fn tests_that_pages_name_are_there() {
    let mut all = String::new();
    for folder in ["crates", "conformance", "guests", "xtask"] {
        sources(&root().join(folder), &mut all);
    }
    // Tests are called by sentences, and hardly anything else is.
    let is_sentence = |name: &&str| {
        name.matches('_').count() > 2
            && !name.starts_with('_')
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let mut named = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let prose = text.split("```").step_by(2);
        let spans = prose.flat_map(|part| part.split('`').skip(1).step_by(2));
        let names = spans.filter_map(|span| span.rsplit("::").next());
        for name in names.filter(is_sentence) {
            named += 1;
            let is_there = all.contains(&format!("fn {name}("));
            assert!(is_there, "{}: there is no test {name}", page.display());
        }
    }
    assert!(named > 50, "{named}");
}

#[test]
fn every_model_of_concurrency_is_on_the_page() {
    let models = root().join("crates/core/tests/loom.rs");
    let models = fs::read_to_string(models).unwrap();
    let page = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let tests = models.split("#[test]\nfn ").skip(1);
    let names: Vec<&str> = tests.filter_map(|test| test.split('(').next()).collect();
    let missing = names
        .iter()
        .filter(|name| !page.contains(&format!("`{name}`")));
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "docs/reliability.md lacks {missing:?}");
    let figure = format!("| `.ci/loom` | {} models |", names.len());
    assert!(page.contains(&figure), "docs/reliability.md: {figure}");
}

/// The functions that the headers declare.
fn functions() -> Vec<String> {
    let headers = ["rkcov.h", "rkcov_internal.h"];
    let headers = headers.map(|name| root().join("crates/artifacts/include").join(name));
    let header = headers.map(|header| fs::read_to_string(header).unwrap());
    let header = header.concat();
    let before = header.split('(').filter_map(|text| {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let start = text.rfind(|c| !is_name(c))?;
        text.get(start + 1..)
    });
    let ours = before.filter(|name| name.starts_with("kcov_") || name.starts_with("rkcov_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn functions_have_their_parentheses() {
    let functions = functions();
    assert!(functions.len() > 15, "{functions:?}");
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        // Blocks of code are none of it.
        let prose = text.split("```").step_by(2);
        let spans = prose.flat_map(|part| part.split('`').skip(1).step_by(2));
        for span in spans {
            let is_bare = functions.iter().any(|function| function == span);
            assert!(!is_bare, "{}: `{span}`", page.display());
        }
    }
}
