// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real builds with the wrapper in the compilers' place: four build systems, two compilers. Each
//! program has to behave as it does without, and each of its parts has to be instrumented.
//!
//! A build whose tools are not on this machine is listed as ignored.

use libtest_mimic::{Arguments, Failed, Trial};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::{env, fs};

const RKCOV: &str = env!("CARGO_BIN_EXE_rkcov");
const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/projects/tally");

/// A C and a C++ compiler that belong together.
#[derive(Clone)]
struct Compilers {
    name: &'static str,
    cc: String,
    cxx: String,
}

impl Compilers {
    fn gcc() -> Self {
        Self {
            name: "gcc",
            cc: String::from("gcc"),
            cxx: String::from("g++"),
        }
    }

    /// Clang, the newest of those that have their version in the name if none has not.
    fn clang() -> Self {
        let version = std::iter::once(String::new())
            .chain((14..40).rev().map(|version| format!("-{version}")))
            .find(|version| is_there(&format!("clang++{version}")))
            .unwrap_or_default();
        Self {
            name: "clang",
            cc: format!("clang{version}"),
            cxx: format!("clang++{version}"),
        }
    }

    /// These compilers behind rkcov.
    fn wrapped(&self) -> Self {
        Self {
            cc: format!("{RKCOV} cc {}", self.cc),
            cxx: format!("{RKCOV} c++ {}", self.cxx),
            ..*self
        }
    }
}

fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// A folder for one test, empty, and what runs in it.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn new(test: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test.replace("::", "-"));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    fn file(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap();
    }

    /// A program that starts in the folder and sees nothing of rkcov's own settings.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .env("LC_ALL", "C");
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let foreign = [
                "RKCOV_", "CCACHE_", "MAKE", "CARGO", "CC", "CXX", "CFLAGS", "LDFLAGS",
            ];
            if foreign.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.env("CCACHE_DIR", self.dir.join("ccache"));
        command
    }

    /// Runs `line`, whose words are separated by spaces, and gives its output if it succeeds.
    fn run(&self, line: &str) -> Result<String, Failed> {
        self.run_with(line, &Compilers::gcc())
    }

    /// Runs a command whose words may have spaces in them.
    fn run_words(&self, words: &[&str]) -> Result<String, Failed> {
        let output = self.command(words[0]).args(&words[1..]).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("{words:?}: {}\n{errors}", output.status).into())
    }

    /// Runs `line` with `CC` and `CXX` set.
    fn run_with(&self, line: &str, compilers: &Compilers) -> Result<String, Failed> {
        let output = self.output(line, compilers)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        Err(format!("{line}: {}\n{text}{errors}", output.status).into())
    }

    fn output(&self, line: &str, compilers: &Compilers) -> Result<Output, Failed> {
        let words: Vec<&str> = line.split(' ').collect();
        let output = self
            .command(words[0])
            .args(&words[1..])
            .env("CC", &compilers.cc)
            .env("CXX", &compilers.cxx)
            .output()?;
        Ok(output)
    }

    /// Runs the project's program, checks what it prints, and that code of each of its parts was
    /// recorded: the program's own and its thread's, the library's, the plugin's, that of C++.
    fn check_tally(&self, program: &str, plugin: &str) -> Result<(), Failed> {
        let line = format!("{RKCOV} run -o trace.rkcov -- {program} {plugin} one-word");
        let printed = self.run(&line)?;
        same(
            "words 1\nweight 811\nlength 8\n",
            &printed,
            "what the program prints",
        )?;
        let report = self.run(&format!("{RKCOV} report trace.rkcov --format lcov"))?;
        for function in [
            "main",
            "count_words",
            "tally_words",
            "tally_weigh",
            "join_length",
        ] {
            let ran = |line: &str| {
                let data = line
                    .strip_prefix("FNDA:")
                    .and_then(|data| data.split_once(','));
                matches!(data, Some((count, name)) if name == function && count != "0")
            };
            if !report.lines().any(ran) {
                return Err(format!("{function}() is not in the report:\n{report}").into());
            }
        }
        Ok(())
    }

    /// Whether the code of `file` calls back.
    fn check_instrumented(&self, file: &str) -> Result<(), Failed> {
        let names = self.run(&format!("nm {file}"))?;
        let callbacks = [" __sanitizer_cov_trace_pc", " __rkcov_hit"];
        let calls = |line: &str| callbacks.iter().any(|name| line.contains(name));
        if names.lines().any(calls) {
            Ok(())
        } else {
            Err(format!("{file} is not instrumented").into())
        }
    }
}

