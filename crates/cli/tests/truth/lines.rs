// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is said of single lines, for code that compilers and linkers put together in unusual ways.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::here::has;
use super::succeed;

pub(crate) const RKCOV: &str = env!("CARGO_BIN_EXE_rkcov");

/// A folder with sources, a program and its trace.
pub(crate) struct Built {
    pub(crate) folder: tempfile::TempDir,
}

impl Built {
    /// Writes the sources, runs `rkcov` with the words of `build`, and then the program `p` that it
    /// made, with the words of `arguments`.
    pub(crate) fn new(sources: &[(&str, &str)], build: &str, arguments: &str) -> Self {
        Self::in_mode(sources, build, arguments, "trace")
    }

    pub(crate) fn in_mode(
        sources: &[(&str, &str)],
        build: &str,
        arguments: &str,
        mode: &str,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in sources {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let built = Self { folder };
        built.rkcov(build);
        built.rkcov(&format!("run --mode {mode} -o t.rkcov -- ./p {arguments}"));
        built
    }

    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(RKCOV);
        command.args(words.split_whitespace());
        command.current_dir(self.folder.path());
        command
    }

    pub(crate) fn rkcov(&self, words: &str) -> String {
        succeed(&mut self.command(words))
    }

    /// The report with the words of `options`, without the folder's name.
    pub(crate) fn report(&self, options: &str) -> String {
        let report = self.rkcov(&format!("report t.rkcov {options}"));
        report.replace(&*self.path().to_string_lossy(), "/built")
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// The sign before each line with code of the only source. Text, lcov and JSON say the same.
    #[track_caller]
    pub(crate) fn signs(&self) -> BTreeMap<u32, char> {
        let report = self.report("--source");
        let lines = report.lines().filter_map(|line| {
            let (number, rest) = line.trim_start().split_once(' ')?;
            let sign = rest.chars().next().filter(|sign| "+-?".contains(*sign))?;
            Some((number.parse().ok()?, sign))
        });
        let signs: BTreeMap<u32, char> = lines.collect();
        let sign = |count: u64| if count > 0 { '+' } else { '-' };

        let json = self.report("--format json");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let file = &json["files"][0];
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        let known = file["lines"].as_array().unwrap().iter();
        let known = known.map(|line| (number(&line["line"]) as u32, sign(number(&line["count"]))));
        let mut in_json: BTreeMap<u32, char> = known.collect();

        let lcov = self.report("--format lcov");
        let lines = lcov.lines().filter_map(|line| {
            let (line, count) = line.strip_prefix("DA:")?.split_once(',')?;
            Some((line.parse().unwrap(), sign(count.parse().unwrap())))
        });
        assert_eq!(lines.collect::<BTreeMap<u32, char>>(), in_json, "{lcov}");
        let unknown = file["unknown"].as_array().unwrap().iter();
        in_json.extend(unknown.map(|line| (number(line) as u32, '?')));
        assert_eq!(in_json, signs, "{report}");
        signs
    }
}

/// Each line of `source` with code ends with a comment that says what is to be said of it: `//+`,
/// `//-` or `//?`.
#[track_caller]
fn hold(source: &str, compiler: &str, arguments: &str) {
    let name = if compiler.contains("++") {
        "p.cc"
    } else {
        "p.c"
    };
    let wrapper = if compiler.contains("++") { "c++" } else { "cc" };
    let build = format!("{wrapper} {compiler} -g {name} -o p");
    let built = Built::new(&[(name, source)], &build, arguments);
    let expected = source.lines().zip(1..).filter_map(|(line, number)| {
        let (_, sign) = line.rsplit_once("//")?;
        Some((number, sign.chars().next()?))
    });
    let expected: BTreeMap<u32, char> = expected.collect();
    assert_eq!(
        built.signs(),
        expected,
        "{compiler}: {}",
        built.report("--source")
    );
}

const ENDLESS_LOOP: &str = "\
#include <stdio.h>
int main(int argc, char **argv)
{ //+
    int n = 0; //+
    (void)argc, (void)argv;
    while (1) { //+
        int twice = n * 2; //+
        n++; //+
        if (n >= 5) //+
            break; //+
        if (twice == 77) { //+
            puts(\"77\"); //-
            n++; //-
        }
    }
    return n - 5; //+
} //+
";

/// gcc keeps the jump back for its line, and lets what is before it go around.
#[test]
fn the_jump_at_the_end_of_a_loop_is_gone_around() {
    hold(ENDLESS_LOOP, "gcc -O0", "");
    let with_for = ENDLESS_LOOP.replace("while (1)", "for (;;)");
    hold(&with_for, "gcc -O0", "");
}

/// Nobody comes to the end of this loop, nor goes around its jump.
#[test]
fn a_loop_that_never_goes_round() {
    let source = "\
int main(int argc, char **argv)
{ //+
    (void)argv;
    while (1) {
        argc++; //+
        if (argc > 1) //+
            return 0; //+
        argc += 2; //-
    }
} //+
";
    hold(source, "gcc -O0", "");
}

/// Of a `break` that only one of two branches has code for, nobody knows where the other one came
/// from.
#[test]
fn a_break_behind_branches() {
    let source = "\
int main(int argc, char **argv)
{ //+
    (void)argv;
    for (int i = 0; i < 3; i++) { //+
        switch (argc) { //+
        case 1:
            if (i < 7) //+
                argc += 1; //+
            else
                argc += 2; //-
            break; //+
        case 2:
            argc += 7; //+
            break; //+
        case 3:
            argc += 8; //-
            break; //-
        default:
            argc -= 3; //+
            break; //+
        }
    }
    return argc != 6; //+
} //+
";
    hold(source, "gcc -O0", "");
}

/// gcc reads tables in four steps at -O0: a word, its sign, the base, the sum.
#[test]
fn tables_of_switches_without_optimization() {
    let source = "\
#include <stdlib.h>
#include <unistd.h>
static int other(int n) { return read(0, &n, 0) + n; } //+
int main(int argc, char **argv)
{ //+
    int n = 0; //+
    for (int i = 1; i < argc; i++) //+
        switch (argv[i][0]) { //+
        case 'a': n += 1; break; //+
        case 'b': n += 2; break; //-
        case 'c': n += 3; break; //+
        case 'd': n += 4; break; //-
        case 'e': n += 5; break; //-
        case 'f': n += 6; break; //-
        default: n += 8; break; //-
        }
    n += other(n); //+
    n += 1; //+
    n += other(n); //+
    n += 2; //+
    if (n == 12) //+
        exit(12); //-
    return n > 99; //+
} //+
";
    for compiler in [
        "gcc -O0",
        "gcc -O0 -fno-pie -no-pie",
        "gcc -O0 -fno-jump-tables",
    ] {
        hold(source, compiler, "a c");
    }
}

/// A switch in another's arm, over numbers below zero. gcc gives no code the inner one's line.
#[test]
fn tables_in_tables_without_optimization() {
    let source = "\
#include <stdlib.h>
static int inner(int outer, int n) { //+
    switch (outer) { //+
    case -2:
        switch (n) {
        case -3: return 1; //+
        case -2: return 2; //-
        case -1: return 3; //-
        case 0: return 4; //-
        case 1: return 5; //+
        }
        return 6; //-
    case -1: return 7; //-
    case 0: return 8; //-
    case 1: return 9; //-
    case 2: return 10; //+
    }
    return 11; //-
} //+
int main(int argc, char **argv) { //+
    int sum = 0; //+
    for (int i = 2; i < argc; i++) //+
        sum += inner(atoi(argv[1]), atoi(argv[i])); //+
    sum += inner(2, 0); //+
    return sum == 16 ? 0 : 1; //+
} //+
";
    for compiler in ["gcc -O0", "gcc -O0 -fno-pie -no-pie"] {
        hold(source, compiler, "-2 -3 1");
    }
}

const FAR: &str = "\
#include <stdio.h>
static int kept(int y) { //-
    return y * 2; //-
}
int used(int x) { //+
    if (x > 5) //+
        return x - 1; //-
    if (x == 77) //+
        return kept(x); //-
    return x + 1; //+
} //+
int main(int argc, char **argv) { //+
    (void)argv;
    printf(\"%d\\n\", used(argc)); //+
    return 0; //+
} //+
";

/// With position-independent code of the large model an address is the sum of two.
#[test]
fn the_large_code_model_anywhere_in_memory() {
    for model in [
        "",
        "-mcmodel=large",
        "-mcmodel=large -fno-pie -no-pie",
        "-mcmodel=medium",
    ] {
        hold(
            &FAR.replace("}\nint used", "} //-\nint used"),
            &format!("gcc -O0 {model}"),
            "",
        );
    }
    if has("clang-22") {
        for model in ["", "-mcmodel=large -fPIE -pie"] {
            let build = format!("cc clang-22 -g -O1 {model} p.c -o p");
            let signs = Built::new(&[("p.c", FAR)], &build, "").signs();
            // used() is inlined, and only its own copy, which nobody called, has code of its end.
            for (line, sign) in [(6, '+'), (11, '?'), (14, '+'), (15, '+')] {
                assert_eq!(signs.get(&line), Some(&sign), "{model}: {signs:?}");
            }
        }
    }
}

/// A function whose blocks lie in sections of their own is one function.
#[test]
fn functions_in_pieces() {
    if !has("clang-22") {
        return;
    }
    for level in ["-O0", "-O1", "-O2"] {
        for source in [FAR, ENDLESS_LOOP] {
            let report = |flags: &str| {
                let build = format!("cc clang-22 -g {level} {flags} p.c -o p");
                let built = Built::new(&[("p.c", source)], &build, "");
                (built.signs(), built.report("--functions"))
            };
            let whole = report("");
            assert_eq!(report("-fbasic-block-sections=all"), whole, "{level}");
        }
    }
}

/// The caller went on, so the call that the function does before it returns came back.
#[test]
fn who_comes_back_has_run_to_the_end() {
    let source = "\
#include <unistd.h>
static int deep(int n) { //+
    n += read(0, &n, 0); //+
    return n + 1; //+
} //+
static int waits(int n) { //+
    n += deep(n); //+
    n += read(0, &n, 0); //+
    n += 3; //+
    return n; //+
} //+
int main(int argc, char **argv) { //+
    (void)argv;
    argc += waits(argc); //+
    if (argc > 100) //+
        argc = 0; //-
    return argc > 99; //+
} //+
";
    hold(source, "gcc -O0", "");
    let optimized = |flags: &str| {
        let build = format!("cc {flags} -fno-inline -g p.c -o p");
        Built::new(&[("p.c", source)], &build, "").signs()
    };
    let signs = optimized("gcc -O1");
    for line in [3, 4, 7, 8, 9, 14] {
        assert!(
            matches!(signs.get(&line), None | Some('+')),
            "{line}: {signs:?}"
        );
    }
    // Who never came back has not.
    let ends = source.replace("n += 3;", "n += 3; if (n) _exit(0);");
    let built = Built::new(&[("p.c", &ends)], "cc gcc -O0 -g p.c -o p", "");
    let signs = built.signs();
    assert_eq!((signs[&9], signs[&10]), ('+', '-'), "{signs:?}");
}

/// A function that was inlined has lines whose code only its own copy has. That nobody called this copy does not
/// mean that the lines did not run.
#[test]
fn a_copy_that_nobody_called_says_nothing_of_inlined_ones() {
    let source = "\
#include <stdlib.h>
int half(int n)
{
    if (n > 100)
        abort();
    n /= 2;
    return n;
}
int never(int n)
{
    return n + 1;
}
int main(int argc, char **argv)
{
    (void)argv;
    return half(argc + 1) == 7;
}
";
    for compiler in ["gcc", "clang-22"] {
        if !has(compiler) {
            continue;
        }
        let build = format!("cc {compiler} -g -O2 p.c -o p");
        let signs = Built::new(&[("p.c", source)], &build, "").signs();
        let sign = |line| signs.get(&line).copied();
        // These ran.
        for line in [2, 3, 4, 6, 7, 8] {
            assert_ne!(sign(line), Some('-'), "{compiler} {line}: {signs:?}");
        }
        // These did not run.
        for line in [5, 11] {
            assert_eq!(sign(line), Some('-'), "{compiler} {line}: {signs:?}");
        }
    }
}

/// How often a function was called is how often it was entered, whatever its first line does.
#[test]
fn calls_are_counted_where_a_function_is_entered() {
    let source = "\
int loops(int n)
{   switch (n) { case 1: while (n < 15) { n++; } break; default: for (int i = 0; i < 15; i++) n += i; }
    return n;
}
static inline __attribute__((always_inline)) int twice(int n)
{   return n * 2;
}
int main(int argc, char **argv)
{
    (void)argv;
    return loops(argc + 4) + loops(1) + twice(argc) + twice(3) == 7;
}
";
    let built = Built::new(&[("p.c", source)], "cc gcc -g -O0 p.c -o p", "");
    let lcov = built.report("--format lcov");
    assert!(lcov.contains("FNDA:2,loops\n"), "{lcov}");
    assert!(lcov.contains("FNDA:1,main\n"), "{lcov}");
}
