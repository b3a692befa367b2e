//! Weights, caches and memory on the CPU.

use super::buffer::{Buffer, Kept, Scores, Weight};
use super::cache::Cache;
use super::select::Retained;
use super::{Cpu, system};
use crate::checkpoint::Tensor;
use crate::ops::memory::{Meter, Purpose};
use crate::ops::saved::Numbers;
use crate::ops::{Batch, Executor, Extent, MemoryOps, Saved, Storage};
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

    /// Nothing to reserve: every buffer is allocated when it is needed.
    fn reserve(&mut self, _: Purpose, _: usize) -> Result<()> {
        Ok(())
    }

    fn cache(&mut self, shape: kv::Shape) -> Result<Cache> {
        Cache::new(&self.meter, shape, self.cache)
    }

    fn download(&mut self, x: &Buffer) -> Result<Vec<f32>> {
        Ok(x.data.clone())
    }

    fn save(&mut self, x: &Buffer) -> Result<Saved> {
        Ok(Saved::new(x.rows(), x.cols(), Numbers::F32(x.data.clone())))
    }

    fn restore(&mut self, saved: &Saved) -> Result<Buffer> {
        let mut out = Buffer::new(&self.meter, saved.rows(), saved.cols());
        match &saved.numbers {
            Numbers::F32(numbers) => out.data.copy_from_slice(numbers),
            #[cfg(feature = "cuda")]
            Numbers::F16(numbers) => {
                half::slice::HalfFloatSliceExt::convert_to_f32_slice(&numbers[..], &mut out.data);
            }
        }
        Ok(out)
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    fn available(&self) -> Option<usize> {
        system::available()
    }
}
