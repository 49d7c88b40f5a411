// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of the callbacks that need not be assembly.
//!
//! The assembly decides what a callback has to do and does the common part; it comes here with
//! the return address of the callback, and with the thread's block where it has it.

use crate::modules::{self, range_of, reserve_indices, Range};
use crate::tls::{self, Tls, COPIES, UNATTACHED};
use crate::{maps, run, stores};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
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

/// Appends by `put`, which gets the count word, how many records fit behind it, and the bits of the
/// bitmap before it. A slot of `rkcov run` grows first if it is full.
fn append(tls: &Tls, put: impl Fn(*mut Word, u32, u64) -> Appended) {
    let once = || {
        put(
            tls.hot.area.load(Ordering::Relaxed),
            tls.hot.limit.load(Ordering::Relaxed),
            tls.task.bitmap_bits.load(Ordering::Relaxed),
        )
    };
    let mut did = once();
    if did == Appended::Full && is_on_tape(tls) && run::grow(tls) {
        did = once();
    }
    if did == Appended::Full {
        tls.task.count_full();
    }
}

/// The same for the collector's copy.
fn append_copy(tls: &Tls, put: impl Fn(*mut Word, u32, u64) -> Appended) {
    let once = || {
        put(
            tls.tape.area.load(Ordering::Relaxed),
            tls.tape.limit.load(Ordering::Relaxed),
            tls.tape.bits.load(Ordering::Relaxed),
        )
    };
    let mut did = once();
    if did == Appended::Full && run::grow(tls) {
        did = once();
    }
    if did == Appended::Full {
        run::count_full(tls);
    }
}

/// Whether what the thread records goes to the collector of its process, and nobody else.
fn is_on_tape(tls: &Tls) -> bool {
    tls.tape.is_there()
        && tls.hot.area.load(Ordering::Relaxed) == tls.tape.area.load(Ordering::Relaxed)
}

/// What a PC without a guard or a check comes from.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// A check, which knows whether the thread has not been there before.
    Check(&'a dyn Fn() -> bool),
    /// A call, with the index that its site has in a bitmap.
    Call(u64),
}

/// Gives the collector its copy of a PC that a client has, if it wants one.
fn copy_pc(tls: &Tls, origin: Origin<'_>, pc: u64) {
    if tls.hot.mode.load(Ordering::Relaxed) & COPIES == 0 {
        return;
    }
    let origin = match origin {
        Origin::Check(_) if !has_marks(tls) => Origin::Call(text_index(tls, pc)),
        origin => origin,
    };
    let mode = tls.tape.mode.load(Ordering::Relaxed);
    if mode == Mode::Unique as u32 {
        match origin {
            Origin::Call(index) => {
                run::need_bitmap(tls);
                // SAFETY: whoever set the tape's mode vouches for its area and bitmap.
                append_copy(tls, |area, limit, bits| unsafe {
                    append_unique(area, limit, bits, index, pc)
                });
                return;
            }
            Origin::Check(is_first) if !is_first() => return,
            Origin::Check(_) => {}
        }
    } else if mode != Mode::Pc as u32 {
        return;
    }
    // SAFETY: as above.
    append_copy(tls, |area, limit, _| unsafe { append_pc(area, limit, pc) });
}

/// Appends in trace mode.
fn trace(tls: &Tls, pc: u64) {
    // SAFETY: whoever set the mode vouches for the area.
    append(tls, |area, limit, _| unsafe { append_pc(area, limit, pc) });
}

/// Appends in unique mode.
fn unique(tls: &Tls, index: u64, pc: u64) {
    if is_on_tape(tls) {
        run::need_bitmap(tls);
    }
    // SAFETY: whoever set the mode vouches for the area and the bitmap.
    append(tls, |area, limit, bits| unsafe {
        append_unique(area, limit, bits, index, pc)
    });
}

/// Marks a check in the thread's map. Answers whether the thread has not been there before.
fn is_first(tls: &Tls, pc: u64) -> bool {
    // SAFETY: `pc` is behind a check's jump, at whose end the distance to its target stands; the
    // comparison before it has a distance to the site, from where the jump begins, and an operand of
    // one byte.
    let site = unsafe {
        let jump = (pc as *const u8).wrapping_sub(CHECK_JUMP);
        let distance = jump.wrapping_sub(1 + 4).cast::<i32>().read_unaligned();
        (jump as u64).wrapping_add_signed(distance.into())
    };
    // SAFETY: the site of a check that was just run.
    unsafe { maps::mark(site, tls.map.load(Ordering::Relaxed)) }
}

/// Bytes of the jump of a check.
const CHECK_JUMP: usize = 6;

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
/// A check whose byte is 0, in any mode. `pc` is where it goes on.
pub(crate) extern "C" fn hit(pc: u64) {
    let tls = tls::current();
    match mode(tls) {
        m if m == Mode::Pc as u32 => trace(tls, pc),
        m if m == Mode::Unique as u32 => {
            if !is_on_tape(tls) || !has_marks(tls) {
                unique(tls, text_index(tls, pc), pc);
            } else if is_first(tls, pc) {
                trace(tls, pc);
            }
        }
        _ => {}
    }
    copy_pc(tls, Origin::Check(&|| is_first(tls, pc)), pc);
}

/// Whether a map says where the thread has been; otherwise the bitmap of its slot does.
fn has_marks(tls: &Tls) -> bool {
    maps::has_marks(tls.map.load(Ordering::Relaxed))
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
///
/// # Safety
/// `guard` is such a guard.
pub(crate) unsafe extern "C" fn store(guard: u64, pc: u64) {
    let tls = tls::current();
    // Asked for before the map, which the thread may get only now.
    let mode = mode(tls);
    let is_first = || {
        let base = tls.map.load(Ordering::Relaxed);
        // SAFETY: the caller's contract.
        unsafe { stores::is_first_call(guard, base) }
    };
    match mode {
        m if m == Mode::Pc as u32 => trace(tls, pc),
        m if m == Mode::Unique as u32 => {
            if !is_on_tape(tls) || !has_marks(tls) {
                unique(tls, text_index(tls, pc), pc);
            } else if is_first() {
                trace(tls, pc);
            }
        }
        _ => {}
    }
    copy_pc(tls, Origin::Check(&is_first), pc);
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
        append(tls, |area, limit, _| unsafe {
            append_cmp(area, limit, cmp)
        });
    }
    let copies = tls.hot.mode.load(Ordering::Relaxed) & COPIES != 0;
    if copies && tls.tape.mode.load(Ordering::Relaxed) == Mode::Cmp as u32 {
        // SAFETY: whoever set the tape's mode vouches for its area.
        append_copy(tls, |area, limit, _| unsafe {
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
