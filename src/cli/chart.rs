//! Lines, as SVG.

use super::Stop;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::fmt::Display;

/// Of lines: told apart also by those who see few colours (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const GREY: RGBColor = RGBColor(120, 120, 120);

/// What tells a line apart: its colour, and whether it is dashed, as every second round through the colours is.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    style: ShapeStyle,
    dashed: bool,
}

impl Look {
    /// Of line number `index`.
    pub fn nth(index: usize) -> Self {
        Self::shade(index, 1.0)
    }

    /// Of line number `index`, paler: 0 is nothing, 1 all of it.
    pub fn shade(index: usize, strength: f64) -> Self {
        let colour = COLOURS[index % COLOURS.len()].mix(strength);
        let dashed = !(index / COLOURS.len()).is_multiple_of(2);
        Self { style: colour.stroke_width(2), dashed }
    }

    /// Of what the others are held against.
    pub fn grey(width: u32) -> Self {
        Self { style: GREY.stroke_width(width), dashed: false }
    }
}

/// Points of a line up to which each is marked: more of them hide the line.
const MARKED: usize = 60;

/// A value over something, and where it may lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub x: f64,
    pub value: f64,
    pub interval: Option<[f64; 2]>,
}

/// A line of points.
pub struct Series {
    pub name: String,
    pub look: Look,
    /// From left to right.
    pub points: Vec<Point>,
}

impl Series {
    pub fn new(name: String, look: Look, points: impl Iterator<Item = Point>) -> Self {
        let mut points: Vec<_> = points.collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Self { name, look, points }
    }

    /// Of (x, value), known without an interval.
    pub fn line(name: String, look: Look, points: impl Iterator<Item = (f64, f64)>) -> Self {
        let point = |(x, value)| Point { x, value, interval: None };
        Self::new(name, look, points.map(point))
    }
}

/// One chart of a drawing.
pub struct Chart<'a> {
    pub title: &'a str,
    /// What the values are over.
    pub along: &'a str,
    pub series: &'a [Series],
    /// Where the lines are named.
    pub names: SeriesLabelPosition,
    /// How values are written.
    pub value: &'a dyn Fn(f64) -> String,
    /// The upper end; `None`: what the values need.
    pub top: Option<f64>,
}

/// Charts below one another.
pub fn draw_all(size: (u32, u32), title: &str, charts: &[Chart<'_>]) -> Result<String, Stop> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let drawn = root.fill(&WHITE).map_err(|e| e.to_string()).and_then(|()| {
            let below = root.titled(title, ("sans-serif", 15)).map_err(|e| e.to_string())?;
            let areas = below.split_evenly((charts.len(), 1));
            areas.iter().zip(charts).try_for_each(|(area, chart)| chart.draw(area))?;
            root.present().map_err(|e| e.to_string())
        });
        drawn.map_err(|e| Stop::Failed(format!("cannot draw the plot: {e}")))?;
    }
    Ok(text)
}

impl Chart<'_> {
    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), String> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let most = |of: fn(&Point) -> f64| points().map(of).fold(0.0, f64::max);
        let right = most(|p| p.x).max(1.0);
        let top = self.top.unwrap_or_else(|| most(|p| p.value).max(1e-9) * 1.1);
        let text = |e: &dyn Display| e.to_string();
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 15))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..right * 1.05, 0.0..top)
            .map_err(|e| text(&e))?;
        chart
            .configure_mesh()
            .x_desc(self.along)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| (self.value)(*y))
            .max_light_lines(0)
            .bold_line_style(RGBColor(225, 225, 225))
            .draw()
            .map_err(|e| text(&e))?;
        for Series { name, look: Look { style, dashed }, points } in self.series {
            let (style, dashed) = (*style, *dashed);
            let at = |point: &Point| (point.x, point.value);
            let marked = if points.len() > MARKED { &[] } else { &points[..] };
            let dots = marked.iter().map(|point| Circle::new(at(point), 3, style.filled()));
            chart.draw_series(dots).map_err(|e| text(&e))?;
            let known = points.iter().filter_map(|p| Some((p, p.interval?)));
            let bars = known
                .map(|(p, [low, high])| ErrorBar::new_vertical(p.x, low, p.value, high, style, 6));
            chart.draw_series(bars).map_err(|e| text(&e))?;
            let line = points.iter().map(at);
            let drawn = match dashed {
                true => chart.draw_series(DashedLineSeries::new(line, 6, 4, style)),
                false => chart.draw_series(LineSeries::new(line, style)),
            };
            let ends = if dashed { [(0, 6), (10, 16)] } else { [(0, 8), (8, 16)] };
            drawn.map_err(|e| text(&e))?.label(name).legend(move |(x, y)| {
                let piece = |(from, to)| PathElement::new([(x + from, y), (x + to, y)], style);
                EmptyElement::at((0, 0)) + piece(ends[0]) + piece(ends[1])
            });
        }
        chart
            .configure_series_labels()
            .position(self.names.clone())
            .border_style(GREY)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 12))
            .draw()
            .map_err(|e| text(&e))
    }
}
