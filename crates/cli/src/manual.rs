// SPDX-License-Identifier: MIT OR Apache-2.0
//! Manual pages and completions of shells, made from the commands' own descriptions.

use clap::Command;
use clap_complete::Shell;
use std::io;
use std::path::PathBuf;

/// A file that is installed below the prefix.
#[derive(Debug)]
pub struct File {
    /// Its place below the prefix.
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// The completions of `rkcov` for a shell.
#[must_use]
pub fn completions(shell: Shell) -> Vec<u8> {
    script(shell, crate::command(), "rkcov")
}

fn script(shell: Shell, mut command: Command, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut bytes);
    bytes
}

/// The manual pages of both commands and of their subcommands, and the completions.
///
/// # Errors
/// A page cannot be written into memory: does not happen.
pub fn files() -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    for mut command in [crate::command(), crate::cmd::cargo::command()] {
        command.build();
        pages(&command, &mut files)?;
    }
    for (name, command) in [
        ("rkcov", crate::command()),
        // By this name zsh's completion of cargo finds that of a subcommand. Those of bash and fish look for none.
        ("cargo-rkcov", crate::cmd::cargo::command()),
    ] {
        let scripts = [
            (Shell::Bash, format!("bash-completion/completions/{name}")),
            (Shell::Zsh, format!("zsh/site-functions/_{name}")),
            (
                Shell::Fish,
                format!("fish/vendor_completions.d/{name}.fish"),
            ),
        ];
        files.extend(scripts.map(|(shell, path)| File {
            path: PathBuf::from("share").join(path),
            bytes: script(shell, command.clone(), name),
        }));
    }
    Ok(files)
}

/// The page of a command that was built, then those of its subcommands: `rkcov-linux-run.1`.
fn pages(command: &Command, files: &mut Vec<File>) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let page = clap_mangen::Man::new(command.clone()).title(name);
    let mut bytes = Vec::new();
    page.render(&mut bytes)?;
    let path = PathBuf::from("share/man/man1").join(page.get_filename());
    files.push(File { path, bytes });
    command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
        .try_for_each(|sub| pages(sub, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_its_page() {
        let files = files().unwrap();
        let has = |name: &str| {
            let file = files
                .iter()
                .find(|file| file.path.file_name().is_some_and(|file| file == name));
            let file = file.unwrap_or_else(|| panic!("no {name}"));
            String::from_utf8(file.bytes.clone()).unwrap()
        };
        for name in [
            "rkcov.1",
            "rkcov-run.1",
            "rkcov-linux-run.1",
            "cargo-rkcov.1",
        ] {
            assert!(has(name).contains(".SH SYNOPSIS"), "{name}");
        }
        assert!(has("cargo-rkcov-test.1").contains("cargo rkcov test"));
        assert!(has("rkcov-report.1").contains("\\-\\-format"));
        assert!(has("rkcov").contains("report"));
        assert!(has("_rkcov").starts_with("#compdef rkcov"));
        assert!(has("rkcov.fish").contains("complete -c rkcov"));
        assert!(has("cargo-rkcov").contains("nextest"));
        assert!(has("_cargo-rkcov").starts_with("#compdef cargo-rkcov"));
    }
}
