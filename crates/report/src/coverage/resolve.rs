// SPDX-License-Identifier: MIT OR Apache-2.0
//! From addresses of images to lines and functions.

use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::gather::{ImageHits, ImageKey};
use super::losses::{Loaded, Lossy};
use super::paths::place;
use super::{Coverage, Function, Hits, ImageSummary, SourceFile, StreamSet};
use crate::image::{
    demangled, is_drop_glue, Answers, Doubt, Flow, FoldedRow, Frames, Image, Learnt, Piece,
    Problem, Rows, Search, Shortcut, Slot, Symbolizer, Weight,
};
use crate::progress::Progress;
use crate::trace::Mode;

/// Pieces of code that one worker looks up, at least, with debug information of its own.
const PORTION: usize = 8192;

/// Pieces after which somebody who watches is told.
const WATCHED: usize = 1024;

/// What is known of an image's addresses.
pub(super) struct Resolved {
    summary: ImageSummary,
    sources: Sources,
}

/// Lines of files.
type Lines<File> = FxHashMap<File, FxHashMap<u32, Hits>>;

/// Lines and functions of one image.
type Sources = SourcesBy<Arc<OsStr>, Arc<str>>;

/// Those of a portion of its addresses, all of one [`Symbolizer`].
type Portion = SourcesBy<Kept<OsStr>, Kept<str>>;

/// Lines and functions.
struct SourcesBy<File, Symbol> {
    lines: Lines<File>,
    /// By symbol and file.
    functions: FxHashMap<(Symbol, File), Extent>,
    /// Functions without a line, by symbol.
    bare: FxHashMap<Symbol, Hits>,
    /// Addresses of which nothing is known.
    unknown: u64,
}

impl<File, Symbol> Default for SourcesBy<File, Symbol> {
    fn default() -> Self {
        Self {
            lines: FxHashMap::default(),
            functions: FxHashMap::default(),
            bare: FxHashMap::default(),
            unknown: 0,
        }
    }
}

/// Text that is told from other by where it is kept. To hash and to compare all paths of millions of
/// places takes longer than to look them up.
#[derive(Clone)]
struct Kept<T: ?Sized>(Arc<T>);

impl<T: ?Sized> Kept<T> {
    fn new(text: &Arc<T>) -> Self {
        Self(Arc::clone(text))
    }
}

impl<T: ?Sized> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: ?Sized> Eq for Kept<T> {}

impl<T: ?Sized> Hash for Kept<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<()>().hash(state);
    }
}

struct Extent {
    first: u32,
    last: u32,
    /// Who ran any of it; how often its first line ran.
    hits: Hits,
    /// How often it was entered, if it is a function of its own in the code.
    entered: Option<u64>,
    /// Whether it was inlined somewhere.
    inlined: bool,
    /// Lines that it has in functions of which some code ran, and in those of which none did.
    alive: FxHashSet<u32>,
    dead: FxHashSet<u32>,
}

/// What is known of the streams.
pub(super) struct Known<'a> {
    /// What was recorded. Comparisons say of no other code that it did not run.
    pub(super) mode: Mode,
    /// How many there are.
    pub(super) streams: usize,
    /// Who may have run more than was recorded.
    pub(super) lossy: &'a Lossy,
    /// Who had which image.
    pub(super) loaded: &'a Loaded,
    pub(super) progress: &'a Progress,
}

/// Looks everything up that was recorded.
pub(super) fn resolve(
    images: BTreeMap<ImageKey, ImageHits>,
    search: &Search,
    known: &Known<'_>,
) -> Vec<Resolved> {
    let images: Vec<_> = images.into_iter().collect();
    images
        .into_par_iter()
        .filter_map(|(key, hits)| {
            let lossy = Hits {
                streams: known.lossy.of(&key),
                ..Hits::default()
            };
            let all = known.loaded.of(&key);
            let (path, id) = key;
            let image = match hits.addresses.is_empty() {
                true => Image::find_module(&path, &id, search),
                false => Image::find(&path, &id, search),
            };
            let resolved = one(&image, search, hits, known, &lossy, &all);
            resolved.map(|resolved| resolved.with(image.into_problems()))
        })
        .collect()
}

