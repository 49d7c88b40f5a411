// SPDX-License-Identifier: MIT OR Apache-2.0
//! What rustc adds to a program of tests.

use super::demangled;
use super::elf::Function;
use iced_x86::{Decoder, DecoderOptions};
use object::{Architecture, Object, ObjectSegment, RelocationTarget};
use std::collections::HashSet;
use std::ops::Range;

/// The code of the `main()` that rustc writes for a program of tests. Its debug information says
/// that it stands on the first line of the crate, where something else stands. A program's own
/// `main()`, if it is there too, has the same name: `calls` says whether a function's code calls
/// what is at an address.
pub(super) fn main_of(
    functions: &[Function],
    calls: impl Fn(&Range<u64>, u64) -> bool,
) -> Option<Range<u64>> {
    let harness = functions
        .iter()
        .find(|function| is_of_harness(&function.name))?;
    let mains = functions.iter().filter(|function| {
        let name = if function.name.contains("4main") {
            undecorated(&function.name)
        } else {
            String::new()
        };
        name.strip_suffix("::main")
            .is_some_and(|of| !of.is_empty() && !of.contains("::"))
    });
    let mains: Vec<&Function> = mains.collect();
    let main = match mains[..] {
        [main] => main,
        _ => mains
            .into_iter()
            .find(|main| calls(&main.range, harness.range.start))?,
    };
    Some(main.range.clone())
}

/// Whether a function is what rustc has every program of tests call.
pub(super) fn is_of_harness(symbol: &str) -> bool {
    symbol.contains(HARNESS) && undecorated(symbol) == "test::test_main_static"
}

/// Whether a function is of the program that runs many examples of documentation, by libtest.
pub(super) fn is_of_examples(symbol: &str) -> bool {
    symbol.contains(OF_DOCUMENTATION[2]) && is_of_doctest(symbol)
}

/// Whether the code in `range` of a program calls what is at `entry`, by its address or through a
/// word that has it. Of processors that are not known here: no.
pub(super) fn calls(program: &object::File<'_>, range: &Range<u64>, entry: u64) -> bool {
    if program.architecture() != Architecture::X86_64 {
        return false;
    }
    let relocations = program.dynamic_relocations().into_iter().flatten();
    let words: HashSet<u64> = relocations
        .filter(|(_, relocation)| {
            relocation.target() == RelocationTarget::Absolute
                && relocation.addend().cast_unsigned() == entry
        })
        .map(|(word, _)| word)
        .collect();
    let size = range.end.saturating_sub(range.start);
    let mut segments = program.segments();
    let code = segments.find_map(|segment| segment.data_range(range.start, size).ok().flatten());
    let code = code.unwrap_or_default();
    Decoder::with_ip(64, code, range.start, DecoderOptions::NONE)
        .iter()
        .any(|instruction| {
            let through = instruction.is_ip_rel_memory_operand()
                && words.contains(&instruction.ip_rel_memory_address());
            through || instruction.near_branch_target() == entry
        })
}

/// The crates that rustdoc makes of tests in documentation, one for each test or one for many. Their
/// debug information says that they stand on the first lines of the source that has the
/// documentation, where something else stands, or in a file that nobody ever saw.
const OF_DOCUMENTATION: [&str; 3] = ["rust_out", "doctest_bundle_", "doctest_runner_"];

/// Whether a program is of tests in documentation.
pub(super) fn has_doctests(functions: &[Function]) -> bool {
    functions
        .iter()
        .any(|function| function.name.contains("main") && is_of_doctest(&function.name))
}

/// Whether a function is of a test in documentation itself, not of what the test is about.
pub(super) fn is_of_doctest(symbol: &str) -> bool {
    if !OF_DOCUMENTATION.iter().any(|name| symbol.contains(name)) {
        return false;
    }
    let name = demangled(symbol);
    let home = match symbol.strip_prefix("_R").and_then(|path| home(path, 0, 64)) {
        Some(Home::Crate(name)) => name,
        Some(Home::Trait) => crate_of_trait(&name),
        // The older mangling: `<rust_out::main::Type as Trait>::method` is of the test.
        None => {
            let path = name.trim_start_matches(['<', '&', '*', '(', '[']);
            let path = path.strip_prefix("mut ").unwrap_or(path);
            path.split_once("::").map_or("", |(first, _)| first)
        }
    };
    home == OF_DOCUMENTATION[0] || OF_DOCUMENTATION[1..].iter().any(|n| home.starts_with(n))
}

