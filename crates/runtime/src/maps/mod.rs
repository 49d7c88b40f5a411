// SPDX-License-Identifier: MIT OR Apache-2.0
//! Maps: what a check reads before it calls.
//!
//! A check compares the byte at its site's address *plus GS's base* with 0, and calls
//! [`__rkcov_hit`](crate::callbacks::__rkcov_hit) if it is. So the base of a thread (a word of its own on
//! aarch64, see `base`) decides what its checks do:
//!
//! | base | the check reads | it calls |
//! | --- | --- | --- |
//! | 0 | the site itself, which is 1 | never |
//! | of the map of zeros | 0 | always |
//! | of the thread's own map | whether this thread has been there | the first time |
//!
//! All maps lie in the *zone*: map `n` has the byte of address `a` at `a + delta + n * STRIDE`. The
//! zone is reserved memory that reads as zeros, at the distance `delta` from every `Span` of
//! addresses that modules lie in or may come to lie in. So code of a module of which nobody knows
//! yet reads zeros, and calls. Memory is taken only where a map is written.
//!
//! Where there is no room for a zone (`ulimit -v`, valgrind), sites are their own map, one for the
//! whole process: see `Maps::InPlace`. While `rkcov run` collects, sites are zeros in any case, so
//! that a thread of which we have not heard calls, too.

mod base;
mod zone;

use crate::modules::{self, Range};
use crate::tls::{Tls, COPIES};
use crate::{lock, patch, run, stores, sys};
use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicU8, AtomicUsize, Ordering};
use rkcov_core::hot::{Mode, MODE_BITS};
use rkcov_region::Lost;
use zone::{cover, reserve};

/// Bytes from one map to the next. More than the modules of a process spread over.
const STRIDE: u64 = 8 << 30;
/// Maps of a zone, at most.
const MAPS: u32 = 1024;
/// The map that nobody writes.
const ZEROS: u32 = 0;
/// The map of all threads that found no map of their own.
const CROWD: u32 = 1;
/// The first map that a thread may have for itself.
const FIRST: u32 = 2;

/// How the process's checks are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Maps {
    /// Nobody has collected yet.
    None = 0,
    /// There is a zone.
    Zone = 1,
    /// There is none. Sites are zeros, and in unique mode become 1 when some thread has been there.
    InPlace = 2,
}

/// Addresses at which modules lie or may come to lie.
struct Span {
    start: AtomicU64,
    len: AtomicU64,
}

impl Span {
    /// Its start, and how many bytes it has.
    fn bounds(&self) -> (u64, u64) {
        let at = |word: &AtomicU64| word.load(Ordering::Relaxed);
        (at(&self.start), at(&self.len))
    }

    fn has(&self, address: u64) -> bool {
        let (start, len) = self.bounds();
        address.wrapping_sub(start) < len
    }

    fn has_all(&self, first: u64, len: u64) -> bool {
        let (start, all) = self.bounds();
        let offset = first.wrapping_sub(start);
        offset < all && len <= all - offset
    }
}

struct Zone {
    maps: AtomicU32,
    state: AtomicU32,
    /// GS's base for map 0.
    delta: AtomicU64,
    /// How much is reserved below the first span's part of map 0, too.
    apron: AtomicU64,
    /// Under the process's lock; entries below `spans_len` never change.
    spans: [Span; SPANS],
    spans_len: AtomicUsize,
    /// A bit for each map that is free.
    free: [AtomicU64; WORDS],
    /// A bit for each map that somebody may have written.
    dirty: [AtomicU64; WORDS],
    /// 1 + the slot of the thread that has the map; 0 if nobody has it.
    slots: [AtomicU32; MAPS as usize],
}

const SPANS: usize = 64;
const WORDS: usize = MAPS as usize / 64;

