//! Operations on rows on the counting executor.

use super::{Counter, Rows, Shape, Size};
use crate::Result;
use crate::image::{Normalization, Tiles};
use crate::ops::{Chosen, Norm, RowOps, Visual};

impl RowOps for Counter {
    fn patches(&mut self, tiles: &Tiles, _: &Normalization, patch: usize) -> Result<Size> {
        let grid = tiles.layout.side / patch;
        let rows = tiles.partitions() * grid * grid;
        let out = self.buffer(rows, self.footprint.padded(3 * patch * patch));
        let bytes = 3 * tiles.partitions() * tiles.layout.side.pow(2);
        drop(self.footprint.patches_scratch(bytes).map(|bytes| self.hold(bytes)));
        self.pass(out.rows * out.cols);
        Ok(out)
    }

    fn vision_tokens(
        &mut self,
        patches: &Size,
        class: Option<&Shape>,
        _: &Shape,
        partitions: usize,
    ) -> Result<Size> {
        self.pass(patches.rows * patches.cols);
        Ok(self.buffer(patches.rows + class.map_or(0, |_| partitions), patches.cols))
    }

    fn layer_norm(&mut self, x: &Size, _: &Norm<Shape>) -> Result<Size> {
        self.pass(x.rows * x.cols);
        Ok(self.buffer(x.rows, x.cols))
    }

    fn head_norm(&mut self, x: &mut Size, _: &Norm<Shape>) -> Result<()> {
        self.pass(x.rows * x.cols);
        Ok(())
    }

    fn scaled_add(&mut self, sum: &mut Size, _: &Size, _: &Shape) -> Result<()> {
        self.pass(sum.rows * sum.cols);
        Ok(())
    }

    fn convolve(&mut self, x: &Size, _: &Shape, _: &Shape) -> Result<Size> {
        self.pass(x.rows * x.cols);
        Ok(self.buffer(x.rows, x.cols))
    }

    fn join(&mut self, x: Size, each: usize) -> Size {
        Size { rows: x.rows / each, cols: x.cols * each, ..x }
    }

    fn gather(&mut self, x: &Size, rows: &[usize]) -> Result<Size> {
        self.pass(rows.len() * x.cols);
        let out = self.buffer(rows.len(), x.cols);
        drop(self.footprint.indices(rows.len()).map(|bytes| self.hold(bytes)));
        Ok(out)
    }

    fn interleave(
        &mut self,
        table: &Shape,
        images: &[(&[u32], Visual<'_, Self>)],
        after: &[u32],
    ) -> Result<Size> {
        let slots: usize = images.iter().map(|(_, visual)| visual.kept.slots()).sum();
        let ids = images.iter().map(|(before, _)| before.len()).sum::<usize>() + after.len();
        let out = self.buffer(ids + slots, table.cols);
        drop(self.footprint.indices(ids).map(|bytes| self.hold(bytes)));
        self.pass(out.rows * out.cols);
        Ok(out)
    }

    fn embed(&mut self, table: &Shape, batch: &Rows) -> Result<Size> {
        let out = self.buffer(batch.batch.tokens.len(), table.cols);
        self.pass(out.rows * out.cols);
        Ok(out)
    }
}
