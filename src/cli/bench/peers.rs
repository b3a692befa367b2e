//! Rows of other engines, measured by their own scripts, for comparison.

use super::table::size;
use crate::cli::Stop;
use crate::cli::table::{Size, Time, digits};
use serde_json::Value;
use std::path::Path;

/// Limit on the size of such a file, which has a few dozen short lines.
const LARGEST: u64 = 16 << 20;

/// A row of another engine: an object with `engine`, `budget`, `batch`, `visual_tokens`, `ttft` and any further
/// columns of ours.
#[derive(Debug)]
pub struct Peer(Value);

/// Reads JSON lines; lines without `engine` describe the machine and are skipped.
pub fn read(path: &Path) -> Result<Vec<Peer>, Stop> {
    let failed = |what: String| Stop::Failed(format!("{}: {what}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if size > LARGEST {
        return Err(failed(format!("{} is too large for a table of other engines", Size(size))));
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    let mut peers = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line: Value = serde_json::from_str(line).map_err(|e| {
            failed(format!("line {} is not JSON ({e}): give JSON lines", index + 1))
        })?;
        if line.get("engine").is_some_and(Value::is_string) {
            peers.push(Peer(line));
        }
    }
    Ok(peers)
}

impl Peer {
    pub fn line(&self) -> &Value {
        &self.0
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        self.0.get(key)?.as_f64()
    }

    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The cells of a table row; the first one names the engine.
    pub fn cells(&self, has_speed_up: bool) -> Vec<String> {
        let time = |key: &str| self.number(key).map_or(String::new(), |v| Time(v).to_string());
        let rate = |key: &str| self.number(key).map_or(String::new(), digits);
        let mut cells = vec![
            self.text("engine").to_owned(),
            self.text("budget").to_owned(),
            self.number("batch").unwrap_or(1.0).to_string(),
            self.number("visual_tokens").map_or(String::new(), |v| v.to_string()),
            time("ttft"),
            time("vision"),
            String::new(),
            time("prefill"),
            rate("decode_tokens_per_second"),
            rate("throughput_with_prefill"),
        ];
        if has_speed_up {
            cells.push(String::new());
        }
        cells.push(self.number("peak_memory").map_or(String::new(), size));
        cells
    }
}