static ZONE: Zone = Zone {
    maps: AtomicU32::new(0),
    state: AtomicU32::new(Maps::None as u32),
    delta: AtomicU64::new(0),
    apron: AtomicU64::new(0),
    spans: [const {
        Span {
            start: AtomicU64::new(0),
            len: AtomicU64::new(0),
        }
    }; SPANS],
    spans_len: AtomicUsize::new(0),
    free: [const { AtomicU64::new(0) }; WORDS],
    dirty: [const { AtomicU64::new(0) }; WORDS],
    slots: [const { AtomicU32::new(0) }; MAPS as usize],
};

/// Whether the sites of all modules are zeros, those of modules that come later included.
static AWAKE: AtomicBool = AtomicBool::new(false);

/// Whether sites that are their own map are not marked: see [`keep_contexts_apart`].
static APART: AtomicBool = AtomicBool::new(false);

fn state() -> Maps {
    match ZONE.state.load(Ordering::Acquire) {
        1 => Maps::Zone,
        2 => Maps::InPlace,
        _ => Maps::None,
    }
}

/// GS's base for a map.
fn base_of(map: u32) -> u64 {
    let distance = u64::from(map).wrapping_mul(STRIDE);
    ZONE.delta.load(Ordering::Relaxed).wrapping_add(distance)
}

fn spans() -> &'static [Span] {
    ZONE.spans
        .get(..ZONE.spans_len.load(Ordering::Acquire))
        .unwrap_or(&ZONE.spans)
}

/// Makes checks answer to whoever collects in this process from now on. The modules that are
/// loaded have been taken down. A second call does nothing.
pub(crate) fn begin() {
    if state() != Maps::None {
        return;
    }
    let lock = lock::take();
    if state() != Maps::None {
        return;
    }
    let made = reserve();
    let state = if made { Maps::Zone } else { Maps::InPlace };
    if made {
        // Those that came after the others, and far from them, may be running already.
        for range in modules::ranges() {
            if !cover(range) && range.has_sites() {
                run::lose(Lost::Checks);
            }
        }
    } else {
        wake(&lock);
    }
    ZONE.state.store(state as u32, Ordering::Release);
}

/// Makes the sites of all modules zeros: a thread whose base is 0 calls.
pub(crate) fn wake(_lock: &lock::Held) {
    if !AWAKE.swap(true, Ordering::Relaxed) {
        for range in modules::ranges() {
            if !zero_sites(range) {
                run::lose(Lost::Checks);
            }
        }
    }
}

/// A module was taken down that is not among `ranges` yet. If it `is_new`, none of its code has run.
pub(crate) fn meet(_lock: &lock::Held, range: &Range, is_new: bool) {
    if range.has_sites() {
        // Threads whose base is not ours: until now there was nothing to lose.
        for _ in 0..FOREIGN.swap(0, Ordering::Relaxed) {
            run::lose(Lost::Base);
        }
    }
    // Until now it had no bytes of its own.
    let missed = !is_new && was_missed(range);
    let mut whole = !AWAKE.load(Ordering::Relaxed) || zero_sites(range);
    if state() == Maps::Zone && !cover(range) {
        range.is_not_mapped();
        whole &= !range.has_sites() || is_new && patch::always_call(range);
    }
    if !whole || missed {
        run::lose(Lost::Checks);
    }
}

/// A module is found when the process exits, after all of its code has run.
pub(crate) fn meet_at_exit(range: &Range) {
    if was_missed(range) {
        run::lose(Lost::Checks);
    }
}

/// Whether checks of a module that nobody knew of did not call when they should have.
fn was_missed(range: &Range) -> bool {
    let (first, _, _) = range.sites();
    let has_bytes = match state() {
        Maps::None => true,
        Maps::Zone => spans().iter().any(|span| span.has(first)),
        Maps::InPlace => false,
    };
    range.has_sites() && !has_bytes
}

