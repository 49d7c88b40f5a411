// SPDX-License-Identifier: MIT OR Apache-2.0
//! miniz_oxide.

fn main() {
    rkcov_bench_programs::main(|bytes| rkcov_bench_programs::inflate(bytes, || {}));
}
