// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fetches files by their build ids from the servers that `$DEBUGINFOD_URLS` names.
//!
//! The variables and the folder for what was fetched are those of elfutils' client, debuginfod-client-config(7): what
//! gdb or perf has fetched is not fetched again.

use crate::error::{say, Chain};
use crate::progress;
use rkcov_report::image::{build_id_of, Part, Remote};
use rkcov_report::trace::BuildId;
use std::collections::HashMap;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};
use ureq::http::header::CONTENT_LENGTH;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// What a server has to send within each `$DEBUGINFOD_TIMEOUT`.
const ENOUGH: u64 = 100 << 10;

/// Seconds of `$DEBUGINFOD_TIMEOUT`, if it is not set.
const TIMEOUT: u64 = 90;

/// Files of the cache folder that hold a number of seconds, and the number if they are not there: how long it is
/// remembered that no server has a file, how often files that nobody uses are removed, and after what time.
const MISS: (&str, u64) = ("cache_miss_s", 600);
const CLEAN_INTERVAL: (&str, u64) = ("cache_clean_interval_s", 86_400);
const UNUSED: (&str, u64) = ("max_unused_age_s", 604_800);

/// The servers, and what they have answered.
#[derive(Debug)]
pub(crate) struct Client {
    servers: Vec<Server>,
    folder: PathBuf,
    limits: Limits,
    agent: OnceLock<Agent>,
    /// What was asked for in this process, each once.
    asked: Mutex<HashMap<(BuildId, Part), Arc<Answer>>>,
    /// Whether it was said that nothing can be kept.
    said: AtomicBool,
}

/// A file, or that there is none, once that is known.
type Answer = OnceLock<Option<PathBuf>>;

#[derive(Debug)]
struct Server {
    /// Without a slash at its end.
    url: String,
    /// It is asked nothing more.
    gone: AtomicBool,
}

/// What a file may take. `None`: anything.
#[derive(Debug, Default)]
struct Limits {
    /// The time in which [`ENOUGH`] has to come.
    timeout: Option<Duration>,
    /// The time for all of it.
    all: Option<Duration>,
    /// Bytes.
    size: Option<u64>,
    /// Lines for each request, as `Name: value`.
    headers: Vec<(String, String)>,
}

