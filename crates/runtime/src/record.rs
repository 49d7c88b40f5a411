// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of the callbacks that need not be assembly.
//!
//! The assembly decides what a callback has to do and does the common part; it comes here with
//! the return address of the callback, and with the thread's block where it has it.

use crate::modules::{self, range_of, reserve_indices, Range};
use crate::tls::{self, Tls, COPIES, UNATTACHED};
use crate::{maps, run, stores};
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU8, Ordering};
#[cfg(target_arch = "aarch64")]
use rkcov_abi::sites::arm64::Check;
#[cfg(target_arch = "x86_64")]
use rkcov_abi::sites::Check;
use rkcov_abi::{CmpType, Comparison};
use rkcov_core::append::{append_cmp, append_pc, append_unique, Appended};
use rkcov_core::hot::{Mode, MODE_BITS};
use rkcov_core::sync::Word;

/// An index that no bitmap has.
const NO_INDEX: u64 = u64::MAX;

/// The thread's mode, after it was attached if it was not.
fn mode(tls: &Tls) -> u32 {
    if tls.hot.mode.load(Ordering::Relaxed) & UNATTACHED != 0 {
        run::attach(tls);
    }
    tls.hot.mode.load(Ordering::Relaxed) & MODE_BITS
}

/// Where records go: to whoever the thread records for, or to the collector that gets copies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Client,
    Collector,
}

/// Appends by `put`, which gets the count word, how many records fit behind it, and the bits of the
/// bitmap before it. A slot of `rkcov run` grows first if it is full.
fn append(tls: &Tls, to: To, put: impl Fn(*mut Word, u32, u64) -> Appended) {
    let once = || {
        let (area, limit, bits) = match to {
            To::Client => (&tls.hot.area, &tls.hot.limit, &tls.task.bitmap_bits),
            To::Collector => (&tls.tape.area, &tls.tape.limit, &tls.tape.bits),
        };
        put(
            area.load(Ordering::Relaxed),
            limit.load(Ordering::Relaxed),
            bits.load(Ordering::Relaxed),
        )
    };
    let mut did = once();
    let may_grow = to == To::Collector || is_on_tape(tls);
    if did == Appended::Full && may_grow && run::grow(tls) {
        did = once();
    }
    if did == Appended::Full {
        match to {
            // The collector's tape has no counter if the thread has no slot.
            To::Client if tls.task.full.load(Ordering::Relaxed).is_null() => {}
            // SAFETY: it just tried to record, into a sink with a counter.
            To::Client => unsafe { tls.task.count_full() },
            To::Collector => run::count_full(tls),
        }
    }
}

/// Whether what the thread records goes to the collector of its process, and nobody else.
fn is_on_tape(tls: &Tls) -> bool {
    tls.tape.is_there()
        && tls.hot.area.load(Ordering::Relaxed) == tls.tape.area.load(Ordering::Relaxed)
}

/// What a PC comes from.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// A check or a store, which knows whether the thread has not been there before, or that it has no
    /// byte for that.
    Site(&'a dyn Fn() -> Option<bool>),
    /// A call, with the index that its site has in a bitmap.
    Call(u64),
}

/// Gives the collector its copy of a PC that a client has, if it wants one.
fn copy_pc(tls: &Tls, origin: Origin<'_>, pc: u64) {
    if tls.hot.mode.load(Ordering::Relaxed) & COPIES == 0 {
        return;
    }
    let mode = tls.tape.mode.load(Ordering::Relaxed);
    if mode == Mode::Unique as u32 {
        let (is_first, index) = match origin {
            Origin::Site(is_first) => match is_first() {
                Some(is_first) => (Some(is_first), NO_INDEX),
                None => (None, text_index(tls, pc)),
            },
            Origin::Call(index) => (None, index),
        };
        match is_first.or_else(|| is_first_call(tls, index, pc)) {
            Some(true) => {}
            Some(false) => return,
            None => {
                run::need_bitmap(tls);
                // SAFETY: whoever set the tape's mode vouches for its area and bitmap.
                append(tls, To::Collector, |area, limit, bits| unsafe {
                    append_unique(area, limit, bits, index, pc)
                });
                return;
            }
        }
    } else if mode != Mode::Pc as u32 {
        return;
    }
    // SAFETY: as above.
    append(tls, To::Collector, |area, limit, _| unsafe {
        append_pc(area, limit, pc)
    });
}

/// Whether the thread has not been at a call before that has no index, by its byte in the thread's map,
/// which is marked. So are calls of a module that came without a word, or for which indices ran out.
/// `None` if the call has an index, or no byte.
fn is_first_call(tls: &Tls, index: u64, pc: u64) -> Option<bool> {
    if index != NO_INDEX {
        return None;
    }
    let byte = byte_of_call(tls, pc)?;
    Some(byte.swap(1, Ordering::Relaxed) == 0)
}

fn byte_of_call(tls: &Tls, pc: u64) -> Option<&'static AtomicU8> {
    maps::byte_of_call(pc, tls.map.load(Ordering::Relaxed))
}

