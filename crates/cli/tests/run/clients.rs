// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that collect from themselves under `rkcov run`: the collector gets its copy.

use crate::losses::{Case, Says};
use crate::support::{succeed, Lab, RKCOV};
use std::path::Path;
use std::process::Command;

#[test]
fn what_a_client_collects_has_run_for_the_collector_too() {
    const SECTION: &str = "return n * 3;";
    const COLLECTION: &str = "return n * 5;";
    let lab = Lab::new();
    let program = lab.path("client");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run/programs/client.c");
    let mut cc = Command::new(RKCOV);
    cc.args(["cc", "gcc", "-g", "-O0", "-Wall", "-Werror", "-pthread"]);
    succeed(cc.arg(source).arg("-o").arg(&program));
    let mut case = Case::of(lab, program);
    for (mode, script, ran, missed) in [
        ("unique", "$P ''", SECTION, COLLECTION),
        ("unique", "$P listen", SECTION, COLLECTION),
        ("unique", "$P listen cmp", SECTION, COLLECTION),
        ("unique", "$P local", COLLECTION, SECTION),
        ("unique", "$P local cmp", COLLECTION, SECTION),
        ("trace", "$P listen", SECTION, COLLECTION),
        ("trace", "$P local", COLLECTION, SECTION),
    ] {
        case.run(&["--mode", mode], script);
        let says = |line| case.line("client.c", line);
        assert_eq!(says(ran), Says::Ran, "{mode} {script}");
        assert_eq!(says(missed), Says::Missed, "{mode} {script}");
        case.lost_nothing();
    }
}

/// A client that keeps what it collected of three requests, two of one name, in a list.
const SAVES: &str = r#"
#include <rkcov.h>
#include <sys/mman.h>

int read_user(int n)
{
	return n * 3;
}

int delete_user(int n)
{
	return n * 5;
}

int never(int n)
{
	return n * 7;
}

int main(int argc, char **argv)
{
	int fd = rkcov_open(), sum = 0;
	uint64_t *buffer;

	if (rkcov_ioctl(fd, KCOV_INIT_TRACE, 512))
		return 1;
	buffer = rkcov_mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	for (int request = 0; request < 3; request++) {
		buffer[0] = 0;
		if (rkcov_ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
			return 2;
		sum += request == 1 ? delete_user(1) : read_user(1);
		rkcov_ioctl(fd, KCOV_DISABLE, 0);
		if (rkcov_save(argv[1], request == 1 ? "DELETE\n" : "GET", buffer, 512))
			return 3;
	}
	if (rkcov_save("/nowhere/list", 0, buffer, 512) != -1)
		return 4;
	return sum == 11 ? 0 : sum + never(argc);
}
"#;

#[test]
fn what_a_client_saves_is_reported() {
    let lab = Lab::new();
    std::fs::write(lab.path("saves.c"), SAVES).unwrap();
    let mut cc = Command::new(RKCOV);
    cc.args([
        "cc", "gcc", "-g", "-O0", "-Wall", "-Werror", "saves.c", "-o", "saves",
    ]);
    succeed(cc.current_dir(lab.path("")));
    let mut program = Command::new(lab.path("saves"));
    succeed(program.arg("list").current_dir(lab.path("")));
    let said = |arguments: &[&str]| {
        let mut command = Command::new(RKCOV);
        let output = command.args(arguments).current_dir(lab.path("")).output();
        let output = output.unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.success(),
            String::from_utf8(output.stdout).unwrap() + &stderr,
        )
    };
    let answer = |question: &[&str]| {
        let (well, text) = said(question);
        assert!(well, "{question:?}: {text}");
        text
    };
    assert_eq!(answer(&["tests", "read_user", "list"]), "GET\n");
    assert_eq!(answer(&["tests", "delete_user", "list"]), "DELETE\n\n");
    let table = answer(&["report", "--by", "context", "list"]);
    assert!(table.contains("GET  (2 runs)"), "{table}");
    let lines = answer(&["report", "--format", "lcov", "list"]);
    let count = |text: &str| {
        let line = 1 + SAVES.lines().position(|line| line.contains(text)).unwrap();
        let record = lines
            .lines()
            .find_map(|record| record.strip_prefix(&format!("DA:{line},")));
        record.map(str::to_owned)
    };
    // Two streams have it.
    assert_eq!(count("n * 3"), Some("2".into()), "{lines}");
    assert_eq!(count("n * 5"), Some("1".into()), "{lines}");
    assert_eq!(count("n * 7"), Some("0".into()), "{lines}");
    // A list and a trace are one.
    let run = ["run", "-o", "t.rkcov", "--", "./saves", "other"];
    answer(&run);
    let both = answer(&["report", "--summary-only", "list", "t.rkcov"]);
    assert!(both.contains("saves.c"), "{both}");

    // A list that was cut.
    let whole = std::fs::read(lab.path("list")).unwrap();
    std::fs::write(lab.path("cut"), &whole[..whole.len() - 3]).unwrap();
    let (well, text) = said(&["report", "cut"]);
    assert!(!well && text.contains("--salvage"), "{text}");
    let kept = answer(&["report", "--salvage", "--by", "context", "cut"]);
    assert!(kept.contains("DELETE"), "{kept}");
}