/// The function in which rustdoc has put an example that has a program to itself and no `main()` of its
/// own: what follows is the example's place, and a number.
const EXAMPLE: &str = "_doctest_main_";

/// The function that rustc has every program of tests call.
const HARNESS: &str = "test_main_static";

/// One of them is in the symbols of each program that tests something.
pub(super) const NAMES: [&str; 3] = [HARNESS, OF_DOCUMENTATION[2], EXAMPLE];

/// The place of the example that a function is, without the number.
pub(super) fn example(symbol: &str) -> Option<String> {
    if !symbol.contains(EXAMPLE) {
        return None;
    }
    let name = undecorated(symbol);
    let place = name.strip_prefix(OF_DOCUMENTATION[0])?;
    let place = place.strip_prefix("::main::")?.strip_prefix(EXAMPLE)?;
    let (place, _) = place.rsplit_once('_')?;
    (!place.contains(':')).then(|| place.to_owned())
}

/// Where the source of a function is.
enum Home<'s> {
    Crate(&'s str),
    /// Where the trait is that has this method for all types.
    Trait,
}

/// The home of a path of Rust's newer mangling, from `at` on. `left` bounds how deep it may be.
fn home(path: &str, at: usize, left: u32) -> Option<Home<'_>> {
    let left = left.checked_sub(1)?;
    match path.as_bytes().get(at)? {
        b'C' => {
            let ident = path.get(disambiguated(path, at + 1)?..)?;
            let digits = ident.bytes().take_while(u8::is_ascii_digit).count();
            let length: usize = ident.get(..digits)?.parse().ok()?;
            let name = ident.get(digits..)?;
            let name = name.strip_prefix('_').unwrap_or(name);
            Some(Home::Crate(name.get(..length)?))
        }
        b'N' => home(path, at + 2, left),
        b'I' => home(path, at + 1, left),
        // An implementation is where it stands, whatever type it is for.
        b'M' | b'X' => home(path, disambiguated(path, at + 1)?, left),
        b'Y' => Some(Home::Trait),
        b'B' => home(path, number(path, at + 1)?.0, left),
        _ => None,
    }
}

/// What follows a disambiguator, if there is one.
fn disambiguated(path: &str, at: usize) -> Option<usize> {
    match path.as_bytes().get(at)? {
        b's' => Some(number(path, at + 1)?.1),
        _ => Some(at),
    }
}

/// A number in base 62, and what follows it.
fn number(path: &str, at: usize) -> Option<(usize, usize)> {
    let digits = path.get(at..)?.split_once('_')?.0;
    let end = at + digits.len() + 1;
    let value = digits.bytes().try_fold(0_usize, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'z' => digit - b'a' + 10,
            b'A'..=b'Z' => digit - b'A' + 36,
            _ => return None,
        };
        value.checked_mul(62)?.checked_add(digit.into())
    })?;
    Some((
        if digits.is_empty() {
            0
        } else {
            value.checked_add(1)?
        },
        end,
    ))
}

/// The first part of the trait's path in `<Type as path::Trait>::method`.
fn crate_of_trait(name: &str) -> &str {
    let mut depth = 0_u32;
    for (at, c) in name.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            ' ' if depth == 1 => {
                if let Some(path) = name.get(at..).and_then(|rest| rest.strip_prefix(" as ")) {
                    return path.split_once("::").map_or("", |(first, _)| first);
                }
            }
            _ => {}
        }
    }
    ""
}

