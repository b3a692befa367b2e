//! Plots time to first token and throughput over the budget.

use super::build::Build;
use super::peers::Peer;
use super::row::Row;
use crate::cli::Stop;
use crate::cli::chart::{Chart, Look, Series, draw_all};
use crate::cli::table::tick;

const SIZE: (u32, u32) = (960, 720);

/// Draws two charts, one below the other: `ttft` and `throughput_with_prefill` over image tokens. Each has a line for
/// each method and batch size, for the lower bound of each batch size, and for each other engine.
pub fn draw(build: &Build, rows: &[Row], peers: &[Peer]) -> Result<String, Stop> {
    let title = format!("{}: {}", build.model, build.machine());
    let times = Chart {
        title: "seconds to the first token",
        along: "image tokens",
        series: &series("ttft", rows, peers),
        value: &tick,
        top: None,
    };
    let rates = Chart {
        title: "tokens per second, including prefill",
        series: &series("throughput_with_prefill", rows, peers),
        ..times
    };
    draw_all(SIZE, &title, &[times, rates])
}

fn series(key: &str, rows: &[Row], peers: &[Peer]) -> Vec<Series> {
    let mut batches: Vec<usize> = rows.iter().map(|row| row.batch).collect();
    batches.sort_unstable();
    batches.dedup();
    let mut methods: Vec<&str> = rows.iter().map(|row| &row.method[..]).collect();
    methods.dedup();
    let mut all = Vec::new();
    let lines = methods.iter().flat_map(|method| batches.iter().map(move |batch| (method, batch)));
    for (index, (&method, &batch)) in lines.enumerate() {
        // The full budget is measured once for all methods.
        let is_of =
            move |row: &&Row| row.batch == batch && (row.method == method || row.budget == "full");
        let of_line = || rows.iter().filter(is_of);
        let points = of_line().filter_map(|r| Some((r.visual_tokens() as f64, r.median(key)?)));
        // With a single method, the lines are named after the engine.
        let name = if methods.len() > 1 { method } else { "hired" };
        all.push(Series::line(format!("{name}, batch {batch}"), Look::nth(index), points));
        // The lower bound is nearly the same for all methods.
        if key == "ttft" && method == methods[0] {
            let points = of_line().filter_map(|r| Some((r.visual_tokens() as f64, r.ttft_floor?)));
            let name = format!("lower bound, batch {batch}");
            all.push(Series::line(name, Look::bound(index), points));
        }
    }
    let mut engines: Vec<&str> = peers.iter().map(|peer| peer.text("engine")).collect();
    engines.sort_unstable();
    engines.dedup();
    for (index, engine) in engines.into_iter().enumerate() {
        let rows = peers.iter().filter(|peer| peer.text("engine") == engine);
        let points = rows.filter_map(|p| Some((p.number("visual_tokens")?, p.number(key)?)));
        let look = Look::nth(methods.len() * batches.len() + index);
        all.push(Series::line(engine.into(), look, points));
    }
    all.retain(|series| !series.points.is_empty());
    all
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

    #[test]
    fn every_batch_has_its_lower_bound() {
        let mut rows = [row("full", 1, 2.0), row("20%", 1, 1.0), row("full", 4, 3.0)];
        rows.iter_mut().for_each(|row| row.ttft_floor = Some(0.5));
        let names: Vec<_> = series("ttft", &rows, &[]).into_iter().map(|s| s.name).collect();
        let bounds: Vec<_> = names.iter().filter(|name| name.starts_with("lower")).collect();
        assert_eq!(bounds, ["lower bound, batch 1", "lower bound, batch 4"]);
        assert_eq!(series("throughput_with_prefill", &rows, &[]).len(), 2);
    }
}
