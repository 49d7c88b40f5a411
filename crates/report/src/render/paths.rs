// SPDX-License-Identifier: MIT OR Apache-2.0
//! Paths as services want them: from the root of what was built.

use std::path::Path;

use super::style::shown;
use crate::coverage::View;

/// The folder in which the first run was.
pub(super) fn root<'a>(view: &View<'a>) -> &'a Path {
    let run = view.coverage.runs.first();
    run.map_or(Path::new(""), |run| &run.info.directory)
}

/// `path` from there on, or all of it if it lies elsewhere.
pub(super) fn within(root: &Path, path: &Path) -> String {
    let inner = path.strip_prefix(root).unwrap_or(path);
    shown(inner)
}
