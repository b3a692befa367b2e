//! `hired run` that succeeds.

use super::{answer, json, numbers, on_model, path, printed};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn has(value: &Value, expected: &str) {
    let missing: Vec<&str> = expected.split(' ').filter(|key| value.get(key).is_none()).collect();
    assert!(missing.is_empty(), "{missing:?} not among {:?}", keys(value));
}

#[test]
fn the_object_has_what_is_promised() {
    let all = answer("--prompt What~is~this? --image @a.png --max-new-tokens 6");
    has(
        &all,
        "schema text token_ids finish_reason prompt_tokens visual method rule alpha timings memory device",
    );
    has(
        &all["timings"],
        "load preprocess vision select prefill ttft decode decode_tokens_per_second",
    );
    has(&all["memory"], "weights mapped kv workspace other peak predicted_peak");
    has(&all["device"], "kind name gemm");
    assert_eq!(all["schema"], 1);
    assert_eq!(all["device"]["kind"], "cpu");
    assert_eq!(all["finish_reason"], "length");
    assert_eq!(
        (&all["method"], &all["rule"], &all["alpha"]),
        (&json!("hired"), &json!("exact"), &json!(0.5))
    );
    assert_eq!(all["token_ids"].as_array().unwrap().len(), 6);

    let visual = &all["visual"];
    has(
        visual,
        "grid partitions tokens_per_partition valid budget kept newlines allocation kept_indices",
    );
    assert_eq!(visual["grid"], json!([2, 2]));
    assert_eq!((&visual["partitions"], &visual["tokens_per_partition"]), (&json!(5), &json!(64)));
    assert_eq!((&visual["valid"], &visual["newlines"]), (&json!(320), &json!(0)));
    assert_eq!((&visual["budget"], &visual["kept"]), (&json!(64), &json!(64)));
    let allocation = numbers(&visual["allocation"]);
    let kept = visual["kept_indices"].as_array().unwrap();
    assert_eq!((allocation.len(), allocation.iter().sum::<u64>()), (5, 64));
    for (count, indices) in allocation.iter().zip(kept) {
        let indices = numbers(indices);
        assert_eq!(*count, indices.len() as u64);
        assert!(indices.is_sorted_by(|a, b| a < b) && indices.iter().all(|&i| i < 64));
    }
}

#[test]
fn text_and_json_tell_the_same() {
    let rest = "--prompt What~is~this? --image @a.png --max-new-tokens 24";
    let text = printed(&on_model("run", rest));
    assert_eq!(text, format!("{}\n", answer(rest)["text"].as_str().unwrap()));
    assert!(text.len() > 1);
}

#[test]
fn every_option_reaches_the_engine() {
    let plain = answer("--prompt x --image @a.png --max-new-tokens 8");
    let visual = |rest: &str| {
        let all = answer(&format!("--prompt x --image @a.png --max-new-tokens 8 {rest}"));
        (all["visual"].clone(), all)
    };
    for rest in [
        "--budget 63",
        "--budget 19.9%",
        "--rule paper",
        "--rule repo",
        "--alpha 0.25",
        "--init-layer 1",
        "--init-layer -1",
        "--rule equal",
        "--heads max",
        "--heads 1",
        "--final-layer 0",
        "--final-layer -1",
    ] {
        assert_ne!(visual(rest).0, plain["visual"], "{rest}");
    }
    assert_eq!(visual("--final-layer -2").0, plain["visual"]);
    assert_eq!(visual("--newlines all").0["newlines"], 16);
    assert_eq!(
        visual("--newlines all").1["prompt_tokens"],
        plain["prompt_tokens"].as_u64().unwrap() + 16
    );
    for rest in ["--budget full", "--method full"] {
        let (visual, all) = visual(rest);
        assert_eq!((&visual["kept"], &visual["newlines"]), (&json!(320), &json!(16)), "{rest}");
        assert_eq!((&all["rule"], &all["alpha"]), (&Value::Null, &Value::Null), "{rest}");
    }
    assert_eq!(visual("--method full").1["method"], "full");
    assert_eq!(visual("--method fastervlm --rule paper").0, visual("--rule equal").0);
    assert_eq!(plain["host_round_trip"], false);
    for (method, rest) in [
        ("prumerge --prumerge-count budget", "--neighbours 1"),
        ("prumerge", "--outliers 0"),
        ("prumerge+", "--prumerge-count budget"),
        ("visionzip", "--contextual 0.5"),
        ("prumerge", "--key-layer 0"),
        ("scope", "--saliency 3"),
        ("divprune", "--budget 63"),
        ("fastv", "--fastv-layer 1"),
        ("spatial", "--spatial stride"),
    ] {
        let of = |rest: &str| visual(&format!("--method {method} {rest}"));
        let ((visual, all), (_, other)) = (of(""), of(rest));
        assert_ne!(
            (&all["visual"], &all["text"]),
            (&other["visual"], &other["text"]),
            "{method} {rest}"
        );
        let rows = visual["kept"].as_u64().unwrap() + visual["merged"].as_u64().unwrap();
        assert!(rows <= 64 && visual["budget"] == 64, "{visual}");
        let nothing = ["scope", "divprune", "spatial", "fastv"].contains(&method);
        assert_eq!(visual["merged"] == 0, nothing, "{visual}");
        let mut merged = visual["merged_indices"].as_array().unwrap().iter();
        assert_eq!(merged.all(|patches| patches == &json!([])), nothing, "{visual}");
    }
    assert_eq!(visual("--budget full --newlines none").0["newlines"], 0);
    assert_eq!(visual("--budget 5000").0["budget"], 5000);
    let half = visual("--dtype f16").1;
    assert_eq!(half["memory"]["kv"].as_u64().unwrap() * 2, plain["memory"]["kv"].as_u64().unwrap());
    // Options that concern CUDA alone change nothing here.
    let cuda = visual("--device cpu --gemm own --no-graph --dtype f32").1;
    assert_eq!(cuda["token_ids"], plain["token_ids"]);
}

