// SPDX-License-Identifier: MIT OR Apache-2.0
//! The executable and the shared objects of this process.
//!
//! A module that is linked by `rkcov cc` brings a [`Record`] and registers it before its other
//! constructors run. All modules that are there when the process starts are taken down as well,
//! so that a PC of a library that was linked otherwise finds its name.
//!
//! So is a module with guards, which has them numbered when it comes. One that gcc instrumented and
//! that was linked otherwise is taken down when the process exits, if it is still loaded.
//!
//! A module that is closed goes, and its destructors run. While somebody collects, the addresses
//! that it had are kept from being used again (see [`crate::closing`]), so that none ever means two
//! things. If the process itself is a client, which will want names for what it has got, a module
//! that registers stays loaded.

use crate::{closing, linkage, maps, run, sys};
use core::ffi::{c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use rkcov_region::{Lost, BUILD_ID_MAX};

/// What a module says about itself, in its own data.
#[derive(Debug)]
#[repr(C)]
pub struct Record {
    /// 1, the only version of this struct.
    version: AtomicU64,
    /// The module's `__sancov_should_track`, or null.
    gate: AtomicPtr<AtomicU64>,
    next: AtomicPtr<Record>,
}

/// The text of one module.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Range {
    pub(crate) start: AtomicU64,
    /// Bytes.
    pub(crate) len: AtomicU64,
    /// Index of its first byte in the bitmap, 0 as long as it has none.
    pub(crate) base: AtomicU64,
    /// All of the module in memory.
    first: AtomicU64,
    last: AtomicU64,
    /// The sites of its checks.
    sites_start: AtomicU64,
    sites_end: AtomicU64,
    /// Not 0 if code lies on the sites' pages, too.
    sites_among_code: AtomicU32,
    /// Not 0 if maps have no bytes of its own for it.
    is_not_mapped: AtomicU32,
    /// Tells it from another one that comes to lie in the same place.
    key: AtomicU64,
}

pub(crate) mod offsets {
    use super::Range;
    use core::mem::offset_of;
    pub(crate) const START: usize = offset_of!(Range, start);
    pub(crate) const LEN: usize = offset_of!(Range, len);
    pub(crate) const BASE: usize = offset_of!(Range, base);
}

impl Range {
    const fn new() -> Self {
        Self {
            start: AtomicU64::new(0),
            len: AtomicU64::new(0),
            base: AtomicU64::new(0),
            first: AtomicU64::new(0),
            last: AtomicU64::new(0),
            sites_start: AtomicU64::new(0),
            sites_end: AtomicU64::new(0),
            sites_among_code: AtomicU32::new(0),
            is_not_mapped: AtomicU32::new(0),
            key: AtomicU64::new(0),
        }
    }

    /// Takes down a module. Nobody sees the range yet.
    fn describe(&self, found: &Found) {
        let len = found.text_end.wrapping_sub(found.text_start);
        self.start.store(found.text_start, Ordering::Relaxed);
        self.len.store(len, Ordering::Relaxed);
        self.first.store(found.mapped.start, Ordering::Relaxed);
        self.last.store(found.mapped.end, Ordering::Relaxed);
        self.sites_start.store(found.sites.start, Ordering::Relaxed);
        self.sites_end.store(found.sites.end, Ordering::Relaxed);
        let among_code = u32::from(found.sites_among_code);
        self.sites_among_code.store(among_code, Ordering::Relaxed);
        self.key.store(found.key, Ordering::Relaxed);
    }

    /// Where its text is, and how many bytes it has.
    pub(crate) fn text(&self) -> (u64, u64) {
        (
            self.start.load(Ordering::Relaxed),
            self.len.load(Ordering::Relaxed),
        )
    }

    /// The addresses of the module.
    pub(crate) fn bounds(&self) -> (u64, u64) {
        (
            self.first.load(Ordering::Relaxed),
            self.last.load(Ordering::Relaxed),
        )
    }

