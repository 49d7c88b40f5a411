// SPDX-License-Identifier: MIT OR Apache-2.0
//! Guards' calls become stores where nothing more is wanted than whether an edge ran.
#![cfg(target_arch = "x86_64")]

use crate::support::Project;
use object::{Object, ObjectSection};
use rkcov_abi::sites::{find, Site, GUARDS};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const SHOP: [(&str, &str); 4] = [
    (
        "Cargo.toml",
        "[package]\nname = \"shop\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\nmembers = [\"kit\"]\n\
         [dependencies]\nkit = { path = \"kit\" }\n",
    ),
    (
        "kit/Cargo.toml",
        "[package]\nname = \"kit\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
    ),
    (
        "kit/src/lib.rs",
        "pub fn price(n: u32) -> u32 {\n    if n > 3 { n * 2 } else { n + 1 }\n}\n",
    ),
    (
        "src/main.rs",
        "fn main() {\n    let sum: u32 = (0..9).map(kit::price).sum();\n    println!(\"{sum}\");\n}\n",
    ),
];

/// How many guards a program has, and how many of them are stored into.
fn guards_and_stores(program: &Path) -> (usize, usize) {
    let bytes = fs::read(program).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let guards = file.section_by_name(GUARDS).unwrap();
    let range = guards.address()..guards.address() + guards.size();
    let text = file.section_by_name(".text").unwrap();
    let sites = find(text.data().unwrap(), text.address());
    let stores = sites.filter(|site| match site {
        Site::Store(store) => range.contains(&store.guard),
        Site::Check(_) => false,
    });
    (guards.size() as usize / 4, stores.count())
}

fn built(project: &Project, below: &str) -> std::path::PathBuf {
    let host = format!("{}-unknown-linux-gnu/debug/shop", std::env::consts::ARCH);
    project.path("target/rkcov").join(below).join(host)
}

#[test]
fn calls_become_stores_by_the_users_own_linker() {
    let project = Project::new(&SHOP);
    let linker = project.path("my-linker");
    fs::write(
        &linker,
        "#!/bin/sh\necho linked >> links.log\nexec cc \"$@\"\n",
    )
    .unwrap();
    fs::set_permissions(&linker, fs::Permissions::from_mode(0o755)).unwrap();
    let text = "[build]\nrustflags = [\"-Clinker=./my-linker\"]\n";
    project.write(".cargo/config.toml", text);

    project.succeed("build");
    let (guards, stores) = guards_and_stores(&built(&project, ""));
    assert!(stores * 10 > guards * 9, "{stores} of {guards}");
    assert_eq!(
        fs::read_to_string(project.path("links.log")).unwrap(),
        "linked\n"
    );
    // The archive is kept, and the program is linked with it once more.
    let kept = || fs::read_dir(project.path("target/rkcov/stores")).unwrap();
    let archives = kept().map(|entry| entry.unwrap().path());
    assert_eq!(
        archives
            .filter(|path| path.extension() == Some("a".as_ref()))
            .count(),
        1
    );
    assert_eq!(kept().count(), 1, "nothing else is left");
    project.write("src/main.rs", &SHOP[3].1.replace("0..9", "0..5"));
    project.succeed("build");
    assert!(guards_and_stores(&built(&project, "")).1 >= stores);
    assert_eq!(kept().count(), 1);

    // Every edge calls where more is wanted than whether it ran.
    project.succeed("run --mode trace --no-report");
    assert_eq!(guards_and_stores(&built(&project, "calls")).1, 0);
    assert!(guards_and_stores(&built(&project, "")).1 > 0);
}

#[test]
fn a_client_keeps_its_calls() {
    let project = Project::new(&SHOP);
    project.write(
        "src/main.rs",
        "extern \"C\" {\n    fn rkcov_open() -> i32;\n}\n\
         fn main() {\n    println!(\"{} {}\", unsafe { rkcov_open() } >= 0, kit::price(2));\n}\n",
    );
    project.succeed("build");
    assert_eq!(guards_and_stores(&built(&project, "")).1, 0);
}
