// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a command line asks a compiler for.

use super::language::Input;
use super::response::Argument;
use std::ffi::{OsStr, OsString};

/// How far the compiler is to go with what it is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// All the way.
    #[default]
    Link,
    /// To object files, or assembly.
    Compile,
    /// No code comes of it: preprocessing, dependencies, a check of the syntax.
    Read,
}

/// What the linker is to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// A program.
    #[default]
    Executable,
    /// A program that needs no shared library.
    StaticExecutable,
    /// A shared library or plugin.
    Shared,
    /// An object file, to be linked again.
    Relocatable,
}

/// What the command line says of debug information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Debug {
    /// Nothing.
    #[default]
    Unasked,
    /// That there be some.
    Asked,
    /// That there be none, last by the argument of this index.
    Refused(usize),
}

/// What the command line itself says of coverage by callbacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnCoverage {
    /// Nothing.
    #[default]
    Unasked,
    /// It asks for it, for a runtime of its own.
    Asked,
    /// It refuses it for these sources.
    Refused,
}

/// What a command line asks a compiler for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// How far to go.
    pub stage: Stage,
    /// What is linked, if anything is.
    pub output: Output,
    /// Some input is compiled, beforehand or now.
    pub compiles: bool,
    /// Something would be linked: a file, or what only the linker reads and an output.
    pub links: bool,
    /// The code is for no operating system, or there is no C library to link it with.
    pub freestanding: bool,
    /// Debug information.
    pub debug: Debug,
    /// Coverage of the project's own.
    pub own_coverage: OwnCoverage,
    /// The target, if it is named.
    pub target: Option<OsString>,
    /// Another word size than the target's (`-m32`).
    pub other_word_size: bool,
    /// The compiler's own parts are called, not its driver (`clang -cc1`).
    pub internal: bool,
    /// The code is made when it is linked.
    pub link_time: bool,
    /// Assembly is to be in Intel's syntax.
    pub intel_syntax: bool,
    /// Where the compiler is to look for its tools.
    pub tool_folders: Vec<OsString>,
}

/// Options whose value is the next argument. Those with the value in the same argument
/// (`-DNAME`, `-Wl,x`) need no list.
const WITH_VALUE: &[&str] = &[
    "--analyzer-output",
    "--assert",
    "--config",
    "--define-macro",
    "--dumpbase",
    "--dumpbase-ext",
    "--dumpdir",
    "--entry",
    "--for-assembler",
    "--for-linker",
    "--force-link",
    "--imacros",
    "--include",
    "--include-directory",
    "--include-directory-after",
    "--include-prefix",
    "--include-with-prefix",
    "--include-with-prefix-after",
    "--include-with-prefix-before",
    "--language",
    "--library-directory",
    "--output",
    "--param",
    "--prefix",
    "--serialize-diagnostics",
    "--sysroot",
    "--target",
    "--undefine-macro",
    "--undefined",
    "-A",
    "-B",
    "-D",
    "-F",
    "-I",
    "-J",
    "-L",
    "-MF",
    "-MJ",
    "-MQ",
    "-MT",
    "-R",
    "-T",
    "-Tbss",
    "-Tdata",
    "-Ttext",
    "-U",
    "-Xanalyzer",
    "-Xassembler",
    "-Xclang",
    "-Xclangas",
    "-Xcuda-fatbinary",
    "-Xcuda-ptxas",
    "-Xlinker",
    "-Xoffload-linker",
    "-Xopenmp-target",
    "-Xpreprocessor",
    "-arch",
    "-aux-info",
    "-b",
    "-ccc-gcc-name",
    "-ccc-install-dir",
    "-cxx-isystem",
    "-dependency-dot",
    "-dependency-file",
    "-dsym-dir",
    "-dumpbase",
    "-dumpbase-ext",
    "-dumpdir",
    "-e",
    "-fintrinsic-modules-path",
    "-fmodules-user-build-path",
    "-framework",
    "-ftrapv-handler",
    "-gcc-toolchain",
    "-gen-cdb-fragment-path",
    "-h",
    "-iapinotes-modules",
    "-idirafter",
    "-iframework",
    "-iframeworkwithsysroot",
    "-imacros",
    "-imultiarch",
    "-imultilib",
    "-include",
    "-include-pch",
    "-iprefix",
    "-iquote",
    "-isysroot",
    "-isystem",
    "-isystem-after",
    "-ivfsoverlay",
    "-iwithprefix",
    "-iwithprefixbefore",
    "-iwithsysroot",
    "-l",
    "-mllvm",
    "-mmlir",
    "-module-dependency-dir",
    "-mthread-model",
    "-o",
    "-resource-dir",
    "-rpath",
    "-serialize-diagnostics",
    "-stdlib++-isystem",
    "-target",
    "-u",
    "-undefined",
    "-vfsoverlay",
    "-working-directory",
    "-wrapper",
    "-x",
    "-z",
];

