//! The kernels of a row: their times, compared with the device's limits.

use super::row::Row;
use crate::cli::table::{Columns, Format, Rate, Time};
use hired::engine::{Ceiling, Cost, Entry, Stage};
use serde_json::{Value, json};
use std::time::Duration;

/// The kernels of one row, the longest first.
pub struct Kernels {
    /// Name of the row.
    name: String,
    batch: usize,
    /// One object per kernel.
    lines: Vec<Value>,
}

/// All calls of a kernel in one stage.
#[derive(Debug, PartialEq)]
struct Kernel {
    name: String,
    stage: Stage,
    calls: usize,
    took: Duration,
    cost: Cost,
}

impl Kernels {
    pub fn new(row: &Row, entries: &[Entry], ceiling: Ceiling) -> Self {
        let mut all: Vec<Kernel> = Vec::new();
        for entry in entries {
            let same = |k: &&mut Kernel| k.name == entry.name && k.stage == entry.stage;
            let kernel = match all.iter_mut().find(same) {
                Some(kernel) => kernel,
                None => {
                    all.push(Kernel {
                        name: entry.name.to_string(),
                        stage: entry.stage,
                        calls: 0,
                        took: Duration::ZERO,
                        cost: Cost::default(),
                    });
                    all.last_mut().expect("pushed above")
                }
            };
            kernel.calls += 1;
            kernel.took += entry.took;
            kernel.cost += entry.cost;
        }
        all.sort_by_key(|kernel| std::cmp::Reverse(kernel.took));
        let lines = all.iter().map(|kernel| kernel.line(row, ceiling)).collect();
        Self { name: row.name.clone(), batch: row.batch, lines }
    }

    /// The kernels of a row from an earlier run, if it recorded them.
    pub fn restore(row: &Row, written: &[Value]) -> Option<Self> {
        let is_of = |line: &&Value| {
            line["kernel"].is_string()
                && line["method"] == row.method[..]
                && line["budget"] == row.budget[..]
                && line["batch"] == row.batch
        };
        let lines: Vec<Value> = written.iter().filter(is_of).cloned().collect();
        let (name, batch) = (row.name.clone(), row.batch);
        (!lines.is_empty()).then_some(Self { name, batch, lines })
    }

    /// One object per kernel.
    pub fn lines(&self) -> &[Value] {
        &self.lines
    }

    /// A readable table.
    pub fn table(&self, format: Format) -> String {
        let number = |line: &Value, key: &str| line[key].as_f64();
        let total: f64 = self.lines.iter().filter_map(|line| number(line, "time")).sum();
        let measured = self.lines.iter().all(|line| line["flops_ceiling_measured"] == true);
        let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let mut is_cached = false;
        let mut rows = Vec::new();
        for line in &self.lines {
            let time = number(line, "time").unwrap_or_default();
            let rate = |key: &str, scale: f64, unit| {
                number(line, key).map_or(String::new(), |v| Rate(v * scale, unit).to_string())
            };
            let share = number(line, "share_of_ceiling").map_or(String::new(), |share| {
                is_cached |= share > 1.0;
                if share > 1.0 { ">100%".into() } else { percent(share) }
            });
            rows.push(vec![
                text(line, "kernel"),
                text(line, "stage"),
                line["calls"].to_string(),
                Time(time).to_string(),
                if total > 0.0 { percent(time / total) } else { String::new() },
                rate("gb_per_second", 1e9, "B/s"),
                rate("tflop_per_second", 1e12, "FLOP/s"),
                share,
            ]);
        }
        let heads =
            ["kernel", "stage", "calls", "time", "share", "traffic", "arithmetic", "of limit"];
        let mut all = format!(
            "### Kernels at {}, batch {}\n\n{}\n\
             One answer of up to four tokens, each kernel timed by itself; decode steps are not replayed from a CUDA graph.\n\
             traffic and arithmetic: the minimum to read, write and compute, divided by the time; of limit: this\n\
             compared with the device's limits.\n",
            self.name,
            self.batch,
            Columns::all(format, &heads, 2, &rows)
        );
        if is_cached {
            all += ">100%: the data came from a cache, which is faster than the memory that sets the limit.\n";
        }
        if !measured {
            all += "The limit of arithmetic is cores × clock, not measured.\n";
        }
        all
    }
}

