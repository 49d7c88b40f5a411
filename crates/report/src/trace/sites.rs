// SPDX-License-Identifier: MIT OR Apache-2.0
//! Streams whose order says nothing, as sets of numbers.
//!
//! Each file of code has a table of the places in it that were recorded, which grows as the trace is
//! written; a stream is then a set of numbers of such places, compressed. What was recorded first, by
//! most, has small numbers that lie side by side.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;

use super::format::{Decoder, Encoder, Nonsense};
use super::{BuildId, Module, ProcessId};

/// No module, where otherwise the number of a module stands.
pub(super) const NO_MODULE: u32 = u32::MAX;

/// Some words of a stream: numbers of places in one file of code.
#[derive(Clone, Debug)]
pub struct SiteSet {
    table: u32,
    module: Option<usize>,
    bias: u64,
    numbers: RoaringBitmap,
    /// The table, as it stands at the end of the file.
    places: Arc<[u64]>,
}

impl SiteSet {
    /// Which of [`Trace::site_tables`](super::Trace::site_tables) the numbers are of.
    #[must_use]
    pub const fn table(&self) -> usize {
        self.table as usize
    }

    /// The module, by its place in [`Trace::modules`](super::Trace::modules), if they are of one.
    #[must_use]
    pub const fn module(&self) -> Option<usize> {
        self.module
    }

    /// The numbers: places in the table.
    #[must_use]
    pub const fn numbers(&self) -> &RoaringBitmap {
        &self.numbers
    }

    /// The words as they were recorded, in the order of the table.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.numbers.iter().filter_map(|number| {
            let place = self.places.get(number as usize)?;
            Some(place.wrapping_add(self.bias))
        })
    }
}

/// The tables of a file that is read.
#[derive(Debug, Default)]
pub(super) struct Tables(Vec<Vec<u64>>);

impl Tables {
    /// Reads a section that makes a table longer, or begins the next one.
    pub(super) fn grow(&mut self, from: &mut Decoder<'_>) -> Result<(), Nonsense> {
        let number = from.u32()? as usize;
        if number == self.0.len() {
            self.0.push(Vec::new());
        }
        let table = self.0.get_mut(number).ok_or("a table is missing")?;
        let added = from.list(Decoder::u64)?;
        if table.len() + added.len() > u32::MAX as usize {
            return Err("a table is too long");
        }
        table.extend(added);
        Ok(())
    }

    /// Reads a set of a stream of `process`.
    pub(super) fn set(
        &self,
        from: &mut Decoder<'_>,
        modules: &[Module],
        process: ProcessId,
    ) -> Result<SiteSet, Nonsense> {
        let table = from.u32()?;
        let module = match from.u32()? {
            NO_MODULE => None,
            module => Some(module as usize),
        };
        let bias = match module {
            None => 0,
            Some(module) => {
                let module = modules.get(module).ok_or("a module that was not named")?;
                if module.process.is_some_and(|of| of != process) {
                    return Err("places in a module of another process");
                }
                module.bias
            }
        };
        let mut bytes = from.bytes()?;
        let numbers = RoaringBitmap::deserialize_from(&mut bytes)
            .map_err(|_| "a set of places is no bitmap")?;
        if !bytes.is_empty() {
            return Err("there is something behind a bitmap");
        }
        let known = self.0.get(table as usize).map_or(0, Vec::len);
        if numbers.max().is_none_or(|max| max as usize >= known) {
            return Err("a place that is in no table");
        }
        Ok(SiteSet {
            table,
            module,
            bias,
            numbers,
            places: Arc::default(),
        })
    }

    /// The tables at the end of the file.
    pub(super) fn end(self) -> Vec<Arc<[u64]>> {
        self.0.into_iter().map(Arc::from).collect()
    }
}

impl SiteSet {
    /// Gives the set the table that it is of.
    pub(super) fn settle(&mut self, tables: &[Arc<[u64]>]) {
        if let Some(places) = tables.get(self.table()) {
            self.places = Arc::clone(places);
        }
    }
}

/// The tables of a file that is written, and where modules lie. It grows with the places and the
/// modules of a trace, and not with its streams.
#[derive(Debug)]
pub(super) struct Growing {
    /// The table of each image; the first is of words that are of none.
    tables: Vec<Table>,
    images: HashMap<(PathBuf, BuildId), usize>,
    /// The modules of each process, and those of all, by the address at which they begin.
    modules: HashMap<Option<ProcessId>, Vec<Lies>>,
    /// Modules in the file.
    count: u32,
    /// Tables in the file.
    begun: u32,
}

