// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which files of a tree get a block, and where. A place is found by what stands there, never by a
//! line number, a version or the text of its neighbours.

use super::fence::Comment;

/// The blocks of one file of the tree.
pub(super) struct Edit {
    /// The file, from the tree's top.
    pub(super) path: &'static str,
    /// How it writes comments.
    pub(super) comment: Comment,
    /// The first major version of Linux that needs the blocks.
    pub(super) since: u32,
    /// In the order in which they stand there.
    pub(super) blocks: &'static [Block],
}

/// Lines that a file gets.
pub(super) struct Block {
    /// What is looked for, for a reader of an error message.
    pub(super) anchor: &'static str,
    /// The line before which the block goes, if the file has the anchor.
    pub(super) find: fn(&[&str]) -> Option<usize>,
    /// The lines.
    pub(super) body: &'static str,
}

/// All files that get blocks.
pub(super) const EDITS: [Edit; 9] = [
    Edit {
        path: "include/linux/sched.h",
        comment: Comment::C,
        since: 6,
        blocks: &[Block {
            anchor: "a block under CONFIG_KCOV with kcov_mode, kcov_size and kcov_area",
            find: task_fields,
            // In front of kcov_mode, which thereby has the alignment of kcov_area, whatever stands before the block: kasan_depth,
            // for one, would otherwise leave padding between the fields that the callbacks read.
            body: "\t/* State of the Rust kcov, which alone reads it: kernel/rkcov. */\n\
                   \tu64\t\t\t\trkcov_task[40];\n",
        }],
    },
    // Where the scheduler runs in a task, it does so for others: it looks for who comes next, sets the timers of that, and
    // frees the stack of who died. Linux marks the switch itself; this is all that is done around it. None of it belongs to a
    // section; a task that collects from itself has it, as ever.
    Edit {
        path: "include/linux/kcov.h",
        comment: Comment::C,
        since: 6,
        blocks: &[Block {
            anchor: "a line \"#endif\" at its end",
            find: end_of_header,
            body: "#ifdef CONFIG_KCOV_RUST\n\
                   /* Until rkcov_finish_schedule() the section that the current task is in records nothing. */\n\
                   void rkcov_prepare_schedule(void);\n\
                   static inline void rkcov_finish_schedule(void)\n\
                   {\n\
                   \tkcov_finish_switch(current);\n\
                   }\n\
                   #else\n\
                   static inline void rkcov_prepare_schedule(void) {}\n\
                   static inline void rkcov_finish_schedule(void) {}\n\
                   #endif\n",
        }],
    },
    Edit {
        path: "kernel/sched/core.c",
        comment: Comment::C,
        since: 6,
        blocks: &[
            Block {
                anchor: "a call of kcov_finish_switch()",
                find: after_finish_switch,
                body: SCHEDULER_BEGINS,
            },
            Block {
                anchor: "a call of kcov_finish_switch() and then \"return rq;\"",
                find: end_of_finish_task_switch,
                body: SCHEDULER_ENDS,
            },
            Block {
                anchor: "a function __schedule(int ...) that asks for its processor",
                find: begin_of_schedule,
                body: SCHEDULER_BEGINS,
            },
            Block {
                anchor: "a function __schedule(int ...) that asks for its processor",
                find: end_of_schedule,
                body: SCHEDULER_ENDS,
            },
        ],
    },
    // Nor is an interrupt's way out, on which it is no longer counted as one. With real-time preemption it wakes threads.
    Edit {
        path: "kernel/softirq.c",
        comment: Comment::C,
        since: 6,
        blocks: &[
            Block {
                anchor:
                    "a function __irq_exit_rcu() that takes HARDIRQ_OFFSET from the preempt count",
                find: after_hardirq,
                body: WAY_OUT_BEGINS,
            },
            Block {
                anchor:
                    "a function __irq_exit_rcu() that takes HARDIRQ_OFFSET from the preempt count",
                find: end_of_irq_exit,
                body: WAY_OUT_ENDS,
            },
        ],
    },
    // Linux 7 sets the timer of the next interrupt only when it returns from one, which may be after the way out above.
    Edit {
        path: "kernel/time/hrtimer.c",
        comment: Comment::C,
        since: 7,
        blocks: &[
            Block {
                anchor: "a function __hrtimer_rearm_deferred() that takes a lock",
                find: head_of_rearm,
                body: "#ifdef CONFIG_KCOV_RUST\n\
                       __no_sanitize_coverage\n\
                       #endif\n",
            },
            Block {
                anchor: "a function __hrtimer_rearm_deferred() that takes a lock",
                find: begin_of_rearm,
                // With interrupts off. The way out above also calls this, and then the bit is set already.
                body: "#ifdef CONFIG_KCOV_RUST\n\
                       \tconst unsigned int rkcov_way_out = current->kcov_mode & 1U << 29;\n\n\
                       \tcurrent->kcov_mode |= 1U << 29;\n\
                       #endif\n",
            },
            Block {
                anchor: "a function __hrtimer_rearm_deferred() that takes a lock",
                find: end_of_rearm,
                body: "#ifdef CONFIG_KCOV_RUST\n\
                       \tif (!rkcov_way_out)\n\
                       \t\tcurrent->kcov_mode &= ~(1U << 29);\n\
                       #endif\n",
            },
        ],
    },
    Edit {
        path: "lib/Kconfig.debug",
        comment: Comment::Hash,
        since: 6,
        blocks: &[Block {
            anchor: "an entry \"config KCOV\"",
            find: after_config_kcov,
            body: include_str!("../../kernel/Kconfig"),
        }],
    },
    Edit {
        path: "kernel/Makefile",
        comment: Comment::Hash,
        since: 6,
        blocks: &[Block {
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
        }],
    },
    Edit {
        path: "rust/bindings/bindings_helper.h",
        comment: Comment::C,
        since: 6,
        blocks: &[Block {
            anchor: "a constant named RUST_CONST_HELPER_...",
            find: end_of_bindings_helper,
            body: include_str!("../../kernel/bindings_helper.h"),
        }],
    },
    Edit {
        path: "lib/Makefile",
        comment: Comment::Hash,
        since: 6,
        blocks: &[Block {
            anchor: "a line that adds to lib-y",
            find: end_of_lib_makefile,
            // In User Mode Linux, lib/ also runs on the host's stack, before there is a current task.
            body: "ifdef CONFIG_UML\n\
                   KCOV_INSTRUMENT := n\n\
                   endif\n",
        }],
    },
];

