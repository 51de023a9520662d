//! Runbooks as pictures: text for a terminal, SVG, DOT and Mermaid.

mod dot;
mod layout;
mod live;
mod measure;
mod mermaid;
mod node;
mod svg;
mod text;

pub use dot::draw_dot;
pub use live::{Live, LiveStep, Tone};
pub use mermaid::draw_mermaid;
pub use svg::{draw_run_svg, draw_svg};
pub use text::draw_text;

use crate::runbook::{Runbook, Step};

/// The needs of a step that no other of its needs implies: the picture has the same meaning with fewer lines.
fn drawn_needs<'s>(runbook: &Runbook, step: &'s Step) -> Vec<&'s str> {
    let needs = step.needs.iter();
    let own = needs.filter(|need| {
        let mut others = step.needs.iter().filter(|other| other != need);
        !others.any(|other| runbook.ancestors(other).contains(need.as_str()))
    });
    own.map(String::as_str).collect()
}