/// Why a server did not give a file.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// It does not have the file.
    #[error("it is not there")]
    None,
    #[error(transparent)]
    Http(#[from] ureq::Error),
    #[error("HTTP status {0}")]
    Status(u16),
    #[error("it has {0} bytes or more, and DEBUGINFOD_MAXSIZE allows fewer")]
    Large(u64),
    #[error("it sent less than 100 KiB in {} s, the time of DEBUGINFOD_TIMEOUT", .0.as_secs())]
    Slow(Duration),
    #[error("the connection broke")]
    Broken(#[source] io::Error),
    #[error("it sent {got} bytes of {of}")]
    Cut { got: u64, of: u64 },
    #[error("it sent a file that has not the build id {0}")]
    Other(BuildId),
    /// The fault is not the server's.
    #[error("cannot write to {}", .0.display())]
    Kept(PathBuf, #[source] io::Error),
}

impl Failure {
    /// Whether other requests would most likely fail, too.
    fn is_of_server(&self) -> bool {
        matches!(
            self,
            Self::Http(_) | Self::Status(_) | Self::Slow(_) | Self::Broken(_)
        )
    }
}

impl Client {
    /// The client that the environment asks for, if it does.
    pub(crate) fn of_environment() -> Option<Self> {
        let urls = env::var("DEBUGINFOD_URLS").ok()?;
        let servers = servers(&urls);
        if servers.is_empty() {
            return None;
        }
        let number = |name| env::var(name).ok()?.trim().parse::<u64>().ok();
        let seconds = |number: u64| (number > 0).then(|| Duration::from_secs(number));
        // As a negative number, 0 means that there is no limit.
        let timeout = match env::var("DEBUGINFOD_TIMEOUT") {
            Ok(text) => text.trim().parse::<i64>().unwrap_or(TIMEOUT.cast_signed()),
            Err(_) => TIMEOUT.cast_signed(),
        };
        Some(Self {
            servers,
            folder: folder(&|name| env::var_os(name).map(PathBuf::from))?,
            limits: Limits {
                timeout: seconds(u64::try_from(timeout).unwrap_or(0)),
                all: number("DEBUGINFOD_MAXTIME").and_then(seconds),
                size: number("DEBUGINFOD_MAXSIZE").filter(|size| *size > 0),
                headers: headers(),
            },
            agent: OnceLock::new(),
            asked: Mutex::default(),
            said: AtomicBool::new(false),
        })
    }

    fn agent(&self) -> &Agent {
        self.agent.get_or_init(|| {
            // Others may have chosen one.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let limits = &self.limits;
            let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
            Agent::config_builder()
                .user_agent(concat!("rkcov/", env!("CARGO_PKG_VERSION")))
                .tls_config(tls.build())
                .http_status_as_error(false)
                .timeout_global(limits.all)
                .timeout_resolve(limits.timeout)
                .timeout_connect(limits.timeout)
                .timeout_recv_response(limits.timeout)
                .timeout_per_read(limits.timeout)
                .build()
                .into()
        })
    }

    /// From the folder or from a server.
    fn find(&self, id: &BuildId, part: Part) -> Option<PathBuf> {
        let folder = self.folder.join(id.to_string());
        let path = folder.join(name(part));
        if let Ok(about) = path.metadata() {
            if about.len() > 0 {
                if build_id_of(&path).as_ref() == Some(id) {
                    return Some(path);
                }
            } else if is_younger(about.modified(), number(&self.folder, MISS)) {
                return None;
            }
            let _ = fs::remove_file(&path);
        }
        self.clean();
        // Whether all of those that there are have said that they do not have it.
        let mut nobody = true;
        for server in &self.servers {
            if server.gone.load(Ordering::Relaxed) {
                nobody = false;
                continue;
            }
            match self.get(server, id, part, &path) {
                Ok(()) => return Some(path),
                Err(Failure::None) => {}
                Err(failure) => {
                    nobody = false;
                    self.say(server, id, part, &failure);
                }
            }
        }
        if nobody {
            // An empty file, until it is too old. Without it, the servers are asked again.
            let _ = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, []));
        }
        None
    }

    /// Says what went wrong; what would go wrong again and again, once.
    fn say(&self, server: &Server, id: &BuildId, part: Part, failure: &Failure) {
        let (url, why) = (&server.url, Chain(failure));
        let is_first = |said: &AtomicBool| !said.swap(true, Ordering::Relaxed);
        match failure {
            Failure::Kept(..) if is_first(&self.said) => {
                say(format_args!(
                    "rkcov: what is fetched from {url} cannot be kept: {why}"
                ));
            }
            Failure::Kept(..) => {}
            failure if failure.is_of_server() => {
                if is_first(&server.gone) {
                    say(format_args!(
                        "rkcov: {url} (DEBUGINFOD_URLS) is not asked any more: {why}"
                    ));
                }
            }
            _ => say(format_args!(
                "rkcov: no {} of {id} from {url}: {why}",
                name(part)
            )),
        }
    }

    /// Fetches a file to `path`, if it is what it has to be.
    fn get(&self, server: &Server, id: &BuildId, part: Part, path: &Path) -> Result<(), Failure> {
        let url = format!("{}/buildid/{id}/{}", server.url, name(part));
        let mut request = self.agent().get(&url);
        for (name, value) in &self.limits.headers {
            request = request.header(name, value);
        }
        let mut answer = request.call()?;
        match answer.status().as_u16() {
            200 => {}
            404 => return Err(Failure::None),
            other => return Err(Failure::Status(other)),
        }
        let header = |name: &str| {
            let text = answer.headers().get(name)?.to_str().ok()?;
            text.trim().parse::<u64>().ok()
        };
        let size = header("x-debuginfod-size").or_else(|| header(CONTENT_LENGTH.as_str()));
        if let (Some(size), Some(most)) = (size, self.limits.size) {
            if size > most {
                return Err(Failure::Large(size));
            }
        }
        let folder = path.parent().unwrap_or(&self.folder);
        let kept = |error| Failure::Kept(folder.to_owned(), error);
        fs::create_dir_all(folder).map_err(kept)?;
        let prefix = format!("{}.", name(part));
        let mut file = tempfile::Builder::new()
            .prefix(&prefix)
            .tempfile_in(folder)
            .map_err(kept)?;
        self.copy(answer.body_mut(), size, file.as_file_mut(), folder)?;
        if build_id_of(file.path()).as_ref() != Some(id) {
            return Err(Failure::Other(id.clone()));
        }
        file.persist(path).map_err(|error| kept(error.error))?;
        Ok(())
    }

    fn copy(
        &self,
        from: &mut Body,
        size: Option<u64>,
        to: &mut fs::File,
        folder: &Path,
    ) -> Result<(), Failure> {
        let mut fetching = progress::Fetching::new(size);
        let mut from = from.as_reader();
        let mut buffer = vec![0; 64 << 10];
        let mut got = 0;
        let mut window = (Instant::now(), 0);
        loop {
            let some = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(some) => some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Broken(error)),
            };
            got += some as u64;
            if self.limits.size.is_some_and(|most| got > most) {
                return Err(Failure::Large(got));
            }
            let kept = |error| Failure::Kept(folder.to_owned(), error);
            to.write_all(&buffer[..some]).map_err(kept)?;
            fetching.add(some);
            if let Some(timeout) = self.limits.timeout {
                let (since, had) = window;
                if since.elapsed() >= timeout {
                    if got - had < ENOUGH {
                        return Err(Failure::Slow(timeout));
                    }
                    window = (Instant::now(), got);
                }
            }
        }
        match size {
            Some(of) if of != got => Err(Failure::Cut { got, of }),
            _ => Ok(()),
        }
    }

    /// Removes what nobody has used for long, if that was not done lately.
    fn clean(&self) {
        let last = self.folder.join(CLEAN_INTERVAL.0);
        let interval = number(&self.folder, CLEAN_INTERVAL);
        if let Ok(about) = last.metadata() {
            if is_younger(about.modified(), interval) {
                return;
            }
        }
        let age = number(&self.folder, UNUSED);
        // Its time of change says when it was done.
        let done = fs::create_dir_all(&self.folder)
            .and_then(|()| fs::write(&last, interval.as_secs().to_string()));
        if done.is_err() {
            return;
        }
        for folder in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let is_hex = |name: &str| name.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !folder.file_name().to_str().is_some_and(is_hex) {
                continue;
            }
            for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let used = file.metadata().and_then(|about| about.accessed());
                if used.is_ok() && !is_younger(used, age) {
                    let _ = fs::remove_file(file.path());
                }
            }
            // If it is empty.
            let _ = fs::remove_dir(folder.path());
        }
    }
}

