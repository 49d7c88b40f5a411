// SPDX-License-Identifier: MIT OR Apache-2.0
//! The programs that are measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::shell::{self, Error};
use xtask::{demo, sources, work_dir};

/// A compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// gcc.
    Gcc,
    /// clang, new enough for gates.
    Clang,
}

/// What calls the compiler puts into zlib.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instrumentation {
    /// None.
    None,
    /// `trace-pc`.
    TracePc,
    /// `trace-pc-guard` without a gate.
    Guard,
    /// What `rkcov cc` chooses.
    Wrapper,
}

/// Who has the callbacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collection {
    /// Nobody.
    None,
    /// The C implementation to compare with.
    Reference,
    /// rkcov's runtime.
    Rkcov,
}

/// One program and one way to run it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Compiles zlib, and the reference.
    pub(crate) compiler: Compiler,
    /// In zlib.
    pub(crate) instrumentation: Instrumentation,
    /// Behind it.
    pub(crate) collection: Collection,
    /// Whether a client collects.
    pub(crate) on: bool,
}

impl Compiler {
    fn command(self) -> &'static str {
        match self {
            Self::Gcc => "gcc",
            Self::Clang => "clang-22",
        }
    }
}

impl Variant {
    /// The name in the rows.
    #[must_use]
    pub(crate) fn name(&self) -> String {
        let collection = if self.on { "on" } else { "off" };
        format!("{}-{collection}", self.program())
    }

    fn program(&self) -> String {
        format!(
            "{:?}-{:?}-{:?}",
            self.compiler, self.instrumentation, self.collection
        )
        .to_lowercase()
    }

    /// Whether it can be built here.
    #[must_use]
    pub(crate) fn compiler_is_here(&self) -> bool {
        shell::has(self.compiler.command())
    }
}

/// What all builds need.
#[derive(Debug)]
pub(crate) struct Bench {
    zlib: PathBuf,
    out: PathBuf,
    artifacts: PathBuf,
    rkcov: PathBuf,
}

/// Bytes of padding before the code. Where a function happens to lie costs or saves as much as what
/// is compared here; so each program is linked at several places, and rounds go through them.
pub(crate) const LAYOUTS: [u32; 4] = [16, 48, 2096, 4064];

/// The files of zlib that inflate needs, and those that make what is inflated.
const INFLATE: [&str; 6] = [
    "adler32", "crc32", "inffast", "inflate", "inftrees", "zutil",
];

impl Bench {
    /// Fetches zlib, builds rkcov, and packs the file that is inflated: the C sources of zlib,
    /// several times over.
    ///
    /// # Errors
    /// zlib cannot be had, or something does not build.
    pub(crate) fn prepare() -> Result<Self, Error> {
        let out = work_dir("bench");
        fs::create_dir_all(&out)?;
        let artifacts = out.join("artifacts");
        rkcov_artifacts::install(&artifacts)?;
        let zlib = sources::debian("zlib")?;
        if !zlib.join("zconf.h").is_file() {
            return Err("zlib's sources have no zconf.h".into());
        }
        let bench = Self {
            zlib,
            out,
            artifacts,
            rkcov: demo::build_rkcov()?,
        };
        bench.pack()?;
        Ok(bench)
    }

    /// The file that is inflated.
    #[must_use]
    pub(crate) fn packed(&self) -> PathBuf {
        self.out.join("packed.zlib")
    }

    fn pack(&self) -> Result<(), Error> {
        let mut files: Vec<PathBuf> = fs::read_dir(&self.zlib)?
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
        // Python has zlib in it, and is where there is a compiler.
        let program = "import sys,zlib;open(sys.argv[2],'wb').write(zlib.compress(open(sys.argv[1],'rb').read(),6))";
        shell::run(
            Command::new("python3")
                .args(["-c", program])
                .arg(input)
                .arg(self.packed()),
        )
    }

    /// Builds a variant's program, once in each of [`LAYOUTS`].
    ///
    /// # Errors
    /// It does not build.
    pub(crate) fn build(&self, variant: Variant) -> Result<Vec<PathBuf>, Error> {
        let folder = self.out.join(variant.program());
        fs::create_dir_all(&folder)?;
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("c");
        let cc = || match variant.instrumentation {
            Instrumentation::Wrapper => {
                let mut wrapper = Command::new(&self.rkcov);
                wrapper.args(["cc", variant.compiler.command()]);
                wrapper
            }
            _ => Command::new(variant.compiler.command()),
        };
        let flags: &[&str] = match variant.instrumentation {
            Instrumentation::None | Instrumentation::Wrapper => &[],
            Instrumentation::TracePc => &["-fsanitize-coverage=trace-pc"],
            Instrumentation::Guard => &[
                "-Xclang",
                "-fsanitize-coverage-type=3",
                "-Xclang",
                "-fsanitize-coverage-trace-pc-guard",
            ],
        };
        let compile = |mut cc: Command, source: &Path, flags: &[&str]| -> Result<PathBuf, Error> {
            let object = folder
                .join(source.file_name().unwrap_or_default())
                .with_extension("o");
            // zlib is written in the C of its day; its warnings are not ours.
            cc.args(["-O2", "-w", "-c", "-DHAVE_UNISTD_H"]).args(flags);
            cc.arg("-I").arg(&self.zlib).arg("-I").arg(&self.artifacts);
            shell::run(cc.arg(source).arg("-o").arg(&object))?;
            Ok(object)
        };
        let mut objects = Vec::new();
        for file in INFLATE {
            objects.push(compile(
                cc(),
                &self.zlib.join(file).with_extension("c"),
                flags,
            )?);
        }
        let plain = || Command::new(variant.compiler.command());
        let cover: &[&str] = match variant.collection {
            Collection::None => &[],
            _ => &["-DCOVER"],
        };
        objects.push(compile(plain(), &here.join("driver.c"), cover)?);
        match variant.collection {
            Collection::None => {}
            Collection::Reference => {
                // As code that may end up in a shared library, like the runtime: without -fPIC the
                // compiler would use addresses that only an executable's own storage has.
                objects.push(compile(plain(), &here.join("reference.c"), &["-fPIC"])?);
            }
            Collection::Rkcov => {
                objects.push(compile(plain(), &here.join("device.c"), &[])?);
                if variant.instrumentation != Instrumentation::Wrapper {
                    objects.push(self.artifacts.join(rkcov_artifacts::OBJECT.name));
                }
            }
        }
        let mut programs = Vec::new();
        for bytes in LAYOUTS {
            let padding = folder.join(format!("padding-{bytes}.s"));
            fs::write(
                &padding,
                format!(".text\n.skip {bytes}, 0xcc\n.section .note.GNU-stack\n"),
            )?;
            let program = folder.join(format!("driver-{bytes}"));
            let mut link = cc();
            link.arg(&padding).args(&objects).args(["-pthread", "-o"]);
            shell::run(link.arg(&program))?;
            programs.push(program);
        }
        Ok(programs)
    }
}
