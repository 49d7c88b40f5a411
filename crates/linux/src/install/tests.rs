// SPDX-License-Identifier: MIT OR Apache-2.0

use super::*;
use std::collections::BTreeMap;
use tempfile::TempDir;

/// A tree that has just what the edits look for.
const TREE: [(&str, &str); 13] = [
    ("Kbuild", ""),
    ("Kconfig", ""),
    ("Makefile", MAKEFILE),
    (
        "include/linux/sched.h",
        "#ifdef CONFIG_OTHER\n\tint a;\n#endif\nstruct task_struct {\n#ifdef CONFIG_KCOV\n\
         \tunsigned int\t\tkcov_mode;\n\tunsigned int\tkcov_size;\n\tvoid *kcov_area;\n\n#endif\n\
         #ifdef CONFIG_LAST\n\tint z;\n#endif\n};\n",
    ),
    (
        "include/linux/kcov.h",
        "#ifndef X\n#define X\n#endif /* X */\n",
    ),
    (
        "kernel/sched/core.c",
        "static struct rq *finish(void)\n{\n\tkcov_finish_switch(current);\n\tif (dead)\n\t\tput();\n\n\treturn rq;\n}\n\n\
         static void __sched notrace __schedule(int sched_mode)\n{\n\tint cpu;\n\n\tcpu = smp_processor_id();\n\tif (cpu) {\n\
         \t\tgo();\n\t}\n}\n\nvoid after(void)\n{\n}\n",
    ),
    (
        "kernel/softirq.c",
        "static inline void __irq_exit_rcu(void)\n{\n\tpreempt_count_sub(HARDIRQ_OFFSET);\n\tif (a)\n\t\tb();\n}\n",
    ),
    (
        "kernel/time/hrtimer.c",
        "int a;\n\nvoid __hrtimer_rearm_deferred(void)\n{\n\tif (no)\n\t\treturn;\n\n\
         \tguard(raw_spinlock)(&cpu_base->lock);\n\trearm();\n}\n",
    ),
    (
        "lib/Kconfig.debug",
        "config KCOV\n\tbool \"x\"\n\n\thelp\n\t  y\n\nconfig KCOV_NEXT\n\tbool\n",
    ),
    (
        "kernel/Makefile",
        "obj-y = a.o\nobj-$(CONFIG_KCOV) += kcov.o\nobj-y += b.o\n",
    ),
    (
        "rust/bindings/bindings_helper.h",
        "const int RUST_CONST_HELPER_A = 1;\n",
    ),
    ("lib/Makefile", "lib-y := a.o\nobj-y += b.o\n"),
    ("kernel/fork.c", "int fork;\n"),
];

const MAKEFILE: &str = "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 117\nEXTRAVERSION =\n";

/// A tree of Linux 6.12.
fn tree() -> TempDir {
    let tree = TempDir::new().unwrap();
    for (path, text) in TREE {
        write(tree.path(), path, text);
    }
    tree
}

/// A tree of this version.
fn tree_of(major: u32, minor: u32) -> TempDir {
    let tree = tree();
    let makefile = MAKEFILE.replace("= 6", &format!("= {major}"));
    let makefile = makefile.replace("= 12", &format!("= {minor}"));
    write(tree.path(), "Makefile", &makefile);
    tree
}

fn write(tree: &Path, path: &str, text: &str) {
    let path = tree.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Every file of the tree with its content and the time it was written.
fn snapshot(tree: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let written = fs::metadata(&path).unwrap().modified().unwrap();
                files.insert(path.clone(), (fs::read(&path).unwrap(), written));
            }
        }
    }
    files
}

fn contents(tree: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    snapshot(tree)
        .into_iter()
        .map(|(path, (content, _))| (path, content))
        .collect()
}

#[test]
fn uninstall_gives_back_every_byte() {
    let tree = tree_of(7, 3);
    let before = snapshot(tree.path());
    assert_eq!(state(tree.path()).unwrap(), State::Absent);
    let changed = install(tree.path()).unwrap();
    assert_eq!(changed, EDITS.len() + SOURCES.len());
    assert_eq!(state(tree.path()).unwrap(), State::Current);
    assert_eq!(uninstall(tree.path()).unwrap(), changed);
    assert_eq!(state(tree.path()).unwrap(), State::Absent);
    let after = contents(tree.path());
    assert_eq!(after.len(), before.len());
    for (path, (content, _)) in before {
        assert_eq!(after[&path], content, "{}", path.display());
    }
    assert!(!tree.path().join(FOLDER).exists());
    assert_eq!(uninstall(tree.path()).unwrap(), 0);
}

