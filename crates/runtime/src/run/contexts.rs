// SPDX-License-Identifier: MIT OR Apache-2.0
//! Contexts: named pieces of work.
//!
//! To enter a context is to begin a section of its handle. The collector of the process listens to all of
//! them: while a thread is in a context it records into a slot of its own, with a map of its own, and
//! goes back to the slot that it had when it leaves. So each slot is of one context or of none, and all
//! that holds for slots (a program that is killed, those that are over) holds for contexts.
//!
//! A context that ends may have threads in it that go on: those that it made, or that somebody forgot.
//! They are not stopped. Whoever ends it writes down how many records their slots have by then, and
//! clears their maps, so that what they run from then on is recorded anew, behind that mark.

use super::collector::{
    clear_bitmap, directory, is_active, known_process, map_slot, put_text, tape_offset, RUN,
};
use super::slots::{attach, leave, tape};
use crate::mark::Mark;
use crate::tls::{self, Tls, UNATTACHED};
use crate::{maps, stores, sys, threads};
use core::mem::size_of;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use rkcov_abi::{Handle, Subsystem};
use rkcov_core::Sink;
use rkcov_region::{
    Assignment, Context, Directory, Geometry, Made, Recording, Slot, SlotState, NAMES_OFFSET,
};

/// In [`Tls::context`]: the thread is in none, whatever the process is in. 0 says that it is in that of
/// the process, if there is one.
const NOWHERE: u32 = u32::MAX;

/// What a thread recorded into before it entered a context.
#[derive(Clone, Copy)]
struct Frame {
    slot: *mut Slot,
    at: *mut u8,
    len: u64,
    bits: u64,
    map: u64,
    number: u32,
    context: u32,
    /// Sections that the thread was in when the context had begun.
    sections: u32,
}

const FRAMES: usize = 72;

/// The contexts that a thread has entered and not left: what each interrupted.
pub(crate) struct Outer {
    len: usize,
    /// Contexts beyond the last frame.
    deep: u64,
    frames: [Frame; FRAMES],
}

const _: () = assert!(size_of::<Outer>() <= sys::PAGE);

/// Blocks that threads have left which have ended.
static SPARE: [AtomicPtr<Outer>; 64] = [const { AtomicPtr::new(ptr::null_mut()) }; 64];

impl Outer {
    /// Runs `f` on what the calling thread has. All signals are blocked, or the thread ends.
    fn of<R>(tls: &Tls, f: impl FnOnce(&mut Self) -> R) -> Option<R> {
        let outer = tls.outer.load(Ordering::Relaxed);
        if outer.is_null() {
            return None;
        }
        // SAFETY: a block that `make()` made, which only its thread uses; no handler comes between, and
        // `f` is this module's, which does not come back here.
        Some(f(unsafe { &mut *outer }))
    }

    /// Makes sure that the thread has a block.
    fn make(tls: &Tls) -> bool {
        if !tls.outer.load(Ordering::Relaxed).is_null() {
            return true;
        }
        let spare = SPARE
            .iter()
            .map(|place| place.swap(ptr::null_mut(), Ordering::Acquire))
            .find(|block| !block.is_null());
        let block = match spare {
            Some(block) => block,
            None => match sys::map_private(sys::PAGE) {
                // Zeros are no contexts.
                Ok(at) => at.cast(),
                Err(_) => return false,
            },
        };
        tls.outer.store(block, Ordering::Relaxed);
        true
    }

    /// The thread ends, and has no contexts any more.
    fn give_back(tls: &Tls) {
        let block = tls.outer.swap(ptr::null_mut(), Ordering::Relaxed);
        if block.is_null() {
            return;
        }
        let free = |place: &&AtomicPtr<Self>| {
            place
                .compare_exchange(ptr::null_mut(), block, Ordering::Release, Ordering::Relaxed)
                .is_ok()
        };
        if SPARE.iter().find(free).is_none() {
            // SAFETY: mapped by `make()`, and nobody has it any more.
            unsafe { sys::unmap(block.cast(), sys::PAGE) };
        }
    }

    fn last(&self) -> Option<&Frame> {
        self.frames.get(self.len.checked_sub(1)?)
    }
}

/// The handle of a context.
fn handle(number: u32) -> u64 {
    Handle::new(Subsystem::USER_FIRST, number).map_or(0, Handle::raw)
}

