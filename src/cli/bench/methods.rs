//! What choosing costs by each method, beside the encoder.

use super::row::Row;
use super::table::digits;
use crate::cli::table::markdown as table;

/// The rows that drop something, each against the first one of its budget and batch.
pub fn markdown(rows: &[Row]) -> String {
    let head = [
        "method",
        "budget",
        "batch",
        "visual tokens",
        "choosing, ms",
        "of the encoder",
        "encoder, choosing and projector, ms",
        "beside the first",
        "host waited for",
        "peak memory, MB",
        "predicted",
        "beside the first",
    ];
    let mut lines = vec![head.map(String::from).to_vec()];
    let measured = rows.iter().filter(|row| row.budget != "full" && row.failure.is_none());
    for row in measured.clone() {
        let is_beside = |other: &&Row| (&other.budget, other.batch) == (&row.budget, row.batch);
        let first = measured.clone().find(is_beside).unwrap_or(row);
        let of =
            |value: Option<f64>, scale: f64| value.map_or(String::new(), |v| digits(v * scale));
        let beside = |value: fn(&Row) -> Option<f64>, scale: f64| match (value(row), value(first)) {
            (Some(this), Some(that)) => signed((this - that) * scale),
            _ => String::new(),
        };
        let percent =
            row.select_of_vision().map_or(String::new(), |v| format!("{}%", digits(100.0 * v)));
        lines.push(vec![
            row.method.clone(),
            row.budget.clone(),
            row.batch.to_string(),
            (row.kept + row.merged).to_string(),
            of(row.median("select"), 1e3),
            percent,
            of(seen(row), 1e3),
            beside(seen, 1e3),
            if row.host_round_trip { "yes" } else { "no" }.into(),
            of(row.median("peak_memory"), 1e-6),
            of(row.median("predicted_peak"), 1e-6),
            beside(|row| row.median("peak_memory"), 1e-6),
        ]);
    }
    format!("### What choosing costs\n\n{}", table(&lines))
}

/// Seconds up to the rows that enter the decoder. A method that looks at more makes the encoder and the projector work
/// more, too.
fn seen(row: &Row) -> Option<f64> {
    ["upload", "vision", "select", "project"].iter().map(|stage| row.median(stage)).sum()
}

fn signed(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        v if v < 0.0 => format!("−{}", digits(-v)),
        v => format!("+{}", digits(v)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn methods_are_held_against_the_first_of_their_budget() {
        let mut rows =
            [row("full", 1, 9.0), row("20%", 1, 2.0), row("20%", 1, 3.0), row("20%", 2, 4.0)];
        rows[2].method = "visionzip".into();
        let text = markdown(&rows);
        let lines: Vec<&str> = text.lines().skip(4).collect();
        // The row has one number for each key: four stages of as many seconds.
        assert_eq!(
            lines,
            [
                "| hired | 20% | 1 | 9 | 2000 | 100% | 8000 | 0 | no | 0.0000020 | 0.0000020 | 0 |",
                "| visionzip | 20% | 1 | 9 | 3000 | 100% | 12000 | +4000 | no | 0.0000030 | 0.0000030 | +0.0000010 |",
                "| hired | 20% | 2 | 9 | 4000 | 100% | 16000 | 0 | no | 0.0000040 | 0.0000040 | 0 |",
            ]
        );
    }
}
