// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a call or a jump out of a function leads to.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::LazyLock;

use object::{
    Object, ObjectSegment, ObjectSymbol, ObjectSymbolTable, RelocationTarget, SegmentFlags,
};

use super::super::elf::Function;
use super::super::sites::Sections;
use super::branch::Scan;
use super::machine::Machine;

/// The functions that compilers call for each block or edge.
const CALLBACKS: [&str; 4] = [
    "__sanitizer_cov_trace_pc",
    "__sanitizer_cov_trace_pc_guard",
    "__sanitizer_cov_trace_pc_store",
    "__rkcov_hit",
];

/// Functions that never return, by the names that linkers know; what one image has itself is found
/// by its code.
const ENDLESS: [&str; 16] = [
    "abort",
    "exit",
    "_exit",
    "_Exit",
    "quick_exit",
    "longjmp",
    "siglongjmp",
    "__longjmp_chk",
    "pthread_exit",
    "__stack_chk_fail",
    "__chk_fail",
    "__assert_fail",
    "__cxa_throw",
    "__cxa_rethrow",
    "_Unwind_Resume",
    "_ZSt9terminatev",
];

/// Functions that return, and behind which the code may be recorded for somebody else: sections, contexts,
/// new processes.
const TURN: [&str; 10] = [
    "__rkcov_enter",
    "__rkcov_leave",
    "__rkcov_end",
    "rkcov_ioctl",
    "fork",
    "_Fork",
    "__fork",
    "__libc_fork",
    "vfork",
    "__vfork",
];

/// Functions of the C library and of compilers' own that return, or end the process with a fault:
/// they wait for nobody, call nothing back and throw nothing.
const RETURN: &[&str] = &[
    // Memory and strings.
    "memcpy",
    "memmove",
    "memset",
    "memcmp",
    "memchr",
    "memrchr",
    "mempcpy",
    "bcmp",
    "bzero",
    "__memcpy_chk",
    "__memmove_chk",
    "__memset_chk",
    "explicit_bzero",
    "strlen",
    "strnlen",
    "strcmp",
    "strncmp",
    "strcasecmp",
    "strncasecmp",
    "strcoll",
    "strcpy",
    "strncpy",
    "stpcpy",
    "strcat",
    "strncat",
    "strchr",
    "strrchr",
    "strchrnul",
    "strstr",
    "strspn",
    "strcspn",
    "strpbrk",
    "strtok",
    "strtok_r",
    "strsep",
    "strdup",
    "strndup",
    "strerror",
    "__strcpy_chk",
    "__strncpy_chk",
    "__strcat_chk",
    "__strdup",
    // Storage.
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "aligned_alloc",
    "posix_memalign",
    "_ZdlPv",
    "_ZdlPvm",
    "_ZdaPv",
    "_ZdaPvm",
    "_ZdlPvSt11align_val_t",
    "_ZdlPvmSt11align_val_t",
    "_ZnwmRKSt9nothrow_t",
    "_ZnamRKSt9nothrow_t",
    // Numbers.
    "abs",
    "labs",
    "llabs",
    "atoi",
    "atol",
    "atoll",
    "atof",
    "strtol",
    "strtoul",
    "strtoll",
    "strtoull",
    "strtod",
    "strtof",
    "strtold",
    "__isoc23_strtol",
    "__isoc23_strtoul",
    "rand",
    "srand",
    "rand_r",
    "random",
    "srandom",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "atan2",
    "exp",
    "exp2",
    "log",
    "log2",
    "log10",
    "pow",
    "sqrt",
    "cbrt",
    "floor",
    "ceil",
    "round",
    "trunc",
    "fmod",
    "fabs",
    "ldexp",
    "frexp",
    "modf",
    "lround",
    "llround",
    "lrint",
    "rint",
    "nearbyint",
    "hypot",
    "sinf",
    "cosf",
    "sqrtf",
    "floorf",
    "ceilf",
    "powf",
    "expf",
    "logf",
    "fmodf",
    "roundf",
    // Characters.
    "isalpha",
    "isdigit",
    "isalnum",
    "isspace",
    "isupper",
    "islower",
    "isxdigit",
    "ispunct",
    "isprint",
    "iscntrl",
    "isgraph",
    "tolower",
    "toupper",
    "__ctype_b_loc",
    "__ctype_tolower_loc",
    "__ctype_toupper_loc",
    // Output. A reader that is gone may end the process in it, as a fault would.
    "printf",
    "fprintf",
    "vprintf",
    "vfprintf",
    "sprintf",
    "snprintf",
    "vsprintf",
    "vsnprintf",
    "asprintf",
    "vasprintf",
    "__printf_chk",
    "__fprintf_chk",
    "__vfprintf_chk",
    "__sprintf_chk",
    "__snprintf_chk",
    "__vsnprintf_chk",
    "__asprintf_chk",
    "puts",
    "fputs",
    "putchar",
    "putc",
    "fputc",
    "fwrite",
    "fflush",
    "perror",
    "_IO_putc",
    // The process and its threads' own.
    "__errno_location",
    "getenv",
    "secure_getenv",
    "setenv",
    "unsetenv",
    "time",
    "clock",
    "clock_gettime",
    "gettimeofday",
    "getpid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "pthread_self",
    "pthread_mutex_unlock",
    "pthread_cond_signal",
    "pthread_cond_broadcast",
    "gmtime",
    "gmtime_r",
    "localtime",
    "localtime_r",
    "mktime",
    "strftime",
    "__cxa_atexit",
    "atexit",
    "__cxa_begin_catch",
    "__cxa_allocate_exception",
    "__cxa_guard_release",
    "__tls_get_addr",
    "_setjmp",
    "setjmp",
    "__sigsetjmp",
    "sigsetjmp",
];

