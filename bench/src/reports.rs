// SPDX-License-Identifier: MIT OR Apache-2.0
//! What reports of large programs cost: addresses of a kernel beside other tools and libraries that look
//! addresses up, and whole reports.

use crate::build::Bench;
use crate::measure::{Candidate, Clock};
use crate::programs::measured;
use rkcov_report::image::{build_id_of, code_of};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::shell::{self, Error};

/// The addresses of all sites of a kernel, and of as many as a short run has.
pub(crate) const ALL: &str = "all";
pub(crate) const SOME: &str = "a tenth";

/// Addresses of a large program in C++, so many bytes from each other.
pub(crate) const LARGE: &str = "large";
const EVERY: usize = 64;

/// What is reported: for the first time, and again.
pub(crate) const KERNEL: [&str; 2] = ["kernel", "kernel again"];
pub(crate) const GENERATED: [&str; 2] = ["1000000 sites", "1000000 sites again"];

/// What the second names end with.
const AGAIN: &str = " again";

/// Tools that look addresses up, and how each is started: `$1` is the file.
const TOOLS: [(&str, &str); 2] = [
    ("addr2line", "exec addr2line -fi -e \"$1\""),
    (
        "llvm-symbolizer",
        "exec llvm-symbolizer --output-style=GNU -e \"$1\"",
    ),
];

/// Libraries.
const LIBRARIES: [&str; 4] = ["rkcov", "crate addr2line", "blazesym", "wholesym"];

/// Reports.
const REPORTS: [(&str, &[&str]); 5] = [
    ("text", &["--format", "text"]),
    (
        "text `--source`",
        &["--format", "text", "--source", "--full"],
    ),
    ("lcov", &["--format", "lcov"]),
    ("json", &["--format", "json"]),
    ("html", &["--format", "html"]),
];

