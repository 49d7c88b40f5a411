// SPDX-License-Identifier: MIT OR Apache-2.0
//! What stands on a line.

use super::{Machine, CALLBACK};

/// A line of assembly.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Nothing, or a comment.
    Empty,
    /// The compiler's comment that begins text of the user's (`#APP`, `//APP`).
    InlineBegins,
    /// The compiler's comment that ends it.
    InlineEnds,
    /// The definition of a label, and nothing else.
    Label(&'a [u8]),
    /// A directive: its name with the dot, and what follows.
    Directive(&'a [u8], &'a [u8]),
    /// A call of the callback, or a jump to it, and its operand.
    Callback(Transfer, &'a [u8]),
    /// An instruction that has nothing to do with the callback.
    Other,
    /// More than one statement, or what is not understood.
    Unknown,
}

/// How control goes to the callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transfer {
    Call,
    /// A call that is the last thing in a function.
    Jump,
}

/// A byte of a symbol's name, or of a mnemonic's or a directive's.
pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.$".contains(&byte) || byte >= 0x80
}

pub(super) fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// The name that `text` begins with, and what follows.
fn name(text: &[u8]) -> (&[u8], &[u8]) {
    let length = text.iter().take_while(|&&byte| is_name(byte)).count();
    text.split_at(length)
}

/// Reads a line, with or without its end.
pub(super) fn read(machine: Machine, line: &[u8]) -> Line<'_> {
    let text = trim(line);
    let Some(&first) = text.first() else {
        return Line::Empty;
    };
    // At the begin of a line, this begins a comment on any machine.
    let comment = text.strip_prefix(b"#").or_else(|| {
        let is_arm64 = matches!(machine, Machine::Arm64(_));
        text.strip_prefix(b"//").filter(|_| is_arm64)
    });
    if let Some(comment) = comment {
        let (word, _) = name(comment);
        return match word {
            b"APP" => Line::InlineBegins,
            b"NO_APP" => Line::InlineEnds,
            _ => Line::Empty,
        };
    }
    if memchr::memchr2(b';', b'/', text).is_some() && !is_one_statement(machine, text) {
        return Line::Unknown;
    }
    let (word, rest) = name(text);
    if word.is_empty() {
        return Line::Unknown;
    }
    let after = rest.trim_ascii_start();
    if let Some(behind) = after.strip_prefix(b":") {
        let behind = behind.trim_ascii_start();
        return if behind.is_empty() || begins_comment(machine, behind) {
            Line::Label(word)
        } else {
            Line::Unknown
        };
    }
    if first == b'.' {
        return Line::Directive(word, after);
    }
    transfer(machine, word, after).unwrap_or(Line::Other)
}

/// Whether a comment to the line's end begins here, in the midst of a line.
fn begins_comment(machine: Machine, text: &[u8]) -> bool {
    match machine {
        Machine::X86_64(_) => text.starts_with(b"#"),
        Machine::Arm64(_) => text.starts_with(b"//"),
    }
}

/// Whether one statement stands on a line: no separator, and no comment that goes on behind the
/// line's end, but in strings and in a comment to the line's end.
fn is_one_statement(machine: Machine, text: &[u8]) -> bool {
    let mut rest = text;
    let mut quoted = false;
    while let Some((&byte, behind)) = rest.split_first() {
        match byte {
            b'\\' if quoted => {
                rest = behind.get(1..).unwrap_or_default();
                continue;
            }
            b'"' => quoted = !quoted,
            _ if quoted => {}
            _ if begins_comment(machine, rest) => return true,
            b';' => return false,
            b'/' if matches!(behind.first(), Some(b'*' | b'/')) => return false,
            _ => {}
        }
        rest = behind;
    }
    true
}

/// An instruction or a value of arm64, without the comment behind it.
pub(super) fn without_comment(text: &[u8]) -> &[u8] {
    let end = memchr::memmem::find(text, b"//");
    &text[..end.unwrap_or(text.len())]
}

/// How an instruction goes to the callback, if it does so and in a form that compilers write.
fn transfer<'a>(machine: Machine, mnemonic: &[u8], operand: &'a [u8]) -> Option<Line<'a>> {
    let transfer = match (machine, mnemonic) {
        (Machine::X86_64(_), b"call" | b"callq") | (Machine::Arm64(_), b"bl") => Transfer::Call,
        (Machine::X86_64(_), b"jmp" | b"jmpq") | (Machine::Arm64(_), b"b") => Transfer::Jump,
        _ => return None,
    };
    if let Machine::Arm64(_) = machine {
        let operand = trim(without_comment(operand));
        return (operand == CALLBACK).then_some(Line::Callback(transfer, operand));
    }
    let operand = match memchr::memchr(b'#', operand) {
        Some(comment) => &operand[..comment],
        None => operand,
    };
    let at = memchr::memmem::find(operand, CALLBACK)?;
    let (before, after) = (&operand[..at], &operand[at + CALLBACK.len()..]);
    let known = matches!(
        (trim(before), trim(after)),
        (b"", b"" | b"@PLT")
            | (b"*", b"@GOTPCREL(%rip)")
            | (
                b"[QWORD PTR" | b"QWORD PTR",
                b"@GOTPCREL[rip]]" | b"@GOTPCREL[rip]"
            )
            | (b"qword ptr [rip +", b"@GOTPCREL]")
    );
    known.then_some(Line::Callback(transfer, operand))
}