/// Where control goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Callee {
    /// To a callback of the instrumentation.
    Callback,
    /// Somewhere whence it does not come back.
    Endless,
    /// Somewhere whence it comes back.
    Returns,
    /// Somewhere whence it comes back, and what runs then may be recorded for somebody else.
    Turns,
    /// To the function at this address of the same image.
    Function(u64),
    /// Nobody knows.
    Unknown,
}

/// Entries of routines that never return.
#[derive(Debug, Default)]
pub(super) struct Endless(HashSet<u64>);

impl Endless {
    pub(super) fn contains(&self, entry: u64) -> bool {
        self.0.contains(&entry)
    }

    /// Adds entries. Whether any is new.
    pub(super) fn extend(&mut self, entries: Vec<u64>) -> bool {
        let before = self.0.len();
        self.0.extend(entries);
        self.0.len() > before
    }
}

/// The names of an image's addresses, and its code.
pub(super) struct Callees<'a> {
    machine: Machine,
    segments: Vec<Segment<'a>>,
    /// Symbols that matter here, by address.
    named: HashMap<u64, Callee>,
    /// Words in memory through which the image calls others, by the address of the word.
    slots: HashMap<u64, Callee>,
    functions: &'a [Function],
    /// Where checks and stores go.
    pub(super) sites: Sections,
    /// Whether callbacks stand behind a gate.
    pub(super) gated: bool,
}

struct Segment<'a> {
    range: Range<u64>,
    bytes: &'a [u8],
    code: bool,
}

impl<'a> Callees<'a> {
    /// `None` if the image is of a processor that is not known here.
    pub(super) fn new(object: &object::File<'a>, functions: &'a [Function]) -> Option<Self> {
        let machine = Machine::of(object)?;
        let segments = object
            .segments()
            .filter_map(|segment| {
                let bytes = segment.data().ok()?;
                let start = segment.address();
                let end = start.checked_add(bytes.len() as u64)?;
                let SegmentFlags::Elf { p_flags, .. } = segment.flags() else {
                    return None;
                };
                Some(Segment {
                    range: start..end,
                    bytes,
                    code: p_flags.contains(object::elf::PF_X),
                })
            })
            .collect();
        let mut all = Self {
            machine,
            segments,
            named: HashMap::new(),
            slots: HashMap::new(),
            functions,
            sites: Sections::new(object),
            gated: false,
        };
        let defined = object.symbols().chain(object.dynamic_symbols());
        let executable = object.section_by_name(".interp").is_some();
        // The address, and whether the symbol is weak.
        let mut entries: HashMap<&str, (u64, bool)> = HashMap::new();
        for symbol in defined.filter(|symbol| symbol.is_definition()) {
            if let Ok(name) = symbol.name() {
                all.gated |= name == "__sancov_should_track";
                entries.insert(name, (symbol.address(), symbol.is_weak()));
                if let Some(callee) = by_name(name) {
                    all.named.insert(symbol.address(), callee);
                }
            }
        }
        // The symbols of separate debug information.
        for function in functions {
            if let Some(callee) = by_name(&function.name) {
                all.named.insert(function.range.start, callee);
            }
        }
        let others = object.dynamic_symbol_table();
        for (slot, relocation) in object.dynamic_relocations().into_iter().flatten() {
            let callee = match relocation.target() {
                RelocationTarget::Symbol(index) => {
                    let symbol = others.as_ref().and_then(|t| t.symbol_by_index(index).ok());
                    let Some(name) = symbol.and_then(|symbol| symbol.name().ok()) else {
                        continue;
                    };
                    match (by_name(name), entries.get(name)) {
                        (Some(callee), _) => callee,
                        // Another image's copy may have taken the place of a library's own.
                        (None, Some((_, true))) if !executable => continue,
                        (None, Some((entry, _))) => Callee::Function(*entry),
                        (None, None) => match imported(name) {
                            Some(callee) => callee,
                            None => continue,
                        },
                    }
                }
                // The address of one of the image's own functions.
                RelocationTarget::Absolute => {
                    let entry = relocation.addend().cast_unsigned();
                    match all.named.get(&entry) {
                        Some(callee) => *callee,
                        None => continue,
                    }
                }
                _ => continue,
            };
            all.slots.insert(slot, callee);
        }
        Some(all)
    }

