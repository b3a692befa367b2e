//! First-token time and throughput over the budget, as a drawing.

use super::peers::Peer;
use super::row::Row;
use super::table::{Build, digits};
use crate::cli::Stop;
use plotters::prelude::*;

const SIZE: (u32, u32) = (960, 720);
/// Of lines, in the order of the batches: told apart also by those who see few colours (Okabe and Ito).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const GREY: RGBColor = RGBColor(120, 120, 120);

/// A line of points, over visual tokens.
struct Series {
    name: String,
    style: ShapeStyle,
    points: Vec<(f64, f64)>,
}

/// Two charts, one below the other: `ttft` and `throughput_with_prefill` over visual tokens, a line for each batch, one
/// for the floor and one for each peer.
pub fn draw(build: &Build, rows: &[Row], peers: &[Peer]) -> Result<String, Stop> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let drawn = root.fill(&WHITE).map_err(|e| e.to_string()).and_then(|()| {
            let title = format!("{}: {}", build.model, build.machine());
            let root = root.titled(&title, ("sans-serif", 15)).map_err(|e| e.to_string())?;
            let [above, below] = &root.split_evenly((2, 1))[..] else {
                unreachable!("split in two")
            };
            // The names of the lines where the lines are not: times grow with the tokens, rates fall.
            let times = series("ttft", rows, peers);
            chart(above, "seconds to the first token", &times, SeriesLabelPosition::UpperLeft)?;
            let rates = series("throughput_with_prefill", rows, peers);
            let title = "tokens per second, prefill included";
            chart(below, title, &rates, SeriesLabelPosition::UpperRight)?;
            root.present().map_err(|e| e.to_string())
        });
        drawn.map_err(|e| Stop::Failed(format!("cannot draw the plot: {e}")))?;
    }
    Ok(text)
}

fn series(key: &str, rows: &[Row], peers: &[Peer]) -> Vec<Series> {
    let mut batches: Vec<usize> = rows.iter().map(|row| row.batch).collect();
    batches.sort_unstable();
    batches.dedup();
    let mut all = Vec::new();
    for (index, &batch) in batches.iter().enumerate() {
        let of_batch = || rows.iter().filter(move |row| row.batch == batch);
        let colour = COLOURS[index % COLOURS.len()];
        let points = of_batch().filter_map(|r| Some((r.visual_tokens() as f64, r.median(key)?)));
        let name = format!("hired, batch {batch}");
        all.push(Series { name, style: colour.stroke_width(2), points: sorted(points) });
        if key == "ttft" && index == 0 {
            let points = of_batch().filter_map(|r| Some((r.visual_tokens() as f64, r.ttft_floor?)));
            let name = format!("floor, batch {batch}");
            all.push(Series { name, style: GREY.stroke_width(1), points: sorted(points) });
        }
    }
    let mut engines: Vec<&str> = peers.iter().map(|peer| peer.text("engine")).collect();
    engines.sort_unstable();
    engines.dedup();
    for (index, engine) in engines.into_iter().enumerate() {
        let rows = peers.iter().filter(|peer| peer.text("engine") == engine);
        let points = rows.filter_map(|p| Some((p.number("visual_tokens")?, p.number(key)?)));
        let colour = COLOURS[(batches.len() + index) % COLOURS.len()];
        all.push(Series {
            name: engine.into(),
            style: colour.stroke_width(2),
            points: sorted(points),
        });
    }
    all.retain(|series| !series.points.is_empty());
    all
}

fn sorted(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut points: Vec<_> = points.collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    all: &[Series],
    names: SeriesLabelPosition,
) -> Result<(), String> {
    let points = || all.iter().flat_map(|series| &series.points);
    let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(0.0, f64::max);
    let (right, top) = (most(|p| p.0).max(1.0), most(|p| p.1).max(1e-9));
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..right * 1.05, 0.0..top * 1.1)
        .map_err(|e| text(&e))?;
    chart
        .configure_mesh()
        .x_desc("visual tokens")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| digits(*y))
        .max_light_lines(0)
        .bold_line_style(RGBColor(225, 225, 225))
        .draw()
        .map_err(|e| text(&e))?;
    for Series { name, style, points } in all {
        let style = *style;
        let dots = points.iter().map(|&point| Circle::new(point, 3, style.filled()));
        chart.draw_series(dots).map_err(|e| text(&e))?;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))
            .map_err(|e| text(&e))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(names)
        .border_style(GREY)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 12))
        .draw()
        .map_err(|e| text(&e))
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn every_batch_is_a_line() {
        let rows = [row("full", 1, 2.0), row("20%", 1, 1.0), row("full", 4, 3.0)];
        let names: Vec<_> =
            series("ttft", &rows, &[]).into_iter().map(|s| (s.name, s.points.len())).collect();
        assert_eq!(names, [("hired, batch 1".to_owned(), 2), ("hired, batch 4".to_owned(), 1)]);
    }
}
