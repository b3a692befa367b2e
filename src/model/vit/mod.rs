//! The vision tower, computed only as far as the kept patches need it.
//!
//! CLIP (Radford et al., "Learning transferable visual models from natural language supervision", 2021) or SigLIP (Zhai
//! et al., "Sigmoid loss for language image pre-training", 2023) or InternViT (Chen et al., "InternVL: scaling up
//! vision foundation models and aligning for generic visual-linguistic tasks", 2024); with pre-LayerNorm blocks.
//! HiRED's scores are the attention of the class token in two of the blocks or, where there is no class token, the
//! attention that each patch receives.
//!
//! Work that cannot change the result is left out: blocks after the features' layer (unless a method uses one of them),
//! everything but keys and values of dropped patches in the last block (unless a method uses more than scores), and the
//! init scores of sub-images.

mod layers;
mod look;
mod survey;

pub use layers::{Layers, resolve};
pub use survey::Survey;

use super::{Loader, Progress, report};
use crate::Result;
use crate::checkpoint::{POOLING_ATTENTION, POOLING_PROBE};
use crate::config::{ModelConfig, VisionConfig};
use crate::image::{Normalization, Tiles};
use crate::ops::clock::Stage;
use crate::ops::{Evidence, Extent, Linear, Norm, Ops};
use crate::select::{Plan, Score};
use survey::Seen;

/// Epsilon of the norms of queries and keys, which no configuration file contains.
const QK_EPS: f32 = 1e-6;

/// The vision tower's weights.
#[derive(Debug)]
pub struct Vit<W> {
    config: VisionConfig,
    feature_blocks: usize,
    class: Option<W>,
    position: W,
    patch: Linear<W>,
    pre_norm: Option<Norm<W>>,
    blocks: Vec<Block<W>>,
    /// There once a method has asked for it.
    pooling: Option<Pooling<W>>,
}

/// What the tower's pooling head scores by.
#[derive(Debug)]
struct Pooling<W> {
    /// Of the last block's rows.
    norm: Norm<W>,
    /// Its learned query before the projection, `[1, D]`.
    probe: W,
    q: Linear<W>,
    k: Linear<W>,
}

#[derive(Debug)]
struct Block<W> {
    norm1: Norm<W>,
    q: Linear<W>,
    k: Linear<W>,
    v: Linear<W>,
    /// Norms of queries and keys over their whole width (InternViT).
    q_norm: Option<Norm<W>>,
    k_norm: Option<Norm<W>>,
    out: Linear<W>,
    /// Factors of the residuals that attention and MLP add (InternViT).
    scale1: Option<W>,
    scale2: Option<W>,
    norm2: Norm<W>,
    fc1: Linear<W>,
    fc2: Linear<W>,
}

/// The tower's result for an image.
pub struct Encoded<O: Ops> {
    /// `[kept, D]`, partition after partition, where a cell has its patches side by side; then the rows that the method
    /// adds, if any.
    pub features: O::Buffer,
    /// Whether the features have passed the projector already.
    pub projected: bool,
    /// The kept patches and their scores.
    pub kept: O::Kept,
    /// The partitions that were encoded, if not all; kept patches and scores belong to these.
    pub partitions: Option<Vec<usize>>,
    /// The full image's init scores, \[T\], if they were computed before the other partitions.
    pub init: Vec<f32>,
}

impl<O: Ops> Encoded<O> {
    fn of(features: O::Buffer, projected: bool, kept: O::Kept) -> Self {
        Self { features, projected, kept, partitions: None, init: Vec::new() }
    }
}

impl<W> Vit<W> {
    /// Loads the weights of the blocks that the features need; [`Vit::require`] loads more.
    pub fn load<O: Ops<Weight = W>>(
        config: &ModelConfig,
        from: &mut Loader<'_, O>,
    ) -> Result<Self> {
        let embeddings = "vision_tower.embeddings";
        let mut vit = Self {
            config: config.vision.clone(),
            feature_blocks: config.feature_blocks,
            class: match config.vision.class_token() {
                true => Some(from.vector(&format!("{embeddings}.class_embedding"))?),
                false => None,
            },
            position: from.vector(&format!("{embeddings}.position_embedding.weight"))?,
            patch: from.linear(&format!("{embeddings}.patch_embedding"))?,
            pre_norm: match config.vision.pre_norm() {
                true => Some(from.norm("vision_tower.pre_layrnorm", config.vision.eps)?),
                false => None,
            },
            blocks: Vec::new(),
            pooling: None,
        };
        vit.require(config.feature_blocks, from)?;
        Ok(vit)
    }

