// SPDX-License-Identifier: MIT OR Apache-2.0
//! The first process of a guest whose machine is not the host's. For others `rkcov` itself is that.

fn main() -> std::io::Result<()> {
    rkcov_guest::main()
}
