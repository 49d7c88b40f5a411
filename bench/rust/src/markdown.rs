// SPDX-License-Identifier: MIT OR Apache-2.0
//! pulldown-cmark.

fn main() {
    rkcov_bench_programs::main(rkcov_bench_programs::markdown);
}
