// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs that are measured.

use crate::build::Bench;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use xtask::shell::Error;
use xtask::{sources, work_dir};

/// A program under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Inflates, in C.
    Zlib,
    /// Parses and writes JSON, in C.
    CJson,
    /// Packs and unpacks, in C.
    Bzip2,
    /// SQLite's own benchmark.
    Sqlite,
    /// An interpreter, in C.
    Lua,
    /// Threads that share a loop, in C.
    Threads,
    /// That many functions with branches, in C, one after the other.
    Sites(u32),
    /// A start and an end, in C.
    Empty,
    /// Inflates, in Rust.
    MinizOxide,
    /// Parses and writes JSON, in Rust.
    SerdeJson,
    /// Turns Markdown into HTML, in Rust.
    PulldownCmark,
    /// Packs and unpacks, in Rust.
    Brotli,
    /// Threads that share a loop, in Rust.
    RustThreads,
}

/// What a program in C is made of.
#[derive(Debug)]
pub(crate) struct InC {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) flags: Vec<String>,
}

impl Program {
    /// The programs in C of which a run is measured.
    pub(crate) const IN_C: [Self; 6] = [
        Self::Zlib,
        Self::CJson,
        Self::Bzip2,
        Self::Sqlite,
        Self::Lua,
        Self::Empty,
    ];
    /// The programs in Rust of which a run is measured.
    pub(crate) const IN_RUST: [Self; 4] = [
        Self::MinizOxide,
        Self::SerdeJson,
        Self::PulldownCmark,
        Self::Brotli,
    ];

