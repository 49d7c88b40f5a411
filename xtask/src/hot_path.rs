// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs for one callback in a kernel, with either kcov: its instructions on x86-64, and its time in User Mode Linux.

use crate::shell::{self, Error};
use crate::{root, target_dir};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Options of `cargo xtask hot-path`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tree of the kernels, in the place of Debian's Linux 6.12
    #[arg(long, value_name = "DIR", conflicts_with = "write")]
    tree: Option<PathBuf>,
    /// A file with lines as CONFIG_X=y for the kernels' configuration; may be repeated
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Write docs/hot-path.md
    #[arg(long)]
    write: bool,
}

const PAGE: &str = "docs/hot-path.md";
/// What `rkcov-guests hot-path --write` measured.
const TIMES: &str = "guests/results/hot-path.csv";

/// A kcov, and what its callbacks are.
struct Kcov {
    name: &'static str,
    word: &'static str,
    object: &'static str,
    pc: Callback,
    comparison: Callback,
}

/// A callback, and which of its conditional jumps are taken on the way.
struct Callback {
    /// The functions that it consists of. The first is called.
    functions: &'static [&'static str],
    idle: &'static [bool],
    records: &'static [bool],
    full: &'static [bool],
}

const C: Kcov = Kcov {
    name: "C",
    word: "c",
    object: "kernel/kcov.o",
    pc: Callback {
        functions: &["__sanitizer_cov_trace_pc"],
        idle: &[true, true],
        records: &[true, false, false],
        full: &[true, false, true],
    },
    comparison: Callback {
        functions: &["__sanitizer_cov_trace_cmp8", "write_comp_data"],
        idle: &[true, true],
        records: &[true, false, false, false],
        full: &[true, false, true],
    },
};
const RUST: Kcov = Kcov {
    name: "Rust",
    word: "rust",
    object: "kernel/rkcov/kcov_rust.o",
    pc: Callback {
        functions: &["__sanitizer_cov_trace_pc"],
        idle: &[false, true],
        records: &[true, true, false],
        full: &[true, true, true],
    },
    comparison: Callback {
        functions: &["__sanitizer_cov_trace_cmp8"],
        idle: &[false, true],
        records: &[true, false, false],
        full: &[true, false, true],
    },
};

/// Builds both x86-64 kernels if they are not there, counts, and compares.
///
/// # Errors
/// The Rust kcov runs more instructions than the C one or calls something, or the code has another
/// shape than is known here.
pub fn run(args: &Args) -> Result<(), Error> {
    let c = measure(&C, args)?;
    let rust = measure(&RUST, args)?;
    if args.write {
        fs::write(root().join(PAGE), page(&c, &rust)?)?;
    } else {
        print!("{}", table(&c, &rust));
    }
    if ways(&rust).iter().zip(ways(&c)).any(|(rust, c)| *rust > c) {
        return Err("the Rust kcov's hot path is longer than the C kcov's".into());
    }
    Ok(())
}

/// What is known of a callback.
struct Measured {
    code: Vec<Instruction>,
    idle: usize,
    records: usize,
    full: usize,
}

/// The numbers of instructions on all ways of both callbacks.
fn ways(callbacks: &[Measured; 2]) -> Vec<usize> {
    let ways = |callback: &Measured| [callback.idle, callback.records, callback.full];
    callbacks.iter().flat_map(ways).collect()
}

/// The callbacks for a PC and for a comparison.
fn measure(kcov: &Kcov, args: &Args) -> Result<[Measured; 2], Error> {
    let object = build_folder(kcov.word, args)?.join(kcov.object);
    Ok([count(&kcov.pc, &object)?, count(&kcov.comparison, &object)?])
}