impl Request {
    /// Reads a command line whose response files are expanded.
    #[must_use]
    pub fn read(args: &[Argument]) -> Self {
        let mut reader = Reader::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let text = &*arg.text.to_string_lossy();
            if reader.only_inputs || !text.starts_with('-') || text == "-" {
                reader.input(&arg.text);
            } else if text == "--" {
                reader.only_inputs = true;
            } else {
                let value = if takes_value(text) { rest.next() } else { None };
                reader.option(text, arg.index, value.map(|value| &*value.text));
            }
        }
        let first = args.first().map(|arg| arg.text.as_os_str());
        let internal = first.is_some_and(|first| first == "-cc1" || first == "-cc1as");
        reader.finish(internal)
    }
}

fn takes_value(option: &str) -> bool {
    WITH_VALUE.contains(&option)
        || option.starts_with("-Xarch_")
        || option.starts_with("-Xopenmp-target=")
}

/// What has been read so far.
#[derive(Default)]
struct Reader {
    request: Request,
    /// What `-x` says of the inputs that follow.
    language: Option<Input>,
    /// `--` was read.
    only_inputs: bool,
    /// An input that is not a header alone.
    links_file: bool,
    /// Something for the linker that is no file.
    links_other: bool,
    has_output: bool,
    /// The linker is asked about itself.
    linker_query: bool,
    no_library: bool,
    c_library_named: bool,
    shared: bool,
    relocatable: bool,
    static_: bool,
}

impl Reader {
    fn input(&mut self, file: &OsStr) {
        if file.is_empty() {
            return;
        }
        match self.language.unwrap_or_else(|| Input::of_file(file)) {
            Input::Source => {
                self.request.compiles = true;
                self.links_file = true;
            }
            Input::Header => self.request.compiles = true,
            Input::Assembly | Input::Linked => self.links_file = true,
        }
    }

    fn option(&mut self, option: &str, index: usize, value: Option<&OsStr>) {
        let request = &mut self.request;
        match option {
            "-c" | "-S" | "--compile" | "--assemble" => {
                request.stage = request.stage.max(Stage::Compile);
            }
            "-E"
            | "-M"
            | "-MM"
            | "-fsyntax-only"
            | "--preprocess"
            | "--dependencies"
            | "--user-dependencies"
            | "--analyze" => {
                request.stage = Stage::Read;
            }
            "-x" | "--language" => self.language = value.and_then(Input::of_language),
            "-o" | "--output" => self.has_output = true,
            "-shared" | "--shared" => self.shared = true,
            "-r" => self.relocatable = true,
            "-static" | "--static" | "-static-pie" | "--static-pie" => self.static_ = true,
            "-ffreestanding" | "-mcmodel=kernel" => request.freestanding = true,
            "-fhosted" => request.freestanding = false,
            "-nostdlib" | "--no-standard-libraries" | "-nodefaultlibs" | "-nolibc" => {
                self.no_library = true;
            }
            "-l" => {
                self.c_library_named |= value.is_some_and(|library| library == "c");
                self.links_other = true;
            }
            "-lc" => {
                self.c_library_named = true;
                self.links_other = true;
            }
            "-T" => self.links_other = true,
            "-Xlinker" | "--for-linker" => {
                self.linker(&value.unwrap_or_default().to_string_lossy());
            }
            "-Xclang" => {
                if value.is_some_and(|v| v.to_string_lossy().starts_with("-fsanitize-coverage")) {
                    request.own_coverage = OwnCoverage::Asked;
                }
            }
            "-B" | "--prefix" => request.tool_folders.extend(value.map(OsStr::to_owned)),
            "-flto" | "-emit-llvm" => request.link_time = true,
            "-fno-lto" => request.link_time = false,
            "-masm=intel" => request.intel_syntax = true,
            "-masm=att" => request.intel_syntax = false,
            "-target" | "--target" => request.target = value.map(OsStr::to_owned),
            "-m32" | "-mx32" | "-m16" => request.other_word_size = true,
            "-m64" => request.other_word_size = false,
            _ => self.joined_option(option, index),
        }
    }

