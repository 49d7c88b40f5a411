// SPDX-License-Identifier: MIT OR Apache-2.0
//! Agents: processes whose threads are the tasks of the conformance suite and do what it tells them.
//!
//! - [`play`]: an agent, for any [`Device`];
//! - [`device`]: what it needs of a kcov and of its machine;
//! - [`wire`]: what answers look like.
//!
//! The C files beside are the same for a kcov that C can call; `docs/conformance.md` has more.

pub mod device;
mod serve;
pub mod wire;

pub use device::Device;
pub use serve::play;
