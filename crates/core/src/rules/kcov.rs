// SPDX-License-Identifier: GPL-2.0 OR MIT
//! A complete kcov. A host has one.

use crate::abi::{Errno, Handle};
use crate::rules::area::{AreaBox, Source};
use crate::rules::descriptor::{Descriptor, Ref};
use crate::rules::drops::{self, Drops};
use crate::rules::host::{Context, Host, Nesting, Warning};
use crate::rules::merge;
use crate::rules::registry::Registry;
use crate::rules::sync::{AtomicU64, Ordering};
use crate::rules::task::{Recording, Section, Task};
use core::ptr;

/// A kcov: a host, and the registered handles.
pub struct Kcov<H: Host> {
    host: H,
    registry: Registry<H>,
    drops: Drops,
}

impl<H: Host> Kcov<H> {
    /// Initializes a kcov in place.
    ///
    /// # Safety
    /// `slot` is valid for writes, zeroed, not initialized yet, and is never moved.
    pub unsafe fn init(slot: *mut Self, host: H) {
        let seed = host.seed();
        // SAFETY: fields of `slot`, each written once.
        unsafe {
            ptr::addr_of_mut!((*slot).host).write(host);
            Registry::init(ptr::addr_of_mut!((*slot).registry), seed);
            ptr::addr_of_mut!((*slot).drops).write(Drops::new());
        }
    }

    /// The host.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// The losses of all descriptors since the beginning.
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// The number of handles that are registered now.
    pub fn handles(&self) -> usize {
        self.registry.len()
    }

    pub(crate) fn registry(&self) -> &Registry<H> {
        &self.registry
    }

    /// A new descriptor. ENOMEM.
    pub fn open(&'static self) -> Result<Ref<H>, Errno> {
        Ref::open(self)
    }

    /// The common handle of `task`, as `kcov_common_handle()` returns it: 0 for none, and outside task
    /// context.
    pub fn common_handle(&self, task: &Task<H>) -> u64 {
        match self.host.context() {
            Context::Task => task.common(&self.host).map_or(0, |c| c.handle().raw()),
            Context::Softirq | Context::Other => 0,
        }
    }

    /// `kcov_remote_start()`: until the matching [`Kcov::stop`], the code that `task` runs is recorded
    /// for the client that listens to `handle`.
    ///
    /// For handle 0, or if no client listens, nothing is recorded, without a warning.
    pub fn start(&self, task: &Task<H>, handle: u64) {
        match (self.host.context(), H::NESTING) {
            (Context::Other, Nesting::Suspend) => task.mute(&self.host),
            (Context::Other, Nesting::Refuse) => {}
            (context, Nesting::Refuse) => self.start_refusing(task, context, handle),
            (context, Nesting::Suspend) => self.start_suspending(task, context, handle),
        }
    }

    fn start_refusing(&self, task: &Task<H>, context: Context, handle: u64) {
        if !task.accepts_section(&self.host, context) {
            self.host.warn_once(Warning::Nested);
            return;
        }
        let Some(section) = self.find_listener(context, handle) else {
            return;
        };
        if let Err(section) = task.push(&self.host, section) {
            // Two frames are all that can be needed here; a host with fewer loses the section.
            drops::add(&section.descriptor.drops().deep, 1);
            self.finish(section);
        }
    }

    fn start_suspending(&self, task: &Task<H>, context: Context, handle: u64) {
        // First of all stop recording for whoever was interrupted.
        if !task.suspend(&self.host) {
            drops::add(&self.drops.deep, 1);
            return;
        }
        let section = self.find_listener(context, handle);
        task.resume(&self.host, section);
    }

    /// The descriptor that listens to this handle, and an area for a section.
    fn find_listener(&self, context: Context, handle: u64) -> Option<Section<H>> {
        if handle == 0 {
            return None;
        }
        let Some(handle) = Handle::from_raw(handle).filter(|h| Self::is_usable(*h)) else {
            if H::NESTING == Nesting::Refuse {
                self.host.warn_once(Warning::BadHandle);
            }
            return None;
        };
        let (descriptor, sequence) = self.registry.find(handle)?;
        let mut state = descriptor.state.lock();
        let Some(listener) = state.listener(sequence) else {
            drop(state);
            return None;
        };
        let (mode, words) = (listener.mode, listener.area);
        let is_here = descriptor.memory().is_some();
        let pooled = match context {
            Context::Task if is_here => state.pool.pop(),
            _ => None,
        };
        drop(state);
        let area = pooled.or_else(|| match context {
            _ if !is_here => None,
            Context::Softirq => AreaBox::softirq(&self.host),
            _ => AreaBox::alloc(&self.host, words),
        });
        let Some(mut area) = area else {
            self.count(&descriptor, |drops| &drops.no_area, 1);
            return None;
        };
        area.prepare(mode, sequence);
        Some(Section { descriptor, area })
    }

