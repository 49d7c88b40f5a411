// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of threads that the system has cut.

use std::collections::{BTreeMap, BTreeSet};

use super::{Coverage, StreamIndex, StreamSet};

/// Bytes of a thread's name that Linux keeps.
pub(super) const KEPT: usize = 15;

/// Gives threads of Rust's test harness the whole name of their test. The harness calls a test by a
/// closure inside of it, so what the thread ran has the name; if two could be it, the name stays cut.
pub(super) fn complete(coverage: &mut Coverage) {
    let cut = |(index, stream): (StreamIndex, &super::StreamSummary)| {
        (stream.info.name.len() == KEPT && !stream.info.main).then_some(index)
    };
    let cut: StreamSet = coverage
        .streams
        .iter()
        .enumerate()
        .filter_map(cut)
        .collect();
    if cut.is_empty() {
        return;
    }
    let mut names: BTreeMap<StreamIndex, BTreeSet<&str>> = BTreeMap::new();
    let functions = coverage.files.values().flat_map(|file| &file.functions);
    for function in functions.filter(|function| function.hits.streams.meets(&cut)) {
        let Some(test) = around_closure(&function.name) else {
            continue;
        };
        for index in function
            .hits
            .streams
            .iter()
            .filter(|index| cut.contains(*index))
        {
            if test.starts_with(&coverage.streams[index].info.name) {
                names.entry(index).or_default().insert(test);
            }
        }
    }
    let one = |(index, names): (StreamIndex, BTreeSet<&str>)| {
        let mut names = names.into_iter();
        let name = names.next().filter(|_| names.next().is_none())?;
        Some((index, name.to_owned()))
    };
    let names: Vec<(StreamIndex, String)> = names.into_iter().filter_map(one).collect();
    for (index, name) in names {
        coverage.streams[index].info.name = name;
    }
}

/// The function, without its crate, whose closure has this name.
fn around_closure(name: &str) -> Option<&str> {
    let (function, last) = name.rsplit_once("::")?;
    let is_closure = last.starts_with("{closure#") || last == "{{closure}}";
    let (_, path) = function.split_once("::").filter(|_| is_closure)?;
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_what_its_closure_is_in() {
        for (name, test) in [
            (
                "shop::order::tests::four::{closure#0}",
                Some("order::tests::four"),
            ),
            ("shop::four::{{closure}}", Some("four")),
            ("shop::four", None),
            ("four::{{closure}}", None),
        ] {
            assert_eq!(around_closure(name), test, "{name}");
        }
    }
}
