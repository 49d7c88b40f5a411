// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Holds every number and offset against a C compiler that reads the installed `linux/kcov.h`
//! (Debian: `linux-libc-dev`).

use rkcov_abi::ioctl::*;
use rkcov_abi::{handle, record, CmpType, RemoteArg, Subsystem, REMOTE_MAX_HANDLES};
use std::collections::BTreeMap;
use std::mem::{align_of, offset_of, size_of};
use std::path::Path;
use std::process::Command;

/// What the header defines, as expressions in C, with what this crate says.
fn expected() -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("KCOV_INIT_TRACE", KCOV_INIT_TRACE.into()),
        ("_IOR('c', 1, uint32_t)", KCOV_INIT_TRACE_32.into()),
        ("KCOV_ENABLE", KCOV_ENABLE.into()),
        ("KCOV_DISABLE", KCOV_DISABLE.into()),
        ("KCOV_REMOTE_ENABLE", KCOV_REMOTE_ENABLE.into()),
        // Not in <linux/kcov.h> yet: the proposal's definitions.
        ("_IOW('c', 103, unsigned long)", KCOV_UNIQUE_ENABLE.into()),
        ("_IO('c', 104)", KCOV_RESET_TRACE.into()),
        ("KCOV_TRACE_PC", KCOV_TRACE_PC.into()),
        ("KCOV_TRACE_CMP", KCOV_TRACE_CMP.into()),
        ("KCOV_REMOTE_MAX_HANDLES", REMOTE_MAX_HANDLES.into()),
        ("KCOV_CMP_CONST", CmpType::CONST),
        ("KCOV_CMP_SIZE(0)", CmpType::size_bits(0)),
        ("KCOV_CMP_SIZE(1)", CmpType::size_bits(1)),
        ("KCOV_CMP_SIZE(2)", CmpType::size_bits(2)),
        ("KCOV_CMP_SIZE(3)", CmpType::size_bits(3)),
        ("KCOV_CMP_MASK", CmpType::SIZE_MASK),
        (
            "KCOV_CMP_CONST | KCOV_CMP_SIZE(2)",
            CmpType::new(2, true).raw(),
        ),
        (
            "KCOV_SUBSYSTEM_COMMON",
            u64::from(Subsystem::COMMON.number()) << 56,
        ),
        (
            "KCOV_SUBSYSTEM_USB",
            u64::from(Subsystem::USB.number()) << 56,
        ),
        ("KCOV_SUBSYSTEM_MASK", handle::SUBSYSTEM_MASK),
        ("KCOV_INSTANCE_MASK", handle::INSTANCE_MASK),
        (
            "sizeof(struct kcov_remote_arg)",
            size_of::<RemoteArg>() as u64,
        ),
        (
            "_Alignof(struct kcov_remote_arg)",
            align_of::<RemoteArg>() as u64,
        ),
        (
            "offsetof(struct kcov_remote_arg, trace_mode)",
            offset_of!(RemoteArg, trace_mode) as u64,
        ),
        (
            "offsetof(struct kcov_remote_arg, area_size)",
            offset_of!(RemoteArg, area_size) as u64,
        ),
        (
            "offsetof(struct kcov_remote_arg, num_handles)",
            offset_of!(RemoteArg, num_handles) as u64,
        ),
        (
            "offsetof(struct kcov_remote_arg, common_handle)",
            offset_of!(RemoteArg, common_handle) as u64,
        ),
        (
            "offsetof(struct kcov_remote_arg, handles)",
            size_of::<RemoteArg>() as u64,
        ),
        ("sizeof(((struct kcov_remote_arg *)0)->handles[0])", 8),
        (
            "kcov_remote_handle(KCOV_SUBSYSTEM_USB, 7)",
            handle::remote_handle(1 << 56, 7),
        ),
        ("kcov_remote_handle(1, 7)", handle::remote_handle(1, 7)),
        (
            "kcov_remote_handle(0, 1ull << 32)",
            handle::remote_handle(0, 1 << 32),
        ),
        ("sizeof(uint64_t) * 4", u64::from(record::CMP_WORDS) * 8),
    ])
}

#[test]
fn every_number_is_the_headers() {
    let expected = expected();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, program) = (folder.join("uapi.c"), folder.join("uapi"));
    let lines: String = expected
        .keys()
        .map(|e| format!("  printf(\"%llu\\n\", (unsigned long long)({e}));\n"))
        .collect();
    let code = format!(
        "#include <linux/kcov.h>\n#include <stddef.h>\n#include <stdint.h>\n#include <stdio.h>\n\
         #include <sys/ioctl.h>\nint main(void)\n{{\n{lines}  return 0;\n}}\n"
    );
    std::fs::write(&source, code).unwrap();
    // A launcher may stand before the compiler.
    let named = std::env::var("CC").unwrap_or_default();
    let mut words = named.split_whitespace();
    let compiled = Command::new(words.next().unwrap_or("cc"))
        .args(words)
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&compiled.stderr);
    assert!(
        compiled.status.success(),
        "{errors}\n(linux/kcov.h is in linux-libc-dev)"
    );
    let output = Command::new(&program).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: Vec<u64> = printed.lines().map(|line| line.parse().unwrap()).collect();
    let found: BTreeMap<&str, u64> = expected.keys().copied().zip(printed).collect();
    assert_eq!(found, expected);
}