/// A Rust function's path, without the hash that either mangling may leave with it.
fn undecorated(symbol: &str) -> String {
    let name = demangled(symbol);
    let is_hash = |text: &str| {
        let hash = text.strip_prefix('h').unwrap_or_default();
        hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit())
    };
    match name.rsplit_once("::") {
        Some((path, last)) if is_hash(last) => path.to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(names: &[&str]) -> Vec<Function> {
        let places = (0..).step_by(16).map(|start| start..start + 16);
        let named = |(name, range): (&&str, Range<u64>)| Function {
            name: (*name).into(),
            range,
        };
        names.iter().zip(places).map(named).collect()
    }

    const HARNESS: &str = "_ZN4test16test_main_static17h0123456789abcdefE";
    const MAIN: &str = "_ZN4shop4main17h0123456789abcdefE";
    const OWN_MAIN: &str = "_ZN4shop4main17hfedcba9876543210E";

    #[test]
    fn only_a_program_of_tests_has_it() {
        for (names, found) in [
            (&["main", MAIN, HARNESS][..], Some(16..32)),
            (&["_RNvCs1_4shop4main", HARNESS], Some(0..16)),
            (&["main", MAIN], None),
            (&[MAIN, OWN_MAIN, HARNESS], None),
            (&["_ZN4shop3app4main17h0123456789abcdefE", HARNESS], None),
            (
                &["_ZN4shop6domain17h0123456789abcdefE", "main", HARNESS],
                None,
            ),
        ] {
            let main = main_of(&functions(names), |_, _| false);
            assert_eq!(main, found, "{names:?}");
        }
    }

    #[test]
    fn of_two_it_is_the_one_that_calls_the_tests() {
        let functions = functions(&[OWN_MAIN, MAIN, HARNESS]);
        for caller in [0, 16] {
            let calls = |code: &Range<u64>, to| (code.start, to) == (caller, 32);
            assert_eq!(main_of(&functions, calls), Some(caller..caller + 16));
        }
    }

    #[test]
    fn the_place_of_an_example_is_in_its_functions_name() {
        for (symbol, expected) in [
            (
                "_RNvNvCsdqsnfIJc26X_8rust_out4main29__doctest_main_src_lib_rs_10_0",
                Some("src_lib_rs_10"),
            ),
            (
                "_ZN8rust_out4main28_doctest_main_src_lib_rs_2_017h0123456789abcdefE",
                Some("src_lib_rs_2"),
            ),
            ("_RNvCsdqsnfIJc26X_8rust_out4main", None),
            // What is in it, and what it calls for its types.
            (
                "_RNvXNvNvCsdqsnfIJc26X_8rust_out4main29__doctest_main_src_shop_rs_1_0NtB2_1A\
                 NtNtCsgEmfK2I1SDS_4core3fmt5Debug3fmtB6_",
                None,
            ),
        ] {
            assert_eq!(
                example(symbol).as_deref(),
                expected,
                "{}",
                demangled(symbol)
            );
        }
    }

    #[test]
    fn what_is_of_a_test_in_documentation() {
        for (symbol, expected) in [
            ("_ZN8rust_out4main17h0123456789abcdefE", true),
            ("_RNvNtCs1_19doctest_bundle_202411___doctest_04main", true),
            ("_RNvCs1_19doctest_runner_20244main", true),
            (
                "_RNvXNvCs1_8rust_out4mainNtB2_4MineNtCs2_4shop5Trade4sell",
                true,
            ),
            (
                "_RNvYNtNvCs1_8rust_out4main4MineNtCs2_4shop5Trade5twiceB5_",
                false,
            ),
            ("_RINvCs2_4shop5shownNtNvCs1_8rust_out4main4MineE", false),
            ("_ZN4shop8rust_out17h0123456789abcdefE", false),
            ("main", false),
        ] {
            assert_eq!(is_of_doctest(symbol), expected, "{}", demangled(symbol));
        }
        assert!(has_doctests(&functions(&[
            "f",
            "_ZN8rust_out4main17h0123456789abcdefE"
        ])));
        assert!(!has_doctests(&functions(&["main", MAIN, HARNESS])));
    }
}
