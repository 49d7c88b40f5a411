// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Who listens to which handle.
//!
//! A hash table in [`SHARDS`] parts, each with its own lock. A part grows with what it holds, so
//! finding a handle takes the same time whether there are ten or a million. Nodes lie in the block
//! that a descriptor makes when it is enabled: nothing is allocated under a lock. Growing moves one
//! bucket per taking of the lock; meanwhile a handle is looked for in the old table and in the new
//! one.
//!
//! Handles are chosen by clients, so the hash is keyed with a number that they cannot guess.

use crate::abi::{CommonHandle, Handle};
use crate::rules::descriptor::{Descriptor, Ref};
use crate::rules::host::Host;
use crate::rules::lock::{Guard, Locked};
use crate::rules::sync::interrupt_fence;
use core::alloc::Layout;
use core::mem::{align_of, size_of};
use core::ptr::{self, NonNull};

/// Parts of the table; a power of two.
const SHARDS: usize = if cfg!(loom) { 1 } else { 16 };
/// Buckets of a part's first table; it is kept when the last handle goes.
const FIRST_BUCKETS: usize = if cfg!(loom) { 1 } else { 16 };

/// One handle that somebody listens to.
pub(crate) struct Node<H: Host> {
    handle: u64,
    next: *mut Node<H>,
    descriptor: *const Descriptor<H>,
    /// The descriptor's number for the enable that this is of.
    sequence: u64,
}

/// The nodes of one descriptor, in one block of memory; whoever may free it holds the only one.
pub(crate) struct Handles<H: Host> {
    nodes: NonNull<Node<H>>,
    len: usize,
    /// The common handle among them, which the enabling task carries.
    pub(crate) common: Option<CommonHandle>,
}

impl<H: Host> Clone for Handles<H> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<H: Host> Copy for Handles<H> {}

// SAFETY: plain memory; who may use it when is the registry's and the descriptor's affair.
unsafe impl<H: Host> Send for Handles<H> {}

impl<H: Host> Handles<H> {
    fn layout(len: usize) -> Option<Layout> {
        Layout::array::<Node<H>>(len).ok()
    }

    /// Room for `len` handles of `descriptor`.
    pub(crate) fn alloc(host: &H, len: usize, descriptor: *const Descriptor<H>) -> Option<Self> {
        // No block of size 0: one node too many is cheaper than a special case.
        let len = len.max(1);
        let nodes = host.alloc(Self::layout(len)?)?.cast::<Node<H>>();
        for i in 0..len {
            let node = Node {
                handle: 0,
                next: ptr::null_mut(),
                descriptor,
                sequence: 0,
            };
            // SAFETY: i < len nodes in a new block.
            unsafe { nodes.as_ptr().wrapping_add(i).write(node) };
        }
        Some(Self {
            nodes,
            len,
            common: None,
        })
    }

    /// Sets the handle of node `i`, before it is registered.
    pub(crate) fn set(&self, i: usize, raw_handle: u64) {
        if let Some(node) = self.node(i) {
            // SAFETY: a node of a block that is not registered yet is its maker's alone.
            unsafe { (*node).handle = raw_handle };
        }
    }

    /// Says which enable of the descriptor they are of, before they are registered.
    pub(crate) fn number(&self, sequence: u64) {
        for i in 0..self.len {
            if let Some(node) = self.node(i) {
                // SAFETY: as in `set`.
                unsafe { (*node).sequence = sequence };
            }
        }
    }

    /// The raw handle of node `i`; 0 beyond the end.
    pub(crate) fn get(&self, i: usize) -> u64 {
        // SAFETY: nodes live as long as the block, and handles do not change once registered.
        self.node(i).map_or(0, |node| unsafe { (*node).handle })
    }

    fn node(&self, i: usize) -> Option<*mut Node<H>> {
        (i < self.len).then(|| self.nodes.as_ptr().wrapping_add(i))
    }

    /// Frees the block. Not under a lock.
    ///
    /// # Safety
    /// None of the nodes is registered, and no copy of this is used again.
    pub(crate) unsafe fn free(self, host: &H) {
        if let Some(layout) = Self::layout(self.len) {
            // SAFETY: from `alloc` with this layout; the caller's contract.
            unsafe { host.free(self.nodes.cast(), layout) };
        }
    }
}

/// Heads of chains of nodes.
struct Table<H: Host> {
    heads: *mut *mut Node<H>,
    /// A power of two, or 0: no table.
    buckets: usize,
}

impl<H: Host> Clone for Table<H> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<H: Host> Copy for Table<H> {}

impl<H: Host> Table<H> {
    const NONE: Self = Self {
        heads: ptr::null_mut(),
        buckets: 0,
    };

