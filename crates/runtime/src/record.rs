// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of the callbacks that need not be assembly.
//!
//! The assembly decides what a callback has to do and does the common part; it comes here with
//! the return address of the callback, and with the thread's block where it has it.

use crate::modules::{self, range_of, reserve_indices, Range};
use crate::run;
use crate::tls::{self, Tls, UNATTACHED};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};
use rkcov_abi::{CmpType, Comparison};
use rkcov_core::append::{append_cmp, append_pc, append_unique, Appended};
use rkcov_core::hot::{Mode, MODE_BITS};

/// An index that no bitmap has.
const NO_INDEX: u64 = u64::MAX;

/// The thread's mode, after it was attached if it was not.
fn mode(tls: &Tls) -> u32 {
    if tls.hot.mode.load(Ordering::Relaxed) & UNATTACHED != 0 {
        run::attach(tls);
    }
    tls.hot.mode.load(Ordering::Relaxed) & MODE_BITS
}

fn count(tls: &Tls, did: Appended) {
    if did == Appended::Full {
        tls.task.count_full();
    }
}

/// Appends in trace mode.
fn trace(tls: &Tls, pc: u64) {
    let (area, limit) = (&tls.hot.area, &tls.hot.limit);
    // SAFETY: whoever set the mode vouches for the area.
    let did = unsafe {
        append_pc(
            area.load(Ordering::Relaxed),
            limit.load(Ordering::Relaxed),
            pc,
        )
    };
    count(tls, did);
}

/// Appends in unique mode.
fn unique(tls: &Tls, index: u64, pc: u64) {
    let (area, limit) = (&tls.hot.area, &tls.hot.limit);
    // SAFETY: whoever set the mode vouches for the area and the bitmap.
    let did = unsafe {
        append_unique(
            area.load(Ordering::Relaxed),
            limit.load(Ordering::Relaxed),
            tls.task.bitmap_bits.load(Ordering::Relaxed),
            index,
            pc,
        )
    };
    count(tls, did);
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
    let place = range_of(pc).and_then(|range| Some((range, range.index_base()?)));
    let Some((range, base)) = place else {
        return unique(tls, NO_INDEX, pc);
    };
    let at = ptr::from_ref::<Range>(range).cast_mut();
    tls.range.store(at, Ordering::Relaxed);
    let offset = pc.wrapping_sub(range.start.load(Ordering::Relaxed));
    unique(tls, base.wrapping_add(offset), pc);
}

/// No room for a PC in trace mode.
pub(crate) extern "C" fn full() {
    count(tls::current(), Appended::Full);
}

/// A PC without guard, in any mode.
pub(crate) extern "C" fn pc(pc: u64) {
    let tls = tls::current();
    match mode(tls) {
        m if m == Mode::Pc as u32 => trace(tls, pc),
        m if m == Mode::Unique as u32 => unique_elsewhere(pc),
        _ => {}
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
}

/// A comparison, in any mode. `kind` is its type word.
pub(crate) extern "C" fn compare(arg1: u64, arg2: u64, pc: u64, kind: u64) {
    let tls = tls::current();
    if mode(tls) == Mode::Cmp as u32 {
        let kind = CmpType::from_raw(kind);
        append_comparison(
            tls,
            Comparison {
                kind,
                arg1,
                arg2,
                pc,
            },
        );
    }
}

fn append_comparison(tls: &Tls, cmp: Comparison) {
    let (area, limit) = (&tls.hot.area, &tls.hot.limit);
    // SAFETY: whoever set the mode vouches for the area.
    let did = unsafe {
        append_cmp(
            area.load(Ordering::Relaxed),
            limit.load(Ordering::Relaxed),
            cmp,
        )
    };
    count(tls, did);
}

/// A switch, in any mode: one comparison with each of its cases. `cases` holds their number,
/// their size in bits, and then their values.
///
/// # Safety
/// `cases` is such a table.
pub(crate) unsafe extern "C" fn switch(value: u64, cases: *const u64, pc: u64) {
    let tls = tls::current();
    if mode(tls) != Mode::Cmp as u32 {
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
