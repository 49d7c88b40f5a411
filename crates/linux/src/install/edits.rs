// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which files of a tree get a block, and where. A place is found by what stands there, never by a
//! line number, a version or the text of its neighbours.

use super::fence::Comment;

/// One block in one file of the tree.
pub(super) struct Edit {
    /// The file, from the tree's top.
    pub(super) path: &'static str,
    /// How it writes comments.
    pub(super) comment: Comment,
    /// What is looked for, for a reader of an error message.
    pub(super) anchor: &'static str,
    /// The line before which the block goes, if the file has the anchor.
    pub(super) find: fn(&[&str]) -> Option<usize>,
    /// The block.
    pub(super) body: &'static str,
}

/// Words of `rkcov_task`; the kernel's build checks that the rules' state fits.
pub(super) const EDITS: [Edit; 7] = [
    Edit {
        path: "include/linux/sched.h",
        comment: Comment::C,
        anchor: "a block under CONFIG_KCOV with kcov_mode, kcov_size and kcov_area",
        find: task_fields,
        // In front of kcov_mode, which thereby has the alignment of kcov_area, whatever stands before the block: kasan_depth,
        // for one, would otherwise leave padding between the fields that the callbacks read.
        body: "\t/* State of the Rust kcov, which alone reads it: kernel/rkcov. */\n\
               \tu64\t\t\t\trkcov_task[40];\n",
    },
    Edit {
        path: "lib/Kconfig.debug",
        comment: Comment::Hash,
        anchor: "an entry \"config KCOV\"",
        find: after_config_kcov,
        body: include_str!("../../../../linux/Kconfig"),
    },
    Edit {
        path: "kernel/Makefile",
        comment: Comment::Hash,
        anchor: "a line that adds kcov.o to obj-$(CONFIG_KCOV)",
        find: after_kcov_object,
        // An interrupt's way in is no code of the task's. In User Mode Linux with KASAN it calls current_thread_info(),
        // which is not inlined there and is instrumented.
        body: "ifdef CONFIG_KCOV_RUST\n\
               obj-y := $(filter-out kcov.o,$(obj-y))\n\
               endif\n\
               obj-$(CONFIG_KCOV) += rkcov/\n\
               ifdef CONFIG_UML\n\
               KCOV_INSTRUMENT_context_tracking.o := n\n\
               endif\n",
    },
    Edit {
        path: "rust/bindings/bindings_helper.h",
        comment: Comment::C,
        anchor: "a constant named RUST_CONST_HELPER_...",
        find: end_of_bindings_helper,
        body: include_str!("../../../../linux/bindings_helper.h"),
    },
    Edit {
        path: "lib/Makefile",
        comment: Comment::Hash,
        anchor: "a line that adds to lib-y",
        find: end_of_lib_makefile,
        // In User Mode Linux, lib/ also runs on the host's stack, before there is a current task.
        body: "ifdef CONFIG_UML\n\
               KCOV_INSTRUMENT := n\n\
               endif\n",
    },
    // What the scheduler calls while it preempts a task is no code of the task's. The scheduler's own files are not
    // instrumented; these two have its clock and a processor's capacity.
    Edit {
        path: "arch/x86/kernel/Makefile",
        comment: Comment::Hash,
        anchor: "a line that adds to obj-y",
        find: end_of_obj_makefile,
        body: "KCOV_INSTRUMENT_tsc.o := n\n",
    },
    Edit {
        path: "arch/x86/kernel/cpu/Makefile",
        comment: Comment::Hash,
        anchor: "a line that adds to obj-y",
        find: end_of_obj_makefile,
        body: "KCOV_INSTRUMENT_aperfmperf.o := n\n",
    },
];

/// At the beginning of the block of `task_struct` that has kcov's fields.
fn task_fields(lines: &[&str]) -> Option<usize> {
    let start = lines.iter().position(|l| *l == "#ifdef CONFIG_KCOV")?;
    let len = lines[start..].iter().position(|l| *l == "#endif")?;
    let block = &lines[start..start + len];
    let mut fields = block.iter().filter_map(|l| declared(l));
    ["kcov_mode", "kcov_size", "kcov_area"]
        .iter()
        .all(|want| fields.any(|f| f == *want))
        .then_some(start + 1)
}

/// The name that a line of a C struct declares.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim().strip_suffix(';')?;
    line.rsplit(|c: char| c != '_' && !c.is_ascii_alphanumeric())
        .next()
}

/// Before the line at the left margin that follows the entry.
fn after_config_kcov(lines: &[&str]) -> Option<usize> {
    let start = lines.iter().position(|l| words(l) == ["config", "KCOV"])?;
    let next = lines[start + 1..]
        .iter()
        .position(|l| l.starts_with(|c: char| !c.is_whitespace()))?;
    Some(start + 1 + next)
}

fn after_kcov_object(lines: &[&str]) -> Option<usize> {
    let at = lines
        .iter()
        .position(|l| words(l) == ["obj-$(CONFIG_KCOV)", "+=", "kcov.o"])?;
    Some(at + 1)
}

fn end_of_bindings_helper(lines: &[&str]) -> Option<usize> {
    lines
        .iter()
        .any(|l| l.contains("RUST_CONST_HELPER_"))
        .then_some(lines.len())
}

fn end_of_lib_makefile(lines: &[&str]) -> Option<usize> {
    end_of_makefile(lines, "lib-y")
}

fn end_of_obj_makefile(lines: &[&str]) -> Option<usize> {
    end_of_makefile(lines, "obj-y")
}

/// At the end of a Makefile that adds to this variable.
fn end_of_makefile(lines: &[&str], variable: &str) -> Option<usize> {
    lines
        .iter()
        .any(|l| matches!(words(l)[..], [name, ":=" | "+=", ..] if name == variable))
        .then_some(lines.len())
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
