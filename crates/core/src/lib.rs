// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The rules of kcov, written once and generic over the host that they run in.
//!
//! This file is the root for cargo only. The code is in `rules/`, a folder that a Linux kernel build
//! includes by path as its own `mod rules` beside `mod abi`. Files there use paths `crate::abi::...`
//! and `crate::rules::...`, which are valid in both builds.

#![cfg_attr(not(loom), no_std)]

pub mod rules;
pub use rkcov_abi as abi;
#[doc(inline)]
pub use rules::*;
