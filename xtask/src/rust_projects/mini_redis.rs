// SPDX-License-Identifier: MIT OR Apache-2.0
//! mini-redis, a server of tokio: its own client sets a key and gets it, and the server is killed.
//! The report has the handlers of these two commands, and none of the others.

use super::Project;
use crate::lcov::Source;
use crate::shell::{self, heading, Error};
use rustix::process::{kill_process, Pid, Signal};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

/// For a server that starts or ends: only one that never does takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Handlers of commands, by their sources: what runs of them for `set` and `get`.
const HANDLERS: [(&str, &[&str]); 5] = [
    ("src/cmd/get.rs", &["Get::parse_frames", "Get::apply"]),
    ("src/cmd/set.rs", &["Set::parse_frames", "Set::apply"]),
    ("src/cmd/publish.rs", &[]),
    ("src/cmd/subscribe.rs", &[]),
    ("src/cmd/unknown.rs", &[]),
];

/// Lines by a part of their text, and whether they ran.
const LINES: [(&str, &str, bool); 6] = [
    ("src/cmd/mod.rs", "Get(cmd) => cmd.apply", true),
    ("src/cmd/mod.rs", "Publish(cmd) => cmd.apply", false),
    ("src/cmd/get.rs", "Frame::Bulk(value)", true),
    ("src/cmd/get.rs", "Frame::Null", false),
    ("src/db.rs", "state.entries.insert(", true),
    ("src/db.rs", "state.expirations.insert(", false),
];

pub(super) fn run(cargo_rkcov: &Path) -> Result<(), Error> {
    let project = Project::of_package(cargo_rkcov, "mini-redis", "0.4.1")?;
    project.show("build --locked")?;
    for signal in [Signal::INT, Signal::KILL] {
        serve(&project, signal)?;
        check(&project).map_err(|error| format!("after {signal:?}: {error}"))?;
    }
    project.check_untouched()
}

/// Runs the server, has its client set a key and get it, and ends the server by `signal`.
fn serve(project: &Project, signal: Signal) -> Result<(), Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    drop(listener);
    let port = address.port();
    let line = format!(
        "run --locked --filter src/cmd --functions --bin mini-redis-server -- --port {port}"
    );
    heading(&format!("cargo rkcov {line}"))?;
    let mut server = Server(project.cargo_rkcov(&line).spawn()?);
    server.wait_for(address)?;
    for (arguments, expected) in [
        (["set", "city", "Bath"], "OK\n"),
        (["get", "city", ""], "\"Bath\"\n"),
    ] {
        let client = fs::canonicalize(&project.folder)?.join("target/rkcov");
        let client = client.join(format!(
            "{}-unknown-linux-gnu/debug/mini-redis-cli",
            std::env::consts::ARCH
        ));
        let mut client = Command::new(client);
        client.args(["--port", &port.to_string()]);
        client.args(arguments.iter().filter(|argument| !argument.is_empty()));
        heading(&shell::line(&client))?;
        let said = shell::read(&mut client)?;
        print!("{said}");
        if said != expected {
            return Err(format!("the client says {said:?}, not {expected:?}").into());
        }
    }
    server.end(signal)
}

/// `cargo rkcov`, with the server as its child.
struct Server(Child);

impl Server {
    fn wait_for(&mut self, address: SocketAddr) -> Result<(), Error> {
        until("listens", || {
            if let Some(status) = self.0.try_wait()? {
                return Err(format!("the server ended: {status}").into());
            }
            Ok(TcpStream::connect(address).ok().map(drop))
        })
    }

    /// The server itself, as long as it runs. `cargo rkcov` has another child, which writes the trace.
    fn process(&self) -> Option<Pid> {
        let us = self.0.id();
        let children = fs::read_to_string(format!("/proc/{us}/task/{us}/children")).ok()?;
        let is_server = |child: &&str| {
            fs::read_link(format!("/proc/{child}/exe"))
                .is_ok_and(|program| program.ends_with("debug/mini-redis-server"))
        };
        let server = children.split_whitespace().find(is_server)?;
        Pid::from_raw(server.parse().ok()?)
    }

    /// Ends the server: by Ctrl-C as it comes from a terminal, or by a kill that nobody passes on.
    fn end(&mut self, signal: Signal) -> Result<(), Error> {
        let server = self.process().ok_or("the server is not there")?;
        let name = if signal == Signal::KILL {
            "KILL"
        } else {
            "INT"
        };
        heading(&format!("kill -{name} {server}"))?;
        kill_process(server, signal)?;
        let expected = if signal == Signal::KILL { 137 } else { 0 };
        let status = until("ends", || Ok(self.0.try_wait()?))?;
        if status.code() == Some(expected) {
            Ok(())
        } else {
            Err(format!("after {signal:?} cargo rkcov ends by {status}").into())
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            if let Some(server) = self.process() {
                let _ = kill_process(server, Signal::KILL);
            }
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Tries until there is something.
fn until<T>(what: &str, mut attempt: impl FnMut() -> Result<Option<T>, Error>) -> Result<T, Error> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(found) = attempt()? {
            return Ok(found);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!("the server never {what}").into())
}

fn check(project: &Project) -> Result<(), Error> {
    let coverage = project.coverage("--locked")?;
    let source = |path: &str| -> Result<&Source, Error> {
        let source = coverage.get(Path::new(path));
        source.ok_or_else(|| format!("{path} is not in the report").into())
    };
    for (path, handlers) in HANDLERS {
        let source = source(path)?;
        for handler in handlers {
            let mut functions = source.functions.iter();
            if !functions.any(|(name, count)| name.contains(handler) && *count > 0) {
                return Err(format!("{path}: {handler} did not run").into());
            }
        }
        let ran: Vec<u32> = source.ran().collect();
        if handlers.is_empty() && (source.functions.is_empty() || !ran.is_empty()) {
            return Err(format!("{path}: these lines ran: {ran:?}").into());
        }
    }
    for (path, part, expected) in LINES {
        let text = fs::read_to_string(project.folder.join(path))?;
        let lines = (1..).zip(text.lines());
        let lines: Vec<u32> = lines
            .filter(|(_, line)| line.contains(part))
            .map(|(n, _)| n)
            .collect();
        let ran = |line: &u32| source(path).map(|source| source.lines.get(line).copied());
        for line in &lines {
            let count = ran(line)?.ok_or_else(|| format!("{path}:{line} is not in the report"))?;
            if (count > 0) != expected {
                return Err(format!("{path}:{line} ran {count} times: {part}").into());
            }
        }
        if lines.is_empty() {
            return Err(format!("{path} has no line with {part}").into());
        }
    }
    Ok(())
}