fn count(callback: &Callback, object: &Path) -> Result<Measured, Error> {
    let [entry, ..] = callback.functions else {
        return Err("a callback of no functions".into());
    };
    let code = disassemble(object, callback.functions)?;
    let shape = |what: &str| format!("{}: {entry}(): {what}", object.display());
    if let Some(call) = code.iter().find(|i| i.text.starts_with("call")) {
        return Err(shape(&format!("it calls: {}", call.text)).into());
    }
    let way = |taken, what: &str| {
        walk(&code, entry, taken).ok_or_else(|| shape(&format!("no way for {what}")))
    };
    let idle = way(callback.idle, "a task that is idle")?;
    let records = way(callback.records, "a record")?;
    let full = way(callback.full, "a full buffer")?;
    // A record is stored behind the count, and nothing else is stored there. Whether there is room is the
    // last question, and an unsigned comparison.
    let stores = |way: &[&Instruction]| way.iter().any(|i| i.text.contains(", 0x8(%"));
    let asks_for_room = |way: &[&Instruction]| {
        let last = way.iter().rfind(|i| i.is_conditional());
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
fn build_folder(kcov: &str, args: &Args) -> Result<PathBuf, Error> {
    let mut build = Command::new(target_dir().join("debug/rkcov"));
    build.args(["linux", "build", "--kcov", kcov]);
    if let Some(tree) = &args.tree {
        build.arg("--tree").arg(tree);
    }
    for file in &args.config {
        build.arg("--config").arg(file);
    }
    let kernel = shell::read(&mut build)?;
    // image/FLAVOR/kernel
    let version = Path::new(kernel.trim()).ancestors().nth(3);
    let version = version.ok_or("`rkcov linux build` does not say where")?;
    Ok(version.join("build/x86-64"))
}

/// One instruction.
#[derive(Debug, PartialEq, Eq)]
struct Instruction {
    address: u64,
    /// Where its function begins.
    function: Start,
    text: String,
    /// Where a jump goes to.
    target: Option<u64>,
}

/// A function's name and address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Start {
    name: String,
    address: u64,
}

impl Instruction {
    fn is_conditional(&self) -> bool {
        self.target.is_some() && !self.text.starts_with("jmp")
    }
}

fn disassemble(object: &Path, functions: &[&str]) -> Result<Vec<Instruction>, Error> {
    let mut objdump = Command::new("llvm-objdump-22");
    objdump
        .arg("--no-show-raw-insn")
        .arg(format!("--disassemble-symbols={}", functions.join(",")))
        .arg(object);
    let code = parse(&shell::read(&mut objdump)?);
    let is_there = |name: &&&str| code.iter().any(|i| i.function.name == **name);
    match functions.iter().find(|name| !is_there(name)) {
        Some(name) => Err(format!("{}: no {name}()", object.display()).into()),
        None => Ok(code),
    }
}

/// The instructions in what objdump prints: `ADDRESS <FUNCTION>:`, then `ADDRESS: \tNAME\tOPERANDS # COMMENT`.
fn parse(listing: &str) -> Vec<Instruction> {
    let mut code: Vec<Instruction> = Vec::new();
    let mut function = None;
    for line in listing.lines() {
        if let Some(start) = start(line) {
            function = Some(start);
        }
        let (Some(function), Some((address, text))) = (&function, line.trim().split_once(':'))
        else {
            continue;
        };
        let Ok(address) = u64::from_str_radix(address, 16) else {
            continue;
        };
        let text = text.split('#').next().unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        let target = match &words[..] {
            [_, target, place] if place.starts_with('<') => hexadecimal(target),
            _ => None,
        };
        let text = match (&words[..], target) {
            ([], _) => continue,
            ([name, _, place], Some(target)) => {
                let name_of_place = place.trim_matches(['<', '>']);
                let inside = name_of_place.strip_prefix(&function.name);
                match inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('+')) {
                    true => format!("{name:<8}{:x}", target - function.address),
                    false => format!("{name:<8}{name_of_place}"),
                }
            }
            ([name, operands @ ..], _) => format!("{name:<8}{}", operands.join(" ")),
        };
        match code.last_mut() {
            // A prefix is shown on a line of its own.
            Some(last) if last.text.trim() == "lock" => last.text = format!("lock {text}"),
            _ => code.push(Instruction {
                address,
                function: function.clone(),
                text: text.trim_end().to_owned(),
                target,
            }),
        }
    }
    code
}

/// Where a function begins, of `ADDRESS <FUNCTION>:`.
fn start(line: &str) -> Option<Start> {
    let (address, name) = line.split_once(" <")?;
    Some(Start {
        name: name.strip_suffix(">:")?.to_owned(),
        address: u64::from_str_radix(address, 16).ok()?,
    })
}