    /// An option with its value in the same argument.
    fn joined_option(&mut self, option: &str, index: usize) {
        let request = &mut self.request;
        if let Some(args) = option.strip_prefix("-Wl,") {
            args.split(',').for_each(|arg| self.linker(arg));
        } else if let Some(value) = option.strip_prefix("--for-linker=") {
            self.linker(value);
        } else if let Some(language) = option
            .strip_prefix("--language=")
            .or_else(|| option.strip_prefix("-x"))
        {
            self.language = Input::of_language(OsStr::new(language));
        } else if option.starts_with("-o") || option.starts_with("--output=") {
            // gcc and clang have options that begin so, but none that matters here.
            self.has_output = true;
        } else if option.starts_with("-l") {
            self.links_other = true;
        } else if let Some(folder) = option
            .strip_prefix("-B")
            .or_else(|| option.strip_prefix("--prefix="))
        {
            request.tool_folders.push(folder.into());
        } else if option.starts_with("-flto=") {
            request.link_time = true;
        } else if let Some(target) = option.strip_prefix("--target=") {
            request.target = Some(target.into());
        } else if option.starts_with("-fsanitize-coverage") {
            request.own_coverage = OwnCoverage::Asked;
        } else if option.starts_with("-fno-sanitize-coverage") {
            request.own_coverage = OwnCoverage::Refused;
        } else if let Some(sanitizers) = option.strip_prefix("-fsanitize=") {
            if sanitizers.split(',').any(|s| s.starts_with("fuzzer")) {
                request.own_coverage = OwnCoverage::Asked;
            }
        } else if let Some(level) = option.strip_prefix("-g") {
            if let Some(asked) = asks_for_debug_info(level) {
                request.debug = if asked {
                    Debug::Asked
                } else {
                    Debug::Refused(index)
                };
            }
        }
    }

    /// An argument for the linker.
    fn linker(&mut self, arg: &str) {
        self.links_other = true;
        match arg {
            "-shared" | "--shared" | "-Bshareable" => self.shared = true,
            "-r" | "-i" | "--relocatable" => self.relocatable = true,
            "-v" | "-V" | "--version" | "--help" => self.linker_query = true,
            _ => {}
        }
    }

    fn finish(self, internal: bool) -> Request {
        let mut request = self.request;
        request.internal = internal;
        let linker_only = self.links_other && self.has_output && !self.linker_query;
        request.links = request.stage == Stage::Link && (self.links_file || linker_only);
        request.freestanding |= self.no_library
            && !self.c_library_named
            && request.stage == Stage::Link
            && !self.relocatable;
        request.output = match (self.relocatable, self.shared, self.static_) {
            (true, ..) => Output::Relocatable,
            (_, true, _) => Output::Shared,
            (.., true) => Output::StaticExecutable,
            _ => Output::Executable,
        };
        request
    }
}

/// Whether `-g` with this behind it asks for debug information, or refuses it. `None` if it says
/// nothing of that (`-gz`, `-gno-column-info`).
fn asks_for_debug_info(level: &str) -> Option<bool> {
    match level {
        "" | "1" | "2" | "3" | "line-tables-only" | "mlt" | "full" | "used" | "modules"
        | "codeview" | "lldb" | "sce" | "dbx" => Some(true),
        "0" | "gdb0" | "line-directives-only" => Some(false),
        _ if ["gdb", "dwarf", "stabs", "vms", "xcoff"]
            .iter()
            .any(|kind| level.starts_with(kind)) =>
        {
            Some(true)
        }
        _ => None,
    }
}
