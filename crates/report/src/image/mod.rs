// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images: the files that modules were, and what their addresses mean.
//!
//! An image is a file, whatever processes had it and wherever it lay in their memory; its addresses
//! are those in the file. [`Image::find`] looks for the file and its debug information and checks
//! by build id that they are those that ran; what it cannot check or find becomes a [`Problem`].

mod answers;
mod cache;
mod debug;
mod elf;
mod flow;
mod folded;
mod harness;
mod locate;
mod names;
mod rows;
mod sites;
mod tests_of;

use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::SystemTime;

use answers::Cursor;
pub(crate) use answers::{Answers, Frames, Learnt};
pub use cache::Cache;
pub(crate) use cache::Slot;
use debug::{Debug, DebugFile};
use memchr::memmem::Finder;
use names::Names;
use rustc_hash::FxHashMap;

use crate::trace::BuildId;
pub use elf::ElfError;
use elf::{ElfFile, Function};
pub(crate) use flow::{Ahead, Doubt, Flow, Piece, Position, Shortcut, Site, Weight};
pub(crate) use folded::Row as FoldedRow;
pub use locate::{Part, Problem, Remote, Search};
pub(crate) use rows::Rows;
pub(crate) use sites::Sites;
pub use tests_of::{tested_by, Example, Test, Tested, Tests};

/// The file that a module was, as far as it can be found.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    build_id: BuildId,
    binary: Option<ElfFile>,
    debug: Option<DebugFile>,
    supplementary: Option<DebugFile>,
    problems: Vec<Problem>,
    /// Read when somebody asks.
    symbols: OnceLock<Symbols>,
    /// Read when the first path comes that is not UTF-8.
    names: OnceLock<Names>,
}

/// What the symbols of a file tell.
#[derive(Debug)]
struct Symbols {
    functions: Vec<Function>,
    /// Code that nobody wrote, although lines are said to be its source.
    unwritten: Option<Range<u64>>,
    /// It is a program of tests in documentation.
    has_doctests: bool,
}

impl Symbols {
    /// Reads those of the file that ran, or of the file with its lines, whichever names more functions.
    fn read(binary: Option<&ElfFile>, debug: Option<&ElfFile>) -> Self {
        // Mostly the same file.
        let is_another = |debug: &&ElfFile| binary.is_none_or(|file| file.path() != debug.path());
        let sites = binary.map(Sites::new).unwrap_or_default();
        let mut functions = [binary, debug.filter(is_another)]
            .into_iter()
            .flatten()
            .map(ElfFile::functions)
            .max_by_key(|functions| functions.iter().filter(|f| !f.name.is_empty()).count())
            .unwrap_or_default();
        for function in &mut functions {
            function.range = sites.hot(&function.range);
        }
        functions.retain(|function| !function.range.is_empty());
        let calls = |code: &Range<u64>, entry| {
            let program = binary.and_then(ElfFile::object);
            program.is_some_and(|program| harness::calls(&program, code, entry))
        };
        Self {
            unwritten: harness::main_of(&functions, calls),
            has_doctests: harness::has_doctests(&functions),
            functions,
        }
    }
}

/// One function that an address belongs to, with the place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The function's name as the linker knows it.
    pub symbol: Option<Arc<str>>,
    /// The source file, as the compiler named it, its directory before it.
    pub file: Option<Arc<OsStr>>,
    /// The line in that file; never 0.
    pub line: Option<u32>,
}

/// The code of a file.
#[derive(Clone, Debug)]
pub struct Code {
    /// The file's build id.
    pub build_id: BuildId,
    /// The addresses in the file that have code.
    pub text: Vec<Range<u64>>,
}

/// Where a linked file has code.
///
/// # Errors
/// If it is not one.
pub fn code_of(path: &Path) -> Result<Code, ElfError> {
    let file = ElfFile::open(path)?;
    Ok(Code {
        build_id: file.build_id(),
        text: file.text(),
    })
}

impl Image {
    /// Finds the file that was at `path` and had this build id.
    #[must_use]
    pub fn find(path: &Path, build_id: &BuildId, search: &Search) -> Self {
        let found = locate::locate(path, build_id, search);
        Self {
            path: path.to_owned(),
            build_id: build_id.clone(),
            binary: found.binary,
            debug: found.debug.map(DebugFile::new),
            supplementary: found.supplementary.map(DebugFile::new),
            problems: found.problems,
            symbols: OnceLock::new(),
            names: OnceLock::new(),
        }
    }

