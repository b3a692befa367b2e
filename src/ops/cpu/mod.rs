//! The CPU executor: f32 arithmetic on weights that stay in the mapped files.
//!
//! It is written for clarity, because it is the reference that every kernel is tested against.

mod attention;
mod batch;
mod buffer;
mod cache;
mod ceiling;
mod columns;
mod grouped;
mod matmul;
mod measure;
mod memory;
mod numbers;
mod q8;
mod rows;
mod sample;
mod select;
mod simd;
pub(crate) mod system;

pub use buffer::{Buffer, Kept, Scores, Weight};
pub use cache::Cache;
pub use select::Retained;

pub(crate) use attention::{decoder_scratch, last_row_scratch, vision_scratch};
pub(crate) use buffer::{kept_bytes, weight_bytes};
pub(crate) use matmul::scratch_bytes as matmul_scratch;

use super::clock::Clock;
use super::cost;
use super::memory::Meter;
use crate::Result;
use crate::format::Dtype;
use measure::Profile;
use std::sync::Arc;

/// The CPU executor.
#[derive(Debug)]
pub struct Cpu {
    meter: Arc<Meter>,
    clock: Clock,
    /// The current layer.
    layer: Option<usize>,
    profile: Option<Profile>,
    /// The attention of the decoder, while it is recorded.
    attended: Option<Vec<Vec<f32>>>,
    /// Format of the KV cache.
    cache: Dtype,
}

/// Bytes of an activation.
const NUMBER: usize = size_of::<f32>();

impl Cpu {
    /// An executor with a KV cache of this format.
    pub fn new(cache: Dtype) -> Self {
        let (meter, clock) = (Arc::default(), Clock::default());
        Self { meter, clock, layer: None, profile: None, attended: None, cache }
    }

    fn buffer(&self, rows: usize, cols: usize) -> Buffer {
        Buffer::new(&self.meter, rows, cols)
    }

    /// A new buffer, filled by `fill`, counted as one pass over memory.
    fn pass(
        &mut self,
        name: &'static str,
        rows: usize,
        cols: usize,
        fill: impl FnOnce(&mut Buffer) -> Result<()>,
    ) -> Result<Buffer> {
        self.timed(
            name,
            || cost::pass(rows * cols, NUMBER),
            |cpu| {
                let mut out = cpu.buffer(rows, cols);
                fill(&mut out)?;
                Ok(out)
            },
        )
    }
}
