// SPDX-License-Identifier: MIT OR Apache-2.0
//! What runs inside a kernel guest of rkcov, and the formats in which it talks to the host.
//!
//! [`main`] is the first process: it does the [`Job`] that the host put into the guest's first file
//! system. Jobs and answers are entries of a [`cpio`] archive. The crate builds for each machine that
//! there are guests of, and depends on nothing that those would have to bring.

mod agent;
pub mod cpio;
pub mod device;
pub mod job;
pub mod module;
mod ptrace;
mod record;
mod registers;
pub mod share;

pub use agent::{main, HOST_FILE, IN_PARAMETER, OUT_PARAMETER};
pub use device::Device;
pub use job::{answer, Coverage, Job};
pub use module::{Loaded, Modules};
pub use share::Share;
