// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rewritten text of assembly, and what assemblers make of it.

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};
use proptest::prelude::*;
use rkcov_abi::sites::{arm64, Check};
use rkcov_rewrite::assembly::{rewrite, Branches, Form, Machine, Summary};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const X86_64: Machine = Machine::X86_64(Form::Checks);
const COUNTERS: Machine = Machine::X86_64(Form::Counters);
const ARM64: Machine = Machine::Arm64(Branches::Kept);

fn rewritten_for(machine: Machine, text: &str) -> (String, Summary) {
    let mut output = Vec::new();
    let summary = rewrite(machine, text.as_bytes(), &mut output).unwrap();
    (String::from_utf8(output).unwrap(), summary)
}

fn rewritten(text: &str) -> (String, Summary) {
    rewritten_for(X86_64, text)
}

/// What stays as it is.
fn stays_for(machine: Machine, text: &str, left: u64) {
    let (output, summary) = rewritten_for(machine, text);
    assert_eq!(output, text);
    assert_eq!(summary, Summary { sites: 0, left });
}

fn stays(text: &str, left: u64) {
    stays_for(X86_64, text, left);
}

#[test]
fn a_function_with_frames() {
    let (text, summary) = rewritten(
        "\t.section\t.text._Z1fv,\"axG\",@progbits,_Z1fv,comdat
\t.type\t_Z1fv, @function
_Z1fv:
.LFB0:
\t.cfi_startproc
\t.cfi_personality 0x3,__gxx_personality_v0
\t.cfi_lsda 0x3,.LLSDA0
\tpushq\t%rbx
\t.cfi_def_cfa_offset 16
\tcall\t__sanitizer_cov_trace_pc@PLT
\tje\t.L2
\tpopq\t%rbx
\t.cfi_remember_state
\t.cfi_def_cfa_offset 8
\tret
.L2:
\t.cfi_restore_state
\tcall\t__sanitizer_cov_trace_pc@PLT
\tpopq\t%rbx
\t.cfi_def_cfa_offset 8
\tret
\t.cfi_endproc
\t.size\t_Z1fv, .-_Z1fv
",
    );
    assert_eq!(summary, Summary { sites: 2, left: 0 });
    insta::assert_snapshot!(text);
}

#[test]
fn a_function_without_frames_that_changes_sections_and_syntax() {
    let (text, summary) = rewritten(
        "\t.intel_syntax noprefix
\t.text
\t.type\tf, @function
f:
\tcall\t[QWORD PTR __sanitizer_cov_trace_pc@GOTPCREL[rip]]
\t.section\t.rodata
.L6:
\t.text
#APP
\tcall\t__sanitizer_cov_trace_pc
#NO_APP
\tcall\t[QWORD PTR __sanitizer_cov_trace_pc@GOTPCREL[rip]]
\tjmp\t[QWORD PTR __sanitizer_cov_trace_pc@GOTPCREL[rip]]
\t.size\tf, .-f",
    );
    assert_eq!(summary, Summary { sites: 3, left: 1 });
    insta::assert_snapshot!(text);
}

/// Two functions, of which one has code in two sections and the other no frame, in both syntaxes.
#[test]
fn counters_of_functions() {
    let (text, summary) = rewritten_for(
        COUNTERS,
        "\t.section\t.text._Z1fv,\"axG\",@progbits,_Z1fv,comdat
\t.type\t_Z1fv, @function
_Z1fv:
\t.cfi_startproc
\tpushq\t%rbx
\t.cfi_def_cfa_offset 16
\tcall\t__sanitizer_cov_trace_pc@PLT
\tcall\t__sanitizer_cov_trace_pc@PLT
\tret
\t.cfi_endproc
\t.section\t.text.unlikely._Z1fv,\"axG\",@progbits,_Z1fv,comdat
\t.cfi_startproc
\tcall\t__sanitizer_cov_trace_pc@PLT
\t.cfi_endproc
\t.section\t.text._Z1fv
\t.size\t_Z1fv, .-_Z1fv
\t.text
\t.intel_syntax noprefix
\t.type\tg, @function
g:
\tjmp\t__sanitizer_cov_trace_pc
\t.size\tg, .-g
",
    );
    assert_eq!(summary, Summary { sites: 4, left: 0 });
    insta::assert_snapshot!(text);
}

