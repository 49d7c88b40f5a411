// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs with every kind of control flow, from a number. They read nothing, end, and print what
//! they computed.

use std::fmt::Write;

/// The language of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// With `setjmp()`, and jumps to computed labels.
    C,
    /// With exceptions too.
    Cxx,
}

/// A program in `language`: the same for the same `seed`.
#[must_use]
pub fn program(seed: u64, language: Language) -> String {
    let mut writer = Writer {
        random: seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15),
        language,
        text: String::from(HEAD),
        functions: 0,
        function: 0,
        labels: Vec::new(),
        next_label: 0,
        depth: 0,
    };
    writer.program();
    writer.text
}

const HEAD: &str = r##"#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __x86_64__
#define ADD_3 "{addl $3, %0|add %0, 3}"
#define COMMENT "# ; call __sanitizer_cov_trace_pc"
#define JUMP "jmp"
#define CHANGED "rax", "rbx", "xmm0"
#else
#define ADD_3 "add %w0, %w0, 3"
#define COMMENT "// ; bl __sanitizer_cov_trace_pc"
#define JUMP "b"
#define CHANGED "x0", "x19", "v8"
#endif

typedef unsigned u;
static u fuel = 150, sum;
static volatile u zero;

static u take(u x)
{
	sum = sum * 31 + x;
	return x;
}

static int goes_on(void)
{
	return fuel ? (fuel--, 1) : 0;
}

static u add(u n, ...)
{
	va_list list;
	u all = 0;

	va_start(list, n);
	while (n--)
		all += n % 2 ? va_arg(list, u) : (u)va_arg(list, double);
	va_end(list);
	return all;
}

static void back(jmp_buf *to, u condition)
{
	if (condition % 3 == 1)
		longjmp(*to, 1 + (int)(condition % 2));
	take(condition);
}
"##;

struct Writer {
    random: u64,
    language: Language,
    text: String,
    functions: u32,
    /// The function that is written. It calls those of higher numbers, and itself.
    function: u32,
    /// Labels that are jumped to and stand further down in the function.
    labels: Vec<u32>,
    next_label: u32,
    depth: usize,
}