fn same(expected: &str, found: &str, what: &str) -> Result<(), Failed> {
    if expected == found {
        return Ok(());
    }
    Err(format!("{what}\nexpected:\n{expected}\nfound:\n{found}").into())
}

fn make(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    let make = format!("make -j4 -f {PROJECT}/Makefile -e");
    place.run_with(&make, compilers)?;
    place.check_tally("./tally", "./weigh.so")
}

fn cmake(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    cmake_with(place, compilers, "-DCMAKE_BUILD_TYPE=Release")
}

fn cmake_lto(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    cmake_with(place, compilers, "-DLTO=ON")
}

fn cmake_with(place: &Place, compilers: &Compilers, option: &str) -> Result<(), Failed> {
    place.run_with(&format!("cmake -S {PROJECT} -B build {option}"), compilers)?;
    place.run("cmake --build build -j4")?;
    place.check_tally("build/tally", "build/weigh.so")
}

/// CMake finds the same compiler behind rkcov as without: its family, version, features, and what
/// it links by itself.
fn cmake_identification(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file(
        "CMakeLists.txt",
        "cmake_minimum_required(VERSION 3.16)\nproject(nothing C CXX)\n",
    );
    let found = |build: &str, compilers: &Compilers| {
        place.run_with(&format!("cmake -S . -B {build}"), compilers)?;
        let files = place.run(&format!(
            "find {build}/CMakeFiles -name CMakeC*Compiler.cmake"
        ))?;
        let mut facts = String::new();
        // The folder of the runtime's header is one that the compiler looks into.
        let header = format!(";{}", rkcov_cli::cache::runtime()?.display());
        for file in files.lines() {
            let text = fs::read_to_string(place.dir.join(file))?.replace(&header, "");
            for line in text.lines() {
                // The words of CC itself, and tools that cmake looks for by the compiler's file
                // name (llvm-ar-22 for clang-22).
                let differs = [
                    "COMPILER \"",
                    "COMPILER_ARG1",
                    "_AR ",
                    "_RANLIB ",
                    "_LINKER ",
                ];
                if !differs.iter().any(|word| line.contains(word)) {
                    facts.push_str(line);
                    facts.push('\n');
                }
            }
        }
        Ok::<_, Failed>(facts)
    };
    let plain = found("plain", compilers)?;
    let wrapped = found("wrapped", &compilers.wrapped())?;
    if !plain.contains("CMAKE_C_IMPLICIT_LINK_LIBRARIES") {
        return Err("cmake found nothing out".into());
    }
    same(&plain, &wrapped, "what cmake found out")
}

fn meson(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.run_with(&format!("meson setup build {PROJECT}"), compilers)?;
    place.run("ninja -C build")?;
    place.check_tally("build/tally", "build/weigh.so")
}

/// What `rkcov env` writes for CMake and for Meson does what the variables do, also from a folder
/// that no variable could name.
fn files_of_env(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.run_words(&["mkdir", "a b"])?;
    // No symbolic link: through one, a program is where the link points.
    place.run_words(&["cp", RKCOV, "a b/rkcov"])?;
    for (format, setup, build) in [
        (
            "cmake",
            format!(
                "cmake -S {PROJECT} -B with-cmake --toolchain {}/cmake",
                place.dir.display()
            ),
            "cmake --build with-cmake -j4",
        ),
        (
            "meson",
            format!(
                "meson setup --native-file {}/meson with-meson {PROJECT}",
                place.dir.display()
            ),
            "ninja -C with-meson",
        ),
    ] {
        let options = [
            &format!("--cc={}", compilers.cc),
            &format!("--cxx={}", compilers.cxx),
        ];
        let written = place.run_words(&[
            "a b/rkcov",
            "env",
            "--format",
            format,
            options[0],
            options[1],
        ])?;
        place.file(format, &written);
        place.run(&setup)?;
        place.run(build)?;
        place.check_tally(
            &format!("with-{format}/tally"),
            &format!("with-{format}/weigh.so"),
        )?;
    }
    let refused = place.command("a b/rkcov").arg("env").output()?;
    same(
        "Some(1)",
        &format!("{:?}", refused.status.code()),
        "CC with white space",
    )
}

