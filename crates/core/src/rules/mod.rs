// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The rules of kcov.
//!
//! # The states of a descriptor
//! ```text
//!          INIT_TRACE          ENABLE, UNIQUE_ENABLE
//!  Empty ------------> Ready <=======================> Local
//!                      |  ^     DISABLE, end of task
//!        REMOTE_ENABLE |  | handles removed
//!                      v  |      DISABLE, end of task
//!                    Changing <------------------------ Remote
//!                            ------------------------->
//!                             all handles registered
//! ```
//! Each arrow increments the sequence number. A section stores the number at its start and is
//! delivered only while the descriptor has the same number.
//!
//! # Processes that are killed during a call
//! In userspace a process may be killed between any two instructions, while the other processes of its
//! family use the same descriptors and handles. So data under a lock changes by single stores, in an
//! order such that the next holder of the lock can continue from each intermediate state.
//!
//! # References
//! Every open file, the task that enabled, and every section hold a reference to the descriptor. The
//! descriptor holds the buffer. The registry's nodes hold no reference: they are removed before the
//! enabling task drops its reference. An area has one owner: a section, or the pool of the descriptor.
//!
//! # Lock order
//! 1. `Registry::change` (may sleep): one registration or removal of handles at a time;
//! 2. `Descriptor::state`, or one shard of the registry, never both;
//! 3. a task's pin. It is not a lock: it keeps interrupts from the task's own state.
//!
//! Under 2 and 3 all work takes constant time: no allocation, no freeing, no drop of a last reference,
//! and at most `merge::STEP` records are copied.

pub mod append;
pub mod area;
pub mod descriptor;
mod device;
pub mod drops;
pub mod host;
pub mod hot;
pub mod kcov;
pub mod lock;
mod merge;
mod registry;
pub mod sync;
pub mod task;
#[cfg(all(test, not(loom)))]
mod testing;

pub use area::Area;
pub use descriptor::{Descriptor, Ref};
pub use drops::Drops;
pub use host::{Buffer, Context, Fault, Host, Nesting, RawLock, Warning};
pub use hot::{Hot, Mode};
pub use kcov::Kcov;
pub use task::{Frames, Recording, Sink, Task};
