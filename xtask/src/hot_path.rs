// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs for one call of `__sanitizer_cov_trace_pc()` in a kernel, with either kcov.

use crate::shell::{self, Error};
use crate::{root, target_dir};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of `cargo xtask hot-path`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write docs/hot-path.md
    #[arg(long)]
    write: bool,
}

const FUNCTION: &str = "__sanitizer_cov_trace_pc";
const PAGE: &str = "docs/hot-path.md";

/// A kcov, and which of its conditional jumps are taken on the way.
struct Kcov {
    name: &'static str,
    word: &'static str,
    object: &'static str,
    idle: &'static [bool],
    records: &'static [bool],
    full: &'static [bool],
}

const C: Kcov = Kcov {
    name: "C",
    word: "c",
    object: "kernel/kcov.o",
    idle: &[true, true],
    records: &[true, false, false],
    full: &[true, false, true],
};
const RUST: Kcov = Kcov {
    name: "Rust",
    word: "rust",
    object: "kernel/rkcov/kcov_rust.o",
    idle: &[false, true],
    records: &[true, true, false],
    full: &[true, true, true],
};

/// Builds both x86-64 kernels if they are not there, counts, and compares.
///
/// # Errors
/// The Rust kcov runs more instructions than the C one or calls something, or the code has another
/// shape than is known here.
pub fn run(args: &Args) -> Result<(), Error> {
    let c = measure(&C)?;
    let rust = measure(&RUST)?;
    let page = page(&c, &rust)?;
    if args.write {
        fs::write(root().join(PAGE), page)?;
    } else {
        print!("{page}");
    }
    if rust.idle > c.idle || rust.records > c.records || rust.full > c.full {
        return Err("the Rust kcov's hot path is longer than the C kcov's".into());
    }
    Ok(())
}

/// What is known of a kcov's callback.
struct Measured {
    code: Vec<Instruction>,
    idle: usize,
    records: usize,
    full: usize,
}

fn measure(kcov: &Kcov) -> Result<Measured, Error> {
    let object = build_folder(kcov.word)?.join(kcov.object);
    let code = disassemble(&object)?;
    let shape = |what: &str| format!("{}: {what}", object.display());
    if let Some(call) = code.iter().find(|i| i.text.starts_with("call")) {
        return Err(shape(&format!("it calls: {}", call.text)).into());
    }
    let idle = walk(&code, kcov.idle).ok_or_else(|| shape("no way for a task that is idle"))?;
    let records = walk(&code, kcov.records).ok_or_else(|| shape("no way for a record"))?;
    let full = walk(&code, kcov.full).ok_or_else(|| shape("no way for a full buffer"))?;
    // A record is a store behind the count, and nobody else stores that. Whether there is room is the
    // last question, and an unsigned comparison.
    let stores = |way: &[&Instruction]| way.iter().any(|i| i.text.ends_with(",8)"));
    let asks_for_room = |way: &[&Instruction]| {
        let last = way.iter().rfind(|i| i.target.is_some());
        last.is_some_and(|i| i.text.starts_with("jae"))
    };
    if stores(&idle) || !stores(&records) || stores(&full) || !asks_for_room(&full) {
        return Err(shape("the ways lead elsewhere").into());
    }
    let (idle, records, full) = (idle.len(), records.len(), full.len());
    Ok(Measured {
        idle,
        records,
        full,
        code,
    })
}

/// Where the kernels for x86-64 are built.
fn build_folder(kcov: &str) -> Result<PathBuf, Error> {
    let rkcov = target_dir().join("debug/rkcov");
    let kernel = shell::read(Command::new(rkcov).args(["linux", "build", "--kcov", kcov]))?;
    // image/FLAVOR/kernel
    let version = Path::new(kernel.trim()).ancestors().nth(3);
    let version = version.ok_or("`rkcov linux build` does not say where")?;
    Ok(version.join("build/x86-64"))
}

/// One instruction of the function.
#[derive(Debug, PartialEq, Eq)]
struct Instruction {
    offset: u64,
    text: String,
    /// Where a jump goes to.
    target: Option<u64>,
}

fn disassemble(object: &Path) -> Result<Vec<Instruction>, Error> {
    let mut objdump = Command::new("llvm-objdump-22");
    objdump
        .arg("--no-show-raw-insn")
        .arg(format!("--disassemble-symbols={FUNCTION}"))
        .arg(object);
    parse(&shell::read(&mut objdump)?).ok_or_else(|| {
        let object = object.display();
        format!("{object}: no {FUNCTION}()").into()
    })
}

