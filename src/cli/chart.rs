//! Line charts as SVG.

use super::Stop;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use std::fmt::Display;

/// Colours of the lines; they can be distinguished by colour-blind readers (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const GREY: RGBColor = RGBColor(120, 120, 120);

/// Font size in plotters' unit; in SVG it is divided by 1.24, so it is 11.3 pixels.
const TYPE: u32 = 14;
const HEAD: u32 = 17;
/// Width of a character and height of a legend line, in pixels.
const CHARACTER: f64 = 7.0;
const LINE: i32 = 20;

/// The look of a line: colour, width and dashes. Every second round through the colours is dashed.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    style: ShapeStyle,
    /// Pixels drawn and left out.
    dashes: Option<[i32; 2]>,
    /// True if the points are marked.
    marked: bool,
}

impl Look {
    /// The look of line number `index`.
    pub fn nth(index: usize) -> Self {
        Self::shade(index, 1.0)
    }

    /// The look of line number `index`, paler: 0 is invisible, 1 is full strength.
    pub fn shade(index: usize, strength: f64) -> Self {
        let RGBColor(red, green, blue) = COLOURS[index % COLOURS.len()];
        // Blended with white instead of transparent, so that a pale line is visible on a strong one of its colour.
        let pale = |part: u8| (255.0 - strength * f64::from(255 - part)).round() as u8;
        let colour = RGBColor(pale(red), pale(green), pale(blue));
        let again = !(index / COLOURS.len()).is_multiple_of(2);
        Self { style: colour.stroke_width(2), dashes: again.then_some([6, 4]), marked: true }
    }

    /// The look of a bound on line number `index`.
    pub fn bound(index: usize) -> Self {
        Self { dashes: Some([2, 3]), marked: false, ..Self::nth(index) }
    }

    /// The look of the baseline that the other lines are compared with.
    pub fn grey(width: u32) -> Self {
        Self { style: GREY.stroke_width(width), dashes: None, marked: true }
    }

    /// The look if the line is drawn over that many lines with the same course, which are visible in its gaps.
    fn above(self, lines: usize) -> Self {
        let dashes = match lines {
            0 => return self,
            1 => [8, 8],
            2 => [5, 10],
            _ => [3, 12],
        };
        Self { dashes: Some(dashes), ..self }
    }
}

/// The number of points up to which each point is marked; more marks would hide the line.
const MARKED: usize = 60;

/// A value at some position, with its interval.
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
    /// The points from left to right.
    pub points: Vec<Point>,
}

impl Series {
    pub fn new(name: String, look: Look, points: impl Iterator<Item = Point>) -> Self {
        let mut points: Vec<_> = points.collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        Self { name, look, points }
    }

    /// Returns true if, as far as can be seen, more than a twelfth of the line coincides with `other`.
    fn runs_on(&self, other: &Self, within: f64) -> bool {
        let is_on = |point: &Point| {
            other.points.windows(2).any(|ends| {
                let [a, b] = [&ends[0], &ends[1]];
                if !(a.x..=b.x).contains(&point.x) {
                    return false;
                }
                let along = if b.x > a.x { (point.x - a.x) / (b.x - a.x) } else { 0.0 };
                (a.value + along * (b.value - a.value) - point.value).abs() <= within
            })
        };
        let middle = |a: &Point, b: &Point| Point {
            x: (a.x + b.x) / 2.0,
            value: (a.value + b.value) / 2.0,
            interval: None,
        };
        let length = |ends: &[Point]| ends[1].x - ends[0].x;
        let shared = self.points.windows(2).filter(|ends| {
            is_on(&ends[0]) && is_on(&ends[1]) && is_on(&middle(&ends[0], &ends[1]))
        });
        let all: f64 = self.points.windows(2).map(length).sum();
        shared.map(length).sum::<f64>() > all / 12.0
    }

    /// A line of (x, value) points without intervals.
    pub fn line(name: String, look: Look, points: impl Iterator<Item = (f64, f64)>) -> Self {
        let point = |(x, value)| Point { x, value, interval: None };
        Self::new(name, look, points.map(point))
    }
}

/// One chart of a drawing.
pub struct Chart<'a> {
    pub title: &'a str,
    /// Label of the horizontal axis.
    pub along: &'a str,
    pub series: &'a [Series],
    /// Formats the values.
    pub value: &'a dyn Fn(f64) -> String,
    /// Upper end of the value axis; `None`: determined by the values.
    pub top: Option<f64>,
}

/// Draws charts one below the other.
pub fn draw_all(size: (u32, u32), title: &str, charts: &[Chart<'_>]) -> Result<String, Stop> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let drawn = root.fill(&WHITE).map_err(|e| e.to_string()).and_then(|()| {
            let below = root.titled(title, ("sans-serif", HEAD)).map_err(|e| e.to_string())?;
            let areas = below.split_evenly((charts.len(), 1));
            let room = charts.iter().map(Chart::legend_width).max().unwrap_or_default();
            for (area, chart) in areas.iter().zip(charts) {
                let (lines, legend) = area.split_horizontally(size.0.saturating_sub(room));
                chart.draw(&lines)?;
                chart.legend(&legend)?;
            }
            root.present().map_err(|e| e.to_string())
        });
        drawn.map_err(|e| Stop::Failed(format!("cannot draw the plot: {e}")))?;
    }
    Ok(text)
}

