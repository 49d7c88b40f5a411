// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a program of this machine needs to run on another with nothing on it.

use crate::error::{io_error, Error, Result};
use crate::flavor::Arch;
use object::elf::{EM_386, EM_X86_64, PT_INTERP};
use object::read::elf::{ElfFile32, ElfFile64, FileHeader, ProgramHeader};
use object::Endianness;
use std::ffi::OsStr;
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

/// The files without which `program` does not start, besides itself: its dynamic linker, and the
/// libraries that this linker finds for it. None for a static program.
///
/// # Errors
/// [`Error::Program`] if it is no program for a PC's Linux, or lacks a library.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let fail = |why: String| Error::Program {
        program: program.into(),
        why,
    };
    let data = fs::read(program).map_err(io_error(program))?;
    let Some(linker) = Elf::of(&data).map_err(fail)?.linker else {
        return Ok(Vec::new());
    };
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
    files.sort();
    files.dedup();
    Ok(files)
}

/// Whether a guest of this sort runs `program`.
///
/// # Errors
/// [`Error::Program`] if not.
pub fn fits(program: &Path, arch: Arch) -> Result<()> {
    let data = fs::read(program).map_err(io_error(program))?;
    let elf = Elf::of(&data);
    let why = match (elf, arch) {
        (Ok(elf), Arch::Uml) if !elf.is_64 => {
            String::from("it is a 32-bit program, which User Mode Linux does not run")
        }
        (Ok(_), _) => return Ok(()),
        (Err(why), _) => why,
    };
    Err(Error::Program {
        program: program.into(),
        why,
    })
}

/// What the head of a program says.
struct Elf {
    is_64: bool,
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
        match (is_64, machine) {
            (true, EM_X86_64) | (false, EM_386) => Ok(Self { is_64, linker }),
            _ => Err("it is a program for another machine".into()),
        }
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
        let has = |part: &str| files.iter().any(|f| f.to_string_lossy().contains(part));
        assert!(has("/ld-linux") && has("/libc.so"), "{files:?}");
        assert!(files.iter().all(|f| f.is_file()), "{files:?}");
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
        assert_eq!(libraries(&file).unwrap(), [""; 0].map(PathBuf::from));
        fits(&file, Arch::X86_64).unwrap();
        let error = fits(&file, Arch::Uml).unwrap_err().to_string();
        assert!(error.contains("32-bit"), "{error}");
        // As aarch64 has it, and a class of neither.
        for (content, why) in [(head(2, 183), "another machine"), (head(3, 62), "ELF")] {
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
