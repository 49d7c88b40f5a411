// SPDX-License-Identifier: MIT OR Apache-2.0
//! Modules of the kernel: what can be loaded, and an image of each that reports can read.
//!
//! The kernel links a module when it loads it, and places each of its sections by itself. Reports read linked files. So
//! a module is linked here once, with each section at an address of its own, and its place in a guest is told section
//! by section.

use crate::error::{io_error, Error, Result};
use crate::flavor::Arch;
use crate::kernel::Image;
use crate::progress::{run_logged, Progress};
use crate::setup::{Workshop, LLVM};
use object::{
    elf, File, Object, ObjectKind, ObjectSection, ObjectSymbol, SectionFlags, SectionKind,
};
use rkcov_guest::module::{hex, FIRST};
use rkcov_guest::{Loaded, Modules};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A module's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Where it is.
    pub path: PathBuf,
    /// What the kernel calls it.
    pub name: String,
    /// The linker's identity of the file, if it has one.
    pub build_id: Vec<u8>,
    /// The modules that must be loaded before.
    pub needs: Vec<String>,
}

impl Module {
    /// Reads what a module says of itself.
    ///
    /// # Errors
    /// [`Error::Module`] if it is none for guests of this sort.
    pub fn open(path: &Path, arch: Arch) -> Result<Self> {
        let fail = |why: &str| Error::Module {
            module: path.to_owned(),
            why: why.to_owned(),
        };
        let path = std::path::absolute(path).map_err(io_error(path))?;
        let data = fs::read(&path).map_err(io_error(&path))?;
        let none = "it is not a module of Linux, as the build makes them: NAME.ko, not compressed";
        let file = File::parse(&*data).map_err(|_| fail(none))?;
        let information = file
            .section_by_name(".modinfo")
            .filter(|_| file.kind() == ObjectKind::Relocatable)
            .and_then(|section| section.data().ok())
            .ok_or_else(|| fail(none))?;
        if file.architecture() != arch.processor() {
            return Err(fail("it is a module for another machine than the guest's"));
        }
        let value = |key: &str| {
            let mut all = information.split(|byte| *byte == 0);
            let found = all.find_map(|entry| entry.strip_prefix(key.as_bytes()))?;
            Some(String::from_utf8_lossy(found).into_owned())
        };
        let needs = value("depends=").unwrap_or_default();
        let needs = needs.split(',').filter(|name| !name.is_empty());
        Ok(Self {
            name: value("name=").unwrap_or_else(|| called(&path)),
            build_id: file.build_id().ok().flatten().unwrap_or_default().to_vec(),
            needs: needs.map(plain).collect(),
            path,
        })
    }

    /// Whether the kernel loaded this file, and not another of that name.
    fn is(&self, loaded: &Loaded) -> bool {
        *self.name == *loaded.name
            && (loaded.build_id.is_empty() || loaded.build_id == self.build_id)
    }
}

/// A module's name as the kernel has it: a minus is the same as a low line.
fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// The name of the module in this file.
fn called(path: &Path) -> String {
    plain(&path.file_stem().unwrap_or_default().to_string_lossy())
}

/// The modules that were built with a kernel.
#[derive(Debug, Default)]
pub struct Shelf(HashMap<String, PathBuf>);

impl Shelf {
    /// Those of this image. What the user built is with the user.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn of(image: &Image) -> Result<Self> {
        let folder = image.modules();
        if image.is_own() || !folder.is_dir() {
            return Ok(Self::default());
        }
        let entries = fs::read_dir(&folder).map_err(io_error(&folder))?;
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(Self(paths.map(|path| (called(&path), path)).collect()))
    }

    /// The file of the module that is called so.
    #[must_use]
    pub fn get(&self, name: &OsStr) -> Option<&Path> {
        let path = self.0.get(&plain(name.to_str()?));
        path.map(PathBuf::as_path)
    }

    /// These modules in an order in which they can be loaded, with those from here that they need.
    ///
    /// # Errors
    /// A file from here cannot be read.
    pub fn complete(&self, modules: Vec<Module>, arch: Arch) -> Result<Vec<Module>> {
        let mut order = Order {
            shelf: self,
            arch,
            given: modules
                .iter()
                .map(|module| (module.name.clone(), module.clone()))
                .collect(),
            seen: HashSet::new(),
            sorted: Vec::new(),
        };
        modules
            .into_iter()
            .try_for_each(|module| order.add(module))?;
        Ok(order.sorted)
    }
}

/// An order in which modules can be loaded.
struct Order<'a> {
    shelf: &'a Shelf,
    arch: Arch,
    given: HashMap<String, Module>,
    seen: HashSet<String>,
    sorted: Vec<Module>,
}

