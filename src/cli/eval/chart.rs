//! Accuracy over visual tokens, as a drawing.

use super::args::EvalArgs;
use super::row::{Row, series};
use crate::cli::Stop;
use crate::cli::chart::{COLOURS, Chart, Point, Series, draw_all};
use plotters::prelude::*;

const SIZE: (u32, u32) = (960, 540);

/// A line for everything that is compared at several budgets, with 95% intervals.
pub fn draw(rows: &[Row], args: &EvalArgs) -> Result<String, Stop> {
    let names = series(rows, args);
    let mut lines: Vec<Series> = Vec::new();
    for name in &names {
        if lines.iter().any(|line| line.name == *name) {
            continue;
        }
        let colour = COLOURS[lines.len() % COLOURS.len()];
        let points = rows.iter().zip(&names).filter(|(_, other)| *other == name).map(|(row, _)| {
            Point { x: row.visual_tokens, value: row.accuracy, interval: Some(row.interval) }
        });
        lines.push(Series::new(name.clone(), colour.stroke_width(2), points));
    }
    let questions = rows.first().map_or(0, |row| row.questions);
    let title = format!("{}: {questions} questions", args.model.model.display());
    let chart = Chart {
        title: "accuracy, with 95% intervals",
        along: "visual tokens",
        series: &lines,
        names: SeriesLabelPosition::LowerRight,
        value: &|value| format!("{:.0}%", 100.0 * value),
        top: Some(1.0),
    };
    draw_all(SIZE, &title, &[chart])
}
