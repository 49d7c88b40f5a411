// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sources of what is measured, its input, and how it is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::shell::{self, Error};
use xtask::{demo, sources, work_dir};

/// The clang that is measured: one that has gates.
pub(crate) const CLANG: &str = "clang-22";

/// A library under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Inflates, in C.
    Zlib,
    /// Parses and writes JSON, in C.
    CJson,
}

impl Program {
    pub(crate) const ALL: [Self; 2] = [Self::Zlib, Self::CJson];

    /// The name in the rows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::CJson => "cJSON",
        }
    }

    fn source(self) -> &'static str {
        match self {
            Self::CJson => "cjson",
            Self::Zlib => "zlib",
        }
    }

    /// The files of the library that its work needs, and what calls them.
    fn files(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::CJson => (&["cJSON.c"], "cjson.c"),
            Self::Zlib => (
                &[
                    "adler32.c",
                    "crc32.c",
                    "inffast.c",
                    "inflate.c",
                    "inftrees.c",
                    "zutil.c",
                ],
                "zlib.c",
            ),
        }
    }
}

/// What all builds need.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Where everything is built.
    pub(crate) out: PathBuf,
    /// The runtime, as files.
    pub(crate) artifacts: PathBuf,
    /// The command.
    rkcov: PathBuf,
}

impl Bench {
    /// Fetches the sources in C, builds rkcov, and makes the files that are worked on: the C sources
    /// of zlib, several times over, packed; and the same lines as JSON.
    ///
    /// # Errors
    /// The sources cannot be had, or something does not build.
    pub(crate) fn prepare() -> Result<Self, Error> {
        let out = work_dir("bench");
        fs::create_dir_all(&out)?;
        let artifacts = out.join("artifacts");
        rkcov_artifacts::install(&artifacts)?;
        let bench = Self {
            out,
            artifacts,
            rkcov: demo::build_rkcov()?,
        };
        bench.make_inputs()?;
        Ok(bench)
    }

    /// The file that a program works on.
    pub(crate) fn input(&self, program: Program) -> PathBuf {
        self.out.join(match program {
            Program::Zlib => "packed.zlib",
            Program::CJson => "lines.json",
        })
    }

    /// How often it does so in one run: a tenth of a second or so without instrumentation.
    pub(crate) fn repeat(program: Program) -> &'static str {
        match program {
            Program::Zlib => "10",
            Program::CJson => "4",
        }
    }

    fn make_inputs(&self) -> Result<(), Error> {
        let zlib = sources::debian("zlib")?;
        let mut files: Vec<PathBuf> = fs::read_dir(&zlib)?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_, std::io::Error>>()?;
        files.retain(|path| path.extension().is_some_and(|e| e == "c" || e == "h"));
        files.sort();
        let mut plain = Vec::new();
        for file in files {
            plain.extend(fs::read(file)?);
        }
        let input = self.out.join("plain");
        fs::write(&input, plain.repeat(3))?;
        // Python has zlib and JSON in it, and is where there is a compiler.
        let program = "
import json, sys, zlib
plain = open(sys.argv[1], 'rb').read()
open(sys.argv[2], 'wb').write(zlib.compress(plain, 6))
lines = plain.decode('latin-1').splitlines()
with open(sys.argv[3], 'w') as out:
    for at in range(0, len(lines), 200):
        piece = lines[at:at + 200]
        values = [dict(line=at + i, text=text, share=len(text) / 80, words=text.split(),
                       blank=not text, of=None) for i, text in enumerate(piece)]
        out.write(json.dumps(values) + '\\n')
";
        let mut python = Command::new("python3");
        python.args(["-c", program]).arg(input);
        python.arg(self.input(Program::Zlib));
        shell::run(python.arg(self.input(Program::CJson)))
    }

    /// The folder of the benches' own sources.
    pub(crate) fn here(folder: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
    }

    /// Compiles a library in C, and what calls it, into `folder`, with the compiler and the flags
    /// that `cc` begins with.
    ///
    /// # Errors
    /// It does not compile.
    pub(crate) fn compile_library(
        &self,
        program: Program,
        cc: &[&str],
        folder: &Path,
    ) -> Result<Vec<PathBuf>, Error> {
        let source = sources::debian(program.source())?;
        let (files, work) = program.files();
        let files = files.iter().map(|file| source.join(file));
        files
            .chain([Self::here("c").join(work)])
            .map(|file| self.compile(&file, cc, folder, &["-I", &source.to_string_lossy()]))
            .collect()
    }

    /// Compiles a file into `folder`, with `-O2`.
    ///
    /// # Errors
    /// It does not compile.
    pub(crate) fn compile(
        &self,
        source: &Path,
        cc: &[&str],
        folder: &Path,
        flags: &[&str],
    ) -> Result<PathBuf, Error> {
        fs::create_dir_all(folder)?;
        let object = folder.join(source.file_name().unwrap_or_default());
        let object = object.with_extension(if source.starts_with(Self::here("c")) {
            "bench.o"
        } else {
            "o"
        });
        let mut command = self.compiler(cc);
        // The libraries are written in the C of their day; its warnings are not ours.
        command
            .args(["-O2", "-w", "-c", "-DHAVE_UNISTD_H"])
            .args(flags);
        command.arg("-I").arg(&self.artifacts);
        shell::run(
            command
                .arg(source)
                .arg("-o")
                .arg(&object)
                .current_dir(folder),
        )?;
        Ok(object)
    }

    /// The compiler, and the flags, of these words; the first may be rkcov.
    pub(crate) fn compiler(&self, cc: &[&str]) -> Command {
        let mut command = match cc {
            ["rkcov", ..] => Command::new(&self.rkcov),
            _ => Command::new(cc[0]),
        };
        command.args(&cc[1..]);
        command
    }
}