/// What is derived of an image, whatever was recorded of it.
#[derive(Default)]
struct Derived<'a> {
    /// Where it is kept, if it is.
    slot: Option<Slot<'a>>,
    flow: Option<Flow>,
    rows: Rows,
    /// What was asked of debug information before.
    answers: Answers,
}

impl<'a> Derived<'a> {
    fn of(image: &Image, search: &'a Search, mode: Mode) -> Self {
        if mode == Mode::Cmp {
            return Self::default();
        }
        let slot = image.slot(search);
        if let Some(kept) = slot.as_ref().and_then(Slot::load) {
            return Self {
                slot,
                flow: Some(kept.flow),
                rows: kept.rows,
                answers: kept.answers,
            };
        }
        let flow = image.flow();
        Self {
            slot: slot.filter(|_| flow.is_some()),
            rows: flow
                .as_ref()
                .map(|flow| image.rows(flow))
                .unwrap_or_default(),
            flow,
            answers: Answers::default(),
        }
    }

    /// Looks addresses up, and learns what is not known yet if that is kept.
    fn symbolizer<'i>(&'i self, image: &'i Image) -> Result<Symbolizer<'i>, Problem> {
        match self.slot {
            Some(_) => Ok(image.learner(&self.answers)),
            None => image.symbolizer(),
        }
    }

    /// Keeps it for the next report, and what is new.
    fn keep(self, learnt: Vec<Learnt>, image: &Image) {
        if let (Some(slot), Some(flow), false) = (self.slot, self.flow, learnt.is_empty()) {
            if let Some(answers) = self.answers.merged(learnt, image.base()) {
                slot.store(&flow, &self.rows, &answers);
            }
        }
    }
}