    /// Whether the image knows a callback or has sites, and so may have instrumented code.
    pub(super) fn has_callbacks(&self) -> bool {
        let mut known = self.named.values().chain(self.slots.values());
        self.sites.any() || known.any(|callee| *callee == Callee::Callback)
    }

    /// What is called at this address.
    pub(super) fn at(&self, address: u64) -> Callee {
        if let Some(callee) = self.named.get(&address) {
            return *callee;
        }
        let after = self.functions.partition_point(|f| f.range.start <= address);
        let function = after.checked_sub(1).map(|at| &self.functions[at]);
        match function {
            Some(function) if function.range.start == address && !function.name.is_empty() => {
                Callee::Function(address)
            }
            _ => self.stub(address).unwrap_or(Callee::Function(address)),
        }
    }

    /// What is called through the word at this address.
    pub(super) fn through(&self, slot: u64) -> Callee {
        self.slots.get(&slot).copied().unwrap_or(Callee::Unknown)
    }

    /// A few instructions that jump through a slot, as linkers put them for other modules'
    /// functions.
    fn stub(&self, address: u64) -> Option<Callee> {
        const LONGEST: u64 = 24;
        let code = self.code(&(address..address.checked_add(LONGEST)?))?;
        let slot = self.machine.stub(code, address)?;
        self.slots.get(&slot).copied()
    }

    /// Reads the code of one function.
    pub(super) fn scan(&self, range: &Range<u64>) -> Scan {
        self.machine.scan(self, range)
    }

    /// Whether code does nothing and only fills space.
    pub(super) fn is_filler(&self, range: &Range<u64>) -> bool {
        self.machine.is_filler(self.code(range).unwrap_or_default())
    }

    /// The machine code in `range`, as much of it as there is.
    pub(super) fn code(&self, range: &Range<u64>) -> Option<&'a [u8]> {
        self.bytes(range, true)
    }

    /// The four or eight bytes of a table at `address`.
    pub(super) fn word<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let end = address.checked_add(N as u64)?;
        self.bytes(&(address..end), false)?.try_into().ok()
    }

    fn bytes(&self, range: &Range<u64>, code: bool) -> Option<&'a [u8]> {
        let segment = self
            .segments
            .iter()
            .find(|segment| segment.range.contains(&range.start) && (!code || segment.code))?;
        let start = usize::try_from(range.start - segment.range.start).ok()?;
        let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        let end = start.saturating_add(len).min(segment.bytes.len());
        segment.bytes.get(start..end)
    }
}

fn by_name(name: &str) -> Option<Callee> {
    if CALLBACKS.contains(&name) {
        return Some(Callee::Callback);
    }
    // Rust's panics, and the C++ library's functions that throw.
    let panics = name.contains("4core9panicking")
        || name.contains("core6option13expect_failed")
        || name.contains("core6option13unwrap_failed")
        || name.contains("core6result13unwrap_failed")
        || name.contains("18handle_alloc_error")
        || name.starts_with("_ZSt") && name.contains("__throw_");
    if panics || ENDLESS.contains(&name) {
        return Some(Callee::Endless);
    }
    if TURN.contains(&name) || name.starts_with("kcov_remote_st") {
        return Some(Callee::Turns);
    }
    // Callbacks of other sorts: for comparisons, divisions.
    name.starts_with("__sanitizer_cov_trace_")
        .then_some(Callee::Returns)
}

/// What a function of another image is, if its name tells.
fn imported(name: &str) -> Option<Callee> {
    static RETURNING: LazyLock<HashSet<&str>> = LazyLock::new(|| RETURN.iter().copied().collect());
    by_name(name).or_else(|| RETURNING.contains(name).then_some(Callee::Returns))
}
