// SPDX-License-Identifier: MIT OR Apache-2.0
//! The inputs of `rkcov run --each`: one process and one context for each.

use crate::error::{say, Error};
use rkcov::collector::Collector;
use rkcov::program::Outcome;
use rkcov_report::trace::ContextKind;
use rustix::process::Signal;
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, iter};

/// What stands for the input among a program's arguments.
const PLACE: &[u8] = b"{}";

/// Where inputs come from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Inputs {
    /// Run the program once for each file given so, or for each file of a folder (--each may be repeated);
    /// each run is a context with the file's path as its name. {} in the program's arguments stands for
    /// the path; without one it is the last argument
    #[arg(long, value_name = "PATH", conflicts_with = "context")]
    each: Vec<PathBuf>,
    /// The same for each line of FILE that is not empty (- for standard input)
    #[arg(long, value_name = "FILE", conflicts_with = "context")]
    each_line: Vec<PathBuf>,
}

impl Inputs {
    /// All inputs, in the order in which they were given: files first. `None` if nobody asked for any.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn all(&self) -> Result<Option<Vec<OsString>>, Error> {
        if self.each.is_empty() && self.each_line.is_empty() {
            return Ok(None);
        }
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Input { path, source }
        };
        let mut inputs = Vec::new();
        for path in &self.each {
            let found = files(path).map_err(failed(path))?;
            inputs.extend(found.into_iter().map(PathBuf::into_os_string));
        }
        for path in &self.each_line {
            let bytes = read(path).map_err(failed(path))?;
            inputs.extend(lines(&bytes));
        }
        Ok(Some(inputs))
    }
}

/// The file itself, or those of a folder, by name.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.path();
        if fs::metadata(&file).is_ok_and(|meta| meta.is_file()) {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    fs::read(path)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = OsString> + '_ {
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines
        .filter(|line| !line.is_empty())
        .map(|line| OsString::from_vec(line.to_vec()))
}

/// The program's arguments for an input.
fn arguments(template: &[OsString], input: &OsStr) -> Vec<OsString> {
    let mut placed = false;
    let mut arguments: Vec<_> = template
        .iter()
        .map(|argument| {
            let mut rest = argument.as_bytes();
            let mut bytes = Vec::new();
            while let Some(at) = rest.windows(PLACE.len()).position(|part| part == PLACE) {
                bytes.extend_from_slice(&rest[..at]);
                bytes.extend_from_slice(input.as_bytes());
                rest = &rest[at + PLACE.len()..];
                placed = true;
            }
            bytes.extend_from_slice(rest);
            OsString::from_vec(bytes)
        })
        .collect();
    if !placed {
        arguments.push(input.to_owned());
    }
    arguments
}

/// Runs `command` for each input, one after another, all of them whatever becomes of one; but the
/// key that interrupts a program ends all. Gives the first that failed, or the last.
pub(crate) fn run_all(
    command: &Command,
    inputs: &[OsString],
    collector: &RefCell<Collector>,
    mut run: impl FnMut(&mut Command) -> io::Result<(u32, Outcome)>,
) -> io::Result<(u32, Outcome)> {
    let template: Vec<OsString> = command.get_args().map(OsStr::to_owned).collect();
    let mut result = None;
    let mut failed = 0;
    for input in inputs {
        let mut one = Command::new(command.get_program());
        one.args(arguments(&template, input));
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => one.env(name, value),
                None => one.env_remove(name),
            };
        }
        let collector = collector.borrow();
        let context = collector.name_context(ContextKind::Input.raw(), input.as_bytes())?;
        if let Some(context) = context {
            // For what is started without this environment, too.
            collector.put_all_into(context);
            let (name, value) = collector.context_environment(context);
            one.env(name, value);
        }
        let ended = run(&mut one)?;
        if let Some(context) = context {
            collector.end_context(context);
        }
        if ended.1 != Outcome::Exited(0) {
            failed += 1;
        }
        let keep = matches!(result, Some((_, outcome)) if outcome != Outcome::Exited(0));
        if !keep {
            result = Some(ended);
        }
        let by_key = |signal| signal == Signal::INT.as_raw() || signal == Signal::QUIT.as_raw();
        if matches!(ended.1, Outcome::Killed(signal) if by_key(signal)) {
            result = Some(ended);
            break;
        }
    }
    if failed > 0 {
        say(format_args!(
            "rkcov: the program failed for {failed} of {} inputs",
            inputs.len()
        ));
    }
    // Without an input nothing has failed.
    Ok(result.unwrap_or((0, Outcome::Exited(0))))
}

/// The command as a trace names it, with what stands for inputs.
pub(crate) fn shown(command: &Command) -> Vec<OsString> {
    iter::once(command.get_program())
        .chain(command.get_args())
        .map(Into::into)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(all: &[&str]) -> Vec<OsString> {
        all.iter().map(Into::into).collect()
    }

    #[test]
    fn an_input_stands_where_it_is_asked_for_or_last() {
        let put = |template: &[&str]| arguments(&strings(template), OsStr::new("in put"));
        assert_eq!(put(&[]), strings(&["in put"]));
        assert_eq!(put(&["-v"]), strings(&["-v", "in put"]));
        assert_eq!(put(&["{}", "-v"]), strings(&["in put", "-v"]));
        assert_eq!(
            put(&["--a={}.{}", "{"]),
            strings(&["--a=in put.in put", "{"])
        );
    }

    #[test]
    fn lines_that_say_something() {
        let found: Vec<_> = lines(b"one\r\n\ntwo words\n three").collect();
        assert_eq!(found, strings(&["one", "two words", " three"]));
        assert_eq!(lines(b"").count(), 0);
    }
}
