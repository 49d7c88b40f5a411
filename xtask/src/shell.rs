// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running programs.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fmt, io};

/// Why a command of ours failed: a sentence for a person.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A program that did not succeed.
#[derive(Debug)]
struct Failed {
    line: String,
    why: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.line, self.why)
    }
}

impl std::error::Error for Failed {}

/// The command line of `command`, as one would type it.
#[must_use]
pub fn line(command: &Command) -> String {
    let quoted = |word: &OsStr| {
        let word = word.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.into_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs `command` with our own output.
///
/// # Errors
/// It cannot be run, or says that it failed.
pub fn run(command: &mut Command) -> Result<(), Error> {
    let status = command.status().map_err(|error| failed(command, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(command, &status))
    }
}

/// Runs `command` and gives what it prints on standard output.
///
/// # Errors
/// It cannot be run, or says that it failed; what it said on standard error is in the error.
pub fn read(command: &mut Command) -> Result<String, Error> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(command, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(
        command,
        &format!("{}\n{}", output.status, said.trim_end()),
    ))
}

/// Runs `command` with its output in the file `log`, which is shown if it fails.
///
/// # Errors
/// It cannot be run, or says that it failed.
pub fn run_logged(command: &mut Command, log: &Path) -> Result<(), Error> {
    let file = std::fs::File::create(log)?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .map_err(|error| failed(command, &error))?;
    if status.success() {
        return Ok(());
    }
    let said = std::fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let last: Vec<&str> = said.lines().rev().take(40).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(failed(command, &format!("{status}\n{}", last.join("\n"))))
}

fn failed(command: &Command, why: &dyn fmt::Display) -> Error {
    Box::new(Failed {
        line: line(command),
        why: why.to_string(),
    })
}

/// What `rustc -vV` says of this, such as its host.
///
/// # Errors
/// It cannot be run, or does not say it.
pub fn of_rustc(what: &str) -> Result<String, Error> {
    let said = read(Command::new("rustc").arg("-vV"))?;
    let mut lines = said.lines();
    let value = lines.find_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
    let value = value.ok_or_else(|| format!("rustc -vV does not say its {what}"))?;
    Ok(value.to_owned())
}

/// `$PATH`, behind folders whose programs come first.
#[must_use]
pub fn path_behind<'f>(first: impl IntoIterator<Item = &'f Path>) -> OsString {
    let mut path = OsString::new();
    for folder in first {
        path.push(folder);
        path.push(":");
    }
    path.push(env::var_os("PATH").unwrap_or_default());
    path
}

/// Whether a program of this name is in a folder of `$PATH`.
#[must_use]
pub fn has(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Prints a heading, and all that was printed before.
///
/// # Errors
/// Standard output is closed.
pub fn heading(text: &str) -> io::Result<()> {
    use io::Write;
    let mut out = io::stdout().lock();
    writeln!(out, "\n$ {text}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_can_be_typed_again() {
        let mut command = Command::new("make");
        command.args(["CC=rkcov cc", "it's", "", "-j2"]);
        assert_eq!(line(&command), r"make 'CC=rkcov cc' 'it'\''s' '' -j2");
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no >&2; exit 3"]);
        let error = read(&mut command).unwrap_err().to_string();
        assert!(
            error.contains("exit status: 3") && error.ends_with("no"),
            "{error}"
        );
        assert!(run(&mut Command::new("no-such-program")).is_err());
    }
}
