// SPDX-License-Identifier: MIT OR Apache-2.0
//! `cargo rkcov` on small projects that cargo users have.

mod command;
mod environment;
mod gates;
mod kinds;
mod per_test;
mod per_test_ends;
mod per_test_examples;
mod profiles;
mod shapes;
mod stores;
mod support;
