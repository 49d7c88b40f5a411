// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a symbolizer was asked, and what it answered.

use std::ffi::OsStr;
use std::hash::Hash;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::cache::{offset, shared_path, short, split};
use super::Frame;

/// Numbers that one table may have: 256 MiB.
const MOST: usize = 64 << 20;

/// What symbolizers answered, to be asked again.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Different frames.
    frames: Vec<Frame>,
    numbers: Numbers,
}

/// Addresses are offsets from `base`. What begins at an index ends where the next begins.
#[derive(Debug, Default)]
struct Numbers {
    base: u64,
    /// The ranges that were asked for, sorted: offset, length, and where its rows begin.
    ranges: Vec<[u32; 3]>,
    rows: Vec<u32>,
    /// The addresses that were asked for, sorted, and where its frames begin.
    points: Vec<[u32; 2]>,
    /// Numbers of frames.
    of_points: Vec<u32>,
}

/// Frames of an address: known ones are not copied.
pub(crate) enum Frames<'a> {
    Known(&'a [Frame], &'a [u32]),
    Found(Vec<Frame>),
}

impl<'a> Frames<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Known(_, numbers) => numbers.len(),
            Self::Found(frames) => frames.len(),
        }
    }

    /// The innermost first.
    pub(crate) fn iter<'s>(&'s self) -> impl DoubleEndedIterator<Item = &'s Frame> + use<'s, 'a> {
        (0..self.len()).map(|depth| match self {
            Self::Known(frames, numbers) => &frames[numbers[depth] as usize],
            Self::Found(frames) => &frames[depth],
        })
    }

    pub(crate) fn into_vec(self) -> Vec<Frame> {
        match self {
            Self::Found(frames) => frames,
            known @ Self::Known(..) => known.iter().cloned().collect(),
        }
    }
}

/// Where the last answers were: most questions come in order.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    range: usize,
    point: usize,
}

impl Answers {
    /// The answer to [`Symbolizer::rows`](super::Symbolizer::rows), if it is known.
    pub(super) fn rows(&self, range: &Range<u64>, cursor: &mut Cursor) -> Option<Vec<u64>> {
        let numbers = &self.numbers;
        let (start, length) = short(range, numbers.base)?;
        let at = find(
            &numbers.ranges,
            cursor.range,
            |[s, l, _]| (*s, *l),
            (start, length),
        )?;
        cursor.range = at + 1;
        let rows = &numbers.rows[within(&numbers.ranges, numbers.rows.len(), at)];
        let address = |row: &u32| numbers.base.wrapping_add(u64::from(*row));
        Some(rows.iter().map(address).collect())
    }

