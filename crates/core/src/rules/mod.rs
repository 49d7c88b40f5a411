// SPDX-License-Identifier: GPL-2.0 OR MIT
//! The rules of kcov.

pub mod append;
pub mod hot;
pub mod sync;
