// SPDX-License-Identifier: MIT OR Apache-2.0
//! What rustc adds to a program of tests.

use super::demangled;
use super::elf::Function;
use std::ops::Range;

/// The code of the `main()` that rustc writes for a program of tests. Its debug information says
/// that it stands on the first line of the crate, where something else stands.
pub(super) fn main_of(functions: &[Function]) -> Option<Range<u64>> {
    let has = |part: &str, name: &str| {
        functions
            .iter()
            .filter(|function| function.name.contains(part))
            .any(|function| undecorated(&function.name) == name)
    };
    if !has("test_main_static", "test::test_main_static") {
        return None;
    }
    let mut mains = functions.iter().filter(|function| {
        let name = if function.name.contains("4main") {
            undecorated(&function.name)
        } else {
            String::new()
        };
        name.strip_suffix("::main")
            .is_some_and(|of| !of.is_empty() && !of.contains("::"))
    });
    let main = mains.next()?;
    // A program's own, which a test calls, has the same name.
    mains.next().is_none().then(|| main.range.clone())
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

    #[test]
    fn only_a_program_of_tests_has_it() {
        for (names, found) in [
            (&["main", MAIN, HARNESS][..], Some(16..32)),
            (&["_RNvCs1_4shop4main", HARNESS], Some(0..16)),
            (&["main", MAIN], None),
            (&[MAIN, "_ZN4shop4main17hfedcba9876543210E", HARNESS], None),
            (&["_ZN4shop3app4main17h0123456789abcdefE", HARNESS], None),
            (
                &["_ZN4shop6domain17h0123456789abcdefE", "main", HARNESS],
                None,
            ),
        ] {
            assert_eq!(main_of(&functions(names)), found, "{names:?}");
        }
    }
}
