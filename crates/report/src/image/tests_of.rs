// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tests of a program of libtest, from its data.
//!
//! rustc writes a `TestDescAndFn` for each test: its name, where it stands, and the function that
//! libtest calls in the test's own thread and nothing else calls. Where these fields stand in it is not
//! fixed, and asking the program would run it. But each record has them at the same distances: the
//! text of a name and that of a source file before or behind a function's address.
//!
//! rustdoc makes a program of each example in documentation, or one of libtest's of many.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use memchr::memmem;
use object::{Object, ObjectSection, ObjectSegment, RelocationTarget};
use rustc_hash::FxHashSet;

use super::elf::{self, ElfFile};
use super::harness;
use super::locate::{self, Search};
use super::sites::Sites;
use crate::trace::BuildId;

/// How far fields of one record are from each other at most.
const NEAR: u64 = 256;
/// Longest name of a test.
const LONGEST: u64 = 1 << 14;

/// The tests of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tests {
    /// Sorted by name.
    pub tests: Vec<Test>,
    /// The same by their entries, and what they are: their places in `tests`.
    by_entry: Vec<(Range<u64>, usize)>,
    /// The guards of entries, sorted, and what tests they are of.
    by_guard: Vec<(u64, usize)>,
}

impl Tests {
    fn new(mut tests: Vec<Test>) -> Self {
        tests.sort_by(|a, b| a.name.cmp(&b.name));
        tests.dedup_by(|a, b| a.name == b.name && a.entry == b.entry);
        let numbered = || tests.iter().enumerate();
        let entries = numbered().map(|(at, test)| (test.entry.clone(), at));
        let guards = numbered().flat_map(|(at, test)| test.guards.iter().map(move |g| (*g, at)));
        let mut by_entry: Vec<_> = entries.collect();
        by_entry.sort_by_key(|(entry, at)| (entry.start, *at));
        let mut by_guard: Vec<_> = guards.collect();
        by_guard.sort_unstable();
        Self {
            tests,
            by_entry,
            by_guard,
        }
    }

    /// One test that has a program to itself.
    #[must_use]
    pub fn alone(name: &str) -> Self {
        Self::new(vec![Test {
            name: name.to_owned(),
            entry: 0..0,
            guards: Vec::new(),
        }])
    }

    /// The tests whose entry ran if this word was recorded, minus the bias of the program; in most
    /// cases none.
    pub fn entered_by(&self, place: u64) -> impl Iterator<Item = usize> + '_ {
        // A PC is that behind a call.
        let (before, _) = self.by_entry.split_at(
            self.by_entry
                .partition_point(|(entry, _)| entry.start < place),
        );
        // Of tests with the same entry, all.
        let last = before.last().map_or(0, |(entry, _)| entry.start);
        let first = before.partition_point(|(entry, _)| entry.start < last);
        let entries = before[first..].iter();
        let entries = entries.filter(move |(entry, _)| place <= entry.end);
        let first = self.by_guard.partition_point(|(guard, _)| *guard < place);
        let guards = self.by_guard[first..].iter();
        let guards = guards.take_while(move |(guard, _)| *guard == place);
        entries.map(|(_, at)| *at).chain(guards.map(|(_, at)| *at))
    }
}

/// A test as libtest knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// The name that `--list` prints.
    pub name: String,
    /// The code that libtest calls: addresses in the file. Another test may have the same, where the
    /// linker made one of two.
    pub entry: Range<u64>,
    /// The guards that only this code stores into, sorted.
    pub guards: Vec<u64>,
}

/// What a program tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tested {
    /// The tests of a program of libtest's.
    Tests(Tests),
    /// One example in documentation, by the name that rustdoc gives its function: [`Example::ident`].
    Example(String),
}

/// What the program that was at `path` tests; `None` if it has no tests, or is not there.
#[must_use]
pub fn tested_by(path: &Path, build_id: &BuildId) -> Option<Tested> {
    let found = locate::locate(path, build_id, &Search::default());
    let file = found.binary?;
    let object = file.object()?;
    let symbols = Symbols::of(&object);
    if symbols.has_harness {
        return Some(Tested::Tests(read(&file, &object, &symbols.closures)));
    }
    symbols.example.map(Tested::Example)
}

/// What the symbols of a program say of its tests.
#[derive(Default)]
struct Symbols {
    /// It runs tests, or examples in documentation, by libtest.
    has_harness: bool,
    /// The example that has the program to itself.
    example: Option<String>,
    /// Closures that may be called by their addresses, as libtest calls tests; sorted.
    closures: Vec<Range<u64>>,
}

