//! The survey of an image: features of every patch, scores and keys of several blocks, for any number of selections.

use super::{Encoded, Layers, Vit};
use crate::Result;
use crate::image::{Normalization, Tiles};
use crate::model::{Progress, report};
use crate::ops::clock::Stage;
use crate::ops::{Evidence, Ops};
use crate::select::{Plan, Score};
use std::collections::BTreeMap;

/// The evidence of several selections, by block and kind of score. Each is `Some` once its block has run.
pub(super) struct Seen<O: Ops> {
    /// Scores of the full image.
    pub init: BTreeMap<(usize, Score), Option<O::Scores>>,
    /// Scores of all partitions.
    pub last: BTreeMap<(usize, Score), Option<O::Scores>>,
    pub keys: BTreeMap<usize, Keys<O>>,
}

/// Keys and class-token queries of one block.
pub(super) struct Keys<O: Ops> {
    /// `[P, D]`, of the class tokens.
    pub queries: Option<O::Buffer>,
    /// `[P·(T+1), D]`.
    pub keys: Option<O::Buffer>,
}

impl<O: Ops> Seen<O> {
    /// Empty evidence for the needs of these selections.
    pub fn of(selections: impl IntoIterator<Item = Layers>) -> Self {
        let (mut init, mut last, mut keys) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for layers in selections {
            let by = layers.score;
            init.extend(layers.init.map(|layer| ((layer, by), None)));
            last.extend(layers.last.map(|layer| ((layer, by), None)));
            keys.extend(layers.keys.map(|layer| (layer, Keys { queries: None, keys: None })));
        }
        Self { init, last, keys }
    }

    /// Keeps a block's keys if a selection needs them.
    pub fn keep_keys(&mut self, layer: usize, k: O::Buffer) {
        if let Some(keys) = self.keys.get_mut(&layer) {
            keys.keys = Some(k);
        }
    }

    /// The evidence of one selection.
    pub fn scores(&self, layers: Layers) -> Evidence<'_, O> {
        fn find<K: Ord, T>(seen: &BTreeMap<K, Option<T>>, at: Option<K>) -> Option<&T> {
            seen.get(&at?)?.as_ref()
        }
        let by = |layer: Option<usize>| layer.map(|layer| (layer, layers.score));
        let keys = layers.keys.and_then(|layer| self.keys.get(&layer));
        Evidence {
            init: find(&self.init, by(layers.init)),
            last: find(&self.last, by(layers.last)),
            queries: keys.and_then(|keys| keys.queries.as_ref()),
            keys: keys.and_then(|keys| keys.keys.as_ref()),
            ..Evidence::default()
        }
    }
}

/// The tower's result for an image before any selection.
pub struct Survey<O: Ops> {
    /// `[P·(T+1), D]`.
    pub features: O::Buffer,
    /// `[P·T, 4·D]`: the features of each token's patches side by side, where four patches make a token and a selection
    /// needs them.
    pub cells: Option<O::Buffer>,
    /// `[V, H]`: the projected valid patches, if a selection compares them or takes its rows from them.
    pub projected: Option<O::Buffer>,
    seen: Seen<O>,
    heads: usize,
}

impl<W> Vit<W> {
    /// Features of every patch, and the evidence of `selections`. The blocks that they need must be loaded.
    pub fn survey<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        tiles: &Tiles,
        norm: &Normalization,
        selections: &[Layers],
        progress: &mut Progress<'_, O>,
    ) -> Result<Survey<O>> {
        ops.enter(Stage::Vision)?;
        let partitions = tiles.partitions();
        let looked_at = selections.iter().map(Layers::blocks).max();
        let blocks = self.feature_blocks.max(looked_at.unwrap_or(0));
        let by_head = selections.iter().any(Layers::by_head);
        let mut seen = Seen::of(selections.iter().copied());
        let mut x = self.embed(ops, tiles, norm)?;
        let mut features = None;
        for layer in 0..blocks {
            self.note_features(ops, layer, &x, &mut features)?;
            if layer + 1 == blocks && layer >= self.feature_blocks && !by_head {
                // Only its scores and keys are needed.
                ops.layer(Some(layer));
                let block = &self.blocks[layer];
                let n = ops.layer_norm(&x, &block.norm1)?;
                let k = self.keys(ops, block, &n)?;
                self.look(ops, layer, &n, &k, partitions, &mut seen)?;
                seen.keep_keys(layer, k);
            } else {
                self.whole(ops, layer, &mut x, partitions, &mut seen)?;
            }
            report(progress, ops, &mut [], Stage::Vision, layer + 1, blocks)?;
        }
        if by_head {
            self.look_by_head(ops, &x, partitions, &mut seen)?;
        }
        let features = features.unwrap_or(x);
        Ok(Survey { features, cells: None, projected: None, seen, heads: self.config.heads })
    }
}

impl<O: Ops> Survey<O> {
    /// The result of encoding for this selection alone. It must be one of the selections of the survey.
    pub fn select(&self, ops: &mut O, plan: &Plan, layers: Layers) -> Result<Encoded<O>> {
        ops.enter(Stage::Select)?;
        let needs = &plan.needs;
        let projected = self.projected.as_ref().filter(|_| plan.from_projected());
        let evidence = Evidence {
            heads: self.heads,
            features: needs.features.then_some(self.cells.as_ref().unwrap_or(&self.features)),
            projected: projected.filter(|_| needs.projected),
            ..self.seen.scores(layers)
        };
        let kept = ops.select(plan, evidence)?;
        let features = ops.gather_kept(projected.unwrap_or(&self.features), &kept)?;
        let features = ops.join(features, plan.rows_each());
        Ok(Encoded::of(features, projected.is_some(), kept))
    }
}
