//! Against transformers.

use std::fs;
use std::path::Path;

use hired::config::Family;
use hired::text::{ChatTemplate, SpecialTokens, Tokenizer, synth};
use serde_json::{Value, json};

use super::{folder, golden, golden_folder, here, ids, one_line, strings};

const TINY: (usize, u32) = (640, 620);

#[test]
#[ignore = "writes the file that make_golden.py reads"]
fn write_synth_tokenizer() {
    fs::write(here("synth.json"), synth::tokenizer_json(TINY.0, TINY.1) + "\n").unwrap();
}

#[test]
fn synth_tokenizer_is_the_golden_one() {
    let golden = fs::read_to_string(here("synth.json")).unwrap();
    assert!(
        synth::tokenizer_json(TINY.0, TINY.1) + "\n" == golden,
        "run write_synth_tokenizer, then make_golden.py"
    );
}

#[test]
fn synthetic_tokenizers_have_every_id() {
    let file = Path::new("tokenizer.json");
    for (vocab, image) in [(32064, 32000), (640, 620), (448, 440), (300, 260), (261, 259)] {
        let tokenizer =
            Tokenizer::parse(&synth::tokenizer_json(vocab, image), file, &SpecialTokens::default())
                .unwrap();
        assert_eq!(tokenizer.token_id("<image>"), Some(image));
        assert_eq!(tokenizer.token_id("<pad>"), (vocab > 1 + image as usize).then_some(image + 1));
        assert_eq!(tokenizer.vocab_size(), vocab);
        assert_eq!(tokenizer.decode(&[image]).unwrap(), "");
        for text in ["What is shown here?", "\n<image>\n🗼\u{0}", "  a  "] {
            let ids = tokenizer.encode(text, true).unwrap();
            assert_eq!(ids[0], 1);
            // Without a token for the space mark it comes back as it is.
            if image == 259 {
                continue;
            }
            let plain = text.replace("<image>", "");
            assert_eq!(
                tokenizer.decode(&ids).unwrap().replace(' ', ""),
                plain.replace(' ', ""),
                "{ids:?}"
            );
        }
        if image > 354 {
            let (space, newline) = (tokenizer.token_id("▁").unwrap(), 3 + 10);
            assert_eq!(tokenizer.encode("<image>\n", false).unwrap(), [image, space, newline]);
        }
    }
    let large =
        Tokenizer::parse(&synth::tokenizer_json(32064, 32000), file, &SpecialTokens::default())
            .unwrap();
    assert_eq!(large.decode(&[31999, 31998, 32063]).unwrap(), "p31999 p31998");
    // Too small for its bytes, but never a panic.
    for image in [0, 1, 3, 100, 258] {
        let json = synth::tokenizer_json(0, image);
        assert!(serde_json::from_str::<Value>(&json).is_ok());
        let _ = Tokenizer::parse(&json, file, &SpecialTokens::default());
    }
}

#[test]
fn ids_and_text_as_transformers() {
    let golden = golden();
    for case in golden["tokenizers"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let dir = golden_folder(case);
        let tokenizer = Tokenizer::open(dir.path()).unwrap();
        assert_eq!(tokenizer.vocab_size() as u64, case["size"].as_u64().unwrap(), "{name}");
        for text in case["texts"].as_array().unwrap() {
            let string = text["text"].as_str().unwrap();
            let with = tokenizer.encode(string, true).unwrap();
            assert_eq!(with, ids(&text["ids"]), "{name}: {string:?}");
            assert_eq!(
                tokenizer.encode(string, false).unwrap(),
                ids(&text["plain"]),
                "{name}: {string:?}"
            );
            assert_eq!(
                tokenizer.decode(&with).unwrap(),
                text["decoded"].as_str().unwrap(),
                "{name}: {string:?}"
            );
            let has_bos = case["bos"].as_str().is_some_and(|bos| string.starts_with(bos));
            let prompt = ids(&text[if has_bos { "plain" } else { "ids" }]);
            assert_eq!(tokenizer.encode_prompt(string).unwrap(), prompt, "{name}: {string:?}");
        }
        for decoded in case["decoded"].as_array().unwrap() {
            let ids = ids(&decoded["ids"]);
            assert_eq!(
                tokenizer.decode(&ids).unwrap(),
                decoded["text"].as_str().unwrap(),
                "{name}: {ids:?}"
            );
        }
        let mut variables = SpecialTokens::read(dir.path()).unwrap().named;
        let mut expected = strings(&case["variables"]);
        variables.sort();
        expected.sort();
        assert_eq!(variables, expected, "{name}");
    }
}

