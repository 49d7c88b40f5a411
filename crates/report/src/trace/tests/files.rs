// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing and reading real files.

use super::*;

#[test]
fn a_file_appears_only_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rkcov");
    fs::write(&path, "before").unwrap();
    let writer = Writer::create(&path, &Info::new(Mode::Trace)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"before");
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), b"before");
    let files = || fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files(), 1);

    let link = folder.path().join("link");
    symlink("a.rkcov", &link).unwrap();
    let writer = Writer::create(&link, &Info::new(Mode::Cmp)).unwrap();
    assert_eq!(files(), 3);
    writer.save().unwrap();
    assert_eq!(files(), 2);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let file = TraceFile::open(&path).unwrap();
    assert_eq!(file.trace().unwrap().info().mode, Mode::Cmp);
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    let plain = folder.path().join("plain");
    fs::write(&plain, "").unwrap();
    assert_eq!(mode, fs::metadata(&plain).unwrap().permissions().mode());
}

#[test]
fn of_two_writers_of_one_file_the_later_wins_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.rkcov");
    let first = Writer::create(&path, &Info::new(Mode::Trace)).unwrap();
    let second = Writer::create(&path, &Info::new(Mode::Unique)).unwrap();
    first.save().unwrap();
    let open = TraceFile::open(&path).unwrap();
    second.save().unwrap();
    assert_eq!(open.trace().unwrap().info().mode, Mode::Trace);
    let again = TraceFile::open(&path).unwrap();
    assert_eq!(again.trace().unwrap().info().mode, Mode::Unique);
}

#[test]
fn a_full_disk_and_a_closed_pipe_are_reported() {
    let full = Writer::create("/dev/full", &Info::new(Mode::Trace)).and_then(Writer::save);
    assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    let (reader, pipe) = io::pipe().unwrap();
    drop(reader);
    let closed = Writer::new(pipe, &Info::new(Mode::Trace));
    assert_eq!(closed.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_pipe_is_read_to_its_end() {
    let bytes = sample();
    let (mut reader, mut pipe) = io::pipe().unwrap();
    pipe.write_all(&bytes).unwrap();
    drop(pipe);
    let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let file = TraceFile::open(path).unwrap();
    assert_eq!(file.trace().unwrap().streams().len(), STREAMS);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let said = |error: &dyn Error| format!("{error}: {}", error.source().unwrap());
    let message = |path: &str| said(&TraceFile::open(path).unwrap_err());
    assert!(message("/no/such").starts_with("cannot read /no/such: "));
    assert!(message("/usr").contains("directory"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty");
    fs::write(&path, "").unwrap();
    let wrong = TraceFile::open(&path).unwrap().trace().unwrap_err();
    assert!(said(&wrong).contains("/empty: the file is empty"));
}
