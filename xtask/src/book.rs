// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo xtask book`: makes a book of the pages in docs/.
//!
//! The book has the pages as they are, and what the commands and the header say of themselves. Links to files
//! that are no pages lead to the repository. Then every link and anchor of the book is checked.

use crate::shell::{self, Error};
use crate::{from_root, root, target_dir, work_dir};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The release of mdBook that is installed. Another one may make other anchors.
const MDBOOK: &str = "0.4.52";

/// What is taken in the place of these marks.
const COMMANDS: &str = "<!-- In the book, the help of each command follows. -->";
const HEADER: &str = "<!-- In the book, the header follows. -->";

/// Arguments of `cargo xtask book`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave out the help of the commands, which needs rkcov to be built
    #[arg(long)]
    quick: bool,
}

/// Builds the book and checks it.
///
/// # Errors
/// mdBook cannot be installed or fails, or a link leads nowhere.
pub fn run(args: &Args) -> Result<(), Error> {
    let mdbook = installed()?;
    let work = work_dir("book");
    let _ = fs::remove_dir_all(&work);
    let source = work.join("src");
    let docs = root().join("docs");
    copy(&docs, &source)?;
    let help = if args.quick {
        String::new()
    } else {
        commands()?
    };
    replace(&source.join("commands.md"), COMMANDS, &help)?;
    let header = fs::read_to_string(root().join("crates/artifacts/include/rkcov.h"))?;
    replace(
        &source.join("c-api.md"),
        HEADER,
        &format!("```c\n{header}```\n"),
    )?;
    fs::rename(source.join("book.toml"), work.join("book.toml"))?;
    let book = target_dir().join("book");
    let _ = fs::remove_dir_all(&book);
    shell::run(
        Command::new(mdbook)
            .args(["build", "--dest-dir"])
            .arg(&book)
            .arg(&work)
            .env("RUST_LOG", "warn"),
    )?;
    let wrong = check(&book)?;
    if !wrong.is_empty() {
        return Err(format!("the book has faults:\n{}", wrong.join("\n")).into());
    }
    println!("{}", from_root(&book.join("index.html")).display());
    Ok(())
}

/// mdBook, which is installed below the target folder if it is not there.
fn installed() -> Result<PathBuf, Error> {
    let tools = target_dir().join("tools");
    let mdbook = tools.join("bin/mdbook");
    let version = shell::read(Command::new(&mdbook).arg("--version"));
    if version.is_ok_and(|version| version.trim() == format!("mdbook v{MDBOOK}")) {
        return Ok(mdbook);
    }
    println!("installing mdbook {MDBOOK}, once: this takes some minutes");
    let began = Instant::now();
    let mut cargo = Command::new("cargo");
    cargo.args(["install", "--quiet", "--locked", "mdbook", "--version"]);
    shell::run(cargo.arg(MDBOOK).arg("--root").arg(&tools))?;
    println!("installed in {} s", began.elapsed().as_secs());
    Ok(mdbook)
}

/// Copies a folder, with the links of its pages as they are in the book.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let name = path.file_name().ok_or("a file without a name")?;
        let to = to.join(name);
        if path.is_dir() {
            copy(&path, &to)?;
        } else if path.extension().is_some_and(|end| end == "md") {
            fs::write(to, with_links(&fs::read_to_string(&path)?))?;
        } else {
            fs::copy(&path, to)?;
        }
    }
    Ok(())
}

/// A page whose links to files outside of docs/ lead to the repository.
fn with_links(page: &str) -> String {
    let repository = format!("]({}/blob/main/", env!("CARGO_PKG_REPOSITORY"));
    page.replace("](../", &repository)
}

fn replace(page: &Path, mark: &str, by: &str) -> Result<(), Error> {
    let text = fs::read_to_string(page)?;
    if !text.contains(mark) {
        return Err(format!("{} has no {mark}", page.display()).into());
    }
    fs::write(page, text.replace(mark, by))?;
    Ok(())
}

/// The help of all commands.
fn commands() -> Result<String, Error> {
    let mut cargo = Command::new("cargo");
    shell::run(cargo.args(["build", "--quiet", "-p", "rkcov-cli"]))?;
    let mut text = String::new();
    for (program, words) in [("rkcov", &[][..]), ("cargo-rkcov", &["rkcov"])] {
        let program = target_dir().join("debug").join(program);
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        add_help(&program, &words, &mut text)?;
    }
    Ok(text)
}

