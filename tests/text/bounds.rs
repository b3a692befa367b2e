//! Work that a folder's files could ask for without end: templates whose lists share parts, and tokenizers whose parts
//! panic or let a text grow. The tokenizers that real models have are let in.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hired::text::{ChatTemplate, SpecialTokens, Tokenizer};
use serde_json::{Value, json};

use super::one_line;

/// Far more than any of these takes in an unoptimised build on a busy machine, and far less than for ever.
const PATIENCE: Duration = Duration::from_secs(60);

fn render(source: &str) -> hired::Result<String> {
    let start = Instant::now();
    let rendered = ChatTemplate::parse(source, Path::new("chat_template.jinja"), &[])
        .and_then(|template| template.render("Why?", true));
    let head: String = source.chars().take(100).collect();
    assert!(start.elapsed() < PATIENCE, "{head}");
    rendered
}

#[test]
fn templates_whose_lists_double_end_with_one_line() {
    let twice = |step: &str, end: &str| {
        let begin = "{% set ns=namespace(s=[1],t=[1]) %}{% for i in range(60) %}";
        format!("{begin}{step}{{% endfor %}}{end}")
    };
    let nested = "{% set ns.s=[ns.s,ns.s] %}{% set ns.t=[ns.t,ns.t] %}";
    let mut sources: Vec<String> = [
        "{{ ns.s==ns.t }}",
        "{{ ns.s!=ns.t }}",
        "{{ ns.s<ns.t }}",
        "{{ ns.s in [ns.t] }}",
        "{{ [ns.s,ns.t]|sort|length }}",
        "{{ [ns.s,ns.t]|unique|list|length }}",
        "{{ [ns.s,ns.t]|min|length }}",
        "{{ {ns.s:1}[ns.t] }}",
        "{{ ns.s is eq ns.t }}",
        "{{ ns.s is in [ns.t] }}",
        "{{ ns.s|join|length }}",
        "{{ (ns.s~ns.t)|length }}",
        "{{ ns.s|string|length }}",
        "{{ [ns.s]|map('string')|list|length }}",
    ]
    .map(|end| twice(nested, end))
    .into();
    for step in [
        "{% set ns.s=ns.s+ns.s %}",
        "{% set ns.s=ns.s*2 %}",
        "{% set ns.s=(ns.s,ns.s) %}",
        "{% set ns.s=ns.s,ns.s %}",
        "{% set ns.s={'a':ns.s,'b':ns.s} %}",
        "{% set ns.s=dict(a=ns.s,b=ns.s) %}",
        "{% set ns.s=ns.s|zip(ns.s)|list %}",
        "{% set ns.s=ns.s|map('default')|list+ns.s|list %}",
        "{% set ns.s=[[ns.s]]|map('first')|list|chain([ns.s])|list %}",
        "{% set ns.s=[none,none]|map('default',ns.s,true)|list %}",
        "{% set ns.s=namespace(a=ns,b=ns) %}",
        "{% set ns.s=[ns] %}",
        "{% with a=ns.s+ns.s %}{% set ns.s=a %}{% endwith %}",
        "{% macro m(a) %}{% set ns.s=a %}{% endmacro %}{{ m(ns.s+ns.s) }}",
        "{% macro m(a=[ns.s,ns.s]) %}{% set ns.s=a %}{% endmacro %}{{ m() }}",
    ] {
        let end = if step.contains("macro") || step.contains("with") {
            "{{ ns.s|length }}"
        } else {
            "{{ ns.s==ns.t }}"
        };
        sources.push(twice(step, end));
    }
    sources.extend(
        [
            // A list grows as it is handed on.
            "{% macro m(a,n) %}{% if n %}{{ m(a+a,n-1) }}{% else %}{{ a|length }}{% endif %}{% endmacro %}{{ m([1],50) }}",
            "{% for x in [[1]] recursive %}{{ loop([x+x,x+x]) }}{% endfor %}",
            "{{ [[[[[1]*999]*999]*999]*999]*999 == 1 }}",
            // In a straight line.
            &format!("{{% set a=[1] %}}{}{{{{ a==[a] }}}}", "{%set a=[a,a]%}".repeat(500)),
            // Nested without an end, and freed again.
            "{% set ns=namespace(y=1) %}{% for i in range(9999) %}{% set ns.y={'a':ns.y} %}{% endfor %}",
            &"{%set a=[a]%}".repeat(5000),
            // Text without end in one value.
            "{% set ns=namespace(y='x'*4000) %}{{ [ns.y]*99999 }}",
            // The filter that measures cannot be taken away.
            &twice(&format!("{{% set _measured=1 %}}{{% macro _measured_attribute(x) %}}{{% endmacro %}}{nested}"), "{{ ns.s==ns.t }}"),
        ]
        .map(str::to_owned),
    );
    for source in sources {
        match render(&source) {
            Err(e) => drop(one_line(&e, "chat_template.jinja")),
            Ok(text) => panic!("{source} gave {} bytes", text.len()),
        }
    }
}

