//! docs/performance.svg: CPU as a ratio to the limit, on a logarithmic scale,
//! one row for each workload and one mark for each proxy.

use std::fmt::Write as _;
use std::fs;

use crate::document;
use crate::peers::{Kind, Setup};
use crate::report::Report;
use crate::rounds::Costs;

const LEFT: f64 = 110.0;
const RIGHT: f64 = 730.0;
const TOP: f64 = 92.0;
const ROW: f64 = 34.0;
/// Ends of the scale; what lies beyond is drawn at its end.
const LEAST: f64 = 0.5;
const MOST: f64 = 20.0;
const TICKS: [f64; 6] = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0];

/// Colours that can be told apart on white and on black, also by those who
/// see fewer of them; the marks differ in shape as well.
const STYLE: &str = "\
text { font: 13px system-ui, sans-serif; fill: #24292f }
.small { font-size: 12px; fill: #57606a }
.line { stroke: #d0d7de }
.one { stroke: #57606a }
.goal { stroke: #57606a; stroke-width: 2 }
.row { fill: #f6f8fa }
.back { fill: #ffffff }
.k0 { fill: #d1242f } .k1 { fill: #0969da } .k2 { fill: #1a7f37 } .k3 { fill: #bf5700 } .k4 { fill: #8250df } .k5 { fill: #6e7781 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .small { fill: #9198a1 } .line { stroke: #3d444d } .one, .goal { stroke: #9198a1 }
.row { fill: #151b23 } .back { fill: #0d1117 }
.k0 { fill: #ff7b72 } .k1 { fill: #58a6ff } .k2 { fill: #3fb950 } .k3 { fill: #f0883e } .k4 { fill: #bc8cff } .k5 { fill: #9198a1 }
}";

/// Draws it anew, where W1 to W4 were measured of all.
pub(crate) fn write(report: &Report) {
    let Some(costs) = report.costs.as_ref().filter(|costs| costs.workloads.len() > 1) else { return };
    let path = document::path("performance.svg");
    fs::write(&path, draw(costs)).expect("docs/performance.svg");
    println!("drawn in {}", path.display());
}

fn draw(costs: &Costs) -> String {
    let bottom = TOP + ROW * costs.workloads.len() as f64;
    let (width, height) = (RIGHT + 30.0, bottom + 52.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         <title>CPU of each proxy, as a ratio to the limit</title>\n<style>\n{STYLE}\n</style>\n\
         <rect class=\"back\" width=\"{width}\" height=\"{height}\"/>\n"
    );
    let mut add = |part: String| writeln!(svg, "{part}").expect("a string takes all");
    add(format!(
        "<text x=\"{LEFT}\" y=\"24\">CPU for each unit of work, as a ratio to the limit (less is better)</text>"
    ));
    let rivals: Vec<_> = costs.kinds.iter().filter(|(kind, _)| *kind != Kind::Limit).enumerate().collect();
    for (at, (_, name)) in &rivals {
        let (x, y) = (LEFT + 210.0 * (at % 3) as f64, 46.0 + 20.0 * (at / 3) as f64);
        add(mark(*at, x, y - 4.0));
        add(format!("<text class=\"small\" x=\"{}\" y=\"{y}\">{name}</text>", x + 12.0));
    }
    for at in (0..costs.workloads.len()).step_by(2) {
        let y = TOP + ROW * at as f64;
        add(format!("<rect class=\"row\" x=\"0\" y=\"{y}\" width=\"{width}\" height=\"{ROW}\"/>"));
    }
    for tick in TICKS {
        let (x, class) = (place(tick), if tick == 1.0 { "one" } else { "line" });
        add(format!("<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>"));
        add(format!(
            "<text class=\"small\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>",
            bottom + 18.0
        ));
    }
    add(format!(
        "<text class=\"small\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">times the limit's CPU, logarithmic; | is Moorgate's goal</text>",
        f64::midpoint(LEFT, RIGHT),
        bottom + 40.0
    ));
    for (row, workload) in costs.workloads.iter().enumerate() {
        let y = TOP + ROW * (row as f64 + 0.5);
        add(format!("<text x=\"8\" y=\"{:.1}\">{} {}</text>", y + 5.0, workload.group, workload.what));
        let goal = place(workload.goal);
        add(format!(
            "<line class=\"goal\" x1=\"{goal:.1}\" y1=\"{}\" x2=\"{goal:.1}\" y2=\"{}\"/>",
            y - 12.0,
            y + 12.0
        ));
        // Ours is drawn last, above all others.
        let ours = |kind: Kind| kind == Kind::Moorgate(Setup::Usual);
        let mut order = rivals.clone();
        order.sort_by_key(|(_, (kind, _))| ours(*kind));
        for (at, (kind, name)) in order {
            let ratio = costs.samples.ratio((workload.what, *kind), (workload.what, Kind::Limit));
            if let Some(ratio) = ratio {
                add(format!("<g><title>{name}: {ratio:.2}</title>{}</g>", mark(at, place(ratio), y)));
            }
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn place(ratio: f64) -> f64 {
    let part = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LEFT + part * (RIGHT - LEFT)
}

/// The `at`-th proxy's, around a point.
fn mark(at: usize, x: f64, y: f64) -> String {
    let shape = |points: &[(f64, f64)]| {
        let points: Vec<_> = points.iter().map(|(dx, dy)| format!("{:.1},{:.1}", x + dx, y + dy)).collect();
        format!("<polygon class=\"k{at}\" points=\"{}\"/>", points.join(" "))
    };
    match at % 6 {
        0 => format!("<circle class=\"k{at}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6\"/>"),
        1 => shape(&[(-5.0, -5.0), (5.0, -5.0), (5.0, 5.0), (-5.0, 5.0)]),
        2 => shape(&[(0.0, -6.0), (6.0, 5.0), (-6.0, 5.0)]),
        3 => shape(&[(0.0, -6.5), (6.5, 0.0), (0.0, 6.5), (-6.5, 0.0)]),
        4 => shape(&[(-6.0, -5.0), (6.0, -5.0), (0.0, 6.0)]),
        _ => shape(&[(-5.0, -2.0), (5.0, -2.0), (5.0, 2.0), (-5.0, 2.0)]),
    }
}
