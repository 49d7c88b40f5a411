// SPDX-License-Identifier: MIT OR Apache-2.0
//! The slots that threads record into: taking one, growing it, leaving it.

use super::collector::{
    directory, ensure_process, is_active, known_process, map_slot, state, tape_offset, State, RUN,
};
use super::contexts;
use crate::mark::Mark;
use crate::modules;
use crate::sys;
use crate::tls::{self, Tls, UNATTACHED};
use crate::{lock, maps, record, stores, threads};
use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use rkcov_abi::Words;
use rkcov_core::hot::Mode;
use rkcov_core::sync::{interrupt_fence, Word};
use rkcov_core::Sink;
use rkcov_region::{Directory, Geometry, Recording, Slot, SlotState};

/// Decides what a thread records that has not recorded anything yet. Called by callbacks, so
/// anywhere: in signal handlers, in allocators, in threads that nobody told us of.
#[cold]
pub(crate) fn attach(tls: &Tls) {
    if state() == State::Alone {
        // No system call: the program may run in a sandbox that has no word of us.
        maps::arrive(tls);
        tls.set_idle(Sink::OFF);
        return;
    }
    let _signals = sys::SignalsBlocked::new();
    if tls.hot.mode.load(Ordering::Relaxed) & UNATTACHED == 0 {
        return;
    }
    if state() == State::New {
        // Nothing is known yet: ask again at the next callback.
        return;
    }
    // Should libc itself be instrumented, what we call of it must not come back here.
    tls.hot.mode.store(Mode::Off as u32, Ordering::Relaxed);
    maps::arrive(tls);
    let idle = match state() {
        State::New | State::Alone => Sink::OFF,
        State::Active => match directory() {
            Some(directory) => take_slot(tls, directory),
            None => Sink::OFF,
        },
    };
    tls.set_idle(idle);
}

fn take_slot(tls: &Tls, directory: &'static Directory) -> Sink {
    let header = &directory.header;
    if header.closed.load(Ordering::Relaxed) != 0 {
        return Sink::OFF;
    }
    let Some((recording, geometry)) = header.recording() else {
        return Sink::OFF;
    };
    unmap_left_slots();
    let known = known_process().filter(|index| (*index as usize) < directory.processes.len());
    let process = known.or_else(|| ensure_process(&mut lock::take()));
    let process = process.unwrap_or(u32::MAX);
    // All of the slot if there is room: a sandbox may forbid to map more later on.
    let (bits, len) = if sys::has_room(geometry.slot_bytes() as usize) {
        (geometry.bitmap_bits(), tape_bytes(&geometry))
    } else {
        (0, FIRST_BYTES.min(tape_bytes(&geometry)))
    };
    let taken = directory.tickets.take().and_then(|slot| {
        let head = directory.slots.get(slot as usize)?;
        let offset = tape_offset(&geometry, slot).wrapping_sub(bits / 8);
        let at = map_slot(offset, len.wrapping_add(bits / 8) as usize)?;
        Some((slot, head, at))
    });
    let Some((number, slot, at)) = taken else {
        header.threads_without_slot.fetch_add(1, Ordering::Relaxed);
        return no_slot(recording, &header.records_without_slot);
    };
    slot.process.store(process, Ordering::Relaxed);
    slot.tid.store(sys::thread_id(), Ordering::Relaxed);
    slot.set_name(&sys::thread_name());
    let mut serial = tls.serial.load(Ordering::Relaxed);
    if serial == 0 {
        let last = header.threads.fetch_add(1, Ordering::Relaxed);
        serial = last.wrapping_add(1);
        tls.serial.store(serial, Ordering::Relaxed);
    }
    slot.serial.store(serial, Ordering::Relaxed);
    let maker = tls.maker.load(Ordering::Relaxed);
    slot.maker.store(maker, Ordering::Relaxed);
    let [began, _] = &slot.ticks;
    began.store(rkcov_region::ticks(), Ordering::Relaxed);
    contexts::opened(tls, directory, slot);
    tls.slot
        .store(ptr::from_ref(slot).cast_mut(), Ordering::Relaxed);
    tls.slot_number.store(number, Ordering::Relaxed);
    threads::announce_end(tls);
    if recording == Recording::Unique {
        let alone = slot.context.load(Ordering::Relaxed) != 0;
        tls.map.store(maps::take(number, alone), Ordering::Relaxed);
    }
    tape(tls, (recording, geometry), at, len, bits)
}

