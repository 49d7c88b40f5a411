// SPDX-License-Identifier: MIT OR Apache-2.0
//! serde_json.

fn main() {
    rkcov_bench_programs::main(|bytes| rkcov_bench_programs::json(bytes, || {}));
}
