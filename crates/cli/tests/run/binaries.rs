// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reports of programs that have moved, changed or gone since, and of debug information that is
//! elsewhere, compressed or not there.

use crate::support::{succeed, Compiler, Lab, RKCOV};
use object::Object;
use rkcov_report::trace::Mode;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that was recorded, and what is reported of it as long as all is in its place.
struct Scene {
    lab: Lab,
    program: PathBuf,
    whole: String,
}

impl Scene {
    fn new() -> Self {
        Self::of(|lab| lab.program(Compiler::Gcc, "mix"))
    }

    fn of(build: impl FnOnce(&Lab) -> PathBuf) -> Self {
        let lab = Lab::new();
        let program = build(&lab);
        lab.run(Mode::Unique).of::<&str>(&program, &[]).exited(0);
        let mut scene = Self {
            lab,
            program,
            whole: String::new(),
        };
        (scene.whole, _) = scene.report(&[]);
        assert!(scene.whole.contains("\nFN:") && scene.whole.contains("\nDA:"));
        scene
    }

    /// What is reported for tools, and the warnings.
    fn report(&self, more: &[&str]) -> (String, String) {
        self.report_as(&[&["--format", "lcov"], more].concat())
    }

    fn report_as(&self, options: &[&str]) -> (String, String) {
        let output = Command::new(RKCOV)
            .args(["report", "--all-sources"])
            .args(options)
            .arg(self.lab.path("trace.rkcov"))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        // A report that lacks what a file ran is written all the same, and is a failure.
        let lacks = said.contains("the report is incomplete");
        assert_eq!(lacks, said.contains("`--binaries DIR`"), "{said}");
        let status = if lacks { 1 } else { 0 };
        assert_eq!(output.status.code(), Some(status), "{said}");
        let folder = self.lab.path("");
        let said = said.replace(folder.to_str().unwrap(), "LAB/");
        (String::from_utf8(output.stdout).unwrap(), said)
    }

    /// Nothing is missing in the report, and nothing is to be said.
    #[track_caller]
    fn is_whole(&self, more: &[&str]) {
        assert_eq!(self.report(more), (self.whole.clone(), String::new()));
    }

    /// Lines are not known. Gives the warnings.
    #[track_caller]
    fn has_no_lines(&self, more: &[&str]) -> String {
        let (report, said) = self.report(more);
        assert!(!report.contains("\nDA:"), "{report}");
        said
    }

    fn path(&self, name: &str) -> PathBuf {
        self.lab.path(name)
    }