/// Bytes of a slot that are mapped at first where room is scarce, of the count word and the records.
const FIRST_BYTES: u64 = 1 << 16;

/// Bytes of the count word and all records.
fn tape_bytes(geometry: &Geometry) -> u64 {
    geometry.slot_bytes().wrapping_sub(geometry.count_offset())
}

/// The thread's slot is mapped at `at`: a bitmap of `bits`, and `len` bytes of count word and records.
pub(super) fn tape(
    tls: &Tls,
    what: (Recording, Geometry),
    at: *mut u8,
    len: u64,
    bits: u64,
) -> Sink {
    let (recording, geometry) = what;
    let words = |n| Words::new(n).unwrap_or_default();
    // The last page may have more words than the buffer.
    let trace = words((len / 8).min(geometry.buffer_words()));
    let bitmap = words(bits / 64);
    let mode = mode(recording);
    let record = match mode {
        Mode::Cmp => rkcov_abi::TraceMode::Cmp,
        _ => rkcov_abi::TraceMode::Pc,
    };
    tls.slot_at.store(at, Ordering::Relaxed);
    tls.slot_len
        .store(len.wrapping_add(bits / 8), Ordering::Relaxed);
    let area = at.wrapping_add((bits / 8) as usize).cast();
    tls.tape.area.store(area, Ordering::Relaxed);
    tls.tape.bits.store(bits, Ordering::Relaxed);
    let limit = trace.records(record.record_words());
    tls.tape.limit.store(limit, Ordering::Relaxed);
    tls.tape.mode.store(mode as u32, Ordering::Relaxed);
    let may_grow = u32::from(len < tape_bytes(&geometry));
    tls.tape.may_grow.store(may_grow, Ordering::Relaxed);
    let full = full_counter(tls);
    // SAFETY: as many words are mapped, and stay so until `leave()`, which sets another sink first,
    // or until the tape is mapped anew, likewise. The counter is the slot's, or never used.
    unsafe { Sink::new(mode, at.cast(), bitmap, trace, full) }
}

/// Where the thread's slot counts records that found no room.
fn full_counter(tls: &Tls) -> *const AtomicU64 {
    // SAFETY: null, or in the directory, which stays mapped.
    let slot = unsafe { tls.slot.load(Ordering::Relaxed).as_ref() };
    slot.map_or(ptr::null(), |slot| ptr::from_ref(&slot.dropped))
}

/// A record for the collector found no room.
pub(crate) fn count_full(tls: &Tls) {
    // SAFETY: null, or in the directory, which stays mapped.
    if let Some(full) = unsafe { full_counter(tls).as_ref() } {
        full.fetch_add(1, Ordering::Relaxed);
    }
}

/// The tape of the calling thread is full: maps more of its slot. `false` if that is all of it, or if
/// it cannot be done here.
#[cold]
pub(crate) fn grow(tls: &Tls) -> bool {
    let Some(what) = directory().and_then(|d| d.header.recording()) else {
        return false;
    };
    let (_, geometry) = what;
    // What is tried below takes system calls, too many for each record that finds no room.
    let may_grow = &tls.tape.may_grow;
    if tls.is_inside() || !tls.tape.is_there() || may_grow.load(Ordering::Relaxed) == 0 {
        return false;
    }
    let _signals = sys::SignalsBlocked::new();
    let bits = tls.tape.bits.load(Ordering::Relaxed);
    let (at, mapped) = (
        tls.slot_at.load(Ordering::Relaxed),
        tls.slot_len.load(Ordering::Relaxed),
    );
    let len = mapped.wrapping_sub(bits / 8);
    let longer = len.saturating_mul(4).min(tape_bytes(&geometry));
    if longer <= len || !sys::has_room(longer as usize) {
        may_grow.store(0, Ordering::Relaxed);
        return false;
    }
    tls.set_idle(Sink::OFF);
    let all = longer.wrapping_add(bits / 8) as usize;
    // SAFETY: what `tape()` was told is such a mapping, and the thread does not record there now.
    let grown = unsafe { sys::grow(at, mapped as usize, all) };
    let sink = match grown {
        Ok(at) => tape(tls, what, at, longer, bits),
        Err(_) => tape(tls, what, at, len, bits),
    };
    if grown.is_err() {
        may_grow.store(0, Ordering::Relaxed);
    }
    tls.set_idle(sink);
    grown.is_ok()
}

