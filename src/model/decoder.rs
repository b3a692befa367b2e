//! The decoder over a paged KV cache: LLaMA's (Touvron et al. 2023), and variants of it that are described by
//! [`TextConfig`]: Mistral (Jiang et al. 2023), Qwen2 and Qwen3 (Yang et al. 2024, 2025), Phi-3 (Abdin et al. 2024);
//! and blocks whose MLP stands beside the attention: Phi-2 (Li et al. 2023).

use super::{Loader, Progress, report};
use crate::Result;
use crate::config::{Activation, ModelConfig, TextConfig};
use crate::ops::clock::Stage;
use crate::ops::{Extent, Layered, Linear, Norm, Ops};
use std::ops::Range;

/// The decoder's weights.
#[derive(Debug)]
pub struct Decoder<W> {
    config: TextConfig,
    /// `[vocabulary, width]`; with tied weights also the output head.
    embedding: Linear<W>,
    blocks: Vec<Block<W>>,
    norm: Norm<W>,
    head: Option<Linear<W>>,
}

#[derive(Debug)]
struct Block<W> {
    input_norm: Norm<W>,
    q: Linear<W>,
    k: Linear<W>,
    v: Linear<W>,
    /// RMSNorms of each query head and of each key head, before the rotary embedding.
    head_norms: Option<[Norm<W>; 2]>,
    out: Linear<W>,
    mlp: Mlp<W>,
}

/// A block's MLP.
#[derive(Debug)]
enum Mlp<W> {
    /// x += down(silu(gate(n)) ⊙ up(n)), where n is the norm of x behind the attention.
    Behind { norm: Norm<W>, gate: Linear<W>, up: Linear<W>, down: Linear<W> },
    /// x += second(gelu(first(n))), where n is what the attention has of x too.
    Beside { first: Linear<W>, second: Linear<W> },
}

const BESIDE: Option<Activation> = Some(Activation::GeluTanh);

/// How FastV drops rows of a prompt: by the attention of the last layer that all rows pass (the last layer of the last
/// group with a batch). The rest of that layer is computed for the retained rows only.
#[derive(Debug, Clone)]
pub struct Thinning {
    /// Rows among which some are dropped.
    pub among: Range<usize>,
    /// Number of those rows that are retained.
    pub keep: usize,
    /// The sequence's pages in the caches of the later groups.
    pub pages: Vec<Vec<u32>>,
}

/// The result of a pass through the decoder.
pub struct Forwarded<O: Ops> {
    /// `[rows, vocabulary]`.
    pub logits: O::Buffer,
    /// The retained rows, if some were dropped.
    pub retained: Option<O::Retained>,
}

impl<W> Decoder<W> {
    /// Loads the weights.
    pub fn load<O: Ops<Weight = W>>(
        config: &ModelConfig,
        from: &mut Loader<'_, O>,
    ) -> Result<Self> {
        let text = &config.text;
        let (queries, keys) = (text.heads * text.head_dim, text.kv_heads * text.head_dim);
        let mut embedding = from.linear("language_model.embed_tokens")?;
        let head = match text.tied {
            true => {
                embedding.bias = from.bias("lm_head", None)?;
                None
            }
            false => Some(from.linear("lm_head")?),
        };
        let mut blocks = Vec::with_capacity(text.layers);
        for layer in 0..text.layers {
            let name = format!("language_model.layers.{layer}");
            let attention = |part| format!("{name}.self_attn.{part}_proj");
            let mlp = |part| format!("{name}.mlp.{part}_proj");
            let mut norm = |part: &str| from.norm(&format!("{name}.{part}"), text.eps);
            let head_norms = match text.head_norm {
                true => Some([norm("self_attn.q_norm")?, norm("self_attn.k_norm")?]),
                false => None,
            };
            let input_norm = norm("input_layernorm")?;
            let post_norm = match text.parallel {
                true => None,
                false => Some(norm("post_attention_layernorm")?),
            };
            let parts = [("q", queries), ("k", keys), ("v", keys)];
            let [q, k, v] =
                from.linears(&attention("qkv"), parts.map(|(part, rows)| (attention(part), rows)))?;
            let (out, mlp) = match post_norm {
                Some(norm) => {
                    let parts = ["gate", "up"].map(|part| (mlp(part), text.intermediate));
                    let [gate, up] = from.linears(&mlp("gate_up"), parts)?;
                    let (out, down) = (from.linear(&attention("o"))?, from.linear(&mlp("down"))?);
                    (out, Mlp::Behind { norm, gate, up, down })
                }
                None => {
                    let out = from.linear(&format!("{name}.self_attn.dense"))?;
                    let first = from.linear(&format!("{name}.mlp.fc1"))?;
                    (out, Mlp::Beside { first, second: from.linear(&format!("{name}.mlp.fc2"))? })
                }
            };
            blocks.push(Block { input_norm, q, k, v, head_norms, out, mlp });
        }
        let norm = match text.parallel {
            true => "language_model.final_layernorm",
            false => "language_model.norm",
        };
        let norm = from.norm(norm, text.eps)?;
        Ok(Self { config: text.clone(), embedding, blocks, norm, head })
    }

