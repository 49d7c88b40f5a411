// SPDX-License-Identifier: MIT OR Apache-2.0
//! Programs that were written for `/sys/kernel/debug/kcov`.

use crate::support::{succeed, Lab, OBJECT, PCS, PLAIN};

#[test]
fn files_at_the_devices_path_are_kcovs() {
    let lab = Lab::new();
    let work = lab.library("work.c", PCS);
    for fortify in ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"] {
        let object = lab.object("gcc", "preload.c", &[fortify]);
        let program = lab.link("gcc", "preload", &[object, work.clone()], PLAIN);
        succeed(&mut lab.preload(&program, &[]));
    }
}

#[test]
fn an_executable_with_a_runtime_keeps_it() {
    let lab = Lab::new();
    let objects = [
        lab.object("gcc", "preload.c", PCS),
        lab.object("gcc", "work.c", PCS),
    ];
    let arguments = [
        OBJECT,
        &[
            "-Wl,--export-dynamic-symbol=*rkcov_*",
            "-Wl,--export-dynamic-symbol=__sanitizer_cov_*",
        ],
    ]
    .concat();
    let program = lab.link("gcc", "preload", &objects, &arguments);
    succeed(&mut lab.preload(&program, &[]));
}
