//! Every kernel of a row: what it took, and how near that is to what the device can do.

use super::row::Row;
use super::table::digits;
use hired::engine::{Ceiling, Cost, Entry, Stage};
use serde_json::{Value, json};
use std::time::Duration;

/// The kernels of one row, the longest first.
pub struct Kernels {
    /// The row's.
    name: String,
    method: String,
    budget: String,
    batch: usize,
    ceiling: Ceiling,
    all: Vec<Kernel>,
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
        let Row { name, method, budget, batch, .. } = row.clone();
        Self { name, method, budget, batch, ceiling, all }
    }

    /// One object for each kernel.
    pub fn lines(&self) -> Vec<Value> {
        let line = |kernel: &Kernel| {
            let Kernel { name, stage, calls, took, cost } = kernel;
            let seconds = took.as_secs_f64();
            json!({
                "kernel": name,
                "stage": stage.name(),
                "method": self.method,
                "budget": self.budget,
                "batch": self.batch,
                "calls": calls,
                "time": seconds,
                "bytes": cost.bytes,
                "flops": cost.flops,
                "gb_per_second": rate(cost.bytes, seconds, 1e9),
                "tflop_per_second": rate(cost.flops, seconds, 1e12),
                "share_of_ceiling": self.ceiling.share(*cost, *took),
                "flops_ceiling_measured": self.ceiling.flops_measured,
            })
        };
        self.all.iter().map(line).collect()
    }

    pub fn markdown(&self) -> String {
        let total: f64 = self.all.iter().map(|k| k.took.as_secs_f64()).sum();
        let mark = if self.ceiling.flops_measured { "" } else { "*" };
        let mut text = format!(
            "### Kernels at {}, batch {}\n\n| kernel | stage | calls | ms | of all | GB/s | TFLOP/s | of the ceiling{mark} |\n\
             |---|---|---:|---:|---:|---:|---:|---:|\n",
            self.name, self.batch
        );
        for kernel in &self.all {
            let Kernel { name, stage, calls, took, cost } = kernel;
            let seconds = took.as_secs_f64();
            let figure = |value: Option<f64>| value.map_or(String::new(), digits);
            let percent =
                |value: Option<f64>| value.map_or(String::new(), |v| format!("{:.0}%", 100.0 * v));
            text += &format!(
                "| `{name}` | {} | {calls} | {} | {} | {} | {} | {} |\n",
                stage.name(),
                digits(seconds * 1e3),
                percent((total > 0.0).then(|| seconds / total)),
                figure(rate(cost.bytes, seconds, 1e9)),
                figure(rate(cost.flops, seconds, 1e12)),
                percent(self.ceiling.share(*cost, *took)),
            );
        }
        text += "\nOf one answer of up to four tokens, each kernel timed by itself; decode steps are not replayed here. \
                 GB/s and TFLOP/s: what must be read, written and computed at least.\n";
        if !self.ceiling.flops_measured {
            text += "* The ceiling of the arithmetic is cores times clock; that of the traffic was measured.\n";
        }
        text
    }
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
        // 20 bytes in 3 ms of a ceiling that takes 2.
        let share = kernels.lines()[2]["share_of_ceiling"].as_f64().unwrap();
        assert!((share - 2.0 / 3.0).abs() < 1e-9);
        assert!(kernels.markdown().contains("| `a` | vision | 2 | 3.00 |"));
    }
}
