// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where the zone is, and what it has bytes for.

use super::{base, base_of, free_all, spans, MAPS, STRIDE, ZONE};
use crate::modules::{self, Range};
use crate::sys;
use core::sync::atomic::Ordering;

/// The distances that are tried, in GiB: far from where the kernel puts executables, libraries and
/// stacks. Negative ones first, for libraries lie at the top. The last one is for the thread sanitizer,
/// which leaves a program little more than their surroundings.
const DISTANCES: [i64; 11] = [
    -16 << 10,
    -20 << 10,
    -12 << 10,
    -24 << 10,
    -28 << 10,
    -36 << 10,
    16 << 10,
    8 << 10,
    24 << 10,
    32 << 10,
    -160,
];
const GIB: i64 = 1 << 30;
/// User space ends here, without five-level pages and the like, for which one has to ask.
const USER_END: u64 = if cfg!(target_arch = "aarch64") {
    1 << 48
} else {
    1 << 47
};
/// Nobody may map below.
const USER_START: u64 = 1 << 16;

/// What is reserved below the zone of libraries, too, if it is free; the first that is. Modules come to
/// lie so far below others if the program has mapped that much. Code of one of which nobody knows reads
/// zeros there, and calls.
const APRONS: [u64; 3] = [8 << 40, 1 << 40, 64 << 30];

/// Reserves a zone. Not under valgrind and QEMU, which keep a book of all memory, whether it is used or not.
pub(super) fn reserve() -> bool {
    if !sys::can_map_again() {
        return false;
    }
    let initial = modules::spread();
    for maps in [MAPS, 64, 16, 4] {
        for gib in DISTANCES {
            if gib < 0 && !base::may_be_negative() {
                continue;
            }
            match place(&initial, (gib * GIB) as u64, maps) {
                Placed::Yes => return true,
                Placed::Taken => {}
                // No other place will do either: fewer maps may.
                Placed::NoRoom => break,
            }
        }
    }
    false
}

enum Placed {
    Yes,
    /// Something is there already.
    Taken,
    /// There is not so much memory to reserve.
    NoRoom,
}

fn place(modules: &modules::Spread, delta: u64, maps: u32) -> Placed {
    let reach = u64::from(maps).wrapping_mul(STRIDE);
    // Executables lie by themselves or among libraries; where they and libraries lie near each
    // other, one span serves both.
    let page = sys::page() as u64;
    let libraries_end = modules.libraries_end.next_multiple_of(page);
    let libraries = libraries_end
        .checked_sub(STRIDE)
        .filter(|start| *start >= USER_START);
    let executable = modules.executable_start & !(page - 1);
    let alone = executable != 0
        && libraries.is_none_or(|start| !(start..libraries_end).contains(&executable));
    let spans = [libraries, alone.then_some(executable)];
    let mut reserved = [(0, 0); 2];
    for (at, start) in spans.into_iter().enumerate() {
        let Some(start) = start else { continue };
        let first = start.wrapping_add(delta);
        let fits = first >= USER_START
            && first.checked_add(reach).is_some_and(|end| end <= USER_END)
            // Maps of one span must not be those of the other.
            && (at == 0 || libraries.is_none_or(|other| other.abs_diff(start) >= reach));
        let done = if fits {
            sys::reserve_zeros(first as usize, reach as usize)
        } else {
            Err(sys::Error(libc::EEXIST))
        };
        if let Err(sys::Error(errno)) = done {
            for (first, len) in reserved {
                if len > 0 {
                    // SAFETY: reserved just now, and nobody knows of it.
                    unsafe { sys::unmap(core::ptr::with_exposed_provenance_mut(first), len) };
                }
            }
            return match errno {
                libc::EEXIST | libc::EINVAL | libc::EPERM => Placed::Taken,
                _ => Placed::NoRoom,
            };
        }
        if let Some(place) = reserved.get_mut(at) {
            *place = (first as usize, reach as usize);
        }
    }
    ZONE.delta.store(delta, Ordering::Relaxed);
    ZONE.maps.store(maps, Ordering::Relaxed);
    // Fewer maps are for where memory is scarce.
    if let (Some(start), MAPS) = (libraries, maps) {
        ZONE.apron
            .store(put_on(start.wrapping_add(delta)), Ordering::Relaxed);
    }
    for start in spans.into_iter().flatten() {
        let _ = add_span(start, STRIDE);
    }
    free_all();
    Placed::Yes
}

/// Reserves an apron that ends here, and gives its bytes.
fn put_on(end: u64) -> u64 {
    let fits = |apron: &u64| {
        end.checked_sub(*apron).is_some_and(|first| {
            first >= USER_START && sys::reserve_zeros(first as usize, *apron as usize).is_ok()
        })
    };
    APRONS.into_iter().find(fits).unwrap_or(0)
}

