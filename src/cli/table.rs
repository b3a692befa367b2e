//! Figures for people.

pub use hired::ops::memory::Size;
use std::fmt::{self, Display};

/// Rows of as many cells, the first column to the left, the others to the right, each as wide as it must be.
pub struct Table(pub Vec<Vec<String>>);

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rows) = self;
        let mut widths = vec![0; rows.first().map_or(0, Vec::len)];
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in rows {
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "{cell:<width$}")?,
                    _ => write!(f, "  {cell:>width$}")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Rows of as many cells as a Markdown table: the first row is the head, the first column to the left.
pub fn markdown(rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        text += &line(row);
        if index == 0 {
            text += &format!("|---|{}\n", "---:|".repeat(row.len().saturating_sub(1)));
        }
    }
    text
}

/// Seconds as people read them: three digits or four.
pub struct Time(pub f64);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            9.995.. => write!(f, "{:.1} s", self.0),
            0.9995.. => write!(f, "{:.2} s", self.0),
            0.00995.. => write!(f, "{:.0} ms", self.0 * 1e3),
            0.0009995.. => write!(f, "{:.2} ms", self.0 * 1e3),
            _ => write!(f, "{:.1} µs", self.0 * 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["a", "×", "long"], ["first", "12", "3"]];
        let table = Table(rows.map(|row| row.map(String::from).into()).into());
        assert_eq!(table.to_string(), "a       ×  long\nfirst  12     3\n");
        assert_eq!(Table(Vec::new()).to_string(), "");
    }

    #[test]
    fn times_have_three_digits_at_most_below_a_hundred_seconds() {
        let shown = [0.0, 0.0000073, 0.002837, 0.00999, 0.0157, 0.8674, 0.9996, 3.656, 19.49]
            .map(|seconds| Time(seconds).to_string());
        let expected = [
            "0.0 µs", "7.3 µs", "2.84 ms", "10 ms", "16 ms", "867 ms", "1.00 s", "3.66 s", "19.5 s",
        ];
        assert_eq!(shown, expected);
    }
}