const SCHEDULER_BEGINS: &str = "\trkcov_prepare_schedule();\n";

const SCHEDULER_ENDS: &str = "\trkcov_finish_schedule();\n";

/// By a bit next to the scheduler's, `KCOV_IN_CTXSW`: an interrupt may come upon a task in the scheduler. The C kcov stays as
/// it is.
const WAY_OUT_BEGINS: &str = "#ifdef CONFIG_KCOV_RUST\n\
                              \tcurrent->kcov_mode |= 1U << 29;\n\
                              #endif\n";

/// The interrupt is over.
const WAY_OUT_ENDS: &str = "#ifdef CONFIG_KCOV_RUST\n\
                            \tcurrent->kcov_mode &= ~(1U << 29);\n\
                            #endif\n";

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

fn end_of_header(lines: &[&str]) -> Option<usize> {
    let last = lines.len().checked_sub(1)?;
    lines[last].starts_with("#endif").then_some(last)
}

fn after_finish_switch(lines: &[&str]) -> Option<usize> {
    let at = lines
        .iter()
        .position(|l| l.trim() == "kcov_finish_switch(current);")?;
    Some(at + 1)
}

fn end_of_finish_task_switch(lines: &[&str]) -> Option<usize> {
    let last = end_of_function(lines, after_finish_switch(lines)?)?.checked_sub(1)?;
    (lines[last].trim() == "return rq;").then_some(last)
}

fn begin_of_schedule(lines: &[&str]) -> Option<usize> {
    let head = |l: &str| l.contains(" __schedule(int ") && !l.ends_with(';');
    statement(lines, head, "cpu = smp_processor_id();")
}

fn end_of_schedule(lines: &[&str]) -> Option<usize> {
    end_of_function(lines, begin_of_schedule(lines)?)
}

fn after_hardirq(lines: &[&str]) -> Option<usize> {
    let head = |l: &str| l.ends_with(" __irq_exit_rcu(void)");
    Some(statement(lines, head, "preempt_count_sub(HARDIRQ_OFFSET);")? + 1)
}

fn end_of_irq_exit(lines: &[&str]) -> Option<usize> {
    end_of_function(lines, after_hardirq(lines)?)
}

fn head_of_rearm(lines: &[&str]) -> Option<usize> {
    lines
        .iter()
        .position(|l| *l == "void __hrtimer_rearm_deferred(void)")
}

fn begin_of_rearm(lines: &[&str]) -> Option<usize> {
    let lock = "guard(raw_spinlock)(&cpu_base->lock);";
    statement(lines, |l| l == "void __hrtimer_rearm_deferred(void)", lock)
}

fn end_of_rearm(lines: &[&str]) -> Option<usize> {
    end_of_function(lines, begin_of_rearm(lines)?)
}

/// This statement of the function with this head.
fn statement(lines: &[&str], head: impl Fn(&str) -> bool, text: &str) -> Option<usize> {
    let start = lines.iter().position(|l| head(l))?;
    let body = &lines[start..end_of_function(lines, start)?];
    Some(start + body.iter().position(|l| l.trim() == text)?)
}

/// The brace that ends the function which line `at` is in.
fn end_of_function(lines: &[&str], at: usize) -> Option<usize> {
    Some(at + lines[at..].iter().position(|l| *l == "}")?)
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
    lines
        .iter()
        .any(|l| matches!(words(l)[..], ["lib-y", ":=" | "+=", ..]))
        .then_some(lines.len())
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}
