// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shows what does not fit the screen in a pager, as git does.

use rkcov::program::ignore_interrupts;
use std::io::{self, IsTerminal, Stdout, Write};
use std::process::{Child, Command, Stdio};

/// What people use if they do not say anything else.
const USUAL: &str = "less";

/// The pager that the environment names, if there is to be one.
fn wanted() -> Option<String> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let pager = match std::env::var("PAGER") {
        Ok(named) => named,
        Err(_) if is_there(USUAL) => USUAL.to_owned(),
        Err(_) => return None,
    };
    (!dumb && !matches!(pager.trim(), "" | "cat")).then_some(pager)
}

/// Standard output. On a terminal, what has more rows than the screen goes through a pager.
pub(crate) struct Paged {
    out: Stdout,
    state: State,
}

enum State {
    /// It goes to standard output.
    Plain,
    /// It may fit the screen, which has so many rows.
    Waiting {
        pager: String,
        text: Vec<u8>,
        rows: usize,
    },
    /// A pager shows it.
    Paging(Child),
    /// The pager has ended: nobody reads on.
    Left(Child),
}

impl Paged {
    /// `rows` is the height of the screen, if it is one and a pager may be used.
    pub(crate) fn new(rows: Option<usize>) -> Self {
        let out = io::stdout();
        let state = match (rows.filter(|_| out.is_terminal()), wanted()) {
            (Some(rows), Some(pager)) => State::Waiting {
                pager,
                text: Vec::new(),
                rows,
            },
            _ => State::Plain,
        };
        Self { out, state }
    }

    /// Standard output, for programs.
    pub(crate) fn plain() -> Self {
        Self::new(None)
    }

    /// Shows what was held back, and waits until the pager is left.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.state, State::Plain) {
            State::Plain => self.out.flush(),
            State::Waiting { text, .. } => {
                self.out.write_all(&text)?;
                self.out.flush()
            }
            State::Paging(mut pager) | State::Left(mut pager) => {
                drop(pager.stdin.take());
                pager.wait().map(|_| ())
            }
        }
    }

    /// Starts the pager. Without one, the text is written as if none were wanted.
    fn page(&mut self, pager: &str, text: &[u8]) -> io::Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", pager]).stdin(Stdio::piped());
        // Colours, and no pager for what fits; the text stays on the screen.
        if std::env::var_os("LESS").is_none() {
            command.env("LESS", "FRX");
        }
        match command.spawn() {
            Ok(mut child) => {
                ignore_interrupts();
                self.state = match child.stdin.as_mut().map(|to| to.write_all(text)) {
                    Some(Ok(())) => State::Paging(child),
                    _ => State::Left(child),
                };
                Ok(())
            }
            Err(_) => {
                self.state = State::Plain;
                self.out.write_all(text)
            }
        }
    }
}

/// Whether a program is in one of the folders for programs.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

impl Write for Paged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Plain => return self.out.write(bytes),
            State::Left(_) => {}
            State::Paging(pager) => {
                let to = pager.stdin.as_mut();
                if to.is_none_or(|to| to.write_all(bytes).is_err()) {
                    if let State::Paging(pager) = std::mem::replace(&mut self.state, State::Plain) {
                        self.state = State::Left(pager);
                    }
                }
            }
            State::Waiting { text, rows, pager } => {
                text.extend_from_slice(bytes);
                // The prompt takes a row, too.
                if text.iter().filter(|byte| **byte == b'\n').count() >= *rows {
                    let (pager, text) = (std::mem::take(pager), std::mem::take(text));
                    self.page(&pager, &text)?;
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.state {
            State::Plain => self.out.flush(),
            _ => Ok(()),
        }
    }
}
