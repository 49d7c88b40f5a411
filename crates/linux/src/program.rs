// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program of this machine needs to run on another with nothing on it.

use crate::error::{io_error, Error, Result};
use crate::flavor::Arch;
use object::elf::{Dyn64, DT_NEEDED, EM_386, EM_AARCH64, EM_X86_64, PT_INTERP};
use object::read::elf::{Dyn, ElfFile32, ElfFile64, FileHeader, ProgramHeader};
use object::Endianness;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// Finds a program as a shell does: by its path if it has a slash, else in the folders of `$PATH`.
///
/// # Errors
/// [`Error::NoProgram`] if there is none, [`Error::Program`] if there is only what cannot be run.
pub fn find(program: &OsStr) -> Result<PathBuf> {
    let is_program = |path: &Path| {
        fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    let candidates: Vec<PathBuf> = if program.as_bytes().contains(&b'/') {
        vec![PathBuf::from(program)]
    } else {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .map(|dir| dir.join(program))
            .collect()
    };
    if let Some(path) = candidates.iter().find(|path| is_program(path)) {
        return std::path::absolute(path).map_err(io_error(path));
    }
    let program = program.to_owned();
    Err(if candidates.iter().any(|path| path.exists()) {
        let why = String::from("it is not an executable file");
        Error::Program { program, why }
    } else {
        Error::NoProgram(program)
    })
}

/// The files without which `program` does not start, besides itself, by their paths in the guest: its
/// dynamic linker, and the libraries that this linker finds for it. None for a static program.
///
/// # Errors
/// [`Error::Program`] if it is no program for Linux on a machine that there are guests of, or lacks a
/// library.
pub fn libraries(program: &Path) -> Result<BTreeMap<PathBuf, PathBuf>> {
    let fail = |why: String| Error::Program {
        program: program.into(),
        why,
    };
    let data = fs::read(program).map_err(io_error(program))?;
    let elf = Elf::of(&data).map_err(fail)?;
    let Some(linker) = elf.linker else {
        return Ok(BTreeMap::new());
    };
    if elf.machine == Machine::Arm64 {
        return foreign_libraries(&data, &linker, Path::new(ARM64_LIBRARIES)).map_err(fail);
    }
    if !linker.is_file() {
        let why = format!("its dynamic linker, {}, is not here", linker.display());
        return Err(fail(why));
    }
    // The linker itself knows best what it will look for; this runs no code of the program's.
    let listed = Command::new(&linker)
        .arg("--list")
        .arg(program)
        .output()
        .map_err(io_error(&linker))?;
    let mut files = vec![linker];
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        // "libc.so.6 => /lib/libc.so.6 (0x7f...)"; the kernel's own has no file.
        let found = line
            .split_once("=>")
            .map_or(line, |(_, found)| found)
            .trim();
        let path = found.rsplit_once(" (0x").map_or(found, |(path, _)| path);
        if path == "not found" {
            return Err(fail(format!("it lacks a library: {}", line.trim())));
        }
        if path.starts_with('/') {
            files.push(PathBuf::from(path));
        }
    }
    if !listed.status.success() {
        // "PROGRAM: error while loading shared libraries: ..."
        let said = String::from_utf8_lossy(&listed.stderr);
        let named = format!("{}: ", program.display());
        let said = said.trim();
        return Err(fail(said.strip_prefix(&*named).unwrap_or(said).to_owned()));
    }
    Ok(files.into_iter().map(|file| (file.clone(), file)).collect())
}

/// Where Debian's cross compiler has the libraries of arm64 programs.
const ARM64_LIBRARIES: &str = "/usr/aarch64-linux-gnu/lib";

/// The libraries of a program whose dynamic linker does not run here. All are in one folder, and are
/// put beside the linker, where it looks.
fn foreign_libraries(
    program: &[u8],
    linker: &Path,
    folder: &Path,
) -> std::result::Result<BTreeMap<PathBuf, PathBuf>, String> {
    let mut found = BTreeMap::new();
    let mut wanted = needed(program)?;
    wanted.extend(linker.file_name().map(OsStr::to_owned));
    let beside = linker.parent().unwrap_or(linker);
    while let Some(name) = wanted.pop() {
        let (at, from) = (beside.join(&name), folder.join(&name));
        if found.contains_key(&at) {
            continue;
        }
        let data = fs::read(&from).map_err(|error| {
            let name = name.to_string_lossy();
            format!(
                "it lacks {name}: {}: {error} (libraries are looked for there only; others can be \
                 linked statically)",
                from.display()
            )
        })?;
        wanted.extend(needed(&data)?);
        found.insert(at, from);
    }
    Ok(found)
}