impl Remote for Client {
    fn fetch(&self, id: &BuildId, part: Part) -> Option<PathBuf> {
        let asked = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(asked.entry((id.clone(), part)).or_default())
        };
        asked.get_or_init(|| self.find(id, part)).clone()
    }
}

/// What a part is called in requests and in the folder.
const fn name(part: Part) -> &'static str {
    match part {
        Part::Executable => "executable",
        Part::Debug => "debuginfo",
    }
}

/// The servers of `$DEBUGINFOD_URLS`. Those whose files have to be signed are left out: signatures are not checked
/// here.
fn servers(urls: &str) -> Vec<Server> {
    let mut signed = false;
    let mut servers = Vec::new();
    for word in urls.split_whitespace() {
        let (is_policy, is_http) = (word.starts_with("ima:"), word.starts_with("http"));
        if is_policy {
            signed = word != "ima:ignore";
        } else if signed {
            say(format_args!(
                "rkcov: {word} is not asked: its files have to be signed, and rkcov checks no signatures"
            ));
        } else if is_http {
            servers.push(Server {
                url: word.trim_end_matches('/').to_owned(),
                gone: AtomicBool::new(false),
            });
        } else {
            say(format_args!(
                "rkcov: {word} in DEBUGINFOD_URLS is not asked: rkcov knows only http: and https:"
            ));
        }
    }
    servers
}

/// The folder for what was fetched.
fn folder(variable: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let named = |name, below: &str| {
        let path = variable(name).filter(|path| path.is_absolute())?;
        Some(path.join(below))
    };
    // The place of earlier clients, if it is there.
    let earlier = || named("HOME", ".debuginfod_client_cache").filter(|path| path.is_dir());
    named("DEBUGINFOD_CACHE_PATH", "")
        .or_else(earlier)
        .or_else(|| named("XDG_CACHE_HOME", "debuginfod_client"))
        .or_else(|| named("HOME", ".cache/debuginfod_client"))
}

/// The lines of the file that `$DEBUGINFOD_HEADERS_FILE` names.
fn headers() -> Vec<(String, String)> {
    let Some(path) = env::var_os("DEBUGINFOD_HEADERS_FILE") else {
        return Vec::new();
    };
    let text = fs::read_to_string(&path).unwrap_or_else(|error| {
        say(format_args!(
            "rkcov: cannot read {} (DEBUGINFOD_HEADERS_FILE): {error}",
            Path::new(&path).display()
        ));
        String::new()
    });
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// The number of seconds in a file of the folder.
fn number(folder: &Path, (name, default): (&str, u64)) -> Duration {
    let text = fs::read_to_string(folder.join(name)).ok();
    let number = text.and_then(|text| text.trim().parse().ok());
    Duration::from_secs(number.unwrap_or(default))
}

/// Whether a file's time is not that long ago.
fn is_younger(time: io::Result<SystemTime>, age: Duration) -> bool {
    let elapsed = time.map(|time| time.elapsed());
    match elapsed {
        Ok(Ok(elapsed)) => elapsed < age,
        // It is to come.
        Ok(Err(_)) => true,
        Err(_) => false,
    }
}
