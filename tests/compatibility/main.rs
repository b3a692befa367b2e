//! What the files of a model's folder change, against transformers: copies of fixture models with a file edited, and
//! the tokens that transformers 5.23 answers with (f32, eager, greedy), or the error that names what is not followed.
//!
//! A case is added by a line in one of the tables: what is edited, and what must come of it.
#![cfg(feature = "image-formats")]

#[path = "../common/mod.rs"]
mod common;
mod folders;

use common::folder::{edit_json, model_copy, rename_prefix};
use common::golden::fixture;
use hired::engine::{Device, Engine, EngineOptions, Image, Prompt, Request};
use hired::select::{Budget, Selection};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

const QUESTION: &str = "What is in the picture?";

/// The fixture's own answer.
const OWN: [u32; 12] = [153, 61, 61, 272, 327, 327, 327, 327, 327, 327, 80, 327];

fn load(folder: &Path) -> hired::Result<Engine> {
    Engine::load(folder, EngineOptions::default().with_device(Device::Cpu))
}

/// A prompt about the picture that all of them are about.
fn question(prompt: Prompt) -> Request {
    let name = "photo-60x44.png".to_owned();
    let bytes = fs::read(fixture("images").join(&name)).unwrap();
    let mut request = Request::new("").with_image(Image::encoded(name, bytes));
    request.prompt = prompt;
    request.selection = Selection::default().with_budget(Budget::Full);
    request.max_new_tokens = 12;
    request
}

fn ask(folder: &Path, prompt: Prompt) -> hired::Result<Vec<u32>> {
    let request = question(prompt);
    Ok(load(folder)?.generate(&request, |_| ControlFlow::Continue(()))?.token_ids)
}

fn answer(folder: &Path) -> hired::Result<Vec<u32>> {
    ask(folder, Prompt::User(QUESTION.into()))
}

/// Sets the value at a JSON pointer, making objects on the way.
fn set(file: &Path, pointer: &str, new: Value) {
    if !file.exists() {
        fs::write(file, "{}").unwrap();
    }
    edit_json(file, |root| {
        let mut at = root;
        for key in pointer.split('/').skip(1) {
            if at.is_null() {
                *at = json!({});
            }
            at = match at {
                Value::Array(list) => &mut list[key.parse::<usize>().unwrap()],
                object => &mut object[key],
            };
        }
        *at = new;
    });
}

/// Edits to a copy of a fixture: file, pointer, value. A file without a pointer is removed.
type Edits<'a> = &'a [(&'a str, &'a str, Value)];

fn edited(model: &str, edits: Edits) -> tempfile::TempDir {
    let dir = model_copy(model);
    for (file, pointer, value) in edits {
        let path = dir.path().join(file);
        match *pointer {
            "" => fs::remove_file(path).unwrap(),
            pointer => set(&path, pointer, value.clone()),
        }
    }
    dir
}

#[test]
fn settings_that_are_followed() {
    let cases: &[(&str, &str, Edits, &[u32])] = &[
        ("nothing is edited", "next-hub", &[], &OWN),
        (
            "the end of an answer at the root of config.json",
            "next-hub",
            &[
                ("config.json", "/eos_token_id", json!(272)),
                ("generation_config.json", "", Value::Null),
            ],
            &[153, 61, 61, 272],
        ),
        (
            "the end of an answer in generation_config.json goes first",
            "next-hub",
            &[("config.json", "/eos_token_id", json!(272))],
            &OWN,
        ),
        (
            "one feature layer in a list",
            "next-hub",
            &[("config.json", "/vision_feature_layer", json!([-2]))],
            &OWN,
        ),
        (
            "rope_theta inside rope_scaling",
            "next-hub",
            &[(
                "config.json",
                "/text_config/rope_scaling",
                json!({"rope_type": "default", "rope_theta": 500.0}),
            )],
            &[61, 80, 327, 327, 327, 327, 186, 123, 6, 80, 327, 327],
        ),
        (
            "linear rope_scaling",
            "next-hub",
            &[(
                "config.json",
                "/text_config/rope_scaling",
                json!({"type": "linear", "factor": 2.0}),
            )],
            &[155, 155, 155, 155, 155, 294, 61, 61, 61, 61, 168, 80],
        ),
        (
            "rope_scaling of LLaMA 3.1",
            "next-hub",
            &[(
                "config.json",
                "/text_config/rope_scaling",
                json!({
                    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 64
                }),
            )],
            &[24, 190, 327, 80, 327, 80, 327, 80, 327, 262, 322, 322],
        ),
        (
            "embeddings said to be tied beside a head of its own",
            "next-hub",
            &[("config.json", "/tie_word_embeddings", json!(true))],
            &OWN,
        ),
        (
            "the same of LLaVA-1.5",
            "llava15",
            &[("config.json", "/tie_word_embeddings", json!(true))],
            &[202, 312, 312, 312, 312, 312, 312, 312, 312, 129, 0, 312],
        ),
        (
            "a template in processor_config.json goes before chat_template.json",
            "next-hub",
            &[(
                "processor_config.json",
                "/chat_template",
                json!("QUESTION <image>\n{{ messages[0].content[-1].text }} ANSWER:"),
            )],
            &[61, 61, 61, 174, 322, 155, 57, 327, 80, 327, 80, 327],
        ),
        (
            "LLaVA-1.5 pads to a square",
            "llava15",
            &[
                ("preprocessor_config.json", "/image_processor_type", json!("LlavaImageProcessor")),
                ("preprocessor_config.json", "/do_pad", json!(true)),
            ],
            &[0, 0, 0, 174, 347, 127, 0, 248, 127, 0, 0, 2],
        ),
    ];
    for (what, model, edits, expected) in cases {
        assert_eq!(answer(edited(model, edits).path()).unwrap(), *expected, "{what}");
    }
}

