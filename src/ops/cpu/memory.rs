//! Weights, caches and memory.

use super::buffer::{Buffer, Kept, Scores, Weight};
use super::cache::Cache;
use super::select::Retained;
use super::{Cpu, system};
use crate::checkpoint::Tensor;
use crate::ops::memory::{Meter, Purpose};
use crate::ops::{Batch, Executor, MemoryOps, Storage};
use crate::{Result, kv};
use std::sync::Arc;

impl Executor for Cpu {
    type Buffer = Buffer;
    type Weight = Weight;
    type Cache = Cache;
    type Scores = Scores;
    type Kept = Kept;
    type Batch = Batch;
    type Retained = Retained;
}

impl MemoryOps for Cpu {
    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Weight> {
        Weight::new(&self.meter, tensor, storage)
    }

    /// The system gives memory piece by piece.
    fn reserve(&mut self, _: Purpose, _: usize) -> Result<()> {
        Ok(())
    }

    fn cache(&mut self, shape: kv::Shape) -> Result<Cache> {
        Cache::new(&self.meter, shape, self.cache)
    }

    fn download(&mut self, x: &Buffer) -> Result<Vec<f32>> {
        Ok(x.data.clone())
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    fn available(&self) -> Option<usize> {
        system::available()
    }
}