    /// Loads the weights of the first `blocks` blocks that are not loaded yet.
    pub fn require<O: Ops<Weight = W>>(
        &mut self,
        blocks: usize,
        from: &mut Loader<'_, O>,
    ) -> Result<()> {
        let eps = self.config.eps;
        while self.blocks.len() < blocks {
            let name = format!("vision_tower.encoder.layers.{}", self.blocks.len());
            let attention = |part| format!("{name}.self_attn.{part}_proj");
            self.blocks.push(Block {
                norm1: from.norm(&format!("{name}.layer_norm1"), eps)?,
                q: from.linear(&attention("q"))?,
                k: from.linear(&attention("k"))?,
                v: from.linear(&attention("v"))?,
                q_norm: from.norm_if_there(&format!("{name}.self_attn.q_norm"), QK_EPS)?,
                k_norm: from.norm_if_there(&format!("{name}.self_attn.k_norm"), QK_EPS)?,
                scale1: from.if_there(&format!("{name}.lambda_1"))?,
                scale2: from.if_there(&format!("{name}.lambda_2"))?,
                out: from.linear(&attention("out"))?,
                norm2: from.norm(&format!("{name}.layer_norm2"), eps)?,
                fc1: from.linear(&format!("{name}.mlp.fc1"))?,
                fc2: from.linear(&format!("{name}.mlp.fc2"))?,
            });
        }
        Ok(())
    }

    /// Takes the weights of the pooling head, if they are not there.
    pub fn require_pooling<O: Ops<Weight = W>>(&mut self, from: &mut Loader<'_, O>) -> Result<()> {
        if self.pooling.is_none() {
            let width = self.config.hidden;
            let mut project =
                |part: usize| from.packed(POOLING_ATTENTION, part * width..(part + 1) * width);
            let [q, k] = [project(0)?, project(1)?];
            let norm = from.norm("vision_tower.post_layernorm", self.config.eps)?;
            self.pooling = Some(Pooling { norm, probe: from.matrix(POOLING_PROBE)?, q, k });
        }
        Ok(())
    }

    /// Whether a selection that looks there finds what it needs.
    pub fn has(&self, layers: Layers) -> bool {
        layers.blocks() <= self.blocks.len() && (self.pooling.is_some() || !layers.by_head())
    }

