//! Attention on the counting executor.

use super::{Cache, Counter, Planned, Rows, Scores, Size};
use crate::Result;
use crate::config::Rope;
use crate::ops::AttentionOps;
use crate::ops::cost::{self, Kind};

impl Counter {
    /// One query of each partition, which looks at so many keys in all.
    fn scores_of_one(
        &mut self,
        keys: usize,
        width: usize,
        [partitions, heads, patches]: [usize; 3],
    ) -> Scores {
        self.count(Kind::Scores, cost::scores(keys, width, self.footprint.activations().size()));
        Scores { _hold: self.hold(self.footprint.scores(partitions, heads, patches)) }
    }
}

impl AttentionOps for Counter {
    fn cls_scores(
        &mut self,
        _: &Size,
        _: usize,
        k: &Size,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Scores> {
        Ok(self.scores_of_one(partitions * (patches + 1), k.cols, [partitions, heads, patches]))
    }

    fn probe_scores(
        &mut self,
        _: &Size,
        k: &Size,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Scores> {
        Ok(self.scores_of_one(partitions * patches, k.cols, [partitions, heads, patches]))
    }

    fn received_scores(
        &mut self,
        q: &Size,
        k: &Size,
        heads: usize,
        partitions: usize,
        patches: usize,
    ) -> Result<Scores> {
        let (tokens, activation) = (q.rows / partitions, self.footprint.activations().size());
        let cost = cost::received(q.rows, tokens, k.cols, activation);
        (0..self.footprint.received_passes()).for_each(|_| self.count(Kind::Scores, cost));
        let hold = self.hold(self.footprint.scores(partitions, heads, patches));
        let scratch = self.footprint.received_scratch(partitions * heads, tokens, k.cols / heads);
        drop(self.hold(scratch));
        Ok(Scores { _hold: hold })
    }

    fn vision_attention(
        &mut self,
        q: &Size,
        k: &Size,
        _: &Size,
        heads: usize,
        partitions: usize,
        _: Option<&Planned>,
    ) -> Result<Size> {
        let keys = k.rows / partitions;
        let out = self.buffer(q.rows, q.cols);
        let tasks = partitions * heads;
        let scratch = self.footprint.vision_scratch(tasks, keys, k.cols / heads);
        drop(scratch.map(|bytes| self.hold(bytes)));
        let bytes = self.footprint.activations().size() * 2 * (q.rows + k.rows) * q.cols;
        self.count(Kind::Attention, cost::attention(q.rows * keys, q.cols, bytes));
        Ok(out)
    }

    fn rope_append(
        &mut self,
        q: &mut Size,
        k: &mut Size,
        _: &Size,
        _: &mut Cache,
        _: usize,
        _: &Rows,
        _: &Rope,
    ) -> Result<()> {
        self.pass(q.rows * q.cols + 2 * k.rows * k.cols);
        Ok(())
    }

    fn attention(&mut self, q: &Size, cache: &Cache, _: usize, batch: &Rows) -> Result<Size> {
        let heads = q.cols / cache.shape.head_dim;
        let scratch = self.footprint.attention_scratch(cache.shape, heads, &batch.batch);
        Ok(self.attend(q, cache, batch, scratch, false))
    }

    fn step_attention(
        &mut self,
        q: &mut Size,
        k: &mut Size,
        _: &Size,
        cache: &mut Cache,
        _: usize,
        batch: &Rows,
        _: &Rope,
    ) -> Result<Size> {
        self.pass(q.rows * q.cols + 2 * k.rows * k.cols);
        let heads = q.cols / cache.shape.head_dim;
        let scratch = self.footprint.step_scratch(cache.shape, heads, &batch.batch);
        let coded = self.footprint.attention_leaves_codes(q.rows, q.cols, q.of_integers);
        Ok(self.attend(q, cache, batch, scratch, coded))
    }
}

impl Counter {
    /// Counts causal attention that needs `scratch` bytes beside its result. If `coded`, the result is also kept as int8.
    fn attend(
        &mut self,
        q: &Size,
        cache: &Cache,
        batch: &Rows,
        scratch: Option<usize>,
        coded: bool,
    ) -> Size {
        let (shape, spans) = (cache.shape, &batch.batch.spans);
        let out = self.coded_buffer(q.rows, q.cols, coded);
        drop(scratch.map(|bytes| self.hold(bytes)));
        let activation = self.footprint.activations().size();
        let stored = self.footprint.cache_format().size();
        self.count(Kind::Attention, cost::decoder(spans, q.cols, activation, shape, stored));
        out
    }
}
