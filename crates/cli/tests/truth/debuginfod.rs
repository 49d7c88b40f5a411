// SPDX-License-Identifier: MIT OR Apache-2.0
//! Debug information comes from servers, if the environment names some.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::lines::{Built, RKCOV};
use super::{has, succeed};

const PROGRAM: &str = "\
int half(int);
int main(int argc, char **argv) {
    int sum = argv == 0;
    for (int i = 0; i < 9; i++)
        sum += half(i) ? argc : 0;
    return sum > 99;
}
";

const HALF: &str = "\
int half(int n) {
    if (n % 2)
        return (n - 1) / 2;
    return n / 2;
}
";

/// What a server does with each request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// It sends the file, and says how long it is.
    Sends,
    /// The same, but does not say how long it is.
    SendsAsItComes,
    /// It begins, and sends a byte now and then.
    Dribbles,
    /// It says nothing at all.
    IsSilent,
    /// It ends in the middle, having said how long the file is.
    Breaks,
    /// It ends in the middle of a file of whatever length.
    Ends,
    /// It sends more than it has.
    GoesOn,
    /// It fails.
    Fails,
    /// It sends the file after more than a second.
    IsLate,
}

/// A server of debug information on this machine.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves the files of a folder, by the paths of requests.
    fn new(folder: &Path, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (folder, log) = (folder.to_owned(), Arc::clone(&asked));
        // Both end with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (folder, log) = (folder.clone(), Arc::clone(&log));
                thread::spawn(move || {
                    // Whoever asks may go away at any time.
                    let _ = answer(stream, &folder, manner, &log);
                });
            }
        });
        Self { url, asked }
    }

    /// The requests since this was asked last.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn answer(
    mut to: TcpStream,
    folder: &Path,
    manner: Manner,
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(to.try_clone()?).lines();
    let first = lines.next().unwrap()?;
    while lines
        .next()
        .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
    {}
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let file = fs::read(folder.join(path.trim_start_matches('/')));
    log.lock().unwrap().push(path);
    if manner == Manner::Fails {
        return to.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    }
    let Ok(file) = file else {
        return to.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
    };
    let wait = || thread::sleep(Duration::from_millis(200));
    let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n";
    match manner {
        Manner::IsSilent => (0..100).for_each(|_| wait()),
        Manner::IsLate => (0..7).for_each(|_| wait()),
        _ => {}
    }
    to.write_all(head)?;
    let sized = matches!(
        manner,
        Manner::Sends | Manner::Breaks | Manner::Dribbles | Manner::IsLate
    );
    if sized {
        write!(to, "Content-Length: {}\r\n", file.len())?;
    }
    to.write_all(b"\r\n")?;
    match manner {
        Manner::Breaks | Manner::Ends => to.write_all(&file[..file.len() / 2]),
        Manner::Dribbles => file.iter().try_for_each(|byte| {
            wait();
            to.write_all(&[*byte])
        }),
        Manner::GoesOn => loop {
            to.write_all(&file)?;
        },
        _ => to.write_all(&file),
    }
}

/// A stripped program with a stripped library; their debug information is what servers have.
struct Stripped {
    built: Built,
    /// The report before they were stripped.
    reference: String,
    /// What servers have.
    served: tempfile::TempDir,
    /// For what is fetched.
    cache: tempfile::TempDir,
    ids: Vec<String>,
}

impl Stripped {
    fn new() -> Self {
        let built = Built {
            folder: tempfile::tempdir().unwrap(),
        };
        let here = |name: &str| built.path().join(name);
        for (name, text) in [("p.c", PROGRAM), ("half.c", HALF)] {
            fs::write(built.folder.path().join(name), text).unwrap();
        }
        built.rkcov("cc gcc -g -O1 -fPIC -shared half.c -o libhalf.so");
        built.rkcov("cc gcc -g -O1 p.c -L. -lhalf -Wl,-rpath,$ORIGIN -o p");
        built.rkcov("run -o t.rkcov -- ./p");
        let reference = built.report("--format lcov");
        let served = tempfile::tempdir().unwrap();
        let mut ids = Vec::new();
        for name in ["p", "libhalf.so"] {
            let id = rkcov_report::image::build_id_of(&here(name)).unwrap();
            let folder = served.path().join("buildid").join(id.to_string());
            fs::create_dir_all(&folder).unwrap();
            let mut debug = Command::new("objcopy");
            debug.arg("--only-keep-debug").arg(here(name));
            succeed(debug.arg(folder.join("debuginfo")));
            succeed(Command::new("strip").arg(here(name)));
            fs::copy(here(name), folder.join("executable")).unwrap();
            ids.push(id.to_string());
        }
        Self {
            built,
            reference,
            served,
            cache: tempfile::tempdir().unwrap(),
            ids,
        }
    }

