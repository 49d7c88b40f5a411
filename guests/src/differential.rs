// SPDX-License-Identifier: MIT OR Apache-2.0
//! The same system calls under both kcovs, in kernels that are built alike: what every run recorded
//! has to be the same code. Beside it the control: the C kcov against itself, booted again.

use crate::guest::{compile, Guest, Kernel, Result};
use crate::symbols::{frames, Symbols};
use rkcov_linux::{Arch, Checks, Clock, Kcov};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which comparison.
#[derive(clap::Args)]
pub(crate) struct Differential {
    /// What the kernels run on
    #[arg(long, value_name = "x86-64|uml", default_value = "uml")]
    arch: Arch,
    /// How often each snippet is run under each kcov
    #[arg(long, default_value_t = 20)]
    runs: u32,
    /// The tree to build both kernels from, in the place of Debian's Linux 6.12
    #[arg(long, value_name = "DIR", conflicts_with = "write")]
    tree: Option<PathBuf>,
    /// A file with lines as CONFIG_X=y for both kernels' configuration; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "write")]
    config: Vec<PathBuf>,
    /// Write docs/differential.md, and the results to guests/results
    #[arg(long)]
    write: bool,
}

/// Fewer snippets than this show little.
const SNIPPETS: usize = 200;
const LIMIT: Duration = Duration::from_secs(1800);
/// Every process has its memory at the same places, and no name shares a place in the table of names
/// with another by chance.
const PARAMETERS: &str = "norandmaps dhash_entries=8388608";
/// How fast a processor is, which would otherwise be measured at each boot, and the kernel at the same place.
const ON_X86_64: &str = "lpj=5000000 tsc_early_khz=1000000 nokaslr";
/// It looks for a number in a hash table whose key is random.
const RANDOM: &str = "super_dev_register";
/// Inlined into instrumented code, and of kcov itself.
const OWN_HEADER: &str = "include/linux/kcov.h";

/// Code that was recorded: `symbol+offset`.
type Places = BTreeSet<String>;

/// What a boot recorded of each snippet.
type Boot = BTreeMap<String, Snippet>;

/// What was recorded of a snippet.
struct Snippet {
    /// By every run.
    all: Places,
    /// How many PCs any run had.
    any: usize,
}

/// Boots three times, compares, and fails if the kcovs differ.
pub(crate) fn run(differential: &Differential) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let program = folder.path().join("snippets");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/snippets.c");
    compile(differential.arch, &source, &program, &["-O1", "-w"])?;
    let boots = [("Rust", Kcov::Rust), ("C", Kcov::C), ("C, again", Kcov::C)];
    let mut recorded = Vec::new();
    for (name, kcov) in boots {
        let boot = boot(differential, kcov, &program).map_err(|e| format!("{name}: {e}"))?;
        let pcs: usize = boot.values().map(|snippet| snippet.all.len()).sum();
        println!(
            "{name}: {} snippets, {pcs} PCs in all their runs",
            boot.len()
        );
        recorded.push(boot);
    }
    let [rust, c, again] = &recorded[..] else {
        return Err("three boots".into());
    };
    let (found, control) = (differences(rust, c), differences(c, again));
    for (what, differences) in [("Rust against C", &found), ("C against C", &control)] {
        println!("{what}: {} snippets differ", differences.len());
        for difference in differences {
            println!("{difference}");
        }
    }
    if differential.write {
        let page = page(differential, &recorded, &found, &control)?;
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::write(top.join("../docs/differential.md"), page)?;
        fs::create_dir_all(top.join("results"))?;
        fs::write(top.join("results/differential.txt"), results(&recorded))?;
    }
    if let Some(few) = recorded.iter().find(|boot| boot.len() < SNIPPETS) {
        Err(format!("only {} snippets", few.len()).into())
    } else if found.is_empty() {
        Ok(())
    } else {
        Err(format!("{} snippets differ", found.len()).into())
    }
}

