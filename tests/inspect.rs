//! What `inspect` says of a checkpoint is what its request then takes.

use hired::checkpoint::synth::{self, Preset};
use hired::engine::{Engine, EngineOptions, Image, Prompt, Request, inspect};
use hired::select::Selection;
use hired::text::Tokenizer;
use std::ops::ControlFlow;
use std::path::Path;

fn tiny(folder: &Path) {
    let preset = Preset::Tiny;
    let tokenizer = hired::text::synth::tokenizer_json(preset.vocab(), preset.image_token());
    let go = &mut |_, _| ControlFlow::Continue(());
    synth::write(preset, folder, 1, &tokenizer, go).unwrap();
}

#[test]
fn an_inspection_keeps_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tiny");
    tiny(&folder);
    let inspection = inspect(&folder, &EngineOptions::default(), &Selection::default()).unwrap();
    let file = std::fs::metadata(folder.join("model.safetensors")).unwrap().len();
    assert!(inspection.bytes < file && inspection.bytes > file - 100_000);
    let budgets: Vec<&str> = inspection.budgets.iter().map(|b| b.budget.as_str()).collect();
    assert_eq!(budgets, ["full", "40%", "30%", "20%", "10%"]);

    // The request that the figures are about: 672×672 pixels, 60 tokens of text, 128 new ones.
    let mut engine = Engine::load(&folder, EngineOptions::default()).unwrap();
    let text = &engine.config().text;
    let token = 2 * 4 * text.layers * text.kv_heads * text.head_dim;
    assert_eq!(inspection.kv_bytes_per_token, token);
    let side = 672;
    let pixels = (0..3 * side * side).map(|i| (i % 251) as u8).collect();
    let image = Image::Rgb8 { width: side, height: side, pixels };
    let mut ask = |words: &str, budget: &str| {
        let request = Request::new(Prompt::Raw(format!("<image>{words}")))
            .with_selection(Selection::default().with_budget(budget.parse().unwrap()))
            .with_max_new_tokens(128);
        let request = request.with_image(image.clone());
        let answer = engine.generate(&request, |_| ControlFlow::Continue(())).unwrap();
        let visual = answer.visual.unwrap();
        (answer.prompt_tokens - visual.kept - visual.newlines, answer.memory)
    };
    let tokenizer = Tokenizer::open(&folder).unwrap();
    let words = (1..100)
        .map(|count| "~".repeat(count))
        .find(|words| tokenizer.encode_prompt(&format!("<image>{words}")).unwrap().len() == 60 + 1)
        .expect("one more character is at most one more token");
    for need in &inspection.budgets {
        let (text_tokens, memory) = ask(&words, &need.budget);
        assert_eq!(text_tokens, 60);
        // The largest comes first, and an engine keeps its cache.
        let first = &inspection.budgets[0];
        assert_eq!(
            (need.workspace, need.weights, need.mapped, first.kv),
            (memory.workspace, memory.weights, memory.mapped, memory.kv),
            "{}",
            need.budget
        );
        assert_eq!(need.peak - need.kv, memory.peak - memory.kv, "{}", need.budget);
    }
}