    /// Whether this host allows the handle's subsystem.
    pub(crate) fn is_usable(handle: Handle) -> bool {
        H::USER_SUBSYSTEMS || !handle.subsystem().is_user()
    }

    /// `kcov_remote_stop()`: ends the innermost section of this context, merges its records into the
    /// listener's buffer, and resumes the collection that the section suspended. Without a section it
    /// does nothing.
    pub fn stop(&self, task: &Task<H>) {
        let ended = match (self.host.context(), H::NESTING) {
            (Context::Other, Nesting::Suspend) => {
                task.unmute(&self.host);
                return;
            }
            (Context::Other, Nesting::Refuse) => return,
            (context, Nesting::Refuse) => task.pop(&self.host, Some(context)),
            // A section that began in a handler and was left by a jump comes first.
            (_, Nesting::Suspend) if task.unmute(&self.host) => return,
            (_, Nesting::Suspend) => task.pop(&self.host, None),
        };
        if let Some(Recording::Section(section)) = ended {
            self.finish(section);
        }
    }

    /// Delivers a section that has stopped, and releases it.
    fn finish(&self, section: Section<H>) {
        let Section { descriptor, area } = section;
        let refused = area.dropped().load(Ordering::Relaxed);
        let total = area.records();
        let mut moved = 0_u32;
        let (stale, unused) = loop {
            let mut state = descriptor.state.lock();
            let Some(listener) = state.listener(area.sequence()) else {
                break (true, Some(area));
            };
            let record_words = listener.mode.record_words();
            let reusable = area.source() == Source::Pool && area.words() == listener.area;
            let n = match descriptor.memory() {
                // SAFETY: the target is as large as it says, the area holds `total` records, and
                // merges into this descriptor come one after the other under its lock.
                Some(memory) => unsafe {
                    let target = memory.target(record_words);
                    merge::step(target, area.base(), record_words, moved, total)
                },
                None => 0,
            };
            moved = moved.wrapping_add(n);
            if n > 0 && moved < total {
                continue;
            }
            if reusable {
                state.pool.push(area);
                break (false, None);
            }
            break (false, Some(area));
        };
        if let Some(area) = unused {
            area.free(&self.host);
        }
        let rest = u64::from(total.saturating_sub(moved));
        let (stale, full) = if stale { (rest, 0) } else { (0, rest) };
        self.count(&descriptor, |drops| &drops.stale, stale);
        self.count(
            &descriptor,
            |drops| &drops.full,
            full.saturating_add(refused),
        );
    }

    /// Counts a drop for the descriptor and in the total.
    fn count(&self, descriptor: &Descriptor<H>, which: impl Fn(&Drops) -> &AtomicU64, n: u64) {
        drops::add(which(descriptor.drops()), n);
        drops::add(which(&self.drops), n);
    }

    /// The end of a task, which the task itself calls last: stops its sections, the innermost first,
    /// and disables its descriptors.
    pub fn exit(&self, task: &Task<H>) {
        if task.in_section(&self.host) && H::NESTING == Nesting::Refuse {
            self.host.warn_once(Warning::ExitInSection);
        }
        while task.unmute(&self.host) {}
        while task.in_section(&self.host) {
            if let Some(Recording::Section(section)) = task.pop(&self.host, None) {
                self.finish(section);
            }
        }
        self.disable_local(task);
        self.disable_remote(task);
        task.pinned(&self.host, |own| own.common = None);
    }

    /// Ends the task's local collection, if it has one.
    pub(crate) fn disable_local(&self, task: &Task<H>) {
        if let Some(descriptor) = task.take_local(&self.host) {
            descriptor.release_local();
        }
    }

    /// Ends the task's remote collection, if it has one. Its common handle goes with it.
    pub(crate) fn disable_remote(&self, task: &Task<H>) {
        let Some(descriptor) = task.pinned(&self.host, |own| own.remote.take()) else {
            return;
        };
        let common = descriptor.release_remote(&mut self.registry.change());
        task.pinned(&self.host, |own| {
            // Another one was inherited, or is an older descriptor's: not this one's to clear.
            if common.is_some() && own.common == common {
                own.common = None;
            }
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