/// A call without a check comes to the tape of the calling thread: its bitmap is mapped now, if it was
/// not and there is room.
pub(crate) fn need_bitmap(tls: &Tls) {
    if tls.tape.bits.load(Ordering::Relaxed) == 0 {
        add_bitmap(tls);
    }
}

#[cold]
fn add_bitmap(tls: &Tls) {
    /// There was no room once.
    static NO_ROOM: AtomicU32 = AtomicU32::new(0);
    let Some(what) = directory().and_then(|d| d.header.recording()) else {
        return;
    };
    let (_, geometry) = what;
    let bits = geometry.bitmap_bits();
    if bits == 0 || tls.is_inside() || NO_ROOM.load(Ordering::Relaxed) != 0 {
        return;
    }
    let _signals = sys::SignalsBlocked::new();
    let (old, len) = (
        tls.slot_at.load(Ordering::Relaxed),
        tls.slot_len.load(Ordering::Relaxed),
    );
    let offset = geometry
        .slot_offset(tls.slot_number.load(Ordering::Relaxed))
        .wrapping_add(geometry.stores_bytes());
    let Some(at) = map_slot(offset, geometry.bitmap_bytes().wrapping_add(len) as usize) else {
        NO_ROOM.store(1, Ordering::Relaxed);
        return;
    };
    let sink = tape(tls, what, at, len, bits);
    tls.set_idle(sink);
    // SAFETY: the thread recorded there until now, and does not any more.
    unsafe { sys::unmap(old, len as usize) };
}

/// Records nothing, and counts what it does not record.
fn no_slot(recording: Recording, counter: &'static AtomicU64) -> Sink {
    static COUNT: Word = Word::new(0);
    let base = ptr::from_ref(&COUNT).cast_mut();
    let (none, one) = (Words::default(), Words::new(1).unwrap_or_default());
    // SAFETY: one word, the count word, behind which no record fits; both live for ever.
    unsafe { Sink::new(mode(recording), base, none, one, counter) }
}

fn mode(recording: Recording) -> Mode {
    match recording {
        Recording::Trace => Mode::Pc,
        Recording::Cmp => Mode::Cmp,
        Recording::Unique => Mode::Unique,
    }
}

/// The calling thread gives its slot up, in `state`, and records nothing any more. Like the exit of
/// the process, this makes no system call: a sandbox may forbid what a program does not need.
pub(crate) fn leave(tls: &Tls, state: SlotState) {
    // Whoever else has this map may store into what is in the slot.
    let shared = stores::are_there() && maps::is_shared(tls.map.load(Ordering::Relaxed));
    // From here on a handler on top of us leaves the slot alone.
    off(tls);
    interrupt_fence();
    let ours = !Mark::Run.is_wiped();
    if let Some(slot) = detach(tls).filter(|_| ours) {
        let [_, ended] = &slot.ticks;
        ended.store(rkcov_region::ticks(), Ordering::Relaxed);
        contexts::closed(slot);
        if !shared {
            slot.set_state(state);
        }
    }
}

/// The serial number that threads which this one makes have for their maker's.
pub(crate) fn maker(tls: &Tls) -> u64 {
    let own = tls.serial.load(Ordering::Relaxed);
    if own != 0 {
        own
    } else {
        tls.maker.load(Ordering::Relaxed)
    }
}

/// What a program is told that the calling thread starts: the collector's token, the thread's serial
/// number and the number of its context, or 0. Nothing if nobody collects.
pub(crate) fn of_child(tls: &Tls) -> Option<(u64, u64, u32)> {
    let directory = directory().filter(|_| is_active())?;
    let token = directory.header.prefix.token.load(Ordering::Relaxed);
    Some((token, maker(tls), contexts::current(tls, directory)))
}