    /// The embedding table, `[vocabulary, width]`.
    pub fn embedding(&self) -> &W {
        &self.embedding.weight
    }

    /// The first products of the first block's MLP on `[rows, width]`: a piece of real work to measure a machine by.
    pub fn probe<O: Ops<Weight = W>>(&self, ops: &mut O, x: &O::Buffer) -> Result<O::Buffer> {
        match &self.blocks[0].mlp {
            Mlp::Behind { norm, gate, up, .. } => ops.normed_swiglu(x, norm, gate, up),
            Mlp::Beside { first, .. } => ops.linear(x, first, BESIDE),
        }
    }

    /// Logits from rows of embeddings `[rows, width]`: `[rows, vocabulary]`, or with `last_only` `[1, vocabulary]` for
    /// the last row, which is then the only one computed after the last attention.
    ///
    /// The caches divide all layers into consecutive groups; a group's keys and values go into its cache. There is a
    /// batch for each cache, or with `thinning` for each one before the drop.
    #[allow(clippy::too_many_arguments)]
    pub fn forward<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        mut x: O::Buffer,
        caches: &mut [O::Cache],
        batches: &[O::Batch],
        thinning: Option<&Thinning>,
        last_only: bool,
        stage: Stage,
        progress: &mut Progress<'_, O>,
    ) -> Result<Forwarded<O>> {
        let mut retained = None;
        let mut thinned = Vec::new();
        let mut blocks = self.blocks.iter().enumerate();
        for group in 0..caches.len() {
            let layers = caches[group].layers();
            for (index, (layer, block)) in blocks.by_ref().take(layers).enumerate() {
                let batch = match batches.get(group) {
                    Some(batch) => batch,
                    None => &thinned[group - batches.len()],
                };
                let cache = &mut caches[group];
                ops.layer(Some(layer));
                let products = [&block.q, &block.k, &block.v];
                // What attention and MLP have of x where they stand beside each other.
                let mut shared = match &block.mlp {
                    Mlp::Behind { .. } => None,
                    Mlp::Beside { .. } => Some(ops.layer_norm(&x, &block.input_norm)?),
                };
                let [mut q, mut k, v] = match &shared {
                    Some(n) => ops.linears(n, products)?,
                    None => ops.normed_linear(&x, &block.input_norm, products)?,
                };
                if let Some([of_queries, of_keys]) = &block.head_norms {
                    ops.head_norm(&mut q, of_queries)?;
                    ops.head_norm(&mut k, of_keys)?;
                }
                let rope = &self.config.rope;
                let mut mixed = if stage == Stage::Decode {
                    let mixed =
                        ops.step_attention(&mut q, &mut k, &v, cache, index, batch, rope)?;
                    drop((k, v));
                    mixed
                } else {
                    ops.rope_append(&mut q, &mut k, &v, cache, index, batch, rope)?;
                    // Freed first, so that the result of a long prompt's attention can use their memory.
                    drop((k, v));
                    ops.attention(&q, cache, index, batch)?
                };
                let drops = (group + 1, index + 1) == (batches.len(), layers);
                let thinning = thinning.filter(|_| drops);
                let rows = thinning
                    .map(|t| ops.retain(&q, cache, index, batch, t.among.clone(), t.keep))
                    .transpose()?;
                drop(q);
                if let Some((thinning, rows)) = thinning.zip(rows) {
                    mixed = ops.gather_retained(&mixed, &rows)?;
                    x = ops.gather_retained(&x, &rows)?;
                    shared = shared.map(|n| ops.gather_retained(&n, &rows)).transpose()?;
                    for pages in &thinning.pages {
                        thinned.push(ops.retained_batch(&rows, pages.clone())?);
                    }
                    retained = Some(rows);
                }
                if last_only && layer + 1 == self.blocks.len() && x.rows() > 1 {
                    let last = [x.rows() - 1];
                    mixed = ops.gather(&mixed, &last)?;
                    x = ops.gather(&x, &last)?;
                    shared = shared.map(|n| ops.gather(&n, &last)).transpose()?;
                }
                ops.linear_add(&mut x, &mixed, &block.out)?;
                drop(mixed);
                match (&block.mlp, shared) {
                    (Mlp::Behind { norm, gate, up, down }, _) => {
                        let inner = ops.normed_swiglu(&x, norm, gate, up)?;
                        ops.linear_add(&mut x, &inner, down)?;
                    }
                    (Mlp::Beside { first, second }, Some(n)) => {
                        let inner = ops.linear(&n, first, BESIDE)?;
                        drop(n);
                        ops.linear_add(&mut x, &inner, second)?;
                    }
                    (Mlp::Beside { .. }, None) => unreachable!("made before the attention"),
                }
                report(progress, ops, caches, stage, layer + 1, self.blocks.len())?;
            }
        }
        ops.layer(None);
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        let logits = match self.config.parallel {
            true => {
                let n = ops.layer_norm(&x, &self.norm)?;
                drop(x);
                ops.logits(&n, None, head)?
            }
            false => ops.logits(&x, Some(&self.norm), head)?,
        };
        Ok(Forwarded { logits, retained })
    }
}