#[test]
fn line_ends_of_windows_in_a_template() {
    let template = "{%- for m in messages -%}\r\nUSER: <image>\r\n{{ m.content[-1].text }}\r\n{%- endfor %}\r\nASSISTANT:\r\n";
    let dir = model_copy("next-v5");
    fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let expected = [296, 241, 327, 241, 327, 241, 327, 241, 327, 255, 255, 255];
    assert_eq!(answer(dir.path()).unwrap(), expected);
    fs::write(dir.path().join("chat_template.jinja"), template.replace("\r\n", "\r")).unwrap();
    assert_eq!(answer(dir.path()).unwrap(), expected);
}

#[test]
fn special_tokens_keep_their_flags() {
    let rstrip = |file, pointer| (file, pointer, json!(true));
    let dir = edited(
        "next-hub",
        &[
            rstrip("tokenizer.json", "/added_tokens/2/rstrip"),
            rstrip("tokenizer_config.json", "/added_tokens_decoder/2/rstrip"),
        ],
    );
    let prompt = Prompt::Raw("USER: a </s> b <image> and </s> after it. ASSISTANT:".into());
    let expected = [190, 327, 327, 327, 327, 262, 83, 327, 368, 153, 225, 225];
    assert_eq!(ask(dir.path(), prompt).unwrap(), expected);
}

#[test]
fn named_and_listed_special_tokens_both_count() {
    let listed = json!(["[X]", "<extra>"]);
    let edit = ("tokenizer_config.json", "/additional_special_tokens", listed);
    let dir = edited("next-hub", &[edit]);
    let prompt = Prompt::Raw("USER: a <image> b [X] <extra> ASSISTANT:".into());
    let expected = [61, 61, 350, 155, 294, 262, 190, 327, 327, 327, 327, 327];
    assert_eq!(ask(dir.path(), prompt).unwrap(), expected);
}

/// The penalty looks at the prompt, the image's tokens among it, and at the answer: transformers 5.24's own tokens.
#[test]
fn a_repetition_penalty_gives_transformers_tokens() {
    let expected: [(f32, [u32; 12]); 3] = [
        (1.2, [153, 61, 168, 80, 327, 327, 327, 327, 327, 327, 80, 327]),
        (0.5, [153, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61, 61]),
        (3.0, [153, 61, 168, 80, 327, 209, 100, 322, 272, 89, 129, 225]),
    ];
    for (penalty, tokens) in expected {
        let dir = model_copy("next-hub");
        let mut request = question(Prompt::User(QUESTION.into()));
        request.sampling.repetition_penalty = penalty;
        let answer = load(dir.path()).unwrap().generate(&request, |_| ControlFlow::Continue(()));
        assert_eq!(answer.unwrap().token_ids, tokens, "{penalty}");
    }
}

/// Settings by which transformers' greedy answers change: each is told of, at values that change nothing it is not.
#[test]
fn settings_of_generation_that_are_not_followed_are_told() {
    let changing = [
        ("bad_words_ids", json!([[61]]), Value::Null),
        ("begin_suppress_tokens", json!([153]), json!([])),
        ("constraints", json!([1]), Value::Null),
        ("do_sample", json!(true), json!(false)),
        ("dola_layers", json!("high"), Value::Null),
        ("encoder_no_repeat_ngram_size", json!(2), json!(0)),
        ("encoder_repetition_penalty", json!(1.5), json!(1.0)),
        ("exponential_decay_length_penalty", json!([2, 1.5]), Value::Null),
        ("force_words_ids", json!([[5]]), Value::Null),
        ("forced_bos_token_id", json!(5), Value::Null),
        ("forced_eos_token_id", json!(2), Value::Null),
        ("guidance_scale", json!(1.5), json!(1)),
        ("max_new_tokens", json!(5), Value::Null),
        ("min_length", json!(200), json!(0)),
        ("min_new_tokens", json!(6), json!(0)),
        ("no_repeat_ngram_size", json!(2), json!(0)),
        ("num_beam_groups", json!(2), json!(1)),
        ("num_beams", json!(4), json!(1)),
        ("penalty_alpha", json!(0.6), json!(0.0)),
        ("repetition_penalty", json!(1.5), json!(1.0)),
        ("sequence_bias", json!([[[61], -10.0]]), Value::Null),
        ("stop_strings", json!(["a"]), json!([])),
        ("suppress_tokens", json!([153]), json!([])),
        ("token_healing", json!(true), json!(false)),
        ("watermarking_config", json!({"bias": 2.5}), Value::Null),
    ];
    for (key, value, neutral) in changing {
        let pointer = format!("/{key}");
        let notes = |value| {
            let dir = edited("next-hub", &[("generation_config.json", &pointer, value)]);
            load(dir.path()).unwrap().notes().to_vec()
        };
        let told = notes(value);
        assert_eq!(told.len(), 1, "{key}: {told:?}");
        assert!(told[0].contains(key) && told[0].contains("generation_config.json"), "{told:?}");
        assert_eq!(notes(neutral), Vec::<String>::new(), "{key}");
    }
}