impl Order<'_> {
    /// Adds what a module needs, then the module. What is nowhere the kernel will miss, and say so.
    fn add(&mut self, module: Module) -> Result<()> {
        if !self.seen.insert(module.name.clone()) {
            return Ok(());
        }
        for name in &module.needs {
            let needed = match (self.given.get(name), self.shelf.get(OsStr::new(name))) {
                (Some(given), _) => given.clone(),
                (None, Some(path)) => Module::open(path, self.arch)?,
                (None, None) => continue,
            };
            self.add(needed)?;
        }
        self.sorted.push(module);
        Ok(())
    }
}

/// Code of a module, as a trace has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The linked module.
    pub path: PathBuf,
    /// The linker's identity of the module.
    pub build_id: Vec<u8>,
    /// Where kcov says that the code was.
    pub range: Range<u64>,
    /// The difference to where it is in the file.
    pub bias: u64,
}

/// Modules that were loaded, as the guest saw them.
#[derive(Debug, Default)]
pub struct Seen {
    first: Option<u64>,
    /// With whether each was there before the program.
    loaded: Vec<(Loaded, bool)>,
}

impl Seen {
    /// Takes what the guest says, for the first time before the program runs.
    pub fn take(&mut self, modules: Modules, before: bool) {
        self.first = self.first.or(modules.first);
        for loaded in modules.loaded {
            if !self.loaded.iter().any(|(known, _)| *known == loaded) {
                self.loaded.push((loaded, before));
            }
        }
    }

    /// The names of those of which no file is here.
    #[must_use]
    pub fn unknown(&self, modules: &[Module]) -> Vec<OsString> {
        let known = |loaded: &Loaded| modules.iter().any(|module| module.is(loaded));
        let unknown = self.loaded.iter().filter(|(loaded, _)| !known(loaded));
        unknown.map(|(loaded, _)| loaded.name.clone()).collect()
    }
}

impl Workshop {
    /// The code of those modules that were seen. Each is linked if that was not done before.
    ///
    /// # Errors
    /// A file cannot be read, or a module not be linked.
    pub fn parts(
        &self,
        seen: &Seen,
        modules: &[Module],
        image: &Image,
        progress: &Progress,
    ) -> Result<Vec<Part>> {
        let mut all: Vec<(Part, bool)> = Vec::new();
        if seen.loaded.is_empty() {
            return Ok(Vec::new());
        }
        let kernel = Symbols::of(&image.vmlinux)?;
        // kcov's addresses are those of a kernel that was loaded where it was linked for.
        let moved = match (seen.first, kernel.first()) {
            (Some(now), Some(linked)) => now.wrapping_sub(linked),
            _ => 0,
        };
        for (loaded, before) in &seen.loaded {
            let Some(module) = modules.iter().find(|module| module.is(loaded)) else {
                continue;
            };
            let path = self.linked(module, &kernel, progress)?;
            for (name, linked) in code(&path)? {
                let placed = loaded.sections.iter().find(|(of, _)| *of == *name);
                let Some((_, at)) = placed else { continue };
                let start = at.wrapping_sub(moved);
                let once = name.starts_with(".init");
                // Ran when nobody recorded, and others may be in its place now.
                if once && *before {
                    continue;
                }
                let size = linked.end - linked.start;
                let part = Part {
                    path: path.clone(),
                    build_id: module.build_id.clone(),
                    range: start..start.saturating_add(size),
                    bias: start.wrapping_sub(linked.start),
                };
                all.push((part, once));
            }
        }
        let stays: Vec<Range<u64>> = all
            .iter()
            .filter(|(_, once)| !once)
            .map(|(part, _)| part.range.clone())
            .collect();
        // What runs once is given back, and others may have got it.
        let taken = |range: &Range<u64>| {
            let mut stays = stays.iter();
            stays.any(|other| range.start < other.end && other.start < range.end)
        };
        all.retain(|(part, once)| !(*once && taken(&part.range)));
        Ok(all.into_iter().map(|(part, _)| part).collect())
    }

