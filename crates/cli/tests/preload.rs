// SPDX-License-Identifier: MIT OR Apache-2.0
//! `rkcov preload`, on programs that know Linux's kcov only.

use std::path::Path;
use std::process::{Command, Output};

const CLIENT: &str = r#"
#include <fcntl.h>
#include <linux/kcov.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

void work(void);

int main(void)
{
	int fd = open("/sys/kernel/debug/kcov", O_RDWR);
	unsigned long *cover;

	if (fd < 0 || ioctl(fd, KCOV_INIT_TRACE, 512))
		return 3;
	cover = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (cover == MAP_FAILED || ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
		return 4;
	work();
	ioctl(fd, KCOV_DISABLE, 0);
	printf("%lu\n", cover[0]);
	return 5;
}
"#;

fn rkcov(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rkcov"))
        .args(arguments)
        .current_dir(folder)
        .env("RKCOV_CACHE_DIR", folder.join("cache"))
        .output()
        .unwrap()
}

#[test]
fn a_client_of_the_kernels_collects_from_its_own_libraries() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("client.c"), CLIENT).unwrap();
    std::fs::write(file("work.c"), "void work(void)\n{\n}\n").unwrap();
    let built = rkcov(
        folder.path(),
        &["cc", "-shared", "-fPIC", "work.c", "-o", "libwork.so"],
    );
    assert!(built.status.success(), "{built:?}");
    let linked = Command::new("gcc")
        .args([
            "client.c",
            "-L.",
            "-lwork",
            "-Wl,-rpath,$ORIGIN",
            "-o",
            "client",
        ])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(linked.success());

    let ran = rkcov(folder.path(), &["preload", "./client"]);
    assert_eq!(ran.status.code(), Some(5), "{ran:?}");
    assert_eq!(ran.stdout, b"1\n");
}

#[test]
fn programs_that_cannot_be_run() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text"), "").unwrap();
    for (program, status) in [("./no-such-program", 127), ("./text", 126)] {
        let ran = rkcov(folder.path(), &["preload", program]);
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(status), "{said}");
        assert!(said.contains(program), "{said}");
    }
}

/// Compiles `main() { return 7; }`, or what is said instead.
fn compile(folder: &Path, name: &str, source: &str, flags: &[&str]) {
    std::fs::write(folder.join("source.c"), source).unwrap();
    let compiled = Command::new("gcc")
        .args(flags)
        .args(["source.c", "-o", name])
        .current_dir(folder)
        .status()
        .unwrap();
    assert!(compiled.success());
}

#[test]
fn programs_that_load_no_library() {
    const SEVEN: &str = "int main(void)\n{\n\treturn 7;\n}\n";
    let folder = tempfile::tempdir().unwrap();
    let says = |program: &str| {
        let ran = rkcov(folder.path(), &["preload", program]);
        let said = String::from_utf8(ran.stderr).unwrap();
        (ran.status.code(), said)
    };

    compile(folder.path(), "plain", SEVEN, &[]);
    assert_eq!(says("./plain"), (Some(7), String::new()));
    std::fs::write(folder.path().join("script"), "#!/bin/sh\nexit 6\n").unwrap();
    Command::new("chmod")
        .arg("+x")
        .arg(folder.path().join("script"))
        .status()
        .unwrap();
    assert_eq!(says("./script"), (Some(6), String::new()));

    compile(folder.path(), "static", SEVEN, &["-static"]);
    let (status, said) = says("./static");
    assert_eq!(status, Some(7));
    assert!(said.contains("./static is a static program"), "{said}");

    // Not every kernel runs it.
    let start = "__asm__(\".globl _start\\n_start: mov $1, %eax; mov $7, %ebx; int $0x80\");\n";
    if cfg!(target_arch = "x86_64") {
        compile(
            folder.path(),
            "narrow",
            start,
            &["-m32", "-static", "-nostdlib"],
        );
        let (status, said) = says("./narrow");
        assert!(matches!(status, Some(7 | 126)), "{status:?} {said}");
        assert!(said.contains("32-bit program"), "{said}");
    }

    // Only root can make a file another's.
    let file = folder.path().join("plain");
    if std::os::unix::fs::chown(&file, Some(65534), None).is_ok() {
        Command::new("chmod")
            .arg("u+s")
            .arg(&file)
            .status()
            .unwrap();
        let (status, said) = says("./plain");
        assert_eq!(status, Some(7), "{said}");
        assert!(said.contains("setuid"), "{said}");
    }
}
