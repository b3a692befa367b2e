//! Selection, before the decoder and inside it, on the counting executor.

use super::{Cache, Counter, Planned, Retained, Rows, Size};
use crate::Result;
use crate::ops::cost::{self, Kind};
use crate::ops::{Batch, Evidence, FastvOps, SelectionOps, Span};
use crate::select::{self, Plan};
use std::ops::Range;

impl SelectionOps for Counter {
    fn select(&mut self, plan: &Plan, evidence: Evidence<'_, Self>) -> Result<Planned> {
        self.whole = !plan.is_exact();
        let hold = self.hold(self.footprint.selection(plan)?);
        let scratch = self.footprint.choosing(plan, evidence.widths());
        drop(scratch.map(|bytes| self.hold(bytes)));
        let Plan { rows, newlines, sources, .. } = *plan;
        Ok(Planned { rows, each: plan.rows_each(), newlines, sources, _hold: hold })
    }

    fn recall(&mut self, plan: &Plan, kept: &select::Kept) -> Result<Planned> {
        self.whole = !plan.is_exact();
        let hold = self.hold(self.footprint.selection(plan)?);
        let rows = kept.count() + kept.merged();
        let Plan { newlines, sources, .. } = *plan;
        Ok(Planned { rows, each: plan.rows_each(), newlines, sources, _hold: hold })
    }

    fn gather_kept(&mut self, x: &Size, kept: &Planned) -> Result<Size> {
        let rows = kept.rows * kept.each;
        match kept.sources {
            0 => self.pass(rows * x.cols),
            sources => {
                let number = self.footprint.activations().size();
                self.count(Kind::Other, cost::mix(kept.rows, sources, x.cols, number));
            }
        }
        Ok(self.buffer(rows, x.cols))
    }

    fn mix(&mut self, x: &Size, mix: &select::Mix) -> Result<Size> {
        let number = self.footprint.activations().size();
        self.count(Kind::Other, cost::mix(mix.rows(), mix.sources(), x.cols, number));
        let out = self.buffer(mix.rows(), x.cols);
        drop(self.footprint.mix_scratch(mix.rows(), mix.sources()).map(|bytes| self.hold(bytes)));
        Ok(out)
    }

    fn kept(&mut self, _: &Planned) -> Result<select::Kept> {
        Ok(select::Kept::of(Vec::new()))
    }

    fn scores(&mut self, _: &Planned) -> Result<select::Scores> {
        Ok(select::Scores::default())
    }
}

impl FastvOps for Counter {
    fn retain(
        &mut self,
        q: &Size,
        cache: &Cache,
        _: usize,
        batch: &Rows,
        among: Range<usize>,
        keep: usize,
    ) -> Result<Retained> {
        let (shape, rows) = (cache.shape, batch.batch.positions.len());
        let dropped = among.len() - keep;
        let hold = self.footprint.indices(rows - dropped).map(|bytes| self.hold(bytes));
        let heads = q.cols / shape.head_dim;
        drop(self.hold(self.footprint.retain_scratch(heads, rows, among.len())));
        let stored = self.footprint.cache_format().size();
        self.count(Kind::Scores, cost::last_row(rows, q.cols, shape, stored));
        Ok(Retained { rows: rows - dropped, _hold: hold })
    }

    fn gather_retained(&mut self, x: &Size, retained: &Retained) -> Result<Size> {
        self.pass(retained.rows * x.cols);
        Ok(self.buffer(retained.rows, x.cols))
    }

    fn retained_batch(&mut self, retained: &Retained, pages: Vec<u32>) -> Result<Rows> {
        let rows = retained.rows;
        let batch =
            Batch::new(Vec::new(), vec![Span { row: 0, rows, slot: 0, position: 0, pages }]);
        let hold = self.footprint.batch(&batch).map(|bytes| self.hold(bytes));
        Ok(Rows { batch, _hold: hold })
    }

    fn retained(&mut self, _: &Retained) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }
}