/// Whether an instruction has the callback's own name in it.
pub(super) fn names_callback(line: &[u8]) -> bool {
    memchr::memmem::find_iter(line, CALLBACK).any(|at| {
        let part = |byte: u8| is_name(byte) && byte != b'$';
        let before = at.checked_sub(1).is_some_and(|at| part(line[at]));
        let after = line.get(at + CALLBACK.len());
        !before && !after.is_some_and(|&byte| is_name(byte))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Branches, Form};
    use super::*;

    const X86_64: Machine = Machine::X86_64(Form::Checks);
    const ARM64: Machine = Machine::Arm64(Branches::Kept);

    #[test]
    fn lines_are_told_apart() {
        for (line, expect) in [
            ("", Line::Empty),
            (" \t\r\n", Line::Empty),
            ("# 12 \"a.c\" 1\n", Line::Empty),
            ("#APP\n", Line::InlineBegins),
            ("\t#APP", Line::InlineBegins),
            ("#NO_APP\r\n", Line::InlineEnds),
            ("#APPLE", Line::Empty),
            ("main:\n", Line::Label(b"main")),
            ("main:                    # @main; x", Line::Label(b"main")),
            (".L3:", Line::Label(b".L3")),
            ("a: call b", Line::Unknown),
            ("\t.text\n", Line::Directive(b".text", b"")),
            (
                "\t.string\t\"a;b/*\\\"\"\n",
                Line::Directive(b".string", b"\"a;b/*\\\"\""),
            ),
            ("\tlock; incl (%rdi)", Line::Unknown),
            ("\tnop /* to", Line::Unknown),
            ("\tmovl\t%eax, %ebx # a;b", Line::Other),
            ("\"a b\":", Line::Unknown),
            ("{evex} vaddps", Line::Unknown),
        ] {
            assert_eq!(read(X86_64, line.as_bytes()), expect, "{line:?}");
        }
    }

    #[test]
    fn lines_of_arm64_are_told_apart() {
        for (line, expect) in [
            ("// comment; x", Line::Empty),
            ("# 12 \"a.c\" 1", Line::Empty),
            ("#APP", Line::InlineBegins),
            ("\t//APP\n", Line::InlineBegins),
            ("\t//NO_APP\n", Line::InlineEnds),
            ("main:      // @main; x", Line::Label(b"main")),
            (".L3:", Line::Label(b".L3")),
            ("main: # x", Line::Unknown),
            ("\tmov\tw0, #1; nop", Line::Unknown),
            ("\tmov\tw0, #1 // a;b", Line::Other),
            ("\tnop /* to", Line::Unknown),
            (
                "\t.string\t\"a;//\"",
                Line::Directive(b".string", b"\"a;//\""),
            ),
        ] {
            assert_eq!(read(ARM64, line.as_bytes()), expect, "{line:?}");
        }
        use Transfer::{Call, Jump};
        for (line, expect) in [
            ("\tbl\t__sanitizer_cov_trace_pc\n", Some(Call)),
            ("\tbl\t__sanitizer_cov_trace_pc // x", Some(Call)),
            ("\tb\t__sanitizer_cov_trace_pc", Some(Jump)),
            ("\tbl\t__sanitizer_cov_trace_pc_guard", None),
            ("\tbl\tother // __sanitizer_cov_trace_pc", None),
            ("\tcall\t__sanitizer_cov_trace_pc", None),
            ("\tb.eq\t__sanitizer_cov_trace_pc", None),
        ] {
            let found = match read(ARM64, line.as_bytes()) {
                Line::Callback(transfer, _) => Some(transfer),
                _ => None,
            };
            assert_eq!(found, expect, "{line:?}");
        }
    }

    #[test]
    fn calls_are_found_in_the_forms_of_compilers() {
        use Transfer::{Call, Jump};
        for (line, expect) in [
            ("\tcall\t__sanitizer_cov_trace_pc\n", Some(Call)),
            ("\tcall\t__sanitizer_cov_trace_pc@PLT\r\n", Some(Call)),
            ("\tcallq\t__sanitizer_cov_trace_pc@PLT # x", Some(Call)),
            (
                "\tcall\t*__sanitizer_cov_trace_pc@GOTPCREL(%rip)",
                Some(Call),
            ),
            (
                "\tcall\t[QWORD PTR __sanitizer_cov_trace_pc@GOTPCREL[rip]]",
                Some(Call),
            ),
            (
                "\tcall\tqword ptr [rip + __sanitizer_cov_trace_pc@GOTPCREL]",
                Some(Call),
            ),
            ("\tjmp\t__sanitizer_cov_trace_pc", Some(Jump)),
            ("\tcall\t__sanitizer_cov_trace_pc_guard", None),
            ("\tcall\t__sanitizer_cov_trace_pc+4", None),
            ("\tcall\ta__sanitizer_cov_trace_pc", None),
            ("\tbnd call\t__sanitizer_cov_trace_pc", None),
            ("\tje\t__sanitizer_cov_trace_pc", None),
            ("\tcall\tother # __sanitizer_cov_trace_pc", None),
        ] {
            let found = match read(X86_64, line.as_bytes()) {
                Line::Callback(transfer, _) => Some(transfer),
                _ => None,
            };
            assert_eq!(found, expect, "{line:?}");
        }
    }
}
