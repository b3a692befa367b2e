//! The kernels of one request over time, as a drawing: what a profiler's timeline shows, from our own record.

use super::row::Row;
use super::table::{Build, digits};
use crate::cli::Stop;
use hired::engine::{Entry, Stage};
use plotters::prelude::*;
use std::time::Duration;

const WIDTH: u32 = 1200;
const LANE: u32 = 22;
/// Lanes of kernels; those that take least share the last one.
const LANES: usize = 14;
const LEFT: i32 = 300;
const TOP: i32 = 44;

/// Pieces of work that share a lane.
struct Lane {
    name: String,
    took: Duration,
    calls: usize,
    spans: Vec<(Duration, Duration)>,
}

/// A lane for the stages, then one for each kernel, the longest first. Spans closer than a pixel are drawn as one.
pub fn draw(build: &Build, row: &Row, entries: &[Entry]) -> Result<String, Stop> {
    let end = entries.iter().map(|e| e.begin + e.took).max().unwrap_or_default();
    let start = entries.iter().map(|e| e.begin).min().unwrap_or_default();
    let lanes = lanes(entries);
    let height = TOP as u32 + LANE * (lanes.len() as u32 + 2);
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        let paint = Paint { root: &root, start, scale: scale(end - start) };
        let title = format!(
            "{}, {}, batch {}: {} ms. {}",
            build.model,
            row.name,
            row.batch,
            digits((end - start).as_secs_f64() * 1e3),
            build.machine()
        );
        let drawn = root.fill(&WHITE).map_err(|e| e.to_string()).and_then(|()| {
            paint.text(&title, (8, 8), 14)?;
            for (stage, spans) in stages(entries) {
                paint.spans(0, &spans, colour(stage))?;
                paint.text(stage.name(), (paint.x(spans[0].0), TOP - 14), 11)?;
            }
            paint.text("stages", (8, TOP + 3), 12)?;
            for (index, lane) in lanes.iter().enumerate() {
                let Lane { name, took, calls, spans } = lane;
                let label = format!("{name} ×{calls}, {} ms", digits(took.as_secs_f64() * 1e3));
                paint.text(&label, (8, TOP + (LANE as i32) * (index as i32 + 1) + 3), 11)?;
                paint.spans(index + 1, spans, RGBColor(70, 110, 160))?;
            }
            root.present().map_err(|e| e.to_string())
        });
        drawn.map_err(|e| Stop::Failed(format!("cannot draw the timeline: {e}")))?;
    }
    Ok(text)
}

/// Pixels of a second.
fn scale(all: Duration) -> f64 {
    (f64::from(WIDTH) - f64::from(LEFT) - 16.0) / all.as_secs_f64().max(1e-9)
}

struct Paint<'a, 'b> {
    root: &'a DrawingArea<SVGBackend<'b>, plotters::coord::Shift>,
    start: Duration,
    scale: f64,
}

impl Paint<'_, '_> {
    fn x(&self, at: Duration) -> i32 {
        LEFT + (at.saturating_sub(self.start).as_secs_f64() * self.scale) as i32
    }

    fn text(&self, text: &str, at: (i32, i32), size: i32) -> Result<(), String> {
        let style = ("sans-serif", size).into_text_style(self.root);
        self.root.draw_text(text, &style, at).map_err(|e| e.to_string())
    }

    fn spans(
        &self,
        lane: usize,
        spans: &[(Duration, Duration)],
        colour: RGBColor,
    ) -> Result<(), String> {
        let top = TOP + LANE as i32 * lane as i32;
        let mut boxes: Vec<(i32, i32)> = Vec::new();
        for (begin, end) in spans {
            let (left, right) = (self.x(*begin), self.x(*end).max(self.x(*begin) + 1));
            match boxes.last_mut() {
                Some(last) if left <= last.1 => last.1 = last.1.max(right),
                _ => boxes.push((left, right)),
            }
        }
        for (left, right) in boxes {
            let corners = [(left, top + 2), (right, top + LANE as i32 - 4)];
            let shape = Rectangle::new(corners, colour.filled());
            self.root.draw(&shape).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

fn colour(stage: Stage) -> RGBColor {
    match stage {
        Stage::Idle => RGBColor(190, 190, 190),
        Stage::Upload => RGBColor(86, 180, 233),
        Stage::Vision => RGBColor(0, 114, 178),
        Stage::Select => RGBColor(213, 94, 0),
        Stage::Project => RGBColor(204, 121, 167),
        Stage::Prefill => RGBColor(0, 158, 115),
        Stage::Decode => RGBColor(230, 159, 0),
        _ => RGBColor(0, 0, 0),
    }
}

/// When each stage ran, in the order in which they first did.
fn stages(entries: &[Entry]) -> Vec<(Stage, Vec<(Duration, Duration)>)> {
    let mut all: Vec<(Stage, Vec<(Duration, Duration)>)> = Vec::new();
    let mut last = None;
    for entry in entries {
        let span = (entry.begin, entry.begin + entry.took);
        match all.iter_mut().find(|(stage, _)| *stage == entry.stage) {
            Some((stage, spans)) if last == Some(*stage) => {
                let open = spans.last_mut().expect("a stage has a span");
                open.1 = open.1.max(span.1);
            }
            Some((_, spans)) => spans.push(span),
            None => all.push((entry.stage, vec![span])),
        }
        last = Some(entry.stage);
    }
    all
}

fn lanes(entries: &[Entry]) -> Vec<Lane> {
    let mut all: Vec<Lane> = Vec::new();
    for entry in entries {
        let span = (entry.begin, entry.begin + entry.took);
        match all.iter_mut().find(|lane| lane.name == entry.name) {
            Some(lane) => {
                lane.took += entry.took;
                lane.calls += 1;
                lane.spans.push(span);
            }
            None => all.push(Lane {
                name: entry.name.to_string(),
                took: entry.took,
                calls: 1,
                spans: vec![span],
            }),
        }
    }
    all.sort_by_key(|lane| std::cmp::Reverse(lane.took));
    if all.len() > LANES {
        let rest = all.split_off(LANES - 1);
        let mut spans: Vec<_> = rest.iter().flat_map(|lane| lane.spans.clone()).collect();
        spans.sort();
        all.push(Lane {
            name: format!("{} others", rest.len()),
            took: rest.iter().map(|lane| lane.took).sum(),
            calls: rest.iter().map(|lane| lane.calls).sum(),
            spans,
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use hired::engine::Cost;

    fn entry(name: String, stage: Stage, begin: u64) -> Entry {
        let (begin, took) = (Duration::from_millis(begin), Duration::from_millis(1));
        Entry { name: name.into(), stage, layer: None, cost: Cost::default(), begin, took }
    }

    #[test]
    fn a_stage_that_is_interrupted_has_two_spans() {
        let order = [Stage::Vision, Stage::Vision, Stage::Select, Stage::Vision];
        let entries: Vec<_> =
            order.iter().zip(0..).map(|(s, i)| entry("k".into(), *s, 2 * i)).collect();
        let stages: Vec<_> =
            stages(&entries).into_iter().map(|(stage, spans)| (stage, spans.len())).collect();
        assert_eq!(stages, [(Stage::Vision, 2), (Stage::Select, 1)]);
    }

    #[test]
    fn what_takes_least_shares_a_lane() {
        let entries: Vec<_> = (0..20).map(|i| entry(format!("k{i}"), Stage::Vision, i)).collect();
        let lanes = lanes(&entries);
        assert_eq!(lanes.len(), LANES);
        assert_eq!(lanes[LANES - 1].calls, 20 - (LANES - 1));
    }
}
