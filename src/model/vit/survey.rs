//! An image seen once for many selections: features of every patch, scores of several blocks.

use super::{Encoded, ScoreLayers, Vit};
use crate::Result;
use crate::image::{Normalization, Tiles};
use crate::model::{Progress, report};
use crate::ops::clock::Stage;
use crate::ops::{Extent, Ops};
use crate::select::Plan;
use std::collections::{BTreeMap, BTreeSet};

/// What the tower makes of an image, whatever is kept of it.
pub struct Survey<O: Ops> {
    /// `[P·(T+1), D]`.
    features: O::Buffer,
    /// By block: of the full image.
    init: BTreeMap<usize, O::Scores>,
    /// By block: of all partitions.
    last: BTreeMap<usize, O::Scores>,
}

impl<W> Vit<W> {
    /// Features of every patch, and the scores that each of `selections` needs; the blocks that score must be there.
    pub fn survey<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        tiles: &Tiles,
        norm: &Normalization,
        selections: &[(&Plan, ScoreLayers)],
        progress: &mut Progress<'_>,
    ) -> Result<Survey<O>> {
        ops.enter(Stage::Vision)?;
        let partitions = tiles.partitions();
        let needed = || selections.iter().map(|(plan, layers)| layers.needed(plan));
        let init_layers: BTreeSet<usize> = needed().filter_map(|(init, _)| init).collect();
        let last_layers: BTreeSet<usize> = needed().filter_map(|(_, last)| last).collect();
        let scoring = selections.iter().map(|(plan, layers)| layers.blocks(plan)).max();
        let blocks = self.feature_blocks.max(scoring.unwrap_or(0));

        let mut x = self.embed(ops, tiles, norm)?;
        let (mut init, mut last) = (BTreeMap::new(), BTreeMap::new());
        let mut features = None;
        for (layer, block) in self.blocks[..blocks].iter().enumerate() {
            if layer == self.feature_blocks {
                let rows: Vec<usize> = (0..x.rows()).collect();
                features = Some(ops.gather(&x, &rows)?);
            }
            ops.layer(Some(layer));
            let n = ops.layer_norm(&x, &block.norm1)?;
            let k = ops.linear(&n, &block.k, None)?;
            let q = ops.linear(&n, &block.q, None)?;
            if init_layers.contains(&layer) {
                init.insert(layer, self.scores(ops, block, &n, Some(&q), &k, 1)?);
            }
            if last_layers.contains(&layer) {
                last.insert(layer, self.scores(ops, block, &n, Some(&q), &k, partitions)?);
            }
            let v = ops.linear(&n, &block.v, None)?;
            drop(n);
            let mixed = ops.vision_attention(&q, &k, &v, self.config.heads, partitions, None)?;
            drop((q, k, v));
            self.finish(ops, block, &mut x, mixed)?;
            report(progress, Stage::Vision, layer + 1, blocks)?;
        }
        Ok(Survey { features: features.unwrap_or(x), init, last })
    }
}

impl<O: Ops> Survey<O> {
    /// What encoding for this selection alone would give. It must be one of those surveyed for.
    pub fn select(&self, ops: &mut O, plan: &Plan, layers: ScoreLayers) -> Result<Encoded<O>> {
        ops.enter(Stage::Select)?;
        let (init, last) = layers.needed(plan);
        let init = init.and_then(|layer| self.init.get(&layer));
        let last = last.and_then(|layer| self.last.get(&layer));
        let kept = ops.select(plan, init, last)?;
        let features = ops.gather_kept(&self.features, &kept)?;
        Ok(Encoded { features, kept })
    }
}
