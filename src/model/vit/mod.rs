//! The CLIP vision tower, run only as far and as wide as the kept patches need.
//!
//! Radford et al., "Learning transferable visual models from natural language supervision", 2021; pre-LayerNorm
//! blocks. Scores are what HiRED lives on: the class token's attention in two of the blocks.
//!
//! What is not computed, with the same numbers as a result: blocks after the features' layer (unless one of them
//! scores), everything but keys and values of unkept patches in the last block, layer 0's scores of sub-images.

mod survey;

pub use survey::Survey;

use super::{Loader, Progress, report};
use crate::Result;
use crate::config::{ModelConfig, VisionConfig};
use crate::image::{Normalization, Tiles};
use crate::ops::clock::Stage;
use crate::ops::{Extent, Linear, Norm, Ops};
use crate::select::Plan;

/// The vision tower's weights.
#[derive(Debug)]
pub struct Vit<W> {
    config: VisionConfig,
    feature_blocks: usize,
    class: W,
    position: W,
    patch: Linear<W>,
    pre_norm: Norm<W>,
    blocks: Vec<Block<W>>,
}

#[derive(Debug)]
struct Block<W> {
    norm1: Norm<W>,
    q: Linear<W>,
    k: Linear<W>,
    v: Linear<W>,
    out: Linear<W>,
    norm2: Norm<W>,
    fc1: Linear<W>,
    fc2: Linear<W>,
}

/// Which blocks score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreLayers {
    /// The block whose class attention in the full image scores content.
    pub init: usize,
    /// The block whose class attention ranks patches.
    pub last: usize,
}

impl ScoreLayers {
    /// Blocks that must be there to score what `plan` needs.
    pub fn blocks(self, plan: &Plan) -> usize {
        let (init, last) = self.needed(plan);
        init.max(last).map_or(0, |layer| layer + 1)
    }

    /// The blocks that score content and patches, as far as `plan` needs them.
    pub fn needed(self, plan: &Plan) -> (Option<usize>, Option<usize>) {
        let init = plan.needs_init().then_some(self.init);
        (init, plan.needs_final().then_some(self.last))
    }
}

/// What the tower makes of an image.
pub struct Encoded<O: Ops> {
    /// `[kept, D]`, partition after partition.
    pub features: O::Buffer,
    /// Which patches they are, and by which scores.
    pub kept: O::Kept,
}

/// How much of a block is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extents {
    /// All rows go on to the next block.
    Whole,
    /// The last block of the features: keys and values of all rows, the rest for kept rows.
    Kept,
    /// Only the class token's attention.
    Scores,
}

impl<W> Vit<W> {
    /// Takes the weights of the blocks that the features need; [`Vit::require`] takes more.
    pub fn load<O: Ops<Weight = W>>(
        config: &ModelConfig,
        from: &mut Loader<'_, O>,
    ) -> Result<Self> {
        let vision = &config.vision;
        let (width, patch) = (vision.hidden, vision.patch_size);
        let embeddings = "vision_tower.embeddings";
        let pixels = [width, 3, patch, patch];
        let mut vit = Self {
            config: vision.clone(),
            feature_blocks: config.feature_blocks,
            class: from.vector(&format!("{embeddings}.class_embedding"), &[width])?,
            position: from.vector(
                &format!("{embeddings}.position_embedding.weight"),
                &[vision.patches() + 1, width],
            )?,
            patch: Linear {
                weight: from.matrix(&format!("{embeddings}.patch_embedding.weight"), &pixels)?,
                bias: None,
            },
            pre_norm: from.norm("vision_tower.pre_layrnorm", width, vision.eps, true)?,
            blocks: Vec::new(),
        };
        vit.require(config.feature_blocks, from)?;
        Ok(vit)
    }

    /// Takes the weights of the first `blocks` blocks, as far as they are not there.
    pub fn require<O: Ops<Weight = W>>(
        &mut self,
        blocks: usize,
        from: &mut Loader<'_, O>,
    ) -> Result<()> {
        let VisionConfig { hidden, intermediate, eps, .. } = self.config;
        while self.blocks.len() < blocks {
            let name = format!("vision_tower.encoder.layers.{}", self.blocks.len());
            let attention = |part| format!("{name}.self_attn.{part}_proj");
            self.blocks.push(Block {
                norm1: from.norm(&format!("{name}.layer_norm1"), hidden, eps, true)?,
                q: from.linear(&attention("q"), hidden, hidden, true)?,
                k: from.linear(&attention("k"), hidden, hidden, true)?,
                v: from.linear(&attention("v"), hidden, hidden, true)?,
                out: from.linear(&attention("out"), hidden, hidden, true)?,
                norm2: from.norm(&format!("{name}.layer_norm2"), hidden, eps, true)?,
                fc1: from.linear(&format!("{name}.mlp.fc1"), intermediate, hidden, true)?,
                fc2: from.linear(&format!("{name}.mlp.fc2"), hidden, intermediate, true)?,
            });
        }
        Ok(())
    }