/// The names of the libraries that a file asks for.
fn needed(data: &[u8]) -> std::result::Result<Vec<OsString>, String> {
    let bad = |error: object::Error| error.to_string();
    let elf = ElfFile64::<Endianness>::parse(data).map_err(bad)?;
    let endian = elf.endian();
    let sections = elf.elf_section_table();
    let Some((entries, strings)) = sections.dynamic(endian, data).map_err(bad)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, data, strings).map_err(bad)?;
    let names = entries
        .iter()
        .filter(|entry| entry.tag(endian) == DT_NEEDED);
    let name = |entry: &Dyn64<Endianness>| {
        let name = entry.string(endian, strings).map_err(bad)?;
        Ok(OsStr::from_bytes(name).to_owned())
    };
    names.map(name).collect()
}

/// Whether a guest of this sort runs `program`.
///
/// # Errors
/// [`Error::Program`] if not.
pub fn fits(program: &Path, arch: Arch) -> Result<()> {
    let data = fs::read(program).map_err(io_error(program))?;
    let why = match (Elf::of(&data).map(|elf| elf.machine), arch) {
        (Ok(Machine::X86_64), Arch::X86_64 | Arch::Uml)
        | (Ok(Machine::I386), Arch::X86_64)
        | (Ok(Machine::Arm64), Arch::Arm64) => return Ok(()),
        (Ok(Machine::I386), Arch::Uml) => {
            String::from("it is a 32-bit program, which User Mode Linux does not run")
        }
        (Ok(machine), _) => format!(
            "it is a program for {}, and the guest is --arch {}",
            machine.name(),
            arch.name()
        ),
        (Err(why), _) => why,
    };
    Err(Error::Program {
        program: program.into(),
        why,
    })
}

/// A machine that a program is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    X86_64,
    I386,
    Arm64,
}

impl Machine {
    fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86-64",
            Self::I386 => "32-bit x86",
            Self::Arm64 => "arm64",
        }
    }
}

/// What the head of a program says.
struct Elf {
    machine: Machine,
    /// The dynamic linker that it asks for.
    linker: Option<PathBuf>,
}

impl Elf {
    fn of(data: &[u8]) -> std::result::Result<Self, String> {
        if data.starts_with(b"#!") {
            return Err(
                "it is a script; name its interpreter, and give the script as a file".into(),
            );
        }
        let (is_64, machine, linker) = if let Ok(elf) = ElfFile64::<Endianness>::parse(data) {
            let header = elf.elf_header();
            (
                true,
                header.e_machine(elf.endian()),
                interpreter_of(header, data),
            )
        } else if let Ok(elf) = ElfFile32::<Endianness>::parse(data) {
            let header = elf.elf_header();
            (
                false,
                header.e_machine(elf.endian()),
                interpreter_of(header, data),
            )
        } else {
            return Err("it is not an ELF file".into());
        };
        let machine = match (is_64, machine) {
            (true, EM_X86_64) => Machine::X86_64,
            (false, EM_386) => Machine::I386,
            (true, EM_AARCH64) => Machine::Arm64,
            _ => return Err("it is a program for another machine".into()),
        };
        Ok(Self { machine, linker })
    }
}