/// Whether all of this lies in what [`place`] reserved.
fn is_reserved(first: u64, len: u64, maps: u32) -> bool {
    let reach = u64::from(maps).wrapping_mul(STRIDE);
    let delta = ZONE.delta.load(Ordering::Relaxed);
    // The span of libraries is the first.
    let apron = ZONE.apron.load(Ordering::Relaxed);
    let below = spans().first().is_some_and(|span| {
        let end = span.start.load(Ordering::Relaxed).wrapping_add(delta);
        end.wrapping_sub(first) <= apron && end.wrapping_sub(first) >= len
    });
    below
        || spans().iter().any(|span| {
            let offset = first.wrapping_sub(span.start.load(Ordering::Relaxed).wrapping_add(delta));
            span.len.load(Ordering::Relaxed) == STRIDE
                && offset < reach
                && reach.wrapping_sub(offset) >= len
        })
}

fn add_span(start: u64, len: u64) -> bool {
    let at = ZONE.spans_len.load(Ordering::Relaxed);
    let Some(span) = ZONE.spans.get(at) else {
        return false;
    };
    span.start.store(start, Ordering::Relaxed);
    span.len.store(len, Ordering::Relaxed);
    ZONE.spans_len.store(at + 1, Ordering::Release);
    true
}

/// Makes sure that the zone has bytes for a module, which nothing else has. The lock is held.
pub(super) fn cover(range: &Range) -> bool {
    let (start, end) = range.bounds();
    let maps = ZONE.maps.load(Ordering::Relaxed);
    let len = end.wrapping_sub(start);
    if spans().iter().any(|span| span.has_all(start, len)) {
        // One that lies elsewhere may have come first.
        let mut others = spans().iter().filter(|span| !span.has(start));
        return !others.any(|span| share_bytes((start, len), span.bounds(), maps));
    }
    let mut others = modules::ranges().iter().map(Range::bounds);
    if others
        .any(|(first, last)| share_bytes((start, len), (first, last.wrapping_sub(first)), maps))
    {
        return false;
    }
    let page = sys::page() as u64;
    let (start, end) = (start & !(page - 1), end.next_multiple_of(page));
    let len = end.wrapping_sub(start);
    // Its part of each map. What of it is in the zone already stays as it is.
    let mut whole = true;
    for map in 0..maps {
        let base = base_of(map);
        let first = start.wrapping_add(base);
        if is_reserved(first, len, maps) || sys::reserve_zeros(first as usize, len as usize).is_ok()
        {
            continue;
        }
        for at in (first..first.wrapping_add(len)).step_by(page as usize) {
            whole &= is_reserved(at, page, maps)
                || sys::reserve_zeros(at as usize, page as usize).is_ok();
        }
    }
    whole && add_span(start, len)
}

/// Whether two stretches of addresses, each a start and a length, have a byte in common in two different
/// maps.
fn share_bytes(one: (u64, u64), other: (u64, u64), maps: u32) -> bool {
    let ((low, low_len), (high, high_len)) = (one.min(other), one.max(other));
    let distance = high.wrapping_sub(low);
    // Two addresses do if they are this many strides apart, at least one.
    let strides = match distance.checked_sub(low_len) {
        Some(least) => least / STRIDE + 1,
        None => 1,
    };
    strides < maps.into() && strides * STRIDE < distance.saturating_add(high_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_that_are_whole_strides_apart_share_bytes() {
        const A: u64 = 1 << 40;
        let share = |distance: u64, low_len, high_len, maps| {
            let (low, high) = ((A, low_len), (A + distance, high_len));
            let shared = share_bytes(low, high, maps);
            assert_eq!(share_bytes(high, low, maps), shared);
            shared
        };
        assert!(share(STRIDE, 1, 1, 2));
        assert!(share(5 * STRIDE, 1, 1, 6));
        // No two maps are so far apart.
        assert!(!share(STRIDE, 1, 1, 1));
        assert!(!share(5 * STRIDE, 1, 1, 5));
        // The upper one begins behind the end of the lower one's bytes, or ends before they begin.
        assert!(share(STRIDE + 7, 8, 1, 4));
        assert!(!share(STRIDE + 8, 8, 1, 4));
        assert!(share(STRIDE - 7, 1, 8, 4));
        assert!(!share(STRIDE - 8, 1, 8, 4));
        assert!(!share(STRIDE / 2, 1 << 20, 1 << 20, 1024));
        // A module has the addresses of another one only when that is gone.
        assert!(!share(0, 8, 8, 1024));
        assert!(share(0, STRIDE + 1, 8, 1024));
    }
}