    /// Where the sites of its checks start and end, and whether code lies on the same pages.
    pub(crate) fn sites(&self) -> (u64, u64, bool) {
        (
            self.sites_start.load(Ordering::Relaxed),
            self.sites_end.load(Ordering::Relaxed),
            self.sites_among_code.load(Ordering::Relaxed) != 0,
        )
    }

    pub(crate) fn has_sites(&self) -> bool {
        let (start, end, _) = self.sites();
        start < end
    }

    /// Maps have no bytes of its own for the module.
    pub(crate) fn is_not_mapped(&self) {
        self.is_not_mapped.store(1, Ordering::Relaxed);
    }

    pub(crate) fn is_mapped(&self) -> bool {
        self.is_not_mapped.load(Ordering::Relaxed) == 0
    }

    /// A range without a byte, for threads that have met none yet.
    pub(crate) fn nowhere() -> *mut Self {
        static NOWHERE: Range = Range::new();
        ptr::from_ref(&NOWHERE).cast_mut()
    }

    fn contains(&self, pc: u64) -> bool {
        let offset = pc.wrapping_sub(self.start.load(Ordering::Relaxed));
        offset < self.len.load(Ordering::Relaxed)
    }

    /// Index of its first byte, which is reserved now if it was not. `None` if indices ran out.
    ///
    /// Two threads may both reserve; one of the reservations is then never used.
    pub(crate) fn index_base(&self) -> Option<u64> {
        let base = self.base.load(Ordering::Relaxed);
        if base != 0 {
            return Some(base);
        }
        let mine = reserve_indices(self.len.load(Ordering::Relaxed))?;
        match self
            .base
            .compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => Some(mine),
            Err(theirs) => Some(theirs),
        }
    }
}

/// Reserves `n` indices of the bitmap, or none if there are not so many left. Index 0 is never
/// given out: it is what a guard holds before it has a number.
pub(crate) fn reserve_indices(n: u64) -> Option<u64> {
    static USED: AtomicU64 = AtomicU64::new(1);
    const END: u64 = rkcov_region::Geometry::UNIQUE_BITS;
    USED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
        used.checked_add(n).filter(|end| *end <= END)
    })
    .ok()
}

/// The texts of all modules, in the order in which they came. Entries below `LEN` never change,
/// so readers need no lock; writers hold [`crate::lock`].
static RANGES: [Range; MAX] = [const { Range::new() }; MAX];
static LEN: AtomicUsize = AtomicUsize::new(0);
const MAX: usize = 1024;

/// The texts of all modules that were taken down.
pub(crate) fn ranges() -> &'static [Range] {
    RANGES.get(..LEN.load(Ordering::Acquire)).unwrap_or(&RANGES)
}

/// The text that `pc` is in.
pub(crate) fn range_of(pc: u64) -> Option<&'static Range> {
    ranges().iter().find(|range| range.contains(pc))
}

/// Where modules lie in this process.
pub(crate) struct Spread {
    /// The executable's first byte, 0 if it was not seen.
    pub(crate) executable_start: u64,
    /// Where the topmost library ends, 0 if there is none.
    pub(crate) libraries_end: u64,
}

static EXECUTABLE_START: AtomicU64 = AtomicU64::new(0);
static LIBRARIES_END: AtomicU64 = AtomicU64::new(0);

/// Where the modules lie that were taken down.
pub(crate) fn spread() -> Spread {
    Spread {
        executable_start: EXECUTABLE_START.load(Ordering::Relaxed),
        libraries_end: LIBRARIES_END.load(Ordering::Relaxed),
    }
}

/// What the dynamic linker knows of a module.
#[derive(Clone)]
pub(crate) struct Found {
    pub(crate) bias: u64,
    pub(crate) text_start: u64,
    pub(crate) text_end: u64,
    /// All that it has mapped.
    pub(crate) mapped: core::ops::Range<u64>,
    pub(crate) build_id: [u8; BUILD_ID_MAX],
    pub(crate) build_id_len: usize,
    name: *const c_char,
    /// A number that another module would have only by chance.
    key: u64,
    /// The sites of its checks.
    sites: core::ops::Range<u64>,
    sites_among_code: bool,
}