impl Symbols {
    /// Programs have ten thousands of symbols, and a run has many programs: only the names are looked at.
    fn of(object: &object::File<'_>) -> Self {
        let mut all = Self::default();
        if !mentions(object, harness::NAMES) {
            return all;
        }
        let closure = memmem::Finder::new("call_once");
        for (range, name) in elf::named(object) {
            if closure.find(name).is_some() && !range.is_empty() {
                all.closures.push(range);
            }
            if all.has_harness {
                continue;
            }
            let Ok(name) = str::from_utf8(name) else {
                continue;
            };
            all.has_harness = harness::is_of_harness(name) || harness::is_of_examples(name);
            if all.example.is_none() {
                all.example = harness::example(name);
            }
        }
        // Of several with one start, the longest.
        let key = |closure: &Range<u64>| (closure.start, u64::MAX - closure.end);
        all.closures.sort_unstable_by_key(key);
        all.closures.dedup_by_key(|closure| closure.start);
        all
    }
}

/// Whether any of these texts is in the names of a program's symbols.
fn mentions(object: &object::File<'_>, texts: [&str; 3]) -> bool {
    [".strtab", ".dynstr"].into_iter().any(|section| {
        let section = object.section_by_name(section);
        let names = section
            .and_then(|section| section.data().ok())
            .unwrap_or_default();
        texts
            .iter()
            .any(|text| memmem::find(names, text.as_bytes()).is_some())
    })
}

/// Where an example in documentation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example<'a> {
    /// The source, as rustdoc names it.
    pub source: &'a str,
    /// The line on which it begins.
    pub line: u32,
}

impl<'a> Example<'a> {
    /// The example that a test of this name is: `src/lib.rs - shop::sell (line 7)`. `None` if it is
    /// another test.
    #[must_use]
    pub fn of(test: &'a str) -> Option<Self> {
        let (source, item) = test.split_once(" - ")?;
        let (_, line) = item.strip_suffix(')')?.rsplit_once("(line ")?;
        let line = line.parse().ok()?;
        Some(Self { source, line })
    }

    /// What rustdoc makes of it in the name of a function: `src_lib_rs_7`.
    #[must_use]
    pub fn ident(&self) -> String {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let source: String = self.source.chars().map(letter).collect();
        format!("{source}_{}", self.line)
    }
}

fn read(file: &ElfFile, object: &object::File<'_>, closures: &[Range<u64>]) -> Tests {
    let mut tests = Memory::new(object).tests(closures);
    let stores = Sites::new(file).sole_stores();
    for test in &mut tests {
        let first = stores.partition_point(|(pc, _)| *pc <= test.entry.start);
        let here = stores[first..].iter();
        let here = here.take_while(|(pc, _)| *pc <= test.entry.end);
        test.guards = here.map(|(_, guard)| *guard).collect();
        test.guards.sort_unstable();
    }
    Tests::new(tests)
}

/// What a program's memory is when it starts.
struct Memory<'a> {
    segments: Vec<(u64, &'a [u8])>,
    /// Words that the dynamic linker makes addresses of, and these, sorted.
    pointers: Vec<(u64, u64)>,
}

/// Where the texts of a record are, from the word with the function's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Layout {
    name: i64,
    source: i64,
}

impl<'a> Memory<'a> {
    fn new(object: &object::File<'a>) -> Self {
        let segments = object.segments();
        let segments = segments.filter_map(|s| Some((s.address(), s.data().ok()?)));
        let relocations = object.dynamic_relocations().into_iter().flatten();
        let pointers = relocations
            .filter(|(_, relocation)| relocation.target() == RelocationTarget::Absolute)
            .map(|(word, relocation)| (word, relocation.addend().cast_unsigned()));
        let mut memory = Self {
            segments: segments.collect(),
            pointers: pointers.collect(),
        };
        if memory.pointers.is_empty() {
            // Linked to be where it is, or with relocations that stand in place.
            memory.pointers = memory.words_in_place();
        }
        memory.pointers.sort_unstable();
        memory
    }

