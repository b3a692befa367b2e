//! Plots the attention figures (Figure 2 of the HiRED paper).

use super::args::AttentionArgs;
use super::figures::{Figures, Shares};
use crate::cli::Stop;
use crate::cli::chart::{Chart, Look, Series, draw_all};

const SIZE: (u32, u32) = (960, 640);

/// Plots the attention by kind of token and layer, next to its cumulative distribution over patches.
pub fn draw(args: &AttentionArgs, figures: &Figures) -> Result<String, Stop> {
    type Of = fn(&Shares) -> f64;
    let kinds: [(&str, Of); 5] = [
        ("system", |s| s.system),
        ("visual", |s| s.visual),
        ("newline", |s| s.newline),
        ("text", |s| s.text),
        ("answer", |s| s.answer),
    ];
    let lines: Vec<Series> = kinds
        .iter()
        .enumerate()
        .map(|(index, (name, share))| {
            let points =
                figures.layers.iter().map(|of| (of.layer as f64, 100.0 * share(&of.shares)));
            Series::line((*name).into(), Look::nth(index), points)
        })
        .collect();
    let points = figures.cumulative.iter().map(|c| (c.percent as f64, 100.0 * c.share));
    let ends = [(0.0, 0.0)].into_iter().chain(points).chain([(100.0, 100.0)]);
    let curve = [Series::line("patches".into(), Look::nth(1), ends)];
    let value = |value: f64| format!("{value:.0}%");
    let charts = [
        Chart {
            title: "attention by kind of token",
            along: "layer of the language model",
            series: &lines,
            value: &value,
            top: Some(100.0),
        },
        Chart {
            title: "attention to patches, cumulative",
            along: "most attended patches, %",
            series: &curve,
            value: &value,
            top: Some(100.0),
        },
    ];
    draw_all(SIZE, &args.model.model.display().to_string(), &charts)
}
