// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every allocation of the rules fails once in every case.

use rkcov_conformance::faults::search;
use rkcov_conformance::sim::{self, Observable};

fn stand(new: fn() -> Box<dyn Observable>) {
    match search(new) {
        Ok(tried) => assert!(tried.failures >= 1000 && tried.left_out < 20, "{tried}"),
        Err(wrong) => panic!("{wrong}"),
    }
}

#[test]
fn userspace_stands_every_failed_allocation() {
    stand(sim::userspace);
}

#[test]
fn kernel_stands_every_failed_allocation() {
    stand(sim::kernel);
}