/// Optimization across files, which instruments where it makes the code: in the compiler, in the
/// linker, or for gcc in a link that makes an object file again.
fn lto(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file("main.c", "int twice(int); int unused(int);\nint main(int argc, char **argv)\n{\n\treturn argv[argc] ? unused(2) : twice(argc) - 2;\n}\n");
    place.file(
        "twice.c",
        "int twice(int a)\n{\n\treturn a * 2;\n}\nint unused(int a)\n{\n\treturn a * 3;\n}\n",
    );
    let cc = compilers.wrapped().cc;
    let modes: &[&str] = match compilers.name {
        "gcc" => &[
            "-flto",
            "-flto=auto -fno-fat-lto-objects",
            "-flto -ffat-lto-objects",
        ],
        _ => &["-flto", "-flto=thin"],
    };
    for mode in modes {
        for level in ["-O1", "-O2"] {
            let mode = format!("{mode} {level}");
            place.run(&format!("{cc} {mode} -fno-inline -c main.c"))?;
            place.run(&format!("{cc} {mode} -fno-inline -c twice.c"))?;
            let linker = if compilers.name == "clang" {
                " -fuse-ld=lld"
            } else {
                ""
            };
            place.run(&format!("{cc} {mode} main.o twice.o -o main{linker}"))?;
            place.run(&format!("{RKCOV} run -o trace.rkcov -- ./main"))?;
            let report = place.run(&format!("{RKCOV} report trace.rkcov --format lcov"))?;
            let twice = report
                .split("end_of_record")
                .find(|file| file.contains("/twice.c\n"))
                .unwrap_or_default();
            let ran = |line: &str| twice.lines().any(|found| found == line);
            if !report.contains("FNDA:1,main\n") || !ran("DA:3,1") || ran("DA:7,1") {
                return Err(format!("{mode}\n{report}").into());
            }
        }
    }
    if compilers.name == "gcc" {
        place.run(&format!(
            "{cc} -flto -O1 -r -nostdlib -flinker-output=nolto-rel main.o twice.o -o all.o"
        ))?;
        place.check_instrumented("all.o")?;
    }
    Ok(())
}

/// automake and libtool, which also copies what it sees compilers link. The answers that configure
/// finds are those that it finds without rkcov.
fn autotools(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.run(&format!("cp -r {PROJECT} source"))?;
    place.run("autoreconf -fi source")?;
    let configure = |build: &str, compilers: &Compilers| {
        place.run(&format!("mkdir {build}"))?;
        let line = format!("env -C {build} ../source/configure --config-cache");
        place.run_with(&line, compilers)?;
        Ok::<_, Failed>(answers(&fs::read_to_string(
            place.dir.join(build).join("config.cache"),
        )?))
    };
    let plain = configure("plain", compilers)?;
    let wrapped = configure("wrapped", &compilers.wrapped())?;
    if plain.len() < 50 || plain != wrapped {
        return Err(format!("configure's answers differ:\n{plain:#?}\n{wrapped:#?}").into());
    }
    place.run("make -C wrapped -j4")?;
    place.check_tally("wrapped/tally", "wrapped/.libs/weigh.so")
}