/// `None` if the image has nothing to do with what was recorded. `all` are the streams whose processes had it.
fn one(
    image: &Image,
    search: &Search,
    mut hits: ImageHits,
    known: &Known<'_>,
    lossy: &Hits,
    all: &StreamSet,
) -> Option<Resolved> {
    let mut streams = StreamSet::new();
    for hits in hits.addresses.values() {
        streams.union(&hits.streams);
    }
    let derived = Derived::of(image, search, known.mode);
    let flow = derived.flow.as_ref();
    // What the kernel maps has no path.
    let has_path = !image.path().as_os_str().is_empty();
    let absent = has_path && image.problems().iter().any(Problem::is_absence);
    if hits.addresses.is_empty() && flow.is_none() && !absent {
        return None;
    }
    let mut summary = ImageSummary {
        path: image.path().to_owned(),
        build_id: image.build_id().clone(),
        pcs: hits.addresses.len() as u64,
        recorded_by: recorded_by(&hits),
        sites: flow.map(|flow| flow.sites() as u64),
        streams,
        has_lines: image.has_lines(),
        built: image.built(),
        problems: Vec::new(),
        functions: Vec::new(),
        unknown: 0,
    };
    let someone = Hits {
        streams: std::iter::once(known.streams).collect(),
        count: 1,
        ..Hits::default()
    };
    let mut pieces: Vec<Piece<Hits>> = match flow {
        Some(flow) => flow.spread(&mut hits.addresses, lossy, &someone),
        None => Vec::new(),
    };
    // What no known place accounts for, or all that was recorded. These are return addresses; the
    // call is before them.
    let alone = hits.addresses.into_iter().map(|(pc, weight)| {
        let call = pc.wrapping_sub(1);
        Piece {
            range: call..call,
            weight,
            doubt: Doubt::Nobody,
            entry: false,
            alive: true,
            shortcut: None,
        }
    });
    pieces.extend(alone);
    pieces.retain(|piece| image.is_written(piece.range.start));
    known.progress.expect_code(pieces.len());
    for piece in &mut pieces {
        let maybe = match std::mem::replace(&mut piece.doubt, Doubt::Nobody) {
            Doubt::Nobody => continue,
            Doubt::Some(hits) => hits.streams,
            Doubt::Anybody => all.clone(),
        };
        if !maybe.is_within(&piece.weight.streams) {
            piece.weight.maybe = maybe;
        }
    }
    let portion = PORTION.max(pieces.len() / (8 * rayon::current_num_threads()));
    // To open debug information can take longer than to ask it: no more are opened than are used at a time.
    let idle: Mutex<Vec<Symbolizer<'_>>> = Mutex::default();
    let free = || idle.lock().unwrap_or_else(PoisonError::into_inner);
    let portions: Result<Vec<Portion>, _> = pieces
        .par_chunks(portion)
        .map(|portion| {
            let mut sources = Portion::default();
            let taken = free().pop();
            let mut symbolizer = taken.map_or_else(|| derived.symbolizer(image), Ok)?;
            for some in portion.chunks(WATCHED) {
                for piece in some {
                    sources.add_piece(piece, image, &derived.rows, &mut symbolizer);
                }
                known.progress.code_done(some.len());
            }
            free().push(symbolizer);
            Ok(sources)
        })
        .collect();
    drop(pieces);
    let used = idle.into_inner().unwrap_or_else(PoisonError::into_inner);
    // To close it takes time, too.
    let learnt: Result<Vec<_>, _> = used.into_par_iter().map(Symbolizer::learnt).collect();
    let mut sources = Sources::default();
    let learnt = match portions.and_then(|portions| Ok((portions, learnt?))) {
        Ok((portions, learnt)) => {
            portions
                .into_iter()
                .for_each(|portion| sources.merge(portion));
            learnt
        }
        Err(problem) => {
            summary.has_lines = false;
            summary.sites = None;
            summary.problems.push(problem);
            sources.unknown = summary.pcs;
            Vec::new()
        }
    };
    derived.keep(learnt.into_iter().flatten().collect(), image);
    sources.doubt_dead_copies();
    // Code that no line stands for is nothing special in a function that has lines.
    let placed: FxHashSet<Arc<str>> = sources
        .functions
        .keys()
        .map(|(s, _)| Arc::clone(s))
        .collect();
    sources.bare.retain(|symbol, _| !placed.contains(symbol));
    Some(Resolved { summary, sources })
}

impl Resolved {
    fn with(mut self, problems: Vec<Problem>) -> Self {
        self.summary.problems.extend(problems);
        self
    }
}

/// How many addresses which streams recorded.
fn recorded_by(hits: &ImageHits) -> Vec<(StreamSet, u64)> {
    let mut counts: FxHashMap<&StreamSet, u64> = FxHashMap::default();
    for hits in hits.addresses.values() {
        *counts.entry(&hits.streams).or_default() += 1;
    }
    let counts = counts.into_iter();
    counts
        .map(|(streams, count)| (streams.clone(), count))
        .collect()
}

impl Weight for Hits {
    fn is_none(&self) -> bool {
        self.streams.is_empty()
    }

    fn same_place(&mut self, other: &Self) {
        self.merge(other);
    }

    fn ran_with(&mut self, other: &Self) -> bool {
        if !other.streams.is_empty() {
            self.count = self.count.max(1);
        }
        self.streams.union(&other.streams)
    }

    fn both(&self, other: &Self) -> Self {
        Self {
            count: self.count.min(other.count),
            streams: self.streams.both(&other.streams),
            maybe: StreamSet::new(),
        }
    }

    fn without(&self, other: &Self) -> Self {
        Self {
            streams: self.streams.without(&other.streams),
            ..self.clone()
        }
    }

    fn at_least(&mut self, others: &[Self]) -> bool {
        let bound = others
            .iter()
            .fold(0_u64, |sum, other| sum.saturating_add(other.count));
        let news = bound > self.count;
        self.count = self.count.max(bound);
        news
    }
}

