// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which file names are a compiler's.

use std::ffi::OsStr;
use std::path::Path;

/// Longer names first, so that `clang++` is not taken for `clang` with a rest.
const COMPILERS: [&str; 10] = [
    "clang++", "clang", "gfortran", "gcc", "g++", "c++", "c89", "c99", "c17", "cc",
];
/// Programs that run the compiler which follows them.
const LAUNCHERS: [&str; 4] = ["ccache", "sccache", "distcc", "icecc"];

fn file_name(program: &OsStr) -> Option<&str> {
    Path::new(program).file_name()?.to_str()
}

/// Whether a program of this name or path is a compiler: `gcc`, `g++`, `cc`, `c++`, `clang`,
/// `clang++` and the like, with a target before and a version after it (`aarch64-linux-gnu-gcc-12`).
#[must_use]
pub fn is_compiler(program: &OsStr) -> bool {
    let Some(name) = file_name(program) else {
        return false;
    };
    let stem = match name.rsplit_once('-') {
        Some((stem, version)) if is_version(version) => stem,
        _ => name,
    };
    COMPILERS.iter().any(|compiler| {
        stem.strip_suffix(compiler)
            .is_some_and(|target| target.is_empty() || target.ends_with('-'))
    })
}

fn is_version(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

/// Whether a program of this name or path runs the compiler that follows it: `ccache` and the like.
#[must_use]
pub fn is_launcher(program: &OsStr) -> bool {
    file_name(program).is_some_and(|name| LAUNCHERS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_are_known_by_name() {
        for yes in [
            "cc",
            "gcc",
            "gcc-12",
            "g++-12.2",
            "clang-22",
            "clang++",
            "/usr/bin/clang++-22",
            "aarch64-linux-gnu-gcc-12",
            "x86_64-linux-gnu-g++",
            "c99",
            "/usr/lib/ccache/gcc",
        ] {
            assert!(is_compiler(OsStr::new(yes)), "{yes}");
        }
        for no in [
            "",
            "gcc.c",
            "-c",
            "@gcc",
            "x.cc",
            "gcc-ar",
            "clang-tidy",
            "clang-format-22",
            "ccache",
            "tcc",
            "main.c++",
            "gcc-",
            "gcc/",
        ] {
            // A trailing slash does not make a folder's name another name.
            let expect = no == "gcc/";
            assert_eq!(is_compiler(OsStr::new(no)), expect, "{no}");
        }
    }

    #[test]
    fn launchers_are_known_by_name() {
        assert!(is_launcher(OsStr::new("/usr/bin/ccache")));
        assert!(!is_launcher(OsStr::new("gcc")));
    }
}