impl Found {
    const NONE: Self = Self {
        bias: 0,
        text_start: 0,
        text_end: 0,
        mapped: 0..0,
        build_id: [0; BUILD_ID_MAX],
        build_id_len: 0,
        name: ptr::null(),
        key: 0,
        sites: 0..0,
        sites_among_code: false,
    };

    /// # Safety
    /// `info` is what `dl_iterate_phdr()` passes to its callback.
    unsafe fn new(info: &libc::dl_phdr_info) -> Option<Self> {
        let mut found = Self {
            bias: info.dlpi_addr,
            text_start: u64::MAX,
            name: info.dlpi_name,
            ..Self::NONE
        };
        if info.dlpi_phdr.is_null() {
            return None;
        }
        // SAFETY: the module's program headers, as many as it says.
        let headers =
            unsafe { core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        for header in headers {
            let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
            if header.p_type == libc::PT_LOAD {
                let mapped = &mut found.mapped;
                if mapped.is_empty() {
                    mapped.start = start;
                }
                mapped.start = mapped.start.min(start);
                mapped.end = mapped.end.max(start.wrapping_add(header.p_memsz));
            }
            if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
                found.text_start = found.text_start.min(start);
                found.text_end = found.text_end.max(start.wrapping_add(header.p_memsz));
            } else if header.p_type == libc::PT_NOTE && is_loaded_part(headers, header) {
                // SAFETY: within a segment that the dynamic linker has mapped, and that can be read.
                let notes = unsafe {
                    core::slice::from_raw_parts(
                        ptr::with_exposed_provenance::<u8>(start as usize),
                        header.p_memsz as usize,
                    )
                };
                let align = header.p_align as usize;
                if let Some(id) = note(notes, align, b"GNU\0", NT_GNU_BUILD_ID) {
                    found.build_id_len = id.len().min(BUILD_ID_MAX);
                    for (to, from) in found.build_id.iter_mut().zip(id) {
                        *to = *from;
                    }
                }
                if let Some(sites) = note(notes, align, b"rkcov\0", NT_SITES).and_then(sites) {
                    found.sites = sites;
                }
            }
        }
        found.sites_among_code = headers.iter().any(|header| {
            let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
            header.p_type == libc::PT_LOAD
                && header.p_flags & libc::PF_X != 0
                && on_one_page(&(start..start.wrapping_add(header.p_memsz)), &found.sites)
        });
        let id = found.build_id.get(..found.build_id_len).unwrap_or(&[]);
        let size = found.mapped.end.wrapping_sub(found.mapped.start);
        // FNV-1a. The name is there as long as the dynamic linker waits for us.
        let bytes = id.iter().chain(found.name());
        found.key = bytes.fold(size ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
        (found.text_start < found.text_end).then_some(found)
    }
}

impl Found {
    /// The dynamic linker's name for it: a path, perhaps a relative one; empty for the executable.
    pub(crate) fn name(&self) -> &[u8] {
        if self.name.is_null() {
            return &[];
        }
        // SAFETY: the linker's name for a module that is loaded, a C string.
        unsafe { core::ffi::CStr::from_ptr(self.name) }.to_bytes()
    }
}

/// When a module is taken down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// While the program runs.
    Now,
    /// While it exits, when a system call more may be one that a sandbox kills it for.
    Exit,
}

/// The note type of a build id, among notes named `GNU`.
const NT_GNU_BUILD_ID: usize = 3;
/// The note type of the bounds of a module's sites, among notes named `rkcov`.
const NT_SITES: usize = 1;