/// Appends in trace mode.
fn trace(tls: &Tls, pc: u64) {
    // SAFETY: whoever set the mode vouches for the area.
    append(tls, To::Client, |area, limit, _| unsafe {
        append_pc(area, limit, pc)
    });
}

/// Appends in unique mode.
fn unique(tls: &Tls, index: u64, pc: u64) {
    if is_on_tape(tls) {
        match is_first_call(tls, index, pc) {
            Some(true) => return trace(tls, pc),
            Some(false) => return,
            None => run::need_bitmap(tls),
        }
    }
    // SAFETY: whoever set the mode vouches for the area and the bitmap.
    append(tls, To::Client, |area, limit, bits| unsafe {
        append_unique(area, limit, bits, index, pc)
    });
}

/// Whether the thread has not been at a check before, which is marked in its map. `None` if the module has
/// no bytes in maps, so that all its checks call.
fn is_first_check(tls: &Tls, pc: u64) -> Option<bool> {
    let site = byte_of_check(pc)?;
    // SAFETY: the site of a check that was just run.
    unsafe { maps::mark(site, tls.map.load(Ordering::Relaxed)) }
}

/// The address of the byte of the check before `pc`. `None` if the check does not read it any more.
#[cfg(target_arch = "x86_64")]
fn byte_of_check(pc: u64) -> Option<u64> {
    // SAFETY: `pc` is behind a check, as whoever rewrites calls and `patch` leave it.
    let (begin, second) = unsafe {
        let check = (pc as *const u8).wrapping_sub(Check::LEN as usize);
        let code = check.cast::<[u8; Check::SECOND]>().read();
        (code, check.wrapping_add(Check::SECOND))
    };
    let [first, _, _, distance @ .., _] = begin;
    if first == Check::SKIP[0] {
        return None;
    }
    Some((second as u64).wrapping_add_signed(i32::from_le_bytes(distance).into()))
}

/// The address of the byte of the check before `pc`.
#[cfg(target_arch = "aarch64")]
fn byte_of_check(pc: u64) -> Option<u64> {
    let at = pc.wrapping_sub(Check::LEN);
    // SAFETY: `pc` is behind a check, as whoever rewrites calls leaves it.
    let code = unsafe { (at as *const [u8; Check::LEN as usize]).read() };
    Some(Check::read(&code, at)?.byte)
}

/// A check whose byte is 0, in any mode. `pc` is where it goes on.
pub(crate) extern "C" fn hit(pc: u64) {
    let tls = tls::current();
    site(tls, pc, &|| is_first_check(tls, pc));
}

/// A site that is recorded where `is_first` says that the thread has not been there before, in any mode.
fn site(tls: &Tls, pc: u64, is_first: &dyn Fn() -> Option<bool>) {
    // Asked for before the map, which the thread may get only now.
    match mode(tls) {
        m if m == Mode::Pc as u32 => trace(tls, pc),
        m if m == Mode::Unique as u32 => {
            let is_first = if is_on_tape(tls) { is_first() } else { None };
            match is_first {
                Some(true) => trace(tls, pc),
                Some(false) => {}
                None => unique(tls, text_index(tls, pc), pc),
            }
        }
        _ => {}
    }
    copy_pc(tls, Origin::Site(is_first), pc);
}

/// The index of a guard's site.
fn guard_index(guard: u32) -> u64 {
    if guard == 0 {
        NO_INDEX
    } else {
        u64::from(guard)
    }
}

/// Unique mode, a site with a guard that is not in the bitmap yet.
pub(crate) extern "C" fn unique_guard(guard: u32, pc: u64) {
    unique(tls::current(), guard_index(guard), pc);
}

/// Unique mode, a PC in the thread's last range that is not in the bitmap yet.
pub(crate) extern "C" fn unique_index(index: u64, pc: u64) {
    unique(tls::current(), index, pc);
}

/// Unique mode, a PC outside of the thread's last range.
pub(crate) extern "C" fn unique_elsewhere(pc: u64) {
    let tls = tls::current();
    // No index has to be looked for to know that the thread has been there.
    let been = |byte: &AtomicU8| byte.load(Ordering::Relaxed) != 0;
    if is_on_tape(tls) && byte_of_call(tls, pc).is_some_and(been) {
        return;
    }
    unique(tls, text_index(tls, pc), pc);
}

/// The index of a PC without a guard. Its text becomes the thread's last range.
fn text_index(tls: &Tls, pc: u64) -> u64 {
    let place = range_of(pc).and_then(|range| Some((range, range.index_base()?)));
    let Some((range, base)) = place else {
        return NO_INDEX;
    };
    let at = ptr::from_ref::<Range>(range).cast_mut();
    tls.range.store(at, Ordering::Relaxed);
    base.wrapping_add(pc.wrapping_sub(range.start.load(Ordering::Relaxed)))
}

/// No room for a PC in trace mode.
pub(crate) extern "C" fn full(pc: u64) {
    trace(tls::current(), pc);
}