/// The number of the context with this handle: 1 + its index in the table if there is one.
fn number(raw: u64) -> Option<u32> {
    let handle = Handle::from_raw(raw)?;
    (handle.subsystem() == Subsystem::USER_FIRST && handle.instance() != NOWHERE)
        .then_some(handle.instance())
        .filter(|number| *number != 0)
}

/// The process begins: it may be in a context that whoever started it has named.
pub(super) fn come(assigned: Option<&[u8]>) {
    let Some(directory) = directory() else { return };
    let token = directory.header.prefix.token.load(Ordering::Relaxed);
    let ours = |assigned: &Assignment| assigned.token == token;
    let assigned = assigned.and_then(Assignment::parse).filter(ours);
    let number = match assigned {
        Some(assigned) => assigned.number,
        None => directory.header.context.load(Ordering::Relaxed),
    };
    RUN.context.store(number, Ordering::Relaxed);
}

/// The context that a thread is in, if that is not over; 0 for none.
pub(super) fn current(tls: &Tls, directory: &Directory) -> u32 {
    let number = match tls.context.load(Ordering::Relaxed) {
        0 => RUN.context.load(Ordering::Relaxed),
        NOWHERE => 0,
        number => number,
    };
    match directory.context(number) {
        Some(context) if !context.is_over() => number,
        _ => 0,
    }
}

/// What a thread that the calling one makes now begins in.
pub(crate) fn inherited() -> u32 {
    let number = tls::current().context.load(Ordering::Relaxed);
    let over = directory().is_some_and(|d| d.context(number).is_some_and(Context::is_over));
    if over {
        NOWHERE
    } else {
        number
    }
}

/// The calling thread begins in the context of whoever made it. Gives the handle of that context.
pub(crate) fn begin_in(tls: &'static Tls, context: u32) -> Option<u64> {
    tls.context.store(context, Ordering::Relaxed);
    (context != 0 && context != NOWHERE).then(|| handle(context))
}

/// A new context, by its handle; 0 if there is no room for it.
#[cold]
pub(crate) fn make(kind: u32, name: &[u8]) -> u64 {
    let Some(directory) = directory().filter(|_| is_active()) else {
        // For clients alone, numbers will do.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        return handle(NEXT.fetch_add(1, Ordering::Relaxed));
    };
    let Some(piece) = directory.name_room(name.len()) else {
        return 0;
    };
    if !put_text(NAMES_OFFSET, piece.at.into(), name) {
        directory.lose_context();
        return 0;
    }
    let number = directory.add_context(&Made {
        kind,
        name: piece,
        parent: current(tls::current(), directory),
        process: known_process().unwrap_or(u32::MAX),
        now: sys::now(),
    });
    if number == 0 {
        0
    } else {
        handle(number)
    }
}

/// What became of the calling thread when it was about to enter a context.
pub(crate) struct Interrupted {
    /// It is this process's, and not a forked child's that does not know of the fork.
    ours: bool,
    /// There is no room for another context in this one, or for this one.
    is_last: bool,
}

/// The calling thread is about to enter a context: it stops recording into what it has. Nothing if there
/// is no memory to keep that. All signals are blocked.
pub(crate) fn interrupt(tls: &'static Tls) -> Option<Interrupted> {
    let ours = !Mark::Run.is_wiped();
    if !Outer::make(tls) {
        lose();
        return None;
    }
    threads::announce_end(tls);
    let suspended = suspend(tls, ours);
    let is_last = Outer::of(tls, |outer| match outer.frames.get_mut(outer.len) {
        Some(frame) => {
            *frame = suspended;
            outer.len += 1;
            outer.len == FRAMES
        }
        None => {
            outer.deep = outer.deep.saturating_add(1);
            true
        }
    });
    let is_last = is_last == Some(true);
    Some(Interrupted { ours, is_last })
}