/// The help of a command, and then that of its subcommands.
fn add_help(program: &Path, words: &[String], text: &mut String) -> Result<(), Error> {
    let mut command = Command::new(program);
    let help = shell::read(command.args(words).arg("--help"))?;
    let name = match words.first() {
        Some(first) if first == "rkcov" => format!("cargo {}", words.join(" ")),
        _ => format!("rkcov {}", words.join(" ")),
    };
    let name = name.trim_end();
    text.push_str(&format!(
        "\n## {name}\n\n```text\n{}\n```\n",
        help.trim_end()
    ));
    for sub in subcommands(&help) {
        let words = [words, &[sub.to_owned()]].concat();
        add_help(program, &words, text)?;
    }
    Ok(())
}

/// The commands that a help lists.
fn subcommands(help: &str) -> Vec<&str> {
    let list = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let rows = list.lines().take_while(|line| !line.is_empty());
    // What does not fit a row goes on in the next one, farther to the right.
    let names = rows.filter_map(|row| row.strip_prefix("  "));
    let names = names.filter(|row| !row.starts_with(' '));
    names
        .filter_map(|row| row.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

/// The links of the book that lead nowhere. A test of `xtask` looks whether it has every page.
fn check(book: &Path) -> Result<Vec<String>, Error> {
    let mut html = BTreeMap::new();
    read(book, book, &mut html)?;
    let mut wrong = BTreeSet::new();
    let ids = Regex::new(r#"\bid="([^"]+)""#)?;
    let anchors: BTreeMap<&Path, BTreeSet<&str>> = html
        .iter()
        .map(|(name, text)| {
            let ids = ids.captures_iter(text).filter_map(|found| found.get(1));
            (&**name, ids.map(|id| id.as_str()).collect())
        })
        .collect();
    let targets = Regex::new(r#"\b(?:href|src)="([^"]+)""#)?;
    for (name, text) in &html {
        for target in targets.captures_iter(text).filter_map(|found| found.get(1)) {
            let target = target.as_str();
            if target.contains(':') || target.starts_with("//") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = match file {
                "" => name.clone(),
                file => cleaned(&name.parent().unwrap_or(Path::new("")).join(file)),
            };
            let is_there = match anchors.get(&*to) {
                Some(anchors) => anchor.is_empty() || anchors.contains(anchor),
                None => book.join(&to).exists(),
            };
            if !is_there {
                wrong.insert(format!("{}: {target} leads nowhere", name.display()));
            }
        }
    }
    Ok(wrong.into_iter().collect())
}

/// The pages below a folder, by their path in the book. The page for what is not found says nothing.
fn read(book: &Path, folder: &Path, html: &mut BTreeMap<PathBuf, String>) -> Result<(), Error> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read(book, &path, html)?;
        } else if path.extension().is_some_and(|end| end == "html") && !path.ends_with("404.html") {
            let name = path.strip_prefix(book)?.to_owned();
            html.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// A path without `.` and `..`.
fn cleaned(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = cleaned.pop(),
            part => cleaned.push(part),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_out_of_the_pages_lead_to_the_repository() {
        let page = "[a](../crates/a.rs#L1), [b](b.md#c), [d](https://d)";
        let repository = env!("CARGO_PKG_REPOSITORY");
        let expected =
            format!("[a]({repository}/blob/main/crates/a.rs#L1), [b](b.md#c), [d](https://d)");
        assert_eq!(with_links(page), expected);
    }

    #[test]
    fn subcommands_are_those_that_the_help_lists() {
        let help = "Does it.\n\nUsage: x\n\nCommands:\n  run        Run\n             it\n  c++        Two\n  \
                    help       Print\n\nOptions:\n  -h\n";
        assert_eq!(subcommands(help), ["run", "c++"]);
        assert!(subcommands("Usage: x\n\nOptions:\n  -h\n").is_empty());
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let folder = std::env::temp_dir().join(format!("rkcov-book-{}", std::process::id()));
        fs::create_dir_all(folder.join("sub")).unwrap();
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write(
            "a.html",
            r##"<h1 id="top"> <a href="sub/b.html#part"> <a href="#top"> <a href="https://x"> <img src="p.png">"##,
        );
        write(
            "sub/b.html",
            r#"<h2 id="part"> <a href="../a.html#gone"> <a href="../c.html"> <a href="b.md">"#,
        );
        write("p.png", "");
        let found = check(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            found,
            [
                "sub/b.html: ../a.html#gone leads nowhere",
                "sub/b.html: ../c.html leads nowhere",
                "sub/b.html: b.md leads nowhere",
            ]
        );
    }
}
