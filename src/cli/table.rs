//! Readable numbers and tables, and CSV for spreadsheets.

use super::Stop;
use clap::ValueEnum;
pub use hired::ops::memory::Size;
use serde_json::Value;
use std::fmt::{self, Display};
use std::io::IsTerminal;

/// Output format of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Table,
    /// Markdown
    Md,
    /// CSV for spreadsheets, with every column
    Csv,
    /// JSON, with every key
    Json,
}

impl Format {
    /// The requested format; otherwise aligned columns in a terminal and Markdown elsewhere.
    pub fn or_default(asked: Option<Self>) -> Self {
        let unasked = if std::io::stdout().is_terminal() { Self::Table } else { Self::Md };
        asked.unwrap_or(unasked)
    }
}

/// A table whose rows can be printed before the last one is known.
#[derive(Debug)]
pub struct Columns {
    heads: Vec<String>,
    /// Widths of aligned columns; `None` for Markdown.
    widths: Option<Vec<usize>>,
    /// Number of leading columns that hold text and are left-aligned.
    texts: usize,
}

impl Columns {
    /// Columns of at least the given widths; longer cells shift the rest of their row.
    pub fn new(format: Format, heads: &[(&str, usize)], texts: usize) -> Self {
        let widths = heads.iter().map(|(head, width)| head.chars().count().max(*width)).collect();
        Self {
            heads: heads.iter().map(|(head, _)| (*head).to_owned()).collect(),
            widths: (format != Format::Md).then_some(widths),
            texts,
        }
    }

    /// A whole table with columns as wide as needed.
    pub fn all(format: Format, heads: &[&str], texts: usize, rows: &[Vec<String>]) -> String {
        let widest = |column: usize| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default()
        };
        let heads: Vec<_> = heads.iter().enumerate().map(|(i, head)| (*head, widest(i))).collect();
        let columns = Self::new(format, &heads, texts);
        rows.iter().fold(columns.head(), |text, row| text + &columns.row(row))
    }

    /// The header line, followed in Markdown by the separator line.
    pub fn head(&self) -> String {
        let mut text = self.row(&self.heads);
        if self.widths.is_none() {
            let numbers = self.heads.len().saturating_sub(self.texts);
            text += &format!("{}{}|\n", "|---".repeat(self.texts), "|---:".repeat(numbers));
        }
        text
    }

    /// A row.
    pub fn row(&self, cells: &[String]) -> String {
        let Some(widths) = &self.widths else {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            return format!("| {} |\n", cells.join(" | "));
        };
        let mut line = String::new();
        for (column, (cell, &width)) in cells.iter().zip(widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            line += &match column < self.texts {
                true => format!("{gap}{cell:<width$}"),
                false => format!("{gap}{cell:>width$}"),
            };
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    }
}

/// A CSV table, with or without its header; the columns are the keys of the first object.
pub fn csv(rows: &[Value], with_head: bool) -> Result<String, Stop> {
    let failed = |e: &dyn Display| Stop::Failed(format!("cannot write CSV: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let Some(Value::Object(first)) = rows.first() else { return Ok(String::new()) };
    if with_head {
        writer.write_record(first.keys()).map_err(|e| failed(&e))?;
    }
    for row in rows {
        let cells = first.keys().map(|key| match &row[key] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        writer.write_record(cells).map_err(|e| failed(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(&e))?;
    String::from_utf8(bytes).map_err(|e| failed(&e))
}

/// Formats a number with three significant digits.
pub fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    // Rounded first, because 0.9997 becomes 1.00.
    let scale = 10f64.powi(value.abs().log10().floor() as i32 - 2);
    let rounded = (value / scale).round() * scale;
    let before = rounded.abs().log10().floor() as i32 + 1;
    format!("{value:.*}", (3 - before).clamp(0, 7) as usize)
}

/// The same without trailing zeros, for axes.
pub fn tick(value: f64) -> String {
    let text = digits(value);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').into(),
        false => text,
    }
}

/// A difference with its sign, where minus is U+2212.
pub fn signed<T: Display>(value: f64, of: impl Fn(f64) -> T) -> String {
    match value {
        0.0 => "0".into(),
        v if v < 0.0 => format!("−{}", of(-v)),
        v => format!("+{}", of(v)),
    }
}

/// The beginning of a text, on one line, if it is longer than `most` characters.
pub fn shortened(text: &str, most: usize) -> String {
    let text = super::one_line(text.trim());
    match text.chars().count() > most {
        true => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        false => text,
    }
}

/// Rows with equally many cells, the first column left-aligned, the others right-aligned.
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

/// A rate in some unit, with three digits and an SI prefix.
pub struct Rate(pub f64, pub &'static str);

impl Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PREFIXES: [&str; 5] = ["", "k", "M", "G", "T"];
        let (mut value, mut prefix) = (self.0, 0);
        while value >= 999.5 && prefix + 1 < PREFIXES.len() {
            value /= 1000.0;
            prefix += 1;
        }
        write!(f, "{} {}{}", digits(value), PREFIXES[prefix], self.1)
    }
}

/// A duration in seconds, with three or four digits and a fitting unit.
pub struct Time(pub f64);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            9.995.. => write!(f, "{:.1} s", self.0),
            0.9995.. => write!(f, "{:.2} s", self.0),
            0.00995.. => write!(f, "{:.0} ms", self.0 * 1e3),
            0.0009995.. => write!(f, "{:.2} ms", self.0 * 1e3),
            0.00009995.. => write!(f, "{:.0} µs", self.0 * 1e6),
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
    fn a_table_is_printed_row_by_row() {
        let row = |cells: [&str; 3]| cells.map(String::from).to_vec();
        let aligned = Columns::new(Format::Table, &[("name", 6), ("n", 0), ("long head", 0)], 1);
        assert_eq!(aligned.head(), "name    n  long head\n");
        assert_eq!(aligned.row(&row(["a", "1", "µ"])), "a       1          µ\n");
        let md = Columns::all(Format::Md, &["a", "b", "c"], 2, &[row(["x|y", "1", "2"])]);
        assert_eq!(md, "| a | b | c |\n|---|---|---:|\n| x\\|y | 1 | 2 |\n");
        let fitting = Columns::all(Format::Table, &["a", "b", "c"], 2, &[row(["wide", "1", "2"])]);
        assert_eq!(fitting, "a     b  c\nwide  1  2\n");
    }

    #[test]
    fn three_digits_count() {
        let values = [0.0, 0.001234, 0.1, 0.9997, 12.345, 123.456, 12345.6];
        assert_eq!(values.map(digits), ["0", "0.00123", "0.100", "1.00", "12.3", "123", "12346"]);
        let ticks = [0.02, 0.5, 1.0, 1.25, 100.0, 0.0].map(tick);
        assert_eq!(ticks, ["0.02", "0.5", "1", "1.25", "100", "0"]);
        assert_eq!([0.0, -0.014, 2.0].map(|v| signed(v, Time)), ["0", "−14 ms", "+2.00 s"]);
        assert_eq!(shortened(" one\ntwo three ", 8), "one two…");
    }

    #[test]
    fn rates_have_three_digits() {
        let shown = [0.0, 12.34, 999.7, 23.5e9, 1.5e12].map(|rate| Rate(rate, "B/s").to_string());
        assert_eq!(shown, ["0 B/s", "12.3 B/s", "1.00 kB/s", "23.5 GB/s", "1.50 TB/s"]);
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
