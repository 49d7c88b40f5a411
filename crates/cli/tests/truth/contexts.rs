// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a context ran, and nothing that ran before it was entered or after it was left.

use std::collections::BTreeMap;

use super::compilers;
use super::lines::Built;

/// A server: a worker takes requests from a table and works on each in its context. The comments say what the
/// context `one` ran (`1`), what it did not (`0`), and what is its glue (`?`), which no callback tells.
const SERVER: &str = "\
#include <rkcov.h>
#include <pthread.h>
#include <stdio.h>
struct request { rkcov_context_t context; int number; };
static struct request table[3] = {{0, 1}, {0, 2}, {0, 3}};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int taken, put_back;
__attribute__((noinline)) static struct request *get(void) {
  struct request *found = NULL; //0
  pthread_mutex_lock(&lock); //0
  if (taken < 3) //0
    found = &table[taken++]; //0
  pthread_mutex_unlock(&lock); //0
  return found; //0
}
__attribute__((noinline)) static void put(struct request *r) {
  pthread_mutex_lock(&lock); //0
  put_back += r->number; //0
  if (put_back > 100) //0
    puts(\"many\"); //0
  pthread_mutex_unlock(&lock); //0
}
__attribute__((noinline)) static int divide(int a, int b) {
  while (a >= b) //0
    a -= b; //0
  return a; //0
}
__attribute__((noinline)) static int parse(struct request *r) {
  if (r->number == 2) //1
    return divide(14, r->number); //0
  return r->number; //1
}
__attribute__((noinline)) static int compute(int n) {
  if (n == 1) //1
    return n * 5; //1
  return divide(n, 2); //0
}
__attribute__((noinline)) static void log_line(int n) {
  fprintf(stderr, \"%d\", n); //1
}
static void *work(void *nothing) {
  struct request *r; //0
  while ((r = get())) { //0
    rkcov_enter(r->context); //0
    int n = parse(r); //?
    if (n < 100) //?
      n = compute(n); //?
    rkcov_leave(); //?
    rkcov_enter(r->context); //?
    log_line(n); //?
    rkcov_leave(); //?
    put(r); //0
  }
  return nothing; //0
}
int main(void) {
  static const char *const names[] = {\"one\", \"two\", \"three\"};
  pthread_t thread;
  for (int i = 0; i < 3; i++)
    table[i].context = rkcov_context(RKCOV_REQUEST, names[i]);
  pthread_create(&thread, NULL, work, NULL);
  pthread_join(thread, NULL);
  for (int i = 0; i < 3; i++)
    rkcov_end(table[i].context);
  return put_back != 6;
}
";

/// The sign before each line with code in a report with source.
fn signs(report: &str) -> BTreeMap<usize, char> {
    let lines = report.lines().filter_map(|line| {
        let (number, rest) = line.trim_start().split_once(' ')?;
        let sign = rest.chars().next().filter(|sign| "+-?".contains(*sign))?;
        Some((number.parse().ok()?, sign))
    });
    lines.collect()
}

#[test]
fn nothing_before_a_context_was_entered_nor_after_it_was_left() {
    for compiler in compilers() {
        for level in ["-O0", "-O1", "-O2"] {
            let build = format!("cc {compiler} -g {level} -pthread p.c -o p");
            let built = Built::in_mode(&[("p.c", SERVER)], &build, "", "unique");
            let case = format!("{compiler} {level}");
            let all = built.report("--source");
            assert!(!all.contains("rkcov.h"), "{case}: {all}");
            let everything = signs(&all);
            let report = built.report("--context one --source");
            let found = signs(&report);
            for (line, text) in (1..).zip(SERVER.lines()) {
                let sign = found.get(&line);
                match text.split_once("//").map(|(_, marked)| marked) {
                    // Optimized, a line may have no code.
                    Some("1") => assert!(
                        sign == Some(&'+') || level != "-O0" && sign.is_none(),
                        "{case} {line}: {report}"
                    ),
                    Some("0") => assert_ne!(sign, Some(&'+'), "{case} {line}: {report}"),
                    Some("?") => assert_ne!(sign, Some(&'-'), "{case} {line}: {report}"),
                    _ => {}
                }
            }
            // Everything ran but for one line, whoever did.
            for (line, sign) in everything {
                let text = SERVER.lines().nth(line - 1).unwrap();
                let expected = if text.contains("many") { '-' } else { '+' };
                let unknown = level != "-O0" && sign == '?';
                assert!(sign == expected || unknown, "{case} {line}: {all}");
            }
            let ran = built.rkcov("tests divide t.rkcov");
            assert_eq!(ran, "three\ntwo\n", "{case}");
        }
    }
}

/// What a line ran for is not known to the answer either, and it does not say that nothing ran it.
#[test]
fn whoever_ran_the_glue_it_ran() {
    let build = "cc gcc -g -O0 -pthread p.c -o p";
    let built = Built::in_mode(&[("p.c", SERVER)], build, "", "unique");
    let line = SERVER
        .lines()
        .position(|line| line.contains("log_line(n);"));
    let ran = built.rkcov(&format!("tests p.c:{} t.rkcov", line.unwrap() + 1));
    let may = "  (may have: what was recorded does not tell)\n";
    assert_eq!(
        ran,
        format!("one{may}three{may}two{may}it ran; what was recorded does not tell for whom\n")
    );
}

/// A process that never had the program in its memory has not run it, whatever was recorded.
#[test]
fn a_process_without_the_program_has_not_run_it() {
    let sources = [
        ("p.c", SERVER),
        ("q.c", "int main(void) { return 0; }\n"),
        ("both.sh", "./q && ./p\n"),
    ];
    let build = "cc gcc -g -O0 -pthread p.c -o p";
    let built = Built::in_mode(&sources, build, "", "unique");
    built.rkcov("cc gcc -g -O0 q.c -o q");
    built.rkcov("run -o both.rkcov -- sh both.sh");
    let line = SERVER
        .lines()
        .position(|line| line.contains("log_line(n);"));
    let place = format!("p.c:{}", line.unwrap() + 1);
    let shown = built.rkcov(&format!("show {place} both.rkcov"));
    assert!(shown.contains("./p") && !shown.contains("./q"), "{shown}");
    // Its own lines are shown with it.
    let own = built.rkcov("show q.c:1 both.rkcov");
    assert!(own.contains("./q") && !own.contains("./p"), "{own}");
}
