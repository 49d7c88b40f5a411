// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs of Linux's own documentation of kcov, as they are.
//!
//! They are taken out of the kernel's source package when the test runs.

use crate::support::{functions, succeed, Lab, COMPARISONS};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

const PAGE: &str = "Documentation/dev-tools/kcov.rst";

/// The text of the documentation's page on kcov.
fn page(lab: &Lab) -> String {
    let archives: Vec<PathBuf> = std::fs::read_dir("/usr/src")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("");
            name.starts_with("linux-source-6.") && name.ends_with(".tar.xz")
        })
        .collect();
    let archive = archives
        .iter()
        .max()
        .expect("this test needs the kernel's documentation: apt-get install linux-source-6.12");
    let stem = archive.file_name().unwrap().to_str().unwrap();
    let inside = format!("{}/{PAGE}", stem.strip_suffix(".tar.xz").unwrap());
    succeed(
        Command::new("tar")
            .arg("--extract")
            .arg("--occurrence=1")
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(lab.path(""))
            .arg(&inside),
    );
    std::fs::read_to_string(lab.path(&inside)).unwrap()
}

/// The C code blocks of a page, without their indentation.
fn code_blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.trim() == ".. code-block:: c" {
            let is_code = |line: &&str| line.is_empty() || line.starts_with([' ', '\t']);
            let block: Vec<_> = lines.clone().take_while(is_code).collect();
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

/// The three programs. The second and the third begin "same includes and defines as above".
fn sources(page: &str) -> [String; 3] {
    let blocks: Vec<_> = code_blocks(page)
        .into_iter()
        .filter(|block| block.contains("int main("))
        .collect();
    let [local, comparisons, remote] = <[String; 3]>::try_from(blocks).expect("three programs");
    let (preamble, _) = local.split_once("int main(").unwrap();
    [
        local.clone(),
        format!("{preamble}{comparisons}"),
        format!("{preamble}{remote}"),
    ]
}

/// What one of the programs printed, and where the instrumented library was.
struct Ran {
    printed: String,
    library: PathBuf,
    bias: u64,
}

fn run(lab: &Lab, name: &str, source: &str) -> Ran {
    let file = lab.path(&format!("{name}.c"));
    std::fs::write(&file, source).unwrap();
    let program = lab.path(name);
    succeed(
        Command::new("gcc")
            .arg("-w")
            .arg(&file)
            .arg("-o")
            .arg(&program),
    );
    let library = lab.library("subject.c", COMPARISONS);
    let bias_file = lab.path("bias");
    let printed = succeed(
        lab.preload(&program, &[&library])
            .env("SUBJECT_BIAS", &bias_file),
    );
    let bias = std::fs::read_to_string(bias_file).unwrap();
    Ran {
        printed,
        library,
        bias: hexadecimal(&bias),
    }
}

fn hexadecimal(text: &str) -> u64 {
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16)
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

impl Ran {
    fn functions(&self, pcs: impl IntoIterator<Item = u64>) -> BTreeSet<String> {
        functions(&self.library, self.bias, pcs)
            .into_iter()
            .collect()
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn coverage_of_one_call() {
    let lab = Lab::new();
    let [source, ..] = sources(&page(&lab));
    let ran = run(&lab, "local", &source);
    let pcs = ran.printed.lines().map(hexadecimal);
    assert_eq!(ran.functions(pcs), set(&["read", "is_bad_file"]));
}

#[test]
fn comparison_operands() {
    let lab = Lab::new();
    let [_, source, _] = sources(&page(&lab));
    let ran = run(&lab, "comparisons", &source);
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}: 0x")).unwrap();
        let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap();
        hexadecimal(&rest[..end])
    };
    let compared: Vec<_> = ran
        .printed
        .lines()
        .map(|line| (field(line, "arg1"), field(line, "arg2"), line))
        .collect();
    let pcs = compared.iter().map(|(_, _, line)| field(line, "ip"));
    assert_eq!(ran.functions(pcs), set(&["read", "is_bad_file"]));
    // The program asks for 0 bytes of file -1.
    let (_, _, line) = compared
        .iter()
        .find(|(arg1, arg2, _)| (*arg1, *arg2) == (0x1234_5678, 0))
        .expect("the comparison with the count");
    assert!(line.ends_with("size: 8, const"), "{line}");
    let files = (0x8765_4321, 0xffff_ffff);
    assert!(compared
        .iter()
        .any(|(arg1, arg2, _)| (*arg1, *arg2) == files));
}

#[test]
fn remote_coverage() {
    let lab = Lab::new();
    let [_, _, source] = sources(&page(&lab));
    let ran = run(&lab, "remote", &source);
    let pcs = ran.printed.lines().map(hexadecimal);
    // The threads also have sections of USB bus 2, and with other common handles.
    assert_eq!(ran.functions(pcs), set(&["hub_event", "vhost_worker"]));
}

#[test]
fn the_page_is_read_as_it_is_written() {
    let page = "text\n\n.. code-block:: c\n\n    int main(void)\n    {\n\treturn 0;\n    }\n\nmore";
    assert_eq!(
        code_blocks(page),
        ["\n    int main(void)\n    {\n\treturn 0;\n    }\n"]
    );
}
