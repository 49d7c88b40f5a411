// SPDX-License-Identifier: MIT OR Apache-2.0
//! Builds the runtime for linking into foreign programs.
//!
//! A plain Rust static library does not mix with programs of other Rust versions or with LTO. So
//! the runtime is compiled by a cargo of its own, with its own target folder and without whatever
//! flags and wrappers the outer build has (it must never be instrumented itself), and prelinked
//! into one relocatable object of which only the interface stays visible.
//!
//! The runtime's sources are in `sources`: symbolic links, which are files in the package of this
//! crate. So it builds without the other crates. A manifest has another name there, because a
//! package ends where the next `Cargo.toml` stands.

mod compiler;

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the runtime offers to compilers and modules.
const INTERFACE: &[&str] = &[
    "__sanitizer_cov_trace_pc",
    "__sanitizer_cov_trace_pc_guard",
    "__sanitizer_cov_trace_pc_guard_init",
    "__sanitizer_cov_trace_pc_indir",
    "__sanitizer_cov_trace_cmp1",
    "__sanitizer_cov_trace_cmp2",
    "__sanitizer_cov_trace_cmp4",
    "__sanitizer_cov_trace_cmp8",
    "__sanitizer_cov_trace_const_cmp1",
    "__sanitizer_cov_trace_const_cmp2",
    "__sanitizer_cov_trace_const_cmp4",
    "__sanitizer_cov_trace_const_cmp8",
    "__sanitizer_cov_trace_cmpf",
    "__sanitizer_cov_trace_cmpd",
    "__sanitizer_cov_trace_switch",
    "__rkcov_module_register",
    "__rkcov_module_unregister",
    "rkcov_open",
    "rkcov_ioctl",
    "rkcov_mmap",
    "rkcov_close",
    "rkcov_is_kcov",
    "rkcov_number",
    "rkcov_forget",
    "rkcov_kept",
    "rkcov_drops",
    "rkcov_save",
    "rkcov_usage",
    "__rkcov_context",
    "__rkcov_contexts_wanted",
    "__rkcov_enter",
    "__rkcov_leave",
    "__rkcov_end",
    "kcov_remote_start",
    "kcov_remote_stop",
    "kcov_common_handle",
    "kcov_remote_start_common",
    "kcov_remote_start_usb",
    "kcov_remote_start_usb_softirq",
    "kcov_remote_stop_softirq",
];

/// What checks and the like of them call, on machines that have them.
const CHECKS: &[(&str, &str)] = &[
    ("x86_64", "__rkcov_hit"),
    ("aarch64", "__rkcov_hit"),
    ("x86_64", "__sanitizer_cov_trace_pc_store"),
    ("x86_64", "__sanitizer_cov_trace_pc_store_init"),
];

/// What stands before libc's in a dynamic program, and in a static one.
const INTERPOSED: &[&str] = &[
    "pthread_create",
    "pthread_setname_np",
    "posix_spawn",
    "posix_spawnp",
    "system",
    "popen",
    "dlclose",
    "mlockall",
];
/// Those of them that a program may define itself: its own are used then.
const WEAK: &[&str] = &["system", "popen"];
const WRAPPED: &[&str] = &[
    "__wrap_pthread_create",
    "__wrap_pthread_setname_np",
    "mlockall",
];

/// What stands before libc's in a program that was written for Linux's device.
const PRELOADED: &[(&str, &str)] = &[
    ("open", "rkcov_preload_open"),
    ("open64", "rkcov_preload_open"),
    ("openat", "rkcov_preload_openat"),
    ("openat64", "rkcov_preload_openat"),
    ("__open_2", "rkcov_preload_open_2"),
    ("__open64_2", "rkcov_preload_open_2"),
    ("__openat_2", "rkcov_preload_openat_2"),
    ("__openat64_2", "rkcov_preload_openat_2"),
    ("ioctl", "rkcov_preload_ioctl"),
    ("mmap", "rkcov_preload_mmap"),
    ("mmap64", "rkcov_preload_mmap"),
    ("close", "rkcov_preload_close"),
    ("close_range", "rkcov_preload_close_range"),
    ("closefrom", "rkcov_preload_closefrom"),
    ("dup2", "rkcov_preload_dup2"),
    ("dup3", "rkcov_preload_dup3"),
];

/// The crates that the runtime consists of.
const PARTS: [&str; 4] = ["abi", "core", "region", "runtime"];

/// What one of the two sorts of programs does not have. The linker leaves these names in an object
/// although nothing in it refers to them any more.
const UNUSED: &[&str] = &[
    "dlopen",
    "dlclose",
    "dlsym",
    "dladdr",
    "__real_pthread_create",
    "__real_pthread_setname_np",
];

