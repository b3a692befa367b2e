//! Files that are damaged or made to do harm: one line that names the file, no panic, bounded work.

use std::fs;
use std::path::Path;

use hired::text::{ChatTemplate, SpecialTokens, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{golden, here, one_line, stream};

#[test]
fn hostile_templates_end_with_one_line() {
    let doubling = |step: &str| {
        format!(
            "{{% set ns = namespace(x='ab', y=[1]) %}}{{% for i in range(100) %}}{step}{{% endfor %}}{{{{ ns.x }}}}{{{{ ns.y }}}}"
        )
    };
    let mut sources = vec![
        "{% for i in range(100000000) %}{% endfor %}".to_owned(),
        "{% for i in range(9999) %}{% for j in range(9999) %}{{ i }}{% endfor %}{% endfor %}"
            .to_owned(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(),
        "{{ 'x' * 99999999 * 99999999 }}".to_owned(),
        "{{ ('x' * 50000000) | length }}".to_owned(),
        "{{ range(1000000000) | list | length }}".to_owned(),
        "{{ '%1000000000d' % 1 }}".to_owned(),
        "{{ '%1000000000d' | format(1) }}".to_owned(),
        "{{ '%*d' | format(1000000000, 1) }}".to_owned(),
        "{{ '{:2000000000}'.format(1) }}".to_owned(),
        "{{ '{:{}}'.format(1, 2000000000) }}".to_owned(),
        "{{ '{0:>{1}}'.format(1, 2000000000) }}".to_owned(),
        "{{ 'x' | indent(1000000000, true) }}".to_owned(),
        "{{ 'x' | center(1000000000) }}".to_owned(),
        "{{ 'a'.replace('', 'b' * 10000).replace('', 'b' * 10000).replace('', 'b' * 10000) }}"
            .to_owned(),
        doubling("{% set ns.x = ns.x ~ ns.x %}"),
        doubling("{% set ns.x = ns.x + ns.x %}"),
        doubling("{% set ns.x = ns.x * 2 %}"),
        doubling("{% set ns.x = ns.x.join(['a', ns.x, 'b']) %}"),
        doubling("{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
        doubling("{% set ns.y = [ns.y, ns.y] %}"),
        doubling("{% set ns.y = [ns.y, ns.y] %}") + "{{ ns.y | tojson }}",
        doubling("{% set ns.y = {'a': ns.y, 'b': ns.y} %}") + "{{ ns.y | tojson(indent=60) }}",
        "{{ raise_exception('x\n' * 100000) }}".to_owned(),
        "{{ raise_exception('\u{1b}[2J\u{7f}\u{9b}2J') }}".to_owned(),
        "{{ strftime_now('%Q') }}".to_owned(),
        "{% if %}{% endfor %}\u{0}".to_owned(),
        format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(100_001)),
        "{% if 1 %}".repeat(100_000),
        "{% generation %}".repeat(100_000),
    ];
    sources.extend((0..40).map(|i| format!("{{{{ {} }}}}{{%", "{'a':".repeat(i))));
    for source in sources {
        let head: String = source.chars().take(120).collect();
        let result = ChatTemplate::parse(&source, Path::new("chat_template.jinja"), &[])
            .and_then(|template| template.render("Why?", true));
        match result {
            Err(e) => drop(one_line(&e, "chat_template.jinja")),
            Ok(text) => panic!("{head} gave {} bytes", text.len()),
        }
    }
    // These are legal as far as they go, but neither compiling them nor freeing their values may need the stack.
    let file = Path::new("chat_template.jinja");
    let deep = ["[".repeat(100), "]".repeat(100)];
    let fill = |size: usize, a: &str, b: &str, c: &str| {
        format!("{a}{}{c}", b.repeat((size - a.len()) / b.len()))
    };
    for (source, ends) in [
        (fill(65_000, "{{ ", "-", "1 }}"), false),
        (fill(4000, "{{ ", "-", "1 }}"), true),
        (fill(4000, "{{ ", "not ", "1 }}"), true),
        (fill(4000, "{{ ", "1+", "1 }}"), true),
        (fill(4000, "{{ ", "1**", "1 }}"), true),
        (fill(4000, "{{ ", "1~", "1 }}"), true),
        (fill(4000, "{{ ", "1 if 1 else ", "1 }}"), true),
        (fill(4000, "{{ a", ".a", " }}"), false),
        (fill(4000, "{{ 'a'", "|e", " }}"), true),
        (fill(65_000, "{% if 1 %}", "{%elif 1%}", "{% endif %}"), true),
        (
            format!(
                "{{% set ns = namespace(y=1) %}}{{% for i in range(9999) %}}{{% set ns.y = {}ns.y{} %}}{{% endfor %}}",
                deep[0], deep[1]
            ),
            false,
        ),
    ] {
        let head: String = source.chars().take(60).collect();
        let rendered = ChatTemplate::parse(&source, file, &[]).and_then(|t| t.render("Why?", true));
        assert_eq!(rendered.is_ok(), ends, "{head}: {rendered:?}");
    }
    let endless = ChatTemplate::parse(&" ".repeat(1 << 20), file, &[]).unwrap_err();
    assert!(one_line(&endless, "chat_template.jinja").contains("longer"));
    // Ordinary format strings still work.
    let ordinary = "{{ '{} {{x}} {:>4}'.format('a', 7) }}{{ '%s-%03d' | format('b', 7) }}";
    let ordinary = ChatTemplate::parse(ordinary, file, &[]).unwrap();
    assert_eq!(ordinary.render("Why?", true).unwrap(), "a {x}    7b-007");
    // A long question is none of the template's fault.
    let long = "word ".repeat(200_000);
    let template =
        ChatTemplate::parse("{{ messages[0].content[-1].text.strip() + ' ' }}", file, &[]).unwrap();
    assert_eq!(template.render(&long, true).unwrap(), long);
    assert!(template.render(&long.repeat(2), true).unwrap_err().to_string().contains("shorten"));
}

#[test]
fn hostile_tokenizers_end_with_one_line() {
    let open =
        |json: &str| Tokenizer::parse(json, Path::new("tokenizer.json"), &SpecialTokens::default());
    let whole = fs::read_to_string(here("synth.json")).unwrap();
    for end in (0..whole.len() - 2).step_by(97).chain(whole.len() - 60..whole.len() - 2) {
        if whole.is_char_boundary(end) {
            one_line(&open(&whole[..end]).unwrap_err(), "tokenizer.json");
        }
    }
    let value: Value = serde_json::from_str(&whole).unwrap();
    let with = |pointer: &str, new: Value| {
        let mut value = value.clone();
        *value.pointer_mut(pointer).unwrap() = new;
        value.to_string()
    };
    for (pointer, new) in [
        ("", json!(null)),
        ("", json!([])),
        ("", json!({})),
        ("", json!({"model": {"type": "BPE"}})),
        ("/model", json!({"type": "Strange"})),
        ("/model/vocab", json!([])),
        ("/model/vocab", json!({"a": -1})),
        ("/model/vocab", json!({"a": 1e300})),
        ("/model/vocab", json!({"a": "\u{9b}".repeat(5000)})),
        ("/model/type", json!("\u{9b}".repeat(5000))),
        ("/post_processor/special_tokens", json!([])),
        ("/post_processor/single/0/SpecialToken/id", json!("\u{9b}".repeat(5000))),
        ("/model/merges", json!([["a"]])),
        ("/model/merges", json!(["a"])),
        ("/model/merges", json!([["no", "such"]])),
        ("/model/merges", json!(3)),
        ("/model/continuing_subword_prefix", json!("long prefix")),
        ("/decoder", json!({"type": "Strange"})),
        ("/decoder", json!(3)),
        ("/decoder", json!({"type": "Strip", "content": "x", "start": 0, "stop": 1})),
        ("/decoder/decoders/3/stop", json!(4)),
        ("/normalizer", json!({"type": "Replace", "pattern": {"Regex": "("}, "content": ""})),
        (
            "/pre_tokenizer",
            json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
        ),
        ("/post_processor/special_tokens", json!({})),
        ("/added_tokens", json!([{"id": 1}])),
    ] {
        one_line(&open(&with(pointer, new)).expect_err(pointer), "tokenizer.json");
    }
    // A vocabulary without bytes and without unknown token cannot express everything.
    let poor =
        json!({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": "missing"}});
    let poor = open(&poor.to_string()).unwrap();
    assert_eq!(poor.encode("a", true).unwrap(), [0]);
    one_line(&poor.encode("b", true).unwrap_err(), "tokenizer.json");

    let empty = tempfile::tempdir().unwrap();
    assert!(
        one_line(&Tokenizer::open(empty.path()).unwrap_err(), "tokenizer.json").contains("missing")
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// One value somewhere in the file is replaced; large lists and maps are entered rarely.
    #[test]
    fn damaged_tokenizers_do_not_panic(file in 0usize..5, path in prop::collection::vec(0usize..50, 1..6), new in 0usize..12) {
        let files = ["synth", "metaspace", "metaspace-decoder", "bytelevel", "wordpiece"];
        let mut json: Value = serde_json::from_str(&fs::read_to_string(here(&format!("{}.json", files[file]))).unwrap()).unwrap();
        let mut place = &mut json;
        for step in path {
            let entered = match &*place {
                Value::Object(map) if !map.is_empty() => map.keys().nth(step % map.len()).cloned(),
                Value::Array(list) if !list.is_empty() => Some((step % list.len()).to_string()),
                _ => None,
            };
            let Some(key) = entered else { break };
            place = place.pointer_mut(&format!("/{}", key.replace('~', "~0").replace('/', "~1"))).unwrap();
        }
        *place = [
            json!(null), json!(0), json!(-1), json!(1e300), json!(4294967295u32), json!(true), json!(""), json!("<s>"), json!("▁"),
            json!([]), json!({}), json!([{"type": "Strip", "content": "a", "start": 0, "stop": 3}]),
        ][new].clone();
        match Tokenizer::parse(&json.to_string(), Path::new("tokenizer.json"), &SpecialTokens::default()) {
            Err(e) => drop(one_line(&e, "tokenizer.json")),
            Ok(tokenizer) => {
                let _ = tokenizer.encode("a <s> b<image>\n🗼", true);
                let _ = tokenizer.decode(&(0..300).collect::<Vec<_>>());
                let _ = tokenizer.decode(&[]);
                stream(&tokenizer, &[5, 9, 1, 200, 13]);
            }
        }
    }

    #[test]
    fn damaged_templates_do_not_panic(at in 0usize..1500, insert in "[{}%# a-z'\"\\-\\[\\]().|~\n]{0,6}", cut in 0usize..4) {
        let golden = golden();
        for case in golden["templates"].as_array().unwrap() {
            let source: Vec<char> = case["source"].as_str().unwrap().chars().collect();
            let at = at % source.len();
            let end = (at + cut).min(source.len());
            let damaged: String = source[..at].iter().copied().chain(insert.chars()).chain(source[end..].iter().copied()).collect();
            let rendered = ChatTemplate::parse(&damaged, Path::new("chat_template.jinja"), &[]).and_then(|t| t.render("Why?", true));
            if let Err(e) = rendered {
                one_line(&e, "chat_template.jinja");
            }
        }
    }
}
