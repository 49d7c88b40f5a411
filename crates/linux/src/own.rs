// SPDX-License-Identifier: MIT OR Apache-2.0
//! A kernel that the user built: nothing is built for it, so what it lacks is looked for before it is booted.

use crate::boot::{machine, Wanted};
use crate::error::{io_error, Error, Result};
use crate::flavor::{Arch, Checks, Flavor, Kcov};
use crate::kernel::Image;
use crate::progress::Progress;
use crate::setup::Workshop;
use crate::verify;
use flate2::read::GzDecoder;
use gimli::{EndianSlice, RunTimeEndian, SectionId};
use memchr::memmem;
use object::{File, Object, ObjectSection, ObjectSymbol};
use rkcov_guest::module::hex;
use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A kernel and what belongs to it.
#[derive(Clone, Debug)]
pub struct Own {
    /// What it runs on.
    pub arch: Arch,
    /// What boots.
    pub kernel: PathBuf,
    /// The same with symbols and debug information.
    pub vmlinux: PathBuf,
}

/// An option that a guest's kernel needs, and a symbol that it has then.
struct Need {
    option: &'static str,
    /// `None` if there is none in all versions.
    symbol: Option<&'static str>,
}

const fn need(option: &'static str, symbol: &'static str) -> Need {
    Need {
        option,
        symbol: Some(symbol),
    }
}

const fn silent(option: &'static str) -> Need {
    Need {
        option,
        symbol: None,
    }
}

/// What every guest needs: the first file system, the places that the first process mounts, and what it uses itself.
const ALWAYS: [Need; 9] = [
    need("CONFIG_BLK_DEV_INITRD", "initrd_start"),
    need("CONFIG_BINFMT_ELF", "load_elf_binary"),
    need("CONFIG_DEVTMPFS", "devtmpfs_create_node"),
    need("CONFIG_PROC_FS", "proc_create"),
    need("CONFIG_SYSFS", "sysfs_create_file_ns"),
    need("CONFIG_DEBUG_FS", "debugfs_initialized"),
    need("CONFIG_UNIX98_PTYS", "devpts_new_index"),
    need("CONFIG_SIGNALFD", "signalfd_cleanup"),
    silent("CONFIG_FUTEX"),
];

/// How it talks to the host under QEMU.
const QEMU: [Need; 2] = [
    need("CONFIG_VIRTIO_PCI", "virtio_pci_probe"),
    need("CONFIG_VIRTIO_CONSOLE", "virtcons_probe"),
];
/// Where its messages go, by which one sees why it does not start.
const PC: [Need; 1] = [need(
    "CONFIG_SERIAL_8250_CONSOLE",
    "serial8250_console_setup",
)];
const BOARD: [Need; 1] = [need(
    "CONFIG_SERIAL_AMBA_PL011_CONSOLE",
    "pl011_console_setup",
)];
const UML: [Need; 3] = [
    need("CONFIG_HOSTFS", "hostfs_statfs"),
    need("CONFIG_SSL", "ssl_init"),
    silent("CONFIG_NULL_CHAN"),
];

/// What records.
const RECORD: [Need; 1] = [need("CONFIG_KCOV", "__sanitizer_cov_trace_pc")];
/// Without it there are no lines.
const LINES: &str = "CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT";
const SHARE: [Need; 2] = [
    need("CONFIG_NET_9P_VIRTIO", "p9_virtio_probe"),
    need("CONFIG_9P_FS", "v9fs_session_init"),
];
const NETWORK: [Need; 2] = [
    need("CONFIG_VIRTIO_NET", "virtnet_probe"),
    need("CONFIG_IP_PNP", "ip_auto_config"),
];
/// The symbols tell where the modules lie.
const MODULES: [Need; 2] = [
    need("CONFIG_MODULES", "register_module_notifier"),
    need("CONFIG_KALLSYMS", "kallsyms_lookup_name"),
];