    /// [`Image::find`] of a module in which perhaps nothing ran. For code that is not instrumented, such as a C
    /// library, nobody elsewhere is asked.
    pub(crate) fn find_module(path: &Path, build_id: &BuildId, search: &Search) -> Self {
        if search.remote.is_none() {
            return Self::find(path, build_id, search);
        }
        let image = Self::find(path, build_id, &search.here());
        let has_sites = |binary: &ElfFile| Flow::new(binary, image.functions()).is_some();
        match !image.has_lines() && image.binary.as_ref().is_some_and(has_sites) {
            true => Self::find(path, build_id, search),
            false => image,
        }
    }

    /// The sites of the file that was at `path` and had this build id; none if it is not there.
    pub(crate) fn sites(path: &Path, build_id: &BuildId, search: &Search) -> Sites {
        let binary = locate::executable(path, build_id, search);
        binary.as_ref().map(Sites::new).unwrap_or_default()
    }

    /// Where the beginning of the file that was at `path` and had this build id is loaded; `None` if it is not
    /// there, or is not loaded, as that of a kernel.
    pub(crate) fn header(path: &Path, build_id: &BuildId, search: &Search) -> Option<u64> {
        locate::executable(path, build_id, search)?.header()
    }

    /// Where it was when it ran.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its build id when it ran; empty if it had none.
    #[must_use]
    pub const fn build_id(&self) -> &BuildId {
        &self.build_id
    }

    /// What kept it from being read as well as it could be.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What kept it from being read as well as it could be.
    #[must_use]
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// When the file that ran was built, as its time of change says.
    #[must_use]
    pub fn built(&self) -> Option<SystemTime> {
        let binary = self.binary.as_ref()?;
        binary.path().metadata().ok()?.modified().ok()
    }

    /// Whether its line tables were found.
    #[must_use]
    pub const fn has_lines(&self) -> bool {
        self.debug.is_some()
    }

    /// Whether an author's line stands behind the code at this address, if any does.
    pub(crate) fn is_written(&self, address: u64) -> bool {
        let unwritten = self.symbols().unwritten.as_ref();
        !unwritten.is_some_and(|range| range.contains(&address))
    }

    /// Whether the line of a frame is one that its author wrote. The code that drops a suspended future
    /// has the lines of the `await`s where it can be suspended: none of them runs there.
    pub(crate) fn is_line_of(&self, frame: &Frame) -> bool {
        let Some(symbol) = &frame.symbol else {
            return true;
        };
        !(is_drop_glue(symbol) || self.symbols().has_doctests && harness::is_of_doctest(symbol))
    }

    /// Its instrumented code, if the file itself is there and its lines are known.
    pub(crate) fn flow(&self) -> Option<Flow> {
        let binary = self.binary.as_ref().filter(|_| self.has_lines())?;
        Flow::new(binary, self.functions())
    }

    /// What its line tables say of more than lines.
    pub(crate) fn rows(&self, flow: &Flow) -> Rows {
        let is_start = |address: u64| {
            let function = self.function(address);
            function.is_some_and(|function| function.range.start == address)
        };
        let debug = self.debug.as_ref();
        debug.map_or_else(Rows::default, |debug| {
            Rows::read(debug, flow.callbacks(), is_start)
        })
    }

    /// Opens its debug information. Each thread that looks addresses up needs its own.
    ///
    /// # Errors
    /// If the debug information cannot be read.
    pub fn symbolizer(&self) -> Result<Symbolizer<'_>, Problem> {
        let debug = match Debug::open(self) {
            Debug::Bad(problem) => return Err(problem),
            debug => debug,
        };
        Ok(Symbolizer {
            image: self,
            debug,
            texts: FxHashMap::default(),
            files: FxHashMap::default(),
            odd_files: FxHashMap::default(),
            known: None,
            learnt: None,
        })
    }

    /// Looks addresses up, of which some answers are known. What it is asked besides, it learns.
    pub(crate) fn learner<'a>(&'a self, known: &'a Answers) -> Symbolizer<'a> {
        Symbolizer {
            image: self,
            debug: Debug::Closed,
            texts: FxHashMap::default(),
            files: FxHashMap::default(),
            odd_files: FxHashMap::default(),
            known: Some((known, Cursor::default())),
            learnt: Some(Learnt::new(self.base())),
        }
    }

    /// What addresses are stored as offsets from.
    pub(crate) fn base(&self) -> u64 {
        self.functions()
            .first()
            .map_or(0, |first| first.range.start)
    }

    /// Where this image is in a cache, if it can be there.
    pub(crate) fn slot<'a>(&self, search: &'a Search) -> Option<Slot<'a>> {
        search.cache.as_ref()?.slot(self)
    }

    fn symbols(&self) -> &Symbols {
        self.symbols.get_or_init(|| {
            let debug = self.debug.as_ref().map(DebugFile::file);
            Symbols::read(self.binary.as_ref(), debug)
        })
    }

    fn functions(&self) -> &[Function] {
        &self.symbols().functions
    }

    fn names(&self) -> &Names {
        self.names
            .get_or_init(|| self.debug.as_ref().map(Names::new).unwrap_or_default())
    }

    /// The function whose code this address is part of.
    fn function(&self, address: u64) -> Option<&Function> {
        let functions = self.functions();
        let after = functions.partition_point(|f| f.range.start <= address);
        let function = functions.get(after.checked_sub(1)?)?;
        function.range.contains(&address).then_some(function)
    }
}

