// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The interface between a kcov and its clients: ioctl numbers, argument layouts, handles and records.
//!
//! This file is the root for cargo only. The code is in `abi/`, a folder that a Linux kernel build
//! includes by path as its own `mod abi`. Files there use paths `crate::abi::...`, which are valid in
//! both builds. [`sites`] is for userspace only: the form of sites in code.

#![no_std]

pub mod abi;
pub mod sites;
#[doc(inline)]
pub use abi::*;
