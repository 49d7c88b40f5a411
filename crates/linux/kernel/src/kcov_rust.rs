// SPDX-License-Identifier: GPL-2.0 OR MIT
//! kcov in Rust: the rules of rkcov with Linux as their host, in the place of `kernel/kcov.c`.
//!
//! `abi` and `rules` are the very files that user space compiles. The rest supplies what they ask
//! a host for (tasks, contexts, locks, memory) and connects them to the kernel: the callbacks of
//! instrumented code, the annotations, the scheduler's hooks, and the file in debugfs. It decides
//! nothing about coverage.

#![allow(internal_features, reason = "the return address is an intrinsic of LLVM")]

pub mod abi;
mod arch;
#[cfg(CONFIG_ARM64)]
mod arm64;
mod callbacks;
mod device;
mod host;
mod irq_areas;
mod lock;
#[cfg_attr(linux = "6", path = "linux_6.rs")]
#[cfg_attr(linux = "7", path = "linux_7.rs")]
mod release;
pub mod rules;
mod sections;
mod shim;
mod task;
#[cfg(CONFIG_KCOV_SELFTEST)]
mod selftest;
#[cfg(all(CONFIG_X86_64, not(CONFIG_UML)))]
mod x86;

/// What the kernel's `pr_info!` begins its lines with.
const __LOG_PREFIX: &[u8] = b"kcov\0";
