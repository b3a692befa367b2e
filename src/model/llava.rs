//! LLaVA: joins the parts. The kept patches of the vision tower pass the projector and replace the image placeholder in
//! the decoder's prompt.

use super::decoder::{Decoder, Forwarded, Thinning};
use super::projector::Projector;
use super::vit::{Encoded, Layers, Survey, Vit};
use super::{Loader, Progress, Source, quiet};
use crate::Result;
use crate::config::{Architecture, ModelConfig};
use crate::image::{Normalization, Tiles};
use crate::ops::clock::Stage;
use crate::ops::{Evidence, Ops, Visual};
use crate::select::Plan;

/// All weights of a checkpoint that the engine uses.
#[derive(Debug)]
pub struct Llava<W> {
    config: ModelConfig,
    vit: Vit<W>,
    projector: Projector<W>,
    newline: Option<W>,
    decoder: Decoder<W>,
}

impl<W> Llava<W> {
    /// Loads the weights.
    pub fn load<O: Ops<Weight = W>>(
        config: &ModelConfig,
        ops: &mut O,
        source: &dyn Source<O>,
    ) -> Result<Self> {
        let mut from = Loader::new(ops, source, config);
        let newline = match config.architecture {
            Architecture::LlavaNext | Architecture::OneVision => {
                Some(from.vector("image_newline")?)
            }
            Architecture::Llava | Architecture::InternVl => None,
        };
        Ok(Self {
            config: config.clone(),
            vit: Vit::load(config, &mut from)?,
            projector: Projector::load(config, &mut from)?,
            newline,
            decoder: Decoder::load(config, &mut from)?,
        })
    }

    /// Takes the weights of what a selection looks at in the vision tower: more than at first when a block behind the
    /// features or the pooling head scores.
    pub fn require<O: Ops<Weight = W>>(
        &mut self,
        layers: Layers,
        ops: &mut O,
        source: &dyn Source<O>,
    ) -> Result<()> {
        if self.vit.has(layers) {
            return Ok(());
        }
        let mut from = Loader::new(ops, source, &self.config);
        self.vit.require(layers.blocks(), &mut from)?;
        if layers.by_head() {
            self.vit.require_pooling(&mut from)?;
        }
        Ok(())
    }

