// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The wire between a kcov and its clients: ioctl numbers, argument layouts, handles and records.
//!
//! This file is cargo's root only. The bodies stand in `abi/`, a folder that a Linux kernel build
//! includes by path as its own `mod abi`; files there say `crate::abi::...`, which is true in both.
//! [`sites`] is for userspace alone: the form of sites in code.

#![no_std]

pub mod abi;
pub mod sites;
#[doc(inline)]
pub use abi::*;