/// Whether maps have these bytes, and for nothing else.
pub(crate) fn serve(bytes: core::ops::Range<u64>) -> bool {
    let len = bytes.end.wrapping_sub(bytes.start);
    if state() != Maps::Zone {
        return true;
    }
    let mut around = modules::ranges().iter().filter(|range| {
        let (first, last) = range.bounds();
        (first..last).contains(&bytes.start)
    });
    around.all(|range| range.is_mapped())
        && spans().iter().any(|span| span.has_all(bytes.start, len))
}

fn free_all() {
    let maps = ZONE.maps.load(Ordering::Relaxed);
    for (at, word) in ZONE.free.iter().enumerate() {
        let first = at as u32 * 64;
        let bits = (first..first + 64).filter(|map| (FIRST..maps).contains(map));
        word.store(bits.map(|map| 1 << (map % 64)).sum(), Ordering::Relaxed);
    }
    for word in &ZONE.dirty {
        word.store(0, Ordering::Relaxed);
    }
    for slot in &ZONE.slots {
        slot.store(0, Ordering::Relaxed);
    }
}

/// A map for the thread that has this slot, all zeros, by its base. Where there are none left, threads
/// share one, or, in a context, which is recorded `alone`, have none; where there is no zone, the answer
/// is 0, too. A thread without a map has its sites in the bitmap of its slot.
pub(crate) fn take(slot: u32, alone: bool) -> u64 {
    if state() != Maps::Zone {
        return 0;
    }
    let map = take_map();
    if alone && map == CROWD {
        if stores::are_there() {
            run::lose(Lost::Stores);
        }
        return 0;
    }
    if let Some(of) = ZONE.slots.get(map as usize) {
        of.store(slot.wrapping_add(1), Ordering::Release);
    }
    let base = base_of(map);
    stores::show_all(base, slot);
    base
}

/// Calls `f` with the base and the slot of each map that a thread has.
pub(crate) fn each_with_slot(mut f: impl FnMut(u64, u32)) {
    for (map, slot) in (0..).zip(&ZONE.slots) {
        if let Some(slot) = slot.load(Ordering::Acquire).checked_sub(1) {
            f(base_of(map), slot);
        }
    }
}

/// `mlockall()` as programs find it: pages are locked when they are first used, not all at once. The zone
/// is larger than any memory.
#[cfg_attr(rkcov_object, no_mangle)]
pub extern "C" fn mlockall(flags: c_int) -> c_int {
    match sys::lock_all(flags | libc::MCL_ONFAULT) {
        Ok(()) => 0,
        Err(sys::Error(errno)) => {
            // SAFETY: libc's errno of this thread.
            unsafe { *libc::__errno_location() = errno };
            -1
        }
    }
}

/// Whether there is a zone.
#[cfg(test)]
pub(crate) fn is_zone() -> bool {
    state() == Maps::Zone
}

/// Whether several threads may have this map.
pub(crate) fn is_shared(base: u64) -> bool {
    state() == Maps::Zone && base == base_of(CROWD)
}

fn take_map() -> u32 {
    for (at, word) in ZONE.free.iter().enumerate() {
        loop {
            let free = word.load(Ordering::Relaxed);
            if free == 0 {
                break;
            }
            let bit = free & free.wrapping_neg();
            let mine =
                word.compare_exchange(free, free & !bit, Ordering::Acquire, Ordering::Relaxed);
            if mine.is_err() {
                continue;
            }
            let map = at as u32 * 64 + bit.trailing_zeros();
            let dirty = ZONE
                .dirty
                .get(at)
                .is_some_and(|dirty| dirty.fetch_or(bit, Ordering::Relaxed) & bit != 0);
            if !dirty || clear(base_of(map)) {
                return map;
            }
            // A map that cannot be cleared is not used again.
        }
    }
    CROWD
}

/// Makes a map zeros again that nobody uses.
fn clear(base: u64) -> bool {
    spans().iter().all(|span| {
        let at = span.start.load(Ordering::Relaxed).wrapping_add(base);
        sys::drop_private(at as usize, span.len.load(Ordering::Relaxed) as usize).is_ok()
    })
}