#[test]
fn drawing_follows_the_seed() {
    let drawn =
        |rest: &str| answer(&format!("--prompt x --max-new-tokens 12 {rest}"))["token_ids"].clone();
    let greedy = drawn("");
    let hot = drawn("--temperature 1.5 --seed 7");
    assert_eq!(hot, drawn("--temperature 1.5 --seed 7"));
    assert_ne!(hot, drawn("--temperature 1.5 --seed 8"));
    assert_ne!(hot, greedy);
    assert_eq!(greedy, drawn("--temperature 1.5 --seed 7 --top-k 1"));
    assert_eq!(greedy, drawn("--temperature 1.5 --seed 7 --top-p 0"));
    assert_eq!(greedy, drawn("--seed 9 --top-k 3 --top-p 0.1"));
    assert_eq!(greedy, drawn("--temperature 1.5 --seed 7 --min-p 1"));
    assert_eq!(greedy, drawn("--repetition-penalty 1"));
    // What was there before comes again.
    let again = drawn("--repetition-penalty 0.01");
    let ids: std::collections::BTreeSet<String> =
        again.as_array().unwrap().iter().map(ToString::to_string).collect();
    assert!(again != greedy && ids.len() < 12, "{again}");
}

#[test]
fn a_batch_answers_as_each_image_alone() {
    let alone: Vec<Value> = ["a.png", "b.png", "c.png"]
        .map(|name| answer(&format!("--prompt x --max-new-tokens 10 --image @{name}")))
        .into();
    let rest = "--prompt x --max-new-tokens 10 --image @a.png --image @b.png --image @c.png";
    let batch = answer(rest);
    let batch = batch.as_array().unwrap();
    assert_eq!(batch.len(), 3);
    for (one, all) in alone.iter().zip(batch) {
        for key in ["text", "token_ids", "finish_reason", "prompt_tokens", "visual"] {
            assert_eq!(one[key], all[key], "{key}");
        }
    }
    let texts: String =
        alone.iter().map(|one| format!("{}\n", one["text"].as_str().unwrap())).collect();
    assert_eq!(printed(&on_model("run", rest)), texts);
}

#[test]
fn without_an_image_nothing_is_visual() {
    let all = answer("--prompt Hello --max-new-tokens 5 --budget auto --max-memory 1GiB");
    for key in ["visual", "method", "rule", "alpha"] {
        assert!(all[key].is_null(), "{key}");
    }
    // The checkpoint's template, written out.
    let raw = answer("--raw-prompt --prompt USER:~Hello~ASSISTANT: --max-new-tokens 5");
    assert_eq!(
        (&raw["token_ids"], &raw["prompt_tokens"]),
        (&all["token_ids"], &all["prompt_tokens"])
    );
    let image = answer("--prompt Hello --image @a.png --max-new-tokens 5");
    let mut args =
        on_model("run", "--raw-prompt --image @a.png --max-new-tokens 5 --json --prompt");
    args.push("USER: <image>\nHello ASSISTANT:".into());
    assert_eq!(json(&args)["token_ids"], image["token_ids"]);
}

