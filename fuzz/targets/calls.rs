// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device's calls by hostile clients: any number and argument, remote arguments cut anywhere and
//! changed while they are read, by tasks and processes that come and go, between sections, closes and
//! failures. Each answer, and all that can be seen, is what the reference model says; at the end
//! nothing is left.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rkcov_conformance::{bytes, history, sim};
use rkcov_model::Nesting;

fuzz_target!(|data: &[u8]| {
    let (nesting, ops) = bytes::decode(data);
    let new = match nesting {
        Nesting::Suspend => sim::userspace,
        Nesting::Refuse => sim::kernel,
    };
    if let Err(divergence) = history::compare(&ops, new) {
        panic!("{divergence}");
    }
});