/// Looks addresses of an [`Image`] up.
pub struct Symbolizer<'a> {
    image: &'a Image,
    debug: Debug<'a>,
    /// Names, each once.
    texts: FxHashMap<Box<[u8]>, Arc<str>>,
    /// Paths, each once, by their text.
    files: FxHashMap<Box<[u8]>, Arc<OsStr>>,
    /// The same of texts that may stand for several paths.
    odd_files: FxHashMap<Box<[u8]>, Arc<OsStr>>,
    known: Option<(&'a Answers, Cursor)>,
    learnt: Option<Learnt>,
}

impl<'a> Symbolizer<'a> {
    /// The addresses in `range` at which the line tables say something new. What they said before
    /// does not count: code without a line of its own, such as that where two branches meet again,
    /// only seems to be of the line that happens to stand before it.
    pub(crate) fn rows(&mut self, range: &Range<u64>) -> Vec<u64> {
        if let Some((known, cursor)) = &mut self.known {
            if let Some(rows) = known.rows(range, cursor) {
                return rows;
            }
        }
        let mut rows = self.debug.rows(self.image, range.start, range.end);
        rows.retain(|address| range.contains(address));
        if let Some(learnt) = &mut self.learnt {
            learnt.range(range, &rows);
        }
        rows
    }

    /// What it was asked and did not know.
    ///
    /// # Errors
    /// If debug information was needed and cannot be read.
    pub(crate) fn learnt(self) -> Result<Option<Learnt>, Problem> {
        match self.debug {
            Debug::Bad(problem) => Err(problem),
            _ => Ok(self.learnt.filter(|learnt| !learnt.is_empty())),
        }
    }

    /// What the instruction at `address` belongs to: the innermost inlined function first, the
    /// function that was not inlined last. Empty if nothing is known of the address.
    pub fn frames(&mut self, address: u64) -> Vec<Frame> {
        self.look_up(address).into_vec()
    }

    /// [`Symbolizer::frames`] without copies of those that are known.
    pub(crate) fn look_up(&mut self, address: u64) -> Frames<'a> {
        if let Some((known, cursor)) = &mut self.known {
            if let Some(frames) = known.frames(address, cursor) {
                return frames;
            }
        }
        let found = self.find(address);
        if let Some(learnt) = &mut self.learnt {
            learnt.point(address, &found);
        }
        Frames::Found(found)
    }

    fn find(&mut self, address: u64) -> Vec<Frame> {
        let image = self.image;
        let mut found: Vec<Frame> = Vec::new();
        self.debug.frames(image, address, |symbol, place| {
            let file = place.and_then(|place| place.file).map(|file| {
                let path = || OsStr::new(file).into();
                match self.files.get(file.as_bytes()) {
                    Some(known) => Arc::clone(known),
                    None if names::is_lossy(file) => {
                        let odd = image.names().path(address, found.len(), file);
                        odd.unwrap_or_else(|| shared(&mut self.odd_files, file.as_bytes(), path))
                    }
                    None => shared(&mut self.files, file.as_bytes(), path),
                }
            });
            found.push(Frame {
                symbol: symbol.map(|symbol| {
                    shared(&mut self.texts, &symbol, || {
                        String::from_utf8_lossy(&symbol).into()
                    })
                }),
                file,
                line: place.and_then(|place| place.line).filter(|line| *line > 0),
            });
        });
        // Code without debug information, perhaps between code that has some.
        if found.iter().all(|frame| frame.symbol.is_none()) {
            if let Some(function) = self.image.function(address) {
                if !function.name.is_empty() {
                    let name = &*function.name;
                    let symbol = shared(&mut self.texts, name.as_bytes(), || name.into());
                    let symbol = Some(symbol);
                    match found.last_mut() {
                        Some(outermost) => outermost.symbol = symbol,
                        None => found.push(Frame {
                            symbol,
                            ..Frame::default()
                        }),
                    }
                }
            }
        }
        found
    }
}

