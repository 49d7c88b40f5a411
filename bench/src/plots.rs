// SPDX-License-Identifier: MIT OR Apache-2.0
//! Plots of cost against size, as SVG.

use crate::benches::{FUNCTIONS, LENGTHS, THREADS};
use crate::rows::Rows;
use crate::sections;
use crate::tables::{user, wall};
use std::fmt::Write;

/// One line of a plot: its name, and its points with their quartiles.
struct Line {
    name: &'static str,
    points: Vec<(f64, [f64; 3])>,
}

struct Plot {
    title: &'static str,
    x: &'static str,
    y: &'static str,
    lines: Vec<Line>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// Where the plane is: left, right, top, bottom.
const PLANE: [f64; 4] = [64.0, 520.0, 40.0, 370.0];
const COLORS: [&str; 8] = [
    "#0b6e99", "#d9480f", "#2b8a3e", "#862e9c", "#e8a200", "#c2255c", "#5c5f66", "#1864ab",
];

impl Plot {
    /// The picture. Sizes grow by the same factor from left to right.
    fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (mut least, mut most, mut top) = (f64::MAX, f64::MIN, 0f64);
        for (x, [_, _, high]) in points() {
            (least, most, top) = (least.min(*x), most.max(*x), top.max(*high));
        }
        let [left, right, up, down] = PLANE;
        let span = (most / least).ln().max(f64::MIN_POSITIVE);
        let step = step(top);
        let top = (top / step).ceil().max(1.0) * step;
        let at_x = |x: f64| left + (x / least).ln() / span * (right - left);
        let at_y = |y: f64| down - y / top * (down - up);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{left}\" y=\"22\" font-size=\"15\">{}</text>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(16 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            self.title,
            (left + right) / 2.0,
            down + 38.0,
            self.x,
            (up + down) / 2.0,
            self.y
        );
        // Writing to a string does not fail.
        let mut y = 0.0;
        while y <= top + step / 2.0 {
            let at = at_y(y);
            let digits = usize::from(step < 1.0);
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{y:.digits$}</text>",
                left - 6.0,
                at + 4.0
            );
            y += step;
        }
        let mut sizes: Vec<f64> = points().map(|(x, _)| *x).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        for x in sizes {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                at_x(x),
                down + 18.0,
                short(x)
            );
        }
        for (number, line) in self.lines.iter().enumerate() {
            let color = COLORS[number % COLORS.len()];
            let mut path = String::new();
            for (x, [low, median, high]) in &line.points {
                let x = at_x(*x);
                let to = if path.is_empty() { 'M' } else { 'L' };
                let _ = write!(path, "{to}{x:.1} {:.1}", at_y(*median));
                let _ = writeln!(
                    svg,
                    "<path d=\"M{x:.1} {:.1}V{:.1}\" stroke=\"{color}\"/>\
                     <circle cx=\"{x:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\"/>",
                    at_y(*low),
                    at_y(*high),
                    at_y(*median)
                );
            }
            let at = up + 10.0 + 20.0 * number as f64;
            let _ = writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\"/>\n\
                 <path d=\"M{} {at}h18\" stroke=\"{color}\" stroke-width=\"3\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>",
                right + 16.0,
                right + 40.0,
                at + 4.0,
                line.name
            );
        }
        svg + "</svg>\n"
    }
}

/// A round number, of which some make up `top`.
fn step(top: f64) -> f64 {
    let mut step = 10f64.powf((top / 5.0).max(f64::MIN_POSITIVE).log10().floor());
    for factor in [2.0, 2.5, 2.0] {
        if top / step > 7.0 {
            step *= factor;
        }
    }
    step
}

/// A size in few characters.
fn short(size: f64) -> String {
    match size {
        _ if size >= 1e6 => format!("{:.0}M", size / 1e6),
        _ if size >= 1e4 => format!("{:.0}k", size / 1e3),
        _ => format!("{size:.0}"),
    }
}

/// The plots that the rows give: their files' names, and what is in them.
pub(crate) fn all(read: &dyn Fn(&str) -> Option<Rows>) -> Vec<(&'static str, String)> {
    let mut made = Vec::new();
    if let Some(rows) = read("threads") {
        made.push(("threads", threads(&rows)));
    }
    if let Some(rows) = read("sections") {
        made.push(("handles", handles(&rows)));
        made.push(("section-threads", section_threads(&rows)));
    }
    if let Some(rows) = read("sites") {
        made.push(("sites", sites(&rows)));
    }
    if let Some(rows) = read("trace") {
        made.push(("trace", trace(&rows)));
    }
    made.retain(|(_, plot)| !plot.lines.is_empty());
    made.into_iter()
        .map(|(name, plot)| (name, plot.svg()))
        .collect()
}