fn hexadecimal(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

/// The instructions that run from the begin of a function, if the conditional jumps on the way go so.
fn walk<'c>(
    code: &'c [Instruction],
    function: &str,
    taken: &[bool],
) -> Option<Vec<&'c Instruction>> {
    let at = |address| code.iter().position(|i| i.address == address);
    let mut taken = taken.iter();
    let mut way = Vec::new();
    let mut next = code.iter().position(|i| i.function.name == function)?;
    // No way is longer than all there is, unless it goes in a circle.
    while way.len() <= code.len() {
        let instruction = code.get(next)?;
        way.push(instruction);
        next += 1;
        if instruction.text.starts_with("ret") {
            return taken.next().is_none().then_some(way);
        }
        if let Some(target) = instruction.target {
            if !instruction.is_conditional() || *taken.next()? {
                next = at(target)?;
            }
        }
    }
    None
}

fn table(c: &[Measured; 2], rust: &[Measured; 2]) -> String {
    let mut table = String::from(
        "| | C | Rust |\n\
         | --- | --- | --- |\n",
    );
    let whats = [
        "a block of code; the task collects nothing",
        "a PC is recorded",
        "the buffer is full of PCs (the Rust kcov counts the loss)",
        "a comparison of 8 bytes; the task collects nothing",
        "a comparison is recorded",
        "the buffer is full of comparisons",
    ];
    for ((what, c), rust) in whats.iter().zip(ways(c)).zip(ways(rust)) {
        table += &format!("| {what} | {c} | {rust} |\n");
    }
    table
}

fn page(c: &[Measured; 2], rust: &[Measured; 2]) -> Result<String, Error> {
    let clang = version("clang-22")?;
    let rustc = version("/usr/bin/rustc")?;
    let mut page = format!(
        "# The hot path\n\
         \n\
         `cargo xtask hot-path --write` writes this page. [The reasons for this code](linux.md#the-hot-path).\n\
         \n\
         ## Instructions\n\
         \n\
         The number of instructions of one callback on x86-64 (`__sanitizer_cov_trace_pc()`, \
         `__sanitizer_cov_trace_cmp8()`),\n\
         with either kcov in the same kernel, compiled by {clang} and {rustc}. \
         Without `--write` the command counts\n\
         and fails if the Rust kcov runs more instructions than the C kcov, or if either calls a function.\n\
         \n\
         {}\n",
        table(c, rust)
    );
    page += &times(&fs::read_to_string(root().join(TIMES))?)?;
    for (kcov, measured) in [(&RUST, rust), (&C, c)] {
        write!(page, "\n## The code: {}\n", kcov.name)?;
        for callback in measured {
            let functions = callback.code.chunk_by(|a, b| a.function == b.function);
            for function in functions {
                let Start { name, address } = &function[0].function;
                write!(page, "\n`{name}()`:\n\n```text\n")?;
                for instruction in function {
                    let offset = instruction.address - address;
                    writeln!(page, "{offset:<6x}{}", instruction.text)?;
                }
                page.push_str("```\n");
            }
        }
    }
    Ok(page)
}

