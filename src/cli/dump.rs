//! Writes the intermediate results of an answer as safetensors.

use super::Stop;
use super::files::Output;
use hired::engine::Stages;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Writes `pixel_values`, `input_ids`, `cls_attention.init`, `cls_attention.final`, `visual_tokens` and
/// `prefill_logits`, those that the request has.
pub fn write(output: Output, stages: &Stages) -> Result<(), Stop> {
    output.write(&encode(stages)?)
}

fn encode(stages: &Stages) -> Result<Vec<u8>, Stop> {
    let f32s = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let mut tensors = Vec::new();
    let mut partitions = 0;
    if let Some(pixels) = &stages.pixel_values {
        partitions = pixels.len() / (3 * stages.side * stages.side).max(1);
        let shape = vec![partitions, 3, stages.side, stages.side];
        tensors.push(("pixel_values", Dtype::F32, shape, f32s(pixels)));
    }
    let ids = stages.input_ids.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
    tensors.push(("input_ids", Dtype::I64, vec![stages.input_ids.len()], ids));
    let scores = [
        ("cls_attention.init", &stages.cls_attention_init),
        ("cls_attention.final", &stages.cls_attention_final),
    ];
    for (name, scores) in scores {
        if let Some(scores) = scores {
            let shape = vec![partitions, scores.len() / partitions.max(1)];
            tensors.push((name, Dtype::F32, shape, f32s(scores)));
        }
    }
    if let Some(rows) = &stages.visual_tokens {
        let shape = vec![rows.len() / stages.hidden.max(1), stages.hidden];
        tensors.push(("visual_tokens", Dtype::F32, shape, f32s(rows)));
    }
    let logits = &stages.prefill_logits;
    tensors.push(("prefill_logits", Dtype::F32, vec![logits.len()], f32s(logits)));

    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?))
    });
    views
        .collect::<Result<Vec<_>, _>>()
        .and_then(|views| safetensors::serialize(views, None))
        .map_err(|error| Stop::Failed(format!("--dump: {error}")))
}
