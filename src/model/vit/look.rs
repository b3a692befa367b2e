//! What a selection looks at in a block: scores of its patches, and the queries of class tokens.

use super::{Seen, Vit};
use crate::Result;
use crate::ops::Ops;
use crate::select::Score;

impl<W> Vit<W> {
    /// Keeps the scores and class-token queries of a block that are needed. `n`: the block's normalised input.
    ///
    /// The queries are always computed in a product of their own, whatever else is needed. So a sweep gets the bits,
    /// and decides near ties, as a request alone does.
    pub(super) fn look<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        layer: usize,
        n: &O::Buffer,
        k: &O::Buffer,
        partitions: usize,
        seen: &mut Seen<O>,
    ) -> Result<()> {
        self.look_at_received(ops, layer, n, k, partitions, seen)?;
        let (heads, patches) = (self.config.heads, self.config.patches());
        let by_class = (layer, Score::Cls);
        if let Some(init) = seen.init.get_mut(&by_class) {
            let q = self.class_queries(ops, layer, n, 1)?;
            *init = Some(ops.cls_scores(&q, 1, k, heads, 1, patches)?);
        }
        let (last, keys) = (seen.last.get_mut(&by_class), seen.keys.get_mut(&layer));
        if last.is_none() && keys.is_none() {
            return Ok(());
        }
        let q = self.class_queries(ops, layer, n, partitions)?;
        if let Some(last) = last {
            *last = Some(ops.cls_scores(&q, 1, k, heads, partitions, patches)?);
        }
        if let Some(keys) = keys {
            keys.queries = Some(q);
        }
        Ok(())
    }

    /// Keeps scores of the other kind: the attention that each patch receives, as the mean over all queries of its
    /// partition (VisionZip's rule for towers without a class token). The scores of a partition, including a class
    /// token's, add up to the number of heads, as class-token attention does.
    fn look_at_received<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        layer: usize,
        n: &O::Buffer,
        k: &O::Buffer,
        partitions: usize,
        seen: &mut Seen<O>,
    ) -> Result<()> {
        let (heads, patches) = (self.config.heads, self.config.patches());
        let block = &self.blocks[layer];
        let by_all = (layer, Score::Received);
        if let Some(init) = seen.init.get_mut(&by_all) {
            let stride = patches + usize::from(self.class.is_some());
            let first: Vec<usize> = (0..stride).collect();
            let q = ops.gather(n, &first)?;
            let q = self.queries(ops, block, &q)?;
            *init = Some(ops.received_scores(&q, k, heads, 1, patches)?);
        }
        if let Some(last) = seen.last.get_mut(&by_all) {
            let q = self.queries(ops, block, n)?;
            *last = Some(ops.received_scores(&q, k, heads, partitions, patches)?);
        }
        Ok(())
    }

    /// Scores by the pooling head's query, behind the last block, of whose output `x` are all rows. SigLIP's pooled vector is
    /// attention with this query; what it does with the values is not computed.
    pub(super) fn look_by_head<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        x: &O::Buffer,
        partitions: usize,
        seen: &mut Seen<O>,
    ) -> Result<()> {
        let pooling = self.pooling.as_ref().expect("it was asked for before");
        ops.layer(None);
        let (heads, patches) = (self.config.heads, self.config.patches());
        let n = ops.layer_norm(x, &pooling.norm)?;
        let k = ops.linear(&n, &pooling.k, None)?;
        drop(n);
        let probe = ops.interleave(&pooling.probe, &[], &[0])?;
        let q = ops.linear(&probe, &pooling.q, None)?;
        drop(probe);
        let place = (self.config.layers, Score::Head);
        for (scores, partitions) in [(&mut seen.init, 1), (&mut seen.last, partitions)] {
            if let Some(scores) = scores.get_mut(&place) {
                *scores = Some(ops.probe_scores(&q, &k, heads, partitions, patches)?);
            }
        }
        Ok(())
    }

    /// Queries of the class tokens of the first `partitions` partitions, `[partitions, D]`.
    fn class_queries<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        layer: usize,
        n: &O::Buffer,
        partitions: usize,
    ) -> Result<O::Buffer> {
        let rows: Vec<usize> = (0..partitions).map(|p| p * (self.config.patches() + 1)).collect();
        let n = ops.gather(n, &rows)?;
        self.queries(ops, &self.blocks[layer], &n)
    }
}
