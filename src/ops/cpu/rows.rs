//! Operations on rows on the CPU: norms, pixels, copies.

use super::buffer::{Buffer, Kept, Weight};
use super::simd::Isa;
use super::{Cpu, NUMBER};
use crate::Result;
use crate::image::{Normalization, Tiles};
use crate::ops::cost;
use crate::ops::{Batch, Extent, Norm, RowOps, Visual};
use rayon::prelude::*;

impl RowOps for Cpu {
    fn patches(&mut self, tiles: &Tiles, norm: &Normalization, patch: usize) -> Result<Buffer> {
        let grid = tiles.layout.side / patch;
        self.pass("patches", tiles.partitions() * grid * grid, 3 * patch * patch, |out| {
            patches(tiles, norm, patch, out);
            Ok(())
        })
    }

    fn vision_tokens(
        &mut self,
        patches: &Buffer,
        class: Option<&Weight>,
        position: &Weight,
        partitions: usize,
    ) -> Result<Buffer> {
        let rows = patches.rows() + class.map_or(0, |_| partitions);
        self.pass("vision_tokens", rows, patches.cols(), |out| {
            vision_tokens(patches, class, position, partitions, out)
        })
    }

    fn layer_norm(&mut self, x: &Buffer, norm: &Norm<Weight>) -> Result<Buffer> {
        self.pass("layer_norm", x.rows(), x.cols(), |out| layer_norm(x, norm, out))
    }

    fn head_norm(&mut self, x: &mut Buffer, norm: &Norm<Weight>) -> Result<()> {
        let numbers = x.data.len();
        let cost = || cost::pass(numbers, NUMBER);
        self.timed("head_norm", cost, |_| head_norm(x, norm))
    }

    fn scaled_add(&mut self, sum: &mut Buffer, x: &Buffer, factors: &Weight) -> Result<()> {
        let numbers = sum.data.len();
        let cost = || cost::pass(numbers, NUMBER);
        self.timed("scaled_add", cost, |_| scaled_add(sum, x, factors))
    }

    fn convolve(&mut self, x: &Buffer, weight: &Weight, bias: &Weight) -> Result<Buffer> {
        self.pass("convolve", x.rows(), x.cols(), |out| convolve(x, weight, bias, out))
    }

    fn join(&mut self, x: Buffer, each: usize) -> Buffer {
        x.joined(each)
    }

    fn gather(&mut self, x: &Buffer, rows: &[usize]) -> Result<Buffer> {
        self.pass("gather", rows.len(), x.cols(), |out| {
            gather(x, rows, out);
            Ok(())
        })
    }

