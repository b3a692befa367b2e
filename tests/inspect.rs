//! What `inspect` says of a checkpoint.

use hired::checkpoint::synth::{self, Preset};
use hired::engine::{EngineOptions, inspect};
use hired::select::Selection;
use std::ops::ControlFlow;

/// What `inspect` says of a checkpoint is what its request then takes.
#[test]
fn inspection_of_a_real_folder() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tiny");
    let config = Preset::Tiny.config().unwrap();
    let tokenizer = hired::text::synth::tokenizer_json(config.text.vocab, config.image_token);
    synth::write(Preset::Tiny, &folder, 1, &tokenizer, &mut |_, _| ControlFlow::Continue(()))
        .unwrap();
    let options = EngineOptions::default();
    let inspection = inspect(&folder, &options, &Selection::default()).unwrap();
    assert_eq!(inspection.budgets.len(), 5);
    assert_eq!(
        inspection.kv_bytes_per_token,
        2 * 4 * config.text.layers * config.text.kv_heads * config.text.head_dim
    );
    let file = std::fs::metadata(folder.join("model.safetensors")).unwrap().len();
    assert!(inspection.bytes < file && inspection.bytes > file - 100_000);
    let visual: Vec<usize> = inspection.budgets.iter().map(|b| b.visual_tokens).collect();
    assert!(visual.is_sorted_by(|a, b| a > b), "{visual:?}");
    let peaks: Vec<usize> = inspection.budgets.iter().map(|b| b.peak).collect();
    assert!(peaks.is_sorted_by(|a, b| a >= b), "{peaks:?}");
}
