// SPDX-License-Identifier: MIT OR Apache-2.0
//! The README and the pages of the book that a reader follows from top to bottom: every command is run, in the
//! order of the page.
//!
//! In a page, `<!-- file: NAME -->` before a block of code makes it a file. Commands stand behind `$ ` in blocks of
//! `console`; `> ` continues one. What follows a command is what it prints: `…` stands for any text, a line `⋮`
//! for any lines. Without such lines the output does not matter. All must succeed. `<!-- not run: WHY -->` before a
//! block leaves it out, and `<!-- needs: PROGRAM... -->` does so where one of the programs is missing.
//!
//! With `PAGES_DIR`, pages run in folders of it, which stay: `.ci/pictures` makes the pictures from them.

#[path = "here/mod.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod here;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const RKCOV: &str = env!("CARGO_BIN_EXE_rkcov");

/// A command of a page, and the lines that it is said to print.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    printed: Vec<String>,
}

/// What a reader does.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Write(String, String),
    Run(Step),
}

fn actions(page: &str, has: impl Fn(&str) -> bool) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut note = None;
    let mut lines = page.lines().enumerate();
    while let Some((_, line)) = lines.next() {
        let comment = line.strip_prefix("<!-- ");
        if let Some(text) = comment.and_then(|text| text.strip_suffix(" -->")) {
            note = Some(text);
            continue;
        }
        let Some(language) = line.strip_prefix("```") else {
            if !line.is_empty() {
                note = None;
            }
            continue;
        };
        let block: Vec<(usize, &str)> = lines
            .by_ref()
            .take_while(|(_, line)| *line != "```")
            .collect();
        let note = note.take().unwrap_or_default();
        if let Some(name) = note.strip_prefix("file: ") {
            let text = block.iter().map(|(_, line)| format!("{line}\n")).collect();
            actions.push(Action::Write(name.to_owned(), text));
        }
        let needs = note.strip_prefix("needs: ").unwrap_or_default();
        let missing = needs.split_whitespace().any(|program| !has(program));
        if language != "console" || note.starts_with("not run: ") || missing {
            continue;
        }
        for (number, line) in block {
            if let Some(command) = line.strip_prefix("$ ") {
                actions.push(Action::Run(Step {
                    line: number + 1,
                    command: command.to_owned(),
                    printed: Vec::new(),
                }));
            } else if let Some(Action::Run(step)) = actions.last_mut() {
                match line.strip_prefix("> ") {
                    Some(more) => step.command.push_str(&format!("\n{more}")),
                    None => step.printed.push(line.to_owned()),
                }
            }
        }
    }
    actions
}

/// Whether a line was printed as the page says. Spaces do not count: columns are as wide as paths and numbers are.
fn is_like(printed: &str, said: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (printed, said) = (words(printed), words(said));
    let parts: Vec<String> = said.split('…').map(regex::escape).collect();
    let pattern = format!("^{}$", parts.join(".*"));
    regex::Regex::new(&pattern).unwrap().is_match(&printed)
}

/// Whether all lines were printed as the page says.
fn are_like(printed: &[&str], said: &[&str]) -> bool {
    match said {
        [] => printed.is_empty(),
        ["⋮", rest @ ..] => (0..=printed.len()).any(|from| are_like(&printed[from..], rest)),
        [line, rest @ ..] => printed
            .split_first()
            .is_some_and(|(first, others)| is_like(first, line) && are_like(others, rest)),
    }
}

/// Does all that a page says, in a folder of its own.
fn follow(name: &str) {
    follow_in(name, |_| {});
}