/// The context has ended that the thread with this slot is in: the thread's map is zeros again, while it
/// goes on.
pub(crate) fn renew(slot: u32) {
    each_with_slot(|base, of| {
        if of == slot {
            stores::renew(base);
            clear(base);
        }
    });
}

/// Somebody has entered a context: where sites are their own map, for the whole process, they say
/// nothing of a context, and are zeros from now on.
pub(crate) fn keep_contexts_apart() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if state() != Maps::InPlace || DONE.load(Ordering::Acquire) {
        return;
    }
    let _lock = lock::take();
    if !APART.swap(true, Ordering::Relaxed) {
        for range in modules::ranges() {
            if !zero_sites(range) {
                run::lose(Lost::Checks);
            }
        }
    }
    DONE.store(true, Ordering::Release);
}

/// Whether what a thread that has this base has run stands in a map; otherwise in the bitmap of its slot.
pub(crate) fn has_marks(base: u64) -> bool {
    base != 0 || (state() == Maps::InPlace && !APART.load(Ordering::Relaxed))
}

/// Gives back what [`take`] gave. No thread has the base any more.
pub(crate) fn put_back(base: u64) {
    if state() != Maps::Zone || base == 0 {
        return;
    }
    let map = base.wrapping_sub(base_of(ZEROS)) / STRIDE;
    if map >= u64::from(FIRST) {
        if let Some(of) = ZONE.slots.get(map as usize) {
            of.store(0, Ordering::Release);
        }
        if let Some(word) = ZONE.free.get(map as usize / 64) {
            word.fetch_or(1 << (map % 64), Ordering::Release);
        }
    }
}

/// This is a forked child with one thread: the kernel has wiped its maps.
pub(crate) fn forked() {
    if state() == Maps::Zone {
        free_all();
    }
}

/// The calling thread's checks answer to what it records now. `idle` says whether that is what it
/// records on no client's account.
pub(crate) fn switch(tls: &Tls, idle: bool) {
    let mode = &tls.hot.mode;
    let word = mode.load(Ordering::Relaxed);
    let copies = !idle && tls.tape.is_there();
    let flagged = if copies {
        word | COPIES
    } else {
        word & !COPIES
    };
    if flagged != word {
        mode.store(flagged, Ordering::Relaxed);
    }
    if state() != Maps::Zone {
        return;
    }
    let off = word & MODE_BITS == Mode::Off as u32;
    let own = tls.map.load(Ordering::Relaxed);
    let base = if off && !copies {
        0
    } else if own != 0 && (idle || off) {
        own
    } else {
        base_of(ZEROS)
    };
    set(tls, base);
}

/// Stands for a base that somebody else set, who needs it: it stays. None of ours is odd.
const NOT_OURS: u64 = 1;

fn set(tls: &Tls, base: u64) {
    look(tls);
    let was = tls.base.load(Ordering::Relaxed);
    if was == base || was == NOT_OURS {
        return;
    }
    tls.base.store(base, Ordering::Relaxed);
    base::set(base);
}

/// Sees whether the program has set the calling thread's base since we did, where that takes no system
/// call.
pub(crate) fn look(tls: &Tls) {
    let was = tls.base.load(Ordering::Relaxed);
    if state() != Maps::Zone || was == NOT_OURS || !base::may_be_negative() {
        return;
    }
    if base::get().is_some_and(|base| base != was) {
        leave_alone(tls);
    }
}

/// Threads whose base is not ours, as long as there is no check that would use it.
static FOREIGN: AtomicU32 = AtomicU32::new(0);

/// The calling thread's base is the program's own.
fn leave_alone(tls: &Tls) {
    if tls.base.swap(NOT_OURS, Ordering::Relaxed) == NOT_OURS {
        return;
    }
    if modules::ranges().iter().any(Range::has_sites) || stores::are_there() {
        run::lose(Lost::Base);
    } else {
        FOREIGN.fetch_add(1, Ordering::Relaxed);
    }
}