    /// The answer to [`Symbolizer::frames`](super::Symbolizer::frames), if it is known.
    pub(super) fn frames(&self, address: u64, cursor: &mut Cursor) -> Option<Frames<'_>> {
        let numbers = &self.numbers;
        let address = offset(address, numbers.base)?;
        let at = find(
            &numbers.points,
            cursor.point,
            |[address, _]| *address,
            address,
        )?;
        cursor.point = at + 1;
        let of_point = within(&numbers.points, numbers.of_points.len(), at);
        Some(Frames::Known(&self.frames, &numbers.of_points[of_point]))
    }

    /// Puts what was known and what was learnt together; both have offsets from `base`. `None` if it is too much.
    pub(crate) fn merged(self, learnt: Vec<Learnt>, base: u64) -> Option<Self> {
        if !self.is_empty() && self.numbers.base != base {
            return None;
        }
        // Each with the number that its first frame comes to have.
        let mut frames = self.frames;
        let mut parts = vec![(0, self.numbers)];
        for some in learnt {
            parts.push((index(&frames), some.numbers));
            frames.extend(some.frames);
        }
        let mut sizes = [0; 2];
        let mut ranges: Vec<([u32; 2], usize, usize)> = Vec::new();
        let mut points: Vec<(u32, usize, usize)> = Vec::new();
        for (part, (_, numbers)) in parts.iter().enumerate() {
            let of_part = numbers.ranges.iter().enumerate();
            ranges.extend(of_part.map(|(at, [start, length, _])| ([*start, *length], part, at)));
            let of_part = numbers.points.iter().enumerate();
            points.extend(of_part.map(|(at, [address, _])| (*address, part, at)));
            sizes[0] += numbers.rows.len();
            sizes[1] += numbers.of_points.len();
        }
        if sizes.into_iter().any(|size| size > MOST) {
            return None;
        }
        ranges.sort_unstable();
        ranges.dedup_by_key(|(range, ..)| *range);
        points.sort_unstable();
        points.dedup_by_key(|(address, ..)| *address);
        let mut sorted = Numbers {
            base,
            ..Numbers::default()
        };
        for ([start, length], part, at) in ranges {
            let (_, numbers) = &parts[part];
            let rows = within(&numbers.ranges, numbers.rows.len(), at);
            sorted.ranges.push([start, length, index(&sorted.rows)]);
            sorted.rows.extend(&numbers.rows[rows]);
        }
        for (address, part, at) in points {
            let (first, numbers) = &parts[part];
            let of_point = within(&numbers.points, numbers.of_points.len(), at);
            let of_point = numbers.of_points[of_point].iter();
            sorted.points.push([address, index(&sorted.of_points)]);
            sorted
                .of_points
                .extend(of_point.map(|number| number + first));
        }
        Some(Self {
            frames,
            numbers: sorted,
        })
    }

    fn is_empty(&self) -> bool {
        self.numbers.ranges.is_empty() && self.numbers.points.is_empty()
    }

    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut symbols = Interned::<str>::new();
        let mut files = Interned::<OsStr>::new();
        let frames = self.frames.iter().map(|frame| StoredFrame {
            symbol: frame.symbol.as_ref().map(|symbol| symbols.number(symbol)),
            file: frame.file.as_ref().map(|file| files.number(file)),
            line: frame.line,
        });
        let stored = Stored {
            base: self.numbers.base,
            frames: frames.collect(),
            symbols: symbols.all.iter().map(|text| &**text).collect(),
            files: files.all.iter().map(|file| file.as_bytes()).collect(),
        };
        let numbers = &self.numbers;
        let tables = [
            numbers.ranges.as_flattened(),
            &numbers.rows,
            numbers.points.as_flattened(),
            &numbers.of_points,
        ];
        let mut bytes = postcard::to_stdvec(&stored).ok()?;
        for table in tables {
            bytes.extend((4 * table.len() as u64).to_le_bytes());
            bytes.extend(bytes_of(table));
        }
        Some(bytes)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (stored, tables) = postcard::take_from_bytes::<Stored<&str, &[u8]>>(bytes).ok()?;
        let [ranges, rows, points, of_points] = split(tables)?[..] else {
            return None;
        };
        let symbols: Vec<Arc<str>> = stored.symbols.into_iter().map(Arc::from).collect();
        let files: Vec<Arc<OsStr>> = stored.files.into_iter().map(shared_path).collect();
        let frames = stored.frames.into_iter().map(|frame| {
            let symbol = match frame.symbol {
                Some(number) => Some(symbols.get(number as usize)?),
                None => None,
            };
            let file = match frame.file {
                Some(number) => Some(files.get(number as usize)?),
                None => None,
            };
            (frame.line != Some(0)).then(|| Frame {
                symbol: symbol.cloned(),
                file: file.cloned(),
                line: frame.line,
            })
        });
        let frames = frames.collect::<Option<Vec<Frame>>>()?;
        let numbers = Numbers {
            base: stored.base,
            ranges: numbers_of(ranges)?,
            rows: numbers_of(rows)?.into_iter().map(|[row]| row).collect(),
            points: numbers_of(points)?,
            of_points: numbers_of(of_points)?.into_iter().map(|[n]| n).collect(),
        };
        let sound = numbers
            .ranges
            .is_sorted_by(|a, b| a[..2] < b[..2] && a[2] <= b[2])
            && numbers
                .points
                .is_sorted_by(|a, b| a[0] < b[0] && a[1] <= b[1])
            && numbers
                .ranges
                .last()
                .is_none_or(|last| last[2] as usize <= numbers.rows.len())
            && numbers
                .points
                .last()
                .is_none_or(|last| last[1] as usize <= numbers.of_points.len())
            && numbers
                .of_points
                .iter()
                .all(|number| (*number as usize) < frames.len());
        sound.then_some(Self { frames, numbers })
    }
}

/// What one symbolizer learns, in the order of the questions.
#[derive(Debug)]
pub(crate) struct Learnt {
    frames: Vec<Frame>,
    numbers: Numbers,
    known: FxHashMap<(usize, usize, u32), u32>,
}

