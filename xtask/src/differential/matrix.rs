// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which programs are built in which ways.

use super::generate::{program, Language};
use super::{compare, Build, Compared, Subject};
use crate::shell::Error;
use crate::{sources, target_dir, work_dir};
use std::fs;
use std::path::{Path, PathBuf};

/// Options beside a level of optimization. Those of one line are used together.
const GCC: &[&str] = &[
    "-O0",
    "-O0 -g3",
    "-O1 -fPIC",
    "-O2",
    "-O3",
    "-Os",
    "-Og -g",
    "-O2 -g -gsplit-dwarf",
    "-O2 -fPIC -fno-plt",
    "-O2 -fPIE -pie -fno-plt -masm=intel",
    "-O2 -masm=intel -g",
    "-O0 -masm=intel",
    "-O2 -no-pie -fno-pie -static",
    "-O2 -fPIE -static-pie",
    "-O2 -flto -ffat-lto-objects",
    "-O3 -flto -fno-fat-lto-objects",
    "-O2 -fcf-protection=full -freorder-blocks-and-partition",
    "-O2 -ffunction-sections -fdata-sections -Wl,--gc-sections",
    "-O2 -fuse-ld=gold -ffunction-sections -Wl,--gc-sections",
    "-O2 -mcmodel=medium",
    "-O2 -mcmodel=large -fno-pie -no-pie",
    "-O2 -mcmodel=large -fPIC",
    "-O1 -fsanitize=address,undefined",
    "-O2 -fno-asynchronous-unwind-tables",
    "-O1 -fno-asynchronous-unwind-tables -g -fno-dwarf2-cfi-asm",
    "-O2 -fno-omit-frame-pointer -pipe",
    "-O2 -mno-red-zone -fstack-protector-all",
    "-O2 -fstack-clash-protection -mforce-drap -mavx2",
    "-O2 -fverbose-asm -dA",
    "-O2 -falign-functions=1 -falign-loops=1 -mtune=atom",
    "-O2 -Wa,-mbranches-within-32B-boundaries",
    "-O3 -funroll-loops -ftracer -fno-inline",
];

const CLANG: &[&str] = &[
    "-O0",
    "-O0 -g",
    "-O1 -fPIC",
    "-O2",
    "-O3",
    "-Os",
    "-Oz",
    "-O2 -g -gsplit-dwarf",
    "-O2 -fPIC -fno-plt",
    "-O2 -no-pie -fno-pie -static",
    "-O2 -fPIE -static-pie",
    "-O2 -fcf-protection=full",
    "-O2 -ffunction-sections -fdata-sections -fuse-ld=lld -Wl,--gc-sections",
    "-O2 -fbasic-block-sections=all -fuse-ld=lld",
    "-O2 -mcmodel=medium",
    "-O2 -mcmodel=large -fno-pie -no-pie",
    "-O1 -fsanitize=address,undefined",
    "-O2 -fno-asynchronous-unwind-tables",
    "-O2 -mno-red-zone -fstack-protector-all -pipe",
];

const GCC_FOR_ARM64: &[&str] = &[
    "-O0",
    "-O0 -g3",
    "-O1 -fPIC",
    "-O2",
    "-O3",
    "-Os",
    "-Og -g",
    "-O2 -fPIC -fno-plt",
    "-O2 -no-pie -fno-pie -static",
    "-O2 -fPIE -static-pie",
    "-O3 -flto -fno-fat-lto-objects",
    "-O2 -mbranch-protection=standard -freorder-blocks-and-partition",
    "-O2 -ffunction-sections -fdata-sections -Wl,--gc-sections",
    "-O2 -mcmodel=tiny",
    "-O2 -mcmodel=large -fno-pie -no-pie",
    "-O1 -fno-asynchronous-unwind-tables -g -fno-dwarf2-cfi-asm",
    "-O2 -fno-omit-frame-pointer -pipe",
    "-O2 -fstack-clash-protection -fstack-protector-all",
    "-O2 -fverbose-asm -dA",
    "-O2 -mstrict-align -mfix-cortex-a53-843419 -mfix-cortex-a53-835769",
    "-O2 -march=armv8.5-a+sve2 -mtune=neoverse-v1",
    "-O3 -funroll-loops -ftracer -fno-inline",
];

/// Not `-Oz`, at which LLVM makes functions of what many have in common: their callers are no edges.
const CLANG_FOR_ARM64: &[&str] = &[
    "-O0",
    "-O0 -g",
    "-O1 -fPIC",
    "-O2",
    "-O3",
    "-Os",
    "-O2 -no-pie -fno-pie -static",
    "-O2 -ffunction-sections -fdata-sections -fuse-ld=lld -Wl,--gc-sections",
    "-O2 -fuse-ld=lld",
    "-O2 -fno-asynchronous-unwind-tables -pipe",
];

