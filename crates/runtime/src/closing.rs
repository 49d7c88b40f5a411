// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules that are closed.
//!
//! A module that `dlclose()` unloads goes as it does without us: its destructors run, and it is
//! loaded anew when it is opened again. What threads recorded in it are addresses, so the next module
//! must not come to lie where it was. When our `dlclose()` has called the real one, it looks for
//! modules that are gone, and maps nothing (`PROT_NONE`) where they were. Where another thread was faster
//! and had a module loaded there, that is counted as a loss (see `modules::add()`). Before it calls the
//! real one it takes down what came without a word: gcc's modules that the wrapper has not linked.
//!
//! A program whose `dlclose()` is not ours (its executable was not linked with the runtime) has its
//! modules kept instead: they stay loaded until the process ends. So do those that come while the
//! process itself is a client.

use crate::{linkage, lock, modules, sys};
use core::ffi::{c_int, c_void};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// What is mapped of a module that is loaded, from `start` to `end`. Written under the lock.
struct Place {
    /// 0 where there is none.
    start: AtomicU64,
    end: AtomicU64,
}
static PLACES: [Place; MAX] = [const {
    Place {
        start: AtomicU64::new(0),
        end: AtomicU64::new(0),
    }
}; MAX];
/// As many as the table of [`modules`] has.
const MAX: usize = 1024;

/// Remembers where a module is. `false` if there is no room for it: then it must not go.
#[must_use]
pub(crate) fn watch(_lock: &lock::Held, mapped: &Range<u64>) -> bool {
    let free = |place: &&Place| place.start.load(Ordering::Relaxed) == 0;
    let Some(place) = PLACES.iter().find(free) else {
        return false;
    };
    place.end.store(mapped.end, Ordering::Relaxed);
    place.start.store(mapped.start, Ordering::Relaxed);
    true
}

/// `dlclose()` as programs find it.
///
/// # Safety
/// As `dlclose()`.
#[cfg_attr(rkcov_object, no_mangle)]
pub unsafe extern "C" fn dlclose(handle: *mut c_void) -> c_int {
    let somebody_collects = modules::is_known_now();
    if somebody_collects {
        modules::scan_again();
    }
    // SAFETY: the caller's contract.
    let result = unsafe { linkage::close_it(handle) };
    if somebody_collects && has_unloaded() {
        reserve();
    }
    result
}

/// Whether the dynamic linker has unloaded anything since this was asked last.
fn has_unloaded() -> bool {
    static BEFORE: AtomicU64 = AtomicU64::new(0);
    let now = modules::changes().unloaded;
    BEFORE.swap(now, Ordering::Relaxed) != now
}

/// Keeps the addresses of modules that are gone from being used again.
fn reserve() {
    for place in &PLACES {
        let start = place.start.load(Ordering::Relaxed);
        // The dynamic linker is not called under the lock.
        if start == 0 || modules::is_loaded(start) {
            continue;
        }
        let _lock = lock::take();
        // Another thread may have been here, and have put another module into the place.
        if place.start.load(Ordering::Relaxed) == start {
            place.start.store(0, Ordering::Relaxed);
            sys::reserve(start..place.end.load(Ordering::Relaxed));
        }
    }
}