/// The thread whose block is `tls` has another name now, a C string of at most 15 bytes.
pub(crate) fn renamed(tls: &Tls, name: &CStr) {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().zip(name.to_bytes()) {
        *to = *from;
    }
    // SAFETY: null, or in the directory, which stays mapped.
    let slot = unsafe { tls.slot.load(Ordering::Relaxed).as_ref() };
    if let Some(slot) = slot.filter(|_| !Mark::Run.is_wiped()) {
        slot.set_name(&padded);
    }
}

/// The thread records nothing any more, and its map is free.
fn off(tls: &Tls) {
    tls.tape.mode.store(Mode::Off as u32, Ordering::Relaxed);
    tls.set_idle(Sink::OFF);
    maps::put_back(tls.map.swap(0, Ordering::Relaxed));
}

/// The thread's process is exiting in order. Modules that came without a word are taken down now, if
/// they are still there.
pub(crate) fn exiting() {
    // A process that is not in the table has recorded nothing. One that is never waits for the lock
    // in a callback, so a handler may come while this has it.
    if is_active() && known_process().is_some() {
        modules::scan_at_exit();
    }
    let tls = tls::current();
    let slot = tls.slot.load(Ordering::Relaxed);
    // SAFETY: null, or in the directory, which stays mapped.
    if let Some(slot) = unsafe { slot.as_ref() }.filter(|_| !Mark::Run.is_wiped()) {
        maps::look(tls);
        // A forked child has a copy of what its parent has stored.
        if RUN.forked_from.load(Ordering::Relaxed) == 0 && tls.tape.is_there() {
            stores::stored_in_place(tls, record::stored);
        }
        slot.set_state(SlotState::Exiting);
        contexts::exiting(tls);
    }
}

/// Mappings of slots that threads have left, as [`pack`] makes them, or 0. They are taken away by the
/// next thread that takes a slot, which makes system calls anyway.
static LEFT: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// Bits of a number of pages: more than a slot has.
const LEN_BITS: u32 = 28;

/// A mapping in one word: the number of its first page, and of its pages.
fn pack(at: *mut u8, len: u64) -> u64 {
    let page = sys::PAGE as u64;
    ((at.expose_provenance() as u64 / page) << LEN_BITS) | (len / page)
}

fn unmap_left_slots() {
    for place in &LEFT {
        let left = place.swap(0, Ordering::Acquire);
        if left != 0 {
            let at = (left >> LEN_BITS) as usize * sys::PAGE;
            let len = (left & ((1 << LEN_BITS) - 1)) as usize * sys::PAGE;
            // SAFETY: whoever left it does not use it any more, and we alone have it now.
            unsafe { sys::unmap(ptr::with_exposed_provenance_mut(at), len) };
        }
    }
}

/// Takes the slot from the thread, which must not be recording into it.
fn detach(tls: &Tls) -> Option<&'static Slot> {
    let slot = tls.slot.swap(ptr::null_mut(), Ordering::Relaxed);
    // SAFETY: null, or in the directory, which stays mapped.
    let slot = unsafe { slot.as_ref() }?;
    let at = tls.slot_at.swap(ptr::null_mut(), Ordering::Relaxed);
    let len = tls.slot_len.swap(0, Ordering::Relaxed);
    let left = pack(at, len);
    let free = |place: &&AtomicU64| {
        place
            .compare_exchange(0, left, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    };
    if LEFT.iter().find(free).is_none() {
        // SAFETY: the mapping that `take_slot()` made, which nobody else uses.
        unsafe { sys::unmap(at, len as usize) };
    }
    Some(slot)
}

/// We are a new process: the slot that the calling thread records into is its parent's.
pub(crate) fn forked(_lock: &lock::Held, modules_before: u32) {
    if !is_active() {
        return;
    }
    Mark::Run.set();
    let parent = RUN.process.swap(0, Ordering::Relaxed);
    if parent != 0 {
        RUN.forked_from.store(parent, Ordering::Relaxed);
        RUN.inherited_modules
            .store(modules_before, Ordering::Relaxed);
    }
    let tls = tls::current();
    tls.maker.store(maker(tls), Ordering::Relaxed);
    tls.serial.store(0, Ordering::Relaxed);
    off(tls);
    maps::forked();
    // The slot itself goes on: it is the parent's. So do those of contexts that it has entered.
    detach(tls);
    contexts::forked(tls);
    tls.hot.mode.store(UNATTACHED, Ordering::Relaxed);
}