#[test]
fn installing_twice_writes_nothing_again() {
    let tree = tree();
    install(tree.path()).unwrap();
    let once = snapshot(tree.path());
    assert_eq!(install(tree.path()).unwrap(), 0);
    assert_eq!(snapshot(tree.path()), once);
}

#[test]
fn another_version_is_brought_up_to_this_one() {
    let tree = tree();
    install(tree.path()).unwrap();
    let want = contents(tree.path());
    let makefile = tree.path().join("kernel/Makefile");
    let text = fs::read_to_string(&makefile).unwrap();
    fs::write(&makefile, text.replace("rkcov/", "old/")).unwrap();
    write(tree.path(), "kernel/rkcov/rules/gone.rs", "");
    assert_eq!(state(tree.path()).unwrap(), State::Stale);
    assert_eq!(install(tree.path()).unwrap(), 2);
    assert_eq!(contents(tree.path()), want);
}

#[test]
fn blocks_stand_where_they_should() {
    let tree = tree_of(7, 3);
    install(tree.path()).unwrap();
    let read = |path| fs::read_to_string(tree.path().join(path)).unwrap();
    let sched = read("include/linux/sched.h");
    assert!(sched.contains("#ifdef CONFIG_KCOV\n/* rkcov: begin */\n"));
    assert!(sched.contains("/* rkcov: end */\n\tunsigned int\t\tkcov_mode;\n"));
    let header = read("include/linux/kcov.h");
    assert!(header.starts_with("#ifndef X\n#define X\n/* rkcov: begin */\n"));
    assert!(header.ends_with("#endif\n/* rkcov: end */\n#endif /* X */\n"));
    let kconfig = read("lib/Kconfig.debug");
    assert!(kconfig.contains("\t  y\n\n# rkcov: begin\nchoice\n"));
    assert!(kconfig.contains("# rkcov: end\nconfig KCOV_NEXT\n"));
    let makefile = read("kernel/Makefile");
    assert!(makefile.contains("+= kcov.o\n# rkcov: begin\n"));
    assert!(makefile.ends_with("\nendif\n# rkcov: end\nobj-y += b.o\n"));
    // Without the marks and the conditions around each block.
    let ours = |path| {
        let text: String = read(path);
        let lines = text.lines().filter(|l| !l.starts_with(['#', '/']));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        ours("kernel/sched/core.c"),
        "static struct rq *finish(void)\n{\n\tkcov_finish_switch(current);\n\trkcov_prepare_schedule();\n\tif (dead)\n\
         \t\tput();\n\n\trkcov_finish_schedule();\n\treturn rq;\n}\n\n\
         static void __sched notrace __schedule(int sched_mode)\n{\n\tint cpu;\n\n\trkcov_prepare_schedule();\n\
         \tcpu = smp_processor_id();\n\tif (cpu) {\n\t\tgo();\n\t}\n\trkcov_finish_schedule();\n}\n\n\
         void after(void)\n{\n}"
    );
    assert_eq!(
        ours("kernel/softirq.c"),
        "static inline void __irq_exit_rcu(void)\n{\n\tpreempt_count_sub(HARDIRQ_OFFSET);\n\
         \tcurrent->kcov_mode |= 1U << 29;\n\tif (a)\n\t\tb();\n\
         \tcurrent->kcov_mode &= ~(1U << 29);\n}"
    );
    assert_eq!(
        ours("kernel/time/hrtimer.c"),
        "int a;\n\n__no_sanitize_coverage\nvoid __hrtimer_rearm_deferred(void)\n{\n\tif (no)\n\t\treturn;\n\n\
         \tconst unsigned int rkcov_way_out = current->kcov_mode & 1U << 29;\n\n\
         \tcurrent->kcov_mode |= 1U << 29;\n\tguard(raw_spinlock)(&cpu_base->lock);\n\trearm();\n\
         \tif (!rkcov_way_out)\n\t\tcurrent->kcov_mode &= ~(1U << 29);\n}"
    );
}