impl Learnt {
    pub(super) fn new(base: u64) -> Self {
        Self {
            frames: Vec::new(),
            numbers: Numbers {
                base,
                ..Numbers::default()
            },
            known: FxHashMap::default(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.ranges.is_empty() && self.numbers.points.is_empty()
    }

    fn is_full(&self) -> bool {
        let numbers = &self.numbers;
        let lengths = [numbers.rows.len(), numbers.of_points.len()];
        lengths.into_iter().max() > Some(MOST)
    }

    pub(super) fn range(&mut self, range: &Range<u64>, rows: &[u64]) {
        let base = self.numbers.base;
        let offsets: Option<Vec<u32>> = rows.iter().map(|row| offset(*row, base)).collect();
        if let (Some((start, length)), Some(offsets), false) =
            (short(range, base), offsets, self.is_full())
        {
            let numbers = &mut self.numbers;
            numbers.ranges.push([start, length, index(&numbers.rows)]);
            numbers.rows.extend(offsets);
        }
    }

    pub(super) fn point(&mut self, address: u64, frames: &[Frame]) {
        if let (Some(address), false) = (offset(address, self.numbers.base), self.is_full()) {
            let start = index(&self.numbers.of_points);
            self.numbers.points.push([address, start]);
            for frame in frames {
                let number = self.number(frame);
                self.numbers.of_points.push(number);
            }
        }
    }

    /// The number of a frame. Texts are told apart by where they are, as a symbolizer has each once.
    fn number(&mut self, frame: &Frame) -> u32 {
        let symbol = frame
            .symbol
            .as_ref()
            .map_or(0, |text| Arc::as_ptr(text).addr());
        let file = frame
            .file
            .as_ref()
            .map_or(0, |text| Arc::as_ptr(text).addr());
        let key = (symbol, file, frame.line.unwrap_or(0));
        *self.known.entry(key).or_insert_with(|| {
            self.frames.push(frame.clone());
            index(&self.frames) - 1
        })
    }
}

/// All but the numbers, as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored<Text, Path> {
    base: u64,
    frames: Vec<StoredFrame>,
    symbols: Vec<Text>,
    files: Vec<Path>,
}

#[derive(Serialize, Deserialize)]
struct StoredFrame {
    symbol: Option<u32>,
    file: Option<u32>,
    line: Option<u32>,
}

/// Texts by number.
struct Interned<T: ?Sized> {
    all: Vec<Arc<T>>,
    numbers: FxHashMap<Arc<T>, u32>,
}

impl<T: ?Sized + Eq + Hash> Interned<T> {
    fn new() -> Self {
        Self {
            all: Vec::new(),
            numbers: FxHashMap::default(),
        }
    }

    fn number(&mut self, text: &Arc<T>) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = index(&self.all);
        self.all.push(Arc::clone(text));
        self.numbers.insert(Arc::clone(text), number);
        number
    }
}

/// Where the next one comes to be. Tables have at most [`MOST`] of them.
fn index<T>(table: &[T]) -> u32 {
    u32::try_from(table.len()).unwrap_or(u32::MAX)
}

/// What begins in a table of `length` at the last number of `entries[at]`.
fn within<const N: usize>(entries: &[[u32; N]], length: usize, at: usize) -> Range<usize> {
    let start = |entry: &[u32; N]| entry[N - 1] as usize;
    start(&entries[at])..entries.get(at + 1).map_or(length, start)
}

/// Finds a key among sorted entries; looked for first at `hint`.
fn find<T, Key: Ord>(
    entries: &[T],
    hint: usize,
    key: impl Fn(&T) -> Key,
    wanted: Key,
) -> Option<usize> {
    match entries.get(hint) {
        Some(entry) if key(entry) == wanted => Some(hint),
        _ => entries
            .binary_search_by(|entry| key(entry).cmp(&wanted))
            .ok(),
    }
}

fn bytes_of(numbers: &[u32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

fn numbers_of<const N: usize>(bytes: &[u8]) -> Option<Vec<[u32; N]>> {
    let (words, []) = bytes.as_chunks::<4>() else {
        return None;
    };
    let (entries, []) = words.as_chunks::<N>() else {
        return None;
    };
    let entries = entries.iter();
    Some(entries.map(|entry| entry.map(u32::from_le_bytes)).collect())
}