    /// All words that are addresses of the program.
    fn words_in_place(&self) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        for (start, data) in &self.segments {
            let skew = (start.wrapping_neg() % 8) as usize;
            let words = data.get(skew..).unwrap_or_default().as_chunks::<8>().0;
            for (at, word) in words.iter().enumerate() {
                let target = u64::from_le_bytes(*word);
                if target != 0 && self.bytes(target, 1).is_some() {
                    found.push((start + (skew + at * 8) as u64, target));
                }
            }
        }
        found
    }

    fn bytes(&self, at: u64, len: u64) -> Option<&'a [u8]> {
        self.segments.iter().find_map(|(start, data)| {
            let from = usize::try_from(at.checked_sub(*start)?).ok()?;
            data.get(from..from.checked_add(usize::try_from(len).ok()?)?)
        })
    }

    fn word(&self, at: u64) -> Option<u64> {
        let bytes = self.bytes(at, 8)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }

    /// The text that a `&str` at this address is.
    fn text(&self, at: u64) -> Option<&'a str> {
        let pointer = self.pointers.binary_search_by_key(&at, |(word, _)| *word);
        self.text_of(self.pointers[pointer.ok()?])
    }

    /// The text that a `&str` is whose first word this is.
    fn text_of(&self, (at, target): (u64, u64)) -> Option<&'a str> {
        let len = self.word(at.checked_add(8)?)?;
        if len == 0 || len > LONGEST {
            return None;
        }
        std::str::from_utf8(self.bytes(target, len)?).ok()
    }

    /// The texts that are at most [`NEAR`] from a word, and how far.
    fn texts_near(&self, word: u64) -> impl Iterator<Item = (i64, &'a str)> + '_ {
        let first = word.saturating_sub(NEAR);
        let first = self.pointers.partition_point(|(at, _)| *at < first);
        let near = self.pointers[first..].iter();
        let near = near.take_while(move |(at, _)| *at <= word.saturating_add(NEAR));
        let near = near.filter(move |(at, _)| *at != word && at.abs_diff(word) % 8 == 0);
        near.filter_map(move |pointer| {
            let by = pointer.0.wrapping_sub(word).cast_signed();
            Some((by, self.text_of(*pointer)?))
        })
    }

    fn tests(&self, closures: &[Range<u64>]) -> Vec<Test> {
        let entry = |address: u64| {
            let at = closures.binary_search_by_key(&address, |closure| closure.start);
            at.ok().map(|at| &closures[at])
        };
        let called = self.pointers.iter();
        let called: Vec<(u64, &Range<u64>)> = called
            .filter_map(|(word, target)| Some((*word, entry(*target)?)))
            .collect();
        let mut votes: HashMap<Layout, usize> = HashMap::new();
        for (word, _) in &called {
            let near: Vec<(i64, &str)> = self.texts_near(*word).collect();
            let names = near.iter().filter(|(_, text)| is_name(text));
            for (name, _) in names {
                let sources = near.iter().filter(|(_, text)| is_source(text));
                for (source, _) in sources {
                    let layout = Layout {
                        name: *name,
                        source: *source,
                    };
                    *votes.entry(layout).or_default() += 1;
                }
            }
        }
        // Beside its own, a record has its neighbours' texts at the distances of a whole record; of those
        // there is one fewer.
        let most = votes.iter().max_by_key(|(layout, count)| {
            let far = layout.name.unsigned_abs() + layout.source.unsigned_abs();
            (**count, u64::MAX - far)
        });
        let Some((layout, _)) = most else {
            return Vec::new();
        };
        let record = |(word, entry): &(u64, &Range<u64>)| {
            let text = |by: i64| self.text(word.checked_add_signed(by)?);
            let name = text(layout.name).filter(|text| is_name(text))?;
            text(layout.source).filter(|text| is_source(text))?;
            let test = Test {
                name: name.to_owned(),
                entry: (*entry).clone(),
                guards: Vec::new(),
            };
            Some((*word, test))
        };
        let mut records: Vec<(u64, Test)> = called.iter().filter_map(record).collect();
        self.keep_listed(&mut records);
        records.into_iter().map(|(_, test)| test).collect()
    }

    /// The harness has a list of the addresses of all records. Other data may look like a record, but is not in
    /// it. The records of examples in documentation are in no list: all are kept if most have no address in common.
    fn keep_listed(&self, records: &mut Vec<(u64, Test)>) {
        let targets: FxHashSet<u64> = self.pointers.iter().map(|(_, target)| *target).collect();
        let is_listed = |word: u64, by: u64| {
            let begin = word.checked_sub(by);
            begin.is_some_and(|begin| targets.contains(&begin))
        };
        let listed = |by: u64| records.iter().filter(|(w, _)| is_listed(*w, by)).count();
        // Records of one size behind one another seem to begin where the one before does, too.
        let distances = (0..=NEAR).step_by(8).map(|by| (listed(by), by));
        let most = distances.max_by_key(|(count, by)| (*count, Reverse(*by)));
        if let Some((count, by)) = most.filter(|(count, _)| 2 * count > records.len()) {
            if count < records.len() {
                records.retain(|(word, _)| is_listed(*word, by));
            }
        }
    }
}

/// Whether a text may be the name of a file with tests: documentation is in Markdown, too.
fn is_source(text: &str) -> bool {
    text.ends_with(".rs") || text.ends_with(".md")
}