/// What the first note of this name and type holds.
fn note<'n>(mut notes: &'n [u8], align: usize, name: &[u8], kind: usize) -> Option<&'n [u8]> {
    let align = align.max(4);
    while let (Some(head), Some(rest)) = (notes.get(..12), notes.get(12..)) {
        let word = |at: usize| {
            let bytes = head.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_ne_bytes(*bytes) as usize)
        };
        let (name_len, len, this) = (word(0)?, word(4)?, word(8)?);
        let at = name_len.checked_next_multiple_of(align)?;
        let body = rest.get(at..)?.get(..len)?;
        if this == kind && rest.get(..name_len)? == name {
            return Some(body);
        }
        let next = at.checked_add(len)?.checked_next_multiple_of(align)?;
        notes = rest.get(next..)?;
    }
    None
}

/// The sites that a note speaks of: two distances of 32 bits, each from its own place.
fn sites(body: &[u8]) -> Option<core::ops::Range<u64>> {
    let at = |offset: usize| {
        let bytes = body.get(offset..)?.first_chunk::<4>()?;
        let place = bytes.as_ptr() as u64;
        Some(place.wrapping_add_signed(i32::from_ne_bytes(*bytes).into()))
    };
    let (start, end) = (at(0)?, at(4)?);
    (start < end).then_some(start..end)
}

/// Whether a segment lies in one that is in memory and can be read: headers may tell of others, too.
fn is_loaded_part(headers: &[libc::Elf64_Phdr], part: &libc::Elf64_Phdr) -> bool {
    headers.iter().any(|header| {
        let offset = part.p_vaddr.wrapping_sub(header.p_vaddr);
        header.p_type == libc::PT_LOAD
            && header.p_flags & libc::PF_R != 0
            && offset < header.p_filesz
            && part.p_memsz <= header.p_filesz - offset
    })
}

fn on_one_page(a: &core::ops::Range<u64>, b: &core::ops::Range<u64>) -> bool {
    let page = |at: u64| at / sys::PAGE as u64;
    b.start < b.end
        && page(a.start) <= page(b.end - 1)
        && page(b.start) <= page(a.end.wrapping_sub(1))
}

/// Which modules are looked for, and those that were found.
struct Search {
    /// Only the module whose text or data has this address.
    address: Option<u64>,
    /// Modules to pass over first.
    skip: usize,
    found: [Found; 8],
    len: usize,
}

impl Search {
    /// Asks the dynamic linker.
    fn run(&mut self) {
        /// # Safety
        /// `search` points to a `Search` that nobody else uses.
        unsafe extern "C" fn visit(
            info: *mut libc::dl_phdr_info,
            _size: usize,
            search: *mut c_void,
        ) -> c_int {
            // SAFETY: what `dl_iterate_phdr()` promises, and what `run()` passes.
            let (info, search) = unsafe { (&*info, &mut *search.cast::<Search>()) };
            // SAFETY: `info` comes from `dl_iterate_phdr()`.
            unsafe { search.visit(info) }
        }
        // SAFETY: `visit` matches, and `self` lives across the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), ptr::from_mut(self).cast()) };
    }

    /// # Safety
    /// `info` is what `dl_iterate_phdr()` passes to its callback.
    unsafe fn visit(&mut self, info: &libc::dl_phdr_info) -> c_int {
        if let Some(address) = self.address {
            // SAFETY: the caller's contract.
            if !unsafe { has(info, address) } {
                return 0;
            }
        } else if self.skip > 0 {
            self.skip -= 1;
            return 0;
        }
        // SAFETY: the caller's contract.
        let found = unsafe { Found::new(info) };
        let Some(place) = self.found.get_mut(self.len) else {
            return 1;
        };
        // A module without text takes a place too, so that `skip` counts right.
        *place = found.unwrap_or(Found::NONE);
        self.len += 1;
        0
    }

    const fn new(address: Option<u64>, skip: usize) -> Self {
        Self {
            address,
            skip,
            found: [const { Found::NONE }; 8],
            len: 0,
        }
    }

    fn found(&self) -> &[Found] {
        self.found.get(..self.len).unwrap_or(&[])
    }
}

/// Takes down every module that is loaded now.
pub(crate) fn scan() {
    scan_at(Moment::Now);
}

/// The same when the process exits, without a system call.
pub(crate) fn scan_at_exit() {
    scan_at(Moment::Exit);
}