fn interpreter_of<H: FileHeader<Endian = Endianness>>(header: &H, data: &[u8]) -> Option<PathBuf> {
    let endian = header.endian().ok()?;
    let headers = header.program_headers(endian, data).ok()?;
    let name = headers
        .iter()
        .find(|h| h.p_type(endian) == PT_INTERP)?
        .data(endian, data)
        .ok()?;
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_needs_its_linker_and_libraries() {
        let me = env::current_exe().unwrap();
        let files = libraries(&me).unwrap();
        let has = |part: &str| files.keys().any(|f| f.to_string_lossy().contains(part));
        assert!(has("/ld-linux") && has("/libc.so"), "{files:?}");
        assert!(
            files.iter().all(|(at, from)| at == from && from.is_file()),
            "{files:?}"
        );
    }

    #[test]
    fn a_program_for_another_machine_gets_the_libraries_of_the_cross_compiler() {
        let dir = tempfile::TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        let gcc = |args: &[&str]| {
            let mut gcc = Command::new("aarch64-linux-gnu-gcc");
            let done = gcc.current_dir(&dir).args(args).status();
            let done = done.expect("on Debian: apt-get install gcc-aarch64-linux-gnu");
            assert!(done.success(), "{args:?}");
        };
        fs::write(at("lib.c"), "int f(void) { return 0; }").unwrap();
        fs::write(at("main.c"), "int f(void); int main(void) { return f(); }").unwrap();
        gcc(&["-shared", "-fPIC", "-o", "libf.so", "lib.c"]);
        gcc(&["-o", "lacking", "main.c", "libf.so"]);
        gcc(&["-o", "dynamic", "main.c", "lib.c"]);
        gcc(&["-static", "-o", "static", "main.c", "lib.c"]);
        let files = libraries(&at("dynamic")).unwrap();
        let names: Vec<_> = files.keys().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(names, ["/lib/ld-linux-aarch64.so.1", "/lib/libc.so.6"]);
        let folder = Path::new(ARM64_LIBRARIES);
        assert!(files
            .values()
            .all(|from| from.parent() == Some(folder) && from.is_file()));
        assert_eq!(libraries(&at("static")).unwrap(), BTreeMap::new());
        fits(&at("dynamic"), Arch::Arm64).unwrap();
        let error = libraries(&at("lacking")).unwrap_err().to_string();
        assert!(error.contains("it lacks libf.so"), "{error}");
    }

    /// The head of a static program without a segment: of class 1, 32 bits, or 2.
    fn head(class: u8, machine: u16) -> Vec<u8> {
        let mut head = vec![0x7f, b'E', b'L', b'F', class, 1, 1];
        head.resize(16, 0);
        for half in [2, machine, 1, 0] {
            head.extend(half.to_le_bytes());
        }
        head.resize(64, 0);
        head
    }

    #[test]
    fn what_lacks_a_library_or_its_linker_is_said() {
        let dir = tempfile::TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        let gcc = |args: &[&str]| {
            let mut gcc = Command::new("gcc");
            let done = gcc.current_dir(&dir).args(args).status().unwrap();
            assert!(done.success(), "{args:?}");
        };
        fs::write(at("lib.c"), "int f(void) { return 0; }").unwrap();
        fs::write(at("main.c"), "int f(void); int main(void) { return f(); }").unwrap();
        gcc(&["-shared", "-fPIC", "-o", "libf.so", "lib.c"]);
        gcc(&["-o", "lacking", "main.c", "libf.so"]);
        let linker = "-Wl,--dynamic-linker=/no/such/ld.so";
        gcc(&["-o", "unlinked", "main.c", "lib.c", linker]);
        for (program, why) in [
            ("lacking", "libf.so"),
            (
                "unlinked",
                "its dynamic linker, /no/such/ld.so, is not here",
            ),
        ] {
            let error = libraries(&at(program)).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(error.exit_status(), 126);
        }
    }

    #[test]
    fn what_cannot_run_is_said() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("x");
        for (content, why) in [("#!/bin/sh\n", "script"), ("hello", "ELF")] {
            fs::write(&file, content).unwrap();
            let error = libraries(&file).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        fs::write(&file, head(1, EM_386.0)).unwrap();
        assert_eq!(libraries(&file).unwrap(), BTreeMap::new());
        fits(&file, Arch::X86_64).unwrap();
        let error = fits(&file, Arch::Uml).unwrap_err().to_string();
        assert!(error.contains("32-bit"), "{error}");
        fs::write(&file, head(2, EM_AARCH64.0)).unwrap();
        fits(&file, Arch::Arm64).unwrap();
        let error = fits(&file, Arch::X86_64).unwrap_err().to_string();
        assert!(
            error.contains("for arm64, and the guest is --arch x86-64"),
            "{error}"
        );
        // As RISC-V has it, and a class of neither.
        for (content, why) in [(head(2, 243), "another machine"), (head(3, 62), "ELF")] {
            fs::write(&file, content).unwrap();
            for error in [
                libraries(&file).unwrap_err(),
                fits(&file, Arch::Uml).unwrap_err(),
            ] {
                assert!(error.to_string().contains(why), "{error}");
                assert_eq!(error.exit_status(), 126);
            }
        }
        fs::write(&file, "hello").unwrap();
        let status = |name: &OsStr| find(name).unwrap_err().exit_status();
        assert_eq!(status(OsStr::new("./no/such")), 127);
        assert_eq!(status(OsStr::new("no-such-in-any-folder")), 127);
        assert_eq!(status(file.as_os_str()), 126);
        assert_eq!(status(OsStr::new("/")), 126);
        assert_eq!(libraries(&file).unwrap_err().exit_status(), 126);
        assert!(find(OsStr::new("sh")).unwrap().is_absolute());
    }
}