    fn build_id(&self) -> String {
        let bytes = fs::read(&self.program).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let id = file.build_id().unwrap().unwrap();
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Moves the debug information into a file.
    fn split_debug(&self, into: &Path) {
        fs::create_dir_all(into.parent().unwrap()).unwrap();
        objcopy(&["--only-keep-debug"], &self.program, into);
        objcopy(&["--strip-debug"], &self.program, &self.program);
    }

    fn add_debuglink(&self, debug: &Path) {
        let link = format!("--add-gnu-debuglink={}", debug.display());
        objcopy(&[&link], &self.program, &self.program);
    }
}

/// The same program with other code.
fn built_otherwise(lab: &Lab) -> PathBuf {
    let object = lab.object(Compiler::Gcc, "mix", &["-O2"]);
    let parts = [object, lab.artifact("rkcov.o"), "-pthread".into()];
    lab.link("mix", &parts)
}

fn objcopy(options: &[&str], from: &Path, to: &Path) {
    succeed(Command::new("objcopy").args(options).args([from, to]));
}

#[test]
fn compressed_debug_sections() {
    for how in ["zlib", "zstd", "zlib-gnu"] {
        let scene = Scene::new();
        let option = format!("--compress-debug-sections={how}");
        let size = || fs::metadata(&scene.program).unwrap().len();
        let before = size();
        objcopy(&[&option], &scene.program, &scene.program);
        assert!(size() < before, "{how}");
        scene.is_whole(&[]);
    }
}

#[test]
fn debug_information_by_build_id() {
    let scene = Scene::new();
    let id = scene.build_id();
    let name = format!("debug/.build-id/{}/{}.debug", &id[..2], &id[2..]);
    scene.split_debug(&scene.path(&name));
    insta::assert_snapshot!("no_lines", scene.has_no_lines(&[]));
    let folder = scene.path("debug");
    scene.is_whole(&["--debug-dir", folder.to_str().unwrap()]);
    let option = "--compress-debug-sections=zstd";
    objcopy(&[option], &scene.path(&name), &scene.path(&name));
    scene.is_whole(&["--debug-dir", folder.to_str().unwrap()]);
}

#[test]
fn debug_information_by_link() {
    for place in ["lines", ".debug/lines"] {
        let scene = Scene::new();
        let debug = scene.path(place);
        scene.split_debug(&debug);
        scene.has_no_lines(&[]);
        scene.add_debuglink(&debug);
        scene.is_whole(&[]);
    }
    // Without a build id, the link's checksum says what belongs together.
    let bare = |lab: &Lab| {
        let parts = [
            lab.object(Compiler::Gcc, "mix", &[]),
            lab.artifact("rkcov.o"),
        ];
        let options = ["-pthread", "-Wl,--build-id=none"].map(PathBuf::from);
        lab.link("mix", &[parts, options].concat())
    };
    let scene = Scene::of(bare);
    let debug = scene.path("lines");
    scene.split_debug(&debug);
    scene.has_no_lines(&[]);
    scene.add_debuglink(&debug);
    let (report, said) = scene.report(&[]);
    assert_eq!(report, scene.whole);
    insta::assert_snapshot!("no_build_id", said);
    // One byte more, and it is another file.
    let mut bytes = fs::read(&debug).unwrap();
    bytes.push(0);
    fs::write(&debug, bytes).unwrap();
    insta::assert_snapshot!("other_checksum", scene.has_no_lines(&[]));
}

#[test]
fn debug_information_of_another_build_is_refused() {
    let scene = Scene::new();
    let debug = scene.path("mix.debug");
    scene.split_debug(&debug);
    let other = Scene::of(built_otherwise);
    other.split_debug(&debug);
    scene.add_debuglink(&debug);
    insta::assert_snapshot!("other_build", scene.has_no_lines(&[]));
}

#[test]
fn neither_lines_nor_symbols() {
    let scene = Scene::new();
    objcopy(&["--strip-all"], &scene.program, &scene.program);
    insta::assert_snapshot!("stripped", scene.has_no_lines(&[]));
    // What is there can still be said, for people and for tools.
    let (text, _) = scene.report_as(&["--functions"]);
    assert!(!text.is_empty());
    let (pcs, said) = scene.report_as(&["--format", "pcs"]);
    assert!(pcs.lines().count() > 20 && said.is_empty());
}

#[test]
fn a_program_that_has_gone_or_moved() {
    let scene = Scene::new();
    let folder = scene.path("elsewhere");
    fs::create_dir(&folder).unwrap();
    fs::rename(&scene.program, folder.join("mix")).unwrap();
    insta::assert_snapshot!("gone", scene.has_no_lines(&[]));
    scene.is_whole(&["--binaries", folder.to_str().unwrap()]);
}

#[test]
fn a_copy_that_has_gone_while_the_program_is_there() {
    let lab = Lab::new();
    let program = lab.program(Compiler::Gcc, "mix");
    let run = lab.path("run.sh");
    let script = "cp mix copy && ./copy && rm copy && ./mix\n";
    fs::write(&run, script).unwrap();
    let output = Command::new(RKCOV)
        .args([
            "run",
            "-o",
            "trace.rkcov",
            "--report",
            "lcov=lines",
            "sh",
            "run.sh",
        ])
        .current_dir(program.parent().unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("--binaries"),
        "{said}"
    );
}

#[test]
fn a_source_that_was_changed_since() {
    let lab = Lab::new();
    let source = lab.path("line.c");
    fs::write(&source, "int main(void)\n{\n\treturn 0;\n}\n").unwrap();
    let built = Command::new(RKCOV)
        .args(["cc", "gcc", "-g", "line.c", "-o", "line"])
        .current_dir(lab.path(""))
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    let report = || {
        let output = Command::new(RKCOV)
            .args(["run", "-o", "trace.rkcov", "--report", "text", "./line"])
            .current_dir(lab.path(""))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        said.replace(lab.path("").to_str().unwrap(), "LAB/")
    };
    assert!(!report().contains("changed after"));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    fs::File::options()
        .append(true)
        .open(&source)
        .unwrap()
        .set_modified(later)
        .unwrap();
    let said = report();
    let changed = "LAB/line.c changed after the program was built: line numbers may be wrong; \
                   rebuild and record again";
    assert!(said.contains(changed), "{said}");
}

#[test]
fn a_program_that_was_built_again() {
    let scene = Scene::new();
    let id = scene.build_id();
    let folder = scene.path("old");
    fs::create_dir(&folder).unwrap();
    fs::rename(&scene.program, folder.join("mix")).unwrap();
    built_otherwise(&scene.lab);
    let new = scene.build_id();
    assert_ne!(id, new);
    let said = scene.has_no_lines(&[]).replace(&id, "OLD");
    insta::assert_snapshot!("changed", said.replace(&new, "NEW"));
    scene.is_whole(&["--binaries", folder.to_str().unwrap()]);
}

/// A gate must not pass because nothing was left to look at.
#[test]
fn what_is_missing_is_a_failure_unless_that_is_allowed() {
    let scene = Scene::new();
    let status = |more: &[&str]| {
        let mut report = Command::new(RKCOV);
        report.args(["report", "--format", "json"]).args(more);
        let output = report.arg(scene.path("trace.rkcov")).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    assert_eq!(status(&[]).0, Some(0));
    fs::rename(&scene.program, scene.path("old")).unwrap();
    let (gone, said) = status(&[]);
    let last = "rkcov: the report is incomplete: 1 file that ran is missing, see above; \
                --allow-missing accepts this\n";
    assert_eq!(gone, Some(1));
    assert!(said.ends_with(last), "{said}");
    assert_eq!(status(&["--allow-missing"]).0, Some(0));
    built_otherwise(&scene.lab);
    let (changed, said) = status(&[]);
    let last = last.replace("is missing", "was rebuilt since");
    assert!(changed == Some(1) && said.ends_with(&last), "{said}");
    assert!(said.contains("its build id was"), "{said}");
}

#[test]
fn something_else_in_a_programs_place() {
    let scene = Scene::new();
    let bytes = fs::read(&scene.program).unwrap();
    let mut said = String::new();
    for end in [0, 40, 4000, bytes.len() / 2] {
        fs::write(&scene.program, &bytes[..end]).unwrap();
        said += &scene.has_no_lines(&[]);
    }
    fs::remove_file(&scene.program).unwrap();
    succeed(Command::new("mkfifo").arg(&scene.program));
    said += &scene.has_no_lines(&[]);
    fs::remove_file(&scene.program).unwrap();
    fs::create_dir(&scene.program).unwrap();
    said += &scene.has_no_lines(&[]);
    let of_mix = |line: &&str| !line.contains("the report is incomplete");
    let warnings: Vec<&str> = said.lines().filter(of_mix).collect();
    assert_eq!(warnings.len(), 6, "{said}");
    for warning in warnings {
        assert!(warning.starts_with("rkcov: LAB/mix "), "{warning}");
        assert!(warning.contains("`--binaries DIR`"), "{warning}");
    }
}