fn scan_at(moment: Moment) {
    let mut skip = 0;
    loop {
        let mut search = Search::new(None, skip);
        search.run();
        for found in search.found() {
            let is_watched = add(found, moment, false);
            // What is closed without our knowledge must stay. At exit nothing is.
            if !is_watched && moment == Moment::Now {
                linkage::pin(found.name, true);
            }
        }
        if search.len < search.found.len() {
            return;
        }
        skip += search.len;
    }
}

/// Takes down the module that has `address`.
pub(crate) fn add_containing(address: u64) {
    let mut search = Search::new(Some(address), 0);
    search.run();
    if let [found] = search.found() {
        let is_watched = add(found, Moment::Now, true);
        let always = !is_watched || OPEN.load(Ordering::Relaxed);
        linkage::pin(found.name, always);
    }
}

/// Takes down what came without a word since this was called last, before any of it can go.
pub(crate) fn scan_again() {
    static BEFORE: AtomicU64 = AtomicU64::new(0);
    let now = changes().loaded;
    if BEFORE.load(Ordering::Acquire) != now {
        scan();
        BEFORE.store(now, Ordering::Release);
    }
    // Another thread may be about to read the name of a module that the caller closes.
    drop(crate::lock::take());
}

/// How many modules the dynamic linker has loaded and unloaded; musl's unloads none.
#[derive(Clone, Copy, Default)]
pub(crate) struct Changes {
    pub(crate) loaded: u64,
    pub(crate) unloaded: u64,
}

pub(crate) fn changes() -> Changes {
    /// # Safety
    /// `changes` points to a `Changes` that nobody else uses.
    unsafe extern "C" fn first(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        changes: *mut c_void,
    ) -> c_int {
        // SAFETY: what `dl_iterate_phdr()` promises, and what is passed below.
        unsafe {
            changes.cast::<Changes>().write(Changes {
                loaded: (*info).dlpi_adds,
                unloaded: (*info).dlpi_subs,
            });
        }
        1
    }
    let mut changes = Changes::default();
    // SAFETY: `first` matches, and `changes` lives across the call.
    unsafe { libc::dl_iterate_phdr(Some(first), ptr::from_mut(&mut changes).cast()) };
    changes
}

/// Whether a module is loaded that has `address`.
pub(crate) fn is_loaded(address: u64) -> bool {
    let mut is = false;
    while_loaded(address, || is = true);
    is
}

/// Calls `f` if a module is loaded that has `address`. It stays loaded meanwhile: the dynamic linker takes
/// nothing away while it tells what there is.
pub(crate) fn while_loaded<F: FnMut()>(address: u64, f: F) {
    /// # Safety
    /// `data` points to what `while_loaded()` passes, which nobody else uses.
    unsafe extern "C" fn visit<F: FnMut()>(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: what `dl_iterate_phdr()` promises, and the caller's contract.
        let (info, (address, f)) = unsafe { (&*info, &mut *data.cast::<(u64, F)>()) };
        // SAFETY: `info` comes from `dl_iterate_phdr()`.
        let found = unsafe { has(info, *address) };
        if found {
            f();
        }
        found.into()
    }
    let mut data = (address, f);
    // SAFETY: `visit` matches, and `data` lives across the call.
    unsafe { libc::dl_iterate_phdr(Some(visit::<F>), ptr::from_mut(&mut data).cast()) };
}

/// Calls `f` for every module that is loaded. None is taken away meanwhile.
pub(crate) fn each_loaded<F: FnMut(&Found)>(mut f: F) {
    /// # Safety
    /// `f` points to what `each_loaded()` passes, which nobody else uses.
    unsafe extern "C" fn visit<F: FnMut(&Found)>(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        f: *mut c_void,
    ) -> c_int {
        // SAFETY: what `dl_iterate_phdr()` promises, and the caller's contract.
        let (info, f) = unsafe { (&*info, &mut *f.cast::<F>()) };
        // SAFETY: `info` comes from `dl_iterate_phdr()`.
        if let Some(found) = unsafe { Found::new(info) } {
            f(&found);
        }
        0
    }
    // SAFETY: `visit` matches, and `f` lives across the call.
    unsafe { libc::dl_iterate_phdr(Some(visit::<F>), ptr::from_mut(&mut f).cast()) };
}