/// The calling thread is new to us: its base is the one that its parent had, or somebody else's.
pub(crate) fn arrive(tls: &Tls) {
    if state() != Maps::Zone {
        return;
    }
    let found = base::get().unwrap_or(0);
    let zone = base_of(ZEROS);
    let ours = found == 0 || found.wrapping_sub(zone) < u64::from(MAPS).wrapping_mul(STRIDE);
    if ours {
        tls.base.store(found, Ordering::Relaxed);
    } else {
        leave_alone(tls);
    }
}

/// The calling thread has just begun: it leaves the map that its parent had. It gets its own when it
/// first calls.
pub(crate) fn leave_parents(tls: &Tls) {
    if cfg!(target_arch = "aarch64") {
        // Nobody has set it: it is what stood in the thread's memory.
        base::set(0);
    }
    arrive(tls);
    set(tls, 0);
}

/// Marks a check's site as seen, in a map or, where there is none, in place. Answers whether it
/// was not. `None` if the site has no byte.
///
/// # Safety
/// `site` is the site of a check of a loaded module that was just run, and `base` is the calling thread's
/// own map, or 0.
pub(crate) unsafe fn mark(site: u64, base: u64) -> Option<bool> {
    let has_byte = match state() {
        Maps::None => false,
        Maps::Zone => spans().iter().any(|span| span.has(site)),
        Maps::InPlace => true,
    };
    if !has_byte || !has_marks(base) {
        return None;
    }
    let at = site.wrapping_add(base) as usize;
    // SAFETY: a map has a byte for each address of a span. In place the base is 0, and a check that calls
    // has read a zero, which only we have put there, and where we did sites are writable.
    let byte = unsafe { &*core::ptr::with_exposed_provenance::<AtomicU8>(at) };
    Some(byte.swap(1, Ordering::Relaxed) == 0)
}

/// The byte of a call without a check in the map with this base: that of its PC, which nothing else has.
/// `None` where no map has one.
pub(crate) fn byte_of_call(pc: u64, base: u64) -> Option<&'static AtomicU8> {
    if base == 0 || state() != Maps::Zone || !spans().iter().any(|span| span.has(pc)) {
        return None;
    }
    let at = pc.wrapping_add(base) as usize;
    // SAFETY: a map, of which this is the base, has a byte for each address of a span, for ever.
    Some(unsafe { &*core::ptr::with_exposed_provenance(at) })
}

/// Puts zeros in the place of a module's sites. Whatever else lies on their pages stays as it is. `false`
/// if there is no room.
fn zero_sites(range: &Range) -> bool {
    let (start, end, executable) = range.sites();
    if start >= end {
        return true;
    }
    let page = sys::page() as u64;
    let (first, last) = (start & !(page - 1), end.next_multiple_of(page));
    let len = last.wrapping_sub(first) as usize;
    let Ok(copy) = sys::map_private(len) else {
        return false;
    };
    // SAFETY: `first..last` is mapped and readable, being pages of a loaded module's constants; the
    // copy is as large, and ours. The sites lie within.
    unsafe {
        core::ptr::copy_nonoverlapping(
            core::ptr::with_exposed_provenance::<u8>(first as usize),
            copy,
            len,
        );
        let sites = copy.wrapping_add(start.wrapping_sub(first) as usize);
        core::ptr::write_bytes(sites, 0, end.wrapping_sub(start) as usize);
    }
    let rights = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    if executable && sys::protect(copy.expose_provenance(), len, rights).is_err() {
        // SAFETY: our copy, which nobody uses.
        unsafe { sys::unmap(copy, len) };
        return false;
    }
    // SAFETY: the copy holds what stands there, but for the sites, and nobody writes to either.
    unsafe { sys::move_to(copy, len, first as usize) }.is_ok()
}