/// What such a guest needs.
fn needs(arch: Arch, wanted: Wanted) -> impl Iterator<Item = &'static Need> {
    let (wire, console): (&[Need], &[Need]) = match arch {
        Arch::X86_64 => (&QEMU, &PC),
        Arch::Arm64 => (&QEMU, &BOARD),
        Arch::Uml => (&[], &UML),
    };
    let optional = |is_wanted: bool, needs: &'static [Need]| if is_wanted { needs } else { &[] };
    [
        &ALWAYS,
        wire,
        console,
        optional(wanted.record, &RECORD),
        optional(wanted.share && arch != Arch::Uml, &SHARE),
        optional(wanted.network, &NETWORK),
        optional(wanted.modules, &MODULES),
    ]
    .into_iter()
    .flatten()
}

impl Own {
    /// Says what of such a guest cannot be.
    ///
    /// # Errors
    /// The files are not those of such a kernel, or it lacks what a guest needs.
    pub fn check(&self, wanted: Wanted) -> Result<()> {
        machine(self.arch, wanted)?;
        self.check_kernel()?;
        let data = fs::read(&self.vmlinux).map_err(io_error(&self.vmlinux))?;
        let elf = self.vmlinux(&data)?;
        let missing = missing(&elf, &data, self.arch, wanted);
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Error::Lacks {
                vmlinux: self.vmlinux.clone(),
                options: missing,
            })
        }
    }

    fn check_kernel(&self) -> Result<()> {
        let mut head = Vec::new();
        let file = fs::File::open(&self.kernel).map_err(io_error(&self.kernel))?;
        let read = file.take(HEAD).read_to_end(&mut head);
        read.map_err(io_error(&self.kernel))?;
        match (Kind::of(&head), self.arch) {
            (Some(Kind::BzImage), Arch::X86_64)
            | (Some(Kind::Image | Kind::Gzip), Arch::Arm64)
            | (Some(Kind::Elf), Arch::Uml) => Ok(()),
            (kind, arch) => Err(Error::NoKernel {
                kernel: self.kernel.clone(),
                why: match kind {
                    Some(Kind::BzImage) => "it is a bzImage, for --arch x86-64",
                    Some(Kind::Image) => "it is an Image for --arch arm64",
                    Some(Kind::Elf) if arch == Arch::X86_64 => {
                        "it is an ELF file, as User Mode Linux is (--arch uml); a PC boots arch/x86/boot/bzImage"
                    }
                    Some(Kind::Elf) => "it is an ELF file; the board boots arch/arm64/boot/Image",
                    Some(Kind::Gzip) | None => match arch {
                        Arch::X86_64 => "it is no bzImage; the build makes arch/x86/boot/bzImage",
                        Arch::Arm64 => "it is no Image; the build makes arch/arm64/boot/Image",
                        Arch::Uml => "it is no program; the build makes \"linux\"",
                    },
                },
            }),
        }
    }

    /// Opens `vmlinux`, whose content this is.
    fn vmlinux<'a>(&self, data: &'a [u8]) -> Result<File<'a>> {
        let fail = |why: &'static str| Error::NoKernel {
            kernel: self.vmlinux.clone(),
            why,
        };
        let elf = File::parse(data).map_err(|_| {
            fail("it is not an ELF file; --vmlinux is the file vmlinux at the top of the build")
        })?;
        if elf.architecture() != self.arch.processor() {
            Err(fail("it is for another machine than --arch says"))
        } else if elf.symbol_table().is_none() {
            Err(fail(
                "it has no symbols; --vmlinux is the file vmlinux at the top of the build",
            ))
        } else {
            Ok(elf)
        }
    }
}

