// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every allocation of the rules fails once in every case.

use rkcov_conformance::faults::{search, Tried};
use rkcov_conformance::matrix;
use rkcov_conformance::sim::{self, Observable};

/// The page of results has these figures.
fn is_on_the_page(name: &str, tried: &Tried) {
    let page = matrix::page().with_file_name("reliability.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (thousands, rest) = (tried.failures / 1000, tried.failures % 1000);
    let (cases, omitted) = (tried.allocating, tried.left_out);
    let figures =
        format!("{name}: {thousands},{rest:03} failures in {cases} cases, {omitted} omitted");
    assert!(page.contains(&figures), "docs/reliability.md: {figures}");
}

fn stand(name: &str, new: fn() -> Box<dyn Observable>) {
    match search(new) {
        Ok(tried) => {
            assert!(tried.failures >= 1000 && tried.left_out < 20, "{tried}");
            is_on_the_page(name, &tried);
        }
        Err(wrong) => panic!("{wrong}"),
    }
}

#[test]
fn userspace_stands_every_failed_allocation() {
    stand("userspace", sim::userspace);
}

#[test]
fn kernel_stands_every_failed_allocation() {
    stand("kernel", sim::kernel);
}
