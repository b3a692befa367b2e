//! Collects the intermediate results of a request.

use super::answer::Stages;
use super::prepare::Prepared;
use super::session::Session;
use crate::Result;
use crate::model::vit::Encoded;
use crate::ops::{Chosen, Ops};

impl<O: Ops> Session<O> {
    /// Copies the intermediate results.
    pub(super) fn stages(
        &mut self,
        prepared: &Prepared,
        encoded: &[Encoded<O>],
        visual_rows: Option<&O::Buffer>,
        logits: &O::Buffer,
    ) -> Result<Stages> {
        let ops = &mut self.runner.ops;
        let config = &self.preparer.config;
        let images = &prepared.images;
        // Results of all images, concatenated; NaN for partitions without scores.
        let (mut init, mut last, mut numbers) = (Vec::new(), Vec::new(), 0);
        for (image, encoded) in images.iter().zip(encoded) {
            let geometry = &image.plan.geometry;
            numbers += geometry.partitions() * geometry.patches();
            let mut scores = ops.scores(&encoded.kept)?;
            if let Some(some) = &encoded.partitions {
                // Partitions that were not encoded are NaN as well.
                let (patches, mut all) = (geometry.patches(), Vec::new());
                for i in 0..geometry.partitions() {
                    match some.binary_search(&i) {
                        Ok(at) => all.extend(&scores.last[at * patches..][..patches]),
                        Err(_) => all.resize(all.len() + patches, f32::NAN),
                    }
                }
                (scores.init, scores.last) = (encoded.init.clone(), all);
            }
            for (all, scores) in [(&mut init, scores.init), (&mut last, scores.last)] {
                all.extend(scores);
                all.resize(numbers, f32::NAN);
            }
        }
        let pixels = images.iter().flat_map(|i| self.preparer.normalization.apply(&i.tiles));
        let pixels = (!images.is_empty()).then(|| pixels.collect());
        let (cls_attention_init, cls_attention_final) =
            (!images.is_empty()).then_some((init, last)).unzip();
        let mut input_ids = Vec::new();
        for (index, text) in prepared.texts.iter().enumerate() {
            input_ids.extend(text);
            let slots = encoded.get(index).map_or(0, |encoded| encoded.kept.slots());
            input_ids.extend(std::iter::repeat_n(config.image_token, slots));
        }
        Ok(Stages {
            pixel_values: pixels,
            side: config.vision.image_size,
            input_ids,
            cls_attention_init,
            cls_attention_final,
            visual_tokens: visual_rows.map(|rows| ops.download(rows)).transpose()?,
            hidden: config.text.hidden,
            prefill_logits: ops.download(logits)?,
        })
    }
}
