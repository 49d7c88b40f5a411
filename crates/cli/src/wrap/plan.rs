// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is added to a command line, or why nothing is.

use super::request::{Debug, Output, OwnCoverage, Request, Stage};
use super::Options;
use crate::toolchain::{probe, Compiler, Family, Instrumentation};
use rkcov_rewrite::assembly::Form;
use std::fmt;

/// How the runtime goes into what is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The static object, its callbacks exported for the shared libraries that the program loads.
    Executable,
    /// The static object, in a program without shared libraries.
    StaticExecutable,
    /// The shared library: a copy of the object in each library would count apart.
    Shared,
}

/// Why a command line is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Neither code nor a linked file comes of it.
    NoCode,
    /// It makes an object file of object files.
    Relocatable,
    /// It calls the compiler's own parts.
    Internal,
    /// The project has coverage callbacks of its own.
    OwnCoverage,
    /// No operating system or C library under the code.
    Freestanding,
    /// The code is for another machine than the runtime.
    OtherTarget(String),
    /// The compiler has no instrumentation that rkcov knows.
    NoInstrumentation,
    /// Counters are asked for, which the compiler cannot make.
    NoCounters,
    /// What is linked has counters, which a fuzzer reads.
    NoRuntime,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCode => f.write_str("it compiles no code"),
            Self::Relocatable => f.write_str("it joins object files into one"),
            Self::Internal => f.write_str("it calls the compiler's own parts"),
            Self::OwnCoverage => f.write_str("it has its own coverage options"),
            Self::Freestanding => f.write_str("the code has no C library"),
            Self::OtherTarget(target) => write!(f, "the code is for {target}"),
            Self::NoInstrumentation => f.write_str("the compiler cannot instrument"),
            Self::NoCounters => f.write_str("the compiler cannot make counters"),
            Self::NoRuntime => f.write_str("programs with counters have a fuzzer for the runtime"),
        }
    }
}

/// What is added to a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Leave(Reason),
    /// Instrumentation, the runtime, its header, or all of them.
    Add {
        /// Options before the user's arguments.
        front: Vec<&'static str>,
        /// An option after the user's argument of this index.
        after: Option<(usize, &'static str)>,
        /// Sources are read, which find the runtime's header behind the user's own folders.
        header: bool,
        /// We stand in the assembler's place, and make sites of this form.
        assembles: Option<Form>,
        /// The runtime that is linked.
        link: Option<Link>,
    },
}

/// Decides what to add to a command line that asks `compiler` for `request`. `host` is the
/// architecture that there is a runtime for.
#[must_use]
pub fn plan(request: &Request, compiler: &Compiler, host: &str, options: Options) -> Plan {
    if request.internal {
        return Plan::Leave(Reason::Internal);
    }
    if !request.compiles && !request.links {
        return Plan::Leave(Reason::NoCode);
    }
    let compiles = request.compiles && request.stage != Stage::Read;
    if request.own_coverage == OwnCoverage::Asked {
        return Plan::Leave(Reason::OwnCoverage);
    }
    if request.freestanding {
        return Plan::Leave(Reason::Freestanding);
    }
    if let Some(target) = other_target(request, compiler, host) {
        return Plan::Leave(Reason::OtherTarget(target));
    }
    // Clang's link-time optimizer writes no assembly, and what it writes in Intel's syntax neither GNU's
    // assembler nor its own reads back as soon as there is a line of the program's own in it.
    let calls = options.calls
        || (compiler.family == Family::Clang && (request.link_time || request.intel_syntax));
    let counters = Some(Instrumentation::Counters)
        .filter(|counters| compiler.instrumentations.contains(counters));
    let best = match options.counters {
        true => counters.ok_or(Reason::NoCounters),
        false => compiler.best(calls).ok_or(Reason::NoInstrumentation),
    };
    let best = match best {
        Ok(best) => best,
        Err(reason) => return Plan::Leave(reason),
    };
    let link = match request.output {
        _ if !request.links || options.counters => None,
        Output::Executable => Some(Link::Executable),
        Output::StaticExecutable => Some(Link::StaticExecutable),
        Output::Shared => Some(Link::Shared),
        Output::Relocatable => None,
    };

    let family = compiler.family;
    let mut front = Vec::new();
    let mut after = None;
    // gcc's link-time optimizer instruments when it links, and only if it is told again then.
    let makes_code = compiles || (family == Family::Gcc && request.links);
    let instruments = makes_code && request.own_coverage == OwnCoverage::Unasked;
    if instruments {
        front.extend_from_slice(best.options(family).unwrap_or_default());
        if options.comparisons && compiler.comparisons {
            front.extend_from_slice(probe::comparison_options(family));
        }
    }
    if compiles {
        let line_tables = match family {
            Family::Gcc => "-g1",
            Family::Clang => "-gline-tables-only",
        };
        // Clang leaves the linkage names out of line tables, and with them the scopes and arguments of
        // functions that were inlined, unless they are for a profile.
        if family == Family::Clang && request.debug != Debug::Asked {
            front.push("-fdebug-info-for-profiling");
        }
        match request.debug {
            Debug::Unasked => front.push(line_tables),
            Debug::Asked => {}
            Debug::Refused(index) => after = Some((index, line_tables)),
        }
    }
    if front.is_empty() && after.is_none() && link.is_none() && !request.compiles {
        return Plan::Leave(match options.counters {
            true => Reason::NoRuntime,
            false => Reason::Relocatable,
        });
    }
    Plan::Add {
        front,
        after,
        header: request.compiles,
        // A link without code to make needs no assembler, and build systems look at its folders.
        assembles: best
            .form(family)
            .filter(|_| instruments && (compiles || request.link_time)),
        link,
    }
}

/// The target, if it is not the machine that there is a runtime for.
fn other_target(request: &Request, compiler: &Compiler, host: &str) -> Option<String> {
    match &request.target {
        _ if request.other_word_size => Some(format!("another word size than {}", compiler.arch)),
        Some(target) => {
            let target = target.to_string_lossy();
            let (arch, system) = target.split_once('-').unwrap_or((&target, ""));
            let here = arch == host && (system.contains("linux"));
            (!here).then(|| target.into_owned())
        }
        None => (compiler.arch != host).then(|| compiler.arch.clone()),
    }
}