fn main() {
    let build = Build::new();
    let archive = build.runtime();
    let executable = build.assemble("executable.s");
    let library = build.assemble("library.s");
    let memory = build.assemble("memory.s");
    let early = build.assemble("static.s");
    let late = build.rename_callbacks(&archive);
    build.assemble("module.s");
    fs::copy(
        build.out.join("module.s.o"),
        build.out.join("rkcov-module.o"),
    )
    .expect("copy rkcov-module.o");

    let dynamic = Linkage {
        kind: "dynamic",
        interposed: INTERPOSED,
        preloaded: &[],
    };
    let fixed = Linkage {
        kind: "static",
        interposed: WRAPPED,
        preloaded: &[],
    };
    let preload = Linkage {
        preloaded: PRELOADED,
        ..dynamic
    };
    build.prelink("rkcov.o", &[&executable, &archive, &memory], &dynamic);
    let parts = [&*executable, &early, &late, &memory];
    build.prelink("rkcov-static.o", &parts, &fixed);
    build.prelink("rkcov-library.o", &[&library, &archive, &memory], &dynamic);
    build.prelink("rkcov-preload.o", &[&library, &archive, &memory], &preload);
    build.archive("librkcov.a", "rkcov-static.o");
    build.shared("librkcov.so.0", "rkcov-library.o");
    build.shared("librkcov-preload.so", "rkcov-preload.o");

    let mut hash = DefaultHasher::new();
    for header in [
        "rkcov.h",
        "rkcov_gtest.h",
        "rkcov_catch2.h",
        "rkcov_doctest.h",
    ] {
        let header = build.here.join("include").join(header);
        let bytes = fs::read(header).expect("read a header");
        bytes.hash(&mut hash);
    }
    for name in [
        "rkcov.o",
        "rkcov-static.o",
        "rkcov-module.o",
        "librkcov.a",
        "librkcov.so.0",
        "librkcov-preload.so",
    ] {
        let bytes = fs::read(build.out.join(name)).expect("read an artifact");
        bytes.hash(&mut hash);
    }
    println!(
        "cargo::rustc-env=RKCOV_ARTIFACTS_FINGERPRINT={:016x}",
        hash.finish()
    );
}

/// What differs between programs with a dynamic linker and static ones.
struct Linkage {
    kind: &'static str,
    interposed: &'static [&'static str],
    /// More names of libc's, and the functions of ours that they are bound to.
    preloaded: &'static [(&'static str, &'static str)],
}

struct Build {
    /// The folder of this crate.
    here: PathBuf,
    out: PathBuf,
    target: String,
    arch: String,
    cc: Option<String>,
}