/// Everything that is measured here.
///
/// # Errors
/// Something does not build.
pub(crate) fn candidates(
    bench: &Bench,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Candidate>, Error> {
    let folder = bench.out.join("reports");
    fs::create_dir_all(&folder)?;
    let clock = Clock::System(measured(bench)?);
    let candidate = |program: &str, variant: &str, line: Vec<PathBuf>| Candidate {
        program: program.into(),
        variant: variant.into(),
        clock: clock.clone(),
        layouts: vec![line],
        leaves: None,
        result: None,
    };
    let mut found = Vec::new();
    let kernel = kernel();
    let mut look_up = |name: &str, file: &Path, addresses: &[u64]| -> Result<(), Error> {
        let list = folder.join(format!("addresses-{name}").replace(' ', "-"));
        let mut text = String::new();
        for address in addresses {
            let _ = writeln!(text, "{address:#x}");
        }
        fs::write(&list, text)?;
        let from = |script: &str| -> Vec<PathBuf> {
            let script = format!("{script} <\"$2\" >/dev/null");
            let words = ["/bin/sh", "-c", &script, "sh"].map(PathBuf::from);
            words
                .into_iter()
                .chain([file.into(), list.clone()])
                .collect()
        };
        for (tool, script) in TOOLS {
            found.push(candidate(name, tool, from(script)));
        }
        let libraries = libraries(bench)?;
        for library in LIBRARIES {
            let word = library.trim_start_matches("crate ");
            let script = format!("exec '{}' {word} \"$1\"", libraries.display());
            found.push(candidate(name, library, from(&script)));
        }
        Ok(())
    };
    if let Some(kernel) = kernel.as_ref().filter(|_| wanted(ALL) || wanted(SOME)) {
        // The calls, not where they return to.
        let calls: Vec<u64> = sites_of(kernel)?.iter().map(|site| site - 1).collect();
        for (name, nth) in [(ALL, 1), (SOME, 10)] {
            if wanted(name) {
                let some: Vec<u64> = calls.iter().step_by(nth).copied().collect();
                look_up(name, kernel, &some)?;
            }
        }
    }
    if wanted(LARGE) {
        let (program, debug) = large(&folder)?;
        let code = code_of(&program)?.text.into_iter();
        let every: Vec<u64> = code.flat_map(|text| text.step_by(EVERY)).collect();
        look_up(LARGE, &debug, &every)?;
    }
    let mut report = |program: &str, script: &str, of: &[PathBuf]| -> Result<(), Error> {
        for (variant, options) in REPORTS.into_iter().filter(|_| wanted(program)) {
            // A folder for what is kept that nobody else writes to.
            let name = program.trim_end_matches(AGAIN);
            let kept = folder.join(format!("kept-{name}-{variant}").replace([' ', '`'], ""));
            let mut cache = OsString::from("RKCOV_CACHE_DIR=");
            cache.push(kept);
            let mut line: Vec<PathBuf> = vec!["/usr/bin/env".into(), cache.into()];
            line.extend(["/bin/sh", "-c", script, "sh"].map(PathBuf::from));
            line.extend([bench.command("rkcov"), "report".into()]);
            line.extend(options.iter().map(PathBuf::from));
            line.push("-o".into());
            line.push(folder.join(if variant == "html" { "html" } else { "report" }));
            line.extend(of.iter().cloned());
            if program.ends_with(AGAIN) {
                // The first report, should it not be measured.
                shell::run(Command::new(&line[0]).args(&line[1..]))?;
            }
            found.push(candidate(program, variant, line));
        }
        Ok(())
    };
    let mut reports = |[first, again]: [&str; 2], of: &[PathBuf]| {
        report(first, "rm -rf \"$RKCOV_CACHE_DIR\"; exec \"$@\"", of)?;
        report(again, "exec \"$@\"", of)
    };
    let any = |programs: [&str; 2]| programs.into_iter().any(wanted);
    if let Some(kernel) = kernel.as_ref().filter(|_| any(KERNEL)) {
        let list = folder.join("sites");
        let sites = sites_of(kernel)?;
        let text: Vec<String> = sites
            .iter()
            .step_by(10)
            .map(|pc| format!("{pc:#x}\n"))
            .collect();
        fs::write(&list, text.concat())?;
        let words = ["--pcs".into(), list, "--image".into(), kernel.clone()];
        reports(KERNEL, &words)?;
    }
    if any(GENERATED) {
        let trace = generated(bench, &folder.join("sites-1000000"))?;
        reports(GENERATED, &[trace])?;
    }
    Ok(found)
}

/// The kernel with debug information that `rkcov linux` has built, if there is one.
pub(crate) fn kernel() -> Option<PathBuf> {
    let cache = |variable, below| Some(PathBuf::from(std::env::var_os(variable)?).join(below));
    let cache = cache("RKCOV_CACHE_DIR", "")
        .or_else(|| cache("XDG_CACHE_HOME", "rkcov"))
        .or_else(|| cache("HOME", ".cache/rkcov"))?;
    let below = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    let images = below(cache.join("linux")).map(|version| version.path().join("image"));
    let kernels = images
        .flat_map(below)
        .map(|image| image.path().join("vmlinux"));
    kernels.filter(|kernel| kernel.is_file()).max()
}

/// A large program in C++ and its debug information, as Debian has them.
fn large(folder: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let (program, debug) = ("ceph-osd", "ceph-osd-dbg");
    let unpacked = folder.join(program);
    if !unpacked.is_dir() {
        let packages = folder.join("packages");
        fs::create_dir_all(&packages)?;
        let mut fetch = Command::new("apt-get");
        fetch.args(["download", "--quiet", program, debug]);
        shell::run(fetch.current_dir(&packages))?;
        for package in fs::read_dir(&packages)? {
            let mut unpack = Command::new("dpkg");
            unpack.arg("-x").arg(package?.path()).arg(&unpacked);
            shell::run(&mut unpack)?;
        }
        fs::remove_dir_all(&packages)?;
    }
    let program = unpacked.join("usr/bin").join(program);
    let id = build_id_of(&program)
        .ok_or("not a linked file")?
        .to_string();
    let (first, rest) = id.split_at_checked(2).ok_or("no build id")?;
    let folder = unpacked.join("usr/lib/debug/.build-id").join(first);
    Ok((program, folder.join(format!("{rest}.debug"))))
}

/// Where the callbacks of a kernel return to.
fn sites_of(kernel: &Path) -> Result<Vec<u64>, Error> {
    let mut objdump = Command::new("objdump");
    objdump
        .args(["--disassemble", "--no-show-raw-insn"])
        .arg(kernel);
    let text = shell::read(&mut objdump)?;
    let mut sites = Vec::new();
    let mut called = false;
    for line in text.lines() {
        if let Some((address, instruction)) = line.split_once(':') {
            if let (true, Ok(address)) = (called, u64::from_str_radix(address.trim(), 16)) {
                sites.push(address);
            }
            called =
                instruction.contains("call") && instruction.ends_with("<__sanitizer_cov_trace_pc>");
        }
    }
    match sites.len() {
        0 => Err(format!("{}: no callbacks", kernel.display()).into()),
        _ => Ok(sites),
    }
}

/// The program that looks addresses up by a library.
fn libraries(bench: &Bench) -> Result<PathBuf, Error> {
    let target = bench.out.join("symbolizers");
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--manifest-path",
    ]);
    cargo.arg(Bench::here("symbolizers").join("Cargo.toml"));
    shell::run(cargo.env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join("release/rkcov-bench-symbolizers"))
}