/// The section of times, from the rows `boot,kcov,release,state,callbacks,nanoseconds`.
fn times(rows: &str) -> Result<String, Error> {
    const STATES: [(&str, &str); 5] = [
        ("idle", "the task collects nothing"),
        ("pc", "PCs are recorded"),
        ("pc-full", "the buffer is full of PCs"),
        ("comparison", "comparisons are recorded"),
        ("comparison-full", "the buffer is full of comparisons"),
    ];
    let rows: Vec<Vec<&str>> = rows
        .lines()
        .skip(1)
        .map(|row| row.split(',').collect())
        .collect();
    let medians = |kcov: &str, state: &str| -> Result<[u64; 2], Error> {
        let mut found = [Vec::new(), Vec::new()];
        for row in &rows {
            if let [_, its, _, is, callbacks, time] = row[..] {
                if its == kcov && is == state {
                    found[0].push(callbacks.parse::<u64>()?);
                    found[1].push(time.parse::<u64>()?);
                }
            }
        }
        let [callbacks, times] = &mut found;
        callbacks.sort_unstable();
        times.sort_unstable();
        let middle = |sorted: &[u64]| sorted.get(sorted.len() / 2).copied();
        match (middle(callbacks), middle(times)) {
            (Some(callbacks), Some(time)) => Ok([callbacks, time]),
            _ => Err(format!("{TIMES} has no rows of {kcov}, {state}").into()),
        }
    };
    let releases: Vec<&str> = rows
        .iter()
        .filter(|row| matches!(row[..], [_, "rust", _, "idle", ..]))
        .map(|row| row[2])
        .collect();
    let boots = releases.len();
    let release = releases
        .first()
        .ok_or_else(|| format!("{TIMES} has no rows"))?;
    let mut text = format!(
        "## Time\n\
         \n\
         The time of one system call, in User Mode Linux (Linux {release}), whose kernel runs natively: `poll()` of 1,000 descriptors. \
         Medians of {boots} boots\n\
         of each kernel, in turn, with 200 calls in each state in each boot. \
         `cargo run --release -p rkcov-guests -- hot-path --write` measures it; the rows\n\
         are in [`{TIMES}`](../{TIMES}).\n\
         \n\
         | | callbacks that record or find no room | C, µs | Rust, µs | Rust / C |\n\
         | --- | --- | --- | --- | --- |\n"
    );
    for (state, what) in STATES {
        let [[callbacks, c], [_, rust]] = [medians("c", state)?, medians("rust", state)?];
        let [c, rust] = [c, rust].map(|time| time as f64 / 1000.0);
        let ratio = rust / c;
        let callbacks = match state {
            "idle" => "-".to_owned(),
            _ => callbacks.to_string(),
        };
        writeln!(
            text,
            "| {what} | {callbacks} | {c:.1} | {rust:.1} | {ratio:.2} |"
        )?;
    }
    Ok(text)
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

0000000000000020 <another>:
      20:      \tjmp\t0x19 <__sanitizer_cov_trace_pc+0x9>
";

    #[test]
    fn instructions_are_found_with_where_they_jump() {
        let code = parse(LISTING);
        let shown: Vec<_> = code.iter().map(|i| (i.address, &*i.text)).collect();
        let expected = [
            (0x10, "cmpl    $0x2, %ecx"),
            (0x13, "je      9"),
            (0x15, "lock incq    (%rax)"),
            (0x18, "retq"),
            (0x19, "movq    %rax, 0x8(%rcx,%rdx,8)"),
            (0x1d, "retq"),
            (0x20, "jmp     __sanitizer_cov_trace_pc+0x9"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(code[6].function.name, "another");
        assert_eq!(code[6].target, Some(0x19));
        assert_eq!(parse("kernel/kcov.o:\tfile format elf64-x86-64\n"), []);
    }

    #[test]
    fn a_way_goes_where_its_jumps_go() {
        const PC: &str = "__sanitizer_cov_trace_pc";
        let code = parse(LISTING);
        assert_eq!(walk(&code, PC, &[false]).unwrap().len(), 4);
        assert_eq!(walk(&code, PC, &[true]).unwrap().len(), 4);
        assert_eq!(walk(&code, PC, &[true]).unwrap()[2].address, 0x19);
        assert_eq!(walk(&code, "another", &[]).unwrap().len(), 3);
        assert_eq!(walk(&code, PC, &[]), None, "a jump that is not known of");
        assert_eq!(
            walk(&code, PC, &[true, true]),
            None,
            "a jump that is not there"
        );
    }

    #[test]
    fn times_are_medians_of_boots() {
        let mut rows = String::from("boot,kcov,release,state,callbacks,nanoseconds\n");
        for (kcov, factor) in [("c", 2), ("rust", 1)] {
            for state in ["idle", "pc", "pc-full", "comparison", "comparison-full"] {
                for boot in [3, 1, 2] {
                    rows += &format!("{boot},{kcov},6.12.3,{state},7,{}\n", boot * factor * 1000);
                }
            }
        }
        let text = times(&rows).unwrap();
        assert!(text.contains("Medians of 3 boots"), "{text}");
        assert!(
            text.contains("| PCs are recorded | 7 | 4.0 | 2.0 | 0.50 |"),
            "{text}"
        );
        assert!(times("").is_err());
    }
}