impl Workshop {
    /// The image of a kernel that was built elsewhere, with the first process of such guests.
    ///
    /// # Errors
    /// A file cannot be read, or the first process not be built.
    pub fn adopt(&self, own: &Own, progress: &Progress) -> Result<Image> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(io_error(path));
        let (kernel, vmlinux) = (absolute(&own.kernel)?, absolute(&own.vmlinux)?);
        let data = fs::read(&vmlinux).map_err(io_error(&vmlinux))?;
        let elf = own.vmlinux(&data)?;
        let kcovs = verify::kcovs(&elf);
        let flavor = Flavor {
            arch: own.arch,
            kcov: kcovs.first().copied().unwrap_or(Kcov::C),
            checks: Checks::Plain,
        };
        let init = self.init(own.arch, progress)?;
        let id = elf.build_id().ok().flatten().map(hex);
        let source = source(&elf).unwrap_or_default();
        Ok(Image::own(flavor, kernel, vmlinux, init, source, id))
    }
}

/// The tree that a kernel was built from: where its compiler ran, or, if that was a build folder of its own, what the
/// link there leads to.
fn source(elf: &File<'_>) -> Option<PathBuf> {
    let build = compiled_in(elf)?;
    Some(fs::canonicalize(build.join("source")).unwrap_or(build))
}

/// The folder in which the compiler ran for the first unit.
fn compiled_in(elf: &File<'_>) -> Option<PathBuf> {
    let endian = if elf.is_little_endian() {
        RunTimeEndian::Little
    } else {
        RunTimeEndian::Big
    };
    let load = |id: SectionId| -> gimli::Result<Cow<'_, [u8]>> {
        let section = elf.section_by_name(id.name());
        let data = section.and_then(|section| section.uncompressed_data().ok());
        Ok(data.unwrap_or_default())
    };
    let sections = gimli::DwarfSections::load(load).ok()?;
    let dwarf = sections.borrow(|section| EndianSlice::new(section, endian));
    let head = dwarf.units().next().ok()??;
    let unit = dwarf.unit(head).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(unit.comp_dir?.slice())))
}

/// The first bytes of a kernel's file that say what it is.
const HEAD: u64 = 1024;

/// What a kernel's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A PC's.
    BzImage,
    /// An arm64 board's.
    Image,
    /// Perhaps that, compressed.
    Gzip,
    /// A program, or a `vmlinux`.
    Elf,
}

impl Kind {
    fn of(head: &[u8]) -> Option<Self> {
        // Of each the offset and the bytes there, as the boot protocols have them.
        [
            (0x202, &b"HdrS"[..], Self::BzImage),
            (0x38, b"ARM\x64", Self::Image),
            (0, b"\x1f\x8b", Self::Gzip),
            (0, b"\x7fELF", Self::Elf),
        ]
        .into_iter()
        .find(|(at, magic, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic)))
        .map(|(_, _, kind)| kind)
    }
}