#[test]
fn words_may_look_like_options() {
    assert!(answer("--max-new-tokens 2 --prompt -x")["text"].is_string());
    assert!(answer("--max-new-tokens 2 --prompt=--json")["text"].is_string());
}

#[test]
fn an_automatic_budget_keeps_its_limit() {
    let auto = |limit: &str| {
        answer(&format!("--prompt x --image @a.png --max-new-tokens 2 --budget auto {limit}"))
    };
    let budget = |all: &Value| all["visual"]["budget"].as_u64().unwrap();
    let memory = |all: &Value| all["memory"]["peak"].as_u64().unwrap();
    let all = auto("--max-memory 1GiB");
    assert_eq!((budget(&all), &all["visual"]["kept"]), (320, &json!(320)));
    let limit = memory(&all) - 1;
    let less = auto(&format!("--max-memory {limit}"));
    assert!(memory(&less) <= limit && budget(&less) < 320);
    // One more would break it.
    let more = budget(&less) + 1;
    let more = answer(&format!("--prompt x --image @a.png --max-new-tokens 2 --budget {more}"));
    assert!(memory(&more) > limit);
    assert_eq!(budget(&auto("--max-ttft 1000")), 320);
    assert_eq!(budget(&auto(&format!("--max-ttft 1000 --max-memory {limit}"))), budget(&less));
}

/// The numbers of an f32 tensor.
fn floats(tensor: &safetensors::tensor::TensorView) -> Vec<f32> {
    assert_eq!(tensor.dtype(), Dtype::F32);
    tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn the_dump_holds_the_stages() {
    let dump = path("stages.safetensors");
    let all = answer(
        "--prompt x --image @b.png --max-new-tokens 2 --newlines all --dump @stages.safetensors",
    );
    let bytes = std::fs::read(&dump).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = tensors.names();
    names.sort_unstable();
    let expected = [
        "cls_attention.final",
        "cls_attention.init",
        "input_ids",
        "pixel_values",
        "prefill_logits",
        "visual_tokens",
    ];
    assert_eq!(names, expected);
    let get = |name: &str| tensors.tensor(name).unwrap();

    let visual = &all["visual"];
    let partitions = visual["partitions"].as_u64().unwrap() as usize;
    let rows = (visual["kept"].as_u64().unwrap() + visual["newlines"].as_u64().unwrap()) as usize;
    assert_eq!((partitions, visual["newlines"].as_u64().unwrap() > 0), (4, true));
    assert_eq!(get("pixel_values").shape(), [4, 3, 112, 112]);
    let pixels = floats(&get("pixel_values"));
    assert!(pixels.iter().all(|x| x.abs() < 3.0) && pixels.iter().any(|x| *x > 0.5));
    assert_eq!(get("cls_attention.init").shape(), [4, 64]);
    assert_eq!(get("cls_attention.final").shape(), [4, 64]);
    // Only the full image is scored for content.
    let (init, last) = (floats(&get("cls_attention.init")), floats(&get("cls_attention.final")));
    assert!(init[..64].iter().chain(&last).all(|x| *x >= 0.0 && *x < 4.0));
    assert!(init[64..].iter().all(|x| x.is_nan()));
    // The most attended patches are the kept ones.
    let kept = numbers(&visual["kept_indices"][0]);
    let (chosen, other): (Vec<_>, Vec<_>) = (0..64).partition(|i| kept.contains(i));
    let score = |i: &u64| last[*i as usize];
    assert!(
        chosen.iter().map(score).fold(4.0, f32::min) >= other.iter().map(score).fold(0.0, f32::max)
    );

    assert_eq!(get("visual_tokens").shape(), [rows, 128]);
    assert!(floats(&get("visual_tokens")).iter().all(|x| x.is_finite()));
    let ids = get("input_ids");
    assert_eq!(
        (ids.dtype(), ids.shape()),
        (Dtype::I64, &[all["prompt_tokens"].as_u64().unwrap() as usize][..])
    );
    let ids = ids.data().chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()));
    assert_eq!(ids.filter(|&id| id == 32000).count(), rows);
    let logits = floats(&get("prefill_logits"));
    let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
    assert_eq!((logits.len(), best as u64), (32064, all["token_ids"][0].as_u64().unwrap()));
}

