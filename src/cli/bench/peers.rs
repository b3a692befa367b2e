//! Rows of other engines, measured by their own scripts and shown beside ours.

use super::table::digits;
use crate::cli::Stop;
use serde_json::Value;
use std::path::Path;

/// A file of a script has some dozen short lines.
const LARGEST: u64 = 16 << 20;

/// A row of another engine: an object with `engine`, `budget`, `batch`, `visual_tokens`, `ttft` and what else it has of
/// our columns.
#[derive(Debug)]
pub struct Peer(Value);

/// Reads JSON lines; those without `engine` describe the machine and are passed over.
pub fn read(path: &Path) -> Result<Vec<Peer>, Stop> {
    let failed = |what: String| Stop::Failed(format!("{}: {what}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if size > LARGEST {
        return Err(failed(format!("has {size} bytes, too many for a table of peers")));
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

    /// A line of the table of rows, which has a column for the method or not.
    pub fn markdown(&self, has_method: bool) -> String {
        let figure = |key: &str| self.number(key).map_or(String::new(), digits);
        let memory =
            self.number("peak_memory").map_or(String::new(), |v| format!("{:.3}", v / 1e9));
        let method = if has_method { "|  " } else { "" };
        format!(
            "{method}| {}, {} | {} | {} | {} | {} |  | {} |  |  | {} | {} | {} | {memory} |  |\n",
            self.text("engine"),
            self.text("budget"),
            self.number("batch").unwrap_or(1.0),
            self.number("visual_tokens").map_or(String::new(), |v| v.to_string()),
            figure("ttft"),
            figure("preprocess"),
            figure("vision"),
            figure("prefill"),
            figure("decode_tokens_per_second"),
            figure("throughput_with_prefill"),
        )
    }
}
