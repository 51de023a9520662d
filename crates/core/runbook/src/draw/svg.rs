//! A runbook, or a run of it, as an SVG picture that needs nothing else: style, light and dark, are in it.

use std::fmt::Write as _;

use super::drawn_needs;
use super::layout::{Layout, layout};
use super::live::Live;
use super::measure::{width, wrap};
use super::node::{Form, Node, PADDING, height_of};
use crate::runbook::Runbook;

/// The space around the picture, in pixels.
const MARGIN: i64 = 24;

/// The narrowest picture, so that heading and legend have room.
const NARROWEST: i64 = 560;

/// Sizes of the heading and of the text below it, in pixels.
const HEADING: i64 = 18;
const ABOUT: i64 = 12;

/// How much of a corner is cut or folded.
const CUT: i64 = 12;

/// Colours with a contrast of 4.5 and more to what is behind them. State and form are told by shape and words too.
const STYLE: &str = "
text{font-family:'DejaVu Sans',Verdana,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1b1f24}
.page{fill:#ffffff}.heading,.title,.warn,.state{font-weight:bold}
.about,.id,.plain{fill:#57606a}.quorum{fill:#0a4ea3}.warn{fill:#a40e26}
.box{fill:#f6f8fa;stroke:#57606a;stroke-width:1.5}.approved{stroke:#0a4ea3}.manual{stroke:#0a4ea3}
.destructive{fill:#fff4f4;stroke:#a40e26;stroke-width:2.5}.inner{fill:none;stroke:#a40e26;stroke-width:1}.fold{fill:none;stroke:#0a4ea3;stroke-width:1.5}
.edge{fill:none;stroke:#6e7781;stroke-width:1.6}.tip{fill:#6e7781}
.waits .bar{fill:#8c959f}.asks .bar{fill:#bf8700}.runs .bar{fill:#0969da}.done .bar{fill:#1a7f37}.skipped .bar{fill:#8c959f}.failed .bar{fill:#cf222e}
.asks .box{fill:#fff8e1}.runs .box{fill:#e8f2ff}.done .box{fill:#eaf8ee}.failed .box{fill:#ffebe9}.skipped .box{stroke-dasharray:5 4}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.page{fill:#0d1117}.about,.id,.plain{fill:#9da7b1}.quorum{fill:#79b8ff}.warn{fill:#ff8e88}
.box{fill:#161b22;stroke:#8b949e}.approved,.manual,.fold{stroke:#79b8ff}.destructive{fill:#2a1416;stroke:#ff8e88}.inner{stroke:#ff8e88}
.edge{stroke:#8b949e}.tip{fill:#8b949e}
.asks .box{fill:#2b2410}.runs .box{fill:#0f2440}.done .box{fill:#10281a}.failed .box{fill:#3a1618}
.asks .bar{fill:#d29922}.runs .bar{fill:#58a6ff}.done .bar{fill:#3fb950}.failed .bar{fill:#ff7b72}
}
";

/// A runbook as SVG. Needs that other needs imply are not drawn.
pub fn draw_svg(runbook: &Runbook) -> String {
    draw(runbook, None)
}

/// A run as SVG: its runbook with the state of each step.
pub fn draw_run_svg(runbook: &Runbook, live: &Live) -> String {
    draw(runbook, Some(live))
}

fn draw(runbook: &Runbook, live: Option<&Live>) -> String {
    let nodes: Vec<Node> = runbook
        .order()
        .into_iter()
        .map(|step| Node::of(step, live))
        .collect();
    let place = |id: &str| nodes.iter().position(|node| node.id == id);
    let layers: Vec<Vec<usize>> = runbook
        .waves()
        .iter()
        .map(|wave| wave.iter().filter_map(|step| place(&step.id)).collect())
        .collect();
    let edges: Vec<(usize, usize)> = runbook
        .order()
        .into_iter()
        .flat_map(|step| {
            let to = place(&step.id);
            drawn_needs(runbook, step)
                .into_iter()
                .filter_map(move |need| place(need).zip(to))
                .collect::<Vec<_>>()
        })
        .collect();
    let sizes: Vec<(i64, i64)> = nodes.iter().map(|node| (node.width, node.height)).collect();
    let plan = layout(&sizes, &layers, &edges);
    let inner = plan.width.max(NARROWEST);
    let heading = Heading::of(runbook, live, inner);
    let legend = legend(inner);
    let top = MARGIN + heading.height;
    let height = top + plan.height + MARGIN + text_height(&legend, ABOUT) + MARGIN;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{height}\" viewBox=\"0 0 {w} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(&format!("Runbook {}: {}", runbook.name(), runbook.title())),
        w = inner + 2 * MARGIN,
    );
    let _ = writeln!(out, "<style>{STYLE}</style>");
    let _ = writeln!(out, "<rect class=\"page\" width=\"100%\" height=\"100%\"/>");
    heading.write(&mut out);
    let left = MARGIN + (inner - plan.width) / 2;
    let _ = writeln!(out, "<g transform=\"translate({left} {top})\">");
    for points in &plan.edges {
        edge(&mut out, points);
    }
    boxes(&mut out, &nodes, &plan, runbook);
    out.push_str("</g>\n");
    let mut y = top + plan.height + MARGIN;
    for line in &legend {
        y += ABOUT + 5;
        let _ = writeln!(
            out,
            "<text class=\"about\" font-size=\"{ABOUT}\" x=\"{MARGIN}\" y=\"{y}\">{}</text>",
            escape(line)
        );
    }
    out.push_str("</svg>\n");
    out
}

/// What stands over the graph.
struct Heading {
    title: Vec<String>,
    about: Vec<String>,
    height: i64,
}

impl Heading {
    fn of(runbook: &Runbook, live: Option<&Live>, room: i64) -> Self {
        let title = wrap(runbook.title(), HEADING, room, 3);
        let short: String = runbook.digest_hex().chars().take(16).collect();
        let what = format!(
            "{} v{} · answers {} · {} steps · sha256 {short}",
            runbook.name(),
            runbook.version(),
            runbook.class(),
            runbook.steps().len()
        );
        let mut about = wrap(&what, ABOUT, room, 2);
        about.extend(
            live.into_iter()
                .flat_map(|live| wrap(&live.heading, ABOUT, room, 3)),
        );
        let height = text_height(&title, HEADING) + text_height(&about, ABOUT) + MARGIN;
        Self {
            title,
            about,
            height,
        }
    }

    fn write(&self, out: &mut String) {
        let mut y = MARGIN;
        for (lines, size, class) in [
            (&self.title, HEADING, "heading"),
            (&self.about, ABOUT, "about"),
        ] {
            for line in lines {
                y += size + 5;
                let _ = writeln!(
                    out,
                    "<text class=\"{class}\" font-size=\"{size}\" x=\"{MARGIN}\" y=\"{}\">{}</text>",
                    y - 5,
                    escape(line)
                );
            }
        }
    }
}

fn text_height(lines: &[String], size: i64) -> i64 {
    i64::try_from(lines.len()).unwrap_or(0) * (size + 5)
}

fn legend(room: i64) -> Vec<String> {
    let text = "Round corners: runs by itself. Square: people approve it. Folded corner: people do it. Cut corners and a double line: it cannot be taken back. Arrows lead from what must be done before; what follows from others is not drawn.";
    wrap(text, ABOUT, room, 4)
}

/// A line through the points, straight in the layers and curved between them, with a tip at its end.
fn edge(out: &mut String, points: &[(i64, i64)]) {
    let Some(((x, y), rest)) = points.split_first() else {
        return;
    };
    let mut path = format!("M{x} {y}");
    let (mut from_x, mut from_y) = (*x, *y);
    for (index, (x, y)) in rest.iter().enumerate() {
        let last = index + 1 == rest.len();
        // The tip covers the last pixels.
        let end = if last { y - 7 } else { *y };
        if *x == from_x {
            let _ = write!(path, "V{end}");
        } else {
            let middle = i64::midpoint(from_y, end);
            let _ = write!(path, "C{from_x} {middle} {x} {middle} {x} {end}");
        }
        (from_x, from_y) = (*x, end);
    }
    let _ = writeln!(out, "<path class=\"edge\" d=\"{path}\"/>");
    let _ = writeln!(
        out,
        "<path class=\"tip\" d=\"M{from_x} {}l-5 -9h10z\"/>",
        from_y + 7
    );
}

fn boxes(out: &mut String, nodes: &[Node], plan: &Layout, runbook: &Runbook) {
    for (node, (x, y)) in nodes.iter().zip(&plan.places) {
        let left = x - node.width / 2;
        let tone = node.tone.map_or("", super::live::Tone::class);
        let _ = writeln!(
            out,
            "<g class=\"step {tone}\" transform=\"translate({left} {y})\">"
        );
        if let Some(step) = runbook.step(&node.id) {
            let _ = writeln!(
                out,
                "<title>{}</title>",
                escape(&format!("{}: {}", step.id, step.action.spec().summary))
            );
        }
        frame(out, node);
        let mut at = PADDING - 2;
        for line in &node.lines {
            at += line.size;
            let from = (node.width - width(&line.text, line.size)).max(2 * PADDING) / 2;
            // Anchored in the middle, a text that is narrower than reckoned stays in the middle.
            let middle = node.width / 2;
            debug_assert!(from >= PADDING, "a line is wider than its box");
            let _ = writeln!(
                out,
                "<text class=\"{}\" font-size=\"{}\" text-anchor=\"middle\" x=\"{middle}\" y=\"{at}\">{}</text>",
                line.class,
                line.size,
                escape(&line.text)
            );
            at += height_of(line) - line.size;
        }
        out.push_str("</g>\n");
    }
}

fn frame(out: &mut String, node: &Node) {
    let (w, h) = (node.width, node.height);
    let octagon = |inset: i64| {
        let (right, low) = (w - inset, h - inset);
        let cut = CUT - inset / 2;
        format!(
            "M{} {inset}H{}L{right} {}V{}L{} {low}H{}L{inset} {}V{}Z",
            inset + cut,
            right - cut,
            inset + cut,
            low - cut,
            right - cut,
            inset + cut,
            low - cut,
            inset + cut
        )
    };
    let _ = match node.form {
        Form::Automatic => writeln!(
            out,
            "<rect class=\"box\" width=\"{w}\" height=\"{h}\" rx=\"14\"/>"
        ),
        Form::Approved => writeln!(
            out,
            "<rect class=\"box approved\" width=\"{w}\" height=\"{h}\"/>"
        ),
        Form::Manual => writeln!(
            out,
            "<path class=\"box manual\" d=\"M0 0H{}L{w} {CUT}V{h}H0Z\"/><path class=\"fold\" d=\"M{} 0V{CUT}H{w}\"/>",
            w - CUT,
            w - CUT
        ),
        Form::Destructive => writeln!(
            out,
            "<path class=\"box destructive\" d=\"{}\"/><path class=\"inner\" d=\"{}\"/>",
            octagon(0),
            octagon(5)
        ),
    };
    if node.tone.is_some() {
        let _ = writeln!(
            out,
            "<rect class=\"bar\" x=\"0\" y=\"{CUT}\" width=\"5\" height=\"{}\"/>",
            h - 2 * CUT
        );
    }
}

/// What XML allows, and nothing that ends a text or an attribute.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