/// The instructions in what objdump prints: `ADDRESS: \tNAME\tOPERANDS # COMMENT`.
fn parse(listing: &str) -> Option<Vec<Instruction>> {
    let mut code: Vec<Instruction> = Vec::new();
    let mut first = None;
    for line in listing.lines() {
        let Some((address, text)) = line.trim().split_once(':') else {
            continue;
        };
        let Ok(address) = u64::from_str_radix(address, 16) else {
            continue;
        };
        let offset = address - *first.get_or_insert(address);
        let text = text.split('#').next().unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        let target = words.last().and_then(|w| {
            let place = w.strip_prefix('<')?.strip_suffix('>')?;
            let hex = place.strip_prefix(FUNCTION)?.strip_prefix("+0x")?;
            u64::from_str_radix(hex, 16).ok()
        });
        let text = match target {
            Some(target) => format!("{:<8}{target:x}", words[0]),
            None => format!("{:<8}{}", words.first()?, words[1..].join(" ")),
        };
        match code.last_mut() {
            // A prefix is shown on a line of its own.
            Some(last) if last.text.trim() == "lock" => last.text = format!("lock {text}"),
            _ => code.push(Instruction {
                offset,
                text: text.trim_end().to_owned(),
                target,
            }),
        }
    }
    (!code.is_empty()).then_some(code)
}

/// The instructions that run, if the conditional jumps on the way go so.
fn walk<'c>(code: &'c [Instruction], taken: &[bool]) -> Option<Vec<&'c Instruction>> {
    let at = |offset| code.iter().position(|i| i.offset == offset);
    let mut taken = taken.iter();
    let mut way = Vec::new();
    let mut next = 0;
    // No way is longer than all there is, unless it goes in a circle.
    while way.len() <= code.len() {
        let instruction = code.get(next)?;
        way.push(instruction);
        next += 1;
        if instruction.text.starts_with("ret") {
            return taken.next().is_none().then_some(way);
        }
        if let Some(target) = instruction.target {
            if instruction.text.starts_with("jmp") || *taken.next()? {
                next = at(target)?;
            }
        }
    }
    None
}

fn page(c: &Measured, rust: &Measured) -> Result<String, Error> {
    let clang = version("clang-22")?;
    let rustc = version("/usr/bin/rustc")?;
    let mut page = format!(
        "# The hot path\n\
         \n\
         The number of instructions in one call of `{FUNCTION}()` on x86-64, with either\n\
         kcov in the same kernel, compiled by {clang} and {rustc}. `cargo xtask hot-path --write` writes this\n\
         page. Without `--write` the command fails if the Rust kcov runs more instructions than the C kcov, or if either\n\
         calls a function. [The reasons for this code](linux.md#the-hot-path).\n\
         \n\
         | | C | Rust |\n\
         | --- | --- | --- |\n\
         | the task collects nothing | {} | {} |\n\
         | a PC is recorded | {} | {} |\n\
         | the buffer is full (the Rust kcov counts the loss) | {} | {} |\n",
        c.idle, rust.idle, c.records, rust.records, c.full, rust.full
    );
    for (kcov, measured) in [(&RUST, rust), (&C, c)] {
        write!(page, "\n{}:\n\n```text\n", kcov.name)?;
        for instruction in &measured.code {
            writeln!(page, "{:<6x}{}", instruction.offset, instruction.text)?;
        }
        page.push_str("```\n");
    }
    Ok(page)
}

/// A compiler's name and version: `clang 22.1.8`.
fn version(compiler: &str) -> Result<String, Error> {
    let text = shell::read(Command::new(compiler).arg("--version"))?;
    let name = compiler.rsplit('/').next().unwrap_or(compiler);
    let name = name.split('-').next().unwrap_or(name);
    let starts_with_digit = |w: &&str| w.starts_with(|c: char| c.is_ascii_digit());
    let number = text.split_whitespace().find(starts_with_digit);
    Ok(format!("{name} {}", number.unwrap_or("of no version")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "
kernel/kcov.o:\tfile format elf64-x86-64

Disassembly of section .text:

0000000000000010 <__sanitizer_cov_trace_pc>:
      10:      \tcmpl\t$0x2, %ecx              # imm = 0x2
      13:      \tje\t0x19 <__sanitizer_cov_trace_pc+0x9>
      15:      \tlock
      16:      \tincq\t(%rax)
      18:      \tretq
      19:      \tmovq\t%rax, 0x8(%rcx,%rdx,8)
      1d:      \tretq
";

    #[test]
    fn instructions_are_found_with_where_they_jump() {
        let code = parse(LISTING).unwrap();
        let shown: Vec<_> = code.iter().map(|i| (i.offset, &*i.text)).collect();
        let expected = [
            (0, "cmpl    $0x2, %ecx"),
            (3, "je      9"),
            (5, "lock incq    (%rax)"),
            (8, "retq"),
            (9, "movq    %rax, 0x8(%rcx,%rdx,8)"),
            (13, "retq"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(parse("kernel/kcov.o:\tfile format elf64-x86-64\n"), None);
    }

    #[test]
    fn a_way_goes_where_its_jumps_go() {
        let code = parse(LISTING).unwrap();
        assert_eq!(walk(&code, &[false]).unwrap().len(), 4);
        assert_eq!(walk(&code, &[true]).unwrap().len(), 4);
        assert_eq!(walk(&code, &[true]).unwrap()[2].offset, 9);
        assert_eq!(walk(&code, &[]), None, "a jump that is not known of");
        assert_eq!(walk(&code, &[true, true]), None, "a jump that is not there");
    }
}