impl Portion {
    fn add_piece(
        &mut self,
        piece: &Piece<Hits>,
        image: &Image,
        rows: &Rows,
        symbolizer: &mut Symbolizer<'_>,
    ) {
        if piece.range.is_empty() {
            let start = piece.range.start;
            self.add(start, &piece.weight, piece, image, symbolizer);
        }
        if let Some(rows) = rows.folded.rows(&piece.range) {
            for row in rows {
                self.add_folded(&row, piece);
            }
            return;
        }
        for address in symbolizer.rows(&piece.range) {
            let shortcut = piece.shortcut.as_deref().filter(|way| way.at == address);
            if rows.of_callbacks_alone.contains(&address) {
                // It may have been this line that led here, or another one.
                let mut hits = Hits {
                    maybe: piece.weight.maybe.clone(),
                    ..Hits::default()
                };
                hits.maybe.union(&piece.weight.streams);
                self.add(address, &hits, piece, image, symbolizer);
            } else if let Some(shortcut) = shortcut {
                let hits = with_shortcut(&piece.weight, shortcut, symbolizer);
                self.add(address, &hits, piece, image, symbolizer);
            } else {
                self.add(address, &piece.weight, piece, image, symbolizer);
            }
        }
    }

    /// Adds who ran code of several functions, for one of them: whoever ran the code ran them all.
    fn add_folded(&mut self, row: &FoldedRow<'_>, piece: &Piece<Hits>) {
        if row.symbol.is_some_and(|symbol| is_drop_glue(symbol)) {
            return;
        }
        self.add_line(row.file, row.line, &piece.weight);
        let Some(symbol) = row.symbol else { return };
        let entry = piece.begins_at(row.address);
        let extent = Extent {
            entered: entry.then_some(piece.weight.count),
            ..Extent::of(row.line, &piece.weight)
        };
        self.add_line_of((symbol, row.file), extent, piece.alive);
    }

    fn add_line(&mut self, file: &Arc<OsStr>, line: u32, hits: &Hits) {
        let lines = self.lines.entry(Kept::new(file)).or_default();
        lines.entry(line).or_default().merge(hits);
    }

    /// Adds a line of a function, which is in code that is `alive` if some of it ran.
    fn add_line_of(&mut self, of: (&Arc<str>, &Arc<OsStr>), extent: Extent, alive: bool) {
        let line = extent.first;
        let known = self.add_function((Kept::new(of.0), Kept::new(of.1)), extent);
        let lines = if alive {
            &mut known.alive
        } else {
            &mut known.dead
        };
        lines.insert(line);
    }

    /// Adds who ran what is at an address of this piece.
    fn add(
        &mut self,
        address: u64,
        hits: &Hits,
        piece: &Piece<Hits>,
        image: &Image,
        symbolizer: &mut Symbolizer<'_>,
    ) {
        let mut found = symbolizer.look_up(address);
        if found.iter().any(|frame| !image.is_line_of(frame)) {
            let mut frames = found.into_vec();
            frames.retain(|frame| image.is_line_of(frame));
            if frames.is_empty() {
                return;
            }
            found = Frames::Found(frames);
        }
        let frames = &found;
        let ran = !hits.streams.is_empty();
        if frames.len() == 0 && ran {
            self.unknown += 1;
        }
        let mut placed = false;
        let entry = piece.begins_at(address);
        let outermost = frames.len().saturating_sub(1);
        for (depth, frame) in frames.iter().enumerate() {
            let (Some(file), Some(line)) = (&frame.file, frame.line) else {
                continue;
            };
            placed = true;
            self.add_line(file, line, hits);
            if let Some(symbol) = &frame.symbol {
                let extent = Extent {
                    entered: (entry && depth == outermost).then_some(hits.count),
                    inlined: depth != outermost,
                    ..Extent::of(line, hits)
                };
                self.add_line_of((symbol, file), extent, piece.alive);
            }
        }
        if !placed && ran {
            if let Some(symbol) = frames.iter().rev().find_map(|frame| frame.symbol.as_ref()) {
                let known = self.bare.entry(Kept::new(symbol)).or_default();
                known.merge(hits);
            }
        }
    }
}

