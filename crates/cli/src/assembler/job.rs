// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an assembler's command line asks for.

use rkcov_rewrite::assembly::{Branches, Form, Machine};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Where the text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    File(PathBuf),
    /// A compiler with `-pipe` writes there.
    Standard,
}

/// Code that is assembled from one text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Job<'a> {
    pub(super) input: Input,
    is_arm64: bool,
    args: &'a [OsString],
    /// The index of the argument that names the text.
    operand: Option<usize>,
}

/// Options whose value is the next argument.
const WITH_VALUE: [&str; 10] = [
    "-o",
    "-I",
    "-Q",
    "--MD",
    "--debug-prefix-map",
    "--defsym",
    "--hash-size",
    "--listing-lhs-width",
    "--listing-lhs-width2",
    "--listing-rhs-width",
];

/// Options by which nothing is assembled, or not for x86-64 in long mode or arm64 as Linux has it, or text
/// means something else, or instructions get others beside them.
const FOREIGN: [&str; 12] = [
    "--help",
    "--target-help",
    "--version",
    "--32",
    "--x32",
    "-EB",
    "-mabi=ilp32",
    "-malign-branch",
    "-mbranches-within-32B-boundaries",
    "-mlfence-",
    "-mmnemonic",
    "-msyntax",
];

/// Options that compilers pass to an assembler for arm64, and to no other.
const ARM64: [&str; 2] = ["-EL", "-mabi=lp64"];

impl<'a> Job<'a> {
    /// Reads a command line whose response files are expanded; `None` if it asks for anything else.
    pub(super) fn read(args: &'a [OsString]) -> Option<Self> {
        let mut operands = Vec::new();
        let mut is_arm64 = cfg!(target_arch = "aarch64");
        let mut rest = args.iter().enumerate();
        while let Some((index, arg)) = rest.next() {
            let text = arg.to_string_lossy();
            if FOREIGN.iter().any(|foreign| text.starts_with(foreign)) {
                return None;
            }
            is_arm64 |= ARM64.contains(&&*text);
            if !text.starts_with('-') || text == "-" || text == "--" {
                operands.push(index);
            } else if WITH_VALUE.contains(&&*text) {
                rest.next();
            }
        }
        let operand = match operands[..] {
            [] => None,
            [one] => Some(one),
            _ => return None,
        };
        let named = operand.map(|index| args[index].as_os_str());
        let input = match named {
            Some(name) if name != OsStr::new("-") && name != OsStr::new("--") => {
                Input::File(name.into())
            }
            _ => Input::Standard,
        };
        Some(Self {
            input,
            is_arm64,
            args,
            operand,
        })
    }

    /// What the text is for, and what becomes of it; `None` where there are no sites of this form.
    pub(super) fn machine(&self, form: Form) -> Option<Machine> {
        match (self.is_arm64, form) {
            (false, form) => Some(Machine::X86_64(form)),
            (true, Form::Checks) => Some(Machine::Arm64(Branches::Kept)),
            (true, Form::Counters) => None,
        }
    }

    /// The arguments by which the text comes from standard input.
    pub(super) fn with_standard_input(&self) -> Vec<OsString> {
        let mut args = self.args.to_vec();
        if let Some(operand) = self.operand {
            args[operand] = "-".into();
        }
        args
    }

    /// The arguments by which clang does the same with `input`.
    pub(super) fn for_clang(&self, input: &OsStr) -> Vec<OsString> {
        let mut args: Vec<OsString> = ["-c", "-x", "assembler"].map(OsString::from).into();
        let mut rest = self.args.iter().enumerate();
        while let Some((index, arg)) = rest.next() {
            let text = arg.to_string_lossy();
            let of_gnu = text == "--64" || ARM64.contains(&&*text) || text.starts_with("-g");
            if Some(index) == self.operand || of_gnu {
                continue;
            }
            // clang has passed on its own.
            let processor = text.starts_with("-march=") || text.starts_with("-mcpu=");
            if self.is_arm64 && processor {
                args.push(arg.clone());
            } else if text == "-o" || text == "-I" {
                args.push(arg.clone());
                args.extend(rest.next().map(|(_, value)| value.clone()));
            } else if text.starts_with("-o") || text.starts_with("-I") {
                args.push(arg.clone());
            } else {
                args.push(for_assembler(arg));
                if WITH_VALUE.contains(&&*text) {
                    args.extend(rest.next().map(|(_, value)| for_assembler(value)));
                }
            }
        }
        args.push(input.to_owned());
        args
    }
}

fn for_assembler(arg: &OsStr) -> OsString {
    let mut option = OsString::from("-Wa,");
    option.push(arg);
    option
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn one_text_is_a_job() {
        for (line, input) in [
            ("--64 -o a.o /tmp/a.s", Some(Input::File("/tmp/a.s".into()))),
            ("--64 -o a.o -", Some(Input::Standard)),
            ("--64 -I d -o a.o", Some(Input::Standard)),
            (
                "-v --gdwarf-5 --64 --debug-prefix-map a=b -oa.o a.s",
                Some(Input::File("a.s".into())),
            ),
            ("--64 a.s b.s", None),
            ("--32 a.s", None),
            ("--version", None),
            ("--64 -mbranches-within-32B-boundaries a.s", None),
            ("--64 -msyntax=intel a.s", None),
            ("-EB -mabi=lp64 -o a.o a.s", None),
            ("-EL -mabi=ilp32 -o a.o a.s", None),
        ] {
            let args = words(line);
            assert_eq!(Job::read(&args).map(|job| job.input), input, "{line}");
        }
    }

    #[test]
    fn arguments_tell_the_machine() {
        let machine = |line| Job::read(&words(line))?.machine(Form::Checks);
        let arm64 = Some(Machine::Arm64(Branches::Kept));
        assert_eq!(machine("-EL -mabi=lp64 -march=armv8-a -o a.o a.s"), arm64);
        assert_eq!(machine("-mabi=lp64 -o a.o -"), arm64);
        if cfg!(target_arch = "x86_64") {
            assert_eq!(
                machine("--64 -o a.o a.s"),
                Some(Machine::X86_64(Form::Checks))
            );
        }
    }

    #[test]
    fn arguments_for_others() {
        let args = words("--64 -I d -g -gdwarf-5 --noexecstack -o a.o a.s");
        let job = Job::read(&args).unwrap();
        assert_eq!(
            job.with_standard_input(),
            words("--64 -I d -g -gdwarf-5 --noexecstack -o a.o -")
        );
        assert_eq!(
            job.for_clang(OsStr::new("a.s")),
            words("-c -x assembler -I d -Wa,--noexecstack -o a.o a.s")
        );
        let args = words("-EL -mcpu=neoverse-n1 -o a.o a.s");
        assert_eq!(
            Job::read(&args).unwrap().for_clang(OsStr::new("-")),
            words("-c -x assembler -mcpu=neoverse-n1 -o a.o -")
        );
    }
}