/// A few of everything, for a test.
const FEW: &[(Build, &[u64])] = &[
    (Build::gcc("-O2"), &[1, 2]),
    (Build::gcc("-O0 -g"), &[3]),
    (
        Build::gcc("-Os -fPIC -fno-plt -masm=intel -fcf-protection"),
        &[4],
    ),
    (
        Build::gcc("-O3 -static -ffunction-sections -Wl,--gc-sections"),
        &[5],
    ),
    (Build::gcc("-O2 -flto"), &[6]),
    (Build::gcc("-O1 -fno-asynchronous-unwind-tables"), &[7]),
    (Build::gcc("-O1 -mcmodel=large"), &[8]),
    (Build::clang("-O2"), &[1]),
    (Build::clang("-O1 -fPIC -fno-plt -g"), &[2]),
];

/// A few for arm64.
const FEW_FOR_ARM64: &[(Build, &[u64])] = &[
    (Build::gcc_for_arm64("-O2"), &[1, 2]),
    (Build::gcc_for_arm64("-O0 -g"), &[3]),
    (
        Build::gcc_for_arm64("-Os -static -mbranch-protection=standard"),
        &[4],
    ),
    (Build::gcc_for_arm64("-O3 -fPIC -flto"), &[6]),
    (Build::clang_for_arm64("-O2"), &[1]),
    (Build::clang_for_arm64("-O1 -fPIC -g"), &[2]),
];

/// Arguments of `cargo xtask check-differential`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Generated programs for each way to build
    #[arg(long, default_value_t = 3)]
    programs: u64,
    /// The first number that a program is generated from
    #[arg(long, default_value_t = 100)]
    first: u64,
    /// Only ways to build that have this in their options
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    only: String,
    /// Only programs that have this in their names, such as `lua`
    #[arg(long, default_value = "")]
    of: String,
    /// Generated programs only: no sources of others
    #[arg(long)]
    generated: bool,
    /// Programs for arm64
    #[arg(long)]
    arm64: bool,
}

