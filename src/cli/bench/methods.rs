//! The cost of selecting image tokens with each method, compared with the vision encoder.

use super::row::Row;
use super::table::size;
use crate::cli::table::{Columns, Format, Time, digits, signed};

/// The rows that drop tokens, each compared with the first row of the same budget and batch size.
pub fn table(format: Format, rows: &[Row]) -> String {
    let heads = [
        "method",
        "budget",
        "batch",
        "image tokens",
        "selection",
        "of vision",
        "encoding",
        "difference",
        "host wait",
        "memory",
        "difference",
    ];
    let mut lines = Vec::new();
    let measured = rows.iter().filter(|row| row.budget != "full" && row.failure.is_none());
    for row in measured.clone() {
        let is_beside = |other: &&Row| (&other.budget, other.batch) == (&row.budget, row.batch);
        let first = measured.clone().find(is_beside).unwrap_or(row);
        let time = |value: Option<f64>| value.map_or(String::new(), |v| Time(v).to_string());
        let memory = |row: &Row| row.median("peak_memory");
        let difference = |of: fn(&Row) -> Option<f64>| Some(of(row)? - of(first)?);
        let percent =
            row.select_of_vision().map_or(String::new(), |v| format!("{}%", digits(100.0 * v)));
        lines.push(vec![
            row.method.clone(),
            row.budget.clone(),
            row.batch.to_string(),
            (row.kept + row.merged).to_string(),
            time(row.median("select")),
            percent,
            time(seen(row)),
            difference(seen).map_or(String::new(), |v| signed(v, Time)),
            if row.host_round_trip { "yes" } else { "no" }.into(),
            memory(row).map_or(String::new(), size),
            difference(|row| row.median("peak_memory")).map_or(String::new(), |v| signed(v, size)),
        ]);
    }
    format!(
        "### What selecting costs\n\n{}\n\
         encoding: upload, vision encoder, selection and projector; difference: from the first method of the same\n\
         budget and batch; host wait: the device waits for the host to know how many tokens are kept.\n",
        Columns::all(format, &heads, 2, &lines)
    )
}

/// Seconds until the image rows are ready for the decoder. Methods that need more data also make the encoder and the
/// projector slower.
fn seen(row: &Row) -> Option<f64> {
    ["upload", "vision", "select", "project"].iter().map(|stage| row.median(stage)).sum()
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
        let text = table(Format::Md, &rows);
        let lines: Vec<&str> = text.lines().skip(4).take(3).collect();
        // The test row has the same number for each key: four stages of that many seconds.
        assert_eq!(
            lines,
            [
                "| hired | 20% | 1 | 9 | 2.00 s | 100% | 8.00 s | 0 | no | 2 B | 0 |",
                "| visionzip | 20% | 1 | 9 | 3.00 s | 100% | 12.0 s | +4.00 s | no | 3 B | +1 B |",
                "| hired | 20% | 2 | 9 | 4.00 s | 100% | 16.0 s | 0 | no | 4 B | 0 |",
            ]
        );
    }
}