/// A PC without guard, in any mode.
pub(crate) extern "C" fn pc(pc: u64) {
    let tls = tls::current();
    match mode(tls) {
        m if m == Mode::Pc as u32 => trace(tls, pc),
        m if m == Mode::Unique as u32 => unique_elsewhere(pc),
        _ => {}
    }
    if tls.hot.mode.load(Ordering::Relaxed) & COPIES != 0 {
        copy_pc(tls, Origin::Call(text_index(tls, pc)), pc);
    }
}

/// A PC with a guard, in any mode.
pub(crate) extern "C" fn pc_guard(guard: u32, pc: u64) {
    let tls = tls::current();
    match mode(tls) {
        m if m == Mode::Pc as u32 => trace(tls, pc),
        m if m == Mode::Unique as u32 => unique(tls, guard_index(guard), pc),
        _ => {}
    }
    copy_pc(tls, Origin::Call(guard_index(guard)), pc);
}

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
/// A call with a guard of a module in which other calls are stores, in any mode.
pub(crate) extern "C" fn store(guard: u64, pc: u64) {
    let tls = tls::current();
    site(tls, pc, &|| {
        stores::is_first_call(guard, tls.map.load(Ordering::Relaxed))
    });
}

/// A guard in which a thread without a map has stored: the collector gets its address.
pub(crate) fn stored(tls: &Tls, guard: u64) {
    let (area, limit) = (&tls.tape.area, &tls.tape.limit);
    // SAFETY: whoever set the tape's mode vouches for its area.
    let did = unsafe {
        append_pc(
            area.load(Ordering::Relaxed),
            limit.load(Ordering::Relaxed),
            guard,
        )
    };
    if did == Appended::Full {
        run::count_full(tls);
    }
}

/// A comparison, in any mode. `kind` is its type word.
pub(crate) extern "C" fn compare(arg1: u64, arg2: u64, pc: u64, kind: u64) {
    let tls = tls::current();
    let records = mode(tls) == Mode::Cmp as u32;
    let kind = CmpType::from_raw(kind);
    append_comparison(
        tls,
        records,
        Comparison {
            kind,
            arg1,
            arg2,
            pc,
        },
    );
}

/// Appends a comparison if the thread `records` them, and copies it if the collector wants that.
fn append_comparison(tls: &Tls, records: bool, cmp: Comparison) {
    if records {
        // SAFETY: whoever set the mode vouches for the area.
        append(tls, To::Client, |area, limit, _| unsafe {
            append_cmp(area, limit, cmp)
        });
    }
    let copies = tls.hot.mode.load(Ordering::Relaxed) & COPIES != 0;
    if copies && tls.tape.mode.load(Ordering::Relaxed) == Mode::Cmp as u32 {
        // SAFETY: whoever set the tape's mode vouches for its area.
        append(tls, To::Collector, |area, limit, _| unsafe {
            append_cmp(area, limit, cmp)
        });
    }
}

/// A switch, in any mode: one comparison with each of its cases. `cases` holds their number,
/// their size in bits, and then their values.
///
/// # Safety
/// `cases` is such a table.
pub(crate) unsafe extern "C" fn switch(value: u64, cases: *const u64, pc: u64) {
    let tls = tls::current();
    let records = mode(tls) == Mode::Cmp as u32;
    if !records && tls.hot.mode.load(Ordering::Relaxed) & COPIES == 0 {
        return;
    }
    // SAFETY: the caller's contract.
    let (number, bits) = unsafe { (cases.read(), cases.add(1).read()) };
    let Some(kind) = CmpType::of_switch(bits) else {
        return;
    };
    for n in 0..number {
        // SAFETY: case `n` of `number`.
        let arg1 = unsafe { cases.wrapping_add(n as usize).wrapping_add(2).read() };
        append_comparison(
            tls,
            records,
            Comparison {
                kind,
                arg1,
                arg2: value,
                pc,
            },
        );
    }
}

/// Numbers the guards of a module, those between `start` and `stop`.
///
/// # Safety
/// They are the bounds of an array of guards.
pub(crate) unsafe extern "C" fn number_guards(start: *mut u32, stop: *mut u32) {
    if start >= stop {
        // A module whose guards the linker has thrown away may have null here.
        return;
    }
    // SAFETY: the bounds of one array.
    let guards = unsafe {
        let len = stop.offset_from_unsigned(start);
        core::slice::from_raw_parts(start.cast::<AtomicU32>(), len)
    };
    // Called once for each object file of a module in some builds, always with the same bounds.
    if guards
        .first()
        .is_none_or(|guard| guard.load(Ordering::Relaxed) != 0)
    {
        return;
    }
    // Without numbers each of its records stands alone: not unique, but not lost.
    let Some(first) = reserve_indices(guards.len() as u64) else {
        return;
    };
    for (guard, index) in guards.iter().zip(first..) {
        guard.store(index as u32, Ordering::Relaxed);
    }
    if modules::is_known_now() {
        modules::add_containing(start as u64);
    }
}
