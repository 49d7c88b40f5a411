// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Who listens to which handle.
//!
//! A hash table in [`SHARDS`] parts, each with its own lock. A part grows with what it holds, so
//! finding a handle takes the same time whether there are ten or a million. Nodes lie in the block
//! that a descriptor makes when it is enabled: nothing is allocated under a lock. Growing moves one
//! bucket per taking of the lock; meanwhile a handle is in the old table if its bucket there was
//! not moved yet, else in the new one.
//!
//! Handles are chosen by clients, so the hash is keyed with a number that they cannot guess.

use crate::abi::{CommonHandle, Handle};
use crate::rules::descriptor::{Descriptor, Ref};
use crate::rules::host::Host;
use crate::rules::lock::{Guard, Locked};
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

    fn bucket(&self, hash: u64) -> usize {
        hash as usize & self.buckets.wrapping_sub(1)
    }

    fn head(&self, bucket: usize) -> *mut *mut Node<H> {
        self.heads.wrapping_add(bucket)
    }
}

struct Shard<H: Host> {
    table: Table<H>,
    /// While growing: what `table` replaces.
    old: Table<H>,
    /// Buckets of `old` that were moved.
    moved: usize,
    len: usize,
}

// SAFETY: plain memory, reached under the shard's lock only.
unsafe impl<H: Host> Send for Shard<H> {}

impl<H: Host> Shard<H> {
    /// The head of the chain in which a handle of this hash is, if it is anywhere.
    fn chain(&self, hash: u64) -> Option<*mut *mut Node<H>> {
        if self.old.buckets != 0 && self.old.bucket(hash) >= self.moved {
            return Some(self.old.head(self.old.bucket(hash)));
        }
        (self.table.buckets != 0).then(|| self.table.head(self.table.bucket(hash)))
    }

    fn find(&self, hash: u64, handle: u64) -> Option<&Node<H>> {
        let head = self.chain(hash)?;
        // SAFETY: the chain's head and its nodes live while they are in the table, and the
        // shard's lock, which the caller holds, keeps them there.
        let mut node = unsafe { *head };
        while !node.is_null() {
            // SAFETY: as above.
            let this = unsafe { &*node };
            if this.handle == handle {
                return Some(this);
            }
            node = this.next;
        }
        None
    }

    fn push(&mut self, hash: u64, node: *mut Node<H>) {
        if let Some(head) = self.chain(hash) {
            // Counted before it is in, and after it is out: should the holder of the lock be killed
            // in between, the count is too high, which costs memory only.
            self.len = self.len.wrapping_add(1);
            // SAFETY: under the lock; the node is in no chain. One store makes it visible whole.
            unsafe {
                (*node).next = *head;
                *head = node;
            }
        }
    }

    /// Takes a node out, if it is there.
    fn unlink(&mut self, hash: u64, node: *mut Node<H>) {
        let Some(mut link) = self.chain(hash) else {
            return;
        };
        // SAFETY: under the lock; links are heads or `next` of nodes in the chain. One store
        // takes the node out.
        unsafe {
            while !(*link).is_null() {
                if ptr::eq(*link, node) {
                    *link = (*node).next;
                    self.len = self.len.wrapping_sub(1);
                    return;
                }
                link = ptr::addr_of_mut!((**link).next);
            }
        }
    }

    /// Moves one bucket from the old table; `false` when none is left.
    fn move_bucket(&mut self, hash_of: impl Fn(u64) -> u64) -> bool {
        if self.moved >= self.old.buckets {
            return false;
        }
        let from = self.old.head(self.moved);
        // SAFETY: under the lock; both tables and all nodes in them live.
        unsafe {
            while !(*from).is_null() {
                let node = *from;
                *from = (*node).next;
                let to = self.table.head(self.table.bucket(hash_of((*node).handle)));
                (*node).next = *to;
                *to = node;
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
        let empty = || Shard {
            table: Table::NONE,
            old: Table::NONE,
            moved: 0,
            len: 0,
        };
        // SAFETY: fields of `slot`, each written once.
        unsafe {
            Locked::init(ptr::addr_of_mut!((*slot).change), ());
            let shards = ptr::addr_of_mut!((*slot).shards).cast::<Locked<H::Lock, Shard<H>>>();
            for i in 0..SHARDS {
                Locked::init(shards.wrapping_add(i), empty());
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
            let mut shard = self.registry.shard(hash).lock();
            shard.unlink(hash, node);
            let unused = shard.len == 0 && shard.table.buckets > FIRST_BUCKETS;
            let table = unused.then(|| core::mem::replace(&mut shard.table, Table::NONE));
            drop(shard);
            if let Some(table) = table {
                table.free(host);
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
        let (len, buckets) = (shard.len, shard.table.buckets);
        drop(shard);
        if len < buckets {
            return Ok(());
        }
        // Only changes alter `len` and `table`, and this is the only one.
        let Some(new) = Table::alloc(host, buckets.saturating_mul(2).max(FIRST_BUCKETS)) else {
            // Longer chains are better than a refusal.
            return if buckets == 0 {
                Err(InsertError::NoMemory)
            } else {
                Ok(())
            };
        };
        let mut shard = locked.lock();
        shard.old = core::mem::replace(&mut shard.table, new);
        shard.moved = 0;
        drop(shard);
        loop {
            let mut shard = locked.lock();
            if !shard.move_bucket(|handle| self.registry.hash(handle)) {
                let old = core::mem::replace(&mut shard.old, Table::NONE);
                drop(shard);
                old.free(host);
                return Ok(());
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