fn line(name: &'static str, sizes: &[u32], of: impl Fn(u32) -> Option<[f64; 3]>) -> Option<Line> {
    let points = sizes
        .iter()
        .filter_map(|&size| Some((size.into(), of(size)?)));
    let points: Vec<_> = points.collect();
    (points.len() > 1).then_some(Line { name, points })
}

fn threads(rows: &Rows) -> Plot {
    let sizes = THREADS.map(|(threads, _)| threads);
    let lines = [
        ("gcc: rkcov run", "gcc-run", "gcc-plain"),
        ("gcov", "gcc-peer", "gcc-plain"),
        ("gcov, atomic", "gcc-atomic", "gcc-plain"),
        ("clang: rkcov run", "clang-run", "clang-plain"),
        ("source coverage", "clang-peer", "clang-plain"),
        ("rustc: rkcov run", "rustc-run", "rustc-plain"),
        ("-Cinstrument-coverage", "rustc-peer", "rustc-plain"),
    ];
    Plot {
        title: "Threads that share a hot loop",
        x: "threads",
        y: "user time to plain",
        lines: lines
            .iter()
            .filter_map(|(name, of, to)| {
                line(name, &sizes, |n| rows.ratio(&n.to_string(), of, to, user))
            })
            .collect(),
    }
}

fn pairs(rows: &Rows, kind: &str, sizes: &[u32]) -> Vec<Line> {
    let of = |variant: &'static str| {
        move |n: u32| {
            let found = rows.quartiles(&format!("{kind}-{n}"), variant, user)?;
            Some(found.map(|figure| figure / 1000.0))
        }
    };
    [("rkcov", "rkcov"), ("the algorithm in C", "c")]
        .into_iter()
        .filter_map(|(name, variant)| line(name, sizes, of(variant)))
        .collect()
}

fn handles(rows: &Rows) -> Plot {
    Plot {
        title: "Start and stop of a section, one thread",
        x: "registered handles",
        y: "ns",
        lines: pairs(rows, "handles", &sections::HANDLES),
    }
}

fn section_threads(rows: &Rows) -> Plot {
    Plot {
        title: "Start and stop of a section, 1,024 handles",
        x: "threads",
        y: "ns of processor time",
        lines: pairs(rows, "threads", &sections::THREADS),
    }
}

fn sites(rows: &Rows) -> Plot {
    let lines = [("rkcov run", "gcc-run"), ("idle", "gcc-idle")];
    Plot {
        title: "Programs of more and more functions, each with three sites or four",
        x: "functions",
        y: "user time to plain",
        lines: lines
            .into_iter()
            .filter_map(|(name, of)| {
                line(name, &FUNCTIONS, |n| {
                    rows.ratio(&n.to_string(), of, "gcc-plain", user)
                })
            })
            .collect(),
    }
}

fn trace(rows: &Rows) -> Plot {
    let of = |variant: &'static str, figure| {
        move |n: u32| rows.ratio(&format!("zlib-{n}"), variant, "gcc-plain", figure)
    };
    let lines = [
        line("user time", &LENGTHS, of("gcc-trace", user)),
        line("start to end", &LENGTHS, of("gcc-trace", wall)),
    ];
    Plot {
        title: "Traces of zlib, of more and more work",
        x: "how often the file is inflated",
        y: "time to plain",
        lines: lines.into_iter().flatten().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (top, expected) in [
            (1.3, 0.2),
            (7.0, 1.0),
            (9.0, 2.0),
            (300.0, 50.0),
            (1800.0, 500.0),
        ] {
            let found = step(top);
            assert!((found - expected).abs() < 1e-9, "{top}: {found}");
        }
    }

    #[test]
    fn points_lie_in_the_plane() {
        let plot = Plot {
            title: "t",
            x: "x",
            y: "y",
            lines: vec![Line {
                name: "n",
                points: vec![(1.0, [1.0, 1.0, 1.0]), (100.0, [1.0, 2.0, 2.0])],
            }],
        };
        let svg = plot.svg();
        assert!(svg.contains("d=\"M64.0 205.0L520.0 40.0\""), "{svg}");
    }
}