    /// The linked module, made if it is not there.
    fn linked(&self, module: &Module, kernel: &Symbols, progress: &Progress) -> Result<PathBuf> {
        let data = fs::read(&module.path).map_err(io_error(&module.path))?;
        let bad = |error: object::Error| Error::Module {
            module: module.path.clone(),
            why: error.to_string(),
        };
        let file = File::parse(&*data).map_err(bad)?;
        let script = script(&file, kernel);
        let mut hasher = DefaultHasher::new();
        (&data, &script).hash(&mut hasher);
        let folder = self
            .root()
            .join("modules")
            .join(format!("{:016x}", hasher.finish()));
        let linked = folder.join(format!("{}.ko", module.name));
        if linked.is_file() {
            return Ok(linked);
        }
        fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let (rules, partial) = (
            folder.join("rules"),
            // Somebody else may link it at the same time.
            folder.join(format!("partial-{}", std::process::id())),
        );
        fs::write(&rules, script).map_err(io_error(&rules))?;
        let mut ld = Command::new(format!("ld.lld-{LLVM}"));
        // The linker makes a note of its own.
        ld.arg(match &*module.build_id {
            [] => "--build-id=none".to_owned(),
            id => format!("--build-id=0x{}", hex(id)),
        });
        ld.args(["-static", "--entry=0", "--noinhibit-exec", "--no-warnings"])
            .args(["--unresolved-symbols=ignore-all", "--script"])
            .arg(&rules)
            .arg("-o")
            .arg(&partial)
            .arg(&module.path);
        let log = self.logs()?.join("link-module.log");
        let _ = fs::remove_file(&log);
        let what = format!("linking {} for reports", module.name);
        run_logged(&mut ld, &what, &log, progress)?;
        fs::rename(&partial, &linked).map_err(io_error(&linked))?;
        Ok(linked)
    }
}

/// The symbols of a kernel that modules may use.
struct Symbols {
    addresses: HashMap<String, u64>,
    end: u64,
}

impl Symbols {
    fn of(vmlinux: &Path) -> Result<Self> {
        let data = fs::read(vmlinux).map_err(io_error(vmlinux))?;
        let bad = |error: object::Error| io_error(vmlinux)(std::io::Error::other(error));
        let file = File::parse(&*data).map_err(bad)?;
        let global = file
            .symbols()
            .filter(|symbol| symbol.is_global() && !symbol.is_undefined());
        let addresses: HashMap<String, u64> = global
            .filter_map(|symbol| Some((symbol.name().ok()?.to_owned(), symbol.address())))
            .collect();
        let sections = file.sections();
        let end = addresses.get("_end").copied();
        Ok(Self {
            end: end.unwrap_or_else(|| sections.map(|s| s.address() + s.size()).max().unwrap_or(0)),
            addresses,
        })
    }

    fn first(&self) -> Option<u64> {
        self.addresses.get(FIRST).copied()
    }
}

/// The linker's script for a module: its sections as they are, behind the kernel, which its code can reach; and, at
/// their addresses, the symbols of the kernel that it uses.
fn script(module: &File<'_>, kernel: &Symbols) -> String {
    /// Nothing smaller is ever aligned to more.
    const ALIGNMENT: u64 = 1 << 21;
    let first = kernel.first().unwrap_or(0);
    let mut script = String::from("SECTIONS {\n");
    // Relative to a section: reports take others for no code.
    let _ = writeln!(script, "  .kernel {first:#x} (NOLOAD) : {{");
    let mut used: Vec<&str> = module
        .symbols()
        .filter(|symbol| symbol.is_undefined())
        .filter_map(|symbol| symbol.name().ok())
        .filter(|name| !name.is_empty())
        .collect();
    used.sort_unstable();
    used.dedup();
    for name in used {
        // What another module has is at no known place; somewhere that can be reached.
        let at = kernel.addresses.get(name).copied().unwrap_or(first);
        let offset = at.wrapping_sub(first);
        let _ = writeln!(script, "    \"{name}\" = . + {offset:#x};");
    }
    let _ = writeln!(script, "    . = . + 1;\n  }}");
    let behind = kernel.end.next_multiple_of(ALIGNMENT);
    let _ = writeln!(script, "  . = {behind:#x};");
    let mut seen = HashSet::new();
    for section in module.sections().filter(is_loaded) {
        if let Ok(name) = section.name() {
            if seen.insert(name.to_owned()) {
                let _ = writeln!(script, "  \"{name}\" : {{ *(\"{name}\") }}");
            }
        }
    }
    script.push_str("}\n");
    script
}

/// Whether a section is in memory when the module is loaded.
fn is_loaded(section: &object::Section<'_, '_>) -> bool {
    match section.flags() {
        SectionFlags::Elf { sh_flags, .. } => {
            section.size() > 0 && sh_flags.contains(elf::SHF_ALLOC)
        }
        _ => false,
    }
}