    /// Blocks that are there.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Features of the kept patches; the blocks that score must be there.
    pub fn encode<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        tiles: &Tiles,
        norm: &Normalization,
        plan: &Plan,
        layers: ScoreLayers,
        progress: &mut Progress<'_>,
    ) -> Result<Encoded<O>> {
        ops.enter(Stage::Vision)?;
        let (init_layer, last_layer) = layers.needed(plan);
        let blocks = self.feature_blocks.max(layers.blocks(plan));

        let mut x = self.embed(ops, tiles, norm)?;
        let (mut init, mut last) = (None, None);
        let mut features = None;
        for (layer, block) in self.blocks[..blocks].iter().enumerate() {
            let extents = if layer + 1 == blocks && layer >= self.feature_blocks {
                Extents::Scores
            } else if layer + 1 == blocks {
                Extents::Kept
            } else {
                Extents::Whole
            };
            if layer == self.feature_blocks {
                let rows: Vec<usize> = (0..x.rows()).collect();
                features = Some(ops.gather(&x, &rows)?);
            }

            ops.layer(Some(layer));
            let n = ops.layer_norm(&x, &block.norm1)?;
            let k = ops.linear(&n, &block.k, None)?;
            let q = match extents {
                Extents::Whole => Some(ops.linear(&n, &block.q, None)?),
                _ => None,
            };
            if init_layer == Some(layer) || last_layer == Some(layer) {
                let scores = |ops: &mut O, partitions| {
                    self.scores(ops, block, &n, q.as_ref(), &k, partitions)
                };
                if init_layer == Some(layer) {
                    init = Some(scores(ops, 1)?);
                }
                if last_layer == Some(layer) {
                    last = Some(scores(ops, tiles.partitions())?);
                }
            }
            if let Some(q) = q {
                let v = ops.linear(&n, &block.v, None)?;
                drop(n);
                let mixed =
                    ops.vision_attention(&q, &k, &v, self.config.heads, tiles.partitions(), None)?;
                drop((q, k, v));
                self.finish(ops, block, &mut x, mixed)?;
                report(progress, Stage::Vision, layer + 1, blocks)?;
                continue;
            }

            let kept = select(ops, plan, init, last)?;
            ops.layer(Some(layer));
            let features = match features {
                Some(features) => ops.gather_kept(&features, &kept)?,
                None => {
                    let v = ops.linear(&n, &block.v, None)?;
                    let kept_n = ops.gather_kept(&n, &kept)?;
                    drop(n);
                    let q = ops.linear(&kept_n, &block.q, None)?;
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
            report(progress, Stage::Vision, blocks, blocks)?;
            return Ok(Encoded { features, kept });
        }
        // No block at all: the features are the embeddings, nothing scores.
        let kept = select(ops, plan, None, None)?;
        let features = ops.gather_kept(&x, &kept)?;
        Ok(Encoded { features, kept })
    }

    /// Patches, class token and positions through the first norm: `[P·(T+1), D]`.
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
            ops.vision_tokens(&patches, &self.class, &self.position, tiles.partitions())?;
        drop(patches);
        ops.layer_norm(&tokens, &self.pre_norm)
    }

    /// Scores of the first `partitions` partitions; computes the class queries if `q` is not there.
    fn scores<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        block: &Block<W>,
        n: &O::Buffer,
        q: Option<&O::Buffer>,
        k: &O::Buffer,
        partitions: usize,
    ) -> Result<O::Scores> {
        let (heads, patches) = (self.config.heads, self.config.patches());
        if let Some(q) = q {
            return ops.cls_scores(q, patches + 1, k, heads, partitions, patches);
        }
        let class_rows: Vec<usize> = (0..partitions).map(|p| p * (patches + 1)).collect();
        let n = ops.gather(n, &class_rows)?;
        let q = ops.linear(&n, &block.q, None)?;
        ops.cls_scores(&q, 1, k, heads, partitions, patches)
    }

    /// The rest of a block after its attention: x += out(mixed), x += mlp(norm(x)).
    fn finish<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        block: &Block<W>,
        x: &mut O::Buffer,
        mixed: O::Buffer,
    ) -> Result<()> {
        ops.linear_add(x, &mixed, &block.out)?;
        drop(mixed);
        let n = ops.layer_norm(x, &block.norm2)?;
        let inner = ops.linear(&n, &block.fc1, Some(self.config.activation))?;
        drop(n);
        ops.linear_add(x, &inner, &block.fc2)
    }
}

/// Selects by scores that nothing else needs: what is kept holds their sums.
fn select<O: Ops>(
    ops: &mut O,
    plan: &Plan,
    init: Option<O::Scores>,
    last: Option<O::Scores>,
) -> Result<O::Kept> {
    ops.enter(Stage::Select)?;
    let kept = ops.select(plan, init.as_ref(), last.as_ref())?;
    ops.enter(Stage::Vision)?;
    Ok(kept)
}