/// Compares generated programs, a program in C++, and programs of Debian's archive, in many ways to
/// build.
///
/// # Errors
/// Something differs, or cannot be built.
pub fn run(args: &Args) -> Result<(), Error> {
    let rkcov = target_dir().join("debug/rkcov");
    let folder = work_dir("differential");
    let builds = GCC.iter().map(|options| Build::gcc(options));
    let builds = builds.chain(CLANG.iter().map(|options| Build::clang(options)));
    let arm64 = GCC_FOR_ARM64.iter().map(|o| Build::gcc_for_arm64(o));
    let builds = builds.chain(arm64);
    let builds = builds.chain(CLANG_FOR_ARM64.iter().map(|o| Build::clang_for_arm64(o)));
    let builds = builds.filter(|build| build.arm64 == args.arm64);
    let mut failed = 0;
    let mut check = |build: &Build, subject: &Subject| {
        if !subject.name.contains(&args.of) {
            return;
        }
        let done = compare(&rkcov, build, subject, &folder.join(&subject.name));
        let what = format!("{} {}: {}", build.cc, build.options, subject.name);
        // These call through a register; and padding before jumps would part a check.
        let none: &[&str] = match build.arm64 {
            false => &["-mcmodel=large", "-mbranches-within-32B-boundaries"],
            true => &["-fno-plt"],
        };
        let none = none.iter().any(|option| build.options.contains(option));
        let done = done.and_then(|compared| match compared.sites == 0 {
            is if is == none => Ok(compared),
            _ => Err(format!("{} checks", compared.sites).into()),
        });
        match done {
            Ok(compared) => println!("{what}: {compared:?}"),
            Err(error) => {
                failed += 1;
                println!("{what}: FAILED: {error}");
            }
        }
    };
    for build in builds.filter(|build| build.options.contains(&args.only)) {
        check(&build, &cxx());
        for seed in args.first..args.first + args.programs {
            for language in [Language::C, Language::Cxx] {
                check(&build, &generated(seed, language, &folder)?);
            }
        }
    }
    if !args.generated {
        for subject in [zlib()?, zstd()?, lua()?, sqlite()?] {
            for build in [
                Build::gcc("-O2"),
                Build::gcc("-O0 -g -fPIC"),
                Build::gcc("-O3 -flto -static"),
                Build::gcc("-Os -masm=intel -fno-plt -fPIC"),
                Build::clang("-O2"),
                Build::clang("-O1 -g -fPIC"),
                Build::gcc_for_arm64("-O0 -g -fPIC"),
                Build::gcc_for_arm64("-O1"),
                Build::gcc_for_arm64("-O2"),
                Build::gcc_for_arm64("-O3 -fPIC -mbranch-protection=standard"),
                Build::gcc_for_arm64("-Os -flto -static"),
                Build::clang_for_arm64("-O0"),
                Build::clang_for_arm64("-O2 -g -fPIC"),
            ] {
                if build.arm64 == args.arm64 && build.options.contains(&args.only) {
                    check(&build, &subject);
                }
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(format!("{failed} comparisons failed").into()),
    }
}

/// Compares a few programs in a few ways.
///
/// # Errors
/// Something differs, or cannot be built.
pub fn few(rkcov: &Path, folder: &Path) -> Result<Vec<(String, Compared)>, Error> {
    all(FEW, rkcov, folder)
}

/// Compares a few programs for arm64 in a few ways.
///
/// # Errors
/// Something differs, or cannot be built.
pub fn few_for_arm64(rkcov: &Path, folder: &Path) -> Result<Vec<(String, Compared)>, Error> {
    all(FEW_FOR_ARM64, rkcov, folder)
}

fn all(
    builds: &[(Build, &[u64])],
    rkcov: &Path,
    folder: &Path,
) -> Result<Vec<(String, Compared)>, Error> {
    let mut done = Vec::new();
    for (build, seeds) in builds
        .iter()
        .filter(|(build, _)| crate::shell::has(build.cc))
    {
        let mut subjects = Vec::new();
        for &seed in *seeds {
            let language = [Language::C, Language::Cxx][(seed % 2) as usize];
            subjects.push(generated(seed, language, folder)?);
        }
        if seeds.contains(&1) {
            subjects.push(cxx());
        }
        for subject in subjects {
            let what = format!("{} {}: {}", build.cc, build.options, subject.name);
            let compared = compare(rkcov, build, &subject, &folder.join(&subject.name))
                .map_err(|error| format!("{what}: {error}"))?;
            done.push((what, compared));
        }
    }
    Ok(done)
}

fn generated(seed: u64, language: Language, folder: &Path) -> Result<Subject, Error> {
    let (name, file) = match language {
        Language::C => (format!("c-{seed}"), "program.c"),
        Language::Cxx => (format!("c++-{seed}"), "program.cc"),
    };
    let source = folder.join(&name).join(file);
    fs::create_dir_all(folder.join(&name))?;
    fs::write(&source, program(seed, language))?;
    Ok(subject(&name, vec![source]))
}

fn cxx() -> Subject {
    subject("cxx", vec![own("subject.cc")])
}

/// A file that stands beside this one.
fn own(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/differential")
        .join(name)
}

fn subject(name: &str, sources: Vec<PathBuf>) -> Subject {
    Subject {
        name: name.to_owned(),
        sources,
        options: Vec::new(),
        libraries: Vec::new(),
        arguments: Vec::new(),
        input: None,
    }
}

/// The C sources of a folder, but for those of these names.
fn sources_in(folder: &Path, but: &[&str]) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".c") && !but.contains(&&*name) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn define(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// zlib's own compressor.
fn zlib() -> Result<Subject, Error> {
    let folder = sources::debian("zlib")?;
    let mut files = sources_in(&folder, &[])?;
    files.push(folder.join("test/minigzip.c"));
    let mut subject = subject("zlib", files);
    subject.options = define(&["-DHAVE_UNISTD_H", "-D_LARGEFILE64_SOURCE=1"]);
    subject.options.push(format!("-I{}", folder.display()));
    subject.input = Some(folder.join("deflate.c"));
    Ok(subject)
}

/// zstd's library and its own command.
fn zstd() -> Result<Subject, Error> {
    let folder = sources::debian("libzstd")?;
    let mut files = Vec::new();
    for part in [
        "lib/common",
        "lib/compress",
        "lib/decompress",
        "lib/dictBuilder",
    ] {
        files.extend(sources_in(&folder.join(part), &[])?);
    }
    files.extend(sources_in(&folder.join("programs"), &[])?);
    let mut subject = subject("zstd", files);
    subject.options = define(&["-DZSTD_LEGACY_SUPPORT=0", "-DZSTD_DISABLE_ASM"]);
    subject.options.push(format!("-I{}/lib", folder.display()));
    subject.arguments = define(&["-9", "-c", "--single-thread", "--no-progress"]);
    subject.input = Some(folder.join("lib/compress/zstd_compress.c"));
    Ok(subject)
}

/// The Lua interpreter, on a program that uses its parts.
fn lua() -> Result<Subject, Error> {
    let folder = sources::debian("lua5.4")?;
    let mut subject = subject("lua", sources_in(&folder.join("src"), &["luac.c"])?);
    // What the time and addresses decide is another way in each run: the seed of hashes, the place of a
    // string in a cache, and where a sort begins.
    subject.options = define(&[
        "-DLUA_USE_POSIX",
        "-Dluai_makeseed(L)=1u",
        "-DSTRCACHE_N=1",
        "-DSTRCACHE_M=2",
        "-Dl_randomizePivot()=7u",
    ]);
    subject.libraries = vec!["-lm"];
    subject.arguments = define(&["-"]);
    subject.input = Some(own("script.lua"));
    Ok(subject)
}

/// SQLite in one file, as its authors publish it, and its own shell.
fn sqlite() -> Result<Subject, Error> {
    let folder = sources::sqlite()?;
    let mut subject = subject(
        "sqlite",
        vec![folder.join("sqlite3.c"), folder.join("shell.c")],
    );
    subject.options = define(&["-DSQLITE_THREADSAFE=0", "-DSQLITE_OMIT_LOAD_EXTENSION"]);
    subject.libraries = vec!["-lm"];
    subject.input = Some(own("script.sql"));
    Ok(subject)
}