/// No fuzzer has what is called then.
#[test]
fn what_cannot_count_calls_a_function_of_its_own() {
    let call = "\tmovabsq\t$__sanitizer_cov_trace_pc, %rax\n\tcall\t*%rax\n";
    let (text, summary) = rewritten_for(COUNTERS, call);
    assert_eq!(summary, Summary { sites: 0, left: 1 });
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_not_understood_stays_a_call() {
    stays("", 0);
    stays("\tcall\t__sanitizer_cov_trace_pc_guard", 0);
    stays("\tbnd call\t__sanitizer_cov_trace_pc\n", 1);
    stays("\tje\t__sanitizer_cov_trace_pc\n", 1);
    stays("f: call\t__sanitizer_cov_trace_pc\n", 1);
    stays("\tnop; call\t__sanitizer_cov_trace_pc\n", 1);
    stays(
        "\tmovabsq\t$__sanitizer_cov_trace_pc, %rax\n\tcall\t*%rax\n",
        1,
    );
    stays("\t.code32\n\tcall\t__sanitizer_cov_trace_pc\n", 1);
    stays("\t.intel_syntax\n\tcall\t__sanitizer_cov_trace_pc\n", 1);
    stays(
        "\t.att_syntax noprefix\n\tcall\t__sanitizer_cov_trace_pc\n",
        1,
    );
    stays("#NO_APP\n\tcall\t__sanitizer_cov_trace_pc\n", 1);
    stays("/* from\n\tcall\t__sanitizer_cov_trace_pc\n*/\n", 1);
    stays(
        "\t.macro\tm\n\tcall\t__sanitizer_cov_trace_pc\n\t.endm\n",
        1,
    );
    stays("\t.if\t0\n\tcall\t__sanitizer_cov_trace_pc\n\t.endif\n", 1);
    stays(
        "#APP\n\t.macro\tm\n#NO_APP\n\tcall\t__sanitizer_cov_trace_pc\n",
        1,
    );
}

#[test]
fn any_bytes_are_copied() {
    let mut text = b"\t.string\t\"\xff\0\x80;\"\r\n".to_vec();
    text.extend(std::iter::repeat_n(b'x', 1 << 20));
    let mut output = Vec::new();
    for machine in [X86_64, ARM64] {
        output.clear();
        rewrite(machine, &text[..], &mut output).unwrap();
        assert_eq!(output, text);
    }
}

#[test]
fn what_is_not_understood_of_arm64_stays_a_call() {
    let stays = |text, left| stays_for(ARM64, text, left);
    stays("\tbl\t__sanitizer_cov_trace_pc_guard\n", 0);
    stays("\tcall\t__sanitizer_cov_trace_pc\n", 1);
    stays("\tb.eq\t__sanitizer_cov_trace_pc\n", 1);
    stays("f: bl\t__sanitizer_cov_trace_pc\n", 1);
    stays("\tnop; bl\t__sanitizer_cov_trace_pc\n", 1);
    stays("\tadrp\tx0, :got:__sanitizer_cov_trace_pc\n\tblr\tx0\n", 1);
    stays("#NO_APP\n\tbl\t__sanitizer_cov_trace_pc\n", 1);
    stays("\t.macro\tm\n\tbl\t__sanitizer_cov_trace_pc\n\t.endm\n", 1);
    stays("//APP\n\tbl\t__sanitizer_cov_trace_pc\n//NO_APP\n", 1);
    // The caller's address tells the places apart that have this in common.
    stays(
        "\t.type\tOUTLINED_FUNCTION_0,@function\nOUTLINED_FUNCTION_0:\n\tmov\tx0, x19\n\
         \tb\t__sanitizer_cov_trace_pc\n",
        1,
    );
    // Without sites, nothing is longer than it was.
    stays(
        "\tldrb\tw0, [x0,w1,uxtw]\n\tadr\tx1, .Lrtx4\n\tadd\tx0, x1, w0, sxtb #2\n\tbr\tx0\n\
         .L4:\n\t.byte\t(.L5 - .Lrtx4) / 4\n",
        0,
    );
}

#[test]
fn a_function_of_arm64() {
    let (text, summary) = rewritten_for(
        ARM64,
        "\t.text
\t.type\tf, %function
f:
.LFB0:
\t.cfi_startproc
\tstp\tx29, x30, [sp, -16]!
\t.cfi_def_cfa_offset 16
\tbl\t__sanitizer_cov_trace_pc
\tcbz\tw0, .L2
#APP
\tbl\t__sanitizer_cov_trace_pc
#NO_APP
\tldp\tx29, x30, [sp], 16
\t.cfi_def_cfa_offset 0
\tb\t__sanitizer_cov_trace_pc
\t.cfi_endproc
.LFE0:
\t.size\tf, .-f
g:
\tb\t__sanitizer_cov_trace_pc // the last one",
    );
    assert_eq!(summary, Summary { sites: 3, left: 1 });
    insta::assert_snapshot!(text);
}

/// gcc's and clang's tables of jump targets, as they are for small functions.
const TABLES: &str = "\tbl\t__sanitizer_cov_trace_pc
\tldrb\tw0, [x0,w1,uxtw]
\tadr\tx1, .Lrtx4
\tadd\tx0, x1, w0, sxtb #2
\tbr\tx0
\t.section\t.rodata
.L4:
\t.byte\t(.L8 - .Lrtx4) / 4
\t.text
.Lrtx4:
\tldrh\tw2, [x3,w1,uxtw #1]
\tadr\tx1, .Lrtx5
\tadd\tx2, x1, w2, sxth #2
\t.section\t.rodata
\t.2byte\t(.L8 - .Lrtx5) / 4
\t.text
\tadr\tx10, .LBB0_2
\tldrb\tw11, [x9, x8]
\tadd\tx10, x10, x11, lsl #2
\tbr\tx10
\tadr\tx10, .LBB0_3
\tldrh\tw11, [x9, x8, lsl #1]
\tadd\tx10, x10, x11, lsl #2
\tadr\tx0, .LC0
\tldrb\tw0, [x0]
\tldrb\tw0, [x0,w1,uxtw]
\tadd\tw0, w0, 1
\t.section\t.rodata
\t.byte\t(.LBB0_2-.LBB0_2)>>2
\t.hword\t(.LBB0_7-.LBB0_3)>>2 // @7
\t.word\t(.LBB0_7-.LBB0_9)>>2
\t.byte\t7
\t.byte\t.L8 - .L7
";

#[test]
fn tables_of_arm64_have_larger_entries() {
    let (text, summary) = rewritten_for(ARM64, TABLES);
    assert_eq!(summary, Summary { sites: 1, left: 0 });
    insta::assert_snapshot!(text);
}

#[test]
fn tables_that_are_read_in_another_way_are_errors() {
    let fails = |text: &str| {
        let error = rewrite(ARM64, text.as_bytes(), Vec::new()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Other, "{text}");
    };
    for line in [1, 2, 3] {
        let lines = TABLES.lines().enumerate();
        let others: String = lines
            .filter(|(number, _)| *number != line)
            .map(|(_, text)| format!("{text}\n"))
            .collect();
        fails(&others);
    }
    // One place, read in two ways.
    fails(&TABLES.replace("\tadr\tx0, .LC0", "\tadr\tx0, .Lrtx5"));
    fails(&format!(
        "{TABLES}\tadr\tx0, .Lrtx5\n\t.byte\t(.L8 - .Lrtx5) / 4\n"
    ));
}

#[test]
fn branches_of_arm64_become_longer() {
    let text = "\tbl\t__sanitizer_cov_trace_pc
\ttbz\tx0, 3, .L2
\ttbnz\tw0, #3, .LBB0_2 // x
\tcbz\tw0, .L2
\tcbnz\tx0, .L2
\tbeq\t.L2
\tb.ls\t.L2
\tbl\tf
\tbr\tx0
\tblr\tx1
\tb\t.L2
\tbic\tw0, w1, w2
";
    let (kept, _) = rewritten_for(ARM64, text);
    let behind = |text: &str| text[text.find(".Lrkcov_h0:\n").unwrap()..].to_owned();
    let unchanged = behind(&kept);
    assert!(unchanged.starts_with(&format!(
        ".Lrkcov_h0:\n{}",
        &text[text.find("\ttbz").unwrap()..]
    )));
    let (long, summary) = rewritten_for(Machine::Arm64(Branches::Long), text);
    assert_eq!(summary, Summary { sites: 1, left: 0 });
    insta::assert_snapshot!(behind(&long));
}

/// Assembles `text` by `gcc`, and gives the object file.
fn assembled_by(gcc: &str, name: &str, text: &str) -> Vec<u8> {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (source, object) = (dir.join(format!("{name}.s")), dir.join(format!("{name}.o")));
    fs::write(&source, text).unwrap();
    let mut gcc = Command::new(gcc);
    let status = gcc.arg("-c").arg(&source).arg("-o").arg(&object).status();
    assert!(status.unwrap().success(), "{text}");
    fs::read(object).unwrap()
}

/// The relocations of a section: their offsets, symbols or sections, and addends.
fn relocations(file: &object::File<'_>, section: &object::Section<'_, '_>) -> Vec<String> {
    section
        .relocations()
        .map(|(at, relocation)| {
            let RelocationTarget::Symbol(symbol) = relocation.target() else {
                panic!("{relocation:?}");
            };
            let symbol = file.symbol_by_index(symbol).unwrap();
            let name = symbol.name().unwrap();
            let section = symbol.section_index().filter(|_| name.is_empty());
            let section = section.map(|index| file.section_by_index(index).unwrap());
            let name = section.map_or(name, |s| s.name().unwrap().to_owned().leak());
            format!("{at} {name} {}", relocation.addend())
        })
        .collect()
}

#[test]
fn a_check_of_arm64_has_its_bytes() {
    let text = "\t.text\nf:\n\t.cfi_startproc\n\tbl\t__sanitizer_cov_trace_pc\n\
                \tbl\t__sanitizer_cov_trace_pc\n\tret\n\t.cfi_endproc\n";
    for (text, before) in [(text, 0), (&text.replacen("\tbl", "\tb", 1), 4)] {
        let (text, summary) = rewritten_for(ARM64, text);
        assert_eq!(summary.sites, 2);
        let bytes = assembled_by("aarch64-linux-gnu-gcc", &format!("arm64-{before}"), &text);
        let file = object::File::parse(&*bytes).unwrap();
        let section = file.section_by_name(".text").unwrap();
        let code = section.data().unwrap();
        let check = arm64::Check::read(&code[before..], 0).unwrap();
        assert_eq!((check.byte, check.pc()), (0, 32));
        let second = if before == 0 { 32 } else { 44 };
        assert!(arm64::Check::read(&code[second..], 0).is_some());
        assert_eq!(code.len(), second + 32 + 4);
        let expect = [(before, 0), (second, 1)]
            .into_iter()
            .flat_map(|(at, site)| {
                [
                    format!("{} rkcov_sites {site}", at + 12),
                    format!("{} rkcov_sites {site}", at + 20),
                    format!("{} __rkcov_hit 0", at + 28),
                ]
            });
        assert_eq!(relocations(&file, &section), expect.collect::<Vec<_>>());
        let sites = file.section_by_name("rkcov_sites").unwrap();
        assert_eq!(sites.data().unwrap(), [1, 1]);
    }
}

/// The callback finds the site by these distances, and a bigger check would cost time everywhere. The
/// cold part has 10 bytes.
#[test]
#[cfg_attr(
    not(target_arch = "x86_64"),
    ignore = "gcc assembles for another machine"
)]
fn a_check_has_its_bytes() {
    let frame = |syntax: &str, call: &str| {
        format!("{syntax}\t.text\nf:\n\t.cfi_startproc\n\t{call}\n\tret\n\t.cfi_endproc\n")
    };
    for (name, text) in [
        ("att", frame("", "call __sanitizer_cov_trace_pc")),
        (
            "intel",
            frame(
                "\t.intel_syntax noprefix\n",
                "call __sanitizer_cov_trace_pc@PLT",
            ),
        ),
    ] {
        let (text, summary) = rewritten(&text);
        assert_eq!(summary.sites, 1);
        let bytes = assembled_by("gcc", name, &text);
        let file = object::File::parse(&*bytes).unwrap();
        let section = file.section_by_name(".text").unwrap();
        let code = section.data().unwrap();
        let check = Check::read(code, 0).unwrap();
        let (pc, cold) = (Check::LEN as usize, check.cold as usize);
        // The instruction behind the check, and the first of the cold part.
        assert_eq!((code[pc], cold), (0xc3, pc + 1), "{name}");
        assert_eq!(
            (code[cold], code[cold + 5]),
            (0xe8, 0xe9),
            "{name}: call and jmp"
        );
        let end = code.len();
        assert_eq!(end, cold + 10, "{name}");
        let back = i32::from_le_bytes(code[end - 4..].try_into().unwrap());
        assert_eq!(
            end as i32 + back,
            pc as i32,
            "{name}: jmp to the check's PC"
        );
        let relocations = relocations(&file, &section);
        assert_eq!(
            relocations,
            ["3 rkcov_sites -5", "16 __rkcov_hit -4"],
            "{name}"
        );
        let sites = file.section_by_name("rkcov_sites").unwrap();
        assert_eq!(sites.data().unwrap(), [1], "{name}");
    }
}

proptest! {
    /// Lines in any order: without calls, all is copied. With them, nothing but calls and what checks make
    /// necessary is changed.
    #[test]
    fn lines_are_kept(lines in prop::collection::vec(line(), 0..24), called in any::<bool>()) {
        const CALL: &str = "\tbl\t__sanitizer_cov_trace_pc\n";
        let text = [if called { CALL } else { "" }, &lines.concat()].concat();
        let mut output = Vec::new();
        let done = rewrite(ARM64, text.as_bytes(), &mut output);
        let output = String::from_utf8(output).unwrap();
        let small_entry = lines.iter().any(|line| line.contains(">>2") || line.contains("/ 4"));
        // One row reads a table from there; what the other does is not known.
        let place_twice = [".Lrtx4", ".LBB0_2"].iter().any(|place| {
            let takes = |line: &&&str| line.starts_with("\tadr") && line.contains(*place);
            lines.iter().filter(takes).count() > 1
        });
        match done {
            Ok(summary) if !called => {
                prop_assert_eq!(summary, Summary::default());
                prop_assert_eq!(output, text);
            }
            Ok(_) => {
                let rest = output.split_once(".Lrkcov_h0:\n").unwrap().1;
                let kept = rest.split_once("\n\t.section\trkcov_sites").unwrap().0;
                let count = |text: &str| text.lines().filter(|line| !line.is_empty()).count();
                prop_assert_eq!(count(kept), count(&lines.concat()));
            }
            Err(_) => prop_assert!(called && (small_entry || place_twice)),
        }
    }
}

/// A line of arm64's that may have to do with tables.
fn line() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "\tldrb\tw0, [x0,w1,uxtw]\n",
        "\tldrh\tw0, [x0,w1,uxtw #1]\n",
        "\tldrb\tw11, [x9, x8]\n",
        "\tadr\tx1, .Lrtx4\n",
        "\tadr\tx10, .LBB0_2\n",
        "\tadd\tx0, x1, w0, sxtb #2\n",
        "\tadd\tx10, x10, x11, lsl #2\n",
        "\tbr\tx0\n",
        ".L4:\n",
        "\t.byte\t(.L5 - .Lrtx4) / 4\n",
        "\t.hword\t(.LBB0_3-.LBB0_2)>>2\n",
        "\t.loc 1 2 3\n",
        "// a comment\n",
    ])
}
