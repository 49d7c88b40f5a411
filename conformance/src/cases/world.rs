// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs and hardware of the real world.

use super::{Case, Clause};
use crate::stage::{expect, Checked, Stage};
use rkcov_model::Need;

pub(super) const CLAUSES: &[Clause] = &[
    Clause {
        id: "program.documentation",
        text: "the kernel documentation's programs run unchanged, and print PCs",
    },
    Clause {
        id: "subject.usb",
        text: "USB: hub_event() is recorded by a global handle, through dummy_hcd and raw-gadget",
    },
    Clause {
        id: "subject.vhost",
        text: "a vhost worker is recorded by its client's common handle",
    },
    Clause {
        id: "subject.neither",
        text: "USB and vhost code is not recorded without its handle",
    },
];

/// Runs one of the documentation's programs, and counts the lines that are PCs.
fn program(stage: &mut Stage<'_>, name: &str, is_line: fn(&str) -> bool) -> Checked {
    stage.needs(Need::Programs)?;
    let output = crate::world::run_program(name).map_err(crate::stage::Stop::Broken)?;
    expect(output.success, || format!("{name} failed: {}", output.text))?;
    let lines = output.text.lines().filter(|line| is_line(line)).count();
    expect(lines > 0, || {
        format!("{name} printed no PC: {}", output.text)
    })
}

fn is_pc(line: &str) -> bool {
    line.strip_prefix("0x")
        .is_some_and(|hex| u64::from_str_radix(hex, 16).is_ok())
}

fn is_comparison(line: &str) -> bool {
    line.starts_with("ip: 0x") && line.contains("type: 0x")
}

pub(super) const CASES: &[Case] = &[
    Case::code(
        "program.documentation.coverage",
        "coverage of one system call",
        |stage| program(stage, "coverage", is_pc),
    ),
    Case::code(
        "program.documentation.comparisons",
        "comparisons of one system call",
        |stage| program(stage, "comparisons", is_comparison),
    ),
    Case::code(
        "program.documentation.remote",
        "sections of USB bus 1 and of a common handle, while the program sleeps",
        |stage| program(stage, "remote", is_pc),
    ),
    Case::code(
        "subject.usb.hub-event",
        "a device is plugged in while a client listens to its bus",
        |stage| {
            stage.needs(Need::Hardware)?;
            let heard = crate::world::usb_hub_event(true).map_err(crate::stage::Stop::Broken)?;
            expect(heard > 0, || "nothing was recorded".into())
        },
    ),
    Case::code(
        "subject.vhost.worker",
        "a worker that was made under a client's common handle",
        |stage| {
            stage.needs(Need::Hardware)?;
            let heard = crate::world::vhost_worker(true).map_err(crate::stage::Stop::Broken)?;
            expect(heard > 0, || "nothing was recorded".into())
        },
    ),
    Case::code(
        "subject.neither.usb",
        "the same with another bus's handle",
        |stage| {
            stage.needs(Need::Hardware)?;
            let heard = crate::world::usb_hub_event(false).map_err(crate::stage::Stop::Broken)?;
            expect(heard == 0, || format!("{heard} PCs were recorded"))
        },
    ),
    Case::code(
        "subject.neither.vhost",
        "a worker that was made without one",
        |stage| {
            stage.needs(Need::Hardware)?;
            let heard = crate::world::vhost_worker(false).map_err(crate::stage::Stop::Broken)?;
            expect(heard == 0, || format!("{heard} PCs were recorded"))
        },
    ),
];
