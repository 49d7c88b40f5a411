// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random histories through the rules and through the reference model.

use std::collections::BTreeMap;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rkcov_abi::Command;
use rkcov_conformance::history::{histories, search};
use rkcov_conformance::sim::{self, Observable};
use rkcov_model::{Act, Host, Model, Op, Outcome};

/// Histories of either sort; each has about 90 operations.
const HISTORIES: u32 = 2000;

fn agree(new: fn() -> Box<dyn Observable>) {
    match search(new, HISTORIES) {
        Ok(told) => assert!(told >= 50_000, "only {told} operations were told"),
        Err(divergence) => panic!("{divergence}"),
    }
}

#[test]
fn userspace_agrees_with_the_model() {
    agree(sim::userspace);
}

#[test]
fn kernel_agrees_with_the_model() {
    agree(sim::kernel);
}

/// What happened in some histories, by name.
fn reached(host: fn() -> Box<dyn Observable>) -> BTreeMap<String, u64> {
    let nesting = host().traits().nesting;
    let mut runner = TestRunner::deterministic();
    let strategy = histories(nesting);
    let mut reached = BTreeMap::new();
    let mut count = |what: String, n: u64| *reached.entry(what).or_default() += n;
    for _ in 0..500 {
        let ops = strategy.new_tree(&mut runner).unwrap().current();
        let mut model = Model::new(host().traits().clone());
        for op in &ops {
            let outcome = model.apply(op).unwrap();
            if let Op::Act(_, Act::Ioctl(_, call)) = op {
                let name = match call.command() {
                    Some(command) => format!("{command:?}"),
                    None => "any number".into(),
                };
                if let Outcome::Failed(_) = outcome {
                    count(format!("{name} refused"), 1);
                }
                count(format!("{name} {outcome}"), 1);
            }
        }
        let end = model.observe();
        count("warnings".into(), end.warnings);
        count("too deep".into(), end.too_deep);
        count("handles".into(), end.handles as u64);
        for (words, drops) in end.descriptors.values() {
            count("full".into(), drops.full);
            count("stale".into(), drops.stale);
            count("no area".into(), drops.no_area);
            count("records".into(), words.first().copied().unwrap_or(0).min(9));
        }
    }
    reached
}

/// Histories that never get anywhere would agree too.
#[test]
fn histories_reach_every_answer() {
    let userspace = reached(sim::userspace);
    let kernel = reached(sim::kernel);
    let every_call = Command::ALL.iter().flat_map(|command| {
        // A new call has to be drawn by `rkcov_conformance::history`.
        ["ok", "refused"].map(|answer| format!("{command:?} {answer}"))
    });
    let others = [
        "InitTrace EBUSY",
        "InitTrace ENOMEM",
        "Enable EINVAL",
        "Enable EBUSY",
        "Disable EINVAL",
        "RemoteEnable EINVAL",
        "RemoteEnable EBUSY",
        "RemoteEnable EEXIST",
        "RemoteEnable ENOMEM",
        "RemoteEnable EFAULT",
        "UniqueEnable EINVAL",
        "UniqueEnable EBUSY",
        "ResetTrace EINVAL",
        "any number ENOTTY",
        "full",
        "stale",
        "no area",
        "records",
        "handles",
    ];
    for what in every_call.chain(others.map(String::from)) {
        for reached in [&userspace, &kernel] {
            let n = reached.get(&what).copied().unwrap_or(0);
            assert!(n >= 20, "{what}: {n} times of {reached:#?}");
        }
    }
    assert!(userspace["too deep"] >= 100 && userspace["warnings"] == 0);
    assert!(kernel["warnings"] >= 100 && kernel["too deep"] == 0);
}