/// [`follow`], in a folder that has what the page supposes.
fn follow_in(name: &str, prepare: impl FnOnce(&Path)) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs").join(name)).unwrap();
    let kept = std::env::var_os("PAGES_DIR").map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let folder = match &kept {
        Some(kept) => kept.join(name.trim_start_matches("../").trim_end_matches(".md")),
        None => temporary.path().join("work"),
    };
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    prepare(&folder);
    let mut path = OsString::from(Path::new(RKCOV).parent().unwrap());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    // One shell runs all, as a reader's does: folders and variables stay.
    let mut script = String::from("exec 2>&1 </dev/null\n");
    let mut steps = Vec::new();
    for action in actions(&page, here::has) {
        match action {
            Action::Write(file, text) => {
                let to = folder.join(&file);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                // In its place in the order: a page may change a file.
                let kept = format!(".{}", steps.len());
                let from = folder.join(format!("{kept}.{}", file.replace('/', "_")));
                fs::write(&from, text).unwrap();
                script += &format!("cp '{}' '{}'\n", from.display(), to.display());
            }
            Action::Run(step) => {
                script += &format!("{}\necho \"@@ $?\"\n", step.command);
                steps.push(step);
            }
        }
    }
    assert!(!steps.is_empty(), "{name}");
    let mut bash = Command::new("bash");
    for (name, _) in std::env::vars_os() {
        // Of the cargo that runs us.
        let name = name.to_string_lossy().into_owned();
        let kept = ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
        let foreign = ["CARGO", "RUST", "RKCOV_", "NEXTEST", "CC", "CXX", "CFLAGS"];
        if foreign.iter().any(|start| name.starts_with(start)) && !kept.contains(&&*name) {
            bash.env_remove(name);
        }
    }
    let output = bash
        .args(["-c", &script])
        .current_dir(&folder)
        .env("PATH", path)
        .env("TERM", "dumb")
        .env("GITHUB_STEP_SUMMARY", folder.join("summary.md"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut rest = &text[..];
    for step in steps {
        let at = format!("docs/{name}:{}: {}", step.line, step.command);
        let (printed, after) = rest.split_once("@@ ").unwrap_or_else(|| {
            panic!("{at}: the shell ended: {rest}");
        });
        let (status, after) = after.split_once('\n').unwrap();
        rest = after;
        assert_eq!(status, "0", "{at}\n{printed}");
        let lines: Vec<&str> = printed.trim_end().lines().collect();
        let said: Vec<&str> = step.printed.iter().map(String::as_str).collect();
        let is_said = step.printed.is_empty() || are_like(&lines, &said);
        assert!(is_said, "{at}\nprinted:\n{printed}");
    }
}

#[test]
fn tutorial() {
    follow("tutorial.md");
}

#[test]
fn c_projects() {
    follow("c-projects.md");
}

#[test]
fn fuzzers() {
    follow("fuzzers.md");
}

#[test]
fn continuous_integration() {
    follow("ci.md");
}

/// A shell's commands in a folder.
fn shell(folder: &Path, line: &str) {
    let done = Command::new("sh")
        .args(["-ec", line])
        .current_dir(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{line}: {said}");
}

/// A package with a test and a program.
fn package(folder: &Path) {
    fs::create_dir_all(folder.join("src/bin")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let manifest = "[package]\nname = \"shop\"\nedition = \"2021\"\n[workspace]\n";
    write("Cargo.toml", manifest);
    write("src/lib.rs", LIBRARY);
    write("src/bin/server.rs", "fn main() {}\n");
}

const LIBRARY: &str = "pub fn twice(n: u32) -> u32 {\n    2 * n\n}\n\n\
    #[test]\nfn doubles() {\n    let two = twice(1);\n    assert_eq!(two, 2);\n}\n";

#[test]
fn readme() {
    follow_in("../README.md", |folder| {
        package(folder);
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write("program.c", "int main(void) { return 0; }\n");
        let configure =
            "printf 'program: program.c\\n\\t%s -g -o $@ $^\\n' \"${CC:?}\" >Makefile\n";
        write("configure", &format!("#!/bin/sh\n{configure}"));
        shell(folder, "chmod +x configure");
    });
}

#[test]
fn cargo_projects() {
    follow_in("cargo.md", |folder| {
        package(folder);
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
        write(".gitignore", "/target\nCargo.lock\n");
        shell(
            folder,
            "git init -q; git add .; git -c user.name=a -c user.email=a@example.org commit -qm a
             git update-ref refs/remotes/origin/main HEAD",
        );
        // What a pull request changes.
        write("src/lib.rs", &LIBRARY.replace("2 * n", "n + n"));
    });
}

#[test]
fn reports_in_a_browser() {
    follow_in("html.md", |folder| {
        fs::write(folder.join("program.c"), "int main(void) { return 0; }\n").unwrap();
        let rkcov = format!("'{RKCOV}'");
        let build = format!("{rkcov} cc gcc -g program.c -o program; {rkcov} run -- ./program");
        shell(folder, &build);
    });
}

#[test]
fn a_page_is_read_as_its_reader_does() {
    let page = "\
<!-- file: a.txt -->

```text
one
```

text

```console
$ cat a.txt
one
$ echo two \\
> three
two …
```

<!-- not run: it needs a kernel -->
```console
$ false
```

<!-- needs: there gone -->
```console
$ false
```
";
    let step = |line, command: &str, printed: &str| {
        Action::Run(Step {
            line,
            command: command.to_owned(),
            printed: vec![printed.to_owned()],
        })
    };
    let expected = [
        Action::Write("a.txt".to_owned(), "one\n".to_owned()),
        step(10, "cat a.txt", "one"),
        step(12, "echo two \\\nthree", "two …"),
    ];
    assert_eq!(actions(page, |name| name == "there"), expected);
    assert!(is_like("two  three", "two …") && !is_like("two (three)", "two (.*)"));
    assert!(are_like(&["a", "b", "c"], &["a", "⋮", "c"]));
    assert!(!are_like(&["a", "b"], &["a"]) && !are_like(&["a"], &["a", "b"]));
}