    fn layout(buckets: usize) -> Option<Layout> {
        let bytes = buckets.checked_mul(size_of::<*mut Node<H>>())?;
        Layout::from_size_align(bytes, align_of::<*mut Node<H>>()).ok()
    }

    fn alloc(host: &H, buckets: usize) -> Option<Self> {
        // Zeroed memory: null heads.
        let heads = host.alloc(Self::layout(buckets)?)?.cast().as_ptr();
        Some(Self { heads, buckets })
    }

    /// Not under a lock.
    fn free(self, host: &H) {
        if let (Some(heads), Some(layout)) = (NonNull::new(self.heads), Self::layout(self.buckets))
        {
            // SAFETY: from `alloc` with this layout; the shard has let go of it.
            unsafe { host.free(heads.cast(), layout) };
        }
    }

    /// The head of the chain in which a handle of this hash is, if it is in this table; null if there
    /// is no table.
    fn chain(&self, hash: u64) -> *mut *mut Node<H> {
        match self.buckets.checked_sub(1) {
            Some(mask) => self.head(hash as usize & mask),
            None => ptr::null_mut(),
        }
    }

    fn head(&self, bucket: usize) -> *mut *mut Node<H> {
        self.heads.wrapping_add(bucket)
    }
}

/// One part. Whoever has its lock may be killed between any two instructions: the next one goes on
/// from what it finds.
struct Shard<H: Host> {
    /// The table under an even number of switches, and under an odd one.
    tables: (Table<H>, Table<H>),
    /// Counts when a table takes another's place, and when it holds all of the other's nodes: while it
    /// is odd, the part grows.
    stage: u64,
    /// While it grows: buckets of the old table that were moved.
    moved: usize,
    /// While it grows: the node that is taken from one chain to another.
    moving: *mut Node<H>,
    len: usize,
    /// Set while a node and `len` are not of one mind.
    is_counting: bool,
}

// SAFETY: plain memory, reached under the shard's lock only.
unsafe impl<H: Host> Send for Shard<H> {}

impl<H: Host> Shard<H> {
    const EMPTY: Self = Self {
        tables: (Table::NONE, Table::NONE),
        stage: 0,
        moved: 0,
        moving: ptr::null_mut(),
        len: 0,
        is_counting: false,
    };

    /// Two stages for each switch, and the second table comes first.
    fn is_second(&self) -> bool {
        matches!(self.stage % 4, 1 | 2)
    }

    fn is_growing(&self) -> bool {
        self.stage % 2 == 1
    }

    /// Where new nodes go.
    fn table(&self) -> &Table<H> {
        match self.is_second() {
            true => &self.tables.1,
            false => &self.tables.0,
        }
    }

    /// What the table replaces, while it grows.
    fn old(&self) -> &Table<H> {
        match self.is_second() {
            true => &self.tables.0,
            false => &self.tables.1,
        }
    }

    /// Where the next table is put down before it takes the place of this one.
    fn spare(&mut self) -> &mut Table<H> {
        match self.is_second() {
            true => &mut self.tables.0,
            false => &mut self.tables.1,
        }
    }

    /// The node of a handle in the chain at `head`.
    ///
    /// # Safety
    /// `head` is null or a chain's, and the shard's lock is held.
    unsafe fn find_in(head: *mut *mut Node<H>, handle: u64) -> Option<*mut Node<H>> {
        // SAFETY: the chain's head and its nodes live while they are in the table, and the
        // shard's lock, which the caller holds, keeps them there.
        unsafe {
            let mut node = *head.as_ref()?;
            while let Some(this) = node.as_ref() {
                if this.handle == handle {
                    return Some(node);
                }
                node = this.next;
            }
        }
        None
    }

    fn find(&self, hash: u64, handle: u64) -> Option<&Node<H>> {
        // SAFETY: chains of this shard, whose lock the caller holds.
        let in_table = || unsafe { Self::find_in(self.table().chain(hash), handle) };
        let found = if self.is_growing() {
            // SAFETY: as above. A bucket may have been left half moved.
            unsafe { Self::find_in(self.old().chain(hash), handle) }
                .or_else(in_table)
                .or_else(|| {
                    // SAFETY: null, or a node that is registered.
                    let moving = unsafe { self.moving.as_ref() };
                    moving
                        .is_some_and(|m| m.handle == handle)
                        .then_some(self.moving)
                })
        } else {
            in_table()
        };
        // SAFETY: a registered node lives while the lock is held.
        found.map(|node| unsafe { &*node })
    }

    /// Puts a node into the table, if there is one. Not while it grows.
    fn push(&mut self, hash: u64, node: *mut Node<H>) {
        // SAFETY: under the lock; the node is in no chain. One store makes it visible whole.
        if let Some(head) = unsafe { self.table().chain(hash).as_mut() } {
            self.count(1, || {
                // SAFETY: as above.
                unsafe { (*node).next = *head };
                interrupt_fence();
                *head = node;
            });
        }
    }

