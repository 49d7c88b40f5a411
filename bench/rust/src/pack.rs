// SPDX-License-Identifier: MIT OR Apache-2.0
//! brotli.

fn main() {
    rkcov_bench_programs::main(rkcov_bench_programs::pack);
}
