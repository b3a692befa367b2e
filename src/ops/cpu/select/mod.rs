//! The choice of visual rows before the decoder, by the pure functions of [`crate::select`].

mod fastv;

pub use fastv::Retained;

use super::{Buffer, Cpu, Kept, NUMBER, Scores};
use crate::ops::cost::{self, Cost};
use crate::ops::memory::Purpose;
use crate::ops::{Evidence, Extent, RowOps, SelectionOps};
use crate::{Result, select};

impl SelectionOps for Cpu {
    fn select(&mut self, plan: &select::Plan, evidence: Evidence<'_, Self>) -> Result<Kept> {
        let Evidence { init, last, queries, keys, features, projected, .. } = evidence;
        let looked_at =
            [init.map(|s| &s.rows), last.map(|s| &s.rows), queries, keys, features, projected];
        let read: usize = looked_at.into_iter().flatten().map(|x| x.data.len()).sum();
        self.timed(
            "select",
            || Cost::bytes(read * NUMBER),
            |cpu| {
                let _scratch =
                    cpu.meter.charge(Purpose::Workspace, plan.scratch(evidence.widths().widest()));
                let scores = |scores: Option<&Scores>, layer: Option<_>| match layer.and(scores) {
                    Some(scores) => scores.of(plan),
                    None => Vec::new(),
                };
                let needs = &plan.needs;
                let scores = select::Scores {
                    init: scores(init, needs.init),
                    last: scores(last, needs.last),
                };
                let seen = select::Evidence {
                    init: &scores.init,
                    last: &scores.last,
                    queries: matrix(queries),
                    keys: matrix(keys),
                    heads: evidence.heads,
                    features: matrix(features),
                    projected: matrix(projected),
                };
                let kept = select::choose(plan, &seen)?;
                Ok(Kept::new(&cpu.meter, plan, kept, scores))
            },
        )
    }

    fn recall(&mut self, plan: &select::Plan, kept: &select::Kept) -> Result<Kept> {
        Ok(Kept::new(&self.meter, plan, kept.clone(), select::Scores::default()))
    }

    fn gather_kept(&mut self, x: &Buffer, kept: &Kept) -> Result<Buffer> {
        match &kept.kept.mix {
            None => self.gather(x, &kept.rows),
            Some(mix) => self.mix(x, mix),
        }
    }

    fn mix(&mut self, x: &Buffer, mix: &select::Mix) -> Result<Buffer> {
        let cols = x.cols();
        self.timed(
            "mix",
            || cost::mix(mix.rows(), mix.sources(), cols, NUMBER),
            |cpu| {
                let mut out = cpu.buffer(mix.rows(), cols);
                mix.apply(&x.data, cols, &mut out.data);
                Ok(out)
            },
        )
    }

    fn kept(&mut self, kept: &Kept) -> Result<select::Kept> {
        Ok(kept.kept.clone())
    }

    fn scores(&mut self, kept: &Kept) -> Result<select::Scores> {
        Ok(kept.scores.clone())
    }
}

/// A buffer as the matrix type of the methods; empty where there is none.
fn matrix(x: Option<&Buffer>) -> select::Matrix<'_> {
    x.map_or_else(Default::default, |x| select::Matrix { numbers: &x.data, cols: x.cols() })
}
