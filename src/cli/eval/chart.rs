//! Plots accuracy over the number of image tokens.

use super::args::EvalArgs;
use super::row::{Row, series};
use crate::cli::Stop;
use crate::cli::chart::{Chart, Look, Point, Series, draw_all};
use std::collections::BTreeSet;

const SIZE: (u32, u32) = (960, 540);
/// The number of lines up to which intervals are drawn; with more they would hide each other.
const WITH_INTERVALS: usize = 4;

/// Draws a line for each group of rows that differ only in the budget, with 95% intervals if there are few.
pub fn draw(rows: &[Row], args: &EvalArgs) -> Result<String, Stop> {
    let names = series(rows, args);
    let few = names.iter().collect::<BTreeSet<_>>().len() <= WITH_INTERVALS;
    let mut lines: Vec<Series> = Vec::new();
    for name in &names {
        if lines.iter().any(|line| line.name == *name) {
            continue;
        }
        let points =
            rows.iter().zip(&names).filter(|(_, other)| *other == name).map(|(row, _)| Point {
                x: row.visual_tokens,
                value: row.accuracy,
                interval: few.then_some(row.interval),
            });
        lines.push(Series::new(name.clone(), Look::nth(lines.len()), points));
    }
    let questions = rows.first().map_or(0, |row| row.questions);
    let title = format!("{}: {questions} questions", args.model.model.display());
    let chart = Chart {
        title: if few { "accuracy, with 95% intervals" } else { "accuracy" },
        along: "image tokens",
        series: &lines,
        value: &|value| format!("{:.0}%", 100.0 * value),
        top: Some(1.0),
    };
    draw_all(SIZE, &title, &[chart])
}