    /// The files that servers have of the program and of the library.
    fn served(&self, part: &str) -> Vec<PathBuf> {
        let folder = self.served.path().join("buildid");
        let ids = self.ids.iter();
        ids.map(|id| folder.join(id).join(part)).collect()
    }

    /// The report, and what is said besides. It may take a while, but does not take the servers' time.
    fn report(&self, urls: &str, variables: &[(&str, &str)]) -> (String, String) {
        let mut command = Command::new(RKCOV);
        command
            .args(["report", "t.rkcov", "--format", "lcov", "--allow-missing"])
            .env("RKCOV_NO_CACHE", "1")
            .env("DEBUGINFOD_URLS", urls)
            .env("DEBUGINFOD_CACHE_PATH", self.cache.path())
            .envs(variables.iter().copied())
            .current_dir(self.built.path())
            .stdin(Stdio::null());
        let begin = Instant::now();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(begin.elapsed() < Duration::from_secs(15), "{urls}");
        let folder = self.built.path();
        let text = |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(folder.to_str().unwrap(), "/built")
        };
        (text(output.stdout), text(output.stderr))
    }

    /// The files in the folder for what is fetched: their paths there, and their sizes.
    fn fetched(&self) -> Vec<(String, u64)> {
        let mut files = Vec::new();
        for id in &self.ids {
            let folder = fs::read_dir(self.cache.path().join(id));
            for file in folder.into_iter().flatten().flatten() {
                let name = file.file_name().into_string().unwrap();
                files.push((format!("{id}/{name}"), file.metadata().unwrap().len()));
            }
        }
        files.sort();
        files
    }

    fn forget(&self) {
        for id in &self.ids {
            let _ = fs::remove_dir_all(self.cache.path().join(id));
        }
    }

    fn requests(&self, part: &str) -> Vec<String> {
        let ids = self.ids.iter();
        let mut all: Vec<String> = ids.map(|id| format!("/buildid/{id}/{part}")).collect();
        all.sort();
        all
    }
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

