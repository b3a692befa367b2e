//! What each case prepares and runs, for any executor, so that the work that is timed can also be counted.

use super::cases::{Case, Kind, PARTITIONS};
use super::data::Data;
use hired::Result;
use hired::config::{Rope, RopeScaling};
use hired::image::Normalization;
use hired::kv;
use hired::ops::sample::Sampling;
use hired::ops::{Evidence, Linear, Norm, Ops, Span, Storage, Visual};
use hired::select::Method;

/// The operands of a case.
pub struct Held<O: Ops> {
    buffers: Vec<O::Buffer>,
    scores: Vec<O::Scores>,
    linears: Vec<Linear<O::Weight>>,
    norms: Vec<Norm<O::Weight>>,
    weights: Vec<O::Weight>,
    cache: Option<O::Cache>,
    batch: Option<O::Batch>,
    kept: Option<O::Kept>,
    /// The weights that rows were taken from; kept, so that the memory counted here is that of the whole case.
    _tables: Vec<O::Weight>,
}

/// Makes operands on an executor.
struct Maker<'a, O: Ops> {
    ops: &'a mut O,
    data: &'a Data,
    tables: Vec<O::Weight>,
}

impl<O: Ops> Maker<'_, O> {
    fn rows(&mut self, rows: usize, cols: usize) -> Result<O::Buffer> {
        let (table, ids) = self.data.table(rows, cols)?;
        let table = self.ops.upload(&table, Storage::Matrix)?;
        let rows = self.ops.interleave(&table, &[], &ids);
        self.tables.push(table);
        rows
    }

    fn matrix(&mut self, rows: usize, cols: usize) -> Result<O::Weight> {
        self.ops.upload(&self.data.tensor(&[rows, cols])?, Storage::Matrix)
    }

    fn vector(&mut self, cols: usize) -> Result<O::Weight> {
        self.ops.upload(&self.data.tensor(&[cols])?, Storage::Vector)
    }

    fn linear(&mut self, from: usize, to: usize, bias: bool) -> Result<Linear<O::Weight>> {
        let weight = self.ops.upload(&self.data.weight(&[to, from])?, Storage::Matrix)?;
        let bias = bias.then(|| self.vector(to)).transpose()?;
        Ok(Linear { weight, bias })
    }

    fn norm(&mut self, cols: usize, bias: bool) -> Result<Norm<O::Weight>> {
        let weight = self.vector(cols)?;
        let bias = bias.then(|| self.vector(cols)).transpose()?;
        Ok(Norm { weight, bias, eps: 1e-5 })
    }
}

fn span(row: usize, rows: usize, slot: usize, first_page: usize) -> Span {
    let pages = kv::pages_for(slot + rows);
    let pages = (first_page..first_page + pages).map(|page| page as u32).collect();
    Span { row, rows, slot, position: slot, pages }
}