    /// The vision part of a request: the kept patches and their features.
    pub fn encode<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        tiles: &Tiles,
        norm: &Normalization,
        plan: &Plan,
        layers: Layers,
        progress: &mut Progress<'_, O>,
    ) -> Result<Encoded<O>> {
        if plan.lazy.is_some() {
            return self.encode_some(ops, tiles, norm, plan, layers, progress);
        }
        // The pooling head sees the last block's rows of all patches, so nothing is spared in it.
        if plan.needs.rows() || plan.from_projected() || layers.by_head() {
            return self
                .survey(ops, tiles, norm, &[(plan, layers)], progress)?
                .select(ops, plan, layers);
        }
        self.vit.encode(ops, tiles, norm, plan, layers, progress)
    }

    /// The vision part for only those partitions that get tokens, which the init scores of the full image decide before
    /// the others are encoded.
    fn encode_some<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        tiles: &Tiles,
        norm: &Normalization,
        plan: &Plan,
        layers: Layers,
        progress: &mut Progress<'_, O>,
    ) -> Result<Encoded<O>> {
        let scores =
            self.vit.glance(ops, &tiles.some(&[0]), norm, layers.init.unwrap_or_default())?;
        ops.enter(Stage::Select)?;
        let seen = Evidence { last: Some(&scores), ..Evidence::default() };
        let kept = ops.select(&plan.glance()?, seen)?;
        // Invalid scores are an error here, before anything is computed from them.
        ops.kept(&kept)?;
        let init = ops.scores(&kept)?.last;
        drop((kept, scores));
        let (partitions, inner) = plan.encoded(&init)?;
        let layers = Layers { init: None, ..layers };
        let some = tiles.some(&partitions);
        let encoded = self.vit.encode(ops, &some, norm, &inner, layers, progress)?;
        Ok(Encoded { partitions: Some(partitions), init, ..encoded })
    }

    /// The vision part for several selections together: features of every patch, and the evidence of each selection.
    pub fn survey<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        tiles: &Tiles,
        norm: &Normalization,
        selections: &[(&Plan, Layers)],
        progress: &mut Progress<'_, O>,
    ) -> Result<Survey<O>> {
        let layers: Vec<Layers> = selections.iter().map(|(_, layers)| *layers).collect();
        let mut survey = self.vit.survey(ops, tiles, norm, &layers, progress)?;
        // Which patches are valid depends on the image only, so any of the plans can be used.
        if let Some((plan, _)) = selections.iter().find(|(plan, _)| plan.needs.features)
            && plan.geometry.cell() > 1
        {
            let cells = ops.gather(&survey.features, &plan.geometry.all_rows())?;
            survey.cells = Some(ops.join(cells, plan.geometry.cell().pow(2)));
        }
        if let Some((plan, _)) = selections.iter().find(|(plan, _)| plan.from_projected()) {
            ops.enter(Stage::Project)?;
            let shrinking = plan.geometry.shrinking();
            let rows = match shrinking {
                Some(_) => plan.geometry.projected_rows(),
                None => plan.tower_rows(),
            };
            let valid = ops.gather(&survey.features, &rows)?;
            let valid = match plan.geometry.is_pooled() {
                true => valid,
                false => ops.join(valid, plan.geometry.cell().pow(2)),
            };
            let projected = self.projector.forward(ops, &valid)?;
            drop(valid);
            survey.projected = Some(match shrinking {
                Some(mix) => ops.mix(&projected, &mix)?,
                None => projected,
            });
        }
        Ok(survey)
    }

    /// The survey with the features projected.
    pub fn project<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        encoded: Encoded<O>,
    ) -> Result<Encoded<O>> {
        if encoded.projected {
            return Ok(encoded);
        }
        let features = self.projector.forward(ops, &encoded.features)?;
        Ok(Encoded { features, projected: true, ..encoded })
    }

    /// Rows of a prompt, `[tokens, width]`: the images' rows are placed between the `texts`, of which there is one more
    /// than images.
    pub fn embed<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        texts: &[Vec<u32>],
        images: &[Encoded<O>],
    ) -> Result<O::Buffer> {
        let mut projected = Vec::with_capacity(images.len());
        for image in images {
            let rows = (!image.projected).then(|| self.projector.forward(ops, &image.features));
            projected.push(rows.transpose()?);
        }
        ops.enter(Stage::Prefill)?;
        let (after, before) = texts.split_last().expect("one text more than images");
        let visuals = images.iter().zip(&projected).map(|(image, projected)| Visual {
            rows: projected.as_ref().unwrap_or(&image.features),
            kept: &image.kept,
            newline: self.newline.as_ref(),
        });
        let images: Vec<_> = before.iter().map(Vec::as_slice).zip(visuals).collect();
        ops.interleave(self.decoder.embedding(), &images, after)
    }

    /// A sample of the decoder's work on some tokens, to measure the machine's speed; complete when it returns.
    pub fn probe<O: Ops<Weight = W>>(&self, ops: &mut O, tokens: &[u32]) -> Result<()> {
        let rows = ops.interleave(self.decoder.embedding(), &[], tokens)?;
        let inner = self.decoder.probe(ops, &rows)?;
        let first = ops.gather(&inner, &[0])?;
        ops.download(&first).map(|_| ())
    }

    /// Prefill: logits of a prompt's last row, `[1, vocabulary]`, from all its rows `[tokens, width]`. Caches, batches
    /// and thinning are those of [`Decoder::forward`].
    pub fn prefill<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        rows: O::Buffer,
        caches: &mut [O::Cache],
        batches: &[O::Batch],
        thinning: Option<&Thinning>,
        progress: &mut Progress<'_, O>,
    ) -> Result<Forwarded<O>> {
        ops.enter(Stage::Prefill)?;
        let stage = Stage::Prefill;
        self.decoder.forward(ops, rows, caches, batches, thinning, true, stage, progress)
    }

    /// A decode step: logits after one more token of each sequence, `[tokens, vocabulary]`, with a batch for each
    /// cache.
    pub fn decode<O: Ops<Weight = W>>(
        &self,
        ops: &mut O,
        caches: &mut [O::Cache],
        batches: &[O::Batch],
    ) -> Result<O::Buffer> {
        ops.enter(Stage::Decode)?;
        ops.step(batches, caches, &mut |ops, caches| {
            let rows = ops.embed(self.decoder.embedding(), &batches[0])?;
            let stage = Stage::Decode;
            let out = self.decoder.forward(
                ops,
                rows,
                caches,
                batches,
                None,
                false,
                stage,
                &mut quiet::<O>,
            )?;
            Ok(out.logits)
        })
    }
}
