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
//! While somebody collects, a module that registers is pinned: `dlclose()` does not unmap
//! it, and no address ever means two things.

use crate::{linkage, run};
use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use rkcov_region::BUILD_ID_MAX;

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
        }
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

fn ranges() -> &'static [Range] {
    RANGES.get(..LEN.load(Ordering::Acquire)).unwrap_or(&RANGES)
}

/// The text that `pc` is in.
pub(crate) fn range_of(pc: u64) -> Option<&'static Range> {
    ranges().iter().find(|range| range.contains(pc))
}

/// What the dynamic linker knows of a module.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    pub(crate) bias: u64,
    pub(crate) text_start: u64,
    pub(crate) text_end: u64,
    pub(crate) build_id: [u8; BUILD_ID_MAX],
    pub(crate) build_id_len: usize,
    name: *const c_char,
}

impl Found {
    const NONE: Self = Self {
        bias: 0,
        text_start: 0,
        text_end: 0,
        build_id: [0; BUILD_ID_MAX],
        build_id_len: 0,
        name: ptr::null(),
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
        // SAFETY: the module's program headers, as many as it says.
        let headers =
            unsafe { core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        for header in headers {
            let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
            if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
                found.text_start = found.text_start.min(start);
                found.text_end = found.text_end.max(start.wrapping_add(header.p_memsz));
            } else if header.p_type == libc::PT_NOTE {
                // SAFETY: a note segment of a loaded module is mapped and readable.
                let notes = unsafe {
                    core::slice::from_raw_parts(
                        ptr::with_exposed_provenance::<u8>(start as usize),
                        header.p_memsz as usize,
                    )
                };
                if let Some(id) = build_id(notes, header.p_align as usize) {
                    found.build_id_len = id.len().min(BUILD_ID_MAX);
                    for (to, from) in found.build_id.iter_mut().zip(id) {
                        *to = *from;
                    }
                }
            }
        }
        (found.text_start < found.text_end).then_some(found)
    }
}

/// The note type of a build id, among notes named `GNU`.
const NT_GNU_BUILD_ID: usize = 3;

/// The GNU build id among some notes.
fn build_id(mut notes: &[u8], align: usize) -> Option<&[u8]> {
    let align = align.max(4);
    while let (Some(head), Some(rest)) = (notes.get(..12), notes.get(12..)) {
        let word = |at: usize| {
            let bytes = head.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_ne_bytes(*bytes) as usize)
        };
        let (name_len, len, kind) = (word(0)?, word(4)?, word(8)?);
        let name = rest.get(..name_len)?;
        let at = name_len.checked_next_multiple_of(align)?;
        let body = rest.get(at..)?.get(..len)?;
        if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
            return Some(body);
        }
        let next = at.checked_add(len)?.checked_next_multiple_of(align)?;
        notes = rest.get(next..)?;
    }
    None
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
            // SAFETY: the module's program headers, as many as it says.
            let headers = unsafe {
                core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum))
            };
            let inside = headers.iter().any(|header| {
                let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
                header.p_type == libc::PT_LOAD && address.wrapping_sub(start) < header.p_memsz
            });
            if !inside {
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
            found: [Found::NONE; 8],
            len: 0,
        }
    }

    fn found(&self) -> &[Found] {
        self.found.get(..self.len).unwrap_or(&[])
    }
}

/// Takes down every module that is loaded now.
pub(crate) fn scan() {
    let mut skip = 0;
    loop {
        let mut search = Search::new(None, skip);
        search.run();
        for found in search.found() {
            add(found);
        }
        if search.len < search.found.len() {
            return;
        }
        skip += search.len;
    }
}

/// Takes down the module that has `address`, and keeps it from being unloaded.
pub(crate) fn add_containing(address: u64) {
    let mut search = Search::new(Some(address), 0);
    search.run();
    if let [found] = search.found() {
        add(found);
        linkage::pin(found.name);
    }
}

fn add(found: &Found) {
    if found.text_end == 0 {
        return;
    }
    let lock = crate::lock::take();
    if range_of(found.text_start).is_some() {
        return;
    }
    let at = LEN.load(Ordering::Relaxed);
    if let Some(range) = RANGES.get(at) {
        let len = found.text_end.wrapping_sub(found.text_start);
        range.start.store(found.text_start, Ordering::Relaxed);
        range.len.store(len, Ordering::Relaxed);
        LEN.store(at + 1, Ordering::Release);
    }
    run::add_module(&lock, found);
}

/// The records of all modules that registered one.
struct Records(UnsafeCell<*mut Record>);
// SAFETY: used under the lock only.
unsafe impl Sync for Records {}
static RECORDS: Records = Records(UnsafeCell::new(ptr::null_mut()));
static REGISTERED: AtomicU32 = AtomicU32::new(0);

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
    {
        let _lock = crate::lock::take();
        // SAFETY: the lock is held.
        let head = unsafe { &mut *RECORDS.0.get() };
        this.next.store(*head, Ordering::Relaxed);
        *head = record;
        REGISTERED.fetch_add(1, Ordering::Relaxed);
    }
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
    let _lock = crate::lock::take();
    // SAFETY: the lock is held.
    let mut link = unsafe { &mut *RECORDS.0.get() } as *mut *mut Record;
    // SAFETY: links are the head and the `next` of registered records, which are all alive.
    unsafe {
        while !(*link).is_null() {
            let next = (**link).next.as_ptr();
            if *link == record {
                *link = *next;
                return;
            }
            link = next;
        }
    }
}

/// Opens the gates of all modules, those that come later included, and takes down the texts that
/// unique mode needs. Nothing closes them again: what a client sees must not depend on who else
/// collects.
pub(crate) fn open_gates() {
    if OPEN.swap(true, Ordering::Relaxed) {
        return;
    }
    scan();
    let _lock = crate::lock::take();
    // SAFETY: the lock is held; registered records are alive.
    let mut record = unsafe { *RECORDS.0.get() };
    // SAFETY: as above.
    while let Some(this) = unsafe { record.as_ref() } {
        open(this);
        record = this.next.load(Ordering::Relaxed);
    }
}

/// Whether a module that comes now is taken down: somebody collects, or has collected.
pub(crate) fn is_known_now() -> bool {
    run::is_active() || OPEN.load(Ordering::Relaxed)
}

/// Whether the gates are open for clients in this process.
static OPEN: AtomicBool = AtomicBool::new(false);

fn open(record: &Record) {
    // SAFETY: the record's module is loaded, and so its gate is there.
    if let Some(gate) = unsafe { record.gate.load(Ordering::Relaxed).as_ref() } {
        gate.store(1, Ordering::Relaxed);
    }
}
