//! The executor that every machine has: f32 arithmetic on weights that stay where the file is mapped.
//!
//! Written to be read: it is the truth every kernel is held against.

mod attention;
mod buffer;
mod cache;
mod ceiling;
mod choice;
mod columns;
mod linear;
mod numbers;
mod ops;
mod profile;
mod retain;
mod rows;
mod simd;
pub(crate) mod system;

pub use buffer::{Buffer, Kept, Scores, Weight};
pub use cache::Cache;
pub use retain::Retained;

pub(crate) use attention::{decoder_scratch, last_row_scratch, vision_scratch};
pub(crate) use buffer::kept_bytes;
pub(crate) use linear::scratch_bytes as linear_scratch;

use super::clock::Clock;
use super::cost;
use super::memory::Meter;
use super::{Extent, Linear, Norm};
use crate::Result;
use crate::format::Dtype;
use linear::{Epilogue, linear};
use profile::Profile;
use std::sync::Arc;

/// The CPU executor.
#[derive(Debug)]
pub struct Cpu {
    meter: Arc<Meter>,
    clock: Clock,
    /// The block that runs.
    layer: Option<usize>,
    profile: Option<Profile>,
    /// Format of keys and values.
    cache: Dtype,
}

/// Bytes of an activation.
const NUMBER: usize = size_of::<f32>();

impl Cpu {
    /// An executor with a cache of this format.
    pub fn new(cache: Dtype) -> Self {
        let (meter, clock) = (Arc::default(), Clock::default());
        Self { meter, clock, layer: None, profile: None, cache }
    }

    fn buffer(&self, rows: usize, cols: usize) -> Buffer {
        Buffer::new(&self.meter, rows, cols)
    }

    fn rms_norm(&mut self, x: &Buffer, norm: &Norm<Weight>) -> Result<Buffer> {
        self.pass("rms_norm", x.rows(), x.cols(), |out| rows::rms_norm(x, norm, out))
    }

    /// A new buffer, filled in one pass.
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

    fn product(
        &mut self,
        x: &Buffer,
        layer: &Linear<Weight>,
        out: &mut Buffer,
        epilogue: Epilogue,
    ) -> Result<()> {
        let Weight { rows: n, cols: k, .. } = layer.weight;
        let (name, of): (_, cost::Product) = match epilogue {
            Epilogue::Store(_) => ("linear", cost::linear),
            Epilogue::Add => ("linear_add", cost::linear_add),
        };
        let cost = || of(x.rows(), n, k, NUMBER, layer.weight.bytes());
        self.timed(name, cost, |cpu| linear(&cpu.meter, x, layer, out, epilogue))
    }
}
