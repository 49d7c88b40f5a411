// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shell of the page: what stands there before the program has run, and for those who run none.

use maud::{html, Markup, PreEscaped, DOCTYPE};

use super::data::Index;

/// Stands where the data go, in a page of one file.
pub(super) const DATA: &str = "<!--data-->";

/// Where the page's parts are.
pub(super) enum Place {
    /// Beside it.
    Folder,
    /// In it.
    File {
        style: &'static str,
        program: &'static str,
    },
}

/// Sets the theme before anything is drawn.
const THEME: &str = "try{var t=JSON.parse(localStorage.getItem('rkcov')||'{}').theme;\
    if(t)document.documentElement.dataset.theme=t}catch(e){}";

pub(super) fn page(index: &Index, place: &Place) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (index.title) " · rkcov" }
                link rel="icon" href="data:,";
                script { (PreEscaped(THEME)) }
                @match place {
                    Place::Folder => link rel="stylesheet" href="style.css";,
                    Place::File { style, .. } => style { (PreEscaped(style)) },
                }
            }
            body {
                a.skip href="#main" { "Skip to the report" }
                header.bar {
                    a.brand href="#" { span.mark aria-hidden="true" { "rk" } "cov" }
                    span.title #title { (index.title) }
                    button.find #find type="button" aria-label="Find a file or function" aria-keyshortcuts="/" {
                        span aria-hidden="true" { "⌕" } span.find-text aria-hidden="true" { "Find a file or function" } kbd aria-hidden="true" { "/" }
                    }
                    button.chip #who type="button" aria-haspopup="dialog" { "Everything" }
                    button.icon #theme type="button" aria-label="Theme" title="Theme (t)" { "◐" }
                    button.icon #help type="button" aria-label="Keys and signs" title="Keys and signs (?)" { "?" }
                }
                main #main tabindex="-1" {
                    noscript {
                        p { "This report is drawn by a program in it, and this browser runs none. These are its files; \
                            rkcov report --format text says the rest." }
                        ul { @for file in &index.files { li { (file.path) } } }
                    }
                    p.wait { "Reading the report…" }
                }
                div #say.quiet role="status" aria-live="polite" {}
                @match place {
                    Place::Folder => {
                        script src="app.js" {}
                        script src="data/index.js" {}
                    }
                    Place::File { program, .. } => {
                        (PreEscaped(DATA))
                        script { (PreEscaped(program)) }
                    }
                }
            }
        }
    }
}