/// Whether the module has `address`.
///
/// # Safety
/// `info` is what `dl_iterate_phdr()` passes to its callback.
unsafe fn has(info: &libc::dl_phdr_info, address: u64) -> bool {
    if info.dlpi_phdr.is_null() {
        return false;
    }
    // SAFETY: the module's program headers, as many as it says.
    let headers =
        unsafe { core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    headers.iter().any(|header| {
        let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
        header.p_type == libc::PT_LOAD && address.wrapping_sub(start) < header.p_memsz
    })
}

/// The module that was found is taken down already, or lies where one was that is gone.
fn is_known(found: &Found) -> bool {
    let text = found.text_start..found.text_end;
    let Some(range) = ranges().iter().find(|range| {
        let (start, len) = range.text();
        start < text.end && text.start < start.wrapping_add(len)
    }) else {
        return false;
    };
    // It came before we could keep the place free. Its PCs are taken for those of the other one.
    if range.key.load(Ordering::Relaxed) != found.key {
        range.key.store(found.key, Ordering::Relaxed);
        run::lose(Lost::Place);
    }
    true
}

/// `false` if nobody would learn that the module goes. If it `is_new`, none of its code has run.
fn add(found: &Found, moment: Moment, is_new: bool) -> bool {
    if found.text_end == 0 || is_known(found) {
        return true;
    }
    let mut lock = match moment {
        Moment::Now => crate::lock::take(),
        Moment::Exit => crate::lock::take_at_exit(),
    };
    if is_known(found) {
        return true;
    }
    let at = LEN.load(Ordering::Relaxed);
    // Where the table is full, the module is known to the collector and to maps all the same.
    let unlisted = Range::new();
    let range = RANGES.get(at).unwrap_or(&unlisted);
    range.describe(found);
    note_place(found);
    match moment {
        Moment::Now => maps::meet(&lock, range, is_new),
        Moment::Exit => maps::meet_at_exit(range),
    }
    LEN.store((at + 1).min(MAX), Ordering::Release);
    let is_watched = closing::watch(&lock, &found.mapped);
    run::add_module(&mut lock, found, moment);
    is_watched
}

/// Remembers what [`spread`] tells. The kernel's own module is neither executable nor library.
fn note_place(found: &Found) {
    // SAFETY: plain questions.
    let (headers, kernels) = unsafe {
        (
            libc::getauxval(libc::AT_PHDR),
            libc::getauxval(libc::AT_SYSINFO_EHDR),
        )
    };
    let all = &found.mapped;
    if all.contains(&headers) {
        EXECUTABLE_START.store(all.start, Ordering::Relaxed);
    } else if !all.contains(&kernels) {
        LIBRARIES_END.fetch_max(all.end, Ordering::Relaxed);
    }
}

/// The records of all modules that registered one.
///
/// A module leaves the list while the process exits, too, when it must not make a system call, so
/// not under [`crate::lock`]: a record is added and taken out by one store, and whoever takes one
/// out waits until nobody walks the list who may have it.
struct Records {
    first: AtomicPtr<Record>,
    /// Somebody takes a record out. No handler does: `dlclose()` is not for handlers.
    removing: AtomicBool,
    walkers: AtomicU32,
}
static RECORDS: Records = Records {
    first: AtomicPtr::new(ptr::null_mut()),
    removing: AtomicBool::new(false),
    walkers: AtomicU32::new(0),
};

impl Records {
    fn add(&self, record: *mut Record, this: &Record) {
        let mut first = self.first.load(Ordering::Relaxed);
        loop {
            this.next.store(first, Ordering::Relaxed);
            match self.first.compare_exchange_weak(
                first,
                record,
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(other) => first = other,
            }
        }
    }

    fn remove(&self, record: *mut Record, this: &Record) {
        let _removing = Removing::begin();
        let next = this.next.load(Ordering::Relaxed);
        let is_first =
            self.first
                .compare_exchange(record, next, Ordering::SeqCst, Ordering::Relaxed);
        if let Err(mut at) = is_first {
            // SAFETY: we alone take records out, so those in the list are alive.
            while let Some(other) = unsafe { at.as_ref() } {
                at = other.next.load(Ordering::Relaxed);
                if at == record {
                    other.next.store(next, Ordering::SeqCst);
                    break;
                }
            }
        }
        while self.walkers.load(Ordering::SeqCst) != 0 {
            sys::yield_now();
        }
    }

    /// The walker has the lock, so that no child is forked in between.
    fn each(&self, _lock: &crate::lock::Held, mut f: impl FnMut(&Record)) {
        self.walkers.fetch_add(1, Ordering::SeqCst);
        let mut at = self.first.load(Ordering::SeqCst);
        // SAFETY: whoever takes a record out waits for walkers before it goes.
        while let Some(record) = unsafe { at.as_ref() } {
            f(record);
            at = record.next.load(Ordering::SeqCst);
        }
        self.walkers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The right to take records out, until dropped. Held across `fork()`, so that a child finds it free.
#[must_use = "others may take records out when this is dropped"]
pub(crate) struct Removing(());

impl Removing {
    pub(crate) fn begin() -> Self {
        while RECORDS.removing.swap(true, Ordering::Acquire) {
            sys::yield_now();
        }
        Self(())
    }
}

impl Drop for Removing {
    fn drop(&mut self) {
        RECORDS.removing.store(false, Ordering::Release);
    }
}

extern "C" {
    static environ: *const *const c_char;
}

/// Registers a module. Called before the module's constructors.
///
/// # Safety
/// `record` lies in the module's data and is not registered.
#[no_mangle]
pub unsafe extern "C" fn __rkcov_module_register(record: *mut Record) {
    // SAFETY: the caller's contract.
    let this = unsafe { &*record };
    // A library that is loaded out of order, or that binds to its own runtime, comes first.
    // SAFETY: libc's own environment.
    unsafe { run::start(environ) };
    RECORDS.add(record, this);
    if is_known_now() {
        add_containing(record as u64);
        open(this);
    }
}

/// Takes a module's registration back. Called when it is unloaded.
///
/// # Safety
/// `record` is registered.
#[no_mangle]
pub unsafe extern "C" fn __rkcov_module_unregister(record: *mut Record) {
    // SAFETY: the caller's contract.
    RECORDS.remove(record, unsafe { &*record });
}

/// Opens the gates of all modules, those that come later included, and takes down the texts that
/// unique mode needs. Nothing closes them again: what a client sees must not depend on who else
/// collects.
///
/// All gates are open when this returns. Of several threads that come at the same time each opens
/// them, for none to go on before that.
pub(crate) fn open_gates() {
    if ARE_OPEN.load(Ordering::Acquire) {
        return;
    }
    OPEN.store(true, Ordering::Relaxed);
    scan();
    maps::begin();
    RECORDS.each(&crate::lock::take(), open);
    ARE_OPEN.store(true, Ordering::Release);
}

/// Whether a module that comes now is taken down: somebody collects, or has collected.
pub(crate) fn is_known_now() -> bool {
    run::is_active() || OPEN.load(Ordering::Relaxed)
}

/// Whether a module that comes opens its own gate.
static OPEN: AtomicBool = AtomicBool::new(false);
/// Whether all gates are open for clients in this process.
static ARE_OPEN: AtomicBool = AtomicBool::new(false);

fn open(record: &Record) {
    // SAFETY: the record's module is loaded, and so its gate is there.
    if let Some(gate) = unsafe { record.gate.load(Ordering::Relaxed).as_ref() } {
        gate.store(1, Ordering::Relaxed);
    }
}
