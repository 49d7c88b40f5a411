// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user can do with a guest: give it input, a terminal, folders, memory, processors, a network, a kernel, modules.
//! Each test boots one, so they run on demand: `.ci/linux` does it. `RKCOV_GUEST` has options of `rkcov linux` that say
//! which kernel, such as `--arch uml`.

use object::Object;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::pty::{ioctl_tiocgptpeer, openpt, unlockpt, OpenptFlags};
use rustix::termios::{tcgetattr, tcsetwinsize, LocalModes, Winsize};
use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a guest may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

fn options() -> String {
    env::var("RKCOV_GUEST").unwrap_or_else(|_| "--arch uml".to_owned())
}

fn is_uml() -> bool {
    options().contains("uml")
}

/// `rkcov linux COMMAND` with the options of the environment, ended if it hangs.
fn rkcov(command: &str) -> Command {
    let limit = PATIENCE.as_secs().to_string();
    let mut rkcov = Command::new("timeout");
    // In the foreground: it may use the terminal.
    rkcov
        .args(["--foreground", &limit, env!("CARGO_BIN_EXE_rkcov")])
        .args(["linux", command])
        .args(options().split_whitespace());
    rkcov
}

/// Bytes of all values, without a pattern.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// Runs it with these bytes in a pipe.
fn with_input(mut command: Command, input: Vec<u8>) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let writer = thread::spawn(move || to.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output
}

/// Says a line to the first that connects. Answers the port.
fn server(line: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut to, _) = listener.accept().unwrap();
        to.write_all(line.as_bytes()).unwrap();
    });
    port
}

#[test]
#[ignore = "boots a guest"]
fn a_guest_has_the_input_folders_memory_processors_and_network_that_it_is_given() {
    let dir = TempDir::new().unwrap();
    // A name that QEMU's options could take for two.
    let (shared, kept) = (dir.path().join("a,b"), dir.path().join("kept"));
    for folder in [&shared, &kept] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "content\n").unwrap();
    }
    let input = bytes(300_000);
    let port = server("from the host\n");
    let mut script = String::from(
        "cat >/mnt/copy; pwd; id -u; nproc; grep MemTotal /proc/meminfo; cat file
         (echo changed >/kept/file) 2>/dev/null && echo 'changed what must be kept'
         echo changed >file; ls / | grep -c rkcov; cat <(echo substituted)\n",
    );
    let mut command = rkcov("shell");
    command
        .current_dir(&shared)
        // Under QEMU it is two without the option.
        .args(["--memory", "400M", "--cpus", "1"])
        .arg("--share")
        .arg(format!("{}:/mnt", shared.display()))
        .arg("--share")
        .arg(format!("{}:/kept:ro", kept.display()));
    if !is_uml() {
        command.arg("--network");
        script += &format!("cat </dev/tcp/10.0.2.2/{port}; cat /etc/resolv.conf\n");
    }
    script += "exit 5\n";
    command.args(["--", "/bin/bash", "-c", &script]);
    let output = with_input(command, input.clone());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}{errors}");
    let (lines, memory): (Vec<_>, Vec<_>) = said.lines().partition(|l| !l.contains("MemTotal"));
    let mut expected = vec!["/mnt", "0", "1", "content", "1", "substituted"];
    if !is_uml() {
        expected.extend(["from the host", "nameserver 10.0.2.3"]);
    }
    assert_eq!(lines, expected, "{errors}");
    // The kernel keeps a part for itself.
    let kib: u64 = memory[0]
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!((200 << 10..400 << 10).contains(&kib), "{kib}");
    assert!(fs::read(shared.join("copy")).unwrap() == input);
    assert_eq!(
        fs::read_to_string(shared.join("file")).unwrap(),
        "changed\n"
    );
    assert_eq!(fs::read_to_string(kept.join("file")).unwrap(), "content\n");
}

#[test]
#[ignore = "boots a guest"]
fn a_program_that_is_recorded_reads_a_file_to_its_end() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("input");
    let content = bytes(70_000);
    fs::write(&file, &content).unwrap();
    let output = rkcov("run")
        .args(["--output", "trace", "--", "/bin/cat"])
        .current_dir(&dir)
        .stdin(File::open(&file).unwrap())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(output.stdout.starts_with(&content));
    // What follows is the report.
    let report = String::from_utf8_lossy(&output.stdout[content.len()..]);
    assert!(report.contains("pipe.c"), "{report}");
}