#[test]
fn templates_in_use_are_what_they_were() {
    // Whether the measuring filters change a value: those of `tests/text/golden.json` show it on real templates, these on
    // what Jinja can say.
    for (source, expected) in [
        ("{{ [1,2][0] + {'a': 3}['a'] }}", "4"),
        ("{{ (1,2)|length }}{{ [] }}{{ {} }}{{ () }}", "2[]{}()"),
        ("{% set a, b = 1, 2 %}{{ a + b }}", "3"),
        ("{% set x = (1 + 2) * 3 %}{{ x }}{{ -x }}{{- (x) -}} ", "9-99"),
        ("{% for (k, v) in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{% for x in [1,2,3] if x is not in [2] %}{{ x }}{% endfor %}", "13"),
        ("{{ 'a' if (1 == 1) else [] }}{{ 1 if not (1 in [2]) else 2 }}", "a1"),
        ("{% macro m(a, b=[1], *) %}{% endmacro %}", ""),
        (
            "{% macro m(a, b=[1] + [2]) %}{{ a }}{{ b[1] }}{% endmacro %}{{ m('x' ~ 'y') }}{{ m(b=[3, 4], a='z') }}",
            "xy2z4",
        ),
        ("{% call(x) m2() %}{% endcall %}", ""),
        ("{% with a = [1] + [2], b = 3 %}{{ a[1] + b }}{% endwith %}", "5"),
        (
            "{% set ns = namespace(a=[1], b='x') %}{% set ns.a = ns.a + [2] %}{{ ns.a|join(',') }}{{ ns.b }}",
            "1,2x",
        ),
        (
            "{% set messages = messages + [{'role': 'x'}] %}{{ messages|map(attribute='role')|join(' ') }}",
            "user x",
        ),
        ("{{ messages[0]['content'][1:]|map(attribute='text')|first }}", "Why?"),
        (
            "{{ messages[0]|tojson is string }}{{ 7 is divisibleby 7 }}{{ 7 is eq(7) and [7] is eq [7] }}",
            "TrueTrueTrue",
        ),
        ("{%- set x -%} a {%- endset %}{{ x|default([])|length }}", "1"),
        ("{{ '([{'.split('[')[0] ~ \"it's ]\" }}", "(it's ]"),
    ] {
        match render(source) {
            Ok(text) => assert_eq!(text, expected, "{source}"),
            // Not Jinja to begin with.
            Err(e) => assert!(expected.is_empty(), "{source}: {e}"),
        }
    }
}

fn parse(json: &Value) -> hired::Result<Tokenizer> {
    Tokenizer::parse(&json.to_string(), Path::new("tokenizer.json"), &SpecialTokens::default())
}