/// docs/compatibility.md by file: its keys and what becomes of them.
fn documented() -> BTreeMap<String, BTreeMap<String, String>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
    let mut files: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut file = String::new();
    for line in fs::read_to_string(page).unwrap().lines() {
        if let Some(title) = line.strip_prefix("## ") {
            file = title.replace('`', "");
        } else if let Some(row) = line.strip_prefix("| `") {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            for key in cells[0].split(',') {
                let key = key.trim().trim_matches('`').to_owned();
                let before =
                    files.entry(file.clone()).or_default().insert(key.clone(), cells[1].into());
                assert!(before.is_none(), "{file}: {key} stands there twice");
            }
        }
    }
    files
}

/// Every setting of transformers' own classes stands on the page, and what the page says of it is so: a value that is
/// not the default gives another configuration (followed), an error (refused), a note (noted), or nothing at all.
#[test]
fn no_setting_is_passed_over_in_silence() {
    let listed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compatibility/settings.json");
    let listed: Value = serde_json::from_slice(&fs::read(listed).unwrap()).unwrap();
    let documented = documented();
    for (section, settings) in listed.as_object().unwrap() {
        let (model, file, prefix) = match section.as_str() {
            "config.json" => ("next-hub", "config.json", ""),
            "config.json, vision_config" => ("next-hub", "config.json", "/vision_config"),
            "config.json, vision_config of siglip" => {
                ("next-siglip", "config.json", "/vision_config")
            }
            "config.json of internvl" => ("internvl-qwen3", "config.json", ""),
            "config.json, vision_config of internvl" => {
                ("internvl-qwen3", "config.json", "/vision_config")
            }
            "preprocessor_config.json of internvl" => {
                ("internvl-qwen3", "preprocessor_config.json", "")
            }
            "preprocessor_config.json of siglip" => {
                ("llava-siglip", "preprocessor_config.json", "")
            }
            "config.json of onevision" => ("onevision", "config.json", ""),
            "config.json, text_config" => ("next-hub", "config.json", "/text_config"),
            "config.json, text_config of qwen2" => ("next-qwen2", "config.json", "/text_config"),
            "config.json, text_config of phi3" => ("llava-phi3", "config.json", "/text_config"),
            "config.json of mobilevlm" => ("mobilevlm", "config.json", ""),
            "config.json, text_config of phi" => ("llava-phi", "config.json", "/text_config"),
            "generation_config.json" => ("next-hub", "generation_config.json", ""),
            "preprocessor_config.json" => ("llava15", "preprocessor_config.json", ""),
            other => panic!("{other}"),
        };
        let open = |edits: Edits| {
            let engine = load(edited(model, edits).path())?;
            Ok::<_, hired::Error>((engine.config().clone(), engine.notes().to_vec()))
        };
        let (plain, _) = open(&[]).unwrap();
        for (key, values) in settings.as_object().unwrap() {
            let said = documented.get(section).and_then(|keys| keys.get(key));
            let said = said.unwrap_or_else(|| panic!("{section}: {key} is not on the page"));
            for value in values.as_array().unwrap() {
                let pointer = format!("{prefix}/{key}");
                let became = match open(&[(file, &pointer, value.clone())]) {
                    // An image token that is not the tokenizer's has been read.
                    Err(error) if error.to_string().contains("take both files from one model") => {
                        "followed"
                    }
                    Err(error) if error.to_string().contains(key) => "refused",
                    Err(error) => panic!("{section}: {key}: {error}"),
                    Ok((_, notes)) if notes.iter().any(|note| note.contains(key)) => "noted",
                    Ok((config, _)) if config != plain => "followed",
                    Ok(_) => "no effect",
                };
                let parts: Vec<&str> = said.split(" or ").collect();
                assert!(
                    parts.contains(&became),
                    "{section}: {key} = {value} is {became}, the page says {said}"
                );
            }
        }
    }
}