fn boot(differential: &Differential, kcov: Kcov, program: &PathBuf) -> Result<Boot> {
    let mut guest = Guest::new(&Kernel {
        arch: differential.arch,
        kcov,
        checks: Checks::Plain,
        tree: differential.tree.clone(),
        config: differential.config.clone(),
        inside: None,
    })?;
    guest.limit = LIMIT;
    guest.clock = Clock::Own;
    let more = match differential.arch {
        Arch::X86_64 => ON_X86_64,
        Arch::Arm64 | Arch::Uml => "",
    };
    guest.parameters = format!("{} {PARAMETERS} {more}", guest.parameters);
    let command = vec![program.into(), differential.runs.to_string().into()];
    let printed = guest.run(command, std::slice::from_ref(program))?;
    let symbols = Symbols::of(&guest.image)?;
    let mut symbolizer = symbols.symbolizer()?;
    // Most PCs are of many snippets.
    let mut known: BTreeMap<u64, Option<String>> = BTreeMap::new();
    let mut boot = Boot::new();
    for line in printed.lines() {
        let mut words = line.split(' ');
        let (Some(name), Some(any)) = (words.next(), words.next()) else {
            return Err(format!("a bad line: {line}").into());
        };
        let mut all = Places::new();
        for word in words {
            let pc = u64::from_str_radix(word, 16)?;
            let place = known.entry(pc).or_insert_with(|| {
                let frames = frames(&mut symbolizer, pc);
                let file = frames.first().and_then(|frame| frame.file.as_deref());
                let own = file.is_some_and(|file| Path::new(file).ends_with(OWN_HEADER));
                let place = symbols.place(pc);
                let random = place.split('+').next() == Some(RANDOM);
                (!own && !random).then_some(place)
            });
            all.extend(place.clone());
        }
        let any = any.parse()?;
        boot.insert(name.to_owned(), Snippet { all, any });
    }
    Ok(boot)
}

/// The snippets of which not the same was recorded, each with what only one side has.
fn differences(one: &Boot, other: &Boot) -> Vec<String> {
    let none = Places::new();
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let mut differences = Vec::new();
    for name in names {
        let [one, other] = [one, other].map(|boot| boot.get(name).map_or(&none, |s| &s.all));
        if one == other && !one.is_empty() {
            continue;
        }
        let only = |a: &Places, b: &Places| {
            let only: Vec<&str> = a.difference(b).map(String::as_str).collect();
            only.join(" ")
        };
        differences.push(format!(
            "{name}: only the first: [{}], only the second: [{}]",
            only(one, other),
            only(other, one)
        ));
    }
    differences
}

/// One line for each snippet: its name, and for each boot how many PCs all runs had, how many any
/// run had, and what the former are, as a number.
fn results(boots: &[Boot]) -> String {
    let names: BTreeSet<&String> = boots.iter().flat_map(|boot| boot.keys()).collect();
    let mut text = String::from(
        "# snippet, then for Rust, C, and C again: PCs of all runs, of any run, digest\n",
    );
    for name in names {
        text.push_str(name);
        for snippet in boots.iter().filter_map(|boot| boot.get(name)) {
            let mut hasher = DefaultHasher::new();
            snippet.all.hash(&mut hasher);
            let digest = hasher.finish();
            // Into a string.
            let _ = write!(text, " {} {} {digest:016x}", snippet.all.len(), snippet.any);
        }
        text.push('\n');
    }
    text
}

/// What the page says before the results.
const INTRODUCTION: &str = "\
# The same system calls under both kcovs

This page is written by `cargo run -p rkcov-guests -- differential --write`. The command runs snippets of system calls,
[`guests/programs/table.h`](../guests/programs/table.h), each in its own child process, which records itself with
kcov. The PCs that all runs of a snippet recorded, as symbols and offsets, must be the same under the Rust kcov and under
the C kcov; both kernels have the same configuration otherwise. Code of kcov's own header, which is inlined into other functions,
is excluded, and so is `super_dev_register()` of Linux 7.3, which looks for a number in a hash table whose key is random. No snippet
opens a kcov device: the two implementations allocate differently. The control compares the C
kcov with itself, in a second boot.

Nothing else is excluded. These sources of noise are removed:

| source of noise | how it is removed |
| --- | --- |
| timer ticks, file times, clock values | the guest has its own clock: User Mode Linux's stands still while code runs (`time-travel=inf-cpu`), and the offsets between all clocks are the same in every boot. Each run begins shortly after the same tick of a second |
| kernel tasks that preempt the snippet | snippets run with real-time priority (`SCHED_FIFO`), on one processor |
| hashes of addresses: socket names, futex queues | such snippets repeat the operation with several objects |
| work left over from the previous run | the guest sleeps for ten ticks or more before each run |
| refills of the kernel's random number buffers | all buffers are emptied before each run (`RNDRESEEDCRNG`); the random numbers still differ between boots |
| pages that the slab allocator frees and allocates again with every object | the kernel is built without `SLUB_TINY` |
| the place of a stack or a mapping within its page table | `norandmaps` |
| the first access to a page, full lists of new pages | each child first accesses its data and its stack, and unmaps a page, which empties the lists |
| directory entries that share a hash chain by chance | a table with so many chains that this is rare (`dhash_entries=`) |
| mounts with the same sum of two addresses, which share a hash chain | the snippet that crossed such a mount opens the folder by a descriptor |
| the measured speed of an x86-64 processor, which `/proc/cpuinfo` prints | it is given (`lpj=`, `tsc_early_khz=`) |
| the date of this machine, the numbers that QEMU gives to the kernel as random, the place of the kernel | an x86-64 guest begins at the same date with the same numbers, at the same place (`nokaslr`) |
| the time that the last run's file left in the memory of a new one, which Linux 7.3 compares with the time that it sets | other files are made and removed between the runs |
| blocks of process ids and of inode numbers | no run begins near the end of a block |
| code that runs only the first few times | five warm-up runs, which are not compared |

";

fn page(
    differential: &Differential,
    boots: &[Boot],
    found: &[String],
    control: &[String],
) -> Result<String> {
    let mut page = INTRODUCTION.to_owned();
    let sum = |boot: &Boot| boot.values().map(|s| s.all.len()).sum::<usize>();
    let distinct = |boot: &Boot| {
        let places: BTreeSet<&String> = boot.values().flat_map(|s| &s.all).collect();
        places.len()
    };
    let snippets = boots.first().map_or(0, BTreeMap::len);
    writeln!(
        page,
        "{snippets} snippets, {} runs of each in each boot.\n",
        differential.runs
    )?;
    writeln!(
        page,
        "| boot | PCs that all runs recorded, summed over snippets | distinct PCs | PCs of some runs only |"
    )?;
    writeln!(page, "| --- | --- | --- | --- |")?;
    for (name, boot) in ["Rust", "C", "C, again"].iter().zip(boots) {
        let any: usize = boot.values().map(|s| s.any).sum();
        let all = sum(boot);
        writeln!(
            page,
            "| {name} | {all} | {} | {} |",
            distinct(boot),
            any.saturating_sub(all)
        )?;
    }
    writeln!(
        page,
        "\n| comparison | snippets that differ |\n| --- | --- |"
    )?;
    writeln!(page, "| Rust against C | {} |", found.len())?;
    writeln!(page, "| C against C | {} |", control.len())?;
    for (what, differences) in [("Rust against C", found), ("C against C", control)] {
        if !differences.is_empty() {
            writeln!(page, "\n{what}:\n")?;
            for difference in differences {
                writeln!(page, "- {difference}")?;
            }
        }
    }
    writeln!(
        page,
        "\nThe counts and digests of each snippet are in [`guests/results/differential.txt`](../guests/results/differential.txt)."
    )?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(snippets: &[(&str, &[&str])]) -> Boot {
        let snippet = |places: &&[&str]| Snippet {
            all: places.iter().map(|p| (*p).to_owned()).collect(),
            any: 9,
        };
        let pairs = snippets.iter();
        pairs
            .map(|(name, places)| ((*name).to_owned(), snippet(places)))
            .collect()
    }

    #[test]
    fn what_differs_is_named_with_what_only_one_has() {
        let one = boot(&[("a", &["f+1", "g+2"]), ("b", &["f+1"]), ("only", &["f+1"])]);
        let other = boot(&[("a", &["f+1", "h+3"]), ("b", &["f+1"])]);
        assert_eq!(
            differences(&one, &other),
            [
                "a: only the first: [g+2], only the second: [h+3]",
                "only: only the first: [f+1], only the second: []"
            ]
        );
        assert_eq!(differences(&one, &one), [""; 0]);
    }

    #[test]
    fn a_snippet_of_which_nothing_was_recorded_is_a_difference() {
        let empty = boot(&[("a", &[])]);
        assert_eq!(differences(&empty, &empty).len(), 1);
    }
}