    /// The name in the rows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::CJson => "cJSON",
            Self::Bzip2 => "bzip2",
            Self::Sqlite => "SQLite",
            Self::Lua => "Lua",
            Self::Empty => "empty",
            Self::Sites(_) => "sites",
            Self::Threads | Self::RustThreads => "threads",
            Self::MinizOxide => "miniz_oxide",
            Self::SerdeJson => "serde_json",
            Self::PulldownCmark => "pulldown-cmark",
            Self::Brotli => "brotli",
        }
    }

    /// Whether it is built with clang, too.
    pub(crate) fn by_clang(self) -> bool {
        matches!(self, Self::Zlib | Self::CJson | Self::Threads)
    }

    /// The program of `bench/rust` that has it, and the packages that it is made of.
    pub(crate) fn in_rust(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::SerdeJson => (
                "json",
                &["serde_json", "serde_core", "itoa", "memchr", "zmij"],
            ),
            Self::PulldownCmark => (
                "markdown",
                &[
                    "pulldown-cmark",
                    "pulldown-cmark-escape",
                    "memchr",
                    "unicase",
                ],
            ),
            Self::Brotli => ("pack", &["brotli", "brotli-decompressor"]),
            Self::RustThreads => ("threads", &["rkcov-bench-programs"]),
            _ => ("inflate", &["miniz_oxide", "adler2"]),
        }
    }

    /// What a program in C is made of.
    ///
    /// # Errors
    /// Its sources cannot be had.
    pub(crate) fn in_c(self) -> Result<InC, Error> {
        let own = |name: &str| Bench::here("c").join(name);
        let of_package = |package: &str, files: &[&str], work: &str, flags: &[&str]| {
            let source = sources::debian(package)?;
            let files = files.iter().map(|file| source.join(file));
            let flags = flags.iter().map(ToString::to_string);
            Ok(InC {
                files: files.chain([own(work), own("driver.c")]).collect(),
                flags: flags.chain([format!("-I{}", source.display())]).collect(),
            })
        };
        match self {
            Self::CJson => of_package("cjson", &["cJSON.c"], "cjson.c", &[]),
            Self::Bzip2 => of_package(
                "bzip2",
                &[
                    "blocksort.c",
                    "bzlib.c",
                    "compress.c",
                    "crctable.c",
                    "decompress.c",
                    "huffman.c",
                    "randtable.c",
                ],
                "bzip2.c",
                &["-DBZ_NO_STDIO"],
            ),
            Self::Sqlite => {
                let folder = sources::sqlite()?;
                Ok(InC {
                    files: vec![folder.join("sqlite3.c"), folder.join("test/speedtest1.c")],
                    flags: vec![
                        "-DSQLITE_THREADSAFE=0".into(),
                        "-DSQLITE_OMIT_LOAD_EXTENSION".into(),
                        format!("-I{}", folder.display()),
                    ],
                })
            }
            Self::Lua => {
                let folder = sources::debian("lua5.4")?.join("src");
                let mut files = Vec::new();
                for entry in fs::read_dir(&folder)? {
                    files.push(entry?.path());
                }
                files.retain(|file| {
                    file.extension().is_some_and(|e| e == "c") && !file.ends_with("luac.c")
                });
                files.sort();
                let flags = vec!["-DLUA_USE_POSIX".into()];
                Ok(InC { files, flags })
            }
            Self::Sites(functions) => {
                let file = work_dir("bench").join(format!("sites-{functions}.c"));
                fs::write(&file, many_functions(functions))?;
                Ok(InC {
                    files: vec![file],
                    flags: Vec::new(),
                })
            }
            Self::Threads | Self::Empty => Ok(InC {
                files: vec![own(&format!("{}.c", self.name()))],
                flags: Vec::new(),
            }),
            _ => of_package(
                "zlib",
                &[
                    "adler32.c",
                    "crc32.c",
                    "inffast.c",
                    "inflate.c",
                    "inftrees.c",
                    "zutil.c",
                ],
                "zlib.c",
                &["-DHAVE_UNISTD_H"],
            ),
        }
    }

    /// How often it works through its input in one run, so that a run without instrumentation takes
    /// some tenths of a second; and in a short run, of which every record fits into a buffer.
    pub(crate) fn repeats(self) -> (u32, u32) {
        match self {
            Self::Zlib => (12, 2),
            Self::CJson => (4, 1),
            Self::Bzip2 => (10, 1),
            Self::Sqlite => (12, 1),
            Self::Lua => (80, 4),
            Self::MinizOxide => (12, 2),
            Self::SerdeJson => (6, 1),
            Self::PulldownCmark => (6, 1),
            Self::Brotli => (2, 1),
            _ => (1, 1),
        }
    }

    /// The arguments of a short run.
    pub(crate) fn short(self, bench: &Bench) -> Vec<PathBuf> {
        let mut line = self.arguments(bench, self.repeats().1);
        if let (Self::CJson, Some(input)) = (self, line.first_mut()) {
            // All of it is too much for the buffer.
            *input = bench.input("few.json");
        }
        line
    }

    /// The arguments of a run that works through the input so often.
    pub(crate) fn arguments(self, bench: &Bench, repeat: u32) -> Vec<PathBuf> {
        let driven = |input: &str| {
            let mut line = vec![bench.input(input), repeat.to_string().into()];
            if matches!(self, Self::Zlib | Self::CJson | Self::Bzip2) {
                line.push("off".into());
            }
            line
        };
        match self {
            Self::Zlib | Self::MinizOxide => driven("packed.zlib"),
            Self::CJson | Self::SerdeJson => driven("lines.json"),
            Self::PulldownCmark => driven("lines.md"),
            Self::Bzip2 | Self::Brotli => driven("plain"),
            Self::Sqlite => {
                let size = repeat.to_string();
                let line = ["--verify", "--size", &size, ":memory:"];
                line.iter().map(PathBuf::from).collect()
            }
            Self::Lua => vec![Bench::here("c").join("work.lua"), repeat.to_string().into()],
            _ => Vec::new(),
        }
    }

    /// What of a run's output has to be the same in every variant: not times.
    pub(crate) fn result(self, printed: &str) -> String {
        match self {
            Self::Zlib | Self::CJson | Self::Bzip2 => printed
                .split_whitespace()
                .skip(1)
                .collect::<Vec<_>>()
                .join(" "),
            Self::Sqlite => {
                let lines = printed.lines().filter(|line| line.contains("Verification"));
                lines.collect::<Vec<_>>().join("\n")
            }
            _ => printed.to_owned(),
        }
    }
}

/// A program that calls so many functions with branches, one after the other, again and again; the
/// number of calls does not depend on the number of functions.
fn many_functions(functions: u32) -> String {
    let mut text = String::from("#include <stdio.h>\n#include <stdlib.h>\n");
    // Writing to a string does not fail.
    for n in 0..functions {
        let _ = writeln!(
            text,
            "__attribute__((noinline)) static unsigned f{n}(unsigned x)\n\
             {{\n\tif (x & 4)\n\t\tx = x * {} + 1;\n\telse\n\t\tx ^= x >> {};\n\treturn x;\n}}",
            2 * n + 5,
            n % 7 + 1
        );
    }
    text += "static unsigned (*const all[])(unsigned) = {\n";
    for n in 0..functions {
        let _ = writeln!(text, "\tf{n},");
    }
    let _ = writeln!(
        text,
        "}};\nint main(int argc, char **argv)\n{{\n\tunsigned x = (unsigned)argc;\n\
         \tlong rounds = atol(argv[1]) / {functions};\n\n\
         \twhile (rounds--)\n\t\tfor (unsigned i = 0; i < {functions}; i++)\n\
         \t\t\tx = all[i](x);\n\tprintf(\"%u\\n\", x);\n\treturn 0;\n}}"
    );
    text
}
