// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rewritten text of assembly, and what assemblers make of it.

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};
use rkcov_abi::sites::Check;
use rkcov_rewrite::assembly::{rewrite, Form, Summary};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn rewritten(text: &str) -> (String, Summary) {
    made(text, Form::Checks)
}

fn made(text: &str, form: Form) -> (String, Summary) {
    let mut output = Vec::new();
    let summary = rewrite(text.as_bytes(), &mut output, form).unwrap();
    (String::from_utf8(output).unwrap(), summary)
}

/// What stays as it is.
fn stays(text: &str, left: u64) {
    let (output, summary) = rewritten(text);
    assert_eq!(output, text);
    assert_eq!(summary, Summary { sites: 0, left });
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
    let (text, summary) = made(
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
        Form::Counters,
    );
    assert_eq!(summary, Summary { sites: 4, left: 0 });
    insta::assert_snapshot!(text);
}

/// No fuzzer has what is called then.
#[test]
fn what_cannot_count_calls_a_function_of_its_own() {
    let call = "\tmovabsq\t$__sanitizer_cov_trace_pc, %rax\n\tcall\t*%rax\n";
    let (text, summary) = made(call, Form::Counters);
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
    rewrite(&text[..], &mut output, Form::Checks).unwrap();
    assert_eq!(output, text);
}

/// Assembles `text` for x86-64, and gives the object file.
fn assembled(name: &str, text: &str) -> Vec<u8> {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (source, object) = (dir.join(format!("{name}.s")), dir.join(format!("{name}.o")));
    fs::write(&source, text).unwrap();
    let mut gcc = Command::new("gcc");
    let status = gcc.arg("-c").arg(&source).arg("-o").arg(&object).status();
    assert!(status.unwrap().success(), "{text}");
    fs::read(object).unwrap()
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
        let bytes = assembled(name, &text);
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
        let relocations: Vec<String> = section
            .relocations()
            .map(|(at, relocation)| {
                let RelocationTarget::Symbol(symbol) = relocation.target() else {
                    panic!("{name}: {relocation:?}");
                };
                let symbol = file.symbol_by_index(symbol).unwrap();
                let name = symbol.name().unwrap();
                let section = symbol.section_index().filter(|_| name.is_empty());
                let section = section.map(|index| file.section_by_index(index).unwrap());
                let name = section.map_or(name, |s| s.name().unwrap().to_owned().leak());
                format!("{at} {name} {}", relocation.addend())
            })
            .collect();
        assert_eq!(
            relocations,
            ["3 rkcov_sites -5", "16 __rkcov_hit -4"],
            "{name}"
        );
        let sites = file.section_by_name("rkcov_sites").unwrap();
        assert_eq!(sites.data().unwrap(), [1], "{name}");
    }
}