    /// Takes a node out, if it is there. Not while it grows.
    fn unlink(&mut self, hash: u64, node: *mut Node<H>) {
        let mut link = self.table().chain(hash);
        // SAFETY: under the lock; links are null, heads, or `next` of nodes in the chain. One store
        // takes the node out.
        unsafe {
            while let Some(this) = link.as_mut().filter(|this| !this.is_null()) {
                if ptr::eq(*this, node) {
                    self.count(usize::MAX, || *this = (*node).next);
                    return;
                }
                link = ptr::addr_of_mut!((**this).next);
            }
        }
    }

    /// Adds to the number of nodes what `change` adds to the table.
    fn count(&mut self, n: usize, change: impl FnOnce()) {
        self.is_counting = true;
        interrupt_fence();
        change();
        interrupt_fence();
        self.len = self.len.wrapping_add(n);
        interrupt_fence();
        self.is_counting = false;
    }

    /// Counts anew, after somebody was killed over it. Not while it grows.
    fn recount(&mut self) {
        let table = self.table();
        let mut len = 0_usize;
        for bucket in 0..table.buckets {
            // SAFETY: under the lock: a head of the table, and nodes that are in it.
            unsafe {
                let mut node = *table.head(bucket);
                while let Some(this) = node.as_ref() {
                    len = len.wrapping_add(1);
                    node = this.next;
                }
            }
        }
        self.len = len;
        interrupt_fence();
        self.is_counting = false;
    }

    /// Begins to grow: `new` takes the table's place. It has no buckets only if nothing has to move.
    fn switch_to(&mut self, new: Table<H>) {
        self.moved = match new.buckets {
            0 => self.table().buckets,
            _ => 0,
        };
        *self.spare() = new;
        interrupt_fence();
        self.stage = self.stage.wrapping_add(1);
    }

    /// Moves one bucket of the old table; `false` when none is left.
    fn move_bucket(&mut self, hash_of: impl Fn(u64) -> u64) -> bool {
        if self.moved >= self.old().buckets {
            return false;
        }
        let from = self.old().head(self.moved);
        // SAFETY: under the lock; both tables and all nodes in them live, and so does a node that
        // somebody had in hand when it was killed.
        unsafe {
            loop {
                if self.moving.is_null() {
                    self.moving = *from;
                    if self.moving.is_null() {
                        break;
                    }
                    interrupt_fence();
                }
                let node = self.moving;
                let to = self.table().chain(hash_of((*node).handle));
                if ptr::eq(*from, node) {
                    *from = (*node).next;
                    interrupt_fence();
                }
                if !ptr::eq(*to, node) {
                    (*node).next = *to;
                    interrupt_fence();
                    *to = node;
                    interrupt_fence();
                }
                self.moving = ptr::null_mut();
            }
        }
        self.moved = self.moved.wrapping_add(1);
        true
    }
}

/// Why a handle was not registered.
pub(crate) enum InsertError<H: Host> {
    /// This descriptor has it.
    Taken(Ref<H>),
    /// The shard has no table yet and there is no memory for one.
    NoMemory,
}

/// All handles that somebody listens to.
pub(crate) struct Registry<H: Host> {
    change: Locked<H::Mutex, ()>,
    shards: [Locked<H::Lock, Shard<H>>; SHARDS],
    seed: u64,
}

impl<H: Host> Registry<H> {
    /// # Safety
    /// `slot` is valid for writes, zeroed, and holds nothing yet.
    pub(crate) unsafe fn init(slot: *mut Self, seed: u64) {
        // SAFETY: fields of `slot`, each written once.
        unsafe {
            Locked::init(ptr::addr_of_mut!((*slot).change), ());
            let shards = ptr::addr_of_mut!((*slot).shards).cast::<Locked<H::Lock, Shard<H>>>();
            for i in 0..SHARDS {
                Locked::init(shards.wrapping_add(i), Shard::EMPTY);
            }
            ptr::addr_of_mut!((*slot).seed).write(seed);
        }
    }

    fn hash(&self, handle: u64) -> u64 {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        let x = (handle ^ self.seed).wrapping_mul(ODD);
        let x = (x ^ (x >> 32)).wrapping_mul(ODD ^ self.seed.wrapping_shl(1));
        x ^ (x >> 29)
    }

    fn shard(&self, hash: u64) -> &Locked<H::Lock, Shard<H>> {
        let i = (hash >> 48) as usize & SHARDS.wrapping_sub(1);
        match self.shards.get(i) {
            Some(shard) => shard,
            // The mask keeps `i` in range; without this arm the compiler would keep a panic.
            None => &self.shards[0],
        }
    }

