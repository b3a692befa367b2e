//! Time of tokenization and streaming of text: `cargo bench --bench text`.

use std::path::Path;

use divan::{Bencher, black_box};
use hired::text::{ChatTemplate, Detokenizer, SpecialTokens, Tokenizer, synth};

const TEMPLATE: &str = "{% for m in messages %}{{ m['role'].upper() + ': ' }}\
    {% for c in m['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}\
    {% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] + ' ' }}{% endfor %}\
    {% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}";

fn main() {
    divan::main();
}

fn tokenizer() -> Tokenizer {
    let json = synth::tokenizer_json(32064, 32000);
    Tokenizer::parse(&json, Path::new("tokenizer.json"), &SpecialTokens::default()).unwrap()
}

/// A prompt of 60 ids.
fn prompt(tokenizer: &Tokenizer) -> String {
    let mut prompt = "USER: <image>\nWhat is".to_owned();
    while tokenizer.encode(&prompt, true).unwrap().len() < 60 {
        prompt += " the";
    }
    prompt
}

#[divan::bench(sample_count = 10)]
fn load_tokenizer(bencher: Bencher) {
    let json = synth::tokenizer_json(32064, 32000);
    let special = SpecialTokens::default();
    bencher.bench(|| Tokenizer::parse(black_box(&json), Path::new("tokenizer.json"), &special));
}

#[divan::bench]
fn compile_and_render_template(bencher: Bencher) {
    bencher.bench(|| {
        let template = ChatTemplate::parse(TEMPLATE, Path::new("chat_template.json"), &[]).unwrap();
        template.render(black_box("What is shown in this image?"), true)
    });
}

#[divan::bench]
fn encode_60_tokens(bencher: Bencher) {
    let tokenizer = tokenizer();
    let prompt = prompt(&tokenizer);
    bencher.bench(|| tokenizer.encode_prompt(black_box(&prompt)));
}

#[divan::bench]
fn detokenize_100_tokens(bencher: Bencher) {
    let tokenizer = tokenizer();
    // Words, byte tokens and a few line feeds.
    let ids: Vec<u32> = (0..100).map(|i| if i % 20 == 19 { 13 } else { 400 + i * 301 }).collect();
    bencher.bench(|| {
        let mut text = String::new();
        let mut detokenizer = Detokenizer::new(&tokenizer);
        for &id in black_box(&ids) {
            text += &detokenizer.push(id).unwrap();
        }
        text + &detokenizer.finish().unwrap()
    });
}
