// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an input file is, by its name or by `-x`.

use std::ffi::OsStr;
use std::path::Path;

/// What the compiler does with an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Compiles it: code comes of it.
    Source,
    /// Compiles it beforehand: no code, but the options have to be those of the sources.
    Header,
    /// Assembles it.
    Assembly,
    /// Hands it to the linker.
    Linked,
}

const SOURCES: &[&str] = &[
    "c", "i", "ii", "m", "mi", "mm", "M", "mii", "cc", "cp", "cxx", "cpp", "CPP", "c++", "C",
    "cppm", "ccm", "cxxm", "c++m", "ixx", "f", "for", "ftn", "F", "FOR", "fpp", "FPP", "FTN",
    "f90", "f95", "f03", "f08", "F90", "F95", "F03", "F08", "adb", "ads", "d", "go",
];
const HEADERS: &[&str] = &[
    "h", "hh", "H", "hp", "hxx", "hpp", "HPP", "h++", "tcc", "inl",
];
/// LLVM's own code is with assembly: what was instrumented when it was made is so still.
const ASSEMBLY: &[&str] = &["s", "S", "sx", "asm", "ll", "bc"];

impl Input {
    /// What a file of this name is.
    #[must_use]
    pub fn of_file(file: &OsStr) -> Self {
        let extension = Path::new(file).extension().and_then(OsStr::to_str);
        match extension {
            Some(e) if SOURCES.contains(&e) => Self::Source,
            Some(e) if HEADERS.contains(&e) => Self::Header,
            Some(e) if ASSEMBLY.contains(&e) => Self::Assembly,
            _ => Self::Linked,
        }
    }

    /// What a file is that `-x language` says the language of; `None` for `none`, which leaves it
    /// to the names again.
    #[must_use]
    pub fn of_language(language: &OsStr) -> Option<Self> {
        let language = language.to_str().unwrap_or_default();
        Some(match language {
            "none" => return None,
            "assembler" | "assembler-with-cpp" | "ir" => Self::Assembly,
            // Code for another machine beside this one's: left alone.
            "cuda" | "hip" | "cl" | "clcpp" => Self::Assembly,
            _ if language.contains("header") => Self::Header,
            _ => Self::Source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name() {
        for (file, input) in [
            ("a.c", Input::Source),
            ("dir.x/a.C", Input::Source),
            ("a.tar.cpp", Input::Source),
            ("a.i", Input::Source),
            ("a.hpp", Input::Header),
            ("a.S", Input::Assembly),
            ("a.bc", Input::Assembly),
            ("a.o", Input::Linked),
            ("a.so.1.2", Input::Linked),
            ("a.lo", Input::Linked),
            ("c", Input::Linked),
            (".c", Input::Linked),
            ("", Input::Linked),
        ] {
            assert_eq!(Input::of_file(OsStr::new(file)), input, "{file}");
        }
    }

    #[test]
    fn by_language() {
        for (language, input) in [
            ("c", Some(Input::Source)),
            ("c++-cpp-output", Some(Input::Source)),
            ("c++-header", Some(Input::Header)),
            ("assembler-with-cpp", Some(Input::Assembly)),
            ("none", None),
        ] {
            assert_eq!(
                Input::of_language(OsStr::new(language)),
                input,
                "{language}"
            );
        }
    }
}