    /// Who listens to `handle`, and under which sequence number. By the time that the descriptor is
    /// looked at it may have been enabled anew, for other handles.
    pub(crate) fn find(&self, handle: Handle) -> Option<(Ref<H>, u64)> {
        let hash = self.hash(handle.raw());
        let shard = self.shard(hash).lock();
        let node = shard.find(hash, handle.raw())?;
        // SAFETY: a registered descriptor is kept by the task that enabled it until its nodes are
        // out of the table, which the shard's lock prevents now.
        let descriptor = unsafe { Ref::get(node.descriptor) };
        Some((descriptor, node.sequence))
    }

    /// Begins a change of the registry; changes come one after the other, so that of two clients
    /// who want the same handles one gets them all.
    pub(crate) fn change(&self) -> Change<'_, H> {
        Change {
            registry: self,
            _turn: self.change.lock(),
        }
    }

    /// Handles registered now.
    pub(crate) fn len(&self) -> usize {
        self.shards
            .iter()
            .fold(0, |sum, shard| sum.wrapping_add(shard.lock().len))
    }
}

/// The right to change the registry.
pub(crate) struct Change<'a, H: Host> {
    registry: &'a Registry<H>,
    _turn: Guard<'a, H::Mutex, ()>,
}

impl<H: Host> Change<'_, H> {
    /// Registers node `i` of `handles`.
    pub(crate) fn insert(
        &mut self,
        host: &H,
        handles: &Handles<H>,
        i: usize,
    ) -> Result<(), InsertError<H>> {
        let Some(node) = handles.node(i) else {
            return Ok(());
        };
        let handle = handles.get(i);
        let hash = self.registry.hash(handle);
        let locked = self.registry.shard(hash);
        self.settle(host, locked);
        self.make_room(host, locked)?;
        let mut shard = locked.lock();
        if let Some(taken) = shard.find(hash, handle) {
            // SAFETY: as in `Registry::find`.
            return Err(InsertError::Taken(unsafe { Ref::get(taken.descriptor) }));
        }
        shard.push(hash, node);
        Ok(())
    }

    /// Takes the nodes of `handles` out, those that are in.
    pub(crate) fn remove_all(&mut self, host: &H, handles: &Handles<H>) {
        for i in 0..handles.len {
            let Some(node) = handles.node(i) else { return };
            let handle = handles.get(i);
            if handle == 0 {
                continue;
            }
            let hash = self.registry.hash(handle);
            let locked = self.registry.shard(hash);
            self.settle(host, locked);
            let mut shard = locked.lock();
            shard.unlink(hash, node);
            let unused = shard.len == 0 && shard.table().buckets > FIRST_BUCKETS;
            drop(shard);
            if unused {
                self.replace_table(host, locked, Table::NONE);
            }
        }
    }

    /// Makes or grows a shard's table if the next handle needs it.
    fn make_room(
        &mut self,
        host: &H,
        locked: &Locked<H::Lock, Shard<H>>,
    ) -> Result<(), InsertError<H>> {
        let shard = locked.lock();
        let (len, buckets) = (shard.len, shard.table().buckets);
        drop(shard);
        if len < buckets {
            return Ok(());
        }
        match Table::alloc(host, buckets.saturating_mul(2).max(FIRST_BUCKETS)) {
            // Only changes alter tables, and this is the only one.
            Some(new) => self.replace_table(host, locked, new),
            // Longer chains are better than a refusal.
            None if buckets != 0 => {}
            None => return Err(InsertError::NoMemory),
        }
        Ok(())
    }

    /// Puts another table, which is large enough for what the shard holds, in the place of its table.
    fn replace_table(&mut self, host: &H, locked: &Locked<H::Lock, Shard<H>>, new: Table<H>) {
        locked.lock().switch_to(new);
        self.finish_growing(host, locked);
    }

    fn finish_growing(&mut self, host: &H, locked: &Locked<H::Lock, Shard<H>>) {
        loop {
            let mut shard = locked.lock();
            if !shard.move_bucket(|handle| self.registry.hash(handle)) {
                let old = *shard.old();
                shard.stage = shard.stage.wrapping_add(1);
                drop(shard);
                old.free(host);
                return;
            }
        }
    }

    /// Goes on with what another change could not end, since its task was killed.
    fn settle(&mut self, host: &H, locked: &Locked<H::Lock, Shard<H>>) {
        let shard = locked.lock();
        let (is_growing, is_counting) = (shard.is_growing(), shard.is_counting);
        drop(shard);
        if is_growing {
            self.finish_growing(host, locked);
        }
        if is_counting {
            locked.lock().recount();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