/// Whether a text is a path of Rust's, or the name of an example.
fn is_name(text: &str) -> bool {
    Example::of(text).is_some()
        || text.split("::").all(|part| {
            let part = part.strip_prefix("r#").unwrap_or(part);
            !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths() {
        for (text, expected) in [
            ("adds", true),
            ("a::b_1::c", true),
            ("r#mod::größe", true),
            ("src/lib.rs", false),
            ("a::", false),
            ("", false),
            ("a b", false),
            ("src/lib.rs - (line 2)", true),
            ("src/lib.rs - Pair<T>::twice (line 19)", true),
            ("src/lib.rs - a (line x)", false),
            ("a (line 2)", false),
        ] {
            assert_eq!(is_name(text), expected, "{text}");
        }
    }

    /// Three records, of which the harness lists two, and data that looks like one and has no place in the list.
    #[test]
    fn data_that_looks_like_a_record_is_none() {
        let mut memory = Memory {
            segments: Vec::new(),
            pointers: Vec::new(),
        };
        let mut data = vec![0_u8; 0x400];
        let texts: &[(usize, &str)] = &[
            (0x300, "adds"),
            (0x310, "cuts"),
            (0x320, "input"),
            (0x330, "src/lib.rs"),
        ];
        for (at, text) in texts {
            data[*at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        // The name, the source, the code.
        for (record, name, code) in [(0x100, 0, 0x9000), (0x140, 1, 0x9100), (0x180, 2, 0x9200)] {
            for (field, (target, text)) in [(0, texts[name]), (0x10, texts[3])] {
                let at = record + field;
                data[at + 8..at + 16].copy_from_slice(&(text.len() as u64).to_le_bytes());
                memory.pointers.push((at as u64, target as u64));
            }
            memory.pointers.push((record as u64 + 0x20, code));
        }
        memory.pointers.extend([(0x200, 0x100), (0x208, 0x140)]);
        memory.segments.push((0, &data));
        let closures = [0x9000..0x9010, 0x9100..0x9110, 0x9200..0x9210];
        let names = |memory: &Memory<'_>| {
            let tests = memory.tests(&closures);
            tests.into_iter().map(|test| test.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&memory), ["adds", "cuts"]);
        memory.pointers.truncate(memory.pointers.len() - 2);
        assert_eq!(names(&memory), ["adds", "cuts", "input"]);
    }

    #[test]
    fn examples_are_known_by_their_places() {
        let ident = |name| Example::of(name).map(|example| example.ident());
        for (name, expected) in [
            ("src/lib.rs - (line 2)", Some("src_lib_rs_2")),
            (
                "a-b/größe.rs - x::Y<T>::z (line 19)",
                Some("a_b_gr__e_rs_19"),
            ),
            ("src/lib.rs", None),
            ("tests::adds", None),
        ] {
            assert_eq!(ident(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_place_is_in_the_test_before_it_or_in_none() {
        let test = |name: &str, entry: Range<u64>, guards: &[u64]| Test {
            name: name.to_owned(),
            entry,
            guards: guards.to_vec(),
        };
        let tests = Tests::new(vec![
            test("a", 100..200, &[900]),
            test("b", 300..400, &[]),
            test("c", 300..400, &[]),
        ]);
        for (place, expected) in [
            (0, &[][..]),
            (100, &[]),
            (101, &[0]),
            (200, &[0]),
            (201, &[]),
            (300, &[]),
            (350, &[1, 2]),
            (900, &[0]),
            (u64::MAX, &[]),
        ] {
            let found: Vec<usize> = tests.entered_by(place).collect();
            assert_eq!(found, expected, "{place}");
        }
        assert_eq!(Tests::new(Vec::new()).entered_by(5).count(), 0);
    }

    /// This program is one of libtest's itself.
    #[test]
    fn the_tests_of_this_program_are_all_found() {
        let program = std::env::current_exe().unwrap();
        let build_id = super::super::build_id_of(&program).unwrap();
        let Some(Tested::Tests(found)) = tested_by(&program, &build_id) else {
            panic!("this is a program of tests");
        };
        let listed = std::process::Command::new(&program)
            .args(["--list", "--format", "terse"])
            .output()
            .unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let mut listed: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.strip_suffix(": test"))
            .collect();
        listed.sort_unstable();
        let names: Vec<&str> = found.tests.iter().map(|test| &*test.name).collect();
        assert!(listed.len() > 20);
        assert_eq!(names, listed);
        let mut entries: Vec<u64> = found.tests.iter().map(|t| t.entry.start).collect();
        entries.sort_unstable();
        entries.dedup();
        assert_eq!(entries.len(), listed.len(), "each has an entry of its own");
        for (at, test) in found.tests.iter().enumerate() {
            let by = |place| found.entered_by(place).collect::<Vec<_>>();
            assert_eq!(by(test.entry.start + 1), [at]);
            assert_eq!(by(test.entry.end), [at]);
        }
    }
}
