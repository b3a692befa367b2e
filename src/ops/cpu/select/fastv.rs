//! The choice of visual rows after a layer of the decoder (FastV), on the CPU.

use crate::ops::cpu::Cpu;
use crate::ops::cpu::attention::last_row;
use crate::ops::cpu::buffer::Buffer;
use crate::ops::cpu::cache::Cache;
use crate::ops::{Batch, Extent, FastvOps, RowOps, Span, cost};
use crate::{Result, select};
use std::ops::Range;

/// Retained rows on the host.
#[derive(Debug)]
pub struct Retained {
    /// Their numbers in the prompt, ascending.
    rows: Vec<usize>,
}

impl Retained {
    /// Keeps the `keep` rows of `among` with the highest scores, and all other rows. `scores` has one for each row.
    pub(super) fn new(scores: &[f32], among: Range<usize>, keep: usize) -> Self {
        let rows = scores.len();
        let mut retained: Vec<usize> = (0..among.start).collect();
        let kept = select::highest(scores, among.clone(), keep);
        retained.extend(kept.into_iter().map(|row| row as usize));
        retained.extend(among.end..rows);
        Self { rows: retained }
    }

    /// The retained rows as a batch: slots from 0 on, original positions.
    pub(super) fn batch(&self, pages: Vec<u32>) -> Batch {
        let span = Span { row: 0, rows: self.rows.len(), slot: 0, position: 0, pages };
        Batch { tokens: Vec::new(), spans: vec![span], positions: self.rows.clone() }
    }
}

impl FastvOps for Cpu {
    fn retain(
        &mut self,
        q: &Buffer,
        cache: &Cache,
        layer: usize,
        batch: &Batch,
        among: Range<usize>,
        keep: usize,
    ) -> Result<Retained> {
        let span = &batch.spans[0];
        let stored = cache.dtype().size();
        let cost = || cost::last_row(span.context(), q.cols(), cache.shape, stored);
        self.timed("retain", cost, |cpu| {
            let scores = last_row(&cpu.meter, q, cache, layer, span);
            Ok(Retained::new(&scores, among, keep))
        })
    }

    fn gather_retained(&mut self, x: &Buffer, retained: &Retained) -> Result<Buffer> {
        self.gather(x, &retained.rows)
    }

    fn retained_batch(&mut self, retained: &Retained, pages: Vec<u32>) -> Result<Batch> {
        Ok(retained.batch(pages))
    }

    fn retained(&mut self, retained: &Retained) -> Result<Vec<u32>> {
        Ok(retained.rows.iter().map(|&row| row as u32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_outside_stay_whatever_their_scores() {
        let scores = [0.0, 0.1, 0.5, 0.3, 0.5, 0.5, 0.0];
        let rows = |among, keep| Retained::new(&scores, among, keep).rows;
        assert_eq!(rows(1..6, 2), [0, 2, 4, 6]);
        assert_eq!(rows(1..6, 0), [0, 6]);
        assert_eq!(rows(1..6, 5), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(rows(0..6, 1), [2, 6]);
    }
}
