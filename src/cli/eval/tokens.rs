//! Plots the number of image tokens of each image (Figure 5 of the HiRED paper).

use super::args::EvalArgs;
use super::questions::Item;
use super::row::{Outcome, Row, series};
use crate::cli::Stop;
use crate::cli::chart::{Chart, Look, Series, draw_all};

const SIZE: (u32, u32) = (960, 540);
/// Strength of the lines of one method, budget by budget.
const SHADES: [f64; 3] = [1.0, 0.6, 0.35];

/// Draws a line for each row, with its images sorted by their number of tokens, and one line for all rows that keep
/// everything. `outcomes`: by row, then by question in the order of `items`.
pub fn draw(
    rows: &[Row],
    outcomes: &[Vec<Outcome>],
    items: &[Item],
    args: &EvalArgs,
) -> Result<String, Stop> {
    let counts: Vec<Vec<usize>> = outcomes.iter().map(|o| of_images(o, items)).collect();
    let mut methods: Vec<String> = Vec::new();
    let mut shades: Vec<usize> = Vec::new();
    let mut lines: Vec<Series> = Vec::new();
    for ((row, method), counts) in rows.iter().zip(series(rows, args)).zip(counts) {
        let everything = row.key.keeps_everything();
        let (name, look) = if everything {
            ("full".to_owned(), Look::grey(2))
        } else {
            let index = methods.iter().position(|other| *other == method).unwrap_or_else(|| {
                methods.push(method.clone());
                shades.push(0);
                methods.len() - 1
            });
            let shade = SHADES[shades[index] % SHADES.len()];
            shades[index] += 1;
            (format!("{method}, {}", row.key.budget), Look::shade(index, shade))
        };
        if lines.iter().any(|line| line.name == name) {
            continue;
        }
        let points = counts.into_iter().enumerate().map(|(i, n)| ((i + 1) as f64, n as f64));
        lines.push(Series::line(name, look, points));
    }
    let title = format!("{}: {} images", args.model.model.display(), items.len());
    let chart = Chart {
        title: "image tokens of each image",
        along: "images, sorted by their tokens for each line",
        series: &lines,
        value: &|value| format!("{value:.0}"),
        top: None,
    };
    draw_all(SIZE, &title, &[chart])
}

/// The number of tokens of each image, ascending, taken from its first question, since all its questions have the
/// same.
fn of_images(outcomes: &[Outcome], items: &[Item]) -> Vec<usize> {
    let mut left = outcomes;
    let mut counts: Vec<usize> = items
        .iter()
        .filter_map(|item| {
            let (these, others) = left.split_at(item.questions.len().min(left.len()));
            left = others;
            Some(these.first()?.visual_tokens)
        })
        .collect();
    counts.sort_unstable();
    counts
}

#[cfg(test)]
mod tests {
    use super::super::questions::Question;
    use super::*;
    use serde_json::Value;

    #[test]
    fn an_image_counts_once() {
        let question =
            Question { line: 1, id: Value::Null, prompt: "p".into(), right: vec!["r".into()] };
        let item =
            |n| Item { image: "i".into(), name: "i".into(), questions: vec![question.clone(); n] };
        let outcome = |visual_tokens| Outcome { score: 1.0, visual_tokens, ..Outcome::default() };
        let outcomes = [7, 7, 7, 9, 5, 5].map(outcome);
        assert_eq!(of_images(&outcomes, &[item(3), item(1), item(2)]), [5, 7, 9]);
    }
}