/// The calling thread, which was interrupted, is in the context with this handle, and in so many sections.
pub(crate) fn enter(tls: &'static Tls, context: u64, interrupted: Interrupted, sections: u32) {
    Outer::of(tls, |outer| {
        let last = outer.len.wrapping_sub(1);
        if let Some(frame) = outer.frames.get_mut(last).filter(|_| outer.deep == 0) {
            frame.sections = sections;
        }
    });
    let Interrupted { ours, is_last } = interrupted;
    let number = number(context).filter(|_| !is_last);
    let entered = number.unwrap_or(NOWHERE);
    tls.context.store(entered, Ordering::Relaxed);
    if is_last {
        lose();
    } else if is_active() && ours {
        maps::keep_contexts_apart();
        wake(tls);
    }
}

/// What a thread runs in a context is lost.
fn lose() {
    if let Some(directory) = directory() {
        directory.lose_context();
    }
}

/// The calling thread stops recording into what it has; gives that.
fn suspend(tls: &'static Tls, ours: bool) -> Frame {
    let frame = Frame {
        slot: tls.slot.swap(ptr::null_mut(), Ordering::Relaxed),
        at: tls.slot_at.swap(ptr::null_mut(), Ordering::Relaxed),
        len: tls.slot_len.swap(0, Ordering::Relaxed),
        bits: tls.tape.bits.load(Ordering::Relaxed),
        map: tls.map.swap(0, Ordering::Relaxed),
        number: tls.slot_number.load(Ordering::Relaxed),
        context: tls.context.load(Ordering::Relaxed),
        sections: 0,
    };
    if ours {
        tls.tape
            .mode
            .store(rkcov_core::hot::Mode::Off as u32, Ordering::Relaxed);
        tls.set_idle(Sink::OFF);
    }
    frame
}

/// The calling thread has no slot: it takes one when it next calls, or now if stores do not call.
fn wake(tls: &'static Tls) {
    let mode = tls.hot.mode.load(Ordering::Relaxed);
    tls.hot.mode.store(mode | UNATTACHED, Ordering::Relaxed);
    if stores::are_there() {
        attach(tls);
    }
}

/// What a thread began last and has not ended.
pub(crate) enum Last {
    /// A section that is no context's, or that of a context for which there was no room.
    Section,
    /// A context.
    Context,
}

/// The calling thread, which is in so many sections, ends what it began last: says what that was, if it has
/// entered contexts. All signals are blocked.
pub(crate) fn take_last(tls: &'static Tls, sections: u32) -> Option<Last> {
    let last = Outer::of(tls, |outer| match (outer.deep, outer.last()) {
        (1.., _) => {
            outer.deep -= 1;
            Some(Last::Section)
        }
        // A section that began after the context.
        (0, Some(frame)) if sections > frame.sections => Some(Last::Section),
        (0, Some(_)) => Some(Last::Context),
        (0, None) => None,
    });
    last.flatten()
}

/// Whether the calling thread may have entered contexts.
pub(crate) fn are_entered(tls: &Tls) -> bool {
    !tls.outer.load(Ordering::Relaxed).is_null()
}

/// Whether the section of the innermost context has ended, now that the calling thread is in so many. All
/// signals are blocked.
pub(crate) fn has_ended(tls: &Tls, sections: u32) -> bool {
    let ended = |outer: &mut Outer| {
        outer.deep == 0 && outer.last().is_some_and(|frame| frame.sections > sections)
    };
    Outer::of(tls, ended) == Some(true)
}

/// The thread gives up what it records into, and goes on with what the innermost context interrupted. All
/// signals are blocked.
pub(crate) fn resume(tls: &'static Tls) {
    let Some(frame) = give_up(tls) else { return };
    let what = directory().and_then(|d| d.header.recording());
    let Some(what) = what.filter(|_| is_active() && !Mark::Run.is_wiped()) else {
        return;
    };
    if frame.slot.is_null() {
        wake(tls);
    } else {
        let len = frame.len.wrapping_sub(frame.bits / 8);
        let sink = tape(tls, what, frame.at, len, frame.bits);
        tls.set_idle(sink);
    }
}

/// The thread gives up what it records into, and has, but does not use, what the innermost context
/// interrupted.
fn give_up(tls: &'static Tls) -> Option<Frame> {
    leave(tls, SlotState::Finished);
    let frame = Outer::of(tls, |outer| {
        outer.len = outer.len.checked_sub(1)?;
        outer.frames.get(outer.len).copied()
    });
    let frame = frame.flatten()?;
    tls.slot.store(frame.slot, Ordering::Relaxed);
    tls.slot_at.store(frame.at, Ordering::Relaxed);
    tls.slot_len.store(frame.len, Ordering::Relaxed);
    tls.slot_number.store(frame.number, Ordering::Relaxed);
    tls.map.store(frame.map, Ordering::Relaxed);
    tls.context.store(frame.context, Ordering::Relaxed);
    Some(frame)
}

