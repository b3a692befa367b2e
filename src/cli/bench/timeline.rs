//! Draws the kernels of one request over time from the engine's own profile, like a profiler's timeline.

use super::build::Build;
use super::row::Row;
use crate::cli::Stop;
use crate::cli::table::{Time, tick};
use hired::engine::{Entry, Stage};
use plotters::prelude::*;
use std::time::Duration;

const WIDTH: u32 = 1200;
const LANE: i32 = 22;
/// Maximum number of lanes; the kernels that take the least time share the last one.
const LANES: usize = 14;
/// Height above the lanes: two title lines and one line of colours.
const TOP: i32 = 76;
/// Height below the lanes: the axis and its numbers.
const BOTTOM: i32 = 44;
/// Font size, as in the other drawings: 11.3 pixels.
const TYPE: i32 = 14;
/// Width of a character of that size in pixels.
const CHARACTER: f64 = 7.0;

/// Start and end of a piece of work.
type Span = (Duration, Duration);

/// Pieces of work that share a lane.
struct Lane {
    name: String,
    took: Duration,
    calls: usize,
    spans: Vec<(Stage, Span)>,
}

impl Lane {
    fn label(&self) -> String {
        format!("{} ×{}, {}", self.name, self.calls, Time(self.took.as_secs_f64()))
    }
}

/// Draws a lane for the stages, then one for each kernel, the longest first, above a time axis. Colours show stages.
/// Spans less than a pixel apart are drawn as one.
pub fn draw(build: &Build, row: &Row, entries: &[Entry]) -> Result<String, Stop> {
    let end = entries.iter().map(|e| e.begin + e.took).max().unwrap_or_default();
    let start = entries.iter().map(|e| e.begin).min().unwrap_or_default();
    let lanes = lanes(entries);
    let stages = stages(entries);
    let longest = lanes.iter().map(|lane| lane.label().chars().count()).max().unwrap_or_default();
    let left = (longest as f64 * CHARACTER) as i32 + 20;
    let bottom = TOP + LANE * (lanes.len() as i32 + 1);
    let mut text = String::new();
    {
        let size = (WIDTH, (bottom + BOTTOM) as u32);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let all = (end - start).as_secs_f64().max(1e-9);
        let scale = f64::from(WIDTH as i32 - left - 24) / all;
        let paint = Paint { root: &root, start, left, scale };
        let title =
            format!("{}, budget {}, batch {}: {}", build.model, row.name, row.batch, Time(all));
        let drawn = root.fill(&WHITE).map_err(|e| e.to_string()).and_then(|()| {
            paint.text(&title, (8, 8), 17)?;
            paint.text(&build.machine(), (8, 30), TYPE)?;
            paint.colours(stages.iter().map(|(stage, _)| *stage))?;
            paint.axis(all, bottom)?;
            paint.text("stages", (8, TOP + 3), TYPE)?;
            for (stage, spans) in &stages {
                paint.spans(0, spans, colour(*stage))?;
            }
            for (index, lane) in lanes.iter().enumerate() {
                paint.text(&lane.label(), (8, TOP + LANE * (index as i32 + 1) + 3), TYPE)?;
                for (stage, _) in &stages {
                    let of_stage = lane.spans.iter().filter(|(of, _)| of == stage);
                    let spans: Vec<Span> = of_stage.map(|(_, span)| *span).collect();
                    paint.spans(index + 1, &spans, colour(*stage))?;
                }
            }
            root.present().map_err(|e| e.to_string())
        });
        drawn.map_err(|e| Stop::Failed(format!("cannot draw the timeline: {e}")))?;
    }
    Ok(text)
}

struct Paint<'a, 'b> {
    root: &'a DrawingArea<SVGBackend<'b>, plotters::coord::Shift>,
    start: Duration,
    /// Position of time zero, and pixels per second.
    left: i32,
    scale: f64,
}

impl Paint<'_, '_> {
    fn x(&self, at: Duration) -> i32 {
        self.left + (at.saturating_sub(self.start).as_secs_f64() * self.scale) as i32
    }