/// A text, which is made once.
fn shared<T: ?Sized>(
    texts: &mut FxHashMap<Box<[u8]>, Arc<T>>,
    text: &[u8],
    make: impl FnOnce() -> Arc<T>,
) -> Arc<T> {
    if let Some(known) = texts.get(text) {
        return Arc::clone(known);
    }
    let new = make();
    texts.insert(text.into(), Arc::clone(&new));
    new
}

/// The build id of the file at `path`, empty if it has none; `None` if it is not a linked file.
#[must_use]
pub fn build_id_of(path: &Path) -> Option<BuildId> {
    ElfFile::open(path).ok().map(|file| file.build_id())
}

/// The name of a function as its author wrote it, from the name that the linker knows.
#[must_use]
pub fn demangled(symbol: &str) -> String {
    // A demangler of C++ takes any name for a type's: `f` would become `float`.
    let is_mangled = ["_Z", "_R", "__Z", "__R"]
        .iter()
        .any(|start| symbol.starts_with(start));
    if !is_mangled {
        return symbol.to_owned();
    }
    let name = addr2line::demangle_auto(symbol.into(), None);
    if symbol.starts_with("_R") || symbol.starts_with("__R") {
        without_arguments(&name)
    } else {
        name.into_owned()
    }
}

/// A Rust name without generic arguments, which its author did not write: the older of Rust's two
/// manglings has none, and the instances of a function are one function.
fn without_arguments(name: &str) -> String {
    let mut kept = String::with_capacity(name.len());
    let mut depth = 0_usize;
    let mut before = ' ';
    for c in name.chars() {
        // What follows a name or `::` is a list of arguments; else it is a type that has a path of its
        // own, as in `<T as Trait>::f`. The arrow of a function's type is neither.
        let ends_name =
            |text: &str| text.ends_with(|c: char| c.is_alphanumeric() || "_:}>".contains(c));
        match c {
            '<' if depth > 0 || ends_name(&kept) => depth += 1,
            '>' if depth > 0 && before != '-' => {
                depth -= 1;
                if depth == 0 && kept.ends_with("::") {
                    kept.truncate(kept.len() - 2);
                }
            }
            _ if depth == 0 => kept.push(c),
            _ => {}
        }
        before = c;
    }
    kept
}

/// Whether code is what the compiler makes to drop a value.
#[must_use]
pub fn is_drop_glue(symbol: &str) -> bool {
    static NAMES: LazyLock<[Finder<'_>; 2]> =
        LazyLock::new(|| ["drop_in_place", "drop_glue"].map(Finder::new));
    // Of millions of symbols, most are told apart by how they begin: how Rust mangles them.
    let named = || {
        NAMES
            .iter()
            .any(|name| name.find(symbol.as_bytes()).is_some())
    };
    let mut starts = ["_R", "_ZN", "__R", "__ZN"].iter();
    starts.any(|start| symbol.starts_with(start)) && named() && {
        let name = demangled(symbol);
        let path = name.strip_prefix("core::ptr::").unwrap_or_default();
        path.starts_with("drop_in_place") || path.starts_with("drop_glue")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mangled_names_are_demangled() {
        let names = ["f", "w", "main", "ZSTD_getCCtx", "_Z3addii", "_RNvC1a4main"];
        let shown = ["f", "w", "main", "ZSTD_getCCtx", "add(int, int)", "a::main"];
        assert_eq!(names.map(demangled), shown);
    }

    #[test]
    fn instances_have_the_name_of_their_function() {
        for (full, name) in [
            ("kit::larger::<&str>", "kit::larger"),
            (
                "a::f::<fn(u8) -> b::C<u8>>::{closure#0}",
                "a::f::{closure#0}",
            ),
            ("<a::B<_, _> as c::D<u8>>::e::<f::G>", "<a::B as c::D>::e"),
            ("<a::B<u8>>::new", "<a::B>::new"),
            (
                "<<a::B<T> as c::D>::drop::Guard<T> as c::D>::drop",
                "<<a::B as c::D>::drop::Guard as c::D>::drop",
            ),
            ("<&mut [u8; 4] as a::B>::c", "<&mut [u8; 4] as a::B>::c"),
            ("<dyn a::B<C = u8> as d::E>::f", "<dyn a::B as d::E>::f"),
        ] {
            assert_eq!(without_arguments(full), name);
        }
        assert_eq!(demangled("_RINvCs2_4shop5shownlE"), "shop::shown");
    }

    #[test]
    fn what_drops_a_value_is_no_function_of_anybodys() {
        assert!(is_drop_glue(
            "_ZN4core3ptr32drop_in_place$LT$shop..Order$GT$17h0123456789abcdefE"
        ));
        assert!(!is_drop_glue("_ZN4shop9drop_glue17h0123456789abcdefE"));
        assert!(!is_drop_glue("drop_in_place"));
    }
}
