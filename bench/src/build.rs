// SPDX-License-Identifier: MIT OR Apache-2.0
//! How all benches build what they measure, and what it works on.

use crate::subjects::Program;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use xtask::shell::{self, Error};
use xtask::{demo, root, sources, target_dir, work_dir};

/// The clang that is measured.
pub(crate) const CLANG: &str = "clang-22";

/// What all builds need.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Where everything is built.
    pub(crate) out: PathBuf,
    /// The runtime, as files.
    pub(crate) artifacts: PathBuf,
    /// The folder of rkcov's commands.
    commands: PathBuf,
}

impl Bench {
    /// Fetches the sources in C, builds rkcov, and makes the files that are worked on: the C sources
    /// of zlib, several times over, packed; and the same lines as JSON and as Markdown. rkcov is
    /// compiled for speed if it is a part of what is measured.
    ///
    /// # Errors
    /// The sources cannot be had, or something does not build.
    pub(crate) fn prepare(rkcov_runs: bool) -> Result<Self, Error> {
        let out = work_dir("bench");
        fs::create_dir_all(&out)?;
        let artifacts = out.join("artifacts");
        rkcov_artifacts::install(&artifacts)?;
        let commands = match rkcov_runs {
            false => demo::build_rkcov()?.with_file_name(""),
            true => {
                let mut build = Command::new("cargo");
                build.args(["build", "--quiet", "--release", "--package", "rkcov-cli"]);
                shell::run(build.current_dir(root()))?;
                target_dir().join("release")
            }
        };
        let bench = Self {
            out,
            artifacts,
            commands,
        };
        bench.make_inputs()?;
        Ok(bench)
    }

    /// The file of this name that a program works on.
    pub(crate) fn input(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    fn make_inputs(&self) -> Result<(), Error> {
        // The last one that is written. Another run of the bench may be reading them.
        if self.input("few.json").is_file() {
            return Ok(());
        }
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
        let input = self.input("plain");
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
shapes = ['# {}', '{}', '* {} *', '> {}', '1. `{}` and [{}](x)', '    {}', '**{}** <b>', '| {} | b |']
with open(sys.argv[4], 'w') as out:
    for i, text in enumerate(lines):
        out.write(shapes[i * 7919 % 8].replace('{}', text.strip()) + ('\\n\\n' if i % 5 == 0 else '\\n'))
values = open(sys.argv[3]).readlines()
open(sys.argv[5], 'w').writelines(values[:len(values) // 4])
";
        let mut python = Command::new("python3");
        python.args(["-c", program]).arg(input);
        for name in ["packed.zlib", "lines.json", "lines.md", "few.json"] {
            python.arg(self.input(name));
        }
        shell::run(&mut python)
    }

    /// One of rkcov's commands.
    pub(crate) fn command(&self, name: &str) -> PathBuf {
        self.commands.join(name)
    }

    /// The folder of the benches' own sources.
    pub(crate) fn here(folder: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
    }

    /// Compiles a program in C into `folder`, with the compiler and the flags that `cc` begins with,
    /// and links it. What was built so before, by the same commands, is left.
    ///
    /// # Errors
    /// It does not compile.
    pub(crate) fn program(
        &self,
        program: Program,
        cc: &[&str],
        folder: &Path,
    ) -> Result<PathBuf, Error> {
        let whole = folder.join("program");
        let made = program.in_c()?;
        self.once(folder, &format!("{cc:?}\n{made:?}\n"), || {
            let mut objects = Vec::new();
            for file in &made.files {
                objects.push(self.compile(file, cc, folder, &made.flags)?);
            }
            let mut link = self.compiler(cc);
            link.args(&objects).args(["-lm", "-o"]).arg(&whole);
            shell::run(&mut link)
        })?;
        Ok(whole)
    }

    /// Does something in `folder`, unless it was done before with the same `key` and the same rkcov.
    ///
    /// # Errors
    /// Those of `build`.
    pub(crate) fn once(
        &self,
        folder: &Path,
        key: &str,
        build: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let modified = fs::metadata(self.command("rkcov"))?.modified()?;
        let modified = modified.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let key = format!("{key}{modified}");
        let stamp = folder.join("stamp");
        if fs::read_to_string(&stamp).is_ok_and(|text| text == key) {
            return Ok(());
        }
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder)?;
        build()?;
        Ok(fs::write(stamp, key)?)
    }

    /// Compiles a library in C, and what calls it, into `folder`.
    ///
    /// # Errors
    /// It does not compile.
    pub(crate) fn compile_library(
        &self,
        program: Program,
        cc: &[&str],
        folder: &Path,
    ) -> Result<Vec<PathBuf>, Error> {
        let made = program.in_c()?;
        let driver = Self::here("c").join("driver.c");
        let files = made.files.iter().filter(|file| **file != driver);
        files
            .map(|file| self.compile(file, cc, folder, &made.flags))
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
        flags: &[impl AsRef<OsStr>],
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
        command.args(["-O2", "-w", "-c"]).args(flags);
        command.arg("-I").arg(&self.artifacts);
        // gcov writes beside the object, by the name that it was compiled to.
        command.arg(source).arg("-o").arg(&object);
        shell::run(command.current_dir(folder))?;
        Ok(object)
    }

    /// The compiler, and the flags, of these words; the first may be rkcov.
    pub(crate) fn compiler(&self, cc: &[&str]) -> Command {
        let mut command = match cc {
            ["rkcov", ..] => Command::new(self.command("rkcov")),
            _ => Command::new(cc[0]),
        };
        command.args(&cc[1..]);
        command
    }

    /// Cargo on the programs in Rust, with these flags for all that is built for the target, which
    /// is this machine.
    pub(crate) fn cargo(&self, folder: &Path, rustflags: &str) -> Command {
        let mut cargo = Self::in_rust(Path::new("cargo"), folder);
        cargo.env("RUSTFLAGS", rustflags);
        cargo
    }

    /// The same by `cargo rkcov`.
    pub(crate) fn cargo_rkcov(&self, folder: &Path) -> Command {
        let mut cargo = Self::in_rust(&self.command("cargo-rkcov"), folder);
        cargo.arg("rkcov");
        cargo
    }

    fn in_rust(program: &Path, folder: &Path) -> Command {
        let mut cargo = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_") && name != "CARGO_HOME"
                || name.starts_with("RUSTC_")
                || name == "RUSTFLAGS"
            {
                cargo.env_remove(&*name);
            }
        }
        cargo
            .current_dir(Self::here("rust"))
            .env("CARGO_TARGET_DIR", folder);
        cargo
    }
}

/// The host, as Rust names it.
pub(crate) fn host() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}
