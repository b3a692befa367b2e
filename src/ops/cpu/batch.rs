//! Batches of rows and decode steps on the CPU.

use super::Cpu;
use super::buffer::Buffer;
use super::cache::Cache;
use crate::Result;
use crate::ops::{Batch, BatchOps, Span, Work};

impl BatchOps for Cpu {
    fn batch(&mut self, _: &Cache, tokens: Vec<u32>, spans: Vec<Span>) -> Result<Batch> {
        Ok(Batch::new(tokens, spans))
    }

    fn step(
        &mut self,
        _: &[Batch],
        caches: &mut [Cache],
        work: &mut Work<'_, Self>,
    ) -> Result<Buffer> {
        work(self, caches)
    }
}