/// The sections of code of a linked module.
fn code(linked: &Path) -> Result<Vec<(String, Range<u64>)>> {
    let data = fs::read(linked).map_err(io_error(linked))?;
    let bad = |error: object::Error| io_error(linked)(std::io::Error::other(error));
    let file = File::parse(&*data).map_err(bad)?;
    let code = file
        .sections()
        .filter(|section| section.kind() == SectionKind::Text && section.size() > 0);
    Ok(code
        .filter_map(|section| {
            let start = section.address();
            let range = start..start.saturating_add(section.size());
            Some((section.name().ok()?.to_owned(), range))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// An object that says it is a module.
    fn module(dir: &TempDir, name: &str, needs: &str) -> PathBuf {
        let source = format!(
            "#define SAY(n, t) static const char n[] __attribute__((section(\".modinfo\"), used)) = t;\n\
             SAY(a, \"license=GPL\") SAY(b, \"depends={needs}\") SAY(c, \"name={name}\")\n\
             int kernels(void); int nobodys(void); int here;\n\
             int f(void) {{ return kernels() + nobodys(); }}\n\
             __attribute__((section(\".init.text\"))) int g(void) {{ return here; }}\n"
        );
        let (c, ko) = (format!("{name}.c"), format!("{name}.ko"));
        fs::write(dir.path().join(&c), source).unwrap();
        let mut gcc = Command::new("gcc");
        let gcc = gcc
            .current_dir(dir)
            .args(["-g", "-c", "-fno-pic", "-o", &ko]);
        assert!(gcc.arg(&c).status().unwrap().success());
        dir.path().join(ko)
    }

    #[test]
    fn what_is_no_module_is_said() {
        let dir = TempDir::new().unwrap();
        let path = module(&dir, "hello", "");
        let found = Module::open(&path, Arch::X86_64).unwrap();
        assert_eq!((&*found.name, found.needs.len()), ("hello", 0));
        let error = Module::open(&path, Arch::Arm64).unwrap_err().to_string();
        assert!(error.contains("another machine"), "{error}");
        let text = dir.path().join("text.ko");
        fs::write(&text, "text").unwrap();
        let me = std::env::current_exe().unwrap();
        for (path, why) in [
            (text, "not a module of Linux"),
            (me, "not a module of Linux"),
            (dir.path().join("none.ko"), "none.ko: No such file"),
        ] {
            let error = Module::open(&path, Arch::Uml).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once() {
        let dir = TempDir::new().unwrap();
        let shelf = ["a", "b", "other"].map(|name| {
            let needs = if name == "b" { "a,nowhere" } else { "" };
            (name.to_owned(), module(&dir, name, needs))
        });
        let shelf = Shelf(HashMap::from(shelf));
        let given = ["c", "d"].map(|name| {
            let needs = if name == "c" { "b,d" } else { "b" };
            let path = module(&dir, name, needs);
            Module::open(&path, Arch::X86_64).unwrap()
        });
        let order = shelf.complete(given.into(), Arch::X86_64).unwrap();
        let names: Vec<&str> = order.iter().map(|module| &*module.name).collect();
        assert_eq!(names, ["a", "b", "d", "c"]);
        assert!(shelf.get(OsStr::new("none")).is_none());
    }

    #[test]
    fn a_module_is_linked_behind_the_kernel_section_by_section() {
        let dir = TempDir::new().unwrap();
        let data = fs::read(module(&dir, "hello", "")).unwrap();
        let kernel = Symbols {
            addresses: [("_text", 0x100_0000), ("kernels", 0x100_0040)]
                .map(|(name, at)| (name.to_owned(), at))
                .into(),
            end: 0x123_4567,
        };
        let script = script(&File::parse(&*data).unwrap(), &kernel);
        for line in [
            "  .kernel 0x1000000 (NOLOAD) : {",
            "    \"kernels\" = . + 0x40;",
            "    \"nobodys\" = . + 0x0;",
            "  . = 0x1400000;",
            "  \".text\" : { *(\".text\") }",
            "  \".init.text\" : { *(\".init.text\") }",
        ] {
            assert!(script.lines().any(|l| l == line), "{line}: {script}");
        }
        assert!(!script.contains(".debug"), "{script}");
    }

    #[test]
    fn modules_are_told_by_their_name_and_build_id() {
        let of = |build_id: &[u8]| Module {
            path: "/hello.ko".into(),
            name: "hello".into(),
            build_id: build_id.to_vec(),
            needs: Vec::new(),
        };
        let loaded = |name: &str, build_id: &[u8]| Loaded {
            name: name.into(),
            build_id: build_id.to_vec(),
            sections: Vec::new(),
        };
        let mut seen = Seen::default();
        let modules = |loaded| Modules {
            first: Some(1),
            loaded,
        };
        seen.take(modules(vec![loaded("hello", &[1])]), true);
        seen.take(
            modules(vec![loaded("hello", &[1]), loaded("late", &[])]),
            false,
        );
        let before: Vec<bool> = seen.loaded.iter().map(|(_, before)| *before).collect();
        assert_eq!(before, [true, false]);
        assert_eq!(seen.unknown(&[of(&[1])]), ["late"]);
        assert_eq!(seen.unknown(&[of(&[2])]), ["hello", "late"]);
        // A kernel without notes.
        assert!(of(&[2]).is(&loaded("hello", &[])));
    }
}