#[derive(Debug, Default)]
struct Table {
    /// Its number in the file, if it stands there.
    number: Option<u32>,
    places: FxHashMap<u64, u32>,
}

/// Where a module lies.
#[derive(Clone, Copy, Debug)]
struct Lies {
    start: u64,
    bias: u64,
    module: u32,
    image: usize,
}

/// What is written for a stream.
#[derive(Default)]
pub(super) struct Sections {
    /// Tables that grow, to be written before the stream.
    pub(super) tables: Vec<Encoder>,
    /// The stream's sets.
    pub(super) sets: Vec<Encoder>,
    /// How many words the sets have.
    pub(super) words: u64,
}

impl Default for Growing {
    fn default() -> Self {
        Self {
            tables: vec![Table::default()],
            images: HashMap::new(),
            modules: HashMap::new(),
            count: 0,
            begun: 0,
        }
    }
}

impl Growing {
    /// A module stands in the file.
    pub(super) fn module(&mut self, module: &Module) {
        // One of a program in which nothing ran lies nowhere.
        if !module.range.is_empty() {
            let tables = &mut self.tables;
            let key = (module.path.clone(), module.build_id.clone());
            let image = *self.images.entry(key).or_insert_with(|| {
                tables.push(Table::default());
                tables.len() - 1
            });
            let lies = Lies {
                start: module.range.start,
                bias: module.bias,
                module: self.count,
                image,
            };
            let of = self.modules.entry(module.process).or_default();
            let at = of.partition_point(|other| other.start <= lies.start);
            of.insert(at, lies);
        }
        self.count += 1;
    }

    /// The sections for a stream of `process` that has recorded `words`, in any order.
    pub(super) fn stream(
        &mut self,
        process: ProcessId,
        words: impl IntoIterator<Item = u64>,
    ) -> io::Result<Sections> {
        let mut words: Vec<u64> = words.into_iter().filter(|word| *word != 0).collect();
        words.sort_unstable();
        words.dedup();
        let mut sections = Sections::default();
        let mut at = 0;
        while let Some(word) = words.get(at) {
            let (lies, end) = self.lies(process, *word);
            let here = words[at..].partition_point(|word| *word < end).max(1);
            self.part(lies, &words[at..at + here], &mut sections)?;
            at += here;
        }
        Ok(sections)
    }

    /// The last module of a process that begins at `word` or before, data being behind text, and
    /// the first address from which on that is not so.
    fn lies(&self, process: ProcessId, word: u64) -> (Option<Lies>, u64) {
        let (mut found, mut end) = (None::<Lies>, u64::MAX);
        for of in [Some(process), None] {
            let of = self.modules.get(&of).map_or(&[][..], Vec::as_slice);
            let after = of.partition_point(|lies| lies.start <= word);
            if let Some(next) = of.get(after) {
                end = end.min(next.start);
            }
            if let Some(lies) = after.checked_sub(1).map(|at| of[at]) {
                if found.is_none_or(|other| other.start < lies.start) {
                    found = Some(lies);
                }
            }
        }
        (found, end)
    }

    fn part(&mut self, lies: Option<Lies>, words: &[u64], to: &mut Sections) -> io::Result<()> {
        let table = &mut self.tables[lies.map_or(0, |lies| lies.image)];
        let bias = lies.map_or(0, |lies| lies.bias);
        let mut new = Vec::new();
        let mut numbers = Vec::with_capacity(words.len());
        for word in words {
            let place = word.wrapping_sub(bias);
            let next = u32::try_from(table.places.len())
                .ok()
                .filter(|next| *next < u32::MAX);
            let next = next.ok_or_else(|| io::Error::other("more than 2^32 places in one file"))?;
            numbers.push(*table.places.entry(place).or_insert_with(|| {
                new.push(place);
                next
            }));
        }
        let begun = &mut self.begun;
        let number = *table.number.get_or_insert_with(|| {
            *begun += 1;
            *begun - 1
        });
        if !new.is_empty() {
            let mut fields = Encoder::default();
            fields.u32(number).list(&new, |to, place| {
                to.u64(*place);
            });
            to.tables.push(fields);
        }
        let mut numbers: RoaringBitmap = numbers.into_iter().collect();
        numbers.optimize();
        let mut bytes = Vec::with_capacity(numbers.serialized_size());
        numbers.serialize_into(&mut bytes)?;
        let mut fields = Encoder::default();
        fields.u32(number);
        fields.u32(lies.map_or(NO_MODULE, |lies| lies.module));
        fields.bytes(&bytes);
        to.sets.push(fields);
        to.words += numbers.len();
        Ok(())
    }
}