    /// Features of the kept patches, for a plan that needs scores only. The blocks of the scores must be loaded.
    pub fn encode<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        tiles: &Tiles,
        norm: &Normalization,
        plan: &Plan,
        layers: Layers,
        progress: &mut Progress<'_, O>,
    ) -> Result<Encoded<O>> {
        ops.enter(Stage::Vision)?;
        let blocks = self.feature_blocks.max(layers.blocks());
        let mut seen = Seen::of([layers]);
        let mut x = self.embed(ops, tiles, norm)?;
        let Some(last) = blocks.checked_sub(1) else {
            // Without any block, the features are the embeddings, and there are no scores.
            let kept = select(ops, plan, Evidence::default())?;
            let features = ops.gather_kept(&x, &kept)?;
            let features = ops.join(features, plan.rows_each());
            return Ok(Encoded::of(features, false, kept));
        };
        let mut features = None;
        for layer in 0..last {
            self.note_features(ops, layer, &x, &mut features)?;
            self.whole(ops, layer, &mut x, tiles.partitions(), &mut seen)?;
            report(progress, ops, &mut [], Stage::Vision, layer + 1, blocks)?;
        }
        self.note_features(ops, last, &x, &mut features)?;

        // The last block: keys and values of all rows, and the rest for kept rows; or only the class token's attention.
        ops.layer(Some(last));
        let block = &self.blocks[last];
        let n = ops.layer_norm(&x, &block.norm1)?;
        let k = self.keys(ops, block, &n)?;
        self.look(ops, last, &n, &k, tiles.partitions(), &mut seen)?;
        let kept = select(ops, plan, seen.scores(layers))?;
        drop(seen);
        ops.layer(Some(last));
        let features = match features {
            Some(features) => ops.gather_kept(&features, &kept)?,
            None => {
                let v = ops.linear(&n, &block.v, None)?;
                let kept_n = ops.gather_kept(&n, &kept)?;
                drop(n);
                let q = self.queries(ops, block, &kept_n)?;
                drop(kept_n);
                let mixed = ops.vision_attention(
                    &q,
                    &k,
                    &v,
                    self.config.heads,
                    tiles.partitions(),
                    Some(&kept),
                )?;
                drop((q, k, v));
                let mut kept_x = ops.gather_kept(&x, &kept)?;
                drop(x);
                self.finish(ops, block, &mut kept_x, mixed)?;
                kept_x
            }
        };
        report(progress, ops, &mut [], Stage::Vision, blocks, blocks)?;
        let features = ops.join(features, plan.rows_each());
        Ok(Encoded::of(features, false, kept))
    }

    /// Class-token attention of a block in the full image, the only partition of `tiles`; nothing behind it is
    /// computed.
    pub fn glance<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        tiles: &Tiles,
        norm: &Normalization,
        block: usize,
    ) -> Result<O::Scores> {
        ops.enter(Stage::Vision)?;
        let mut seen = Seen::of([Layers { last: Some(block), ..Layers::default() }]);
        let mut x = self.embed(ops, tiles, norm)?;
        for layer in 0..block {
            self.whole(ops, layer, &mut x, 1, &mut seen)?;
        }
        ops.layer(Some(block));
        let n = ops.layer_norm(&x, &self.blocks[block].norm1)?;
        drop(x);
        let k = self.keys(ops, &self.blocks[block], &n)?;
        self.look(ops, block, &n, &k, 1, &mut seen)?;
        Ok(seen
            .last
            .remove(&(block, Score::Cls))
            .flatten()
            .expect("the block has just been looked at"))
    }

    /// Copies the features, if `x` is their layer's output and further blocks follow.
    fn note_features<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        layer: usize,
        x: &O::Buffer,
        features: &mut Option<O::Buffer>,
    ) -> Result<()> {
        if layer == self.feature_blocks {
            let rows: Vec<usize> = (0..x.rows()).collect();
            *features = Some(ops.gather(x, &rows)?);
        }
        Ok(())
    }

    /// Runs a block for all rows, and keeps the evidence that is needed from it.
    fn whole<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        layer: usize,
        x: &mut O::Buffer,
        partitions: usize,
        seen: &mut Seen<O>,
    ) -> Result<()> {
        ops.layer(Some(layer));
        let block = &self.blocks[layer];
        let n = ops.layer_norm(x, &block.norm1)?;
        let [mut q, mut k, v] = ops.linears(&n, [&block.q, &block.k, &block.v])?;
        for (x, norm) in [(&mut q, &block.q_norm), (&mut k, &block.k_norm)] {
            norm.as_ref().map_or(Ok(()), |norm| ops.head_norm(x, norm))?;
        }
        self.look(ops, layer, &n, &k, partitions, seen)?;
        drop(n);
        let mixed = ops.vision_attention(&q, &k, &v, self.config.heads, partitions, None)?;
        drop((q, v));
        seen.keep_keys(layer, k);
        self.finish(ops, block, x, mixed)
    }

    /// Queries of some rows of a block's normalised input.
    fn queries<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        block: &Block<W>,
        n: &O::Buffer,
    ) -> Result<O::Buffer> {
        let mut q = ops.linear(n, &block.q, None)?;
        block.q_norm.as_ref().map_or(Ok(()), |norm| ops.head_norm(&mut q, norm))?;
        Ok(q)
    }

    /// Keys of some rows of a block's normalised input.
    fn keys<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        block: &Block<W>,
        n: &O::Buffer,
    ) -> Result<O::Buffer> {
        let mut k = ops.linear(n, &block.k, None)?;
        block.k_norm.as_ref().map_or(Ok(()), |norm| ops.head_norm(&mut k, norm))?;
        Ok(k)
    }

    /// Embeds the pixels: patches, class token and positions, then the first norm: `[P·(T+1), D]`.
    fn embed<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        tiles: &Tiles,
        norm: &Normalization,
    ) -> Result<O::Buffer> {
        let pixels = ops.patches(tiles, norm, self.config.patch_size)?;
        let patches = ops.linear(&pixels, &self.patch, None)?;
        drop(pixels);
        let tokens =
            ops.vision_tokens(&patches, self.class.as_ref(), &self.position, tiles.partitions())?;
        drop(patches);
        match &self.pre_norm {
            Some(norm) => ops.layer_norm(&tokens, norm),
            None => Ok(tokens),
        }
    }

    /// The rest of a block after its attention: x += λ₁ ⊙ out(mixed), x += λ₂ ⊙ mlp(norm(x)), where there are factors λ.
    fn finish<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        block: &Block<W>,
        x: &mut O::Buffer,
        mixed: O::Buffer,
    ) -> Result<()> {
        add(ops, x, &mixed, &block.out, block.scale1.as_ref())?;
        drop(mixed);
        let n = ops.layer_norm(x, &block.norm2)?;
        let inner = ops.linear(&n, &block.fc1, Some(self.config.activation))?;
        drop(n);
        add(ops, x, &inner, &block.fc2, block.scale2.as_ref())
    }
}

/// sum += scale ⊙ layer(x), or without the factors where there are none.
fn add<O: Ops>(
    ops: &mut O,
    sum: &mut O::Buffer,
    x: &O::Buffer,
    layer: &Linear<O::Weight>,
    scale: Option<&O::Weight>,
) -> Result<()> {
    match scale {
        None => ops.linear_add(sum, x, layer),
        Some(scale) => {
            let more = ops.linear(x, layer, None)?;
            ops.scaled_add(sum, &more, scale)
        }
    }
}

/// Selects, timed as a stage of its own.
fn select<O: Ops>(ops: &mut O, plan: &Plan, evidence: Evidence<'_, O>) -> Result<O::Kept> {
    ops.enter(Stage::Select)?;
    let kept = ops.select(plan, evidence)?;
    ops.enter(Stage::Vision)?;
    Ok(kept)
}
