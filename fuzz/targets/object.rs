// SPDX-License-Identifier: MIT OR Apache-2.0
//! Objects and archives whose calls become stores before a link.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| rkcov_rewrite::object::fuzz(bytes));