#[test]
fn templates_as_transformers() {
    let golden = golden();
    let tokens = strings(&golden["variables"]);
    let mut wrong = Vec::new();
    for case in golden["templates"].as_array().unwrap() {
        let (name, source) = (case["name"].as_str().unwrap(), case["source"].as_str().unwrap());
        let template = ChatTemplate::parse(source, Path::new("chat_template.jinja"), &tokens);
        for run in case["runs"].as_array().unwrap() {
            let (prompt, image) =
                (run["prompt"].as_str().unwrap(), run["image"].as_bool().unwrap());
            let rendered = match &template {
                Ok(template) => {
                    template.render(prompt, image).map_err(|e| one_line(&e, "chat_template.jinja"))
                }
                Err(e) => Err(one_line(e, "chat_template.jinja")),
            };
            match (run["text"].as_str(), rendered) {
                (Some(expected), Ok(text)) if text == expected => {}
                (None, Err(_)) => {}
                (expected, got) => wrong
                    .push(format!("{name}: {prompt:?}\n  expected {expected:?}\n  got {got:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn templates_are_looked_for_in_order() {
    let question = |dir: &tempfile::TempDir| {
        ChatTemplate::open(dir.path(), Family::Mistral).and_then(|t| t.render("Why?", true))
    };
    let named =
        json!([{"name": "tool_use", "template": "no"}, {"name": "default", "template": "list"}]);
    let files = [
        (
            "processor_config.json",
            json!({"chat_template": {"x": "no", "default": "by name"}}),
            "by name",
        ),
        ("chat_template.json", json!({"chat_template": "json"}), "json"),
        (
            "chat_template.jinja",
            json!("jinja {{ bos_token }}{{ image_token }}\n"),
            "jinja <s><image>",
        ),
        (
            "tokenizer_config.json",
            json!({"bos_token": "<s>", "image_token": "<image>", "chat_template": named}),
            "list",
        ),
    ];
    let dir = folder(&files.each_ref().map(|(name, value, _)| (*name, value)));
    for (name, _, expected) in files {
        assert_eq!(question(&dir).unwrap(), expected);
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    assert_eq!(question(&dir).unwrap(), "[INST] <image>\nWhy? [/INST]");

    let default = ChatTemplate::open(dir.path(), Family::Llama).unwrap();
    assert_eq!(default.render("Why?", true).unwrap(), "USER: <image>\nWhy? ASSISTANT:");
    assert_eq!(default.render("Why?", false).unwrap(), "USER: Why? ASSISTANT:");
    let mistral = ChatTemplate::open(dir.path(), Family::Mistral).unwrap();
    assert_eq!(mistral.render("Why?", false).unwrap(), "[INST] Why? [/INST]");

    // A key that says nothing is no template; a file that is there for nothing else must have it.
    let dir = folder(&[
        ("processor_config.json", &json!({"chat_template": null})),
        ("tokenizer_config.json", &json!({"chat_template": "last"})),
    ]);
    assert_eq!(question(&dir).unwrap(), "last");
    for (name, value) in [
        ("chat_template.json", json!({})),
        ("chat_template.json", json!({"chat_template": 1})),
        ("chat_template.json", json!("{\"chat_template\": \"x")),
        ("chat_template.json", json!([])),
        ("processor_config.json", json!({"chat_template": [{"name": "other", "template": "x"}]})),
        ("processor_config.json", json!({"chat_template": {"default": ["x"]}})),
        ("processor_config.json", json!("")),
        ("tokenizer_config.json", json!({"chat_template": "x", "bos_token": 3})),
        ("tokenizer_config.json", json!({"chat_template": "x", "extra_special_tokens": "x"})),
        ("tokenizer_config.json", json!({"chat_template": "x", "extra_special_tokens": [{}]})),
        ("tokenizer_config.json", json!({"chat_template": "x", "added_tokens_decoder": []})),
        (
            "tokenizer_config.json",
            json!({"chat_template": "x", "added_tokens_decoder": {"-1": {"content": "a"}}}),
        ),
        ("chat_template.jinja", json!("{{ ")),
    ] {
        one_line(&question(&folder(&[(name, &value)])).unwrap_err(), name);
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("chat_template.jinja"), [b'a', 0xff]).unwrap();
    assert!(one_line(&question(&dir).unwrap_err(), "chat_template.jinja").contains("UTF-8"));
    fs::remove_file(dir.path().join("chat_template.jinja")).unwrap();
    fs::create_dir(dir.path().join("chat_template.jinja")).unwrap();
    one_line(&question(&dir).unwrap_err(), "chat_template.jinja");
}
