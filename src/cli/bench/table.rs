//! The measurements as text: Markdown for people, CSV, JSON lines.

use super::args::BenchArgs;
use super::kernels::Kernels;
use super::methods;
use super::peers::Peer;
use super::row::{Row, Spread};
use crate::cli::Stop;
use crate::cli::devices::Cpu;
use hired::engine::{Ceiling, Engine};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// What measured: the first JSON line, and the lines above the tables.
#[derive(Debug, Serialize)]
pub struct Build {
    schema: u32,
    /// This program's version, and whether it was built for speed.
    build: String,
    pub model: String,
    device: Value,
    /// What the device can do at most: bytes per second as measured, operations as measured or as its datasheet has it.
    ceiling: Ceiling,
    dtype: &'static str,
}

impl Build {
    pub fn new(engine: &Engine, args: &BenchArgs, ceiling: Ceiling) -> Self {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let model = match (&args.model, args.synthetic) {
            (Some(dir), _) => dir.display().to_string(),
            (None, Some(preset)) => format!("{preset}, synthetic"),
            (None, None) => String::new(),
        };
        let device = match engine.card() {
            Some(card) => with_kind("cuda", json!(card)),
            None => with_kind("cpu", json!(Cpu::here())),
        };
        Self {
            schema: 1,
            build: format!("hired {} ({profile})", env!("CARGO_PKG_VERSION")),
            model,
            device,
            ceiling,
            dtype: args.device.dtype_name(engine.card().is_some()),
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        match self.device.get(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    /// Device, driver and clocks in a line.
    pub fn machine(&self) -> String {
        let mut line = self.text("name").unwrap_or_default();
        for (key, before, after) in [
            ("cores", "", " cores"),
            ("code", "", ""),
            ("driver", "driver for CUDA ", ""),
            ("clock_mhz", "", " MHz"),
            ("memory_clock_mhz", "memory ", " MHz"),
            ("gemm", "products: ", ""),
        ] {
            if let Some(text) = self.text(key) {
                let _ = write!(line, ", {before}{text}{after}");
            }
        }
        line
    }

    /// The ceilings in a line.
    pub fn ceilings(&self) -> String {
        let Ceiling { bytes_per_second, flops_per_second, flops_measured } = self.ceiling;
        let mut line = format!("{:.1} GB/s measured", bytes_per_second / 1e9);
        if let Some(rate) = flops_per_second {
            let how = if flops_measured { "measured" } else { "by cores and clock*" };
            let _ = write!(line, ", {:.2} TFLOP/s {how}", rate / 1e12);
        }
        line
    }
}

fn with_kind(kind: &str, value: Value) -> Value {
    let mut all = Map::new();
    all.insert("kind".into(), kind.into());
    if let Value::Object(fields) = value {
        all.extend(fields);
    }
    Value::Object(all)
}

/// Everything that was measured.
pub struct Report<'a> {
    pub build: &'a Build,
    pub rows: &'a [Row],
    pub kernels: &'a [Kernels],
    pub peers: &'a [Peer],
}

impl Report<'_> {
    /// One object a line: the build, the rows, the peers, the kernels.
    pub fn json(&self) -> Result<String, Stop> {
        let mut lines = vec![json!(self.build)];
        lines.extend(self.rows.iter().map(|row| Value::Object(row.columns())));
        lines.extend(self.peers.iter().map(|peer| peer.line().clone()));
        lines.extend(self.kernels.iter().flat_map(Kernels::lines));
        let mut text = String::new();
        for line in lines {
            let line = serde_json::to_string(&line);
            text += &line.map_err(|e| Stop::Failed(format!("cannot write JSON: {e}")))?;
            text.push('\n');
        }
        Ok(text)
    }

    /// The rows, and below them the kernels, each table with its head and every line with what measured it.
    pub fn csv(&self) -> Result<String, Stop> {
        let measured = |columns: Value| {
            let mut all = Map::new();
            all.insert("build".into(), self.build.build.clone().into());
            all.insert("model".into(), self.build.model.clone().into());
            all.insert("device".into(), self.build.machine().into());
            all.extend(columns.as_object().cloned().unwrap_or_default());
            Value::Object(all)
        };
        let rows = self.rows.iter().map(|r| measured(Value::Object(r.columns())));
        let mut text = csv(&rows.collect::<Vec<_>>())?;
        let kernels: Vec<Value> =
            self.kernels.iter().flat_map(Kernels::lines).map(measured).collect();
        if !kernels.is_empty() {
            text.push('\n');
            text += &csv(&kernels)?;
        }
        Ok(text)
    }

    pub fn markdown(&self) -> String {
        let build = self.build;
        let mut text = format!(
            "{}, {}\n{}\nCeilings: {}\n\n",
            build.build,
            build.model,
            build.machine(),
            build.ceilings()
        );
        let several = self.compares_methods();
        if several {
            text += "| method ";
        }
        text += "| budget | batch | visual tokens | first token, s | preprocess | upload | vision | select | project | \
                 prefill | decode, tokens/s | with prefill, tokens/s | peak memory, GB | predicted |\n";
        if several {
            text += "|---";
        }
        text += "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n";
        for row in self.rows {
            if several {
                text += &format!("| {} ", row.method);
            }
            text += &line(row);
        }
        for peer in self.peers {
            text += &peer.markdown(several);
        }
        text += "\nMedians; in brackets the least and the greatest. Times in seconds, of the whole batch. Visual tokens: \
                 delivered of those asked for, newlines apart.\n";
        text += &self.claims();
        if several {
            text.push('\n');
            text += &methods::markdown(self.rows);
        }
        for kernels in self.kernels {
            text.push('\n');
            text += &kernels.markdown();
        }
        text
    }

    fn compares_methods(&self) -> bool {
        self.rows.iter().any(|row| row.method != self.rows[0].method)
    }

    /// How each budget compares with the full one, as papers put it.
    fn claims(&self) -> String {
        let mut text = String::new();
        for row in self.rows.iter().filter(|row| row.budget != "full") {
            let full = self.rows.iter().find(|f| f.budget == "full" && f.batch == row.batch);
            let Some(full) = full else { continue };
            let difference = |name| Some(row.median(name)? - full.median(name)?);
            let (Some(times), Some(seconds), Some(bytes)) = (
                row.ratio("throughput_with_prefill"),
                difference("ttft"),
                difference("peak_memory"),
            ) else {
                continue;
            };
            let _ = writeln!(
                text,
                "\n{} against full, batch {}: {times:.2} times the throughput, {seconds:+.3} s to the first token, \
                 {}{} GB.",
                row.name,
                row.batch,
                if bytes < 0.0 { "−" } else { "+" },
                digits(bytes.abs() / 1e9)
            );
        }
        text
    }
}

fn line(row: &Row) -> String {
    if let Some(why) = &row.failure {
        return format!("| {} | {} | not measured: {why} |\n", row.budget, row.batch);
    }
    let counted = row.kept + row.merged;
    let tokens = match row.newlines {
        0 => format!("{counted} of {}", row.asked),
        newlines => format!("{counted} of {} + {newlines}", row.asked),
    };
    let mut cells = vec![row.budget.clone(), row.batch.to_string(), tokens];
    cells.push(row.spread("ttft").map_or(String::new(), spread));
    for name in ["preprocess", "upload", "vision", "select", "project", "prefill"] {
        cells.push(row.median(name).map_or(String::new(), seconds));
    }
    cells.push(row.spread("decode_tokens_per_second").map_or(String::new(), spread));
    cells.push(row.median("throughput_with_prefill").map_or(String::new(), digits));
    for name in ["peak_memory", "predicted_peak"] {
        cells.push(row.median(name).map_or(String::new(), |v| digits(v / 1e9)));
    }
    format!("| {} |\n", cells.join(" | "))
}

fn spread(spread: Spread) -> String {
    let Spread { least, median, most } = spread;
    format!("{} ({}–{})", digits(median), digits(least), digits(most))
}

/// Seconds; nothing for what did not happen.
fn seconds(value: f64) -> String {
    if value == 0.0 { String::new() } else { digits(value) }
}

/// Three digits that count.
pub fn digits(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let before = value.abs().log10().floor() as i32 + 1;
    format!("{value:.*}", (3 - before).clamp(0, 7) as usize)
}

/// One table; every object has the keys of the first.
fn csv(rows: &[Value]) -> Result<String, Stop> {
    let failed = |e: &dyn std::fmt::Display| Stop::Failed(format!("cannot write CSV: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let Some(Value::Object(first)) = rows.first() else { return Ok(String::new()) };
    writer.write_record(first.keys()).map_err(|e| failed(&e))?;
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

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::{digits, line};

    #[test]
    fn a_row_that_failed_says_why() {
        let mut failed = row("full", 4, 0.0);
        failed.failure = Some("no memory".into());
        assert_eq!(line(&failed), "| full | 4 | not measured: no memory |\n");
    }

    #[test]
    fn three_digits_count() {
        let shown = [0.0, 0.001234, 0.1, 1.0, 12.345, 123.456, 12345.6].map(digits);
        assert_eq!(shown, ["0", "0.00123", "0.100", "1.00", "12.3", "123", "12346"]);
    }
}
