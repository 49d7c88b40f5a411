// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sites that are recorded by a store instead of a call.
//!
//! In objects of rustc the calls of `__sanitizer_cov_trace_pc_guard()` are made stores of 1 into the
//! byte of the guard, in the map of the thread, before they are linked. Nothing of ours runs there.
//! So the part of a thread's map that has the guards of such a module is memory of the thread's slot:
//! the collector reads the bytes. A guard has four: the store's is the first; the second says that
//! a call that was left as it was has been recorded; the third, that the store had run when the context
//! ended that the thread was in.
//!
//! While a thread has no map, its stores go into the module's own guards. When the process exits, what
//! stands there is recorded, too.
//!
//! Where every PC is recorded, in order, stores become calls again when the module comes, before its
//! code runs.

use crate::modules;
use crate::tls::Tls;
use crate::{lock, maps, patch, run, sys};
use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicU8, AtomicUsize, Ordering};
use rkcov_region::{Geometry, Guards, Lost, GUARD};

/// The guards of a module, and where their bytes are in a slot.
struct Module {
    start: AtomicU64,
    len: AtomicU64,
    offset: AtomicU64,
}

/// Modules with stores; entries below `LEN` never change. Written under the lock.
static MODULES: [Module; MAX] = [const {
    Module {
        start: AtomicU64::new(0),
        len: AtomicU64::new(0),
        offset: AtomicU64::new(0),
    }
}; MAX];
static LEN: AtomicUsize = AtomicUsize::new(0);
const MAX: usize = 256;

fn modules() -> &'static [Module] {
    MODULES
        .get(..LEN.load(Ordering::Acquire))
        .unwrap_or(&MODULES)
}

impl Module {
    fn guards(&self, process: u32) -> Guards {
        Guards {
            process,
            start: self.start.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
            offset: self.offset.load(Ordering::Relaxed),
        }
    }
}

/// Whether there is any: then threads need their maps before they call.
pub(crate) fn are_there() -> bool {
    LEN.load(Ordering::Relaxed) != 0
}

/// A module with stores comes, and says where its guards are. Called before its other constructors,
/// perhaps once for each of its objects.
///
/// # Safety
/// They are the bounds of an array of guards.
pub(crate) unsafe extern "C" fn init(start: *mut u32, stop: *mut u32) {
    let (start, end) = (start as u64, stop as u64);
    // A module whose guards the linker has thrown away may have null here.
    if start >= end || modules().iter().any(|m| m.guards(0).start == start) {
        return;
    }
    if modules::is_known_now() {
        modules::add_containing(start);
    }
    if !run::is_active() {
        return;
    }
    if run::wants_each_once() && maps::serve(start..end) {
        add(start, end);
        run::attach(crate::tls::current());
    } else if !patch::make_calls(start, end) {
        run::lose(Lost::Stores);
    }
}

fn add(start: u64, end: u64) {
    /// Bytes of a slot that guards have.
    static USED: AtomicU64 = AtomicU64::new(0);
    let mut lock = lock::take();
    let page = sys::PAGE as u64;
    let first = start & !(page - 1);
    let len = end.next_multiple_of(page).wrapping_sub(first);
    let at = USED.load(Ordering::Relaxed);
    let number = LEN.load(Ordering::Relaxed);
    let (Some(module), true) = (
        MODULES.get(number),
        at.wrapping_add(len) <= Geometry::STORES_BYTES,
    ) else {
        run::lose(Lost::Stores);
        return;
    };
    USED.store(at.wrapping_add(len), Ordering::Relaxed);
    module.start.store(start, Ordering::Relaxed);
    module.len.store(end.wrapping_sub(start), Ordering::Relaxed);
    let offset = at.wrapping_add(start.wrapping_sub(first));
    module.offset.store(offset, Ordering::Relaxed);
    LEN.store(number + 1, Ordering::Release);
    run::publish_stores(&mut lock, |process| module.guards(process));
    maps::each_with_slot(|base, slot| show(module, base, slot));
}

/// What this process's entries in the collector's table say.
pub(crate) fn all(process: u32) -> impl Iterator<Item = Guards> {
    modules().iter().map(move |module| module.guards(process))
}

/// The map with this base becomes that of a thread with a slot: its guards are the slot's.
pub(crate) fn show_all(base: u64, slot: u32) {
    for module in modules() {
        show(module, base, slot);
    }
}

fn show(module: &Module, base: u64, slot: u32) {
    let Guards {
        start, len, offset, ..
    } = module.guards(0);
    let page = sys::PAGE as u64;
    let into = start % page;
    let bytes = into.wrapping_add(len).next_multiple_of(page);
    let to = start.wrapping_sub(into).wrapping_add(base);
    if !run::map_stores(slot, offset.wrapping_sub(into), to as usize, bytes as usize) {
        run::lose(Lost::Stores);
    }
}

/// Whether the thread whose map has this base has not been at the call with this guard, which is marked.
/// `None` if the guard is not of a module in which other calls are stores, or if the thread has no marks.
pub(crate) fn is_first_call(guard: u64, base: u64) -> Option<bool> {
    let is_of = |module: &&Module| {
        let Guards { start, len, .. } = module.guards(0);
        guard.wrapping_sub(start) < len
    };
    modules()
        .iter()
        .find(is_of)
        .filter(|_| maps::has_marks(base))?;
    let at = guard.wrapping_add(base).wrapping_add(1) as usize;
    // SAFETY: maps have bytes for all guards of such a module, and so has the module itself, whose base
    // is 0; a guard has four bytes.
    let byte = unsafe { &*ptr::with_exposed_provenance::<AtomicU8>(at) };
    Some(byte.swap(1, Ordering::Relaxed) == 0)
}

/// The context of the thread whose map has this base has ended: what it stored until now goes into the
/// third byte of each guard, and what it stores from now on into the first, as ever.
pub(crate) fn renew(base: u64) {
    for module in modules() {
        let Guards { start, len, .. } = module.guards(0);
        for guard in (start..start.wrapping_add(len)).step_by(GUARD as usize) {
            let at = guard.wrapping_add(base) as usize;
            // SAFETY: a map has bytes for all of a module, and a guard has four.
            let [stored, called, before] = [0, 1, rkcov_region::STORED_BEFORE].map(|byte| unsafe {
                &*ptr::with_exposed_provenance::<AtomicU8>(at.wrapping_add(byte))
            });
            called.store(0, Ordering::Relaxed);
            if stored.swap(0, Ordering::Relaxed) != 0 {
                before.store(1, Ordering::Relaxed);
            }
        }
    }
}

/// Tells of each guard in which a thread has stored that had no map.
pub(crate) fn stored_in_place(tls: &Tls, mut tell: impl FnMut(&Tls, u64)) {
    for module in modules() {
        let Guards { start, len, .. } = module.guards(0);
        modules::while_loaded(start, || {
            for guard in (start..start.wrapping_add(len)).step_by(GUARD as usize) {
                // SAFETY: a guard of a module that is loaded, and stays so.
                let byte = unsafe { &*ptr::with_exposed_provenance::<AtomicU8>(guard as usize) };
                if byte.load(Ordering::Relaxed) != 0 {
                    tell(tls, guard);
                }
            }
        });
    }
}