impl Writer {
    /// A number below `end`: the top half of a linear congruence.
    fn below(&mut self, end: u32) -> u32 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.random >> 33) as u32) % end
    }

    fn choose<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u32) as usize]
    }

    fn line(&mut self, text: &str) {
        let indent = "\t".repeat(self.depth);
        let _ = writeln!(self.text, "{indent}{text}");
    }

    fn program(&mut self) {
        self.functions = 6 + self.below(6);
        for function in 0..self.functions {
            let _ = writeln!(self.text, "static u f{function}(u a, u b);");
        }
        let names: Vec<String> = (0..self.functions).map(|f| format!("f{f}")).collect();
        let _ = writeln!(
            self.text,
            "static u (*volatile table[])(u, u) = {{{}}};",
            names.join(", ")
        );
        for function in 0..self.functions {
            self.function = function;
            self.function();
        }
        let _ = writeln!(
            self.text,
            "\nint main(int argc, char **argv)\n{{\n\tu n;\n\n\t(void)argv;\n\tfor (n = 0; n < {}; n++) {{\n\
             \t\tfuel = 150;\n\t\tprintf(\"%u %u\\n\", table[n % {}](n + (u)argc, n * 7), sum);\n\t}}\n\treturn 0;\n}}",
            self.functions * 3,
            self.functions
        );
    }

    fn function(&mut self) {
        let attribute = self.choose(&[
            "",
            "",
            "__attribute__((noinline)) ",
            "__attribute__((noinline, cold)) ",
            "__attribute__((noinline, hot)) ",
            "__attribute__((noinline, section(\".text.apart\"))) ",
            "inline ",
        ]);
        let function = self.function;
        let _ = writeln!(
            self.text,
            "\n{attribute}static u f{function}(u a, u b)\n{{\n\
             \tvolatile u v = a ^ {0}, w = b;\n\tu c = a, d = b, i, j;\n\tdouble r = 1.5;\n\tu *p = &c;\n\
             \tjmp_buf place;\n\n\t(void)place;\n\ti = j = 0;\n\tif (!goes_on())\n\t\treturn a + b;",
            self.random >> 52
        );
        self.labels.clear();
        self.depth = 1;
        for _ in 0..3 + self.below(5) {
            self.statement(3);
            self.place_label();
        }
        while !self.labels.is_empty() {
            self.place_label();
            self.statement(0);
        }
        let next = function + 1;
        if next < self.functions && self.below(2) == 0 {
            self.line(&format!("return f{next}(c + v, d + i);"));
        } else {
            self.line("return take(v + w + c + d + i + j + *p + (u)r);");
        }
        self.text += "}\n";
    }

    /// Writes one of the labels that something jumps to.
    fn place_label(&mut self) {
        if let Some(label) = self.labels.pop() {
            let _ = writeln!(self.text, "l{label}:");
            self.line("take(c);");
        }
    }

    /// A label that will be written further down.
    fn label(&mut self) -> u32 {
        let label = self.next_label;
        self.next_label += 1;
        self.labels.push(label);
        label
    }

    fn value(&mut self) -> String {
        let constant = self.below(100);
        match self.below(8) {
            0 => format!("{constant}u"),
            1 => format!("(c + {constant})"),
            2 => String::from("(v ^ d)"),
            3 => format!("(a * {constant} + i)"),
            4 => String::from("(d > c ? d - c : w)"),
            5 => String::from("take(b)"),
            6 => String::from("*p"),
            _ => String::from("(u)r"),
        }
    }

    fn condition(&mut self) -> String {
        let (left, right) = (self.value(), self.value());
        match self.below(5) {
            0 => format!("{left} < {right}"),
            1 => format!("({left} & 3) == ({right} & 1)"),
            2 => format!("({left} & 1) && {right} > 7"),
            3 => format!("{left} % 3 == 0 || ({right} & 4)"),
            _ => format!("__builtin_expect({left} % 5 == 2, {})", self.below(2)),
        }
    }

    /// A function that may be called here.
    fn callee(&mut self) -> u32 {
        let from = self.function;
        from + self.below(self.functions - from)
    }

    fn block(&mut self, nesting: u32) {
        self.depth += 1;
        for _ in 0..1 + self.below(3) {
            self.statement(nesting.saturating_sub(1));
        }
        self.depth -= 1;
    }

    fn statement(&mut self, nesting: u32) {
        let value = self.value();
        let simple = nesting == 0;
        let kinds = match (simple, self.language) {
            (true, _) => 10,
            (false, Language::C) => 18,
            (false, Language::Cxx) => 20,
        };
        match self.below(kinds) {
            0 => self.line(&format!("c += {value};")),
            1 => self.line(&format!("v = {value} * 3;")),
            2 => self.line(&format!("d ^= take({value});")),
            3 => self.line(&format!("r = r * 0.5 + ({value} & 255);")),
            4 => self.line(&format!("c += add(3, (double)({value} & 255), d, 2.0);")),
            5 => {
                let asm = self.choose(&[
                    "__asm__ volatile(ADD_3 : \"+r\"(c) : : \"cc\");",
                    "__asm__ volatile(COMMENT : : : \"memory\");",
                    "__asm__ volatile(\".pushsection .note.here,\\\"\\\",@progbits\\n\\t.byte 1\\n\\t.popsection\");",
                    "__asm__ volatile(JUMP \" 1f\\n1:\\n\\tnop; nop\" : : : \"memory\");",
                    "__asm__ volatile(\".rept 3\\n\\tnop\\n\\t.endr\" : \"+r\"(d));",
                    "__asm__ volatile(\"\" : \"+r\"(c), \"+r\"(d) : : CHANGED, \"memory\");",
                ]);
                self.line(asm);
            }
            6 => {
                let callee = self.callee();
                self.line(&format!("c += f{callee}({value}, d);"));
            }
            7 => self.line(&format!(
                "w += table[{} + {value} % {}](c, 3);",
                self.function,
                self.functions - self.function
            )),
            8 => {
                let (condition, label) = (self.condition(), self.label());
                self.line(&format!("if ({condition})"));
                self.line(&format!("\tgoto l{label};"));
            }
            9 => {
                let condition = self.condition();
                self.line(&format!("if ({condition})"));
                self.line(&format!("\treturn take({value});"));
            }
            10 | 11 => {
                let condition = self.condition();
                self.line(&format!("if ({condition}) {{"));
                self.block(nesting);
                if self.below(2) == 0 {
                    self.line("} else {");
                    self.block(nesting);
                }
                self.line("}");
            }
            12 => {
                let step = 1 + self.below(3);
                self.line(&format!("for (i = 0; i < 9 && goes_on(); i += {step}) {{"));
                self.block(nesting);
                self.exit_of_loop();
                self.line("}");
            }
            13 => {
                self.line("do {");
                self.block(nesting);
                self.exit_of_loop();
                let condition = self.condition();
                self.line(&format!("}} while (goes_on() && ({condition}));"));
            }
            14 => self.switch(&value, nesting),
            // C++ forbids a jump into a `try` block or out of it, which such a goto may be.
            15 if self.language == Language::C => self.computed_goto(&value),
            15 => self.switch(&value, nesting),
            16 => {
                let (low, high) = (1 + self.below(9), self.below(9));
                self.line(&format!(
                    "p = (u *)__builtin_alloca(({value} % 16 + 1) * sizeof(u));"
                ));
                self.line(&format!("*p = d + {low};"));
                self.line(&format!("for (j = 0; j < {high} && goes_on(); j++)"));
                self.line("\t*p += take(j);");
            }
            17 => {
                self.line("switch (setjmp(place)) {");
                self.line("case 0:");
                self.depth += 1;
                let more = self.below(4);
                self.line(&format!("back(&place, v + {more});"));
                self.line("break;");
                self.depth -= 1;
                self.line("case 1:");
                self.line("\tv += 5;");
                self.line("\tbreak;");
                self.line("default:");
                self.line("\tw += 9;");
                self.line("}");
                // Only these two are sure to have their values behind it.
                self.line("c = v;");
                self.line("d = w;");
                self.line("i = j = 0;");
                self.line("r = 0.25;");
                self.line("p = &c;");
            }
            18 => {
                self.line("try {");
                self.block(nesting);
                let condition = self.condition();
                self.line(&format!("\tif ({condition})"));
                self.line("\t\tthrow c;");
                self.line("} catch (u caught) {");
                self.line("\ttake(caught);");
                self.block(nesting);
                self.line("}");
            }
            _ => {
                self.line("try {");
                self.line("\tstruct Last {");
                self.line("\t\tu x;");
                self.line("\t\t~Last() { take(x); }");
                self.line("\t} last = {d};");
                self.line("\ttake(last.x);");
                let callee = self.callee();
                self.line(&format!("\td += f{callee}({value}, c);"));
                self.line(&format!("\tif ({value} % 4 == 1)"));
                self.line("\t\tthrow 7;");
                self.line("} catch (...) {");
                self.line("\tv += 3;");
                self.line("}");
            }
        }
    }

    fn exit_of_loop(&mut self) {
        let condition = self.condition();
        let how = self.choose(&["break", "continue", "break"]);
        self.line(&format!("\tif ({condition})"));
        self.line(&format!("\t\t{how};"));
    }

    fn switch(&mut self, value: &str, nesting: u32) {
        let (cases, stride) = (2 + self.below(9), [1, 1, 37][self.below(3) as usize]);
        self.line(&format!("switch ({value} % {}) {{", cases * stride + 2));
        for case in 0..cases {
            self.line(&format!("case {}:", case * stride));
            self.block(nesting.saturating_sub(1));
            if self.below(4) > 0 {
                self.line("\tbreak;");
            } else {
                self.line("\t/* fall through */");
            }
        }
        self.line("default:");
        self.line("\ttake(v);");
        self.line("}");
    }

    fn computed_goto(&mut self, value: &str) {
        let first = self.next_label;
        self.next_label += 4;
        let label = |n: u32| format!("l{}", first + n);
        let end = label(3);
        self.line("{");
        self.line(&format!(
            "\tstatic const void *const to[] = {{&&{}, &&{}, &&{}}};",
            label(0),
            label(1),
            label(2)
        ));
        self.line(&format!("\tgoto *to[({value}) % 3];"));
        for n in 0..3 {
            let _ = writeln!(self.text, "{}:", label(n));
            self.depth += 1;
            self.statement(0);
            self.depth -= 1;
            if self.below(2) == 0 {
                self.line(&format!("\tgoto {end};"));
            } else {
                // Back again, by what is left.
                self.line("\tif (goes_on())");
                self.line(&format!("\t\tgoto *to[(c + {n}) % 3];"));
            }
        }
        let _ = writeln!(self.text, "{end}:");
        self.line("\ttake(d);");
        self.line("}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_program() {
        let text = program(7, Language::C);
        assert_eq!(text, program(7, Language::C));
        assert_ne!(text, program(8, Language::C));
        assert!(!text.contains("throw"));
    }
}