/// The variables of a config.cache, without those that say what CC and CXX are.
fn answers(cache: &str) -> BTreeMap<String, String> {
    cache
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .filter(|(name, _)| !name.starts_with("ac_cv_env_") && !name.starts_with("ac_cv_prog_"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// ccache before the compiler, with rkcov before both: the second build comes from the cache.
fn ccache_behind(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file("a.c", "int main(void) { return 0; }\n");
    let compile = format!("{RKCOV} cc ccache {} -O2 -c a.c", compilers.cc);
    place.run(&compile)?;
    place.run(&compile)?;
    place.check_instrumented("a.o")?;
    same(
        "1",
        &cache_hits(place)?.to_string(),
        "hits in ccache's cache",
    )
}

/// How often ccache had what was asked for.
fn cache_hits(place: &Place) -> Result<u32, Failed> {
    let statistics = place.run("ccache --print-stats")?;
    let hits = statistics
        .lines()
        .filter(|line| {
            line.starts_with("direct_cache_hit") || line.starts_with("preprocessed_cache_hit")
        })
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u32>().ok());
    Ok(hits.sum())
}

/// ccache in front, told by its own variable to run rkcov.
fn ccache_in_front(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file("a.c", "int main(void) { return 0; }\n");
    // ccache takes one program in this variable; a script makes one of the words.
    place.file("wrapper", &format!("#!/bin/sh\nexec {RKCOV} cc \"$@\"\n"));
    place.run("chmod +x wrapper")?;
    // As CMake's COMPILER_LAUNCHER has it: rkcov is the compiler that ccache knows.
    for hits in [0, 1] {
        place.run(&format!("ccache {RKCOV} cc {} -O2 -c a.c", compilers.cc))?;
        place.check_instrumented("a.o")?;
        same(
            &hits.to_string(),
            &cache_hits(place)?.to_string(),
            "hits in ccache's cache",
        )?;
        place.run("rm a.o")?;
    }
    let prefix = place.dir.join("wrapper");
    let line = format!(
        "env CCACHE_PREFIX={} ccache {} -O2 -c a.c",
        prefix.display(),
        compilers.cc
    );
    place.run(&line)?;
    place.check_instrumented("a.o")
}

/// Static programs, position independent or not, with threads.
fn static_programs(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file("threads.c", THREADS);
    let cc = compilers.wrapped().cc;
    for options in [
        "-static",
        "-static-pie",
        "-static -flto -O2",
        "-no-pie -fno-pie",
        "-pie -fPIE -s",
    ] {
        let line = format!("{cc} -Wall -Werror threads.c -o threads -pthread {options}");
        place.run(&line)?;
        same("42\n", &place.run("./threads")?, options)?;
    }
    Ok(())
}

const THREADS: &str = "\
#include <pthread.h>
#include <stdio.h>
static void *work(void *arg) { return (char *)arg + 2; }
int main(void)
{
	pthread_t thread;
	void *result;
	if (pthread_create(&thread, 0, work, (void *)40) || pthread_join(thread, &result))
		return 1;
	printf(\"%ld\\n\", (long)result);
	return 0;
}
";

/// Sanitizers of the project's own find what they are there to find.
fn sanitizers(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file("threads.c", THREADS);
    place.file(
        "overflow.c",
        "int main(int argc, char **argv) { char a[4] = {0}; return argv[0] ? a[argc + 4] : 0; }\n",
    );
    let cc = compilers.wrapped().cc;
    for sanitizer in ["address", "thread", "undefined"] {
        place.run(&format!(
            "{cc} -fsanitize={sanitizer} threads.c -o {sanitizer} -pthread"
        ))?;
        same("42\n", &place.run(&format!("./{sanitizer}"))?, sanitizer)?;
    }
    place.run(&format!(
        "{cc} -fsanitize=address -g overflow.c -o overflow"
    ))?;
    let found = place.output("./overflow", compilers)?;
    let report = String::from_utf8_lossy(&found.stderr).into_owned();
    if report.contains("stack-buffer-overflow") && report.contains("overflow.c:1") {
        Ok(())
    } else {
        Err(format!("the address sanitizer does not see the overflow: {report}").into())
    }
}

/// Response files, nested, with what is compiled and linked in them.
fn response_files(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file("a b.c", "int main(void) { return 0; }\n");
    place.file("outer.rsp", "-O2 @inner.rsp -o program\n");
    place.file("inner.rsp", "'a b.c' -DX=\\\"y\\\"");
    let cc = compilers.wrapped().cc;
    place.run(&format!("{cc} @outer.rsp"))?;
    place.run("./program")?;
    place.check_instrumented("program")
}

/// A header that is compiled beforehand fits the sources that are compiled later.
fn precompiled_header(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file(
        "all.h",
        "#ifndef ALL_H\n#define ALL_H\n#include <stdio.h>\nstatic inline int two(void) { return 2; }\n#endif\n",
    );
    place.file(
        "main.c",
        "#include \"all.h\"\nint main(void) { return two() - 2; }\n",
    );
    let cc = compilers.wrapped().cc;
    let (header, used) = match compilers.name {
        "gcc" => ("all.h.gch", "-include all.h"),
        _ => ("all.h.pch", "-include-pch all.h.pch"),
    };
    place.run(&format!(
        "{cc} -Winvalid-pch -Werror -O2 -x c-header all.h -o {header}"
    ))?;
    place.run(&format!(
        "{cc} -Winvalid-pch -Werror -O2 {used} main.c -o main"
    ))?;
    place.run("./main")?;
    place.check_instrumented("main")
}

/// What compilers write beside the object (dependencies, intermediate files, split debug
/// information) has the names and, where no code is in it, the contents that it has without.
fn side_files(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file("a.h", "int a(int);\n");
    place.file("a.c", "#include \"a.h\"\nint a(int b) { return b + 1; }\n");
    for (line, same_text) in [
        ("-c a.c", ""),
        ("-c -o other.o a.c", ""),
        ("-S a.c", ""),
        ("-MD -c a.c", "a.d"),
        ("-MMD -MP -MF deps -MT target -c a.c", "deps"),
        ("-Wp,-MD,deps -c a.c", "deps"),
        ("-E a.c -o a.i", "a.i"),
        ("-g -gsplit-dwarf -c a.c", ""),
        ("-save-temps -c a.c", ""),
        ("-pipe -O2 -c a.c", ""),
        ("--coverage -c a.c", ""),
        ("-shared -fPIC a.c -o liba.so", ""),
        ("-r -nostdlib a.c -o all.o", ""),
    ] {
        let made = |compiler: &str| -> Result<BTreeMap<String, String>, Failed> {
            place.run("rm -rf made")?;
            place.run("mkdir made")?;
            place.run("cp a.c a.h made")?;
            place.run(&format!("env -C made {compiler} {line}"))?;
            let mut files = BTreeMap::new();
            for entry in fs::read_dir(place.dir.join("made"))? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let text = if name == same_text {
                    fs::read_to_string(entry.path())?
                } else {
                    String::new()
                };
                files.insert(name, text);
            }
            Ok(files)
        };
        let plain = made(&compilers.cc)?;
        let wrapped = made(&compilers.wrapped().cc)?;
        if plain != wrapped || (!same_text.is_empty() && plain[same_text].is_empty()) {
            return Err(format!("{line}\n{plain:#?}\n{wrapped:#?}").into());
        }
    }
    Ok(())
}

/// A function in which a callback is the last call is seen to run. A compiler that makes a jump of
/// such a call would let it return to the caller.
fn last_callbacks(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file(
        "main.c",
        "\
void nothing(void) {}
__attribute__((noinline)) void never(void) { __asm__ volatile(\"\"); }
int main(int argc, char **argv)
{
	void (*volatile call)(void) = nothing;
	(void)argv;
	call();
	if (argc > 1)
		never();
	return 0;
}
",
    );
    let cc = compilers.wrapped().cc;
    for level in ["-O0", "-O1", "-O2", "-Os"] {
        place.run(&format!("{cc} {level} main.c -o main"))?;
        place.run(&format!("{RKCOV} run -o trace.rkcov -- ./main"))?;
        let report = place.run(&format!("{RKCOV} report trace.rkcov --format lcov"))?;
        for line in ["FNDA:1,main", "FNDA:1,nothing", "FNDA:0,never"] {
            if !report.lines().any(|found| found == line) {
                return Err(format!("{level}: no {line} in\n{report}").into());
            }
        }
    }
    Ok(())
}

/// Whatever makes no code prints and returns what the compiler itself prints and returns.
fn transparency(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file(
        "good.c",
        "#include <stddef.h>\nint good(void) { return (int)offsetof(struct { int a, b; }, b); }\n",
    );
    place.file("bad.c", "int bad(void) { return undeclared; }\n");
    place.file("warns.c", "int warns(void) { int unused; return 0; }\n");
    place.file("start.s", "\t.text\n");
    for line in [
        "",
        "--version",
        "-v",
        "-###",
        "-dumpmachine",
        "-dumpversion",
        "-print-search-dirs",
        "-print-file-name=libc.so",
        "-Wl,--version",
        "--help",
        "-V",
        "-qversion",
        "--no-such-option",
        "-E good.c",
        "-M good.c",
        "-MM good.c",
        "-E -dM good.c",
        "-fsyntax-only good.c",
        "-fsyntax-only bad.c",
        "-c bad.c",
        "-Wall -Werror -c warns.c",
        "-Wall -c warns.c",
        "-Werror -c good.c",
        "-c start.s -Werror",
        "-c missing.c",
        "-c good.c -o",
        "-c @missing.rsp",
        "-fno-such-feature -c good.c",
    ] {
        let plain = place.output(&format!("{} {line}", compilers.cc), compilers)?;
        let wrapped = place.output(&format!("{} {line}", compilers.wrapped().cc), compilers)?;
        // Temporary files have a new name each time.
        let shown = |output: &Output| {
            let text = [&output.stdout[..], &output.stderr[..]].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            let steady = |word: &str| !word.contains("/tmp/");
            let words: Vec<&str> = text
                .split([' ', '\n'])
                .filter(|word| steady(word))
                .collect();
            format!("{:?} {}", output.status, words.join(" "))
        };
        same(&shown(&plain), &shown(&wrapped), line)?;
    }
    Ok(())
}

/// Names and places of the compiler: by path, by variable, by option; and what cannot be run.
fn choice_of_compiler(place: &Place, compilers: &Compilers) -> Result<(), Failed> {
    place.file("a.c", "int a(void) { return 0; }\n");
    let full = place.run(&format!("which {}", compilers.cc))?;
    let full = full.trim();
    for line in [
        format!("{RKCOV} cc {full} -c a.c"),
        format!("{RKCOV} cc --compiler {full} -c a.c"),
        format!("{RKCOV} cc --compiler={} -- -c a.c", compilers.cc),
        format!("env RKCOV_CC={full} {RKCOV} cc -c a.c"),
        format!("env RKCOV_CCFLAGS=--compiler={full} {RKCOV} cc -c a.c"),
    ] {
        place.run(&line)?;
        place.check_instrumented("a.o")?;
        place.run("rm a.o")?;
    }
    for (line, status) in [
        ("--compiler no-such-compiler", 127),
        ("--compiler /", 126),
        ("--compiler /bin/cat -c a.c", 1),
        (&format!("--compiler {RKCOV}"), 126),
    ] {
        let output = place.output(&format!("{RKCOV} cc {line}"), compilers)?;
        same(
            &format!("{status}"),
            &format!("{}", output.status.code().unwrap_or(-1)),
            line,
        )?;
    }
    let bad = place.output(&format!("env RKCOV_CCFLAGS=-c {RKCOV} cc a.c"), compilers)?;
    same(
        "Some(2)",
        &format!("{:?}", bad.status.code()),
        "nonsense in RKCOV_CCFLAGS",
    )
}

type Test = fn(&Place, &Compilers) -> Result<(), Failed>;

/// Name, tools, whether the compilers are wrapped for it, and what it does.
const TESTS: &[(&str, &[&str], bool, Test)] = &[
    ("make", &["make"], true, make),
    ("cmake", &["cmake"], true, cmake),
    ("cmake_lto", &["cmake"], true, cmake_lto),
    (
        "cmake_identification",
        &["cmake"],
        false,
        cmake_identification,
    ),
    ("meson", &["meson", "ninja"], true, meson),
    (
        "files_of_env",
        &["cmake", "meson", "ninja"],
        false,
        files_of_env,
    ),
    ("lto", &[], false, lto),
    ("autotools", &["autoreconf", "libtoolize"], false, autotools),
    ("ccache_behind", &["ccache"], false, ccache_behind),
    ("ccache_in_front", &["ccache"], false, ccache_in_front),
    ("static_programs", &[], false, static_programs),
    ("sanitizers", &[], false, sanitizers),
    ("response_files", &[], false, response_files),
    ("precompiled_header", &[], false, precompiled_header),
    ("side_files", &[], false, side_files),
    ("last_callbacks", &[], false, last_callbacks),
    ("transparency", &[], false, transparency),
    ("choice_of_compiler", &[], false, choice_of_compiler),
];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for compilers in [Compilers::gcc(), Compilers::clang()] {
        for &(name, tools, wrapped, test) in TESTS {
            let name = format!("{}::{name}", compilers.name);
            let mut needed = tools.iter().copied().chain([&*compilers.cxx]);
            let missing = needed.find(|tool| !is_there(tool));
            let compilers = if wrapped {
                compilers.wrapped()
            } else {
                compilers.clone()
            };
            let place = name.clone();
            let trial = Trial::test(name, move || test(&Place::new(&place), &compilers))
                .with_kind(missing.map_or_else(String::new, |tool| format!("no {tool}")))
                .with_ignored_flag(missing.is_some());
            trials.push(trial);
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
