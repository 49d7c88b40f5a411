// SPDX-License-Identifier: MIT OR Apache-2.0
//! What builds the runtime.

#[path = "../compiler.rs"]
mod compiler;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The runtime's own assembly is assembled, and the launcher has seen it.
#[test]
fn a_launcher_may_stand_before_the_compiler() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (launcher, notes) = (path("launcher"), path("notes"));
    let script = format!(
        "#!/bin/sh\necho \"$*\" >>{}\nexec \"$@\"\n",
        notes.display()
    );
    fs::write(&launcher, script).unwrap();
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755)).unwrap();
    let glue = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("glue")
        .join(std::env::consts::ARCH)
        .join("module.s");
    let launched = format!("  {}  gcc ", launcher.display());
    for (named, expected) in [
        (None, ""),
        (Some(""), ""),
        (Some("gcc"), ""),
        (Some(&*launched), "gcc -c "),
    ] {
        let _ = fs::remove_file(&notes);
        let object = path("module.o");
        let mut assemble = compiler::compiler(named);
        assemble.arg("-c").arg(&glue).arg("-o").arg(&object);
        assert!(assemble.status().unwrap().success(), "{named:?}");
        assert!(
            fs::read(&object).unwrap().starts_with(b"\x7fELF"),
            "{named:?}"
        );
        let noted = fs::read_to_string(&notes).unwrap_or_default();
        assert_eq!(noted.is_empty(), expected.is_empty(), "{named:?}: {noted}");
        assert!(noted.starts_with(expected), "{named:?}: {noted}");
        fs::remove_file(object).unwrap();
    }
}
