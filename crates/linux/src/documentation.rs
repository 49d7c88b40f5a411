// SPDX-License-Identifier: MIT OR Apache-2.0
//! The three programs of Linux's own documentation of kcov, as they are: taken out of Debian's
//! source package when somebody wants to run them, and never kept.

use crate::error::{io_error, Error, Result};
use crate::flavor::Arch;
use crate::hardware::UsbDevice;
use crate::setup::SOURCE_PACKAGE;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

/// What the programs show, in their order: PCs of one call, its comparisons, sections elsewhere.
pub const NAMES: [&str; 3] = ["coverage", "comparisons", "remote"];

/// The sources of the programs, each complete.
///
/// # Errors
/// The package is missing, or its page is not as it was known to be.
pub fn sources() -> Result<[String; 3]> {
    let archive = PathBuf::from(format!("/usr/src/{SOURCE_PACKAGE}.tar.xz"));
    if !archive.is_file() {
        return Err(Error::Missing {
            missing: vec![format!("the package {SOURCE_PACKAGE}")],
            arch: Arch::X86_64,
        });
    }
    let unpacked = Command::new("tar")
        .args(["--extract", "--to-stdout", "--occurrence=1", "--file"])
        .arg(&archive)
        .arg(format!("{SOURCE_PACKAGE}/Documentation/dev-tools/kcov.rst"))
        .output()
        .map_err(io_error("tar"))?;
    let broken = |why: &str| io_error(&archive)(io::Error::other(why.to_owned()));
    if !unpacked.status.success() {
        return Err(broken(&String::from_utf8_lossy(&unpacked.stderr)));
    }
    programs(&String::from_utf8_lossy(&unpacked.stdout))
        .ok_or_else(|| broken("its page on kcov does not have three programs"))
}

/// Runs one that was compiled. If it listens to a bus, a USB device comes and goes meanwhile.
///
/// # Errors
/// It cannot be run, or there is no USB device to plug in.
pub fn run(program: &Path, listens: bool) -> io::Result<Output> {
    /// The program listens for two seconds from its start.
    const START: Duration = Duration::from_millis(500);
    let child = Command::new(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if listens {
        thread::sleep(START);
        drop(UsbDevice::plug()?);
    }
    child.wait_with_output()
}

/// The programs of the page. The second and the third begin "same includes and defines as above".
fn programs(page: &str) -> Option<[String; 3]> {
    let blocks: Vec<_> = code_blocks(page)
        .into_iter()
        .filter(|block| block.contains("int main("))
        .collect();
    let [local, comparisons, remote] = <[String; 3]>::try_from(blocks).ok()?;
    let (preamble, _) = local.split_once("int main(")?;
    let [comparisons, remote] = [comparisons, remote].map(|main| format!("{preamble}{main}"));
    Some([local, comparisons, remote])
}

/// The C code blocks of a page.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_it_is_written() {
        let page =
            "text\n\n.. code-block:: c\n\n    int main(void)\n    {\n\treturn 0;\n    }\n\nmore";
        assert_eq!(
            code_blocks(page),
            ["\n    int main(void)\n    {\n\treturn 0;\n    }\n"]
        );
    }

    #[test]
    fn what_comes_before_the_first_main_is_everybodys() {
        let block = |body: &str| format!(".. code-block:: c\n\n {body}\n\ntext\n");
        let page = [
            block("include; int main(1)"),
            block("a fragment"),
            block("more; int main(2)"),
            block("other; int main(3)"),
        ]
        .concat();
        let [one, two, three] = programs(&page).unwrap();
        assert!(one.contains("include; int main(1)"));
        assert!(two.contains("include;") && two.contains("more; int main(2)"));
        assert!(three.contains("include;") && three.contains("other; int main(3)"));
        assert!(!two.contains("main(1)") && !three.contains("more"));
        assert_eq!(programs(&block("int main(1)")), None);
    }
}
