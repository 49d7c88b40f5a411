// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sites in the code of a module that has just come, changed before it runs.

use crate::modules::{self, Range};
use crate::{run, sys};
use core::ptr;
use rkcov_abi::sites::{self, Check, Site, Store};

/// Makes each check of a module call, whatever its byte is: the byte is not read any more. `false` if
/// the module's code cannot be changed. On aarch64 that is never done: processors have to be told of it.
pub(crate) fn always_call(range: &Range) -> bool {
    if cfg!(target_arch = "aarch64") {
        return false;
    }
    let (start, end, _) = range.sites();
    rewrite(range, |site, code| match site {
        Site::Check(check) if (start..end).contains(&check.byte) => {
            for (at, bytes) in [(0, Check::SKIP), (Check::SECOND, Check::ALWAYS)] {
                let place = code.iter_mut().skip(at);
                place.zip(bytes).for_each(|(to, byte)| *to = byte);
            }
            true
        }
        _ => true,
    })
}

/// Makes calls of all stores into the guards between `start` and `end`, of a module that was taken down.
pub(crate) fn make_calls(start: u64, end: u64) -> bool {
    let around = |range: &&Range| {
        let (first, last) = range.bounds();
        (first..last).contains(&start)
    };
    let Some(range) = modules::ranges().iter().find(around) else {
        return false;
    };
    let callback = run::store_callback();
    let is_ours = |store: &Store| (start..end).contains(&store.guard);
    rewrite(range, |site, code| match site {
        Site::Store(store) if is_ours(&store) => {
            let Some(bytes) = store.call(callback) else {
                return false;
            };
            let place = code.iter_mut().take(store.size);
            place.zip(bytes).for_each(|(to, byte)| *to = byte);
            true
        }
        _ => true,
    })
}

/// Calls `change` with each site in a module's text, and the code that begins there. `false` if one of
/// the answers was, or if the text cannot be written.
fn rewrite(range: &Range, mut change: impl FnMut(Site, &mut [u8]) -> bool) -> bool {
    let (text, len) = range.text();
    let page = sys::PAGE as u64;
    let first = text & !(page - 1);
    let pages = text
        .wrapping_add(len)
        .next_multiple_of(page)
        .wrapping_sub(first) as usize;
    let writable = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    if sys::protect(first as usize, pages, writable).is_err() {
        return false;
    }
    // SAFETY: the module's text, readable and now writable; nobody runs it yet.
    let code = unsafe {
        core::slice::from_raw_parts_mut(
            ptr::with_exposed_provenance_mut::<u8>(text as usize),
            len as usize,
        )
    };
    let mut whole = true;
    let mut from = 0;
    // What is changed is behind the place where the search goes on.
    while let Some(site) = code
        .get(from..)
        .and_then(|rest| sites::find(rest, text.wrapping_add(from as u64)).next())
    {
        let begin = site.at().wrapping_sub(text) as usize;
        from = site.pc().wrapping_sub(text) as usize;
        whole &= change(site, code.get_mut(begin..).unwrap_or_default());
    }
    let _ = sys::protect(first as usize, pages, libc::PROT_READ | libc::PROT_EXEC);
    whole
}
