// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the callbacks cost.
//!
//! The rules of every figure here: all variants are built from the same sources with the same
//! options, and run in the same call, one after the other, round by round; a figure is the median
//! over all rounds of the *ratio* to another variant in the same round, since machines are noisy
//! and drift; rounds go through several layouts of the same code; the raw rows are kept.

mod build;
mod rows;

use build::{Collection, Variant};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use rows::Rows;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use xtask::shell::Error;

/// Measure what the callbacks cost on zlib's inflate
#[derive(Debug, Parser)]
struct Args {
    /// How often each variant is run
    #[arg(long, default_value_t = 32)]
    rounds: usize,
    /// How often a run inflates the file
    #[arg(long, default_value_t = 12)]
    repeat: usize,
    /// Where the raw rows go
    #[arg(long, default_value = "bench/results/callbacks.csv")]
    rows: PathBuf,
}

/// One figure: the ratio of two variants.
struct Figure {
    what: &'static str,
    of: Variant,
    to: Variant,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Error> {
    let figures = figures();
    let mut variants: Vec<Variant> = Vec::new();
    for variant in figures.iter().flat_map(|figure| [figure.of, figure.to]) {
        if variant.compiler_is_here() && !variants.contains(&variant) {
            variants.push(variant);
        }
    }
    let bench = build::Bench::prepare()?;
    let programs: Vec<Vec<PathBuf>> = variants
        .iter()
        .map(|variant| bench.build(*variant))
        .collect::<Result<_, _>>()?;

    let bar = ProgressBar::new(args.rounds as u64).with_style(
        ProgressStyle::with_template("{msg} [{bar:40}] {pos}/{len} {eta}").expect("a template"),
    );
    bar.set_message("rounds");
    let mut rows = Rows::default();
    for round in 0..args.rounds {
        for (variant, layouts) in variants.iter().zip(&programs) {
            let program = &layouts[round % layouts.len()];
            let collection = if variant.on { "on" } else { "off" };
            let mut command = Command::new(program);
            command
                .arg(bench.packed())
                .arg(args.repeat.to_string())
                .arg(collection);
            let output = xtask::shell::read(&mut command)?;
            let nanoseconds = output
                .split_whitespace()
                .next()
                .and_then(|n| n.parse().ok());
            rows.push(
                round,
                variant,
                nanoseconds.ok_or("the driver printed no time")?,
            );
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    rows.write(&args.rows)?;

    println!(
        "zlib's inflate, medians of {} interleaved rounds\n",
        args.rounds
    );
    println!("| ratio | median | quartiles |\n| --- | --- | --- |");
    for Figure { what, of, to } in &figures {
        if let Some(ratio) = rows.ratio(of, to) {
            let [low, median, high] = ratio;
            println!("| {what} | {median:.3} | {low:.3} - {high:.3} |");
        }
    }
    println!("\nraw rows: {}", args.rows.display());
    Ok(())
}

/// What is worth knowing.
fn figures() -> Vec<Figure> {
    use build::{Compiler, Instrumentation};
    let variant = |compiler, instrumentation, collection, on| Variant {
        compiler,
        instrumentation,
        collection,
        on,
    };
    let mut figures = Vec::new();
    for (compiler, instrumentation, [off, on, base_off, base_on]) in [
        (
            Compiler::Gcc,
            Instrumentation::TracePc,
            [
                "gcc trace-pc, off: rkcov to C",
                "gcc trace-pc, on: rkcov to C",
                "gcc trace-pc, off: rkcov to uninstrumented",
                "gcc trace-pc, on: rkcov to uninstrumented",
            ],
        ),
        (
            Compiler::Clang,
            Instrumentation::Guard,
            [
                "clang trace-pc-guard, off: rkcov to C",
                "clang trace-pc-guard, on: rkcov to C",
                "clang trace-pc-guard, off: rkcov to uninstrumented",
                "clang trace-pc-guard, on: rkcov to uninstrumented",
            ],
        ),
    ] {
        let plain = variant(compiler, Instrumentation::None, Collection::None, false);
        let ours = |on| variant(compiler, instrumentation, Collection::Rkcov, on);
        let theirs = |on| variant(compiler, instrumentation, Collection::Reference, on);
        figures.extend([
            Figure {
                what: off,
                of: ours(false),
                to: theirs(false),
            },
            Figure {
                what: on,
                of: ours(true),
                to: theirs(true),
            },
            Figure {
                what: base_off,
                of: ours(false),
                to: plain,
            },
            Figure {
                what: base_on,
                of: ours(true),
                to: plain,
            },
        ]);
    }
    let plain = variant(
        Compiler::Clang,
        Instrumentation::None,
        Collection::None,
        false,
    );
    let wrapped = variant(
        Compiler::Clang,
        Instrumentation::Wrapper,
        Collection::Rkcov,
        false,
    );
    figures.push(Figure {
        what: "clang by rkcov cc, gate never opened: to uninstrumented",
        of: wrapped,
        to: plain,
    });
    figures
}