impl Chart<'_> {
    /// The looks of the lines in drawing order, such that lines below others remain visible.
    fn looks(&self) -> Vec<Look> {
        let most = self.series.iter().flat_map(|s| &s.points).map(|p| p.value).fold(0.0, f64::max);
        let within = 0.006 * self.top.unwrap_or(most);
        let above = |index: usize| {
            let (below, this) = (&self.series[..index], &self.series[index]);
            this.look.above(below.iter().filter(|other| this.runs_on(other, within)).count())
        };
        (0..self.series.len()).map(above).collect()
    }

    /// Width in pixels that the legend needs.
    fn legend_width(&self) -> u32 {
        let longest = self.series.iter().map(|s| s.name.chars().count()).max().unwrap_or_default();
        (longest as f64 * CHARACTER) as u32 + 52
    }

    /// Draws the legend next to the chart.
    fn legend(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), String> {
        let text = |e: &dyn Display| e.to_string();
        for (index, (series, look)) in self.series.iter().zip(self.looks()).enumerate() {
            let y = 44 + LINE * index as i32;
            let sample = [(4, y), (36, y)];
            let drawn = match look.dashes {
                Some([on, off]) => {
                    let line = DashedPathElement::new(sample, on, off, look.style);
                    area.draw(&line)
                }
                None => area.draw(&PathElement::new(sample, look.style)),
            };
            drawn.map_err(|e| text(&e))?;
            let style = ("sans-serif", TYPE).into_text_style(area);
            area.draw_text(&series.name, &style, (42, y - 7)).map_err(|e| text(&e))?;
        }
        Ok(())
    }

    fn draw(&self, area: &DrawingArea<SVGBackend<'_>, Shift>) -> Result<(), String> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let most = |of: fn(&Point) -> f64| points().map(of).fold(0.0, f64::max);
        let right = most(|p| p.x).max(1.0);
        let top = self.top.unwrap_or_else(|| most(|p| p.value).max(1e-9) * 1.1);
        let text = |e: &dyn Display| e.to_string();
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", HEAD))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..right * 1.05, 0.0..top)
            .map_err(|e| text(&e))?;
        chart
            .configure_mesh()
            .x_desc(self.along)
            .label_style(("sans-serif", TYPE))
            .axis_desc_style(("sans-serif", TYPE))
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&|y| (self.value)(*y))
            .max_light_lines(0)
            .bold_line_style(RGBColor(225, 225, 225))
            .draw()
            .map_err(|e| text(&e))?;
        for (Series { points, .. }, look) in self.series.iter().zip(self.looks()) {
            let style = look.style;
            let at = |point: &Point| (point.x, point.value);
            let marked = if points.len() > MARKED || !look.marked { &[] } else { &points[..] };
            let dots = marked.iter().map(|point| Circle::new(at(point), 3, style.filled()));
            chart.draw_series(dots).map_err(|e| text(&e))?;
            let known = points.iter().filter_map(|p| Some((p, p.interval?)));
            let bars = known
                .map(|(p, [low, high])| ErrorBar::new_vertical(p.x, low, p.value, high, style, 6));
            chart.draw_series(bars).map_err(|e| text(&e))?;
            let line = points.iter().map(at);
            let drawn = match look.dashes {
                Some([on, off]) => {
                    chart.draw_series(DashedLineSeries::new(line, on, off, style)).map(|_| ())
                }
                None => chart.draw_series(LineSeries::new(line, style)).map(|_| ()),
            };
            drawn.map_err(|e| text(&e))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: &[(f64, f64)]) -> Series {
        Series::line("line".into(), Look::nth(0), points.iter().copied())
    }

    #[test]
    fn a_line_on_another_is_dashed() {
        let all = [
            series(&[(0.0, 0.0), (10.0, 10.0), (20.0, 0.0)]),
            // Coincides with the first half, with points of its own.
            series(&[(0.0, 0.0), (5.0, 5.0), (10.0, 10.0), (20.0, 9.0)]),
            // Coincides with both.
            series(&[(1.0, 1.0), (9.0, 9.0)]),
            // Crosses them.
            series(&[(0.0, 10.0), (20.0, 1.0)]),
        ];
        let chart =
            Chart { title: "", along: "", series: &all, value: &|v| v.to_string(), top: None };
        let dashes: Vec<_> = chart.looks().into_iter().map(|look| look.dashes).collect();
        assert_eq!(dashes, [None, Some([8, 8]), Some([5, 10]), None]);
    }

    #[test]
    fn names_are_beside_the_lines_in_type_that_can_be_read() {
        let name = "a name of forty characters, more or less";
        let all = [Series::line(name.into(), Look::nth(0), [(0.0, 1.0), (9.0, 2.0)].into_iter())];
        let chart = Chart {
            title: "title",
            along: "along",
            series: &all,
            value: &|v| v.to_string(),
            top: None,
        };
        let svg = draw_all((800, 400), "all", &[chart]).unwrap();
        let sizes = svg
            .split("font-size=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse::<f64>().unwrap());
        assert!(sizes.fold(f64::MAX, f64::min) >= 11.0, "{svg}");
        let tag = svg[..svg.find(name).unwrap()].rsplit("<text").next().unwrap();
        let x: f64 = tag.split("x=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        assert!(x > 400.0 && x + 7.0 * name.len() as f64 <= 800.0, "{tag}");
    }
}