#[test]
fn a_version_gets_only_the_blocks_that_it_needs() {
    let tree = tree();
    write(tree.path(), "kernel/time/hrtimer.c", "int other;\n");
    install(tree.path()).unwrap();
    assert_eq!(state(tree.path()).unwrap(), State::Current);
    let text = fs::read_to_string(tree.path().join("kernel/time/hrtimer.c")).unwrap();
    assert_eq!(text, "int other;\n");
}

#[test]
fn trees_that_lack_a_place_are_named_and_left_alone() {
    for edit in &EDITS {
        let tree = tree_of(7, 3);
        write(tree.path(), edit.path, "nothing of interest\n");
        let before = snapshot(tree.path());
        match install(tree.path()).unwrap_err() {
            Error::UnknownTree { file, anchor, .. } => {
                assert_eq!(file, edit.path);
                assert!(edit.blocks.iter().any(|block| block.anchor == anchor));
            }
            other => panic!("{other}"),
        }
        assert_eq!(snapshot(tree.path()), before);
    }
}

#[test]
fn every_supported_version_is_accepted() {
    for (major, minor) in [(6, 12), (7, 3)] {
        let tree = tree_of(major, minor);
        assert_ne!(install(tree.path()).unwrap(), 0, "{major}.{minor}");
    }
}

#[test]
fn a_version_in_which_it_does_not_build_is_refused_and_left_alone() {
    for (makefile, expected) in [
        (
            MAKEFILE.replace("= 6", "= 7").replace("= 12", "= 4"),
            "is Linux 7.4, and the Rust kcov does not build there: it supports Linux 6.12 and 7.3. Nothing was changed",
        ),
        (
            MAKEFILE.replace("= 12", "= 1"),
            "is Linux 6.1, and the Rust kcov does not build there: it supports Linux 6.12 and 7.3. Nothing was changed",
        ),
        (
            MAKEFILE.replace("VERSION", "OTHER"),
            "is not a tree that rkcov knows: Makefile has no VERSION and PATCHLEVEL",
        ),
    ] {
        let tree = tree();
        write(tree.path(), "Makefile", &makefile);
        let before = snapshot(tree.path());
        let error = install(tree.path()).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
        assert_eq!(snapshot(tree.path()), before);
        // A tree that was installed before and moved on can still be cleaned.
        assert_eq!(uninstall(tree.path()).unwrap(), 0);
    }
}

#[test]
fn fields_in_another_order_are_not_known() {
    let tree = tree();
    let fields =
        "#ifdef CONFIG_KCOV\n\tvoid *kcov_area;\n\tint kcov_mode;\n\tint kcov_size;\n#endif\n";
    write(tree.path(), "include/linux/sched.h", fields);
    let error = install(tree.path()).unwrap_err();
    assert!(matches!(error, Error::UnknownTree { .. }), "{error}");
}

#[test]
fn something_else_is_not_a_tree() {
    let empty = TempDir::new().unwrap();
    let error = install(empty.path()).unwrap_err().to_string();
    assert!(error.ends_with("is not the top of a Linux tree: it has no Kbuild"));
}

#[test]
fn a_foreign_folder_is_not_touched() {
    let tree = tree();
    write(tree.path(), "kernel/rkcov/precious.c", "int x;\n");
    let before = snapshot(tree.path());
    for run in [install, uninstall] {
        let error = run(tree.path()).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
        assert_eq!(snapshot(tree.path()), before);
    }
}

#[test]
fn torn_marks_are_an_error() {
    let tree = tree();
    write(tree.path(), "lib/Makefile", "lib-y := a\n# rkcov: begin\n");
    for run in [install, uninstall] {
        let error = run(tree.path()).unwrap_err();
        assert!(matches!(error, Error::Unpaired { .. }), "{error}");
    }
}

#[test]
fn the_shim_is_small() {
    let shim = SOURCES.iter().find(|(name, _)| *name == "shim.c");
    let lines = shim.map(|(_, data)| data.split(|b| *b == b'\n').count());
    assert!(lines.is_some_and(|n| n < 200), "{lines:?}");
}