impl Case {
    /// Prepares the operands; not timed.
    pub fn prepare<O: Ops>(&self, ops: &mut O, data: &Data) -> Result<Held<O>> {
        let model = self.model;
        let mut held = Held {
            buffers: Vec::new(),
            scores: Vec::new(),
            linears: Vec::new(),
            norms: Vec::new(),
            weights: Vec::new(),
            cache: None,
            batch: None,
            kept: None,
            _tables: Vec::new(),
        };
        let mut make = Maker { ops, data, tables: Vec::new() };
        match self.kind {
            Kind::Patches => {}
            Kind::Tokens => {
                held.buffers.push(make.rows(PARTITIONS * model.patches(), model.vision)?);
                held.weights.push(make.vector(model.vision)?);
                let positions = data.tensor(&[model.patches() + 1, model.vision])?;
                held.weights.push(make.ops.upload(&positions, Storage::Vector)?);
            }
            Kind::LayerNorm => {
                held.buffers.push(make.rows(model.rows(), model.vision)?);
                held.norms.push(make.norm(model.vision, true)?);
            }
            Kind::Linear { rows, from, to, bias, .. } => {
                held.buffers.push(make.rows(rows, from)?);
                held.linears.push(make.linear(from, to, bias)?);
            }
            Kind::Linears { rows } => {
                held.buffers.push(make.rows(rows, model.vision)?);
                for _ in 0..3 {
                    held.linears.push(make.linear(model.vision, model.vision, true)?);
                }
            }
            Kind::LinearAdd { rows, from, to, bias } => {
                held.buffers.push(make.rows(rows, to)?);
                held.buffers.push(make.rows(rows, from)?);
                held.linears.push(make.linear(from, to, bias)?);
            }
            Kind::Normed { rows } | Kind::Swiglu { rows } | Kind::Logits { rows } => {
                held.buffers.push(make.rows(rows, model.width)?);
                held.norms.push(make.norm(model.width, false)?);
                let (count, to) = match self.kind {
                    Kind::Normed { .. } => (3, model.width),
                    Kind::Swiglu { .. } => (2, model.inner),
                    _ => (1, model.vocabulary),
                };
                for _ in 0..count {
                    held.linears.push(make.linear(model.width, to, false)?);
                }
            }
            Kind::Scores { .. } => held.buffers.push(make.rows(model.rows(), model.vision)?),
            Kind::Select | Kind::GatherKept | Kind::VisionAttention { .. } | Kind::Interleave => {
                let x = make.rows(model.rows(), model.vision)?;
                let (heads, patches) = (model.vision_heads, model.patches());
                let stride = patches + 1;
                for partitions in [1, PARTITIONS] {
                    let scores = make.ops.cls_scores(&x, stride, &x, heads, partitions, patches)?;
                    held.scores.push(scores);
                }
                let [init, last] = [&held.scores[0], &held.scores[1]];
                let kept = make.ops.select(
                    &model.plan(Method::Hired)?,
                    Evidence { init: Some(init), last: Some(last), ..Evidence::default() },
                )?;
                held.buffers.push(make.ops.gather_kept(&x, &kept)?);
                held.buffers.push(x);
                if matches!(self.kind, Kind::Interleave) {
                    held.buffers.push(make.rows(patches, model.width)?);
                    held.weights.push(make.matrix(60, model.width)?);
                    held.weights.push(make.vector(model.width)?);
                }
                held.kept = Some(kept);
            }
            Kind::Choose(_) => {
                let x = make.rows(model.rows(), model.vision)?;
                let (heads, patches) = (model.vision_heads, model.patches());
                for partitions in [1, PARTITIONS] {
                    let scores =
                        make.ops.cls_scores(&x, patches + 1, &x, heads, partitions, patches)?;
                    held.scores.push(scores);
                }
                held.buffers.push(make.rows(PARTITIONS, model.vision)?);
                held.buffers.push(make.rows(PARTITIONS * patches, model.width)?);
                held.buffers.push(x);
            }
            Kind::Rope { rows } | Kind::Prefill { rows } => {
                for _ in 0..3 {
                    held.buffers.push(make.rows(rows, model.width)?);
                }
                let cache = make.ops.cache(self.cache(1, rows))?;
                held.batch = Some(make.ops.batch(&cache, Vec::new(), vec![span(0, rows, 0, 0)])?);
                held.cache = Some(cache);
                self.append(make.ops, &mut held)?;
            }
            Kind::Decode { sequences, context } => {
                self.sequences(&mut make, &mut held, sequences, context)?;
            }
            Kind::Embed { sequences } => {
                held.weights.push(make.matrix(model.vocabulary, model.width)?);
                let cache = make.ops.cache(self.cache(sequences, 1))?;
                let spans = (0..sequences).map(|row| span(row, 1, 0, row)).collect();
                let tokens = (0..sequences as u32).map(|row| row * 7 + 3).collect();
                held.batch = Some(make.ops.batch(&cache, tokens, spans)?);
                held.cache = Some(cache);
            }
            Kind::Sample { sequences, .. } => {
                let x = make.rows(sequences, model.width)?;
                let norm = make.norm(model.width, false)?;
                let head = make.linear(model.width, model.vocabulary, false)?;
                held.buffers.push(make.ops.logits(&x, Some(&norm), &head)?);
            }
        }
        held._tables = make.tables;
        Ok(held)
    }

    fn cache(&self, sequences: usize, positions: usize) -> kv::Shape {
        let (heads, width) = (self.model.heads, self.model.width);
        let pages = sequences * kv::pages_for(positions);
        kv::Shape { layers: 1, pages, kv_heads: heads, head_dim: width / heads }
    }

    /// A cache with sequences of this many positions, with all their keys and values.
    fn sequences<O: Ops>(
        &self,
        make: &mut Maker<'_, O>,
        held: &mut Held<O>,
        sequences: usize,
        context: usize,
    ) -> Result<()> {
        let pages = kv::pages_for(context);
        held.cache = Some(make.ops.cache(self.cache(sequences, context))?);
        let width = self.model.width;
        let ready = |ops: &mut O, held: &Held<O>, tokens, spans| match &held.cache {
            Some(cache) => ops.batch(cache, tokens, spans),
            None => unreachable!("made above"),
        };
        for sequence in 0..sequences {
            held.buffers.clear();
            for _ in 0..3 {
                held.buffers.push(make.rows(context, width)?);
            }
            let whole = vec![span(0, context, 0, sequence * pages)];
            held.batch = Some(ready(make.ops, held, Vec::new(), whole)?);
            self.append(make.ops, held)?;
        }
        held.buffers.clear();
        for _ in 0..3 {
            held.buffers.push(make.rows(sequences, width)?);
        }
        let spans = (0..sequences).map(|row| span(row, 1, context - 1, row * pages)).collect();
        held.batch = None;
        held.batch = Some(ready(make.ops, held, vec![0; sequences], spans)?);
        Ok(())
    }

    fn rope(&self) -> Rope {
        let width = self.model.width / self.model.heads;
        Rope { theta: 10_000.0, width, scaling: RopeScaling::Default }
    }

    fn append<O: Ops>(&self, ops: &mut O, held: &mut Held<O>) -> Result<()> {
        let [q, k, v] = &mut held.buffers[..] else { unreachable!("three are made") };
        let (Some(cache), Some(batch)) = (&mut held.cache, &held.batch) else {
            unreachable!("both are made")
        };
        ops.rope_append(q, k, v, cache, 0, batch, &self.rope())
    }

