// SPDX-License-Identifier: MIT OR Apache-2.0
//! The conformance suite as a program.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use libtest_mimic::Arguments;
use rkcov_conformance::cases::Case;
use rkcov_conformance::differences::{Differences, Table};
use rkcov_conformance::faults::Tried;
use rkcov_conformance::hosts::{Kind, SIMULATED};
use rkcov_conformance::live::kernel::{KernelDevice, DEVICE};
use rkcov_conformance::live::program::Program;
use rkcov_conformance::mutants::{self, Mutants};
use rkcov_conformance::result::{self, Results};
use rkcov_conformance::stage::Stop;
use rkcov_conformance::{bytes, cases, faults, history, live, matrix, replay, sim, suite};
use rkcov_model::script;

/// One conformance suite for every kcov.
#[derive(Parser)]
#[command(version, name = "rkcov-conformance")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the suite.
    Run {
        /// The hosts to test; default: all simulated hosts.
        #[arg(long = "host", value_name = "NAME")]
        hosts: Vec<String>,
        /// Where a kernel's kcov is, for `--host device`.
        #[arg(long, value_name = "PATH", default_value = DEVICE)]
        device: PathBuf,
        /// The agent program of another kcov, see docs/conformance.md. Its name is the host's name.
        #[arg(long = "agent", value_name = "PROGRAM")]
        agents: Vec<PathBuf>,
        /// Expect the known differences of a kcov: `linux-6.12` or `linux-7.3`, the C kcovs of these versions.
        #[arg(long, value_name = "KCOV")]
        differences: Option<String>,
        /// Run only cases that are known to damage that kcov; reboot the kernel afterwards.
        #[arg(long, requires = "differences")]
        harmful: bool,
        /// Write results as JSON lines to this file, `-` for standard output.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Update the results in conformance/results; those of cases that a filter leaves out stay.
        #[arg(long, conflicts_with = "harmful")]
        keep: bool,
        /// Options of a test program: a filter, `--list`, `--exact`, `--skip`, `--quiet`...
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        test: Vec<String>,
    },
    /// Print all clauses and their cases.
    Cases,
    /// Print the matrix of clauses and hosts.
    Matrix {
        /// Write it to docs/conformance-matrix.md.
        #[arg(long)]
        write: bool,
    },
    /// Import results from a file of JSON lines, such as a guest's console, into conformance/results.
    Import {
        /// The file.
        file: PathBuf,
        /// The name for these results; default: the host's name.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// Print the table of differences as a page.
    Differences {
        /// Write it to docs/conformance-differences.md.
        #[arg(long)]
        write: bool,
    },
    /// Run random histories on the rules and on the model, and print the first that differs.
    Histories {
        /// The number of histories of each kind. Each has about 130 operations.
        #[arg(long, default_value_t = 2000)]
        count: u32,
    },
    /// Write the operations of each case as an input for the fuzz target `calls`.
    Seeds {
        /// The folder for the inputs, one file each.
        folder: PathBuf,
    },
    /// Let each allocation of each case fail once, and compare the rules with the model. In a kernel
    /// with fault injection, check the invariants instead.
    Faults {
        /// `device`: test this kernel instead of the simulated hosts.
        #[arg(long, value_name = "NAME", value_parser = ["device"])]
        host: Option<String>,
        /// Where a kernel's kcov is, for `--host device`.
        #[arg(long, value_name = "PATH", default_value = DEVICE)]
        device: PathBuf,
        /// In a kernel, run only cases whose names contain this.
        #[arg(default_value = "", requires = "host")]
        only: String,
    },
    /// Put deliberate bugs into a copy of the sources and check that tests detect them.
    Mutants {
        /// Only these bugs.
        names: Vec<String>,
        /// Update their rows in docs/conformance-mutants.md.
        #[arg(long)]
        write: bool,
    },
    /// Run a script on a host, and print its results beside those of the model.
    Replay {
        /// The script.
        script: PathBuf,
        /// The host.
        #[arg(long, value_name = "NAME", default_value = "core-userspace")]
        host: String,
        /// Where a kernel's kcov is, for `--host device`.
        #[arg(long, value_name = "PATH", default_value = DEVICE)]
        device: PathBuf,
        /// The agent program of another kcov, instead of a host.
        #[arg(long, value_name = "PROGRAM", conflicts_with = "host")]
        agent: Option<PathBuf>,
    },
    /// Run the tasks of a live host. The suite starts this itself.
    #[command(hide = true)]
    Agent {
        #[arg(long)]
        device: PathBuf,
        #[arg(long, default_value = "")]
        files: String,
        socket: PathBuf,
        task: String,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rkcov-conformance: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Run {
            hosts,
            device,
            agents,
            differences,
            harmful,
            json,
            keep,
            test,
        } => {
            let named = hosts.iter().map(|name| Kind::named(name, device.clone()));
            let mut kinds = named.collect::<Result<Vec<_>, _>>()?;
            kinds.extend(
                agents
                    .into_iter()
                    .map(|path| Kind::Agent(Program::new(path))),
            );
            if kinds.is_empty() {
                kinds.extend(SIMULATED);
            }
            let table = match differences.as_deref() {
                None => Table::default(),
                Some(kcov) => Differences::known()?.of(kcov)?,
            };
            let name = ["rkcov-conformance".to_owned()];
            let mut arguments = Arguments::from_iter(name.into_iter().chain(test));
            // A kernel has one kcov, and its counters are everybody's.
            if kinds.iter().any(Kind::is_live) {
                arguments.test_threads = Some(1);
            }
            let (conclusion, results) = suite::run(&arguments, &kinds, table, harmful);
            if arguments.list {
                return Ok(ExitCode::SUCCESS);
            }
            report(&kinds, &results, json, keep)?;
            Ok(conclusion.exit_code())
        }
        Command::Cases => {
            for clause in cases::clauses() {
                println!("{}: {}", clause.id, clause.text);
                for case in cases::cases().filter(|case| case.clause() == clause.id) {
                    println!("    {}: {}", case.id, case.title);
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Matrix { write } => page(&matrix::print(&matrix::kept()?), write, &matrix::page()),
        Command::Differences { write } => {
            let text = Differences::known()?.page();
            page(
                &text,
                write,
                &matrix::page().with_file_name("conformance-differences.md"),
            )
        }
        Command::Import { file, name } => {
            let text = fs::read(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            let hosts = result::parse(&String::from_utf8_lossy(&text));
            if hosts.is_empty() {
                return Err(format!("{}: no results in it", file.display()));
            }
            for (host, results) in hosts {
                let host = name.as_ref().unwrap_or(&host);
                matrix::keep(host, &results)?;
                println!("{host}: {} cases", results.len());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Histories { count } => {
            for new in [sim::userspace, sim::kernel] {
                match history::search(new, count) {
                    Ok(told) => println!("{}: {told} operations", new().traits().name),
                    Err(divergence) => {
                        println!("{divergence}");
                        return Ok(ExitCode::FAILURE);
                    }
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Faults {
            host: Some(_),
            device,
            only,
        } => fail_in_kernel(&device, &only),
        Command::Faults { .. } => {
            for new in [sim::userspace, sim::kernel] {
                match faults::search(new) {
                    Ok(tried) => println!("{}: {tried}", new().traits().name),
                    Err(wrong) => {
                        println!("{wrong}");
                        return Ok(ExitCode::FAILURE);
                    }
                }
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Seeds { folder } => {
            fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            for (name, seed) in bytes::seeds() {
                let file = folder.join(name);
                fs::write(&file, seed).map_err(|e| format!("{}: {e}", file.display()))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Mutants { names, write } => mutate(&names, write),
        Command::Replay {
            script,
            host,
            device,
            agent,
        } => match agent {
            Some(path) => replay(&script, &Kind::Agent(Program::new(path))),
            None => replay(&script, &Kind::named(&host, device)?),
        },
        Command::Agent {
            device,
            files,
            socket,
            task,
        } => {
            rkcov_agent::play(KernelDevice::new(device), socket, &task, &files)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn page(text: &str, write: bool, path: &std::path::Path) -> Result<ExitCode, String> {
    if write {
        fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    } else {
        print!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

fn fail_in_kernel(device: &std::path::Path, only: &str) -> Result<ExitCode, String> {
    let mut all_good = true;
    let played = |case: &Case, tried: &Tried, stop: Option<Stop>| {
        println!("{}: {} failures", case.id, tried.failures);
        if let Some(stop) = stop {
            println!("{}: {stop}", case.id);
            all_good = false;
        }
    };
    let found = live::faults::search(device, only, played);
    let tried = found.map_err(|trouble| trouble.to_string())?;
    println!("device: {tried}");
    Ok(if all_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn mutate(names: &[String], write: bool) -> Result<ExitCode, String> {
    let mutants = Mutants::read()?;
    let chosen = mutants.named(names)?;
    let copy = mutants::Copy::new()?;
    copy.test_without(&chosen)?;
    let mut tested = Vec::new();
    let mut all_caught = true;
    for mutant in chosen {
        let caught = match copy.test(mutant) {
            Ok(caught) => caught,
            // What the others come to is kept all the same.
            Err(why) => {
                println!("{}: {why}", mutant.name);
                all_caught = false;
                continue;
            }
        };
        let by = match (&caught.cases[..], &caught.tests[..], caught.histories) {
            _ if caught.crashed => "crashes".into(),
            _ if caught.refused => "cannot be built".into(),
            ([], [], false) => {
                all_caught = false;
                "SURVIVES".into()
            }
            ([], [], true) => "caught by histories".into(),
            ([], [first, rest @ ..], _) => {
                format!("caught by {first}, {} more", rest.len())
            }
            ([first, rest @ ..], _, histories) => {
                let more = if histories { " and histories" } else { "" };
                format!("caught by {first}, {} more cases{more}", rest.len())
            }
        };
        println!("{}: {by}", mutant.name);
        tested.push((mutant, caught));
    }
    if write {
        let path = matrix::page().with_file_name("conformance-mutants.md");
        let kept = fs::read_to_string(&path).unwrap_or_default();
        page(&mutants::page(&mutants, &tested, &kept), true, &path)?;
    }
    Ok(if all_caught {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(
    kinds: &[Kind],
    results: &[Results],
    json: Option<PathBuf>,
    keep: bool,
) -> Result<(), String> {
    let mut lines = String::new();
    for (kind, results) in kinds.iter().zip(results) {
        if keep {
            matrix::keep(kind.name(), results)?;
        }
        lines.push_str(&result::print(kind.name(), results));
    }
    match json {
        Some(path) if path.as_os_str() == "-" => print!("{lines}"),
        Some(path) => fs::write(&path, lines).map_err(|e| format!("{}: {e}", path.display()))?,
        None => {}
    }
    Ok(())
}

fn replay(path: &std::path::Path, kind: &Kind) -> Result<ExitCode, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let ops = script::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut host = kind.make().map_err(|e| e.to_string())?;
    let mut differs = false;
    for told in replay::replay(&ops, &mut *host).map_err(|e| e.to_string())? {
        differs |= told.differs;
        println!("{told}");
    }
    Ok(if differs {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