#[test]
fn a_dump_of_words_alone_has_ids_and_logits() {
    answer("--prompt x --max-new-tokens 1 --dump @words.safetensors");
    let bytes = std::fs::read(path("words.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = tensors.names();
    names.sort_unstable();
    assert_eq!(names, ["input_ids", "prefill_logits"]);
}

#[test]
fn several_images_in_one_prompt_are_one_answer() {
    let plain = answer("--prompt x --image @a.png --max-new-tokens 4");
    assert!(keys(&plain).iter().all(|key| !["visuals", "images", "system"].contains(key)));
    let both = answer("--prompt x --image @a.png --image @c.png --together --max-new-tokens 4");
    let visuals = both["visuals"].as_array().unwrap();
    assert_eq!((visuals.len(), &visuals[0]), (2, &plain["visual"]));
    assert_eq!((&both["visual"], &both["image"]), (&visuals[0], &plain["image"]));
    assert_eq!(both["images"].as_array().unwrap().len(), 2);
    let system = answer("--prompt x --system Be~brief. --image @a.png --max-new-tokens 4");
    assert_eq!((&system["system"], &system["prompt"]), (&json!("Be brief."), &json!("x")));
    assert!(system["prompt_tokens"].as_u64() > plain["prompt_tokens"].as_u64());
    // Still a batch.
    let each =
        answer("--prompt x --system Be~brief. --image @a.png --image @c.png --max-new-tokens 4");
    assert_eq!(each.as_array().unwrap().len(), 2);
    assert_eq!(each[0]["token_ids"], system["token_ids"]);

    let total =
        answer("--prompt x --image @a.png --image @c.png --together --budget-total 50 -n 2");
    let budgets: Vec<u64> = total["visuals"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["budget"].as_u64().unwrap())
        .collect();
    assert!(budgets.iter().sum::<u64>() == 50 && budgets[0] > budgets[1], "{budgets:?}");
    assert_eq!(total["budget_total"], "50");

    let dump = super::folder().join("together.safetensors");
    let line = format!(
        "--prompt x --image @a.png --image @c.png --together -n 2 --dump {}",
        dump.display()
    );
    let dumped = answer(&line);
    let bytes = std::fs::read(&dump).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let rows = |name: &str| tensors.tensor(name).unwrap().shape()[0] as u64;
    let of = |key: &str| -> u64 {
        dumped["visuals"].as_array().unwrap().iter().map(|v| v[key].as_u64().unwrap()).sum()
    };
    assert_eq!(rows("visual_tokens"), of("kept"));
    assert_eq!(rows("pixel_values"), of("partitions"));
    assert_eq!(rows("cls_attention.final"), of("partitions"));
    assert_eq!(Some(rows("input_ids")), dumped["prompt_tokens"].as_u64());
}

#[test]
fn a_conversation_is_read_from_a_file() {
    let file = super::folder().join("chat.json");
    let parts = json!([{"type": "image"}, {"type": "text", "text": "x"}]);
    std::fs::write(&file, json!([{"role": "user", "content": parts}]).to_string()).unwrap();
    let line = format!("--messages {} --image @a.png -n 4", file.display());
    let plain = answer("--prompt x --image @a.png -n 4");
    let one = answer(&line);
    assert_eq!((&one["token_ids"], &one["visual"]), (&plain["token_ids"], &plain["visual"]));
    assert_eq!((&one["prompt"], &one["image"]), (&Value::Null, &plain["image"]));
    let parts = json!([{"type": "image", "path": "a.png"}, {"type": "text", "text": "x"}]);
    let turns = json!({"messages": [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "A wave."},
        {"role": "user", "content": [{"type": "image", "path": "c.png"}, {"type": "text", "text": "And?"}]},
    ]});
    std::fs::write(&file, turns.to_string()).unwrap();
    let two = answer(&format!("--messages {} -n 4", file.display()));
    assert_eq!(two["visuals"].as_array().unwrap().len(), 2);
    assert!(two["prompt_tokens"].as_u64() > one["prompt_tokens"].as_u64());
}