#[test]
fn debug_information_is_fetched_once() {
    if !has("gcc") {
        return;
    }
    let program = Stripped::new();
    let server = Server::new(program.served.path(), Manner::Sends);
    let (without, said) = program.report("", &[]);
    assert_ne!(without, program.reference);
    assert!(said.contains("stripped"), "{said}");
    assert_eq!(program.fetched(), []);

    // With a slash at its end, too.
    let (lcov, said) = program.report(&format!("{}/", server.url), &[]);
    assert_eq!((lcov, said), (program.reference.clone(), String::new()));
    // Nobody asks for the C library's, which is not instrumented.
    assert_eq!(sorted(server.asked()), program.requests("debuginfo"));
    let fetched = program.fetched();
    let mut expected: Vec<(String, u64)> = program
        .ids
        .iter()
        .zip(program.served("debuginfo"))
        .map(|(id, file)| (format!("{id}/debuginfo"), file.metadata().unwrap().len()))
        .collect();
    expected.sort();
    assert_eq!(fetched, expected);

    let (lcov, said) = program.report(&server.url, &[]);
    assert_eq!((lcov, said), (program.reference.clone(), String::new()));
    assert_eq!(server.asked(), [] as [String; 0]);
    // Whoever names no server gets nothing of it.
    assert_eq!(program.report("", &[]).0, without);

    // What is damaged is fetched again.
    let file = program.cache.path().join(&program.ids[0]).join("debuginfo");
    fs::write(file, "damaged").unwrap();
    let (lcov, said) = program.report(&server.url, &[]);
    assert_eq!((lcov, said), (program.reference.clone(), String::new()));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn programs_that_are_gone_are_fetched_too() {
    let program = Stripped::new();
    let server = Server::new(program.served.path(), Manner::SendsAsItComes);
    for name in ["p", "libhalf.so"] {
        fs::remove_file(program.built.path().join(name)).unwrap();
    }
    let (_, said) = program.report("", &[]);
    assert!(said.contains("cannot be read"), "{said}");
    let (lcov, said) = program.report(&server.url, &[]);
    assert_eq!((lcov, said), (program.reference.clone(), String::new()));
    let both = [
        program.requests("debuginfo"),
        program.requests("executable"),
    ];
    assert_eq!(sorted(server.asked()), sorted(both.concat()));
}

#[test]
fn what_no_server_has_is_not_asked_for_again() {
    let program = Stripped::new();
    let empty = tempfile::tempdir().unwrap();
    let [first, second] = [(); 2].map(|()| Server::new(empty.path(), Manner::Sends));
    let without = program.report("", &[]);
    let urls = format!("{} {}", first.url, second.url);
    assert_eq!(program.report(&urls, &[]), without);
    assert_eq!(sorted(first.asked()), program.requests("debuginfo"));
    assert_eq!(sorted(second.asked()), program.requests("debuginfo"));
    assert_eq!(program.report(&urls, &[]), without);
    assert_eq!(first.asked(), [] as [String; 0]);
    // Only for a while: as long as the folder says, else ten minutes.
    fs::write(program.cache.path().join("cache_miss_s"), "0\n").unwrap();
    assert_eq!(program.report(&urls, &[]), without);
    assert_eq!(sorted(first.asked()), program.requests("debuginfo"));
    // One that has the files is asked after one that does not.
    let third = Server::new(program.served.path(), Manner::Sends);
    let urls = format!("{} {}", first.url, third.url);
    let (lcov, said) = program.report(&urls, &[]);
    assert_eq!((lcov, said), (program.reference.clone(), String::new()));
}

/// The report goes on without the files, says one line of the server, and keeps nothing.
#[track_caller]
fn goes_on(program: &Stripped, urls: &str, variables: &[(&str, &str)], line: &str) {
    let (without, stripped) = program.report("", &[]);
    program.forget();
    let (lcov, said) = program.report(urls, variables);
    assert_eq!(lcov, without, "{line}");
    let (of_server, others): (Vec<&str>, Vec<&str>) =
        said.lines().partition(|text| !text.contains("stripped"));
    assert_eq!(others, stripped.lines().collect::<Vec<_>>(), "{line}");
    assert!(
        of_server.len() == 1 && of_server[0].contains(line),
        "{said}, not {line}"
    );
    assert_eq!(program.fetched(), [], "{line}");
}

#[test]
fn servers_that_fail_are_told_in_one_line() {
    let program = Stripped::new();
    let of = |manner| Server::new(program.served.path(), manner).url;
    let soon = ("DEBUGINFOD_TIMEOUT", "1");
    // Nobody listens there any more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    goes_on(
        &program,
        &closed,
        &[],
        "is not asked any more: io: Connection refused",
    );
    goes_on(
        &program,
        &of(Manner::Fails),
        &[],
        "is not asked any more: HTTP status 503",
    );
    goes_on(
        &program,
        &of(Manner::IsSilent),
        &[soon],
        "is not asked any more: timeout",
    );
    goes_on(
        &program,
        &of(Manner::Dribbles),
        &[soon],
        "is not asked any more: it sent less than 100 KiB in 1 s",
    );
    goes_on(
        &program,
        &of(Manner::Dribbles),
        &[("DEBUGINFOD_MAXTIME", "1")],
        "is not asked any more: the connection broke: timeout",
    );
    goes_on(
        &program,
        &of(Manner::Breaks),
        &[],
        "is not asked any more: the connection broke",
    );
    // The one behind it has the files.
    let urls = format!("{closed} {}", of(Manner::Sends));
    let (lcov, said) = program.report(&urls, &[]);
    assert_eq!(lcov, program.reference);
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn files_that_are_not_what_was_asked_for_are_not_kept() {
    let program = Stripped::new();
    // Of one image, as each file has its line.
    let library = program.served("debuginfo").remove(1);
    fs::remove_dir_all(library.parent().unwrap()).unwrap();
    let of = |manner| Server::new(program.served.path(), manner).url;
    let refused = |urls: &str, variables: &[(&str, &str)], line: &str| {
        // That nobody has the library's may be kept, and is empty.
        program.forget();
        let (lcov, said) = program.report(urls, variables);
        assert_eq!(lcov, program.report("", &[]).0, "{line}");
        let lines: Vec<&str> = said.lines().filter(|l| !l.contains("stripped")).collect();
        assert!(lines.len() == 1 && lines[0].contains(line), "{said}");
        let fetched = program.fetched();
        assert!(fetched.iter().all(|(_, size)| *size == 0), "{fetched:?}");
    };
    let file = program.served("debuginfo").remove(0);
    let whole = fs::read(&file).unwrap();
    let other = format!(
        "it sent a file that has not the build id {}",
        program.ids[0]
    );
    refused(&of(Manner::Ends), &[], &other);
    let size = ("DEBUGINFOD_MAXSIZE", "5000");
    assert!(whole.len() > 5000);
    let large = format!("it has {} bytes or more", whole.len());
    refused(&of(Manner::Sends), &[size], &large);
    refused(
        &of(Manner::GoesOn),
        &[size],
        "bytes or more, and DEBUGINFOD_MAXSIZE",
    );
    // Of another build.
    let mut objcopy = Command::new("objcopy");
    objcopy.args(["--remove-section", ".note.gnu.build-id"]);
    succeed(objcopy.arg(&file));
    refused(&of(Manner::Sends), &[], &other);
    fs::write(&file, "<html>Please log in</html>").unwrap();
    refused(&of(Manner::Sends), &[], &other);
    // The file as it was is taken.
    fs::write(&file, whole).unwrap();
    let lcov = program.report(&of(Manner::Sends), &[]).0;
    assert!(lcov.contains("p.c") && !lcov.contains("half.c"), "{lcov}");
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    let program = Stripped::new();
    let server = Server::new(program.served.path(), Manner::Sends);
    let file = program.cache.path().join("file");
    fs::write(&file, "").unwrap();
    let folder = file.join("below");
    let variables = [("DEBUGINFOD_CACHE_PATH", folder.to_str().unwrap())];
    goes_on(
        &program,
        &server.url,
        &variables,
        "cannot be kept: cannot write to",
    );
}

#[test]
fn files_that_nobody_uses_are_removed() {
    let program = Stripped::new();
    let server = Server::new(program.served.path(), Manner::Sends);
    let folder = program.cache.path().join("0123abcd");
    fs::create_dir(&folder).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(8 * 86_400);
    for (name, used) in [("debuginfo", Some(long_ago)), ("executable", None)] {
        let file = fs::File::create(folder.join(name)).unwrap();
        let times = fs::FileTimes::new();
        let used = used.map_or(times, |used| times.set_accessed(used));
        file.set_times(used).unwrap();
    }
    program.report(&server.url, &[]);
    assert!(!folder.join("debuginfo").exists());
    assert!(folder.join("executable").exists());
}

#[test]
fn a_server_that_is_late_is_not_told_in_a_pipe() {
    let program = Stripped::new();
    let server = Server::new(program.served.path(), Manner::IsLate);
    let (lcov, said) = program.report(&server.url, &[]);
    assert_eq!((lcov, said), (program.reference.clone(), String::new()));
}

#[test]
fn what_is_shared_is_fetched() {
    let program = Stripped::new();
    // Debug information of two files, what both have in a third.
    let files = program.served("debuginfo");
    let folder = program.served.path();
    let mut dwz = Command::new("dwz");
    dwz.arg("-m").arg(folder.join("common")).args(&files);
    succeed(dwz.current_dir(folder));
    let common = folder.join("common");
    let id = rkcov_report::image::build_id_of(&common).unwrap();
    let to = folder.join("buildid").join(id.to_string());
    fs::create_dir(&to).unwrap();
    fs::rename(common, to.join("debuginfo")).unwrap();
    let server = Server::new(folder, Manner::Sends);
    let (lcov, said) = program.report(&server.url, &[]);
    assert_eq!((lcov, said), (program.reference.clone(), String::new()));
    let of_common = format!("/buildid/{id}/debuginfo");
    assert!(server.asked().contains(&of_common));
}

#[test]
fn other_words_among_the_servers() {
    let program = Stripped::new();
    let server = Server::new(program.served.path(), Manner::Sends);
    let urls = format!("file:///srv ima:enforcing {} ima:ignore", server.url);
    let (_, said) = program.report(&urls, &[]);
    for line in [
        "file:///srv in DEBUGINFOD_URLS is not asked",
        "its files have to be signed",
    ] {
        assert_eq!(said.matches(line).count(), 1, "{said}");
    }
    assert_eq!(server.asked(), [] as [String; 0]);
}
