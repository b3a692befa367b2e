//! Prompts, ids and text against what transformers gives (`make_golden.py`), and hostile files.

mod bounds;
mod golden;
mod hostile;
mod literal;
mod streaming;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hired::text::{Detokenizer, Tokenizer};
use serde_json::{Value, json};

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/text").join(name)
}

fn golden() -> Value {
    serde_json::from_str(&fs::read_to_string(here("golden.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn strings(value: &Value) -> Vec<(String, String)> {
    let map = value.as_object().unwrap();
    map.iter().map(|(key, text)| (key.clone(), text.as_str().unwrap().to_owned())).collect()
}

/// A folder with the given files; JSON strings are written as they are, other values as JSON.
fn folder(files: &[(&str, &Value)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, value) in files {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn golden_folder(case: &Value) -> tempfile::TempDir {
    let file = fs::read_to_string(here(case["file"].as_str().unwrap())).unwrap();
    let dir = folder(&[("tokenizer.json", &json!(file))]);
    for (key, name) in [("config", "tokenizer_config.json"), ("map", "special_tokens_map.json")] {
        if !case[key].is_null() {
            fs::write(dir.path().join(name), case[key].to_string()).unwrap();
        }
    }
    dir
}

fn golden_tokenizers() -> &'static [(String, Tokenizer)] {
    static ALL: OnceLock<Vec<(String, Tokenizer)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let golden = golden();
        let cases = golden["tokenizers"].as_array().unwrap().iter();
        let open = |case: &Value| Tokenizer::open(golden_folder(case).path()).unwrap();
        cases.map(|case| (case["name"].as_str().unwrap().to_owned(), open(case))).collect()
    })
}

fn one_line(error: &hired::Error, names: &str) -> String {
    let message = error.to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    assert!(message.chars().count() < 1000, "{message}");
    assert!(message.contains(names), "{message} does not name {names}");
    message
}

/// Everything said while ids come in one by one, after each id and at the end.
fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    let mut detokenizer = Detokenizer::new(tokenizer);
    let mut said = String::new();
    let mut steps = Vec::new();
    for &id in ids {
        said += &detokenizer.push(id).unwrap();
        steps.push(said.clone());
    }
    said += &detokenizer.finish().unwrap();
    steps.push(said);
    steps
}