    fn text(&self, text: &str, at: (i32, i32), size: i32) -> Result<(), String> {
        let style = ("sans-serif", size).into_text_style(self.root);
        self.root.draw_text(text, &style, at).map_err(|e| e.to_string())
    }

    /// Draws the legend of the stages' colours.
    fn colours(&self, stages: impl Iterator<Item = Stage>) -> Result<(), String> {
        let mut x = self.left;
        for stage in stages {
            let swatch =
                Rectangle::new([(x, TOP - 22), (x + 14, TOP - 10)], colour(stage).filled());
            self.root.draw(&swatch).map_err(|e| e.to_string())?;
            self.text(stage.name(), (x + 20, TOP - 23), TYPE)?;
            x += 40 + (stage.name().len() as f64 * CHARACTER) as i32;
        }
        Ok(())
    }

    /// Draws the numbers below the lanes and a grid line for each.
    fn axis(&self, all: f64, bottom: i32) -> Result<(), String> {
        let step = step(all);
        let (unit, per) = if all < 1e-3 {
            ("µs", 1e6)
        } else if all < 1.0 {
            ("ms", 1e3)
        } else {
            ("s", 1.0)
        };
        for index in 0..=(all / step) as usize {
            let at = step * index as f64;
            let x = self.left + (at * self.scale) as i32;
            let line = PathElement::new([(x, TOP), (x, bottom + 4)], RGBColor(215, 215, 215));
            self.root.draw(&line).map_err(|e| e.to_string())?;
            let number = tick(at * per);
            let half = number.len() as f64 * CHARACTER / 2.0;
            self.text(&number, (x - half as i32, bottom + 8), TYPE)?;
        }
        let middle = (self.left + WIDTH as i32) / 2;
        self.text(&format!("time, {unit}"), (middle - 26, bottom + 25), TYPE)
    }

    fn spans(&self, lane: usize, spans: &[Span], colour: RGBColor) -> Result<(), String> {
        let top = TOP + LANE * lane as i32;
        let mut boxes: Vec<(i32, i32)> = Vec::new();
        for (begin, end) in spans {
            let (left, right) = (self.x(*begin), self.x(*end).max(self.x(*begin) + 1));
            match boxes.last_mut() {
                Some(last) if left <= last.1 => last.1 = last.1.max(right),
                _ => boxes.push((left, right)),
            }
        }
        for (left, right) in boxes {
            let corners = [(left, top + 2), (right, top + LANE - 4)];
            let shape = Rectangle::new(corners, colour.filled());
            self.root.draw(&shape).map_err(|e| e.to_string())?;
        }
        Ok(())
    }
}

/// Seconds between the numbers of an axis: one, two or five times a power of ten, such that there are five to twelve.
fn step(all: f64) -> f64 {
    let power = 10f64.powf((all / 10.0).log10().floor());
    let fits = |times: &f64| all / (times * power) <= 12.0;
    [1.0, 2.0, 5.0].into_iter().find(fits).unwrap_or(10.0) * power
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

/// The time spans of each stage, in the order in which they first ran.
fn stages(entries: &[Entry]) -> Vec<(Stage, Vec<Span>)> {
    let mut all: Vec<(Stage, Vec<Span>)> = Vec::new();
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
        let span = (entry.stage, (entry.begin, entry.begin + entry.took));
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
        spans.sort_by_key(|(_, span)| *span);
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
    fn an_axis_has_five_to_twelve_round_numbers() {
        let steps = [0.011, 0.042, 0.1, 0.13, 0.9, 25.0].map(|all| (step(all), all / step(all)));
        for (step, count) in steps {
            assert!((5.0..=12.0).contains(&count), "{step}: {count}");
        }
        assert!((step(0.042) - 0.005).abs() < 1e-12 && (step(25.0) - 5.0).abs() < 1e-12);
    }

    #[test]
    fn what_takes_least_shares_a_lane() {
        let entries: Vec<_> = (0..20).map(|i| entry(format!("k{i}"), Stage::Vision, i)).collect();
        let lanes = lanes(&entries);
        assert_eq!(lanes.len(), LANES);
        assert_eq!(lanes[LANES - 1].calls, 20 - (LANES - 1));
    }
}