/// A small vocabulary with the parts of a real tokenizer.
fn tokenizer(parts: Value) -> Value {
    let mut json = json!({
        "added_tokens": [{ "id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                           "normalized": false, "special": true }],
        "model": { "type": "BPE", "unk_token": "<unk>", "byte_fallback": true,
                   "vocab": { "<s>": 0, "<unk>": 1, "a": 2, "b": 3, "ab": 4, "▁": 5, "Ġ": 6 }, "merges": ["a b"] },
    });
    for (key, part) in parts.as_object().unwrap() {
        json[key] = part.clone();
    }
    json
}

#[test]
fn the_fuzzers_findings_end_with_one_line() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/tokenizer");
    for entry in fs::read_dir(seeds).unwrap() {
        let path = entry.unwrap().path();
        let json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        match (parse(&json), path.file_name().unwrap() == "bytes") {
            (Ok(tokenizer), true) => assert!(!tokenizer.encode("a b", true).unwrap().is_empty()),
            (Err(e), false) => drop(one_line(&e, "tokenizer.json")),
            (outcome, _) => panic!("{}: {outcome:?}", path.display()),
        }
    }
}

#[test]
fn parts_that_no_llava_tokenizer_has_are_refused_by_name() {
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let nested = (0..20).fold(
        json!({"type": "ByteLevel"}),
        |part, _| json!({"type": "Sequence", "pretokenizers": [part, {"type": "ByteLevel"}]}),
    );
    for (parts, word) in [
        (json!({"pre_tokenizer": {"type": "FixedLength", "length": 4}}), "FixedLength"),
        (
            json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Delimiter"}]}}),
            "Delimiter",
        ),
        (json!({"normalizer": {"type": "Precompiled"}}), "Precompiled"),
        (json!({"decoder": {"type": "CTC"}}), "CTC"),
        (json!({"post_processor": {"type": "Odd"}}), "Odd"),
        (json!({"normalizer": {"type": "Sequence"}}), "normalizers"),
        (json!({"normalizer": [1]}), "type"),
        (json!({"model": {"type": "Unigram"}}), "Unigram"),
        (json!({"model": {"type": "BPE", "dropout": 0.1}}), "dropout"),
        (json!({"normalizer": replace("", "x")}), "Replace"),
        (
            json!({"decoder": {"type": "Replace", "pattern": {"Regex": "a*"}, "content": "x"}}),
            "Replace",
        ),
        (json!({"normalizer": replace("a", &"b".repeat(1000))}), "times as long"),
        (
            json!({"decoder": {"type": "Sequence", "decoders": vec![replace("a", "bbbb"); 9]}}),
            "times as long",
        ),
        (json!({"pre_tokenizer": nested}), "steps"),
        (json!({"added_tokens": [{"id": 0, "content": "x".repeat(5000)}]}), "5000 bytes"),
    ] {
        let message = one_line(&parse(&tokenizer(parts)).unwrap_err(), "tokenizer.json");
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn the_parts_of_real_tokenizers_are_let_in() {
    let space = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let bytes = |prefix: bool, regex: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": true, "use_regex": regex});
    let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let bos = json!({
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    });
    let metaspace =
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false});
    let words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let llama = json!({
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space(" ", "▁")]},
        "post_processor": bos,
        "decoder": {"type": "Sequence", "decoders": [space("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                                                     {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    });
    let cases = [
        ("LLaMA 2, Vicuna, Yi, Phi-3, Mistral 0.2", llama),
        (
            "Mistral 0.3",
            json!({"pre_tokenizer": metaspace, "post_processor": bos,
            "decoder": {"type": "Sequence", "decoders": [space("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                                                         {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}}),
        ),
        (
            "Llama 3",
            json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(words), bytes(false, false)]},
            "post_processor": {"type": "Sequence", "processors": [bytes(true, true), bos]}, "decoder": bytes(true, true)}),
        ),
        (
            "Qwen2, Qwen3, InternVL",
            json!({"normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(words), bytes(false, false)]},
            "post_processor": bytes(false, false), "decoder": bytes(false, false)}),
        ),
        (
            "Phi-2 (CodeGen), OPT",
            json!({"pre_tokenizer": bytes(false, true), "post_processor": bytes(true, true),
            "decoder": bytes(true, true)}),
        ),
        (
            "Gemma",
            json!({"normalizer": space(" ", "▁"), "post_processor": bos,
            "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false},
            "decoder": {"type": "Sequence", "decoders": [space("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}]}}),
        ),
        (
            "DeepSeek",
            json!({"normalizer": {"type": "Sequence", "normalizers": []},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split("[\r\n]"), split("\\s?\\p{L}+"),
                {"type": "Digits", "individual_digits": true}, bytes(false, false)]}, "decoder": bytes(true, true)}),
        ),
        (
            "Falcon",
            json!({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Punctuation", "behavior": "Contiguous"}, bytes(false, true),
            {"type": "Digits", "individual_digits": false}]}, "decoder": bytes(false, true)}),
        ),
        (
            "BART",
            json!({"pre_tokenizer": bytes(false, true), "decoder": bytes(true, true),
            "post_processor": {"type": "RobertaProcessing", "sep": ["<s>", 0], "cls": ["<s>", 0], "trim_offsets": true,
                               "add_prefix_space": false}}),
        ),
    ];
    for (name, parts) in cases {
        let tokenizer = parse(&tokenizer(parts)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let ids = tokenizer.encode("ab", false).unwrap();
        assert!(ids.contains(&4), "{name}: {ids:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap().trim(), "ab", "{name}");
    }
}

#[test]
fn a_text_is_bounded_before_it_is_encoded() {
    let growing = json!({"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "b".repeat(200)}});
    let tokenizer = parse(&tokenizer(growing)).unwrap();
    assert!(!tokenizer.encode(&"a".repeat(1000), true).unwrap().is_empty());
    let error = tokenizer.encode(&"a".repeat(1 << 20), true).unwrap_err();
    assert!(
        matches!(&error, hired::Error::Request(what) if what.contains("1048576 bytes")),
        "{error}"
    );
}