/// Source files of the generated program, and functions of each.
const FILES: u32 = 100;
const FUNCTIONS: u32 = 500;

/// The trace of a program that has a million sites, of which about half are run.
fn generated(bench: &Bench, folder: &Path) -> Result<PathBuf, Error> {
    let trace = folder.join("program.rkcov");
    if trace.is_file() {
        return Ok(trace);
    }
    fs::create_dir_all(folder)?;
    let mut link = bench.compiler(&["rkcov", "cc", "gcc"]);
    for file in 0..=FILES {
        let name = format!("{file}.c");
        let text = if file == FILES {
            main_file()
        } else {
            source(file)
        };
        fs::write(folder.join(&name), text)?;
        let mut compile = bench.compiler(&["rkcov", "cc", "gcc", "-O0", "-g", "-c"]);
        shell::run(compile.arg(name).current_dir(folder))?;
        link.arg(format!("{file}.o"));
    }
    shell::run(link.args(["-o", "program"]).current_dir(folder))?;
    let mut run = Command::new(bench.command("rkcov"));
    run.args(["run", "-o"])
        .arg(&trace)
        .args(["--", "./program"]);
    shell::run(run.current_dir(folder))?;
    Ok(trace)
}

fn source(file: u32) -> String {
    let mut text = String::from(
        "static inline __attribute__((always_inline)) unsigned step(unsigned x, unsigned k)\n\
         {\n    if (x & k)\n        return x * 5 + k;\n    return x ^ k;\n}\n",
    );
    for function in 0..FUNCTIONS {
        let _ = write!(text, "static unsigned f{function}(unsigned x)\n{{\n");
        for k in 0..8 {
            let (divisor, rest, n) = (k + 3, k % 3, function * 7 + k);
            let _ = write!(
                text,
                "    if (x % {divisor} == {rest})\n        x += {n};\n"
            );
        }
        let _ = write!(
            text,
            "    x = step(x, {});\n    return x;\n}}\n",
            function + 1
        );
    }
    let _ = write!(text, "unsigned group{file}(unsigned x)\n{{\n");
    for function in 0..FUNCTIONS {
        let _ = writeln!(text, "    x = f{function}(x);");
    }
    text.push_str("    return x;\n}\n");
    text
}

fn main_file() -> String {
    let mut text = String::new();
    for file in 0..FILES {
        let _ = writeln!(text, "unsigned group{file}(unsigned);");
    }
    text.push_str("int main(void)\n{\n    unsigned x = 1;\n");
    for file in 0..FILES {
        // Every second one does not run.
        let _ = match file % 2 {
            0 => writeln!(text, "    x = group{file}(x);"),
            _ => write!(text, "    if (x == {file})\n        x = group{file}(x);\n"),
        };
    }
    text.push_str("    return 0;\n}\n");
    text
}
