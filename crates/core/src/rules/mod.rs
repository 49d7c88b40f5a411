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
//! Each arrow takes the next sequence number. A section remembers the number under which it began
//! and is delivered only under that one.
//!
//! # Who is killed in mid-call
//! In userspace a process may be killed between any two instructions, while its relatives go on with
//! the same descriptors and handles. So what locks guard changes by single stores, in an order in
//! which each state in between is one that the next holder of the lock knows to go on from.
//!
//! # Who keeps what alive
//! Every opened file, the task that enabled, and every section hold a reference to the descriptor;
//! the descriptor holds the buffer. The registry's nodes hold none: they are gone before the
//! enabling task lets go. An area has one owner: a section, or the pool of the descriptor.
//!
//! # Lock order
//! 1. `Registry::change` (may sleep): one registration or removal of handles at a time;
//! 2. `Descriptor::state`, or one shard of the registry, never one inside the other;
//! 3. a task's pin, which is no lock: it keeps interrupts from a task's own state.
//!
//! Under 2 and 3 there is constant-time work only: no allocation, no freeing, no last reference
//! dropped, at most `merge::STEP` records copied.

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
