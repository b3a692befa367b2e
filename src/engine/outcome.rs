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
        let Begun { sequence, prompt_tokens, visual, host_round_trip, mut timings, stages } = begun;
        timings.decode = sequence.decode_time().as_secs_f64();
        let more = sequence.tokens.len() - 1;
        timings.decode_tokens_per_second =
            (more > 0 && timings.decode > 0.0).then(|| more as f64 / timings.decode);
        Answer {
            text: sequence.text,
            finish_reason: sequence.finished.unwrap_or(FinishReason::Cancelled),
            token_ids: sequence.tokens,
            prompt_tokens,
            visual,
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
        encoded: Option<&Encoded<O>>,
        visual_rows: Option<&O::Buffer>,
        logits: &O::Buffer,
    ) -> Result<Stages> {
        let ops = &mut self.runner.ops;
        let config = &self.preparer.config;
        let image = prepared.image.as_ref();
        let numbers = image.map_or(0, |i| i.plan.geometry.partitions() * i.plan.geometry.patches());
        // Of partitions that nothing scored: NaN.
        let whole = |mut scores: Vec<f32>| {
            scores.resize(numbers, f32::NAN);
            scores
        };
        let scores = encoded.map(|e| ops.scores(&e.kept)).transpose()?;
        let (cls_attention_init, cls_attention_final) =
            scores.map(|scores| (whole(scores.init), whole(scores.last))).unzip();
        let slots = encoded.map_or(0, |e| e.kept.slots());
        let mut input_ids = prepared.before.clone();
        input_ids.extend(std::iter::repeat_n(config.image_token, slots));
        input_ids.extend(&prepared.after);
        Ok(Stages {
            pixel_values: image.map(|i| self.preparer.normalization.apply(&i.tiles)),
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
