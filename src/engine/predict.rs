//! What a batch will need, found by running the model on the executor that only counts.

use super::prepare::{Prepared, PreparedImage};
use super::runner::{Runner, pages};
use crate::config::ModelConfig;
use crate::image::Normalization;
use crate::kv::BlockTable;
use crate::model::Source;
use crate::ops::count::Counter;
use crate::ops::memory::Purpose;
use crate::ops::{DECODE_ROWS, Ops};
use crate::{Error, Result};
use std::ops::ControlFlow;

/// Bytes that a batch takes beside the mapped weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Keys and values.
    pub kv: usize,
    /// The most activations and scratch at one moment.
    pub workspace: usize,
    /// The most of everything at one moment, copied weights included.
    pub peak: usize,
}

/// A model whose cost can be asked.
pub struct Predictor {
    runner: Runner<Counter>,
}

impl Predictor {
    pub fn new(
        config: &ModelConfig,
        half_cache: bool,
        source: &dyn Source<Counter>,
    ) -> Result<Self> {
        Ok(Self { runner: Runner::load(config, Counter::new(half_cache), source)? })
    }

    /// Takes the shapes of further vision blocks.
    pub fn require(&mut self, image: &PreparedImage, source: &dyn Source<Counter>) -> Result<()> {
        let blocks = image.layers.blocks(&image.plan);
        self.runner.model.require(blocks, &mut self.runner.ops, source)
    }

    /// What `batch` needs when the cache has at least `pages_held` pages and every answer is as long as it may get.
    pub fn need(
        &mut self,
        config: &ModelConfig,
        norm: &Normalization,
        batch: &[Prepared],
        pages_held: usize,
    ) -> Result<Need> {
        let runner = &mut self.runner;
        runner.free_cache();
        runner.ops.meter().restart();
        runner.reserve(config, pages(batch).max(pages_held))?;
        let mut quiet = |_, _, _| ControlFlow::Continue(());
        let mut tables = Vec::new();
        for prepared in batch {
            let image = prepared.image.as_ref();
            let encoded = image.map(|i| runner.encode(i, norm, &mut quiet)).transpose()?;
            let mut table = BlockTable::default();
            runner.prefill(prepared, encoded.as_ref(), &mut table, &mut quiet)?;
            tables.push((prepared, table));
        }
        // The last step of each group is its most expensive one.
        for group in tables.chunks_mut(DECODE_ROWS) {
            for (prepared, table) in group.iter_mut() {
                let more = prepared.positions() - table.len();
                runner.pool.append(table, more.saturating_sub(1))?;
            }
            let mut longer: Vec<(u32, &mut BlockTable)> = group
                .iter_mut()
                .filter(|(prepared, _)| prepared.max_new_tokens > 1)
                .map(|(_, table)| (0, table))
                .collect();
            if !longer.is_empty() {
                runner.step(&mut longer)?;
            }
        }
        let meter = runner.ops.meter();
        let need = Need {
            kv: meter.most(Purpose::Kv),
            workspace: meter.most(Purpose::Workspace),
            peak: meter.peak(),
        };
        Ok(need)
    }

    /// What the vision half alone needs.
    pub fn vision_need(&mut self, norm: &Normalization, image: &PreparedImage) -> Result<Need> {
        let runner = &mut self.runner;
        runner.free_cache();
        runner.ops.meter().restart();
        runner.encode(image, norm, &mut |_, _, _| ControlFlow::Continue(()))?;
        let meter = runner.ops.meter();
        Ok(Need { kv: 0, workspace: meter.most(Purpose::Workspace), peak: meter.peak() })
    }

    /// The counter, with everything counted since it was made.
    pub fn counter(&self) -> &Counter {
        &self.runner.ops
    }

    /// Copied and mapped weight bytes.
    pub fn weights(&self) -> (usize, usize) {
        let meter = self.runner.ops.meter();
        (meter.held(Purpose::Weights), meter.mapped())
    }
}

/// Refuses a batch that the system has no memory for.
///
/// # Errors
/// [`Error::Capacity`] with the numbers.
pub fn check_memory(need: &Need, kv_held: usize, available: Option<usize>) -> Result<()> {
    let wanted = need.kv.saturating_sub(kv_held) + need.workspace;
    match available {
        Some(free) if wanted > free => Err(Error::Capacity(format!(
            "the request needs {} for keys and values and {} of workspace, the system has {} \
             available: use a smaller budget, fewer new tokens or fewer images at a time",
            gib(need.kv),
            gib(need.workspace),
            gib(free),
        ))),
        _ => Ok(()),
    }
}

/// Bytes as people read them.
fn gib(bytes: usize) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64),
    }
}

/// Memory that this process can still take, as Linux tells it: the machine's, or what its control group leaves.
/// `None` elsewhere.
pub fn available() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: usize = field(&text, "MemAvailable:")?.strip_suffix("kB")?.trim().parse().ok()?;
    let machine = kib << 10;
    Some(group_available().map_or(machine, |group| machine.min(group)))
}

/// What a control group (version 2) with a limit leaves; pages of files count as free, since the system takes them
/// back.
fn group_available() -> Option<usize> {
    let read = |name| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let limit: usize = read("memory.max")?.trim().parse().ok()?;
    let taken: usize = field(&read("memory.stat")?, "anon ")?.parse().ok()?;
    Some(limit.saturating_sub(taken))
}

/// What follows a name at the start of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_has_no_memory_for_is_refused_with_the_numbers() {
        let need = Need { kv: 3 << 30, workspace: 200 << 20, peak: 0 };
        let refused = check_memory(&need, 0, Some(3 << 30)).unwrap_err();
        assert!(matches!(refused, Error::Capacity(_)));
        let message = refused.to_string();
        assert!(message.contains("3.0 GiB") && message.contains("200 MiB"), "{message}");
        // What is held already is not taken again; without knowledge nothing is refused.
        check_memory(&need, 1 << 30, Some(3 << 30)).unwrap();
        check_memory(&need, 0, None).unwrap();
    }

    #[test]
    fn fields_of_the_systems_files() {
        let text = "MemTotal: 10 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some("2048 kB"));
        assert_eq!(field("anon 42\nfile 7\n", "anon "), Some("42"));
        assert_eq!(field(text, "SwapFree:"), None);
        if cfg!(target_os = "linux") {
            assert!(available().is_some_and(|bytes| bytes > 1 << 20));
        }
    }
}