/// The options that a kernel lacks for such a guest. Its configuration says that, if it is in the file; else its symbols
/// do, of which some versions may lack one.
fn missing(elf: &File<'_>, data: &[u8], arch: Arch, wanted: Wanted) -> Vec<&'static str> {
    let config = config(data);
    let symbols: HashSet<&str> = match config {
        Some(_) => HashSet::new(),
        // Compilers add an end to names that they made other ones of.
        None => elf
            .symbols()
            .filter_map(|symbol| symbol.name().ok()?.split('.').next())
            .collect(),
    };
    let has = |need: &Need| match (&config, need.symbol) {
        (Some(config), _) => config
            .lines()
            .any(|line| line.strip_prefix(need.option) == Some("=y")),
        (None, Some(symbol)) => symbols.contains(symbol),
        (None, None) => true,
    };
    let mut missing: Vec<&str> = needs(arch, wanted)
        .filter(|need| !has(need))
        .map(|need| need.option)
        .collect();
    let lines = elf
        .section_by_name(".debug_line")
        .is_some_and(|s| s.size() > 0);
    if wanted.record && !lines {
        missing.push(LINES);
    }
    missing
}

/// The configuration that a kernel was built with `CONFIG_IKCONFIG=y` has in it.
fn config(data: &[u8]) -> Option<String> {
    const BEGIN: &[u8] = b"IKCFG_ST\x1f\x8b";
    let at = memmem::find(data, BEGIN)?;
    let packed = data.get(at + BEGIN.len() - 2..)?;
    let mut config = String::new();
    // Behind it is more, which is none of it.
    let read = GzDecoder::new(packed).read_to_string(&mut config);
    (read.is_ok() && config.contains("CONFIG_")).then_some(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::write::GzEncoder;
    use flate2::Compression;
    use std::io::Write as _;
    use std::process::Command;
    use tempfile::TempDir;

    fn at(from: usize, magic: &[u8]) -> Vec<u8> {
        let mut file = vec![0; from];
        file.extend(magic);
        file.resize(1024, 0);
        file
    }

    /// A program with these functions, as a `vmlinux`.
    fn vmlinux(dir: &TempDir, functions: &[&str], options: &[&str]) -> PathBuf {
        let mut source = String::from("int main(void) { return 0; }\n");
        for function in functions {
            source += &format!("void {function}(void) {{}}\n");
        }
        fs::write(dir.path().join("main.c"), source).unwrap();
        let mut gcc = Command::new("gcc");
        let gcc = gcc.current_dir(dir).args(options);
        let done = gcc.args(["-o", "vmlinux", "main.c"]).status().unwrap();
        assert!(done.success());
        dir.path().join("vmlinux")
    }

    fn own(dir: &TempDir, arch: Arch, head: &[u8], vmlinux: PathBuf) -> Own {
        let kernel = dir.path().join("kernel");
        fs::write(&kernel, head).unwrap();
        Own {
            arch,
            kernel,
            vmlinux,
        }
    }

    #[test]
    fn a_file_that_no_guest_boots_is_said_with_what_to_give() {
        let dir = TempDir::new().unwrap();
        let (bz, image, elf) = (at(0x202, b"HdrS"), at(0x38, b"ARM\x64"), at(0, b"\x7fELF"));
        for (arch, head, why) in [
            (Arch::X86_64, &image, "--arch arm64"),
            (Arch::X86_64, &elf, "--arch uml"),
            (Arch::X86_64, &vec![0; 9], "arch/x86/boot/bzImage"),
            (Arch::Arm64, &bz, "--arch x86-64"),
            (Arch::Arm64, &elf, "arch/arm64/boot/Image"),
            (Arch::Arm64, &vec![], "arch/arm64/boot/Image"),
            (Arch::Uml, &bz, "--arch x86-64"),
            (Arch::Uml, &vec![], "\"linux\""),
        ] {
            let own = own(&dir, arch, head, dir.path().join("none"));
            let error = own.check(Wanted::default()).unwrap_err().to_string();
            assert!(error.contains("kernel: ") && error.contains(why), "{error}");
        }
        for (arch, head) in [
            (Arch::X86_64, bz),
            (Arch::Arm64, image),
            (Arch::Arm64, at(0, b"\x1f\x8b")),
            (Arch::Uml, elf),
        ] {
            own(&dir, arch, &head, dir.path().join("none"))
                .check_kernel()
                .unwrap();
        }
    }

    #[test]
    fn what_is_no_vmlinux_is_said() {
        let dir = TempDir::new().unwrap();
        let bz = at(0x202, b"HdrS");
        let text = dir.path().join("text");
        fs::write(&text, "text").unwrap();
        let none = dir.path().join("none");
        let stripped = vmlinux(&dir, &[], &["-s"]);
        for (vmlinux, why) in [
            (none, "none: No such file"),
            (text, "text: it is not an ELF file"),
            (stripped.clone(), "vmlinux: it has no symbols"),
        ] {
            let own = own(&dir, Arch::X86_64, &bz, vmlinux);
            let error = own.check(Wanted::default()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let own = own(&dir, Arch::Arm64, &at(0x38, b"ARM\x64"), stripped);
        let error = own.check(Wanted::default()).unwrap_err().to_string();
        assert!(error.contains("another machine"), "{error}");
    }

    #[test]
    fn what_a_kernel_lacks_is_known_by_its_symbols() {
        let dir = TempDir::new().unwrap();
        let bz = at(0x202, b"HdrS");
        let wanted = Wanted {
            record: true,
            share: true,
            network: true,
            modules: true,
            ..Wanted::default()
        };
        let lacks = |functions: &[&str], options: &[&str], wanted| {
            let file = vmlinux(&dir, functions, options);
            match own(&dir, Arch::X86_64, &bz, file).check(wanted) {
                Ok(()) => String::new(),
                Err(error) => error.to_string(),
            }
        };
        let error = lacks(&[], &[], wanted);
        for option in [
            "CONFIG_KCOV=y",
            "CONFIG_DEBUG_FS=y",
            "CONFIG_BLK_DEV_INITRD=y",
            "CONFIG_VIRTIO_CONSOLE=y",
            "CONFIG_SERIAL_8250_CONSOLE=y",
            "CONFIG_9P_FS=y",
            "CONFIG_VIRTIO_NET=y",
            "CONFIG_MODULES=y",
            "CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y",
        ] {
            assert!(error.contains(option), "{option}: {error}");
        }
        let all: Vec<&str> = needs(Arch::X86_64, wanted)
            .filter_map(|need| need.symbol)
            .collect();
        assert_eq!(lacks(&all, &["-g"], wanted), "");
        let (initrd, rest) = all.split_first().unwrap();
        let error = lacks(rest, &["-g"], wanted);
        assert!(
            error.contains("build it with CONFIG_BLK_DEV_INITRD=y"),
            "{initrd}: {error}"
        );
        // What is not wanted is not needed.
        let always: Vec<&str> = needs(Arch::X86_64, Wanted::default())
            .filter_map(|need| need.symbol)
            .collect();
        assert!(always.len() + 7 == all.len(), "{always:?}");
        assert_eq!(lacks(&always, &[], Wanted::default()), "");
    }

    #[test]
    fn what_a_kernel_lacks_is_known_by_its_configuration_if_it_has_that() {
        let dir = TempDir::new().unwrap();
        let bz = at(0x202, b"HdrS");
        let file = vmlinux(&dir, &[], &[]);
        let program = fs::read(&file).unwrap();
        let lacks = |lines: &str| {
            let mut gz = GzEncoder::new(Vec::new(), Compression::default());
            gz.write_all(lines.as_bytes()).unwrap();
            let gz = gz.finish().unwrap();
            let all = [&program, &b"IKCFG_ST"[..], &gz, b"IKCFG_ED and more"].concat();
            fs::write(&file, all).unwrap();
            match own(&dir, Arch::X86_64, &bz, file.clone()).check(Wanted::default()) {
                Ok(()) => String::new(),
                Err(error) => error.to_string(),
            }
        };
        let all: String = needs(Arch::X86_64, Wanted::default())
            .map(|need| format!("{}=y\n", need.option))
            .collect();
        assert_eq!(lacks(&all), "");
        let module = all.replace("CONFIG_VIRTIO_CONSOLE=y", "CONFIG_VIRTIO_CONSOLE=m");
        let error = lacks(&module);
        assert!(
            error.ends_with("build it with CONFIG_VIRTIO_CONSOLE=y"),
            "{error}"
        );
        let error = lacks(&all.replace("CONFIG_FUTEX=y", "# CONFIG_FUTEX is not set"));
        assert!(error.ends_with("build it with CONFIG_FUTEX=y"), "{error}");
    }

    #[test]
    fn the_tree_is_where_the_compiler_ran_or_what_a_link_there_leads_to() {
        let dir = TempDir::new().unwrap();
        let here = fs::canonicalize(dir.path()).unwrap();
        let data = fs::read(vmlinux(&dir, &[], &["-g"])).unwrap();
        let elf = File::parse(&*data).unwrap();
        assert_eq!(source(&elf), Some(here.clone()));
        let tree = here.join("tree");
        fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink("tree", here.join("source")).unwrap();
        assert_eq!(source(&elf), Some(tree));
        let data = fs::read(vmlinux(&dir, &[], &[])).unwrap();
        assert_eq!(source(&File::parse(&*data).unwrap()), None);
    }
}