    fn step<O: Ops>(&self, ops: &mut O, held: &mut Held<O>) -> Result<()> {
        let [q, k, v] = &mut held.buffers[..] else { unreachable!("three are made") };
        let (Some(cache), Some(batch)) = (&mut held.cache, &held.batch) else {
            unreachable!("both are made")
        };
        ops.step_attention(q, k, v, cache, 0, batch, &self.rope()).map(drop)
    }

    /// Runs the operation that is timed.
    pub fn work<O: Ops>(&self, ops: &mut O, held: &mut Held<O>) -> Result<()> {
        let model = self.model;
        let (heads, patches) = (model.vision_heads, model.patches());
        if let Kind::Rope { .. } = self.kind {
            return self.append(ops, held);
        }
        if let Kind::Decode { .. } = self.kind {
            return self.step(ops, held);
        }
        if let (Kind::LinearAdd { .. }, [sum, x]) = (self.kind, &mut held.buffers[..]) {
            return ops.linear_add(sum, x, &held.linears[0]);
        }
        let Held { buffers, scores, linears, norms, weights, cache, batch, kept, .. } = held;
        let result = match self.kind {
            Kind::Patches => {
                let mut lut = [[0.0; 256]; 3];
                for lut in &mut lut {
                    for (byte, value) in lut.iter_mut().enumerate() {
                        *value = byte as f32 / 128.0 - 1.0;
                    }
                }
                ops.patches(&model.tiles(), &Normalization { lut }, model.patch)?
            }
            Kind::Tokens => {
                ops.vision_tokens(&buffers[0], Some(&weights[0]), &weights[1], PARTITIONS)?
            }
            Kind::LayerNorm => ops.layer_norm(&buffers[0], &norms[0])?,
            Kind::Linear { activation, .. } => ops.linear(&buffers[0], &linears[0], activation)?,
            Kind::Linears { .. } => {
                let [q, ..] = ops.linears(&buffers[0], [&linears[0], &linears[1], &linears[2]])?;
                q
            }
            Kind::Normed { .. } => {
                let layers = [&linears[0], &linears[1], &linears[2]];
                let [q, ..] = ops.normed_linear(&buffers[0], &norms[0], layers)?;
                q
            }
            Kind::Swiglu { .. } => {
                ops.normed_swiglu(&buffers[0], &norms[0], &linears[0], &linears[1])?
            }
            Kind::Logits { .. } => ops.logits(&buffers[0], Some(&norms[0]), &linears[0])?,
            Kind::Scores { partitions } => {
                let x = &buffers[0];
                return ops.cls_scores(x, patches + 1, x, heads, partitions, patches).map(drop);
            }
            Kind::Select => {
                let (init, last) = (&scores[0], &scores[1]);
                return ops
                    .select(
                        &model.plan(Method::Hired)?,
                        Evidence { init: Some(init), last: Some(last), ..Evidence::default() },
                    )
                    .map(drop);
            }
            Kind::Choose(method) => {
                let [queries, projected, x] = &buffers[..] else { unreachable!("three are made") };
                let plan = model.plan(method)?;
                let evidence = Evidence {
                    init: Some(&scores[0]),
                    last: Some(&scores[1]),
                    queries: Some(queries),
                    keys: Some(x),
                    heads,
                    features: Some(x),
                    projected: Some(projected),
                };
                let kept = ops.select(&plan, evidence)?;
                ops.gather_kept(if plan.needs.projected { projected } else { x }, &kept)?
            }
            Kind::VisionAttention { kept: false } => {
                let x = &buffers[1];
                ops.vision_attention(x, x, x, heads, PARTITIONS, None)?
            }
            Kind::VisionAttention { kept: true } => {
                let (q, x) = (&buffers[0], &buffers[1]);
                ops.vision_attention(q, x, x, heads, PARTITIONS, kept.as_ref())?
            }
            Kind::GatherKept => ops.gather_kept(&buffers[1], kept.as_ref().expect("made"))?,
            Kind::Interleave => {
                let kept = kept.as_ref().expect("made");
                let visual = Visual { rows: &buffers[2], kept, newline: Some(&weights[1]) };
                let ids: Vec<u32> = (0..30).collect();
                ops.interleave(&weights[0], &[(&ids, visual)], &ids)?
            }
            Kind::Prefill { .. } => {
                let (cache, batch) = (cache.as_ref().expect("made"), batch.as_ref().expect("made"));
                ops.attention(&buffers[0], cache, 0, batch)?
            }
            Kind::Embed { .. } => ops.embed(&weights[0], batch.as_ref().expect("made"))?,
            Kind::Sample { sequences, sampling } => {
                let how: Vec<(Sampling, usize)> = (0..sequences).map(|n| (sampling, n)).collect();
                return ops.sample(&buffers[0], &how).map(drop);
            }
            Kind::Rope { .. } | Kind::Decode { .. } | Kind::LinearAdd { .. } => {
                unreachable!("done above")
            }
        };
        drop(result);
        Ok(())
    }
}
