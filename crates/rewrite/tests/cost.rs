// SPDX-License-Identifier: MIT OR Apache-2.0
//! How many bytes and instructions stand at a site: each one more is paid at every edge.

use iced_x86::{Decoder, DecoderOptions};
use object::{Object, ObjectSection, ObjectSymbol};
use rkcov_rewrite::assembly::{rewrite, Branches, Form, Machine};
use std::fs;
use std::process::Command;

/// The sizes of the instructions of a function in an object.
fn sizes(object: &[u8], function: &str) -> Vec<usize> {
    let file = object::File::parse(object).unwrap();
    let symbol = file.symbols().find(|s| s.name() == Ok(function)).unwrap();
    let section = file
        .section_by_index(symbol.section_index().unwrap())
        .unwrap();
    let code = section.data_range(symbol.address(), symbol.size()).unwrap();
    let decoder = Decoder::new(64, code.unwrap(), DecoderOptions::NONE);
    decoder
        .into_iter()
        .map(|instruction| instruction.len())
        .collect()
}

fn assembled(text: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let [source, object] = ["code.s", "code.o"].map(|name| folder.path().join(name));
    fs::write(&source, text).unwrap();
    let mut cc = Command::new("cc");
    let status = cc.arg("-c").arg(&source).arg("-o").arg(&object).status();
    assert!(status.unwrap().success());
    fs::read(object).unwrap()
}

#[test]
fn a_check_has_two_instructions_of_14_bytes_and_its_cold_part_two_of_10() {
    let text = "\t.text\n\t.type\twork, @function\nwork:\n\t.cfi_startproc\n\tsubq\t$8, %rsp\n\
                \t.cfi_def_cfa_offset 16\n\tcall\t__sanitizer_cov_trace_pc\n\taddq\t$8, %rsp\n\
                \t.cfi_def_cfa_offset 8\n\tret\n\t.cfi_endproc\n\t.size\twork, .-work\n";
    let mut checked = Vec::new();
    rewrite(Machine::X86_64(Form::Checks), text.as_bytes(), &mut checked).unwrap();
    let object = assembled(&checked);
    // Between `sub` and `add`: the comparison, the jump.
    assert_eq!(sizes(&object, "work"), [4, 8, 6, 4, 1]);
    // The call, the jump back.
    assert_eq!(sizes(&object, "work.rkcov"), [5, 5]);
}

#[test]
fn a_check_of_arm64_has_eight_instructions() {
    let text = "\t.text\n\t.type\twork, %function\nwork:\n\tbl\t__sanitizer_cov_trace_pc\n\tret\n";
    let mut checked = Vec::new();
    let machine = Machine::Arm64(Branches::Kept);
    rewrite(machine, text.as_bytes(), &mut checked).unwrap();
    let checked = String::from_utf8(checked).unwrap();
    let code = checked.split("\t.section").next().unwrap();
    let instructions: Vec<&str> = code
        .lines()
        .filter_map(|line| line.strip_prefix('\t')?.split('\t').next())
        .filter(|word| !word.starts_with('.'))
        .collect();
    let check = ["mrs", "cbz", "ldr", "adrp", "add", "ldrb", "cbnz", "bl"];
    assert_eq!(instructions, [&check[..], &["ret"]].concat());
}

#[test]
fn a_store_is_as_long_as_the_pair_that_it_was_and_has_two_instructions() {
    let text = "\t.text\n\t.globl\twork\n\t.type\twork, @function\nwork:\n\tsubq\t$8, %rsp\n\
                \tleaq\t.Lguards(%rip), %rdi\n\tcall\t__sanitizer_cov_trace_pc_guard@PLT\n\
                \taddq\t$8, %rsp\n\tret\n\t.size\twork, .-work\n\
                \t.section\t__sancov_guards,\"aw\",@progbits\n.Lguards:\n\t.zero\t4\n";
    let mut object = assembled(text.as_bytes());
    assert_eq!(sizes(&object, "work"), [4, 7, 5, 4, 1]);
    assert_eq!(rkcov_rewrite::object::rewrite(&mut object).stores, 1);
    assert_eq!(sizes(&object, "work"), [4, 8, 4, 4, 1]);
}