/// The calling thread ends: so do the contexts that it has entered. No system call is made.
pub(crate) fn thread_ended(tls: &'static Tls) {
    while Outer::of(tls, |outer| outer.len > 0) == Some(true) {
        give_up(tls);
    }
    Outer::of(tls, |outer| outer.deep = 0);
    Outer::give_back(tls);
}

/// The process exits, in the calling thread.
pub(super) fn exiting(tls: &Tls) {
    Outer::of(tls, |outer| {
        for frame in outer.frames.iter().take(outer.len) {
            // SAFETY: null, or in the directory, which stays mapped.
            if let Some(slot) = unsafe { frame.slot.as_ref() } {
                slot.set_state(SlotState::Exiting);
            }
        }
    });
}

/// The calling thread is the only one of a forked child: it is in the context that it was in. What it
/// had entered is its parent's to leave.
pub(super) fn forked(tls: &Tls) {
    tls.creator.store(0, Ordering::Relaxed);
    Outer::of(tls, |outer| {
        for frame in outer.frames.iter().take(outer.len) {
            if !frame.at.is_null() {
                // SAFETY: the copy of a slot's mapping, which nobody in this process uses.
                unsafe { sys::unmap(frame.at, frame.len as usize) };
            }
        }
        outer.len = 0;
        outer.deep = 0;
    });
}

/// The thread has taken a slot.
pub(super) fn opened(tls: &Tls, directory: &Directory, slot: &Slot) {
    let number = current(tls, directory);
    slot.context.store(number, Ordering::Relaxed);
    let creator = tls.creator.load(Ordering::Relaxed);
    slot.creator.store(creator, Ordering::Relaxed);
    slot.set_state(SlotState::Taken);
    if let Some(context) = directory.context(number) {
        if !context.open() {
            // It has ended since, and whoever ended it may not have seen the slot.
            slot.end_context(number, 0);
        }
    }
}

/// A thread gives its slot up.
pub(super) fn closed(slot: &Slot) {
    let number = slot.context.load(Ordering::Relaxed);
    if let Some(context) = directory().and_then(|d| d.context(number)) {
        context.close();
    }
}

/// The context's work is over. Threads that are in it go on, on nobody's account.
#[cold]
pub(crate) fn end(context: u64) {
    let (Some(directory), Some(number)) = (directory(), number(context)) else {
        return;
    };
    let Some(entry) = directory.context(number) else {
        return;
    };
    if !entry.end(sys::now()) || entry.open.load(Ordering::Acquire) == 0 {
        return;
    }
    let Some((recording, geometry)) = directory.header.recording() else {
        return;
    };
    let ours = known_process().unwrap_or(u32::MAX);
    let touched = directory.tickets.touched() as usize;
    for (index, slot) in (0..).zip(directory.slots.iter().take(touched)) {
        let is_open = matches!(slot.state(), SlotState::Taken | SlotState::Exiting);
        if !is_open || slot.context.load(Ordering::Relaxed) != number {
            continue;
        }
        let Some(records) = records(&geometry, index) else {
            continue;
        };
        slot.end_context(number, records);
        // The map of another process's thread cannot be cleared: there, what is recorded from now on
        // is what was not recorded before.
        if recording == Recording::Unique && slot.process.load(Ordering::Relaxed) == ours {
            maps::renew(index);
            clear_bitmap(&geometry, index);
        }
    }
}

/// How many records a slot has now.
fn records(geometry: &Geometry, slot: u32) -> Option<u32> {
    let at = map_slot(tape_offset(geometry, slot), sys::PAGE)?;
    // SAFETY: the count word stands at the beginning of what was just mapped, and is an atomic.
    let count = unsafe { &*at.cast::<core::sync::atomic::AtomicU64>() }.load(Ordering::Acquire);
    // SAFETY: mapped just now.
    unsafe { sys::unmap(at, sys::PAGE) };
    Some(u32::try_from(count).unwrap_or(u32::MAX))
}