/// Says something to a debugger's stub, and answers the packet that it answers with.
fn ask(stub: &mut TcpStream, packet: &str) -> String {
    let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
    write!(stub, "${packet}#{sum:02x}").unwrap();
    let (mut said, mut byte) = (Vec::new(), [0]);
    // "+$ANSWER#12"
    while said.len() < 3 || said[said.len() - 3] != b'#' {
        stub.read_exact(&mut byte).unwrap();
        said.push(byte[0]);
    }
    stub.write_all(b"+").unwrap();
    String::from_utf8(said).unwrap()
}

#[test]
#[ignore = "boots a guest"]
fn a_guest_waits_for_a_debugger_and_goes_on_when_it_says_so() {
    if is_uml() {
        return;
    }
    // Free now; somebody else may take it meanwhile, and then the guest does not start.
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut child = rkcov("run")
        .args([
            "--gdb",
            &port.to_string(),
            "--no-coverage",
            "--timeout",
            "1",
        ])
        .args(["--", "/bin/sh", "-c", "echo here; exit 3"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let mut stub = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stub) => break stub,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        assert!(child.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(50));
    };
    stub.set_read_timeout(Some(PATIENCE)).unwrap();
    // Stopped, by no signal of the guest's; longer than its time would be.
    assert!(ask(&mut stub, "?").contains("$T05"));
    thread::sleep(Duration::from_secs(2));
    assert!(child.try_wait().unwrap().is_none());
    // Continue.
    stub.write_all(b"$c#63").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert_eq!(output.stdout, b"here\n");
    let how = format!("vmlinux -ex 'target remote 127.0.0.1:{port}'");
    assert!(said.contains(&how), "{said}");
}

/// A terminal, and what was shown on it and not asked for yet.
struct Terminal {
    ours: File,
    shown: String,
}

