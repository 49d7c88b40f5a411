// SPDX-License-Identifier: MIT OR Apache-2.0
//! A picture of one number, for a page.

use std::io::{self, Write};

use super::github::share;
use super::tree::Totals;
use super::xml::escaped;
use crate::coverage::View;

/// Pixels that a character takes, about.
const WIDE: usize = 7;

/// Writes the share of lines that ran as a picture.
///
/// # Errors
/// What `to` says.
pub fn badge(view: &View<'_>, to: &mut dyn Write) -> io::Result<()> {
    let mut totals = Totals::default();
    view.files
        .iter()
        .for_each(|file| totals.add(Totals::of(file)));
    let known = !totals.partial && totals.lines > 0;
    let value = if known {
        share(totals)
    } else {
        "unknown".to_owned()
    };
    let colour = match (totals.lines_ran * 100).checked_div(totals.lines) {
        Some(90..) if known => "#0b7350",
        Some(70..) if known => "#56700f",
        Some(_) if known => "#b03d00",
        _ => "#5d5391",
    };
    let label = 8 * WIDE + 12;
    let number = value.chars().count() * WIDE + 14;
    let all = label + number;
    let value = escaped(&value);
    write!(
        to,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\" aria-label=\"coverage: {value}\">\n\
         <title>coverage: {value}</title>\n\
         <clipPath id=\"r\"><rect width=\"{all}\" height=\"20\" rx=\"4\"/></clipPath>\n\
         <g clip-path=\"url(#r)\"><rect width=\"{label}\" height=\"20\" fill=\"#3d4450\"/>\
         <rect x=\"{label}\" width=\"{number}\" height=\"20\" fill=\"{colour}\"/></g>\n\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\">\
         <text x=\"{}\" y=\"14\">coverage</text><text x=\"{}\" y=\"14\">{value}</text></g>\n</svg>\n",
        label / 2,
        label + number / 2,
    )
}
