// SPDX-License-Identifier: MIT OR Apache-2.0
//! The licences of what is in a release: ours, and those of the crates that are linked.

use crate::root;
use crate::shell::Error;
use cargo_metadata::{DependencyKind, MetadataCommand, Node, NodeDep, PackageId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Debian's file about the rights to a package.
pub(super) fn copyright() -> Result<String, Error> {
    let mit = fs::read_to_string(root().join("LICENSE-MIT"))?;
    // The terms, behind the title and the line of the owner.
    let (_, terms) = mit
        .split_once("Permission is")
        .ok_or("LICENSE-MIT has no terms")?;
    let terms: String = format!("Permission is{terms}")
        .lines()
        .map(|line| {
            if line.is_empty() {
                " .\n".into()
            } else {
                format!(" {line}\n")
            }
        })
        .collect();
    let source = env!("CARGO_PKG_REPOSITORY");
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: rkcov
Source: {source}
Comment: The libraries that the commands contain have licences of their own,
 which are in LICENSES-OF-DEPENDENCIES beside this file.

Files: *
Copyright: 2026 The rkcov developers
License: Expat or Apache-2.0

Files: crates/abi/* crates/core/* crates/linux/kernel/*
Copyright: 2026 The rkcov developers
License: GPL-2 or Expat

License: Expat
{terms}
License: Apache-2.0
 See /usr/share/common-licenses/Apache-2.0.

License: GPL-2
 See /usr/share/common-licenses/GPL-2.
"
    ))
}

/// The crates that the commands contain, and each text of a licence once.
pub(super) fn of_dependencies(host: &str) -> Result<String, Error> {
    let filter = ["--filter-platform", host].map(String::from).to_vec();
    let metadata = MetadataCommand::new()
        .current_dir(root())
        .other_options([vec!["--locked".into()], filter].concat())
        .exec()?;
    let resolve = metadata.resolve.as_ref();
    let nodes = resolve.map_or(&[][..], |resolve| &resolve.nodes);
    let nodes: BTreeMap<&PackageId, &Node> = nodes.iter().map(|node| (&node.id, node)).collect();
    let packages = &metadata.packages;
    // The runtime, which the commands contain as bytes, is no dependency of theirs.
    let first = packages
        .iter()
        .filter(|package| ["rkcov-cli", "rkcov-runtime"].contains(&package.name.as_str()));
    let mut todo: Vec<&PackageId> = first.map(|package| &package.id).collect();
    let mut linked = BTreeSet::new();
    while let Some(id) = todo.pop() {
        if !linked.insert(id) {
            continue;
        }
        let node = nodes.get(id).ok_or("cargo metadata is not complete")?;
        // Those of kind "build" and "dev" are in no command.
        let normal = |dep: &&NodeDep| {
            let mut kinds = dep.dep_kinds.iter();
            kinds.any(|kind| kind.kind == DependencyKind::Normal)
        };
        todo.extend(node.deps.iter().filter(normal).map(|dep| &dep.pkg));
    }

    let mut list = String::new();
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in packages {
        if package.source.is_none() || !linked.contains(&package.id) {
            continue;
        }
        let name = format!("{} {}", package.name, package.version);
        let license = package.license.as_deref().unwrap_or("see its text");
        writeln!(list, "{name}: {license}")?;
        for text in texts_of(package.manifest_path.as_std_path())? {
            texts.entry(text).or_default().push(name.clone());
        }
    }
    let c_library = "/usr/share/common-licenses/LGPL-2.1";
    let text = fs::read_to_string(c_library).map_err(|error| format!("{c_library}: {error}"))?;
    texts
        .entry(text)
        .or_default()
        .push("the GNU C Library".into());

    let mut all = format!(
        "The commands of rkcov contain these crates, Rust's standard library (MIT OR Apache-2.0) and, linked\n\
         statically, the GNU C Library (LGPL-2.1-or-later). Their sources are on crates.io, in Rust's\n\
         distribution and in Debian's package glibc. To link rkcov with another version of the C library, build\n\
         it from its sources: {}\n\n{list}",
        env!("CARGO_PKG_REPOSITORY")
    );
    for (text, names) in texts {
        let line = "-".repeat(80);
        write!(all, "\n{line}\n{}\n{line}\n\n{text}\n", names.join(", "))?;
    }
    Ok(all)
}

/// The texts of licences in a crate's folder.
fn texts_of(manifest: &Path) -> Result<Vec<String>, Error> {
    let folder = manifest.parent().ok_or("a manifest has a folder")?;
    let mut texts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.to_ascii_uppercase();
        let starts = [
            "LICENSE",
            "LICENCE",
            "COPYING",
            "COPYRIGHT",
            "NOTICE",
            "UNLICENSE",
        ];
        if path.is_file() && starts.iter().any(|start| name.starts_with(start)) {
            let text = fs::read(&path)?;
            let text = String::from_utf8_lossy(&text).replace('\r', "");
            texts.push(text.trim_matches('\n').to_owned());
        }
    }
    Ok(texts)
}