impl<File: Eq + Hash, Symbol: Eq + Hash> SourcesBy<File, Symbol> {
    fn add_function(&mut self, key: (Symbol, File), extent: Extent) -> &mut Extent {
        match self.functions.entry(key) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.add(&extent);
                known
            }
            Entry::Vacant(free) => free.insert(extent),
        }
    }
}

impl Sources {
    /// A function that was inlined and ran there may have run any of its lines: where one has no code in the
    /// functions that ran, the compiler made no code of it there. That a copy which nobody called has code of
    /// it says nothing.
    fn doubt_dead_copies(&mut self) {
        for ((_, file), extent) in &mut self.functions {
            let alive = std::mem::take(&mut extent.alive);
            let dead = std::mem::take(&mut extent.dead);
            if !extent.inlined || extent.hits.is_none() {
                continue;
            }
            for line in dead.difference(&alive) {
                let lines = self.lines.get_mut(file);
                if let Some(hits) = lines.and_then(|lines| lines.get_mut(line)) {
                    hits.maybe.union(&extent.hits.streams);
                }
            }
        }
    }

    fn merge(&mut self, other: Portion) {
        for (file, lines) in other.lines {
            match self.lines.entry(file.0) {
                Entry::Occupied(known) => {
                    let known = known.into_mut();
                    for (line, hits) in lines {
                        known.entry(line).or_default().merge(&hits);
                    }
                }
                Entry::Vacant(free) => _ = free.insert(lines),
            }
        }
        for ((symbol, file), theirs) in other.functions {
            self.add_function((symbol.0, file.0), theirs);
        }
        for (symbol, hits) in other.bare {
            self.bare.entry(symbol.0).or_default().merge(&hits);
        }
        self.unknown += other.unknown;
    }
}

/// Who ran the line of a lone jump, which others may have gone around. A jump back to the beginning
/// of a loop is the loop's own statement, and whoever came to the beginning another way ran it, too.
fn with_shortcut(own: &Hits, way: &Shortcut<Hits>, symbolizer: &mut Symbolizer<'_>) -> Hits {
    let mut hits = own.clone();
    hits.maybe.union(&way.maybe.streams);
    let mut place = |address| {
        let frames = symbolizer.frames(address);
        let innermost = frames.into_iter().next()?;
        Some((innermost.file?, innermost.line?))
    };
    if way.target < way.at && !way.sure.is_none() {
        if let (Some((file, line)), Some(target)) = (place(way.at), place(way.target)) {
            if file == target.0 && line <= target.1 {
                hits.ran_with(&way.sure);
                hits.count = hits.count.saturating_add(way.sure.count);
            }
        }
    }
    hits
}

impl Extent {
    /// A function of one line, and who ran it.
    fn of(line: u32, hits: &Hits) -> Self {
        Self {
            first: line,
            last: line,
            hits: hits.clone(),
            entered: None,
            inlined: false,
            alive: FxHashSet::default(),
            dead: FxHashSet::default(),
        }
    }

    fn add(&mut self, other: &Self) {
        let calls = match other.first.cmp(&self.first) {
            Ordering::Less => other.hits.count,
            Ordering::Equal => self.hits.count.max(other.hits.count),
            Ordering::Greater => self.hits.count,
        };
        self.hits.streams.union(&other.hits.streams);
        self.hits.maybe.union(&other.hits.maybe);
        // A first line that did not run itself does not mean that nothing did.
        self.hits.count = calls.max(u64::from(!self.hits.streams.is_empty()));
        self.entered = match (self.entered, other.entered) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (a, b) => a.or(b),
        };
        self.inlined |= other.inlined;
        self.alive.extend(&other.alive);
        self.dead.extend(&other.dead);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    /// Who ran it, and how often it was called: as often as it was entered, if all of its copies are
    /// functions of their own, else as often as its first line ran, at least.
    fn calls(self) -> Hits {
        let mut hits = self.hits;
        match self.entered {
            Some(entered) if self.inlined => hits.count = hits.count.max(entered),
            Some(entered) if entered > 0 => hits.count = entered,
            _ => {}
        }
        hits
    }
}

