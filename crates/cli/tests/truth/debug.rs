// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports do not depend on how debug information is written, or where it is.

use std::fs;
use std::process::Command;

use super::compilers;
use super::lines::Built;
use super::succeed;

const PROGRAM: &str = "\
#include \"half.h\"
static inline __attribute__((always_inline)) int inlined(int n) {
    if (n > 3)
        return n - 3;
    return n;
}
int main(int argc, char **argv) {
    int sum = argv == 0;
    for (int i = 0; i < 9; i++)
        sum += half(inlined(i)) ? argc : 0;
    return sum > 99;
}
";

const HALF: &str = "\
static volatile int odd;
static int half(int n) {
    if (n % 2)
        odd++;
    return n / 2;
}
";

fn built(compiler: &str, flags: &str) -> Built {
    let sources = [("p.c", PROGRAM), ("half.h", HALF)];
    // Compiled and linked apart: what is split from objects has their names.
    let built = Built {
        folder: tempfile::tempdir().unwrap(),
    };
    for (name, text) in sources {
        fs::write(built.folder.path().join(name), text).unwrap();
    }
    built.rkcov(&format!("cc {compiler} {flags} -O1 -c p.c -o p.o"));
    built.rkcov(&format!("cc {compiler} {flags} -O1 p.o -o p"));
    built.rkcov("run -o t.rkcov -- ./p");
    built
}

fn lcov(built: &Built) -> String {
    let lcov = built.report("--format lcov");
    assert!(
        lcov.contains("SF:/built/half.h") && lcov.contains("inlined"),
        "{lcov}"
    );
    lcov
}

#[test]
fn versions_and_compression_change_nothing() {
    for compiler in compilers() {
        let reference = lcov(&built(compiler, "-g"));
        for flags in [
            "-gdwarf-2",
            "-gdwarf-3",
            "-gdwarf-4",
            "-gdwarf-5",
            "-gdwarf-5 -gdwarf64",
            "-g -gz=zlib",
            "-g -fdebug-types-section",
            "-g3",
            "-g -gz=zstd",
        ] {
            // Debian's gcc cannot write it.
            if flags.contains("zstd") && compiler == "gcc" {
                continue;
            }
            assert_eq!(
                lcov(&built(compiler, flags)),
                reference,
                "{compiler} {flags}"
            );
        }
    }
}

#[test]
fn debug_information_that_is_split_from_the_objects() {
    for compiler in compilers() {
        for version in ["-gdwarf-4", "-gdwarf-5"] {
            let reference = lcov(&built(compiler, version));
            let split = built(compiler, &format!("{version} -gsplit-dwarf"));
            assert!(split.path().join("p.dwo").exists());
            assert_eq!(lcov(&split), reference, "{compiler} {version}");
            // llvm-dwp does not end with what gcc writes in version 5, and binutils' dwp crashes.
            if compiler == "gcc" && version == "-gdwarf-5" {
                continue;
            }
            // In one package beside the program, as it is delivered.
            let mut package = Command::new("llvm-dwp-22");
            package.args(["p.dwo", "-o", "p.dwp"]);
            succeed(package.current_dir(split.path()));
            fs::remove_file(split.path().join("p.dwo")).unwrap();
            assert_eq!(
                lcov(&split),
                reference,
                "{compiler} {version}, in a package"
            );
        }
    }
}

#[test]
fn debug_information_that_is_shared() {
    let reference = built("gcc", "-g");
    let shared = built("gcc", "-g");
    fs::copy(shared.path().join("p"), shared.path().join("q")).unwrap();
    let mut dwz = Command::new("dwz");
    dwz.args(["-m", "common.debug", "p", "q"]);
    succeed(dwz.current_dir(shared.path()));
    assert!(shared.path().join("common.debug").exists());
    assert_eq!(lcov(&shared), lcov(&reference));
}
