//! What a session tells of the requests that it has served.

use super::answer::{Answer, FinishReason, Memory, Stages};
use super::prepare::Prepared;
use super::session::{Begun, Session};
use crate::Result;
use crate::model::vit::Encoded;
use crate::ops::memory::Purpose;
use crate::ops::{Chosen, Ops};

impl<O: Ops> Session<O> {
    /// What the executor has taken.
    pub(super) fn memory(&self, predicted_peak: usize) -> Memory {
        let meter = self.runner.ops.meter();
        Memory {
            weights: meter.held(Purpose::Weights),
            mapped: meter.mapped(),
            kv: meter.held(Purpose::Kv),
            workspace: meter.most(Purpose::Workspace),
            other: 0,
            peak: meter.peak(),
            predicted_peak,
        }
    }

    /// A request that has come to its end.
    pub(super) fn told(&self, begun: Begun, memory: Memory) -> Answer {
        let Begun { sequence, prompt_tokens, visuals, host_round_trip, mut timings, stages } =
            begun;
        timings.decode = sequence.decode_time().as_secs_f64();
        let more = sequence.tokens.len() - 1;
        timings.decode_tokens_per_second =
            (more > 0 && timings.decode > 0.0).then(|| more as f64 / timings.decode);
        Answer {
            text: sequence.text,
            finish_reason: sequence.finished.unwrap_or(FinishReason::Cancelled),
            token_ids: sequence.tokens,
            prompt_tokens,
            visual: visuals.first().cloned(),
            visuals,
            host_round_trip,
            timings,
            memory,
            stages,
        }
    }

    /// Copies of the intermediate results.
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
        // Of all images, one after the other. Of partitions that nothing scored: NaN.
        let (mut init, mut last, mut numbers) = (Vec::new(), Vec::new(), 0);
        for (image, encoded) in images.iter().zip(encoded) {
            let geometry = &image.plan.geometry;
            numbers += geometry.partitions() * geometry.patches();
            let scores = ops.scores(&encoded.kept)?;
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
