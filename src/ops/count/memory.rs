//! Weights, caches and memory on the counting executor.

use super::{Cache, Counter, Planned, Retained, Rows, Scores, Shape, Size};
use crate::checkpoint::Tensor;
use crate::checkpoint::synth::Recipe;
use crate::format::Format;
use crate::ops::memory::{Meter, Purpose};
use crate::ops::saved::Numbers;
use crate::ops::{Executor, Extent, MemoryOps, Saved, Storage};
use crate::{Result, kv};
use std::sync::Arc;

impl Executor for Counter {
    type Buffer = Size;
    type Weight = Shape;
    type Cache = Cache;
    type Scores = Scores;
    type Kept = Planned;
    type Batch = Rows;
    type Retained = Retained;
}

impl MemoryOps for Counter {
    fn upload(&mut self, tensor: &Tensor, storage: Storage) -> Result<Shape> {
        Ok(self.weight(&tensor.shape, tensor.format, storage, tensor.is_aligned()))
    }

    fn synthesize(&mut self, recipe: &Recipe, storage: Storage) -> Result<Shape> {
        Ok(self.weight(&recipe.shape, recipe.format(), storage, recipe.scheme.is_none()))
    }

    fn reserve(&mut self, _: Purpose, _: usize) -> Result<()> {
        Ok(())
    }

    fn cache(&mut self, shape: kv::Shape) -> Result<Cache> {
        let charge = self.meter.charge(Purpose::Kv, self.footprint.cache(shape));
        Ok(Cache { shape, _charge: charge })
    }

    fn download(&mut self, x: &Size) -> Result<Vec<f32>> {
        Ok(vec![0.0; x.rows * x.cols])
    }

    fn save(&mut self, x: &Size) -> Result<Saved> {
        Ok(Saved::new(x.rows, x.cols, Numbers::F32(Vec::new())))
    }

    fn restore(&mut self, saved: &Saved) -> Result<Size> {
        Ok(self.buffer(saved.rows(), saved.cols()))
    }

    fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    fn available(&self) -> Option<usize> {
        None
    }
}

impl Counter {
    /// Counts a weight without a checkpoint.
    pub fn imagine(
        &mut self,
        shape: &[usize],
        stored: Format,
        storage: Storage,
        aligned: bool,
    ) -> Shape {
        self.weight(shape, stored, storage, aligned)
    }

    fn weight(
        &mut self,
        shape: &[usize],
        stored: Format,
        storage: Storage,
        aligned: bool,
    ) -> Shape {
        let (rows, cols) = crate::ops::extent(shape);
        let taken = self.footprint.weight(rows, cols, stored, storage, aligned);
        if taken == 0 {
            self.meter.map(stored.bytes(rows, cols));
        }
        let charge = (taken > 0).then(|| self.meter.charge(Purpose::Weights, taken));
        Shape { rows, cols, format: self.footprint.weights(stored), _charge: charge }
    }
}