/// Puts what images say of the same sources together.
pub(super) fn merge(images: Vec<Resolved>, moved: &[(PathBuf, PathBuf)], into: &mut Coverage) {
    let mut functions: BTreeMap<PathBuf, BTreeMap<String, Vec<Extent>>> = BTreeMap::new();
    for Resolved {
        mut summary,
        sources,
    } in images
    {
        let mut bare: BTreeMap<String, Hits> = BTreeMap::new();
        for (symbol, hits) in sources.bare {
            bare.entry(demangled(&symbol)).or_default().merge(&hits);
        }
        summary.unknown = sources.unknown;
        summary.functions = bare
            .into_iter()
            .map(|(name, hits)| Function {
                name: name.into(),
                lines: (0, 0),
                hits,
            })
            .collect();
        let complete = summary.sites.is_some();
        let built = summary.built;
        for (file, lines) in sources.lines {
            let file = into
                .files
                .entry(place(Path::new(&file), moved))
                .or_insert_with(|| SourceFile {
                    complete: true,
                    ..SourceFile::default()
                });
            file.complete &= complete;
            file.built = match (file.built, built) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            if file.lines.is_empty() {
                file.lines = lines.into_iter().collect();
                continue;
            }
            for (line, hits) in lines {
                file.lines.entry(line).or_default().merge(&hits);
            }
        }
        into.images.push(summary);
        let mut by_file: FxHashMap<Arc<OsStr>, Vec<(Arc<str>, Extent)>> = FxHashMap::default();
        for ((symbol, file), extent) in sources.functions {
            by_file.entry(file).or_default().push((symbol, extent));
        }
        for (file, extents) in by_file {
            let known = functions.entry(place(Path::new(&file), moved)).or_default();
            for (symbol, extent) in extents {
                known.entry(demangled(&symbol)).or_default().push(extent);
            }
        }
    }
    for (path, functions) in functions {
        let file = into.files.entry(path).or_default();
        for (name, extents) in functions {
            for extent in extents.iter().filter(|extent| !extent.hits.is_none()) {
                // Code that was inlined has no beginning of its own: that of the copy that was not
                // inlined says nothing of it.
                if let Some(first) = file.lines.get_mut(&extent.first) {
                    first.maybe.union(&extent.hits.streams);
                }
            }
            let name: Arc<str> = name.into();
            file.functions
                .extend(distinct(extents).into_iter().map(|extent| Function {
                    name: Arc::clone(&name),
                    lines: (extent.first, extent.last),
                    hits: extent.calls(),
                }));
        }
    }
    let counted = into.mode != Mode::Unique;
    for file in into.files.values_mut() {
        if !counted {
            let functions = file.functions.iter_mut().map(|function| &mut function.hits);
            for hits in file.lines.values_mut().chain(functions) {
                let streams = hits
                    .streams
                    .iter()
                    .filter(|stream| *stream < into.streams.len());
                let known = streams.count() as u64;
                // Somebody who is not known is most likely one of them.
                hits.count = known.max(u64::from(!hits.streams.is_empty()));
            }
        }
        file.functions
            .sort_by(|a, b| (a.lines, &a.name).cmp(&(b.lines, &b.name)));
    }
}

/// Functions of one name in one file. What overlaps is one function: copies that the compiler
/// made, instances of a template or generic function. What does not are two, such as closures.
fn distinct(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.sort_by_key(|extent| (extent.first, extent.last));
    let mut distinct: Vec<Extent> = Vec::new();
    for extent in extents {
        match distinct.last_mut() {
            Some(last) if extent.first <= last.last => {
                last.add(&extent);
            }
            _ => distinct.push(extent),
        }
    }
    distinct
}