impl Build {
    fn new() -> Self {
        let get = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
        for variable in ["CC", "LD", "OBJCOPY", "AR"] {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        println!("cargo::rerun-if-changed=glue");
        println!("cargo::rerun-if-changed=include");
        println!("cargo::rerun-if-changed=sources");
        let here = PathBuf::from(get("CARGO_MANIFEST_DIR"));
        Self {
            here,
            out: PathBuf::from(get("OUT_DIR")),
            target: get("TARGET"),
            arch: get("CARGO_CFG_TARGET_ARCH"),
            cc: env::var("CC").ok(),
        }
    }

    fn compiler(&self) -> Command {
        compiler::compiler(self.cc.as_deref())
    }

    /// Makes a workspace of `sources`, the same as the real one without its other crates.
    fn workspace(&self) -> PathBuf {
        let (sources, workspace) = (self.here.join("sources"), self.out.join("workspace"));
        let _ = fs::remove_dir_all(&workspace);
        let read = |name: &str| {
            let path = sources.join(name);
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        for name in PARTS {
            let (from, to) = (sources.join(name), workspace.join("crates").join(name));
            fs::create_dir_all(&to).expect("create a crate's folder");
            symlink(from.join("src"), to.join("src")).expect("link a crate's sources");
            let manifest = read(&format!("{name}/manifest.toml"));
            fs::write(to.join("Cargo.toml"), manifest).expect("write a manifest");
        }
        let manifest = read("workspace.toml");
        let shared =
            |line: &&str| !line.starts_with("members = ") && !line.starts_with("exclude = ");
        // Profiles are for the other crates; here the flags say everything.
        let lines = manifest
            .lines()
            .take_while(|line| !line.starts_with("[profile."));
        let mut manifest = lines.filter(shared).collect::<Vec<_>>().join("\n");
        manifest = manifest.replacen("[workspace]", "[workspace]\nmembers = [\"crates/*\"]", 1);
        fs::write(workspace.join("Cargo.toml"), manifest).expect("write the workspace's manifest");
        fs::write(workspace.join("Cargo.lock"), read("Cargo.lock")).expect("write the lock file");
        workspace
    }

    /// The runtime as a static library.
    fn runtime(&self) -> PathBuf {
        let workspace = self.workspace();
        let target_dir = self.out.join("target");
        let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets CARGO"));
        for (name, _) in env::vars_os() {
            let Some(name) = name.to_str() else { continue };
            let kept = [
                "CARGO_HOME",
                "CARGO_NET_OFFLINE",
                "RUSTUP_HOME",
                "RUSTUP_TOOLCHAIN",
            ];
            let scrubbed = [
                "CARGO",
                "RUST",
                "DEBUG",
                "OPT_LEVEL",
                "PROFILE",
                "TARGET",
                "HOST",
            ]
            .iter()
            .any(|prefix| name.starts_with(prefix));
            if scrubbed && !kept.contains(&name) {
                cargo.env_remove(name);
            }
        }
        let flags = [
            "--cfg",
            "rkcov_object",
            "-Cpanic=abort",
            "-Copt-level=3",
            "-Clto=fat",
            "-Ccodegen-units=1",
            "-Cembed-bitcode=yes",
            "-Coverflow-checks=no",
            "-Cdebug-assertions=no",
            "-Crelocation-model=pic",
            "-Cforce-unwind-tables=yes",
            "-Cdebuginfo=0",
        ];
        cargo
            .current_dir(&self.here)
            .env("RUSTC", env::var_os("RUSTC").expect("cargo sets RUSTC"))
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .args(["rustc", "--release", "--lib", "--crate-type", "staticlib"])
            .arg("--manifest-path")
            .arg(workspace.join("crates/runtime/Cargo.toml"))
            .args(["--target", &self.target, "--target-dir"])
            .arg(&target_dir);
        run(&mut cargo);
        target_dir
            .join(&self.target)
            .join("release/librkcov_runtime.a")
    }

    fn assemble(&self, source: &str) -> PathBuf {
        let object = self.out.join(format!("{source}.o"));
        run(self
            .compiler()
            .arg("-c")
            .arg(self.here.join("glue").join(&self.arch).join(source))
            .arg("-o")
            .arg(&object));
        object
    }

    /// The same library with other names for the callbacks, which `static.s` has in their places.
    fn rename_callbacks(&self, archive: &Path) -> PathBuf {
        let renamed = self.out.join("librkcov_late.a");
        let mut objcopy = Command::new(env::var("OBJCOPY").unwrap_or_else(|_| "objcopy".into()));
        let callbacks = INTERFACE
            .iter()
            .filter(|name| name.starts_with("__sanitizer_cov_"))
            // Called by constructors.
            .filter(|name| !name.ends_with("_init"));
        for name in callbacks {
            objcopy.arg(format!("--redefine-sym={name}=rkcov_late_{name}"));
        }
        run(objcopy.arg(archive).arg(&renamed));
        renamed
    }

    /// One relocatable object of all that the interface and the glue need.
    fn prelink(&self, name: &str, inputs: &[&Path], linkage: &Linkage) {
        let whole = self.out.join(format!("{name}.whole"));
        let mut ld = Command::new(env::var("LD").unwrap_or_else(|_| "ld".into()));
        ld.args(["-r", "--gc-sections", "-o"]).arg(&whole);
        let preloaded = linkage.preloaded.iter().map(|(name, _)| name);
        let interface = || {
            let checks = CHECKS.iter().filter(|(arch, _)| *arch == self.arch);
            let others = preloaded.clone().chain(linkage.interposed);
            let others = others.chain(checks.map(|(_, name)| name));
            INTERFACE.iter().chain(others)
        };
        for symbol in interface() {
            ld.args(["-u", symbol]);
        }
        for name in ["rkcov_pin", "rkcov_create"] {
            ld.arg("--defsym")
                .arg(format!("{name}={name}_{}", linkage.kind));
        }
        for (name, function) in linkage.preloaded {
            ld.arg("--defsym").arg(format!("{name}={function}"));
        }
        run(ld.args(inputs));

        let objcopy = env::var("OBJCOPY").unwrap_or_else(|_| "objcopy".into());
        let mut objcopy = Command::new(objcopy);
        // The names of what was collected as garbage go too: a static program that only seems to
        // need dlopen() makes the linker warn.
        objcopy.args([
            "--strip-debug",
            "--strip-unneeded",
            "--remove-section=.comment",
        ]);
        for symbol in UNUSED
            .iter()
            .filter(|name| !linkage.interposed.contains(name))
        {
            objcopy.arg(format!("--strip-unneeded-symbol={symbol}"));
        }
        for symbol in interface() {
            objcopy.arg(format!("--keep-global-symbol={symbol}"));
        }
        for symbol in WEAK {
            objcopy.arg(format!("--weaken-symbol={symbol}"));
        }
        run(objcopy.arg(&whole).arg(self.out.join(name)));
    }

    /// An archive with nothing in it of who made it, and when.
    fn archive(&self, name: &str, object: &str) {
        let archive = self.out.join(name);
        // It would be added to.
        let _ = fs::remove_file(&archive);
        let ar = env::var("AR").unwrap_or_else(|_| "ar".into());
        run(Command::new(ar)
            .arg("rcsD")
            .arg(archive)
            .arg(self.out.join(object)));
    }

    fn shared(&self, name: &str, object: &str) {
        run(self
            .compiler()
            .args(["-shared", "-Wl,-z,defs", "-Wl,-z,nodelete"])
            .arg(format!("-Wl,-soname,{name}"))
            .arg(self.out.join(object))
            .arg("-o")
            .arg(self.out.join(name)));
    }
}

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