impl Terminal {
    /// Our end and the programs'.
    fn new() -> (Self, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags).unwrap();
        unlockpt(&ours).unwrap();
        let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
        let terminal = Self {
            ours: File::from(ours),
            shown: String::new(),
        };
        (terminal, theirs)
    }

    fn resize(&self, ws_row: u16, ws_col: u16) {
        let size = Winsize {
            ws_row,
            ws_col,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.ours, size).unwrap();
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.ours).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    fn type_in(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for these words, and answers all that was shown up to them.
    #[track_caller]
    fn expect(&mut self, words: &str) -> String {
        let began = Instant::now();
        loop {
            if let Some(at) = self.shown.find(words) {
                let rest = self.shown.split_off(at + words.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            assert!(began.elapsed() < PATIENCE, "{words}: {}", self.shown);
            let pause = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            let file = &mut [PollFd::new(&self.ours, PollFlags::IN)];
            if poll(file, Some(&pause)).unwrap() > 0 {
                let mut piece = [0; 4096];
                let read = self.ours.read(&mut piece);
                let read = read.unwrap_or_else(|e| panic!("{words}: {e}: {}", self.shown));
                self.shown += &String::from_utf8_lossy(&piece[..read]);
            }
        }
    }
}

/// Starts a shell on a terminal that is its own. When it has ended, nobody has the terminal open.
fn shell(terminal: OwnedFd) -> std::process::Child {
    let mut command = Command::new("setsid");
    let inner = rkcov("shell");
    command
        .args(["--ctty", "--wait"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .args(["--", "/bin/bash", "--norc", "--noprofile"])
        .env("TERM", "vt100")
        .stdin(terminal.try_clone().unwrap())
        .stdout(terminal.try_clone().unwrap())
        .stderr(terminal);
    command.spawn().unwrap()
}

#[test]
#[ignore = "boots a guest"]
fn a_shell_has_the_terminal_and_gives_it_back() {
    let (mut terminal, theirs) = Terminal::new();
    terminal.resize(33, 101);
    let mut child = shell(theirs);
    terminal.expect("# ");
    assert!(terminal.is_raw());
    // What is typed is shown by the guest's terminal too: the answers are not what was typed.
    terminal.type_in("tty; echo $((6 * 7)) $TERM; stty size\r");
    let shown = terminal.expect("33 101\r\n");
    assert!(shown.contains("/dev/pts/0\r\n42 vt100\r\n"), "{shown}");
    terminal.resize(40, 120);
    terminal.type_in(
        "until [ \"$(stty size)\" = '40 120' ]; do sleep 0.1; done; echo new $((1 + 1))\r",
    );
    terminal.expect("new 2\r\n");
    // The key for an interrupt is for the guest's program.
    terminal.type_in("sh -c 'echo $((10 + 1)); exec sleep 1000'\r");
    terminal.expect("11\r\n");
    terminal.type_in("\x03");
    terminal.expect("^C");
    terminal.type_in("echo status $?; exit 7\r");
    terminal.expect("status 130\r\n");
    assert_eq!(child.wait().unwrap().code(), Some(7));
    assert!(!terminal.is_raw());
}

#[test]
#[ignore = "boots a guest"]
fn a_guest_is_left_by_keys_or_a_signal_and_the_terminal_is_given_back() {
    let (mut terminal, theirs) = Terminal::new();
    let mut child = shell(theirs);
    terminal.expect("# ");
    terminal.type_in("\x1d\x1d\x1d");
    terminal.expect("the guest was left and is ended");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(!terminal.is_raw());

    let (mut terminal, theirs) = Terminal::new();
    let mut child = shell(theirs);
    terminal.expect("# ");
    assert!(terminal.is_raw());
    // The command itself, below `setsid` and `timeout`.
    let below = |pid: u32| {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.trim().parse::<u32>().unwrap()
    };
    let forks = fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap() == "setsid\n";
    let timeout = if forks { below(child.id()) } else { child.id() };
    let rkcov = rustix::process::Pid::from_raw(below(timeout) as i32).unwrap();
    rustix::process::kill_process(rkcov, rustix::process::Signal::TERM).unwrap();
    terminal.expect("interrupted by signal 15");
    let status = child.wait().unwrap();
    assert_eq!(status.into_raw() >> 8, 128 + 15, "{status}");
    assert!(!terminal.is_raw());
}

/// The end of one of the words of `text` that begins so.
fn word<'a>(text: &'a str, begin: &str) -> Option<&'a str> {
    let mut words = text.split_whitespace();
    words.find_map(|word| word.strip_prefix(begin))
}

/// Runs it and answers what it printed, and what it said besides.
#[track_caller]
fn succeeds(command: &mut Command) -> (String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let [printed, said] = [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b));
    assert!(output.status.success(), "{command:?}: {printed}{said}");
    (printed.into_owned(), said.into_owned())
}

/// `rkcov linux run` with the user's own kernel, of the machine that the options name.
fn own(kernel: &Path, vmlinux: &Path) -> Command {
    let options = options();
    let arch = word(&options.replace("--arch ", "--arch="), "--arch=")
        .unwrap()
        .to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rkcov"));
    command.args(["linux", "run", "--arch", &arch]);
    command.arg("--kernel").arg(kernel);
    command.arg("--vmlinux").arg(vmlinux);
    command
}

#[test]
#[ignore = "boots a guest"]
fn a_kernel_of_the_user_s_own_is_booted_if_its_vmlinux_is_the_kernel_s() {
    let dir = TempDir::new().unwrap();
    let (printed, _) = succeeds(&mut rkcov("build"));
    let built = Path::new(printed.trim());
    let (kernel, vmlinux) = (dir.path().join("image"), dir.path().join("vmlinux"));
    fs::copy(built, &kernel).unwrap();
    fs::copy(built.with_file_name("vmlinux"), &vmlinux).unwrap();
    let mut command = own(&kernel, &vmlinux);
    command.current_dir(&dir).args(["--output", "trace"]);
    let (printed, _) = succeeds(command.args(["--", "/bin/cat", "/proc/version"]));
    assert!(printed.starts_with("Linux version "), "{printed}");
    // The sources are found by what the compiler noted.
    let line = |name: &str| {
        printed
            .lines()
            .any(|line| line.trim_start().starts_with(name))
    };
    assert!(line("version.c "), "{printed}");
    // The same with another build id is the vmlinux of another kernel.
    let mut data = fs::read(&vmlinux).unwrap();
    let id = {
        let file = object::File::parse(&*data).unwrap();
        file.build_id().unwrap().unwrap().to_vec()
    };
    let places: Vec<usize> = memchr::memmem::find_iter(&data, &id).collect();
    for at in places {
        data[at] ^= 1;
    }
    fs::write(&vmlinux, data).unwrap();
    let mut command = own(&kernel, &vmlinux);
    command.current_dir(&dir).args(["--", "/bin/true"]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the kernel that runs has another vmlinux"),
        "{said}"
    );
}

/// A module with a file in /proc, which has one of two answers.
const HELLO: &str = r#"
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

static int which = 2;
module_param(which, int, 0444);

static noinline void large(struct seq_file *to)
{
	seq_puts(to, "hello large\n"); /* ran */
}

static noinline void small(struct seq_file *to)
{
	seq_puts(to, "hello small\n"); /* not */
}

static int show(struct seq_file *to, void *unused)
{
	if (which > 1)
		large(to);
	else
		small(to);
	return 0;
}

/* Linux 7.3 leaves what is __init without instrumentation. */
static noinline int prepare(void)
{
	if (!proc_create_single("hello", 0444, NULL, show)) /* begun */
		return -ENOMEM;
	return 0;
}

static int __init begin(void)
{
	return prepare();
}

static void __exit end(void)
{
	remove_proc_entry("hello", NULL);
}

module_init(begin);
module_exit(end);
MODULE_DESCRIPTION("says hello");
MODULE_LICENSE("Dual MIT/GPL");
"#;

/// Loads a module.
const LOAD: &str = "#include <fcntl.h>\n#include <sys/syscall.h>\n#include <unistd.h>\n\
    int main(int n, char **words) { (void)n; return syscall(SYS_finit_module, open(words[1], O_RDONLY), \"\", 0) != 0; }\n";

/// How often the line of [`HELLO`] with these words ran, as the trace in this folder has it.
#[track_caller]
fn runs(dir: &TempDir, words: &str) -> u64 {
    let mut report = Command::new(env!("CARGO_BIN_EXE_rkcov"));
    report.args(["report", "--format", "lcov", "--filter", "hello.c", "trace"]);
    let (lcov, _) = succeeds(report.current_dir(dir));
    let line = HELLO.lines().position(|line| line.contains(words)).unwrap() + 1;
    let count = lcov
        .lines()
        .find_map(|l| l.strip_prefix(&format!("DA:{line},")));
    let count = count.unwrap_or_else(|| panic!("{words}: {lcov}"));
    count.parse().unwrap()
}

#[test]
#[ignore = "boots a guest whose kernel has modules"]
fn modules_are_built_and_loaded_and_what_ran_of_them_has_lines() {
    // The options of a kernel with modules, of which one is called binfmt_misc.
    if !options().contains("--config") {
        return;
    }
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("hello.c"), HELLO).unwrap();
    fs::write(dir.path().join("Makefile"), "obj-m := hello.o\n").unwrap();
    let run = |options: &[&str], program: &[&str]| {
        let mut command = rkcov("run");
        command.current_dir(&dir).args(["--output", "trace"]);
        succeeds(command.args(options).arg("--").args(program))
    };
    // Built by rkcov, together with one of the kernel's own.
    let (printed, said) = run(
        &["--module", ".", "--module", "binfmt_misc"],
        &["/bin/cat", "/proc/hello", "/proc/modules"],
    );
    assert!(printed.starts_with("hello large\n"), "{printed}{said}");
    for module in ["hello", "binfmt_misc"] {
        let begin = format!("{module} ");
        assert!(printed.lines().any(|l| l.starts_with(&begin)), "{printed}");
    }
    assert!(printed.contains("hello.c"), "{printed}");
    assert!(!said.contains("has no names"), "{said}");
    assert!(runs(&dir, "/* ran */") > 0);
    assert_eq!(runs(&dir, "/* not */"), 0);
    assert_eq!(runs(&dir, "/* begun */"), 0);
    // A file, and in the page for a browser.
    run(&["--module", "hello.ko"], &["/bin/cat", "/proc/hello"]);
    assert!(runs(&dir, "/* ran */") > 0);
    let mut report = Command::new(env!("CARGO_BIN_EXE_rkcov"));
    report.args([
        "report",
        "--format",
        "html",
        "--output",
        "page.html",
        "trace",
    ]);
    succeeds(report.current_dir(&dir));
    let page = fs::read_to_string(dir.path().join("page.html")).unwrap();
    assert!(
        page.contains("hello.c") && page.contains("says hello"),
        "no source"
    );
    // Loaded by the program: then what runs once is seen too.
    fs::write(dir.path().join("load.c"), LOAD).unwrap();
    let mut gcc = Command::new("gcc");
    succeeds(gcc.current_dir(&dir).args(["-o", "load", "load.c"]));
    let file = dir.path().join("hello.ko");
    let (_, said) = run(&["--with", "hello.ko"], &["./load", file.to_str().unwrap()]);
    assert!(!said.contains("has no names"), "{said}");
    assert!(runs(&dir, "/* begun */") > 0);
    // Refused by the kernel, with what it says.
    let mut command = rkcov("run");
    command
        .arg("--module")
        .arg(&file)
        .arg("--module")
        .arg(&file);
    let mut data = fs::read(&file).unwrap();
    let at = memchr::memmem::find(&data, b"vermagic=").unwrap();
    data[at + 9] = b'9';
    fs::write(&file, data).unwrap();
    let output = command.args(["--", "/bin/true"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("refuses the module") && said.contains("version magic '9"),
        "{said}"
    );
}