impl Kernel {
    fn line(&self, row: &Row, ceiling: Ceiling) -> Value {
        let Self { name, stage, calls, took, cost } = self;
        let seconds = took.as_secs_f64();
        json!({
            "kernel": name,
            "stage": stage.name(),
            "method": row.method,
            "budget": row.budget,
            "batch": row.batch,
            "calls": calls,
            "time": seconds,
            "bytes": cost.bytes,
            "flops": cost.flops,
            "gb_per_second": rate(cost.bytes, seconds, 1e9),
            "tflop_per_second": rate(cost.flops, seconds, 1e12),
            "share_of_ceiling": ceiling.share(*cost, *took),
            "flops_ceiling_measured": ceiling.flops_measured,
        })
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}%", 100.0 * share)
}

fn rate(amount: u64, seconds: f64, unit: f64) -> Option<f64> {
    (amount > 0 && seconds > 0.0).then(|| amount as f64 / seconds / unit)
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn calls_add_up_by_name_and_stage() {
        let entry = |name: &'static str, stage, flops, millis| Entry {
            name: name.into(),
            stage,
            layer: None,
            cost: Cost { flops, bytes: 10 },
            begin: Duration::ZERO,
            took: Duration::from_millis(millis),
        };
        let entries = [
            entry("a", Stage::Vision, 1, 1),
            entry("b", Stage::Vision, 2, 9),
            entry("a", Stage::Vision, 4, 2),
            entry("a", Stage::Decode, 8, 4),
        ];
        let ceiling =
            Ceiling { bytes_per_second: 1e4, flops_per_second: None, flops_measured: true };
        let kernels = Kernels::new(&row("full", 1, 0.0), &entries, ceiling);
        let told: Vec<_> = kernels
            .lines()
            .iter()
            .map(|l| (l["kernel"].clone(), l["calls"].clone(), l["flops"].clone()))
            .collect();
        assert_eq!(
            told,
            [("b", 1, 2), ("a", 1, 8), ("a", 2, 5)].map(|(n, c, f)| (json!(n), json!(c), json!(f)))
        );
        // 20 bytes in 3 ms, where the bandwidth allows 2 ms.
        let share = kernels.lines()[2]["share_of_ceiling"].as_f64().unwrap();
        assert!((share - 2.0 / 3.0).abs() < 1e-9);
        let table = kernels.table(Format::Md);
        assert!(
            table.contains("| a | vision | 2 | 3.00 ms | 19% | 6.67 kB/s | 1.67 kFLOP/s | 67% |"),
            "{table}"
        );
        assert!(!table.contains(">100%") && !table.contains("cores × clock"), "{table}");
        // Restored from a file the table is the same; for another row there is none.
        let again = Kernels::restore(&row("full", 1, 0.0), kernels.lines()).unwrap();
        assert_eq!(again.table(Format::Md), table);
        assert!(Kernels::restore(&row("full", 2, 0.0), kernels.lines()).is_none());
    }

    #[test]
    fn what_a_cache_makes_faster_than_memory_is_explained() {
        let entries = [Entry {
            name: "a".into(),
            stage: Stage::Vision,
            layer: None,
            cost: Cost { flops: 0, bytes: 100 },
            begin: Duration::ZERO,
            took: Duration::from_millis(1),
        }];
        let ceiling =
            Ceiling { bytes_per_second: 1e4, flops_per_second: None, flops_measured: true };
        let table = Kernels::new(&row("full", 1, 0.0), &entries, ceiling).table(Format::Md);
        assert!(table.contains("| >100% |") && table.contains("cache"), "{table}");
    }
}
