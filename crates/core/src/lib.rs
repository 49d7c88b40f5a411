// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The rules of kcov, written once and generic over the host that they run in.
//!
//! This file is cargo's root only. The bodies stand in `rules/`, a folder that a Linux kernel
//! build includes by path as its own `mod rules` beside `mod abi`; files there therefore say
//! `crate::abi::...` and `crate::rules::...`, which is true in both.

#![cfg_attr(not(loom), no_std)]

pub mod rules;
pub use rkcov_abi as abi;
#[doc(inline)]
pub use rules::*;