    fn interleave(
        &mut self,
        table: &Weight,
        images: &[(&[u32], Visual<'_, Self>)],
        after: &[u32],
    ) -> Result<Buffer> {
        let rows: usize = images.iter().map(|(ids, v)| ids.len() + v.kept.slots.len()).sum();
        self.pass("interleave", rows + after.len(), table.cols, |out| {
            let mut row = 0;
            for (before, visual) in images {
                embed(table, before, row, out);
                row += before.len();
                arrange(visual.rows, visual.kept, visual.newline, row, out)?;
                row += visual.kept.slots.len();
            }
            embed(table, after, row, out);
            Ok(())
        })
    }

    fn embed(&mut self, table: &Weight, batch: &Batch) -> Result<Buffer> {
        self.interleave(table, &[], &batch.tokens)
    }
}

/// LayerNorm with a bias; mean and variance in f64.
pub(super) fn layer_norm(x: &Buffer, norm: &Norm<Weight>, out: &mut Buffer) -> Result<()> {
    let cols = x.cols();
    let weight = norm.weight.vector()?;
    let bias = norm.bias.as_ref().map(Weight::vector).transpose()?;
    out.data.par_chunks_mut(cols).zip(x.data.par_chunks(cols)).for_each(|(out, x)| {
        let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / cols as f64;
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / cols as f64;
        let scale = 1.0 / (variance + f64::from(norm.eps)).sqrt();
        for (i, (out, &x)) in out.iter_mut().zip(x).enumerate() {
            let y = ((f64::from(x) - mean) * scale) as f32;
            *out = y * weight[i] + bias.map_or(0.0, |b| b[i]);
        }
    });
    Ok(())
}

/// RMSNorm.
pub(super) fn rms_norm(x: &Buffer, norm: &Norm<Weight>, out: &mut Buffer) -> Result<()> {
    let cols = x.cols();
    let weight = norm.weight.vector()?;
    out.data.par_chunks_mut(cols).zip(x.data.par_chunks(cols)).for_each(|(out, x)| {
        let scale = rms_scale(x, norm.eps);
        for ((out, &x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    });
    Ok(())
}

/// RMSNorm of each head, in place.
fn head_norm(x: &mut Buffer, norm: &Norm<Weight>) -> Result<()> {
    let weight = norm.weight.vector()?;
    x.data.par_chunks_mut(weight.len()).for_each(|head| {
        let scale = rms_scale(head, norm.eps);
        head.iter_mut().zip(weight).for_each(|(x, weight)| *x = *x * scale * weight);
    });
    Ok(())
}

/// sum += factors ⊙ x, row by row.
fn scaled_add(sum: &mut Buffer, x: &Buffer, factors: &Weight) -> Result<()> {
    let factors = factors.vector()?;
    let rows = sum.data.par_chunks_mut(factors.len()).zip(x.data.par_chunks(factors.len()));
    rows.for_each(|(sum, x)| {
        sum.iter_mut().zip(x).zip(factors).for_each(|((sum, x), factor)| *sum += factor * x);
    });
    Ok(())
}

/// Each token of a square with what a 3 × 3 convolution makes of its neighbours, column by column.
fn convolve(x: &Buffer, weight: &Weight, bias: &Weight, out: &mut Buffer) -> Result<()> {
    let (weight, bias) = (weight.vector()?, bias.vector()?);
    let (side, cols) = (x.rows().isqrt(), x.cols());
    out.data.par_chunks_mut(cols).enumerate().for_each(|(at, out)| {
        let (row, column) = (at / side, at % side);
        out.copy_from_slice(bias);
        for i in 0..9 {
            // One beyond, so that nothing is below 0.
            let (y, z) = (row + i / 3, column + i % 3);
            if !(1..=side).contains(&y) || !(1..=side).contains(&z) {
                continue;
            }
            let neighbour = x.row((y - 1) * side + z - 1);
            let weights = weight[i..].iter().step_by(9);
            out.iter_mut().zip(neighbour).zip(weights).for_each(|((out, x), w)| *out += w * x);
        }
        out.iter_mut().zip(x.row(at)).for_each(|(out, x)| *out += x);
    });
    Ok(())
}

/// 1 / √(mean of squares + ε), the mean square in f64.
fn rms_scale(x: &[f32], eps: f32) -> f32 {
    let square = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / x.len() as f64;
    (1.0 / (square + f64::from(eps)).sqrt()) as f32
}

/// The pixels of each patch, normalised by table: channel first, then row, then column.
pub(super) fn patches(tiles: &Tiles, norm: &Normalization, patch: usize, out: &mut Buffer) {
    let side = tiles.layout.side;
    let grid = side / patch;
    let plane = side * side;
    let cols = out.cols();
    out.data.par_chunks_mut(cols).enumerate().for_each(|(row, out)| {
        let (partition, index) = (row / (grid * grid), row % (grid * grid));
        let (top, left) = (index / grid * patch, index % grid * patch);
        for (line, out) in out.chunks_exact_mut(patch).enumerate() {
            let (channel, y) = (line / patch, top + line % patch);
            let start = (partition * 3 + channel) * plane + y * side + left;
            for (out, &byte) in out.iter_mut().zip(&tiles.pixels[start..start + patch]) {
                *out = norm.lut[channel][usize::from(byte)];
            }
        }
    });
}

/// The class token, if any, and the patches of each partition, plus position embeddings.
pub(super) fn vision_tokens(
    patches: &Buffer,
    class: Option<&Weight>,
    position: &Weight,
    partitions: usize,
    out: &mut Buffer,
) -> Result<()> {
    let (class, position) = (class.map(Weight::vector).transpose()?, position.vector()?);
    let before = usize::from(class.is_some());
    let cols = out.cols();
    let tokens = out.rows() / partitions;
    for partition in 0..partitions {
        for token in 0..tokens {
            let from = match class {
                Some(class) if token == 0 => class,
                _ => patches.row(partition * (tokens - before) + token - before),
            };
            let position = &position[token * cols..][..cols];
            for ((out, x), p) in
                out.row_mut(partition * tokens + token).iter_mut().zip(from).zip(position)
            {
                *out = x + p;
            }
        }
    }
    Ok(())
}

/// Copies rows.
pub(super) fn gather(x: &Buffer, rows: &[usize], out: &mut Buffer) {
    for (i, &row) in rows.iter().enumerate() {
        out.row_mut(i).copy_from_slice(x.row(row));
    }
}

/// Writes the embeddings of `ids` to `out` from row `first` on.
pub(super) fn embed(table: &Weight, ids: &[u32], first: usize, out: &mut Buffer) {
    let isa = Isa::best();
    for (i, &id) in ids.iter().enumerate() {
        let id = id as usize;
        table.matrix().widen(isa, id..id + 1, out.row_mut(first + i));
    }
}

/// Writes visual rows and newlines to `out` in decoder order, from row `first` on.
pub(super) fn arrange(
    rows: &Buffer,
    kept: &Kept,
    newline: Option<&Weight>,
    first: usize,
    out: &mut Buffer,
) -> Result<()> {
    let newline = newline.map(Weight::vector).transpose()?;
    for (i, slot) in kept.slots.iter().enumerate() {
        let from = match slot {
            Some(row) => rows.row(*row),
            None => newline.expect("an order with newlines comes with their embedding"),
        };
        out.row_mut(first + i).copy_from_slice(from);
    }
    Ok(())
}
